//! The log: lines to standard error without ever waiting for it. It owns one thread and a bounded queue;
//! it must not format.

use std::io::Write;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::level::Level;
use crate::limits::LOG_LINES_MAX;

/// Lines on their way to standard error. When that is a pipe that nobody reads, the queue fills and
/// further lines are dropped; how many is said as soon as there is room.
pub(super) struct Log {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
    dropped: u64,
    /// Lines of less weight are not written.
    level: Level,
}

/// How long a process that ends waits for its last lines to be taken.
const FLUSH_DEADLINE: Duration = Duration::from_millis(200);

impl Log {
    /// Starts the thread. Without one, lines are dropped: the server is worth more than its log.
    pub(super) fn start(level: Level) -> Log {
        let (sender, receiver) = mpsc::sync_channel::<String>(LOG_LINES_MAX);
        let write_all = move || {
            for line in receiver {
                // Nobody can be told that standard error is gone.
                let _unwritable = std::io::stderr().lock().write_all(line.as_bytes());
            }
        };
        let writer = thread::Builder::new()
            .name("log".to_owned())
            .stack_size(64 * 1024);
        Log {
            lines: Some(sender),
            writer: writer.spawn(write_all).ok(),
            dropped: 0,
            level,
        }
    }

    /// Queues a line.
    pub(super) fn line(&mut self, level: Level, line: &str) {
        let Some(lines) = self.lines.as_ref().filter(|_| level <= self.level) else {
            return;
        };
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
