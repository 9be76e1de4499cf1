//! Fan-out: which bytes go to which client next, and what a write's outcome means. It owns the order of what lies before
//! a client, and the budgets of a turn; it must not know what the bus has for whom.
//!
//! Three things may lie before a client, in this order: the rest of a batch, the outbox, and further events. A client
//! that takes everything at once is written to when the bus visits it; any other is written to by itself until
//! it has caught up.

use std::io;

use super::streams::{Stage, Streams, Subscription};
use crate::bus::{self, Bus, Ready, SubscriberId, Visit};
use crate::http::{CloseReason, Connections, Key};
use crate::limits;

/// The writes of one turn.
#[derive(Default)]
pub struct Fanout {
    /// Whether a client that is written to by itself has the next write, rather than a pass.
    queue_is_next: bool,
    /// Writes left in this turn to clients that are written to by themselves, and in passes.
    queue_writes_left: usize,
    pass_writes_left: usize,
    /// The write that was handed out and not yet answered.
    in_flight: Option<InFlight>,
}

/// A write that was handed out.
#[derive(Clone, Copy)]
struct InFlight {
    key: Key,
    from: Giver,
    len: usize,
}

/// Where the bytes of a write come from.
#[derive(Clone, Copy)]
enum Giver {
    Outbox,
    Bus(SubscriberId),
}

/// What is to be done next.
pub enum Step {
    /// A write: see [`Fanout::bytes`].
    Write,
    /// This event is the answer to a long poll.
    Answer(Key, Vec<u8>),
}

impl Fanout {
    /// Begins a turn of so many writes.
    pub fn start_turn(&mut self, writes: usize) {
        self.queue_writes_left = writes.div_ceil(2);
        self.pass_writes_left = writes.div_ceil(2);
    }

    /// What became of the write: how many bytes the kernel took, or why it took none. Returns how many that are, and
    /// how many events are complete with them.
    pub fn handle_written(
        &mut self,
        result: io::Result<usize>,
        http: &mut Connections,
        bus: &mut Bus,
        streams: &mut Streams,
    ) -> (usize, u64) {
        let Some(InFlight { key, from, len }) = self.in_flight.take() else {
            return (0, 0);
        };
        let taken = *result.as_ref().unwrap_or(&0);
        debug_assert!(taken <= len);
        let events = match from {
            Giver::Bus(_) => bus.handle_written(taken),
            Giver::Outbox => 0,
        };
        match (result, from) {
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                http.at(key).handle_write_would_block();
            }
            (Err(error), _) => http.at(key).handle_failure(&error),
            (Ok(_), Giver::Outbox) => http.at(key).handle_outbox_written(taken),
            (Ok(_), Giver::Bus(id)) => {
                if bus.poll_caught_up(id) {
                    http.at(key).send(bus::CLEAR);
                }
                let has_more = taken < len || bus.has_more(id);
                if !has_more && streams.at(key.index).is_some_and(|it| !it.is_active()) {
                    leave_at_end(key, bus, streams);
                }
                http.at(key).handle_stream_written(has_more);
            }
        }
        (taken, events)
    }

    /// What is to be done next. A write must be followed by [`Fanout::handle_written`].
    pub fn poll(
        &mut self,
        http: &mut Connections,
        bus: &mut Bus,
        streams: &Streams,
    ) -> Option<Step> {
        debug_assert!(self.in_flight.is_none(), "the last write was not answered");
        loop {
            // In turns, and each with a budget of its own: neither those who are written to by themselves
            // nor the passes may starve the other, however much either has to take.
            self.queue_is_next = !self.queue_is_next;
            let may_queue = self.queue_writes_left > 0 && http.has_writes();
            let may_pass = self.pass_writes_left > 0 && bus.line().has_visits();
            let is_queue = may_queue && (self.queue_is_next || !may_pass);
            let step = match (is_queue, may_pass) {
                (true, _) => self.next_in_queue(http, bus, streams),
                (false, true) => self.next_in_pass(http, bus, streams),
                (false, false) => {
                    if !http.has_writes() {
                        bus.line_mut().all_offered();
                    }
                    return None;
                }
            };
            if step.is_some() {
                // The write itself, and what was encoded for it.
                let cost = 1 + bus.take_work() / limits::ENCODED_BYTES_PER_WRITE;
                let budget = match is_queue {
                    true => &mut self.queue_writes_left,
                    false => &mut self.pass_writes_left,
                };
                *budget = budget.saturating_sub(cost);
                return step;
            }
        }
    }

    /// For whom the write is that was handed out, and its bytes.
    pub fn bytes<'a>(&self, http: &'a Connections, bus: &'a Bus) -> Option<(Key, &'a [u8])> {
        let InFlight { key, from, .. } = self.in_flight?;
        let bytes = match from {
            Giver::Outbox => http.outbox(key),
            Giver::Bus(_) => bus.bytes(),
        };
        Some((key, bytes))
    }

    /// Whether no write is under way.
    pub fn is_settled(&self) -> bool {
        self.in_flight.is_none()
    }

    fn next_in_queue(
        &mut self,
        http: &mut Connections,
        bus: &mut Bus,
        streams: &Streams,
    ) -> Option<Step> {
        let key = http.poll_write()?;
        let step = self.prepare(key, None, http, bus, streams);
        if step.is_none() {
            http.at(key).handle_nothing_to_write();
        }
        step
    }

    fn next_in_pass(
        &mut self,
        http: &mut Connections,
        bus: &mut Bus,
        streams: &Streams,
    ) -> Option<Step> {
        let visit = bus.line_mut().poll_visit()?;
        let key = http.holder_of(bus.subscriber(visit.subscriber)?.owner())?;
        match http.is_caught_up(key) {
            true => self.prepare(key, Some(visit), http, bus, streams),
            false => None,
        }
    }

    /// Has the next bytes for this client made ready, which is visited or written to by itself.
    fn prepare(
        &mut self,
        key: Key,
        visit: Option<Visit>,
        http: &mut Connections,
        bus: &mut Bus,
        streams: &Streams,
    ) -> Option<Step> {
        let subscription = streams.at(key.index);
        let id = subscription.and_then(Subscription::on_bus);
        let has_rest = id.is_some_and(|id| bus.has_rest(id));
        let outbox = http.outbox(key).len();
        if !has_rest && outbox > 0 {
            return self.hand_out(key, Giver::Outbox, outbox);
        }
        let id = id?;
        let ready = match subscription.map(|it| it.stage) {
            Some(Stage::Poll) => match bus.poll_first(id) {
                Ok(event) => return Some(Step::Answer(key, event)),
                Err(none) => none,
            },
            _ => bus.prepare(id, visit),
        };
        match ready {
            Ready::Bytes => return self.hand_out(key, Giver::Bus(id), bus.bytes().len()),
            // What was left of the replay has turned out to be nothing.
            Ready::Nothing if bus.poll_caught_up(id) => http.at(key).send(bus::CLEAR),
            Ready::Nothing => {}
            Ready::Lost => http.at(key).close(CloseReason::Slow),
        }
        None
    }

    fn hand_out(&mut self, key: Key, from: Giver, len: usize) -> Option<Step> {
        self.in_flight = Some(InFlight { key, from, len });
        Some(Step::Write)
    }
}

/// Of a stream that has ended, what was begun is complete: its subscriber leaves.
fn leave_at_end(key: Key, bus: &mut Bus, streams: &mut Streams) {
    if let Some(subscription) = streams.get_mut(key)
        && subscription.stage == Stage::Ending
    {
        subscription.stage = Stage::Ended;
        bus.unsubscribe(subscription.subscriber);
    }
}
