//! The log: every frame that some subscriber may still need, once, in one bounded place. It owns frames'
//! bytes and their sequence numbers; it must not know subscribers, who are cursors into it.
//!
//! Frames lie in segments, back to back, each in its chunked form, with the bare form inside it. Whole
//! segments are evicted, oldest first. The bound covers segments as allocated and the entries, so that
//! it is a bound on memory and not only on payload.

use std::collections::VecDeque;
use std::time::Duration;

use super::hub::NamespaceId;
use super::stats::LogState;
use crate::limits::{LOG_BYTES_FLOOR, LOG_ENTRY_BYTES, LOG_SEGMENT_BYTES};
use crate::proto::sse;
use crate::time::Time;

/// How a receiver takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// HTTP/1.1: each frame is a chunk.
    Chunked,
    /// HTTP/1.0: frames follow each other bare.
    Bare,
}

/// The shared message log.
pub struct Log {
    /// The sequence number of `entries[0]`; numbers only grow.
    first: u64,
    entries: VecDeque<Entry>,
    segments: VecDeque<Segment>,
    /// The number of `segments[0]`, so that entries need not be renumbered on eviction.
    first_segment: u32,
    /// Capacities of all segments.
    segment_bytes: usize,
    bytes_max: usize,
    /// Bytes of all frames that were ever appended, entries included.
    appended: u64,
}

/// Where bytes lie in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    segment: u32,
    start: u32,
    end: u32,
}

/// Frames back to back.
struct Segment {
    bytes: Vec<u8>,
    /// When the first of them came.
    began_at: Time,
}

#[derive(Clone, Copy)]
struct Entry {
    segment: u32,
    start: u32,
    len: u32,
    namespace: NamespaceId,
    head_len: u8,
}

/// A chunk's head (`fffffff\r\n` at most) and its line end.
const CHUNK_BYTES_MAX: usize = 16;

impl Log {
    /// An empty log of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Log {
        Log {
            first: 0,
            entries: VecDeque::new(),
            segments: VecDeque::new(),
            first_segment: 0,
            segment_bytes: 0,
            appended: 0,
            bytes_max: bytes_max.max(LOG_BYTES_FLOOR),
        }
    }

    /// The sequence number that the next frame will have.
    pub fn head(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The oldest sequence number that is still here (equal to the head when the log is empty).
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Bytes of memory held, entries included.
    pub fn bytes(&self) -> usize {
        self.segment_bytes + self.entries.len() * LOG_ENTRY_BYTES
    }

    /// What it holds, for reports.
    pub fn state(&self, now: Time) -> LogState {
        let began_at = self.segments.front().map(|first| first.began_at);
        LogState {
            reach: began_at.map_or(Duration::ZERO, |at| now.since(at)),
            bytes: self.bytes(),
            bytes_max: self.bytes_max,
            frames: self.entries.len(),
        }
    }

    /// Bytes of all frames that were ever appended, entries included.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Whether a frame with a body of `len` bytes can be taken: half of the log, so that one giant does
    /// not evict everything, itself included, before it is sent.
    pub fn takes(&self, len: usize) -> bool {
        len + CHUNK_BYTES_MAX + LOG_ENTRY_BYTES <= self.bytes_max / 2
    }

    /// Whether a frame must be evicted before one with a body of `len` bytes is appended.
    pub fn is_full_for(&self, len: usize) -> bool {
        let needed = len + CHUNK_BYTES_MAX;
        let growth = if self.has_room(needed) {
            0
        } else {
            needed.max(LOG_SEGMENT_BYTES)
        };
        !self.entries.is_empty() && self.bytes() + growth + LOG_ENTRY_BYTES > self.bytes_max
    }

    /// Evicts the oldest frame, and its segment if it was the last in it; returns its number and where
    /// it was published.
    pub fn evict(&mut self) -> Option<(u64, NamespaceId)> {
        let entry = self.entries.pop_front()?;
        let evicted = self.first;
        self.first += 1;
        let next_segment = self.entries.front().map(|next| next.segment);
        while self.segments.len() > 1 && next_segment != Some(self.first_segment) {
            self.drop_segment();
        }
        if next_segment.is_none() {
            self.drop_segment();
        }
        Some((evicted, entry.namespace))
    }

    /// Appends a frame with this bare body and returns its number. The caller has made room.
    pub fn append(&mut self, namespace: NamespaceId, body: &[u8], now: Time) -> u64 {
        debug_assert!(self.takes(body.len()) && !self.is_full_for(body.len()));
        let needed = body.len() + CHUNK_BYTES_MAX;
        if !self.has_room(needed) {
            let bytes = Vec::with_capacity(needed.max(LOG_SEGMENT_BYTES));
            self.segment_bytes += bytes.capacity();
            self.segments.push_back(Segment {
                bytes,
                began_at: now,
            });
        }
        let number = self
            .first_segment
            .wrapping_add(self.segments.len() as u32 - 1);
        let Some(Segment { bytes: segment, .. }) = self.segments.back_mut() else {
            return self.head();
        };
        let start = segment.len();
        let head_len = sse::encode_chunk(segment, body);
        let entry = Entry {
            segment: number,
            start: start as u32,
            len: (segment.len() - start) as u32,
            namespace,
            head_len: head_len as u8,
        };
        let sequence = self.head();
        self.appended += u64::from(entry.len) + LOG_ENTRY_BYTES as u64;
        self.entries.push_back(entry);
        debug_assert!(self.bytes() <= self.bytes_max);
        sequence
    }

    /// Takes a number that is no frame's, so that an id from before can be told from one that is given out now. The
    /// caller has made room, and lists it nowhere.
    pub fn skip_number(&mut self, namespace: NamespaceId) {
        let segments = self.segments.len().saturating_sub(1) as u32;
        self.appended += LOG_ENTRY_BYTES as u64;
        self.entries.push_back(Entry {
            segment: self.first_segment.wrapping_add(segments),
            start: 0,
            len: 0,
            namespace,
            head_len: 0,
        });
        debug_assert!(self.bytes() <= self.bytes_max);
    }

    /// Where the bytes of one frame lie; `None` where it was evicted or is not there yet.
    pub fn locate(&self, sequence: u64, coding: Coding) -> Option<Extent> {
        let entry = self
            .entries
            .get(usize::try_from(sequence.checked_sub(self.first)?).ok()?)?;
        let (start, end) = (entry.start, entry.start + entry.len);
        Some(match coding {
            Coding::Chunked => Extent {
                segment: entry.segment,
                start,
                end,
            },
            // Behind the chunk's head, and without the CRLF at its end.
            Coding::Bare => {
                let start = start + u32::from(entry.head_len);
                Extent {
                    segment: entry.segment,
                    start,
                    end: end - 2,
                }
            }
        })
    }

    /// The bytes that lie there; empty where they were evicted in the meantime.
    pub fn bytes_at(&self, extent: Extent) -> &[u8] {
        let segment = self
            .segments
            .get(extent.segment.wrapping_sub(self.first_segment) as usize);
        let range = extent.start as usize..extent.end as usize;
        let bytes = segment.and_then(|segment| segment.bytes.get(range));
        bytes.unwrap_or_default()
    }

    /// The bytes of one frame.
    pub fn frame(&self, sequence: u64, coding: Coding) -> Option<&[u8]> {
        self.locate(sequence, coding)
            .map(|extent| self.bytes_at(extent))
    }

    fn has_room(&self, needed: usize) -> bool {
        self.segments
            .back()
            .is_some_and(|last| last.bytes.capacity() - last.bytes.len() >= needed)
    }

    fn drop_segment(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.segment_bytes -= segment.bytes.capacity();
            self.first_segment = self.first_segment.wrapping_add(1);
        }
    }
}

impl Extent {
    /// How many bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Both together, if `next` lies directly behind this.
    pub fn join(self, next: Extent) -> Option<Extent> {
        let adjoins = self.segment == next.segment && self.end == next.start;
        adjoins.then_some(Extent {
            end: next.end,
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const NAMESPACE: NamespaceId = NamespaceId(3);

    fn append(log: &mut Log, body: &[u8]) -> u64 {
        while log.is_full_for(body.len()) {
            assert!(log.evict().is_some(), "a full log has something to evict");
        }
        log.append(NAMESPACE, body, Time::ZERO)
    }

    #[test]
    fn frames_are_found_in_both_codings_until_they_are_evicted() {
        let mut random = Random::new(2);
        let mut log = Log::new(LOG_BYTES_FLOOR);
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        for round in 0..5_000_u64 {
            let len = if random.one_in(50) {
                100_000
            } else {
                1 + random.below(3_000)
            };
            if random.one_in(20) {
                while log.is_full_for(0) {
                    assert!(log.evict().is_some());
                }
                log.skip_number(NAMESPACE);
                bodies.push(Vec::new());
                continue;
            }
            let body = vec![round as u8; len as usize];
            assert!(log.takes(body.len()));
            assert_eq!(append(&mut log, &body), round);
            bodies.push(body);
            assert!(log.bytes() <= LOG_BYTES_FLOOR);
            assert_eq!(log.head(), round + 1);
        }
        for (sequence, body) in bodies.iter().enumerate() {
            let sequence = sequence as u64;
            let here = sequence >= log.first();
            if body.is_empty() {
                continue;
            }
            let mut chunk = Vec::new();
            sse::encode_chunk(&mut chunk, body);
            assert_eq!(log.frame(sequence, Coding::Bare), here.then_some(&body[..]));
            assert_eq!(
                log.frame(sequence, Coding::Chunked),
                here.then_some(&chunk[..])
            );
        }
        while let Some((_, namespace)) = log.evict() {
            assert_eq!(namespace, NAMESPACE);
        }
        assert_eq!((log.bytes(), log.first()), (0, log.head()));
    }

    #[test]
    fn chunks_adjoin_and_bare_frames_do_not() {
        let mut log = Log::new(LOG_BYTES_FLOOR);
        for body in ["a", "bb", "ccc"] {
            append(&mut log, body.as_bytes());
        }
        let at = |sequence, coding| log.locate(sequence, coding).unwrap();
        let joined = at(0, Coding::Chunked).join(at(1, Coding::Chunked)).unwrap();
        assert_eq!(log.bytes_at(joined), b"1\r\na\r\n2\r\nbb\r\n");
        assert_eq!(joined.len(), 13);
        assert_eq!(joined.join(at(0, Coding::Chunked)), None);
        assert_eq!(at(0, Coding::Bare).join(at(1, Coding::Bare)), None);
        assert_eq!(log.locate(3, Coding::Bare), None);
    }

    #[test]
    fn a_number_that_is_used_up_is_no_frame() {
        let mut log = Log::new(LOG_BYTES_FLOOR);
        // Before there is a segment, and between two frames that lie side by side all the same.
        log.skip_number(NAMESPACE);
        append(&mut log, b"a");
        log.skip_number(NAMESPACE);
        append(&mut log, b"b");
        assert_eq!((log.first(), log.head()), (0, 4));
        let at = |sequence| log.locate(sequence, Coding::Chunked).unwrap();
        let joined = at(1).join(at(3)).unwrap();
        assert_eq!(log.bytes_at(joined), b"1\r\na\r\n1\r\nb\r\n");
        assert_eq!(log.frame(3, Coding::Bare), Some(&b"b"[..]));
        for number in 0..4 {
            assert_eq!(log.evict(), Some((number, NAMESPACE)));
        }
        log.skip_number(NAMESPACE);
        assert_eq!((log.first(), log.head()), (4, 5));
        assert_eq!(log.evict(), Some((4, NAMESPACE)));
        assert_eq!((log.evict(), log.bytes()), (None, 0));
    }

    #[test]
    fn a_giant_is_refused() {
        let log = Log::new(1024 * 1024);
        assert!(log.takes(500_000));
        assert!(!log.takes(600_000));
    }
}
