//! Conversations: what is said over one connection that we make. It owns how one is dialed, kept and dialed again; it
//! must not make a system call, and must not know what is decided with what comes over one.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use super::Health;
use super::dialer::{Dialer, Due};
use crate::broker::Message;
use crate::limits;
use crate::time::Time;

/// Where a metrics daemon listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// By datagrams, or over a connection.
    pub transport: Transport,
    /// Name or literal address (without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How lines reach a metrics daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP: what nobody hears is lost.
    Udp,
    /// TCP.
    Tcp,
}

impl Target {
    /// A port of a host, by TCP.
    pub fn tcp(host: String, port: u16) -> Target {
        let transport = Transport::Tcp;
        Target {
            transport,
            host,
            port,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.transport {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        };
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            write!(formatter, "{scheme}://[{host}]:{port}")
        } else {
            write!(formatter, "{scheme}://{host}:{port}")
        }
    }
}

/// Why a connection was given up, whatever was to be said over it.
#[derive(Debug)]
pub enum Failure {
    /// The name has no address.
    Unresolved(io::Error),
    /// The connection failed, or was not made.
    Link(io::Error),
    /// The other side closed it.
    Ended,
    /// This did not come in time.
    Late(&'static str),
    /// The other side refused this, for this reason.
    Refused(&'static str, String),
    /// The other side sent this, which cannot be understood.
    Protocol(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unresolved(error) => write!(out, "cannot be resolved: {error}"),
            Failure::Link(error) => write!(out, "{error}"),
            Failure::Ended => write!(out, "the connection was closed by the server"),
            Failure::Late(what) => write!(out, "timed out waiting for {what}"),
            Failure::Refused(what, reason) => write!(out, "{what} was refused: {reason}"),
            Failure::Protocol(what) => write!(out, "the server sent {what}"),
        }
    }
}

/// What is said over one connection that we make, as a state machine without I/O. How one is dialed is the same
/// for all, and provided; what is said is not.
pub trait Conversation {
    /// The way to the connection.
    fn dialer(&self) -> &Dialer;

    /// The way to the connection, to be asked for intents.
    fn dialer_mut(&mut self) -> &mut Dialer;

    /// Begins to dial.
    fn dial(&mut self, now: Time);

    /// Gives the connection, or the attempt, up and plans the next one.
    fn fail(&mut self, failure: Failure, now: Time);

    /// The connection stands, and the dialer knows.
    fn begin(&mut self, now: Time);

    /// While connected: when [`Conversation::on_talk_time`] must be called, whatever happens before.
    fn talk_deadline(&self) -> Option<Time>;

    /// While connected: does what has become due.
    fn on_talk_time(&mut self, now: Time);

    /// Takes bytes from the front of `input`, up to the end of the next message; `None` once it is empty.
    fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message>;

    /// How often the socket is read in one turn.
    fn reads_per_turn(&self) -> usize {
        limits::SOURCE_READS_PER_TURN
    }

    /// How many bytes the kernel may hold for an other side that does not take them, where few are wanted.
    fn kernel_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Bytes for the other side; empty while there is no connection. For datagrams, those of the next one.
    fn unsent(&self) -> &[u8];

    /// So many of them were sent.
    fn on_sent(&mut self, len: usize);

    /// When [`Conversation::on_time`] must be called, whatever happens before.
    fn deadline(&self) -> Option<Time> {
        match self.dialer().is_connected() {
            true => self.talk_deadline(),
            false => self.dialer().deadline(),
        }
    }

    /// How the connection has fared.
    fn health(&self) -> &Health {
        self.dialer().health()
    }

    /// Does what has become due.
    fn on_time(&mut self, now: Time) {
        match self.dialer().due(now) {
            Some(Due::Dial) => self.dial(now),
            Some(Due::Resolving) => self.fail(Failure::Late("the address of the host"), now),
            // The host's other addresses, if any, have their turn.
            Some(Due::Connecting) => self.on_lost(Some(io::ErrorKind::TimedOut.into()), now),
            None if self.deadline().is_some_and(|at| at <= now) => self.on_talk_time(now),
            None => {}
        }
    }

    /// The answer to [`super::dialer::Intent::Resolve`].
    fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if let Err(error) = self.dialer_mut().on_resolved(result, now) {
            self.fail(Failure::Unresolved(error), now);
        }
    }

    /// The connection stands.
    fn on_connected(&mut self, now: Time) {
        self.dialer_mut().on_connected();
        self.begin(now);
    }

    /// The connection failed, or could not be made; `None` where the other side ended it.
    fn on_lost(&mut self, error: Option<io::Error>, now: Time) {
        let dialer = self.dialer_mut();
        let is_under_way = dialer.is_connecting() || dialer.is_connected();
        if is_under_way && !dialer.try_next_address(now) {
            self.fail(error.map_or(Failure::Ended, Failure::Link), now);
        }
    }
}
