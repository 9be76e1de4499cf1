//! Upstreams: connections that we make ourselves. It owns how one is dialed, kept and dialed again; it must
//! not make a system call, and must not know what is decided with what comes over one.

use std::fmt;

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
