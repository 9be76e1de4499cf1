//! Demand: the server subscribes to a channel with its first client, and unsubscribes some time after its last.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use crate::support::channels::{
    come_back, id_of, options, publication, publish, subscribers_of, wait_for_subscribers,
};
use crate::support::redis::is_installed_or_skip;
use crate::support::resp::Value;
use crate::support::server::SUBSCRIBED;
use crate::support::{Crowd, Redis, redis_or_skip, wait_until};

/// The channels with subscribers at Redis, except those of the emoji streams, in alphabetical order.
#[track_caller]
fn channels_at(redis: &Redis) -> Vec<String> {
    let Value::Array(names) = redis.client().command("PUBSUB CHANNELS") else {
        panic!("no list of channels");
    };
    let mut names: Vec<String> = names.iter().map(Value::text).collect();
    names.retain(|name| !name.starts_with("stream."));
    names.sort();
    names
}

#[track_caller]
fn patterns_at(redis: &Redis) -> i64 {
    match redis.client().command("PUBSUB NUMPAT") {
        Value::Integer(count) => count,
        other => panic!("{other:?} is no number"),
    }
}

#[test]
fn redis_is_asked_with_the_first_client_and_not_again_until_the_last_has_been_gone() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("REPLAY_SEC", "2").start();
    assert_eq!(channels_at(&redis), [""; 0]);
    let first = server.subscribe("/?channels=a,b");
    assert_eq!(channels_at(&redis), ["a", "b"]);
    let commands = commands_of(&redis, "subscribe");
    let second = server.subscribe("/?channels=b&event=channel");
    let third = server.subscribe("/subscribe?ns=/channels/a&ns=/eps");
    let mut client = redis.client();
    assert_eq!(subscribers_of(&mut client, "a"), 1);
    assert_eq!(subscribers_of(&mut client, "b"), 1);
    first.reset();
    third.reset();
    let left_at = Instant::now();
    wait_for_subscribers(&redis, "a", 0);
    let elapsed = left_at.elapsed();
    assert!(elapsed >= Duration::from_millis(1_900), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(6), "{elapsed:?}");
    assert_eq!(channels_at(&redis), ["b"]);
    drop(second);
    wait_for_subscribers(&redis, "b", 0);
    assert_eq!(channels_at(&redis), [""; 0]);
    assert_eq!(commands_of(&redis, "subscribe"), commands);
    assert_eq!(commands_of(&redis, "unsubscribe"), 2);
    // It begins anew.
    let mut subscriber = server.subscribe("/?channels=a");
    client.publish("a", "1");
    assert_eq!(subscriber.next_event().data, "1");
    assert_eq!(commands_of(&redis, "subscribe"), commands + 1);
}

/// How often a command was called.
#[track_caller]
fn commands_of(redis: &Redis, name: &str) -> u64 {
    let statistics = redis.client().command("INFO commandstats").text();
    let start = format!("cmdstat_{name}:calls=");
    let count = statistics
        .lines()
        .find_map(|line| line.strip_prefix(&start)?.split(',').next());
    count.map_or(0, |count| count.parse().expect("a number"))
}

#[test]
fn a_timely_reconnect_costs_redis_nothing() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("REPLAY_SEC", "2").start();
    let mut subscriber = server.subscribe("/?channels=a");
    let commands = commands_of(&redis, "subscribe");
    let mut client = redis.client();
    let began_at = Instant::now();
    let mut message = 0;
    // For longer than the channel would be kept once.
    while began_at.elapsed() < Duration::from_secs(5) {
        let id = id_of(&mut subscriber);
        subscriber.reset();
        wait_until("it has gone", || server.connections().is_empty());
        client.publish("a", message.to_string());
        subscriber = come_back(&server, "/?channels=a", &id);
        assert_eq!(subscriber.next_event().data, message.to_string());
        message += 1;
    }
    assert_eq!(commands_of(&redis, "subscribe"), commands);
    assert_eq!(commands_of(&redis, "unsubscribe"), 0);
}

#[test]
fn a_channel_is_left_at_once_where_nothing_is_to_be_kept() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("REPLAY_SEC", "0").start();
    for _ in 0..3 {
        let mut subscriber = server.subscribe("/?channels=a");
        wait_for_subscribers(&redis, "a", 1);
        redis.client().publish("a", "1");
        assert_eq!(subscriber.next_event().data, "1");
        subscriber.reset();
        let left_at = Instant::now();
        wait_for_subscribers(&redis, "a", 0);
        assert!(left_at.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn patterns_are_asked_for_as_patterns() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("CHANNELS", "*,room.[0-9]*")
        .variable("REPLAY_SEC", "0")
        .start();
    let own = patterns_at(&redis);
    let mut rooms = server.subscribe("/?channels=room.%5B0-9%5D*&event=channel");
    let mut literal = server.subscribe("/?channels=room.*&event=channel");
    assert_eq!(patterns_at(&redis), own + 1);
    assert_eq!(channels_at(&redis), ["room.*"]);
    let mut client = redis.client();
    client.publish("room.1", "1");
    client.publish("room.*", "2");
    client.publish("room.22", "3");
    let events = [rooms.next_event(), rooms.next_event()];
    assert_eq!(
        events.each_ref().map(|event| event.name.as_str()),
        ["room.1", "room.22"]
    );
    assert_eq!(literal.next_event().name, "room.*");
    drop((rooms, literal));
    wait_until("the pattern is left", || patterns_at(&redis) == own);
    wait_for_subscribers(&redis, "room.*", 0);
}

#[test]
fn channels_are_asked_for_again_where_redis_was_killed() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = options(&redis).variable("REPLAY_SEC", "1").start();
    let own = patterns_at(&redis);
    let mut first = server.subscribe("/?channels=a,b");
    let mut pattern = server.subscribe("/?channels=*");
    let leaves = server.subscribe("/?channels=c");
    redis.kill();
    server.wait_for_log("; trying");
    leaves.reset();
    let mut second = server.subscribe("/?channels=d");
    // Who came and went while there was no Redis is nothing to ask it for.
    server.wait_for_connections(3);
    let gone_at = Instant::now();
    wait_until("the channel is not kept any more", || {
        gone_at.elapsed() > Duration::from_secs(2)
    });
    redis.restart();
    server.wait_for_log_count(SUBSCRIBED, 2);
    assert_eq!(channels_at(&redis), ["a", "b", "d"]);
    assert_eq!(patterns_at(&redis), own + 1);
    for subscriber in [&mut first, &mut second, &mut pattern] {
        assert_eq!(subscriber.next_event().name, "gap");
    }
    let mut client = redis.client();
    client.publish("a", "1");
    client.publish("d", "2");
    client.publish("b", "3");
    assert_eq!(first.next_data(2), ["1", "3"]);
    assert_eq!(second.next_event().data, "2");
    assert_eq!(pattern.next_data(3), ["1", "2", "3"]);
}

#[test]
fn the_server_is_asked_for_channels_before_there_is_a_redis() {
    if !is_installed_or_skip() {
        return;
    }
    let mut redis = Redis::absent();
    let server = options(&redis).without_waiting().start();
    let mut subscriber = server.subscribe("/?channels=a");
    redis.restart();
    server.wait_for_log(SUBSCRIBED);
    // What was published before is lost to a stream that has begun.
    assert_eq!(subscriber.next_event().name, "gap");
    redis.client().publish("a", "1");
    assert_eq!(subscriber.next_event().data, "1");
}

#[test]
fn a_forbidden_channel_is_logged_once_and_others_continue() {
    if !is_installed_or_skip() {
        return;
    }
    let users = "--user streamer on >secret ~* +@all resetchannels &stream.score_updates \
                 &stream.tweet_updates.* &stream.admin.cleanup &ok.*";
    let users: Vec<&str> = users.split_ascii_whitespace().collect();
    let redis = Redis::start_protected(&users, "PING");
    let url = redis.url_with_login("streamer", "secret");
    let server = options(&redis).variable("REDIS_URL", &url).start();
    let mut allowed = server.subscribe("/?channels=ok.a,no.a,ok.b");
    let _refused = server.subscribe("/?channels=no.b");
    let _pattern = server.subscribe("/?channels=*");
    let line = server.wait_for_log("refuses");
    assert!(line.contains("NOPERM"), "{line}");
    assert_eq!(channels_at(&redis), ["ok.a", "ok.b"]);
    let mut client = redis.client();
    client.publish("ok.a", "1");
    client.publish("ok.b", "2");
    assert_eq!(allowed.next_data(2), ["1", "2"]);
    assert_eq!(server.count_log("NOPERM"), 1, "{:?}", server.log());
    assert_eq!(server.count_log("trying"), 0);
    // The way out is refused in words.
    let mut connection = server.connect();
    let form = "channel=no.a&message=1";
    connection.send(publication(form));
    let reply = connection.read_reply();
    assert_eq!(reply.head.status(), 503);
    assert!(reply.text().contains("NOPERM"), "{}", reply.text());
    publish(&server, "ok.a", "3");
    assert_eq!(allowed.next_event().data, "3");
}

/// Channels in all, and on one connection.
const CHANNELS: usize = 10_000;
const PER_CONNECTION: usize = 8;

#[test]
fn ten_thousand_channels_are_served_and_cost_little() {
    let Some(redis) = redis_or_skip() else { return };
    let connections = CHANNELS / PER_CONNECTION;
    let path_of = |connection: usize| -> String {
        let numbers = (0..PER_CONNECTION).map(|number| connection * PER_CONNECTION + number);
        let names: Vec<String> = numbers.map(|number| format!("channel-{number}")).collect();
        format!("/?channels={}", names.join(","))
    };
    // What connections cost that share eight channels.
    let shared = options(&redis).start();
    let before = shared.memory_bytes();
    let crowd = Crowd::subscribe(shared.address(), (0..connections).map(|_| path_of(0)));
    let of_connections = shared.memory_bytes() - before;
    drop(crowd);
    drop(shared);

    let server = options(&redis).variable("REPLAY_SEC", "1").start();
    let before = server.memory_bytes();
    let mut crowd = Crowd::subscribe(server.address(), (0..connections).map(path_of));
    let growth = server.memory_bytes() - before;
    let per_channel = growth.saturating_sub(of_connections) / CHANNELS as u64;
    println!(
        "{per_channel} bytes a channel, {} a connection",
        of_connections / connections as u64
    );
    assert!(per_channel < 1_536, "{per_channel} bytes a channel");
    wait_until("redis has all of them", || {
        channels_at(&redis).len() == CHANNELS
    });

    let received = RefCell::new(vec![0_u8; CHANNELS]);
    let count = Cell::new(0);
    let mut client = redis.client();
    for round in 1..=2 {
        let messages =
            (0..CHANNELS).map(|number| (format!("channel-{number}"), number.to_string()));
        client.publish_all(messages);
        crowd.run_until(
            "every message has come",
            |_| count.get() >= CHANNELS * round,
            |connection, event| {
                let number: usize = event.data.parse().expect("a number");
                assert_eq!(number / PER_CONNECTION, connection);
                received.borrow_mut()[number] += 1;
                count.set(count.get() + 1);
            },
        );
        let received = received.borrow();
        assert!(received.iter().all(|&times| usize::from(times) == round));
    }
    let stats = server.ask("GET", "/stats").json();
    assert_eq!(stats.as_array().map(Vec::len), Some(1_000), "the default");
    drop(crowd);
    wait_until("redis has none of them", || channels_at(&redis).is_empty());
    server.wait_for_stats(&serde_json::json!([]));
}
