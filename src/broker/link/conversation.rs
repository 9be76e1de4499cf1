//! Conversations: what is sent and received over a connection that we make. The trait owns how one is dialed, given up
//! and dialed again, without system calls.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::dialer::{Dialer, State};
use crate::broker::{Message, shown_host};
use crate::limits;
use crate::time::Time;

/// A port of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How to connect.
    pub transport: Transport,
    /// Name or literal address (without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
}

/// How to connect to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
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
        let host = shown_host(&self.host);
        write!(formatter, "{scheme}://{host}:{}", self.port)
    }
}

/// Why a connection was given up.
#[derive(Debug)]
pub enum Failure {
    /// The name has no address.
    Unresolved(io::Error),
    /// The connection failed, or was not established.
    Link(io::Error),
    /// The other side closed it.
    Ended,
    /// This did not come in time.
    Late(&'static str),
    /// The other side refused this, for this reason.
    Refused(&'static str, String),
    /// The other side sent this, which cannot be decoded.
    Protocol(String),
    /// The other side sent this, which must not come at that point.
    Unexpected(String),
    /// The other side offers this, which is not what we need.
    Unsupported(String),
    /// The other side announced that it closes the connection, for this reason.
    Closed(String),
}

impl Failure {
    /// The longest pause after it: where the network or the other side may be back at any moment, that must be noticed
    /// at once; what is refused is refused until somebody has changed something.
    pub fn pause_max(&self) -> Duration {
        match self {
            Failure::Unresolved(_) | Failure::Link(_) | Failure::Ended | Failure::Late(_) => {
                limits::BACKOFF_AWAY_MAX
            }
            _ => limits::BACKOFF_MAX,
        }
    }
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
            Failure::Unexpected(what) => write!(out, "the server unexpectedly sent {what}"),
            Failure::Unsupported(offer) => write!(out, "the server offers {offer}"),
            Failure::Closed(reason) => write!(out, "closed by the server: {reason}"),
        }
    }
}

/// The protocol over one connection, as a state machine without I/O. Dialing is the same for all protocols, and
/// provided.
pub trait Conversation {
    /// The dialer of the connection.
    fn dialer(&self) -> &Dialer;

    /// The dialer, whose intents are polled.
    fn dialer_mut(&mut self) -> &mut Dialer;

    /// Begins to dial.
    fn dial(&mut self, now: Time);

    /// Gives up the connection, or the attempt, and plans the next one.
    fn fail(&mut self, failure: Failure, now: Time);

    /// The connection is established: queues what is sent first.
    fn begin(&mut self, now: Time);

    /// While connected, after a greeting: when [`Conversation::on_talk_time`] must be called at the latest.
    fn talk_deadline(&self) -> Option<Time>;

    /// While connected, after a greeting: does what is due.
    fn on_talk_time(&mut self, now: Time);

    /// The next message, whose bytes are taken from the front of `input`; `None` once that is empty.
    fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message>;

    /// How often the socket is read in one turn.
    fn reads_per_turn(&self) -> usize {
        limits::SOURCE_READS_PER_TURN
    }

    /// The size of the kernel's send buffer; `None` is the default.
    fn kernel_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Bytes to be sent, for UDP as the next datagram; empty while there is no connection.
    fn unsent(&self) -> &[u8];

    /// So many of them were sent.
    fn on_sent(&mut self, len: usize);

    /// Whether the connection can be used.
    fn is_live(&self) -> bool {
        self.dialer().is_live()
    }

    /// When [`Conversation::on_time`] must be called at the latest.
    fn deadline(&self) -> Option<Time> {
        let dialer = self.dialer();
        dialer.deadline().or_else(|| {
            let is_connected = dialer.is_connected();
            is_connected.then(|| self.talk_deadline()).flatten()
        })
    }

    /// Does what has become due.
    fn on_time(&mut self, now: Time) {
        if self.deadline().is_none_or(|at| at > now) {
            return;
        }
        match self.dialer().state() {
            State::Waiting(_) => self.dial(now),
            State::Resolving(_) => {
                if !self.dialer_mut().connect_to_known(now) {
                    self.fail(Failure::Late("the address of the host"), now);
                }
            }
            // Other addresses of the host are tried next.
            State::Connecting(_) => self.on_lost(Some(io::ErrorKind::TimedOut.into()), now),
            State::Greeting(_) => self.fail(Failure::Late("the end of the handshake"), now),
            State::Connected | State::Live => self.on_talk_time(now),
        }
    }

    /// The result of [`super::dialer::Intent::Resolve`].
    fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if let Err(error) = self.dialer_mut().on_resolved(result, now) {
            self.fail(Failure::Unresolved(error), now);
        }
    }

    /// The connection is established.
    fn on_connected(&mut self, now: Time) {
        self.dialer_mut().on_connected();
        self.begin(now);
    }

    /// The connection failed, or was not established; without an error, the other side has closed it.
    fn on_lost(&mut self, error: Option<io::Error>, now: Time) {
        let dialer = self.dialer_mut();
        if dialer.is_under_way() && !dialer.try_next_address(now) {
            self.fail(error.map_or(Failure::Ended, Failure::Link), now);
        }
    }
}
