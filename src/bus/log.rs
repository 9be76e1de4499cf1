//! The log: every message that some subscriber may still need, once, in one bounded place. It owns the number line,
//! and what is kept for each number; it must not know subscribers, who are places on that line.
//!
//! Each message of the source has a number of its own, whether it is kept or not. Score updates lie on the tape as
//! symbols; other messages lie in segments, as the lines that they are in an event. The oldest goes first,
//! whichever of the two it is, a block of the tape or a segment at a time. The bound covers everything as allocated, so that it is one on memory and not only
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
    /// Other messages, oldest first.
    segments: VecDeque<Segment>,
    /// Bytes of one segment, unless a message is longer.
    segment_bytes: usize,
    /// What all segments take.
    bytes_held: usize,
    /// What a deployer allows for the log and the batches that are made of it.
    bytes_max: usize,
}

/// Messages back to back, at least one.
struct Segment {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// When the first of them came.
    began_at: Time,
}

/// Where a message lies in its segment.
struct Entry {
    number: u64,
    /// Where it was published.
    namespace: NamespaceId,
    stream: Stream,
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

/// A message that is kept.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// Its number.
    pub number: u64,
    /// The stream that it was published to.
    pub stream: Stream,
    lines: &'a [u8],
    name_len: usize,
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

/// What a segment takes beside the bytes of messages when it has one entry.
const SEGMENT_BYTES: usize = size_of::<Segment>() + ENTRIES_MIN * size_of::<Entry>();

/// Entries that a segment has room for from the beginning.
const ENTRIES_MIN: usize = 8;

impl Segment {
    /// One that can hold so many bytes.
    fn new(bytes: usize, now: Time) -> Segment {
        Segment {
            bytes: Vec::with_capacity(bytes),
            entries: Vec::new(),
            began_at: now,
        }
    }

    /// Bytes of memory that one more entry needs. Entries grow by a quarter, because a segment may have many or few.
    fn entry_growth(&self) -> usize {
        match self.entries.len() == self.entries.capacity() {
            true => (self.entries.len() / 4 + ENTRIES_MIN) * size_of::<Entry>(),
            false => 0,
        }
    }

    /// Whether so many bytes fit. Gaps take none, so that the entries are bounded as well.
    fn has_room(&self, needed: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= needed
            && self.entries.len() * size_of::<Entry>() < self.bytes.capacity()
    }

    /// Appends a message, or a gap where there is none.
    fn push(
        &mut self,
        number: u64,
        namespace: NamespaceId,
        stream: Stream,
        message: Option<&Message<'_>>,
    ) {
        let start = self.bytes.len();
        let bytes = &mut self.bytes;
        let mut name_end = start;
        if let Some(message) = message {
            if let Some(name) = message.name {
                sse::encode_name(bytes, message.style, name);
            }
            name_end = bytes.len();
            sse::encode_data(bytes, message.style, message.payload);
        }
        let growth = self.entry_growth() / size_of::<Entry>();
        self.entries.reserve_exact(growth);
        self.entries.push(Entry {
            number,
            namespace,
            stream,
            start: start as u32,
            name_len: (name_end - start) as u32,
            data_len: (self.bytes.len() - name_end) as u32,
        });
    }

    fn kept(&self, entry: &Entry) -> Kept<'_> {
        let (start, name_len) = (entry.start as usize, entry.name_len as usize);
        let end = start + name_len + entry.data_len as usize;
        Kept {
            number: entry.number,
            stream: entry.stream,
            lines: &self.bytes[start..end],
            name_len,
        }
    }

    /// The number of the last message.
    fn last(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.number)
    }

    fn memory(&self) -> usize {
        let entries = self.entries.capacity() * size_of::<Entry>();
        self.bytes.capacity() + entries + size_of::<Segment>()
    }
}

impl Log {
    /// An empty log, which together with batches takes at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Log {
        let bytes_max = bytes_max.max(LOG_BYTES_FLOOR);
        Log {
            head: 0,
            tape: Tape::new(bytes_max / LOG_TAPE_PART),
            symbols: Symbols::default(),
            segments: VecDeque::new(),
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
        let number = self.skip();
        let needed = message.map_or(0, |message| message.bytes_max);
        if !self.last_has_room(needed) {
            let segment = Segment::new(needed.max(self.segment_bytes), now);
            self.bytes_held += segment.memory();
            self.segments.push_back(segment);
        }
        if let Some(segment) = self.segments.back_mut() {
            self.bytes_held += segment.entry_growth();
            segment.push(number, namespace, stream, message);
        }
        number
    }

    /// Evicts the oldest messages or the oldest scores, those whose last one came earlier. Calls `forget` for each
    /// message, and for the last score. False where there is nothing to evict.
    pub fn evict(&mut self, mut forget: impl FnMut(NamespaceId, Stream, u64)) -> bool {
        let message = self.segments.front().map(Segment::last);
        let is_older = |score: u64| message.is_none_or(|message| score < message);
        if self.tape.evicts_to().is_some_and(is_older) {
            return self.evict_scores(forget);
        }
        let Some(segment) = self.segments.pop_front() else {
            return false;
        };
        self.bytes_held -= segment.memory();
        for entry in segment.entries {
            forget(entry.namespace, entry.stream, entry.number);
        }
        true
    }

    /// Evicts the oldest scores.
    pub fn evict_scores(&mut self, mut forget: impl FnMut(NamespaceId, Stream, u64)) -> bool {
        let symbols = &mut self.symbols;
        let Some(last) = self.tape.evict(|symbol| symbols.release(symbol)) else {
            return false;
        };
        for stream in [Stream::Raw, Stream::Eps] {
            forget(stream.root(), stream, last);
        }
        true
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

    /// Whether so many bytes more fit, beside those that are held elsewhere for what is in the log.
    pub fn has_room_for(&self, growth: usize, elsewhere: usize) -> bool {
        self.bytes() + elsewhere + growth <= self.bytes_max
    }

    /// Bytes of memory that a message needs beyond those that are held.
    pub fn growth(&self, message: Option<&Message<'_>>) -> usize {
        let needed = message.map_or(0, |message| message.bytes_max);
        match self.segments.back().filter(|last| last.has_room(needed)) {
            Some(last) => last.entry_growth(),
            None => needed.max(self.segment_bytes) + SEGMENT_BYTES,
        }
    }

    /// Bytes of memory that a score with this id needs beyond those that are held.
    pub fn score_growth(&self, id: &[u8]) -> usize {
        self.tape.growth(self.head + 1) + Symbols::growth(id)
    }

    /// Whether ids take so much of the log that scores have to go, before older messages.
    pub fn has_too_many_ids(&self) -> bool {
        self.symbols.bytes() > symbol_bytes_max(self.bytes_max)
    }

    /// The scores with numbers in `(from, to]`.
    pub fn scores(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Symbol)> {
        self.tape.range(from, to)
    }

    /// How many scores have numbers in `(from, to]`.
    pub fn count_scores(&self, from: u64, to: u64) -> usize {
        self.tape.count(from, to)
    }

    /// The number of the last score with a number in `(from, to]`.
    pub fn last_score(&self, from: u64, to: u64) -> Option<u64> {
        self.tape.last(from, to)
    }

    /// The ids of scores.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// The message of this number, which may well lie in this place: a segment, and an entry in it. The place becomes
    /// that of the next message.
    pub fn message_near(&self, number: u64, place: &mut (usize, usize)) -> Option<Kept<'_>> {
        let at = |(segment, entry): (usize, usize)| {
            let segment = self.segments.get(segment)?;
            let entry = segment.entries.get(entry)?;
            (entry.number == number).then(|| segment.kept(entry))
        };
        let mut found = at(*place);
        if found.is_none() {
            let segments = &self.segments;
            place.0 = segments.partition_point(|segment| segment.last() < number);
            let entries = segments.get(place.0).map_or(&[][..], |it| &it.entries);
            place.1 = entries.partition_point(|entry| entry.number < number);
            found = at(*place);
        }
        place.1 += 1;
        found
    }

    /// The message of this number.
    pub fn message(&self, number: u64) -> Option<Kept<'_>> {
        self.message_near(number, &mut (0, 0))
    }

    /// What it holds, for reports. So many bytes are held elsewhere for what is in it.
    pub fn state(&self, elsewhere: usize, now: Time) -> LogState {
        let segment = self.segments.front().map(|first| first.began_at);
        let began_at = segment.into_iter().chain(self.tape.began_at()).min();
        let messages = self.segments.iter().map(|segment| segment.entries.len());
        LogState {
            bytes: self.bytes() + elsewhere,
            bytes_max: self.bytes_max,
            messages: messages.sum::<usize>() + self.tape.len(),
            reach: began_at.map_or(Duration::ZERO, |at| now.since(at)),
        }
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.bytes_held + self.tape.bytes() + self.symbols.bytes()
    }

    /// Bytes of memory at most, batches included.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    fn last_has_room(&self, needed: usize) -> bool {
        let last = self.segments.back();
        last.is_some_and(|last| last.has_room(needed))
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

impl<'a> Kept<'a> {
    /// How its fields are written.
    pub fn style(&self) -> Style {
        self.stream.style()
    }

    /// Whether it stands for a message that could not be kept.
    pub fn is_gap(&self) -> bool {
        self.lines.is_empty()
    }

    /// Its lines, with or without the one that names the event.
    pub fn lines(&self, named: bool) -> &'a [u8] {
        match named {
            true => self.lines,
            false => &self.lines[self.name_len..],
        }
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
            let mut make_room = |log: &mut Log, growth: &dyn Fn(&Log) -> usize| {
                while !log.has_room_for(growth(log), 0) {
                    let is_evicted = log.evict(|namespace, stream, number| {
                        assert!(stream != Stream::Details || (namespace, stream) == NAMESPACE);
                        evicted_to = number.max(evicted_to);
                    });
                    assert!(is_evicted, "a full log has something to evict");
                }
            };
            match random.below(10) {
                0 => {
                    log.skip();
                    model.push(None);
                }
                1 => {
                    make_room(&mut log, &|log| log.growth(None));
                    log.push(NAMESPACE, None, Time::ZERO);
                    model.push(None);
                }
                2..6 => {
                    let id = format!("{:X}", random.below(900));
                    make_room(&mut log, &|log| log.score_growth(id.as_bytes()));
                    log.push_score(id.as_bytes(), Time::ZERO);
                    model.push(None);
                }
                _ => {
                    make_room(&mut log, &|log| log.growth(Some(&message)));
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
            let bytes = entry.lines(false);
            assert_eq!(&bytes[b"data:".len()..bytes.len() - 1], &payload[..]);
            assert_eq!(entry.lines(true), [b"event:a\n", bytes].concat());
        }
        while log.evict(|_, _, _| {}) {}
        assert_eq!((log.bytes(), log.symbols.bytes()), (0, 0));
    }

    #[test]
    fn ids_take_a_part_of_the_log_at_most_and_their_scores_go_before_messages() {
        let mut log = Log::new(1024 * 1024);
        log.push(NAMESPACE, Some(&message(b"kept")), Time::ZERO);
        for number in 0..20_000 {
            let id = format!("{number:0100}");
            while log.has_too_many_ids() {
                log.evict_scores(|_, _, _| {});
            }
            assert!(log.has_room_for(log.score_growth(id.as_bytes()), 0));
            log.push_score(id.as_bytes(), Time::ZERO);
        }
        assert!(log.symbols.bytes() <= symbol_bytes_max(1024 * 1024) + 1_000);
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
