//! Publications under way: where they go, and who waits for which answers of a broker. It owns counting these and
//! their deadlines; it must not judge what is published.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::reports::no_answer;
use super::{Feed, Reactor};
use crate::broker::Unanswered;
use crate::broker::redis::Question;
use crate::engine::{self, Key};
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
    /// What is to be published here, and waits for room. A client has one at a time.
    waiting: VecDeque<Submission>,
}

/// What a client wants published.
pub struct Submission {
    /// Who waits for the answer.
    pub key: Key,
    /// On which channels: at least one.
    pub channels: Vec<String>,
    /// What.
    pub message: String,
}

/// How soon it is seen whether there is room again, if nothing else happens.
const ROOM_CHECK: Duration = Duration::from_millis(2);

struct UnderWay {
    key: Key,
    /// Answers that are still to come.
    awaited: usize,
    /// How often the connection had been lost by then over which messages come back to us.
    losses: u64,
    /// What went wrong first.
    failure: Option<Unanswered>,
}

/// What became of a publication.
pub type Outcome = (Key, Result<(), Unanswered>);

impl Publications {
    /// Begins one that so many answers are to come for, and names it. `losses` is how often the source was lost.
    pub fn begin(&mut self, key: Key, awaited: usize, losses: u64, now: Time) -> u64 {
        debug_assert!(awaited > 0);
        let number = self.next_number;
        self.next_number += 1;
        let under_way = UnderWay {
            key,
            awaited,
            losses,
            failure: None,
        };
        self.under_way.insert(number, under_way);
        self.began.push_back((now, number));
        number
    }

    /// An answer has come; what became of the publication, if it was the last one. Where the source was lost
    /// meanwhile, nobody can say that the message came back to us.
    pub fn on_answer(
        &mut self,
        number: u64,
        answer: Result<(), Unanswered>,
        losses: u64,
    ) -> Option<Outcome> {
        let under_way = self.under_way.get_mut(&number)?;
        under_way.awaited -= 1;
        let answer = match under_way.losses == losses {
            true => answer,
            false => answer.and(Err(Unanswered::Lost)),
        };
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

    /// When one may have waited for too long, or may have room; `now` is the moment at which it waits.
    pub fn deadline(&self, now: Time) -> Option<Time> {
        if !self.waiting.is_empty() {
            return Some(now + ROOM_CHECK);
        }
        let (began_at, _) = self.began.front()?;
        Some(*began_at + ANSWER_DEADLINE)
    }
}

impl<N: Net> Reactor<N> {
    /// Publishes for a client, or has it wait until those who are to have it have had what came before: a burst
    /// must not push out of the log what nobody could take yet.
    pub(super) fn submit(&mut self, submission: Submission) {
        let is_brokered = matches!(self.feed, Feed::Redis { .. }) || self.exchange.is_there();
        if is_brokered || (self.engine.wants_messages() && self.publications.waiting.is_empty()) {
            self.publish_for(&submission);
        } else {
            self.publications.waiting.push_back(submission);
        }
    }

    /// Publishes what has waited, as far as there is room.
    pub(super) fn publish_waiting(&mut self) {
        while self.engine.wants_messages()
            && let Some(submission) = self.publications.waiting.pop_front()
        {
            self.publish_for(&submission);
        }
    }

    /// Publishes by the broker, so that every copy of the server has it, or else here.
    fn publish_for(&mut self, submission: &Submission) {
        let Submission {
            key,
            channels,
            message,
        } = submission;
        let key = *key;
        let is_brokered = |channel: &&String| {
            let is_own = engine::is_own_channel(channel.as_bytes());
            match &self.feed {
                Feed::Redis { .. } => true,
                Feed::Demo(_) | Feed::Embedded => self.exchange.is_there() && !is_own,
            }
        };
        let (brokered, ours): (Vec<&String>, Vec<&String>) = channels.iter().partition(is_brokered);
        self.engine.publish_here(&ours, message);
        if brokered.is_empty() {
            return self.engine.on_rendered(key, &engine::published());
        }
        let names: usize = brokered.iter().map(|name| name.len()).sum();
        if !self.has_room_for(names + brokered.len() * (message.len() + COMMAND_BYTES)) {
            let why = match self.is_broker_live() {
                true => Unanswered::Full,
                false => Unanswered::Lost,
            };
            return self.answer_publication(key, Err(why));
        }
        let losses = self.losses();
        let number = self
            .publications
            .begin(key, brokered.len(), losses, self.now);
        for channel in brokered {
            if !self.publish(number, channel.as_bytes(), message.as_bytes()) {
                self.on_published(number, Err(Unanswered::Lost));
            }
        }
    }

    /// The broker has answered, or never will.
    pub(super) fn on_published(&mut self, number: u64, answer: Result<(), Unanswered>) {
        let losses = self.losses();
        if let Some((key, outcome)) = self.publications.on_answer(number, answer, losses) {
            self.answer_publication(key, outcome);
        }
    }

    /// Gives up publications that have waited for too long.
    pub(super) fn expire_publications(&mut self) {
        while let Some((key, outcome)) = self.publications.next_late(self.now) {
            self.answer_publication(key, outcome);
        }
    }

    /// How often the connection was lost over which what is published comes back to us. Where it is the one that it
    /// goes out over, its answers are lost with it.
    fn losses(&self) -> u64 {
        match &self.feed {
            Feed::Redis { messages, .. } => messages.conversation().losses(),
            Feed::Demo(_) | Feed::Embedded => 0,
        }
    }

    /// Whether what is published can go out, and come back to us.
    fn is_broker_live(&self) -> bool {
        match &self.feed {
            _ if self.exchange.is_there() => self.exchange.is_live(),
            Feed::Redis { messages, commands } => {
                messages.conversation().is_live() && commands.conversation().is_live()
            }
            Feed::Demo(_) | Feed::Embedded => true,
        }
    }

    fn has_room_for(&self, len: usize) -> bool {
        match &self.feed {
            _ if self.exchange.is_there() => self.exchange.has_room_for(len),
            Feed::Redis { .. } if !self.is_broker_live() => false,
            Feed::Redis { commands, .. } => commands.conversation().has_room_for(len),
            Feed::Demo(_) | Feed::Embedded => false,
        }
    }

    fn publish(&mut self, number: u64, channel: &[u8], message: &[u8]) -> bool {
        match &mut self.feed {
            _ if self.exchange.is_there() => self.exchange.publish(number, channel, message),
            Feed::Redis { commands, .. } => {
                let command = [b"PUBLISH", channel, message];
                let question = Question::Publication(number);
                commands.conversation_mut().ask(question, &command)
            }
            Feed::Demo(_) | Feed::Embedded => false,
        }
    }

    fn answer_publication(&mut self, key: Key, outcome: Result<(), Unanswered>) {
        let broker = match self.exchange.is_there() {
            true => "the broker",
            false => "redis",
        };
        let reply = match outcome {
            Ok(()) => engine::published(),
            Err(unanswered) => no_answer(broker, &unanswered).0,
        };
        self.engine.on_rendered(key, &reply);
    }
}

/// What a command to publish has beside the names and the message.
const COMMAND_BYTES: usize = 64;

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
        let one = publications.begin(key(1), 2, 0, now);
        let other = publications.begin(key(2), 2, 0, now);
        let late = publications.begin(key(3), 1, 0, now);
        assert_eq!(publications.on_answer(one, Ok(()), 0), None);
        assert_eq!(
            publications.on_answer(other, Err(Unanswered::Lost), 0),
            None
        );
        assert_eq!(
            publications.on_answer(one, Ok(()), 0),
            Some((key(1), Ok(())))
        );
        let lost = Some((key(2), Err(Unanswered::Lost)));
        assert_eq!(publications.on_answer(other, Ok(()), 0), lost);
        assert_eq!(publications.next_late(now), None);
        let deadline = publications.deadline(now).unwrap();
        assert_eq!(deadline, now + ANSWER_DEADLINE);
        let gone = Some((key(3), Err(Unanswered::Late)));
        assert_eq!(publications.next_late(deadline), gone);
        assert_eq!(publications.next_late(deadline), None);
        assert_eq!(publications.on_answer(late, Ok(()), 0), None);
        let lost = publications.begin(key(4), 1, 0, now);
        let outcome = publications.on_answer(lost, Ok(()), 1);
        assert_eq!(outcome, Some((key(4), Err(Unanswered::Lost))));
        assert_eq!(publications.next_late(deadline), None);
        assert_eq!(publications.deadline(now), None);
    }
}
