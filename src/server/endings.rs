//! Endings: when streams end, one by one or all together. It owns which one is next while the server stops; it must not end
//! anything itself.

use std::time::Duration;

use super::settings::{Pacing, Reconnect};
use crate::bus::sse;
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::random::Random;
use crate::time::Time;

/// The streams that are still to be ended because the server stops.
#[derive(Default)]
pub struct DrainSchedule {
    waiting: Vec<Key>,
    per_beat: usize,
    left_in_beat: usize,
    /// When the next slice is due, while there may be one.
    next_at: Option<Time>,
    /// The longest time after which a client is to return, once a drain has begun.
    pause_max: Option<Duration>,
    /// Until when newcomers are answered at least, and whether also until all streams were told to end. `None` if they are not
    /// awaited, or not any more.
    open_until: Option<(Time, bool)>,
}

impl DrainSchedule {
    /// Ends these streams, in slices over at most the configured time. Newcomers are answered meanwhile, and for the grace
    /// if there are any clients, unless other processes answer them.
    pub fn begin(&mut self, waiting: Vec<Key>, pacing: &Pacing, has_clients: bool, now: Time) {
        let count = waiting.len().try_into().unwrap_or(u32::MAX);
        let spread = limits::DRAIN_RETRY_PER_STREAM.saturating_mul(count);
        self.pause_max = Some((limits::DRAIN_RETRY_MIN + spread).min(limits::DRAIN_RETRY_MAX));
        let until = match has_clients {
            true => now + pacing.drain_grace,
            false => now,
        };
        self.open_until = Some((until, !pacing.others_listen));
        let span = pacing.drain;
        let beats = span.as_micros() / limits::DRAIN_BEAT.as_micros();
        let per_beat = waiting.len() / (beats as usize).max(1) + 1;
        self.per_beat = per_beat.max(limits::DRAIN_SLICE_MIN);
        self.left_in_beat = self.per_beat;
        self.waiting = waiting;
        self.next_at = Some(now);
    }

    /// The next stream of the slice that is due; it may have ended already.
    pub fn poll(&mut self, now: Time) -> Option<Key> {
        let at = self.next_at.filter(|&at| at <= now)?;
        if self.left_in_beat == 0 {
            self.left_in_beat = self.per_beat;
            self.next_at = Some(at + limits::DRAIN_BEAT);
            return None;
        }
        self.left_in_beat -= 1;
        let key = self.waiting.pop();
        if key.is_none() {
            self.next_at = None;
        }
        key
    }

    /// Whether newcomers are not awaited any longer; it is said once.
    pub fn poll_closing(&mut self, now: Time) -> bool {
        let is_untold = self.next_at.is_some();
        let is_closing =
            |&mut (at, is_last): &mut (Time, bool)| at <= now && !(is_last && is_untold);
        self.open_until.take_if(is_closing).is_some()
    }

    /// When the next slice is due, or newcomers are not awaited any longer.
    pub fn deadline(&self) -> Option<Time> {
        self.next_at.or(self.open_until.map(|(at, _)| at))
    }

    /// After which time a client is to return, if the server stops. The times are spread, so that the clients do not return
    /// all at once.
    pub fn pause(&self, random: &mut Random) -> Option<Duration> {
        let pause_max = self.pause_max?;
        Some(random.between(limits::DRAIN_RETRY_MIN, pause_max))
    }

    /// Whether the server stops.
    pub fn has_begun(&self) -> bool {
        self.pause_max.is_some()
    }

    /// Whether newcomers are still awaited.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

/// What a stream ends with before its position: when to return, if the server stops.
pub fn last_block(pause: Option<Duration>) -> Vec<u8> {
    let mut block = Vec::new();
    if let Some(pause) = pause {
        sse::encode_retry(&mut block, pause.as_millis() as u32);
    }
    block
}

/// The reply to a long poll: these events, or none.
pub fn poll_reply(retry_ms: Option<u32>, events: &[u8]) -> Reply {
    let mut body = Vec::new();
    if let Some(retry_ms) = retry_ms.filter(|_| !events.is_empty()) {
        sse::encode_retry(&mut body, retry_ms);
    }
    body.extend_from_slice(events);
    Reply::finite_stream(body)
}

/// When a stream that begins now is to end. The times are spread, so that clients that came together do not all return
/// together.
pub fn lifetime_over(reconnect: Reconnect, random: &mut Random, now: Time) -> Option<Time> {
    let longest = reconnect.lifetime?;
    let shortest = longest * 4 / 5 + limits::LIFETIME_SLACK;
    Some(now + random.between(shortest.min(longest), longest))
}

/// The reply to a long poll while the server stops. After an empty one, a script would ask again at once.
pub fn poll_refusal(pause: Duration) -> Reply {
    stopping_reply().with_retry_after(pause.as_secs().max(1))
}

/// The reply to requests while the server stops.
pub fn stopping_reply() -> Reply {
    Reply::error(503, "the server is stopping; try another one").with_retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_ends_everybody_in_slices() {
        let keys = |count| {
            (0..count)
                .map(|index| Key {
                    index,
                    generation: 1,
                })
                .collect()
        };
        for (count, millis, expected) in
            [(0, 0, 0), (50, 0, 50), (50, 2_000, 20), (1_000, 200, 101)]
        {
            let mut schedule = DrainSchedule::default();
            let mut now = Time::from_micros(7);
            let pacing = Pacing {
                drain: Duration::from_millis(millis),
                others_listen: true,
                ..Pacing::default()
            };
            schedule.begin(keys(count), &pacing, true, now);
            assert!(schedule.poll_closing(now), "others answer newcomers");
            let slice = std::iter::from_fn(|| schedule.poll(now)).count();
            assert_eq!(slice, expected, "{count} in {millis} ms");
            let mut ended = slice;
            let begun = now;
            while let Some(at) = schedule.deadline() {
                now = now.max(at);
                ended += std::iter::from_fn(|| schedule.poll(now)).count();
            }
            assert_eq!(ended, count as usize);
            assert!(now.since(begun) <= Duration::from_millis(millis) + limits::DRAIN_BEAT);
        }
    }
}
