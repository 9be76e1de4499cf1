//! Positions on request: with `SSE_IDS` or `?ids=1`, each event of the emoji streams has its position, so that a client that was
//! cut off, however abruptly, comes back with it and receives what it missed, or is told that something is missing.

use crate::support::channels::{come_back, id_of};
use crate::support::redis::{SCORES, TWEETS};
use crate::support::sse::Item;
use crate::support::{Event, Redis, ServerOptions, Sums, add_sums, redis_or_skip};

const DETAILS: &str = "/subscribe/details/2665";

fn options(redis: &Redis) -> ServerOptions {
    ServerOptions::redis(redis).variable("SSE_IDS", "true")
}

/// The sum of so many updates, and the position behind it.
fn sum_of(subscriber: &mut crate::support::Subscriber, updates: u64) -> (Sums, String) {
    let (mut sums, mut id) = (Sums::new(), String::new());
    while sums.values().sum::<u64>() < updates {
        let event = subscriber.next_event();
        add_sums(&mut sums, &event.data);
        id = event.id;
    }
    (sums, id)
}

#[test]
fn whether_events_have_ids_is_for_the_client_to_say() {
    let Some(redis) = redis_or_skip() else { return };
    let table = [
        ("false", "", false),
        ("false", "?ids=1", true),
        ("false", "?ids=true", true),
        ("false", "?ids=yes", false),
        ("true", "", true),
        ("true", "?ids=0", false),
        ("true", "?ids=false", false),
        ("true", "?ids=", true),
    ];
    for enabled in ["false", "true"] {
        let server = ServerOptions::redis(&redis)
            .variable("SSE_IDS", enabled)
            .start();
        for (_, query, expected) in table.iter().filter(|row| row.0 == enabled) {
            let path = format!("/subscribe/raw{query}");
            let mut subscriber = server.subscribe(&path);
            redis.client().publish(SCORES, "2665");
            let id = subscriber.next_event().id;
            let text = subscriber.text();
            let expected = match expected {
                true => format!("data:2665\nid:{id}\n\n"),
                false => ":\ndata:2665\n\n".to_owned(),
            };
            assert!(text.ends_with(&expected), "{enabled} {path}: {text:?}");
        }
    }
}

#[test]
fn clients_that_were_cut_off_receive_what_they_missed() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let paths = ["/subscribe/raw", "/subscribe/eps", DETAILS];
    let mut client = redis.client();
    let [mut raw, mut eps, mut details] = paths.map(|path| server.subscribe(path));
    client.publish(SCORES, "A");
    client.publish(format!("{TWEETS}2665"), "1");
    let ids = [
        raw.next_event().id,
        sum_of(&mut eps, 1).1,
        details.next_event().id,
    ];
    for subscriber in [raw, eps, details] {
        subscriber.reset();
    }
    for score in ["B", "A", "B"] {
        client.publish(SCORES, score);
    }
    for tweet in ["2", "3"] {
        client.publish(format!("{TWEETS}2665"), tweet);
    }
    let back = |index: usize| come_back(&server, paths[index], &ids[index]);
    assert_eq!(back(0).next_data(3), ["B", "A", "B"]);
    let expected = Sums::from([("A".to_owned(), 1), ("B".to_owned(), 2)]);
    assert_eq!(sum_of(&mut back(1), 3).0, expected);
    assert_eq!(back(2).next_data(2), ["2", "3"]);
    // The query is for clients that cannot send the field, in both spellings; the field wins.
    for name in ["lastEventId", "lastEventID"] {
        let path = format!("{DETAILS}?{name}={}", ids[2]);
        let mut subscriber = server.subscribe(&path);
        let second = subscriber.next_event();
        assert_eq!(second.data, "2", "{path}");
        let mut subscriber = come_back(&server, &path, &second.id);
        assert_eq!(subscriber.next_data(1), ["3"], "{path}");
    }
}

#[test]
fn whoever_cannot_be_given_what_is_missing_is_told() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    for path in ["/subscribe/raw", "/subscribe/eps", DETAILS] {
        let mut subscriber = come_back(&server, path, "1-1");
        let gap = subscriber.next_event();
        assert_eq!((gap.name.as_str(), gap.data.as_str()), ("gap", "null"));
        let expected = format!(":\nevent: gap\ndata: null\nid:{}\n\n", gap.id);
        assert_eq!(subscriber.text(), expected, "{path}");
        // Without ids, a stream begins with what is new, and its client forgets its position.
        let mut subscriber = come_back(&server, &format!("{path}?ids=0"), "1-1");
        assert_eq!(id_of(&mut subscriber), "");
        assert_eq!(subscriber.text(), ":\nid:\n\n", "{path}");
    }
}

#[test]
fn a_message_that_cannot_be_sent_is_a_gap() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let tweets = format!("{TWEETS}2665");
    let table = [
        ("/subscribe/raw", SCORES, "A"),
        ("/subscribe/eps", SCORES, r#"{"A":1}"#),
        (DETAILS, tweets.as_str(), "A"),
    ];
    for (path, channel, data) in table {
        let mut subscriber = server.subscribe(path);
        let mut without = server.subscribe(&format!("{path}?ids=0"));
        redis.client().publish(channel, b"\xff");
        let gap = subscriber.next_event();
        assert_eq!((gap.name.as_str(), gap.data.as_str()), ("gap", "null"));
        redis.client().publish(channel, "A");
        assert_eq!(subscriber.next_event().data, data, "{path}");
        let Event { data: first, .. } = without.next_event();
        assert_eq!(first, data, "{path} without ids");
    }
}

#[test]
fn a_silent_stream_keeps_its_position_fresh() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("KEEPALIVE_SEC", "1").start();
    let mut subscriber = server.subscribe(DETAILS);
    let mut other = server.subscribe("/subscribe/raw");
    let first = id_of(&mut subscriber);
    redis.client().publish(SCORES, "A");
    assert_eq!(other.next_event().data, "A");
    while subscriber.last_event_id() == Some(first.as_str()) {
        subscriber.receive();
    }
    let text = subscriber.text();
    let id = subscriber.last_event_id().expect("a position");
    assert!(text.ends_with(&format!(":\nid:{id}\n\n")), "{text:?}");
    assert!(!matches!(subscriber.next_item(), Item::Event(_)));
}
