//! A hostile broker: one that takes no further commands, and one whose errors are written to break the lines of a log. It
//! may cost us the messages, but neither memory nor a log that can be trusted.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::channels::{make_up_channels, publication, publish, with_channels};
use crate::support::resp::{RedisClient, Value};
use crate::support::{DEADLINE, Server, ServerOptions};

/// A Redis that answers each command as it is told, until it reads nothing more.
struct HostileBroker {
    address: SocketAddr,
    is_deaf: Arc<AtomicBool>,
}

/// The error with which a command is answered, if it is.
type Refusal = fn(&[String]) -> Option<&'static [u8]>;

impl HostileBroker {
    fn start(refusal: Refusal) -> HostileBroker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let is_deaf = Arc::<AtomicBool>::default();
        let flag = Arc::clone(&is_deaf);
        thread::spawn(move || {
            for accepted in listener.incoming().map_while(Result::ok) {
                let flag = Arc::clone(&flag);
                thread::spawn(move || play(&accepted, refusal, &flag));
            }
        });
        HostileBroker { address, is_deaf }
    }

    fn options(&self) -> ServerOptions {
        let url = format!("redis://{}", self.address);
        with_channels(ServerOptions::redis_url(&url)).variable("REPLAY_SEC", "0")
    }
}

/// Serves one connection, until its client hangs up.
fn play(mut stream: &TcpStream, refusal: Refusal, is_deaf: &AtomicBool) {
    let mut commands = RedisClient::over_tcp(stream.try_clone().expect("a second handle"));
    let mut subscribed = 0;
    while let Ok(Value::Array(words)) = commands.read_value() {
        while is_deaf.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        let words: Vec<String> = words.iter().map(Value::text).collect();
        let command = words[0].to_ascii_lowercase();
        let answer = match (refusal(&words), command.as_str()) {
            (Some(error), _) => error.to_vec(),
            (None, "subscribe" | "psubscribe" | "unsubscribe") => {
                let each = words[1..].iter().map(|channel| {
                    subscribed += 1;
                    let (kind, name) = (bulk(&command), bulk(channel));
                    format!("*3\r\n{kind}{name}:{subscribed}\r\n")
                });
                each.collect::<String>().into_bytes()
            }
            (None, "publish") => b":1\r\n".to_vec(),
            (None, _) => b"+OK\r\n".to_vec(),
        };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// A string as Redis sends it.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What the process may take beyond what it had at its beginning: what may wait for a connection, in a buffer that has just
/// doubled, and as much again for requests and names.
const GROWTH_MAX: u64 = 24 * 1024 * 1024;

/// A server whose broker reads nothing more, although it answered until now.
fn with_deaf_broker() -> Server {
    let broker = HostileBroker::start(|_| None);
    let server = broker.options().start();
    publish(&server, "a", "1");
    broker.is_deaf.store(true, Ordering::Relaxed);
    server
}

#[test]
fn publications_do_not_pile_up_for_a_broker_that_reads_nothing_more() {
    let server = with_deaf_broker();
    let before = server.memory_bytes();
    let form = format!("channel=a&message={}", "x".repeat(1_000_000));
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let mut publisher = server.connect();
        publisher.send(publication(&form));
        // Those for which there is no room are told so at once.
        publisher.set_patience(Duration::from_millis(50));
        match publisher.receive() {
            Ok(reply) => assert!(reply.starts_with(b"HTTP/1.1 503 ")),
            Err(_) => waiting.push(publisher),
        }
    }
    for mut publisher in waiting {
        publisher.set_patience(DEADLINE);
        assert_eq!(publisher.read_reply().head.status(), 503);
    }
    let growth = server.memory_bytes_max() - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes");
}

#[test]
fn subscriptions_do_not_pile_up_for_a_broker_that_reads_nothing_more() {
    let server = with_deaf_broker();
    let before = server.memory_bytes();
    // The names take 26 MB, and are told to the broker twice.
    for round in 0..40 {
        make_up_channels(&server, round);
    }
    let growth = server.memory_bytes_max() - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes");
    assert!(server.status()["stats"]["accepted"].as_u64() > Some(4_000));
}

#[test]
fn a_brokers_error_stays_on_one_line_of_the_log() {
    const LINES: &[u8] = b"-HOSTILE a\nwarn  forged\n\ninfo  forged\r\n";
    const ESCAPES: &[u8] = b"-HOSTILE \x1b[2J\x1b]0;forged\x07\x00\x08\x7f\xc2\x9b31m\r\n";
    const BULK: &[u8] = b"!23\r\nHOSTILE a\r\ninfo  forged\r\n";
    fn is(words: &[String], expected: &[&str]) -> bool {
        let same = |(word, expected): (&String, &&str)| word.eq_ignore_ascii_case(expected);
        words.len() >= expected.len() && words.iter().zip(expected).all(same)
    }
    #[rustfmt::skip]
    let table: [Refusal; 5] = [
        |words| is(words, &["subscribe", "stream.score_updates"]).then_some(LINES),
        |words| is(words, &["psubscribe"]).then_some(ESCAPES),
        |words| is(words, &["ping"]).then_some(BULK),
        |words| is(words, &["subscribe", "a"]).then_some(LINES),
        |words| is(words, &["hset"]).then_some(ESCAPES),
    ];
    for refusal in table {
        let broker = HostileBroker::start(refusal);
        let server = broker.options().without_waiting().start();
        let mut client = server.connect();
        client.send("GET /?channels=a HTTP/1.1\r\nHost: a\r\n\r\n");
        server.wait_for_log("HOSTILE");
        server.expect_quoted_on_one_line("HOSTILE", "forged");
    }
}
