//! Long polls: a poll is answered with the next event, and no event is lost between two polls.

use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::channels::{embedded, options, publish, publish_over};
use crate::support::{Connection, Reply, Server, ServerOptions, redis_or_skip, wait_until};

/// A poll of these channels, with what a script sends beside.
fn poll(path: &str, id: &str) -> String {
    let id = match id {
        "" => String::new(),
        id => format!("Last-Event-ID: {id}\r\n"),
    };
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n{id}\r\n")
}

fn patient() -> ServerOptions {
    embedded().variable("KEEPALIVE_SEC", "50")
}

/// Waits until a poll is under way, so that what is published now is what it waits for.
#[track_caller]
fn wait_for_poll(server: &Server, channel: &str) {
    wait_until("the poll is under way", || {
        server.ask("GET", "/stats").json() == json!([[channel, 1]])
    });
}

/// The id and the data of the one event of a reply.
#[track_caller]
fn event_of(reply: &Reply) -> (String, String) {
    let text = reply.text();
    let parts = text
        .strip_prefix("data: ")
        .and_then(|rest| rest.strip_suffix("\n\n"))
        .and_then(|rest| rest.split_once("\nid: "));
    let (data, id) = parts.unwrap_or_else(|| panic!("{text:?} is not one event"));
    assert!(!data.contains('\n'), "{text:?}");
    (id.to_owned(), data.to_owned())
}

#[test]
fn the_reply_is_exact_and_has_one_event() {
    let server = patient().start();
    let mut connection = server.connect();
    let mut id = String::new();
    for (path, lines) in [
        ("/?channels=a", "data: 1\ndata: 2\n"),
        ("/subscribe/channels/a", "data: 1\ndata: 2\n"),
        ("/?channels=a&event=channel", "event: a\ndata: 1\ndata: 2\n"),
    ] {
        connection.send(poll(path, ""));
        wait_for_poll(&server, "a");
        publish(&server, "a", "1%0A2");
        let reply = connection.read_reply();
        let text = reply.text();
        let rest = text.strip_prefix(lines).expect("the message");
        let rest = rest.strip_prefix("id: ").expect("an id");
        id = rest.strip_suffix("\n\n").expect("a block").to_owned();
        assert_eq!(reply.head.status_line, "HTTP/1.1 200 OK");
        let length = format!("Content-Length: {}", text.len());
        assert_eq!(
            reply.head.lines_but_date(),
            [
                "Access-Control-Allow-Origin: *",
                "Cache-Control: no-cache",
                "Connection: keep-alive",
                &length,
                "Content-Type: text/event-stream; charset=utf-8",
                "X-Content-Type-Options: nosniff",
            ]
        );
    }
    // One each, in order, although all of them are there.
    let missed = ["3", "4", "5"];
    for message in missed {
        publish(&server, "a", message);
    }
    for expected in missed {
        connection.send(poll("/?channels=a", &id));
        let (next, data) = event_of(&connection.read_reply());
        assert_eq!(data, expected);
        id = next;
    }
    server.wait_for_stats(&json!([]));
}

#[test]
fn http_10_clients_poll_as_well() {
    let server = patient().start();
    let mut connection = server.connect();
    connection.send("GET /?channels=a HTTP/1.0\r\nX-Requested-With: xmlhttprequest\r\n\r\n");
    wait_for_poll(&server, "a");
    publish(&server, "a", "1");
    let reply = connection.read_reply();
    assert_eq!(reply.head.field("Connection"), Some("close"));
    assert_eq!(event_of(&reply).1, "1");
    connection.expect_end();
}

#[test]
fn a_poll_is_empty_when_nothing_comes() {
    let server = embedded().variable("KEEPALIVE_SEC", "1").start();
    let mut connection = server.connect();
    for _ in 0..3 {
        let asked_at = Instant::now();
        connection.send(poll("/?channels=a,b", ""));
        let reply = connection.read_reply();
        let elapsed = asked_at.elapsed();
        assert!(elapsed > Duration::from_millis(700), "{elapsed:?}");
        assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
        assert_eq!(reply.head.status(), 200);
        assert_eq!(reply.head.field("Content-Length"), Some("0"));
        assert_eq!(reply.head.field("Connection"), Some("keep-alive"));
        let content_type = "text/event-stream; charset=utf-8";
        assert_eq!(reply.head.field("Content-Type"), Some(content_type));
    }
    server.wait_for_stats(&json!([]));
}

#[test]
fn a_poll_receives_a_gap_at_once_and_only_once() {
    let server = patient().start();
    let mut connection = server.connect();
    for path in ["/?channels=a", "/?channels=a,b&event=channel"] {
        connection.send(poll(path, "1-1"));
        let reply = connection.read_reply();
        let text = reply.text();
        let id = text.strip_prefix("event: gap\ndata: null\nid: ");
        let id = id.expect("a gap and an id").trim_end();
        connection.send(poll("/?channels=a", id));
        wait_for_poll(&server, "a");
        publish(&server, "a", "1");
        assert_eq!(event_of(&connection.read_reply()).1, "1");
    }
}

#[test]
fn a_poll_whose_client_ends_its_side_is_over() {
    let server = patient().start();
    for path in ["/?channels=a", "/?channels=a,b"] {
        let mut connection = server.connect();
        connection.send(poll(path, ""));
        wait_until("the poll is under way", || {
            server.ask("GET", "/stats").json() != json!([])
        });
        connection.shut_down_write();
        let reply = connection.read_reply();
        assert_eq!((reply.head.status(), reply.text().as_str()), (200, ""));
        connection.expect_end();
        server.wait_for_stats(&json!([]));
    }
}

#[test]
fn what_is_no_poll_is_a_stream() {
    let server = patient().start();
    let script = "X-Requested-With: XMLHttpRequest\r\n";
    let table = [
        ("/?channels=a", "X-Requested-With: com.example.app\r\n"),
        ("/subscribe/raw", script),
        ("/subscribe?ns=/channels/a&ns=/eps", script),
    ];
    for (path, lines) in table {
        let mut connection = server.connect();
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let head = connection.read_head();
        assert_eq!(head.field("Transfer-Encoding"), Some("chunked"), "{path}");
    }
    // A poll for an unknown path is refused like any request.
    let mut connection = server.connect();
    connection.send(poll("/?channels=stream.score_updates", ""));
    assert_eq!(connection.read_reply().head.status(), 403);
    connection.send(poll("/?channels=", ""));
    assert_eq!(connection.read_reply().head.status(), 400);
}

#[test]
fn a_poll_that_is_left_costs_nothing_and_loses_nothing() {
    let server = patient().start();
    let mut connection = server.connect();
    connection.send(poll("/?channels=a", ""));
    wait_for_poll(&server, "a");
    publish(&server, "a", "1");
    let (id, _) = event_of(&connection.read_reply());
    connection.send(poll("/?channels=a", &id));
    wait_for_poll(&server, "a");
    connection.reset();
    wait_until("it is gone", || {
        server.ask("GET", "/stats").json() == json!([])
    });
    publish(&server, "a", "2");
    let mut connection = server.connect();
    connection.send(poll("/?channels=a", &id));
    assert_eq!(event_of(&connection.read_reply()).1, "2");
}

#[test]
fn polls_end_with_the_server() {
    let mut server = patient().variable("DRAIN_SEC", "0").start();
    let mut connection = server.connect();
    connection.send(poll("/?channels=a", ""));
    wait_for_poll(&server, "a");
    server.signal("TERM");
    // A script would poll again at once where the answer were an empty one.
    expect_unavailable(&connection.read_reply(), 1..=5);
    connection.expect_end();
    assert!(server.wait_for_exit().success());
}

/// Makes sure that the reply is a 503 with a `Retry-After` in this range.
#[track_caller]
fn expect_unavailable(reply: &Reply, seconds: RangeInclusive<u64>) {
    assert_eq!(reply.head.status(), 503, "{reply:?}");
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    let pause = reply.head.field("Retry-After").expect("a pause");
    let pause: u64 = pause.parse().expect("seconds");
    assert!(seconds.contains(&pause), "{pause}");
}

#[test]
fn shed_polls_get_a_retry_after() {
    let server = patient().variable("MAX_CONNECTIONS", "1").start();
    let _stream = server.subscribe("/?channels=a");
    for path in ["/?channels=a", "/subscribe/channels/a"] {
        // Whatever else it takes: a script that polls says so, and an event source does not.
        for lines in ["", "Accept: */*\r\n", "Accept: text/event-stream\r\n"] {
            let mut connection = server.connect();
            let request = poll(path, "").replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1);
            // The connection can be used again.
            for _ in 0..2 {
                connection.send(&request);
                expect_unavailable(&connection.read_reply(), 5..=30);
            }
        }
    }
    let mut connection = server.connect();
    connection.send("GET /?channels=a HTTP/1.1\r\nHost: a\r\n\r\n");
    let reply = connection.read_reply();
    assert_eq!(reply.head.status(), 200);
    let text = reply.text();
    let pause = text
        .strip_prefix("retry:")
        .and_then(|rest| rest.strip_suffix('\n'));
    assert!(
        pause.is_some_and(|pause| pause.parse::<u32>().is_ok()),
        "{text:?}"
    );
}

#[test]
fn a_reply_with_a_pause_is_one_block() {
    let server = patient().variable("SSE_RECONNECT_MS", "70").start();
    let mut connection = server.connect();
    connection.send(poll("/?channels=a", ""));
    wait_for_poll(&server, "a");
    publish(&server, "a", "1");
    let text = connection.read_reply().text();
    assert!(text.starts_with("retry:70\ndata: 1\nid: "), "{text:?}");
}

#[test]
fn polls_are_answered_over_one_connection_and_what_is_sent_behind_is_not() {
    let server = patient().start();
    let mut connection = server.connect();
    // What stands behind a poll cannot be a request any more; the poll itself is answered.
    connection.send(poll("/?channels=a", "") + &poll("/?channels=a", ""));
    wait_for_poll(&server, "a");
    publish(&server, "a", "1");
    let reply = connection.read_reply();
    assert_eq!(event_of(&reply).1, "1");
    if reply.head.field("Connection") == Some("close") {
        connection.expect_end();
    } else {
        wait_for_poll(&server, "a");
        publish(&server, "a", "2");
        assert_eq!(event_of(&connection.read_reply()).1, "2");
    }
}

/// Messages for each poller, of whom there are two of each kind.
const MESSAGES: usize = 1_000;
const POLLERS: usize = 4;

/// Polls for every message, one at a time.
fn follow(server: &Server, mut id: String, is_kept_alive: bool, path: &str) {
    let mut connection: Option<Connection> = None;
    for number in 0..MESSAGES {
        let mut open = connection.take().unwrap_or_else(|| server.connect());
        match is_kept_alive {
            true => open.send(poll(path, &id)),
            false => open.send(poll(&format!("{path}&lastEventId={id}"), "")),
        }
        let (next, data) = event_of(&open.read_reply());
        assert_eq!(data, number.to_string(), "kept alive: {is_kept_alive}");
        id = next;
        connection = is_kept_alive.then_some(open);
    }
}

#[test]
fn thousands_of_polls_get_every_message_once() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("KEEPALIVE_SEC", "50").start();
    let mut witness = server.subscribe("/?channels=a,b");
    assert_eq!(
        publish_over(&mut server.connect(), "channel=a&message=first"),
        200
    );
    let id = witness.next_event().id;
    thread::scope(|scope| {
        let (server, id) = (&server, &id);
        for number in 0..POLLERS {
            let path = ["/?channels=a,b", "/?channels=b&channels=a"][number / 2];
            scope.spawn(move || follow(server, id.clone(), number % 2 == 0, path));
        }
        let mut client = redis.client();
        for number in 0..MESSAGES {
            client.publish(["a", "b"][number % 2], number.to_string());
            // Some five hundred a second: a pace, and not a wait for anything.
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(witness.next_data(MESSAGES).len(), MESSAGES);
}
