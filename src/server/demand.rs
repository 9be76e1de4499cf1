//! Demand: which names clients want below the roots of streams, who was the first to want each, which channels the source
//! listens to for that, and which streams wait until it listens.
//! It owns how many confirmations are missing; it must not know a broker, or who wants a channel now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use super::admission::{Admission, Full, name_bytes};
use super::topics::Topic;
use crate::bus::{Line, Registry, Stream};
use crate::http::Key;
use crate::limits;
use crate::time::Time;

/// Channels that are listened to, and streams that wait for that.
#[derive(Default)]
pub struct Demand {
    /// Channels, patterns and IDs of details that are wanted, by their streams, and the network whose client was the first to
    /// want each.
    wanted: [BTreeMap<Box<[u8]>, IpAddr>; Stream::ALL.len()],
    /// What the source is to be told: names, and whether to begin or to stop listening.
    changes: VecDeque<(Box<[u8]>, bool)>,
    /// How many of these there were since the start.
    sent: u64,
    /// How many of them wait for no answer.
    answered: u64,
    /// Whether the source is connected, once that is known.
    is_live: Option<bool>,
    /// Streams that begin when so many commands are confirmed, or at this time at the latest, in order.
    held: VecDeque<(u64, Time, Key)>,
}

impl Demand {
    /// A client of this network gets these topics.
    pub fn handle_topics(&mut self, topics: &[Topic], network: IpAddr, admission: &mut Admission) {
        for (stream, name) in children(topics) {
            if self.first_network(stream, name).is_some() {
                continue;
            }
            self.wanted[stream as usize].insert(name.into(), network);
            self.tell(stream, name.into(), true);
            admission.handle_name(network, name.len());
        }
    }

    /// Forgets the names that nobody wants any more.
    pub fn handle_unwanted(&mut self, line: &mut Line, admission: &mut Admission) {
        while let Some((stream, name)) = line.poll_unwanted() {
            let is_wanted = line.registry().is_wanted((stream, Some(&name)));
            if !is_wanted && let Some(network) = self.wanted[stream as usize].remove(&name) {
                admission.handle_name_gone(network, name.len());
                self.tell(stream, name, false);
            }
        }
    }

    /// Whether a client of this network may have those of these topics that have new names. Idle ones go for them: those
    /// of this network if it has as much as one may have, and any if there is no room at all.
    pub fn make_room(
        &mut self,
        topics: &[Topic],
        network: IpAddr,
        line: &mut Line,
        admission: &mut Admission,
    ) -> bool {
        loop {
            let is_new =
                |&(stream, name): &(Stream, &[u8])| self.first_network(stream, name).is_none();
            let new = children(topics).filter(is_new);
            let needed = new.clone().map(|(_, name)| name_bytes(name.len())).sum();
            if needed == 0 {
                return true;
            }
            let subscribers = line.registry().subscribers();
            let Some(full) = admission.full(network, needed, subscribers) else {
                let mut streams = new.map(|(stream, _)| stream);
                return !self.is_behind() || !streams.any(Stream::is_on_demand);
            };
            let can_go = |&(stream, name): &(Stream, &[u8])| match full {
                Full::Network => self.first_network(stream, name) == Some(network),
                Full::All => true,
            };
            let idle = line.registry().idle();
            let first = idle.take(limits::IDLE_NAMES_SEEN_MAX).find(can_go);
            let Some((stream, name)) =
                first.map(|(stream, name)| (stream, Box::<[u8]>::from(name)))
            else {
                return false;
            };
            line.evict((stream, Some(&name)));
            self.handle_unwanted(line, admission);
        }
    }

    /// The next thing that the source is to be told: a name, and whether to begin or to stop listening.
    pub fn poll_change(&mut self) -> Option<(Box<[u8]>, bool)> {
        self.changes.pop_front()
    }

    /// Whether the source is connected, and how many of our commands it has not confirmed.
    pub fn handle_channel_source(&mut self, is_live: bool, unanswered: usize) {
        self.answered = self.sent.saturating_sub(unanswered as u64);
        self.is_live = Some(is_live);
    }

    /// Holds a stream until the source has confirmed all commands so far, unless it has. Whether it is held.
    pub fn hold(&mut self, key: Key, now: Time) -> bool {
        let is_held = self.confirmed() < self.sent;
        if is_held {
            self.held
                .push_back((self.sent, now + limits::HOLD_MAX, key));
        }
        is_held
    }

    /// The next stream that need not wait any longer.
    pub fn poll_released(&mut self, now: Time, is_stopping: bool) -> Option<Key> {
        let &(sent, until, key) = self.held.front()?;
        if sent > self.confirmed() && until > now && !is_stopping {
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
        self.wanted[Stream::Channels as usize].len()
    }

    /// Whether so much waits for the source's answers that it is to be told of no further channels. When it has come back, it
    /// is told of all at once.
    fn is_behind(&self) -> bool {
        let unanswered = (self.sent - self.answered) as usize;
        self.is_live.is_some() && unanswered > self.listened() + limits::CHANNEL_COMMANDS_MAX
    }

    /// Has the source told of a name, if it is asked for each by itself.
    fn tell(&mut self, stream: Stream, name: Box<[u8]>, is_wanted: bool) {
        if stream.is_on_demand() {
            self.changes.push_back((name, is_wanted));
            self.sent += 1;
        }
    }

    /// The network whose client was the first to want this, if anybody wants it.
    fn first_network(&self, stream: Stream, name: &[u8]) -> Option<IpAddr> {
        self.wanted[stream as usize].get(name).copied()
    }

    /// How many changes the source has confirmed. While it is away, none is waited for.
    fn confirmed(&self) -> u64 {
        match self.is_live {
            Some(true) => self.answered,
            _ => self.sent,
        }
    }

    /// Whether a stream waits for the source.
    pub fn is_held(&self, key: Key) -> bool {
        self.held.iter().any(|&(_, _, held)| held == key)
    }

    /// Checks that exactly those names are known here that are wanted.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, registry: &Registry) {
        if registry.has_unwanted() {
            return;
        }
        for (stream, known) in Stream::ALL.into_iter().zip(&self.wanted) {
            if stream == Stream::Several {
                continue;
            }
            let children = registry.children(stream).map(|(name, _)| name);
            let is_wanted = |name: &&[u8]| registry.is_wanted((stream, Some(name)));
            let wanted: BTreeSet<&[u8]> = children.filter(is_wanted).collect();
            let known: BTreeSet<&[u8]> = known.keys().map(|name| &**name).collect();
            assert_eq!(known, wanted, "the names that are wanted");
        }
    }
}

/// The names of topics below the roots of their streams.
fn children(topics: &[Topic]) -> impl Iterator<Item = (Stream, &[u8])> + Clone {
    let names = topics.iter().map(Topic::name);
    names.filter_map(|(stream, child)| Some((stream, child?)))
}
