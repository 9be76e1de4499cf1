//! Hostile ids: `Last-Event-ID` as no server has ever given it out. Whatever is sent, the server goes on, answers, and
//! sends nothing but the stream that was asked for: the messages that come from now on, and before these at most a
//! whole run of the latest ones, each once.
//!
//! How an id looks is not known here. Real ones are collected from the server, and then damaged.

use std::time::Duration;

use emojitrack_streamer::random::Random;

use crate::broker::Plan;
use crate::caller::{Caller, WIDE};
use crate::net::{Faults, SimNet};
use crate::receiver::{Event, Receiver};
use crate::stage::Stage;
use crate::steps::{Steps, brief};
use crate::sums::counts_of;
use crate::{seeds, server};

/// Ids that are none, and that need no real one. `{long}` stands for some kilobytes.
const MADE_UP: [&str; 34] = [
    "0",
    "-",
    "--",
    "-1",
    "1",
    "0-0",
    "0--1",
    "+0-+0",
    "0x0-0x0",
    "-9223372036854775808",
    "18446744073709551615-18446744073709551615",
    "ffffffffffffffff-18446744073709551616",
    "99999999999999999999999999999999999999-1",
    "1e9-1e9",
    "NaN",
    "null",
    "*",
    "$",
    "fedcba9876543210-7",
    "1526919030474-55",
    "1526919030474",
    "mAAAAAAAAAAAAAAAA",
    "pAAAAAAAAAAAAAAAAAA",
    "m",
    "p----------------_",
    "'; DROP TABLE events; --",
    "../../etc/passwd",
    "%00%0a%0d",
    "\u{0661}-\u{0662}",
    "\u{1F602}",
    "a\tb",
    "id: 1",
    "1-1, 1-2",
    "{long}",
];

/// What no header may hold, and what a query may.
const CONTROL: [&str; 6] = ["\0", "1-\0", "\x01\x02", "a\x0bb", "\x1b[2J", "\x7f"];

/// Damages a real id.
const DAMAGES: [fn(&str) -> String; 12] = [
    |id| format!("{id}0"),
    |id| format!("{id}999999999999"),
    |id| format!("9{id}"),
    |id| format!("-{id}"),
    |id| id[1..].to_owned(),
    |id| id[..id.len() - 1].to_owned(),
    |id| id[..id.len() / 2].to_owned(),
    |id| id.chars().rev().collect(),
    |id| id.to_uppercase(),
    |id| format!("{id} "),
    |id| format!("{id}{id}"),
    |id| id.replace('-', "-\u{2212}"),
];

/// A stream that is asked for: its target, the channels whose messages it carries, and whether it carries sums.
struct Stream {
    target: &'static str,
    channels: &'static [&'static str],
    has_sums: bool,
}

const SCORES: &str = "stream.score_updates";

const STREAMS: [Stream; 6] = [
    Stream {
        target: "/?channels=a",
        channels: &["a"],
        has_sums: false,
    },
    Stream {
        target: "/?channels=a,b",
        channels: &["a", "b"],
        has_sums: false,
    },
    Stream {
        target: "/subscribe/raw",
        channels: &[SCORES],
        has_sums: false,
    },
    Stream {
        target: "/subscribe/eps",
        channels: &[],
        has_sums: true,
    },
    Stream {
        target: "/subscribe/details/1F602",
        channels: &["stream.tweet_updates.1F602"],
        has_sums: false,
    },
    Stream {
        target: "/subscribe?ns=/eps&ns=/channels/a",
        channels: &["a"],
        has_sums: true,
    },
];

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    random: Random,
    published: usize,
    /// Ids that the server gave out, and one of another process.
    real: Vec<String>,
    foreign: Vec<String>,
    steps: Steps,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0x1D);
        let stage = stage(&mut random);
        World {
            stage,
            random,
            published: 0,
            real: Vec::new(),
            foreign: Vec::new(),
            steps: Steps::default(),
        }
    }

    fn run(&mut self) {
        self.foreign = self.collect_ids();
        // Another process takes the place of this one.
        self.stage = stage(&mut self.random);
        self.real = self.collect_ids();
        for stream in &STREAMS {
            for _ in 0..8 {
                let id = self.hostile_id();
                self.attempt(stream, &id);
            }
        }
        let reply = self.ask(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(reply.statuses(), [200], "the server is no longer well");
    }

    fn last_steps(&self) -> String {
        self.steps.tell("the attackers") + &self.stage.broker.steps.tell("the broker")
    }
}

fn stage(random: &mut Random) -> Stage {
    let settings = server::settings_with_channels(
        random,
        true,
        &["a", "b", "secret"],
        Duration::from_secs(60),
        server::LARGE_LOG,
    );
    let mut stage = Stage::new(random, settings, Faults::default(), Plan::default());
    stage.pass(Duration::from_secs(1));
    stage
}

impl World {
    /// Reads streams until they end, and returns every id that came with them.
    fn collect_ids(&mut self) -> Vec<String> {
        let mut ids = Vec::new();
        let call = |net: &mut SimNet, target: &str| {
            let bytes = crate::caller::request(target, true, "");
            Caller::call(net, &bytes, WIDE, Steps::default())
        };
        let net = self.stage.net();
        let mut callers: Vec<Caller> = STREAMS.iter().map(|it| call(net, it.target)).collect();
        // Messages that no other client may see.
        callers.push(call(net, "/?channels=secret"));
        for _ in 0..8 {
            self.publish_on_all();
            self.stage.pass(Duration::from_millis(500));
        }
        for mut caller in callers {
            let read = caller.read(self.stage.net(), usize::MAX);
            read.unwrap_or_else(|error| panic!("received {error}"));
            let (receiver, _) = caller.leave(self.stage.net());
            ids.extend(receiver.events.iter().map(|event| event.id.clone()));
            ids.push(receiver.last_event_id);
        }
        ids.retain(|id| !id.is_empty());
        ids.sort_unstable();
        ids.dedup();
        assert!(!ids.is_empty(), "no stream had an id");
        ids
    }

    /// Publishes a message with a name of its own on each channel that there is.
    fn publish_on_all(&mut self) {
        for channel in ["a", "b", "secret", SCORES, "stream.tweet_updates.1F602"] {
            self.published += 1;
            let payload = format!("{channel}#{}", self.published);
            self.stage.publish(channel, &payload);
        }
    }

    fn hostile_id(&mut self) -> String {
        let mut pick = |among: usize| self.random.below(among as u64) as usize;
        match pick(5) {
            0 => MADE_UP[pick(MADE_UP.len())].replace("{long}", &"7-".repeat(1_000 + pick(12_000))),
            1 => CONTROL[pick(CONTROL.len())].to_owned(),
            2 => self.foreign[pick(self.foreign.len())].clone(),
            // Of whatever stream: an id of one that was given to somebody else is real.
            3 => self.real[pick(self.real.len())].clone(),
            _ => DAMAGES[pick(DAMAGES.len())](&self.real[pick(self.real.len())]),
        }
    }

    /// Sends a request and waits for what comes.
    fn ask(&mut self, request: &[u8]) -> Receiver {
        let steps = std::mem::take(&mut self.steps);
        let mut caller = Caller::call(self.stage.net(), request, WIDE, steps);
        self.stage.pass(Duration::from_millis(300));
        self.publish_on_all();
        self.stage.pass(Duration::from_millis(300));
        let read = caller.read(self.stage.net(), usize::MAX);
        let (receiver, steps) = caller.leave(self.stage.net());
        self.steps = steps;
        read.unwrap_or_else(|error| panic!("received {error}"));
        receiver
    }

    /// Asks for a stream with this id, by a header or in the query, for good or by a long poll.
    fn attempt(&mut self, stream: &Stream, id: &str) {
        let in_query = self.random.one_in(3);
        let is_poll = self.random.one_in(4) && !stream.has_sums && stream.target.starts_with("/?");
        let mut target = stream.target.to_owned();
        let mut fields = "Host: a\r\n".to_owned();
        match in_query {
            true => {
                let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let joint = if target.contains('?') { '&' } else { '?' };
                target.push_str(&format!("{joint}lastEventId={escaped}"));
            }
            false => fields.push_str(&format!("Last-Event-ID: {id}\r\n")),
        }
        if is_poll {
            fields.push_str("X-Requested-With: XMLHttpRequest\r\n");
        }
        let version = if self.random.one_in(3) { "1.0" } else { "1.1" };
        let request = format!("GET {target} HTTP/{version}\r\n{fields}\r\n");
        let before = self.stage.broker.published.len();
        let mut receiver = self.ask(request.as_bytes());
        let context = format!("{} with the id {}", stream.target, brief(&id));
        let refused = receiver.replies.first().filter(|it| it.status != 200);
        if let Some(reply) = refused {
            let status = reply.status;
            assert!(
                [400, 414, 431].contains(&status),
                "{context} was answered {status}"
            );
            return;
        }
        if is_poll {
            let body = receiver
                .replies
                .first()
                .map_or(Vec::new(), |it| it.body.clone());
            let taken = receiver.take_events(&body);
            taken.unwrap_or_else(|error| panic!("{context}: {error}"));
        }
        let verdict = self.judge(stream, &receiver.events, before, is_poll);
        verdict.unwrap_or_else(|error| panic!("{context}: {error}"));
    }

    /// After a gap, or without one, the events are the latest messages of the stream: a run that ends with the last
    /// one, each once. A poll brings the first of such a run.
    fn judge(
        &self,
        stream: &Stream,
        events: &[Event],
        before: usize,
        is_poll: bool,
    ) -> Result<(), String> {
        let has_gap = events.first().is_some_and(|event| event.name == "gap");
        let events = &events[usize::from(has_gap)..];
        let (sums, others): (Vec<&Event>, Vec<&Event>) = events
            .iter()
            .partition(|event| stream.has_sums && event.data.starts_with('{'));
        let published = &self.stage.broker.published;
        let of = |channel: &str| stream.channels.contains(&channel);
        let wanted = published.iter().filter(|it| of(&it.channel));
        let wanted: Vec<&str> = wanted.map(|it| it.payload.as_str()).collect();
        let fresh = published[before..]
            .iter()
            .filter(|it| of(&it.channel))
            .count();
        let came: Vec<&str> = others.iter().map(|event| event.data.as_str()).collect();
        let is_right = match is_poll {
            true if has_gap => came.is_empty(),
            true => matches!(came[..], [event] if wanted.contains(&event)),
            false => wanted.ends_with(&came) && came.len() >= fresh,
        };
        if !is_right {
            let latest = &wanted[wanted.len().saturating_sub(12)..];
            return Err(format!(
                "a run of the latest messages\n  expected {latest:?}\n  came     {came:?}"
            ));
        }
        if stream.has_sums {
            let scores: Vec<&str> = published
                .iter()
                .filter(|it| it.channel == SCORES)
                .map(|it| it.payload.as_str())
                .collect();
            let mut came = Vec::new();
            for sum in sums {
                // Each update has a name of its own, and the keys of a sum stand in no order.
                let counts = counts_of(sum)?;
                if counts.values().any(|&count| count != 1) {
                    return Err(format!("an update was counted twice: {sum:?}"));
                }
                let at = |key: &String| scores.iter().position(|it| it == key);
                let mut places: Vec<Option<usize>> = counts.keys().map(at).collect();
                places.sort_unstable();
                came.extend(places);
            }
            let first = scores.len() - came.len().min(scores.len());
            let expected: Vec<Option<usize>> = (first..scores.len()).map(Some).collect();
            if came != expected || came.is_empty() {
                return Err(format!(
                    "sums\n  expected {expected:?}\n  came     {came:?}"
                ));
            }
        }
        Ok(())
    }
}
