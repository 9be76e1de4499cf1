//! Publications under way: who waits for which answers of the broker. It owns counting them and their deadlines; it
//! must not know what is published.

use std::collections::{HashMap, VecDeque};

use crate::engine::Key;
use crate::limits::ANSWER_DEADLINE;
use crate::source::Unanswered;
use crate::time::Time;

/// What is published and not yet answered for.
#[derive(Default)]
pub struct Publications {
    next_number: u64,
    under_way: HashMap<u64, UnderWay>,
    /// All that began, in their order, some of them over.
    began: VecDeque<(Time, u64)>,
}

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
    /// Begins one that so many answers are to come for, and names it.
    pub fn begin(&mut self, key: Key, awaited: usize, now: Time) -> u64 {
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

    /// An answer has come; what became of the publication, if it was the last one.
    pub fn on_answer(&mut self, number: u64, answer: Result<(), Unanswered>) -> Option<Outcome> {
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

    /// The next one that has waited for too long.
    pub fn next_late(&mut self, now: Time) -> Option<Outcome> {
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

    /// When one may have waited for too long.
    pub fn deadline(&self) -> Option<Time> {
        let (began_at, _) = self.began.front()?;
        Some(*began_at + ANSWER_DEADLINE)
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
        assert_eq!(publications.deadline(), None);
        let one = publications.begin(key(1), 2, now);
        let other = publications.begin(key(2), 2, now);
        let late = publications.begin(key(3), 1, now);
        assert_eq!(publications.on_answer(one, Ok(())), None);
        assert_eq!(publications.on_answer(other, Err(Unanswered::Lost)), None);
        assert_eq!(publications.on_answer(one, Ok(())), Some((key(1), Ok(()))));
        let lost = Some((key(2), Err(Unanswered::Lost)));
        assert_eq!(publications.on_answer(other, Ok(())), lost);
        assert_eq!(publications.next_late(now), None);
        let deadline = publications.deadline().unwrap();
        assert_eq!(deadline, now + ANSWER_DEADLINE);
        let gone = Some((key(3), Err(Unanswered::Late)));
        assert_eq!(publications.next_late(deadline), gone);
        assert_eq!(publications.next_late(deadline), None);
        assert_eq!(publications.on_answer(late, Ok(())), None);
        assert_eq!(publications.deadline(), None);
    }
}
