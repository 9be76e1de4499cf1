//! The row: the status of this node in Redis, where the admin service reads it. It owns when the row is written and
//! removed; it must not know how.

use crate::broker::Store;
use crate::limits;
use crate::time::Time;

/// What to do with our row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Write it.
    Write,
    /// Remove it.
    Remove,
}

/// The row of this process.
pub struct Row {
    write_at: Time,
    is_written: bool,
    is_removed: bool,
    /// When the process was asked to stop.
    stopped_at: Option<Time>,
}

impl Default for Row {
    fn default() -> Row {
        Row {
            write_at: Time::ZERO + limits::REPORT_INTERVAL,
            is_written: false,
            is_removed: false,
            stopped_at: None,
        }
    }
}

impl Row {
    /// The process was asked to stop.
    pub fn handle_stop(&mut self, now: Time) {
        self.stopped_at = Some(now);
    }

    /// What is due, if anything.
    pub fn poll(&mut self, store: Store, now: Time) -> Option<Due> {
        if self.stopped_at.is_some() {
            return (!self.is_removed).then_some(Due::Remove);
        }
        if !is_up(store) || self.write_at > now {
            return None;
        }
        self.write_at = now.next_beat(limits::REPORT_INTERVAL);
        Some(Due::Write)
    }

    /// The due command has been sent.
    pub fn handle_sent(&mut self, due: Due) {
        match due {
            Due::Write => self.is_written = true,
            Due::Remove => self.is_removed = true,
        }
    }

    /// When something is due, or the process stops waiting for the removal.
    pub fn deadline(&self, store: Store, now: Time) -> Option<Time> {
        match self.stopped_at {
            None => Some(self.write_at).filter(|_| is_up(store)),
            Some(at) => Some(at + limits::ROW_REMOVAL_DEADLINE).filter(|&at| at > now),
        }
    }

    /// Whether the process may exit: the row is removed, or the wait has timed out.
    pub fn is_settled(&self, store: Store, now: Time) -> bool {
        let is_late = |at: Time| at + limits::ROW_REMOVAL_DEADLINE <= now;
        match store {
            Store::None => true,
            _ if self.stopped_at.is_none_or(is_late) => true,
            Store::Sending => false,
            Store::Down => self.is_removed || !self.is_written,
            Store::Idle => self.is_removed,
        }
    }
}

/// Whether the command connection is up.
fn is_up(store: Store) -> bool {
    matches!(store, Store::Sending | Store::Idle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_written_at_intervals_and_removed_at_the_end() {
        let mut row = Row::default();
        let mut now = Time::ZERO + limits::REPORT_INTERVAL;
        assert_eq!(row.poll(Store::Down, now), None);
        assert_eq!(row.deadline(Store::Down, now), None);
        assert_eq!(row.poll(Store::Idle, now), Some(Due::Write));
        assert_eq!(row.poll(Store::Idle, now), None);
        row.handle_sent(Due::Write);
        now = now + limits::REPORT_INTERVAL;
        assert_eq!(row.deadline(Store::Idle, now), Some(now));
        row.handle_stop(now);
        assert_eq!(row.poll(Store::Down, now), Some(Due::Remove));
        for store in [Store::Down, Store::Idle, Store::Sending] {
            assert!(!row.is_settled(store, now), "{store:?}: it is written");
        }
        row.handle_sent(Due::Remove);
        assert_eq!(row.poll(Store::Idle, now), None);
        assert!(row.is_settled(Store::Idle, now));
        assert!(!row.is_settled(Store::Sending, now), "not sent yet");
        now = now + limits::ROW_REMOVAL_DEADLINE;
        assert!(row.is_settled(Store::Sending, now), "waited for");
    }

    #[test]
    fn the_process_does_not_wait_for_a_row_that_was_never_written() {
        let mut row = Row::default();
        row.handle_stop(Time::ZERO);
        assert!(row.is_settled(Store::None, Time::ZERO));
        assert!(row.is_settled(Store::Down, Time::ZERO));
    }
}
