//! What is kept of each connection, and what follows from it alone. A stream's slot is small, because there are many:
//! what only readers need is in a box.

use std::net::IpAddr;
use std::time::Duration;

use super::CloseReason;
use super::event::Key;
use super::outbox::{Coding, Outbox};
use super::reading::Reading;
use crate::limits;
use crate::time::Time;

/// One accepted socket.
pub struct Slot {
    /// Its name.
    pub key: Key,
    /// Where it comes from, which may be a proxy.
    pub peer_ip: IpAddr,
    /// Whether it came through the admin's door.
    pub is_admin: bool,
    /// What the client does with its side.
    pub peer: Peer,
    /// Whether it is to be read from.
    pub read: ReadState,
    /// Whether it is to be written to.
    pub write: WriteState,
    /// What it is doing.
    pub state: State,
    /// When the client last took bytes from us: silence and patience are counted from here.
    pub progress_at: Time,
    /// When the phase ends by itself. For streams and long polls, this is their lifetime.
    pub deadline: Time,
    /// When the valid entry in the timers comes; any other entry is outdated.
    pub armed_at: Option<Time>,
    /// Bytes for this client alone.
    pub outbox: Outbox,
}

/// What the client does with its side.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It may send.
    Open,
    /// It has sent its last byte, and may still read.
    Ended,
    /// The socket is dead in both directions; what was received before can still be read.
    HungUp,
}

/// Whether a connection is to be read from. Readiness comes as an edge, so it is kept until a read says that there
/// is nothing more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadState {
    /// There is nothing to be read.
    Drained,
    /// There may be something, which is not wanted yet.
    Readable,
    /// There may be something, and the connection is in the queue of those that are read from.
    Queued,
}

/// Whether a connection is to be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteState {
    /// Nothing waits to be sent.
    Idle,
    /// It is in the queue of those that are written to by themselves.
    Queued,
    /// The kernel took nothing, and no edge has come since.
    Blocked,
    /// Nothing is written, by any way, before it is released.
    Held,
}

/// What a connection is doing, with what it needs for that.
pub enum State {
    /// It waits for requests, or for the rest of one.
    Reading(Box<Reading>),
    /// Its request was handed out and is not answered yet.
    Rendering(Box<Reading>),
    /// It receives a stream.
    Streaming(Coding, Intake),
    /// It waits for the first event of a stream, which will be a whole reply; whether the client lets the connection be
    /// used again.
    Polling(Intake, bool),
    /// It is being closed by us: what is unsent goes out first.
    Draining(CloseReason, Origin),
    /// We have sent our end and wait for the client's, discarding what it sends.
    Lingering(CloseReason),
    /// It was closed, and its socket is about to be.
    Closed,
}

/// The phases alone, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are those of the state")]
pub enum Phase {
    Reading,
    Rendering,
    Streaming,
    Polling,
    Draining,
    Lingering,
    Closed,
}

/// What a connection that drains did before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was sent a reply, behind which its client may still be sending.
    Reply,
    /// It had a stream, of which its owner may have bytes that are begun and not finished.
    Stream,
}

/// What was read lately, and discarded, of a client that has nothing to say. Every stream has one, so it is small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intake {
    /// The second in which it was read, of the last 65,536.
    second: u16,
    bytes: u16,
    /// How many pauses there were in a row.
    pauses: u8,
    /// Nothing is read for now.
    is_paused: bool,
}

/// What follows from bytes that such a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is not read from for a while.
    Pause,
    /// It is closed: it has gone on through all pauses.
    Close,
}

impl Slot {
    /// A place of the table whose holder is to be begun, or of nobody.
    pub fn new(key: Key, peer_ip: IpAddr, is_admin: bool, now: Time) -> Slot {
        Slot {
            key,
            peer_ip,
            is_admin,
            peer: Peer::Open,
            read: ReadState::Readable,
            write: WriteState::Idle,
            state: State::Closed,
            progress_at: now,
            deadline: now,
            armed_at: None,
            outbox: Outbox::default(),
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Reading(_) => Phase::Reading,
            State::Rendering(_) => Phase::Rendering,
            State::Streaming(..) => Phase::Streaming,
            State::Polling(..) => Phase::Polling,
            State::Draining(..) => Phase::Draining,
            State::Lingering(_) => Phase::Lingering,
            State::Closed => Phase::Closed,
        }
    }

    /// Whether it is a stream or a long poll.
    pub fn is_subscribed(&self) -> bool {
        matches!(self.state, State::Streaming(..) | State::Polling(..))
    }

    /// Whether its owner may have bytes for it.
    pub fn may_have_stream_bytes(&self) -> bool {
        self.is_subscribed() || matches!(self.state, State::Draining(_, Origin::Stream))
    }

    /// Whether no part of a request is at hand, and no reply is unsent.
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Reading(reading) if reading.is_idle() && self.outbox.is_empty())
    }

    /// How many bytes of the client would be taken: a request must fit, anything else is discarded. While the client
    /// does not take its replies, its further requests stay in the kernel.
    pub fn room(&self) -> usize {
        match &self.state {
            State::Reading(_) | State::Rendering(_) if self.peer == Peer::Ended => 0,
            State::Reading(_) | State::Rendering(_) if !self.outbox.is_empty() => 0,
            State::Reading(reading) | State::Rendering(reading) => reading.room(),
            // What a dead socket has left is read to its end, which is near.
            State::Streaming(_, intake) | State::Polling(intake, _)
                if intake.is_paused && self.peer != Peer::HungUp =>
            {
                0
            }
            State::Streaming(..) | State::Polling(..) => limits::SUBSCRIBER_BYTES_MAX.into(),
            State::Draining(..) | State::Lingering(_) => limits::READ_BYTES,
            State::Closed => 0,
        }
    }

    /// When something must be done about this connection if nothing happens before.
    pub fn due_at(&self, keepalive: Duration) -> Time {
        let patience = |span| self.deadline.max(self.progress_at + span);
        match &self.state {
            State::Streaming(..) | State::Polling(..) => {
                let is_blocked = self.write == WriteState::Blocked;
                let span = if is_blocked {
                    limits::PATIENCE
                } else {
                    keepalive
                };
                self.deadline.min(self.progress_at + span)
            }
            State::Reading(_) if !self.outbox.is_empty() => patience(limits::REQUEST_DEADLINE),
            // Whoever is to come back must be told where it stood, however slowly it listens.
            State::Draining(CloseReason::Lifetime, _) => self.progress_at + limits::PATIENCE,
            State::Draining(..) => patience(limits::DRAIN_DEADLINE),
            _ => self.deadline,
        }
    }

    /// Why it ends if the socket is dead: what we were doing, or else what the client did.
    pub fn reason_of_hangup(&self) -> CloseReason {
        match &self.state {
            State::Draining(reason, _) | State::Lingering(reason) => *reason,
            _ if self.peer == Peer::Ended => CloseReason::Client,
            _ => CloseReason::Reset,
        }
    }

    /// Bytes that are held for a client that has not shown that it may send them.
    pub fn unauthenticated(&self) -> usize {
        match &self.state {
            State::Reading(reading) => reading.unauthenticated(),
            _ => 0,
        }
    }
}

impl Intake {
    /// Takes note of bytes that were read now.
    pub fn add(&mut self, len: usize, now: Time) -> Verdict {
        let second = (now.as_micros() / 1_000_000) as u16;
        // The first bytes behind a pause come one or two seconds after those before it.
        match second.wrapping_sub(self.second) {
            0 => {}
            1 | 2 => self.bytes = 0,
            _ => (self.bytes, self.pauses) = (0, 0),
        }
        self.second = second;
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes < limits::SUBSCRIBER_BYTES_MAX || self.is_paused {
            return Verdict::Fine;
        }
        if self.pauses == limits::SUBSCRIBER_PAUSES_MAX {
            return Verdict::Close;
        }
        self.pauses += 1;
        self.is_paused = true;
        Verdict::Pause
    }

    /// The pause is over.
    pub fn resume(&mut self) {
        self.is_paused = false;
        self.bytes = 0;
    }

    /// Whether nothing is read for now.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Has a subscriber send so much, so often, every so many milliseconds, as far as it is read; what comes of it
    /// at last, and how many bytes were read.
    fn send(len: usize, times: usize, millis: u64) -> (Verdict, usize) {
        let mut now = Time::from_micros(77_300_000);
        let mut intake = Intake::default();
        let mut read = 0;
        let mut resumes_at = now;
        for _ in 0..times {
            now = now + Duration::from_millis(millis);
            if intake.is_paused() {
                now = now.max(resumes_at);
                intake.resume();
            }
            read += len;
            match intake.add(len, now) {
                Verdict::Fine => {}
                Verdict::Pause => resumes_at = now + limits::SUBSCRIBER_PAUSE,
                Verdict::Close => return (Verdict::Close, read),
            }
        }
        (Verdict::Fine, read)
    }

    #[test]
    fn only_a_subscriber_that_goes_on_sending_is_closed() {
        let max = usize::from(limits::SUBSCRIBER_BYTES_MAX);
        let rounds = usize::from(limits::SUBSCRIBER_PAUSES_MAX) + 1;
        let table = [
            (max, 10_000, 0, (Verdict::Close, rounds * max)),
            (max / 2, 10_000, 1, (Verdict::Close, rounds * max)),
            (max, 10_000, 900, (Verdict::Close, rounds * max)),
            // The longest body comes to its end.
            (max, rounds - 1, 0, (Verdict::Fine, (rounds - 1) * max)),
            // It sends less in a second, or has breaks between.
            (max / 4, 1_000, 500, (Verdict::Fine, 1_000 * (max / 4))),
            (max, 1_000, 3_500, (Verdict::Fine, 1_000 * max)),
            (1, 100_000, 60_000, (Verdict::Fine, 100_000)),
        ];
        for (len, times, millis, expected) in table {
            let what = format!("{len} bytes, {times} times, every {millis} ms");
            assert_eq!(send(len, times, millis), expected, "{what}");
        }
    }
}
