//! Replay on channels: every message has an id, so that an abrupt disconnect loses nothing. A client that reconnects
//! with its last id first gets what it missed, exactly once, or one `gap` if that is no longer available.

use std::thread;
use std::time::Duration;

use crate::support::channels::{
    come_back, embedded, id_of, options, publish, publish_over, wait_for_subscribers,
};
use crate::support::redis::SCORES;
use crate::support::server::SUBSCRIBED;
use crate::support::{Event, Server, Subscriber, redis_or_skip, wait_until};

/// What a stream begins with that continues nothing.
#[track_caller]
fn expect_gap(mut subscriber: Subscriber, server: &Server, what: &str) {
    let event = subscriber.next_event();
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("gap", "null"),
        "{what}"
    );
    let id = event.id;
    let expected = format!(":\nevent: gap\ndata: null\nid: {id}\n\n");
    assert_eq!(subscriber.text(), expected, "{what}");
    // Only once: the client can resume from the new id.
    drop(subscriber);
    let mut subscriber = come_back(server, "/?channels=a", &id);
    publish(server, "a", "after");
    let event = subscriber.next_event();
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("message", "after"),
        "{what}"
    );
}

/// Makes sure that the stream continues with this message.
#[track_caller]
fn expect_message(subscriber: &mut Subscriber, data: &str) -> String {
    let event = subscriber.next_event();
    assert_eq!(
        (event.name.as_str(), event.data.as_str()),
        ("message", data)
    );
    event.id
}

#[test]
fn an_abrupt_disconnect_loses_nothing() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut client = redis.client();
    let mut first = server.subscribe("/?channels=a");
    client.publish("a", "0");
    client.publish("a", "1");
    let id = expect_message(&mut first, "0");
    // It has the second on its way, and never looks at it.
    first.reset();
    client.publish("a", "2");
    for path in [
        format!("/?channels=a&lastEventId={id}"),
        format!("/subscribe/channels/a?lastEventId={id}"),
    ] {
        let mut second = server.subscribe(&path);
        assert_eq!(second.next_data(2), ["1", "2"], "{path}");
    }
    let mut second = come_back(&server, "/?channels=a", &id);
    client.publish("a", "3");
    assert_eq!(second.next_data(3), ["1", "2", "3"]);
    let id = second.last_event_id().expect("an id").to_owned();
    let text = second.text();
    assert!(text.starts_with(":\ndata: 1\nid: "), "{text:?}");
    assert!(!text.contains("gap"), "{text:?}");
    // Who has everything gets what is new, and nothing else.
    second.reset();
    let mut third = come_back(&server, "/?channels=a", &id);
    client.publish("a", "4");
    expect_message(&mut third, "4");
}

#[test]
fn a_stream_without_a_message_has_a_place_to_come_back_to() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut client = redis.client();
    for http_10 in [false, true] {
        let mut first = match http_10 {
            true => server.subscribe_http_10("/?channels=a,b"),
            false => server.subscribe("/?channels=a,b"),
        };
        let id = id_of(&mut first);
        first.reset();
        client.publish("a", "1");
        client.publish("b", "2");
        let mut second = come_back(&server, "/?channels=b,a", &id);
        assert_eq!(second.next_data(2), ["1", "2"]);
    }
}

#[test]
fn other_channels_continue_from_the_same_id() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut client = redis.client();
    let _witness = server.subscribe("/?channels=c");
    let mut both = server.subscribe("/?channels=a,b");
    let id = id_of(&mut both);
    both.reset();
    for (channel, message) in [("a", "1"), ("b", "2"), ("c", "3"), ("b", "4"), ("a", "5")] {
        client.publish(channel, message);
    }
    let table: [(&str, &[&str]); 6] = [
        ("/?channels=a", &["1", "5"]),
        ("/?channels=b", &["2", "4"]),
        ("/?channels=c", &["3"]),
        ("/?channels=c,b", &["2", "3", "4"]),
        ("/?channels=a,b,c", &["1", "2", "3", "4", "5"]),
        ("/subscribe?ns=/channels/c&ns=/channels/a", &["1", "3", "5"]),
    ];
    for (path, expected) in table {
        let mut subscriber = come_back(&server, path, &id);
        assert_eq!(subscriber.next_data(expected.len()), expected, "{path}");
    }
    // Nothing is known about a channel that had no subscribers.
    let mut subscriber = come_back(&server, "/?channels=a,d", &id);
    assert_eq!(subscriber.next_event().name, "gap");
}

#[test]
fn an_id_that_cannot_be_resumed_is_a_gap() {
    let server = embedded().start();
    let mut first = server.subscribe("/?channels=a");
    let id = id_of(&mut first);
    publish(&server, "a", "1");
    expect_message(&mut first, "1");
    let (epoch, number) = id.split_once('-').expect("an epoch and a number");
    let other = u64::from_str_radix(epoch, 16).expect("an epoch") ^ 1;
    let table = [
        format!("{other:x}-{number}"),
        format!("{epoch}-1000000"),
        format!("{epoch}-{}", u64::MAX),
        format!("{epoch}-99999999999999999999999"),
        format!("{epoch}-x"),
        format!("{epoch}-"),
        "-".to_owned(),
        "1".to_owned(),
        "undefined".to_owned(),
        "\u{2764}".to_owned(),
        "x".repeat(4_000),
    ];
    for id in &table {
        expect_gap(come_back(&server, "/?channels=a", id), &server, id);
    }
    let subscriber = server.subscribe("/?channels=a&lastEventId=null");
    expect_gap(subscriber, &server, "a query");
    // An empty one is none.
    let mut subscriber = come_back(&server, "/?channels=a", "");
    publish(&server, "a", "new");
    expect_message(&mut subscriber, "new");
    // It is the same where other streams come with it.
    let mut both = come_back(&server, "/subscribe?ns=/channels/a&ns=/eps", "1-1");
    assert_eq!(both.next_event().name, "gap");
}

#[test]
fn http_10_clients_receive_gaps_too() {
    let server = embedded().start();
    let request = "GET /?channels=a HTTP/1.0\r\nLast-Event-ID: 1-1\r\n\r\n";
    let subscriber = Subscriber::request(server.connect(), request.as_bytes());
    expect_gap(subscriber, &server, "over HTTP/1.0");
}

#[test]
fn messages_without_a_subscription_are_a_gap() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("REPLAY_SEC", "1").start();
    let mut first = server.subscribe("/?channels=a");
    redis.client().publish("a", "1");
    let id = expect_message(&mut first, "1");
    first.reset();
    wait_for_subscribers(&redis, "a", 0);
    // Nothing else came meanwhile: what may be missing is known by the channel alone.
    let answer = redis.client().command("PUBLISH a missed");
    assert_eq!(answer, crate::support::resp::Value::Integer(0));
    expect_gap(come_back(&server, "/?channels=a", &id), &server, "too late");
}

#[test]
fn what_came_while_redis_was_away_is_a_gap() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = options(&redis).start();
    let mut stays = server.subscribe("/?channels=a");
    redis.client().publish("a", "1");
    let before = expect_message(&mut stays, "1");
    redis.kill();
    server.wait_for_log("; trying");
    let mut during = server.subscribe("/?channels=a");
    let while_away = id_of(&mut during);
    redis.restart();
    server.wait_for_log_count(SUBSCRIBED, 2);
    wait_for_subscribers(&redis, "a", 1);
    // Commands go over another connection, which may come back later.
    wait_until("messages are taken again", || {
        publish_over(&mut server.connect(), "channel=b&message=x") == 200
    });
    let back = [&before, &while_away].map(|id| come_back(&server, "/?channels=a", id));
    redis.client().publish("a", "after");
    // All of them are told once, those who have stayed and those who come back.
    for mut subscriber in back.into_iter().chain([stays, during]) {
        assert_eq!(subscriber.next_event().name, "gap");
        assert_eq!(subscriber.next_data(1), ["after"]);
    }
}

#[test]
fn whoever_waits_while_redis_is_away_is_told_once_when_it_is_back() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = options(&redis).variable("KEEPALIVE_SEC", "50").start();
    let mut with_ids = server.subscribe("/subscribe/eps?ids=1");
    let without_ids = server.subscribe("/subscribe/eps");
    let mut poll = server.connect();
    poll.send("GET /?channels=a HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n\r\n");
    wait_for_subscribers(&redis, "a", 1);
    for times in 2..4 {
        redis.kill();
        server.wait_for_log_count("; trying", times - 1);
        redis.restart();
        server.wait_for_log_count(SUBSCRIBED, times);
        assert_eq!(with_ids.next_event().name, "gap");
        let text = poll.read_reply().text();
        let block = text.strip_prefix("event: gap\ndata: null\nid: ");
        let id = block.expect("a gap with its position").trim_end();
        poll.send(format!(
            "GET /?channels=a HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\nLast-Event-ID: {id}\r\n\r\n"
        ));
        wait_for_subscribers(&redis, "a", 1);
    }
    let mut client = redis.client();
    client.publish(SCORES, "A");
    client.publish("a", "1");
    for mut subscriber in [with_ids, without_ids] {
        assert_eq!(subscriber.next_event().data, r#"{"A":1}"#);
    }
    let text = poll.read_reply().text();
    assert!(text.starts_with("data: 1\nid: "), "{text:?}");
}

#[test]
fn what_the_log_has_no_more_is_a_gap() {
    let server = embedded().variable("LOG_BYTES_MAX", "262144").start();
    let mut first = server.subscribe("/?channels=a");
    publish(&server, "a", "1");
    let old = expect_message(&mut first, "1");
    // Two channels: the bound is for all together.
    let _reader = server.subscribe("/?channels=b");
    let mut publisher = server.connect();
    let form = format!("channel=b&message={}", "x".repeat(1_000));
    publish(&server, "a", "2");
    for _ in 0..300 {
        assert_eq!(publish_over(&mut publisher, &form), 200);
    }
    publish(&server, "a", "3");
    expect_gap(
        come_back(&server, "/?channels=a", &old),
        &server,
        "pushed over",
    );
    // What is not older than the log is there all the same.
    assert_eq!(first.next_event().data, "2");
    let recent = expect_message(&mut first, "3");
    first.reset();
    publish(&server, "a", "4");
    let mut second = come_back(&server, "/?channels=a", &recent);
    assert_eq!(second.next_data(2), ["after", "4"]);
}

#[test]
fn a_process_before_is_a_gap() {
    let Some(redis) = redis_or_skip() else { return };
    let before = options(&redis).start();
    let id = id_of(&mut before.subscribe("/?channels=a"));
    drop(before);
    let server = options(&redis).start();
    expect_gap(
        come_back(&server, "/?channels=a", &id),
        &server,
        "another process",
    );
}

/// Clients that break off again and again, and messages a client gets.
const CLIENTS: usize = 12;
const MESSAGES: usize = 2_000;

/// Follows two channels over many connections, each of which it leaves with a reset, and expects every message.
fn follow(server: &Server, seed: usize, first: Subscriber) -> usize {
    let paths = ["/?channels=a,b", "/?channels=b&channels=a&event=channel"];
    let path = paths[seed % 2];
    let mut subscriber = first;
    let mut next = 0;
    let mut connections = 1;
    while next < MESSAGES {
        // A few events each time, and sometimes none at all.
        for _ in 0..(next * 7 + seed * 13 + connections) % 23 {
            if next == MESSAGES {
                break;
            }
            let event: Event = subscriber.next_event();
            assert_eq!(event.data, next.to_string(), "client {seed}");
            next += 1;
        }
        let id = id_of(&mut subscriber);
        // What has come and was not looked at is before the id as well, as it would be for a browser.
        let seen = subscriber.take_events();
        for event in seen {
            assert_eq!(event.data, next.to_string(), "client {seed}");
            next += 1;
        }
        let id = subscriber.last_event_id().unwrap_or(&id).to_owned();
        subscriber.reset();
        subscriber = if connections % 2 == 0 {
            come_back(server, path, &id)
        } else {
            server.subscribe(&format!("{path}&lastEventId={id}"))
        };
        connections += 1;
    }
    connections
}

#[test]
fn nothing_is_lost_or_doubled_over_thousands_of_abrupt_disconnects() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let connections: usize = thread::scope(|scope| {
        let server = &server;
        let subscribe = |seed: usize| {
            let paths = ["/?channels=a,b", "/?channels=b&channels=a&event=channel"];
            (seed, server.subscribe(paths[seed % 2]))
        };
        let begun: Vec<(usize, Subscriber)> = (0..CLIENTS).map(subscribe).collect();
        let begin =
            |(seed, first): (usize, Subscriber)| scope.spawn(move || follow(server, seed, first));
        let threads: Vec<_> = begun.into_iter().map(begin).collect();
        let mut client = redis.client();
        for message in 0..MESSAGES {
            client.publish(["a", "b"][message % 2], message.to_string());
            // Some thousand a second: a pace, and not a wait for anything.
            thread::sleep(Duration::from_millis(1));
        }
        let ended = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .map(|connections| connections.expect("a client"))
            .sum()
    });
    assert!(connections > 1_000, "{connections} connections");
    wait_until("nobody is left", || server.connections().is_empty());
    wait_for_subscribers(&redis, "a", 0);
}
