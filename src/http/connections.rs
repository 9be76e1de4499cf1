//! The table of connections, and what they share: the time of the turn, the queues, the timers, and the events for the
//! table's owner. A place is freed only when its socket has been closed, and a key identifies a connection rather than a
//! place, so that a late event finds nobody.

use std::collections::VecDeque;
use std::mem;
use std::time::Duration;

use slab::Slab;

use super::CloseReason;
use super::connection::Connection;
use super::event::{Action, Event, Key, Origin};
use super::idle::Idle;
use super::reading::Reading;
use super::reply::Reply;
use super::slot::{NEVER, ReadState, Slot, State, WriteState};
use super::timers::Timers;
use crate::limits;
use crate::time::Time;

/// What a deployer may change about connections.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The longest silence on a stream, and the longest wait of a long poll.
    pub keepalive: Duration,
    /// How long a connection may be idle between two requests.
    pub idle: Duration,
    /// Reads in one turn.
    pub reads_per_turn: usize,
}

/// All accepted sockets. See the module's documentation for the order of a turn.
pub struct Connections {
    slots: Slab<Slot>,
    /// Stands for connections that are gone. It is closed, so that all commands are ignored.
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
    /// Connections that may have input; each once.
    pub(super) read_queue: VecDeque<Key>,
    /// Connections to be written to individually. Entries whose connection is not `Queued` any more are skipped.
    pub(super) write_queue: VecDeque<Key>,
    pub(super) timers: Timers,
    pub(super) idle: Idle,
    pub(super) events: VecDeque<Event>,
    pub(super) actions: VecDeque<Action>,
    /// Bytes of incomplete requests whose senders have not authenticated yet.
    pub(super) unauthenticated_bytes: usize,
    /// Whether each connection ends with the next reply.
    is_draining: bool,
    /// The reply to requests that come too late, once no further one is accepted.
    pub(super) refusal: Option<Reply>,
}

impl Shared {
    /// Whether a connection that holds so many unauthenticated bytes must give them up.
    pub(super) fn is_over_budget(&self, held: usize) -> bool {
        held > 0 && self.unauthenticated_bytes > limits::UNAUTHENTICATED_BYTES_MAX
    }

    /// Has a connection do something else until this deadline.
    pub(super) fn enter(&mut self, slot: &mut Slot, state: State, deadline: Time) {
        self.idle.remove(slot);
        slot.deadline = deadline;
        self.replace(slot, state);
        self.queue_read(slot);
        self.arm(slot);
    }

    pub(super) fn replace(&mut self, slot: &mut Slot, state: State) -> State {
        self.unauthenticated_bytes -= slot.unauthenticated();
        let before = mem::replace(&mut slot.state, state);
        self.idle.update(slot);
        self.unauthenticated_bytes += slot.unauthenticated();
        before
    }

    /// Changes what is held of a request that is being read, and counts it.
    pub(super) fn with_reading<T>(
        &mut self,
        slot: &mut Slot,
        change: impl FnOnce(&mut Reading) -> T,
    ) -> Option<T> {
        let State::Reading(reading) = &mut slot.state else {
            return None;
        };
        self.unauthenticated_bytes -= reading.unauthenticated();
        let result = change(reading);
        self.unauthenticated_bytes += reading.unauthenticated();
        Some(result)
    }

    /// Whether the next request may follow.
    pub(super) fn keeps_alive(&self, reading: &Reading) -> bool {
        reading.keep_alive() && !self.is_draining
    }

    pub(super) fn emit(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Has a connection read from, if it may have input that is wanted.
    pub(super) fn queue_read(&mut self, slot: &mut Slot) {
        if slot.read == ReadState::Readable && slot.room() > 0 {
            slot.read = ReadState::Queued;
            self.idle.update(slot);
            self.read_queue.push_back(slot.key);
        }
    }

    /// Has a connection written to, unless it is held, or the kernel has to take something first.
    pub(super) fn queue_write(&mut self, slot: &mut Slot) {
        if slot.write == WriteState::Idle {
            slot.write = WriteState::Queued;
            self.write_queue.push_back(slot.key);
        }
    }

    /// Makes sure that a connection's timer fires when, in its present state, something is due.
    pub(super) fn arm(&mut self, slot: &mut Slot) {
        let due = slot.due_at(self.options.keepalive);
        if slot.armed_at > due {
            self.arm_at(slot, due);
        }
    }

    pub(super) fn arm_at(&mut self, slot: &mut Slot, due: Time) {
        slot.armed_at = self.timers.arm(slot.key, due, self.now);
    }
}

impl Connections {
    /// An empty table.
    pub fn new(options: Options, now: Time) -> Connections {
        let nobody = Key {
            index: u32::MAX,
            generation: 0,
        };
        Connections {
            slots: Slab::new(),
            nobody: Slot::new(nobody, now),
            accepted: 0,
            shared: Shared {
                options,
                now,
                unix_seconds: 0,
                reads_left: 0,
                read_queue: VecDeque::new(),
                write_queue: VecDeque::new(),
                timers: Timers::default(),
                idle: Idle::default(),
                events: VecDeque::new(),
                actions: VecDeque::new(),
                unauthenticated_bytes: 0,
                is_draining: false,
                refusal: None,
            },
        }
    }

    /// Begins a turn with the current time and a new budget of reads.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        debug_assert!(now >= self.shared.now, "the clock must not go back");
        self.shared.now = now;
        self.shared.unix_seconds = unix_seconds;
        self.shared.reads_left = self.shared.options.reads_per_turn;
    }

    /// Adds a connection that was accepted.
    pub fn accept(&mut self, origin: Origin) -> Key {
        self.accepted = self.accepted.wrapping_add(1);
        let place = self.slots.vacant_entry();
        let key = Key {
            index: place.key() as u32,
            generation: self.accepted,
        };
        place.insert(Slot::new(key, self.shared.now));
        self.at(key).begin(Box::new(Reading::new(origin)));
        key
    }

    /// If there are more than so many, closes the one that has been idle between two requests for the longest time.
    pub fn make_room(&mut self, most: usize) {
        if self.slots.len() > most
            && let Some(key) = self.shared.idle.first()
        {
            self.at(key).close(CloseReason::Crowded);
        }
    }

    /// The connection with this key. If it is gone, calls have no effect.
    pub fn at(&mut self, key: Key) -> Connection<'_> {
        let slot = self.slots.get_mut(key.index as usize);
        let slot = slot.filter(|slot| slot.key == key);
        Connection::new(slot.unwrap_or(&mut self.nobody), &mut self.shared)
    }

    /// Does what is due.
    pub fn handle_time(&mut self) {
        while let Some((at, key)) = self.shared.timers.pop(self.shared.now) {
            self.at(key).handle_timer(at);
        }
    }

    /// Ends each connection with its next reply.
    pub fn drain(&mut self) {
        self.shared.is_draining = true;
    }

    /// Accepts no further requests. Those that are incomplete are refused with this reply, and idle connections are
    /// closed; streams, long polls and requests that wait for their replies are left to the owner.
    pub fn stop(&mut self, refusal: &Reply) {
        self.drain();
        self.shared.refusal = Some(refusal.clone());
        for (_, slot) in &mut self.slots {
            Connection::new(slot, &mut self.shared).stop();
        }
    }

    /// The next connection to read from, and how many bytes are wanted. The outcome goes to `handle_input`,
    /// `handle_read_would_block`, `handle_end` or `handle_failure`.
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

    /// The next event. All events must be taken before the actions.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// The next connection to write to individually. The outcome goes to `handle_outbox_written`,
    /// `handle_stream_written`, `handle_write_would_block`, `handle_nothing_to_write` or `handle_failure`, unless the
    /// connection is closed or its long poll is answered.
    pub fn poll_write(&mut self) -> Option<Key> {
        loop {
            let key = self.shared.write_queue.pop_front()?;
            if self.at(key).poll_write() {
                return Some(key);
            }
        }
    }

    /// The next thing to do with a socket.
    pub fn poll_action(&mut self) -> Option<Action> {
        debug_assert!(self.shared.events.is_empty(), "events come before actions");
        let action = self.shared.actions.pop_front()?;
        if let Action::Close(key) = action {
            // Not earlier, because events of this turn could still refer to the place.
            self.slots.remove(key.index as usize);
        }
        Some(action)
    }

    /// When `handle_time` must be called again.
    pub fn deadline(&self) -> Option<Time> {
        self.shared.timers.next()
    }

    /// Whether there is work that needs no readiness: the next turn must not wait.
    pub fn has_work(&self) -> bool {
        !self.shared.read_queue.is_empty()
            || !self.shared.write_queue.is_empty()
            || !self.shared.events.is_empty()
            || !self.shared.actions.is_empty()
    }

    /// Whether there are events.
    pub fn has_events(&self) -> bool {
        !self.shared.events.is_empty()
    }

    /// Whether a connection may have to be written to individually.
    pub fn has_writes(&self) -> bool {
        !self.shared.write_queue.is_empty()
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether a connection is idle between two requests.
    pub fn has_idle(&self) -> bool {
        self.shared.idle.first().is_some()
    }

    /// Where the request came from, if the connection has one that waits for a decision.
    pub fn request_from(&self, key: Key) -> Option<Origin> {
        match &self.slot(key).state {
            State::Rendering(reading) => Some(reading.origin),
            _ => None,
        }
    }

    /// Bytes for this client alone, or the first part of them. They go out before any event that was not begun.
    pub fn outbox(&self, key: Key) -> &[u8] {
        self.slot(key).outbox.unsent()
    }

    /// Whether a connection is a stream or a long poll.
    pub fn is_subscribed(&self, key: Key) -> bool {
        self.slot(key).is_subscribed()
    }

    /// Whether a connection is held.
    pub fn is_held(&self, key: Key) -> bool {
        self.slot(key).write == WriteState::Held
    }

    /// The stream or long poll in a place, if it has accepted all that it was offered: new events are sent to it in a pass.
    pub fn caught_up(&self, index: u32) -> Option<Key> {
        let slot = self.slots.get(index as usize)?;
        (slot.write == WriteState::Idle && slot.is_subscribed()).then_some(slot.key)
    }

    /// Checks what must hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        let count = |queue: &VecDeque<Key>, key| queue.iter().filter(|&&it| it == key).count();
        let (mut unauthenticated_bytes, mut idle) = (0, 0);
        for (_, slot) in &self.slots {
            unauthenticated_bytes += slot.unauthenticated();
            if matches!(slot.state, State::Closed) {
                continue;
            }
            let key = slot.key;
            let reads = count(&self.shared.read_queue, key);
            let is_queued = slot.read == ReadState::Queued;
            assert_eq!(reads, usize::from(is_queued), "{key:?} in the read queue");
            let has_place = count(&self.shared.write_queue, key) > 0;
            let is_queued = slot.write == WriteState::Queued;
            assert!(has_place || !is_queued, "{key:?} is not in the write queue");
            assert!(slot.armed_at < NEVER, "{key:?} has no deadline");
            idle += usize::from(slot.is_between_requests());
            assert_eq!(slot.is_between_requests(), self.shared.idle.contains(slot));
            let is_stuck = slot.write == WriteState::Idle && !slot.outbox.is_empty();
            assert!(!is_stuck, "{key:?} is not sent its outbox");
        }
        assert_eq!(unauthenticated_bytes, self.shared.unauthenticated_bytes);
        assert_eq!(idle, self.shared.idle.len());
    }

    #[cfg(test)]
    pub(super) fn state(&self, key: Key) -> &State {
        &self.slot(key).state
    }

    fn slot(&self, key: Key) -> &Slot {
        let slot = self.slots.get(key.index as usize);
        slot.filter(|slot| slot.key == key).unwrap_or(&self.nobody)
    }
}
