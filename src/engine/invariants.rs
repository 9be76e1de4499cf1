//! Invariants: what must hold between two turns, checked in debug builds and in every turn of the
//! simulation. It owns assertions only; a release build must not need it.

use std::collections::BTreeSet;

use super::Engine;
use super::conn::{Conn, Key, Phase, WriteState};
use crate::bus::{Stream, Subscriber};

impl Engine {
    /// Panics with the invariant's name where one is broken.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        assert!(
            self.in_flight.is_none(),
            "a write was handed out and not answered"
        );
        self.bus.check_invariants(|owner| {
            let conn = self.conns.at(owner).map(|(_, conn)| conn);
            conn.is_some_and(|conn| !conn.is_behind())
        });
        self.check_connections();
        self.check_demand();
    }

    fn check_connections(&self) {
        let mut writing = 0;
        let mut reading = 0;
        let mut unproven = 0;
        for (key, conn) in self.conns.iter() {
            if matches!(conn.phase, Phase::Closed) {
                continue;
            }
            writing += usize::from(conn.write == WriteState::Queued);
            reading += usize::from(conn.in_read_queue);
            assert!(conn.armed_at.is_some(), "{key:?} has no deadline");
            if let Phase::Reading(reading) = &conn.phase {
                unproven += reading.unproven();
            }
            let is_held = self.held.iter().any(|&(_, _, held)| held == key);
            let is_paused = self.pauses.iter().any(|&(_, paused)| paused == key);
            assert_eq!(
                conn.chatter.is_paused(),
                is_paused,
                "{key:?} is paused, or is not"
            );
            let waits = conn.write == WriteState::Held;
            assert_eq!(waits, is_held, "{key:?} is held, or is not");
            let at_rest = conn.write == WriteState::Idle;
            if at_rest {
                assert!(
                    conn.outbox.is_empty(),
                    "{key:?} has an outbox that nothing will send"
                );
            }
            if matches!(conn.phase, Phase::Subscribed(_)) {
                let about = &conn.about;
                let token = about.token.as_deref();
                assert!(
                    self.addresses
                        .is_at(about.places, key, about.client_ip, token),
                    "{key:?} is not where it believes to be among those of its address"
                );
            }
            let subscriber = conn.subscriber().map(|id| self.bus.subscriber(id));
            let owner = subscriber.map(|subscriber| subscriber.map(Subscriber::owner));
            assert!(
                owner.is_none_or(|owner| owner == Some(key.index)),
                "{key:?} is not a subscriber"
            );
        }
        assert_eq!(
            unproven, self.unproven_bytes,
            "bytes held for senders without a key"
        );
        let is_there = |key: &&Key| self.conns.get(**key).is_some_and(Conn::is_open);
        assert_eq!(
            writing,
            self.write_queue.iter().filter(is_there).count(),
            "the write queue"
        );
        assert_eq!(
            reading,
            self.read_queue.iter().filter(is_there).count(),
            "the read queue"
        );
    }

    /// The source was asked for the channels that are wanted.
    fn check_demand(&self) {
        let registry = self.bus.line().registry();
        if registry.has_turned() {
            return;
        }
        let children = registry.children(Stream::Channels);
        let is_wanted = |name: &&[u8]| registry.is_wanted((Stream::Channels, Some(name)));
        let wanted: BTreeSet<&[u8]> = children.map(|(name, _)| name).filter(is_wanted).collect();
        let listened: BTreeSet<&[u8]> = self.listened.iter().map(|name| &**name).collect();
        assert_eq!(
            listened, wanted,
            "the channels that the source is asked for"
        );
    }
}
