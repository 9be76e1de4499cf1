//! Publications under way: where they go, and who waits for which answers of the broker. It owns counting these and
//! their deadlines; it must not judge what is published.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::broker::{Brokers, Unanswered};
use crate::http::Key;
use crate::http::publication::Publication;
use crate::limits::ANSWER_DEADLINE;
use crate::net::Net;
use crate::time::Time;

/// What is published and not yet answered for.
#[derive(Default)]
pub struct Publications {
    next_number: u64,
    under_way: HashMap<u64, UnderWay>,
    /// All that began, in their order, some of them over.
    began: VecDeque<(Time, u64)>,
    /// What is to be published by the broker alone.
    brokered: VecDeque<Submission>,
    /// What is to be published here, and waits for room. A client has one at a time.
    waiting: VecDeque<Submission>,
}

/// What a client wants published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Who waits for the answer.
    pub key: Key,
    /// On which channels: at least one.
    pub channels: Vec<String>,
    /// What.
    pub message: String,
}

impl Submission {
    /// What a client of this connection wants published.
    pub fn new(key: Key, publication: Publication) -> Submission {
        Submission {
            key,
            channels: publication.channels,
            message: publication.message,
        }
    }
}

/// How soon it is seen whether there is room again, if nothing else happens.
const ROOM_CHECK: Duration = Duration::from_millis(2);

struct UnderWay {
    key: Key,
    /// Answers that are still to come.
    awaited: usize,
    /// What went wrong first.
    failure: Option<Unanswered>,
}

/// What became of a publication.
pub type Outcome = (Key, Result<(), Unanswered>);

impl Publications {
    /// A client wants something published; `is_here` is whether some of it goes to nobody but our own clients.
    pub fn handle_submission(&mut self, submission: Submission, is_here: bool) {
        match is_here {
            true => self.waiting.push_back(submission),
            false => self.brokered.push_back(submission),
        }
    }

    /// An answer has come; what became of the publication, if it was the last one.
    pub fn handle_answer(
        &mut self,
        number: u64,
        answer: Result<(), Unanswered>,
    ) -> Option<Outcome> {
        let under_way = self.under_way.get_mut(&number)?;
        under_way.awaited -= 1;
        if let Err(unanswered) = answer {
            under_way.failure.get_or_insert(unanswered);
        }
        if under_way.awaited > 0 {
            return None;
        }
        let under_way = self.under_way.remove(&number)?;
        Some((under_way.key, under_way.failure.map_or(Ok(()), Err)))
    }

    /// The next one to publish. What is published here waits until those who are to have it have had what came
    /// before: a burst must not push out of the log what nobody could take yet.
    pub fn poll_submission(&mut self, has_room: bool) -> Option<Submission> {
        let brokered = self.brokered.pop_front();
        brokered.or_else(|| has_room.then(|| self.waiting.pop_front()).flatten())
    }

    /// The next one that has waited for too long.
    pub fn poll_late(&mut self, now: Time) -> Option<Outcome> {
        while let Some(&(began_at, number)) = self.began.front() {
            if !self.under_way.contains_key(&number) {
                self.began.pop_front();
                continue;
            }
            if began_at + ANSWER_DEADLINE > now {
                return None;
            }
            let under_way = self.under_way.remove(&number)?;
            return Some((under_way.key, Err(Unanswered::Late)));
        }
        None
    }

    /// Publishes by the broker what it delivers of a submission: all of it or nothing. What became of it, where that
    /// is known already.
    pub fn send<N: Net>(
        &mut self,
        submission: &Submission,
        brokers: &mut Brokers<N>,
        now: Time,
    ) -> Option<Outcome> {
        let Submission {
            key,
            channels,
            message,
        } = submission;
        let brokered = channels
            .iter()
            .filter(|name| brokers.for_channel(name).delivers());
        let brokered: Vec<&String> = brokered.collect();
        if brokered.is_empty() {
            return Some((*key, Ok(())));
        }
        let names: usize = brokered.iter().map(|name| name.len()).sum();
        let bytes = names + brokered.len() * message.len();
        if let Err(unanswered) = brokers.channels().room(brokered.len(), bytes) {
            return Some((*key, Err(unanswered)));
        }
        let number = self.begin(*key, brokered.len(), now);
        let answers = brokered.into_iter().filter_map(|channel| {
            let broker = brokers.for_channel(channel);
            let sent = broker.publish(number, channel.as_bytes(), message.as_bytes());
            sent.err()
        });
        let failed: Vec<Unanswered> = answers.collect();
        let outcomes = failed
            .into_iter()
            .filter_map(|unanswered| self.handle_answer(number, Err(unanswered)));
        outcomes.last()
    }

    /// When one may have waited for too long, or may have room; `now` is the moment at which it waits.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        if !self.waiting.is_empty() {
            return Some(now + ROOM_CHECK);
        }
        let (began_at, _) = self.began.front()?;
        Some(*began_at + ANSWER_DEADLINE)
    }

    /// Begins one that so many answers are to come for, and names it.
    fn begin(&mut self, key: Key, awaited: usize, now: Time) -> u64 {
        debug_assert!(awaited > 0);
        let number = self.next_number;
        self.next_number += 1;
        let under_way = UnderWay {
            key,
            awaited,
            failure: None,
        };
        self.under_way.insert(number, under_way);
        self.began.push_back((now, number));
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
        let lost = Some((key(2), Err(Unanswered::Lost)));
        assert_eq!(publications.handle_answer(other, Ok(())), lost);
        assert_eq!(publications.poll_late(now), None);
        let deadline = publications.deadline(now).unwrap();
        assert_eq!(deadline, now + ANSWER_DEADLINE);
        let gone = Some((key(3), Err(Unanswered::Late)));
        assert_eq!(publications.poll_late(deadline), gone);
        assert_eq!(publications.poll_late(deadline), None);
        assert_eq!(publications.handle_answer(late, Ok(())), None);
        assert_eq!(publications.deadline(now), None);
    }
}
