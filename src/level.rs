//! Levels: the severity of log lines. It owns their names and order; it must not write lines.

use std::fmt;

/// The severity of a log line, the most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The process cannot serve.
    Error,
    /// Something failed; the process retries or goes on without it.
    Warn,
    /// Start and end of the process, its source connected and lost.
    Info,
    /// Each connect and disconnect of a client.
    Debug,
}

impl Level {
    /// All levels, the most severe first.
    pub const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        })
    }
}
