//! Demand: which channels the source listens to, and which streams wait until it does. It owns how many confirmations are
//! missing; it must not know a broker, or who wants a channel.

use std::collections::{BTreeSet, VecDeque};

use super::Effect;
use crate::bus::{Registry, Stream};
use crate::http::Key;
use crate::limits;
use crate::time::Time;

/// Channels that are listened to, and streams that wait for that.
#[derive(Default)]
pub struct Demand {
    /// Channels and patterns that the source was told to listen to.
    listened: BTreeSet<Box<[u8]>>,
    /// How many commands the source was given.
    sent: u64,
    /// How many of them it has confirmed; meaningless while it is away.
    confirmed: u64,
    /// Whether the source is connected, once that is known.
    is_live: Option<bool>,
    /// Streams that begin when so many commands are confirmed, or at this time at the latest, in order.
    held: VecDeque<(u64, Time, Key)>,
}

impl Demand {
    /// A channel or a pattern is wanted or not; the command for the source, if that has changed.
    pub fn handle_demand_change(
        &mut self,
        name: Box<[u8]>,
        is_pattern: bool,
        is_wanted: bool,
    ) -> Option<Effect> {
        let has_changed = match is_wanted {
            true => self.listened.insert(name.clone()),
            false => self.listened.remove(&name),
        };
        self.sent += u64::from(has_changed);
        has_changed.then_some(Effect::Listen {
            name,
            is_pattern,
            is_wanted,
        })
    }

    /// Whether the source is connected, and how many of our commands it has not confirmed. Returns whether messages may be
    /// lost: positions that are given out while it is away cannot be resumed either, because any number of connections may
    /// have come and gone.
    pub fn handle_channel_source(&mut self, is_live: bool, unanswered: usize) -> bool {
        self.confirmed = match is_live {
            true => self.sent.saturating_sub(unanswered as u64),
            false => self.sent,
        };
        let was_live = self.is_live.replace(is_live);
        was_live == Some(false) || !is_live
    }

    /// Holds a stream until the source has confirmed all commands so far, unless it has. Whether it is held.
    pub fn hold(&mut self, key: Key, now: Time) -> bool {
        let is_held = self.is_live == Some(true) && self.confirmed < self.sent;
        if is_held {
            self.held
                .push_back((self.sent, now + limits::HOLD_MAX, key));
        }
        is_held
    }

    /// The next stream that need not wait any longer.
    pub fn poll_released(&mut self, now: Time, is_stopping: bool) -> Option<Key> {
        let &(sent, until, key) = self.held.front()?;
        if sent > self.confirmed && until > now && !is_stopping {
            return None;
        }
        self.held.pop_front();
        Some(key)
    }

    /// When a stream has waited for long enough.
    pub fn deadline(&self) -> Option<Time> {
        self.held.front().map(|&(_, until, _)| until)
    }

    /// How many channels and patterns the source listens to.
    pub fn listened(&self) -> usize {
        self.listened.len()
    }

    /// Whether a stream waits for the source.
    pub fn is_held(&self, key: Key) -> bool {
        self.held.iter().any(|&(_, _, held)| held == key)
    }

    /// Checks that the source listens to the channels that are wanted.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, registry: &Registry) {
        if registry.has_demand_changes() {
            return;
        }
        let children = registry.children(Stream::Channels);
        let is_wanted = |name: &&[u8]| registry.is_wanted((Stream::Channels, Some(name)));
        let wanted: BTreeSet<&[u8]> = children.map(|(name, _)| name).filter(is_wanted).collect();
        let listened: BTreeSet<&[u8]> = self.listened.iter().map(|name| &**name).collect();
        assert_eq!(listened, wanted, "the channels that are listened to");
    }
}
