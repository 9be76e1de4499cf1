//! Cleanups: a page asks the server to close its streams, because a router in between may hide that it has left. A
//! cleanup closes that page's streams only, on every copy of the server.

use serde_json::json;

use crate::support::http::Reply;
use crate::support::redis::{SCORES, TWEETS};
use crate::support::resp::{RedisClient, Value};
use crate::support::{
    Connection, End, Event, Redis, Server, ServerOptions, Subscriber, redis_or_skip, wait_until,
};

const SCORE_CLEANUP: &str = "/subscribe/cleanup/scores";
const DETAIL_CLEANUP: &str = "/subscribe/cleanup/details/2665";
/// Where copies of the server tell each other of cleanups.
const RELAY: &str = "stream.admin.cleanup";

/// A stream of a client that is behind one trusted proxy.
fn subscribe_as(server: &Server, path: &str, client_ip: &str) -> Subscriber {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client_ip}\r\n\r\n");
    Subscriber::request(server.connect(), request.as_bytes())
}

/// A cleanup of a client that is behind one trusted proxy.
fn clean_up_as(server: &Server, path: &str, client_ip: &str) -> Reply {
    let mut connection = server.connect();
    connection.send(format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client_ip}\r\nContent-Length: 0\r\n\r\n"
    ));
    connection.read_reply()
}

#[track_caller]
fn expect_closed(reply: &Reply, count: u64) {
    assert_eq!(reply.head.status(), 200, "{}", reply.text());
    assert_eq!(reply.json(), json!({ "status": "OK", "closed": count }));
}

/// Makes sure that a stream was ended properly, and without an event.
#[track_caller]
fn expect_ended(mut subscriber: Subscriber) {
    assert_eq!(subscriber.read_to_end(), (Vec::new(), End::Proper));
    assert!(subscriber.is_at_boundary());
}

fn options(redis: &Redis) -> ServerOptions {
    ServerOptions::redis(redis).variable("TRUST_PROXY", "1")
}

#[test]
fn the_scores_of_an_address_are_closed_and_nothing_else() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let own = [
        subscribe_as(&server, "/subscribe/eps", "10.0.0.1"),
        subscribe_as(&server, "/subscribe/eps", "10.0.0.1"),
    ];
    let mut raw = subscribe_as(&server, "/subscribe/raw", "10.0.0.1");
    let mut detail = subscribe_as(&server, "/subscribe/details/2665", "10.0.0.1");
    let mut neighbour = subscribe_as(&server, "/subscribe/eps", "10.0.0.2");
    expect_closed(&clean_up_as(&server, SCORE_CLEANUP, "10.0.0.1"), 2);
    own.into_iter().for_each(expect_ended);
    expect_closed(&clean_up_as(&server, SCORE_CLEANUP, "10.0.0.1"), 0);
    assert_eq!(server.connections().len(), 3);

    let mut client = redis.client();
    client.publish(SCORES, "2665");
    client.publish(format!("{TWEETS}2665"), "{}");
    assert_eq!(raw.next_event().data, "2665");
    assert_eq!(detail.next_event().data, "{}");
    assert_eq!(neighbour.next_event().data, r#"{"2665":1}"#);
}

#[test]
fn one_detail_of_an_address_is_closed_and_nothing_else() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let own = subscribe_as(&server, "/subscribe/details/2665", "10.0.0.1");
    let own_as_well = subscribe_as(&server, "/subscribe/details/%32665", "10.0.0.1");
    let others = [
        ("/subscribe/details/2665", "10.0.0.2"),
        ("/subscribe/details/266", "10.0.0.1"),
        ("/subscribe/details/2665-FE0F", "10.0.0.1"),
        ("/subscribe/details", "10.0.0.1"),
        ("/subscribe/eps", "10.0.0.1"),
        ("/subscribe/raw", "10.0.0.1"),
    ]
    .map(|(path, client_ip)| subscribe_as(&server, path, client_ip));
    expect_closed(&clean_up_as(&server, DETAIL_CLEANUP, "10.0.0.1"), 2);
    expect_ended(own);
    expect_ended(own_as_well);
    expect_closed(&clean_up_as(&server, DETAIL_CLEANUP, "10.0.0.1"), 0);
    assert_eq!(server.connections().len(), others.len());
    let nobody_s = "/subscribe/cleanup/details/NOBODY";
    expect_closed(&clean_up_as(&server, nobody_s, "10.0.0.1"), 0);
    assert_eq!(server.connections().len(), others.len());
}

#[test]
fn a_token_closes_the_streams_that_have_it_from_any_address() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let own = subscribe_as(&server, "/subscribe/eps?token=mine", "10.0.0.1");
    let moved = subscribe_as(&server, "/subscribe/eps?token=mine", "10.0.0.9");
    let detail = subscribe_as(&server, "/subscribe/details/2665?token=mine", "10.0.0.1");
    let _without = subscribe_as(&server, "/subscribe/eps", "10.0.0.1");
    let _other = subscribe_as(&server, "/subscribe/eps?token=other", "10.0.0.1");
    let _longer = subscribe_as(&server, "/subscribe/eps?token=mine2", "10.0.0.1");
    let path = "/subscribe/cleanup/scores?token=mine";
    expect_closed(&clean_up_as(&server, path, "10.0.0.1"), 2);
    expect_ended(own);
    expect_ended(moved);
    expect_closed(&clean_up_as(&server, path, "10.0.0.1"), 0);
    assert_eq!(server.connections().len(), 4);
    let path = "/subscribe/cleanup/details/2665?token=mine";
    expect_closed(&clean_up_as(&server, path, "10.0.0.2"), 1);
    expect_ended(detail);
    // Without one it goes by the address, and takes those with a token, too.
    expect_closed(&clean_up_as(&server, SCORE_CLEANUP, "10.0.0.1"), 3);
    assert_eq!(server.connections().len(), 0);
}

#[test]
fn the_sockets_own_address_counts_where_no_proxy_is_trusted() {
    let server = ServerOptions::demo().start();
    let from = |last: u8| Connection::open_from([127, 0, 0, last].into(), server.address());
    let mut own = Subscriber::open(from(2), "/subscribe/eps");
    let mut neighbour = Subscriber::open(from(3), "/subscribe/eps");
    let mut connection = from(2);
    connection.send(format!(
        "POST {SCORE_CLEANUP} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
    ));
    expect_closed(&connection.read_reply(), 1);
    assert_eq!(own.read_to_end().1, End::Proper);
    neighbour.next_event();
    assert_eq!(server.connections()[0]["client_ip"], "127.0.0.3");
}

/// All visitors have the address of a proxy, for whom a cleanup of any of them must not be meant.
#[test]
fn behind_a_proxy_that_is_not_trusted_only_a_token_closes() {
    let Some(redis) = redis_or_skip() else { return };
    // Neither the proxy's word is taken, nor is there as much of it as was promised.
    for trusted in ["0", "2"] {
        let start = || {
            let options = ServerOptions::redis(&redis);
            options.variable("TRUST_PROXY", trusted).start()
        };
        let (server, copy) = (start(), start());
        let visitors: Vec<Subscriber> = (1..=20)
            .map(|last| subscribe_as(&server, "/subscribe/eps", &format!("10.0.0.{last}")))
            .collect();
        let elsewhere = subscribe_as(&copy, "/subscribe/eps", "10.0.0.1");
        let direct = copy.subscribe("/subscribe/eps");
        let with_token = subscribe_as(&server, "/subscribe/eps?token=mine", "10.0.0.1");
        assert_eq!(server.count_log("TRUST_PROXY to the number"), 1);
        expect_closed(&clean_up_as(&server, SCORE_CLEANUP, "10.0.0.1"), 0);
        // Who connects from the proxy's address without it is somebody else.
        expect_closed(&server.ask("POST", SCORE_CLEANUP), 0);
        assert_eq!(server.connections().len(), visitors.len() + 1);
        // That was told to the copy; the visitor's cleanup before it was not.
        expect_ended(direct);
        assert_eq!(copy.connections().len(), 1);
        let own = format!("{SCORE_CLEANUP}?token=mine");
        expect_closed(&clean_up_as(&server, &own, "10.0.0.9"), 1);
        expect_ended(with_token);
        assert_eq!(server.count_log("X-Forwarded-For came from 127.0.0.1"), 1);
        drop((visitors, elsewhere));
    }
}

#[test]
fn any_body_will_do() {
    let server = ServerOptions::demo().start();
    let multipart = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n";
    let table = [
        ("", ""),
        ("text/plain;charset=UTF-8", ""),
        ("text/plain;charset=UTF-8", "bye"),
        ("application/x-www-form-urlencoded", ""),
        (
            "application/x-www-form-urlencoded;charset=UTF-8",
            "token=other&a=b",
        ),
        ("multipart/form-data; boundary=b", multipart),
        ("application/json", "{not json"),
        ("application/octet-stream", "\u{0}\u{1}\r\n\r\n"),
    ];
    let mut connection = server.connect();
    for (content_type, body) in table {
        let subscriber = server.subscribe("/subscribe/eps");
        let line = match content_type {
            "" => String::new(),
            _ => format!("Content-Type: {content_type}\r\n"),
        };
        let len = body.len();
        connection.send(format!(
            "POST {SCORE_CLEANUP} HTTP/1.1\r\nHost: a\r\n{line}Content-Length: {len}\r\n\r\n{body}"
        ));
        let reply = connection.read_reply();
        expect_closed(&reply, 1);
        assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
        assert_eq!(reply.head.field("Access-Control-Allow-Origin"), Some("*"));
        let mut subscriber = subscriber;
        assert_eq!(subscriber.read_to_end().1, End::Proper, "{content_type}");
    }
    // Without a length there is no body; in chunks there is one.
    connection.send(format!("POST {SCORE_CLEANUP} HTTP/1.1\r\nHost: a\r\n\r\n"));
    expect_closed(&connection.read_reply(), 0);
    connection.send(format!(
        "POST {SCORE_CLEANUP} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nbye\r\n0\r\n\r\n"
    ));
    expect_closed(&connection.read_reply(), 0);
}

#[test]
fn a_stream_that_is_cleaned_up_ends_with_the_last_chunk() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut chunked = server.connect();
    chunked.send("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
    chunked.read_head();
    let bare = server.subscribe_http_10("/subscribe/eps");
    expect_closed(&server.ask("POST", SCORE_CLEANUP), 2);
    let bytes = chunked.read_to_end();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.ends_with("\r\n0\r\n\r\n"), "{text:?}");
    // Another page of the same address is closed with it, and must lose nothing when it comes back.
    assert!(text.contains("\nid:"), "{text:?}");
    expect_ended(bare);
}

#[test]
fn other_methods_are_not_allowed_and_close_nothing() {
    let server = ServerOptions::demo().start();
    let _stays = server.subscribe("/subscribe/eps");
    let _stays_too = server.subscribe("/subscribe/details/2665");
    for path in [SCORE_CLEANUP, DETAIL_CLEANUP] {
        for method in ["GET", "PUT", "DELETE", "PATCH"] {
            let reply = server.ask(method, path);
            assert_eq!(reply.head.status(), 405, "{method} {path}");
            assert_eq!(reply.head.field("Allow"), Some("POST, OPTIONS"));
        }
        let mut connection = server.connect();
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(connection.read_head().status(), 405);
    }
    for path in [
        "/subscribe/cleanup",
        "/subscribe/cleanup/",
        "/subscribe/cleanup/raw",
        "/subscribe/cleanup/details",
        "/subscribe/cleanup/details/",
        "/subscribe/cleanup/details/2665/more",
        "/subscribe/cleanup/scores/more",
    ] {
        assert_eq!(server.ask("POST", path).head.status(), 404, "{path}");
    }
    assert_eq!(server.connections().len(), 2);
}

#[test]
fn pages_of_other_origins_may_ask() {
    let server = ServerOptions::demo().start();
    for path in [SCORE_CLEANUP, DETAIL_CLEANUP] {
        let mut connection = server.connect();
        connection.send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type\r\n\r\n"
        ));
        let head = connection.read_reply().head;
        assert_eq!(head.status(), 204);
        assert_eq!(head.field("Access-Control-Allow-Origin"), Some("*"));
        let allowed = |name: &str, value: &str| {
            let list = head.field(name).unwrap_or_default();
            list.split(", ").any(|entry| entry == value)
        };
        assert!(allowed("Access-Control-Allow-Methods", "POST"), "{head:?}");
        for field in ["Cache-Control", "Last-Event-ID", "Content-Type"] {
            assert!(allowed("Access-Control-Allow-Headers", field), "{head:?}");
        }
        assert!(head.field("Access-Control-Max-Age").is_some(), "{head:?}");
    }
}

#[test]
fn too_many_cleanups_get_a_retry_after() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let ask = |client_ip: &str| clean_up_as(&server, SCORE_CLEANUP, client_ip);
    let mut granted = 0;
    let refusal = loop {
        let reply = ask("10.0.0.1");
        if reply.head.status() != 200 {
            break reply;
        }
        granted += 1;
        assert!(granted < 1_000, "there is no limit");
    };
    assert_eq!(refusal.head.status(), 429, "{}", refusal.text());
    assert_eq!(refusal.head.field("Access-Control-Allow-Origin"), Some("*"));
    let seconds = refusal.head.field("Retry-After").expect("a time");
    let seconds: u64 = seconds.parse().expect("a number of seconds");
    assert!((1..=11).contains(&seconds), "{seconds}");
    // Reloading a page as fast as a person can must not reach the limit.
    assert!(granted >= 30, "{granted} granted");

    // Meanwhile it closes nothing of its own, and its neighbour is served.
    let own = subscribe_as(&server, "/subscribe/eps", "10.0.0.1");
    let neighbour = subscribe_as(&server, "/subscribe/eps", "10.0.0.2");
    if ask("10.0.0.1").head.status() == 429 {
        assert_eq!(server.connections().len(), 2);
    }
    expect_closed(&ask("10.0.0.2"), 1);
    expect_ended(neighbour);
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    assert_eq!(ask("10.0.0.1").head.status(), 200);
    expect_ended(own);
}

#[test]
fn one_cleanup_closes_no_more_than_a_page_can_have() {
    let server = ServerOptions::demo().start();
    let streams: Vec<Subscriber> = (0..300)
        .map(|_| server.subscribe("/subscribe/eps"))
        .collect();
    let mut closed = 0;
    let mut calls = 0;
    while closed < streams.len() as u64 {
        let count = server.ask("POST", SCORE_CLEANUP).json()["closed"].as_u64();
        let count = count.expect("a number");
        assert!((1..=200).contains(&count), "{count} closed by one call");
        closed += count;
        calls += 1;
    }
    assert!(calls > 1, "all were closed by one call");
    assert_eq!(server.connections().len(), 0);
}

/// Sees all relays.
struct Spy(RedisClient);

impl Spy {
    fn subscribe(redis: &Redis) -> Spy {
        let mut client = redis.client();
        client.command(&format!("SUBSCRIBE {RELAY}"));
        Spy(client)
    }

    /// Waits for the next relay. Redis has sent it to everybody by then.
    #[track_caller]
    fn next(&mut self) -> serde_json::Value {
        let Value::Array(message) = self.0.read_value().expect("a relay") else {
            panic!("this is no message");
        };
        let payload = message.last().expect("a payload").text();
        serde_json::from_str(&payload).expect("a JSON document")
    }
}

#[test]
fn a_cleanup_reaches_the_other_copies() {
    let Some(redis) = redis_or_skip() else { return };
    let one = options(&redis).variable("DYNO", "web.1").start();
    let other = options(&redis).variable("DYNO", "web.2").start();
    wait_until("both can publish", || can_publish(&redis, 2));
    let by_address = [
        subscribe_as(&one, "/subscribe/eps", "10.0.0.1"),
        subscribe_as(&other, "/subscribe/eps", "10.0.0.1"),
    ];
    let by_token = [
        subscribe_as(&one, "/subscribe/details/2665?token=t", "10.0.0.1"),
        subscribe_as(&other, "/subscribe/details/2665?token=t", "10.0.0.3"),
    ];
    let mut neighbour = subscribe_as(&other, "/subscribe/eps", "10.0.0.2");
    // What is counted is what was closed here.
    expect_closed(&clean_up_as(&one, SCORE_CLEANUP, "10.0.0.1"), 1);
    by_address.into_iter().for_each(expect_ended);
    let path = format!("{DETAIL_CLEANUP}?token=t");
    expect_closed(&clean_up_as(&other, &path, "10.0.0.9"), 1);
    by_token.into_iter().for_each(expect_ended);
    assert_eq!((one.connections().len(), other.connections().len()), (0, 1));
    redis.client().publish(SCORES, "2665");
    assert_eq!(neighbour.next_event().data, r#"{"2665":1}"#);
}

/// Whether this many servers have their command connection to Redis.
fn can_publish(redis: &Redis, servers: usize) -> bool {
    let clients = redis.client().command("CLIENT LIST TYPE normal").text();
    clients.matches("name=rust-").count() >= servers
}

#[test]
fn a_page_that_comes_back_at_once_is_not_closed_by_the_echo() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    wait_until("it can publish", || can_publish(&redis, 1));
    let mut spy = Spy::subscribe(&redis);
    for round in 0..20 {
        let before = subscribe_as(&server, "/subscribe/eps", "10.0.0.1");
        expect_closed(&clean_up_as(&server, SCORE_CLEANUP, "10.0.0.1"), 1);
        expect_ended(before);
        let mut after = subscribe_as(&server, "/subscribe/eps", "10.0.0.1");
        let relay = spy.next();
        assert_eq!(relay["client_ip"], "10.0.0.1", "{relay}");
        // The server receives this behind its own echo.
        redis.client().publish(SCORES, format!("{round:X}"));
        let data = format!(r#"{{"{round:X}":1}}"#);
        assert_eq!(after.next_event(), Event::message(&data));
        drop(after);
        server.wait_for_connections(0);
    }
}

#[test]
fn relays_that_make_no_sense_are_ignored() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut eps = subscribe_as(&server, "/subscribe/eps", "10.0.0.1");
    let detail = subscribe_as(&server, "/subscribe/details/2665", "10.0.0.1");
    let mut client = redis.client();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long = format!(
        r#"{{"epoch":"1","scope":"scores","client_ip":"{}"}}"#,
        "9".repeat(100_000)
    );
    let table: [&[u8]; 22] = [
        b"",
        b" ",
        b"x",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"0",
        b"\"scores\"",
        b"\xff\xfe\x00",
        deep.as_bytes(),
        long.as_bytes(),
        br#"{"scope":"scores","client_ip":"10.0.0.1"}"#,
        br#"{"epoch":"1","client_ip":"10.0.0.1"}"#,
        br#"{"epoch":"1","scope":"scores"}"#,
        br#"{"epoch":"1","scope":"scores","client_ip":""}"#,
        br#"{"epoch":"1","scope":"scores","client_ip":7}"#,
        br#"{"epoch":"1","scope":"scores","client_ip":"10.0.0.0/8"}"#,
        br#"{"epoch":"1","scope":"details","client_ip":"10.0.0.1"}"#,
        br#"{"epoch":"1","scope":"details","id":null,"client_ip":"10.0.0.1"}"#,
        br#"{"epoch":"1","scope":"all","id":"2665","client_ip":"10.0.0.1"}"#,
        br#"{"epoch":"zz","scope":"scores","client_ip":"10.0.0.1"}"#,
    ];
    for payload in table {
        client.publish(RELAY, payload);
    }
    // No other stream is closed.
    for payload in [
        r#"{"epoch":"1","scope":"scores","client_ip":"10.0.0.2"}"#,
        r#"{"epoch":"1","scope":"scores","token":"t","client_ip":"10.0.0.1"}"#,
        r#"{"epoch":"1","scope":"details","id":"2666","client_ip":"10.0.0.1"}"#,
    ] {
        client.publish(RELAY, payload);
    }
    client.publish(SCORES, "2665");
    assert_eq!(eps.next_event().data, r#"{"2665":1}"#);
    assert_eq!(server.connections().len(), 2);
    // One that does make sense is followed, so the others were received.
    let sense = r#"{"epoch":"1","node":"x","scope":"details","id":"2665","client_ip":"10.0.0.1"}"#;
    client.publish(RELAY, sense);
    expect_ended(detail);
    assert_eq!(server.connections().len(), 1);
}
