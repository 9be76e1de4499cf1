//! Fan-out: which bytes go to which client next, and what a write's outcome means. It owns the order of what lies before
//! a client, and the budgets of a turn; it must not know what the bus has for whom.
//!
//! Three things may lie before a client, in this order: the rest of a batch, the outbox, and further events. A client
//! that takes everything at once is written to in its turn on the bus; any other is written to by itself until
//! it has caught up.

use std::io;

use super::Engine;
use super::conn::{Key, Phase, WriteState};
use super::stats::CloseReason;
use crate::bus::{self, First, Ready, Turn};
use crate::limits;

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
    from: Giver,
    len: usize,
}

/// Where the bytes of a write come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Giver {
    Outbox,
    Bus,
}

impl Engine {
    /// The next bytes to write. Each answer must be followed by [`Engine::on_written`].
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        debug_assert!(self.in_flight.is_none(), "the last write was not answered");
        let (key, from) = self.next_write()?;
        let bytes = match from {
            Giver::Outbox => self.conns.get(key)?.outbox.unsent(),
            Giver::Bus => self.bus.bytes(),
        };
        let len = bytes.len();
        self.in_flight = Some(InFlight { key, from, len });
        Some(Write { key, bytes })
    }

    /// What became of the write: how many bytes the kernel took, or why it took none.
    pub fn on_written(&mut self, result: io::Result<usize>) {
        let Some(InFlight { key, from, len }) = self.in_flight.take() else {
            return;
        };
        let taken = *result.as_ref().unwrap_or(&0);
        debug_assert!(taken <= len);
        let events = match from {
            Giver::Bus => self.bus.handle_written(taken),
            Giver::Outbox => 0,
        };
        match result {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(conn) = self.conns.get_mut(key) {
                    conn.write = WriteState::Blocked;
                }
                return self.arm(key);
            }
            Err(error) => return self.on_failure(key, &error),
        }
        self.counters.bytes_out += taken as u64;
        self.counters.events_out += events;
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.progress_at = self.now;
        let mut more = taken < len;
        match from {
            Giver::Outbox => {
                conn.outbox.advance(taken);
                // Events that came meanwhile, the next request, or the end may be due.
                more = true;
            }
            Giver::Bus => {
                if let Phase::Subscribed(subscription) = &conn.phase {
                    let (id, coding) = (subscription.id, subscription.coding);
                    if self.bus.poll_caught_up(id) {
                        coding.encode(conn.outbox.buffer(), bus::CLEAR);
                    }
                    more |= self.bus.has_more(id) || !conn.outbox.is_empty();
                } else if let Phase::Draining { rest, .. } = &mut conn.phase {
                    let ended = rest.take_if(|id| !self.bus.has_rest(*id));
                    if let Some(id) = ended {
                        self.bus.unsubscribe(id);
                    }
                    more = true;
                }
            }
        }
        if more {
            self.queue_write(key);
        }
    }

    fn next_write(&mut self) -> Option<(Key, Giver)> {
        loop {
            // In turns, and each with a budget of its own: neither those who are written to by themselves
            // nor the passes may starve the other, however much either has to take.
            self.queue_is_next = !self.queue_is_next;
            let may_queue = self.queue_writes_left > 0 && !self.write_queue.is_empty();
            let may_pass = self.pass_writes_left > 0 && self.bus.line().has_visits();
            if may_queue && (self.queue_is_next || !may_pass) {
                if let Some(write) = self.next_in_queue() {
                    let cost = self.cost_of_write();
                    self.queue_writes_left = self.queue_writes_left.saturating_sub(cost);
                    return Some(write);
                }
            } else if may_pass {
                if let Some(write) = self.next_in_pass() {
                    let cost = self.cost_of_write();
                    self.pass_writes_left = self.pass_writes_left.saturating_sub(cost);
                    return Some(write);
                }
            } else {
                if self.write_queue.is_empty() {
                    self.bus.all_offered();
                }
                return None;
            }
        }
    }

    fn next_in_queue(&mut self) -> Option<(Key, Giver)> {
        let key = self.write_queue.pop_front()?;
        let conn = self.conns.get_mut(key)?;
        debug_assert_eq!(conn.write, WriteState::Queued, "{key:?} has no turn");
        if conn.write != WriteState::Queued {
            return None;
        }
        conn.write = WriteState::Idle;
        let giver = self.prepare(key, None);
        if giver.is_none() {
            self.after_last_write(key);
        }
        Some((key, giver?))
    }

    fn next_in_pass(&mut self) -> Option<(Key, Giver)> {
        let turn = self.bus.poll_turn()?;
        let (key, conn) = self.conns.at(turn.owner)?;
        if conn.is_behind() {
            return None;
        }
        let giver = self.prepare(key, Some(turn))?;
        Some((key, giver))
    }

    /// What the write that was just prepared takes of a budget: itself, and what was encoded for it.
    fn cost_of_write(&mut self) -> usize {
        1 + self.bus.take_work() / limits::ENCODED_BYTES_PER_WRITE
    }

    /// Has the next bytes for this client made ready, in its turn or by itself.
    fn prepare(&mut self, key: Key, turn: Option<Turn>) -> Option<Giver> {
        let conn = self.conns.get(key)?;
        let subscriber = conn.subscriber();
        let has_rest = subscriber.is_some_and(|id| self.bus.has_rest(id));
        if !has_rest && !conn.outbox.is_empty() && conn.is_open() {
            return Some(Giver::Outbox);
        }
        let id = subscriber?;
        let is_poll = conn.subscription().is_some_and(|it| it.poll.is_some());
        let ready = match is_poll {
            true => match self.bus.poll_first(id) {
                First::Event(event) => {
                    // The reply has its own turn in the write queue.
                    self.answer_poll(key, &event);
                    return None;
                }
                First::Nothing => Ready::Nothing,
                First::Lost => Ready::Lost,
            },
            false => self.bus.prepare(id, turn),
        };
        match ready {
            Ready::Bytes => Some(Giver::Bus),
            Ready::Nothing if self.bus.poll_caught_up(id) => {
                // What was left of the replay has turned out to be nothing.
                let conn = self.conns.get_mut(key)?;
                let coding = conn.subscription()?.coding;
                coding.encode(conn.outbox.buffer(), bus::CLEAR);
                Some(Giver::Outbox)
            }
            Ready::Nothing => None,
            Ready::Lost => {
                self.close(key, CloseReason::Slow);
                None
            }
        }
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
}
