//! Why connections end, and the names of the reasons in logs and reports.

use std::io::{self, ErrorKind};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it.
    Client,
    /// The client reset it, or a write found it gone.
    Reset,
    /// The kernel gave the peer up (`TCP_USER_TIMEOUT`).
    Timeout,
    /// A client did not take its bytes within patience, or what it needed next is not kept any more.
    Slow,
    /// No whole request came within the deadline.
    Idle,
    /// All requests were answered and the connection was not to be kept.
    Answered,
    /// The client sent what is not HTTP, or too much of it.
    Protocol,
    /// The stream's lifetime is over.
    Lifetime,
    /// The client asked for it.
    Cleanup,
    /// There was no room for another stream.
    Shed,
    /// The server stops.
    Drain,
    /// A system call of ours failed.
    Failure,
}

impl CloseReason {
    /// All reasons, in the order that they are counted in.
    pub const ALL: [CloseReason; 12] = [
        CloseReason::Client,
        CloseReason::Reset,
        CloseReason::Timeout,
        CloseReason::Slow,
        CloseReason::Idle,
        CloseReason::Answered,
        CloseReason::Protocol,
        CloseReason::Lifetime,
        CloseReason::Cleanup,
        CloseReason::Shed,
        CloseReason::Drain,
        CloseReason::Failure,
    ];

    /// Why a connection ends after a system call on its socket has failed; whether its client had sent its last byte.
    pub fn of_failure(error: &io::Error, has_ended: bool) -> CloseReason {
        match error.kind() {
            ErrorKind::TimedOut => CloseReason::Timeout,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe if has_ended => CloseReason::Client,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable => CloseReason::Reset,
            _ => CloseReason::Failure,
        }
    }

    /// The name used in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::Client => "client",
            CloseReason::Reset => "reset",
            CloseReason::Timeout => "timeout",
            CloseReason::Slow => "slow",
            CloseReason::Idle => "idle",
            CloseReason::Answered => "answered",
            CloseReason::Protocol => "protocol",
            CloseReason::Lifetime => "lifetime",
            CloseReason::Cleanup => "cleanup",
            CloseReason::Shed => "shed",
            CloseReason::Drain => "drain",
            CloseReason::Failure => "failure",
        }
    }
}
