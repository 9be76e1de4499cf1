//! Publications in progress: where they go, and who waits for which answers of the broker. It owns counting these and
//! their deadlines; it must not judge what is published.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::broker::{Brokers, Unanswered};
use crate::http::Key;
use crate::http::publication::Publication;
use crate::limits::ANSWER_DEADLINE;
use crate::net::Net;
use crate::time::Time;

/// Publications whose clients wait for a reply.
#[derive(Default)]
pub struct Publications {
    next_number: u64,
    pending: HashMap<u64, Pending>,
    /// All publications in the order in which they were sent, including some that were answered.
    sent: VecDeque<(Time, u64)>,
    /// To be published by the broker alone.
    brokered: VecDeque<(Key, Publication)>,
    /// To be published here as well, when the log has room. A client has one at a time.
    waiting: VecDeque<(Key, Publication)>,
}

/// How often to check for room in the log if nothing else happens.
const ROOM_CHECK: Duration = Duration::from_millis(2);

struct Pending {
    key: Key,
    /// How many answers are missing.
    awaited: usize,
    /// The first one that failed.
    failure: Option<Unanswered>,
}

/// The outcome of a publication.
pub type Outcome = (Key, Result<(), Unanswered>);

impl Publications {
    /// A client publishes something; `is_here` is whether the broker does not deliver all of it.
    pub fn handle_submission(&mut self, key: Key, publication: Publication, is_here: bool) {
        match is_here {
            true => self.waiting.push_back((key, publication)),
            false => self.brokered.push_back((key, publication)),
        }
    }

    /// The broker has answered what was sent; the outcome of the publication, if this was the last answer.
    pub fn handle_answer(
        &mut self,
        number: u64,
        answer: Result<(), Unanswered>,
    ) -> Option<Outcome> {
        let unsure = |unanswered| match unanswered {
            Unanswered::Lost => Unanswered::Unsure,
            other => other,
        };
        self.settle(number, answer.map_err(unsure))
    }

    fn settle(&mut self, number: u64, answer: Result<(), Unanswered>) -> Option<Outcome> {
        let pending = self.pending.get_mut(&number)?;
        pending.awaited -= 1;
        if let Err(unanswered) = answer {
            pending.failure.get_or_insert(unanswered);
        }
        if pending.awaited > 0 {
            return None;
        }
        let pending = self.pending.remove(&number)?;
        Some((pending.key, pending.failure.map_or(Ok(()), Err)))
    }

    /// The next one to publish. What is published here waits until subscribers have been offered what came before;
    /// otherwise a burst would evict it from the log.
    pub fn poll_submission(&mut self, has_room: bool) -> Option<(Key, Publication)> {
        let brokered = self.brokered.pop_front();
        brokered.or_else(|| has_room.then(|| self.waiting.pop_front()).flatten())
    }

    /// The next one whose answers are late.
    pub fn poll_late(&mut self, now: Time) -> Option<Outcome> {
        while let Some(&(sent_at, number)) = self.sent.front() {
            if !self.pending.contains_key(&number) {
                self.sent.pop_front();
                continue;
            }
            if sent_at + ANSWER_DEADLINE > now {
                return None;
            }
            let pending = self.pending.remove(&number)?;
            return Some((pending.key, Err(Unanswered::Unsure)));
        }
        None
    }

    /// Publishes by the broker what it delivers of a publication: all of it or nothing. Returns the outcome if it is known
    /// already.
    pub fn send<N: Net>(
        &mut self,
        key: Key,
        publication: &Publication,
        brokers: &mut Brokers<N>,
        now: Time,
    ) -> Option<Outcome> {
        let message = publication.message.as_bytes();
        let channels = publication.channels.iter();
        let brokered: Vec<&String> = channels
            .filter(|name| brokers.for_channel(name).delivers())
            .collect();
        if brokered.is_empty() {
            return Some((key, Ok(())));
        }
        let names: usize = brokered.iter().map(|name| name.len()).sum();
        let bytes = names + brokered.len() * message.len();
        if let Err(unanswered) = brokers.channels().room(brokered.len(), bytes) {
            return Some((key, Err(unanswered)));
        }
        let number = self.begin(key, brokered.len(), now);
        let outcomes = brokered.into_iter().filter_map(|channel| {
            let broker = brokers.for_channel(channel);
            let sent = broker.publish(number, channel.as_bytes(), message);
            self.settle(number, Err(sent.err()?))
        });
        outcomes.last()
    }

    /// When answers are late, or there may be room in the log.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        if !self.waiting.is_empty() {
            return Some(now + ROOM_CHECK);
        }
        let (sent_at, _) = self.sent.front()?;
        Some(*sent_at + ANSWER_DEADLINE)
    }

    /// Adds a publication that so many answers are expected for; returns its number.
    fn begin(&mut self, key: Key, awaited: usize, now: Time) -> u64 {
        debug_assert!(awaited > 0);
        let number = self.next_number;
        self.next_number += 1;
        let pending = Pending {
            key,
            awaited,
            failure: None,
        };
        self.pending.insert(number, pending);
        self.sent.push_back((now, number));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_answered_once_when_all_its_answers_are_there_or_too_late() {
        let key = |index| Key {
            index,
            generation: 0,
        };
        let mut publications = Publications::default();
        let now = Time::from_micros(7);
        assert_eq!(publications.deadline(now), None);
        let one = publications.begin(key(1), 2, now);
        let other = publications.begin(key(2), 2, now);
        let late = publications.begin(key(3), 1, now);
        assert_eq!(publications.handle_answer(one, Ok(())), None);
        assert_eq!(
            publications.handle_answer(other, Err(Unanswered::Lost)),
            None
        );
        assert_eq!(
            publications.handle_answer(one, Ok(())),
            Some((key(1), Ok(())))
        );
        let lost = Some((key(2), Err(Unanswered::Unsure)));
        assert_eq!(publications.handle_answer(other, Ok(())), lost);
        assert_eq!(publications.poll_late(now), None);
        let deadline = publications.deadline(now).unwrap();
        assert_eq!(deadline, now + ANSWER_DEADLINE);
        let gone = Some((key(3), Err(Unanswered::Unsure)));
        assert_eq!(publications.poll_late(deadline), gone);
        assert_eq!(publications.poll_late(deadline), None);
        assert_eq!(publications.handle_answer(late, Ok(())), None);
        assert_eq!(publications.deadline(now), None);
    }
}
