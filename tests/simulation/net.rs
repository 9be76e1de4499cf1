//! The simulated [`Net`]: pipes with faults and a clock that jumps, all determined by one seed. It owns what a kernel
//! would; it must not know what clients and brokers do.
//!
//! Readiness is edge-triggered as with epoll, so that reading or writing too little shows: an event comes when bytes or
//! an end arrive, or when there is room again after a write that found none, and only once. There are also spurious
//! events, and events for closed sockets.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use emojitrack_streamer::level::Level;
use emojitrack_streamer::net::Process;
use emojitrack_streamer::net::{Door, Event, Net, Peer, Token};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::pipe::Pipe;

/// How often things go wrong: once in so many times, zero for never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A read gives less than there is.
    pub short_reads: u64,
    /// A write takes less than there is room for.
    pub short_writes: u64,
    /// A poll reports readiness that is none.
    pub spurious_events: u64,
    /// A poll reports readiness of a socket that is gone.
    pub stale_events: u64,
    /// Accepting fails for want of descriptors.
    pub accept_failures: u64,
}

/// One simulated connection, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PipeId(usize);

/// The simulated network of one process.
pub struct SimNet {
    now: Time,
    unix_origin_seconds: u64,
    random: Random,
    faults: Faults,
    pipes: Vec<Pipe>,
    /// Accepted sockets by their names; only looked up, because a map's order would spoil the seed's.
    clients: HashMap<Token, PipeId>,
    /// Connections not yet accepted, with their clients' addresses and the doors that they came to.
    backlog: VecDeque<(PipeId, IpAddr, Door)>,
    listening: bool,
    /// Doors that somebody has come to since the last poll.
    accept_edges: Vec<Door>,
    /// Pipes with an edge that no poll has reported.
    edges: Vec<PipeId>,
    /// Tokens of sockets that are gone, for stale events.
    gone: Vec<Token>,
    upstreams: [Option<PipeId>; 5],
    /// Connections that the server has begun and the broker has not seen.
    dialed: VecDeque<(u8, PipeId)>,
    /// Whether somebody listens where the server connects to.
    broker_listens: bool,
    /// Whether nothing passes between the server and its brokers, name servers included.
    is_cut: bool,
    resolved: Vec<(Token, SocketAddr)>,
    signals: u32,
    /// When something simulated acts next: time does not jump over it.
    horizon: Time,
    lines: Vec<String>,
    /// System calls that got something done since the last poll.
    progress: u64,
    /// Polls in a row that were told not to wait, brought nothing, and followed on no progress.
    spins: u32,
}

impl SimNet {
    /// A network without connections, at the clock's origin.
    pub fn new(seed: u64, faults: Faults) -> SimNet {
        SimNet {
            now: Time::ZERO,
            unix_origin_seconds: 1_400_000_000,
            random: Random::new(seed),
            faults,
            pipes: Vec::new(),
            clients: HashMap::new(),
            backlog: VecDeque::new(),
            listening: true,
            accept_edges: Vec::new(),
            edges: Vec::new(),
            gone: Vec::new(),
            upstreams: [None; 5],
            dialed: VecDeque::new(),
            broker_listens: true,
            is_cut: false,
            resolved: Vec::new(),
            signals: 0,
            horizon: Time::ZERO,
            lines: Vec::new(),
            progress: 0,
            spins: 0,
        }
    }

    /// Sets when something simulated acts next.
    pub fn set_horizon(&mut self, horizon: Time) {
        self.horizon = horizon;
    }

    /// Sends the process a signal.
    pub fn signal(&mut self) {
        self.signals += 1;
    }

    /// Lines that were logged.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Bytes of memory that connections and logged lines take here.
    pub fn held_bytes(&self) -> usize {
        let of_pipe = |pipe: &Pipe| pipe.to_server.bytes.capacity() + pipe.to_peer.bytes.capacity();
        let of_lines = self.lines.iter().map(String::capacity);
        self.pipes.iter().map(of_pipe).chain(of_lines).sum()
    }

    /// How often in a row the server polled without waiting although nothing could be done.
    pub fn spins(&self) -> u32 {
        self.spins
    }

    /// A client connects; `room` bytes fit into the buffer towards it. `None` if there is no listener.
    pub fn dial(&mut self, door: Door, client_ip: IpAddr, room: usize) -> Option<PipeId> {
        if !self.listening {
            return None;
        }
        let pipe = self.new_pipe(room);
        self.backlog.push_back((pipe, client_ip, door));
        if !self.accept_edges.contains(&door) {
            self.accept_edges.push(door);
        }
        Some(pipe)
    }

    /// Says whether the broker accepts connections.
    pub fn set_broker_listens(&mut self, listens: bool) {
        self.broker_listens = listens;
    }

    /// Cuts off one connection of the server silently, and for good.
    pub fn cut_connection(&mut self, index: u8) {
        if let Some(id) = self.upstream(index) {
            self.pipes[id.0].is_cut = true;
        }
    }

    /// Cuts the server off from its brokers, or ends that. Connections that stood, or were tried, stay cut off.
    pub fn set_cut(&mut self, is_cut: bool) {
        self.is_cut = is_cut;
        for index in 0..self.upstreams.len() as u8 {
            self.cut_connection(index);
        }
    }

    /// The connection that a socket of the server has.
    pub fn upstream(&self, index: u8) -> Option<PipeId> {
        self.upstreams[usize::from(index)]
    }

    /// Whether the server has sent bytes that the peer has not taken.
    pub fn has_unread(&self, id: PipeId) -> bool {
        !self.pipes[id.0].to_peer.bytes.is_empty()
    }

    /// The server does not run for a while.
    pub fn suspend(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    /// The next connection that the server has made to the broker, and which of its sockets it is.
    pub fn take_dialed(&mut self) -> Option<(u8, PipeId)> {
        self.dialed.pop_front()
    }

    /// The peer sends bytes.
    pub fn peer_write(&mut self, id: PipeId, bytes: &[u8]) {
        let pipe = &mut self.pipes[id.0];
        if pipe.peer_gone || pipe.server_closed || pipe.is_cut || bytes.is_empty() {
            return;
        }
        debug_assert!(!pipe.to_server.ended);
        pipe.to_server.bytes.extend(bytes);
        pipe.drained = false;
        pipe.readable_edge = true;
        self.note_edge(id);
    }

    /// The peer takes up to `max` bytes.
    pub fn peer_read(&mut self, id: PipeId, max: usize) -> Vec<u8> {
        let pipe = &mut self.pipes[id.0];
        if pipe.is_cut {
            return Vec::new();
        }
        let len = max.min(pipe.to_peer.bytes.len());
        let bytes: Vec<u8> = pipe.to_peer.bytes.drain(..len).collect();
        pipe.to_peer.taken += len as u64;
        if len > 0 && std::mem::take(&mut pipe.starved) {
            pipe.writable_edge = true;
            self.note_edge(id);
        }
        bytes
    }

    /// Whether the peer has seen the server's end: there is nothing more to read, and never will be.
    pub fn peer_sees_end(&self, id: PipeId) -> bool {
        let pipe = &self.pipes[id.0];
        (pipe.to_peer.ended || pipe.server_closed) && pipe.to_peer.bytes.is_empty()
    }

    /// Whether the server has closed its socket.
    pub fn is_server_closed(&self, id: PipeId) -> bool {
        self.pipes[id.0].server_closed
    }

    /// Bytes of the peer that the server has read.
    pub fn taken_by_server(&self, id: PipeId) -> u64 {
        self.pipes[id.0].to_server.taken
    }

    /// The peer sends its end, and goes on reading.
    pub fn peer_shutdown(&mut self, id: PipeId) {
        let pipe = &mut self.pipes[id.0];
        pipe.to_server.ended = true;
        pipe.readable_edge = true;
        self.note_edge(id);
    }

    /// The peer closes: its end arrives, and what is written to it from now on comes back as a reset.
    pub fn peer_close(&mut self, id: PipeId) {
        self.pipes[id.0].peer_gone = true;
        self.peer_shutdown(id);
    }

    /// The peer resets the connection: what it sent and was not read is lost.
    pub fn peer_reset(&mut self, id: PipeId) {
        let pipe = &mut self.pipes[id.0];
        pipe.peer_gone = true;
        pipe.to_server.bytes.clear();
        self.arrive_reset(id);
    }

    /// The kernel gives the peer up.
    pub fn time_out(&mut self, id: PipeId) {
        self.pipes[id.0].timed_out = true;
        self.arrive_reset(id);
    }

    fn new_pipe(&mut self, room: usize) -> PipeId {
        self.pipes.push(Pipe {
            room,
            takes_whole: self.random.one_in(2),
            ..Pipe::default()
        });
        PipeId(self.pipes.len() - 1)
    }

    fn arrive_reset(&mut self, id: PipeId) {
        let pipe = &mut self.pipes[id.0];
        pipe.reset = true;
        pipe.readable_edge = true;
        pipe.writable_edge = true;
        pipe.hangup_edge = true;
        self.note_edge(id);
    }

    fn note_edge(&mut self, id: PipeId) {
        if !self.edges.contains(&id) {
            self.edges.push(id);
        }
    }

    fn happens(&mut self, once_in: u64) -> bool {
        once_in > 0 && self.random.one_in(once_in)
    }

    fn pipe_of(&self, token: Token) -> io::Result<PipeId> {
        let known = match token {
            Token::Upstream(index) => self.upstreams.get(usize::from(index)).copied().flatten(),
            Token::Client(..) => self.clients.get(&token).copied(),
        };
        known.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Reports edges, in an order that is no order.
    fn report(&mut self, events: &mut Vec<Event>) {
        let mut edges = std::mem::take(&mut self.edges);
        while !edges.is_empty() {
            let id = edges.swap_remove(self.random.below(edges.len() as u64) as usize);
            let pipe = &mut self.pipes[id.0];
            // The backlog keeps what comes before the socket has a name.
            let Some(token) = pipe.token else {
                if !pipe.server_closed {
                    self.edges.push(id);
                }
                continue;
            };
            events.push(Event::Ready {
                token,
                readable: std::mem::take(&mut pipe.readable_edge) && !pipe.is_silent(),
                writable: std::mem::take(&mut pipe.writable_edge),
                hung_up: std::mem::take(&mut pipe.hangup_edge),
            });
        }
        events.extend(self.accept_edges.drain(..).map(Event::Acceptable));
        events.extend((0..std::mem::take(&mut self.signals)).map(|_| Event::Signal));
        let resolved = self.resolved.drain(..);
        events.extend(resolved.map(|(token, address)| Event::Resolved(token, Ok(vec![address]))));
    }

    fn invent_events(&mut self, events: &mut Vec<Event>) {
        if !self.pipes.is_empty() && self.happens(self.faults.spurious_events) {
            let pipe = &self.pipes[self.random.below(self.pipes.len() as u64) as usize];
            events.extend(pipe.token.map(|token| Event::Ready {
                token,
                readable: true,
                writable: true,
                hung_up: false,
            }));
        }
        if !self.gone.is_empty() && self.happens(self.faults.stale_events) {
            let token = self.gone[self.random.below(self.gone.len() as u64) as usize];
            events.push(Event::Ready {
                token,
                readable: true,
                writable: true,
                hung_up: true,
            });
        }
    }
}

impl Net for SimNet {
    type Accepted = PipeId;

    fn now(&self) -> Time {
        self.now
    }

    fn unix_seconds(&self) -> u64 {
        self.unix_origin_seconds + self.now.as_micros() / 1_000_000
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        // A turn takes some time, whatever it does.
        self.now = self.now + Duration::from_micros(1 + self.random.below(200));
        self.report(events);
        let waits = timeout.is_none_or(|timeout| !timeout.is_zero());
        if events.is_empty() && waits {
            let until = timeout.map_or(self.horizon, |timeout| {
                (self.now + timeout).min(self.horizon)
            });
            self.now = self.now.max(until);
        }
        let idle = events.is_empty() && !waits && self.progress == 0;
        self.spins = if idle { self.spins + 1 } else { 0 };
        self.progress = 0;
        self.invent_events(events);
        Ok(())
    }

    fn accept(&mut self, door: Door) -> io::Result<(PipeId, IpAddr)> {
        let waiting = self.backlog.iter().position(|(_, _, to)| *to == door);
        let waiting = waiting.ok_or(io::ErrorKind::WouldBlock)?;
        if self.happens(self.faults.accept_failures) {
            return Err(io::Error::other("too many open files, simulated"));
        }
        self.progress += 1;
        let accepted = self.backlog.remove(waiting);
        let (pipe, client_ip, _) = accepted.ok_or(io::ErrorKind::WouldBlock)?;
        Ok((pipe, client_ip))
    }

    fn adopt(&mut self, token: Token, accepted: PipeId) -> io::Result<()> {
        debug_assert!(
            self.pipe_of(token).is_err(),
            "a token was given to two sockets"
        );
        self.clients.insert(token, accepted);
        let pipe = &mut self.pipes[accepted.0];
        pipe.token = Some(token);
        pipe.writable_edge = true;
        self.note_edge(accepted);
        Ok(())
    }

    fn stop_listening(&mut self) {
        self.listening = false;
        for (id, ..) in std::mem::take(&mut self.backlog) {
            self.pipes[id.0].server_closed = true;
        }
    }

    fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<usize> {
        let id = self.pipe_of(token)?;
        let is_short = self.happens(self.faults.short_reads);
        let pipe = &mut self.pipes[id.0];
        if pipe.timed_out {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // As on Linux, an end that arrived before the reset hides it from reads.
        if pipe.reset && !pipe.to_server.ended {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.to_server.bytes.is_empty() {
            if pipe.to_server.ended {
                return Ok(0);
            }
            // To learn this is worth a turn, once.
            self.progress += u64::from(!std::mem::replace(&mut pipe.drained, true));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut len = buffer.len().min(pipe.to_server.bytes.len());
        if is_short {
            len = 1 + self.random.below(len as u64) as usize;
        }
        for place in &mut buffer[..len] {
            *place = pipe.to_server.bytes.pop_front().unwrap_or_default();
        }
        pipe.to_server.taken += len as u64;
        self.progress += 1;
        Ok(len)
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        let id = self.pipe_of(token)?;
        let is_short = self.happens(self.faults.short_writes);
        let pipe = &mut self.pipes[id.0];
        if pipe.reset || pipe.to_peer.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if pipe.peer_gone {
            // It is sent, and a reset comes back.
            self.arrive_reset(id);
            self.progress += 1;
            return Ok(bytes.len());
        }
        let free = pipe.room.saturating_sub(pipe.to_peer.bytes.len());
        if free == 0 {
            // To learn this is worth a turn, once.
            self.progress += u64::from(!std::mem::replace(&mut pipe.starved, true));
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut len = if pipe.takes_whole {
            bytes.len()
        } else {
            free.min(bytes.len())
        };
        if is_short {
            len = 1 + self.random.below(len as u64) as usize;
        }
        pipe.to_peer.bytes.extend(&bytes[..len]);
        self.progress += 1;
        Ok(len)
    }

    fn shutdown_write(&mut self, token: Token) {
        if let Ok(id) = self.pipe_of(token) {
            self.pipes[id.0].to_peer.ended = true;
        }
    }

    fn close(&mut self, token: Token) {
        if let Ok(id) = self.pipe_of(token) {
            let pipe = &mut self.pipes[id.0];
            pipe.token = None;
            pipe.server_closed = true;
            self.clients.remove(&token);
            self.gone.push(token);
            self.progress += 1;
        }
        if let Token::Upstream(index) = token {
            self.upstreams[usize::from(index)] = None;
        }
    }

    fn resolve(&mut self, token: Token, _host: &str, port: u16) {
        if !self.is_cut {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            self.resolved.push((token, address));
        }
    }

    fn connect(&mut self, token: Token, peer: &Peer) -> io::Result<()> {
        let Token::Upstream(index) = token else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let room = match peer {
            Peer::Tcp {
                kernel_bytes_max: Some(bytes),
                ..
            } => *bytes,
            _ => 64 * 1024,
        };
        let id = self.new_pipe(room);
        self.pipes[id.0].token = Some(token);
        self.upstreams[usize::from(index)] = Some(id);
        self.progress += 1;
        if self.is_cut {
            self.pipes[id.0].is_cut = true;
        } else if self.broker_listens {
            self.pipes[id.0].writable_edge = true;
            self.dialed.push_back((index, id));
            self.note_edge(id);
        } else {
            self.arrive_reset(id);
        }
        Ok(())
    }

    fn is_connected(&mut self, token: Token) -> io::Result<bool> {
        let id = self.pipe_of(token)?;
        let pipe = &self.pipes[id.0];
        match pipe.reset {
            true => Err(io::ErrorKind::ConnectionRefused.into()),
            false => Ok(!pipe.is_cut),
        }
    }

    fn listen_to(&mut self, token: Token, readable: bool) {
        if let Ok(id) = self.pipe_of(token) {
            let pipe = &mut self.pipes[id.0];
            pipe.muted = !readable;
            pipe.readable_edge |= readable && !pipe.to_server.bytes.is_empty();
            self.note_edge(id);
        }
    }

    fn process(&self) -> Process {
        Process::default()
    }

    fn log(&mut self, _level: Level, line: &str) {
        self.lines.push(line.to_owned());
    }
}
