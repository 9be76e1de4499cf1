//! Idle connections: which ones could make room for others. It owns their order; it must not close any.

use std::collections::BTreeSet;

use super::Key;
use super::slot::Slot;
use crate::time::Time;

/// Connections that are idle between two requests, by their deadlines: the first one has waited longest.
#[derive(Default)]
pub struct Idle(BTreeSet<(Time, Key)>);

impl Idle {
    /// Something about a connection has changed, but not its deadline.
    pub fn update(&mut self, slot: &Slot) {
        let entry = (slot.deadline, slot.key);
        match slot.is_between_requests() {
            true => self.0.insert(entry),
            false => self.0.remove(&entry),
        };
    }

    /// A connection's deadline is about to change.
    pub fn remove(&mut self, slot: &Slot) {
        self.0.remove(&(slot.deadline, slot.key));
    }

    /// The one that has been idle for the longest time.
    pub fn first(&self) -> Option<Key> {
        self.0.first().map(|&(_, key)| key)
    }

    /// Whether a connection is one of them.
    pub fn contains(&self, slot: &Slot) -> bool {
        self.0.contains(&(slot.deadline, slot.key))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
