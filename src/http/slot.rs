//! What is kept of each connection, and what follows from it alone. There are many streams, so a stream's slot is small:
//! what only requests need is in a box.

use std::io;
use std::time::Duration;

use super::CloseReason;
use super::error::RequestError;
use super::event::{Event, Key};
use super::outbox::Outbox;
use super::reading::Reading;
use crate::limits;
use crate::time::Time;

/// A moment that does not come.
pub const NEVER: Time = Time::from_micros(u64::MAX);

/// One accepted socket.
pub struct Slot {
    pub key: Key,
    pub peer: Peer,
    pub read: ReadState,
    pub write: WriteState,
    pub state: State,
    /// When the client last accepted bytes: silence and patience are measured from here.
    pub progress_at: Time,
    /// When the state ends by itself. For streams and long polls, this is the end of their lifetime.
    pub deadline: Time,
    /// When the valid entry in the timers fires; other entries are outdated.
    pub armed_at: Time,
    pub outbox: Outbox,
}

/// The client's side of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It may send.
    Open,
    /// It has sent its last byte, but may still read.
    Ended,
    /// The socket is dead in both directions; what was received before can still be read.
    HungUp,
}

/// Whether a connection is to be read from. Readiness is edge-triggered, so it is remembered until a read would block.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadState {
    /// The last read would have blocked.
    Drained,
    /// There may be input, but it is not wanted yet.
    Readable,
    /// There may be input, and the connection is in the read queue.
    Queued,
}

/// Whether a connection is to be written to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum WriteState {
    /// Nothing waits to be sent.
    Idle,
    /// It is in the write queue.
    Queued,
    /// The last write would have blocked.
    Blocked,
    /// Nothing is written until it is released, not even what is in the outbox.
    Held,
}

/// What a connection is doing, with the data that it needs for that.
pub enum State {
    /// It waits for a request, or for the rest of one.
    Reading(Box<Reading>),
    /// Its request was passed to the owner and is not answered yet.
    Rendering(Box<Reading>),
    /// Its request is answered with the next event of a stream.
    Polling(Box<Reading>),
    /// It receives a stream.
    Streaming(Streaming),
    /// Its stream has ended. The owner may still have the rest of an event; then the outbox is sent, and the next request
    /// may follow.
    Ending(CloseReason, Option<Box<Reading>>),
    /// It was sent its last reply, of which the outbox has the rest.
    Draining(CloseReason),
    /// We have shut down our side and wait for the client to do so, discarding what it sends.
    Lingering(CloseReason),
    /// It has ended, and its socket is about to be closed.
    Closed,
}

/// How a stream is sent, and what its client sends meanwhile.
pub struct Streaming {
    /// Whether in chunks, so that its end can be told without that of the connection.
    pub is_chunked: bool,
    /// Whether the next request may follow: it is known where that begins, because nothing was discarded.
    pub keep_alive: bool,
    pub discarded: Discarded,
}

/// Counts what the client of a stream sends, which is discarded: it has no reason to send anything, but the rest of a
/// request body may follow the head.
#[derive(Clone, Copy, Debug, Default)]
pub struct Discarded {
    /// The second in which counting began, modulo 65,536.
    since: u16,
    bytes: u32,
}

/// What follows when a timer has fired.
pub enum Due {
    /// Nothing yet.
    Later,
    /// Nothing any more.
    Never,
    /// The owner is told.
    Remind(Event),
    /// The connection is closed.
    Close(CloseReason),
    /// The request is refused.
    Reject(RequestError),
}

impl Slot {
    /// A closed slot.
    pub fn new(key: Key, now: Time) -> Slot {
        Slot {
            key,
            peer: Peer::Open,
            read: ReadState::Readable,
            write: WriteState::Idle,
            state: State::Closed,
            progress_at: now,
            deadline: now,
            armed_at: NEVER,
            outbox: Outbox::default(),
        }
    }

    /// Whether its request waits for the owner's decision, or for an answer.
    pub fn is_rendering(&self) -> bool {
        matches!(self.state, State::Rendering(_))
    }

    /// Whether it is a stream or a long poll.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Streaming(_) | State::Polling(_))
    }

    /// Whether the owner may have bytes for it.
    pub fn may_have_stream_bytes(&self) -> bool {
        self.is_subscribed() || matches!(self.state, State::Ending(..))
    }

    /// Whether no part of a request has been received, and no reply is unsent.
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Reading(reading) if reading.is_idle() && self.outbox.is_empty())
    }

    /// Whether it came through the public door, was answered, and has sent nothing since.
    pub fn is_between_requests(&self) -> bool {
        let State::Reading(reading) = &self.state else {
            return false;
        };
        let is_quiet = self.read == ReadState::Drained && self.write == WriteState::Idle;
        is_quiet && !reading.origin.is_admin && reading.is_reused() && self.is_idle()
    }

    /// How many bytes are wanted from the client. While it does not accept its replies, its further requests stay in the
    /// kernel.
    pub fn room(&self) -> usize {
        match &self.state {
            State::Closed => 0,
            State::Reading(_) if self.peer == Peer::Ended || !self.outbox.is_empty() => 0,
            State::Rendering(_) | State::Polling(_) if self.peer == Peer::Ended => 0,
            State::Reading(reading) => reading.room(),
            State::Rendering(reading)
            | State::Polling(reading)
            | State::Ending(_, Some(reading)) => reading.room_behind(),
            State::Streaming(_)
            | State::Ending(_, None)
            | State::Draining(_)
            | State::Lingering(_) => limits::DISCARDED_READ_BYTES,
        }
    }

    /// What follows at this time, if something is due.
    pub fn due(&mut self, now: Time, keepalive: Duration) -> Due {
        let due_at = self.due_at(keepalive);
        let is_lifetime = self.is_subscribed() && due_at == self.deadline;
        let slack = match is_lifetime {
            true => limits::LIFETIME_SLACK,
            false => limits::TIMER_SLACK,
        };
        if due_at > now + slack {
            return Due::Later;
        }
        if is_lifetime {
            self.deadline = NEVER;
            return Due::Remind(Event::LifetimeOver(self.key));
        }
        match &self.state {
            State::Closed => Due::Never,
            State::Polling(_) => Due::Remind(Event::PollTimedOut(self.key)),
            State::Streaming(_) if self.write == WriteState::Blocked => {
                Due::Close(CloseReason::Slow)
            }
            State::Streaming(_) => Due::Remind(Event::Silent(self.key)),
            State::Reading(_) if !self.outbox.is_empty() => Due::Close(CloseReason::Slow),
            State::Reading(reading) if reading.is_idle() => Due::Close(CloseReason::Idle),
            State::Reading(_) => Due::Reject(RequestError::Late),
            State::Rendering(_) => Due::Reject(RequestError::Unanswered),
            State::Ending(reason, _) | State::Draining(reason) | State::Lingering(reason) => {
                Due::Close(*reason)
            }
        }
    }

    /// When this connection needs attention if nothing happens before.
    pub fn due_at(&self, keepalive: Duration) -> Time {
        match &self.state {
            State::Streaming(_) | State::Polling(_) => {
                let span = match self.write {
                    WriteState::Blocked => limits::PATIENCE,
                    _ => keepalive,
                };
                self.deadline.min(self.progress_at + span)
            }
            State::Reading(_) if !self.outbox.is_empty() => {
                self.progress_at + limits::REQUEST_DEADLINE
            }
            // A client that is to come back must receive its position, however slowly it reads.
            State::Ending(CloseReason::Lifetime, _) => self.progress_at + limits::PATIENCE,
            State::Ending(..) | State::Draining(_) => {
                self.deadline.max(self.progress_at + limits::DRAIN_DEADLINE)
            }
            State::Reading(_) | State::Rendering(_) | State::Lingering(_) | State::Closed => {
                self.deadline
            }
        }
    }

    /// Why the connection ends if the socket is found dead.
    pub fn hang_up_reason(&self) -> CloseReason {
        let by_client = match self.peer {
            Peer::Ended => CloseReason::Client,
            Peer::Open | Peer::HungUp => CloseReason::Reset,
        };
        self.reason().unwrap_or(by_client)
    }

    /// Why the connection ends if a system call failed.
    pub fn failure_reason(&self, error: &io::Error) -> CloseReason {
        let has_ended = self.peer == Peer::Ended;
        let reason = CloseReason::of_failure(error, has_ended);
        self.reason().unwrap_or(reason)
    }

    /// Why we are closing the connection, if we are.
    fn reason(&self) -> Option<CloseReason> {
        match self.state {
            State::Ending(reason, _) | State::Draining(reason) | State::Lingering(reason) => {
                Some(reason)
            }
            _ => None,
        }
    }

    /// Bytes of an incomplete request whose sender has not authenticated yet.
    pub fn unauthenticated(&self) -> usize {
        match &self.state {
            State::Reading(reading) => reading.unauthenticated(),
            _ => 0,
        }
    }
}

impl Discarded {
    /// Counts bytes that were discarded; whether they are too many for the time.
    pub fn add(&mut self, len: usize, now: Time) -> bool {
        let second = (now.as_micros() / 1_000_000) as u16;
        if second.wrapping_sub(self.since) >= limits::SUBSCRIBER_WINDOW.as_secs() as u16 {
            *self = Discarded {
                since: second,
                bytes: 0,
            };
        }
        self.bytes += len as u32;
        self.bytes > limits::SUBSCRIBER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_goes_on_sending_is_too_much() {
        let max = limits::SUBSCRIBER_BYTES_MAX as usize;
        // How much is sent, how often, every how many milliseconds, and whether that is too much.
        let table = [
            (max, 1, 0, false),
            (1, max, 0, false),
            (1, max + 1, 0, true),
            (max, 2, 1_000, true),
            (max / 4, 100, 900, true),
            (max / 8, 1_000, 1_500, false),
            (max, 1_000, 8_000, false),
            (1, 100_000, 60_000, false),
        ];
        for (len, times, millis, expected) in table {
            let mut now = Time::from_micros(77_300_000);
            let mut discarded = Discarded::default();
            let is_too_much = (0..times).any(|_| {
                now = now + Duration::from_millis(millis);
                discarded.add(len, now)
            });
            let what = format!("{len} bytes, {times} times, every {millis} ms");
            assert_eq!(is_too_much, expected, "{what}");
        }
    }

    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<Slot>() <= 64);
    }
}
