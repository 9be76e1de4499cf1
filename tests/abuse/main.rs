//! Abuse: what one stranger can do, while a thousand honest clients receive `eps` from a server that has 64 MiB of address
//! space. The server stays alive, honest clients miss nothing, and none of them waits for long. One of a channel is away
//! during each attack, and is sent what it missed when it comes back.
//!
//! A program of its own, so that no other tests run beside it. Without `redis-server` it reports that it is skipped; with
//! `REQUIRE_REDIS=1` it fails instead.

// The exceptions that Clippy makes for tests cover the test functions, but not what they call.
#![allow(clippy::panic, clippy::unwrap_used)]

#[allow(dead_code, unused_imports)]
#[path = "../integration/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::channels::{come_back, id_of};
use crate::support::http::Connection;
use crate::support::redis::SCORES;
use crate::support::{
    Crowd, DEADLINE, Redis, Server, ServerOptions, Sums, add_sums, redis_or_skip,
};

/// How many honest clients.
const CLIENTS: usize = 1_000;

/// The longest that an honest client may wait for an event, beyond the time for which the machine was busy with other things:
/// see [`Clock`].
const SILENCE_MAX: Duration = Duration::from_millis(250);

/// How long each attack takes.
const ATTACK: Duration = Duration::from_secs(3);

/// Requests that each attack has to get through at least, or it was none.
const SENT_MIN: u64 = 50;

/// Where the attacker comes from, and the first of its further addresses.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 66, 6);

/// The stream of the honest client that comes and goes.
const NEWS: &str = "/?channels=room.news";

/// An attack in progress.
struct Attempt {
    address: SocketAddr,
    is_over: AtomicBool,
    /// Requests that were sent, for those who wait for an answer: to their end.
    sent: AtomicU64,
}

/// One attack, as long as it is not over; it returns what is to be kept open until the attack is judged.
type Attack = fn(&Attempt) -> Vec<TcpStream>;

impl Attempt {
    /// A connection from the attacker's address; `None` if the server refuses it.
    fn dial(&self) -> Option<TcpStream> {
        self.dial_from(ATTACKER)
    }

    fn dial_from(&self, source: Ipv4Addr) -> Option<TcpStream> {
        let stream = Connection::try_open_from(source, self.address).ok()?;
        let patience = Some(Duration::from_millis(200));
        stream.set_read_timeout(patience).ok()?;
        stream.set_write_timeout(patience).ok()?;
        Some(stream)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Opens so many connections, each with this request, and reads nothing from them.
    fn unread(&self, count: usize, request: &str) -> Vec<TcpStream> {
        let mut kept = Vec::new();
        while kept.len() < count && !self.is_over() {
            let Some(mut stream) = self.dial() else {
                thread::sleep(Duration::from_millis(1));
                continue;
            };
            // As much as is taken without waiting.
            let _refused = stream.set_nonblocking(true);
            let _refused = stream.write_all(request.as_bytes());
            self.sent.fetch_add(1, Ordering::Relaxed);
            kept.push(stream);
        }
        kept
    }

    /// Sends requests one after the other, each on a connection of its own, and waits for the beginning of each answer.
    fn again(&self, request: impl Fn(usize) -> String) -> Vec<TcpStream> {
        self.again_from(1, request)
    }

    /// Does the same from so many addresses in turn.
    fn again_from(&self, addresses: u32, request: impl Fn(usize) -> String) -> Vec<TcpStream> {
        let mut buffer = vec![0; 64 * 1024];
        let requests = (0..).map(request).take_while(|_| !self.is_over());
        for (number, request) in (0..).zip(requests) {
            let source = u32::from(ATTACKER) + number % addresses;
            let Some(mut stream) = self.dial_from(source.into()) else {
                continue;
            };
            if stream.write_all(request.as_bytes()).is_ok() {
                self.sent.fetch_add(1, Ordering::Relaxed);
            }
            let _whatever_comes = stream.read(&mut buffer);
        }
        Vec::new()
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

fn documents_that_grow(attempt: &Attempt) -> Vec<TcpStream> {
    let body = format!("{{\"x\":[{}0]}}", "{\"\":0},".repeat(149_000));
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    attempt.again(|_| request.clone())
}

/// Thirty-two channels that nobody has asked for yet.
fn new_channels(number: usize, len: usize) -> String {
    let name = |index: usize| format!("{:x<len$}", format!("room.{number}.{index}."));
    let names: Vec<String> = (0..32).map(name).collect();
    format!("/?channels={}", names.join(","))
}

fn made_up_channels(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.again(|number| get(&new_channels(number, 200)))
}

fn made_up_channels_from_many_addresses(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.again_from(5_000, |number| get(&new_channels(number, 20)))
}

fn made_up_channels_that_stay(attempt: &Attempt) -> Vec<TcpStream> {
    (0..)
        .map_while(|number| {
            (!attempt.is_over()).then(|| attempt.unread(1, &get(&new_channels(number, 200))))
        })
        .take(1_500)
        .flatten()
        .collect()
}

/// Each is given up at once, as if a script did not wait for an answer.
fn long_polls_over_new_channels(attempt: &Attempt) -> Vec<TcpStream> {
    let mut number = 0;
    while !attempt.is_over() {
        let target = new_channels(number, 200);
        let head =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n\r\n");
        drop(attempt.unread(1, &head));
        number += 1;
    }
    Vec::new()
}

/// As many namespaces as one connection may have, of streams that are not asked for at the broker.
fn new_ids(number: usize) -> String {
    let name = |index: usize| format!("{:x<180}", format!("ns=/details/{number}.{index}."));
    let names: Vec<String> = (0..31).map(name).collect();
    format!("/subscribe?ns=/details/2665&{}", names.join("&"))
}

fn made_up_ids_that_stay(attempt: &Attempt) -> Vec<TcpStream> {
    (0..)
        .map_while(|number| (!attempt.is_over()).then(|| attempt.unread(1, &get(&new_ids(number)))))
        .take(1_900)
        .flatten()
        .collect()
}

/// What a cleanup closes is kept for a while, for those who come back.
fn made_up_ids_that_are_cleaned_up(attempt: &Attempt) -> Vec<TcpStream> {
    let cleanup = "POST /subscribe/cleanup/details/2665 HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut number = 0;
    while !attempt.is_over() {
        let mut opened = Vec::new();
        while opened.len() < 120 && !attempt.is_over() {
            opened.extend(attempt.unread(1, &get(&new_ids(number))));
            number += 1;
        }
        opened.extend(attempt.unread(1, cleanup));
        for mut stream in opened {
            let _whatever_comes = stream.read(&mut [0; 1024]);
        }
    }
    Vec::new()
}

fn idle_sockets(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.unread(5_000, &get("/healthz"))
}

fn unfinished_heads(attempt: &Attempt) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15_000));
    attempt.unread(5_000, &head)
}

fn unfinished_bodies(attempt: &Attempt) -> Vec<TcpStream> {
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    attempt.unread(5_000, &request)
}

/// The documents about the server.
const REPORTS: [&str; 4] = ["/stats", "/metrics", "/admin/status.json", "/admin/"];

/// Makes the documents long: streams of many channels.
fn listed_channels(attempt: &Attempt) -> Vec<TcpStream> {
    let streams = (0..150).flat_map(|number| attempt.unread(1, &get(&new_channels(number, 150))));
    streams.collect()
}

fn unread_reports(attempt: &Attempt) -> Vec<TcpStream> {
    let mut kept = listed_channels(attempt);
    for number in 0..400 {
        let mut targets = REPORTS.iter().cycle().skip(number % 4);
        let requests: String = targets.by_ref().take(40).map(|it| get(it)).collect();
        kept.extend(attempt.unread(1, &requests));
    }
    kept
}

fn repeated_reports(attempt: &Attempt) -> Vec<TcpStream> {
    let kept = listed_channels(attempt);
    attempt.again(|number| {
        let target = REPORTS[number % REPORTS.len()];
        format!("HEAD {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").repeat(100)
    });
    kept
}

fn stalled_streams(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.unread(3_000, &get("/subscribe/raw"))
}

fn stalled_groups(attempt: &Attempt) -> Vec<TcpStream> {
    let target = "/subscribe?ns=/eps&ns=/raw&ns=/details/2665&ns=/channels/room.a";
    let mut kept = attempt.unread(1_000, &get(target));
    kept.extend(attempt.unread(1_100, &get("/admin/status.json")));
    kept
}

fn long_queries(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.again(|number| {
        let names: Vec<String> = (0..3_500)
            .map(|index| format!("{:x}", index + number))
            .collect();
        let parameters = ["channels=", "ns=/channels/"][number % 2];
        get(&format!("/?{parameters}{}", names.join(",")))
    })
}

fn guesses(attempt: &Attempt) -> Vec<TcpStream> {
    attempt.again(|number| {
        let body = format!("channel=room.a&message=x&key={number}");
        let request = format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        );
        request.repeat(50)
    })
}

const ATTACKS: [(&str, Attack); 16] = [
    ("documents that grow", documents_that_grow),
    ("made-up channels", made_up_channels),
    (
        "made-up channels from many addresses",
        made_up_channels_from_many_addresses,
    ),
    ("made-up channels that stay", made_up_channels_that_stay),
    ("long polls over new channels", long_polls_over_new_channels),
    ("made-up ids that stay", made_up_ids_that_stay),
    (
        "made-up ids that are cleaned up",
        made_up_ids_that_are_cleaned_up,
    ),
    ("idle sockets", idle_sockets),
    ("unfinished heads", unfinished_heads),
    ("unfinished bodies", unfinished_bodies),
    ("unread reports", unread_reports),
    ("repeated reports", repeated_reports),
    ("stalled streams", stalled_streams),
    ("stalled groups", stalled_groups),
    ("long queries", long_queries),
    ("guesses", guesses),
];

/// A clock that stands still while somebody whom an honest client waits for wants a processor and does not get one: the
/// program, Redis, or the thread that receives for the clients.
struct Clock {
    started: Instant,
    threads: [String; 3],
    read_at: Duration,
    /// For how long they had to wait since their beginnings, in all.
    delayed: Duration,
}

impl Clock {
    fn start(server: &Server, redis: &Redis) -> Clock {
        let others = [server.process_id(), redis.process_id()];
        let [server, redis] = others.map(|id| format!("/proc/{id}/schedstat"));
        let threads = [OWN_DELAYS.to_owned(), server, redis];
        Clock {
            started: Instant::now(),
            delayed: threads.iter().map(|it| delays(it)).sum(),
            threads,
            read_at: Duration::ZERO,
        }
    }

    /// The time in microseconds, of which only differences mean anything.
    fn now(&mut self) -> i64 {
        let elapsed = self.started.elapsed();
        // Reading takes some microseconds, and there are sixty thousand events a second.
        if elapsed > self.read_at + Duration::from_millis(1) {
            self.read_at = elapsed;
            self.delayed = self.threads.iter().map(|it| delays(it)).sum();
        }
        elapsed.as_micros() as i64 - self.delayed.as_micros() as i64
    }
}

/// Where the kernel counts how long the thread that reads this had to wait for a processor.
const OWN_DELAYS: &str = "/proc/thread-self/schedstat";

/// How long a thread had to wait for a processor since its beginning. Where that is not counted, it never had to.
fn delays(path: &str) -> Duration {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let nanoseconds = text.split(' ').nth(1).and_then(|it| it.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// Measures for how long the machine keeps a thread waiting that only sleeps, although there is a processor for it, as when
/// the machine itself is paused: the longest pause in microseconds.
fn watch_machine(attempt: &Attempt, longest_us: &AtomicU64) {
    while !attempt.is_over() {
        let (started, nap) = (Instant::now(), Duration::from_millis(5));
        let delayed = delays(OWN_DELAYS);
        thread::sleep(nap);
        let late = started.elapsed().saturating_sub(nap);
        let paused = late.saturating_sub(delays(OWN_DELAYS) - delayed);
        longest_us.fetch_max(paused.as_micros() as u64, Ordering::Relaxed);
    }
}

fn start(redis: &Redis) -> Server {
    ServerOptions::redis(redis)
        .after("ulimit -v 65536")
        .variable("CHANNELS", "room.*")
        .variable("PUBLISH_KEY", "a-secret-of-more-than-sixteen-bytes")
        .variable("MAX_CONNECTIONS_PER_IP", "2000")
        .start()
}

fn total(sums: &Sums) -> u64 {
    sums.values().sum()
}

#[test]
fn one_stranger_does_not_hurt_a_thousand_others_in_64_mib() {
    let Some(redis) = redis_or_skip() else { return };
    let server = start(&redis);
    let paths = (0..CLIENTS).map(|_| "/subscribe/eps".to_owned());
    let mut crowd = Crowd::subscribe(server.address(), paths);
    let mut client = redis.client();
    let mut sums: Vec<Sums> = vec![Sums::new(); CLIENTS];
    let mut published = 0;
    let mut reader = server.subscribe(NEWS);
    let mut told = 0;
    for (name, attack) in ATTACKS {
        let id = id_of(&mut reader);
        reader.reset();
        let told_before = told;
        let attempt = Attempt {
            address: server.address(),
            is_over: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        };
        let longest_us = AtomicU64::new(0);
        let mut clock = Clock::start(&server, &redis);
        let mut heard_at = vec![clock.now(); CLIENTS];
        let mut silence = 0;
        let kept = thread::scope(|scope| {
            let attacker = scope.spawn(|| attack(&attempt));
            scope.spawn(|| watch_machine(&attempt, &longest_us));
            let started = Instant::now();
            // On a busy machine it may take longer until it is one.
            let is_little = || attempt.sent.load(Ordering::Relaxed) < SENT_MIN;
            while started.elapsed() < ATTACK || (is_little() && started.elapsed() < DEADLINE) {
                client.command(&format!("PUBLISH {SCORES} 1F602"));
                published += 1;
                client.command(&format!("PUBLISH room.news {told}"));
                told += 1;
                let until = Instant::now() + Duration::from_millis(20);
                crowd.run_until(
                    name,
                    |_| Instant::now() >= until,
                    |index, event| {
                        add_sums(&mut sums[index], &event.data);
                        let now = clock.now();
                        silence = silence.max(now - heard_at[index]);
                        heard_at[index] = now;
                    },
                );
            }
            let last = heard_at.iter().min();
            silence = silence.max(clock.now() - last.unwrap_or(&0));
            attempt.is_over.store(true, Ordering::Relaxed);
            attacker.join().expect("the attacker has no mishap")
        });
        let sent = attempt.sent.into_inner();
        assert!(sent >= SENT_MIN, "{name}: only {sent} requests were sent");
        let paused = Duration::from_micros(longest_us.into_inner());
        let silence = Duration::from_micros(silence as u64);
        let delayed = clock.delayed;
        assert!(
            silence.saturating_sub(paused) < SILENCE_MAX,
            "{name}: an honest client waited for {silence:?}, the machine paused for {paused:?}; \
             all have waited for a processor for {delayed:?} so far"
        );
        assert!(
            sums.iter().all(|it| total(it) <= published),
            "{name}: a sum is too large"
        );
        assert_eq!(crowd.ended(), 0, "{name}: honest clients were closed");
        assert_eq!(server.ask("GET", "/healthz").head.status(), 200, "{name}");
        reader = come_back(&server, NEWS, &id);
        let missed = reader.next_data((told - told_before) as usize);
        let expected = (told_before..told).map(|number| number.to_string());
        assert!(expected.eq(missed), "{name}: a channel lost messages");
        drop(kept);
    }
    let is_complete = |sums: &[Sums]| sums.iter().all(|it| total(it) == published);
    let all = std::cell::RefCell::new(sums);
    crowd.run_until(
        "all clients have everything",
        |_| is_complete(&all.borrow()),
        |index, event| add_sums(&mut all.borrow_mut()[index], &event.data),
    );
}
