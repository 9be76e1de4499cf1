//! Timers: when each connection must next be looked at. It owns the pending entries; it must not know what is due, because a
//! connection's deadline moves far more often (with every write) than it expires.
//!
//! A connection has at most one valid entry, which may fire early, but never late: then the deadline is compared, and the
//! entry renewed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Key;
use crate::limits::TIMER_SLACK;
use crate::time::Time;

/// All entries, of which some are outdated.
#[derive(Default)]
pub struct Timers(BinaryHeap<Reverse<(Time, Key)>>);

impl Timers {
    /// Adds an entry that fires at or before `deadline`; returns when, which distinguishes it from outdated entries.
    /// Unless that has passed, it is the last multiple of [`TIMER_SLACK`] before the deadline: a thousand idle clients then
    /// cost four wake-ups a second and not a thousand.
    pub fn arm(&mut self, key: Key, deadline: Time, now: Time) -> Time {
        let slack = TIMER_SLACK.as_micros() as u64;
        let beat = Time::from_micros(deadline.as_micros() / slack * slack);
        let at = if beat > now { beat } else { deadline };
        self.0.push(Reverse((at, key)));
        at
    }

    /// Removes an entry that fires by now.
    pub fn pop(&mut self, now: Time) -> Option<(Time, Key)> {
        self.next().filter(|&at| at <= now)?;
        self.0.pop().map(|Reverse(entry)| entry)
    }

    /// When the next entry fires, valid or not.
    pub fn next(&self) -> Option<Time> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::random::Random;

    fn key(index: u32) -> Key {
        Key {
            index,
            generation: index,
        }
    }

    #[test]
    fn an_entry_fires_once_early_and_then_at_the_deadline() {
        let mut random = Random::new(1);
        let mut timers = Timers::default();
        for round in 0..1_000 {
            let mut now = Time::from_micros(random.below(1_000_000_000));
            let deadline = now + random.between(Duration::ZERO, Duration::from_secs(300));
            let mut fired = 0;
            while now < deadline {
                let at = timers.arm(key(round), deadline, now);
                assert!(at > now && at <= deadline);
                assert!(fired > 0 || deadline.since(at) < TIMER_SLACK);
                assert_eq!(timers.next(), Some(at));
                assert_eq!(timers.pop(now), None);
                assert_eq!(timers.pop(at), Some((at, key(round))));
                now = at;
                fired += 1;
            }
            assert!(fired <= 2, "{fired} entries for one deadline");
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn deadlines_close_together_share_a_wake_up() {
        let mut timers = Timers::default();
        for index in 0..100 {
            let now = Time::from_micros(u64::from(index) * 1_000);
            timers.arm(key(index), now + Duration::from_secs(15), now);
        }
        let first = timers.next().unwrap();
        let together = std::iter::from_fn(|| timers.pop(first)).count();
        assert_eq!(together, 100);
    }
}
