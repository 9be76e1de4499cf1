//! Subscriptions: what is subscribed to over every connection, and what clients want at present. It owns how they are
//! requested, and how many changes may be unanswered.

use std::collections::BTreeMap;

use super::pipeline::{Awaited, Pipeline};
use crate::broker::Topics;
use crate::limits;

/// The subscriptions of a session.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// What is subscribed to over every connection.
    topics: Topics,
    /// Channels and patterns that clients want at present, with `true` for patterns.
    wanted: BTreeMap<Box<[u8]>, bool>,
    /// What the changes take that are not answered, those aside that begin the connection.
    changing_bytes: usize,
}

impl Subscriptions {
    pub(super) fn new(topics: Topics) -> Subscriptions {
        Subscriptions {
            topics,
            ..Subscriptions::default()
        }
    }

    /// A connection begins: requests everything.
    pub(super) fn begin(&mut self, pipeline: &mut Pipeline) {
        self.changing_bytes = 0;
        let (channels, patterns) = (&self.topics.channels, &self.topics.patterns);
        for (names, is_pattern) in [(channels, false), (patterns, true)] {
            if !names.is_empty() {
                pipeline.push_topics(subscribe(is_pattern), names);
            }
        }
        for name in &self.topics.optional {
            pipeline.push(Awaited::Optional, &[b"SUBSCRIBE", name.as_bytes()]);
        }
        for (name, is_pattern) in &self.wanted {
            pipeline.push_channel(subscribe(*is_pattern), name);
        }
    }

    /// Subscribes to a channel or pattern over every connection from now on, this one (`pipeline`) included.
    pub(super) fn subscribe(
        &mut self,
        name: &[u8],
        is_pattern: bool,
        pipeline: Option<&mut Pipeline>,
    ) {
        self.wanted.insert(name.into(), is_pattern);
        self.change(subscribe(is_pattern), name, pipeline);
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(
        &mut self,
        name: &[u8],
        is_pattern: bool,
        pipeline: Option<&mut Pipeline>,
    ) {
        self.wanted.remove(name);
        let command: &[u8] = match is_pattern {
            true => b"PUNSUBSCRIBE",
            false => b"UNSUBSCRIBE",
        };
        self.change(command, name, pipeline);
    }

    /// A change was answered.
    pub(super) fn handle_answer(&mut self, name: &[u8]) {
        self.changing_bytes -= change_bytes(name);
    }

    /// Whether too many changes are unanswered. The connection is given up then: over the next one, everything is
    /// subscribed to that is wanted by then.
    pub(super) fn is_stuck(&self) -> bool {
        self.changing_bytes > limits::COMMAND_BYTES_MAX
    }

    fn change(&mut self, command: &[u8], name: &[u8], pipeline: Option<&mut Pipeline>) {
        if let Some(pipeline) = pipeline.filter(|_| !self.is_stuck()) {
            self.changing_bytes += change_bytes(name);
            pipeline.push_channel(command, name);
        }
    }

    #[cfg(test)]
    pub(super) fn changing_bytes(&self) -> usize {
        self.changing_bytes
    }
}

/// What a change takes until it is answered: as a command, and as what the answer is for.
fn change_bytes(name: &[u8]) -> usize {
    2 * name.len() + 96
}

fn subscribe(is_pattern: bool) -> &'static [u8] {
    match is_pattern {
        true => b"PSUBSCRIBE",
        false => b"SUBSCRIBE",
    }
}
