//! Batches: the events of a range, ready to be written. It owns how ranges become bytes, which is a pure function
//! of (namespace, range, format), and keeps the last few so that those who need the same share it; it must not know
//! who receives them.

use super::log::{Kept, Log};
use super::namespace::{NamespaceId, Stream};
use super::numbers::Numbers;
use super::position::{CLEAR_LINE, Positions};
use super::registry::Registry;
use super::sse::{Coding, Style};
use super::symbols::Counts;
use crate::limits::{LOG_BATCHES_PART, LOG_WRITE_PART, SUM_SCORES_MAX, WRITE_BYTES};

/// In which form a subscriber takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How the bytes are carried.
    pub coding: Coding,
    /// Whether a channel's events name it. Others always have their names.
    pub named: bool,
    /// Whether each event has its position, and gaps are told.
    pub ids: bool,
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whose events.
    pub namespace: NamespaceId,
    /// The number before the first.
    pub from: u64,
    /// The last number, unless the limit comes before.
    pub to: u64,
    /// The batch ends with the event that makes it so long, in bytes.
    pub limit: usize,
    /// In which form.
    pub format: Format,
    /// Events have their positions until the receiver has everything up to here, whatever the format: it is being sent
    /// what it missed. The event with which it has that makes it forget its position.
    pub replay_to: u64,
}

/// Events, encoded. A long message is not copied, but stands in the log between the bytes before and after it.
#[derive(Default)]
pub struct Batch {
    /// Room for the head of a chunk, and everything but the long message.
    bytes: Vec<u8>,
    /// Where the head of the chunk begins.
    start: usize,
    long: Option<Long>,
    /// The number up to which a receiver has everything with this.
    to: u64,
    events: u64,
}

/// A long message.
#[derive(Clone, Copy)]
struct Long {
    /// How many of the bytes stand before it.
    place: usize,
    number: u64,
    named: bool,
    len: usize,
}

/// Bytes of a chunk's head at most: `fffffff\r\n`.
const HEAD_BYTES_MAX: usize = 10;

/// Batches that are kept. Passes and clients alone alternate, and a stream has some formats; a single one would be made
/// again and again.
const BATCHES: usize = 8;

/// What scanning a score costs, in bytes that could be encoded meanwhile: 13 ns where its block is in no cache.
const SCORE_WORK: usize = 16;

/// Encodes ranges, and keeps the last few batches.
pub struct Batches {
    positions: Positions,
    /// In the order in which they were last asked for, and what each was made of.
    made: Vec<(Range, Batch)>,
    numbers: Numbers,
    counts: Counts,
    /// Of the batch that is being made, what is left of [`Range::replay_to`].
    replay_to: u64,
    /// Bytes encoded and scores scanned since this was last asked for.
    work: usize,
    bytes_max: usize,
    write_bytes: usize,
}

impl Batches {
    /// None yet. They take their part of a log of so many bytes.
    pub fn new(positions: Positions, log_bytes_max: usize) -> Batches {
        Batches {
            positions,
            made: Vec::with_capacity(BATCHES),
            numbers: Numbers::default(),
            counts: Counts::default(),
            replay_to: 0,
            work: 0,
            bytes_max: log_bytes_max / LOG_BATCHES_PART,
            write_bytes: WRITE_BYTES.min(log_bytes_max / LOG_WRITE_PART),
        }
    }

    /// Makes the batch of a range, unless it is kept. Whether it is new.
    pub fn prepare(&mut self, range: &Range, log: &Log, registry: &Registry) -> bool {
        let kept = self.made.iter().rposition(|(made, _)| made == range);
        if let Some(index) = kept {
            if index + 1 < self.made.len() {
                let made = self.made.remove(index);
                self.made.push(made);
            }
            return false;
        }
        let mut batch = match self.made.len() < BATCHES {
            true => Batch::default(),
            false => self.made.remove(0).1,
        };
        self.encode(&mut batch, range, log, registry);
        self.made.push((*range, batch));
        while self.bytes() > self.bytes_max && self.made.len() > 1 {
            self.made.remove(0);
        }
        true
    }

    /// The batch that was prepared last.
    pub fn last(&self) -> Option<&Batch> {
        self.made.last().map(|(_, batch)| batch)
    }

    /// What preparing has cost since this was last asked, in bytes encoded.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Writes positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Bytes of one write at most, as a rule.
    pub fn write_bytes(&self) -> usize {
        self.write_bytes
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let kept = self.made.iter().map(|(_, batch)| batch.bytes.capacity());
        kept.sum()
    }

    /// Makes a batch: for each message of the range, what lies before it, and then the message.
    fn encode(&mut self, batch: &mut Batch, range: &Range, log: &Log, registry: &Registry) {
        batch.clear();
        let carries = registry.get(range.namespace).map(|it| it.carries);
        let carries = carries.unwrap_or_default();
        let style = match carries.has(Stream::Channels) {
            true => Style::Spaced,
            false => Style::Tight,
        };
        let (has_raw, has_sums) = (carries.has(Stream::Raw), carries.has(Stream::Eps));
        // A position says that everything before is had. Where events have one, a sum must not reach over another event.
        let is_cut = has_sums && (range.format.ids || range.replay_to > range.from);
        let mut place = (0, 0);
        self.replay_to = range.replay_to;
        self.numbers.start(registry, range.namespace, range.from);
        batch.to = range.from;
        'range: loop {
            let next = self.numbers.next(registry, range.namespace);
            let next = next.filter(|&number| number <= range.to);
            let before = next.map_or(range.to, |number| number - 1);
            if has_raw {
                for (number, symbol) in log.scores(batch.to, before) {
                    log.symbols().encode_lines(symbol, &mut batch.bytes);
                    if is_cut {
                        // The sum that follows has the position.
                        batch.end_event();
                        self.counts.add_all([symbol]);
                        self.put_sum(batch, range, number, log);
                    } else {
                        self.end_event(batch, range, Style::Tight, number);
                        if has_sums {
                            self.counts.add_all([symbol]);
                        }
                    }
                    batch.to = number;
                    self.work += SCORE_WORK;
                    if batch.is_full(range.limit) {
                        break 'range;
                    }
                }
            } else if has_sums {
                let (counted, mut last) = (self.counts.len(), batch.to);
                let scores = log.scores(batch.to, before);
                let scores = scores.take(SUM_SCORES_MAX - counted);
                self.counts.add_all(scores.map(|(number, symbol)| {
                    last = number;
                    symbol
                }));
                self.work += (self.counts.len() - counted) * SCORE_WORK;
                if self.counts.len() == SUM_SCORES_MAX {
                    batch.to = last;
                    break;
                }
            }
            batch.to = before;
            let Some(number) = next else { break };
            if is_cut {
                self.put_sum(batch, range, before, log);
            }
            match log.message_near(number, &mut place) {
                Some(message) if !message.is_gap() => self.put_message(batch, range, message),
                // It was dropped, or the number is a break.
                _ => self.put_gap(batch, range, style, number),
            }
            batch.to = number;
            if batch.is_full(range.limit) {
                break;
            }
        }
        self.put_sum(batch, range, batch.to, log);
        self.work += batch.bytes.len();
        batch.end(range.format.coding);
    }

    /// Ends an event with which a receiver has everything up to a number. Its position is the last line: some clients take it
    /// at once, and would lose the event if the connection were cut behind it.
    fn end_event(&mut self, batch: &mut Batch, range: &Range, style: Style, number: u64) {
        let is_replay = self.replay_to > 0;
        if range.format.ids || number < self.replay_to {
            self.positions.encode_line(&mut batch.bytes, style, number);
        } else if is_replay {
            batch.bytes.extend_from_slice(CLEAR_LINE);
            self.replay_to = 0;
        }
        batch.end_event();
    }

    /// Appends the event that tells of a gap, but only where events have positions, for others do not resume.
    fn put_gap(&mut self, batch: &mut Batch, range: &Range, style: Style, number: u64) {
        if range.format.ids {
            batch.bytes.extend_from_slice(GAP_LINES);
            self.end_event(batch, range, style, number);
        }
    }

    fn put_message(&mut self, batch: &mut Batch, range: &Range, message: Kept<'_>) {
        // The events of the emoji streams have always had their names.
        let named = range.format.named || message.style() == Style::Tight;
        let lines = message.lines(named);
        if lines.len() >= self.write_bytes {
            batch.long = Some(Long {
                place: batch.bytes.len(),
                number: message.number,
                named,
                len: lines.len(),
            });
        } else {
            batch.bytes.extend_from_slice(lines);
        }
        self.end_event(batch, range, message.style(), message.number);
    }

    /// Appends the sum of what was counted as one event, if there is anything, with which everything up to `to` is had.
    fn put_sum(&mut self, batch: &mut Batch, range: &Range, to: u64, log: &Log) {
        if self.counts.len() == 0 {
            return;
        }
        batch.bytes.extend_from_slice(b"data:");
        self.counts.drain(log.symbols(), &mut batch.bytes);
        batch.bytes.push(b'\n');
        self.end_event(batch, range, Style::Tight, to);
    }
}

/// What tells a client that it lacks what nobody can send it any more. It has data, or a browser would not dispatch
/// it; scripts that poll and know no names of events take this for nothing.
pub const GAP_LINES: &[u8] = b"event: gap\ndata: null\n";

impl Batch {
    /// The bytes from an offset on; perhaps not all that follow, but some unless the offset is at the end.
    pub fn bytes_from<'a>(&'a self, offset: usize, log: &'a Log) -> &'a [u8] {
        let Some(long) = self.long else {
            return &self.bytes[self.start + offset..];
        };
        let before = long.place - self.start;
        if offset < before {
            &self.bytes[self.start + offset..long.place]
        } else if offset < before + long.len {
            let lines = log.message(long.number).map(|kept| kept.lines(long.named));
            &lines.unwrap_or_default()[offset - before..]
        } else {
            &self.bytes[long.place + (offset - before - long.len)..]
        }
    }

    /// How many bytes there are in all.
    pub fn len(&self) -> usize {
        let long = self.long.map_or(0, |long| long.len);
        self.bytes.len() - self.start + long
    }

    /// The number up to which a receiver has everything with this.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// How many events there are.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Starts over, in the same memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.resize(HEAD_BYTES_MAX, 0);
        self.start = HEAD_BYTES_MAX;
        self.long = None;
        self.to = 0;
        self.events = 0;
    }

    /// Ends the block of an event.
    fn end_event(&mut self) {
        self.bytes.push(b'\n');
        self.events += 1;
    }

    /// Whether it is as long as a write may be. One long message is enough.
    fn is_full(&self, limit: usize) -> bool {
        self.long.is_some() || self.bytes.len() - self.start >= limit
    }

    /// Puts what is there into one chunk, if that is the coding. Nothing is left as it is: an empty chunk would end the
    /// stream.
    fn end(&mut self, coding: Coding) {
        let mut len = self.len();
        if coding == Coding::Bare || len == 0 {
            return;
        }
        self.bytes.extend_from_slice(b"\r\n");
        let mut put = |byte: u8| {
            self.start -= 1;
            self.bytes[self.start] = byte;
        };
        put(b'\n');
        put(b'\r');
        while len > 0 {
            put(b"0123456789abcdef"[len % 16]);
            len /= 16;
        }
    }
}
