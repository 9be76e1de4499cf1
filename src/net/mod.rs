//! Net: all system calls, behind one trait. It owns sockets, readiness, the clock and name resolution; it must not know
//! what the bytes mean. The program uses `mio`, the simulation its own network (`tests/simulation/net.rs`).

pub mod healthcheck;
pub mod inherited;
mod log;
pub mod mio;
pub mod notify;
mod process;
mod resolve;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::level::Level;
use crate::time::Time;

pub use log::one_line;
pub use process::Process;

/// What to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// This port on all addresses of the machine: dual-stack `[::]`, or `0.0.0.0` where there is no IPv6.
    Everywhere(u16),
    /// These addresses, at least one and without duplicates.
    Addresses(Vec<SocketAddr>),
}

impl Listen {
    /// The number of listening sockets.
    pub fn sockets(&self) -> usize {
        match self {
            Listen::Everywhere(_) => 1,
            Listen::Addresses(addresses) => addresses.len(),
        }
    }
}

/// The kind of listening socket that a client connected to, which may decide what it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// For all clients.
    Public,
    /// For administrators (`ADMIN_LISTEN`).
    Admin,
}

/// Identifies a socket; chosen by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// An accepted socket: its index in a table, and a generation that tells late events for an earlier socket at that
    /// index apart.
    Client(u32, u32),
    /// An outgoing connection, by its index.
    Upstream(u8),
}

/// An event from the poll.
#[derive(Debug)]
pub enum Event {
    /// Connections may be waiting to be accepted.
    Acceptable(Door),
    /// A socket became ready. Events are edge-triggered: the next one comes only after a read or write has returned
    /// `WouldBlock`. They may be spurious.
    Ready {
        /// Which socket.
        token: Token,
        /// A read may return bytes, the end or an error.
        readable: bool,
        /// A write may succeed.
        writable: bool,
        /// The socket is closed in both directions.
        hung_up: bool,
    },
    /// The result of a name resolution.
    Resolved(Token, io::Result<Vec<SocketAddr>>),
    /// The process should stop (`SIGTERM`, `SIGINT`).
    Signal,
    /// `SIGHUP` arrived, which elsewhere means to read the configuration again.
    Reload,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By TCP.
    Tcp {
        /// The address.
        address: SocketAddr,
        /// The size of the kernel's send buffer; `None` is the default.
        kernel_bytes_max: Option<usize>,
    },
    /// By UDP: datagrams are sent to and received from this address only.
    Udp(SocketAddr),
    /// By a Unix domain socket.
    Unix(PathBuf),
}

/// The system calls that the reactor needs. Except for `poll`, none of them blocks.
pub trait Net {
    /// An accepted connection that has no token yet.
    type Accepted;

    /// The time since the start of the process.
    fn now(&self) -> Time;

    /// The wall clock, in seconds.
    fn unix_seconds(&self) -> u64;

    /// Waits for events, at most for `timeout` if there is one, and appends them. After an error the process cannot
    /// continue.
    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()>;

    /// Accepts the next connection, and returns its client's address too (an IPv4-mapped one as IPv4). `WouldBlock` if
    /// none is waiting; the process may also be out of descriptors.
    fn accept(&mut self, door: Door) -> io::Result<(Self::Accepted, IpAddr)>;

    /// Registers an accepted connection for events; closes it if the kernel refuses to watch it.
    fn adopt(&mut self, token: Token, accepted: Self::Accepted) -> io::Result<()>;

    /// Closes the listening sockets.
    fn stop_listening(&mut self);

    /// Whether the public ones stay open elsewhere, so that connections that wait there are for another process.
    fn shares_listeners(&self) -> bool {
        false
    }

    /// Reads; zero bytes mean the end. `WouldBlock` if there is nothing to read; after any other error the socket is
    /// unusable.
    fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as fits. `WouldBlock` if nothing fits; after any other error the socket is unusable.
    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize>;

    /// Shuts down the sending side; reading continues.
    fn shutdown_write(&mut self, token: Token);

    /// Closes a socket, if the token has one.
    fn close(&mut self, token: Token);

    /// Starts to resolve a name; the result comes as an event. A further call for the same token cancels the earlier
    /// one.
    fn resolve(&mut self, token: Token, host: &str, port: u16);

    /// Starts to connect; the socket becomes writable when the attempt has succeeded or failed.
    fn connect(&mut self, token: Token, peer: &Peer) -> io::Result<()>;

    /// Whether an outgoing connection is established; an error if the attempt has failed.
    fn is_connected(&mut self, token: Token) -> io::Result<bool>;

    /// The operating system's figures about this process; takes several system calls.
    fn process(&self) -> Process;

    /// Turns readable events of an outgoing connection on or off. Its end is reported either way; when events are
    /// turned on again, data that has arrived in between is reported.
    fn listen_to(&mut self, token: Token, readable: bool);

    /// Sends lines to the service manager, if there is one.
    fn notify(&mut self, _lines: &str) {}

    /// Logs a line, unless its level is disabled or the log is too slow.
    fn log(&mut self, level: Level, line: &str);
}
