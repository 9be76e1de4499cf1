//! The bus: one number line of messages, and everybody's place on it. It owns what is kept of the source's
//! messages, who gets which of them, in which order, and as which bytes; it must not know connections, nor HTTP
//! beyond the two ways in which a body is carried.
//!
//! Each message of the source has a number. A subscriber is a cursor, "has everything up to here", and a write is a range
//! of numbers in a format. Ordinary fan-out, the sum for a client that fell behind, and the replay for one that
//! comes back are ranges all the same.
//!
//! ```
//! use emojitrack_streamer::bus::{Bus, Coding, Format, Options, Ready, Start, Stream};
//! use emojitrack_streamer::time::Time;
//!
//! let mut bus = Bus::new(&Options::default());
//! let format = Format { coding: Coding::Bare, named: false, ids: false };
//! let (subscriber, start) = bus.subscribe(&[(Stream::Raw, None)], 7, format, None);
//! assert_eq!(start, Start::Now);
//!
//! bus.line_mut().begin_turn(Time::ZERO);
//! bus.line_mut().publish_score(b"1F4C2");
//! bus.line_mut().publish_score(b"2665");
//!
//! // Something has come, so its subscriber is visited. Both events are one write.
//! let visit = bus.line_mut().poll_visit().expect("somebody is to be written to");
//! assert_eq!(visit.subscriber, subscriber);
//! assert_eq!(bus.prepare(subscriber, Some(visit)), Ready::Bytes);
//! assert_eq!(bus.bytes(), b"data:1F4C2\n\ndata:2665\n\n");
//!
//! // The kernel takes a part, and the rest when there is room again.
//! bus.handle_written(5);
//! assert_eq!(bus.prepare(subscriber, None), Ready::Bytes);
//! assert_eq!(bus.bytes(), b"1F4C2\n\ndata:2665\n\n");
//! assert_eq!(bus.handle_written(19), 2);
//! assert_eq!(bus.prepare(subscriber, None), Ready::Nothing);
//! ```

mod batch;
mod breaks;
mod flow;
mod histogram;
mod line;
mod log;
mod namespace;
mod numbers;
mod passes;
mod position;
mod registry;
pub mod sse;
mod subscriber;
mod symbols;
mod tape;
mod ticker;

#[cfg(test)]
mod tests;

use slab::Slab;

pub use batch::Format;
pub use histogram::Histogram;
pub use line::{Counters, Line};
pub use log::LogState;
pub use namespace::Stream;
pub use passes::{SubscriberId, Visit};
pub use registry::{Name, Registry};
pub use sse::Coding;
pub use subscriber::Subscriber;

use crate::limits;
use crate::time::Time;
use batch::{Batches, GAP_LINES, Range};
use position::{CLEAR_LINE, Positions};
use sse::Style;

/// What a deployer may change.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What tells this process's positions from those of any other.
    pub epoch: u64,
    /// Bytes of memory for messages at most.
    pub log_bytes_max: usize,
    /// Subscribers of a namespace from which on its messages are gathered for some hundred microseconds.
    pub paced_subscribers_min: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            epoch: 0,
            log_bytes_max: 4 * 1024 * 1024,
            paced_subscribers_min: limits::PACED_SUBSCRIBERS_MIN,
        }
    }
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Now,
    /// With what was missed since the position that the client came back with.
    Missed,
    /// Now: nothing was missed since that position.
    Caught,
    /// Now: what was missed since that position, if anything, is not kept any more.
    Gap,
}

/// What there is for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// These: see [`Bus::bytes`]. To be answered with [`Bus::handle_written`].
    Bytes,
    /// Nothing.
    Nothing,
    /// What it is to have next is not kept any more.
    Lost,
}

/// Messages, and who gets them.
pub struct Bus {
    line: Line,
    subscribers: Slab<Subscriber>,
    batches: Batches,
    /// The write that was prepared last.
    prepared: Option<Prepared>,
}

/// A write that is not answered yet.
#[derive(Clone, Copy)]
struct Prepared {
    subscriber: SubscriberId,
    /// The number that its batch begins after.
    from: u64,
}

impl Bus {
    /// A bus without subscribers.
    pub fn new(options: &Options) -> Bus {
        let line = Line::new(options);
        let bytes_max = line.log().bytes_max();
        let positions = Positions::new(options.epoch);
        Bus {
            line,
            subscribers: Slab::new(),
            batches: Batches::new(positions, bytes_max),
            prepared: None,
        }
    }

    /// Adds a subscriber of these streams, or children of them, at least one. `owner` is what its user knows it by, and
    /// `resume` the position that the client came back with.
    pub fn subscribe(
        &mut self,
        names: &[Name<'_>],
        owner: u32,
        format: Format,
        resume: Option<&str>,
    ) -> (SubscriberId, Start) {
        let line = &mut self.line;
        let namespace = line.enter(names);
        let since = line.registry().complete_since(namespace);
        let possible = since..=line.log().head();
        let number = resume.and_then(|text| self.batches.positions().parse(text));
        let now = line.start_of(namespace).max(since);
        let number = number.filter(|number| possible.contains(number));
        let last = number.and_then(|number| line.last_after(namespace, number, format.ids));
        let (start, cursor, replay_to) = match (number, last) {
            (Some(number), Some(last)) => (Start::Missed, number, last),
            (Some(number), None) => (Start::Caught, number, number + 1),
            (None, _) if resume.is_some() => (Start::Gap, now, now + 1),
            (None, _) => (Start::Now, now, 0),
        };
        let replay_to = if format.ids { 0 } else { replay_to };
        let entry = self.subscribers.vacant_entry();
        let id = SubscriberId(entry.key() as u32);
        let slot = line.add_subscriber(namespace, id);
        entry.insert(Subscriber::new(
            owner,
            (namespace, slot),
            format,
            cursor,
            replay_to,
        ));
        (id, start)
    }

    /// Removes a subscriber.
    pub fn unsubscribe(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.subscribers.try_remove(id.0 as usize) else {
            return;
        };
        let (namespace, slot) = subscriber.listed_at();
        let moved = self.line.remove_subscriber(namespace, slot);
        if let Some(moved) = moved.and_then(|id| self.subscribers.get_mut(id.0 as usize)) {
            moved.handle_moved(slot);
        }
    }

    /// Has a subscriber get nothing more than what was begun.
    pub fn end(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.subscribers.get_mut(id.0 as usize) {
            subscriber.end();
        }
    }

    /// Keeps what comes for a subscriber's namespaces until a moment, although everybody may leave.
    pub fn linger(&mut self, id: SubscriberId, until: Time) {
        if let Some(namespace) = self.namespace_of(id) {
            self.line.linger(namespace, until);
        }
    }

    /// Records that the kernel took so many of the prepared bytes, or none because it had no room. Returns how many events
    /// are complete with them.
    pub fn handle_written(&mut self, taken: usize) -> u64 {
        let Some((prepared, batch)) = self.prepared.take().zip(self.batches.last()) else {
            return 0;
        };
        let subscriber = self.subscribers.get_mut(prepared.subscriber.0 as usize);
        subscriber.map_or(0, |subscriber| {
            subscriber.handle_written(prepared.from, batch, taken)
        })
    }

    /// Prepares the next write for a subscriber, which is visited or written to by itself.
    pub fn prepare(&mut self, id: SubscriberId, visit: Option<Visit>) -> Ready {
        let bytes = self.batches.write_bytes();
        let limit = match visit {
            Some(_) => bytes,
            None => bytes.min(limits::ALONE_BYTES),
        };
        self.prepare_range(id, visit, limit)
    }

    /// The first event for a subscriber, which takes events as they are.
    ///
    /// # Errors
    /// [`Ready::Nothing`] or [`Ready::Lost`].
    pub fn poll_first(&mut self, id: SubscriberId) -> Result<Vec<u8>, Ready> {
        match self.prepare_range(id, None, 1) {
            Ready::Bytes => {}
            none => return Err(none),
        }
        self.prepared = None;
        let mut event = Vec::new();
        if let Some(batch) = self.batches.last() {
            while event.len() < batch.len() {
                event.extend_from_slice(batch.bytes_from(event.len(), self.line.log()));
            }
        }
        // The end of a sum may have come with it.
        let end = event.windows(2).position(|pair| pair == b"\n\n");
        event.truncate(end.map_or(0, |end| end + 2));
        Ok(event)
    }

    /// What was encoded since this was last asked, in bytes, or in what costs as much.
    pub fn take_work(&mut self) -> usize {
        self.batches.take_work()
    }

    /// The bytes that were prepared; perhaps not all of the write, but some.
    pub fn bytes(&self) -> &[u8] {
        let Some((prepared, batch)) = self.prepared.as_ref().zip(self.batches.last()) else {
            return &[];
        };
        let subscriber = self.subscriber(prepared.subscriber);
        let taken = subscriber.map_or(0, Subscriber::taken);
        batch.bytes_from(taken, self.line.log())
    }

    /// Appends what a stream begins with for a subscriber: where it stands, and whether something is missing.
    pub fn encode_start(&self, id: SubscriberId, start: Start, out: &mut Vec<u8>) {
        let Some(subscriber) = self.subscriber(id) else {
            return;
        };
        match (start, subscriber.format().ids) {
            // The events have positions.
            (Start::Missed, _) | (Start::Now, false) => return,
            // Who loses the connection before the first message has a position to come back with as well.
            (_, true) => {
                if start == Start::Gap {
                    out.extend_from_slice(GAP_LINES);
                }
                self.encode_id(subscriber, subscriber.cursor(), out);
            }
            // Some clients ignore a block without data, and are told again with the first event.
            (Start::Caught | Start::Gap, false) => out.extend_from_slice(CLEAR_LINE),
        }
        out.push(b'\n');
    }

    /// Appends the block that tells a client where it stands once what was begun is complete, so that it can come back.
    pub fn encode_position(&self, id: SubscriberId, out: &mut Vec<u8>) {
        let Some(subscriber) = self.subscriber(id) else {
            return;
        };
        let (namespace, _) = subscriber.listed_at();
        let (place, end) = (subscriber.place(), self.line.end_of(namespace));
        let lacks = place < self.line.newest_of(namespace)
            && (place < self.line.registry().evicted(namespace)
                || self.line.has_between(namespace, place, end));
        // The cursor of a subscriber that lacks nothing may be old, so the newer end is sent.
        let number = if lacks { place } else { place.max(end) };
        self.encode_id(subscriber, number, out);
        out.push(b'\n');
    }

    /// A subscriber.
    pub fn subscriber(&self, id: SubscriberId) -> Option<&Subscriber> {
        self.subscribers.get(id.0 as usize)
    }

    /// What a subscriber has subscribed to, unless these are several.
    pub fn name_of(&self, id: SubscriberId) -> Option<Name<'_>> {
        let namespace = self.line.registry().get(self.namespace_of(id)?)?;
        let segment = Some(&*namespace.segment).filter(|segment| !segment.is_empty());
        namespace
            .members
            .is_empty()
            .then_some((namespace.stream, segment))
    }

    /// Whether a subscriber has a part of something.
    pub fn has_unfinished(&self, id: SubscriberId) -> bool {
        let rest = self.subscriber(id).and_then(Subscriber::unfinished_to);
        rest.is_some()
    }

    /// Whether there is more for a subscriber than it has.
    pub fn has_more(&self, id: SubscriberId) -> bool {
        self.subscriber(id).is_some_and(|subscriber| {
            let (namespace, _) = subscriber.listed_at();
            let newest = self.line.newest_of(namespace);
            let lacks = subscriber.cursor() < newest && !subscriber.is_ending();
            lacks || subscriber.unfinished_to().is_some()
        })
    }

    /// How many events there are for a subscriber that is behind.
    pub fn events_behind(&self, id: SubscriberId) -> u64 {
        self.subscriber(id).map_or(0, |subscriber| {
            let (namespace, _) = subscriber.listed_at();
            self.line.count_events(namespace, subscriber.cursor())
        })
    }

    /// Whether a subscriber's events have positions.
    pub fn has_ids(&self, id: SubscriberId) -> bool {
        let subscriber = self.subscriber(id);
        subscriber.is_some_and(|subscriber| subscriber.format().ids)
    }

    /// Whether a subscriber has subscribed to just this stream, or this child of it, alone or with others.
    pub fn is_subscribed(&self, id: SubscriberId, name: Name<'_>) -> bool {
        let registry = self.line.registry();
        let both = self.namespace_of(id).zip(registry.find(name));
        both.is_some_and(|(namespace, member)| registry.includes(namespace, member))
    }

    /// The number line, to publish and to pass time.
    pub fn line_mut(&mut self) -> &mut Line {
        &mut self.line
    }

    /// The number line.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Panics with the name of what should hold between two turns, where it does not. `is_resting` tells by its owner
    /// whether a subscriber is neither blocked nor queued: such a one lacks nothing, or is still to be visited.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, is_resting: impl Fn(u32) -> bool) {
        assert!(
            self.prepared.is_none(),
            "a write was prepared and not answered"
        );
        self.line.check_invariants();
        let listed = self.line.registry().subscribers();
        assert_eq!(
            listed,
            self.subscribers.len(),
            "subscribers and lists disagree"
        );
        for (place, subscriber) in &self.subscribers {
            let id = SubscriberId(place as u32);
            let (namespace, slot) = subscriber.listed_at();
            let registered = self.line.registry().get(namespace);
            let registered = registered.and_then(|namespace| namespace.listeners.at(slot));
            assert_eq!(registered, Some(id), "a subscriber's slot is another's");
            if is_resting(subscriber.owner()) {
                assert!(
                    subscriber.unfinished_to().is_none(),
                    "nothing will finish what was begun"
                );
                let lacks = self.has_more(id);
                let will_visit = self.line.will_visit(namespace, slot);
                assert!(
                    !lacks || will_visit,
                    "nothing will send what a subscriber lacks"
                );
            }
        }
    }

    fn encode_id(&self, subscriber: &Subscriber, number: u64, out: &mut Vec<u8>) {
        let (namespace, _) = subscriber.listed_at();
        let style = match self.line.carries(namespace, Stream::Channels) {
            true => Style::Spaced,
            false => Style::Tight,
        };
        self.batches.positions().encode_line(out, style, number);
    }

    fn namespace_of(&self, id: SubscriberId) -> Option<namespace::NamespaceId> {
        self.subscriber(id)
            .map(|subscriber| subscriber.listed_at().0)
    }

    /// Makes the next batch for a subscriber, or finds the one that was begun.
    fn prepare_range(&mut self, id: SubscriberId, visit: Option<Visit>, limit: usize) -> Ready {
        debug_assert!(self.prepared.is_none(), "the last write was not answered");
        let range = match self.range(id, visit, limit) {
            Ok(range) => range,
            Err(ready) => return ready,
        };
        let (log, registry) = (self.line.log(), self.line.registry());
        let is_new = self.batches.prepare(&range, log, registry);
        if is_new {
            self.line.handle_batch(self.batches.bytes());
        }
        if is_new && range.limit != NO_LIMIT && self.line.carries(range.namespace, Stream::Eps) {
            self.line.count_sum(range.from);
        }
        self.prepared = Some(Prepared {
            subscriber: id,
            from: range.from,
        });
        if self.batches.last().is_some_and(|batch| batch.len() > 0) {
            return Ready::Bytes;
        }
        self.handle_written(0);
        Ready::Nothing
    }

    /// What a subscriber is to have next.
    fn range(&self, id: SubscriberId, visit: Option<Visit>, limit: usize) -> Result<Range, Ready> {
        let subscriber = self.subscriber(id).ok_or(Ready::Nothing)?;
        let (namespace, _) = subscriber.listed_at();
        let registry = self.line.registry();
        let mut from = subscriber.cursor();
        let (to, limit) = match subscriber.unfinished_to() {
            Some(to) => (to, NO_LIMIT),
            None if subscriber.is_ending() => return Err(Ready::Nothing),
            None => {
                from = visit.map_or(from, |visit| from.max(visit.from));
                (self.line.newest_of(namespace), limit)
            }
        };
        if from < registry.evicted(namespace) {
            return Err(Ready::Lost);
        }
        if from >= to {
            return Err(Ready::Nothing);
        }
        if visit.is_none() && limit != NO_LIMIT && !self.line.has_scores(namespace) {
            // Those who lack the same share a batch, wherever each of them stands before it.
            let next = registry.next_after(namespace, from);
            from = next.ok_or(Ready::Nothing)? - 1;
        }
        Ok(Range {
            namespace,
            from,
            to,
            limit,
            format: subscriber.format(),
            replay_to: subscriber.replay_to(from),
        })
    }
}

/// No bound on bytes: a batch that was written in part is encoded again up to its end.
const NO_LIMIT: usize = usize::MAX;
