//! Confirms: which published messages the broker has not spoken of, and what became of the others. It owns the
//! numbers by which both sides name them; it must not know what was published.

use std::collections::VecDeque;

use crate::broker::Unanswered;

/// What became of a message: the broker has it, or why not.
pub(super) type Answer = Result<(), Unanswered>;

/// Messages on their way, and answers on theirs.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    /// How many were published since the channel was opened.
    published: u64,
    /// The broker's number and ours for each that is not confirmed, in order.
    unconfirmed: VecDeque<(u64, u64)>,
    answers: VecDeque<(u64, Answer)>,
}

impl Confirms {
    /// One was published.
    pub(super) fn add(&mut self, id: u64) {
        self.published += 1;
        self.unconfirmed.push_back((self.published, id));
    }

    /// How many are not confirmed.
    pub(super) fn len(&self) -> usize {
        self.unconfirmed.len()
    }

    /// The broker has spoken of one, or of all up to it.
    pub(super) fn on_confirm(&mut self, number: u64, is_multiple: bool, answer: &Answer) {
        if is_multiple {
            while let Some(&(first, id)) = self.unconfirmed.front()
                && first <= number
            {
                self.unconfirmed.pop_front();
                self.answers.push_back((id, answer.clone()));
            }
        } else if let Ok(index) = self
            .unconfirmed
            .binary_search_by_key(&number, |pair| pair.0)
            && let Some((_, id)) = self.unconfirmed.remove(index)
        {
            self.answers.push_back((id, answer.clone()));
        }
    }

    /// Nothing will be heard of the rest, and the broker counts from one again.
    pub(super) fn start_again(&mut self, why: &Unanswered) {
        self.published = 0;
        for (_, id) in self.unconfirmed.drain(..) {
            self.answers.push_back((id, Err(why.clone())));
        }
    }

    /// Answers one that was not even published.
    pub(super) fn answer(&mut self, id: u64, answer: Answer) {
        self.answers.push_back((id, answer));
    }

    /// The next answer.
    pub(super) fn poll(&mut self) -> Option<(u64, Answer)> {
        self.answers.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_come_one_by_one_or_many_at_once_and_in_any_order() {
        // Numbers that are confirmed, with `true` for all up to it; our own numbers in the order of answers.
        let table: &[(&[(u64, bool)], &[u64])] = &[
            (&[(1, false), (2, false)], &[10, 20]),
            (&[(3, false), (1, false)], &[30, 10]),
            (&[(2, true)], &[10, 20]),
            (&[(2, false), (4, true)], &[20, 10, 30, 40]),
            (&[(2, true), (2, true), (2, false)], &[10, 20]),
            (&[(9, false), (0, true)], &[]),
            (&[(9, true)], &[10, 20, 30, 40]),
        ];
        for (confirmed, expected) in table {
            let mut confirms = Confirms::default();
            for id in [10, 20, 30, 40] {
                confirms.add(id);
            }
            for &(number, is_multiple) in *confirmed {
                confirms.on_confirm(number, is_multiple, &Ok(()));
            }
            let answered: Vec<u64> = std::iter::from_fn(|| confirms.poll())
                .map(|(id, _)| id)
                .collect();
            assert_eq!(answered, *expected, "{confirmed:?}");
            assert_eq!(confirms.len(), 4 - expected.len());
            confirms.start_again(&Unanswered::Lost);
            let lost: Vec<_> = std::iter::from_fn(|| confirms.poll()).collect();
            assert_eq!(lost.len(), 4 - expected.len());
            assert!(
                lost.iter()
                    .all(|(_, answer)| *answer == Err(Unanswered::Lost))
            );
        }
    }
}
