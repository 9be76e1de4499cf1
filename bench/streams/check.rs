//! Checks what clients received against the plan. It owns each client's position in the plan and the delivery times; it
//! must not know how events arrive.

use std::sync::Arc;

use super::histogram::Histogram;
use super::plan::{Plan, Stream, weight};

/// What is known about the messages that a client is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Those of the plan, from the first on: everybody was there before.
    FromTheFirst,
    /// A run of the plan's without a gap, from anywhere on.
    Run,
}

/// Follows all clients.
pub struct Judge {
    plan: Arc<Plan>,
    expectation: Expectation,
    clients: Vec<Received>,
    /// Events since the beginning.
    pub events: u64,
    /// The times from publishing to arrival, while they are recorded. For increments it is the time of
    /// the oldest one in the event, which includes its wait for the tick.
    pub latency: Histogram,
    /// Whether times are recorded.
    pub is_recording: bool,
    wrong: u64,
    first_wrong: Option<String>,
    /// The last increments and their sum: most clients get the same ones.
    last: (Vec<u8>, u64),
}

#[derive(Clone, Copy, Default)]
struct Received {
    /// The sum of the increments.
    sum: u64,
    /// How many messages of the plan that is, or the number that must come next.
    next: u32,
    /// Events in the window.
    events: u32,
    /// When the last event came, and the longest silence before one.
    last_at: u64,
    silence: u64,
}

impl Judge {
    /// Before anything was published.
    pub fn new(plan: Arc<Plan>, expectation: Expectation, clients: usize) -> Judge {
        Judge {
            plan,
            expectation,
            clients: vec![Received::default(); clients],
            events: 0,
            latency: Histogram::default(),
            is_recording: false,
            wrong: 0,
            first_wrong: None,
            last: (Vec::new(), 0),
        }
    }

    /// Takes an event that a client received at this moment, in nanoseconds.
    pub fn take(&mut self, client: usize, data: &[u8], now: u64) {
        self.events += 1;
        let received = &mut self.clients[client];
        received.events += 1;
        if received.last_at > 0 {
            received.silence = received.silence.max(now - received.last_at);
        }
        received.last_at = now;
        let sent_at = match (self.plan.stream, self.expectation) {
            (Stream::Eps, _) | (_, Expectation::Run) => self.take_increments(client, data),
            (Stream::Raw | Stream::Details | Stream::Channel, _) => {
                self.take_numbered(client, data)
            }
        };
        if let Some(sent_at) = sent_at.filter(|_| self.is_recording) {
            self.latency.add(now.saturating_sub(sent_at));
        }
    }

    /// Forgets what is known of a client, which begins anew.
    pub fn forget(&mut self, client: usize) {
        self.clients[client] = Received::default();
    }

    /// Begins to record times, and to count each client's events anew.
    pub fn start_window(&mut self) {
        self.is_recording = true;
        for client in &mut self.clients {
            (client.events, client.last_at, client.silence) = (0, 0, 0);
        }
    }

    /// The fewest and the most events of one client in the window.
    pub fn spread(&self) -> (u32, u32) {
        let events = || self.clients.iter().map(|client| client.events);
        (events().min().unwrap_or(0), events().max().unwrap_or(0))
    }

    /// The longest time that one of these clients waited for an event, in nanoseconds.
    pub fn silence(&self, clients: std::ops::Range<usize>) -> u64 {
        let silences = self.clients[clients].iter().map(|client| client.silence);
        silences.max().unwrap_or(0)
    }

    /// Whether everybody has everything, once so many messages were published.
    pub fn is_complete(&self, published: usize) -> bool {
        self.lacks(published).all(|lacks| lacks == 0)
    }

    /// What was wrong: events that contradict the plan, and what is missing at the end. `published` is
    /// not known of servers that publish by themselves.
    pub fn verdict(&mut self, published: Option<usize>) -> Vec<String> {
        let mut verdict = Vec::new();
        if let Some(first) = &self.first_wrong {
            verdict.push(format!("{} events wrong, the first: {first}", self.wrong));
        }
        if self.expectation == Expectation::Run {
            let mut hint = 0;
            let mut lost = 0;
            for client in &self.clients {
                match self.plan.run_with(client.sum, hint) {
                    Some(start) => hint = start,
                    None => lost += 1,
                }
            }
            if lost > 0 {
                verdict.push(format!("{lost} clients have sums with gaps"));
            }
        } else if let Some(published) = published {
            let (clients, messages) = self
                .lacks(published)
                .filter(|lacks| *lacks > 0)
                .fold((0, 0), |(clients, sum), lacks| (clients + 1, sum + lacks));
            if clients > 0 {
                let line = format!("{clients} clients lack {messages} messages in all");
                verdict.push(line);
            }
        }
        verdict
    }

    /// For each client, how many messages it has not got, once so many were published.
    fn lacks(&self, published: usize) -> impl Iterator<Item = usize> {
        let counts = match self.plan.stream {
            Stream::Details => self.plan.counts(published),
            Stream::Eps | Stream::Raw | Stream::Channel => Vec::new(),
        };
        self.clients
            .iter()
            .enumerate()
            .map(move |(client, received)| {
                let expected = counts.get(Plan::watched(client)).unwrap_or(&published);
                expected.saturating_sub(received.next as usize)
            })
    }

    /// Increments: what a client has in all must be the sum of the first so many messages.
    fn take_increments(&mut self, client: usize, data: &[u8]) -> Option<u64> {
        if self.last.0 != data {
            let Some(sum) = sum_of(data) else {
                self.complain(|| format!("no increments: {:?}", String::from_utf8_lossy(data)));
                return None;
            };
            self.last.0.clear();
            self.last.0.extend_from_slice(data);
            self.last.1 = sum;
        }
        let received = &mut self.clients[client];
        received.sum = received.sum.wrapping_add(self.last.1);
        if self.expectation == Expectation::Run {
            return None;
        }
        let oldest = received.next as usize;
        match self.plan.length_of(received.sum) {
            Some(length) => {
                received.next = length as u32;
                self.plan.sent_at(oldest)
            }
            None => {
                self.complain(|| format!("client {client} has a sum with a gap after {oldest}"));
                None
            }
        }
    }

    /// Numbered messages: each must be the next.
    fn take_numbered(&mut self, client: usize, data: &[u8]) -> Option<u64> {
        let mut numbers = data
            .split(|byte| !byte.is_ascii_digit())
            .filter(|digits| !digits.is_empty())
            .map(number);
        let (Some(number), Some(sent_at)) = (numbers.next(), numbers.next()) else {
            self.complain(|| format!("no number: {:?}", String::from_utf8_lossy(data)));
            return None;
        };
        let expected = std::mem::replace(&mut self.clients[client].next, number as u32 + 1);
        if number != u64::from(expected) {
            self.complain(|| format!("client {client} got {number} instead of {expected}"));
        }
        Some(sent_at)
    }

    fn complain(&mut self, line: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.first_wrong.is_none() {
            self.first_wrong = Some(line());
        }
    }
}

/// The sum of an object of counts such as `{"1F4C2":2}`, or of one bare name.
fn sum_of(data: &[u8]) -> Option<u64> {
    let Some(pairs) = data
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"))
    else {
        return (!data.is_empty()).then(|| weight(data));
    };
    let mut sum: u64 = 0;
    for pair in pairs.split(|&byte| byte == b',') {
        let rest = pair.trim_ascii().strip_prefix(b"\"")?;
        let end = rest.iter().position(|&byte| byte == b'"')?;
        let count = rest[end + 1..].strip_prefix(b":")?.trim_ascii();
        if count.is_empty() || !count.iter().all(u8::is_ascii_digit) {
            return None;
        }
        sum = sum.wrapping_add(weight(&rest[..end]).wrapping_mul(number(count)));
    }
    Some(sum)
}

fn number(digits: &[u8]) -> u64 {
    let add = |sum: u64, digit: &u8| sum.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
    digits.iter().fold(0, add)
}
