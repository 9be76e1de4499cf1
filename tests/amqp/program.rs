//! The program with a real RabbitMQ: what clients receive over HTTP from various publishers.

use std::time::{Duration, Instant};

use crate::publisher::{self, Publisher};
use crate::rabbit::{Rabbit, shared_or_skip};
use crate::support::channels::{KEY, come_back, publish, publish_over};
use crate::support::redis::{SCORES, TWEETS};
use crate::support::resp::Value;
use crate::support::{Server, ServerOptions, Subscriber, redis_or_skip, wait_until};

/// What the server says once messages arrive.
pub const LISTENING: &str = "amqp: listening at";

/// What is published in the tests of delivery.
const CHANNELS: [&str; 4] = ["a", "b.c", "room.1", "room.2"];

/// A server that has its channels from this exchange, and all else from nobody.
pub fn options(rabbit: &Rabbit, exchange: &str, exchange_type: &str) -> ServerOptions {
    let url = format!("amqp://{}", rabbit.address());
    with_exchange(ServerOptions::redis_url("none").without_waiting(), &url)
        .variable("AMQP_EXCHANGE", exchange)
        .variable("AMQP_EXCHANGE_TYPE", exchange_type)
}

pub fn with_exchange(options: ServerOptions, url: &str) -> ServerOptions {
    options
        .variable("CHANNELS", "*,room.*")
        .variable("CHANNELS_PATTERNS", "true")
        .variable("PUBLISH_KEY", KEY)
        .variable("AMQP_URL", url)
}

/// Starts a server, and waits until it has its broker.
#[track_caller]
pub fn start(options: &ServerOptions) -> Server {
    let server = options.start();
    server.wait_for_log(LISTENING);
    server
}

/// The binding keys of an exchange, in alphabetical order, each as often as there are queues that have it.
#[track_caller]
fn bindings(rabbit: &Rabbit, exchange: &str) -> Vec<String> {
    let list = rabbit.control(&["list_bindings", "source_name", "routing_key", "--silent"]);
    let rows = list.lines().filter_map(|row| row.split_once('\t'));
    let mut keys: Vec<String> = rows
        .filter(|(source, _)| *source == exchange)
        .map(|(_, key)| key.to_owned())
        .collect();
    keys.sort();
    keys
}

#[track_caller]
pub fn wait_for_bindings(rabbit: &Rabbit, exchange: &str, expected: &[&str]) {
    let what = format!("{exchange} has the bindings {expected:?}");
    wait_until(&what, || bindings(rabbit, exchange) == expected);
}

/// The next events as names and data.
#[track_caller]
pub fn named(subscriber: &mut Subscriber, count: usize) -> Vec<(String, String)> {
    let events = (0..count).map(|_| subscriber.next_event());
    events.map(|event| (event.name, event.data)).collect()
}

/// The status of the readiness probe and what it says.
#[track_caller]
pub fn readiness(server: &Server) -> (u16, String) {
    let reply = server.ask("GET", "/readyz");
    (reply.head.status(), reply.text())
}

/// The line of a metric.
#[track_caller]
pub fn metric(server: &Server, name: &str) -> String {
    let text = server.ask("GET", "/metrics").text();
    let line = text.lines().find(|line| line.contains(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .to_owned()
}

#[test]
fn each_client_has_its_channels_messages_once_and_in_order() {
    if !publisher::is_installed_or_skip() {
        return;
    }
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    // Channels that are asked for, and those whose messages come; a direct exchange has no patterns.
    let table: [(&str, &[&str], bool); 8] = [
        ("/?channels=a", &["a"], false),
        ("/subscribe/channels/b.c?", &["b.c"], false),
        ("/?channels=a,b.c", &["a", "b.c"], false),
        ("/?channels=b.c&channels=a", &["a", "b.c"], false),
        ("/?channels=room.1", &["room.1"], false),
        ("/?channels=room.*", &["room.1", "room.2"], true),
        ("/?channels=a,room.*", &["a", "room.1", "room.2"], true),
        ("/?channels=*", &CHANNELS, true),
    ];
    for (exchange_type, keys) in [
        ("direct", ["a", "b.c", "room.1"].as_slice()),
        ("fanout", &[""]),
        ("topic", &["#", "a", "b.c", "room.1"]),
    ] {
        let exchange = format!("program-{exchange_type}");
        let server = start(&options(&rabbit, &exchange, exchange_type));
        let has_patterns = exchange_type != "direct";
        let rows = table.iter().filter(|row| has_patterns || !row.2);
        let mut subscribers: Vec<_> = rows
            .map(|(path, takes, _)| (server.subscribe(&format!("{path}&event=channel")), takes))
            .collect();
        wait_for_bindings(&rabbit, &exchange, keys);
        let mut publisher = Publisher::new(&rabbit, &exchange);
        let sent: Vec<(String, String)> = (0..400)
            .map(|number| {
                (
                    CHANNELS[number * 7 % 9 % 4].to_owned(),
                    format!("{number}\n\u{2764}"),
                )
            })
            .collect();
        for (channel, message) in &sent {
            publisher.publish(channel, message);
        }
        for (subscriber, takes) in &mut subscribers {
            let mut expected = sent.clone();
            expected.retain(|(channel, _)| takes.contains(&channel.as_str()));
            let received = named(subscriber, expected.len());
            assert!(received == expected, "{exchange_type} {takes:?}");
        }
        // That nothing came twice shows in what comes after it.
        for channel in CHANNELS {
            publisher.publish(channel, "last");
        }
        for (subscriber, takes) in &mut subscribers {
            let expected = takes
                .iter()
                .map(|&channel| (channel.to_owned(), "last".to_owned()));
            assert_eq!(named(subscriber, takes.len()), Vec::from_iter(expected));
        }
    }
}

#[test]
fn a_client_whose_stream_has_begun_misses_nothing() {
    if !publisher::is_installed_or_skip() {
        return;
    }
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for exchange_type in ["direct", "topic"] {
        let exchange = format!("at-once-{exchange_type}");
        let server = start(&options(&rabbit, &exchange, exchange_type));
        let mut publisher = Publisher::new(&rabbit, &exchange);
        for round in 0..50 {
            let channel = format!("fresh.{round}");
            let mut subscriber = server.subscribe(&format!("/?channels={channel}"));
            assert!(publisher.publish(&channel, "at once"), "{channel}");
            assert_eq!(subscriber.next_data(1), ["at once"]);
        }
    }
}

#[test]
fn a_direct_exchange_that_is_asked_for_a_pattern_says_what_to_use() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let server = start(&options(&rabbit, "no-patterns", "direct"));
    let _subscribers =
        ["room.*", "*", "a"].map(|name| server.subscribe(&format!("/?channels={name}")));
    let line = server.wait_for_log("cannot serve patterns such as \"room.*\"");
    assert!(line.ends_with("use type topic or fanout"), "{line}");
    wait_for_bindings(&rabbit, "no-patterns", &["a"]);
    assert_eq!(server.count_log("cannot serve patterns"), 1);
    assert_eq!(readiness(&server).0, 200);
}

/// What is the pipeline's, or the server's own.
fn own_messages() -> Vec<(String, String)> {
    let cleanup = serde_json::json!({
        "epoch": "1", "node": "n", "scope": "scores", "id": null, "token": null, "client_ip": "127.0.0.1",
    });
    vec![
        (SCORES.to_owned(), "2665".to_owned()),
        (format!("{TWEETS}2665"), "{}".to_owned()),
        ("stream.interaction.a".to_owned(), "{}".to_owned()),
        ("stream.admin.cleanup".to_owned(), cleanup.to_string()),
    ]
}

#[test]
fn the_exchange_never_feeds_the_emoji_streams() {
    if !publisher::is_installed_or_skip() {
        return;
    }
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for (exchange_type, key) in [("fanout", ""), ("topic", "#")] {
        let exchange = format!("emoji-{exchange_type}");
        let options = options(&rabbit, &exchange, exchange_type)
            .variable("ENABLE_KIOSK_INTERACTION_STREAM", "true");
        let server = start(&options);
        let mut all = server.subscribe("/?channels=*&event=channel");
        let mut raw = server.subscribe("/subscribe/raw");
        let mut eps = server.subscribe("/subscribe/eps");
        let mut details = server.subscribe("/subscribe/details/2665");
        let _kiosk = server.subscribe("/subscribe/kiosk_interaction");
        wait_for_bindings(&rabbit, &exchange, &[key]);
        let mut publisher = Publisher::new(&rabbit, &exchange);
        for (channel, message) in own_messages() {
            assert!(publisher.publish(&channel, &message), "{channel}");
        }
        assert!(publisher.publish("a", "theirs"));
        assert_eq!(named(&mut all, 1), [("a".to_owned(), "theirs".to_owned())]);
        // What is published here is the embedded broker's to deliver.
        publish(&server, SCORES, "1F4C2");
        publish(&server, &format!("{TWEETS}2665"), "{}x");
        assert_eq!(raw.next_data(1), ["1F4C2"], "{exchange_type}");
        assert_eq!(eps.next_data(1), ["{\"1F4C2\":1}"], "{exchange_type}");
        assert_eq!(details.next_data(1), ["{}x"], "{exchange_type}");
        let status = server.status();
        assert_eq!(status["stats"]["closes"]["cleanup"], 0);
        assert_eq!(
            status["stats"]["frames"], 4,
            "nothing for the kiosk, either"
        );
    }
}

#[test]
fn redis_has_the_emoji_and_the_exchange_the_channels() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let Some(redis) = redis_or_skip() else { return };
    if !publisher::is_installed_or_skip() {
        return;
    }
    let url = format!("amqp://{}", rabbit.address());
    let options = with_exchange(ServerOptions::redis(&redis), &url)
        .variable("AMQP_EXCHANGE", "beside")
        .variable("AMQP_EXCHANGE_TYPE", "topic");
    let (server, other) = (start(&options), start(&options));
    let mut all = server.subscribe("/?channels=*&event=channel");
    let mut channel = other.subscribe("/?channels=a");
    let mut raw = server.subscribe("/subscribe/raw");
    let mut eps = server.subscribe("/subscribe/eps");
    wait_for_bindings(&rabbit, "beside", &["#", "a"]);
    let mut publisher = Publisher::new(&rabbit, "beside");
    let mut client = redis.client();
    for (channel, message) in own_messages() {
        assert!(publisher.publish(&channel, &message), "{channel}");
    }
    assert_eq!(client.command("PUBLISH a redis"), Value::Integer(0));
    client.publish(SCORES, "1F4C2");
    assert!(publisher.publish("a", "theirs"));
    publish(&server, "a", "ours");
    let mut connection = server.connect();
    let form = format!("channel={SCORES}&message=2665");
    assert_eq!(publish_over(&mut connection, &form), 403);
    assert_eq!(channel.next_data(2), ["theirs", "ours"]);
    let pair = |data: &str| ("a".to_owned(), data.to_owned());
    assert_eq!(named(&mut all, 2), [pair("theirs"), pair("ours")]);
    assert_eq!(raw.next_data(1), ["1F4C2"]);
    assert_eq!(eps.next_data(1), ["{\"1F4C2\":1}"]);
    // Redis is asked for nothing but the pipeline.
    let Value::Array(names) = client.command("PUBSUB CHANNELS") else {
        panic!("no list of channels");
    };
    assert!(names.iter().all(|name| name.text().starts_with("stream.")));
    assert_eq!(server.status()["stats"]["closes"]["cleanup"], 0);
    assert_eq!(readiness(&server).0, 200);
    assert!(metric(&server, "source_up{source=\"amqp\"}").ends_with(" 1"));
    assert!(metric(&server, "source_up{source=\"redis\"}").ends_with(" 1"));
}

#[test]
fn what_is_published_at_one_copy_is_delivered_by_both() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for (exchange_type, keys) in [
        ("direct", ["a", "a", "b", "b"].as_slice()),
        ("fanout", &["", ""]),
        ("topic", &["a", "a", "b", "b"]),
    ] {
        let exchange = format!("copies-{exchange_type}");
        let options = options(&rabbit, &exchange, exchange_type);
        let copies = [start(&options), start(&options)];
        let mut subscribers = [0, 1].map(|copy: usize| copies[copy].subscribe("/?channels=a,b"));
        wait_for_bindings(&rabbit, &exchange, keys);
        let mut connections = [0, 1].map(|copy: usize| copies[copy].connect());
        let mut expected = Vec::new();
        for number in 0..100 {
            let form = format!("channel=a&channel=b&channel=nobody&message={number}");
            assert_eq!(publish_over(&mut connections[number % 2], &form), 200);
            expected.extend([number.to_string(), number.to_string()]);
        }
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.next_data(200), expected);
        }
        for copy in &copies {
            assert_eq!(copy.status()["stats"]["publications"], 50);
        }
    }
}

/// A page that sees its stream begin may have something published at once.
#[test]
fn what_is_published_as_soon_as_a_stream_has_begun_is_in_it() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for exchange_type in ["direct", "fanout", "topic"] {
        let options = options(&rabbit, &format!("once-{exchange_type}"), exchange_type)
            .variable("REPLAY_SEC", "0");
        let server = start(&options);
        let mut connection = server.connect();
        let mut lost = Vec::new();
        for number in 0..100 {
            let mut subscriber = server.subscribe(&format!("/?channels=c{number}"));
            let form = format!("channel=c{number}&message=first");
            assert_eq!(publish_over(&mut connection, &form), 200);
            wait_until("something is there", || {
                let form = format!("channel=c{number}&message=later");
                assert_eq!(publish_over(&mut connection, &form), 200);
                server.status()["connections"][0]["msgs_sent"] != 0
            });
            if subscriber.next_event().data != "first" {
                lost.push(number);
            }
            subscriber.reset();
            server.wait_for_connections(0);
        }
        assert!(
            lost.is_empty(),
            "{exchange_type}: {} of 100 were lost",
            lost.len()
        );
    }
}

#[test]
fn a_binding_comes_with_the_first_client_and_goes_a_while_after_the_last() {
    if !publisher::is_installed_or_skip() {
        return;
    }
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for exchange_type in ["direct", "topic"] {
        let exchange = format!("demand-{exchange_type}");
        let options = options(&rabbit, &exchange, exchange_type).variable("REPLAY_SEC", "2");
        let server = start(&options);
        let mut publisher = Publisher::new(&rabbit, &exchange);
        assert!(!publisher.publish("a", "nobody's"));
        let first = server.subscribe("/?channels=a,b");
        let second = server.subscribe("/subscribe/channels/a");
        let mut third = server.subscribe("/?channels=b&event=channel");
        for channel in ["a", "b"] {
            wait_until("it is bound", || publisher.publish(channel, "probe"));
        }
        assert_eq!(bindings(&rabbit, &exchange), ["a", "b"]);
        let seen = third.next_event().id;
        first.reset();
        second.reset();
        let left_at = Instant::now();
        wait_until("it is unbound", || !publisher.publish("a", "probe"));
        let elapsed = left_at.elapsed();
        let expected = Duration::from_millis(1_900)..Duration::from_secs(6);
        assert!(expected.contains(&elapsed), "{elapsed:?}");
        assert_eq!(bindings(&rabbit, &exchange), ["b"]);

        // Whoever is back in time has missed nothing, and costs no binding.
        third.reset();
        server.wait_for_connections(0);
        assert!(publisher.publish("b", "missed"));
        let mut third = come_back(&server, "/?channels=b&event=channel", &seen);
        assert_eq!(third.next_data(1), ["missed"]);
        drop(third);
        wait_until("it is unbound", || !publisher.publish("b", "probe"));
        assert_eq!(bindings(&rabbit, &exchange), [""; 0]);
        // It begins anew.
        let mut again = server.subscribe("/?channels=a");
        wait_until("it is bound", || publisher.publish("a", "probe"));
        assert_eq!(again.next_data(1), ["probe"]);
        // The broker has no queue of a server that is gone.
        drop(server);
        wait_until("it is unbound", || !publisher.publish("a", "probe"));
    }
}
