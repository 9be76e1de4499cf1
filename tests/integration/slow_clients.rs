//! Slow clients: a client that does not read does not affect others, and receives correct events or is closed.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::redis::SCORES;
use crate::support::{
    Connection, DEADLINE, End, Event, Item, Redis, Server, ServerOptions, Subscriber, Sums,
    add_sums, redis_or_skip,
};

/// So small a buffer is full after a fraction of a second of updates.
const NARROW_BYTES: usize = 4 * 1024;

/// A subscriber that will not have been sent much more than it has read.
fn narrow_subscriber(server: &Server, path: &str) -> Subscriber {
    let connection = Connection::open_narrow(server.address(), NARROW_BYTES);
    let mut subscriber = Subscriber::open(connection, path);
    assert!(matches!(subscriber.next_item(), Item::Comment(_)));
    subscriber
}

/// How many updates are published a second, for how many seconds.
const RATE: usize = 1_000;
const SECONDS: usize = 10;
/// How many of them are published at a time.
const BATCH: usize = 20;

/// An emoji with a long ID, one of a thousand, so that a second of updates is some 30 KB.
fn long_id(update: usize) -> String {
    format!("{:X}-FE0F-200D-1F469-200D-1F467", 0x1F300 + update % 1_000)
}

/// Publishes the updates, as evenly as the machine allows.
fn publish_evenly(redis: &Redis) {
    let mut client = redis.client();
    let started = Instant::now();
    for first in (0..RATE * SECONDS).step_by(BATCH) {
        let due = started + Duration::from_secs(1) * u32::try_from(first).expect("few") / 1_000;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        client.publish_all((first..first + BATCH).map(|update| (SCORES, long_id(update))));
    }
}

/// Reads until the sums are as expected; how many messages it took.
#[track_caller]
fn count_messages(subscriber: &mut Subscriber, expected: &Sums) -> usize {
    let mut messages = 0;
    let mut sums = Sums::new();
    while sums != *expected {
        add_sums(&mut sums, &subscriber.next_event().data);
        messages += 1;
        for (id, count) in &sums {
            assert!(
                expected.get(id) >= Some(count),
                "{id} was counted {count} times"
            );
        }
    }
    messages
}

#[test]
fn an_eps_reader_that_stalls_for_ten_seconds_has_the_right_sums_afterwards() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut stalled = narrow_subscriber(&server, "/subscribe/eps");
    let mut attentive = server.subscribe("/subscribe/eps");
    let mut expected = Sums::new();
    for update in 0..RATE * SECONDS {
        *expected.entry(long_id(update)).or_default() += 1;
    }
    let messages = thread::scope(|scope| {
        scope.spawn(|| publish_evenly(&redis));
        count_messages(&mut attentive, &expected)
    });
    assert!(messages > 100, "{messages} messages in ten seconds");
    // Who has not read until now gets the most of it as one sum.
    let caught_up = count_messages(&mut stalled, &expected);
    assert!(
        caught_up * 2 < messages,
        "{caught_up} messages for {messages}"
    );
    // From here on both get the same.
    redis.client().publish(SCORES, "2665");
    for subscriber in [&mut stalled, &mut attentive] {
        let expected = Event::message(r#"{"2665":1}"#);
        assert_eq!(subscriber.next_event(), expected);
    }
}

/// The smallest log there can be.
const SMALL_LOG: &str = "262144";

#[test]
fn a_raw_reader_past_the_log_is_closed_with_a_correct_prefix() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("LOG_BYTES_MAX", SMALL_LOG)
        .variable("VERBOSE", "true")
        .start();
    let mut stalled = narrow_subscriber(&server, "/subscribe/raw");
    let mut attentive = server.subscribe("/subscribe/raw");
    let mut bare = server.subscribe_http_10("/subscribe/raw");
    let mut client = redis.client();
    let payload = |number: usize| format!("{number}{:.>1000}", "");
    // A megabyte, in portions small enough for the clients that read.
    let count = 1_000;
    for first in (0..count).step_by(20) {
        client.publish_all((first..first + 20).map(|number| (SCORES, payload(number))));
        for number in first..first + 20 {
            for subscriber in [&mut attentive, &mut bare] {
                assert_eq!(subscriber.next_event(), Event::message(&payload(number)));
            }
        }
    }
    let (events, end) = stalled.read_to_end();
    assert_ne!(end, End::Proper, "an end within an event is no proper one");
    assert!((1..count / 2).contains(&events.len()), "{}", events.len());
    for (number, event) in events.into_iter().enumerate() {
        assert_eq!(event, Event::message(&payload(number)));
    }
    let line = server.wait_for_log("disconnect /subscribe/raw");
    assert!(line.ends_with("slow"), "{line}");
    client.publish(SCORES, "2665");
    for subscriber in [&mut attentive, &mut bare] {
        assert_eq!(subscriber.next_event(), Event::message("2665"));
    }
}

#[test]
fn an_eps_reader_past_the_log_is_closed_with_correct_sums() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("LOG_BYTES_MAX", SMALL_LOG)
        .variable("VERBOSE", "true")
        .start();
    let mut stalled = narrow_subscriber(&server, "/subscribe/eps");
    let mut attentive = server.subscribe("/subscribe/eps");
    let mut client = redis.client();
    let mut round_sums = Sums::new();
    for update in 0..200 {
        round_sums.insert(long_id(update), 5);
    }
    // A hundred thousand, of which the log keeps less than half: each takes four bytes.
    let (rounds, each) = (500, 5);
    for _ in 0..rounds / each {
        let updates = (0..200 * each as usize).map(|update| (SCORES, long_id(update % 200)));
        client.publish_all(updates);
        count_messages(&mut attentive, &round_sums);
    }
    let (events, end) = stalled.read_to_end();
    assert_ne!(end, End::Proper, "an end within an event is no proper one");
    let mut sums = Sums::new();
    for event in events {
        add_sums(&mut sums, &event.data);
    }
    let (least, most) = (sums.values().min(), sums.values().max());
    assert!(most.is_none_or(|most| *most < rounds), "{most:?}");
    // Updates came round after round: no emoji can be two rounds ahead of another.
    assert!(
        least.map(|least| least + 2) > most.copied(),
        "{least:?} to {most:?}"
    );
    let line = server.wait_for_log("disconnect /subscribe/eps");
    assert!(line.ends_with("slow"), "{line}");
    client.publish(SCORES, "2665");
    let expected = Event::message(r#"{"2665":1}"#);
    assert_eq!(attentive.next_event(), expected);
}

#[test]
fn a_reader_that_pauses_within_the_log_misses_nothing() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut paused = [
        narrow_subscriber(&server, "/subscribe/raw"),
        Subscriber::open_http_10(
            Connection::open_narrow(server.address(), NARROW_BYTES),
            "/subscribe/raw",
        ),
    ];
    let mut attentive = server.subscribe("/subscribe/raw");
    let payload = |number: usize| format!("{number}{:.>500}", "");
    let count = 2_000;
    let mut client = redis.client();
    client.publish_all((0..count).map(|number| (SCORES, payload(number))));
    for subscriber in [&mut attentive].into_iter().chain(&mut paused) {
        for number in 0..count {
            assert_eq!(subscriber.next_event(), Event::message(&payload(number)));
        }
    }
}

#[test]
fn a_client_that_asks_and_asks_and_does_not_read_is_closed() {
    let server = ServerOptions::demo().start();
    let before = server.memory_bytes_max();
    let mut greedy = Connection::open_narrow(server.address(), NARROW_BYTES);
    greedy.set_patience(Duration::from_millis(200));
    let requests = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    let started = Instant::now();
    let mut sent = 0;
    let error = loop {
        match greedy.try_send(&requests.as_bytes()[sent..]) {
            Ok(len) => sent = (sent + len) % requests.len(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => break error,
        }
        assert!(started.elapsed() < DEADLINE, "it is still heard");
    };
    let ends = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
    assert!(ends.contains(&error.kind()), "{error}");
    // Its requests waited in its own buffers, and never more than one reply in ours.
    let growth = server.memory_bytes_max() - before;
    assert!(growth < 2 * 1024 * 1024, "{growth} bytes");
}
