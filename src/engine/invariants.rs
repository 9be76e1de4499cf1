//! Invariants: what must hold between two turns, checked in debug builds and in every turn of the
//! simulation. It owns assertions only; a release build must not need it.

use std::collections::HashSet;

use super::Engine;
use super::conn::{Key, Phase};

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
        assert_eq!(
            self.tick_at.is_some(),
            !self.rollup.is_empty(),
            "the tick and the rollup disagree"
        );
        assert!(
            self.log.bytes()
                <= self
                    .settings
                    .log_bytes_max
                    .max(crate::limits::LOG_BYTES_FLOOR)
        );
        self.check_connections();
        self.check_namespaces();
    }

    fn check_connections(&self) {
        let writing: HashSet<Key> = self.write_queue.iter().copied().collect();
        let reading: HashSet<Key> = self.read_queue.iter().copied().collect();
        assert_eq!(
            writing.len(),
            self.write_queue.len(),
            "a key is queued for writing twice"
        );
        assert_eq!(
            reading.len(),
            self.read_queue.len(),
            "a key is queued for reading twice"
        );
        for (key, conn) in self.conns.iter() {
            if matches!(conn.phase, Phase::Closed) {
                continue;
            }
            assert_eq!(
                conn.in_write_queue,
                writing.contains(&key),
                "write queue of {key:?}"
            );
            assert_eq!(
                conn.in_read_queue,
                reading.contains(&key),
                "read queue of {key:?}"
            );
            assert!(conn.armed_at.is_some(), "{key:?} has no deadline");
            assert!(
                !(conn.blocked && conn.in_write_queue),
                "{key:?} is blocked and queued"
            );
            let at_rest = !conn.blocked && !conn.in_write_queue;
            if at_rest {
                assert!(
                    conn.outbox.is_empty(),
                    "{key:?} has an outbox that nothing will send"
                );
                assert!(
                    conn.unfinished().is_none(),
                    "{key:?} has a frame that nothing will finish"
                );
            }
            let Phase::Subscribed(subscription) = &conn.phase else {
                continue;
            };
            let namespace = self.hub.get(subscription.namespace);
            let namespace = namespace.expect("a subscriber's namespace exists");
            assert_eq!(
                namespace.subscribers.get(subscription.slot as usize),
                Some(&key.index),
                "{key:?} is not where it believes to be listed"
            );
            let newest = namespace.frames.back().copied();
            if let Some(newest) = newest.filter(|&newest| newest >= subscription.cursor.sequence)
                && at_rest
            {
                let visited =
                    self.hub
                        .will_visit(subscription.namespace, subscription.slot, newest);
                assert!(
                    visited,
                    "{key:?} lacks frame {newest} and nothing will send it"
                );
            }
        }
    }

    fn check_namespaces(&self) {
        let mut listed = 0;
        for namespace in self.hub.iter() {
            listed += namespace.subscribers.len();
            let mut last = None;
            for &sequence in &namespace.frames {
                assert!(
                    last < Some(sequence),
                    "a namespace's frames are not in order"
                );
                assert!((self.log.first()..self.log.head()).contains(&sequence));
                last = Some(sequence);
            }
        }
        let subscribed = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.subscription().is_some());
        assert_eq!(
            listed,
            self.hub.subscribers(),
            "the hub has miscounted its subscribers"
        );
        assert_eq!(
            listed,
            subscribed.count(),
            "the hub lists somebody who is not subscribed"
        );
    }
}
