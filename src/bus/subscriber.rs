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
    /// Its events have their positions until it has everything up to here: the end of a replay, or the greatest number
    /// where all have them, or zero.
    ids_until: u64,
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
        ids_until: u64,
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
            ids_until,
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
        self.events += batch.events();
        batch.events()
    }

    /// Whether a replay has ended: its last event is complete, and further ones have no positions.
    pub fn poll_caught_up(&mut self) -> bool {
        let is_over = self.taken == 0 && self.cursor >= self.ids_until;
        is_over && std::mem::take(&mut self.ids_until) > 0
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

    /// Whether its next events have their positions.
    pub fn has_ids(&self) -> bool {
        self.ids_until > 0
    }
}
