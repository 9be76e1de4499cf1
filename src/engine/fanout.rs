//! Fan-out: which bytes go to which client next. It owns the way from a cursor to a slice of the log,
//! conflation, and what a write's outcome means; it must not know why a frame was published.
//!
//! Three things may lie before a client, in this order: the rest of an unfinished frame, the outbox, and
//! further frames. A client that takes everything at once is written to in its namespace's pass, where
//! all share one prepared batch; any other is written to by itself until it has caught up.

use std::io;

use super::conn::{Conn, Cursor, Key, Phase, Subscription, WriteState};
use super::event_id::{self, EventId};
use super::hub::{Hub, NamespaceId, Stream};
use super::log::{Coding, Extent, Log};
use super::stats::CloseReason;
use super::{Engine, encode_piece};
use crate::limits;
use crate::proto::sse;

/// Bytes to be handed to the kernel.
#[derive(Debug)]
pub struct Write<'a> {
    /// For whom.
    pub key: Key,
    /// What; never empty.
    pub bytes: &'a [u8],
}

/// A write that was handed out.
#[derive(Clone, Copy)]
pub(super) struct InFlight {
    key: Key,
    piece: Piece,
    len: usize,
}

/// What a write consists of.
#[derive(Clone, Copy)]
enum Piece {
    /// The rest of an unfinished frame, from this offset on.
    Rest(Source, usize),
    /// The outbox.
    Outbox,
    /// The prepared batch.
    Batch,
}

/// Where prepared bytes lie.
#[derive(Clone, Copy)]
enum Source {
    /// In the log, as they are.
    Log(Extent),
    /// In the batch's own buffer: a sum, or frames that do not adjoin.
    Buffer,
}

/// The frames from one number on, ready to be written to everybody who needs just these.
#[derive(Default)]
pub(super) struct Batch {
    /// What `plan` is for; outdated as soon as the log has grown or `buffer` was used for another.
    made_for: Option<BatchKey>,
    plan: Option<BatchPlan>,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct BatchKey {
    namespace: NamespaceId,
    /// How many namespaces had gone by then: with another number, this one may be another.
    removals: u64,
    /// The first frame.
    first: u64,
    coding: Coding,
    /// The epoch, where events carry their ids: what is replayed.
    ids: Option<u64>,
    /// The log's head, or for the rest of a sum its end.
    end: u64,
}

#[derive(Clone, Copy)]
struct BatchPlan {
    source: Source,
    len: usize,
    /// Events in it.
    events: u64,
    /// The number from which the client needs more.
    next: u64,
    /// Whether it is a sum.
    merged: bool,
}

impl Engine {
    /// The next bytes to write. Each answer must be followed by [`Engine::on_written`].
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        debug_assert!(self.in_flight.is_none(), "the last write was not answered");
        let in_flight = self.next_write()?;
        self.in_flight = Some(in_flight);
        let bytes = match in_flight.piece {
            Piece::Outbox => self.conns.get(in_flight.key)?.outbox.unsent(),
            Piece::Rest(source, offset) => &self.bytes_of(source)[offset..],
            Piece::Batch => self.bytes_of(self.batch.plan?.source),
        };
        debug_assert_eq!(bytes.len(), in_flight.len);
        Some(Write {
            key: in_flight.key,
            bytes,
        })
    }

    /// What became of the write: how many bytes the kernel took, or why it took none.
    pub fn on_written(&mut self, result: io::Result<usize>) {
        let Some(InFlight { key, piece, len }) = self.in_flight.take() else {
            return;
        };
        let taken = match result {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.write = WriteState::Blocked;
                }
                return self.arm(key);
            }
            Err(error) => return self.on_failure(key, &error),
        };
        debug_assert!(taken <= len);
        self.counters.bytes_out += taken as u64;
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.progress_at = self.now;
        let mut more = taken < len;
        match piece {
            Piece::Outbox => {
                conn.outbox.advance(taken);
                // Frames that came meanwhile, the next request, or the end may be due.
                more = true;
            }
            Piece::Rest(..) => {
                if let Some(subscription) = conn.subscription_mut() {
                    self.counters.events_out += subscription.take_rest(taken, len);
                }
                more = true;
            }
            Piece::Batch => {
                if let Some(plan) = self.batch.plan
                    && let Some(made_for) = self.batch.made_for
                    && let Some(subscription) = conn.subscription_mut()
                {
                    let events =
                        subscription.take_batch(&self.log, &self.hub, made_for, plan, taken);
                    self.counters.events_out += events;
                    more |= plan.next < self.log.head();
                }
            }
        }
        if more | conn.forget_if_due() {
            self.queue_write(key);
        }
    }

    fn next_write(&mut self) -> Option<InFlight> {
        loop {
            // In turns, and each with a budget of its own: neither those who are written to by themselves
            // nor the passes may starve the other, however much either has to take.
            self.queue_is_next = !self.queue_is_next;
            let may_queue = self.queue_writes_left > 0 && !self.write_queue.is_empty();
            let may_pass = self.pass_writes_left > 0 && self.hub.passes().has_turns();
            if may_queue && (self.queue_is_next || !may_pass) {
                if let Some(in_flight) = self.next_in_queue() {
                    let cost = self.cost_of_write();
                    self.queue_writes_left = self.queue_writes_left.saturating_sub(cost);
                    return Some(in_flight);
                }
            } else if may_pass {
                if let Some(in_flight) = self.next_in_pass() {
                    let cost = self.cost_of_write();
                    self.pass_writes_left = self.pass_writes_left.saturating_sub(cost);
                    return Some(in_flight);
                }
            } else {
                if self.write_queue.is_empty() && self.hub.passes().is_flushed() {
                    self.flushed = self.log.appended();
                }
                return None;
            }
        }
    }

    fn next_in_queue(&mut self) -> Option<InFlight> {
        let key = self.write_queue.pop_front()?;
        let conn = self.conns.get_mut(key)?;
        debug_assert_eq!(conn.write, WriteState::Queued, "{key:?} has no turn");
        if conn.write != WriteState::Queued {
            return None;
        }
        conn.write = WriteState::Idle;
        let in_flight = self.plan(key, None);
        if in_flight.is_none() {
            self.after_last_write(key);
        }
        in_flight
    }

    fn next_in_pass(&mut self) -> Option<InFlight> {
        let turn = self.hub.next_turn()?;
        let (key, conn) = self.conns.at(turn.subscriber)?;
        if conn.is_behind() {
            return None;
        }
        self.plan(key, Some(turn.from))
    }

    /// What the write that was just planned takes of a budget: itself, and what was summed for it.
    fn cost_of_write(&mut self) -> usize {
        1 + std::mem::take(&mut self.summed_bytes) / limits::SUMMED_BYTES_PER_WRITE
    }

    /// What is next for this client. `from` is the frame that its pass begins with, if it is in one.
    fn plan(&mut self, key: Key, from: Option<u64>) -> Option<InFlight> {
        let conn = self.conns.get(key)?;
        if matches!(conn.phase, Phase::Closed) {
            return None;
        }
        if let Some(&subscription) = conn.unfinished() {
            let Some((source, len)) = self.prepare_rest(&subscription) else {
                self.close(key, CloseReason::Slow);
                return None;
            };
            let offset = subscription.cursor.offset as usize;
            return Some(InFlight {
                key,
                piece: Piece::Rest(source, offset),
                len: len - offset,
            });
        }
        if !conn.outbox.is_empty() {
            return Some(InFlight {
                key,
                piece: Piece::Outbox,
                len: conn.outbox.unsent().len(),
            });
        }
        let subscription = *conn.subscription()?;
        let id = subscription.namespace;
        let sequence = subscription.cursor.sequence;
        if sequence < self.hub.complete_from(id) {
            self.close(key, CloseReason::Slow);
            return None;
        }
        // In a pass, almost everybody stands at or before the pass's first frame: no search is needed.
        let first = match from.filter(|&from| sequence <= from) {
            Some(from) => from,
            None => self.hub.frames_from(id, sequence).next()?,
        };
        let end = self.log.head();
        if first >= end {
            return None;
        }
        if subscription.poll.is_some() {
            let event = self.log.frame(first, Coding::Bare)?.to_vec();
            // The reply has its own turn in the write queue.
            self.answer_poll(key, &event);
            return None;
        }
        let plan = self.prepare(BatchKey {
            namespace: subscription.namespace,
            removals: self.hub.removals(),
            first,
            coding: subscription.coding,
            ids: self.ids_of(&subscription),
            end,
        })?;
        Some(InFlight {
            key,
            piece: Piece::Batch,
            len: plan.len,
        })
    }

    /// Nothing is left to be sent to a client that was written to by itself.
    fn after_last_write(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else {
            return;
        };
        match &conn.phase {
            // What was planned has put something into the outbox.
            _ if conn.write != WriteState::Idle => {}
            Phase::Reading(_) => {
                self.advance(key);
                self.queue_read(key);
            }
            Phase::Draining { .. } => self.finish(key),
            Phase::Subscribed(_) | Phase::Lingering(_) | Phase::Closed => {}
        }
    }

    /// Makes the batch, unless it is the one that was made last.
    fn prepare(&mut self, wanted: BatchKey) -> Option<BatchPlan> {
        if self.batch.made_for == Some(wanted) {
            return self.batch.plan;
        }
        let namespace = self.hub.get(wanted.namespace)?;
        let is_sum = namespace.stream == Stream::Eps && wanted.frames(&self.hub).nth(1).is_some();
        let plan = if is_sum {
            self.counters.conflations += 1;
            // Summing is work, too: a thousand clients that wake up together are served in slices.
            let frames = wanted.frames(&self.hub);
            let lens = frames.filter_map(|frame| self.log.locate(frame, Coding::Bare));
            self.summed_bytes += lens.map(Extent::len).sum::<usize>();
            let objects = wanted.frames(&self.hub);
            let objects = objects.filter_map(|frame| self.log.frame(frame, Coding::Bare));
            let mut body = std::mem::take(&mut self.body);
            body.clear();
            if let Some(id) = wanted.id_before(wanted.end) {
                id.encode_line(&mut body);
            }
            body.extend_from_slice(b"data:");
            self.rollup.sum(objects, &mut body);
            body.extend_from_slice(b"\n\n");
            self.batch.buffer.clear();
            encode_piece(&mut self.batch.buffer, wanted.coding, &body);
            self.body = body;
            BatchPlan {
                source: Source::Buffer,
                len: self.batch.buffer.len(),
                events: 1,
                next: wanted.end,
                merged: true,
            }
        } else if wanted.ids.is_some() {
            collect_with_ids(&self.log, &self.hub, wanted, &mut self.batch.buffer)?
        } else {
            collect_frames(&self.log, &self.hub, wanted, &mut self.batch.buffer)?
        };
        self.batch.made_for = Some(wanted);
        self.batch.plan = Some(plan);
        Some(plan)
    }

    /// Finds the frame that a client has a part of: where it lies and how long it is. `None` when it
    /// was evicted, and cannot be completed any more.
    fn prepare_rest(&mut self, subscription: &Subscription) -> Option<(Source, usize)> {
        let Subscription {
            namespace,
            coding,
            cursor,
            ..
        } = *subscription;
        let first = cursor.sequence;
        let ids = self.ids_of(subscription);
        if cursor.merged == 0 && ids.is_none() {
            let extent = self.log.locate(first, coding)?;
            return Some((Source::Log(extent), extent.len()));
        }
        // The first frame is evicted first; who else has come or gone does not matter.
        if self.hub.frames_from(namespace, first).next() != Some(first) {
            return None;
        }
        let end = first + u64::from(cursor.merged.max(1));
        let plan = self.prepare(BatchKey {
            namespace,
            removals: self.hub.removals(),
            first,
            coding,
            ids,
            end,
        })?;
        Some((plan.source, plan.len))
    }

    /// Whether a client's events carry their ids: as long as it has not got all that it had missed.
    fn ids_of(&self, subscription: &Subscription) -> Option<u64> {
        subscription.forgets_at.map(|_| self.settings.epoch)
    }

    fn bytes_of(&self, source: Source) -> &[u8] {
        match source {
            Source::Log(extent) => self.log.bytes_at(extent),
            Source::Buffer => &self.batch.buffer,
        }
    }
}

impl BatchKey {
    /// The numbers of its frames.
    fn frames(self, hub: &Hub) -> impl Iterator<Item = u64> + '_ {
        hub.frames_from(self.namespace, self.first)
            .take_while(move |&sequence| sequence < self.end)
    }

    /// The id that a client has which has all frames before `sequence`.
    fn id_before(self, sequence: u64) -> Option<EventId> {
        self.ids.map(|epoch| EventId { epoch, sequence })
    }

    /// How long a frame is in this form.
    fn frame_len(self, log: &Log, sequence: u64) -> usize {
        let Some(id) = self.id_before(sequence + 1) else {
            return log.locate(sequence, self.coding).map_or(0, Extent::len);
        };
        let mut line = Vec::new();
        id.encode_line(&mut line);
        let body_len = line.len() + log.locate(sequence, Coding::Bare).map_or(0, Extent::len);
        match self.coding {
            Coding::Chunked => sse::chunk_len(body_len),
            Coding::Bare => body_len,
        }
    }
}

/// Copies frames, each with its id in the same block, to one write of about [`limits::WRITE_BYTES`].
fn collect_with_ids(
    log: &Log,
    hub: &Hub,
    wanted: BatchKey,
    buffer: &mut Vec<u8>,
) -> Option<BatchPlan> {
    buffer.clear();
    let mut frames = wanted.frames(hub).peekable();
    let mut events = 0;
    let mut body = Vec::new();
    while let Some(&sequence) = frames.peek()
        && buffer.len() < limits::WRITE_BYTES
    {
        body.clear();
        wanted.id_before(sequence + 1)?.encode_line(&mut body);
        body.extend_from_slice(log.frame(sequence, Coding::Bare)?);
        encode_piece(buffer, wanted.coding, &body);
        events += 1;
        frames.next();
    }
    let next = frames.peek().copied().unwrap_or(wanted.end);
    Some(BatchPlan {
        source: Source::Buffer,
        len: buffer.len(),
        events,
        next,
        merged: false,
    })
}

/// Joins frames to one write of about [`limits::WRITE_BYTES`]: without a copy as long as they adjoin in
/// the log, which is the rule where one stream is busy, and else in `buffer`.
fn collect_frames(
    log: &Log,
    hub: &Hub,
    wanted: BatchKey,
    buffer: &mut Vec<u8>,
) -> Option<BatchPlan> {
    let mut frames = wanted.frames(hub).peekable();
    let mut extent = log.locate(frames.next()?, wanted.coding)?;
    let mut source = Source::Log(extent);
    let mut events = 1;
    while let Some(&sequence) = frames.peek() {
        let next = log.locate(sequence, wanted.coding)?;
        let len = if matches!(source, Source::Buffer) {
            buffer.len()
        } else {
            extent.len()
        };
        if len + next.len() > limits::WRITE_BYTES {
            break;
        }
        match (source, extent.join(next)) {
            (Source::Log(_), Some(joined)) => {
                extent = joined;
                source = Source::Log(extent);
            }
            (Source::Log(_), None) => {
                buffer.clear();
                buffer.extend_from_slice(log.bytes_at(extent));
                buffer.extend_from_slice(log.bytes_at(next));
                source = Source::Buffer;
            }
            (Source::Buffer, _) => buffer.extend_from_slice(log.bytes_at(next)),
        }
        events += 1;
        frames.next();
    }
    let len = if matches!(source, Source::Buffer) {
        buffer.len()
    } else {
        extent.len()
    };
    let next = frames.peek().copied().unwrap_or(wanted.end);
    Some(BatchPlan {
        source,
        len,
        events,
        next,
        merged: false,
    })
}

impl Conn {
    /// Tells the client to forget its event id, once it has all that it had missed.
    fn forget_if_due(&mut self) -> bool {
        let Phase::Subscribed(subscription) = &mut self.phase else {
            return false;
        };
        let cursor = subscription.cursor;
        let is_due = |at: &mut u64| cursor.offset == 0 && cursor.sequence >= *at;
        let due = subscription.forgets_at.take_if(is_due).is_some();
        if due {
            let coding = subscription.coding;
            encode_piece(self.outbox.buffer(), coding, event_id::CLEAR);
        }
        due
    }
}

impl Subscription {
    /// Takes note of bytes of the unfinished frame; how many events are complete with them.
    fn take_rest(&mut self, taken: usize, len: usize) -> u64 {
        if taken < len {
            self.cursor.offset += taken as u32;
            return 0;
        }
        let sequence = self.cursor.sequence + u64::from(self.cursor.merged.max(1));
        self.cursor = Cursor {
            sequence,
            offset: 0,
            merged: 0,
        };
        self.events += 1;
        1
    }

    /// Takes note of bytes of a batch; how many events are complete with them.
    fn take_batch(
        &mut self,
        log: &Log,
        hub: &Hub,
        made_for: BatchKey,
        plan: BatchPlan,
        taken: usize,
    ) -> u64 {
        let first = made_for.first;
        let (cursor, events) = if taken == plan.len {
            (
                Cursor {
                    sequence: plan.next,
                    offset: 0,
                    merged: 0,
                },
                plan.events,
            )
        } else if plan.merged {
            let merged = if taken == 0 {
                0
            } else {
                (plan.next - first) as u32
            };
            (
                Cursor {
                    sequence: first,
                    offset: taken as u32,
                    merged,
                },
                0,
            )
        } else {
            let mut left = taken;
            let mut events = 0;
            let mut sequence = first;
            for frame in made_for.frames(hub) {
                sequence = frame;
                let len = made_for.frame_len(log, frame);
                if left < len {
                    break;
                }
                left -= len;
                events += 1;
            }
            (
                Cursor {
                    sequence,
                    offset: left as u32,
                    merged: 0,
                },
                events,
            )
        };
        self.cursor = cursor;
        self.events += events;
        events
    }
}
