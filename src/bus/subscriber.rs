//! Subscribers: a place on the number line each. It owns how a write moves the place; it must not know what the bytes of
//! a range are.

use super::batch::{Batch, Format};
use super::namespace::NamespaceId;
use super::sse::Coding;

/// A subscriber, as a place in the table of them. Not used again before it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub u32);

/// How a subscriber takes events, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// How the bytes are carried.
    pub coding: Coding,
    /// Whether a channel's events name it.
    pub named: bool,
}

/// Which events have their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// None.
    Never,
    /// Those of a replay, until everything up to this number is had.
    Until(u64),
    /// All.
    Always,
}

/// What the bus knows of a subscriber.
pub struct Subscriber {
    owner: u32,
    namespace: NamespaceId,
    /// Its slot in the namespace's list.
    slot: u32,
    form: Form,
    /// It gets nothing more but what was begun.
    is_ending: bool,
    /// How many bytes it has of the batch that was begun; zero where none was.
    taken: u32,
    /// It has everything up to here. While it is not behind, it has what its namespace has, too, even if that is more.
    cursor: u64,
    /// Where the batch ends that was begun.
    rest_to: u64,
    ids: Ids,
    events: u64,
}

impl Subscriber {
    /// A subscriber that is listed there and has everything up to `cursor`.
    pub fn new(
        owner: u32,
        (namespace, slot): (NamespaceId, u32),
        form: Form,
        cursor: u64,
        ids: Ids,
    ) -> Subscriber {
        Subscriber {
            owner,
            namespace,
            slot,
            form,
            is_ending: false,
            taken: 0,
            cursor,
            rest_to: 0,
            ids,
            events: 0,
        }
    }

    /// It has taken so many bytes of a batch that begins behind `from`; how many events are complete with them.
    pub fn handle_written(&mut self, from: u64, batch: &Batch, taken: usize) -> u64 {
        let taken = self.taken as usize + taken;
        if taken < batch.len() {
            self.cursor = from;
            self.taken = taken as u32;
            self.rest_to = batch.to();
            return 0;
        }
        self.taken = 0;
        self.cursor = batch.to();
        self.events += batch.events();
        batch.events()
    }

    /// Whether a replay has ended: its last event is complete, and further ones have no positions.
    pub fn poll_caught_up(&mut self) -> bool {
        let is_over = |number| self.cursor >= number && self.taken == 0;
        let has_caught_up = matches!(self.ids, Ids::Until(number) if is_over(number));
        if has_caught_up {
            self.ids = Ids::Never;
        }
        has_caught_up
    }

    /// Another's leaving has moved it to this slot.
    pub fn handle_moved(&mut self, slot: u32) {
        self.slot = slot;
    }

    /// It is to get nothing more than what was begun.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// What its user knows it by.
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// What it is subscribed to, and its slot in the list there.
    pub fn listed_at(&self) -> (NamespaceId, u32) {
        (self.namespace, self.slot)
    }

    /// Whether it is to get nothing more than what was begun.
    pub fn is_ending(&self) -> bool {
        self.is_ending
    }

    /// Where the batch ends that was begun, if one was.
    pub fn rest(&self) -> Option<u64> {
        (self.taken > 0).then_some(self.rest_to)
    }

    /// How many bytes it has of that batch.
    pub fn taken(&self) -> usize {
        self.taken as usize
    }

    /// It has everything up to here.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// It will have everything up to here once what was begun is complete.
    pub fn place(&self) -> u64 {
        self.rest().unwrap_or(self.cursor)
    }

    /// Events sent.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// The form that its next events take.
    pub fn format(&self) -> Format {
        Format {
            coding: self.form.coding,
            ids: self.ids != Ids::Never,
            named: self.form.named,
        }
    }
}
