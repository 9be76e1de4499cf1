//! Doors: from which listening socket the next connection is accepted. It owns their order and pauses; it must not accept
//! anything itself.

use std::io;

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
    /// If connections wait at both doors, the public one is next: they alternate.
    is_public_next: bool,
    /// Accepting has failed for lack of descriptors or memory, and is not tried again until then, or until a connection
    /// closes.
    paused_until: Option<Time>,
    /// Accepting has failed since a door was last empty.
    is_failing: bool,
}

impl Doors {
    /// Connections may be waiting at a door.
    pub fn handle_acceptable(&mut self, door: Door) {
        *self.is_ready(door) = true;
    }

    /// The outcome of an attempt to accept a connection; returns an error that should be logged.
    pub fn handle_outcome<'a, T>(
        &mut self,
        door: Door,
        outcome: &'a io::Result<T>,
        now: Time,
    ) -> Option<&'a io::Error> {
        match outcome {
            Ok(_) => self.is_public_next = door == Door::Admin,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                *self.is_ready(door) = false;
                self.is_failing &= self.is_public_ready || self.is_admin_ready;
            }
            // The client has given up.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                self.paused_until = Some(now + limits::ACCEPT_RETRY);
                // It is logged when it begins, and not at each retry.
                let was_failing = std::mem::replace(&mut self.is_failing, true);
                return (!was_failing).then_some(error);
            }
        }
        None
    }

    /// A connection has closed, so that another one can be accepted.
    pub fn handle_close(&mut self) {
        self.paused_until = None;
    }

    /// Ends a pause that is over.
    pub fn handle_time(&mut self, now: Time) {
        self.paused_until = self.paused_until.filter(|&until| until > now);
    }

    /// The door to accept the next connection from, given which of them has room. Some places are reserved for the admin's
    /// door, so that a crowd at the public one cannot lock out administrators.
    pub fn next(&self, has_public_room: bool, has_admin_room: bool) -> Option<Door> {
        let is_public_open = self.is_public_ready && has_public_room;
        let is_admin_open = self.is_admin_ready && has_admin_room;
        if self.paused_until.is_some() {
            None
        } else if is_admin_open && !(is_public_open && self.is_public_next) {
            Some(Door::Admin)
        } else {
            is_public_open.then_some(Door::Public)
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
                let none = doors.handle_outcome(door, &Ok(()), Time::ZERO);
                assert!(none.is_none());
                came.push(if door == Door::Admin { 'a' } else { 'p' });
            }
            assert_eq!(came, expected, "{has_public_room} {has_admin_room}");
        }
    }

    #[test]
    fn a_failure_is_news_once_and_pauses_both_doors() {
        let mut doors = Doors::default();
        let now = Time::from_micros(1);
        let fails = |doors: &mut Doors, now, kind: io::ErrorKind| {
            let outcome: io::Result<()> = Err(kind.into());
            doors.handle_outcome(Door::Public, &outcome, now).is_some()
        };
        doors.handle_acceptable(Door::Public);
        assert!(!fails(&mut doors, now, io::ErrorKind::ConnectionAborted));
        assert!(fails(&mut doors, now, io::ErrorKind::OutOfMemory));
        assert_eq!(doors.next(true, true), None);
        let deadline = doors.deadline().expect("a pause");
        doors.handle_time(deadline);
        assert_eq!(doors.next(true, true), Some(Door::Public));
        let is_news = fails(&mut doors, deadline, io::ErrorKind::OutOfMemory);
        assert!(!is_news, "the same failure");
        doors.handle_close();
        assert_eq!(doors.next(true, true), Some(Door::Public));
        assert!(!fails(&mut doors, deadline, io::ErrorKind::WouldBlock));
        let is_news = fails(&mut doors, deadline, io::ErrorKind::OutOfMemory);
        assert!(is_news, "another one");
    }
}
