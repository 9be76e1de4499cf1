//! The status document: the figures of this node and its connections, for the admin service.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::support::redis::{SCORES, TWEETS};
use crate::support::{
    Connection, Server, ServerOptions, Subscriber, has_address, redis_or_skip, unix_seconds,
};

fn subscribe_as(server: &Server, path: &str, user_agent: &str) -> Subscriber {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: {user_agent}\r\n\r\n");
    Subscriber::request(server.connect(), request.as_bytes())
}

#[test]
fn the_document_says_what_the_node_is_and_does() {
    let Some(redis) = redis_or_skip() else { return };
    let before = unix_seconds();
    let server = ServerOptions::redis(&redis)
        .variable("DYNO", "web.1")
        .variable("STREAMER_ENV", "production")
        .start();
    let reply = server.ask("GET", "/admin/status.json");
    assert_eq!(reply.head.status(), 200);
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    assert_eq!(reply.head.field("Access-Control-Allow-Origin"), None);
    let status = reply.json();
    let mut names: Vec<&String> = status.as_object().expect("an object").keys().collect();
    names.sort();
    let expected = [
        "connections",
        "connections_total",
        "msgs_broadcast",
        "node",
        "reported_at",
        "startup_time",
        "stats",
        "status",
    ];
    assert_eq!(names, expected);
    assert_eq!(status["node"], "rust-production-web.1");
    assert_eq!(status["status"], "OK");
    assert_eq!(status["connections"], serde_json::json!([]));
    let now = unix_seconds();
    for moment in ["startup_time", "reported_at"] {
        let seconds = status[moment].as_u64().expect("Unix seconds");
        assert!((before..=now).contains(&seconds), "{moment}: {seconds}");
    }

    let broadcast = |server: &Server| server.status()["msgs_broadcast"].as_u64();
    let before = broadcast(&server).expect("a number");
    let mut subscriber = server.subscribe("/subscribe/raw");
    redis.client().publish_all([(SCORES, "2665"); 3]);
    subscriber.next_data(3);
    assert_eq!(broadcast(&server), Some(before + 3));
}

#[test]
fn a_node_without_a_name_has_the_machines() {
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let server = ServerOptions::demo().start();
    let expected = format!("rust-development-{}", host_name.trim());
    assert_eq!(server.status()["node"], expected.as_str());
}

#[test]
fn connections_are_listed_from_the_oldest_to_the_newest() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let before = unix_seconds();
    let table = [
        ("/subscribe/eps", "/eps", None),
        ("/subscribe/details/1F4C2", "/details/1F4C2", Some("1F4C2")),
        ("/subscribe/raw", "/raw", None),
        ("/subscribe/details", "/details", None),
    ];
    let mut subscribers: Vec<Subscriber> = table
        .iter()
        .map(|(path, ..)| subscribe_as(&server, path, "browser \"1\""))
        .collect();
    redis.client().publish_all([(SCORES, "2665"); 2]);
    redis.client().publish(format!("{TWEETS}1F4C2"), "{}");
    subscribers[1].next_data(1);
    subscribers[2].next_data(2);
    subscribers[3].next_data(1);

    let connections = server.connections();
    let now = unix_seconds();
    assert_eq!(connections.len(), table.len());
    for (row, (path, namespace, tag)) in connections.iter().zip(table) {
        let mut names: Vec<&String> = row.as_object().expect("an object").keys().collect();
        names.sort();
        let expected = [
            "age",
            "behind",
            "client_ip",
            "created_at",
            "msgs_sent",
            "namespace",
            "request_path",
            "tag",
            "user_agent",
        ];
        assert_eq!(names, expected);
        assert_eq!(row["request_path"], path);
        assert_eq!(row["namespace"], namespace);
        assert_eq!(row["tag"], tag.map_or(Value::Null, Value::from));
        assert_eq!(row["client_ip"], "127.0.0.1");
        assert_eq!(row["user_agent"], "browser \"1\"");
        let created_at = row["created_at"].as_u64().expect("Unix seconds");
        assert!((before..=now).contains(&created_at), "{row}");
        assert!(
            row["age"].as_u64().expect("seconds") <= now - before,
            "{row}"
        );
    }
    let sent = |index: usize| connections[index]["msgs_sent"].as_u64();
    assert_eq!((sent(1), sent(2), sent(3)), (Some(1), Some(2), Some(1)));
}

#[test]
fn a_connection_is_listed_for_as_long_as_it_lasts() {
    let server = ServerOptions::demo().start();
    let stays = server.subscribe("/subscribe/eps");
    let closes = server.subscribe("/subscribe/raw");
    let resets = server.subscribe("/subscribe/details");
    let never_subscribes = server.connect();
    assert_eq!(server.connections().len(), 3);
    drop(closes);
    resets.reset();
    server.wait_for_connections(1);
    assert_eq!(server.connections()[0]["namespace"], "/eps");
    drop(stays);
    drop(never_subscribes);
    server.wait_for_connections(0);
}

#[test]
fn a_silent_client_that_leaves_is_noticed_without_a_message() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let subscriber = server.subscribe("/subscribe/details/1F4C2");
    server.wait_for_connections(1);
    drop(subscriber);
    server.wait_for_connections(0);
}

#[test]
fn all_addresses_are_served_and_named() {
    let server = ServerOptions::demo().everywhere().start();
    let port = server.address().port();
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        Ipv6Addr::LOCALHOST.into(),
    ] {
        if !has_address(ip) {
            continue;
        }
        let connection = Connection::open((ip, port).into());
        let subscriber = Subscriber::open(connection, "/subscribe/eps");
        let connections = server.connections();
        assert_eq!(connections[0]["client_ip"], ip.to_string().as_str());
        drop(subscriber);
        server.wait_for_connections(0);
    }
}
