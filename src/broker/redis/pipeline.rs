//! The pipeline: commands on their way to Redis, and what their answers, which arrive in the same order, are for. It
//! owns that order; it does not know what an answer means.

use std::collections::VecDeque;

use super::guard::Guard;
use super::resp;
use crate::broker::{Inquiry, Unanswered};

/// A command whose answer is of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Report(Inquiry),
    /// Whether a message was accepted: one of the publication of this number. `losses` is how often the connection for
    /// messages had been lost when it was sent.
    Publication {
        number: u64,
        losses: u64,
    },
}

/// The answer to a question: strings, none of them if what was asked for does not exist.
pub(super) type Strings = Result<Vec<Vec<u8>>, Unanswered>;

/// What an answer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// This command, which must not be refused.
    Required(&'static str),
    /// A command that may be refused, whose answer is of no further interest.
    Optional,
    /// Our name, which servers before 2.6.9 and some proxies refuse.
    SetName,
    /// A change of the subscription to a channel or pattern that clients want, which may be refused.
    Channel(Box<[u8]>),
    Question(Question),
    /// A command that begins or continues a transaction.
    Queued,
    /// The end of a transaction that finds out whether this guard is permitted.
    Trial(Guard),
}

/// Commands that are sent or wait to be, and answers.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    outgoing: Vec<u8>,
    /// What the answers to come are for, in their order.
    awaited: VecDeque<Awaited>,
    /// How many of these are [`Awaited::Channel`].
    awaited_channels: usize,
    /// The first refusal within the transaction whose answers are arriving.
    refusal: Option<String>,
    answers: VecDeque<(Question, Strings)>,
}

impl Pipeline {
    /// Queues a command that gets one answer.
    pub(super) fn push(&mut self, awaited: Awaited, arguments: &[&[u8]]) {
        resp::encode_command(&mut self.outgoing, arguments);
        self.awaited.push_back(awaited);
    }

    /// Queues a transaction; its last answer is of interest.
    pub(super) fn push_transaction(&mut self, awaited: Awaited, commands: &[&[&[u8]]]) {
        self.push(Awaited::Queued, &[b"MULTI"]);
        for command in commands {
            self.push(Awaited::Queued, command);
        }
        self.push(awaited, &[b"EXEC"]);
    }

    /// Queues a subscription to channels or patterns, which gets an answer for each.
    pub(super) fn push_topics(&mut self, command: &[u8], names: &[String]) {
        let names_bytes = names.iter().map(String::as_bytes);
        let arguments: Vec<&[u8]> = [command].into_iter().chain(names_bytes).collect();
        resp::encode_command(&mut self.outgoing, &arguments);
        let awaited = std::iter::repeat_n(Awaited::Required("SUBSCRIBE"), names.len());
        self.awaited.extend(awaited);
    }

    /// Queues a change of the subscription to one channel or pattern. Each is a command of its own: a user may have
    /// permissions for some channels only, and a refusal concerns the whole command.
    pub(super) fn push_channel(&mut self, command: &[u8], name: &[u8]) {
        self.push(Awaited::Channel(name.into()), &[command, name]);
        self.awaited_channels += 1;
    }

    /// So many bytes were sent.
    pub(super) fn handle_sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
    }

    /// Takes what the answer that has arrived is for.
    pub(super) fn handle_reply(&mut self) -> Option<Awaited> {
        let awaited = self.awaited.pop_front()?;
        if let Awaited::Channel(_) = awaited {
            self.awaited_channels -= 1;
        }
        Some(awaited)
    }

    /// A command within a transaction was refused, and with it the whole transaction.
    pub(super) fn handle_refusal(&mut self, refusal: Option<String>) {
        self.refusal = self.refusal.take().or(refusal);
    }

    /// A transaction ends: why it was refused, where `refusal` is the answer to its last command.
    pub(super) fn end_transaction(&mut self, refusal: Option<String>) -> Option<String> {
        self.refusal.take().or(refusal)
    }

    /// A question was answered.
    pub(super) fn handle_answer(&mut self, question: Question, answer: Strings) {
        self.answers.push_back((question, answer));
    }

    /// The connection is lost, and with it the answers that were to come.
    pub(super) fn clear(&mut self) {
        self.outgoing.clear();
        self.refusal = None;
        self.awaited_channels = 0;
        for awaited in self.awaited.drain(..) {
            if let Awaited::Question(question) = awaited {
                self.answers.push_back((question, Err(Unanswered::Lost)));
            }
        }
    }

    /// The next answer to a question.
    pub(super) fn poll_answer(&mut self) -> Option<(Question, Strings)> {
        self.answers.pop_front()
    }

    /// Bytes to be sent.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.outgoing
    }

    /// The number of answers to come.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.len()
    }

    /// The number of answers to come that are for channels that clients want.
    pub(super) fn awaited_channels(&self) -> usize {
        self.awaited_channels
    }
}
