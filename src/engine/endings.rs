//! Endings: how connections end, and what they leave behind. It owns the order of an end (what is
//! unfinished, what is last, our end, theirs) and its accounting; it must not decide that one is due.

use std::io;

use super::conn::{Key, Phase, Subscription};
use super::log::Coding;
use super::stats::CloseReason;
use super::{Effect, Engine};
use crate::limits;
use crate::proto::sse;

impl Engine {
    /// Ends all connections: streams on a boundary, with their last chunk; requests that are not answered
    /// without an answer. They are gone when [`Engine::is_empty`] says so.
    pub fn stop(&mut self) {
        self.stopping = true;
        let keys: Vec<Key> = self.conns.iter().map(|(key, _)| key).collect();
        for key in keys {
            match self
                .conns
                .get(key)
                .map(|conn| (&conn.phase, conn.outbox.is_empty()))
            {
                Some((Phase::Subscribed(_), _)) => self.end_stream(key, CloseReason::Drain),
                Some((Phase::Reading(_), false)) => self.drain(key, CloseReason::Drain, None),
                Some((Phase::Reading(_) | Phase::Lingering(_), _)) => {
                    self.close(key, CloseReason::Drain);
                }
                Some((Phase::Draining { .. } | Phase::Closed, _)) | None => {}
            }
        }
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
        let unfinished = (subscription.cursor.offset > 0).then_some(subscription);
        self.leave(&subscription);
        self.drain(key, reason, unfinished);
    }

    /// Sends what is in the outbox, and then our end.
    pub(super) fn drain(
        &mut self,
        key: Key,
        reason: CloseReason,
        unfinished: Option<Subscription>,
    ) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        conn.phase = Phase::Draining { reason, unfinished };
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
        if self.settings.verbose && !conn.about.path.is_empty() {
            let age = self.now.since(conn.about.subscribed_at).as_secs_f64();
            self.effects.push_back(Effect::Log(format!(
                "disconnect {} from {} after {age:.1} s: {}",
                conn.about.path,
                conn.about.client_ip,
                reason.name()
            )));
        }
        if let Phase::Subscribed(subscription) = phase {
            self.leave(&subscription);
        }
        self.counters.close(reason);
        self.effects.push_back(Effect::Close(key));
    }

    /// Takes a subscriber out of the hub. Another takes its place in the list, and must know.
    pub(super) fn leave(&mut self, subscription: &Subscription) {
        let moved = self
            .hub
            .unsubscribe(subscription.namespace, subscription.slot);
        if let Some(key) = moved
            .and_then(|index| self.conns.at(index))
            .map(|(key, _)| key)
            && let Some(Phase::Subscribed(other)) =
                self.conns.get_mut(key).map(|conn| &mut conn.phase)
        {
            other.slot = subscription.slot;
        }
    }
}
