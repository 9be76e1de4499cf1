//! Batches: the events of a range, ready to be written. It owns how ranges become bytes, which is a pure function
//! of (namespace, range, format), and keeps the last few so that those who need the same share it; it must not know
//! who receives them.

use super::log::{Entry, Extent, Log};
use super::namespace::{NamespaceId, Stream};
use super::position::Positions;
use super::registry::Registry;
use super::sse::{Coding, Style};
use super::symbols::Counts;
use crate::limits::SLICED_BYTES_MIN;

/// In which form a subscriber takes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How the bytes are carried.
    pub coding: Coding,
    /// Whether each event has its position.
    pub ids: bool,
    /// Whether a channel's events name it. Others always have their names.
    pub named: bool,
}

/// Where a batch ends, if not at the end of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// With the event that makes it so long, in bytes.
    Bytes(usize),
    /// With the first event.
    First,
    /// Not before: it is the range of a batch that was made before.
    Whole,
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
    /// Where to end at the latest.
    pub limit: Limit,
    /// In which form.
    pub format: Format,
}

/// Events, encoded. A long message is not copied, but stands in the log between the bytes before and behind it.
#[derive(Default)]
pub struct Batch {
    /// Room for the head of a chunk, and everything but the long message.
    bytes: Vec<u8>,
    /// Where the head of the chunk begins.
    start: usize,
    /// The long message, if there is one, and how many of the bytes stand before it.
    long: Option<(usize, Extent)>,
    /// The number up to which a receiver has everything with this.
    to: u64,
    events: u64,
}

/// Bytes of a chunk's head at most: `fffffff\r\n`.
const HEAD_BYTES_MAX: usize = 10;

/// Batches that are kept. Passes and clients alone alternate, and a stream has some formats; a single one would be made
/// again and again.
const BATCHES: usize = 8;

/// What scanning a score costs, in bytes that could be encoded meanwhile.
const SCORE_WORK: usize = 8;

/// Encodes ranges, and keeps the last few batches.
pub struct Batches {
    positions: Positions,
    made: [(Option<Range>, Batch); BATCHES],
    /// The one that is overwritten next.
    next: usize,
    counts: Counts,
    /// Bytes encoded and scores scanned since this was last asked for.
    work: usize,
    bytes_max: usize,
}

/// A batch among those that are kept.
#[derive(Clone, Copy, Debug)]
pub struct BatchId(usize);

impl Batches {
    /// None yet. Those that are kept take some `bytes_max` bytes at most, and one more batch.
    pub fn new(positions: Positions, bytes_max: usize) -> Batches {
        Batches {
            positions,
            made: Default::default(),
            next: 0,
            counts: Counts::default(),
            work: 0,
            bytes_max,
        }
    }

    /// The batch of a range: one that is kept, or a new one, which is said as well.
    pub fn prepare(&mut self, range: &Range, log: &Log, registry: &Registry) -> (BatchId, bool) {
        let is_made = |(made, _): &(Option<Range>, Batch)| made.as_ref() == Some(range);
        if let Some(index) = self.made.iter().position(is_made) {
            return (BatchId(index), false);
        }
        if self.bytes() > self.bytes_max {
            self.made = Default::default();
        }
        let index = self.next;
        self.next = (self.next + 1) % BATCHES;
        let mut batch = std::mem::take(&mut self.made[index].1);
        self.encode(&mut batch, range, log, registry);
        self.made[index] = (Some(*range), batch);
        (BatchId(index), true)
    }

    /// A batch, until the next one is prepared.
    pub fn get(&self, id: BatchId) -> &Batch {
        &self.made[id.0].1
    }

    /// What preparing has cost since this was last asked, in bytes encoded.
    pub fn take_work(&mut self) -> usize {
        std::mem::take(&mut self.work)
    }

    /// Writes positions.
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let kept = self.made.iter().map(|(_, batch)| batch.bytes.capacity());
        kept.sum()
    }

    /// Makes a batch: for each message of the range, what lies before it, and then the message.
    fn encode(&mut self, batch: &mut Batch, range: &Range, log: &Log, registry: &Registry) {
        batch.clear();
        let carries = registry
            .get(range.namespace)
            .map(|namespace| namespace.carries);
        let carries = carries.unwrap_or_default();
        let (has_raw, has_sums) = (carries.has(Stream::Raw), carries.has(Stream::Eps));
        // A position says that everything before is had. Where events have one, a sum must not reach over another event.
        let is_cut = has_sums && range.format.ids;
        let mut numbers = registry.numbers_after(range.namespace, range.from);
        let mut next = numbers.next().filter(|&number| number <= range.to);
        let (mut summed, mut place) = (range.from, 0);
        loop {
            let before = next.map_or(range.to, |number| number - 1);
            if has_raw {
                for (number, symbol) in log.scores(batch.to.max(range.from), before) {
                    let ids = range.format.ids && !is_cut;
                    self.put_id(batch, ids.then_some(number), Style::Tight);
                    log.symbols().encode_lines(symbol, &mut batch.bytes);
                    batch.end_event(number);
                    self.work += SCORE_WORK;
                    if is_cut {
                        self.sum(batch, range, summed, number, log);
                        summed = number;
                    }
                    if batch.is_full(range.limit) {
                        break;
                    }
                }
                if batch.is_full(range.limit) {
                    break;
                }
            }
            batch.to = before;
            let Some(number) = next else { break };
            if is_cut {
                self.sum(batch, range, summed, before, log);
                summed = before;
            }
            if let Some(entry) = log.message_near(number, &mut place) {
                self.put_message(batch, range.format, entry, log);
            }
            batch.to = number;
            if batch.is_full(range.limit) {
                break;
            }
            next = numbers.next().filter(|&number| number <= range.to);
        }
        if has_sums {
            self.sum(batch, range, summed, batch.to, log);
        }
        self.work += batch.bytes.len();
        batch.end(range.format.coding);
    }

    fn put_id(&self, batch: &mut Batch, number: Option<u64>, style: Style) {
        if let Some(number) = number {
            self.positions.encode_line(&mut batch.bytes, style, number);
        }
    }

    /// Appends the event of a message; of a gap only where events have positions, for others do not resume.
    fn put_message(&self, batch: &mut Batch, format: Format, entry: &Entry, log: &Log) {
        if entry.is_gap() && !format.ids {
            return;
        }
        self.put_id(batch, format.ids.then_some(entry.number), entry.style);
        // The events of the emoji streams have always had their names.
        let lines = entry.lines(format.named || entry.style == Style::Tight);
        if entry.is_gap() {
            batch.bytes.extend_from_slice(GAP_LINES);
        } else if lines.len() >= SLICED_BYTES_MIN {
            batch.long = Some((batch.bytes.len(), lines));
        } else {
            batch.bytes.extend_from_slice(log.bytes_at(lines));
        }
        batch.end_event(entry.number);
    }

    /// Appends the sum of the scores in `(from, to]` as one event, if there are any.
    fn sum(&mut self, batch: &mut Batch, range: &Range, from: u64, to: u64, log: &Log) {
        for (_, symbol) in log.scores(from, to) {
            self.counts.add(symbol);
            self.work += SCORE_WORK;
        }
        if self.counts.is_empty() {
            return;
        }
        self.put_id(batch, range.format.ids.then_some(to), Style::Tight);
        batch.bytes.extend_from_slice(b"data:");
        self.counts.drain(log.symbols(), &mut batch.bytes);
        batch.bytes.push(b'\n');
        batch.end_event(to);
    }
}

/// What tells a client that it lacks what nobody can send it any more. It has data, or a browser would not dispatch
/// it; scripts that poll and know no names of events take this for nothing.
pub const GAP_LINES: &[u8] = b"event: gap\ndata: null\n";

impl Batch {
    /// The bytes from an offset on; perhaps not all that follow, but some unless the offset is at the end.
    pub fn bytes_from<'a>(&'a self, offset: usize, log: &'a Log) -> &'a [u8] {
        let Some((place, extent)) = self.long else {
            return &self.bytes[self.start + offset..];
        };
        let before = place - self.start;
        if offset < before {
            &self.bytes[self.start + offset..place]
        } else if offset < before + extent.len() {
            &log.bytes_at(extent)[offset - before..]
        } else {
            &self.bytes[place + (offset - before - extent.len())..]
        }
    }

    /// How many bytes there are in all.
    pub fn len(&self) -> usize {
        let long = self.long.map_or(0, |(_, extent)| extent.len());
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

    /// Ends the block of an event, with which a receiver has everything up to this number.
    fn end_event(&mut self, number: u64) {
        self.bytes.push(b'\n');
        self.to = number;
        self.events += 1;
    }

    fn is_full(&self, limit: Limit) -> bool {
        let len = self.bytes.len() - self.start;
        // One long message is enough, wherever the limit is.
        self.long.is_some()
            || match limit {
                Limit::Bytes(max) => len >= max,
                Limit::First => self.events > 0,
                Limit::Whole => false,
            }
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
