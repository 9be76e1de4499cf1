//! Behind nginx as packaged by Debian: with HTTP/1.0 and 1.1 to the server, and with its default buffering.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::support::channels;
use crate::support::http::request;
use crate::support::nginx::{Nginx, everything, is_installed_or_skip};
use crate::support::redis::{SCORES, TWEETS};
use crate::support::{
    Connection, End, Event, Redis, Server, ServerOptions, Subscriber, redis_or_skip,
};

/// What a deployer writes for either version.
const HTTP_10: &str = "proxy_http_version 1.0;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";
const HTTP_11: &str = "proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";

struct Setup {
    redis: Redis,
    server: Server,
    nginx: Nginx,
}

impl Setup {
    /// A server with these variables behind nginx, unless one of both is missing.
    #[track_caller]
    fn start(directives: &str, variables: &[(&str, &str)]) -> Option<Setup> {
        if !is_installed_or_skip() {
            return None;
        }
        let redis = redis_or_skip()?;
        let mut options = ServerOptions::redis(&redis).variable("TRUST_PROXY", "1");
        for (name, value) in variables {
            options = options.variable(name, value);
        }
        let server = options.start();
        let nginx = Nginx::start(server.address(), directives);
        Some(Setup {
            redis,
            server,
            nginx,
        })
    }

    fn connect(&self) -> Connection {
        Connection::open(self.nginx.address())
    }

    #[track_caller]
    fn subscribe(&self, path: &str) -> Subscriber {
        Subscriber::open(self.connect(), path)
    }
}

#[track_caller]
fn expect_events_at_once(directives: &str) {
    let Some(setup) = Setup::start(directives, &[]) else {
        return;
    };
    let mut raw = setup.subscribe("/subscribe/raw");
    let mut eps = setup.subscribe("/subscribe/eps");
    let mut detail = setup.subscribe("/subscribe/details/2665");
    for field in ["Content-Type", "Cache-Control"] {
        let direct = setup.server.ask_for_head("/subscribe/raw");
        assert_eq!(raw.head.field(field), direct.field(field));
    }
    // The stream has begun before there is any news.
    for subscriber in [&mut raw, &mut eps, &mut detail] {
        subscriber.next_item();
    }
    let mut client = setup.redis.client();
    for number in 0..20 {
        // Each is a few bytes only, which a buffer would keep until there are thousands of them.
        let published_at = Instant::now();
        let id = format!("{number:X}");
        client.publish(SCORES, &id);
        client.publish(format!("{TWEETS}2665"), &id);
        assert_eq!(raw.next_event(), Event::message(&id));
        assert_eq!(
            eps.next_event(),
            Event::message(&format!(r#"{{"{id}":1}}"#))
        );
        assert_eq!(detail.next_event().data, id);
        let elapsed = published_at.elapsed();
        assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    }
}

#[test]
fn events_arrive_at_once_over_http_10() {
    expect_events_at_once(HTTP_10);
}

#[test]
fn events_arrive_at_once_over_http_11() {
    expect_events_at_once(HTTP_11);
}

#[test]
fn events_arrive_at_once_with_what_nginx_does_by_itself() {
    expect_events_at_once("");
}

#[test]
fn without_the_servers_word_on_it_nginx_would_keep_them() {
    // This is what the tests above would look like if the server did not say `X-Accel-Buffering: no`. Over
    // HTTP/1.1, nginx looks into chunks, and passes on what it has of them in any case.
    let directives = format!("{HTTP_10} proxy_ignore_headers X-Accel-Buffering;");
    let Some(setup) = Setup::start(&directives, &[]) else {
        return;
    };
    let mut kept = setup.connect();
    kept.send(request("GET", "/subscribe/raw"));
    setup.server.wait_for_connections(1);
    let mut direct = setup.server.subscribe("/subscribe/raw");
    setup.redis.client().publish(SCORES, "2665");
    assert_eq!(direct.next_event(), Event::message("2665"));
    kept.set_patience(Duration::from_secs(2));
    let mut bytes = Vec::new();
    while let Ok(more) = kept.receive() {
        assert!(!more.is_empty(), "the stream ended");
        bytes.extend(more);
    }
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("2665"), "{text:?}");
}

#[test]
fn the_clients_address_is_the_one_that_nginx_saw() {
    for directives in [HTTP_10, HTTP_11] {
        let Some(setup) = Setup::start(directives, &[]) else {
            return;
        };
        let address = setup.nginx.address();
        let connect = |last: u8| Connection::open_from(Ipv4Addr::new(127, 0, 0, last), address);
        let spoofed = "X-Forwarded-For: 127.0.0.8\r\nX-Forwarded-For: 6.6.6.6, 127.0.0.8\r\n";
        let request = format!("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n{spoofed}\r\n");
        let _own = Subscriber::request(connect(7), request.as_bytes());
        let _neighbour = Subscriber::open(connect(8), "/subscribe/eps");
        let connections = setup.server.connections();
        let addresses: Vec<&str> = connections
            .iter()
            .filter_map(|row| row["client_ip"].as_str())
            .collect();
        assert_eq!(addresses, ["127.0.0.7", "127.0.0.8"]);
        // Nor can a spoofed cleanup close the neighbour's.
        let mut connection = connect(7);
        connection.send(format!(
            "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\n{spoofed}Content-Length: 0\r\n\r\n"
        ));
        assert_eq!(connection.read_reply().json()["closed"], 1);
        let connections = setup.server.connections();
        assert_eq!(connections.len(), 1);
        assert_eq!(connections[0]["client_ip"], "127.0.0.8");
    }
}

#[test]
fn a_client_that_disconnects_from_nginx_frees_its_place() {
    for directives in [HTTP_10, HTTP_11] {
        let Some(setup) = Setup::start(directives, &[]) else {
            return;
        };
        let mut stays = setup.subscribe("/subscribe/raw");
        for _ in 0..5 {
            let leaving: Vec<Subscriber> =
                (0..40).map(|_| setup.subscribe("/subscribe/eps")).collect();
            assert_eq!(setup.server.connections().len(), leaving.len() + 1);
            drop(leaving);
            setup.server.wait_for_connections(1);
        }
        setup.redis.client().publish(SCORES, "2665");
        assert_eq!(stays.next_event(), Event::message("2665"));
    }
}

#[test]
fn one_connection_serves_many_requests() {
    for directives in [HTTP_10, HTTP_11] {
        // Clients of a proxy are not on this machine, and nginx asks for the upstream's name.
        let settings = [("ADMIN_OPEN", "true"), ("ADMIN_HOSTS", "streamer")];
        let Some(setup) = Setup::start(directives, &settings) else {
            return;
        };
        let mut connection = setup.connect();
        // Replies with and without bodies, of which nginx must see each end for the next to be right.
        for _ in 0..10 {
            connection.send(request("GET", "/admin/status.json"));
            assert_eq!(connection.read_reply().json()["status"], "OK");
            connection.send(request("HEAD", "/healthz"));
            assert_eq!(connection.read_head().status(), 200);
            connection.send(request("OPTIONS", "/subscribe/eps"));
            assert_eq!(connection.read_reply().head.status(), 204);
            connection.send(request("GET", "/nowhere"));
            assert_eq!(connection.read_reply().head.status(), 404);
            connection.send(request("GET", "/subscribe/cleanup/scores"));
            assert_eq!(connection.read_reply().head.status(), 405);
        }
        connection.send(
            "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nbye",
        );
        assert_eq!(connection.read_reply().json()["closed"], 0);
        connection.send(request("HEAD", "/subscribe/eps"));
        assert_eq!(connection.read_head().status(), 200);
    }
}

#[test]
fn nothing_private_is_shown_behind_nginx() {
    for directives in [HTTP_10, HTTP_11] {
        let Some(setup) = Setup::start(directives, &[]) else {
            return;
        };
        let mut connection = setup.connect();
        for (path, status) in [("/metrics", 403), ("/admin/", 403), ("/healthz", 200)] {
            connection.send(request("GET", path));
            assert_eq!(connection.read_reply().head.status(), status, "{path}");
        }
        assert_eq!(setup.server.ask("GET", "/metrics").head.status(), 200);
    }
}

#[test]
fn forced_closes_lose_nothing_behind_nginx() {
    for directives in [HTTP_10, HTTP_11] {
        let lifetimes = [
            ("SSE_FORCE_REFRESH", "true"),
            ("SSE_SCORE_FORCECLOSE_SEC", "1"),
        ];
        let Some(setup) = Setup::start(directives, &lifetimes) else {
            return;
        };
        let mut connection = setup.connect();
        let mut id = String::new();
        for round in 0..3 {
            let request =
                format!("GET /subscribe/raw HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n");
            let mut subscriber = Subscriber::request(connection, request.as_bytes());
            let (events, end) = subscriber.read_to_end();
            assert_eq!(end, End::Proper);
            let missed: Vec<&str> = events.iter().map(|event| event.data.as_str()).collect();
            let expected = if round == 0 { vec![] } else { vec!["2665"] };
            assert_eq!(missed, expected, "round {round}");
            subscriber
                .last_event_id()
                .expect("an id")
                .clone_into(&mut id);
            setup.redis.client().publish(SCORES, "2665");
            connection = setup.connect();
        }
    }
}

#[test]
fn a_connection_whose_stream_has_ended_takes_the_next_request() {
    if !is_installed_or_skip() {
        return;
    }
    let server = ServerOptions::demo().variable("TRUST_PROXY", "1").start();
    let upstream = format!("server {}; keepalive 100;", server.address());
    let nginx = Nginx::start_before(&upstream, &everything(HTTP_11));
    let accepted = || {
        let accepted = &server.status()["stats"]["accepted"];
        accepted.as_u64().expect("a number")
    };
    let path = "/subscribe/eps";
    let mut subscribers: Vec<Subscriber> = (0..40)
        .map(|_| Subscriber::open(Connection::open(nginx.address()), path))
        .collect();
    let before = accepted();
    for _ in 0..5 {
        let mut connection = server.connect();
        connection.send(
            "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 127.0.0.1\r\n\
             Content-Length: 0\r\n\r\n",
        );
        assert_eq!(connection.read_reply().json()["closed"], subscribers.len());
        let mut waiting = Vec::new();
        for mut subscriber in subscribers {
            assert_eq!(subscriber.read_to_end().1, End::Proper);
            let mut connection = subscriber.into_connection();
            connection.send(request("GET", path));
            waiting.push(connection);
        }
        subscribers = waiting.into_iter().map(Subscriber::begin).collect();
    }
    // Those of the cleanups and of this question; without reuse there would be two hundred more.
    let further = accepted() - before;
    assert!(further < 60, "{further} further connections");
}

#[test]
fn shedding_works_through_nginx() {
    let Some(setup) = Setup::start(HTTP_11, &[("MAX_CONNECTIONS_PER_IP", "2")]) else {
        return;
    };
    let address = setup.nginx.address();
    let from = |last: u8| Connection::open_from(Ipv4Addr::new(127, 0, 0, last), address);
    let _crowd = [2, 2, 3].map(|last| Subscriber::open(from(last), "/subscribe/eps"));
    let mut connection = from(2);
    connection.send(request("GET", "/subscribe/eps"));
    let reply = connection.read_reply();
    assert_eq!(reply.head.status(), 200);
    assert!(reply.text().starts_with("retry:"), "{}", reply.text());
    let _fourth = Subscriber::open(from(3), "/subscribe/eps");
    assert_eq!(setup.server.connections().len(), 4);
}

/// What cyclone-sse has its users write: whatever the path, the query is what counts.
fn channel_locations(directives: &str) -> String {
    format!(
        "location /sse/ {{
             rewrite ^(.*)$ / break;
             proxy_pass http://streamer;
             {directives}
         }}
         location = /publish {{ proxy_pass http://streamer; {directives} }}"
    )
}

#[test]
fn channels_come_and_go_through_a_rewrite() {
    if !is_installed_or_skip() {
        return;
    }
    for (directives, is_large_told) in [
        (HTTP_10, true),
        (HTTP_11, true),
        ("", false),
        ("proxy_buffering off;", false),
    ] {
        let Some(redis) = redis_or_skip() else { return };
        let server = channels::options(&redis).start();
        let nginx = Nginx::start_with_locations(server.address(), &channel_locations(directives));
        let connect = || Connection::open(nginx.address());
        let mut first = Subscriber::open(connect(), "/sse/?channels=a&channels=b&uuid=7");
        let mut publisher = connect();
        // Each is a few bytes only, which a buffer would keep until there are thousands of them.
        for number in 0..20 {
            let published_at = Instant::now();
            let form = format!("channel=a&message={number}");
            assert_eq!(channels::publish_over(&mut publisher, &form), 200);
            assert_eq!(first.next_event().data, number.to_string());
            let elapsed = published_at.elapsed();
            assert!(
                elapsed < Duration::from_secs(2),
                "{directives}: {elapsed:?}"
            );
        }
        let id = first.last_event_id().expect("an id").to_owned();
        first.reset();
        server.wait_for_connections(0);
        let form = "channel=a&channel=b&message=missed";
        assert_eq!(channels::publish_over(&mut publisher, form), 200);
        let back = format!(
            "GET /sse/any/path?channels=b,a&event=channel HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n"
        );
        let mut named = Subscriber::request(connect(), back.as_bytes());
        // Whether events have names is no matter of which messages were missed.
        let names = [(); 2].map(|()| named.next_event().name);
        assert_eq!(names, ["a", "b"]);
        let path = format!("/sse/?channels=b,a&lastEventId={id}");
        let mut second = Subscriber::open(connect(), &path);
        assert_eq!(second.next_data(2), ["missed", "missed"]);
        if is_large_told {
            let form = format!("channel=a&message={}", "x".repeat(900 * 1024));
            assert_eq!(channels::publish_over(&mut publisher, &form), 200);
            assert_eq!(second.next_event().data.len(), 900 * 1024);
        }
        // A poll is whole when it comes.
        let id = second.last_event_id().expect("an id").to_owned();
        assert_eq!(
            channels::publish_over(&mut publisher, "channel=a&message=poll"),
            200
        );
        let mut polling = connect();
        polling.send(format!(
            "GET /sse/?channels=a HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n\
             Last-Event-ID: {id}\r\n\r\n"
        ));
        let text = polling.read_reply().text();
        let block = text.strip_prefix("data: poll\nid: ");
        assert!(block.is_some_and(|id| id.ends_with("\n\n")), "{text:?}");
        // Without a key, and without a channel.
        let refused = channels::publication("channel=a&message=").replace(channels::KEY, "no");
        polling.send(refused);
        assert_eq!(polling.read_reply().head.status(), 401);
        polling.send(request("GET", "/sse/?channels="));
        assert_eq!(polling.read_reply().head.status(), 400);
    }
}
