//! Admission: which clients are shed when a limit is reached, and how. A browser never reconnects after a reply that is
//! not a stream, so it gets a stream that ends at once.

use std::collections::BTreeSet;

use crate::support::http::Reply;
use crate::support::{Server, ServerOptions, Subscriber};

/// Asks for a stream with these header lines, and reads the whole of an answer that ends.
#[track_caller]
fn refused(server: &Server, lines: &str) -> Reply {
    let mut connection = server.connect();
    connection.send(format!(
        "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n{lines}\r\n"
    ));
    connection.read_reply()
}

/// Makes sure that this is a stream that ends at once, and returns the pause that it asks for.
#[track_caller]
fn expect_shed(reply: &Reply) -> u64 {
    assert_eq!(reply.head.status(), 200);
    let content_type = reply.head.field("Content-Type");
    assert_eq!(content_type, Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.head.field("Access-Control-Allow-Origin"), Some("*"));
    let text = reply.text();
    let retry_ms = text
        .strip_prefix("retry:")
        .and_then(|rest| rest.strip_suffix("\n"));
    let retry_ms = retry_ms.unwrap_or_else(|| panic!("{text:?}"));
    let retry_ms: u64 = retry_ms.parse().expect("milliseconds");
    assert!((5_000..=30_000).contains(&retry_ms), "{retry_ms}");
    retry_ms
}

#[track_caller]
fn expect_unavailable(reply: &Reply) {
    assert_eq!(reply.head.status(), 503);
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    let seconds = reply.head.field("Retry-After").expect("a time");
    let seconds: u64 = seconds.parse().expect("seconds");
    assert!((5..=30).contains(&seconds), "{seconds}");
}

fn subscribe_as(server: &Server, client_ip: &str) -> Subscriber {
    let request =
        format!("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client_ip}\r\n\r\n");
    Subscriber::request(server.connect(), request.as_bytes())
}

#[test]
fn streams_beyond_the_total_limit_are_shed() {
    let server = ServerOptions::demo()
        .variable("MAX_CONNECTIONS", "5")
        .start();
    let paths = ["eps", "raw", "details", "details/2665", "eps"];
    let mut subscribers = paths.map(|path| server.subscribe(&format!("/subscribe/{path}")));
    let retries: BTreeSet<u64> = (0..40)
        .map(|_| expect_shed(&refused(&server, "")))
        .collect();
    assert!(
        retries.len() > 20,
        "who came together comes together again: {retries:?}"
    );
    // Existing streams continue, and all other requests are still answered.
    for subscriber in &mut subscribers {
        subscriber.next_event();
    }
    assert_eq!(server.connections().len(), subscribers.len());
    assert_eq!(server.ask("GET", "/healthz").head.status(), 200);
    let mut head = server.connect();
    head.send("HEAD /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.read_head().status(), 200);
}

#[test]
fn clients_that_do_not_accept_streams_get_a_503() {
    let server = ServerOptions::demo()
        .variable("MAX_CONNECTIONS", "1")
        .start();
    let _subscriber = server.subscribe("/subscribe/eps");
    for lines in [
        "Accept: text/html\r\n",
        "Accept: application/json, text/plain;q=0.5\r\n",
        "Accept: text/event-stream;q=0\r\n",
    ] {
        expect_unavailable(&refused(&server, lines));
    }
    for lines in [
        "",
        "Accept: text/event-stream\r\n",
        "Accept: */*\r\n",
        "Accept: text/*\r\n",
        "Accept: text/html, text/event-stream;q=0.1\r\n",
    ] {
        expect_shed(&refused(&server, lines));
    }
}

#[test]
fn a_place_that_was_left_can_be_taken_again() {
    let server = ServerOptions::demo()
        .variable("MAX_CONNECTIONS", "3")
        .start();
    for _ in 0..5 {
        let subscribers = [(); 3].map(|()| server.subscribe("/subscribe/eps"));
        expect_shed(&refused(&server, ""));
        let [first, second, mut third] = subscribers;
        drop(first);
        second.reset();
        server.wait_for_connections(1);
        let others = [(); 2].map(|()| server.subscribe("/subscribe/raw"));
        expect_shed(&refused(&server, ""));
        third.next_event();
        drop((third, others));
        server.wait_for_connections(0);
    }
    // So is one that was taken away.
    let mut closed = server.subscribe("/subscribe/eps");
    let _others = [(); 2].map(|()| server.subscribe("/subscribe/raw"));
    expect_shed(&refused(&server, ""));
    server.ask("POST", "/subscribe/cleanup/scores");
    closed.read_to_end();
    server.subscribe("/subscribe/eps").next_event();
}

#[test]
fn connections_that_are_no_streams_take_no_place() {
    let server = ServerOptions::demo()
        .variable("MAX_CONNECTIONS", "1")
        .variable("MAX_CONNECTIONS_PER_IP", "1")
        .start();
    let _idle: Vec<_> = (0..20).map(|_| server.connect()).collect();
    server.subscribe("/subscribe/eps").next_event();
}

#[test]
fn streams_beyond_the_limit_of_an_address_are_shed() {
    let server = ServerOptions::demo()
        .variable("TRUST_PROXY", "1")
        .variable("MAX_CONNECTIONS_PER_IP", "2")
        .start();
    let crowded = "X-Forwarded-For: 10.0.0.1\r\n";
    let first = subscribe_as(&server, "10.0.0.1");
    let mut second = subscribe_as(&server, "10.0.0.1");
    expect_shed(&refused(&server, crowded));
    expect_unavailable(&refused(
        &server,
        &format!("{crowded}Accept: text/html\r\n"),
    ));
    let _other = subscribe_as(&server, "10.0.0.2");
    let _other = subscribe_as(&server, "10.0.0.2");
    assert_eq!(server.connections().len(), 4);

    drop(first);
    server.wait_for_connections(3);
    let _third = subscribe_as(&server, "10.0.0.1");
    second.next_event();
    expect_shed(&refused(&server, crowded));
    assert_eq!(server.connections().len(), 4);
}

#[test]
fn an_ipv6_network_is_one_address() {
    let server = ServerOptions::demo()
        .variable("TRUST_PROXY", "1")
        .variable("MAX_CONNECTIONS_PER_IP", "2")
        .start();
    let _first = subscribe_as(&server, "2001:db8:0:1::1");
    let _second = subscribe_as(&server, "2001:db8:0:1:ffff::");
    expect_shed(&refused(&server, "X-Forwarded-For: 2001:db8:0:1::3\r\n"));
    let _other = subscribe_as(&server, "2001:db8:0:2::1");
    // Whoever is counted together may still not close what is the other's.
    let mut connection = server.connect();
    connection.send(
        "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8:0:1::1\r\n\r\n",
    );
    assert_eq!(connection.read_reply().json()["closed"], 1);
}

#[test]
fn without_a_bound_descriptors_are_one() {
    let server = ServerOptions::demo()
        .after("ulimit -Sn 64 && ulimit -Hn 64")
        .start();
    let mut subscribers = Vec::new();
    let shed = loop {
        let mut connection = server.connect();
        connection.send("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = connection.read_head();
        if head.field("Transfer-Encoding").is_none() {
            break head;
        }
        subscribers.push(connection);
        assert!(subscribers.len() < 64, "more streams than descriptors");
    };
    assert_eq!(shed.status(), 200);
    assert!(subscribers.len() >= 16, "{} streams", subscribers.len());
    // There is still room for administrators.
    assert_eq!(server.connections().len(), subscribers.len());
}
