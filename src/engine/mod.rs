//! The engine: every decision of the server. It is told what happened (`on_…`) and asked what to do
//! (`poll_…`); it owns all state of clients and messages, and makes no system call.
//!
//! A turn goes: [`Engine::start_turn`], the events, [`Engine::on_time`], then [`Engine::poll_read`],
//! [`Engine::poll_write`] and [`Engine::poll_effect`] until each has nothing more, in this order, and
//! [`Engine::end_turn`].

mod addresses;
mod channels;
mod cleanup;
mod conn;
mod endings;
mod fanout;
mod invariants;
mod messages;
mod publications;
mod requests;
mod route;
pub mod settings;
mod snapshot;
pub mod stats;
mod subscriptions;
mod timers;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

pub use cleanup::CLEANUP_CHANNEL;
pub use conn::Key;
pub use fanout::Write;
pub use messages::{KIOSK_CHANNEL_PREFIX, SCORE_CHANNEL, TWEET_CHANNEL_PREFIX, is_own_channel};
pub use publications::published;
pub use route::Document;
pub use settings::Settings;
pub use stats::{CloseReason, Snapshot};

use crate::bus::{self, Bus, Stream, sse};
use crate::level::Level;
use crate::limits;
use crate::random::Random;
use crate::time::Time;
use addresses::Addresses;
use conn::{Conn, Conns, Phase, WriteState};
use endings::Farewell;
use fanout::InFlight;
use stats::Counters;
use timers::Timers;

/// What the engine wants done beside reading and writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Close the socket; the key is not used again.
    Close(Key),
    /// Send our end, and keep reading.
    ShutdownWrite(Key),
    /// Have a message published on each of these channels, and give the answer to [`Engine::on_rendered`].
    Submit {
        /// Who waits for the answer.
        key: Key,
        /// At least one.
        channels: Vec<String>,
        /// What.
        message: String,
    },
    /// Make a document, and give it to [`Engine::on_rendered`].
    Render(Key, Document),
    /// Ask the source for a channel, or for all that match a pattern.
    Listen {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Which of the two.
        is_pattern: bool,
    },
    /// Ask for it no longer.
    Unlisten {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Which of the two.
        is_pattern: bool,
    },
    /// Send this to the other copies of the server, on this channel.
    Publish(&'static str, Vec<u8>),
    /// Write a line to the log.
    Log(Level, String),
}

/// Everything the server knows of its clients and messages.
pub struct Engine {
    settings: Settings,
    now: Time,
    unix_seconds: u64,
    startup_time: u64,
    started_at: Time,
    conns: Conns,
    bus: Bus,
    /// Channels and patterns that the source was asked for.
    listened: BTreeSet<Box<[u8]>>,
    /// How often the source was asked for a channel, or no longer for one.
    asked: u64,
    /// How often it has answered; meaningless where there is none that answers.
    heard: u64,
    /// Whether there is a source that answers.
    source_answers: bool,
    /// Streams that begin when the source has answered so often, or at this moment at the latest, in order.
    held: VecDeque<(u64, Time, Key)>,
    /// Subscribers that are not read from until this moment, because they have sent too much; in order.
    pauses: VecDeque<(Time, Key)>,
    /// Bytes held of bodies whose senders have not shown a key yet.
    unproven_bytes: usize,
    /// Whether the source has been away since it was last known to be there.
    source_was_away: bool,
    timers: Timers,
    addresses: Addresses,
    random: Random,
    counters: Counters,
    /// Connections that may have something to be read; each once.
    read_queue: VecDeque<Key>,
    /// Connections to be written to by themselves; each once, and none of them blocked.
    write_queue: VecDeque<Key>,
    effects: VecDeque<Effect>,
    /// Whether a client that is written to by itself has the next write, rather than a pass.
    queue_is_next: bool,
    reads_left: usize,
    /// Writes left in this turn to clients that are written to by themselves, and in passes.
    queue_writes_left: usize,
    pass_writes_left: usize,
    /// The write that was handed out and not yet answered.
    in_flight: Option<InFlight>,
    /// Who is still to be sent away, once the process was asked to end.
    farewell: Farewell,
    stopping: bool,
}

impl Engine {
    /// An engine without clients, at the moment `now`.
    pub fn new(settings: Settings, now: Time, unix_seconds: u64) -> Engine {
        let spans = [settings.pacing.keepalive, limits::REQUEST_DEADLINE];
        Engine {
            now,
            unix_seconds,
            startup_time: unix_seconds,
            started_at: now,
            conns: Conns::default(),
            bus: Bus::new(&bus::Options {
                epoch: settings.epoch,
                log_bytes_max: settings.pacing.log_bytes_max,
                paced_subscribers_min: settings.pacing.paced_subscribers_min,
            }),
            listened: BTreeSet::new(),
            asked: 0,
            heard: 0,
            source_answers: false,
            held: VecDeque::new(),
            pauses: VecDeque::new(),
            unproven_bytes: 0,
            source_was_away: false,
            timers: Timers::new(&spans),
            addresses: Addresses::default(),
            random: Random::new(settings.epoch),
            counters: Counters::default(),
            read_queue: VecDeque::new(),
            write_queue: VecDeque::new(),
            effects: VecDeque::new(),
            queue_is_next: false,
            reads_left: 0,
            queue_writes_left: 0,
            pass_writes_left: 0,
            in_flight: None,
            farewell: Farewell::default(),
            stopping: false,
            settings,
        }
    }

    /// Begins a turn: the one moment that it takes place at, and fresh budgets.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        debug_assert!(now >= self.now, "the clock must not go back");
        self.now = now;
        self.unix_seconds = unix_seconds;
        self.reads_left = self.settings.pacing.reads_per_turn;
        self.queue_writes_left = self.settings.pacing.writes_per_turn.div_ceil(2);
        self.pass_writes_left = self.settings.pacing.writes_per_turn.div_ceil(2);
        self.bus.begin_turn(now);
    }

    /// Ends a turn, whose last write has been answered at the moment `now`.
    pub fn end_turn(&mut self, now: Time) {
        self.bus.end_turn(now);
    }

    /// When the engine must be called again, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.bus.line().deadline(),
            self.held.front().map(|&(_, until, _)| until),
            self.pauses.front().map(|&(until, _)| until),
            self.timers.next(),
            self.farewell.next_at,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether something is left that needs no event: the next turn must not wait.
    pub fn has_work(&self) -> bool {
        !self.read_queue.is_empty()
            || !self.write_queue.is_empty()
            || !self.effects.is_empty()
            || self.bus.line().has_visits()
            || self.bus.line().registry().has_turned()
    }

    /// Whether messages should be taken from the source now. While those that are here have not been
    /// offered to everybody, a burst must not push them out of the log: it waits in the source's socket,
    /// but not for long.
    pub fn wants_messages(&self) -> bool {
        self.bus.line().wants_messages()
    }

    /// Whether somebody subscribes to anything but scores.
    pub fn wants_tweets(&self) -> bool {
        !self
            .bus
            .line()
            .registry()
            .has_only(&[Stream::Raw, Stream::Eps])
    }

    /// Until when the source may be left alone, because all that it could bring would wait for the next tick:
    /// a busy stream of score updates then costs one wake-up a tick, and not one for each update. When that
    /// moment has come, the source is read, and what it brought is sent in the same turn.
    pub fn rest_until(&self) -> Option<Time> {
        self.bus.line().rest_until()
    }

    /// The source has more to say than can be taken at a tick, or has ended: it is read as it comes.
    pub fn end_rest(&mut self) {
        self.bus.end_rest();
    }

    /// Does what has become due.
    pub fn on_time(&mut self) {
        self.bus.handle_time();
        self.release_held();
        self.end_pauses();
        self.send_away();
        while let Some((at, key)) = self.timers.pop(self.now) {
            if let Some(conn) = self.conns.get_mut(key)
                && conn.armed_at == Some(at)
            {
                conn.armed_at = None;
                self.on_deadline(key);
            }
        }
    }

    /// A connection was accepted, through the admin's door or the public one.
    pub fn on_accept(&mut self, client_ip: IpAddr, is_admin: bool) -> Key {
        let deadline = self.now + limits::REQUEST_DEADLINE;
        let conn = Conn::new(client_ip, is_admin, self.now, deadline);
        let key = self.conns.insert(conn);
        self.counters.accepted += 1;
        self.queue_read(key);
        self.arm(key);
        key
    }

    /// The socket has become readable.
    pub fn on_readable(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.readable = true;
            self.queue_read(key);
        }
    }

    /// The socket has become writable.
    pub fn on_writable(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.write == WriteState::Blocked
        {
            conn.write = WriteState::Idle;
            self.queue_write(key);
            // It is due sooner now: silence is shorter than patience.
            self.arm(key);
        }
    }

    /// The socket is dead in both directions. What was received before is still read.
    pub fn on_hangup(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.hung_up = true;
            conn.readable = true;
            self.queue_read(key);
        }
    }

    /// The next connection to read from. Each answer must be followed by one of `on_input`, `on_drained`,
    /// `on_end` and `on_failure`.
    ///
    /// The second number is how many bytes there is room for.
    pub fn poll_read(&mut self) -> Option<(Key, usize)> {
        while self.reads_left > 0 {
            let key = self.read_queue.pop_front()?;
            if let Some(conn) = self.conns.get_mut(key) {
                conn.in_read_queue = false;
                if conn.readable && conn.wants_input() {
                    self.reads_left -= 1;
                    return Some((key, conn.room()));
                }
            }
        }
        None
    }

    /// The socket has nothing more to be read for now.
    pub fn on_drained(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key) {
            conn.readable = false;
            let is_idle = matches!(&conn.phase, Phase::Reading(reading) if reading.is_idle());
            if self.stopping && is_idle && conn.outbox.is_empty() {
                self.close(key, CloseReason::Drain);
            } else if conn.hung_up {
                let reason = conn.reason_of_hangup();
                self.close(key, reason);
            }
        }
    }

    /// The next thing to do that is neither a read nor a write.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.update_demand();
        let effect = self.effects.pop_front()?;
        if let Effect::Close(key) = effect {
            // Only now may the place be taken again: until here, events of this turn could name it.
            self.conns.remove(key);
        }
        Some(effect)
    }

    /// Whether another connection can be accepted through the admin's door or the public one: some descriptors
    /// are left for other things.
    pub fn has_room(&self, is_admin: bool) -> bool {
        let sockets_max = match is_admin {
            true => self.settings.admission.sockets_max,
            false => self.settings.admission.public_sockets_max,
        };
        self.conns.len() < sockets_max
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.bus.line().registry().subscribers()
    }

    /// Messages, and who gets them.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Looks at a connection whose time may have come.
    fn on_deadline(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let due = conn.due_at(&self.settings);
        let is_lifetime = conn.ends_at == Some(due) && conn.subscription().is_some();
        let slack = if is_lifetime {
            limits::LIFETIME_SLACK
        } else {
            limits::TIMER_SLACK
        };
        if due > self.now + slack {
            self.arm(key);
            return;
        }
        match &conn.phase {
            Phase::Subscribed(_) if is_lifetime => {
                self.dismiss(key, CloseReason::Lifetime, None);
            }
            Phase::Subscribed(subscription) if subscription.poll.is_some() => {
                self.answer_poll(key, &[]);
            }
            Phase::Subscribed(_) if conn.write == WriteState::Blocked => {
                self.close(key, CloseReason::Slow);
            }
            Phase::Subscribed(_) => {
                self.send_comment(key);
                // Silence is counted from the write, which is still to come.
                if let Some(conn) = self.conns.get_mut(key) {
                    let due = self.now + self.settings.pacing.keepalive;
                    let due = conn.ends_at.map_or(due, |at| at.min(due));
                    conn.armed_at = Some(self.timers.arm(key, due, self.now));
                }
            }
            Phase::Reading(_) if !conn.outbox.is_empty() => self.close(key, CloseReason::Slow),
            Phase::Reading(reading) if reading.is_idle() => self.close(key, CloseReason::Idle),
            Phase::Reading(_) => self.refuse_late(key),
            Phase::Draining { reason, .. } | Phase::Lingering(reason) => {
                let reason = *reason;
                self.close(key, reason);
            }
            Phase::Closed => {}
        }
    }

    /// Makes sure that the connection is looked at when, by its present state, it is due.
    fn arm(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let due = conn.due_at(&self.settings);
        if conn.armed_at.is_none_or(|at| at > due) {
            conn.armed_at = Some(self.timers.arm(key, due, self.now));
        }
    }

    /// Sends a comment: it keeps routers from closing a silent stream, and finds out whether the client
    /// is still there.
    fn send_comment(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && let Some(subscription) = conn.subscription()
        {
            let coding = subscription.coding;
            coding.encode(conn.outbox.buffer(), sse::COMMENT);
            self.queue_write(key);
        }
    }

    fn queue_read(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.readable
            && !conn.in_read_queue
            && conn.wants_input()
        {
            conn.in_read_queue = true;
            self.read_queue.push_back(key);
        }
    }

    fn queue_write(&mut self, key: Key) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.write == WriteState::Idle
        {
            conn.write = WriteState::Queued;
            self.write_queue.push_back(key);
        }
    }
}

impl Conn {
    /// How many bytes of input there is room for: a request must fit, anything else is discarded.
    fn room(&self) -> usize {
        match &self.phase {
            Phase::Reading(reading) => limits::HEAD_BYTES_MAX - reading.buffer.len(),
            Phase::Subscribed(_) => limits::SUBSCRIBER_BYTES_MAX.into(),
            _ => limits::READ_BYTES,
        }
    }

    /// Why a connection ends whose socket is dead: what we were doing, or else what the client did.
    pub(super) fn reason_of_hangup(&self) -> CloseReason {
        match &self.phase {
            Phase::Draining { reason, .. } | Phase::Lingering(reason) => *reason,
            _ if self.peer_ended => CloseReason::Client,
            _ => CloseReason::Reset,
        }
    }

    /// Whether bytes of the client would be taken. While it does not take its replies, its further
    /// requests stay in the kernel.
    fn wants_input(&self) -> bool {
        match &self.phase {
            Phase::Reading(reading) => {
                !self.peer_ended
                    && self.has_been_answered()
                    && reading.buffer.len() < limits::HEAD_BYTES_MAX
            }
            // What a dead socket has left is read to its end, which is near.
            Phase::Subscribed(_) => !self.chatter.is_paused() || self.hung_up,
            Phase::Draining { .. } | Phase::Lingering(_) => true,
            Phase::Closed => false,
        }
    }

    /// Whether the last reply was sent, and its place in the write queue was used up: a request that is taken
    /// then finds a connection that nothing writes to.
    fn has_been_answered(&self) -> bool {
        self.outbox.is_empty() && self.write == WriteState::Idle
    }

    /// When something must be done about this connection if nothing happens before.
    fn due_at(&self, settings: &Settings) -> Time {
        match &self.phase {
            Phase::Subscribed(_) => {
                let span = if self.write == WriteState::Blocked {
                    limits::PATIENCE
                } else {
                    settings.pacing.keepalive
                };
                let due = self.progress_at + span;
                self.ends_at.map_or(due, |at| at.min(due))
            }
            Phase::Reading(_) if self.outbox.is_empty() => self.deadline,
            Phase::Reading(_) => self
                .deadline
                .max(self.progress_at + limits::REQUEST_DEADLINE),
            // Whoever is to come back must be told where it stood, however slowly it listens.
            Phase::Draining {
                reason: CloseReason::Lifetime,
                ..
            } => self.progress_at + limits::PATIENCE,
            Phase::Draining { .. } => self.deadline.max(self.progress_at + limits::DRAIN_DEADLINE),
            Phase::Lingering(_) | Phase::Closed => self.deadline,
        }
    }
}
