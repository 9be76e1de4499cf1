//! Why connections end, and the names of these reasons in logs and reports.

use std::io::{self, ErrorKind};

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed it.
    Client,
    /// The client reset it, or a write found it gone.
    Reset,
    /// The kernel gave up the peer (`TCP_USER_TIMEOUT`).
    Timeout,
    /// The client accepted nothing for too long, or what it needed next was evicted from the log.
    Slow,
    /// No complete request came within the deadline.
    Idle,
    /// The last request was answered.
    Answered,
    /// The client sent something invalid, or too much.
    Protocol,
    /// The stream's lifetime is over.
    Lifetime,
    /// The client requested a cleanup.
    Cleanup,
    /// There was no room for another stream.
    Shed,
    /// There was no room for its socket: its network has too many, or it was the one without a request for the longest
    /// time.
    Crowded,
    /// The server stops.
    Drain,
    /// A system call of ours failed.
    Failure,
}

impl CloseReason {
    /// All reasons, in the order of the counters.
    pub const ALL: [CloseReason; 13] = [
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
        CloseReason::Crowded,
        CloseReason::Drain,
        CloseReason::Failure,
    ];

    /// Why a connection ends if a system call on its socket fails. `has_ended` is whether its client had sent its last byte.
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
            CloseReason::Crowded => "crowded",
            CloseReason::Drain => "drain",
            CloseReason::Failure => "failure",
        }
    }
}
