//! The demo: a server without a broker generates realistic messages itself.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Event, ServerOptions, Subscriber, Sums, add_sums};

/// Whether this is a unified ID: hexadecimal code points joined by hyphens.
fn is_unified_id(id: &str) -> bool {
    id.split('-').all(|code| {
        let number = u32::from_str_radix(code, 16).ok();
        code.len() >= 4
            && code.to_ascii_uppercase() == code
            && number.and_then(char::from_u32).is_some()
    })
}

#[test]
fn all_streams_are_fed() {
    let server = ServerOptions::demo().start();
    let mut raw = server.subscribe("/subscribe/raw");
    for id in raw.next_data(100) {
        assert!(is_unified_id(&id), "{id}");
    }
    let mut eps = server.subscribe("/subscribe/eps");
    let mut sums = Sums::new();
    for data in eps.next_data(20) {
        add_sums(&mut sums, &data);
    }
    assert!(sums.keys().all(|id| is_unified_id(id)), "{sums:?}");
    let mut details = server.subscribe("/subscribe/details");
    let mut last = details.next_event();
    for _ in 0..50 {
        let event = details.next_event();
        expect_plausible_tweet(&event);
        assert_ne!(event, last);
        last = event;
    }
}

#[track_caller]
fn expect_plausible_tweet(event: &Event) {
    let id = event.name.strip_prefix("stream.tweet_updates.");
    let id = id.unwrap_or_else(|| panic!("{event:?}"));
    assert!(is_unified_id(id), "{event:?}");
    let tweet: Value = serde_json::from_str(&event.data).expect("JSON");
    let text = tweet["text"].as_str().expect("a text");
    let emoji: String = id
        .split('-')
        .filter_map(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?))
        .collect();
    assert!(text.contains(&emoji), "no {emoji} in {text:?}");
    let number = tweet["id"].as_str().expect("an ID");
    assert!(number.parse::<u64>().is_ok(), "{number}");
}

#[test]
fn the_details_of_one_emoji_are_fed() {
    let server = ServerOptions::demo().variable("DEMO_RATE", "5000").start();
    let mut raw = server.subscribe("/subscribe/raw");
    let id = raw.next_event().data;
    let mut details = server.subscribe(&format!("/subscribe/details/{id}"));
    for _ in 0..3 {
        let event = details.next_event();
        assert_eq!(event.name, format!("stream.tweet_updates.{id}"));
        expect_plausible_tweet(&event);
    }
}

#[test]
fn the_rate_is_as_asked_for() {
    let server = ServerOptions::demo().argument("--demo-rate=1000").start();
    let mut subscriber = server.subscribe("/subscribe/raw");
    subscriber.next_event();
    let started = Instant::now();
    subscriber.next_data(2_000);
    let elapsed = started.elapsed();
    let expected = Duration::from_millis(1_700)..Duration::from_millis(4_000);
    assert!(
        expected.contains(&elapsed),
        "{elapsed:?} for two seconds' worth"
    );
}

#[test]
fn a_seed_makes_the_same_updates_again() {
    let updates = |seed: &str| {
        let server = ServerOptions::demo().variable("DEMO_SEED", seed).start();
        server.subscribe("/subscribe/raw").next_data(50)
    };
    let first = updates("7");
    assert_eq!(updates("7"), first);
    assert_ne!(updates("8"), first);
}

#[test]
fn updates_come_at_once_on_a_connection_that_was_idle() {
    let server = ServerOptions::demo().start();
    let mut connection = server.connect();
    connection.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.read_reply().head.status(), 404);
    let started = Instant::now();
    let mut subscriber = Subscriber::open(connection, "/subscribe/eps");
    subscriber.next_event();
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(2), "after {elapsed:?}");
}

#[test]
fn updates_resume_for_the_next_client() {
    let server = ServerOptions::demo().start();
    for _ in 0..3 {
        let mut subscriber = server.subscribe("/subscribe/eps");
        subscriber.next_event();
        drop(subscriber);
        server.wait_for_connections(0);
    }
}

#[test]
fn the_cluster_is_this_node_with_as_many_connections_as_in_a_row() {
    let server = ServerOptions::demo()
        .variable("STATUS_CONNECTIONS_MAX", "2")
        .start();
    let subscribers: Vec<Subscriber> = (0..5).map(|_| server.subscribe("/subscribe/eps")).collect();
    let document = server.ask("GET", "/admin/cluster.json").json();
    assert_eq!(
        (&document["stale"], &document["malformed"]),
        (&0.into(), &0.into())
    );
    let nodes = document["nodes"].as_array().expect("a list");
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0]["node"], server.status()["node"]);
    assert_eq!(nodes[0]["connections_total"], subscribers.len());
    assert_eq!(nodes[0]["connections"].as_array().map(Vec::len), Some(2));
    assert_eq!(document["reported_at"], nodes[0]["reported_at"]);
}

#[test]
fn a_page_is_shown() {
    let server = ServerOptions::demo().start();
    let reply = server.ask("GET", "/");
    assert_eq!(reply.head.status(), 200);
    let field = |name: &str| reply.head.field(name);
    assert_eq!(field("Content-Type"), Some("text/html; charset=utf-8"));
    let page = reply.text();
    assert!(
        page.trim_start()
            .to_ascii_lowercase()
            .starts_with("<!doctype html>")
    );
    assert!(page.contains("EventSource"), "it shows no stream");
    let policy = field("Content-Security-Policy").expect("a policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
}
