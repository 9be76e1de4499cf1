//! The table of connections, and what they share: the moment of the turn, the queues, the timers, and what is to be
//! said to the table's owner. A place is freed only when its socket has been closed, and a key names the place's
//! holder, not the place, so that a late event finds nobody.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use slab::Slab;

use super::connection::Connection;
use super::event::{Action, Event, Key};
use super::reply::Reply;
use super::slot::{Phase, ReadState, Slot, State, WriteState};
use super::timers::Timers;
use crate::limits;
use crate::time::Time;

/// What a deployer may change about connections.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The longest silence on a stream, and the longest that a long poll waits.
    pub keepalive: Duration,
    /// Reads in one turn.
    pub reads_per_turn: usize,
}

/// All accepted sockets. See the module's description for the order of one turn.
pub struct Connections {
    slots: Slab<Slot>,
    /// Who is meant by the key of a connection that is gone. It is closed, so that nothing applies to it.
    nobody: Slot,
    accepted: u32,
    shared: Shared,
}

/// What connections share.
pub struct Shared {
    pub(super) options: Options,
    pub(super) now: Time,
    pub(super) unix_seconds: u64,
    reads_left: usize,
    /// Connections that may have something to be read; each once.
    pub(super) read_queue: VecDeque<Key>,
    /// Connections to be written to by themselves. One that is held meanwhile is skipped when its turn comes.
    pub(super) write_queue: VecDeque<Key>,
    pub(super) timers: Timers,
    /// Connections that are not read from until this moment, because they have sent too much; in order.
    pub(super) pauses: VecDeque<(Time, Key)>,
    pub(super) events: VecDeque<Event>,
    pub(super) actions: VecDeque<Action>,
    /// Bytes held of the bodies of clients that have not shown that they may send them.
    pub(super) unauthenticated_bytes: usize,
    /// Whether connections take no further request.
    pub(super) is_stopping: bool,
}

impl Connections {
    /// A table without connections, at the moment `now`.
    pub fn new(options: Options, now: Time) -> Connections {
        let nobody = Key {
            index: u32::MAX,
            generation: 0,
        };
        Connections {
            slots: Slab::new(),
            nobody: Slot::new(nobody, Ipv4Addr::UNSPECIFIED.into(), false, now),
            accepted: 0,
            shared: Shared {
                options,
                now,
                unix_seconds: 0,
                reads_left: 0,
                read_queue: VecDeque::new(),
                write_queue: VecDeque::new(),
                timers: Timers::new(&[options.keepalive, limits::REQUEST_DEADLINE]),
                pauses: VecDeque::new(),
                events: VecDeque::new(),
                actions: VecDeque::new(),
                unauthenticated_bytes: 0,
                is_stopping: false,
            },
        }
    }

    /// Begins a turn: the one moment that it takes place at, and a fresh budget of reads.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        debug_assert!(now >= self.shared.now, "the clock must not go back");
        self.shared.now = now;
        self.shared.unix_seconds = unix_seconds;
        self.shared.reads_left = self.shared.options.reads_per_turn;
    }

    /// A connection was accepted, through the admin's door or the public one.
    pub fn accept(&mut self, peer_ip: IpAddr, is_admin: bool) -> Key {
        self.accepted = self.accepted.wrapping_add(1);
        let place = self.slots.vacant_entry();
        let key = Key {
            index: place.key() as u32,
            generation: self.accepted,
        };
        place.insert(Slot::new(key, peer_ip, is_admin, self.shared.now));
        self.at(key).begin();
        key
    }

    /// The connection of this name, to be told what has happened or was decided. Where it is gone, nothing becomes
    /// of that.
    pub fn at(&mut self, key: Key) -> Connection<'_> {
        let slot = self.slots.get_mut(key.index as usize);
        let slot = slot.filter(|slot| slot.key == key);
        Connection::new(slot.unwrap_or(&mut self.nobody), &mut self.shared)
    }

    /// Does what has become due.
    pub fn handle_time(&mut self) {
        while let Some(&(until, key)) = self.shared.pauses.front()
            && until <= self.shared.now
        {
            self.shared.pauses.pop_front();
            self.at(key).end_pause();
        }
        while let Some((at, key)) = self.shared.timers.pop(self.shared.now) {
            self.at(key).handle_timer(at);
        }
    }

    /// Takes no further requests. What was not read to its end is refused with this reply, and idle connections are
    /// closed; streams, long polls and requests that wait for their answers are left to the owner.
    pub fn stop(&mut self, refusal: &Reply) {
        self.shared.is_stopping = true;
        for (_, slot) in &mut self.slots {
            Connection::new(slot, &mut self.shared).stop(refusal);
        }
    }

    /// The next connection to read from, and how many bytes there is room for. Each answer must be followed by one
    /// of `handle_input`, `handle_read_would_block`, `handle_end` and `handle_failure`.
    pub fn poll_read(&mut self) -> Option<(Key, usize)> {
        while self.shared.reads_left > 0 {
            let key = self.shared.read_queue.pop_front()?;
            if let Some(room) = self.at(key).poll_read() {
                self.shared.reads_left -= 1;
                return Some((key, room));
            }
        }
        None
    }

    /// The next event. All are taken before the actions of the same turn.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// The next connection to be written to by itself. Each answer must be followed by one of
    /// `handle_outbox_written`, `handle_stream_written`, `handle_write_would_block`, `handle_nothing_to_write`,
    /// `handle_failure` and `close`, or by the answer to a long poll.
    pub fn poll_write(&mut self) -> Option<Key> {
        loop {
            let key = self.shared.write_queue.pop_front()?;
            if self.at(key).poll_write() {
                return Some(key);
            }
        }
    }

    /// The next thing to be done with a socket.
    pub fn poll_action(&mut self) -> Option<Action> {
        debug_assert!(self.shared.events.is_empty(), "events come before actions");
        let action = self.shared.actions.pop_front()?;
        if let Action::Close(key) = action {
            // Only now may the place be taken again: until here, events of this turn could name it.
            self.slots.remove(key.index as usize);
        }
        Some(action)
    }

    /// When `handle_time` must be called again, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        let pauses = self.shared.pauses.front().map(|&(until, _)| until);
        pauses.into_iter().chain(self.shared.timers.next()).min()
    }

    /// Whether something is left that needs no event: the next turn must not wait.
    pub fn has_work(&self) -> bool {
        let queues = [&self.shared.read_queue, &self.shared.write_queue];
        queues.into_iter().any(|queue| !queue.is_empty())
            || !self.shared.events.is_empty()
            || !self.shared.actions.is_empty()
    }

    /// Whether there is something to be decided or taken note of.
    pub fn has_events(&self) -> bool {
        !self.shared.events.is_empty()
    }

    /// Whether somebody may have to be written to by itself.
    pub fn has_writes(&self) -> bool {
        !self.shared.write_queue.is_empty()
    }

    /// How many sockets there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What a connection is doing.
    pub fn phase(&self, key: Key) -> Phase {
        self.slot(key).phase()
    }

    /// Where a connection comes from, which may be a proxy, and whether it came through the admin's door.
    pub fn peer(&self, key: Key) -> (IpAddr, bool) {
        let slot = self.slot(key);
        (slot.peer_ip, slot.is_admin)
    }

    /// Bytes that this client is sent before anything that it has not begun to receive, or the first part of them.
    pub fn outbox(&self, key: Key) -> &[u8] {
        self.slot(key).outbox.unsent()
    }

    /// Whether a stream or a long poll has taken all that it was offered, so that what is new is sent to it together
    /// with others.
    pub fn is_caught_up(&self, key: Key) -> bool {
        let slot = self.slot(key);
        slot.is_subscribed() && slot.write == WriteState::Idle
    }

    /// Whether nothing is written to a connection before it is released.
    pub fn is_held(&self, key: Key) -> bool {
        self.slot(key).write == WriteState::Held
    }

    /// The present holder of a place, for whoever keeps places alone.
    pub fn holder_of(&self, index: u32) -> Option<Key> {
        Some(self.slots.get(index as usize)?.key)
    }

    /// Panics with the invariant's name where one is broken. All hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        let count = |queue: &VecDeque<Key>, key| queue.iter().filter(|&&it| it == key).count();
        let mut unauthenticated_bytes = 0;
        for (_, slot) in &self.slots {
            unauthenticated_bytes += slot.unauthenticated();
            if slot.phase() == Phase::Closed {
                continue;
            }
            let key = slot.key;
            if let State::Streaming(_, intake) | State::Polling(intake, _) = &slot.state {
                let is_waiting = self.shared.pauses.iter().any(|&(_, paused)| paused == key);
                assert_eq!(
                    intake.is_paused(),
                    is_waiting,
                    "{key:?} is paused, or is not"
                );
            }
            let reads = count(&self.shared.read_queue, key);
            let is_queued = slot.read == ReadState::Queued;
            assert_eq!(reads, usize::from(is_queued), "{key:?} in the read queue");
            let has_place = count(&self.shared.write_queue, key) > 0;
            let is_queued = slot.write == WriteState::Queued;
            assert!(has_place || !is_queued, "{key:?} is not in the write queue");
            assert!(slot.armed_at.is_some(), "{key:?} has no deadline");
            let is_at_rest = slot.write == WriteState::Idle;
            assert!(
                !is_at_rest || slot.outbox.is_empty(),
                "{key:?} is not sent its outbox"
            );
        }
        assert_eq!(unauthenticated_bytes, self.shared.unauthenticated_bytes);
    }

    fn slot(&self, key: Key) -> &Slot {
        let slot = self.slots.get(key.index as usize);
        slot.filter(|slot| slot.key == key).unwrap_or(&self.nobody)
    }
}
