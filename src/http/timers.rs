//! Timers: when each connection must next be looked at. It owns the queues of pending entries; it must not know what is
//! due, because a connection's deadline moves far more often (with every write) than it expires.
//!
//! A connection has at most one valid entry, which may fire early, but never late: then the deadline is compared, and the
//! entry renewed. In each queue all entries wait for the same span, so that they are in order of insertion. A span without
//! a queue of its own waits in the next shorter one, and then again for the rest.

use std::collections::VecDeque;
use std::time::Duration;

use super::Key;
use crate::limits::{LIFETIME_SLACK, TIMER_SLACK};
use crate::time::Time;

/// The spans for the rests. Their exact values only decide how often an entry fires early: some five times, each at the
/// cost of a queue operation.
const LADDER: [Duration; 8] = [
    Duration::from_secs(8),
    Duration::from_secs(4),
    Duration::from_secs(2),
    Duration::from_secs(1),
    Duration::from_millis(500),
    TIMER_SLACK,
    Duration::from_millis(60),
    LIFETIME_SLACK,
];

/// The queues, longest span first.
pub struct Timers {
    queues: Vec<Queue>,
}

struct Queue {
    span: Duration,
    entries: VecDeque<(Time, Key)>,
}

impl Timers {
    /// Queues for these spans, and for the rests.
    pub fn new(spans: &[Duration]) -> Timers {
        let mut all: Vec<Duration> = spans.iter().chain(&LADDER).copied().collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.dedup();
        let queues = all.into_iter().map(|span| Queue {
            span,
            entries: VecDeque::new(),
        });
        Timers {
            queues: queues.collect(),
        }
    }

    /// Adds an entry that fires at or before `deadline`; returns when, which distinguishes it from outdated entries.
    pub fn arm(&mut self, key: Key, deadline: Time, now: Time) -> Time {
        let rest = deadline.since(now);
        let index = self.queues.iter().position(|queue| queue.span <= rest);
        let index = index.unwrap_or(self.queues.len() - 1);
        let queue = &mut self.queues[index];
        let at = now + queue.span;
        debug_assert!(queue.entries.back().is_none_or(|&(last, _)| last <= at));
        queue.entries.push_back((at, key));
        at
    }

    /// When the next entry fires, valid or not.
    pub fn next(&self) -> Option<Time> {
        self.queues
            .iter()
            .filter_map(|queue| queue.entries.front())
            .map(|&(at, _)| at)
            .min()
    }

    /// Removes an entry that is due, or will be within [`TIMER_SLACK`]: a thousand idle clients then cost four wake-ups a
    /// second and not a thousand. Entries with short spans fire less early; otherwise a renewed one could be due at once.
    pub fn pop(&mut self, now: Time) -> Option<(Time, Key)> {
        self.queues.iter_mut().find_map(|queue| {
            let &(at, _) = queue.entries.front()?;
            let slack = TIMER_SLACK.min(queue.span / 4);
            if at <= now + slack {
                queue.entries.pop_front()
            } else {
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn looks_come_in_time_and_a_moved_deadline_costs_few_of_them() {
        let mut random = Random::new(1);
        let mut timers = Timers::new(&[Duration::from_secs(15), Duration::from_secs(10)]);
        for round in 0..1_000_u32 {
            let key = Key {
                index: round,
                generation: round,
            };
            let mut now = Time::from_micros(random.below(1_000_000_000));
            let deadline = now + random.between(Duration::ZERO, Duration::from_secs(300));
            let mut looks = 0;
            // Each round empties the queues, so that rounds may start at any time.
            while deadline.since(now) > TIMER_SLACK {
                let at = timers.arm(key, deadline, now);
                assert_eq!(timers.next(), Some(at));
                assert!(
                    at > now && at <= deadline,
                    "a look may come early, never late"
                );
                assert_eq!(timers.pop(at), Some((at, key)));
                now = at;
                looks += 1;
            }
            assert!(looks <= 26, "{looks} looks at one deadline");
        }
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn entries_close_together_share_a_wake_up() {
        let mut timers = Timers::new(&[Duration::from_secs(15)]);
        for index in 0..100 {
            let now = Time::from_micros(u64::from(index) * 1_000);
            timers.arm(
                Key {
                    index,
                    generation: 0,
                },
                now + Duration::from_secs(15),
                now,
            );
        }
        let first = timers.next().unwrap();
        let together = std::iter::from_fn(|| timers.pop(first)).count();
        assert_eq!(together, 100);
    }
}
