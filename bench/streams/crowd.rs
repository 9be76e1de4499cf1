//! The crowd: all clients of one measurement, on one epoll. It owns their sockets and when they connect, read and
//! stall; `check` judges what they receive.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::machine::nanos;
use super::wire::Wire;
use super::{Failure, check::Judge};

/// Clients that are connecting at a time: less than any server's backlog.
const CONNECTING_MAX: usize = 256;

/// Connections in a row that share one source address: each has some 28,000 ports to one server.
const CONNECTIONS_PER_ADDRESS: usize = 4_000;

/// The receive buffer of a client that is to stall, in bytes: the less the kernel takes for it, the sooner
/// the server notices.
const STALLING_BUFFER: usize = 4 * 1024;

/// What a browser says of itself, because servers keep it.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/126.0.0.0 Safari/537.36";

/// Clients of one server.
pub struct Crowd {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
    /// How often sockets are looked at, if not whenever something comes.
    pace: Option<Duration>,
    /// Connections so far: ports are not free again at once.
    opened: usize,
    /// How many clients are in each phase.
    counts: [usize; 3],
    failed: u64,
    first_failure: Option<String>,
}

struct Client {
    /// None before it connects and after it has ended.
    stream: Option<TcpStream>,
    path: String,
    asked_at: u64,
    asked: bool,
    wire: Wire,
    will_stall: bool,
    stalls: bool,
    /// How long it took from connecting to the head of the stream, in nanoseconds.
    waited: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    Away,
    Connecting,
    Streaming,
}

impl Crowd {
    /// Clients that are to ask for these paths and have not connected yet.
    pub fn new(
        address: SocketAddr,
        paths: impl IntoIterator<Item = String>,
    ) -> Result<Crowd, Failure> {
        let client = |path| Client {
            stream: None,
            path,
            asked_at: 0,
            asked: false,
            wire: Wire::default(),
            will_stall: false,
            stalls: false,
            waited: 0,
        };
        let clients: Vec<Client> = paths.into_iter().map(client).collect();
        Ok(Crowd {
            address,
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            buffer: vec![0; 256 * 1024].into(),
            pace: None,
            opened: 0,
            counts: [clients.len(), 0, 0],
            clients,
            failed: 0,
            first_failure: None,
        })
    }

    /// How many streams have begun and not ended.
    pub fn streaming(&self) -> usize {
        self.counts[Phase::Streaming as usize]
    }

    fn connecting(&self) -> usize {
        self.counts[Phase::Connecting as usize]
    }

    /// What went wrong with connections, in words.
    pub fn failures(&self) -> Option<String> {
        let first = self.first_failure.as_ref()?;
        Some(format!(
            "{} connections failed, the first: {first}",
            self.failed
        ))
    }

    /// Lets sockets be looked at by the clock. Who sleeps on a socket of the same machine is woken by the
    /// server's own system call, which may cost as much as the rest of it; no client behind a network
    /// does that.
    pub fn look_every(&mut self, pace: Duration) {
        self.pace = Some(pace);
    }

    /// Connects the clients of this range, some hundred at a time, until all their streams have begun.
    ///
    /// # Errors
    /// Where that takes longer than the deadline, or a stream fails.
    pub fn connect(
        &mut self,
        range: std::ops::Range<usize>,
        judge: &mut Judge,
        deadline: Duration,
    ) -> Result<(), Failure> {
        self.connect_by(range, CONNECTING_MAX, judge, deadline)
    }

    /// The same, with so many at a time.
    ///
    /// # Errors
    /// The same.
    pub fn connect_by(
        &mut self,
        range: std::ops::Range<usize>,
        connecting_max: usize,
        judge: &mut Judge,
        deadline: Duration,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let mut next = range.start;
        while next < range.end || self.connecting() > 0 {
            while next < range.end && self.connecting() < connecting_max {
                self.open(next)?;
                next += 1;
            }
            self.receive(Duration::from_millis(20), judge)?;
            if let Some(failures) = self.failures() {
                return Err(failures.into());
            }
            if started.elapsed() > deadline {
                let begun = self.streaming();
                return Err(format!("only {begun} streams began within {deadline:?}").into());
            }
        }
        Ok(())
    }

    /// Receives for this long.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for events.
    pub fn run(&mut self, span: Duration, judge: &mut Judge) -> Result<(), Failure> {
        self.run_until(span, judge, |_| false).map(drop)
    }

    /// Receives until this is so, or for this long; whether it is so. It is looked at a few times a second.
    ///
    /// # Errors
    /// Where the kernel refuses to wait for events.
    pub fn run_until(
        &mut self,
        span: Duration,
        judge: &mut Judge,
        mut is_done: impl FnMut(&Judge) -> bool,
    ) -> Result<bool, Failure> {
        const LOOK: Duration = Duration::from_millis(50);
        let end = Instant::now() + span;
        let mut look_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look_at {
                if is_done(judge) {
                    return Ok(true);
                }
                look_at = now + LOOK;
            }
            if now >= end {
                return Ok(is_done(judge));
            }
            self.receive((end - now).min(LOOK), judge)?;
        }
    }

    /// Ends the connections of this range, as a page does that is left.
    pub fn leave(&mut self, range: std::ops::Range<usize>) {
        for client in &mut self.clients[range] {
            self.counts[client.phase() as usize] -= 1;
            client.stream = None;
            self.counts[Phase::Away as usize] += 1;
        }
    }

    /// Says of the clients of this range, before they connect, that they will stall: their kernel then
    /// takes little for them.
    pub fn will_stall(&mut self, range: std::ops::Range<usize>) {
        for client in &mut self.clients[range] {
            client.will_stall = true;
        }
    }

    /// Lets the clients of this range read nothing from now on.
    pub fn stall(&mut self, range: std::ops::Range<usize>) {
        for client in &mut self.clients[range] {
            client.stalls = true;
        }
    }

    /// Lets those read again that have stalled.
    ///
    /// # Errors
    /// Where the kernel refuses to watch a socket.
    pub fn resume(&mut self) -> Result<(), Failure> {
        for (index, client) in self.clients.iter_mut().enumerate() {
            if client.stalls
                && let Some(stream) = &mut client.stream
            {
                client.stalls = false;
                // Watching it anew tells what happened meanwhile.
                let registry = self.poll.registry();
                registry.reregister(stream, Token(index), Interest::READABLE)?;
            }
        }
        Ok(())
    }

    /// The longest wait of these clients from connecting to the head of the stream, in nanoseconds.
    pub fn longest_wait(&self, range: std::ops::Range<usize>) -> u64 {
        let waits = self.clients[range].iter().map(|client| client.waited);
        waits.max().unwrap_or(0)
    }

    fn open(&mut self, index: usize) -> Result<(), Failure> {
        let client = &mut self.clients[index];
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if client.will_stall {
            socket.set_recv_buffer_size(STALLING_BUFFER)?;
        }
        // Ports of ended connections are not free for a minute, so each server has addresses of its own.
        let [high, low] = self.address.port().to_be_bytes();
        let last = 2 + self.opened / CONNECTIONS_PER_ADDRESS % 250;
        let source = Ipv4Addr::new(127, high, low, last as u8);
        self.opened += 1;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        match socket.connect(&self.address.into()) {
            Err(error) if error.raw_os_error() != Some(EINPROGRESS) => return Err(error.into()),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(index), both)?;
        self.counts[client.phase() as usize] -= 1;
        client.stream = Some(stream);
        client.wire = Wire::default();
        client.asked = false;
        client.asked_at = nanos();
        self.counts[client.phase() as usize] += 1;
        Ok(())
    }

    fn receive(&mut self, timeout: Duration, judge: &mut Judge) -> Result<(), Failure> {
        let timeout = match self.pace {
            Some(pace) => {
                std::thread::sleep(pace.min(timeout));
                Duration::ZERO
            }
            None => timeout,
        };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let index = event.token().0;
            let client = &mut self.clients[index];
            self.counts[client.phase() as usize] -= 1;
            let served = client.serve(index, self.address, &mut self.buffer, judge);
            if let Err(reason) = served {
                client.stream = None;
                self.failed += 1;
                self.first_failure
                    .get_or_insert_with(|| format!("client {index}: {reason}"));
            }
            self.counts[client.phase() as usize] += 1;
        }
        Ok(())
    }
}

/// What connecting without waiting says.
const EINPROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

impl Client {
    fn phase(&self) -> Phase {
        match &self.stream {
            None => Phase::Away,
            Some(_) if self.wire.has_begun() => Phase::Streaming,
            Some(_) => Phase::Connecting,
        }
    }

    /// Asks for the stream, and takes what came of it.
    fn serve(
        &mut self,
        index: usize,
        address: SocketAddr,
        buffer: &mut [u8],
        judge: &mut Judge,
    ) -> Result<(), Failure> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        if !self.asked {
            if let Some(error) = stream.take_error()? {
                return Err(error.into());
            }
            let path = &self.path;
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
                 User-Agent: {USER_AGENT}\r\nCache-Control: no-cache\r\n\r\n"
            );
            match stream.write(request.as_bytes()) {
                Ok(len) if len == request.len() => self.asked = true,
                Ok(_) => return Err("a request was not taken whole".into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        while !self.stalls {
            match stream.read(buffer) {
                Ok(0) => return Err("the connection was closed".into()),
                Ok(len) => {
                    let now = nanos();
                    let had_begun = self.wire.has_begun();
                    let take = |data: &[u8]| judge.take(index, data, now);
                    self.wire.feed(&buffer[..len], take)?;
                    if self.wire.is_over() {
                        return Err("the stream ended".into());
                    }
                    if !had_begun && self.wire.has_begun() {
                        self.waited = now - self.asked_at;
                    }
                    // A read that does not fill the buffer has emptied the socket; what comes later is a
                    // new edge.
                    if len < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
