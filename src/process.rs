//! The process, as plain data that `net` collects and reports show. It owns what the figures mean; it must not make
//! system calls.

use std::time::Duration;

/// The operating system's figures about this process; zero if they are not available.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Open file descriptors.
    pub descriptors: u64,
    /// The limit of open file descriptors.
    pub descriptors_max: u64,
}
