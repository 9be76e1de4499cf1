//! Upstreams: connections that we make ourselves. It owns how one is dialed, kept and dialed again; it must
//! not make a system call, and must not know what is decided with what comes over one.

pub mod carbon;
pub mod dialer;

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::time::Time;
use dialer::Dialer;

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

/// What is said over one connection that we make, as a state machine without I/O.
pub trait Conversation {
    /// The way to the connection.
    fn dialer(&self) -> &Dialer;

    /// The way to the connection, to be asked for intents.
    fn dialer_mut(&mut self) -> &mut Dialer;

    /// When [`Conversation::on_time`] must be called, whatever happens before.
    fn deadline(&self) -> Option<Time>;

    /// Does what has become due.
    fn on_time(&mut self, now: Time);

    /// How many bytes the kernel may hold for an other side that does not take them, where few are wanted.
    fn kernel_bytes_max(&self) -> Option<usize> {
        None
    }

    /// Bytes for the other side; empty while there is no connection. For datagrams, those of the next one.
    fn unsent(&self) -> &[u8];

    /// So many of them were sent.
    fn on_sent(&mut self, len: usize);

    /// The answer to [`dialer::Intent::Resolve`].
    fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time);

    /// The connection stands.
    fn on_connected(&mut self, now: Time);

    /// The connection failed, or could not be made; `None` where the other side ended it.
    fn on_lost(&mut self, error: Option<io::Error>, now: Time);
}
