//! Doors: where the next connection is accepted from. It owns whose turn it is and when accepting pauses; it must not
//! accept one.

use crate::limits;
use crate::net::Door;
use crate::time::Time;

/// The listening sockets.
#[derive(Debug, Default)]
pub struct Doors {
    /// Connections may be waiting at the public door.
    is_public_ready: bool,
    /// Connections may be waiting at the admin's.
    is_admin_ready: bool,
    /// Where both wait, the public door is next: neither may keep the other waiting.
    is_public_next: bool,
    /// Accepting failed for want of descriptors or memory: not before then, or before one is closed.
    paused_until: Option<Time>,
    /// The last attempt to accept everybody who waits has failed.
    is_failing: bool,
}

impl Doors {
    /// Connections may be waiting at a door.
    pub fn handle_acceptable(&mut self, door: Door) {
        *self.is_ready(door) = true;
    }

    /// One was accepted.
    pub fn handle_accepted(&mut self, door: Door) {
        self.is_public_next = door == Door::Admin;
    }

    /// Nobody waits at a door any more.
    pub fn handle_empty(&mut self, door: Door) {
        *self.is_ready(door) = false;
        self.is_failing &= self.is_public_ready || self.is_admin_ready;
    }

    /// Accepting has failed; whether that is news.
    pub fn handle_failure(&mut self, now: Time) -> bool {
        self.paused_until = Some(now + limits::ACCEPT_RETRY);
        // Once for each time that it begins, however often it is tried again.
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// A descriptor was closed: whoever waits outside may come in.
    pub fn handle_close(&mut self) {
        self.paused_until = None;
    }

    /// Ends a pause that is over.
    pub fn handle_time(&mut self, now: Time) {
        self.paused_until = self.paused_until.filter(|&until| until > now);
    }

    /// The door that the next connection is to be accepted from, by whether there is room for one from each. The
    /// admin's has some places for itself: a crowd at the public one must not keep out who looks after the server.
    pub fn next(&self, has_public_room: bool, has_admin_room: bool) -> Option<Door> {
        let is_public_open = self.is_public_ready && has_public_room;
        let is_admin_open = self.is_admin_ready && has_admin_room;
        match (is_public_open, is_admin_open) {
            _ if self.paused_until.is_some() => None,
            (false, false) => None,
            (true, false) => Some(Door::Public),
            (false, true) => Some(Door::Admin),
            (true, true) if self.is_public_next => Some(Door::Public),
            (true, true) => Some(Door::Admin),
        }
    }

    /// When a pause is over.
    pub fn deadline(&self) -> Option<Time> {
        self.paused_until
    }

    fn is_ready(&mut self, door: Door) -> &mut bool {
        match door {
            Door::Public => &mut self.is_public_ready,
            Door::Admin => &mut self.is_admin_ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_take_turns_while_both_are_busy_and_have_room() {
        // Whether there is room for the public and for the admin, and who comes in of those who wait.
        for (has_public_room, has_admin_room, expected) in [
            (true, true, "apapap"),
            (false, true, "aaaaaa"),
            (true, false, "pppppp"),
            (false, false, ""),
        ] {
            let mut doors = Doors::default();
            doors.handle_acceptable(Door::Public);
            doors.handle_acceptable(Door::Admin);
            let mut came = String::new();
            while came.len() < 6
                && let Some(door) = doors.next(has_public_room, has_admin_room)
            {
                doors.handle_accepted(door);
                came.push(if door == Door::Admin { 'a' } else { 'p' });
            }
            assert_eq!(came, expected, "{has_public_room} {has_admin_room}");
        }
    }

    #[test]
    fn a_failure_is_news_once_and_pauses_both_doors() {
        let mut doors = Doors::default();
        let now = Time::from_micros(1);
        doors.handle_acceptable(Door::Public);
        assert!(doors.handle_failure(now));
        assert_eq!(doors.next(true, true), None);
        let deadline = doors.deadline().expect("a pause");
        doors.handle_time(deadline);
        assert_eq!(doors.next(true, true), Some(Door::Public));
        assert!(!doors.handle_failure(deadline), "the same failure");
        doors.handle_close();
        assert_eq!(doors.next(true, true), Some(Door::Public));
        doors.handle_empty(Door::Public);
        assert!(doors.handle_failure(deadline), "another one");
    }
}
