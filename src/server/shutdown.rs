//! Shutdown: when the process exits after it was asked to. It owns the deadline; it must not end a stream.

use std::time::Duration;

use crate::limits;
use crate::time::Time;

/// The end of the process.
#[derive(Debug, Default)]
pub struct Shutdown {
    /// When the process was first asked to stop.
    began_at: Option<Time>,
    /// When it exits at the latest.
    ends_at: Option<Time>,
    /// It was asked again, and exits at once.
    is_urgent: bool,
}

impl Shutdown {
    /// The process was asked to stop; whether this is the first time. Streams end within `drain`.
    pub fn handle_signal(&mut self, drain: Duration, now: Time) -> bool {
        if let Some(began_at) = self.began_at {
            // Signals of one turn count as one: if a process group is stopped, a process may receive two.
            self.is_urgent |= now > began_at;
            return false;
        }
        self.began_at = Some(now);
        self.ends_at = Some(now + drain + limits::DRAIN_DEADLINE);
        true
    }

    /// Whether the process was asked to stop.
    pub fn has_begun(&self) -> bool {
        self.began_at.is_some()
    }

    /// Whether the process exits now, whatever is left to do.
    pub fn is_over(&self, now: Time) -> bool {
        self.is_urgent || self.ends_at.is_some_and(|at| at <= now)
    }

    /// When the process exits at the latest.
    pub fn deadline(&self) -> Option<Time> {
        self.ends_at
    }

    /// How long it has taken so far.
    pub fn took(&self, now: Time) -> Duration {
        self.began_at.map_or(Duration::ZERO, |at| now.since(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_it_at_once_unless_it_comes_in_the_same_turn() {
        let mut shutdown = Shutdown::default();
        let (now, drain) = (Time::from_micros(5), Duration::from_secs(2));
        assert!(!shutdown.has_begun());
        assert!(shutdown.handle_signal(drain, now));
        assert!(!shutdown.handle_signal(drain, now));
        assert!(shutdown.has_begun() && !shutdown.is_over(now));
        let deadline = now + drain + limits::DRAIN_DEADLINE;
        assert_eq!(shutdown.deadline(), Some(deadline));
        assert!(shutdown.is_over(deadline));
        assert!(!shutdown.handle_signal(drain, now + Duration::from_millis(1)));
        assert!(shutdown.is_over(now));
    }
}
