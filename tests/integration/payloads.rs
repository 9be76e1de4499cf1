//! Payloads: messages arrive unchanged, and harmful ones not at all.

use crate::support::redis::{SCORES, TWEETS};
use crate::support::server::SUBSCRIBED;
use crate::support::{Event, ServerOptions, Sums, add_sums, redis_or_skip};

/// Payloads, and the data that a browser makes of them: line ends of any kind become line feeds.
const PAYLOADS: &[(&str, &str)] = &[
    ("1F4C2", "1F4C2"),
    ("", ""),
    (" ", " "),
    ("  two spaces", "  two spaces"),
    ("\ttab", "\ttab"),
    ("a\nb", "a\nb"),
    ("a\rb", "a\nb"),
    ("a\r\nb", "a\nb"),
    ("a\n\rb", "a\n\nb"),
    ("a\n b", "a\n b"),
    ("\n", "\n"),
    ("\r\n\r\n", "\n\n"),
    ("a\n", "a\n"),
    ("\na", "\na"),
    (":no comment", ":no comment"),
    ("id:1", "id:1"),
    ("data:x\n\nid:1\nretry:1", "data:x\n\nid:1\nretry:1"),
    (
        "\u{1F4C2} \u{2764}\u{fe0f} é \u{feff}",
        "\u{1F4C2} \u{2764}\u{fe0f} é \u{feff}",
    ),
    ("\u{feff}", "\u{feff}"),
    ("\u{2028}\u{85}\u{b}", "\u{2028}\u{85}\u{b}"),
    ("{\"text\":\"a\\nb\"}", "{\"text\":\"a\\nb\"}"),
    ("nul \0 within", "nul \0 within"),
];

/// What is not UTF-8: a stray byte, a cut sequence, an overlong one, a surrogate.
const NOT_UTF_8: [&[u8]; 4] = [b"\xff", b"\xf0\x9f\x93", b"\xc0\xaf", b"\xed\xa0\x80"];

#[test]
fn a_payload_arrives_as_it_was() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let channel = format!("{TWEETS}1F4C2");
    let mut raw = server.subscribe("/subscribe/raw");
    let mut details = server.subscribe("/subscribe/details/1F4C2");
    let mut bare = server.subscribe_http_10("/subscribe/details");
    let mut client = redis.client();
    for (payload, _) in PAYLOADS {
        client.publish(SCORES, payload);
        client.publish(&channel, payload);
    }
    for (payload, data) in PAYLOADS {
        assert_eq!(raw.next_event(), Event::message(data), "for {payload:?}");
        for subscriber in [&mut details, &mut bare] {
            let expected = Event::new(&channel, data);
            assert_eq!(subscriber.next_event(), expected, "for {payload:?}");
        }
    }
}

#[test]
fn any_payload_can_be_counted() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    let mut published = Sums::new();
    let mut client = redis.client();
    for (payload, _) in PAYLOADS {
        for _ in 0..2 {
            client.publish(SCORES, payload);
            *published.entry((*payload).to_owned()).or_default() += 1;
        }
    }
    let mut received = Sums::new();
    while received != published {
        add_sums(&mut received, &subscriber.next_event().data);
        assert!(received.len() <= published.len(), "{received:?}");
    }
}

#[test]
fn what_is_not_utf_8_is_dropped_and_the_next_message_arrives() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let channel = format!("{TWEETS}1F4C2");
    let mut raw = server.subscribe("/subscribe/raw");
    let mut eps = server.subscribe("/subscribe/eps");
    let mut details = server.subscribe("/subscribe/details");
    let mut client = redis.client();
    for bytes in NOT_UTF_8 {
        client.publish(SCORES, bytes);
        client.publish(&channel, bytes);
        client.publish([TWEETS.as_bytes(), bytes].concat(), "{}");
    }
    client.publish(SCORES, "2665");
    client.publish(&channel, "{}");
    assert_eq!(raw.next_event(), Event::message("2665"));
    assert_eq!(eps.next_event(), Event::message(r#"{"2665":1}"#));
    assert_eq!(details.next_event(), Event::new(&channel, "{}"));
}

#[test]
fn a_channel_with_control_bytes_is_dropped() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("ENABLE_KIOSK_INTERACTION_STREAM", "true")
        .start();
    let mut details = server.subscribe("/subscribe/details");
    let mut kiosk = server.subscribe("/subscribe/kiosk_interaction");
    let mut client = redis.client();
    for id in [
        "a\nb",
        "a\rdata:x",
        "\n",
        "\0",
        "a\u{1b}[31m",
        "\u{7f}",
        "a\tb",
    ] {
        client.publish(format!("{TWEETS}{id}"), "{\"bad\":1}");
        client.publish(format!("stream.interaction.{id}"), "bad");
    }
    client.publish(format!("{TWEETS}2665"), "{}");
    client.publish("stream.interaction.good", "good");
    assert_eq!(
        details.next_event(),
        Event::new(&format!("{TWEETS}2665"), "{}")
    );
    assert_eq!(
        kiosk.next_event(),
        Event::new("stream.interaction.good", "good")
    );
}

#[test]
fn a_megabyte_arrives_complete() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let channel = format!("{TWEETS}1F4C2");
    let mut subscribers = [
        server.subscribe("/subscribe/details/1F4C2"),
        server.subscribe("/subscribe/details"),
        server.subscribe("/subscribe/details/1F4C2"),
        server.subscribe_http_10("/subscribe/details/1F4C2"),
    ];
    let mut bystander = server.subscribe("/subscribe/raw");
    let mut client = redis.client();
    for len in [1_000_000, 1024 * 1024] {
        let payload = long_payload(len);
        client.publish(&channel, &payload);
        client.publish(SCORES, "2665");
        for subscriber in &mut subscribers {
            let event = subscriber.next_event();
            assert_eq!((event.name, event.data.len()), (channel.clone(), len));
            // A difference would be a megabyte of output, twice.
            assert!(event.data == payload, "the payload of {len} bytes differs");
        }
        assert_eq!(bystander.next_event(), Event::message("2665"));
    }
}

#[test]
fn what_is_too_large_to_be_kept_is_dropped_and_the_next_message_arrives() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut subscriber = server.subscribe("/subscribe/raw");
    let mut client = redis.client();
    client.publish(SCORES, long_payload(3 * 1024 * 1024));
    client.publish(SCORES, "1F4C2");
    assert_eq!(subscriber.next_event(), Event::message("1F4C2"));
    // This one exceeds the limit of a reply: the server disconnects from Redis and reconnects.
    client.publish(SCORES, long_payload(9 * 1024 * 1024));
    server.wait_for_log_count(SUBSCRIBED, 2);
    client.publish(SCORES, "2665");
    assert_eq!(subscriber.next_event(), Event::message("2665"));
}

/// Text of which no part is like another, so that a piece in the wrong place would show.
fn long_payload(len: usize) -> String {
    let mut payload: String = (0..)
        .map(|number| format!("{number},"))
        .take(len / 4)
        .collect();
    payload.truncate(len);
    assert_eq!(payload.len(), len);
    payload
}
