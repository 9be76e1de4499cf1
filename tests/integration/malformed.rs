//! Malformed requests: each gets the exact status for its error and closes its connection, without affecting others.

use std::time::{Duration, Instant};

use crate::support::{Connection, DEADLINE, Reply, Server, ServerOptions};

/// A request, and the status of the answer to it.
type Row = (&'static str, Vec<u8>, u16);

fn row(name: &'static str, request: impl Into<Vec<u8>>, status: u16) -> Row {
    (name, request.into(), status)
}

/// A request for a path that exists, with these header lines beside `Host`.
fn with(lines: &str) -> String {
    format!("POST /subscribe/eps HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

fn chunked(body: &str) -> String {
    with("Transfer-Encoding: chunked") + body
}

fn request_lines() -> Vec<Row> {
    #[rustfmt::skip]
    let table = [
        ("no request line", "GARBAGE\r\n\r\n", 400),
        ("no target", "GET\r\n\r\n", 400),
        ("no version", "GET /subscribe/eps\r\n\r\n", 400),
        ("a method that is no token", "G{T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a TLS greeting", "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03\r\n\r\n", 400),
        ("a space in the target", "GET /pa th HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("half a version", "GET / HTTP/1\r\nHost: a\r\n\r\n", 400),
        ("a version with more digits", "GET / HTTP/01.01\r\nHost: a\r\n\r\n", 400),
        ("a fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("raw bytes in the target", "GET /\u{2764} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("a version to come", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("HTTP/2 without asking", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ];
    table
        .into_iter()
        .map(|(name, request, status)| row(name, request, status))
        .collect()
}

fn fields() -> Vec<Row> {
    let long = "a".repeat(20_000);
    let many = "A: b\r\n".repeat(200);
    #[rustfmt::skip]
    let table = [
        row("no host", "GET /subscribe/eps HTTP/1.1\r\n\r\n", 400),
        row("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        row("two hosts over HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        row("a host with a user", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        row("a host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        row("a list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        row("a host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        row("white space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        row("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        row("a NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", 400),
        row("a bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", 400),
        row("a line without a colon", "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n", 400),
        row("an empty name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", 400),
        row("another expectation", with("Expect: 200-ok"), 417),
        row("a long target", format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        row("a long value", with(&format!("A: {long}")), 431),
        row("a long line that does not end", format!("GET / HTTP/1.1\r\nA: {long}"), 431),
        row("many lines", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ];
    table.into()
}

fn framing() -> Vec<Row> {
    let http_10 = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    #[rustfmt::skip]
    let table = [
        row("both framings", with("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n", 400),
        row("both framings, the other way round", with("Transfer-Encoding: chunked\r\nContent-Length: 5") + "0\r\n\r\n", 400),
        row("two lengths", with("Content-Length: 1\r\nContent-Length: 2") + "ab", 400),
        row("two equal lengths", with("Content-Length: 1\r\nContent-Length: 1") + "a", 400),
        row("a list of lengths", with("Content-Length: 1, 1") + "a", 400),
        row("a length in words", with("Content-Length: one") + "a", 400),
        row("a length with a plus sign", with("Content-Length: +1") + "a", 400),
        row("a negative length", with("Content-Length: -1") + "a", 400),
        row("a length in hexadecimal", with("Content-Length: 0x1") + "a", 400),
        row("an empty length", with("Content-Length:") + "a", 400),
        row("chunks over HTTP/1.0", http_10, 400),
        row("another coding", with("Transfer-Encoding: gzip"), 400),
        row("an empty list of codings", with("Transfer-Encoding:"), 400),
        row("a coding within the chunks", with("Transfer-Encoding: gzip, chunked"), 501),
        row("chunks within chunks", with("Transfer-Encoding: chunked, chunked"), 400),
        row("no coding at all", with("Transfer-Encoding: identity"), 400),
    ];
    table.into()
}

fn chunks() -> Vec<Row> {
    let announced = format!("{:x}\r\n", 65 * 1024);
    let small_ones = format!("400\r\n{}\r\n", "a".repeat(1024)).repeat(65);
    #[rustfmt::skip]
    let table = [
        row("a chunk size that is no number", chunked("xyz\r\n"), 400),
        row("a negative chunk size", chunked("-1\r\na\r\n"), 400),
        row("an empty chunk size", chunked("\r\na\r\n"), 400),
        row("a prefix before a chunk size", chunked("0x1\r\na\r\n0\r\n\r\n"), 400),
        row("white space before a chunk size", chunked(" 1\r\na\r\n0\r\n\r\n"), 400),
        row("white space behind a chunk size", chunked("1 \r\na\r\n0\r\n\r\n"), 400),
        row("an extension without a name", chunked("1;\r\na\r\n0\r\n\r\n"), 400),
        row("an extension that is no token", chunked("1;bad[=x\r\na\r\n0\r\n\r\n"), 400),
        row("a NUL in an extension", chunked("1;\0ext\r\na\r\n0\r\n\r\n"), 400),
        row("a chunk that is longer than its size", chunked("3\r\nabcd\r\n0\r\n\r\n"), 400),
        row("a bare CR in the line of a chunk size", chunked("1\rX\r\na\r\n0\r\n\r\n"), 400),
        row("a bare CR behind a chunk", chunked("1\r\na\r\r\n0\r\n\r\n"), 400),
        row("a large body", with("Content-Length: 65537"), 413),
        row("a body whose length is no number that fits", with("Content-Length: 99999999999999999999999"), 413),
        row("a large body that waits for leave", with("Content-Length: 65537\r\nExpect: 100-continue"), 413),
        row("a large chunk", chunked(&announced), 413),
        row("a chunk size that is no number that fits", chunked("fffffffffffffffffffff\r\n"), 413),
        row("many chunks", chunked(&small_ones), 413),
    ];
    table.into()
}

fn targets() -> Vec<Row> {
    let long = "a".repeat(1_000);
    let paths = [
        ("an encoded slash", "/subscribe/details/a%2Fb"),
        (
            "an encoded slash in small letters",
            "/subscribe/details/a%2fb",
        ),
        ("an encoded NUL", "/subscribe/details/%00"),
        ("an encoded line feed", "/subscribe/details/a%0ab"),
        ("an encoded carriage return", "/subscribe/details/a%0Db"),
        ("an encoded delete", "/subscribe/details/%7f"),
        ("an escape without digits", "/subscribe/details/%"),
        ("an escape with one digit", "/subscribe/details/%4"),
        ("an escape with other letters", "/subscribe/details/%zz"),
        ("an encoded slash where there is nothing", "/%2f"),
        ("what is not UTF-8 when decoded", "/subscribe/details/%ff"),
        ("a long id", &format!("/subscribe/details/{long}")),
        ("a relative path", "subscribe/eps"),
        ("a host and a port", "example.com:443"),
        ("another scheme", "ftp://example.com/subscribe/eps"),
        ("a URI without a host", "http:///subscribe/eps"),
    ];
    paths
        .into_iter()
        .map(|(name, path)| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            row(name, request, 400)
        })
        .collect()
}

/// Reads the refusal, with which the connection has to end.
#[track_caller]
fn expect_refusal(connection: &mut Connection, name: &str, status: u16) {
    let reply = connection.read_reply();
    assert_eq!(reply.head.status(), status, "{name}: {}", reply.text());
    expect_last(connection, &reply, name);
}

/// Makes sure that a refusal says what is wrong, and that nothing comes after it.
#[track_caller]
fn expect_last(connection: &mut Connection, reply: &Reply, name: &str) {
    assert_eq!(reply.head.field("Connection"), Some("close"), "{name}");
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    assert!(reply.json()["error"].is_string(), "{name}");
    connection.expect_end();
}

/// Sends each request on a connection of its own. All that are answered otherwise are named together.
#[track_caller]
fn expect_refusals(table: &[Row]) {
    let server = ServerOptions::demo().start();
    let mut bystander = server.subscribe("/subscribe/raw");
    let mut wrong = Vec::new();
    for (name, request, status) in table {
        let mut connection = server.connect();
        connection.send(request);
        let reply = connection.read_reply();
        match reply.head.status() {
            answered if answered != *status => {
                wrong.push(format!("{name}: {answered} instead of {status}"));
            }
            _ => expect_last(&mut connection, &reply, name),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    bystander.next_data(1);
}

#[test]
fn malformed_request_lines_are_refused() {
    expect_refusals(&request_lines());
}

#[test]
fn malformed_header_fields_are_refused() {
    expect_refusals(&fields());
}

#[test]
fn doubtful_framing_is_refused() {
    expect_refusals(&framing());
}

#[test]
fn malformed_and_large_bodies_are_refused() {
    expect_refusals(&chunks());
}

#[test]
fn malformed_paths_are_refused() {
    expect_refusals(&targets());
}

#[test]
fn a_request_that_comes_byte_by_byte_is_refused_with_the_same_status() {
    let server = ServerOptions::demo().start();
    let all = [request_lines(), fields(), framing(), chunks(), targets()].concat();
    let statuses = [400, 413, 414, 417, 431, 501, 505];
    for status in statuses {
        let of_status = all.iter().filter(|(_, _, other)| *other == status);
        for (name, request, _) in of_status.take(3) {
            let mut connection = server.connect();
            connection.send_byte_by_byte(request);
            expect_refusal(&mut connection, name, status);
        }
    }
}

#[test]
fn nothing_that_follows_a_refused_request_is_answered() {
    let server = ServerOptions::demo().start();
    let following = "GET /subscribe/raw HTTP/1.1\r\nHost: a\r\n\r\n";
    let table = [
        (
            with("Content-Length: 5\r\nTransfer-Encoding: chunked") + "0\r\n\r\n",
            400,
        ),
        (chunked("3\r\nabcd\r\n"), 400),
        (with("Transfer-Encoding: gzip, chunked"), 501),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in table {
        let mut connection = server.connect();
        connection.send(request.clone() + following);
        expect_refusal(&mut connection, &request, status);
    }
    assert!(server.connections().is_empty());
}

#[test]
fn a_client_that_is_still_sending_gets_its_refusal() {
    let server = ServerOptions::demo().start();
    let table = [
        (with("Content-Length: 1000000"), 413),
        (with("Transfer-Encoding: gzip, chunked"), 501),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
    ];
    for (request, status) in table {
        let mut connection = server.connect();
        connection.send(&request);
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), status, "{request:?}");
        // Had the server closed by now, the kernel would answer this with a reset, which may destroy
        // a reply that is still on its way.
        connection.send("a".repeat(1_000_000));
        expect_last(&mut connection, &reply, &request);
    }
}

/// How soon and how late a request that is not whole may be given up.
const GIVEN_UP_AFTER: std::ops::Range<Duration> =
    Duration::from_millis(9_500)..Duration::from_millis(15_000);

#[test]
fn a_request_must_be_complete_within_ten_seconds() {
    let server = ServerOptions::demo().start();
    let partial = [
        "G",
        "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nA: ",
        "POST /subscribe/eps HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbody",
        "POST /subscribe/eps HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbody",
    ];
    let mut late: Vec<Connection> = partial.iter().map(|text| begin(&server, text)).collect();
    let mut silent = server.connect();
    let mut kept = server.connect();
    kept.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.read_reply().head.status(), 404);
    let started = Instant::now();
    // Further bytes do not make the time any longer.
    let mut dripping = begin(&server, "GET /");
    dripping.set_patience(Duration::from_millis(300));
    let refused = loop {
        assert!(started.elapsed() < DEADLINE, "it is still waited for");
        dripping.send("a");
        if let Ok(bytes) = dripping.receive() {
            break String::from_utf8_lossy(&bytes).into_owned();
        }
    };
    assert!(refused.starts_with("HTTP/1.1 408 "), "{refused:?}");
    let elapsed = started.elapsed();
    assert!(GIVEN_UP_AFTER.contains(&elapsed), "after {elapsed:?}");
    for (connection, text) in late.iter_mut().zip(partial) {
        expect_refusal(connection, text, 408);
    }
    // Without a request there is no reply: a browser would take it for the reply to its next request.
    silent.expect_end();
    kept.expect_end();
    let elapsed = started.elapsed();
    assert!(GIVEN_UP_AFTER.contains(&elapsed), "after {elapsed:?}");
}

fn begin(server: &Server, text: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(text);
    connection
}

/// RFC 9110 §9.3.2: whatever is wrong with a request for a head, its client takes what follows the head of the reply for
/// the next reply.
#[test]
fn refusals_of_head_have_no_body() {
    let server = ServerOptions::without_redis().start();
    let head = |lines: &str| format!("HEAD / HTTP/1.1\r\n{lines}\r\n");
    let long = "a".repeat(20_000);
    let table = [
        (head(""), 400),
        (head("Host: a\r\nHost: a\r\n"), 400),
        (head("Host: a\r\nContent-Length: x\r\n"), 400),
        (head("Host: a\r\nContent-Length: 65537\r\n"), 413),
        (format!("HEAD /{long} HTTP/1.1\r\n\r\n"), 414),
        (head("Host: a\r\nExpect: x\r\n"), 417),
        (head(&format!("Host: a\r\nA: {long}\r\n")), 431),
        (head("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n"), 501),
        ("HEAD / HTTP/2.0\r\n\r\n".to_owned(), 505),
    ];
    for (request, status) in table {
        let mut connection = begin(&server, &request);
        let shown = &request[..request.len().min(60)];
        assert_eq!(connection.read_head().status(), status, "{shown:?}");
        connection.shut_down_write();
        assert_eq!(connection.read_to_end(), b"", "{shown:?}");
    }
}

#[test]
fn a_subscriber_that_goes_on_sending_is_closed() {
    let server = ServerOptions::demo().variable("VERBOSE", "true").start();
    let mut bystander = server.subscribe("/subscribe/raw");
    let mut subscriber = server.subscribe("/subscribe/eps");
    // Another request, or what is left of a body, is read and means nothing.
    subscriber.connection().send([b'x'; 1_000]);
    subscriber.next_data(3);
    let started = Instant::now();
    let bytes = [b'x'; 16 * 1024];
    let mut sent = 0;
    while let Ok(len) = subscriber.connection().try_send(&bytes) {
        sent += len;
        // Several times what the kernel holds for both sides.
        assert!(sent < 64 * 1024 * 1024, "the server reads all of it");
    }
    assert!(
        started.elapsed() < DEADLINE,
        "it is neither read nor closed"
    );
    let line = server.wait_for_log("disconnect /subscribe/eps");
    assert!(line.ends_with(": protocol"), "{line}");
    bystander.next_data(1);
}
