//! Streams: the messages of each, and the response head.

use std::time::{Duration, Instant};

use crate::support::redis::{SCORES, TWEETS};
use crate::support::{
    End, Event, Item, Server, ServerOptions, Subscriber, Sums, add_sums, redis_or_skip,
};

/// The channel of an emoji's tweets.
fn tweets_of(id: &str) -> String {
    format!("{TWEETS}{id}")
}

#[test]
fn raw_sends_each_score_update_by_itself() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut chunked = server.subscribe("/subscribe/raw");
    let mut bare = server.subscribe_http_10("/subscribe/raw");
    let ids = ["1F4C2", "2665", "2665", "1F1FA-1F1F8"];
    redis.client().publish_all(ids.map(|id| (SCORES, id)));
    for subscriber in [&mut chunked, &mut bare] {
        for id in ids {
            assert_eq!(subscriber.next_event(), Event::message(id));
        }
        let body = String::from_utf8_lossy(subscriber.body());
        let events = "data:1F4C2\n\ndata:2665\n\ndata:2665\n\ndata:1F1FA-1F1F8\n\n";
        assert!(body.ends_with(events), "{body:?}");
    }
}

#[test]
fn eps_sums_the_increments_and_sends_them_at_most_sixty_times_a_second() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    let mut client = redis.client();
    let started = Instant::now();
    let mut published = Sums::new();
    let mut round: u64 = 0;
    while started.elapsed() < Duration::from_secs(1) {
        round += 1;
        let ids = [
            "1F4C2",
            "2665",
            "1F4C2",
            &format!("{:X}", 0x1F600 + round % 50),
        ];
        for id in ids {
            *published.entry(id.to_owned()).or_default() += 1;
        }
        client.publish_all(ids.map(|id| (SCORES, id)));
    }
    let (mut received, mut events) = (Sums::new(), 0);
    while received != published {
        let event = subscriber.next_event();
        assert_eq!((event.name.as_str(), event.id.as_str()), ("message", ""));
        add_sums(&mut received, &event.data);
        events += 1;
        let total = |sums: &Sums| sums.values().sum::<u64>();
        let (got, sent) = (total(&received), total(&published));
        assert!(got <= sent, "{got} increments of {sent}");
    }
    // The beats lie on a grid, so however late any of them was, there cannot have been more.
    let beats_max = started.elapsed().as_millis() / 17 + 1;
    assert!(events <= beats_max, "{events} events in {beats_max} beats");
    assert!(events > 5, "only {events} events in a second");
}

#[test]
fn eps_sends_one_json_object_and_then_nothing_while_nothing_comes() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("KEEPALIVE_SEC", "1")
        .start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    redis.client().publish(SCORES, "1F4C2");
    assert!(matches!(subscriber.next_item(), Item::Comment(_)));
    assert_eq!(
        subscriber.next_item(),
        Item::Event(Event::message(r#"{"1F4C2":1}"#))
    );
    // Two keepalives in a row: nothing else was sent for longer than sixty beats.
    for _ in 0..2 {
        assert!(matches!(subscriber.next_item(), Item::Comment(_)));
    }
    let body = String::from_utf8_lossy(subscriber.body()).into_owned();
    assert!(body.contains("data:{\"1F4C2\":1}\n\n"), "{body:?}");
}

#[test]
fn details_of_one_id_are_of_that_id_exactly() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let ids = ["1F4C2", "1F4", "1F4C2-1F3FB"];
    let mut subscribers = ids.map(|id| server.subscribe(&format!("/subscribe/details/{id}")));
    let mut all = server.subscribe("/subscribe/details");
    let tweets = [
        ("1F4C2", r#"{"id":"1","text":"\ud83d\udcc2 café"}"#),
        ("1F4", r#"{ "id" : "2" }"#),
        ("unheard", "{}"),
        ("1F4C2-1F3FB", r#"{"id":"3"}"#),
        ("1F4C2", r#"{"id":"4"}"#),
    ];
    let channels = tweets.map(|(id, json)| (tweets_of(id), json));
    redis.client().publish_all(channels);
    for (id, json) in tweets {
        let expected = Event::new(&tweets_of(id), json);
        assert_eq!(all.next_event(), expected);
        if let Some(index) = ids.iter().position(|other| *other == id) {
            assert_eq!(subscribers[index].next_event(), expected);
        }
    }
    let body = String::from_utf8_lossy(all.body()).into_owned();
    let sent = format!("event:{}\ndata:{{ \"id\" : \"2\" }}\n\n", tweets_of("1F4"));
    assert!(body.contains(&sent), "{body:?}");
}

#[test]
fn an_id_is_percent_decoded_once() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut client = redis.client();
    let table = [
        ("%31F4C2", "1F4C2"),
        ("%e2%9D%a4", "\u{2764}"),
        ("a%20b", "a b"),
        ("a+b", "a+b"),
        ("%2531", "%31"),
        ("*", "*"),
        ("%3F", "?"),
    ];
    for (path, id) in table {
        let mut subscriber = server.subscribe(&format!("/subscribe/details/{path}"));
        client.publish(tweets_of("other"), "{}");
        client.publish(tweets_of(id), "{\"here\":1}");
        let expected = Event::new(&tweets_of(id), "{\"here\":1}");
        assert_eq!(subscriber.next_event(), expected, "for {path}");
    }
}

#[test]
fn the_kiosk_stream_is_there_when_it_is_enabled() {
    let Some(redis) = redis_or_skip() else { return };
    let options = ServerOptions::redis(&redis);
    let off = options.start();
    assert_eq!(
        off.ask("GET", "/subscribe/kiosk_interaction").head.status(),
        404
    );
    drop(off);
    let on = options.variable("ENABLE_KIOSK_INTERACTION_STREAM", "true");
    let server = on.start();
    let mut subscriber = server.subscribe("/subscribe/kiosk_interaction");
    let mut details = server.subscribe("/subscribe/details");
    let mut client = redis.client();
    let messages = [
        ("stream.interaction.request", "1F4C2"),
        ("stream.interaction.cancel", " verbatim \"\u{1F4C2}\""),
    ];
    client.publish_all(messages);
    client.publish(tweets_of("1F4C2"), "{}");
    for (channel, payload) in messages {
        assert_eq!(subscriber.next_event(), Event::new(channel, payload));
    }
    assert_eq!(details.next_event(), Event::new(&tweets_of("1F4C2"), "{}"));
}

#[test]
fn raw_can_be_disabled_and_eps_goes_on() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("ENABLE_RAW_STREAM", "false")
        .start();
    let reply = server.ask("GET", "/subscribe/raw");
    assert_eq!(reply.head.status(), 404);
    assert!(reply.json().is_object());
    let mut subscriber = server.subscribe("/subscribe/eps");
    redis.client().publish(SCORES, "1F4C2");
    assert_eq!(subscriber.next_event(), Event::message(r#"{"1F4C2":1}"#));
}

#[test]
fn subscribers_get_what_comes_after_their_subscription_and_nothing_before() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut client = redis.client();
    let mut early = server.subscribe("/subscribe/raw");
    client.publish(SCORES, "1F4C2");
    assert_eq!(early.next_data(1), ["1F4C2"]);
    let mut late = server.subscribe("/subscribe/raw");
    client.publish(SCORES, "2665");
    assert_eq!(early.next_data(1), ["2665"]);
    assert_eq!(late.next_data(1), ["2665"]);
}

/// The lines that a stream's head has, beside `Date`, in alphabetical order.
const STREAM_LINES: [&str; 6] = [
    "Access-Control-Allow-Origin: *",
    "Cache-Control: no-cache",
    "Connection: keep-alive",
    "Content-Type: text/event-stream; charset=utf-8",
    "Transfer-Encoding: chunked",
    "X-Accel-Buffering: no",
];

/// Paths of all streams, and whether a stream belongs to the scores rather than to the details.
const STREAMS: [(&str, bool); 5] = [
    ("/subscribe/raw", true),
    ("/subscribe/eps", true),
    ("/subscribe/details/1F4C2", false),
    ("/subscribe/details", false),
    ("/subscribe/kiosk_interaction", false),
];

fn server_with_all_streams() -> ServerOptions {
    ServerOptions::demo().variable("ENABLE_KIOSK_INTERACTION_STREAM", "1")
}

#[test]
fn the_head_of_every_stream_is_exactly_this() {
    let server = server_with_all_streams().start();
    for (path, _) in STREAMS {
        let subscriber = server.subscribe(path);
        assert_eq!(subscriber.head.status_line, "HTTP/1.1 200 OK", "{path}");
        assert_eq!(subscriber.head.lines_but_date(), STREAM_LINES, "{path}");
        let date = subscriber.head.field("Date").expect("a date");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    }
}

#[test]
fn over_http_10_no_stream_is_chunked() {
    let server = server_with_all_streams().start();
    let unchunked: Vec<&str> = STREAM_LINES
        .into_iter()
        .filter(|line| !line.starts_with("Transfer-Encoding"))
        .map(|line| match line.starts_with("Connection") {
            true => "Connection: close",
            false => line,
        })
        .collect();
    for (path, _) in STREAMS {
        let mut subscriber = server.subscribe_http_10(path);
        assert_eq!(subscriber.head.lines_but_date(), unchunked, "{path}");
        // Were there chunks, the first of them would be no comment.
        assert!(matches!(subscriber.next_item(), Item::Comment(_)), "{path}");
        // Keeping the connection changes nothing: only its end can end the stream.
        let request = format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let kept = Subscriber::request(server.connect(), request.as_bytes());
        assert_eq!(kept.head.lines_but_date(), unchunked, "{path}");
    }
}

#[test]
fn head_shows_the_head_of_a_stream_and_nothing_else() {
    let server = server_with_all_streams().start();
    for (path, _) in STREAMS {
        let mut connection = server.connect();
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = connection.read_head();
        assert_eq!(head.status_line, "HTTP/1.1 200 OK", "{path}");
        assert_eq!(head.lines_but_date(), STREAM_LINES, "{path}");
        // Had there been a body, it would stand before this reply.
        connection.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connection.read_reply().head.status(), 404, "{path}");

        let mut connection = server.connect();
        connection.send(format!("HEAD {path} HTTP/1.0\r\n\r\n"));
        assert_eq!(connection.read_head().status(), 200, "{path}");
        connection.expect_end();
    }
    assert!(server.connections().is_empty(), "nobody is subscribed");
}

/// What a stream begins with, as `retry:` in milliseconds of the scores' and of the others.
type Beginning<'a> = (&'a [(&'a str, &'a str)], Option<u64>, Option<u64>);

#[test]
fn the_first_bytes_come_at_once() {
    let table: &[Beginning<'_>] = &[
        (&[], None, None),
        (&[("SSE_SCORE_RETRY_MS", "7")], None, None),
        (&[("SSE_FORCE_REFRESH", "true")], Some(100), Some(500)),
        (
            &[
                ("SSE_FORCE_REFRESH", "true"),
                ("SSE_SCORE_RETRY_MS", "7"),
                ("SSE_DETAIL_RETRY_MS", "8"),
            ],
            Some(7),
            Some(8),
        ),
        (&[("SSE_RECONNECT_MS", "2500")], Some(2500), Some(2500)),
        (&[("SSE_RECONNECT", "2500")], Some(2500), Some(2500)),
    ];
    for (variables, score_ms, detail_ms) in table {
        let server = variables
            .iter()
            .fold(server_with_all_streams(), |options, (name, value)| {
                options.variable(name, value)
            })
            .start();
        for (path, is_score) in STREAMS {
            let retry_ms = if is_score { score_ms } else { detail_ms };
            for mut subscriber in [server.subscribe(path), server.subscribe_http_10(path)] {
                let first = subscriber.next_item();
                match retry_ms {
                    Some(retry_ms) => assert_eq!(first, Item::Retry(*retry_ms), "{path}"),
                    None => assert!(matches!(first, Item::Comment(_)), "{path}: {first:?}"),
                }
            }
        }
    }
}

#[test]
fn force_refresh_asks_for_cleanup() {
    let server = server_with_all_streams()
        .variable("SSE_FORCE_REFRESH", "true")
        .start();
    for (path, _) in STREAMS {
        let subscriber = server.subscribe(path);
        let field = subscriber.head.field("X-Sse-Cleanup-Requested");
        assert_eq!(field, Some("true"), "{path}");
    }
}

#[test]
fn a_silent_stream_is_kept_alive_with_comments() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("KEEPALIVE_SEC", "1")
        .start();
    let mut subscribers = [
        server.subscribe("/subscribe/eps"),
        server.subscribe("/subscribe/details/1F4C2"),
        server.subscribe_http_10("/subscribe/raw"),
    ];
    for subscriber in &mut subscribers {
        assert!(matches!(subscriber.next_item(), Item::Comment(_)));
    }
    let started = Instant::now();
    for subscriber in &mut subscribers {
        for _ in 0..3 {
            assert!(matches!(subscriber.next_item(), Item::Comment(_)));
        }
    }
    let silence = started.elapsed() / 3;
    let expected = Duration::from_millis(500)..Duration::from_secs(3);
    assert!(expected.contains(&silence), "{silence:?} between comments");
}

#[test]
fn a_server_that_ends_ends_every_stream_properly() {
    let mut server = server_with_all_streams().start();
    let mut subscribers: Vec<Subscriber> = STREAMS
        .iter()
        .flat_map(|(path, _)| [server.subscribe(path), server.subscribe_http_10(path)])
        .collect();
    end_and_check(&mut server, &mut subscribers, "TERM");
}

/// Ends the server with a signal, under traffic, and looks at how the streams end.
fn end_and_check(server: &mut Server, subscribers: &mut [Subscriber], signal: &str) {
    server.signal(signal);
    for subscriber in subscribers {
        let (_, end) = subscriber.read_to_end();
        assert_eq!(end, End::Proper);
        assert!(subscriber.is_at_boundary(), "it ends within an event");
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
}
