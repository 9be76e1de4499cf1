//! Endings: how connections end, and what they leave behind. It owns the order of an end (what is
//! unfinished, what is last, our end, theirs) and its accounting; it must not decide that one is due.

use std::io;

use super::conn::{Conn, Key, Phase, Subscription};
use super::stats::CloseReason;
use super::{Effect, Engine};
use crate::bus::{Coding, Stream, SubscriberId, sse};
use crate::level::Level;
use crate::limits;
use crate::proto::reply::Reply;
use crate::time::Time;

/// Who is to be sent away, and how fast.
#[derive(Default)]
pub(super) struct Farewell {
    waiting: Vec<Key>,
    per_beat: usize,
    /// When the next slice is due; set exactly while somebody may be waiting.
    pub(super) next_at: Option<Time>,
}

impl Engine {
    /// Ends all connections. Requests are answered or refused at once; streams are ended in slices, over
    /// at most the configured time. All are gone when [`Engine::is_empty`] says so.
    pub fn stop(&mut self) {
        self.stopping = true;
        let keys: Vec<Key> = self.conns.iter().map(|(key, _)| key).collect();
        for &key in &keys {
            let Some(conn) = self.conns.get(key) else {
                continue;
            };
            match &conn.phase {
                Phase::Reading(_) if !conn.outbox.is_empty() => {
                    self.drain(key, CloseReason::Drain, None);
                }
                // It may have been published already; the answer comes soon, or is given up.
                Phase::Reading(reading) if reading.rendering => {}
                Phase::Reading(reading) if !reading.is_idle() => {
                    self.refuse(key, &stopping_reply(), CloseReason::Drain);
                }
                Phase::Lingering(_) => self.close(key, CloseReason::Drain),
                // What it has sent and we have not read is refused; then it is closed.
                Phase::Reading(_) => self.on_readable(key),
                Phase::Subscribed(_) => self.farewell.waiting.push(key),
                Phase::Draining { .. } | Phase::Closed => {}
            }
        }
        let beats = self.settings.pacing.drain.as_micros() / limits::DRAIN_BEAT.as_micros();
        let per_beat = self.farewell.waiting.len() / (beats as usize).max(1) + 1;
        self.farewell.per_beat = per_beat.max(limits::DRAIN_SLICE_MIN);
        self.farewell.next_at = Some(self.now);
    }

    /// Ends the next slice of streams, if its time has come.
    pub(super) fn send_away(&mut self) {
        if self.farewell.next_at.is_none_or(|at| at > self.now) {
            return;
        }
        for _ in 0..self.farewell.per_beat {
            let Some(key) = self.farewell.waiting.pop() else {
                self.farewell.next_at = None;
                return;
            };
            let (low, high) = (limits::DRAIN_RETRY_MIN, limits::DRAIN_RETRY_MAX);
            let pause = self.random.between(low, high);
            let conn = self.conns.get(key);
            match conn.and_then(Conn::subscription).map(|it| it.poll) {
                // An empty answer would have the script poll again at once.
                Some(Some(_)) => {
                    let seconds = pause.as_secs().max(1);
                    self.end_poll(key, &stopping_reply().with_retry_after(seconds));
                }
                _ => self.dismiss(key, CloseReason::Drain, Some(pause.as_millis() as u32)),
            }
        }
        self.farewell.next_at = self.farewell.next_at.map(|at| at + limits::DRAIN_BEAT);
    }

    /// A system call on the socket failed.
    pub fn on_failure(&mut self, key: Key, error: &io::Error) {
        let Some(conn) = self.conns.get(key) else {
            return;
        };
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => CloseReason::Timeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if conn.peer_ended => {
                CloseReason::Client
            }
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable => CloseReason::Reset,
            _ => CloseReason::Failure,
        };
        self.close(key, reason);
    }

    /// Ends a stream and tells the client where it stood, so that it can come back and be sent what it
    /// missed in between.
    pub(super) fn dismiss(&mut self, key: Key, reason: CloseReason, retry_ms: Option<u32>) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if conn.subscription().is_some_and(|it| it.poll.is_some()) {
            return self.answer_poll(key, &[]);
        }
        let Some(&Subscription { id, coding, .. }) = conn.subscription() else {
            return;
        };
        let mut block = Vec::new();
        if let Some(retry_ms) = retry_ms {
            sse::encode_retry(&mut block, retry_ms);
        }
        self.bus.encode_position(id, &mut block);
        coding.encode(conn.outbox.buffer(), &block);
        if !self.bus.receives(id, Stream::Channels) {
            self.bus.linger(id, self.now + limits::LINGER);
        }
        self.end_stream(key, reason);
    }

    /// Ends a stream on a boundary: what the client has of an unfinished event is completed first.
    pub(super) fn end_stream(&mut self, key: Key, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Some(subscription) = conn.subscription().copied() else {
            return;
        };
        if subscription.coding == Coding::Chunked {
            conn.outbox.buffer().extend_from_slice(sse::LAST_CHUNK);
        }
        let id = subscription.id;
        let has_rest = self.bus.has_rest(id);
        match has_rest {
            true => {
                self.before_leaving(key, id);
                self.bus.end(id);
            }
            false => self.leave(key, id),
        }
        self.drain(key, reason, has_rest.then_some(id));
    }

    /// Sends what is in the outbox, and then our end.
    pub(super) fn drain(&mut self, key: Key, reason: CloseReason, rest: Option<SubscriberId>) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        if let Phase::Reading(reading) = &conn.phase {
            self.unproven_bytes -= reading.unproven();
        }
        conn.phase = Phase::Draining { reason, rest };
        conn.deadline = self.now + limits::DRAIN_DEADLINE;
        self.queue_write(key);
        self.arm(key);
    }

    /// Everything was sent: our end, too. A client that may still be sending is waited for a little,
    /// because closing on unread bytes makes the kernel send a reset, which destroys the reply on its way.
    pub(super) fn finish(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Draining { reason, .. } = conn.phase else {
            return;
        };
        let was_stream = !conn.about.path.is_empty();
        if conn.peer_ended || was_stream || self.stopping {
            self.close(key, reason);
            return;
        }
        conn.phase = Phase::Lingering(reason);
        conn.deadline = self.now + limits::LINGER_DEADLINE;
        self.effects.push_back(Effect::ShutdownWrite(key));
        self.queue_read(key);
        self.arm(key);
    }

    /// Closes at once, whatever is unsent.
    pub(super) fn close(&mut self, key: Key, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let phase = std::mem::replace(&mut conn.phase, Phase::Closed);
        if matches!(phase, Phase::Closed) {
            return;
        }
        if let Phase::Reading(reading) = &phase {
            self.unproven_bytes -= reading.unproven();
        }
        if self.settings.verbose && !conn.about.path.is_empty() {
            let age = self.now.since(conn.about.subscribed_at).as_secs_f64();
            let (path, client_ip) = (&conn.about.path, conn.about.client_ip);
            let reason = reason.name();
            let line = format!("disconnect {path} from {client_ip} after {age:.1} s: {reason}");
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        match phase {
            Phase::Subscribed(subscription) => self.leave(key, subscription.id),
            Phase::Draining { rest: Some(id), .. } => self.bus.unsubscribe(id),
            _ => {}
        }
        self.counters.close(reason);
        self.effects.push_back(Effect::Close(key));
    }

    /// Takes a subscriber off the bus, and out of the registry of addresses.
    pub(super) fn leave(&mut self, key: Key, id: SubscriberId) {
        self.before_leaving(key, id);
        self.bus.unsubscribe(id);
    }

    /// Takes a subscriber out of the lists of its address and its token. Others take its places there.
    fn leave_addresses(&mut self, key: Key) {
        let Some(about) = self.conns.get(key).map(|conn| &conn.about) else {
            return;
        };
        let places = about.places;
        let moved = self
            .addresses
            .remove(places, about.client_ip, about.token.as_deref());
        if let Some(other) = moved.network.and_then(|key| self.conns.get_mut(key)) {
            other.about.places.network = places.network;
        }
        if let Some(other) = moved.token.and_then(|key| self.conns.get_mut(key)) {
            other.about.places.token = places.token;
        }
    }

    /// A subscriber is to get nothing more than what was begun.
    fn before_leaving(&mut self, key: Key, id: SubscriberId) {
        // Of a channel, everybody has a position to come back with.
        if self.bus.receives(id, Stream::Channels) {
            let until = (self.now + self.settings.channels.linger).next_beat(limits::TIMER_SLACK);
            self.bus.linger(id, until);
        }
        self.leave_addresses(key);
    }
}

/// The answer to requests while the server stops.
pub(super) fn stopping_reply() -> Reply {
    Reply::error(503, "the server is stopping; try another one")
}
