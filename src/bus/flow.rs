//! Flow: how much has been taken from the source and not yet been offered to everybody. It owns when the source has to
//! wait; it must not know what is offered.

use crate::limits::{LOG_UNFLUSHED_PART, PACED_BYTES_MAX, SOURCE_HOLD_MAX};
use crate::time::Time;

/// Bytes on their way: what they take when they are written, and what the log has grown by for them.
pub struct Flow {
    /// Bytes of all that was ever taken.
    taken: u64,
    /// What `taken` was when every subscriber whose socket had room last had everything.
    offered: u64,
    /// What `taken` was at the last tick.
    ticked: u64,
    /// Since when the source has been made to wait for that.
    waiting_since: Option<Time>,
    bytes_max: u64,
}

impl Flow {
    /// Nothing is on its way. The log has room for `log_bytes_max`.
    pub fn new(log_bytes_max: usize) -> Flow {
        Flow {
            taken: 0,
            offered: 0,
            ticked: 0,
            waiting_since: None,
            bytes_max: log_bytes_max as u64 / LOG_UNFLUSHED_PART,
        }
    }

    /// Begins a turn.
    pub fn begin_turn(&mut self, now: Time) {
        if self.wants_messages() {
            self.waiting_since = None;
        } else if now.since(*self.waiting_since.get_or_insert(now)) >= SOURCE_HOLD_MAX {
            // Some are too slow for what comes. They must not hold it back from everybody else.
            self.offered = self.taken;
            self.waiting_since = None;
        }
    }

    /// So many bytes were taken.
    pub fn take(&mut self, len: usize) {
        self.taken += len as u64;
    }

    /// What waited for a tick waits no longer.
    pub fn tick(&mut self) {
        self.ticked = self.taken;
    }

    /// Everybody who can take anything has everything, or everything up to the last tick where more waits for the
    /// next one.
    pub fn all_offered(&mut self, awaits_tick: bool) {
        self.offered = match awaits_tick {
            true => self.ticked.max(self.offered),
            false => self.taken,
        };
    }

    /// Whether messages should be taken from the source now. While those that are here have not been offered to
    /// everybody, a burst must not push them out of the log: it waits in the source's socket, but not for long.
    pub fn wants_messages(&self) -> bool {
        self.on_way() < self.bytes_max
    }

    /// Whether too much is on its way for a pass to wait for more.
    pub fn is_late(&self) -> bool {
        self.on_way() >= PACED_BYTES_MAX as u64
    }

    fn on_way(&self) -> u64 {
        self.taken - self.offered
    }
}
