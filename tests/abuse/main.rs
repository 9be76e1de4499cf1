//! Abuse: what one stranger can do from one address, while a thousand honest clients receive `eps` from a server that
//! has 64 MiB of address space. The server stays alive, honest clients miss nothing, and none of them waits for long.
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

use crate::support::http::Connection;
use crate::support::redis::SCORES;
use crate::support::{Crowd, Redis, Server, ServerOptions, Sums, add_sums, redis_or_skip};

/// How many honest clients.
const CLIENTS: usize = 1_000;

/// The longest that an honest client may wait for an event, beyond what the machine itself was busy with other things.
const SILENCE_MAX: Duration = Duration::from_millis(250);

/// How long each attack takes at most.
const ATTACK: Duration = Duration::from_secs(3);

/// Where the attacker comes from.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 66, 6);

/// One attack, as long as the flag is not set; it returns what is to be kept open until the attack is judged.
type Attack = fn(SocketAddr, &AtomicBool) -> Vec<TcpStream>;

/// A connection of the attacker; `None` where the server refuses it.
fn dial(address: SocketAddr) -> Option<TcpStream> {
    Connection::try_open_from(ATTACKER, address).ok()
}

/// Sends as much as is taken without waiting.
fn push(stream: &mut TcpStream, bytes: &[u8]) {
    let _refused = stream.set_nonblocking(true);
    let _refused = stream.write_all(bytes);
}

/// Opens so many connections, each with this request, and reads nothing from them.
fn unread(
    address: SocketAddr,
    is_over: &AtomicBool,
    count: usize,
    request: &str,
) -> Vec<TcpStream> {
    let mut kept = Vec::new();
    while kept.len() < count && !is_over.load(Ordering::Relaxed) {
        let Some(mut stream) = dial(address) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        push(&mut stream, request.as_bytes());
        kept.push(stream);
    }
    kept
}

/// Sends this request again and again, each on a connection of its own, and reads what comes at once.
fn again(address: SocketAddr, is_over: &AtomicBool, request: impl Fn(usize) -> String) {
    let mut buffer = vec![0; 64 * 1024];
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut stream) = dial(address) else {
            continue;
        };
        let _refused = stream.set_read_timeout(Some(Duration::from_millis(200)));
        let _refused = stream.write_all(request(number).as_bytes());
        let _whatever_comes = stream.read(&mut buffer);
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn documents_that_grow(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let body = format!("{{\"x\":[{}0]}}", "{\"\":0},".repeat(149_000));
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    again(address, is_over, |_| request.clone());
    Vec::new()
}

fn made_up_channels(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    again(address, is_over, |number| {
        let name = |index: usize| format!("room.{number}.{index}.{}", "x".repeat(150));
        let names: Vec<String> = (0..32).map(name).collect();
        get(&format!("/?channels={}", names.join(",")))
    });
    Vec::new()
}

fn idle_sockets(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    unread(address, is_over, 5_000, &get("/healthz"))
}

fn unfinished_heads(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(15_000));
    unread(address, is_over, 5_000, &head)
}

fn unfinished_bodies(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let request = format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    unread(address, is_over, 5_000, &request)
}

fn unread_reports(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let targets = ["/stats", "/metrics", "/admin/status.json", "/admin"];
    let requests: String = targets.iter().cycle().take(40).map(|it| get(it)).collect();
    unread(address, is_over, 300, &requests)
}

fn repeated_reports(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let targets = ["/stats", "/metrics", "/admin/status.json", "/admin"];
    again(address, is_over, |number| {
        let target = targets[number % targets.len()];
        format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n").repeat(10)
    });
    Vec::new()
}

fn stalled_streams(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    unread(address, is_over, 3_000, &get("/subscribe/raw"))
}

fn stalled_groups(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    let target = "/subscribe?ns=/eps&ns=/raw&ns=/details/2665&ns=/channels/room.a";
    let mut kept = unread(address, is_over, 1_000, &get(target));
    kept.extend(unread(address, is_over, 1_100, &get("/admin/status.json")));
    kept
}

fn long_queries(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    again(address, is_over, |number| {
        let names: Vec<String> = (0..3_500)
            .map(|index| format!("{:x}", index + number))
            .collect();
        let parameters = ["channels=", "ns=/channels/"][number % 2];
        get(&format!("/?{parameters}{}", names.join(",")))
    });
    Vec::new()
}

fn guesses(address: SocketAddr, is_over: &AtomicBool) -> Vec<TcpStream> {
    again(address, is_over, |number| {
        let body = format!("channel=room.a&message=x&key={number}");
        let request = format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        );
        request.repeat(50)
    });
    Vec::new()
}

const ATTACKS: [(&str, Attack); 11] = [
    ("documents that grow", documents_that_grow),
    ("made-up channels", made_up_channels),
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

/// Measures what the machine keeps a thread waiting that only sleeps: the longest pause in microseconds.
fn watch_machine(is_over: &AtomicBool, longest_us: &AtomicU64) {
    while !is_over.load(Ordering::Relaxed) {
        let (started, nap) = (Instant::now(), Duration::from_millis(5));
        thread::sleep(nap);
        let late = started.elapsed().saturating_sub(nap);
        longest_us.fetch_max(late.as_micros() as u64, Ordering::Relaxed);
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

#[test]
fn one_stranger_does_not_hurt_a_thousand_others_in_64_mib() {
    let Some(redis) = redis_or_skip() else { return };
    let server = start(&redis);
    let paths = (0..CLIENTS).map(|_| "/subscribe/eps".to_owned());
    let mut crowd = Crowd::subscribe(server.address(), paths);
    let mut client = redis.client();
    let mut sums: Vec<Sums> = vec![Sums::new(); CLIENTS];
    let mut published = 0;
    for (name, attack) in ATTACKS {
        let (is_over, longest_us) = (AtomicBool::new(false), AtomicU64::new(0));
        let address = server.address();
        let mut heard_at = Instant::now();
        let mut silence = Duration::ZERO;
        let kept = thread::scope(|scope| {
            let attacker = scope.spawn(|| attack(address, &is_over));
            scope.spawn(|| watch_machine(&is_over, &longest_us));
            let started = Instant::now();
            while started.elapsed() < ATTACK {
                client.command(&format!("PUBLISH {SCORES} 1F602"));
                published += 1;
                let sum = |sums: &Sums| sums.values().sum::<u64>();
                let until = Instant::now() + Duration::from_millis(20);
                crowd.run_until(
                    name,
                    |_| Instant::now() >= until,
                    |index, event| {
                        add_sums(&mut sums[index], &event.data);
                        if index == 0 {
                            silence = silence.max(heard_at.elapsed());
                            heard_at = Instant::now();
                        }
                        assert!(sum(&sums[index]) <= published, "{name}: a sum is too large");
                    },
                );
            }
            is_over.store(true, Ordering::Relaxed);
            attacker.join().expect("the attacker has no mishap")
        });
        let paused = Duration::from_micros(longest_us.into_inner());
        let waited = silence.saturating_sub(paused);
        assert!(
            waited < SILENCE_MAX,
            "{name}: an honest client waited for {silence:?}"
        );
        assert_eq!(crowd.ended(), 0, "{name}: honest clients were closed");
        assert_eq!(server.ask("GET", "/healthz").head.status(), 200, "{name}");
        drop(kept);
    }
    let total = |sums: &Sums| sums.values().sum::<u64>();
    let is_complete = |sums: &[Sums]| sums.iter().all(|it| total(it) == published);
    let all = std::cell::RefCell::new(sums);
    crowd.run_until(
        "all clients have everything",
        |_| is_complete(&all.borrow()),
        |index, event| add_sums(&mut all.borrow_mut()[index], &event.data),
    );
}
