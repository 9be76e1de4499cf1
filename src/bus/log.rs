//! The log: every message that some subscriber may still need, once, in one bounded place. It owns the number line,
//! and what is kept for each number; it must not know subscribers, who are places on that line.
//!
//! Each message of the source has a number of its own, whether it is kept or not. Score updates lie on the tape as
//! symbols; other messages lie in segments, as the lines that they are in an event. The oldest goes first,
//! whichever of the two it is. The bound covers everything as allocated, so that it is one on memory and not only
//! on payload.

use std::collections::VecDeque;
use std::time::Duration;

use super::namespace::{NamespaceId, Stream};
use super::sse::{self, Style};
use super::symbols::{Symbol, Symbols};
use super::tape::Tape;
use crate::limits::{
    LOG_BYTES_FLOOR, LOG_ENTRY_BYTES, LOG_SEGMENT_BYTES, LOG_SEGMENT_PART, LOG_SYMBOLS_PART,
    LOG_TAPE_PART, LOG_UNFLUSHED_PART, READ_BYTES,
};
use crate::time::Time;

/// The shared message log.
pub struct Log {
    /// The number of the newest message; zero before the first one.
    head: u64,
    tape: Tape,
    symbols: Symbols,
    /// Other messages, by number.
    messages: VecDeque<Entry>,
    segments: VecDeque<Segment>,
    /// The number of `segments[0]`, so that entries need not be renumbered on eviction.
    first_segment: u32,
    /// Bytes of one segment, unless a message is longer.
    segment_bytes: usize,
    /// Capacities of all segments.
    bytes_held: usize,
    bytes_max: usize,
}

/// Messages back to back.
struct Segment {
    bytes: Vec<u8>,
    /// When the first of them came.
    began_at: Time,
}

/// Where a message lies, and how it is written.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Where it was published.
    pub namespace: NamespaceId,
    /// The stream of that.
    pub stream: Stream,
    /// How its fields are written.
    pub style: Style,
    segment: u32,
    start: u32,
    /// Bytes of its `event:` line.
    name_len: u32,
    /// Bytes of its `data:` lines; none where it is a gap.
    data_len: u32,
}

/// A message that is to be appended.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    name: Option<&'a [u8]>,
    payload: &'a [u8],
    style: Style,
    /// What its lines take at most.
    bytes_max: usize,
}

/// Where bytes lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    segment: u32,
    start: u32,
    end: u32,
}

/// What went to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evicted {
    /// Scores up to this number.
    Scores(u64),
    /// The message of this number, and where it was published.
    Message(u64, NamespaceId, Stream),
}

/// What the log holds, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Bytes of memory.
    pub bytes: usize,
    /// Bytes of memory at most.
    pub bytes_max: usize,
    /// Messages.
    pub messages: usize,
    /// How old the oldest is: for how long a client can be away and be sent what it missed.
    pub reach: Duration,
}

impl Log {
    /// An empty log of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Log {
        let bytes_max = bytes_max.max(LOG_BYTES_FLOOR);
        Log {
            head: 0,
            tape: Tape::new(bytes_max / LOG_TAPE_PART),
            symbols: Symbols::default(),
            messages: VecDeque::new(),
            segments: VecDeque::new(),
            first_segment: 0,
            segment_bytes: LOG_SEGMENT_BYTES.min(bytes_max / LOG_SEGMENT_PART),
            bytes_held: 0,
            bytes_max,
        }
    }

    /// Takes the next number for what is not kept: a message that nobody wants, or a break.
    pub fn skip(&mut self) -> u64 {
        self.head += 1;
        self.head
    }

    /// Appends a score update. The caller has made room.
    pub fn push_score(&mut self, id: &[u8], now: Time) {
        let before = self.symbols.bytes();
        let symbol = self.symbols.intern(id);
        let id_bytes = self.symbols.bytes() - before;
        let number = self.skip();
        self.tape.push(number, symbol, id_bytes, now);
    }

    /// Appends a message, or a gap where there is none, and returns its number. The caller has made room.
    pub fn push(
        &mut self,
        (namespace, stream): (NamespaceId, Stream),
        message: Option<&Message<'_>>,
        now: Time,
    ) -> u64 {
        if let Some(message) = message {
            self.reserve(message.bytes_max, now);
        }
        let number = self.skip();
        let count = self.segments.len() as u32;
        let mut entry = Entry {
            number,
            namespace,
            stream,
            style: message.map_or(Style::Spaced, |message| message.style),
            segment: self.first_segment.wrapping_add(count.saturating_sub(1)),
            start: 0,
            name_len: 0,
            data_len: 0,
        };
        if let Some(message) = message
            && let Some(Segment { bytes, .. }) = self.segments.back_mut()
        {
            let start = bytes.len();
            if let Some(name) = message.name {
                sse::encode_name(bytes, message.style, name);
            }
            let name_end = bytes.len();
            sse::encode_data(bytes, message.style, message.payload);
            entry.start = start as u32;
            entry.name_len = (name_end - start) as u32;
            entry.data_len = (bytes.len() - name_end) as u32;
        }
        self.messages.push_back(entry);
        number
    }

    /// Evicts the oldest message, or the oldest block of scores. Scores go alone while their ids take too much of
    /// the log.
    pub fn evict(&mut self) -> Option<Evicted> {
        let message = self.messages.front().map(|entry| entry.number);
        let is_scores_turn = match (self.tape.evicts_to(), message) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(score), Some(message)) => score < message || self.has_too_many_symbols(),
        };
        if is_scores_turn {
            let symbols = &mut self.symbols;
            let last = self.tape.evict(|symbol| symbols.release(symbol))?;
            return Some(Evicted::Scores(last));
        }
        let entry = self.messages.pop_front()?;
        let next_segment = self.messages.front().map(|next| next.segment);
        while !self.segments.is_empty() && next_segment != Some(self.first_segment) {
            self.drop_segment();
        }
        Some(Evicted::Message(
            entry.number,
            entry.namespace,
            entry.stream,
        ))
    }

    /// The number of the newest message.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Whether a message is taken: half of the log at most, so that one giant does not evict everything, itself
    /// included, before it is sent.
    pub fn takes(&self, message: &Message<'_>) -> bool {
        message.bytes_max + LOG_ENTRY_BYTES <= self.bytes_max / 2
    }

    /// Whether something must be evicted before a message is appended. `others` is what is held of the same bound
    /// elsewhere.
    pub fn is_full_for(&self, message: Option<&Message<'_>>, others: usize) -> bool {
        let needed = message.map_or(0, |message| message.bytes_max);
        let growth = match self.has_room(needed) {
            true => 0,
            false => needed.max(self.segment_bytes),
        };
        self.bytes() + others + growth + LOG_ENTRY_BYTES > self.bytes_max && !self.is_empty()
    }

    /// Whether something must be evicted before a score with this id is appended.
    pub fn is_full_for_score(&self, id: &[u8], others: usize) -> bool {
        let growth = self.tape.growth(self.head + 1) + Symbols::growth(id);
        let is_full = self.bytes() + others + growth > self.bytes_max;
        (is_full && !self.is_empty()) || (self.has_too_many_symbols() && self.tape.len() > 0)
    }

    /// The scores with numbers in `(from, to]`.
    pub fn scores(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Symbol)> {
        self.tape.range(from, to)
    }

    /// How many scores have numbers in `(from, to]`.
    pub fn count_scores(&self, from: u64, to: u64) -> usize {
        self.tape.count(from, to)
    }

    /// The ids of scores.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The message of this number.
    pub fn message(&self, number: u64) -> Option<&Entry> {
        self.message_near(number, &mut 0)
    }

    /// The message of this number, which may well be the one in this place. The place becomes that of the next
    /// message.
    pub fn message_near(&self, number: u64, place: &mut usize) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.number == number;
        if self.messages.get(*place).filter(is_it).is_none() {
            *place = self.messages.partition_point(|entry| entry.number < number);
        }
        *place += 1;
        self.messages.get(*place - 1).filter(is_it)
    }

    /// The bytes that lie there; empty where they were evicted in the meantime.
    pub fn bytes_at(&self, extent: Extent) -> &[u8] {
        let index = extent.segment.wrapping_sub(self.first_segment);
        let segment = self.segments.get(index as usize);
        let range = extent.start as usize..extent.end as usize;
        let bytes = segment.and_then(|segment| segment.bytes.get(range));
        bytes.unwrap_or_default()
    }

    /// What it holds, for reports.
    pub fn state(&self, others: usize, now: Time) -> LogState {
        let segment = self.segments.front().map(|first| first.began_at);
        let began_at = segment.into_iter().chain(self.tape.began_at()).min();
        LogState {
            bytes: self.bytes() + others,
            bytes_max: self.bytes_max,
            messages: self.messages.len() + self.tape.len(),
            reach: began_at.map_or(Duration::ZERO, |at| now.since(at)),
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let entries = self.messages.len() * LOG_ENTRY_BYTES;
        self.bytes_held + entries + self.tape.bytes() + self.symbols.bytes()
    }

    /// Bytes of memory at most.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.tape.len() == 0
    }

    fn has_too_many_symbols(&self) -> bool {
        self.symbols.bytes() > symbol_bytes_max(self.bytes_max)
    }

    fn has_room(&self, needed: usize) -> bool {
        let has_room = |last: &Segment| last.bytes.capacity() - last.bytes.len() >= needed;
        needed == 0 || self.segments.back().is_some_and(has_room)
    }

    fn reserve(&mut self, needed: usize, now: Time) {
        if !self.has_room(needed) {
            let bytes = Vec::with_capacity(needed.max(self.segment_bytes));
            self.bytes_held += bytes.capacity();
            self.segments.push_back(Segment {
                bytes,
                began_at: now,
            });
        }
    }

    fn drop_segment(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.bytes_held -= segment.bytes.capacity();
            self.first_segment = self.first_segment.wrapping_add(1);
        }
    }
}

/// Bytes of a log that the ids of scores may take: a publisher that invents ids must not evict everything else. What has
/// not been offered yet, and what one more read brings, has room in any case.
fn symbol_bytes_max(bytes_max: usize) -> usize {
    (bytes_max / LOG_SYMBOLS_PART).max(bytes_max / LOG_UNFLUSHED_PART as usize + 2 * READ_BYTES)
}

impl<'a> Message<'a> {
    /// A message whose event has this name, if it can have one (free of control bytes), and this payload, which is
    /// valid UTF-8.
    pub fn new(name: Option<&'a [u8]>, payload: &'a [u8], style: Style) -> Message<'a> {
        // Each line end makes a further `data:` line.
        let is_end = |byte: &&u8| **byte == b'\n' || **byte == b'\r';
        let lines = 1 + payload.iter().filter(is_end).count();
        let name_len = name.map_or(0, |name| name.len() + b"event: \n".len());
        Message {
            name,
            payload,
            style,
            bytes_max: name_len + payload.len() + lines * b"data: \n".len(),
        }
    }

    /// What its lines take at most, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }
}

impl Entry {
    /// Whether it stands for a message that could not be kept.
    pub fn is_gap(&self) -> bool {
        self.data_len == 0
    }

    /// Where its lines lie, with or without the one that names the event.
    pub fn lines(&self, named: bool) -> Extent {
        let name_end = self.start + self.name_len;
        Extent {
            segment: self.segment,
            start: if named { self.start } else { name_end },
            end: name_end + self.data_len,
        }
    }
}

impl Extent {
    /// How many bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const NAMESPACE: (NamespaceId, Stream) = (Stream::Details.root(), Stream::Details);

    fn message(payload: &[u8]) -> Message<'_> {
        Message::new(Some(b"a"), payload, Style::Tight)
    }

    #[test]
    fn everything_is_found_by_its_number_until_it_is_evicted_and_the_oldest_goes_first() {
        let mut random = Random::new(2);
        let mut log = Log::new(LOG_BYTES_FLOOR);
        // Payloads of messages, and nothing for gaps, scores and what was not kept.
        let mut model: Vec<Option<Vec<u8>>> = vec![None];
        let mut evicted_to = 0;
        for round in 0..20_000_u64 {
            let len = if random.one_in(50) {
                60_000
            } else {
                1 + random.below(800)
            };
            let payload = vec![b'a' + (round % 26) as u8; len as usize];
            let message = message(&payload);
            assert!(log.takes(&message));
            let mut make_room = |log: &mut Log, is_full: &dyn Fn(&Log) -> bool| {
                while is_full(log) {
                    let number = match log.evict().expect("a full log has something to evict") {
                        Evicted::Scores(last) => last,
                        Evicted::Message(number, namespace, stream) => {
                            assert_eq!((namespace, stream), NAMESPACE);
                            number
                        }
                    };
                    evicted_to = number.max(evicted_to);
                }
            };
            match random.below(10) {
                0 => {
                    log.skip();
                    model.push(None);
                }
                1 => {
                    make_room(&mut log, &|log| log.is_full_for(None, 0));
                    log.push(NAMESPACE, None, Time::ZERO);
                    model.push(None);
                }
                2..6 => {
                    let id = format!("{:X}", random.below(900));
                    make_room(&mut log, &|log| log.is_full_for_score(id.as_bytes(), 0));
                    log.push_score(id.as_bytes(), Time::ZERO);
                    model.push(None);
                }
                _ => {
                    make_room(&mut log, &|log| log.is_full_for(Some(&message), 0));
                    log.push(NAMESPACE, Some(&message), Time::ZERO);
                    model.push(Some(payload));
                }
            }
            assert!(log.bytes() <= LOG_BYTES_FLOOR, "{} bytes", log.bytes());
            assert_eq!(log.head() + 1, model.len() as u64);
        }
        assert!(evicted_to > 0);
        for (number, payload) in (0..).zip(&model) {
            let Some(payload) = payload else { continue };
            let found = log.message(number);
            // A block of scores that went took with it what is older, and messages within it may be kept.
            if number > evicted_to {
                assert!(found.is_some(), "message {number}");
            }
            let Some(entry) = found else { continue };
            let bytes = log.bytes_at(entry.lines(false));
            assert_eq!(&bytes[b"data:".len()..bytes.len() - 1], &payload[..]);
            let named = log.bytes_at(entry.lines(true));
            assert_eq!(named, [b"event:a\n", bytes].concat());
        }
        while log.evict().is_some() {}
        assert_eq!((log.segments.len(), log.symbols.bytes()), (0, 0));
    }

    #[test]
    fn ids_take_a_part_of_the_log_at_most_and_their_scores_go_before_messages() {
        let mut log = Log::new(LOG_BYTES_FLOOR);
        log.push(NAMESPACE, Some(&message(b"kept")), Time::ZERO);
        for number in 0..20_000 {
            let id = format!("{number:0100}");
            while log.is_full_for_score(id.as_bytes(), 0) {
                assert!(matches!(log.evict(), Some(Evicted::Scores(_))));
            }
            log.push_score(id.as_bytes(), Time::ZERO);
        }
        assert!(log.symbols.bytes() <= symbol_bytes_max(LOG_BYTES_FLOOR) + 1_000);
        assert!(log.message(1).is_some());
    }

    #[test]
    fn a_giant_is_refused() {
        let log = Log::new(1024 * 1024);
        assert!(log.takes(&message(&vec![b'a'; 500_000])));
        assert!(!log.takes(&message(&vec![b'a'; 600_000])));
        assert!(!log.takes(&message(&vec![b'\n'; 100_000])));
    }
}
