//! The ticker: when scores are summed up. It owns the horizon, up to which eps has its sums, and the beat; it must not
//! know scores.

use std::time::Duration;

use crate::limits::TICK;
use crate::time::Time;

/// The beat of the rolled-up scores.
pub struct Ticker {
    /// Sums reach up to this number, and no subscriber of eps has more.
    horizon: u64,
    /// Where the horizon was before the last tick.
    last_horizon: u64,
    /// When the next tick is due; set exactly while something waits for it.
    due_at: Option<Time>,
    /// The beat after a tick: until then the source may be left alone if it feeds nothing but eps.
    rest_until: Option<Time>,
    /// When the first of what waits arrived; meaningless while nothing waits.
    waiting_since: Time,
    /// Whether scores are among what waits.
    has_scores: bool,
}

/// A tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// Where sums begin.
    pub from: u64,
    /// When the first of what waited arrived.
    pub waiting_since: Time,
    /// Whether there is something to sum up.
    pub has_scores: bool,
    /// How late it is served.
    pub lateness: Duration,
}

impl Ticker {
    /// A ticker that nothing waits for.
    pub fn new() -> Ticker {
        Ticker {
            horizon: 0,
            last_horizon: 0,
            due_at: None,
            rest_until: None,
            waiting_since: Time::ZERO,
            has_scores: false,
        }
    }

    /// Eps becomes wanted at this number: what came before is nobody's.
    pub fn begin(&mut self, head: u64) {
        self.horizon = head;
        self.last_horizon = head;
        self.has_scores = false;
    }

    /// A message waits for the tick, perhaps a score.
    pub fn arm(&mut self, is_score: bool, now: Time) {
        self.has_scores |= is_score;
        if self.due_at.is_none() {
            let rested = self.rest_until.filter(|&at| at <= now);
            self.due_at = Some(rested.unwrap_or_else(|| now.next_beat(TICK)));
            // What has been waiting in the source may have come as early as when the rest began.
            self.waiting_since = rested.map_or(now, |at| at - TICK);
        }
    }

    /// The tick, if it is due: the horizon moves to the head.
    pub fn poll(&mut self, head: u64, now: Time) -> Option<Tick> {
        let Some(due_at) = self.due_at.take_if(|at| *at <= now) else {
            self.rest_until = self.rest_until.filter(|&at| at > now);
            return None;
        };
        self.rest_until = Some(now.next_beat(TICK));
        self.last_horizon = std::mem::replace(&mut self.horizon, head);
        Some(Tick {
            from: self.last_horizon,
            waiting_since: self.waiting_since,
            has_scores: std::mem::take(&mut self.has_scores),
            lateness: now.since(due_at),
        })
    }

    /// The source has more to say than can be taken at a tick, or has ended: it is not left alone.
    pub fn end_rest(&mut self) {
        self.rest_until = None;
    }

    /// Up to where eps has its sums.
    pub fn horizon(&self) -> u64 {
        self.horizon
    }

    /// Where the horizon was before the last tick: a sum that begins earlier is one of several ticks.
    pub fn last_horizon(&self) -> u64 {
        self.last_horizon
    }

    /// When the tick is due.
    pub fn due_at(&self) -> Option<Time> {
        self.due_at
    }

    /// Until when the source may be left alone.
    pub fn rest_until(&self) -> Option<Time> {
        self.rest_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_moves_at_the_beat_and_only_when_something_waits() {
        let mut ticker = Ticker::new();
        ticker.begin(5);
        let now = Time::from_micros(1_000);
        assert_eq!(ticker.poll(6, now), None);
        ticker.arm(true, now);
        ticker.arm(false, now + Duration::from_millis(3));
        let due_at = now.next_beat(TICK);
        assert_eq!((ticker.due_at(), ticker.horizon()), (Some(due_at), 5));
        assert_eq!(ticker.poll(8, now), None);
        let late = Duration::from_millis(2);
        let tick = Tick {
            from: 5,
            waiting_since: now,
            has_scores: true,
            lateness: late,
        };
        assert_eq!(ticker.poll(9, due_at + late), Some(tick));
        assert_eq!(
            (ticker.horizon(), ticker.last_horizon(), ticker.due_at()),
            (9, 5, None)
        );
        let rest_until = due_at.next_beat(TICK);
        assert_eq!(ticker.rest_until(), Some(rest_until));
        // What the source brings after the rest is due at once.
        ticker.arm(true, rest_until);
        assert_eq!(ticker.due_at(), Some(rest_until));
        let tick = ticker.poll(12, rest_until).unwrap();
        assert_eq!((tick.from, tick.waiting_since), (9, due_at));
        assert_eq!(ticker.poll(12, rest_until + TICK), None);
        assert_eq!(ticker.rest_until(), None);
    }
}
