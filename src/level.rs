//! Levels: how much a line of the log matters. It owns their names and order; it must not write a line.

use std::fmt;

/// How much a line of the log matters, the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The process cannot do what it is for.
    Error,
    /// Something is missing, and is being tried again or done without.
    Warn,
    /// The life of the process: its start, its source found and lost, its end.
    Info,
    /// Each client's coming and going.
    Debug,
}

impl Level {
    /// All levels, the weightiest first.
    pub const ALL: [Level; 4] = [Level::Error, Level::Warn, Level::Info, Level::Debug];

    /// The name, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}
