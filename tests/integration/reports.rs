//! Reports: the cluster document, the scores that the live page starts with, and metrics for Graphite. The broker may be
//! away, silent or refuse; streams must not be affected.

use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::Reply;
use crate::support::redis::SCORES;
use crate::support::redis::{free_port, is_installed_or_skip};
use crate::support::resp::{RedisClient, Value as Answer};
use crate::support::server::signal;
use crate::support::{
    Redis, Server, ServerOptions, Subscriber, redis_or_skip, unix_seconds, wait_until,
};

fn cluster(server: &Server) -> Reply {
    server.ask("GET", "/admin/cluster.json")
}

fn node_names(document: &Value) -> Vec<&str> {
    let nodes = document["nodes"].as_array().expect("a list of nodes");
    nodes
        .iter()
        .filter_map(|node| node["node"].as_str())
        .collect()
}

#[test]
fn stale_and_malformed_nodes_are_left_out() {
    let Some(redis) = redis_or_skip() else { return };
    let start = |dyno: &str| ServerOptions::redis(&redis).variable("DYNO", dyno).start();
    let servers = [start("web.2"), start("web.1")];
    let mut client = redis.client();
    let now = unix_seconds();
    let rows = [
        (
            "node-production-web.9",
            json!({ "node": "node-production-web.9", "reported_at": now }),
        ),
        ("gone", json!({ "node": "gone", "reported_at": now - 60 })),
        ("no-time", json!({ "node": "no-time" })),
    ];
    for (node, row) in rows {
        client.command(&format!("HSET admin_stream_status {node} {row}"));
    }
    client.command("HSET admin_stream_status broken {\"node\":");
    wait_until("both nodes have reported", || {
        client.command("HLEN admin_stream_status") == Answer::Integer(6)
    });
    let reply = cluster(&servers[0]);
    assert_eq!(reply.head.status(), 200, "{}", reply.text());
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    let document = reply.json();
    let expected = [
        "node-production-web.9",
        "rust-development-web.1",
        "rust-development-web.2",
    ];
    assert_eq!(node_names(&document), expected);
    assert_eq!(
        (&document["stale"], &document["malformed"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(document["nodes"][1]["connections"], json!([]));
}

#[test]
fn simultaneous_requests_share_one_query() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    wait_until("the connection for commands stands", || {
        cluster(&server).head.status() == 200
    });
    let mut asking: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for connection in &mut asking {
        connection.send("GET /admin/cluster.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let replies: Vec<Reply> = asking
        .iter_mut()
        .map(|connection| connection.read_reply())
        .collect();
    assert!(replies.iter().all(|reply| reply.head.status() == 200));
    let Answer::Bulk(Some(calls)) = redis.client().command("INFO commandstats") else {
        panic!("redis does not say what it was asked");
    };
    let calls = String::from_utf8_lossy(&calls);
    let calls = calls
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_hkeys:calls="));
    let calls: u32 = calls
        .and_then(|calls| calls.split(',').next()?.parse().ok())
        .expect("a count");
    // The period may have ended once in between.
    assert!(calls <= 2, "{calls} questions");
}

#[test]
fn without_the_broker_the_cluster_is_unknown_and_the_node_is_not() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = ServerOptions::redis(&redis).start();
    wait_until("the connection for commands stands", || {
        cluster(&server).head.status() == 200
    });
    redis.kill();
    server.wait_for_log("trying");
    // What is known is given out for as long as nodes report anyway.
    wait_until("the cluster is unknown", || {
        cluster(&server).head.status() == 503
    });
    let reply = cluster(&server);
    assert_eq!(reply.head.field("Retry-After"), Some("5"));
    assert_eq!(reply.json()["error"], "there is no connection to redis");
    assert_eq!(server.status()["stats"]["source"]["live"], false);
    assert_eq!(server.status()["stats"]["source"]["losses"], 1);
    redis.restart();
    wait_until("the cluster is known again", || {
        cluster(&server).head.status() == 200
    });
    // Messages come over a connection of their own, with a pause of its own.
    wait_until("the source is live again", || {
        server.status()["stats"]["source"]["live"] == true
    });
}

#[test]
fn a_silent_broker_times_out_after_two_seconds_without_delaying_others() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    wait_until("the connection for commands stands", || {
        server.ask("GET", "/readyz").head.status() == 200
    });
    let mut client = redis.client();
    wait_until("the node has reported", || {
        client.command("HLEN admin_stream_status") == Answer::Integer(1)
    });
    signal(redis.process_id(), "STOP");
    let mut asking = server.connect();
    let asked_at = Instant::now();
    asking.send("GET /admin/cluster.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(server.ask("GET", "/healthz").head.status(), 200);
    assert!(
        asked_at.elapsed() < Duration::from_secs(1),
        "others had to wait"
    );
    let reply = asking.read_reply();
    let took = asked_at.elapsed();
    signal(redis.process_id(), "CONT");
    assert_eq!(reply.head.status(), 503, "{}", reply.text());
    assert_eq!(reply.json()["error"], "redis does not answer");
    assert!((1..5).contains(&took.as_secs()), "{took:?}");
}

#[test]
fn a_broker_that_refuses_is_quoted_and_the_streams_go_on() {
    let Some(redis) = redis_or_skip() else { return };
    redis
        .client()
        .command("ACL SETUSER default -hkeys -zrevrange");
    let server = ServerOptions::redis(&redis)
        .variable("ENABLE_DEMO_PAGE", "1")
        .start();
    wait_until("the refusal comes", || {
        cluster(&server).text().contains("no permissions")
    });
    assert_eq!(cluster(&server).head.status(), 503);
    let page = server.ask("GET", "/");
    assert_eq!(page.head.status(), 200);
    assert!(
        page.text().contains("[\"1F602\",0,"),
        "the built-in emoji without scores"
    );
    let mut subscriber = server.subscribe("/subscribe/raw");
    redis.client().publish(SCORES, "2665");
    assert_eq!(subscriber.next_data(1), ["2665"]);
}

#[test]
fn a_cluster_of_many_full_rows_is_shown_and_costs_no_connection() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("DYNO", "web.1")
        .start();
    let now = unix_seconds();
    let mut client = redis.client();
    let list = "{\"user_agent\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"},".repeat(4_000);
    for number in 0..60 {
        let row =
            format!("{{\"node\":\"n{number}\",\"reported_at\":{now},\"connections\":[{list}0]}}");
        client.command(&format!("HSET admin_stream_status n{number} {row}"));
    }
    let mut subscriber = server.subscribe("/subscribe/raw");
    wait_until("the node has reported", || {
        client.command("HLEN admin_stream_status") == Answer::Integer(61)
    });
    let reply = cluster(&server);
    assert_eq!(reply.head.status(), 200, "{}", reply.text());
    let document = reply.json();
    assert_eq!(node_names(&document).len(), 61);
    assert_eq!(document["nodes"][60]["node"], "rust-development-web.1");
    assert_eq!(server.count_log("warn"), 0);
    client.publish(SCORES, "2665");
    assert_eq!(subscriber.next_data(1), ["2665"]);
}

#[test]
fn a_password_that_the_broker_quotes_is_not_repeated() {
    if !is_installed_or_skip() {
        return;
    }
    let redis = Redis::start_protected(&["--rename-command", "AUTH", "NOAUTH"], "PING");
    let url = redis.url_with_login("", "hunter2");
    let server = ServerOptions::redis_url(&url).without_waiting().start();
    let line = server.wait_for_log("AUTH was refused");
    assert!(line.contains("AUTH was refused: ERR;"), "{line}");
    assert_eq!(server.count_log("hunter2"), 0);
}

#[test]
fn a_broker_that_takes_messages_but_no_commands_is_complained_about_once() {
    let Some(redis) = redis_or_skip() else { return };
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let server = ServerOptions::redis_url(&format!("{},{nobody}", redis.url())).start();
    server.wait_for_log("subscribed at");
    let mut subscriber = server.subscribe("/subscribe/raw");
    let mut client = redis.client();
    client.command("CONFIG SET maxclients 2");
    // The one that is subscribed is left alone.
    client.command("CLIENT KILL TYPE normal SKIPME yes");
    let line = server.wait_for_log("command connection to");
    assert!(line.contains("max number of clients reached"), "{line}");
    // However many messages come meanwhile, the broker is asked again after pauses.
    let rejected = |client: &mut RedisClient| -> u64 {
        let Answer::Bulk(Some(stats)) = client.command("INFO stats") else {
            panic!("redis does not say what it has done");
        };
        let stats = String::from_utf8_lossy(&stats).into_owned();
        let count = stats
            .lines()
            .find_map(|line| line.strip_prefix("rejected_connections:"));
        count.and_then(|count| count.parse().ok()).expect("a count")
    };
    let before = rejected(&mut client);
    for _ in 0..300 {
        client.publish(SCORES, "2665");
        subscriber.next_data(1);
    }
    let attempts = rejected(&mut client) - before;
    assert!(attempts < 20, "{attempts} attempts for 300 messages");
    client.command("CONFIG SET maxclients 100");
    server.wait_for_log("takes commands again");
    assert_eq!(server.count_log("command connection to"), 1);
    assert_eq!(server.count_log("subscribed at"), 1);
}

#[test]
fn the_demo_is_its_own_cluster() {
    let server = ServerOptions::demo().variable("DYNO", "web.1").start();
    let document = cluster(&server).json();
    assert_eq!(node_names(&document), ["rust-development-web.1"]);
    assert_eq!(
        (&document["stale"], &document["malformed"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn the_live_page_begins_with_the_scores_of_the_broker() {
    let Some(redis) = redis_or_skip() else { return };
    let mut client = redis.client();
    client.command("ZADD emojitrack_score 7 2665 1234567 1F602 3 FFFFF");
    let server = ServerOptions::redis(&redis)
        .variable("ENABLE_DEMO_PAGE", "true")
        .start();
    let table = "[[\"1F602\",1234567,\"FACE WITH TEARS OF JOY\"],[\"2665\",7,";
    wait_until("the page has the scores", || {
        server.ask("GET", "/").text().contains(table)
    });
    let page = server.ask("GET", "/");
    assert!(
        page.text().contains("[\"FFFFF\",3,\"\"]]"),
        "an emoji without a name"
    );
    assert!(page.head.field("Content-Security-Policy").is_some());
    client.command("ZINCRBY emojitrack_score 1 2665");
    wait_until("the page has the new score", || {
        server.ask("GET", "/").text().contains("[\"2665\",8,")
    });
}

#[test]
fn datagrams_to_graphite_have_complete_lines() {
    let daemon = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    // Where localhost begins with another address, the first report is lost there.
    daemon
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a deadline");
    let port = daemon.local_addr().expect("an address").port();
    let url = format!("udp://localhost:{port}");
    let server = ServerOptions::demo()
        .variable("GRAPHITE_URL", &url)
        .variable("HOSTEDGRAPHITE_APIKEY", "key")
        .variable("DYNO", "web.1")
        .variable("CHANNELS", "room.*,news,*.x")
        .start();
    let invented = (0..10).map(|number| {
        let names: Vec<String> = (0..30)
            .map(|index| format!("room.{number}-{index}.x"))
            .collect();
        format!("/?channels={}", names.join(","))
    });
    let others = ["/subscribe/eps", "/subscribe/eps", "/?channels=news,a.x"].map(str::to_owned);
    let paths = invented.chain(others);
    let _subscribers: Vec<Subscriber> = paths.map(|path| server.subscribe(&path)).collect();
    let now = unix_seconds();
    let mut lines: Vec<String> = Vec::new();
    while !lines
        .iter()
        .any(|line| line.starts_with("key.web.1.descriptors "))
    {
        let mut buffer = [0; 65_536];
        let len = daemon.recv(&mut buffer).expect("a datagram");
        assert!(len <= 1_400 && buffer[len - 1] == b'\n', "{len} bytes");
        let text = String::from_utf8(buffer[..len].to_vec()).expect("text");
        lines.extend(text.lines().map(str::to_owned));
    }
    for line in &lines {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(
            words[0].starts_with("key.web.1.") && words.len() == 3,
            "{line}"
        );
        assert!(
            words[2].parse::<u64>().expect("Unix seconds") >= now,
            "{line}"
        );
    }
    let line = lines
        .iter()
        .find(|line| line.starts_with("key.web.1.stream.eps.clients "));
    let value = line.and_then(|line| line.split(' ').nth(1));
    assert_eq!(value, Some("2"), "{lines:?}");
    // Nobody but the operator names metrics.
    let channels = lines.iter().filter_map(|line| {
        let figure = line.strip_prefix("key.web.1.channels.")?;
        figure.split_once(".clients ")
    });
    let mut channels: Vec<(&str, &str)> = channels
        .map(|(name, figure)| (name, figure.split(' ').next().unwrap_or_default()))
        .collect();
    channels.sort_unstable();
    let expected = [("__x", "1"), ("news", "1"), ("room__", "300")];
    assert_eq!(channels, expected, "{lines:?}");
}

#[test]
fn a_missing_graphite_is_logged_once_and_has_no_effect() {
    let absent = free_port();
    let server = ServerOptions::demo()
        .variable("GRAPHITE_URL", &format!("tcp://localhost:{absent}"))
        .start();
    server.wait_for_log("dropping metrics until it is back");
    let mut subscriber = server.subscribe("/subscribe/eps");
    subscriber.next_data(20);
    let began_at = Instant::now();
    while began_at.elapsed() < Duration::from_secs(2) {
        subscriber.next_data(5);
    }
    assert_eq!(server.count_log("graphite:"), 1);
}

#[test]
fn a_graphite_that_closes_every_connection_is_logged_once() {
    let balancer = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("tcp://{}", balancer.local_addr().expect("an address"));
    let server = ServerOptions::demo().variable("GRAPHITE_URL", &url).start();
    for _ in 0..5 {
        drop(balancer.accept().expect("a connection"));
    }
    let line = server.wait_for_log("graphite:");
    assert!(line.contains("dropping metrics"), "{line}");
    assert_eq!(server.count_log("graphite:"), 1);
}
