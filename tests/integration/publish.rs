//! Publishing over HTTP: with common clients, and with everything that may go wrong.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::channels::{
    KEY, embedded, options, publication, publish, publish_over, wait_for_subscribers,
};
use crate::support::redis::{SCORES, TWEETS};
use crate::support::server::{SUBSCRIBED, signal};
use crate::support::{
    Connection, Event, Redis, Reply, Server, ServerOptions, Subscriber, Sums, add_sums,
    redis_or_skip, wait_until,
};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Runs a program with this on its standard input. Both that are run here are on every machine that builds this.
#[track_caller]
fn run(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("to start");
    let mut stdin = child.stdin.take().expect("an input");
    stdin.write_all(input).expect("to write");
    drop(stdin);
    child.wait_with_output().expect("an end")
}

/// Has `curl` send this to `/publish`; the status, and what it printed.
#[track_caller]
fn curl(server: &Server, arguments: &[&str], input: &[u8]) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["-sS", "-w", "\n%{http_code}", "--max-time", "20"]);
    command.args(arguments);
    command.arg(format!("http://{}/publish", server.address()));
    let output = run(&mut command, input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "curl {arguments:?}: {errors}");
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

#[test]
fn curl_publishes_forms_and_documents() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut subscriber = server.subscribe("/?channels=a,b&event=channel");
    let bearer = format!("Authorization: Bearer {KEY}");
    let key = format!("key={KEY}");
    let json = format!("Content-Type: {JSON}");
    let document = format!(r#"{{"channel": ["a", "b"], "message": "4\n5", "key": "{KEY}"}}"#);
    let authorized = r#"{"channel": "a", "message": "6 ❤"}"#;
    let table: [(&[&str], &[(&str, &str)]); 7] = [
        (
            &["-d", "channel=a", "-d", "message=1", "-d", &key],
            &[("a", "1")],
        ),
        (&["-d", "channel=a&message=2", "-H", &bearer], &[("a", "2")]),
        (
            &[
                "-d",
                "channel=a&channel=b",
                "--data-urlencode",
                "message=3 & ❤\n=",
                "-d",
                &key,
            ],
            &[("a", "3 & \u{2764}\n="), ("b", "3 & \u{2764}\n=")],
        ),
        (
            &["-H", &json, "-d", &document],
            &[("a", "4\n5"), ("b", "4\n5")],
        ),
        (
            &["-H", &json, "-H", &bearer, "-d", authorized],
            &[("a", "6 \u{2764}")],
        ),
        (
            &["-H", &bearer, "--http1.0", "-d", "channel=b&message=7"],
            &[("b", "7")],
        ),
        (
            &[
                "-H",
                &bearer,
                "-H",
                "Transfer-Encoding: chunked",
                "-d",
                "channel=b&message=8",
            ],
            &[("b", "8")],
        ),
    ];
    for (arguments, expected) in table {
        let (status, body) = curl(&server, arguments, b"");
        assert_eq!(
            (status.as_str(), body.as_str()),
            ("200", "{\"status\": \"ok\"}\n")
        );
        for (channel, message) in expected {
            let event = subscriber.next_event();
            assert_eq!(
                (event.name.as_str(), event.data.as_str()),
                (*channel, *message)
            );
        }
    }
    // Without subscribers it is still accepted: another copy may have some.
    let (status, _) = curl(
        &server,
        &["-H", &bearer, "-d", "channel=nobody&message=x"],
        b"",
    );
    assert_eq!(status, "200");
}

#[test]
fn curl_sends_large_bodies_after_100_continue() {
    expect_large_bodies(&embedded().start());
    let Some(redis) = redis_or_skip() else { return };
    expect_large_bodies(&options(&redis).start());
}

#[track_caller]
fn expect_large_bodies(server: &Server) {
    let mut subscriber = server.subscribe("/?channels=a");
    let message = "x".repeat(900 * 1024);
    let form = format!("channel=a&message={message}");
    let bearer = format!("Authorization: Bearer {KEY}");
    let field = format!("{form}&key={KEY}");
    let expect = ["-H", "Expect: 100-continue", "--data-binary", "@-"];
    let chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", "@-"];
    let tables: [(&[&str], &str); 4] = [
        (&[&expect[..], &["-H", &bearer]].concat(), &form),
        (&expect, &field),
        (&[&chunked[..], &["-H", &bearer]].concat(), &form),
        (&[&chunked[..], &["-H", "Expect:"]].concat(), &field),
    ];
    for (arguments, body) in tables {
        let (status, words) = curl(server, arguments, body.as_bytes());
        assert_eq!(status, "200", "{words}");
        assert_eq!(subscriber.next_event().data.len(), message.len());
    }
}

#[test]
fn python_publishes_what_it_encodes() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut subscriber = server.subscribe("/?channels=a,%C3%A9&event=channel");
    let script = r#"
import json, sys, urllib.error, urllib.parse, urllib.request
url, key = sys.argv[1:]
def send(body, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, names)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return [reply.status, json.load(reply)["status"]]
    except urllib.error.HTTPError as error:
        return [error.code, json.load(error)["status"]]
form = lambda **fields: urllib.parse.urlencode(fields, doseq=True).encode()
document = lambda **fields: json.dumps(fields).encode()
bearer = "Bearer " + key
as_json = "application/json; charset=utf-8"
print(json.dumps([
    send(form(channel=["a", "é"], message="1 +&=%\n❤", key=key)),
    send(form(channel="a", message="2"), Authorization=bearer),
    send(document(channel=["a", "é"], message="3\u2764\r\n", key=key), Content_Type=as_json),
    send(document(channel="é", message=""), Content_Type=as_json, Authorization=bearer),
    send(form(channel="a", message="no"), Authorization="Bearer no"),
    send(form(message="no", key=key)),
    send(document(channel="stream.score_updates", message="x", key=key), Content_Type=as_json),
]))
"#;
    let mut python = Command::new("python3");
    python.args(["-", &format!("http://{}/publish", server.address()), KEY]);
    let output = run(&mut python, script.as_bytes());
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let answers: serde_json::Value = serde_json::from_str(&text).expect(&errors);
    let expected = json!([
        [200, "ok"],
        [200, "ok"],
        [200, "ok"],
        [200, "ok"],
        [401, "Unauthorized"],
        [400, "Bad Request"],
        [403, "Forbidden"],
    ]);
    assert_eq!(answers, expected);
    let first = "1 +&=%\n\u{2764}";
    // The receiver of an event gets every line end as LF.
    let third = "3\u{2764}\n";
    for (channel, message) in [
        ("a", first),
        ("\u{e9}", first),
        ("a", "2"),
        ("a", third),
        ("\u{e9}", third),
        ("\u{e9}", ""),
    ] {
        let event = subscriber.next_event();
        assert_eq!(
            (event.name.as_str(), event.data.as_str()),
            (channel, message)
        );
    }
}

/// Sends a publication with these header lines.
#[track_caller]
fn post(server: &Server, lines: &str, body: &str) -> Reply {
    let mut connection = server.connect();
    connection.send(request_with(lines, body));
    connection.read_reply()
}

fn request_with(lines: &str, body: &str) -> String {
    let len = body.len();
    format!("POST /publish HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: {len}\r\n\r\n{body}")
}

#[test]
fn what_cannot_be_published_is_refused_with_what_is_wrong() {
    let Some(redis) = redis_or_skip() else { return };
    let servers = [
        options(&redis).variable("CHANNELS", "a,b,room.*").start(),
        embedded().variable("CHANNELS", "a,b,room.*").start(),
        ServerOptions::demo()
            .variable("CHANNELS", "a,b,room.*")
            .variable("CHANNELS_PATTERNS", "true")
            .variable("PUBLISH_KEY", KEY)
            .start(),
    ];
    let bearer = format!("Authorization: Bearer {KEY}\r\n");
    let form = format!("Content-Type: {FORM}\r\n");
    let json = format!("Content-Type: {JSON}\r\n");
    let both = format!("{bearer}{form}");
    let both_json = format!("{bearer}{json}");
    let names = |count: usize| -> String {
        let names = (0..count).map(|number| format!("channel=room.{number}&"));
        names.collect::<String>() + "message=x"
    };
    let (most, too_many) = (names(32), names(33));
    let long = format!("channel={}&message=x", "a".repeat(201));
    let table: [(&str, &str, u16, &str); 25] = [
        (&both, "channel=a&message=x", 200, "ok"),
        (&form, &format!("channel=a&message=x&key={KEY}"), 200, "ok"),
        (&both, "channel=room.1&message=", 200, "ok"),
        (&both, &most, 200, "ok"),
        (&form, "channel=a&message=x", 401, "key"),
        (&form, "channel=a&message=x&key=sesam", 401, "key"),
        (&form, "channel=a&message=x&key=", 401, "key"),
        (
            &format!("Authorization: Bearer sesamE\r\n{form}"),
            "channel=a&message=x",
            401,
            "key",
        ),
        (
            &json,
            r#"{"channel":"a","message":"x","key":"no"}"#,
            401,
            "key",
        ),
        (&both, "message=x", 400, "channel"),
        (&both, "channel=a", 400, "message"),
        (&both, "channel=&message=x", 400, "channel"),
        (&both, "channel=%0A&message=x", 400, "channel"),
        (&both, "channel=a&message=%zz", 400, "%"),
        (&both, "channel=a&message=%FF", 400, "UTF-8"),
        (&both, &long, 400, "channel"),
        (&both, &too_many, 400, "32"),
        (&both_json, "{", 400, "JSON"),
        (&both_json, r#"{"channel":"a","message":1}"#, 400, "message"),
        (&both, "channel=other&message=x", 403, "other"),
        (&both, "channel=a&channel=other&message=x", 403, "other"),
        (&both, "channel=room&message=x", 403, "room"),
        (&bearer, "channel=a&message=x", 415, "Content-Type"),
        (
            &format!("{bearer}Content-Type: text/plain\r\n"),
            "x",
            415,
            "Content-Type",
        ),
        (
            &format!("{bearer}Content-Type: multipart/form-data; boundary=b\r\n"),
            "x",
            415,
            "Content-Type",
        ),
    ];
    for server in &servers {
        for (last, (lines, body, status, word)) in (1..).zip(&table) {
            // Each comes from an address of its own, because many wrong keys from one are not looked at.
            let mut connection = Connection::open_from([127, 0, 1, last].into(), server.address());
            connection.send(request_with(lines, body));
            let reply = connection.read_reply();
            let text = reply.text();
            assert_eq!(reply.head.status(), *status, "{lines:?} {body:.60}: {text}");
            assert!(text.contains(word), "{lines:?} {body:.60}: {text}");
            assert_eq!(reply.head.field("Access-Control-Allow-Origin"), Some("*"));
            let challenge = (*status == 401).then_some("Bearer");
            assert_eq!(reply.head.field("WWW-Authenticate"), challenge);
        }
        for name in [
            "stream.admin.cleanup",
            "stream.interaction.a",
            "stream.tweet_updates.",
        ] {
            let reply = post(server, &both, &format!("channel={name}&message=x"));
            assert_eq!(reply.head.status(), 403, "{name}");
        }
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let mut connection = server.connect();
            connection.send(crate::support::http::request(method, "/publish"));
            let head = connection.read_head();
            assert_eq!(head.status(), 405, "{method}");
            assert_eq!(head.field("Allow"), Some("POST, OPTIONS"));
        }
        let mut connection = server.connect();
        connection.send(format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\n{both}Content-Length: 1048577\r\n\r\n"
        ));
        assert_eq!(connection.read_reply().head.status(), 413);
    }
    // Nor is it there without a key to be known by.
    let without = ServerOptions::demo().variable("CHANNELS", "*").start();
    assert_eq!(
        post(&without, &both, "channel=a&message=x").head.status(),
        404
    );
}

#[test]
fn too_much_for_all_channels_together_is_refused() {
    let server = embedded().start();
    let message = "x".repeat(1024 * 1024 - 200);
    let mut connection = server.connect();
    let body = format!("channel=a&channel=b&message={message}");
    assert_eq!(publish_over(&mut connection, &body), 200);
    let body = format!("channel=a&channel=b&channel=c&message={message}");
    assert_eq!(publish_over(&mut connection, &body), 413);
    // Without a broker, a message too large for the log is refused.
    let server = embedded().variable("LOG_BYTES_MAX", "262144").start();
    let body = format!("channel=a&message={}", "x".repeat(200_000));
    assert_eq!(publish_over(&mut server.connect(), &body), 413);
}

#[test]
fn one_connection_publishes_again_and_again() {
    let Some(redis) = redis_or_skip() else { return };
    for server in [options(&redis).start(), embedded().start()] {
        let mut subscriber = server.subscribe("/?channels=a");
        let mut connection = server.connect();
        for number in 0..200 {
            let form = format!("channel=a&message={number}");
            assert_eq!(publish_over(&mut connection, &form), 200);
        }
        // Pipelined requests are answered in order.
        let pipelined: String = (200..400)
            .map(|number| match number % 10 {
                9 => publication("channel=a"),
                _ => publication(&format!("channel=a&message={number}")),
            })
            .collect();
        let mut sender = connection.try_clone().expect("another handle");
        let sending = thread::spawn(move || sender.send(pipelined));
        for number in 200..400 {
            let expected = if number % 10 == 9 { 400 } else { 200 };
            assert_eq!(connection.read_reply().head.status(), expected);
        }
        sending.join().expect("to send");
        for number in (0..400).filter(|number| *number < 200 || number % 10 != 9) {
            assert_eq!(subscriber.next_event().data, number.to_string());
        }
    }
}

#[test]
fn two_copies_deliver_publications_to_either() {
    let Some(redis) = redis_or_skip() else { return };
    let servers = [options(&redis).start(), options(&redis).start()];
    let mut subscribers = servers.each_ref().map(|it| it.subscribe("/?channels=a"));
    wait_for_subscribers(&redis, "a", 2);
    for (number, server) in servers.iter().enumerate() {
        publish(server, "a", &number.to_string());
    }
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_data(2), ["0", "1"]);
    }
}

#[test]
fn without_a_broker_the_emoji_come_by_publications_as_well() {
    for channels in ["*", "none-of-these"] {
        let server = embedded().variable("CHANNELS", channels).start();
        let mut eps = server.subscribe("/subscribe/eps");
        let mut raw = server.subscribe("/subscribe/raw");
        let mut details = server.subscribe("/subscribe/details");
        let mut detail = server.subscribe("/subscribe/details/2665");
        publish(&server, SCORES, "2665");
        publish(&server, &format!("{TWEETS}2665"), "%7B%7D");
        publish(&server, SCORES, "1F4C2");
        publish(&server, &format!("{TWEETS}1F4C2"), "other");
        publish(&server, SCORES, "2665");
        assert_eq!(raw.next_data(3), ["2665", "1F4C2", "2665"]);
        let mut sums = Sums::new();
        while sums.values().sum::<u64>() < 3 {
            add_sums(&mut sums, &eps.next_event().data);
        }
        assert_eq!((sums["2665"], sums["1F4C2"]), (2, 1));
        let name = format!("{TWEETS}2665");
        assert_eq!(detail.next_event(), Event::new(&name, "{}"));
        assert_eq!(details.next_event(), Event::new(&name, "{}"));
        assert_eq!(details.next_event().data, "other");
        assert_eq!(server.status()["status"], "OK");
        assert_eq!(server.ask("GET", "/readyz").head.status(), 200);
    }
    // Where there is a broker, they are the feeder's.
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let status = publish_over(
        &mut server.connect(),
        &format!("channel={SCORES}&message=2665"),
    );
    assert_eq!(status, 403);
}

#[test]
fn the_demo_has_channels_beside_its_own_emoji() {
    let server = ServerOptions::demo()
        .variable("CHANNELS", "a,room.*")
        .variable("CHANNELS_PATTERNS", "true")
        .variable("PUBLISH_KEY", KEY)
        .start();
    let mut subscriber = server.subscribe("/?channels=a,room.*&event=channel");
    let mut eps = server.subscribe("/subscribe/eps");
    eps.next_event();
    publish(&server, "a", "1");
    publish(&server, "room.7", "2");
    let events = [subscriber.next_event(), subscriber.next_event()];
    assert_eq!(
        events.each_ref().map(|event| event.name.as_str()),
        ["a", "room.7"]
    );
    server.wait_for_stats(&json!([["a", 1], ["room.*", 1]]));
    eps.next_event();
}

#[test]
fn nothing_is_taken_while_redis_is_away() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = options(&redis).start();
    let mut subscriber = server.subscribe("/?channels=a");
    let mut connection = server.connect();
    redis.kill();
    server.wait_for_log("; trying");
    for _ in 0..3 {
        connection.send(publication("channel=a&message=lost"));
        let reply = connection.read_reply();
        assert_eq!(reply.head.status(), 503);
        assert!(reply.head.field("Retry-After").is_some());
        assert!(reply.json()["error"].is_string());
    }
    redis.restart();
    server.wait_for_log_count(SUBSCRIBED, 2);
    wait_until("publications are taken again", || {
        publish_over(&mut connection, "channel=a&message=again") == 200
    });
    assert_eq!(subscriber.next_event().name, "gap");
    assert_eq!(subscriber.next_event().data, "again");
}

#[test]
fn a_redis_that_does_not_answer_is_a_503() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut subscriber = server.subscribe("/?channels=a");
    signal(redis.process_id(), "STOP");
    let asked_at = Instant::now();
    let mut connection = server.connect();
    let status = publish_over(&mut connection, "channel=a&message=1");
    let elapsed = asked_at.elapsed();
    signal(redis.process_id(), "CONT");
    assert_eq!(status, 503);
    assert!(elapsed > Duration::from_millis(1_500), "{elapsed:?}");
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    // It was not acknowledged, but Redis may still deliver it, and here it does.
    assert_eq!(subscriber.next_event().data, "1");
    assert_eq!(publish_over(&mut connection, "channel=a&message=2"), 200);
    assert_eq!(subscriber.next_event().data, "2");
}

/// Publishes numbers until told otherwise; those that were acknowledged.
struct Publishing {
    thread: thread::JoinHandle<BTreeSet<usize>>,
    stop: mpsc::Sender<()>,
}

impl Publishing {
    fn begin(server: &Server) -> Publishing {
        let (stop, stopped) = mpsc::channel();
        let mut connection = server.connect();
        let thread = thread::spawn(move || {
            let mut acknowledged = BTreeSet::new();
            for number in 0.. {
                let form = format!("channel=a&message={number}");
                match publish_over(&mut connection, &form) {
                    200 => {
                        acknowledged.insert(number);
                    }
                    status => assert_eq!(status, 503),
                }
                // A pace, and the end of it.
                match stopped.recv_timeout(Duration::from_millis(1)) {
                    Err(mpsc::RecvTimeoutError::Timeout) => {}
                    _ => break,
                }
            }
            acknowledged
        });
        Publishing { thread, stop }
    }

    #[track_caller]
    fn end(self) -> BTreeSet<usize> {
        self.stop.send(()).expect("to stop");
        self.thread.join().expect("a publisher")
    }
}

/// Who is attached all the time, and what it has got.
struct Attached {
    subscriber: Subscriber,
    numbers: BTreeSet<usize>,
}

impl Attached {
    fn new(server: &Server) -> Attached {
        Attached {
            subscriber: server.subscribe("/?channels=a"),
            numbers: BTreeSet::new(),
        }
    }

    /// Reads one message; false where it was the last. Gaps tell of others that may be missing.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut event = self.subscriber.next_event();
        while event.name == "gap" {
            event = self.subscriber.next_event();
        }
        let data = event.data;
        if data == "end" {
            return false;
        }
        let is_new = self.numbers.insert(data.parse().expect("a number"));
        assert!(is_new, "{data} came twice");
        true
    }

    #[track_caller]
    fn read_some(&mut self, count: usize) {
        (0..count).for_each(|_| assert!(self.read()));
    }

    #[track_caller]
    fn lost(mut self, server: &Server, publishing: Publishing) -> usize {
        let acknowledged = publishing.end();
        let mut connection = server.connect();
        wait_until("the last one is taken", || {
            publish_over(&mut connection, "channel=a&message=end") == 200
        });
        while self.read() {}
        let lost: Vec<_> = acknowledged.difference(&self.numbers).collect();
        let count = acknowledged.len();
        assert!(count > 40, "{count} acknowledged");
        eprintln!("lost of {count}: {lost:?}");
        lost.len()
    }
}

// What is acknowledged has been taken by a Redis that we are subscribed to, and comes to us over that connection;
// who is attached here gets it. What was not acknowledged may come as well, or not. So acknowledged ⊆ delivered.

/// Has Redis end and begin again under a publisher; how many acknowledged messages were lost.
fn lost_over_restarts(redis: &mut Redis, end: impl Fn(&mut Redis)) -> usize {
    let server = options(redis).start();
    let mut attached = Attached::new(&server);
    let publishing = Publishing::begin(&server);
    for times in 1..=RESTARTS {
        attached.read_some(50);
        end(redis);
        server.wait_for_log("; trying");
        redis.restart();
        server.wait_for_log_count(SUBSCRIBED, times + 1);
    }
    attached.lost(&server, publishing)
}

const RESTARTS: usize = 4;

#[test]
fn what_is_acknowledged_is_delivered_although_redis_ends() {
    if let Some(mut redis) = redis_or_skip() {
        assert_eq!(lost_over_restarts(&mut redis, Redis::end), 0);
    }
}

#[test]
fn what_is_acknowledged_is_delivered_although_redis_is_killed() {
    if let Some(mut redis) = redis_or_skip() {
        // It may be killed after it has written to the publisher, and before it has to the subscriber: microseconds.
        let lost = lost_over_restarts(&mut redis, Redis::kill);
        assert!(lost <= 1, "{lost} were lost");
    }
}

#[test]
fn what_is_acknowledged_is_delivered_although_redis_stops_for_a_while() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut attached = Attached::new(&server);
    let publishing = Publishing::begin(&server);
    for _ in 0..2 {
        attached.read_some(50);
        signal(redis.process_id(), "STOP");
        // For longer than an answer is waited for.
        thread::sleep(Duration::from_secs(3));
        signal(redis.process_id(), "CONT");
    }
    attached.read_some(50);
    assert_eq!(attached.lost(&server, publishing), 0);
}

#[test]
fn what_is_acknowledged_is_delivered_although_one_connection_breaks() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut attached = Attached::new(&server);
    let publishing = Publishing::begin(&server);
    let mut client = redis.client();
    for times in 1..=5 {
        attached.read_some(20);
        // The connection that brings messages goes, and the one for commands stays.
        client.command("CLIENT KILL TYPE pubsub");
        server.wait_for_log_count("; trying", times);
        server.wait_for_log_count(SUBSCRIBED, times + 1);
    }
    assert_eq!(attached.lost(&server, publishing), 0);
}

/// Senders without a key, and what each sends of its body.
const SLOW: usize = 40;
const SENT_BYTES: usize = 700 * 1024;

#[test]
fn what_unproven_senders_have_us_hold_is_bounded() {
    let server = embedded().start();
    let mut subscriber = server.subscribe("/?channels=a");
    let before = server.memory_bytes();
    let body = vec![b'x'; SENT_BYTES];
    let head = format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: 1000000\r\n\r\n"
    );
    let mut refused = 0;
    let mut senders: Vec<Connection> = Vec::new();
    for _ in 0..SLOW {
        let mut connection = server.connect();
        connection.send(&head);
        let mut sent = 0;
        // Whoever is refused finds out while it sends.
        while sent < body.len() {
            match connection.try_send(&body[sent..]) {
                Ok(len) => sent += len,
                Err(_) => break,
            }
        }
        senders.push(connection);
    }
    wait_until("those for whom there is no room are refused", || {
        let growth = server.memory_bytes().saturating_sub(before);
        assert!(growth < 40 * 1024 * 1024, "{growth} bytes");
        server.status()["stats"]["closes"]["protocol"].as_u64() >= Some(20)
    });
    for connection in &mut senders {
        connection.set_patience(Duration::from_millis(1));
        match connection.receive() {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
                assert!(text.contains("Retry-After: 5\r\n"), "{text}");
                refused += 1;
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => refused += 1,
            Err(_) => {}
        }
    }
    assert!((20..SLOW).contains(&refused), "{refused} refused");
    // Who shows the key is served meanwhile, with any length.
    let form = format!("channel=a&message={}", "y".repeat(500_000));
    assert_eq!(publish_over(&mut server.connect(), &form), 200);
    assert_eq!(subscriber.next_event().data.len(), 500_000);
    // When the others have gone, there is room again.
    drop(senders);
    let field = format!("{form}&key={KEY}");
    wait_until("there is room", || {
        let reply = post(&server, &format!("Content-Type: {FORM}\r\n"), &field);
        reply.head.status() == 200
    });
}

#[test]
fn a_burst_without_a_broker_reaches_all_that_read() {
    const PUBLISHERS: usize = 40;
    let server = embedded().start();
    let mut reader = server.subscribe("/?channels=a");
    let text = "x".repeat(100_000);
    thread::scope(|scope| {
        for _ in 0..PUBLISHERS {
            let (server, form) = (&server, format!("channel=a&message={text}"));
            scope.spawn(move || {
                assert_eq!(publish_over(&mut server.connect(), &form), 200);
            });
        }
        // As much as the log holds, and all of it at once.
        let received = reader.next_data(PUBLISHERS);
        assert!(received.iter().all(|data| *data == text));
    });
}

#[test]
fn large_bodies_without_a_key_do_not_keep_out_small_ones() {
    let server = embedded().start();
    // Each lacks only its last byte.
    let _held: Vec<Connection> = (0..9)
        .map(|_| {
            let mut connection = server.connect();
            let (head, body) = (
                format!("Content-Length: {}", 1 << 20),
                vec![b'x'; (1 << 20) - 1],
            );
            let head = format!(
                "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n{head}\r\n\r\n"
            );
            connection.send(head);
            // What is refused may not be read to its end.
            let _sent = connection.try_send(&body);
            connection
        })
        .collect();
    let form = format!("channel=a&message=x&key={KEY}");
    let len = form.len();
    let mut connection = server.connect();
    connection.send(format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nContent-Length: {len}\r\n\r\n{form}"
    ));
    assert_eq!(connection.read_reply().head.status(), 200);
}

#[test]
fn a_message_that_no_log_takes_is_refused_with_a_broker_as_well() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).variable("LOG_BYTES_MAX", "512k").start();
    let form = |len| format!("channel=a&message={}", "x".repeat(len));
    for (len, status) in [(200_000, 200), (300_000, 413)] {
        assert_eq!(publish_over(&mut server.connect(), &form(len)), status);
    }
}

#[test]
fn a_wrong_key_in_the_head_is_refused_before_the_body_is_read() {
    let server = ServerOptions::new()
        .variable("CHANNELS", "a")
        .variable("PUBLISH_KEY", KEY)
        .start();
    let right = format!("Bearer {KEY}");
    for (authorization, expect, status) in [
        ("Bearer wrong", "", 401),
        ("Bearer wrong", "Expect: 100-continue\r\n", 401),
        ("Basic d3Jvbmc6d3Jvbmc=", "Expect: 100-continue\r\n", 401),
        (&right, "Expect: 100-continue\r\n", 100),
    ] {
        let mut connection = server.connect();
        connection.send(format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n{expect}\
             Content-Type: {JSON}\r\nContent-Length: 1048576\r\n\r\n"
        ));
        let head = connection.read_head();
        assert_eq!(head.status(), status, "{authorization} {expect}");
        if status == 401 {
            assert_eq!(head.field("Connection"), Some("close"));
            assert_eq!(head.field("WWW-Authenticate"), Some("Bearer"));
        }
    }
    // Without a body to be skipped, the connection can be used again.
    let mut connection = server.connect();
    for _ in 0..2 {
        connection.send("POST /publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer wrong\r\n\r\n");
        assert_eq!(connection.read_reply().head.status(), 401);
    }
}
