//! The plan: all messages of one measurement, fixed in advance, so that the publisher, the floor and the checker need not
//! communicate. It owns the messages and records when each was sent; it does not decide when.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use emojitrack_streamer::broker::demo::{self, Demo};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

/// The seed of everything that is drawn, so that all servers get the same.
pub const SEED: u64 = 7;

/// The beat of the rolled up stream.
pub const TICK: Duration = Duration::from_millis(17);

/// IDs that tweets are published for, of which the first of every [`IDS_PER_WATCHED`] is watched.
pub const IDS: usize = 400;

/// See [`IDS`].
pub const IDS_PER_WATCHED: usize = 4;

/// The channel that is measured.
pub const CHANNEL: &str = "news";

/// Which stream is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Increments, rolled up.
    Eps,
    /// Each message, to everybody.
    Raw,
    /// Each message, to those who asked for its ID.
    Details,
    /// Each message on one channel, to everybody.
    Channel,
}

/// All messages of one measurement.
pub struct Plan {
    /// What they are for.
    pub stream: Stream,
    /// Messages a second.
    pub per_second: u32,
    /// Emoji IDs.
    names: Vec<&'static str>,
    /// For each message, the index of its name; empty where names do not matter.
    picks: Vec<u16>,
    /// For each message, how many of the same name came before.
    numbers: Vec<u32>,
    /// For each number of messages, the fingerprint of so many from the first on.
    prefixes: Vec<u64>,
    lengths: HashMap<u64, u32, BuildHasherDefault<Same>>,
    /// When each was sent, in nanoseconds; zero for one that was not, or not by us.
    sent_at: Vec<AtomicU64>,
}

impl Plan {
    /// As many messages as `span` may need.
    pub fn new(stream: Stream, per_second: u32, span: Duration) -> Plan {
        let len = (f64::from(per_second) * span.as_secs_f64()) as usize;
        let mut random = Random::new(SEED);
        let names: Vec<&str> = demo::emoji().map(|(id, _, _)| id).collect();
        let weights = demo::emoji().map(|(_, score, _)| score.isqrt().max(1));
        let ends: Vec<u64> = weights
            .scan(0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        let mut pick = || match stream {
            Stream::Eps => {
                let ticket = random.below(ends.last().copied().unwrap_or(1));
                ends.partition_point(|end| *end <= ticket) as u16
            }
            Stream::Raw | Stream::Channel => 0,
            Stream::Details => random.below(IDS as u64) as u16,
        };
        let picks = (0..len).map(|_| pick()).collect();
        Plan::of(stream, per_second, names, picks)
    }

    /// What the server's embedded feeder will say, from the same seed. Its scores are what comes, on the
    /// raw stream as well.
    pub fn of_demo(stream: Stream, per_second: u32, span: Duration) -> Plan {
        let names: Vec<&str> = demo::emoji().map(|(id, _, _)| id).collect();
        let index_of: HashMap<&str, u16> = (0..).zip(&names).map(|(i, name)| (*name, i)).collect();
        let mut feeder = Demo::new(per_second, SEED, 0);
        feeder.set_listened(true, Time::ZERO);
        let mut picks = Vec::new();
        // It skips what is older than a second, so time must not jump.
        for millis in (0..span.as_millis() as u64).step_by(100) {
            while let Some(message) = feeder.next_message(Time::from_micros(millis * 1_000)) {
                let name = std::str::from_utf8(&message.payload).unwrap_or_default();
                if message.channel == b"stream.score_updates" {
                    picks.push(index_of.get(name).copied().unwrap_or(0));
                }
            }
        }
        Plan::of(stream, per_second, names, picks)
    }

    fn of(stream: Stream, per_second: u32, names: Vec<&'static str>, picks: Vec<u16>) -> Plan {
        let mut counts = vec![0; names.len()];
        let mut number = |pick: &u16| {
            let count: &mut u32 = &mut counts[usize::from(*pick)];
            *count += 1;
            *count - 1
        };
        let numbers = picks.iter().map(&mut number).collect();
        let mut prefixes = vec![0];
        let mut sum: u64 = 0;
        for pick in &picks {
            sum = sum.wrapping_add(weight(names[usize::from(*pick)].as_bytes()));
            prefixes.push(sum);
        }
        let lengths = (0..).zip(&prefixes).map(|(len, sum)| (*sum, len)).collect();
        let sent_at = picks.iter().map(|_| AtomicU64::new(0)).collect();
        Plan {
            stream,
            per_second,
            names,
            picks,
            numbers,
            prefixes,
            lengths,
            sent_at,
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// When a message is due, counted from the first.
    pub fn due(&self, index: usize) -> Duration {
        Duration::from_nanos(index as u64 * 1_000_000_000 / u64::from(self.per_second))
    }

    /// The ID that a message is about.
    pub fn name(&self, index: usize) -> &'static str {
        self.names[usize::from(self.picks[index])]
    }

    /// The index of that ID.
    pub fn pick(&self, index: usize) -> usize {
        usize::from(self.picks[index])
    }

    /// The ID that a client asks for, where clients ask for one.
    pub fn watched(client: usize) -> usize {
        client % (IDS / IDS_PER_WATCHED) * IDS_PER_WATCHED
    }

    /// The name of an ID.
    pub fn id(&self, index: usize) -> &'static str {
        self.names[index]
    }

    /// Appends what a message says, and keeps that it was sent at this moment.
    pub fn encode(&self, index: usize, now: u64, out: &mut Vec<u8>) {
        self.sent_at[index].store(now, Ordering::Relaxed);
        let number = self.numbers[index];
        let _infallible = match self.stream {
            Stream::Eps => write!(out, "{}", self.name(index)),
            Stream::Raw | Stream::Channel => write!(out, "{number} {now}"),
            // As long as the tweets of the real feeder, which are some 300 bytes.
            Stream::Details => write!(
                out,
                "{{\"id\":\"{number}\",\"sent_at\":\"{now}\",\"text\":\"the quick brown fox jumps over \
                 the lazy dog while somebody counts what is said of it\",\"screen_name\":\"somebody\",\
                 \"name\":\"Some Body\",\"links\":[],\"profile_image_url\":\
                 \"https://example.com/avatars/4711.png\",\"created_at\":\"2014-04-02T03:15:52+00:00\"}}"
            ),
        };
    }

    /// When a message was sent, if it was.
    pub fn sent_at(&self, index: usize) -> Option<u64> {
        let at = self.sent_at.get(index)?.load(Ordering::Relaxed);
        (at > 0).then_some(at)
    }

    /// How many messages from the first on have this sum, if any number has.
    pub fn length_of(&self, sum: u64) -> Option<usize> {
        self.lengths.get(&sum).map(|len| *len as usize)
    }

    /// Where a run of messages begins that has this sum, from `hint` on or else anywhere.
    pub fn run_with(&self, sum: u64, hint: usize) -> Option<usize> {
        let is_start = |start: &usize| {
            let before = self.prefixes[*start];
            self.lengths.contains_key(&before.wrapping_add(sum))
        };
        let len = self.prefixes.len();
        (hint..len).chain(0..hint.min(len)).find(is_start)
    }

    /// For each ID, how many of the first `published` messages are about it.
    pub fn counts(&self, published: usize) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        for pick in &self.picks[..published.min(self.picks.len())] {
            counts[usize::from(*pick)] += 1;
        }
        counts
    }
}

/// The number that one update of a name adds to a sum. Sums of these are equal only where the same names
/// were counted equally often.
pub fn weight(name: &[u8]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 30;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 27;
    hash.wrapping_mul(0x94d0_49bb_1331_11eb) ^ hash >> 31
}

/// A hasher for keys that are spread already.
#[derive(Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
