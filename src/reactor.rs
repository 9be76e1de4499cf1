//! The reactor: the loop. It owns the order of one turn, and carries bytes between `net` and those who
//! decide (`engine`, `source`); it must not decide anything about a client or a message itself.

use std::io;
use std::time::Duration;

use crate::engine::{Document, Effect, Engine, Key};
use crate::limits;
use crate::net::{Event, Net, Peer, Token};
use crate::report;
use crate::source::demo::Demo;
use crate::source::redis::{Intent, Session};
use crate::time::Time;

/// What feeds us.
pub enum Feed {
    /// A Redis server.
    Redis(Box<Session>),
    /// The embedded feeder.
    Demo(Box<Demo>),
}

/// The loop over one network.
pub struct Reactor<N: Net> {
    net: N,
    engine: Engine,
    feed: Feed,
    /// The live page; empty where it is not shown.
    page: Box<[u8]>,
    events: Vec<Event>,
    /// Where all reads go; nothing stays in it from one to the next.
    buffer: Box<[u8]>,
    link: Link,
    listener: Listener,
    /// Set once we were asked to end: when we do so at the latest.
    stop_at: Option<Time>,
    signals: u32,
}

/// The socket to the broker. Readiness comes as an edge, so it is kept here until it is used up.
#[derive(Default)]
struct Link {
    readable: bool,
    writable: bool,
}

/// The listening sockets.
#[derive(Default)]
struct Listener {
    /// Connections may be waiting.
    ready: bool,
    /// Accepting failed for want of descriptors or memory: not before then, or before one is closed.
    paused_until: Option<Time>,
}

const LINK: Token = Token::Upstream(0);

impl<N: Net> Reactor<N> {
    /// A loop that has not begun.
    pub fn new(net: N, engine: Engine, feed: Feed, page: Box<[u8]>) -> Reactor<N> {
        Reactor {
            net,
            engine,
            feed,
            page,
            events: Vec::new(),
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            link: Link::default(),
            listener: Listener::default(),
            stop_at: None,
            signals: 0,
        }
    }

    /// Turns until the process was asked to end and all clients are gone, or have had their time.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for events.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.turn()?;
        }
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
        self.engine.start_turn(now, self.net.unix_seconds());
        for event in events.drain(..) {
            self.dispatch(event, now);
        }
        self.events = events;
        self.accept(now);
        self.receive(now);
        self.engine.on_time();
        self.read_clients();
        self.apply_effects();
        self.write_clients();
        self.apply_effects();
        if let Feed::Demo(demo) = &mut self.feed {
            demo.set_listened(self.engine.subscribers() > 0, now);
        }
        #[cfg(debug_assertions)]
        self.engine.check_invariants();
        Ok(())
    }

    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        let late = self.stop_at.is_some_and(|at| self.net.now() >= at);
        self.signals > 1 || late || (self.stop_at.is_some() && self.engine.is_empty())
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
        let can_accept = self.listener.ready && self.listener.paused_until.is_none();
        if self.engine.has_work() || self.link.readable || can_accept {
            return Some(Duration::ZERO);
        }
        let feed = match &self.feed {
            Feed::Redis(session) => session.deadline(),
            Feed::Demo(demo) => demo.deadline(),
        };
        let deadlines = [
            self.engine.deadline(),
            feed,
            self.listener.paused_until,
            self.stop_at,
        ];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.since(self.net.now()))
    }

    fn dispatch(&mut self, event: Event, now: Time) {
        match event {
            Event::Acceptable => self.listener.ready = true,
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
                token: Token::Upstream(_),
                readable,
                writable,
                hung_up,
            } => {
                self.link.readable |= readable || hung_up;
                self.link.writable |= writable;
            }
            Event::Resolved(result) => {
                if let Feed::Redis(session) = &mut self.feed {
                    session.on_resolved(result, now);
                }
            }
            Event::Signal => self.stop(now),
        }
    }

    fn stop(&mut self, now: Time) {
        self.signals += 1;
        if self.stop_at.is_none() {
            self.stop_at = Some(now + limits::DRAIN_DEADLINE);
            self.listener = Listener::default();
            self.net.stop_listening();
            self.engine.stop();
        }
    }

    fn accept(&mut self, now: Time) {
        if self.listener.paused_until.is_some_and(|until| until <= now) {
            self.listener.paused_until = None;
        }
        if !self.listener.ready || self.listener.paused_until.is_some() {
            return;
        }
        for _ in 0..limits::ACCEPTS_PER_TURN {
            match self.net.accept() {
                Ok((accepted, client_ip)) => {
                    let key = self.engine.on_accept(client_ip);
                    if let Err(error) = self.net.adopt(client(key), accepted) {
                        self.engine.on_failure(key, &error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.listener.ready = false;
                    return;
                }
                // The client gave up before its turn came.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.listener.paused_until = Some(now + limits::ACCEPT_RETRY);
                    self.net.log(&format!(
                        "accept: {error}; waiting for a connection to close"
                    ));
                    return;
                }
            }
        }
    }

    /// Takes what the source has for us.
    fn receive(&mut self, now: Time) {
        match &mut self.feed {
            Feed::Demo(demo) => {
                while self.engine.wants_messages()
                    && let Some(message) = demo.next_message(now)
                {
                    self.engine.on_message(&message);
                }
            }
            Feed::Redis(_) => {
                self.read_link(now);
                self.with_session(|session| session.on_time(now));
                self.apply_intents(now);
                self.write_link(now);
                // What failed just now has more to say.
                self.apply_intents(now);
            }
        }
    }

    fn read_link(&mut self, now: Time) {
        let Feed::Redis(session) = &mut self.feed else {
            return;
        };
        if session.is_connecting() && (self.link.writable || self.link.readable) {
            match self.net.is_connected(LINK) {
                Ok(true) => session.on_connected(now),
                Ok(false) => self.link = Link::default(),
                Err(error) => session.on_lost(Some(error), now),
            }
        }
        for _ in 0..limits::SOURCE_READS_PER_TURN {
            if !self.link.readable || session.is_connecting() || !self.engine.wants_messages() {
                return;
            }
            match self.net.read(LINK, &mut self.buffer) {
                Ok(0) => {
                    self.link.readable = false;
                    session.on_lost(None, now);
                }
                Ok(len) => {
                    let mut input = &self.buffer[..len];
                    while let Some(message) = session.next_message(&mut input, now) {
                        self.engine.on_message(&message);
                    }
                }
                Err(error) => {
                    self.link.readable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        session.on_lost(Some(error), now);
                    }
                }
            }
        }
    }

    fn write_link(&mut self, now: Time) {
        let Feed::Redis(session) = &mut self.feed else {
            return;
        };
        while self.link.writable && !session.unsent().is_empty() {
            match self.net.write(LINK, session.unsent()) {
                Ok(len) => session.on_sent(len),
                Err(error) => {
                    self.link.writable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        session.on_lost(Some(error), now);
                    }
                }
            }
        }
    }

    fn apply_intents(&mut self, now: Time) {
        while let Some(intent) = self.with_session(Session::poll_intent).flatten() {
            let connected = match intent {
                Intent::Log(line) => {
                    self.net.log(&line);
                    continue;
                }
                Intent::Disconnect => {
                    self.link = Link::default();
                    self.net.close(LINK);
                    continue;
                }
                Intent::Resolve(host, port) => {
                    self.net.resolve(&host, port);
                    continue;
                }
                Intent::ConnectTcp(address) => self.net.connect(LINK, &Peer::Tcp(address)),
                Intent::ConnectUnix(path) => self.net.connect(LINK, &Peer::Unix(path)),
            };
            self.link = Link::default();
            if let Err(error) = connected {
                self.with_session(|session| session.on_lost(Some(error), now));
            }
        }
    }

    fn with_session<T>(&mut self, call: impl FnOnce(&mut Session) -> T) -> Option<T> {
        match &mut self.feed {
            Feed::Redis(session) => Some(call(session)),
            Feed::Demo(_) => None,
        }
    }

    fn read_clients(&mut self) {
        while let Some(key) = self.engine.poll_read() {
            match self.net.read(client(key), &mut self.buffer) {
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
                Effect::Render(key, document) => {
                    let reply = match document {
                        Document::Status => report::status_reply(&self.engine.snapshot()),
                        Document::Page => report::page_reply(&self.page),
                    };
                    self.engine.on_rendered(key, &reply);
                }
                Effect::Log(line) => self.net.log(&line),
            }
        }
    }
}

fn client(key: Key) -> Token {
    Token::Client(key.index, key.generation)
}
