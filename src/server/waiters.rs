//! Waiters: requests that wait for the same answer of the broker, and the reply that is reused for a while. It owns who
//! waits and for how long; it must not know the question.

use std::time::Duration;

use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits::ANSWER_DEADLINE;
use crate::report::recent::Recent;
use crate::time::Time;

/// Who waits for the answer to one question, and the last reply.
#[derive(Default)]
pub struct Waiters {
    known: Recent,
    asked_at: Option<Time>,
    waiting: Vec<Key>,
}

impl Waiters {
    /// Adds a client that waits; whether the question must be asked now.
    pub fn wait(&mut self, key: Key, now: Time) -> bool {
        self.waiting.push(key);
        if self.asked_at.is_some() {
            return false;
        }
        self.asked_at = Some(now);
        true
    }

    /// Stores the reply, to be reused for so long; returns who waits for it.
    pub fn answer(&mut self, reply: Reply, age_max: Duration, now: Time) -> Vec<Key> {
        self.asked_at = None;
        self.known.put(reply, age_max, now);
        std::mem::take(&mut self.waiting)
    }

    /// Extends the deadline, because a part of the answer has come.
    pub fn renew(&mut self, now: Time) {
        self.asked_at = self.asked_at.map(|_| now);
    }

    /// The last reply, while it may be reused.
    pub fn fresh(&mut self, now: Time) -> Option<&Reply> {
        self.known.get(now)
    }

    /// Until when the waiting clients wait, if there are any.
    pub fn deadline(&self) -> Option<Time> {
        self.asked_at.map(|at| at + ANSWER_DEADLINE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_wait_share_one_question_and_its_answer_for_a_while() {
        let key = |index| Key {
            index,
            generation: 0,
        };
        let mut inquiry = Waiters::default();
        let mut now = Time::from_micros(5);
        assert_eq!(inquiry.fresh(now), None);
        assert!(inquiry.wait(key(1), now));
        assert!(!inquiry.wait(key(2), now));
        assert_eq!(inquiry.deadline(), Some(now + ANSWER_DEADLINE));
        let reply = Reply::json(200, b"{}".to_vec());
        let waited = inquiry.answer(reply.clone(), Duration::from_secs(1), now);
        assert_eq!(waited, [key(1), key(2)]);
        assert_eq!(
            (inquiry.deadline(), inquiry.fresh(now)),
            (None, Some(&reply))
        );
        now = now + Duration::from_secs(1);
        assert_eq!(inquiry.fresh(now), None);
        assert!(inquiry.wait(key(3), now));
    }
}
