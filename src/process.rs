//! The process, as plain data that `net` fills and reports show. It owns what the figures mean; it must not
//! ask for them.

use std::time::Duration;

/// What the operating system says of this process. Figures that it does not give are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// Time on processors, in user and system mode together.
    pub cpu: Duration,
    /// Open descriptors.
    pub descriptors: u64,
    /// Descriptors that may be open.
    pub descriptors_max: u64,
}
