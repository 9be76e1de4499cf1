//! Channels: which names a client may subscribe to, and the exact bytes of their events.

use serde_json::json;

use crate::admin::admin_address;
use crate::support::channels::{
    come_back, embedded, id_of, options, publish, wait_for_subscribers,
};
use crate::support::http::request;
use crate::support::redis::{SCORES, TWEETS};
use crate::support::{
    Connection, End, Event, Item, Server, ServerOptions, Subscriber, redis_or_skip,
};

/// Messages, in the order in which they are published, and the lines of their events.
const MESSAGES: [(&str, &str, &str); 10] = [
    ("a", "1", "data: 1\n"),
    ("b", "x\ny\r\nz\rw", "data: x\ndata: y\ndata: z\ndata: w\n"),
    ("a", "", "data: \n"),
    ("b", " led", "data:  led\n"),
    ("b", "\n", "data: \ndata: \n"),
    ("a", "\r\n\r\n", "data: \ndata: \ndata: \n"),
    (
        "a",
        "id: 7\n\ndata: 8",
        "data: id: 7\ndata: \ndata: data: 8\n",
    ),
    ("b", "\u{2764} \u{1F4C2}", "data: \u{2764} \u{1F4C2}\n"),
    ("a", ": no comment", "data: : no comment\n"),
    ("b", "last", "data: last\n"),
];

/// The process and the number of an id.
#[track_caller]
fn parts(id: &str) -> (&str, u64) {
    let (epoch, number) = id.split_once('-').expect("an epoch and a number");
    let is_hexadecimal = |letter: char| letter.is_ascii_hexdigit() && !letter.is_uppercase();
    assert!(epoch.chars().all(is_hexadecimal), "{id}");
    (epoch, number.parse().expect("a number"))
}

/// Reads so many events, and makes sure that the stream consists of these events, of all channels or of one, with
/// ids of one process that grow.
#[track_caller]
fn expect_events(subscriber: &mut Subscriber, of: Option<&str>, is_named: bool) {
    let expected = MESSAGES
        .iter()
        .filter(|message| of.is_none_or(|of| of == message.0));
    let ids: Vec<String> = expected
        .clone()
        .map(|_| subscriber.next_event().id)
        .collect();
    let text = subscriber.text();
    let first = text.strip_prefix(":\nid: ").expect("a comment and an id");
    let (first, _) = first.split_once("\n\n").expect("a block");
    let (epoch, mut before) = parts(first);
    let mut stream = format!(":\nid: {first}\n\n");
    for ((channel, _, lines), id) in expected.zip(&ids) {
        let (of_process, number) = parts(id);
        assert_eq!(of_process, epoch);
        assert!(number > before, "{id} after {before}");
        before = number;
        if is_named {
            stream.push_str(&format!("event: {channel}\n"));
        }
        stream.push_str(lines);
        // A client that takes a position at once has the whole event by then.
        stream.push_str(&format!("id: {id}\n\n"));
    }
    assert_eq!(text, stream);
}

#[test]
fn events_are_exact_and_in_the_order_of_publishing() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut both = [
        "/?channels=a&channels=b&uuid=7&x=%zz",
        "/?channels=a,b",
        "/?uuid&channels=b,a,b&channels=a",
        "/subscribe/channels?channels=a%2Cb",
    ]
    .map(|path| server.subscribe(path));
    let mut http_10 = server.subscribe_http_10("/?channels=a,b");
    let mut named = [
        "/?channels=b,a&event=channel",
        "/?event=channel&channels=a&channels=b",
    ]
    .map(|path| server.subscribe(path));
    let mut one = [
        "/subscribe/channels/a",
        "/?channels=%61",
        "/?channels=a&event=x",
    ]
    .map(|path| server.subscribe(path));
    let mut one_named = server.subscribe("/subscribe/channels/a?event=channel");
    let messages = MESSAGES.map(|(channel, message, _)| (channel, message));
    redis.client().publish_all(messages);
    for subscriber in &mut both {
        expect_events(subscriber, None, false);
    }
    expect_events(&mut http_10, None, false);
    assert_eq!(http_10.head.field("Transfer-Encoding"), None);
    for subscriber in &mut named {
        expect_events(subscriber, None, true);
    }
    for subscriber in &mut one {
        expect_events(subscriber, Some("a"), false);
    }
    expect_events(&mut one_named, Some("a"), true);
    let head = server.ask_for_head("/subscribe/raw");
    assert_eq!(one_named.head.lines_but_date(), head.lines_but_date());
}

#[test]
fn channel_streams_have_the_retry_of_details() {
    let server = embedded().variable("SSE_RECONNECT_MS", "70").start();
    let mut subscriber = server.subscribe("/?channels=a");
    let id = id_of(&mut subscriber);
    assert_eq!(subscriber.next_item(), Item::Retry(70));
    assert_eq!(subscriber.text(), format!("retry:70\nid: {id}\n\n"));
}

#[test]
fn names_are_any_text() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let long = "x".repeat(200);
    let long_path = format!("/?channels={long}");
    let table = [
        ("/?channels=caf%C3%A9", "caf\u{e9}"),
        ("/?channels=%E2%9D%A4+x", "\u{2764} x"),
        ("/subscribe/channels/%E2%9D%A4%20x", "\u{2764} x"),
        ("/subscribe/channels/a+b", "a+b"),
        ("/?channels=a%2Fb", "a/b"),
        ("/?channels=a/b", "a/b"),
        ("/?channels=%2525", "%25"),
        ("/?channels=a%26b%3Dc", "a&b=c"),
        ("/subscribe/channels/a%2Cb", "a,b"),
        ("/?channels=%22%3Cb%3E", "\"<b>"),
        ("/?channels=%20", " "),
        ("/?channels=x[1]", "x[1]"),
        (long_path.as_str(), long.as_str()),
    ];
    let mut client = redis.client();
    for (path, name) in table {
        let mut subscriber = server.subscribe(path);
        client.publish(name, path);
        assert_eq!(subscriber.next_event().data, path);
        let question = if path.contains('?') { '&' } else { '?' };
        let mut named = server.subscribe(&format!("{path}{question}event=channel"));
        client.publish(name, "2");
        let event = named.next_event();
        assert_eq!((event.name.as_str(), event.data.as_str()), (name, "2"));
    }
}

#[test]
fn names_that_no_channel_has_are_bad_requests() {
    let server = embedded().start();
    let names = |count: usize| -> String {
        let names: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
        format!("/?channels={}", names.join(","))
    };
    let long = format!("/?channels={}", "x".repeat(201));
    let long_segment = format!("/subscribe/channels/{}", "x".repeat(201));
    let long_in_letters = format!("/?channels=a,{}", "%C3%A9".repeat(101));
    let too_many = names(33);
    let paths = [
        "/",
        "/?uuid=7",
        "/?channels",
        "/?channels=",
        "/?channels=a,",
        "/?channels=,a",
        "/?channels=a,,b",
        "/?channels=a&channels=",
        "/?channels=%00",
        "/?channels=a%0Ab",
        "/?channels=a%0D",
        "/?channels=a,%7F",
        "/?channels=%",
        "/?channels=%4",
        "/?channels=%zz",
        "/?channels=a&channels=%zz",
        "/?channels=%FF",
        "/?channels=%ED%A0%80",
        "/subscribe/channels",
        "/subscribe/channels?channels=",
        "/subscribe/channels/",
        "/subscribe/channels/%0A",
        "/subscribe/channels/a%2Fb",
        "/subscribe/channels/%FF",
        "/subscribe/channels/%zz",
        "/subscribe?ns=/channels/",
        &long,
        &long_segment,
        &long_in_letters,
        &too_many,
    ];
    for path in paths {
        for method in ["GET", "HEAD"] {
            let mut connection = server.connect();
            connection.send(request(method, path));
            let head = connection.read_head();
            assert_eq!(head.status(), 400, "{method} {path}");
            assert_eq!(head.field("Content-Type"), Some("application/json"));
            assert_eq!(head.field("Access-Control-Allow-Origin"), Some("*"));
        }
        assert!(server.ask("GET", path).json()["error"].is_string());
    }
    for count in [1, 32] {
        server.subscribe(&names(count));
    }
    // Each counts once.
    server.subscribe(&format!("{},c0,c31&channels=c7", names(32)));
}

#[test]
fn a_pattern_is_for_operators_unless_it_is_opened() {
    for (value, status) in [("false", 403), ("true", 200)] {
        let server = embedded()
            .variable("CHANNELS", "room.*")
            .variable("CHANNELS_PATTERNS", value)
            .start();
        for target in [
            "/subscribe/channels/room.*",
            "/subscribe/channels/room.%2A",
            "/?channels=room.*",
            "/?channels=room.1,room.*",
            "/subscribe?ns=/channels/room.*",
            "/subscribe?ns=/eps&ns=/channels/room.*",
        ] {
            let mut connection = server.connect();
            connection.send(request("GET", target));
            let head = connection.read_head();
            assert_eq!(head.status(), status, "{target} with {value}");
        }
        server.subscribe("/subscribe/channels/room.1");
    }
}

#[test]
fn channels_outside_the_patterns_are_forbidden() {
    let server = embedded()
        .variable("CHANNELS", "news, room.*,[xy]?,st\\*r")
        .start();
    let allowed = [
        "news", "room.", "room.1", "room.a.b", "room.*", "xx", "y1", "[xy]?", "st*r", "st\\*r",
    ];
    for name in allowed {
        let name = name.replace('[', "%5B").replace('\\', "%5C");
        server.subscribe(&format!("/?channels={name}"));
    }
    let refused = [
        "other",
        "newsx",
        "News",
        "room",
        "aroom.1",
        "x",
        "zz",
        "*",
        "st\\r",
        "stxr",
        "stream.score_updates",
    ];
    for name in refused {
        for path in [
            format!("/?channels={name}"),
            format!("/?channels=news,{name}"),
            format!("/subscribe/channels/{name}"),
            format!("/subscribe?ns=/channels/{name}"),
        ] {
            expect_forbidden(&server, &path, name);
        }
    }
}

#[track_caller]
fn expect_forbidden(server: &Server, path: &str, name: &str) {
    let reply = server.ask("GET", path);
    assert_eq!(reply.head.status(), 403, "{path}");
    let document = reply.json();
    assert_eq!(document["status"], "Forbidden", "{path}");
    let error = document["error"].as_str().expect("words");
    assert!(error.contains(&format!("{name:?}")), "{error}");
    assert_eq!(reply.head.field("Access-Control-Allow-Origin"), Some("*"));
}

#[test]
fn the_pipelines_own_channels_are_never_among_them() {
    for globs in ["*", "stream.*", "s*,stream.[a-z]*", "str?am.*,*updates*,*"] {
        let server = embedded().variable("CHANNELS", globs).start();
        for name in [
            "stream.score_updates",
            "stream.tweet_updates.",
            "stream.tweet_updates.2665",
            "stream.tweet_updates.*",
            "stream.interaction.a",
            "stream.interaction.*",
            "stream.admin.cleanup",
            "stream.admin.a",
        ] {
            expect_forbidden(&server, &format!("/?channels={name}"), name);
            expect_forbidden(&server, &format!("/?channels=stream.a,{name}"), name);
        }
        server.subscribe("/?channels=stream.a,stream.score_updates.a");
    }
    let output = embedded()
        .variable("CHANNELS", "a,stream.admin.*")
        .command()
        .output()
        .expect("to run");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn without_patterns_there_are_none() {
    let without = [ServerOptions::without_redis(), ServerOptions::demo()];
    for options in without {
        let server = options.start();
        for path in [
            "/?channels=a",
            "/?channels=",
            "/subscribe/channels",
            "/subscribe/channels/a",
            "/subscribe?ns=/channels/a",
            "/subscribe?ns=/eps&ns=/channels/a",
            "/stats",
            "/publish",
        ] {
            assert_eq!(server.ask("GET", path).head.status(), 404, "{path}");
        }
    }
    assert_eq!(
        ServerOptions::demo().start().ask("GET", "/").head.status(),
        200
    );
    let demo = ServerOptions::demo().variable("CHANNELS", "a").start();
    let page = demo.ask("GET", "/?uuid=7");
    assert_eq!(
        page.head.field("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let mut subscriber = demo.subscribe("/?channels=a");
    id_of(&mut subscriber);
}

#[test]
fn other_methods_are_answered_like_everywhere() {
    let server = embedded().start();
    for path in [
        "/?channels=a",
        "/subscribe/channels/a",
        "/subscribe/channels?channels=a",
    ] {
        let mut connection = server.connect();
        connection.send(request("HEAD", path));
        let head = connection.read_head();
        assert_eq!(head.status(), 200);
        let stream = server.ask_for_head(path);
        assert_eq!(head.lines_but_date(), stream.lines_but_date(), "{path}");
        connection.send(request("OPTIONS", path));
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), 204, "{path}");
        let methods = "GET, HEAD, OPTIONS";
        assert_eq!(reply.head.field("Allow"), Some(methods));
        assert_eq!(
            reply.head.field("Access-Control-Allow-Methods"),
            Some(methods)
        );
        let names = "Cache-Control, Last-Event-ID, Content-Type, X-Requested-With";
        assert_eq!(
            reply.head.field("Access-Control-Allow-Headers"),
            Some(names)
        );
        for method in ["POST", "PUT", "DELETE"] {
            connection.send(request(method, path));
            let reply = connection.read_reply();
            assert_eq!(reply.head.status(), 405, "{method} {path}");
            assert_eq!(reply.head.field("Allow"), Some(methods));
        }
    }
    let reply = server.ask("OPTIONS", "/publish");
    assert_eq!(reply.head.status(), 204);
    assert_eq!(
        reply.head.field("Access-Control-Allow-Methods"),
        Some("POST, OPTIONS")
    );
    let names = "Cache-Control, Last-Event-ID, Content-Type, Authorization";
    assert_eq!(
        reply.head.field("Access-Control-Allow-Headers"),
        Some(names)
    );
}

#[test]
fn channels_and_emoji_come_over_one_connection() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let path = "/subscribe?ns=/channels/a&ns=/eps";
    let mut client = redis.client();
    let mut subscriber = server.subscribe(path);
    client.publish("a", "1");
    assert_eq!(subscriber.next_event().data, "1");
    client.publish(SCORES, "2665");
    let event = subscriber.next_event();
    assert_eq!(event.data, r#"{"2665":1}"#);
    let id = event.id;
    assert!(!id.is_empty(), "an event without an id");
    subscriber.reset();
    client.publish("a", "2");
    client.publish("a", "3");
    let mut subscriber = come_back(&server, path, &id);
    assert_eq!(subscriber.next_data(2), ["2", "3"]);
    client.publish("a", "4");
    let event = subscriber.next_event();
    assert_eq!(event.data, "4");
    // What has an id once has it always: the place is one for all.
    client.publish(SCORES, "2665");
    let event = subscriber.next_event();
    assert_eq!(event.data, r#"{"2665":1}"#);
    assert_ne!(event.id, id);
    let rows = server.connections();
    assert_eq!(rows[0]["request_path"], path);
}

#[test]
fn a_pattern_brings_what_it_matches_and_nothing_of_the_pipeline() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis)
        .variable("CHANNELS", "*,stream.*")
        .variable("ENABLE_KIOSK_INTERACTION_STREAM", "true")
        .start();
    let mut all = server.subscribe("/?channels=*&event=channel");
    let mut streams = server.subscribe("/?channels=stream.*&event=channel");
    let mut covered = server.subscribe("/?channels=stream.a,b,*&event=channel");
    let mut raw = server.subscribe("/subscribe/raw");
    let mut details = server.subscribe("/subscribe/details");
    let mut kiosk = server.subscribe("/subscribe/kiosk_interaction");
    let mut client = redis.client();
    client.publish(SCORES, "2665");
    client.publish(format!("{TWEETS}2665"), "{}");
    client.publish("stream.interaction.a", "i");
    client.publish("stream.admin.cleanup", "{}");
    client.publish("stream.a", "1");
    client.publish("b", "2");
    client.publish("\u{2764}\nb", "3");
    client.publish("b", "last");
    client.publish("stream.b", "last");
    client.publish(SCORES, "1F4C2");
    client.publish(format!("{TWEETS}2666"), "{}");
    client.publish("stream.interaction.b", "j");
    let named = |subscriber: &mut Subscriber, count: usize| -> Vec<(String, String)> {
        let events = (0..count).map(|_| subscriber.next_event());
        events.map(|event| (event.name, event.data)).collect()
    };
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        let pairs = list.iter();
        pairs.map(|(a, b)| ((*a).into(), (*b).into())).collect()
    };
    // A channel whose name cannot be an event's has a message that cannot be sent.
    let expected = pairs(&[
        ("stream.a", "1"),
        ("b", "2"),
        ("gap", "null"),
        ("b", "last"),
        ("stream.b", "last"),
    ]);
    assert_eq!(named(&mut all, 5), expected);
    assert_eq!(named(&mut covered, 5), expected);
    assert_eq!(
        named(&mut streams, 2),
        pairs(&[("stream.a", "1"), ("stream.b", "last")])
    );
    assert_eq!(raw.next_data(2), ["2665", "1F4C2"]);
    let tweets = [format!("{TWEETS}2665"), format!("{TWEETS}2666")];
    assert_eq!(
        named(&mut details, 2),
        pairs(&[(&tweets[0], "{}"), (&tweets[1], "{}")])
    );
    assert_eq!(
        named(&mut kiosk, 2),
        pairs(&[("stream.interaction.a", "i"), ("stream.interaction.b", "j")])
    );
}

#[test]
fn what_a_pattern_covers_comes_once_however_it_is_asked_for() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut client = redis.client();
    for path in [
        "/?channels=a,*",
        "/?channels=*&channels=a",
        "/subscribe?ns=/channels/a&ns=/channels/*",
        "/subscribe?ns=/channels/*&ns=/channels/a",
        "/subscribe?ns=/channels/*&ns=/eps&ns=/channels/a",
    ] {
        let mut subscriber = server.subscribe(path);
        client.publish("a", "1");
        client.publish("b", "2");
        client.publish("a", "3");
        assert_eq!(subscriber.next_data(3), ["1", "2", "3"], "{path}");
    }
}

#[test]
fn a_message_that_is_dropped_is_a_gap() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("LOG_BYTES_MAX", "262144").start();
    let mut client = redis.client();
    let mut stranger = server.subscribe("/?channels=b");
    let table: [(&str, Vec<u8>); 2] = [
        ("no text", b"\xff\xfe".to_vec()),
        // Half of the log is the most that a message may take.
        ("too large", vec![b'x'; 200_000]),
    ];
    for (what, dropped) in table {
        let open = |path: &str| [server.subscribe(path), server.subscribe_http_10(path)];
        let paths = [
            "/?channels=a",
            "/?channels=a&event=channel",
            "/?channels=c,a",
            "/?channels=*",
            "/subscribe?ns=/eps&ns=/channels/a",
        ];
        let mut subscribers: Vec<Subscriber> = paths.into_iter().flat_map(open).collect();
        let mut first = server.subscribe("/?channels=a");
        client.publish("a", "1");
        let before = first.next_event().id;
        client.publish("a", dropped.as_slice());
        client.publish("a", "2");
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.next_data(1), ["1"], "{what}");
            let gap = subscriber.next_event();
            assert_eq!(
                (gap.name.as_str(), gap.data.as_str()),
                ("gap", "null"),
                "{what}"
            );
            assert_eq!(subscriber.next_data(1), ["2"], "{what}");
        }
        // It has a place like any event, and the form of any gap.
        let gap = first.next_event();
        assert_eq!(gap.name, "gap", "{what}");
        let gap = gap.id;
        let block = format!("\n\nevent: gap\ndata: null\nid: {gap}\n\n");
        let text = first.text();
        assert_eq!(text.matches(&block).count(), 1, "{what}: {text:?}");
        // A client that was away receives the gap, too; one that has already received it does not get it again.
        let mut second = come_back(&server, "/?channels=a", &before);
        assert_eq!(second.next_event().name, "gap", "{what}");
        assert_eq!(second.next_data(1), ["2"], "{what}");
        let mut second = come_back(&server, "/?channels=a", &gap);
        assert_eq!(second.next_data(1), ["2"], "{what}");
    }
    // Other channels have no gap.
    client.publish("b", "3");
    let event = stranger.next_event();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("message", "3"));
}

#[test]
fn a_poll_is_answered_with_the_gap_that_a_dropped_message_leaves() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("KEEPALIVE_SEC", "50").start();
    let mut connection = server.connect();
    let script = "X-Requested-With: XMLHttpRequest";
    connection.send(format!(
        "GET /?channels=a HTTP/1.1\r\nHost: a\r\n{script}\r\n\r\n"
    ));
    wait_for_subscribers(&redis, "a", 1);
    redis.client().publish("a", b"\xff\xfe");
    let text = connection.read_reply().text();
    let block = text.strip_prefix("event: gap\ndata: null\nid: ");
    assert!(block.is_some_and(|id| id.ends_with("\n\n")), "{text:?}");
}

#[test]
fn statistics_count_the_clients_of_each_channel() {
    let server = embedded().start();
    server.wait_for_stats(&json!([]));
    let paths = [
        "/?channels=a",
        "/?channels=a&event=channel",
        "/?channels=b,a",
        "/?channels=c,b&event=channel",
        "/subscribe?ns=/eps&ns=/channels/a",
        "/?channels=*",
        "/subscribe/eps",
    ];
    let mut crowd: Vec<Subscriber> = paths.iter().map(|path| server.subscribe(path)).collect();
    server.wait_for_stats(&json!([["a", 4], ["b", 2], ["*", 1], ["c", 1]]));
    let reply = server.ask("GET", "/stats");
    assert_eq!(
        reply.text(),
        "[[\"a\", 4], [\"b\", 2], [\"*\", 1], [\"c\", 1]]\n"
    );
    assert_eq!(reply.head.field("Content-Type"), Some("application/json"));
    let streams = &server.status()["stats"]["streams"];
    assert_eq!(streams["channels"], 5, "{streams}");
    // A lingering channel has no subscribers.
    crowd.remove(0).reset();
    crowd.remove(2).reset();
    server.wait_for_stats(&json!([["a", 3], ["*", 1], ["b", 1]]));
    crowd.clear();
    server.wait_for_stats(&json!([]));
}

#[test]
fn statistics_are_behind_what_admin_pages_are_behind() {
    let server = embedded().variable("ADMIN_TOKEN", "secret").start();
    let _subscriber = server.subscribe("/?channels=a");
    assert_eq!(server.ask("GET", "/stats").head.status(), 401);
    let mut connection = server.connect();
    connection
        .send("GET /stats HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\n\r\n");
    let reply = connection.read_reply();
    assert_eq!(reply.json(), json!([["a", 1]]));
    assert_eq!(reply.head.field("Access-Control-Allow-Origin"), None);

    let server = embedded().variable("ADMIN_LISTEN", "127.0.0.1:0").start();
    let _subscriber = server.subscribe("/?channels=a");
    assert_eq!(server.ask("GET", "/stats").head.status(), 404);
    let mut connection = Connection::open(admin_address(&server));
    connection.send(request("GET", "/stats"));
    assert_eq!(connection.read_reply().json(), json!([["a", 1]]));
    connection.send(request("GET", "/?channels=a"));
    assert_eq!(connection.read_reply().head.status(), 404);
}

#[test]
fn a_channels_stream_ends_like_any_other() {
    let mut server = embedded().variable("DRAIN_SEC", "0").start();
    let mut subscriber = server.subscribe("/?channels=a");
    publish(&server, "a", "1");
    let Event { id, .. } = subscriber.next_event();
    server.signal("TERM");
    let (events, end) = subscriber.read_to_end();
    assert_eq!((events, end), (vec![], End::Proper));
    // The last position is that of the event, or a later one: there may have been messages for others.
    let parts = |id: &str| -> (String, u64) {
        let (epoch, number) = id.split_once('-').expect("a position");
        (epoch.to_owned(), number.parse().expect("a number"))
    };
    let last = parts(subscriber.last_event_id().expect("a position"));
    let (epoch, number) = parts(&id);
    assert!(last.0 == epoch && last.1 >= number, "{last:?} after {id}");
    assert!(server.wait_for_exit().success());
}
