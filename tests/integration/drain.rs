//! Shutdown: clients are drained in slices and resume on another copy, and probes report it in time. Also the probes
//! of a running server.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::http::request;
use crate::support::resp::Value;
use crate::support::{
    Connection, End, Redis, Server, ServerOptions, Subscriber, redis_or_skip, wait_until,
};

/// What the server says once it has been asked to end.
const STOPPING: &str = "stopping: ";
/// Where nodes report to the admin service.
const STATUS_KEY: &str = "admin_stream_status";

/// A client that does not read, once so much was sent that the server cannot send it any more.
fn stalled_client(server: &Server) -> Subscriber {
    let connection = Connection::open_narrow(server.address(), 4 * 1024);
    let stalled = Subscriber::open(connection, "/subscribe/details");
    server.subscribe("/subscribe/details").next_data(5_000);
    stalled
}

fn options_with_stalled_client() -> ServerOptions {
    ServerOptions::demo()
        .variable("DEMO_RATE", "20000")
        .variable("DRAIN_SEC", "1")
}

#[test]
fn hundreds_are_sent_away_in_order() {
    let Some(redis) = redis_or_skip() else { return };
    let mut server = ServerOptions::redis(&redis)
        .variable("DRAIN_SEC", "2")
        .variable("VERBOSE", "true")
        .start();
    let paths = [
        "/subscribe/eps",
        "/subscribe/raw",
        "/subscribe/details",
        "/subscribe/details/2665",
    ];
    let mut subscribers: Vec<Subscriber> = (0..600)
        .map(|number| match number % 5 {
            4 => server.subscribe_http_10(paths[number % 4]),
            _ => server.subscribe(paths[number % 4]),
        })
        .collect();
    server.signal("TERM");
    let signalled_at = Instant::now();
    let mut retries = BTreeSet::new();
    for subscriber in &mut subscribers {
        let (_, end) = subscriber.read_to_end();
        assert_eq!(end, End::Proper);
        // One block, and nothing behind it.
        let text = subscriber.text();
        let (_, farewell) = text.split_once("retry:").expect("a pause");
        let (retry_ms, id) = farewell.split_once("\n").expect("an id");
        let retry_ms: u64 = retry_ms.parse().expect("milliseconds");
        assert!((1..=30_000).contains(&retry_ms), "{text:?}");
        retries.insert(retry_ms);
        let id = id
            .strip_prefix("id:")
            .and_then(|id| id.strip_suffix("\n\n"));
        assert!(id.is_some_and(|id| id.contains('-')), "{text:?}");
        assert_eq!(subscriber.last_event_id(), id, "{text:?}");
    }
    assert!(
        retries.len() > 300,
        "six hundred come back at {} moments",
        retries.len()
    );
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let elapsed = signalled_at.elapsed();
    assert!(elapsed < Duration::from_secs(7), "it took {elapsed:?}");
    server.wait_for_log_count(": drain", subscribers.len());
}

#[test]
fn at_rest_it_ends_at_once() {
    let Some(redis) = redis_or_skip() else { return };
    for options in [ServerOptions::demo(), ServerOptions::redis(&redis)] {
        let mut server = options.start();
        let signalled_at = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(signalled_at.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn a_client_that_does_not_read_has_its_time_and_no_more() {
    let mut server = options_with_stalled_client().start();
    let stalled = stalled_client(&server);
    server.signal("TERM");
    let signalled_at = Instant::now();
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let elapsed = signalled_at.elapsed();
    // A second to drain, five for the last bytes, and what a busy machine adds.
    assert!(elapsed < Duration::from_secs(8), "it took {elapsed:?}");
    drop(stalled);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = options_with_stalled_client().start();
    let stalled = stalled_client(&server);
    server.signal("TERM");
    server.wait_for_log(STOPPING);
    let signalled_at = Instant::now();
    server.signal("TERM");
    server.wait_for_exit();
    let elapsed = signalled_at.elapsed();
    assert!(elapsed < Duration::from_secs(3), "it took {elapsed:?}");
    drop(stalled);
}

#[test]
fn new_clients_are_told_to_return_during_a_drain() {
    let mut server = options_with_stalled_client().start();
    let stalled = stalled_client(&server);
    let mut kept_alive = server.connect();
    kept_alive.send(request("GET", "/readyz"));
    assert_eq!(kept_alive.read_reply().head.status(), 200);
    let mut streaming = server.subscribe("/subscribe/eps");
    server.signal("TERM");
    server.wait_for_log(STOPPING);
    // A stream that was drained leaves its connection for one more request, as any other does.
    assert_eq!(streaming.read_to_end().1, End::Proper);
    let connections = [streaming.into_connection(), server.connect()];
    for mut connection in connections {
        connection.send(request("GET", "/subscribe/eps"));
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), 200);
        assert_eq!(reply.head.field("Connection"), Some("close"));
        let text = reply.text();
        let retry_ms = text.strip_prefix("retry:").expect("a pause").trim_end();
        assert!(
            retry_ms.parse::<u64>().is_ok_and(|it| it < 1_000),
            "{text:?}"
        );
    }
    let refused = server.ask("POST", "/subscribe/cleanup/scores");
    assert_eq!(refused.head.status(), 503);
    assert!(refused.head.field("Retry-After").is_some(), "{refused:?}");
    // A load balancer sees that the copy is not ready.
    assert!(is_not_ready(&mut kept_alive));
    // New connections are refused once the listeners are closed.
    wait_until("connections are refused", || {
        TcpStream::connect(server.address()).is_err()
    });
    server.signal("TERM");
    server.wait_for_exit();
    drop(stalled);
}

/// Whether a connection that was kept alive is at its end, or is answered that the server is not ready.
fn is_not_ready(connection: &mut Connection) -> bool {
    if connection
        .try_send(request("GET", "/readyz").as_bytes())
        .is_err()
    {
        return true;
    }
    match connection.receive() {
        Ok(bytes) => bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 503 "),
        Err(_) => true,
    }
}

#[test]
fn half_a_request_is_refused() {
    let mut server = ServerOptions::demo().start();
    // Its first half has been read by the time the request before it is answered.
    let halves = [
        "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nX-",
        "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
    ];
    let connections = halves.map(|half| {
        let mut connection = server.connect();
        connection.send(request("GET", "/healthz") + half);
        assert_eq!(connection.read_reply().head.status(), 200);
        connection
    });
    server.signal("TERM");
    for (mut connection, half) in connections.into_iter().zip(halves) {
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), 503, "{half:?}");
        assert_eq!(reply.head.field("Connection"), Some("close"));
        connection.expect_end();
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn what_was_missed_across_the_drain_of_another_process_is_not_made_up() {
    let Some(redis) = redis_or_skip() else { return };
    let mut before = ServerOptions::redis(&redis).start();
    let mut subscriber = before.subscribe("/subscribe/raw");
    before.signal("TERM");
    subscriber.read_to_end();
    assert_eq!(before.wait_for_exit().code(), Some(0));
    let id = subscriber.last_event_id().expect("an id").to_owned();
    let after = ServerOptions::redis(&redis).start();
    let request = format!("GET /subscribe/raw HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n");
    let mut subscriber = Subscriber::request(after.connect(), request.as_bytes());
    redis.client().publish("stream.score_updates", "2665");
    assert_eq!(subscriber.next_event().data, "2665");
    assert_eq!(subscriber.last_event_id(), Some(""));
}

#[test]
fn the_nodes_row_goes_with_it_and_the_others_stay() {
    let Some(redis) = redis_or_skip() else { return };
    let mut server = ServerOptions::redis(&redis)
        .variable("DYNO", "web.1")
        .start();
    let mut client = redis.client();
    wait_until("it has its connection for commands", || {
        let clients = client.command("CLIENT LIST TYPE normal").text();
        clients.contains("name=rust-development-web.1")
    });
    for node in ["rust-development-web.1", "rust-development-web.2"] {
        client.command(&format!("HSET {STATUS_KEY} {node} {{}}"));
    }
    let subscriber = server.subscribe("/subscribe/eps");
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let rows = client.command(&format!("HKEYS {STATUS_KEY}"));
    let other = Value::Bulk(Some(b"rust-development-web.2".to_vec()));
    assert_eq!(rows, Value::Array(vec![other]));
    drop(subscriber);
}

#[test]
fn without_redis_it_ends_as_cleanly() {
    let mut server = ServerOptions::without_redis().start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    server.signal("TERM");
    let (_, end) = subscriber.read_to_end();
    assert_eq!(end, End::Proper);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[track_caller]
fn expect_probe(server: &Server, path: &str, status: u16) -> String {
    let reply = server.ask("GET", path);
    assert_eq!(reply.head.status(), status, "{path}: {}", reply.text());
    reply.text()
}

#[test]
fn it_is_ready_while_it_is_subscribed_and_alive_all_the_time() {
    if !crate::support::redis::is_installed_or_skip() {
        return;
    }
    let mut redis = Redis::absent();
    let server = ServerOptions::redis(&redis).without_waiting().start();
    expect_probe(&server, "/healthz", 200);
    let text = expect_probe(&server, "/readyz", 503);
    assert!(text.contains("no source"), "{text}");
    redis.restart();
    wait_until("it is ready", || {
        server.ask("GET", "/readyz").head.status() == 200
    });
    redis.wait_until_subscribed(1);
    redis.kill();
    wait_until("it is not ready any more", || {
        server.ask("GET", "/readyz").head.status() == 503
    });
    let text = expect_probe(&server, "/readyz", 503);
    assert!(text.contains("no source"), "{text}");
    expect_probe(&server, "/healthz", 200);
    redis.restart();
    wait_until("it is ready again", || {
        server.ask("GET", "/readyz").head.status() == 200
    });
}

#[test]
fn a_demo_is_ready() {
    let server = ServerOptions::demo().start();
    expect_probe(&server, "/healthz", 200);
    expect_probe(&server, "/readyz", 200);
    for path in ["/healthz", "/readyz"] {
        let mut connection = server.connect();
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(connection.read_head().status(), 200);
        assert_eq!(server.ask("POST", path).head.status(), 405);
    }
}

#[test]
fn the_log_says_why_each_stream_was_closed() {
    let Some(redis) = redis_or_skip() else { return };
    let mut server = ServerOptions::redis(&redis)
        .variable("VERBOSE", "true")
        .variable("SSE_FORCE_REFRESH", "true")
        .variable("SSE_SCORE_FORCECLOSE_SEC", "1")
        .start();
    let expect = |server: &Server, path: &str, reason: &str| {
        let line = server.wait_for_log(&format!("disconnect {path} "));
        assert!(line.ends_with(&format!(" s: {reason}")), "{line}");
        assert!(line.contains("from 127.0.0.1 after "), "{line}");
    };
    drop(server.subscribe("/subscribe/details/client"));
    expect(&server, "/subscribe/details/client", "client");
    server.subscribe("/subscribe/details/reset").reset();
    expect(&server, "/subscribe/details/reset", "reset");
    let mut aged = server.subscribe("/subscribe/raw");
    aged.read_to_end();
    expect(&server, "/subscribe/raw", "lifetime");
    let mut cleaned = server.subscribe("/subscribe/details/cleaned");
    server.ask("POST", "/subscribe/cleanup/details/cleaned");
    cleaned.read_to_end();
    expect(&server, "/subscribe/details/cleaned", "cleanup");
    let mut drained = server.subscribe("/subscribe/details/drained");
    server.signal("TERM");
    drained.read_to_end();
    expect(&server, "/subscribe/details/drained", "drain");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(server.count_log("connect /subscribe"), 10);
}

#[test]
fn connections_that_have_asked_for_nothing_end_without_a_word() {
    let mut server = ServerOptions::demo().start();
    let mut silent = TcpStream::connect(server.address()).expect("a connection");
    server.ask("GET", "/healthz");
    server.signal("TERM");
    let mut rest = Vec::new();
    let _ended = silent.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let _refused = silent.write_all(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
