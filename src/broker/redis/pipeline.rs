//! The pipeline: commands on their way to Redis and what their answers, which come in the same order, are for. It owns
//! that order; it must not know what an answer says.

use std::collections::VecDeque;

use super::resp;
use crate::broker::{Subject, Unanswered};

/// What is asked over the connection for commands, and whose answer is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// What the server knows of this.
    Report(Subject),
    /// Whether a message was taken: one of the publication of this number. With it goes how often the connection for
    /// messages had been lost by then.
    Publication { number: u64, losses: u64 },
}

/// What the server says to a question: strings, one after the other; none for what is not there.
pub(super) type Strings = Result<Vec<Vec<u8>>, Unanswered>;

/// What an answer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    Auth,
    /// The database that commands are for.
    Select,
    /// The name is a convenience: servers before 2.6.9 and some proxies refuse it.
    SetName,
    Subscription,
    /// A subscription that may be refused.
    Optional,
    /// A subscription that may be refused, to this channel or pattern that a client wants.
    Channel(Box<[u8]>),
    /// A command whose answer is of no interest, but as a sign of life.
    Nothing,
    /// What was asked.
    Question(Question),
}

/// Commands that were sent or are to be, and answers.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    outgoing: Vec<u8>,
    /// What the answers to come are for, in their order.
    awaited: VecDeque<Awaited>,
    /// How many of these are for channels that clients want or want no longer.
    awaited_channels: usize,
    answers: VecDeque<(Question, Strings)>,
}

impl Pipeline {
    /// Has a command sent, with `answers` answers to come for it.
    pub(super) fn push(&mut self, arguments: &[&[u8]], awaited: Awaited, answers: usize) {
        resp::encode_command(&mut self.outgoing, arguments);
        if let Awaited::Channel(_) = awaited {
            self.awaited_channels += answers;
        }
        self.awaited.extend(std::iter::repeat_n(awaited, answers));
    }

    /// So many bytes were sent.
    pub(super) fn handle_sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
    }

    /// What the answer that has come is for.
    pub(super) fn handle_reply(&mut self) -> Option<Awaited> {
        let awaited = self.awaited.pop_front()?;
        if let Awaited::Channel(_) = awaited {
            self.awaited_channels -= 1;
        }
        Some(awaited)
    }

    /// A question was answered.
    pub(super) fn handle_answer(&mut self, question: Question, answer: Strings) {
        self.answers.push_back((question, answer));
    }

    /// The connection is lost: no answer will come to what was asked.
    pub(super) fn clear(&mut self) {
        self.outgoing.clear();
        self.awaited_channels = 0;
        for awaited in self.awaited.drain(..) {
            if let Awaited::Question(question) = awaited {
                self.answers.push_back((question, Err(Unanswered::Lost)));
            }
        }
    }

    /// The next question that was answered.
    pub(super) fn poll_answer(&mut self) -> Option<(Question, Strings)> {
        self.answers.pop_front()
    }

    /// Bytes to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.outgoing
    }

    /// How many answers are to come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// How many answers are to come for channels that clients want or want no longer.
    pub(super) fn awaited_channels(&self) -> usize {
        self.awaited_channels
    }
}
