//! Net: the only system calls. It owns sockets, readiness, the clock and names' resolution, behind one
//! trait. The program's side of it is `mio`; the tests bring a simulated one (`tests/simulation/net.rs`). It must not
//! know what the bytes mean.

pub mod healthcheck;
mod log;
pub mod mio;
mod process;
mod resolve;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::level::Level;
use crate::process::Process;
use crate::time::Time;

/// What to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// This port on all addresses of the machine: dual-stack `[::]`, or `0.0.0.0` where there is no IPv6.
    Everywhere(u16),
    /// These addresses, never empty and without repetitions.
    Addresses(Vec<SocketAddr>),
}

impl Listen {
    /// How many sockets that takes.
    pub fn sockets(&self) -> usize {
        match self {
            Listen::Everywhere(_) => 1,
            Listen::Addresses(addresses) => addresses.len(),
        }
    }
}

/// Which of the listening sockets a client came to: what is served there may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// One for everybody.
    Public,
    /// One for those who look after the server.
    Admin,
}

/// The name of a socket, chosen by its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// An accepted socket: its place in a table, and which of the place's holders it is. A late event
    /// for an earlier holder is told by the second number.
    Client(u32, u32),
    /// One of few sockets that we connect ourselves.
    Upstream(u8),
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Connections may be waiting to be accepted from this door.
    Acceptable(Door),
    /// A socket's state has changed. Readiness comes once for each change and not again until a read or
    /// write said `WouldBlock`; it may also come without a reason.
    Ready {
        /// Which socket.
        token: Token,
        /// There may be bytes, an end or an error to be read.
        readable: bool,
        /// There may be room to write.
        writable: bool,
        /// The socket is dead in both directions.
        hung_up: bool,
    },
    /// A name was resolved, or could not be.
    Resolved(Token, io::Result<Vec<SocketAddr>>),
    /// The process was asked to end.
    Signal,
    /// The process was told that what it has read from files may have changed (`SIGHUP`).
    Reload,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By TCP.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// How many bytes the kernel may hold for who does not take them; `None` is as it likes.
        kernel_bytes_max: Option<usize>,
    },
    /// By UDP: datagrams go there and come from there alone.
    Udp(SocketAddr),
    /// By a Unix domain socket.
    Unix(PathBuf),
}

/// What the reactor needs of the world. Every call returns at once.
pub trait Net {
    /// A connection that was accepted and has no name yet.
    type Accepted;

    /// The time since the process began.
    fn now(&self) -> Time;

    /// The wall clock, in seconds.
    fn unix_seconds(&self) -> u64;

    /// Waits for events, but no longer than `timeout` (for ever without one), and appends them.
    ///
    /// # Errors
    /// Where the kernel refuses; the process cannot go on then.
    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Takes the next connection that waits at this door, and its client's address (IPv4-mapped ones as IPv4).
    ///
    /// # Errors
    /// `WouldBlock` when none is waiting; descriptors may also be exhausted.
    fn accept(&mut self, door: Door) -> io::Result<(Self::Accepted, IpAddr)>;

    /// Names an accepted connection; events for it come from now on.
    ///
    /// # Errors
    /// Where the kernel refuses to watch it; it is closed then.
    fn adopt(&mut self, token: Token, accepted: Self::Accepted) -> io::Result<()>;

    /// Closes the listening sockets.
    fn stop_listening(&mut self);

    /// Reads what is there; zero is the end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; anything else ends the socket.
    fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes what there is room for.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; anything else ends the socket.
    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize>;

    /// Sends our end; reading goes on.
    fn shutdown_write(&mut self, token: Token);

    /// Closes a socket, if there is one of this name.
    fn close(&mut self, token: Token);

    /// Begins to resolve a name, for a socket to be connected; the answer comes as an event. Only the
    /// latest question for each socket is answered.
    fn resolve(&mut self, token: Token, host: &str, port: u16);

    /// Begins to connect; that it is done, or has failed, comes as readiness to write.
    ///
    /// # Errors
    /// Where the attempt fails at once.
    fn connect(&mut self, token: Token, peer: &Peer) -> io::Result<()>;

    /// Whether a connection that was begun stands.
    ///
    /// # Errors
    /// Why it never will.
    fn is_connected(&mut self, token: Token) -> io::Result<bool>;

    /// What the operating system says of this process; some system calls.
    fn process(&self) -> Process;

    /// Says whether a socket that we connected is to be reported as readable. While it is not, its end is
    /// reported all the same; when it is again, what is there to be read is.
    fn listen_to(&mut self, token: Token, readable: bool);

    /// Writes a line to the log, or drops it where the log is too slow, or is not to have it.
    fn log(&mut self, level: Level, line: &str);
}
