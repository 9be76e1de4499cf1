//! Invariants: what must hold between two turns, checked in debug builds and in every turn of the
//! simulation. It owns assertions only; a release build must not need it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::Engine;
use super::channels::name_of;
use super::conn::{Conn, Key, Phase, WriteState};
use super::hub::{NamespaceId, Stream};

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
                    .pacing
                    .log_bytes_max
                    .max(crate::limits::LOG_BYTES_FLOOR)
        );
        self.check_connections();
        self.check_namespaces();
        self.check_groups();
        self.check_lingering();
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
                assert!(
                    conn.unfinished().is_none(),
                    "{key:?} has a frame that nothing will finish"
                );
            }
            let Phase::Subscribed(subscription) = &conn.phase else {
                continue;
            };
            let about = &conn.about;
            let token = about.token.as_deref();
            assert!(
                self.addresses
                    .is_at(about.places, key, about.client_ip, token),
                "{key:?} is not where it believes to be among those of its address"
            );
            let namespace = self.hub.get(subscription.namespace);
            let namespace = namespace.expect("a subscriber's namespace exists");
            assert_eq!(
                namespace.subscribers.get(subscription.slot as usize),
                Some(&key.index),
                "{key:?} is not where it believes to be listed"
            );
            let members = namespace.members.iter();
            let members = members.filter_map(|&id| self.hub.get(id));
            let listed = members.filter_map(|member| member.frames.back()).max();
            let newest = listed.or(namespace.frames.back()).copied();
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

    fn check_namespaces(&self) {
        let mut listed = 0;
        for namespace in self.hub.iter() {
            listed += namespace.subscribers.len();
            // Publishing asserts their order, so the ends speak for all.
            for sequence in [namespace.frames.front(), namespace.frames.back()]
                .into_iter()
                .flatten()
            {
                let here = (self.log.first()..self.log.head()).contains(sequence);
                assert!(
                    here,
                    "a namespace lists frame {sequence}, which the log does not have"
                );
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

    /// Members and groups know each other.
    fn check_groups(&self) {
        for (id, namespace) in &self.hub.namespaces {
            let id = NamespaceId(id as u32);
            for member in &namespace.members {
                let member = self.hub.get(*member).expect("a group's member exists");
                assert!(
                    member.groups.contains(&id),
                    "a member does not know its group {id:?}"
                );
            }
            for group in &namespace.groups {
                let group = self.hub.get(*group).expect("a member's group exists");
                assert!(
                    group.members.contains(&id),
                    "a group does not know its member {id:?}"
                );
            }
        }
    }

    /// Who lingers is looked at when its time has come, once.
    fn check_lingering(&self) {
        let queue = self.hub.lingering.iter();
        let mut queued: Vec<u32> = queue.map(|&Reverse((_, id))| id).collect();
        queued.sort_unstable();
        let namespaces = self.hub.namespaces.iter();
        let lingering = namespaces.filter(|(_, namespace)| namespace.lingers_until.is_some());
        let lingering: Vec<u32> = lingering.map(|(id, _)| id as u32).collect();
        assert_eq!(queued, lingering, "who lingers, and who is looked at");
        for &Reverse((at, id)) in &self.hub.lingering {
            let namespace = self.hub.get(NamespaceId(id));
            let until = namespace.and_then(|namespace| namespace.lingers_until);
            assert!(until.is_some_and(|until| at <= until), "a look comes late");
        }
    }

    /// The source was asked for the channels that are wanted.
    fn check_demand(&self) {
        if self.hub.has_turned() {
            return;
        }
        let children = self.hub.children(Stream::Channels);
        let wanted = children.filter(|(child, _)| self.hub.is_wanted(Stream::Channels, child));
        let wanted: BTreeSet<&[u8]> = wanted.map(|(child, _)| name_of(child)).collect();
        let listened: BTreeSet<&[u8]> = self.listened.iter().map(|name| &**name).collect();
        assert_eq!(
            listened, wanted,
            "the channels that the source is asked for"
        );
    }
}
