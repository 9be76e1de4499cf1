//! Force refresh, for routers that hide disconnects: each family of streams has its own retry time and lifetime, and a
//! stream at the end of its lifetime sends its position.

use std::time::{Duration, Instant};

use crate::support::redis::{SCORES, TWEETS};
use crate::support::{
    End, Event, Item, Redis, Server, ServerOptions, Subscriber, redis_or_skip, wait_until,
};

/// How late anything may be on a machine that does much else.
const LATE: Duration = Duration::from_secs(3);

/// The paths of all streams, and whether each is one of scores.
const STREAMS: [(&str, bool); 5] = [
    ("/subscribe/eps", true),
    ("/subscribe/raw", true),
    ("/subscribe/details/2665", false),
    ("/subscribe/details", false),
    ("/subscribe/kiosk_interaction", false),
];

fn options(redis: &Redis) -> ServerOptions {
    ServerOptions::redis(redis)
        .variable("ENABLE_KIOSK_INTERACTION_STREAM", "true")
        .variable("SSE_FORCE_REFRESH", "true")
}

/// Whether the text is an event id: `<epoch>-<number>`.
fn is_event_id(text: &str) -> bool {
    let parts = text.split_once('-');
    parts.is_some_and(|(epoch, number)| {
        u64::from_str_radix(epoch, 16).is_ok() && number.parse::<u64>().is_ok()
    })
}

/// Makes sure that a stream that is over ended with a block that sets an id and dispatches nothing.
#[track_caller]
fn expect_farewell(subscriber: &Subscriber) {
    let text = subscriber.text();
    let blocks: Vec<&str> = text.split_terminator("\n\n").collect();
    let last = blocks.last().copied().unwrap_or_default();
    // Where no event came, it is the block that `retry:` has begun.
    let mut lines = last.lines().filter(|line| !line.starts_with("retry:"));
    let id = lines.next().and_then(|line| line.strip_prefix("id:"));
    assert!(text.ends_with("\n\n"), "{text:?}");
    assert_eq!(lines.next(), None, "{text:?} ends with {last:?}");
    assert!(id.is_some_and(is_event_id), "{text:?} ends with {last:?}");
    let ids = blocks.iter().filter(|block| block.contains("id:")).count();
    assert_eq!(ids, 1, "only the farewell has an id in {text:?}");
}

/// Both forms in which a stream can be asked for.
fn subscribe_twice(server: &Server, path: &str) -> [Subscriber; 2] {
    [server.subscribe(path), server.subscribe_http_10(path)]
}

#[test]
fn the_head_says_that_cleanups_are_asked_for() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let plain = ServerOptions::demo().start();
    let name = "X-Sse-Cleanup-Requested";
    for (path, _) in STREAMS {
        for subscriber in subscribe_twice(&server, path) {
            assert_eq!(subscriber.head.field(name), Some("true"), "{path}");
        }
        let mut connection = server.connect();
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(
            connection.read_head().field(name),
            Some("true"),
            "HEAD {path}"
        );
    }
    let without = plain.subscribe("/subscribe/eps");
    assert_eq!(without.head.field(name), None);
}

#[test]
fn the_first_bytes_are_the_pause_of_the_family() {
    let Some(redis) = redis_or_skip() else { return };
    let expect = |server: &Server, score_ms: u64, detail_ms: u64| {
        for (path, is_score) in STREAMS {
            let retry_ms = if is_score { score_ms } else { detail_ms };
            for mut subscriber in subscribe_twice(server, path) {
                assert_eq!(subscriber.next_item(), Item::Retry(retry_ms), "{path}");
                assert_eq!(subscriber.text(), format!("retry:{retry_ms}\n"), "{path}");
            }
        }
    };
    expect(&options(&redis).start(), 100, 500);
    let chosen = options(&redis)
        .variable("SSE_SCORE_RETRY_MS", "7")
        .variable("SSE_DETAIL_RETRY_MS", "0");
    expect(&chosen.start(), 7, 0);
    // One for all wins over each family's own, with and without force refresh.
    expect(
        &chosen.clone().variable("SSE_RECONNECT_MS", "9").start(),
        9,
        9,
    );
    let unforced = chosen
        .variable("SSE_RECONNECT", "11")
        .variable("SSE_FORCE_REFRESH", "false");
    expect(&unforced.start(), 11, 11);
}

#[test]
fn each_family_is_closed_within_the_last_fifth_of_its_own_lifetime() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "2")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "4")
        .variable("VERBOSE", "true")
        .start();
    std::thread::scope(|scope| {
        let server = &server;
        for (path, is_score) in STREAMS {
            for number in 0..12 {
                scope.spawn(move || {
                    let started = Instant::now();
                    let mut subscriber = match number % 2 {
                        0 => server.subscribe(path),
                        _ => server.subscribe_http_10(path),
                    };
                    let begun = Instant::now();
                    let (events, end) = subscriber.read_to_end();
                    assert_eq!((events, end), (Vec::new(), End::Proper), "{path}");
                    expect_farewell(&subscriber);
                    let longest = Duration::from_secs(if is_score { 2 } else { 4 });
                    // Seen from here, a stream begins after its request and before its head.
                    let (at_most, at_least) = (started.elapsed(), begun.elapsed());
                    assert!(
                        at_most >= longest * 4 / 5,
                        "{path} was closed after {at_most:?}"
                    );
                    assert!(
                        at_least <= longest + LATE,
                        "{path} was closed after {at_least:?}"
                    );
                });
            }
        }
    });
    server.wait_for_log_count(": lifetime", STREAMS.len() * 12);
    assert_eq!(server.connections().len(), 0);
    assert_eq!(server.count_log("disconnect "), STREAMS.len() * 12);
}

#[test]
fn lifetimes_of_clients_that_came_together_are_spread() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "5")
        .variable("VERBOSE", "true")
        .start();
    let subscribers: Vec<Subscriber> = (0..60)
        .map(|_| server.subscribe("/subscribe/eps"))
        .collect();
    server.wait_for_log_count(": lifetime", subscribers.len());
    // The lines say after how many tenths of a second each was closed.
    let log = server.log();
    let mut ages: Vec<&str> = log
        .iter()
        .filter_map(|line| line.split_once(" after ")?.1.strip_suffix(" s: lifetime"))
        .collect();
    ages.sort_unstable();
    ages.dedup();
    assert!(ages.len() >= 4, "all of sixty were closed after {ages:?} s");
}

#[test]
fn without_force_refresh_nothing_is_closed() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "1")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "1")
        .start();
    let mut subscribers =
        ["/subscribe/raw", "/subscribe/details/2665"].map(|path| server.subscribe(path));
    std::thread::sleep(Duration::from_millis(2_500));
    let mut client = redis.client();
    client.publish(SCORES, "2665");
    client.publish(format!("{TWEETS}2665"), "{}");
    for subscriber in &mut subscribers {
        subscriber.next_event();
        assert!(!subscriber.text().contains("id:"));
    }
    assert_eq!(server.connections().len(), subscribers.len());
}

#[test]
fn a_busy_stream_lasts_no_longer_and_ends_between_two_events() {
    let server = ServerOptions::demo()
        .variable("DEMO_RATE", "5000")
        .variable("SSE_FORCE_REFRESH", "true")
        .variable("SSE_SCORE_FORCECLOSE_SEC", "2")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "2")
        .start();
    for path in ["/subscribe/eps", "/subscribe/raw", "/subscribe/details"] {
        for mut subscriber in subscribe_twice(&server, path) {
            let begun = Instant::now();
            let (events, end) = subscriber.read_to_end();
            assert!(begun.elapsed() < Duration::from_secs(2) + LATE);
            assert!(events.len() > 30, "{} events", events.len());
            assert_eq!(end, End::Proper);
            expect_farewell(&subscriber);
        }
    }
    wait_until("all are gone", || server.connections().is_empty());
}

#[test]
fn the_id_block_stands_before_the_last_chunk_in_a_chunk_of_its_own() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "1")
        .start();
    let mut connection = server.connect();
    connection.send("GET /subscribe/raw HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.read_head();
    redis.client().publish(SCORES, "2665");
    let bytes = connection.read_to_end();
    let text = String::from_utf8_lossy(&bytes);
    let (rest, farewell) = text.rsplit_once("id:").expect("an id");
    assert!(rest.contains("data:2665\n\n\r\n"), "{text:?}");
    let id = farewell.strip_suffix("\n\n\r\n0\r\n\r\n");
    assert!(id.is_some_and(is_event_id), "{text:?}");
    let size = format!("{:x}\r\n", "id:\n\n".len() + id.map_or(0, str::len));
    assert!(rest.to_lowercase().ends_with(&size), "{text:?}");
}

#[test]
fn an_event_before_the_end_has_no_id() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "1")
        .start();
    let mut subscriber = server.subscribe("/subscribe/raw");
    redis.client().publish(SCORES, "2665");
    let (events, end) = subscriber.read_to_end();
    assert_eq!(events, [Event::message("2665")]);
    assert_eq!(end, End::Proper);
}
