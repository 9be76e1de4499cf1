//! Abuse: attackers from a few addresses do the worst that is known, in any mixture, beside readers of groups who notice
//! nothing of it. It owns what attackers do, and what a server under attack may cost: memory at any moment, and the
//! processor time of a turn. The readers are judged by `group_verdict`.
//!
//! Bytes are counted as the allocator gives them, and so are the same whenever a seed is repeated. Processor time is not: a
//! turn that takes too long is believed only if one does again when the seed is repeated.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::http::authorization::Secret;
use emojitrack_streamer::limits;
use emojitrack_streamer::net::Door;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::Plan;
use crate::caller::WIDE;
use crate::group_verdict;
use crate::groups::{CHANNELS, Reader, Wish, wish};
use crate::net::{Faults, PipeId};
use crate::stage::Stage;
use crate::steps::Steps;
use crate::{seeds, server};

/// Addresses that attackers have, and sockets that each may have.
const ADDRESSES: u8 = 3;
const SOCKETS_PER_ADDRESS: usize = 100;

/// The log of this server, from which nothing is evicted in a run.
const LOG_BYTES: usize = 2 * 1024 * 1024;

/// The most bytes that the server may have at a moment. Besides its log, what clients may fill together are bodies of
/// publications without a key; the rest is for channels, publications that are whole, documents and tables.
const BYTES_MAX: i64 = (LOG_BYTES + limits::UNAUTHENTICATED_BYTES_MAX + 10 * 1024 * 1024) as i64;

/// The most of them that may be left when the attackers are gone: tables keep the size that they had.
const BYTES_LEFT_MAX: i64 = (LOG_BYTES + 4 * 1024 * 1024) as i64;

/// The most processor time of a turn, in which the server's invariants are checked as well: three times what is
/// measured with the most channels.
const TURN_MAX: Duration = Duration::from_millis(25);

/// An abuse: its name, and the requests of one connection, by a number that is used once.
type Abuse = (&'static str, fn(u64, &mut Random) -> Vec<u8>);

const ABUSES: [Abuse; 13] = [
    ("long heads", |_, _| {
        let field = format!("X: {}\r\n", "x".repeat(1_000));
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}", field.repeat(16)).into()
    }),
    ("large bodies", |_, random| {
        publication(&"x".repeat(100_000 + random.below(900_000) as usize))
    }),
    ("hostile JSON", |_, random| {
        let piece = ["{\"\":0},", "[[[[]]]],", "null,", "\"\\u0001\","][random.below(4) as usize];
        let count = random.below(900_000) as usize / piece.len();
        publication(&format!("{{\"x\":[{}0]}}", piece.repeat(count)))
    }),
    ("new channels", |number, random| {
        get(&new_channels(number, 20 + random.below(180) as usize), "")
    }),
    ("polls of new channels", |number, random| {
        let poll = "X-Requested-With: XMLHttpRequest\r\n";
        get(&new_channels(number, 20 + random.below(180) as usize), poll)
    }),
    ("long lists of names", |number, random| {
        let parameter = ["/?channels=", "/subscribe?ns=/channels/"][random.below(2) as usize];
        let names: Vec<String> = (0..3_300)
            .map(|index| format!("{:x}", index + number))
            .collect();
        get(&format!("{parameter}{}", names.join(",")), "")
    }),
    ("heads of documents", |_, random| {
        document("HEAD", 200, random)
    }),
    ("documents", |_, random| document("GET", 20, random)),
    ("idle connections", |_, _| get("/healthz", "")),
    ("stalled streams", |_, random| {
        let path = ["raw", "eps", "details", "channels/a"][random.below(4) as usize];
        get(&format!("/subscribe/{path}"), "")
    }),
    ("stalled groups", |number, _| {
        let names: Vec<String> = (0..28)
            .map(|it| format!("ns=/channels/room.{number}.{it}"))
            .collect();
        let target = format!(
            "/subscribe?ns=/eps&ns=/raw&ns=/details&ns=/channels/a&{}",
            names.join("&")
        );
        get(&target, "")
    }),
    ("cleanups", |number, random| {
        let family = ["scores", "details/1F602"][random.below(2) as usize];
        let token = if random.one_in(2) { number } else { 0 };
        format!(
            "POST /subscribe/cleanup/{family}?token={token} HTTP/1.1\r\nHost: a\r\n\
             Content-Length: 0\r\n\r\n"
        )
        .repeat(50)
        .into()
    }),
    ("guesses", |number, _| {
        let body = format!("channel=a&message=x&key={number}");
        format!(
            "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
            body.len()
        )
        .repeat(50)
        .into()
    }),
];

fn get(target: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into()
}

fn publication(body: &str) -> Vec<u8> {
    format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

/// As many channels as one connection may have, which nobody asks for again.
fn new_channels(number: u64, len: usize) -> String {
    let name = |index: usize| format!("{:x<len$}", format!("room.{number}.{index}."));
    let names: Vec<String> = (0..32).map(name).collect();
    format!("/?channels={}", names.join(","))
}

/// Requests for a document, by this method.
fn document(method: &str, count: usize, random: &mut Random) -> Vec<u8> {
    let paths = ["/stats", "/metrics", "/admin/status.json", "/admin/"];
    let path = paths[random.below(4) as usize];
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    request.repeat(count).into()
}

/// A connection of an attacker.
struct Hold {
    pipe: PipeId,
    abuse: usize,
    /// What it has not sent yet.
    rest: Vec<u8>,
    is_half_closed: bool,
}

/// Everybody who means harm.
struct Attackers {
    random: Random,
    /// What they do in this run.
    chosen: Vec<usize>,
    holds: Vec<Hold>,
    /// How often each abuse was begun.
    begun: [u64; ABUSES.len()],
    number: u64,
    next_at: Time,
    /// The longest pause between two acts.
    pause_max: Duration,
    steps: Steps,
}

impl Attackers {
    fn new(mut random: Random) -> Attackers {
        // Few kinds in one run, so that each gets far.
        let count = 1 + random.below(4);
        let chosen = (0..count).map(|_| random.below(ABUSES.len() as u64) as usize);
        Attackers {
            chosen: chosen.collect(),
            holds: Vec::new(),
            begun: [0; ABUSES.len()],
            number: 0,
            next_at: Time::from_micros(1_000_000),
            pause_max: Duration::from_millis([4, 10, 40][random.below(3) as usize]),
            steps: Steps::default(),
            random,
        }
    }

    fn act(&mut self, stage: &mut Stage) {
        if stage.now() < self.next_at {
            return;
        }
        self.next_at = stage.now() + self.random.between(Duration::ZERO, self.pause_max);
        let net = stage.net();
        self.holds.retain(|it| !net.is_server_closed(it.pipe));
        let sockets_max = SOCKETS_PER_ADDRESS * usize::from(ADDRESSES);
        match self.holds.is_empty() || (self.holds.len() < sockets_max && self.random.one_in(2)) {
            true => self.begin(stage),
            false => self.go_on(stage),
        }
    }

    fn begin(&mut self, stage: &mut Stage) {
        let random = &mut self.random;
        let abuse = self.chosen[random.below(self.chosen.len() as u64) as usize];
        let (name, requests) = ABUSES[abuse];
        let client_ip = Ipv4Addr::new(10, 66, 0, random.below(ADDRESSES.into()) as u8);
        let room = [100, 3_000, WIDE][random.below(3) as usize];
        let now = stage.now();
        let Some(pipe) = stage.net().dial(Door::Public, IpAddr::V4(client_ip), room) else {
            return;
        };
        self.number += 1;
        self.begun[abuse] += 1;
        let mut bytes = requests(self.number, random);
        let sent = match random.below(4) {
            0 => random.below(bytes.len() as u64) as usize,
            1 => bytes.len() - 1,
            _ => bytes.len(),
        };
        let rest = bytes.split_off(sent);
        stage.net().peer_write(pipe, &bytes);
        self.steps.note(now, name, sent, &bytes);
        self.holds.push(Hold {
            pipe,
            abuse,
            rest,
            is_half_closed: false,
        });
    }

    fn go_on(&mut self, stage: &mut Stage) {
        let random = &mut self.random;
        let index = random.below(self.holds.len() as u64) as usize;
        let hold = &mut self.holds[index];
        let (now, net) = (stage.now(), stage.net());
        let (what, number) = match random.below(12) {
            0..4 if !hold.rest.is_empty() && !hold.is_half_closed => {
                let len = 1 + random.below(hold.rest.len() as u64) as usize;
                let piece: Vec<u8> = hold.rest.drain(..len).collect();
                net.peer_write(hold.pipe, &piece);
                ("sent more", len)
            }
            0..4 if !hold.is_half_closed => {
                self.number += 1;
                let bytes = ABUSES[hold.abuse].1(self.number, random);
                net.peer_write(hold.pipe, &bytes);
                ("sent another", bytes.len())
            }
            4..6 => {
                let len = random.below(2_000) as usize;
                ("read", net.peer_read(hold.pipe, len).len())
            }
            6 if !hold.is_half_closed => {
                net.peer_shutdown(hold.pipe);
                hold.is_half_closed = true;
                ("ended its side", 0)
            }
            7 => {
                net.peer_reset(hold.pipe);
                self.holds.swap_remove(index);
                ("reset", 0)
            }
            _ => return,
        };
        self.steps.note(now, what, number, b"");
    }

    /// All of them leave.
    fn leave(&mut self, stage: &mut Stage) {
        for hold in std::mem::take(&mut self.holds) {
            stage.net().peer_reset(hold.pipe);
        }
        self.steps.note(stage.now(), "all left", 0, b"");
    }

    fn tell_steps(&self) -> String {
        let mut text = "\n  the attackers began:\n".to_owned();
        for ((name, _), count) in ABUSES.iter().zip(self.begun) {
            if count > 0 {
                let _infallible = writeln!(text, "    {name}: {count} times");
            }
        }
        text + &self.steps.tell("the attackers")
    }
}

/// Everything that one seed decides.
pub struct World {
    seed: u64,
    stage: Stage,
    readers: Vec<Reader>,
    attackers: Attackers,
    /// The reader that is acting or being judged.
    about: Option<usize>,
    random: Random,
    busy_until: Time,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0xAB05E);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_reads: 0,
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            accept_failures: 0,
        };
        let linger = Duration::from_secs(2);
        let mut settings =
            server::settings_with_channels(&mut random, false, &CHANNELS, linger, LOG_BYTES);
        settings.channels.patterns.push(Glob::new("*"));
        settings.channels.publish_key = Secret::new("a-secret-of-more-than-sixteen-bytes");
        settings.admission.sockets_per_network_max = Some(SOCKETS_PER_ADDRESS);
        settings.reports.channel_stats_max = limits::CHANNEL_STATS_MAX;
        settings.pacing.reads_per_turn = 256;
        let busy_until = Time::from_micros(2_500_000);
        let plan = Plan {
            until: busy_until,
            pause_max: Duration::from_millis(30),
            burst_max: 4,
            padding_max: 300,
            channels: &CHANNELS,
            ..Plan::default()
        };
        let stage = Stage::new(&mut random, settings, faults, plan);
        // One reader always reads everything, so that all is kept for those who are cut off.
        let anchor = Wish {
            detail: Some("1F602"),
            channels: CHANNELS.to_vec(),
        };
        let mut readers = vec![Reader::new(&mut random, anchor, true)];
        for _ in 0..2 + random.below(4) {
            let wish = wish(&mut random, true);
            readers.push(Reader::new(&mut random, wish, false));
        }
        World {
            seed,
            stage,
            readers,
            attackers: Attackers::new(Random::new(random.next_u64())),
            about: None,
            random,
            busy_until,
        }
    }

    fn run(&mut self) {
        self.play();
        if self.stage.cost.longest_turn > TURN_MAX {
            *self = World::new(self.seed);
            self.play();
        }
        let longest = self.stage.cost.longest_turn;
        assert!(
            longest <= TURN_MAX,
            "a turn took {longest:?} of processor time, twice"
        );
    }

    fn last_steps(&self) -> String {
        let reader = self.about.map(|number| self.readers[number].tell_steps());
        let broker = self.stage.broker.steps.tell("the broker");
        reader.unwrap_or_default() + &self.attackers.tell_steps() + &broker
    }
}

impl World {
    fn play(&mut self) {
        self.act_until(self.busy_until, true);
        self.attackers.leave(&mut self.stage);
        self.act_until(self.busy_until + Duration::from_secs(3), false);
        for (number, reader) in self.readers.iter_mut().enumerate() {
            self.about = Some(number);
            reader.finish(&mut self.stage);
            let broker = &self.stage.broker;
            group_verdict::judge(reader, broker, true)
                .unwrap_or_else(|error| panic!("{:?}: {error}", reader.wish));
        }
        self.about = None;
        // The server learns that a poll's client has gone when it answers, at the latest.
        self.stage.pass(server::KEEPALIVE + Duration::from_secs(5));
        let left = self.stage.cost.bytes;
        assert!(left <= BYTES_LEFT_MAX, "{left} bytes were not given back");
        let topics = &self.stage.broker.topics;
        let channel = topics.iter().find(|it| !it.starts_with("stream."));
        assert_eq!(channel, None, "nobody wants it any more");
    }

    fn act_until(&mut self, until: Time, is_attacked: bool) {
        while self.stage.now() < until {
            let mut next = until;
            for (number, reader) in self.readers.iter_mut().enumerate() {
                self.about = Some(number);
                let acted = reader.act(&mut self.stage, &mut self.random, !is_attacked);
                acted.unwrap_or_else(|error| panic!("{:?} received {error}", reader.wish));
                next = next.min(reader.next_at);
            }
            self.about = None;
            if is_attacked {
                self.attackers.act(&mut self.stage);
                next = next.min(self.attackers.next_at);
            }
            self.stage.turn(next);
            let bytes = self.stage.cost.bytes_max;
            assert!(bytes <= BYTES_MAX, "the server had {bytes} bytes");
        }
    }
}
