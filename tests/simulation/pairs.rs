//! Pairs: two clients ask for the same stream at the same time, one by HTTP/1.1 and one by HTTP/1.0. Without the chunked
//! coding, what each received is a valid event stream to the last byte, and the two are equal event by event. How the
//! bytes were divided into chunks and writes makes no difference, and the text of ids is not looked at.

use std::time::Duration;

use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::Plan;
use crate::caller::{Caller, WIDE, request};
use crate::net::Faults;
use crate::receiver::Event;
use crate::stage::Stage;
use crate::steps::{Steps, brief};
use crate::sums::{Counts, counts_of};
use crate::transcript::{Written, events_of, without_chunks};
use crate::{seeds, server};

/// Channels that there are.
const CHANNELS: [&str; 2] = ["a", "b"];

/// Streams, and whether there are sums among their events.
const STREAMS: [(&str, bool); 12] = [
    ("/subscribe/raw", false),
    ("/subscribe/eps", true),
    ("/subscribe/details", false),
    ("/subscribe/details/1F602", false),
    ("/subscribe/kiosk_interaction", false),
    ("/subscribe?ns=/raw&ns=/details/1F602", false),
    ("/subscribe?ns=/eps&ns=/details/1F602", true),
    ("/subscribe?ns=/eps&ns=/channels/a", true),
    (
        "/subscribe?ns=/details&ns=/channels/a&ns=/channels/b",
        false,
    ),
    ("/subscribe/channels/a", false),
    ("/?channels=a,b", false),
    ("/?channels=a,b&event=channel", false),
];

struct Client {
    caller: Caller,
    received: Vec<u8>,
    /// Bytes that it reads at a time, at most, while messages are published.
    read_max: usize,
    next_at: Time,
}

impl Client {
    fn act(&mut self, stage: &mut Stage, random: &mut Random, is_quiet: bool) {
        let now = stage.now();
        if now < self.next_at {
            return;
        }
        self.next_at = now + random.between(Duration::from_millis(1), Duration::from_millis(8));
        let max = match is_quiet || self.read_max == usize::MAX {
            true => usize::MAX,
            false => 1 + random.below(self.read_max as u64) as usize,
        };
        self.received.extend(self.caller.read_raw(stage.net(), max));
    }

    /// The events of what was received, which must have come to a proper end.
    fn transcript(&self, is_chunked: bool) -> Result<Vec<Written>, String> {
        let end = self.received.windows(4).position(|end| end == b"\r\n\r\n");
        let (head, body) = self.received.split_at(end.ok_or("no head")? + 4);
        let head = String::from_utf8_lossy(head).to_ascii_lowercase();
        if head.contains("\r\ntransfer-encoding: chunked\r\n") != is_chunked {
            return Err(format!("the head {head:?}"));
        }
        let body = match is_chunked {
            true => match without_chunks(body)? {
                (body, true) => body,
                (_, false) => return Err("no last chunk".to_owned()),
            },
            false => body.to_vec(),
        };
        events_of(&body)
    }
}

/// Two clients of one stream; the first of them is chunked.
struct Pair {
    target: &'static str,
    has_sums: bool,
    is_fast: bool,
    clients: [Client; 2],
}

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    pairs: Vec<Pair>,
    about: Option<usize>,
    random: Random,
    busy_until: Time,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0x9A12);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            ..Faults::default()
        };
        let settings = server::settings_with_channels(
            &mut random,
            false,
            &CHANNELS,
            Duration::from_secs(5),
            server::LARGE_LOG,
        );
        let busy_until = Time::from_micros(5_000_000);
        let loads = [(300, 40, 60), (30, 4, 2_000), (5, 4, 0)];
        let (pause_max_ms, burst_max, padding_max) = loads[random.below(3) as usize];
        let plan = Plan {
            // All pairs are there by then.
            from: Time::from_micros(2_500_000),
            until: busy_until,
            pause_max: Duration::from_millis(pause_max_ms),
            burst_max,
            padding_max,
            channels: &CHANNELS,
            ..Plan::default()
        };
        let mut stage = Stage::new(&mut random, settings, faults, plan);
        stage.pass(Duration::from_secs(1));
        let count = 2 + random.below(6);
        let pairs = (0..count).map(|_| Pair::new(&mut stage, &mut random));
        let pairs = pairs.collect();
        World {
            stage,
            pairs,
            about: None,
            random,
            busy_until,
        }
    }

    fn run(&mut self) {
        self.act_until(self.busy_until + Duration::from_secs(3));
        self.stage.net().signal();
        self.act_until(self.busy_until + Duration::from_secs(12));
        assert!(self.stage.is_done(), "the server does not end");
        for (number, pair) in self.pairs.iter().enumerate() {
            self.about = Some(number);
            let verdict = pair.judge();
            verdict.unwrap_or_else(|error| panic!("{}: {error}", pair.target));
        }
    }

    fn last_steps(&self) -> String {
        let pair = self.about.map(|number| &self.pairs[number].clients);
        let [chunked, bare] = pair.map_or([const { String::new() }; 2], |[chunked, bare]| {
            let chunked = chunked.caller.steps.tell("the client by HTTP/1.1");
            [chunked, bare.caller.steps.tell("the client by HTTP/1.0")]
        });
        chunked + &bare + &self.stage.broker.steps.tell("the broker")
    }
}

impl World {
    fn act_until(&mut self, until: Time) {
        while self.stage.now() < until && !self.stage.is_done() {
            let is_quiet = self.stage.now() >= self.busy_until;
            let mut next = until;
            for pair in &mut self.pairs {
                for client in &mut pair.clients {
                    client.act(&mut self.stage, &mut self.random, is_quiet);
                    next = next.min(client.next_at);
                }
            }
            self.stage.turn(next);
        }
        for client in self.pairs.iter_mut().flat_map(|pair| &mut pair.clients) {
            let rest = client.caller.read_raw(self.stage.net(), usize::MAX);
            client.received.extend(rest);
        }
    }
}

impl Pair {
    fn new(stage: &mut Stage, random: &mut Random) -> Pair {
        let (target, has_sums) = STREAMS[random.below(STREAMS.len() as u64) as usize];
        let is_fast = random.one_in(2);
        let (room, read_max) = match is_fast {
            true => (WIDE, usize::MAX),
            false => (300 + random.below(4_000) as usize, 900),
        };
        let clients = [true, false].map(|is_chunked| Client {
            caller: Caller::call(
                stage.net(),
                &request(target, is_chunked, ""),
                room,
                Steps::default(),
            ),
            received: Vec::new(),
            read_max,
            next_at: stage.now(),
        });
        Pair {
            target,
            has_sums,
            is_fast,
            clients,
        }
    }

    fn judge(&self) -> Result<(), String> {
        let [chunked, bare] = &self.clients;
        let chunked = chunked.transcript(true);
        let chunked = chunked.map_err(|error| format!("by HTTP/1.1: {error}"))?;
        let bare = bare.transcript(false);
        let bare = bare.map_err(|error| format!("by HTTP/1.0: {error}"))?;
        // Who is behind gets sums of its own; they are equal when all have come.
        let sums_differ = self.has_sums && !self.is_fast;
        let (sums, others) = split(chunked, sums_differ)?;
        let (bare_sums, bare_others) = split(bare, sums_differ)?;
        if sums != bare_sums {
            return Err(format!(
                "all sums\n  by HTTP/1.1 {sums:?}\n  by HTTP/1.0 {bare_sums:?}"
            ));
        }
        let equal = others
            .iter()
            .zip(&bare_others)
            .take_while(|(one, other)| one == other);
        let equal = equal.count();
        if equal < others.len().max(bare_others.len()) {
            return Err(format!(
                "event {equal} differs\n  by HTTP/1.1 {} of {}\n  by HTTP/1.0 {} of {}",
                brief(&others.get(equal)),
                others.len(),
                brief(&bare_others.get(equal)),
                bare_others.len(),
            ));
        }
        Ok(())
    }
}

/// Takes the sums out of the events and adds them up, where that is asked for.
fn split(events: Vec<Written>, takes_sums: bool) -> Result<(Counts, Vec<Written>), String> {
    let is_sum =
        |event: &Written| takes_sums && event.name.is_none() && event.data[0].starts_with('{');
    let (sums, others): (Vec<Written>, Vec<Written>) = events.into_iter().partition(is_sum);
    let mut all = Counts::new();
    for sum in sums {
        let event = Event {
            name: String::new(),
            data: sum.data.join("\n"),
            id: String::new(),
        };
        for (id, count) in counts_of(&event)? {
            *all.entry(id).or_default() += count;
        }
    }
    Ok((all, others))
}
