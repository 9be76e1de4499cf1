//! Supervision: what a service manager is told and when. It owns the beats of the watchdog; it must not send anything.

use std::time::Duration;

use crate::limits;
use crate::time::Time;

/// What has been told to a service manager. The default is that there is none.
#[derive(Debug, Default)]
pub struct Supervision {
    /// When something is due, without waking up for it.
    due_at: Option<Time>,
    /// The interval of beats, if they are wanted, and when the next one is due.
    beat: Option<(Duration, Time)>,
    has_begun: bool,
    is_stopping: bool,
    has_stopped: bool,
    status: String,
}

impl Supervision {
    /// A service manager that has not been told anything. It gives the process up after `watchdog` without a beat.
    pub fn new(watchdog: Option<Duration>) -> Supervision {
        Supervision {
            due_at: Some(Time::ZERO),
            beat: watchdog.map(|interval| (interval / 2, Time::ZERO)),
            ..Supervision::default()
        }
    }

    /// The process was asked to stop.
    pub fn handle_stop(&mut self) {
        self.is_stopping = true;
        self.due_at = self.due_at.map(|_| Time::ZERO);
    }

    /// Whether [`Supervision::poll`] has to be called.
    pub fn is_due(&self, now: Time) -> bool {
        self.due_at.is_some_and(|at| at <= now) || self.beat.is_some_and(|(_, at)| at <= now)
    }

    /// The next notification, given the status of the process in words; `None` if there is no news.
    pub fn poll(&mut self, status: String, now: Time) -> Option<String> {
        let mut lines = String::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            lines += "READY=1\n";
        }
        if self.is_stopping && !std::mem::replace(&mut self.has_stopped, true) {
            lines += "STOPPING=1\n";
        }
        if let Some((interval, at)) = self.beat.as_mut().filter(|(_, at)| *at <= now) {
            *at = now + *interval;
            lines += "WATCHDOG=1\n";
        }
        if self.due_at.is_some_and(|at| at <= now) {
            self.due_at = Some(now + limits::STATUS_LINE_INTERVAL);
            if status != self.status {
                lines += &format!("STATUS={status}\n");
                self.status = status;
            }
        }
        Some(lines).filter(|lines| !lines.is_empty())
    }

    /// When the process must wake up for it.
    pub fn deadline(&self) -> Option<Time> {
        let first = self.due_at.filter(|_| !self.has_begun);
        first.or(self.beat.map(|(_, at)| at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    #[test]
    fn without_a_service_manager_nothing_is_told() {
        let mut supervision = Supervision::default();
        supervision.handle_stop();
        assert!(!supervision.is_due(at(1_000_000)));
        assert_eq!(supervision.deadline(), None);
    }

    #[test]
    fn a_service_manager_is_told_what_is_new() {
        let mut supervision = Supervision::new(Some(Duration::from_secs(2)));
        let interval = limits::STATUS_LINE_INTERVAL.as_millis() as u64;
        // When, the status, and what is sent.
        let table = [
            (0, "a", Some("READY=1\nWATCHDOG=1\nSTATUS=a\n")),
            (500, "b", None),
            (1_000, "b", Some("WATCHDOG=1\n")),
            (interval, "b", Some("WATCHDOG=1\nSTATUS=b\n")),
            (interval + 999, "b", None),
            (2 * interval, "b", Some("WATCHDOG=1\n")),
        ];
        for (millis, status, expected) in table {
            let lines = supervision.poll(status.to_owned(), at(millis));
            assert_eq!(lines.as_deref(), expected, "{millis} ms");
        }
        let now = at(2 * interval + 1);
        assert!(!supervision.is_due(now));
        supervision.handle_stop();
        assert!(supervision.is_due(now));
        let lines = supervision.poll("c".to_owned(), now);
        assert_eq!(lines.as_deref(), Some("STOPPING=1\nSTATUS=c\n"));
        assert_eq!(supervision.deadline(), Some(at(2 * interval + 1_000)));
    }

    #[test]
    fn without_a_watchdog_there_is_no_wake_up_after_the_beginning() {
        let mut supervision = Supervision::new(None);
        assert_eq!(supervision.deadline(), Some(Time::ZERO));
        assert!(supervision.poll(String::new(), at(1)).is_some());
        assert_eq!(supervision.deadline(), None);
    }
}
