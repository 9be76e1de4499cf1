//! Replay: nothing is lost across a forced close. A client that reconnects with its id gets what it missed, exactly
//! once, and forgets the id; one with an invalid id gets only new messages.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::redis::{SCORES, TWEETS};
use crate::support::resp::RedisClient;
use crate::support::returning::{IdIn, Returning};
use crate::support::{
    Connection, End, Event, Redis, Server, ServerOptions, Subscriber, Sums, add_sums, redis_or_skip,
};

/// Clients of each kind; there are eight kinds.
const CLIENTS_PER_KIND: usize = 8;
/// Forced closes in the whole of the long test, at least.
const FORCED_MIN: usize = 1_000;
/// How long it may take to see so many of them.
const PATIENCE: Duration = Duration::from_secs(120);
/// Updates in one burst, and the pause behind it: some four hundred a second, as the feeder sends.
const BURST: usize = 4;
const PAUSE: Duration = Duration::from_millis(10);

/// The ID in an update. The order has no short period, so that a lost one shows at once.
fn emoji(update: usize) -> String {
    let mixed = (update as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    format!("{:X}", 0x1F600 + (mixed >> 40) % 30)
}

fn tweet(update: usize) -> String {
    format!(r#"{{"number":{update},"id":"{}"}}"#, emoji(update))
}

/// The ID that half of the clients of details want.
fn wanted() -> String {
    emoji(0)
}

fn options(redis: &Redis) -> ServerOptions {
    ServerOptions::redis(redis)
        .variable("SSE_FORCE_REFRESH", "true")
        .variable("SSE_SCORE_FORCECLOSE_SEC", "1")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "1")
}

/// What the publisher and the clients of the long test tell each other.
struct Progress {
    ready: Barrier,
    forced: AtomicUsize,
    /// Set by a client that has failed, so that others do not wait for it.
    failed: AtomicBool,
    /// How many updates there were, once there are no more.
    published: OnceLock<usize>,
}

impl Progress {
    /// Whether a client that expects this update next has had them all.
    fn is_over(&self, next: usize) -> bool {
        self.published.get() == Some(&next)
    }
}

/// Publishes until there were enough forced closes, and the end of it.
fn publish(redis: &Redis, progress: &Progress) {
    let mut client = redis.client();
    let started = Instant::now();
    let mut update = 0;
    while progress.forced.load(Ordering::Relaxed) < FORCED_MIN
        && !progress.failed.load(Ordering::Relaxed)
    {
        let forced = progress.forced.load(Ordering::Relaxed);
        assert!(started.elapsed() < PATIENCE, "only {forced} forced closes");
        for _ in 0..BURST {
            publish_one(&mut client, update);
            update += 1;
        }
        thread::sleep(PAUSE);
    }
    progress.published.set(update).expect("no end before");
    // One more, by which each client knows that there will be none.
    client.publish(SCORES, "END");
    client.publish(format!("{TWEETS}{}", wanted()), "END");
}

fn publish_one(client: &mut RedisClient, update: usize) {
    let id = emoji(update);
    client.publish(SCORES, &id);
    client.publish(format!("{TWEETS}{id}"), tweet(update));
}

/// Reads until the end, and compares everything.
fn follow(mut client: Returning, kind: usize, progress: &Progress) {
    progress.ready.wait();
    let mut next = 0;
    let mut forced = 0;
    let mut sums = Sums::new();
    loop {
        let event = client.next_event();
        progress
            .forced
            .fetch_add(client.forced - forced, Ordering::Relaxed);
        forced = client.forced;
        match kind % 4 {
            0 => {
                add_sums(&mut sums, &event.data);
                if sums.contains_key("END") {
                    break;
                }
                continue;
            }
            _ if event.data == "END" => break,
            1 => assert_eq!(event.data, emoji(next), "update {next}"),
            2 => assert_eq!(event.data, tweet(next), "update {next}"),
            _ => {
                while emoji(next) != wanted() {
                    next += 1;
                }
                assert_eq!(event.data, tweet(next), "update {next}");
                assert_eq!(event.name, format!("{TWEETS}{}", wanted()));
            }
        }
        next += 1;
    }
    let published = *progress.published.get().expect("the end was published");
    match kind % 4 {
        0 => {
            let mut expected = Sums::from([("END".to_owned(), 1)]);
            for update in 0..published {
                *expected.entry(emoji(update)).or_default() += 1;
            }
            assert_eq!(sums, expected);
        }
        3 => {
            let missed = (next..published).find(|&update| emoji(update) == wanted());
            assert_eq!(missed, None);
        }
        _ => assert!(progress.is_over(next), "{next} of {published}"),
    }
}

#[test]
fn nothing_is_lost_or_doubled_over_a_thousand_forced_closes() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_RETRY_MS", "30")
        .variable("SSE_DETAIL_RETRY_MS", "60")
        .start();
    let count = 8 * CLIENTS_PER_KIND;
    let progress = Progress {
        ready: Barrier::new(count + 1),
        forced: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
        published: OnceLock::new(),
    };
    let details = format!("/subscribe/details/{}", wanted());
    let paths = [
        "/subscribe/eps",
        "/subscribe/raw",
        "/subscribe/details",
        &details,
    ];
    thread::scope(|scope| {
        let (server, progress) = (&server, &progress);
        for number in 0..count {
            let (kind, path) = (number % 8, paths[number % 4]);
            let id_in = if kind < 4 { IdIn::Header } else { IdIn::Query };
            scope.spawn(move || {
                let client = Returning::subscribe(server.address(), path, id_in);
                let followed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    follow(client, kind, progress);
                }));
                if let Err(failure) = followed {
                    progress.failed.store(true, Ordering::Relaxed);
                    std::panic::resume_unwind(failure);
                }
            });
        }
        progress.ready.wait();
        publish(&redis, progress);
    });
    let forced = progress.forced.load(Ordering::Relaxed);
    assert!(forced >= FORCED_MIN, "{forced} forced closes");
}

/// Follows a stream to its forced end, and returns the id that it leaves behind.
#[track_caller]
fn id_after_forced_close(subscriber: &mut Subscriber) -> String {
    let (_, end) = subscriber.read_to_end();
    assert_eq!(end, End::Proper);
    subscriber.last_event_id().expect("an id").to_owned()
}

/// Publishes messages, and waits until the server has sent them to somebody else: only then are they what
/// was missed, and not what is new.
#[track_caller]
fn publish_as_missed<D: AsRef<str>>(server: &Server, redis: &Redis, path: &str, payloads: &[D]) {
    let mut witness = server.subscribe(path);
    let channel = match path.strip_prefix("/subscribe/details/") {
        Some(id) => format!("{TWEETS}{id}"),
        None => SCORES.to_owned(),
    };
    let payloads = payloads.iter().map(AsRef::as_ref);
    redis
        .client()
        .publish_all(payloads.clone().map(|payload| (&channel, payload)));
    for payload in payloads {
        assert_eq!(witness.next_event().data, payload);
    }
}

fn come_back(server: &Server, path: &str, id: &str) -> Subscriber {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n");
    Subscriber::request(server.connect(), request.as_bytes())
}

/// Makes sure that a stream that somebody has come back to with this id replays nothing, clears the id,
/// and works.
#[track_caller]
fn expect_fresh_start(mut subscriber: Subscriber, redis: &Redis, what: &str) {
    redis.client().publish(SCORES, "FRESH");
    assert_eq!(subscriber.next_event(), Event::message("FRESH"), "{what}");
    let text = subscriber.text();
    let expected = "retry:100\nid:\n\ndata:FRESH\nid:\n\n";
    assert_eq!(text, expected, "{what}");
    assert_eq!(subscriber.last_event_id(), Some(""), "{what}");
}

#[test]
fn what_was_missed_comes_first_and_then_the_id_is_cleared() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_SCORE_FORCECLOSE_SEC", "2")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "2")
        .start();
    let details = format!("{TWEETS}2665");
    let paths = [
        "/subscribe/raw",
        "/subscribe/eps",
        "/subscribe/details/2665",
    ];
    let mut subscribers = paths.map(|path| server.subscribe(path));
    let ids = subscribers.each_mut().map(id_after_forced_close);
    let mut client = redis.client();
    client.publish(format!("{TWEETS}2666"), "of another emoji");
    publish_as_missed(&server, &redis, paths[2], &["1", "2"]);
    let mut witness = server.subscribe("/subscribe/eps");
    publish_as_missed(&server, &redis, paths[0], &["A", "B", "A"]);
    let mut sums = Sums::new();
    while sums.values().sum::<u64>() < 3 {
        add_sums(&mut sums, &witness.next_event().data);
    }

    let [mut raw, mut eps, mut detail] =
        std::array::from_fn(|index| come_back(&server, paths[index], &ids[index]));
    assert_eq!(raw.next_data(3), ["A", "B", "A"]);
    // All that was missed is one message, however many ticks it came in.
    let mut sums = Sums::new();
    add_sums(&mut sums, &eps.next_event().data);
    let expected = [("A", 2), ("B", 1)].map(|(id, count)| (id.to_owned(), count));
    assert_eq!(sums, Sums::from(expected));
    assert_eq!(detail.next_data(2), ["1", "2"]);

    // What is new has no id: the page has forgotten the one it came with.
    client.publish(SCORES, "C");
    client.publish(&details, "3");
    assert_eq!(raw.next_event(), Event::message("C"));
    assert_eq!(eps.next_event(), Event::message(r#"{"C":1}"#));
    assert_eq!(detail.next_event(), Event::new(&details, "3"));
    for (subscriber, first) in [(&raw, "retry:100"), (&eps, "retry:100")] {
        let text = subscriber.text();
        assert!(text.starts_with(first), "{text:?}");
        assert_eq!(text.matches("\nid:\n\n").count(), 1, "{text:?}");
    }
    assert_eq!(raw.last_event_id(), Some(""));
}

#[test]
fn http_10_clients_are_replayed_to_as_well() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut first = server.subscribe_http_10("/subscribe/raw");
    let id = id_after_forced_close(&mut first);
    publish_as_missed(&server, &redis, "/subscribe/raw", &["A"]);
    for request in [
        format!("GET /subscribe/raw HTTP/1.0\r\nLast-Event-ID: {id}\r\n\r\n"),
        format!("GET /subscribe/raw?lastEventId={id} HTTP/1.0\r\n\r\n"),
        format!("GET /subscribe/raw?token=t&lastEventId={id} HTTP/1.0\r\n\r\n"),
    ] {
        let mut second = Subscriber::request(server.connect(), request.as_bytes());
        assert_eq!(second.next_event().data, "A", "{request}");
    }
}

#[test]
fn a_client_that_missed_nothing_only_forgets_its_id() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut first = server.subscribe("/subscribe/raw");
    redis.client().publish(SCORES, "SEEN");
    let id = id_after_forced_close(&mut first);
    expect_fresh_start(
        come_back(&server, "/subscribe/raw", &id),
        &redis,
        "nothing was missed",
    );
}

#[test]
fn invalid_ids_replay_nothing() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut first = server.subscribe("/subscribe/raw");
    let id = id_after_forced_close(&mut first);
    let (epoch, number) = id.split_once('-').expect("an epoch and a number");
    let epoch_number = u64::from_str_radix(epoch, 16).expect("an epoch");
    let number: u64 = number.parse().expect("a number");
    publish_as_missed(&server, &redis, "/subscribe/raw", &["MISSED"]);
    let table = [
        format!("{:x}-{number}", epoch_number ^ 1),
        format!("0-{number}"),
        format!("{epoch}-{}", number + 1_000_000),
        format!("{epoch}-{}", u64::MAX),
        format!("{epoch}-99999999999999999999999999"),
        format!("{epoch}-"),
        format!("{epoch}-+{number}"),
        format!("{epoch}-{number}-{number}"),
        epoch.to_owned(),
        "-".to_owned(),
        "-1".to_owned(),
        "42".to_owned(),
        "null".to_owned(),
        "undefined".to_owned(),
        "'; drop table".to_owned(),
        "\u{1F4C2}".to_owned(),
        "x".repeat(4_000),
    ];
    for id in &table {
        let subscriber = come_back(&server, "/subscribe/raw", id);
        expect_fresh_start(subscriber, &redis, id);
    }
    // In a URL it is no different.
    for query in [
        "lastEventId=42",
        "lastEventId=%00%0A",
        "lastEventId=1-2-3",
        "token=t&lastEventId=-",
    ] {
        let subscriber = server.subscribe(&format!("/subscribe/raw?{query}"));
        expect_fresh_start(subscriber, &redis, query);
    }
    // An id that is empty is none at all: there is nothing to be forgotten.
    let mut plain = server.subscribe("/subscribe/raw?lastEventId=");
    redis.client().publish(SCORES, "FRESH");
    plain.next_event();
    assert_eq!(plain.text(), "retry:100\ndata:FRESH\n\n");
}

#[test]
fn bytes_that_are_no_text_are_no_id() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut connection = server.connect();
    connection.send(
        b"GET /subscribe/raw HTTP/1.1\r\nHost: a\r\nLast-Event-ID: \xff\xfe\r\n\r\n".as_slice(),
    );
    let mut subscriber = Subscriber::begin(connection);
    redis.client().publish(SCORES, "FRESH");
    assert_eq!(subscriber.next_event(), Event::message("FRESH"));
}

#[test]
fn what_is_not_kept_any_more_is_not_replayed_in_part() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("LOG_BYTES_MAX", "262144")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "300")
        .start();
    let mut first = server.subscribe("/subscribe/raw");
    let id = id_after_forced_close(&mut first);
    publish_as_missed(&server, &redis, "/subscribe/raw", &["MISSED"]);
    let mut client = redis.client();
    // Somebody reads along, so that all this has its place in the log, which it fills twice over.
    let mut reader = server.subscribe("/subscribe/details");
    let tweet = "x".repeat(1_000);
    for _ in 0..6 {
        client.publish_all((0..100).map(|_| (format!("{TWEETS}2665"), &tweet)));
        reader.next_data(100);
    }
    publish_as_missed(&server, &redis, "/subscribe/raw", &["MISSED"]);
    expect_fresh_start(
        come_back(&server, "/subscribe/raw", &id),
        &redis,
        "the log went on",
    );
}

#[test]
fn an_id_of_an_earlier_process_replays_nothing() {
    let Some(redis) = redis_or_skip() else { return };
    let before = options(&redis).start();
    let mut first = before.subscribe("/subscribe/raw");
    let id = id_after_forced_close(&mut first);
    drop(before);
    let after = options(&redis).start();
    expect_fresh_start(
        come_back(&after, "/subscribe/raw", &id),
        &redis,
        "another process",
    );
}

#[test]
fn a_client_that_is_cut_off_in_a_replay_goes_on_where_it_was() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "2")
        .start();
    let path = "/subscribe/details/2665";
    let mut first = server.subscribe(path);
    let mut id = id_after_forced_close(&mut first);
    // More than a small window takes at once, so that the replay is under way when the client goes.
    let tweets: Vec<String> = (0..400)
        .map(|number| format!("{number:04}{}", "x".repeat(1_000)))
        .collect();
    publish_as_missed(&server, &redis, path, &tweets);
    let mut received = Vec::new();
    let mut connections = 0;
    while received.len() < tweets.len() {
        let connection = Connection::open_narrow(server.address(), 4 * 1024);
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n");
        let mut subscriber = Subscriber::request(connection, request.as_bytes());
        for _ in 0..100 {
            let event = subscriber.next_event();
            received.push(event.data);
            id = event.id;
        }
        connections += 1;
        subscriber.reset();
    }
    assert_eq!(connections, 4);
    assert_eq!(received, tweets);
}
