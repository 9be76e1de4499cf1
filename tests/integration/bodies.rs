//! Request bodies: most endpoints ignore them, but the server must find their end, because the next request follows.

use crate::support::{Connection, ServerOptions};

/// A request that would be answered with 200 if it stood outside of a body.
const DECOY: &str = "GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What a request with a body on `/subscribe/eps` is answered with: there is nothing to be posted.
const REFUSED: u16 = 405;

#[track_caller]
fn expect_statuses(connection: &mut Connection, statuses: &[u16], context: &str) {
    for status in statuses {
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), *status, "{context}: {}", reply.text());
    }
}

fn post(lines: &str, body: &str) -> String {
    format!("POST /subscribe/eps HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n{body}")
}

fn requests() -> Vec<String> {
    let decoy_len = DECOY.len();
    let size = format!("{decoy_len:X}");
    let long = "a".repeat(60_000);
    vec![
        post("Content-Length: 0", ""),
        post(&format!("Content-Length: {decoy_len}"), DECOY),
        post(&format!("Content-Length: 000{decoy_len}"), DECOY),
        post("Content-Length: 60000", &long),
        post("Transfer-Encoding: chunked", "0\r\n\r\n"),
        post(
            "Transfer-Encoding: Chunked",
            &format!("{size}\r\n{DECOY}\r\n0\r\n\r\n"),
        ),
        post(
            "Transfer-Encoding: chunked",
            "1\r\na\r\n00a\r\n0123456789\r\n000\r\n\r\n",
        ),
        post(
            "Transfer-Encoding: chunked",
            "1;a=b;c=\"d\"\r\na\r\n0;last\r\nTrailer: yes\r\n\r\n",
        ),
        post(
            "Transfer-Encoding: chunked",
            &format!("EA60\r\n{long}\r\n0\r\n\r\n"),
        ),
    ]
}

#[test]
fn the_request_behind_a_body_is_answered() {
    let server = ServerOptions::demo().start();
    for request in requests() {
        let context = format!("{request:.120}");
        let mut connection = server.connect();
        connection.send(format!("{request}{DECOY}"));
        expect_statuses(&mut connection, &[REFUSED, 200], &context);
        // The same once more on the same connection, in pieces.
        for piece in format!("{request}{DECOY}").as_bytes().chunks(7_001) {
            connection.send(piece);
        }
        expect_statuses(&mut connection, &[REFUSED, 200], &context);
    }
}

#[test]
fn the_end_of_a_body_is_found_byte_by_byte() {
    let server = ServerOptions::demo().start();
    for request in requests().iter().filter(|request| request.len() < 1_000) {
        let mut connection = server.connect();
        connection.send_byte_by_byte(format!("{request}{DECOY}").as_bytes());
        expect_statuses(&mut connection, &[REFUSED, 200], request);
    }
}

#[test]
fn bodies_of_other_methods_are_discarded_as_well() {
    let server = ServerOptions::demo().start();
    let table = [
        ("GET", "/admin/status.json", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/admin/status.json", 405),
        ("DELETE", "/subscribe/raw", 405),
        ("OPTIONS", "/subscribe/raw", 204),
    ];
    for (method, path, status) in table {
        let mut connection = server.connect();
        connection.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{DECOY}{DECOY}",
            DECOY.len()
        ));
        expect_statuses(&mut connection, &[status, 200], method);
    }
}

#[test]
fn a_client_that_waits_for_leave_to_send_its_body_gets_it() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    for expect in ["Expect: 100-continue", "expect: 100-Continue"] {
        connection.send(post(&format!("{expect}\r\nContent-Length: 5"), ""));
        let leave = connection.read_head();
        assert_eq!(leave.status_line, "HTTP/1.1 100 Continue");
        assert_eq!(leave.fields, []);
        connection.send("hello");
        expect_statuses(&mut connection, &[REFUSED], expect);
    }
    // Nothing is to be waited for without a body.
    connection.send(post("Expect: 100-continue", ""));
    expect_statuses(&mut connection, &[REFUSED], "without a body");
    // HTTP/1.0 knows no interim answers.
    connection
        .send("POST /nothing HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    expect_statuses(&mut connection, &[404], "over HTTP/1.0");
    connection.expect_end();
}

#[test]
fn a_client_that_does_not_wait_for_leave_is_answered_as_well() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    connection.send(post("Expect: 100-continue\r\nContent-Length: 5", "hello"));
    let mut head = connection.read_head();
    if head.status() == 100 {
        head = connection.read_head();
    }
    assert_eq!(head.status(), REFUSED);
}
