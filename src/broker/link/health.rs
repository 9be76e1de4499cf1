//! Health: how a link has fared so far, which decides how long it waits before it is tried again. It owns the
//! counting; it must not know what is said over the link.

use crate::limits;
use crate::time::Time;

/// The failures of one link, and since when it has been live or has not been.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    /// Attempts that failed since it last was live for a while.
    failures: u32,
    losses: u64,
    since: Time,
}

impl Health {
    /// The link has become live. For how long it had been away, to be appended to a line of the log; nothing at
    /// the first attempt.
    pub fn on_live(&mut self, now: Time) -> String {
        let after = match self.failures {
            0 => String::new(),
            _ => format!(" after {:.1} s", now.since(self.since).as_secs_f64()),
        };
        self.since = now;
        after
    }

    /// The link was lost, or an attempt has failed. Whoever accepts a connection and drops it at once is not to be
    /// asked ten times a second: only a link that has lasted clears the failures before.
    pub fn on_failure(&mut self, was_live: bool, now: Time) {
        if was_live && now.since(self.since) >= limits::PING_INTERVAL {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if was_live {
            self.losses += 1;
            self.since = now;
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often a live link was lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Since when it has been live, or has not been.
    pub fn since(&self) -> Time {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_that_has_lasted_clears_its_failures() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let mut health = Health::default();
        assert_eq!(health.on_live(at(1)), "");
        // When it fails next, whether it is live then, and failures and losses afterwards.
        for (seconds, was_live, failures, losses) in [
            (2, true, 1, 1),
            (3, false, 2, 1),
            (4, true, 3, 2),
            (4 + limits::PING_INTERVAL.as_secs(), true, 1, 3),
        ] {
            health.on_failure(was_live, at(seconds));
            let counted = (health.failures(), health.losses());
            assert_eq!(counted, (failures, losses), "{seconds} s");
        }
        assert_eq!(health.on_live(at(16)), " after 2.0 s");
        assert_eq!(health.since(), at(16));
    }
}
