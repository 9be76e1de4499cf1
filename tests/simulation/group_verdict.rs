//! The oracle of groups with `eps`. It owns the judgement; it must not know how an event is encoded.
//!
//! **What a reader must have received.** Its attempts form chains: an attempt goes on with the chain of the one before it
//! if it was begun with an id and was not answered with `gap`; otherwise it begins a chain. Over a whole chain, however
//! often it was cut and wherever, the sums of `eps` are the counts of one run of the score updates that reached the
//! server, event by event, and all other events are one run of the other messages of the group, in order. Nothing comes
//! twice, nothing is left out. Both runs begin between the first request of the chain and the answer to it.
//!
//! **Gaps.** A `gap` that does not come first is for a message that the server dropped or for an absence of the broker, and each
//! client gets one for each at most.
//!
//! **How far the runs must reach.** To the last message, if the last attempt was open to the end.
//!
//! **What it may not be judged on.** How sums and other events are interleaved; which updates share a sum; whether a
//! reader that nobody anchors gets `gap` (nothing is kept of `eps` while nobody has it); the text of ids.

use std::time::Duration;

use crate::broker::{Broker, Delivered};
use crate::groups::{Attempt, Reader, Wish};
use crate::receiver::{Event, joined_lines};
use crate::steps::brief;
use crate::sums::{Counts, counts_of, end_of_run};

/// A sum that is sent at the first tick may hold what was counted just before the request.
const TICK: Duration = Duration::from_millis(18);

/// What a reader received from the beginning of a chain on.
#[derive(Clone)]
struct Chain<'a> {
    first: &'a Attempt,
    sums: Vec<Counts>,
    others: Vec<&'a Event>,
}

/// Judges all that a reader received.
pub fn judge(reader: &Reader, broker: &Broker, is_anchored: bool) -> Result<(), String> {
    let delivered = &broker.delivered;
    let mut gaps = 0;
    let mut chain: Option<Chain> = None;
    for (number, attempt) in reader.attempts.iter().enumerate() {
        let Some(answered) = attempt.answered else {
            continue;
        };
        let has_gap = attempt.events.first().is_some_and(|it| it.name == "gap");
        let judged = |chain: &Chain| {
            let verdict = chain.judge(&reader.wish, delivered, answered, attempt.is_open);
            verdict
                .map_err(|error| format!("attempt {number} of {}: {error}", reader.attempts.len()))
        };
        let begun = Chain {
            first: attempt,
            sums: Vec::new(),
            others: Vec::new(),
        };
        let known = chain.take().filter(|_| !attempt.id.is_empty());
        let mut open = known.clone().unwrap_or_else(|| begun.clone());
        gaps += open.take_events(&attempt.events)?;
        let mut verdict = judged(&open);
        // The first gap may say that the chain does not go on, unless somebody anchors it.
        if verdict.is_err() && has_gap && known.is_some() && !is_anchored {
            open = begun;
            gaps += open.take_events(&attempt.events[1..])?;
            verdict = judged(&open);
        }
        verdict?;
        let (dropped, sessions) = (broker.dropped_at.len() as u64, broker.sessions);
        if gaps as u64 > dropped + sessions && is_anchored {
            return Err(format!(
                "{gaps} gaps, {dropped} messages were dropped, and {sessions} sessions"
            ));
        }
        chain = Some(open);
    }
    Ok(())
}

impl<'a> Chain<'a> {
    /// Takes what came; how many gaps there were.
    fn take_events(&mut self, events: &'a [Event]) -> Result<usize, String> {
        let mut gaps = 0;
        for event in events {
            match is_sum(event) {
                true => self.sums.push(counts_of(event)?),
                false if event.name == "gap" => gaps += 1,
                false => self.others.push(event),
            }
        }
        Ok(gaps)
    }

    /// Judges what has come so far.
    fn judge(
        &self,
        wish: &Wish,
        delivered: &[Delivered],
        answered: usize,
        is_open: bool,
    ) -> Result<(), String> {
        let answered = self.first.answered.unwrap_or(answered);
        let is_score = |message: &&Delivered| message.channel == "stream.score_updates";
        let updates: Vec<&str> = delivered
            .iter()
            .filter(is_score)
            .map(|it| it.payload.as_str())
            .collect();
        let others: Vec<&Delivered> = delivered.iter().filter(|it| wish.wants(it)).collect();
        let scores_before = |end: usize| delivered[..end].iter().filter(is_score).count();
        let tick_began = self.first.asked_at - TICK;
        let early = delivered.iter().filter(|it| it.at < tick_began);
        let first = early
            .filter(is_score)
            .count()
            .min(scores_before(self.first.asked));
        let ends: Vec<_> = (first..=scores_before(answered))
            .map(|start| end_of_run(&self.sums, &updates, start))
            .collect();
        let fits = |end: &Result<usize, String>| match end {
            Ok(end) => !is_open || *end == updates.len(),
            Err(_) => false,
        };
        if !ends.iter().any(fits) {
            let (count, all) = (self.sums.len(), updates.len());
            let first = match &ends[0] {
                Ok(end) => format!("from {first} on it ends before update {end}"),
                Err(error) => error.clone(),
            };
            return Err(format!("{count} sums are no run of {all} updates: {first}"));
        }
        let others_before =
            |end: usize| delivered[..end].iter().filter(|it| wish.wants(it)).count();
        let starts = others_before(self.first.asked)..=others_before(answered);
        self.judge_others(&others, starts, is_open)
    }

    fn judge_others(
        &self,
        wanted: &[&Delivered],
        starts: std::ops::RangeInclusive<usize>,
        is_open: bool,
    ) -> Result<(), String> {
        let is_same = |(message, event): &(&&Delivered, &&Event)| {
            let name = match message.channel.starts_with("stream.") {
                true => message.channel.as_str(),
                false => "",
            };
            event.name == name && event.data == joined_lines(&message.payload)
        };
        let fitting = |start: usize| wanted[start..].iter().zip(&self.others).take_while(is_same);
        let best = starts.map(|start| (fitting(start).count(), start)).max();
        let (count, start) = best.unwrap_or_default();
        if count < self.others.len() || (is_open && start + count != wanted.len()) {
            return Err(format!(
                "of {} events beside sums {count} are the run of {} messages from {start} on; then\n  expected {}\n  \
                 came     {}",
                self.others.len(),
                wanted.len(),
                brief(&wanted.get(start + count)),
                brief(&self.others.get(count)),
            ));
        }
        Ok(())
    }
}

/// Sums are the only objects among the events that have no name.
fn is_sum(event: &Event) -> bool {
    event.name.is_empty() && event.data.starts_with('{')
}
