//! The oracle of channels: arithmetic over what was published, what reached the server, and what each visitor
//! received. It owns the judgement; it must not know how a message is sent.
//!
//! **What is known.** An *entry* is a message that reached the server: the broker knows when the server had read its
//! last byte. A *loss* is a message that was published and did not reach the server for those who asked for a topic,
//! because the server had not subscribed to it or the connection was away. Without a broker, the publishers know what
//! was taken, and a witness who subscribes to everything tells the order.
//!
//! **What a visitor must have received.** An id stands for a place in the list of entries: exactly which is known of an
//! event's id; of an id that came without an event it is known between which two places it lies. Each attempt
//! of a visitor begins at the place of the id that it sent, or, without one, somewhere between its request and the
//! first byte of the answer. From there on it must have received every entry of its topics, once and in order. The
//! rules, by the function that holds each:
//!
//! | rule | function |
//! |---|---|
//! | an event is the next entry: not an earlier one again, and none before it was left out | `take_event` |
//! | a known id without `gap` means that nothing was lost while the visitor was away | `check_nothing_missed` |
//! | a `gap` later on is for a dropped message of an emoji stream, or for an absence of the broker | `may_be_midway` |
//! | who has stayed while the broker was away gets a `gap` | `check_told` |
//! | a first `gap` has a reason: a wider wish, a long absence, a broker that was away, an eviction | `check_gap` |
//! | a visitor that is connected at the end has everything | `check_none_left` |
//! | the source was asked for the topics while the visitor was there, and for the linger after it | `check_listening` |
//!
//! **What a visitor may not be judged on.** What it was sent but had not read when it left; messages that were lost
//! within `SLACK` after its request, because the server may not have asked for them yet; a `gap` that has a reason,
//! though nothing may have been lost in fact; the events of `eps` and `details` beside channels, which are judged in
//! `group_verdict`; and the text of ids.

use std::collections::HashMap;
use std::time::Duration;

use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::time::Time;

use crate::broker::Broker;
use crate::receiver::joined_lines;
use crate::steps::brief;
use crate::visitors::{Attempt, FOREIGN_IDS, Item, Manner, Visitor, Wish};

/// A message that reached the server and belongs to `topic`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub topic: String,
    pub channel: String,
    pub payload: String,
    /// It reached the server after the one moment and before the other.
    pub sent_at: Time,
    pub taken_at: Time,
}

/// A message that belongs to `topic` and did not reach the server.
#[derive(Clone, Debug)]
struct Loss {
    topic: String,
    at: Time,
    /// Whether the server should have asked for it by then.
    is_steady: bool,
    was_asked: bool,
}

/// What is known of one run.
pub struct Court<'a> {
    entries: Vec<Entry>,
    /// Where an entry is, by its topic and the name of its message.
    places: HashMap<(String, String), usize>,
    losses: Vec<Loss>,
    broker: Option<&'a Broker>,
    linger: Duration,
    /// When something was first evicted from the log.
    evicted_at: Option<Time>,
    ended_at: Time,
}

/// What a client that has an id has.
#[derive(Clone, Debug)]
struct Place {
    /// Nothing before the first is to come again, and nothing from the second on may be left out.
    from: usize,
    until: usize,
    /// The topics that it was there for; and the same for others.
    topics: Vec<&'static str>,
    until_of_others: usize,
    /// The moment by which the id existed.
    at: Time,
}

/// How long the server may take to act on what a client sends.
const SLACK: Duration = Duration::from_millis(700);

/// The name that a message begins with.
pub fn name_of(payload: &str) -> &str {
    payload.split(':').next().unwrap_or_default()
}

impl<'a> Court<'a> {
    pub fn new(
        entries: Vec<Entry>,
        broker: Option<&'a Broker>,
        linger: Duration,
        evicted_at: Option<Time>,
        ended_at: Time,
    ) -> Court<'a> {
        let mut places = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let key = (entry.topic.clone(), name_of(&entry.payload).to_owned());
            let known = places.insert((key.0, format!("{}/{}", entry.channel, key.1)), index);
            assert!(known.is_none(), "{entry:?} reached the server twice");
        }
        let mut court = Court {
            entries,
            places,
            losses: Vec::new(),
            broker,
            linger,
            evicted_at,
            ended_at,
        };
        court.losses = court.losses();
        court
    }

    fn place_of(&self, topic: &str, channel: &str, name: &str) -> Option<usize> {
        let key = (topic.to_owned(), format!("{channel}/{name}"));
        self.places.get(&key).copied()
    }

    fn losses(&self) -> Vec<Loss> {
        let mut losses = Vec::new();
        for published in self.broker.map_or(&[][..], |broker| &broker.published) {
            let name = name_of(&published.payload);
            for topic in crate::visitors::CHANNELS
                .iter()
                .chain(&[crate::visitors::ROOMS, "*"])
            {
                let is_meant = is_for(topic, &published.channel);
                if !is_meant || self.place_of(topic, &published.channel, name).is_some() {
                    continue;
                }
                losses.push(Loss {
                    topic: (*topic).to_owned(),
                    at: published.at,
                    is_steady: published.is_steady,
                    was_asked: published.asked.iter().any(|asked| asked == topic),
                });
            }
        }
        losses
    }

    /// The first place that a client's request of this moment can stand before.
    fn first_after(&self, at: Time) -> usize {
        let after = self.entries.iter().position(|entry| entry.taken_at > at);
        after.unwrap_or(self.entries.len())
    }

    /// The last place that an answer of this moment can stand before.
    fn last_before(&self, at: Time) -> usize {
        let before = self.entries.iter().rposition(|entry| entry.sent_at < at);
        before.map_or(0, |index| index + 1)
    }

    /// Judges all that a visitor received.
    pub fn judge(&self, visitor: &Visitor) {
        let mut ids: HashMap<&str, Place> = HashMap::new();
        let mut last: Option<&Attempt> = None;
        for (number, attempt) in visitor.attempts.iter().enumerate() {
            if let Err(error) = self.judge_attempt(visitor, attempt, last, &mut ids) {
                let before = last.map(|last| (&last.wish.topics, last.wish.is_named, last.left_at));
                let nature = visitor.nature;
                let ended_at = self.ended_at;
                panic!(
                    "{error}\nattempt {number}: {attempt:?}\n{nature:?}\nbefore: {before:?}\nthe end: {ended_at:?}"
                );
            }
            if attempt.answered_at.is_some() {
                last = Some(attempt);
            }
        }
    }

    fn judge_attempt<'v>(
        &self,
        visitor: &Visitor,
        attempt: &'v Attempt,
        last: Option<&'v Attempt>,
        ids: &mut HashMap<&'v str, Place>,
    ) -> Result<(), String> {
        let (Some(asked_at), Some(answered_at)) = (attempt.asked_at, attempt.answered_at) else {
            return Ok(());
        };
        let is_poll = visitor.nature.manner == Manner::Polls;
        let is_slow = visitor.nature.manner == Manner::Slow;
        // For the server a poll is over with its answer, and a slow stream perhaps long before its reader sees it.
        let is_late = is_slow || is_poll;
        let has_left = attempt.left_at.is_some() && !attempt.was_ended;
        if attempt.items.is_empty() && (is_slow || has_left) {
            // What there was has not been read.
            return Ok(());
        }
        let is_foreign = FOREIGN_IDS.contains(&attempt.id.as_str());
        let first = attempt.items.iter().find_map(|(at, item)| match item {
            Item::Event(event) => Some((at, event)),
            Item::Id(_) => None,
        });
        let gap_at = first
            .filter(|(_, event)| event.name == "gap")
            .map(|(at, _)| *at);
        let mut place = match (ids.get(attempt.id.as_str()), gap_at) {
            (Some(known), None) => {
                // A poll takes one event; who has left has perhaps not read so far.
                if !is_late && !has_left {
                    self.check_nothing_missed(attempt, last, asked_at)?;
                }
                let mut known = known.clone();
                if !attempt
                    .wish
                    .topics
                    .iter()
                    .all(|topic| known.topics.contains(topic))
                {
                    known.until = known.until_of_others;
                }
                known.topics.clone_from(&attempt.wish.topics);
                known
            }
            (Some(known), Some(gap_at)) if self.may_be_midway(attempt, known.at, gap_at) => Place {
                // It may stand for what was dropped, or for everything since the id.
                until: self.last_before(gap_at),
                until_of_others: self.last_before(gap_at),
                topics: attempt.wish.topics.clone(),
                ..known.clone()
            },
            (known, Some(gap_at)) => {
                if let (Some(known), false) = (known, is_foreign) {
                    self.check_gap(attempt, last, known, gap_at, is_late)?;
                } else if attempt.id.is_empty() && !self.may_be_midway(attempt, asked_at, gap_at) {
                    return Err("a gap without an id".to_owned());
                }
                let until = self.last_before(gap_at);
                Place {
                    from: self.first_after(asked_at),
                    until,
                    topics: attempt.wish.topics.clone(),
                    until_of_others: until,
                    at: asked_at,
                }
            }
            (None, None) if !attempt.id.is_empty() && !attempt.items.is_empty() => {
                return Err("no gap for a foreign id".to_owned());
            }
            (None, None) => {
                let until = self.last_before(answered_at);
                Place {
                    from: self.first_after(asked_at),
                    until,
                    topics: attempt.wish.topics.clone(),
                    until_of_others: until,
                    at: asked_at,
                }
            }
        };
        let mut is_first = true;
        let since = place.at.min(asked_at);
        for (at, item) in &attempt.items {
            match item {
                Item::Id(id) => {
                    place.until_of_others = place.until_of_others.max(self.last_before(*at));
                    ids.insert(id, place.clone());
                }
                Item::Event(event) if event.name == "gap" => {
                    let is_first = std::mem::take(&mut is_first);
                    if !is_first && !self.may_be_midway(attempt, since, *at) {
                        return Err("a gap after something else".to_owned());
                    }
                    place.until_of_others = place.until_of_others.max(self.last_before(*at));
                    ids.insert(&event.id, place.clone());
                }
                Item::Event(event) => {
                    is_first = false;
                    if is_of_others(event) {
                        place.until_of_others = place.until_of_others.max(self.last_before(*at));
                        ids.insert(&event.id, place.clone());
                        continue;
                    }
                    self.take_event(attempt, event, *at, &mut place)?;
                    ids.insert(&event.id, place.clone());
                }
            }
        }
        // Of a poll that nothing came for, the id is that which it was sent with.
        let is_open = attempt.left_at.is_none() && visitor.nature.stays;
        // The run may end between two looks of a poller at a reply that it has a part of.
        let is_open = is_open && !(is_poll && attempt.items.is_empty());
        if is_open && visitor.nature.manner != Manner::Slow {
            self.check_none_left(attempt, place.until.max(place.from), self.entries.len())?;
            if self.ended_at.since(answered_at) > SLACK && !is_poll && attempt.items.is_empty() {
                return Err("a stream without an id".to_owned());
            }
        }
        if visitor.nature.manner == Manner::Fast {
            self.check_told(attempt, answered_at)?;
        }
        self.check_listening(attempt, answered_at, is_late)
    }

    /// Whether a `gap` of this moment may be for a message of an emoji stream that was dropped, or for a time in which the
    /// broker was away.
    fn may_be_midway(&self, attempt: &Attempt, since: Time, at: Time) -> bool {
        let Some(broker) = self.broker else {
            return false;
        };
        let mut dropped_at = broker.dropped_at.iter();
        let is_dropped = attempt.wish.others.is_some() && dropped_at.any(|&first| first <= at);
        is_dropped || broker.was_away(since, at)
    }

    /// A client that has stayed while the broker was away is told when it is back.
    fn check_told(&self, attempt: &Attempt, answered_at: Time) -> Result<(), String> {
        let until = attempt.left_at.unwrap_or(self.ended_at);
        let absences = self.broker.map_or(&[][..], |broker| broker.absences());
        let mut gaps = attempt.items.iter().filter_map(|(at, item)| match item {
            Item::Event(event) if event.name == "gap" => Some(*at),
            _ => None,
        });
        for &(began, ended) in absences {
            if began < answered_at || until < ended + SLACK {
                continue;
            }
            if !gaps.any(|at| began <= at && at <= ended + SLACK) {
                return Err(format!(
                    "no gap for the absence from {began:?} to {ended:?}"
                ));
            }
        }
        Ok(())
    }

    /// An event is the next message.
    fn take_event(
        &self,
        attempt: &Attempt,
        event: &crate::receiver::Event,
        at: Time,
        place: &mut Place,
    ) -> Result<(), String> {
        let name = name_of(&event.data);
        let topics = &attempt.wish.topics;
        let channels = crate::visitors::CHANNELS
            .iter()
            .copied()
            .chain([crate::visitors::ROOMS]);
        let candidates = topics.iter().flat_map(|topic| {
            let channels = channels.clone().filter(|channel| is_for(topic, channel));
            channels.filter_map(|channel| self.place_of(topic, channel, name))
        });
        let mut candidates: Vec<usize> = candidates.collect();
        candidates.sort_unstable();
        // What is published on several channels comes on each of them.
        let fits = |&index: &usize| {
            let named = match attempt.wish.is_named {
                true => self.entries[index].channel.as_str(),
                false => "",
            };
            index >= place.from && event.name == named
        };
        let Some(index) = candidates.iter().copied().find(fits) else {
            return Err(format!(
                "{name} {} at {at:?} comes again, or was never published: it is at {candidates:?} and not \
                 before {}",
                event.name, place.from
            ));
        };
        if event.data != joined_lines(&self.entries[index].payload) {
            let entry = brief(&self.entries[index]);
            return Err(format!("\n  expected {entry}\n  came     {}", brief(event)));
        }
        self.check_none_left(attempt, place.until.max(place.from), index)?;
        *place = Place {
            from: index + 1,
            until: index + 1,
            topics: attempt.wish.topics.clone(),
            until_of_others: index + 1,
            at: self.entries[index].sent_at,
        };
        Ok(())
    }

    /// Nothing that is wished for lies between two places.
    fn check_none_left(&self, attempt: &Attempt, from: usize, until: usize) -> Result<(), String> {
        let between = self.entries.get(from..until).unwrap_or_default();
        match between
            .iter()
            .find(|entry| has(&attempt.wish, &entry.topic.as_str()))
        {
            None => Ok(()),
            Some(entry) => Err(format!("{} was left out", brief(entry))),
        }
    }

    /// A client that comes back with an id, and is never told of a gap, has missed nothing while it was away.
    fn check_nothing_missed(
        &self,
        attempt: &Attempt,
        last: Option<&Attempt>,
        asked_at: Time,
    ) -> Result<(), String> {
        let Some(last) = last else { return Ok(()) };
        let Some(left_at) = last.left_at else {
            return Ok(());
        };
        let is_missed = |loss: &&Loss| {
            let topic = loss.topic.as_str();
            let is_wished = has(&attempt.wish, &topic) && has(&last.wish, &topic);
            is_wished && left_at < loss.at && loss.at < asked_at
        };
        let is_gap =
            |(_, item): &(Time, Item)| matches!(item, Item::Event(event) if event.name == "gap");
        let is_told = attempt.items.iter().any(is_gap);
        match self.losses.iter().find(is_missed).filter(|_| !is_told) {
            None => Ok(()),
            Some(loss) => Err(format!("no gap, although {loss:?} was missed")),
        }
    }

    /// A gap has a reason.
    fn check_gap(
        &self,
        attempt: &Attempt,
        last: Option<&Attempt>,
        known: &Place,
        gap_at: Time,
        is_late: bool,
    ) -> Result<(), String> {
        let Some(last) = last else { return Ok(()) };
        let was_there = |topic| last.wish.topics.contains(topic) && known.topics.contains(topic);
        let is_wider = !attempt.wish.topics.iter().all(was_there)
            || (attempt.wish.others.is_some() && attempt.wish.others != last.wish.others)
            || attempt.wish.is_named != last.wish.is_named;
        // Who was sent away has been away for some time when it sees that, or leaves before.
        let left_at = match (last.was_ended || is_late, last.left_at) {
            (true, _) => last.asked_at,
            (false, left_at) => left_at,
        };
        let was_long =
            left_at.is_none_or(|at| gap_at.since(at) + Duration::from_millis(20) >= self.linger);
        let lost = self
            .broker
            .is_some_and(|broker| broker.was_away(known.at, gap_at));
        let was_evicted = self.evicted_at.is_some_and(|at| at <= gap_at);
        match is_wider || was_long || lost || was_evicted {
            true => Ok(()),
            false => Err("a gap without a reason".to_owned()),
        }
    }

    /// The source was asked for all channels while the client was there, and for some time after.
    fn check_listening(
        &self,
        attempt: &Attempt,
        answered_at: Time,
        is_late: bool,
    ) -> Result<(), String> {
        let Some(asked_at) = attempt.asked_at else {
            return Ok(());
        };
        let left_at = match (attempt.left_at, attempt.was_ended || is_late) {
            (None, _) => self.ended_at,
            (Some(at), false) => at + self.linger,
            // It was ended at some time before.
            (Some(_), true) => asked_at.max(answered_at) + self.linger,
        };
        let is_ignored = |loss: &&Loss| {
            let is_wished = has(&attempt.wish, &loss.topic.as_str());
            let is_then = answered_at + SLACK < loss.at && loss.at < left_at;
            // Who had left before the server could know it was not there.
            let was_there = attempt.left_at.is_none_or(|at| answered_at + SLACK < at);
            is_wished && is_then && was_there && loss.is_steady && !loss.was_asked
        };
        match self.losses.iter().find(is_ignored) {
            None => Ok(()),
            Some(loss) => Err(format!("nobody listened to {loss:?}")),
        }
    }
}

/// Whether something is published for those who asked for a topic when it is on a channel.
pub fn is_for(topic: &str, channel: &str) -> bool {
    match topic.contains('*') {
        true => Glob::new(topic).matches(channel),
        false => topic == channel,
    }
}

fn has(wish: &Wish, topic: &&str) -> bool {
    wish.topics.contains(topic)
}

/// Whether an event is of what comes beside channels.
fn is_of_others(event: &crate::receiver::Event) -> bool {
    event.data.starts_with('{')
}
