//! The log: writes lines to standard error without blocking the caller. It owns one thread and a bounded queue; it
//! must not format messages.

use std::borrow::Cow;
use std::io::Write;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::level::Level;
use crate::limits::LOG_LINES_MAX;

/// The queue of lines. If standard error is a pipe that nobody reads, the queue fills up and further lines are dropped;
/// their number is logged as soon as there is room.
pub(super) struct Log {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    dropped: u64,
    /// Less severe lines are not written.
    level: Level,
}

/// How long an exiting process waits for its last lines to be written.
const FLUSH_DEADLINE: Duration = Duration::from_millis(200);

impl Log {
    /// Starts the thread. If that fails, the server runs without a log.
    pub(super) fn start(level: Level) -> Log {
        let (sender, receiver) = mpsc::sync_channel::<String>(LOG_LINES_MAX);
        let write_all = move || {
            for line in receiver {
                // There is nowhere to report that standard error is closed.
                let _unwritable = std::io::stderr().lock().write_all(line.as_bytes());
            }
        };
        let writer = thread::Builder::new().name("log".to_owned());
        Log {
            lines: Some(sender),
            writer: writer.stack_size(64 * 1024).spawn(write_all).ok(),
            dropped: 0,
            level,
        }
    }

    pub(super) fn line(&mut self, level: Level, line: &str) {
        let Some(lines) = self.lines.as_ref().filter(|_| level <= self.level) else {
            return;
        };
        let line = one_line(line);
        let text = match self.dropped {
            0 => format!("{level:5} {line}\n"),
            dropped => format!("warn  log: {dropped} lines dropped\n{level:5} {line}\n"),
        };
        match lines.try_send(text) {
            Ok(()) => self.dropped = 0,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped += 1,
        }
    }
}

/// Text on one line, whatever it quotes: control characters become escapes.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    Cow::Owned(line)
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines = None;
        let deadline = Instant::now() + FLUSH_DEADLINE;
        if let Some(writer) = self.writer.take() {
            while !writer.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_quoted_stays_on_one_line() {
        let table = [
            ("redis: é is refused", "redis: é is refused"),
            ("-ERR a\r\ninfo  b", "-ERR a\\r\\ninfo  b"),
            ("\u{1b}[2J\u{85}\0\t", "\\u{1b}[2J\\u{85}\\u{0}\\t"),
        ];
        for (text, expected) in table {
            assert_eq!(one_line(text), expected);
        }
    }
}
