//! The reactor: the loop. It owns the order of one turn, and carries bytes between `net` and those who
//! decide (`engine`, `source`); it must not decide anything about a client or a message itself. What is
//! reported to whom is in `reports`.

mod exchange;
mod feed;
mod inquiry;
mod publications;
mod reports;

use std::io;
use std::time::Duration;

use crate::broker::link::Conversation;
use crate::engine::{CloseReason, Effect, Engine, Key};
use crate::level::Level;
use crate::limits;
use crate::net::{Door, Event, Net, Token};
use crate::time::Time;
pub use exchange::Exchange;
pub use feed::Feed;
use publications::{Publications, Submission};
pub use reports::{Graphite, Reports};

/// The loop over one network.
pub struct Reactor<N: Net> {
    net: N,
    engine: Engine,
    feed: Feed,
    exchange: Exchange,
    reports: Reports,
    publications: Publications,
    /// The moment of the turn.
    now: Time,
    /// When the last turn ended.
    turn_ended_at: Time,
    /// The source's socket does not wake us up.
    is_resting: bool,
    events: Vec<Event>,
    /// Where all reads go; nothing stays in it from one to the next.
    buffer: Box<[u8]>,
    listener: Listener,
    /// Set once we were asked to end: when we do so at the latest.
    stop_at: Option<Time>,
    /// When we were first asked to end.
    stopped_at: Option<Time>,
    /// We were asked again: at once.
    is_urgent: bool,
}

/// The listening sockets.
#[derive(Default)]
struct Listener {
    /// Connections may be waiting at the public door.
    is_public_ready: bool,
    /// The same for the admin's.
    is_admin_ready: bool,
    /// Accepting failed for want of descriptors or memory: not before then, or before one is closed.
    paused_until: Option<Time>,
    /// The last attempt to accept everybody who waits has failed.
    failing: bool,
}

impl Listener {
    /// Whether connections may be waiting at a door.
    fn is_ready(&mut self, door: Door) -> &mut bool {
        match door {
            Door::Public => &mut self.is_public_ready,
            Door::Admin => &mut self.is_admin_ready,
        }
    }

    /// Whether they may be at any.
    fn is_awaited(&self) -> bool {
        self.is_public_ready || self.is_admin_ready
    }
}

impl<N: Net> Reactor<N> {
    /// A loop that has not begun.
    pub fn new(net: N, engine: Engine, feed: Feed, reports: Reports) -> Reactor<N> {
        Reactor {
            net,
            engine,
            feed,
            exchange: Exchange::None,
            reports,
            publications: Publications::default(),
            now: Time::ZERO,
            turn_ended_at: Time::ZERO,
            is_resting: false,
            events: Vec::new(),
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            listener: Listener::default(),
            stop_at: None,
            stopped_at: None,
            is_urgent: false,
        }
    }

    /// The same with a broker beside the feed.
    pub fn with_exchange(self, exchange: Exchange) -> Reactor<N> {
        Reactor { exchange, ..self }
    }

    /// Turns until the process was asked to end and all clients are gone, or have had their time.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for events.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.turn()?;
        }
        self.say_how_it_ended();
        Ok(())
    }

    /// One pass of the loop, top to bottom.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for events.
    pub fn turn(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.net.poll(self.timeout(), &mut events)?;
        let now = self.net.now();
        self.now = now;
        self.engine.start_turn(now, self.net.unix_seconds());
        for event in events.drain(..) {
            self.dispatch(event, now);
        }
        self.events = events;
        self.accept(now);
        self.receive(now);
        self.receive_from_exchange();
        self.report();
        self.publish_waiting();
        self.expire_publications();
        self.engine.on_time();
        self.read_clients();
        self.apply_effects();
        // A client that sees its stream begin may have somebody publish at once: the broker is asked before.
        self.flush_feed();
        self.write_clients();
        self.apply_effects();
        self.flush_feed();
        self.rest();
        if let Feed::Demo(demo) = &mut self.feed {
            demo.set_listened(self.engine.subscribers() > 0, now);
            demo.set_tweets(self.engine.wants_tweets());
        }
        self.turn_ended_at = self.net.now();
        self.engine.end_turn(self.turn_ended_at);
        #[cfg(debug_assertions)]
        self.check_invariants();
        Ok(())
    }

    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        let Some(stop_at) = self.stop_at else {
            return false;
        };
        let is_late = self.net.now() >= stop_at;
        self.is_urgent || is_late || (self.engine.is_empty() && self.is_row_settled())
    }

    /// The network.
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The network, for whoever simulates its other side.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// How long the next poll may wait; `None` is for ever.
    fn timeout(&self) -> Option<Duration> {
        if self.engine.has_work() || self.open_door().is_some() {
            return Some(Duration::ZERO);
        }
        let feed = match &self.feed {
            Feed::Redis { messages, commands } => {
                // What is there to be read is no reason to wake up while it is left where it is.
                let messages = match self.engine.wants_messages() {
                    true => messages.deadline(),
                    false => messages.conversation().deadline(),
                };
                messages.into_iter().chain(commands.deadline()).min()
            }
            Feed::Demo(_) if self.is_resting => None,
            Feed::Demo(demo) => demo.deadline(),
            Feed::Embedded => None,
        };
        let deadlines = [
            self.engine.deadline(),
            feed,
            self.exchange.deadline(),
            self.listener.paused_until,
            self.report_deadline(),
            self.publications.deadline(self.turn_ended_at),
            self.stop_at,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.since(self.turn_ended_at))
    }

    fn dispatch(&mut self, event: Event, now: Time) {
        match event {
            Event::Acceptable(door) => *self.listener.is_ready(door) = true,
            Event::Ready {
                token: Token::Client(index, generation),
                readable,
                writable,
                hung_up,
            } => {
                let key = Key { index, generation };
                if readable {
                    self.engine.on_readable(key);
                }
                if writable {
                    self.engine.on_writable(key);
                }
                if hung_up {
                    self.engine.on_hangup(key);
                }
            }
            Event::Ready {
                token,
                readable,
                writable,
                hung_up,
            } => {
                let is_readable = readable || hung_up;
                if let Some(link) = self.link_of(token) {
                    link.on_ready(is_readable, writable);
                } else if self.exchange.token() == Some(token) {
                    self.exchange.on_ready(is_readable, writable);
                } else if let Some(link) = self.reports.link_of(token) {
                    link.on_ready(is_readable, writable);
                }
            }
            Event::Resolved(token, result) => {
                if let Some(link) = self.link_of(token) {
                    link.on_resolved(result, now);
                } else if self.exchange.token() == Some(token) {
                    self.exchange.on_resolved(result, now);
                } else if let Some(link) = self.reports.link_of(token) {
                    link.on_resolved(result, now);
                }
            }
            Event::Signal => self.stop(now),
        }
    }

    fn stop(&mut self, now: Time) {
        if let Some(stopped_at) = self.stopped_at {
            // Signals of one turn are one: whoever stops a group may reach a process twice.
            self.is_urgent |= now > stopped_at;
        } else {
            self.stopped_at = Some(now);
            let drain = self.engine.settings().pacing.drain;
            self.stop_at = Some(now + drain + limits::DRAIN_DEADLINE);
            let streams = self.engine.subscribers();
            let seconds = drain.as_secs();
            let line = format!("stopping: closing all streams within {seconds} s ({streams} open)");
            self.net.log(Level::Info, &line);
            self.listener = Listener::default();
            self.net.stop_listening();
            self.engine.stop();
        }
    }

    fn say_how_it_ended(&mut self) {
        let (now, stopped_at) = (self.net.now(), self.stopped_at);
        let seconds = now.since(stopped_at.unwrap_or(now)).as_secs_f64();
        let drained = self.engine.counters().closes[CloseReason::Drain as usize];
        let (level, left) = match self.engine.subscribers() {
            0 => (Level::Info, String::new()),
            cut => (Level::Warn, format!(", {cut} streams were cut off")),
        };
        let line = format!("stopped after {seconds:.1} s: {drained} connections were ended{left}");
        self.net.log(level, &line);
    }

    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        self.engine.check_invariants();
        if let Feed::Redis { messages, commands } = &self.feed {
            let are_settled = messages.is_settled() && commands.is_settled();
            assert!(are_settled, "bytes for the broker were left behind");
        }
        assert!(self.exchange.is_settled(), "and for the exchange");
    }

    /// The door that the next connection may be accepted from. The admin's comes first, and has some places
    /// for itself: a crowd at the public one must not keep out who looks after the server.
    fn open_door(&self) -> Option<Door> {
        let listener = &self.listener;
        let doors = [
            (Door::Admin, listener.is_admin_ready),
            (Door::Public, listener.is_public_ready),
        ];
        let may_enter = |door| self.engine.has_room(door == Door::Admin);
        let is_open = |&(door, is_ready): &(Door, bool)| is_ready && may_enter(door);
        let (door, _) = doors.into_iter().find(is_open)?;
        listener.paused_until.is_none().then_some(door)
    }

    fn accept(&mut self, now: Time) {
        if self.listener.paused_until.is_some_and(|until| until <= now) {
            self.listener.paused_until = None;
        }
        for _ in 0..limits::ACCEPTS_PER_TURN {
            let Some(door) = self.open_door() else {
                return;
            };
            match self.net.accept(door) {
                Ok((accepted, client_ip)) => {
                    let key = self.engine.on_accept(client_ip, door == Door::Admin);
                    if let Err(error) = self.net.adopt(client(key), accepted) {
                        self.engine.on_failure(key, &error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *self.listener.is_ready(door) = false;
                    self.listener.failing &= self.listener.is_awaited();
                }
                // The client gave up before its turn came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.listener.paused_until = Some(now + limits::ACCEPT_RETRY);
                    // Once for each time that it begins, however often it is tried again.
                    if !std::mem::replace(&mut self.listener.failing, true) {
                        let line = format!("accept: {error}; waiting for a connection to close");
                        self.net.log(Level::Warn, &line);
                    }
                    return;
                }
            }
        }
    }

    fn read_clients(&mut self) {
        while let Some((key, room)) = self.engine.poll_read() {
            match self.net.read(client(key), &mut self.buffer[..room]) {
                Ok(0) => self.engine.on_end(key),
                Ok(len) => self.engine.on_input(key, &self.buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.engine.on_drained(key);
                }
                Err(error) => self.engine.on_failure(key, &error),
            }
        }
    }

    fn write_clients(&mut self) {
        while let Some(write) = self.engine.poll_write() {
            let result = self.net.write(client(write.key), write.bytes);
            self.engine.on_written(result);
        }
    }

    fn apply_effects(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::Close(key) => {
                    self.net.close(client(key));
                    // A descriptor is free: whoever waits outside may come in.
                    self.listener.paused_until = None;
                }
                Effect::ShutdownWrite(key) => self.net.shutdown_write(client(key)),
                Effect::Listen { name, is_pattern } => self.listen(&name, is_pattern),
                Effect::Unlisten { name, is_pattern } => self.unlisten(&name, is_pattern),
                Effect::Submit {
                    key,
                    channels,
                    message,
                } => self.submit(Submission {
                    key,
                    channels,
                    message,
                }),
                Effect::Render(key, document) => self.render(key, document),
                Effect::Publish(channel, payload) => {
                    self.command(&[b"PUBLISH", channel.as_bytes(), &payload]);
                }
                Effect::Log(level, line) => self.net.log(level, &line),
            }
        }
    }
}

fn client(key: Key) -> Token {
    Token::Client(key.index, key.generation)
}
