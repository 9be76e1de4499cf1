//! Subscribers: a place on the number line each. It owns how a write moves the place; it must not know what the bytes of
//! a range are.

use super::batch::{Batch, Format};
use super::namespace::NamespaceId;

/// What the bus knows of a subscriber.
pub struct Subscriber {
    owner: u32,
    namespace: NamespaceId,
    /// Its slot in the namespace's list.
    slot: u32,
    format: Format,
    /// It gets nothing more but what was begun.
    is_ending: bool,
    /// How many bytes it has of the batch that was begun; zero where none was.
    taken: u32,
    /// Everything up to here was sent. The cursor of a subscriber that lacks nothing may lag behind, because messages of
    /// other namespaces do not move it: see `Visit::from`.
    cursor: u64,
    /// Where the batch ends that was begun.
    unfinished_to: u64,
    /// It came back, and has not forgotten its position yet: it does with the event with which it has everything up to
    /// here. Zero where there is nothing to forget, or where each event has its position.
    replay_to: u64,
    events: u64,
}

/// There is one for each idle client.
const _: () = assert!(size_of::<Subscriber>() <= 56);

impl Subscriber {
    /// A subscriber that is listed there and has everything up to `cursor`.
    pub fn new(
        owner: u32,
        (namespace, slot): (NamespaceId, u32),
        format: Format,
        cursor: u64,
        replay_to: u64,
    ) -> Subscriber {
        Subscriber {
            owner,
            namespace,
            slot,
            format,
            is_ending: false,
            taken: 0,
            cursor,
            unfinished_to: 0,
            replay_to,
            events: 0,
        }
    }

    /// It has taken so many bytes of a batch that begins after `from`; how many events are complete with them.
    pub fn handle_written(&mut self, from: u64, batch: &Batch, taken: usize) -> u64 {
        let taken = self.taken as usize + taken;
        if taken < batch.len() {
            self.cursor = from;
            self.taken = taken as u32;
            self.unfinished_to = batch.to();
            return 0;
        }
        self.taken = 0;
        self.cursor = batch.to();
        if batch.events() > 0 && self.replay_to <= self.cursor {
            self.replay_to = 0;
        }
        self.events += batch.events();
        batch.events()
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
    pub fn unfinished_to(&self) -> Option<u64> {
        (self.taken > 0).then_some(self.unfinished_to)
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
        self.unfinished_to().unwrap_or(self.cursor)
    }

    /// Events sent.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// In which form it takes events.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Up to where a range of its events that begins after `from` is a replay. Wherever that was to end before, the first
    /// event ends it, so that those who came back and lack nothing share a batch.
    pub fn replay_to(&self, from: u64) -> u64 {
        match self.replay_to {
            0 => 0,
            to => to.max(from + 1),
        }
    }
}
