//! Demand: which channels the source is asked for, and which streams wait for its answers. It owns how many answers are
//! awaited; it must not know a broker, nor who wants a channel.

use std::collections::{BTreeSet, VecDeque};

use super::Effect;
use crate::bus::{Registry, Stream};
use crate::http::Key;
use crate::limits;
use crate::time::Time;

/// What the source was asked for.
#[derive(Default)]
pub struct Demand {
    /// Channels and patterns that the source was asked for.
    listened: BTreeSet<Box<[u8]>>,
    /// How often the source was asked for a channel, or no longer for one.
    asked: u64,
    /// How often it has answered; meaningless where there is none that answers.
    heard: u64,
    /// Whether there is a source that answers.
    source_answers: bool,
    /// Whether the source has been away since it was last known to be there.
    source_was_away: bool,
    /// Streams that begin when the source has answered so often, or at this moment at the latest, in order.
    held: VecDeque<(u64, Time, Key)>,
}

impl Demand {
    /// A channel, or all that match a pattern, has become wanted or unwanted; what the source is to be asked.
    pub fn handle_turned(
        &mut self,
        name: Box<[u8]>,
        is_pattern: bool,
        is_wanted: bool,
    ) -> Option<Effect> {
        let has_changed = match is_wanted {
            true => self.listened.insert(name.clone()),
            false => self.listened.remove(&name),
        };
        self.asked += u64::from(has_changed);
        has_changed.then_some(match is_wanted {
            true => Effect::Listen { name, is_pattern },
            false => Effect::Unlisten { name, is_pattern },
        })
    }

    /// Whether the source is there at the moment. `unanswered` is how many of our wishes for channels it has not
    /// answered yet. Returns whether messages may be missing: a position that is given out while it is away cannot be
    /// resumed either, because each return may have missed something.
    pub fn handle_source_state(&mut self, is_live: bool, unanswered: usize) -> bool {
        self.heard = match is_live {
            true => self.asked.saturating_sub(unanswered as u64),
            false => self.asked,
        };
        self.source_answers = is_live;
        let was_away = std::mem::replace(&mut self.source_was_away, !is_live);
        was_away || !is_live
    }

    /// Has a stream wait until the source has answered for all channels that it was asked for until now, if it has
    /// not: whoever sees it begin may have somebody publish at once.
    pub fn hold(&mut self, key: Key, now: Time) -> bool {
        let is_held = self.source_answers && self.heard < self.asked;
        if is_held {
            let until = now + limits::HOLD_MAX;
            self.held.push_back((self.asked, until, key));
        }
        is_held
    }

    /// The next stream that need not wait any longer; none has to while the server stops.
    pub fn poll_released(&mut self, now: Time, is_stopping: bool) -> Option<Key> {
        let &(asked, until, key) = self.held.front()?;
        if asked > self.heard && until > now && !is_stopping {
            return None;
        }
        self.held.pop_front();
        Some(key)
    }

    /// When a stream has waited for too long.
    pub fn deadline(&self) -> Option<Time> {
        self.held.front().map(|&(_, until, _)| until)
    }

    /// How many channels and patterns the source is asked for.
    pub fn listened(&self) -> usize {
        self.listened.len()
    }

    /// Whether a stream waits for the source.
    pub fn is_held(&self, key: Key) -> bool {
        self.held.iter().any(|&(_, _, held)| held == key)
    }

    /// Panics where the source was asked for other channels than those that are wanted.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, registry: &Registry) {
        if registry.has_turned() {
            return;
        }
        let children = registry.children(Stream::Channels);
        let is_wanted = |name: &&[u8]| registry.is_wanted((Stream::Channels, Some(name)));
        let wanted: BTreeSet<&[u8]> = children.map(|(name, _)| name).filter(is_wanted).collect();
        let listened: BTreeSet<&[u8]> = self.listened.iter().map(|name| &**name).collect();
        assert_eq!(
            listened, wanted,
            "the channels that the source is asked for"
        );
    }
}
