//! Namespaces: streams, their children, and groups of these. It owns what is known of one: its stream, which messages of the log
//! are its own, and from where on none is missing; it must not look into another one.

use std::collections::VecDeque;

use super::passes::Listeners;
use super::sse::Style;
use crate::time::Time;

/// A namespace, for good: who comes after it in the same place of the registry has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceId {
    /// Its place.
    pub index: u32,
    /// Which of those that had this place it is.
    pub generation: u32,
}

/// The streams of the API, each the root of a tree of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Every score update as it came.
    Raw,
    /// Score updates rolled up, at most one event a tick.
    Eps,
    /// Tweets, by ID.
    Details,
    /// Commands of the kiosk.
    Kiosk,
    /// Messages of any backend, by channel.
    Channels,
    /// Groups: several namespaces of the others, over one connection.
    Several,
}

impl Stream {
    /// All streams, in the order of their roots.
    pub const ALL: [Stream; 6] = [
        Stream::Raw,
        Stream::Eps,
        Stream::Details,
        Stream::Kiosk,
        Stream::Channels,
        Stream::Several,
    ];

    /// The streams that come from the source of the emoji streams.
    pub const EMOJI: [Stream; 4] = [Stream::Raw, Stream::Eps, Stream::Details, Stream::Kiosk];

    /// The first segment of the stream's namespaces; of groups, a name for reports.
    pub const fn segment(self) -> &'static str {
        match self {
            Stream::Raw => "raw",
            Stream::Eps => "eps",
            Stream::Details => "details",
            Stream::Kiosk => "kiosk_interaction",
            Stream::Channels => "channels",
            Stream::Several => "several",
        }
    }

    /// Whether this is one of the two score streams, which have settings of their own.
    pub const fn is_score(self) -> bool {
        matches!(self, Stream::Raw | Stream::Eps)
    }

    /// Whether the source is asked for each child of it by itself, as long as somebody wants it.
    pub const fn is_on_demand(self) -> bool {
        matches!(self, Stream::Channels)
    }

    /// How the fields of its events are written.
    pub const fn style(self) -> Style {
        match self {
            Stream::Channels => Style::Spaced,
            _ => Style::Tight,
        }
    }

    /// The stream's root.
    pub const fn root(self) -> NamespaceId {
        NamespaceId {
            index: self as u32,
            generation: 0,
        }
    }
}

/// Some of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams(u8);

impl Streams {
    /// This one alone.
    pub const fn only(stream: Stream) -> Streams {
        Streams(1 << stream as u8)
    }

    /// These and others.
    pub const fn with(self, others: Streams) -> Streams {
        Streams(self.0 | others.0)
    }

    /// Whether a stream is among them.
    pub const fn has(self, stream: Stream) -> bool {
        self.0 & Streams::only(stream).0 != 0
    }
}

/// A stream, one child of it, or a group of some of these.
pub struct Namespace {
    /// What it is known by.
    pub id: NamespaceId,
    /// Which stream it counts as: of a group, that of all its members, or [`Stream::Several`].
    pub stream: Stream,
    /// The streams that its messages are of.
    pub carries: Streams,
    /// Its subscribers, and their next pass.
    pub listeners: Listeners,
    /// How many subscribers get its messages: its own, and those of its groups.
    pub audience: usize,
    /// Of a group: the namespaces that it consists of, and its place in each one's list of groups.
    pub members: Vec<(NamespaceId, u32)>,
    /// The groups that this is a member of, and its place in each one's list of members.
    pub groups: Vec<(NamespaceId, u32)>,
    /// What it is called below its root; empty for a root.
    pub segment: Box<[u8]>,
    /// Until when messages are kept although nobody is here, because somebody is to come back for them.
    pub lingers_until: Option<Time>,
    /// Something came for a group with eps, which is offered it at the next tick.
    pub awaits_tick: bool,
    /// Numbers of the messages that the log holds for it, oldest first. Scores are found on the tape, and a group's
    /// messages in its members' lists.
    numbers: VecDeque<u64>,
    /// The newest number that a subscriber here must have: of a message, or for eps of a tick.
    newest: u64,
    /// The newest number of its own that was evicted.
    evicted: u64,
    /// The number of the last message before it began to be kept, or of one that was not kept.
    since: u64,
}

impl Namespace {
    /// A namespace that nobody wants yet.
    pub fn new(id: NamespaceId, stream: Stream, segment: &[u8]) -> Namespace {
        Namespace {
            id,
            stream,
            carries: Streams::only(stream),
            listeners: Listeners::default(),
            audience: 0,
            members: Vec::new(),
            groups: Vec::new(),
            segment: segment.into(),
            lingers_until: None,
            awaits_tick: false,
            numbers: VecDeque::new(),
            newest: 0,
            evicted: 0,
            since: 0,
        }
    }

    /// Begins to be kept, or has lost a message: something up to this number may be missing.
    pub fn begin(&mut self, number: u64) {
        self.since = number;
    }

    /// Nobody wants it any more: forgets its messages. How many bytes of memory are free then.
    pub fn clear(&mut self) -> usize {
        let freed = self.list_bytes();
        self.numbers = VecDeque::new();
        freed
    }

    /// Lists a message of its own.
    pub fn list(&mut self, number: u64) {
        debug_assert!(self.numbers.back().is_none_or(|&last| last < number));
        self.numbers
            .reserve_exact(self.list_growth() / size_of::<u64>());
        self.numbers.push_back(number);
    }

    /// Has something for its subscribers, up to this number. False where it has that already, from another member.
    pub fn advance(&mut self, number: u64) -> bool {
        let is_new = self.newest < number;
        self.newest = self.newest.max(number);
        is_new
    }

    /// Takes note that the log has evicted a message of its own, or scores up to one. How many bytes of memory are free
    /// then: the list must not keep what it took when it was longest.
    pub fn evict(&mut self, number: u64) -> usize {
        if self.numbers.front() == Some(&number) {
            self.numbers.pop_front();
        }
        self.evicted = self.evicted.max(number);
        let (before, len) = (self.list_bytes(), self.numbers.len());
        if self.numbers.capacity() > 2 * len + 64 {
            self.numbers.shrink_to(len + len / 8);
        }
        before - self.list_bytes()
    }

    /// Bytes of memory of its list.
    pub fn list_bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<u64>()
    }

    /// Bytes of memory that one more message needs: the list grows by an eighth.
    pub fn list_growth(&self) -> usize {
        let len = self.numbers.len();
        match len == self.numbers.capacity() {
            true => (len / 8 + 4) * size_of::<u64>(),
            false => 0,
        }
    }

    /// The place in its list of its first message after `number`.
    pub fn place_after(&self, number: u64) -> usize {
        self.numbers.partition_point(|&listed| listed <= number)
    }

    /// The number in a place of its list.
    pub fn number_at(&self, place: usize) -> Option<u64> {
        self.numbers.get(place).copied()
    }

    /// The numbers of its messages after `number`, in order.
    pub fn after(&self, number: u64) -> impl DoubleEndedIterator<Item = u64> {
        self.numbers.range(self.place_after(number)..).copied()
    }

    /// How many messages it has after `number`.
    pub fn count_after(&self, number: u64) -> usize {
        self.numbers.len() - self.place_after(number)
    }

    /// The newest number that a subscriber here must have.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    /// The newest number of its own that was evicted.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number from which on nothing of it is missing, as far as is known here.
    pub fn complete_since(&self) -> u64 {
        self.since.max(self.evicted)
    }

    /// The first and the last number in its list.
    pub fn listed(&self) -> Option<(u64, u64)> {
        Some((*self.numbers.front()?, *self.numbers.back()?))
    }

    /// Whether a child is kept for nothing but the positions of those who may come back: nobody is here, and the log has
    /// nothing of it. It cannot go at once, because something may yet come for them, but it is the first to go.
    pub fn is_idle(&self) -> bool {
        let is_needed = !self.listeners.is_empty() || !self.groups.is_empty();
        self.is_child() && self.numbers.is_empty() && !is_needed
    }

    /// Whether it is below a root, and so has a name that clients choose.
    pub fn is_child(&self) -> bool {
        self.id.generation > 0 && !self.is_group()
    }

    /// Whether it is a group.
    pub fn is_group(&self) -> bool {
        !self.members.is_empty()
    }

    /// Whether messages for it are kept.
    pub fn is_wanted(&self) -> bool {
        !self.listeners.is_empty() || self.lingers_until.is_some() || !self.groups.is_empty()
    }
}
