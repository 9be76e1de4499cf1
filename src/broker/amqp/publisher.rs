//! Publisher: messages that wait to be published, and published ones that the broker has not confirmed. It owns their
//! order and the numbers that both sides give them; it does not know how they are sent.
//!
//! The broker handles its channels in no certain order. A client whose stream has begun may publish at once, and must
//! receive its own message: what is published waits until the binds that were wanted before are answered.

use std::collections::VecDeque;

use crate::broker::Unanswered;

/// What became of a message: the broker has it, or why not.
pub(super) type Answer = Result<(), Unanswered>;

/// A message to be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publication {
    pub(super) id: u64,
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
}

/// Messages on their way, and answers to be handed out.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    /// In order, each with the number of the change of bindings that must be answered first.
    waiting: VecDeque<(u64, Publication)>,
    waiting_bytes: usize,
    /// The number of messages published since the channel was opened: the broker counts them too.
    published: u64,
    /// The broker's number and our id of each message that is not confirmed, in order.
    unconfirmed: VecDeque<(u64, u64)>,
    answers: VecDeque<(u64, Answer)>,
    /// Why the broker accepts no messages at present.
    blocked: Option<String>,
}

impl Publisher {
    /// Queues a message until this change of bindings is answered.
    pub(super) fn add(&mut self, publication: Publication, change: u64) {
        self.waiting_bytes += publication.len();
        self.waiting.push_back((change, publication));
    }

    /// The broker accepts no messages for a reason, or accepts them again. Returns whether that is a change.
    pub(super) fn handle_blocked(&mut self, reason: Option<String>) -> bool {
        let is_blocked = reason.is_some();
        std::mem::replace(&mut self.blocked, reason).is_some() != is_blocked
    }

    /// The broker has confirmed or refused a message, or all up to it.
    pub(super) fn handle_confirm(&mut self, number: u64, is_multiple: bool, answer: &Answer) {
        let index = self.unconfirmed.partition_point(|pair| pair.0 < number);
        let is_there = self
            .unconfirmed
            .get(index)
            .is_some_and(|pair| pair.0 == number);
        let end = index + usize::from(is_there);
        let start = if is_multiple { 0 } else { index };
        for (_, id) in self.unconfirmed.drain(start..end) {
            self.answers.push_back((id, answer.clone()));
        }
    }

    /// The channel was closed: unconfirmed messages will not be confirmed, and the broker counts from one again.
    pub(super) fn handle_channel_closed(&mut self, reason: &Unanswered) {
        self.published = 0;
        for (_, id) in self.unconfirmed.drain(..) {
            self.answers.push_back((id, Err(reason.clone())));
        }
    }

    /// The connection is lost, with all messages on their way.
    pub(super) fn reset(&mut self) {
        self.handle_channel_closed(&Unanswered::Lost);
        for (_, publication) in self.waiting.drain(..) {
            self.answers
                .push_back((publication.id, Err(Unanswered::Lost)));
        }
        self.waiting_bytes = 0;
        self.blocked = None;
    }

    /// The next message to send, where all changes of bindings up to this one are answered.
    pub(super) fn poll_publication(&mut self, settled_change: u64) -> Option<Publication> {
        while self.waiting.front()?.0 <= settled_change {
            let (_, publication) = self.waiting.pop_front()?;
            self.waiting_bytes -= publication.len();
            let Some(reason) = &self.blocked else {
                self.published += 1;
                self.unconfirmed.push_back((self.published, publication.id));
                return Some(publication);
            };
            let refused = Unanswered::Refused(format!("blocked: {reason}"));
            self.answers.push_back((publication.id, Err(refused)));
        }
        None
    }

    /// The next answer.
    pub(super) fn poll_answer(&mut self) -> Option<(u64, Answer)> {
        self.answers.pop_front()
    }

    /// The number of messages that are sent and not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// The number of messages that are not confirmed, sent or not.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.unconfirmed.len()
    }

    /// The size of the messages that wait.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }
}

impl Publication {
    fn len(&self) -> usize {
        self.channel.len() + self.payload.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(id: u64) -> Publication {
        Publication {
            id,
            channel: "a".to_owned(),
            payload: b"bc".to_vec(),
        }
    }

    /// A publisher that has sent messages of these ids.
    fn sent(ids: &[u64]) -> Publisher {
        let mut publisher = Publisher::default();
        for &id in ids {
            publisher.add(publication(id), 0);
            assert_eq!(publisher.poll_publication(0), Some(publication(id)));
        }
        publisher
    }

    fn answers(publisher: &mut Publisher) -> Vec<(u64, Answer)> {
        std::iter::from_fn(|| publisher.poll_answer()).collect()
    }

    #[test]
    fn confirms_come_one_by_one_or_many_at_once_and_in_any_order() {
        // Numbers that are confirmed, with `true` for all up to it; our ids in the order of answers.
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
            let mut publisher = sent(&[10, 20, 30, 40]);
            for &(number, is_multiple) in *confirmed {
                publisher.handle_confirm(number, is_multiple, &Ok(()));
            }
            let ids: Vec<u64> = answers(&mut publisher).iter().map(|pair| pair.0).collect();
            assert_eq!(ids, *expected, "{confirmed:?}");
            assert_eq!(publisher.unconfirmed(), 4 - expected.len());
        }
    }

    #[test]
    fn a_closed_channel_answers_what_was_sent_and_counts_from_one_again() {
        let mut publisher = sent(&[1, 2]);
        publisher.add(publication(3), 7);
        publisher.handle_channel_closed(&Unanswered::Full);
        let full = Err(Unanswered::Full);
        assert_eq!(answers(&mut publisher), [(1, full.clone()), (2, full)]);
        assert_eq!(publisher.poll_publication(7), Some(publication(3)));
        publisher.handle_confirm(1, false, &Ok(()));
        assert_eq!(answers(&mut publisher), [(3, Ok(()))]);
    }

    #[test]
    fn each_message_waits_for_its_change_and_for_the_messages_before_it() {
        let mut publisher = Publisher::default();
        for (id, change) in [(1, 3), (2, 5), (3, 5), (4, 5)] {
            publisher.add(publication(id), change);
        }
        assert_eq!(publisher.poll_publication(2), None);
        assert_eq!(publisher.poll_publication(3), Some(publication(1)));
        assert_eq!(publisher.poll_publication(4), None);
        assert_eq!((publisher.len(), publisher.waiting_bytes()), (4, 9));
        assert_eq!(publisher.poll_publication(5), Some(publication(2)));
        assert!(publisher.handle_blocked(Some("memory".to_owned())));
        assert_eq!(publisher.poll_publication(5), None);
        let refused = || Err(Unanswered::Refused("blocked: memory".to_owned()));
        assert_eq!(answers(&mut publisher), [(3, refused()), (4, refused())]);
        assert!(publisher.handle_blocked(None) && !publisher.handle_blocked(None));
        publisher.add(publication(5), 9);
        publisher.reset();
        let lost = || Err(Unanswered::Lost);
        let expected = [(1, lost()), (2, lost()), (5, lost())];
        assert_eq!(answers(&mut publisher), expected);
        assert_eq!((publisher.len(), publisher.waiting_bytes()), (0, 0));
    }
}
