//! Persistent connections: which are kept alive, and what a half-close or reset does.

use crate::support::redis::SCORES;
use crate::support::{Event, ServerOptions, Subscriber, redis_or_skip};

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let server = ServerOptions::demo().start();
    let table = [
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (
            "GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
        ),
        ("OPTIONS /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n", 204),
        (
            "POST /subscribe/eps HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            405,
        ),
        // An empty line before a request is to be overlooked.
        ("\r\nGET /subscribe/%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
    ];
    let round: String = table.iter().map(|(request, _)| *request).collect();
    let mut connection = server.connect();
    connection.send(round.repeat(3));
    for _ in 0..3 {
        for (request, status) in table {
            let reply = connection.read_reply();
            assert_eq!(reply.head.status(), status, "{request:?}");
            assert_eq!(reply.head.field("Connection"), Some("keep-alive"));
        }
    }
    // A stream may stand at the end of such a row; it is the last answer.
    connection.send(round + "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
    for (request, status) in table {
        assert_eq!(connection.read_reply().head.status(), status, "{request:?}");
    }
    Subscriber::begin(connection).next_event();
}

#[test]
fn as_many_pipelined_requests_as_a_client_likes_are_answered() {
    const COUNT: usize = 5_000;
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    let requests = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".repeat(COUNT);
    // More than a megabyte of replies: whoever sends first and reads later must not lock up either side.
    let mut sender = connection.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || sender.send(requests));
        for _ in 0..COUNT {
            assert_eq!(connection.read_reply().head.status(), 404);
        }
    });
}

#[test]
fn a_connection_is_used_again() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    for _ in 0..3 {
        connection.send("GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), 200);
        assert_eq!(reply.head.field("Connection"), Some("keep-alive"));
        assert_eq!(reply.json()["connections"], serde_json::json!([]));
    }
    // `HEAD` has the same head, and the next reply follows at once.
    connection.send("HEAD /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = connection.read_head();
    assert_eq!(head.status(), 404);
    connection.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    let reply = connection.read_reply();
    assert_eq!(reply.head.lines_but_date(), head.lines_but_date());
}

#[test]
fn a_connection_ends_when_its_client_or_its_version_wants_it() {
    let server = ServerOptions::demo().start();
    let table = [
        ("HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n", false),
        (
            "HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n",
            false,
        ),
        (
            "HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: close\r\n",
            false,
        ),
        ("HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n", true),
        ("HTTP/1.1\r\nHost: a\r\n", true),
        ("HTTP/1.0\r\n", false),
        ("HTTP/1.0\r\nConnection: close\r\n", false),
        ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
    ];
    for path in ["/nothing", "/admin/status.json"] {
        for (lines, is_kept) in table {
            let mut connection = server.connect();
            connection.send(format!("GET {path} {lines}\r\n"));
            let reply = connection.read_reply();
            let expected = if is_kept { "keep-alive" } else { "close" };
            assert_eq!(reply.head.field("Connection"), Some(expected), "{lines:?}");
            if is_kept {
                connection.send(format!("GET {path} {lines}\r\n"));
                let again = connection.read_reply();
                assert_eq!(again.head.status(), reply.head.status(), "{lines:?}");
            } else {
                connection.expect_end();
            }
        }
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    connection.send_byte_by_byte(b"GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.read_reply().head.status(), 200);
    connection.send_byte_by_byte(b"GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
    Subscriber::begin(connection).next_event();
}

#[test]
fn a_target_may_be_a_whole_uri() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    connection.send("GET http://example.com/admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(connection.read_reply().head.status(), 200);
    connection.send("GET HTTPS://example.com:443/nothing?a=b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.read_reply().head.status(), 404);
    let target = "http://example.com/subscribe/details?a=b";
    let mut subscriber = Subscriber::open(connection, target);
    subscriber.next_event();
    let row = server.connections().remove(0);
    assert_eq!(row["request_path"], "/subscribe/details");
    assert_eq!(row["namespace"], "/details");
}

#[test]
fn what_follows_the_head_of_a_subscription_is_discarded() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let request = b"GET /subscribe/raw HTTP/1.1\r\nHost: a\r\n\r\n";
    let further = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n\0\xff".repeat(600);
    let together = [request.as_slice(), &further].concat();
    let mut subscriber = Subscriber::request(server.connect(), &together);
    let mut client = redis.client();
    for id in ["1F4C2", "2665"] {
        subscriber.connection().send(&further);
        client.publish(SCORES, id);
        // Another head would be no chunk.
        assert_eq!(subscriber.next_event(), Event::message(id));
    }
    assert_eq!(server.connections().len(), 1);
}

#[test]
fn a_client_that_has_ended_its_side_gets_its_replies() {
    let server = ServerOptions::demo().start();
    let table = [
        ("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        ("GET /nothing HTTP/1.0\r\n\r\n", 404),
        ("OPTIONS /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n", 204),
        (
            "POST /subscribe/eps HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na",
            405,
        ),
        (
            "GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
        ),
        ("GET /admin/status.json HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /\r\n\r\n", 400),
    ];
    for (request, status) in table {
        for repeated in 1..=2 {
            let mut connection = server.connect();
            connection.send(request.repeat(repeated));
            connection.shut_down_write();
            let reply = connection.read_reply();
            assert_eq!(reply.head.status(), status, "{request:?}");
            let is_kept = reply.head.field("Connection") == Some("keep-alive");
            if is_kept && repeated == 2 {
                assert_eq!(connection.read_reply().head.status(), status);
            }
            connection.expect_end();
        }
    }
}

#[test]
fn a_subscriber_that_has_ended_its_side_gets_its_events() {
    let Some(redis) = redis_or_skip() else { return };
    // Such a client that then leaves altogether sends nothing by which that could be told: only the next
    // write finds it out.
    let server = ServerOptions::redis(&redis)
        .variable("KEEPALIVE_SEC", "1")
        .start();
    let mut early = server.connect();
    early.send("GET /subscribe/raw HTTP/1.1\r\nHost: a\r\n\r\n");
    early.shut_down_write();
    let mut subscribers = [
        Subscriber::begin(early),
        server.subscribe("/subscribe/raw"),
        server.subscribe_http_10("/subscribe/raw"),
    ];
    for subscriber in &mut subscribers[1..] {
        subscriber.connection().shut_down_write();
    }
    let mut client = redis.client();
    for number in 0..100 {
        let id = format!("{number:X}");
        client.publish(SCORES, &id);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.next_event(), Event::message(&id));
        }
    }
    drop(subscribers);
    server.wait_for_connections(0);
}

#[test]
fn resets_do_not_disturb_others() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut stays = server.subscribe("/subscribe/raw");
    let mut client = redis.client();
    for round in 0..20 {
        let paths = [
            "/subscribe/raw",
            "/subscribe/eps",
            "/subscribe/details/1F4C2",
        ];
        let leavers = paths.map(|path| server.subscribe(path));
        let mut unanswered = server.connect();
        unanswered.send("GET /admin/status.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut unfinished = server.connect();
        unfinished.send("GET /sub");
        client.publish(SCORES, format!("{round:X}A"));
        for leaver in leavers {
            leaver.reset();
        }
        unanswered.reset();
        unfinished.reset();
        client.publish(SCORES, format!("{round:X}B"));
        let expected = [format!("{round:X}A"), format!("{round:X}B")];
        assert_eq!(stays.next_data(2), expected);
    }
    server.wait_for_connections(1);
}
