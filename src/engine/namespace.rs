//! Namespaces: the nodes of the hub's tree. It owns what is known of one, which stream it belongs to, and which of
//! its frames are listed; it must not look into another one, nor decide when it is written to.

use std::collections::{HashMap, VecDeque, vec_deque};
use std::iter::Copied;

use crate::time::Time;

/// A namespace's place in the hub. Not reused while the log holds frames of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NamespaceId(pub u32);

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

    /// The stream's root.
    pub const fn root(self) -> NamespaceId {
        NamespaceId(self as u32)
    }
}

/// One node of the tree.
pub struct Namespace {
    /// Which stream this belongs to.
    pub stream: Stream,
    /// Connections, as indices into the engine's table. A connection knows its place in here.
    pub subscribers: Vec<u32>,
    /// Numbers of the frames that the log holds for this namespace, oldest first. A group has none: what it has is
    /// listed in its members, of which there may be far fewer than groups.
    pub frames: VecDeque<u64>,
    /// The frame that was listed last, or would have been if this were no group.
    pub(super) newest: Option<u64>,
    /// Every frame from this number on is in `frames`; one before it may have been evicted, or not have
    /// been kept because nobody was subscribed.
    pub complete_from: u64,
    /// Until when frames are kept although nobody is here, because somebody is to come back for them.
    pub(super) lingers_until: Option<Time>,
    /// What came since the last pass began. A namespace with something is in `touched` or in `paced`.
    pub(super) pending: Option<Pending>,
    pub(super) pass: Option<Pass>,
    /// When the next pass may begin.
    pub(super) ready_at: Time,
    pub(super) parent: Option<NamespaceId>,
    pub(super) segment: Box<[u8]>,
    pub(super) children: HashMap<Box<[u8]>, NamespaceId>,
    /// Of a group: the namespaces whose frames it lists as well. They stay as long as it does.
    pub(super) members: Vec<NamespaceId>,
    /// The groups that this is a member of.
    pub(super) groups: Vec<NamespaceId>,
}

/// Frames that the next pass is about.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    /// The oldest of them.
    pub(super) from: u64,
    /// When its message arrived.
    pub(super) arrived_at: Time,
    /// How many they are.
    pub(super) count: u32,
}

/// One way through a namespace's subscribers, from the last to the first, so that removing one (the last
/// takes its place) cannot hide another that is still to come.
#[derive(Clone, Copy)]
pub(super) struct Pass {
    /// What it is about. A subscriber that is not behind has all frames before these.
    pub(super) frames: Pending,
    /// Subscribers below this index are still to come.
    pub(super) remaining: usize,
}

impl Namespace {
    pub(super) fn new(stream: Stream, parent: Option<NamespaceId>, segment: &[u8]) -> Namespace {
        Namespace {
            stream,
            subscribers: Vec::new(),
            frames: VecDeque::new(),
            newest: None,
            complete_from: 0,
            lingers_until: None,
            pending: None,
            pass: None,
            ready_at: Time::ZERO,
            parent,
            segment: segment.into(),
            children: HashMap::new(),
            members: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// The numbers of the frames from `sequence` on.
    pub(super) fn frames_from(&self, sequence: u64) -> Copied<vec_deque::Iter<'_, u64>> {
        let start = self.frames.partition_point(|&frame| frame < sequence);
        self.frames.range(start..).copied()
    }

    pub(super) fn is_wanted(&self) -> bool {
        let has_groups = !self.groups.is_empty();
        !self.subscribers.is_empty() || self.lingers_until.is_some() || has_groups
    }

    pub(super) fn is_unused(&self) -> bool {
        // No frame names a group as the place where it was published, so a group does not wait for its frames.
        let is_group = !self.members.is_empty();
        !self.is_wanted() && (is_group || self.frames.is_empty())
    }

    pub(super) fn forget(&mut self, sequence: u64) {
        if self.frames.front() == Some(&sequence) {
            self.frames.pop_front();
        }
        self.complete_from = self.complete_from.max(sequence + 1);
    }
}
