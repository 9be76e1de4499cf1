//! The hub: namespaces and their subscribers. It owns the registry, and which frames are listed where; it must
//! not know sockets, or frames other than by their numbers, nor in which order subscribers are visited
//! (`passes`).
//!
//! Namespaces form a tree by whole segments. A frame published to one is listed there and in every
//! namespace above it that has subscribers; a namespace's list is therefore all that a subscriber of it
//! may need, in order. Who subscribes to several namespaces at once subscribes to their *group*, a namespace
//! of its own that lists what any of them does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, vec_deque};
use std::iter::Copied;

use slab::Slab;

use super::namespace::Pending;
pub use super::namespace::{Namespace, NamespaceId, Stream};
use super::passes::{Finished, Passes, Turn};
use crate::time::Time;

/// The registry of namespaces.
pub struct Hub {
    pub(super) namespaces: Slab<Namespace>,
    passes: Passes,
    /// Subscribers of each stream.
    subscribers: [usize; Stream::ALL.len()],
    /// Namespaces that linger, and when each must be looked at, the earliest first. A namespace that was told to
    /// linger again has one entry all the same, which comes early.
    pub(super) lingering: BinaryHeap<Reverse<(Time, u32)>>,
    /// How many namespaces have gone.
    removals: u64,
    /// Children of streams that are listened to on demand, which have become wanted or unwanted; some perhaps
    /// more than once.
    turned: Vec<Box<[u8]>>,
}

/// The numbers of frames, in order.
pub enum Frames<'a> {
    /// Of a namespace that is not there.
    None,
    /// Of one namespace.
    One(Copied<vec_deque::Iter<'a, u64>>),
    /// Of several. Each step looks for the next number in all of them: they are few, and no group needs a list of
    /// its own, which would be one for every client that has a channel to itself beside a busy one.
    Several {
        /// Where they are.
        hub: &'a Hub,
        /// Which.
        members: &'a [NamespaceId],
        /// The number to go on with.
        next: u64,
    },
}

impl Iterator for Frames<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Frames::None => None,
            Frames::One(frames) => frames.next(),
            Frames::Several { hub, members, next } => {
                let members = members.iter().filter_map(|&id| hub.get(id));
                let found = members.filter_map(|member| member.frames_from(*next).next());
                let found = found.min()?;
                *next = found + 1;
                Some(found)
            }
        }
    }
}

impl Hub {
    /// A registry of the streams' roots. Passes over so many subscribers or more are paced.
    pub fn new(paced_from: usize) -> Hub {
        let mut namespaces = Slab::new();
        for stream in Stream::ALL {
            let index = namespaces.insert(Namespace::new(stream, None, b""));
            debug_assert_eq!(index, stream.root().0 as usize);
        }
        Hub {
            namespaces,
            passes: Passes::new(paced_from),
            subscribers: [0; Stream::ALL.len()],
            lingering: BinaryHeap::new(),
            removals: 0,
            turned: Vec::new(),
        }
    }

    /// The namespace, which exists as long as somebody subscribes to it or the log has frames of it.
    pub fn get(&self, id: NamespaceId) -> Option<&Namespace> {
        self.namespaces.get(id.0 as usize)
    }

    /// The numbers of a namespace's frames from `sequence` on; of a group's, those of all its members, each once.
    pub fn frames_from(&self, id: NamespaceId, sequence: u64) -> Frames<'_> {
        match self.get(id) {
            None => Frames::None,
            Some(group) if !group.members.is_empty() => Frames::Several {
                hub: self,
                members: &group.members,
                next: sequence,
            },
            Some(namespace) => Frames::One(namespace.frames_from(sequence)),
        }
    }

    /// The number from which on no frame of a namespace, or of any of a group's members, is missing.
    pub fn complete_from(&self, id: NamespaceId) -> u64 {
        let Some(namespace) = self.get(id) else {
            return u64::MAX;
        };
        let of_members = namespace.members.iter().filter_map(|&id| self.get(id));
        let of_members = of_members.map(|member| member.complete_from).max();
        of_members.unwrap_or(namespace.complete_from)
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.subscribers.iter().sum()
    }

    /// The same by stream, in the order of [`Stream::ALL`].
    pub fn subscribers_by_stream(&self) -> [usize; Stream::ALL.len()] {
        self.subscribers
    }

    /// Whether no other streams than these have subscribers.
    pub fn has_only(&self, streams: &[Stream]) -> bool {
        let counts = streams
            .iter()
            .map(|&stream| self.subscribers[stream as usize]);
        self.subscribers() == counts.sum::<usize>()
    }

    /// All namespaces, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.iter().map(|(_, namespace)| namespace)
    }

    /// Registers a connection for a stream, or for one child of it; the namespace and the connection's
    /// place in its list. `head` is the number of the next frame.
    pub fn subscribe(
        &mut self,
        stream: Stream,
        child: Option<&[u8]>,
        subscriber: u32,
        head: u64,
    ) -> (NamespaceId, u32) {
        let id = self.find_or_insert(stream, child);
        self.want(id, head);
        self.list_subscriber(id, subscriber)
    }

    /// The same for several streams, or children of them, at once: for the group of these.
    pub fn subscribe_to_several(
        &mut self,
        members: &[(Stream, Option<&[u8]>)],
        subscriber: u32,
        head: u64,
    ) -> (NamespaceId, u32) {
        let insert =
            |&(stream, child): &(Stream, Option<&[u8]>)| self.find_or_insert(stream, child);
        let mut members: Vec<NamespaceId> = members.iter().map(insert).collect();
        members.sort_unstable_by_key(|id| id.0);
        members.dedup();
        let name: Vec<u8> = members.iter().flat_map(|id| id.0.to_be_bytes()).collect();
        let group = self.find_or_insert(Stream::Several, Some(&name));
        if self.namespaces[group.0 as usize].members.is_empty() {
            self.begin_group(group, members, head);
        }
        self.list_subscriber(group, subscriber)
    }

    /// Makes a namespace the group of these.
    fn begin_group(&mut self, group: NamespaceId, members: Vec<NamespaceId>, head: u64) {
        for &id in &members {
            self.want(id, head);
            self.namespaces[id.0 as usize].groups.push(group);
        }
        let stream_of = |id: &NamespaceId| self.namespaces[id.0 as usize].stream;
        // A group of one stream's children counts as that stream's.
        let stream = members.first().map(stream_of);
        let stream = stream.filter(|&stream| members.iter().all(|id| stream_of(id) == stream));
        let namespace = &mut self.namespaces[group.0 as usize];
        namespace.members = members;
        if let Some(stream) = stream {
            namespace.stream = stream;
        }
    }

    /// Whether a namespace is of this stream, or a group with a member that is.
    pub fn carries(&self, id: NamespaceId, stream: Stream) -> bool {
        let is_of = |id: &NamespaceId| self.get(*id).is_some_and(|it| it.stream == stream);
        is_of(&id) || self.get(id).is_some_and(|it| it.members.iter().any(is_of))
    }

    /// Whether a namespace is `member`, or a group that it is a member of.
    pub fn includes(&self, id: NamespaceId, member: NamespaceId) -> bool {
        let is_in = |namespace: &Namespace| namespace.members.contains(&member);
        id == member || self.get(id).is_some_and(is_in)
    }

    fn list_subscriber(&mut self, id: NamespaceId, subscriber: u32) -> (NamespaceId, u32) {
        let namespace = &mut self.namespaces[id.0 as usize];
        namespace.subscribers.push(subscriber);
        self.subscribers[namespace.stream as usize] += 1;
        (id, namespace.subscribers.len() as u32 - 1)
    }

    /// Takes note that somebody comes for a namespace.
    fn want(&mut self, id: NamespaceId, head: u64) {
        let namespace = &mut self.namespaces[id.0 as usize];
        if !namespace.is_wanted() {
            // Nothing was kept while nobody was here.
            namespace.complete_from = head;
            self.note_turn(id);
        }
    }

    /// Takes note that a namespace has become wanted or unwanted.
    fn note_turn(&mut self, id: NamespaceId) {
        let namespace = &self.namespaces[id.0 as usize];
        if namespace.stream.is_on_demand() && namespace.members.is_empty() {
            self.turned.push(namespace.segment.clone());
        }
    }

    /// Removes the connection at `slot`; the one that took its place there, if any.
    pub fn unsubscribe(&mut self, id: NamespaceId, slot: u32) -> Option<u32> {
        let namespace = self.namespaces.get_mut(id.0 as usize)?;
        namespace.subscribers.swap_remove(slot as usize);
        self.subscribers[namespace.stream as usize] -= 1;
        if let Some(pass) = &mut namespace.pass {
            pass.remaining = pass.remaining.min(namespace.subscribers.len());
        }
        let moved = namespace.subscribers.get(slot as usize).copied();
        self.after_loss(id);
        moved
    }

    /// The namespace of a stream, or of one child of it, if it exists.
    pub fn find(&self, stream: Stream, child: Option<&[u8]>) -> Option<NamespaceId> {
        match child {
            None => Some(stream.root()),
            Some(segment) => self.get(stream.root())?.children.get(segment).copied(),
        }
    }

    /// Keeps the namespace's frames until a moment, or until a later one that was said before, although everybody
    /// may leave.
    pub fn linger(&mut self, id: NamespaceId, until: Time) {
        let Some(namespace) = self.namespaces.get_mut(id.0 as usize) else {
            return;
        };
        match &mut namespace.lingers_until {
            Some(known) => *known = until.max(*known),
            none => {
                *none = Some(until);
                self.lingering.push(Reverse((until, id.0)));
            }
        }
    }

    /// The same for those of a group's members, where it is one: the group itself need not stay, because it begins
    /// again with what they have kept.
    pub fn linger_members(&mut self, id: NamespaceId, until: Time) {
        let members = self.get(id).map_or(0, |namespace| namespace.members.len());
        if members == 0 {
            return self.linger(id, until);
        }
        for index in 0..members {
            self.linger(self.namespaces[id.0 as usize].members[index], until);
        }
    }

    /// When [`Hub::expire`] has something to do.
    pub fn expires_at(&self) -> Option<Time> {
        self.lingering.peek().map(|&Reverse((at, _))| at)
    }

    /// The children of streams on demand that may have become wanted or unwanted since this was last called.
    pub fn take_turned(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.turned)
    }

    /// Whether there are such.
    pub fn has_turned(&self) -> bool {
        !self.turned.is_empty()
    }

    /// Whether somebody is in a child of a stream, or is to come back to it.
    pub fn is_wanted(&self, stream: Stream, child: &[u8]) -> bool {
        let namespace = self.find(stream, Some(child)).and_then(|id| self.get(id));
        namespace.is_some_and(Namespace::is_wanted)
    }

    /// How many namespaces have gone: a name may mean another one since.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// The children of a stream, and the subscribers of each, alone or with others, in no order that means
    /// anything.
    pub fn children(&self, stream: Stream) -> impl Iterator<Item = (&[u8], usize)> {
        let count = |id: &NamespaceId| self.get(*id).map_or(0, |it| it.subscribers.len());
        let root = &self.namespaces[stream.root().0 as usize];
        root.children.iter().map(move |(segment, id)| {
            let groups = self.get(*id).map_or(&[][..], |child| &child.groups);
            let together: usize = groups.iter().map(count).sum();
            (&**segment, count(id) + together)
        })
    }

    /// The order in which subscribers are written to.
    pub fn passes(&self) -> &Passes {
        &self.passes
    }

    /// Begins a turn: passes whose time has come may begin, or all of them where they have been put off for
    /// too long already.
    pub fn begin_turn(&mut self, now: Time, is_late: bool) {
        self.passes.begin_turn(now, is_late);
    }

    /// The next subscriber of a touched namespace. Whether it needs anything is for the caller.
    pub fn next_turn(&mut self) -> Option<Turn> {
        self.passes.next_turn(&mut self.namespaces)
    }

    /// The passes that have ended since this was last called.
    pub fn take_finished(&mut self) -> impl Iterator<Item = Finished> + '_ {
        self.passes.take_finished()
    }

    /// Whether the subscriber at `slot` is still to be visited for the frame `sequence`.
    pub fn will_visit(&self, id: NamespaceId, slot: u32, sequence: u64) -> bool {
        self.get(id).is_some_and(|namespace| {
            let pending = namespace.pending;
            let pending = pending.is_some_and(|pending| pending.from <= sequence);
            let passing = namespace
                .pass
                .is_some_and(|pass| (slot as usize) < pass.remaining);
            (pending || passing) && self.passes.is_queued(id)
        })
    }

    /// Ends the lingering of those whose time has come.
    pub fn expire(&mut self, now: Time) {
        while let Some(&Reverse((at, id))) = self.lingering.peek()
            && at <= now
        {
            self.lingering.pop();
            let namespace = &mut self.namespaces[id as usize];
            match namespace.lingers_until {
                Some(until) if until > now => self.lingering.push(Reverse((until, id))),
                _ => {
                    namespace.lingers_until = None;
                    self.after_loss(NamespaceId(id));
                }
            }
        }
    }

    /// Where a message for a stream, or for one child of it, is to be published: the deepest namespace
    /// with subscribers. `None` when nobody would get it, so that it need not be encoded.
    pub fn destination(&self, stream: Stream, child: Option<&[u8]>) -> Option<NamespaceId> {
        let root = &self.namespaces[stream.root().0 as usize];
        let child = child
            .and_then(|segment| root.children.get(segment))
            .copied();
        // A namespace without subscribers must not be named by a frame: it goes with its own last frame,
        // and nobody could then find the lists above it.
        let is_wanted = |id: &NamespaceId| self.get(*id).is_some_and(Namespace::is_wanted);
        child.into_iter().chain([stream.root()]).find(is_wanted)
    }

    /// Lists a frame, whose message arrived at this moment, in `id` and above, and marks them as touched.
    pub fn publish(&mut self, id: NamespaceId, sequence: u64, arrived_at: Time) {
        let mut next = Some(id);
        while let Some(id) = next {
            let namespace = &mut self.namespaces[id.0 as usize];
            next = namespace.parent;
            if !namespace.is_wanted() {
                continue;
            }
            self.list(id, sequence, arrived_at);
            for index in 0..self.namespaces[id.0 as usize].groups.len() {
                let group = self.namespaces[id.0 as usize].groups[index];
                // It may have it already, from a namespace below this one.
                if self.namespaces[group.0 as usize].newest != Some(sequence) {
                    self.list(group, sequence, arrived_at);
                }
            }
        }
    }

    fn list(&mut self, id: NamespaceId, sequence: u64, arrived_at: Time) {
        let namespace = &mut self.namespaces[id.0 as usize];
        debug_assert!(namespace.newest.is_none_or(|newest| newest < sequence));
        namespace.newest = Some(sequence);
        if namespace.members.is_empty() {
            namespace.frames.push_back(sequence);
        }
        if namespace.subscribers.is_empty() {
            return;
        }
        match &mut namespace.pending {
            Some(pending) => pending.count = pending.count.saturating_add(1),
            None => {
                namespace.pending = Some(Pending {
                    from: sequence,
                    arrived_at,
                    count: 1,
                });
                if namespace.pass.is_none() {
                    self.passes.queue(id, namespace.ready_at);
                }
            }
        }
    }

    /// Takes an evicted frame out of the lists that have it.
    pub fn forget(&mut self, id: NamespaceId, sequence: u64) {
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(namespace) = self.namespaces.get_mut(id.0 as usize) else {
                break;
            };
            next = namespace.parent;
            namespace.forget(sequence);
            self.remove_if_unused(id);
        }
    }

    fn find_or_insert(&mut self, stream: Stream, child: Option<&[u8]>) -> NamespaceId {
        let root = stream.root();
        let Some(segment) = child else { return root };
        if let Some(&id) = self.namespaces[root.0 as usize].children.get(segment) {
            return id;
        }
        let id = self
            .namespaces
            .insert(Namespace::new(stream, Some(root), segment));
        let id = NamespaceId(id as u32);
        self.namespaces[root.0 as usize]
            .children
            .insert(segment.into(), id);
        id
    }

    /// A namespace has lost something that it was wanted for.
    fn after_loss(&mut self, id: NamespaceId) {
        if !self.namespaces[id.0 as usize].is_wanted() {
            self.note_turn(id);
            self.remove_if_unused(id);
        }
    }

    fn remove_if_unused(&mut self, id: NamespaceId) {
        let Some(namespace) = self.namespaces.get(id.0 as usize) else {
            return;
        };
        let Some(parent) = namespace.parent else {
            return;
        };
        if !namespace.is_unused() {
            return;
        }
        if namespace.pass.is_some() || namespace.pending.is_some() {
            self.passes.forget(id);
        }
        let namespace = self.namespaces.remove(id.0 as usize);
        self.removals += 1;
        self.namespaces[parent.0 as usize]
            .children
            .remove(&namespace.segment);
        for member in namespace.members {
            let groups = &mut self.namespaces[member.0 as usize].groups;
            groups.retain(|&group| group != id);
            self.after_loss(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{PASS_PAUSE_PER_SUBSCRIBER, WRITES_PER_NAMESPACE};

    fn turns(hub: &mut Hub) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| hub.next_turn())
            .map(|turn| (turn.subscriber, turn.from))
            .collect()
    }

    #[test]
    fn a_parent_gets_its_children_and_a_child_its_own_only() {
        let mut hub = Hub::new(usize::MAX);
        hub.subscribe(Stream::Details, None, 1, 0);
        hub.subscribe(Stream::Details, Some(b"1F4C2"), 2, 0);
        hub.subscribe(Stream::Details, Some(b"1F4"), 3, 0);
        let id = hub.destination(Stream::Details, Some(b"1F4C2")).unwrap();
        hub.publish(id, 0, Time::ZERO);
        assert_eq!(turns(&mut hub), [(2, 0), (1, 0)]);
        let id = hub.destination(Stream::Details, Some(b"unheard")).unwrap();
        assert_eq!(id, Stream::Details.root());
        hub.publish(id, 1, Time::ZERO);
        assert_eq!(turns(&mut hub), [(1, 1)]);
        assert!(hub.destination(Stream::Raw, None).is_none());
    }

    #[test]
    fn a_pass_visits_everybody_although_subscribers_leave_and_join() {
        for leaver in 0..4_u32 {
            for visited in 0..4 {
                let mut hub = Hub::new(usize::MAX);
                let mut slots: Vec<u32> = Vec::new();
                for subscriber in 0..4 {
                    slots.push(hub.subscribe(Stream::Raw, None, subscriber, 0).1);
                }
                hub.publish(Stream::Raw.root(), 0, Time::ZERO);
                let mut seen: Vec<u32> = Vec::new();
                for _ in 0..visited {
                    seen.extend(hub.next_turn().map(|turn| turn.subscriber));
                }
                hub.unsubscribe(Stream::Raw.root(), slots[leaver as usize]);
                hub.subscribe(Stream::Raw, None, 9, 1);
                seen.extend(turns(&mut hub).iter().map(|&(subscriber, _)| subscriber));
                for stayer in (0..4).filter(|&stayer| stayer != leaver) {
                    assert!(
                        seen.contains(&stayer),
                        "{stayer} unseen: {seen:?}, {leaver} left"
                    );
                }
            }
        }
    }

    #[test]
    fn a_frame_published_during_a_pass_starts_another_one() {
        let mut hub = Hub::new(usize::MAX);
        hub.subscribe(Stream::Eps, None, 1, 0);
        hub.subscribe(Stream::Eps, None, 2, 0);
        hub.publish(Stream::Eps.root(), 5, Time::ZERO);
        assert_eq!(hub.next_turn().map(|turn| turn.subscriber), Some(2));
        hub.publish(Stream::Eps.root(), 6, Time::ZERO);
        assert!(hub.will_visit(Stream::Eps.root(), 1, 6));
        hub.publish(Stream::Eps.root(), 7, Time::from_micros(9));
        assert_eq!(turns(&mut hub), [(1, 5), (2, 6), (1, 6)]);
        assert!(!hub.passes().has_turns());
        let finished = hub.take_finished();
        let finished = finished.map(|pass| (pass.stream, pass.arrived_at, pass.frames));
        let (stream, arrived_at) = (Stream::Eps, Time::ZERO);
        let expected = [(stream, arrived_at, 1), (stream, arrived_at, 2)];
        assert_eq!(finished.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn namespaces_go_with_their_last_subscriber_and_frame() {
        let mut hub = Hub::new(usize::MAX);
        let (id, slot) = hub.subscribe(Stream::Details, Some(b"A"), 1, 0);
        hub.publish(id, 0, Time::ZERO);
        hub.unsubscribe(id, slot);
        assert!(hub.get(id).is_some(), "the log still has a frame of it");
        assert!(hub.destination(Stream::Details, Some(b"A")).is_none());
        hub.forget(id, 0);
        assert!(hub.get(id).is_none());
        assert!(turns(&mut hub).is_empty());
        assert_eq!(hub.iter().count(), Stream::ALL.len());
    }

    #[test]
    fn a_frame_is_forgotten_above_a_namespace_that_nobody_is_left_in() {
        let mut hub = Hub::new(usize::MAX);
        let (child, slot) = hub.subscribe(Stream::Details, Some(b"A"), 1, 0);
        hub.subscribe(Stream::Details, None, 2, 0);
        for sequence in 0..2 {
            let id = hub.destination(Stream::Details, Some(b"A")).unwrap();
            hub.publish(id, sequence, Time::ZERO);
            if sequence == 0 {
                hub.unsubscribe(child, slot);
            }
            assert_eq!(hub.get(id).unwrap().frames.back(), Some(&sequence));
        }
        hub.forget(child, 0);
        hub.forget(Stream::Details.root(), 1);
        assert!(hub.iter().all(|namespace| namespace.frames.is_empty()));
    }

    #[test]
    fn a_big_namespace_does_not_hold_up_a_small_one() {
        let mut hub = Hub::new(usize::MAX);
        for subscriber in 0..1_000 {
            hub.subscribe(Stream::Eps, None, subscriber, 0);
        }
        hub.subscribe(Stream::Raw, None, 5_000, 0);
        hub.publish(Stream::Eps.root(), 0, Time::ZERO);
        hub.publish(Stream::Raw.root(), 1, Time::ZERO);
        let order = turns(&mut hub);
        let place = order
            .iter()
            .position(|&(subscriber, _)| subscriber == 5_000);
        assert_eq!((place, order.len()), (Some(WRITES_PER_NAMESPACE), 1_001));
    }

    #[test]
    fn a_pass_over_many_waits_for_more_messages_but_not_for_long() {
        let mut hub = Hub::new(2);
        let raw = Stream::Raw.root();
        for subscriber in 0..2 {
            hub.subscribe(Stream::Raw, None, subscriber, 0);
        }
        let mut now = Time::from_micros(1_000_000);
        hub.begin_turn(now, false);
        hub.publish(raw, 0, now);
        assert_eq!(
            turns(&mut hub),
            [(1, 0), (0, 0)],
            "the first is not put off"
        );
        hub.publish(raw, 1, now);
        let passes = hub.passes();
        assert!(!passes.has_turns() && !passes.is_flushed() && hub.will_visit(raw, 0, 1));
        let at = now + 2 * PASS_PAUSE_PER_SUBSCRIBER;
        assert_eq!(hub.passes().next_at(), Some(at));
        hub.publish(raw, 2, now);
        hub.begin_turn(now, false);
        assert!(turns(&mut hub).is_empty());
        now = at;
        hub.begin_turn(now, false);
        assert_eq!(turns(&mut hub), [(1, 1), (0, 1)], "both messages at once");
        hub.publish(raw, 3, now);
        hub.begin_turn(now, true);
        assert_eq!(
            turns(&mut hub),
            [(1, 3), (0, 3)],
            "too much would be put off"
        );
        assert!(hub.passes().is_flushed());
    }

    #[test]
    fn a_group_lists_what_any_of_its_members_does_and_goes_with_its_last_subscriber() {
        let mut hub = Hub::new(usize::MAX);
        let members: [(Stream, Option<&[u8]>); 3] = [
            (Stream::Eps, None),
            (Stream::Details, Some(b"A")),
            (Stream::Details, None),
        ];
        let (group, slot) = hub.subscribe_to_several(&members, 1, 0);
        let mut others = members;
        others.reverse();
        let (same, other_slot) = hub.subscribe_to_several(&others, 2, 0);
        assert_eq!(
            (same, other_slot),
            (group, 1),
            "the same namespaces are one group"
        );
        let detail = hub.find(Stream::Details, Some(b"A")).unwrap();
        assert!(hub.includes(group, detail) && hub.includes(group, Stream::Eps.root()));
        assert!(!hub.includes(group, Stream::Raw.root()) && hub.includes(detail, detail));
        // A tweet of A is in two of its members, and one for it.
        let published = [
            (Stream::Details, Some(&b"A"[..])),
            (Stream::Eps, None),
            (Stream::Details, Some(b"B")),
        ];
        for (sequence, (stream, child)) in (0..).zip(published) {
            let id = hub.destination(stream, child).unwrap();
            hub.publish(id, sequence, Time::ZERO);
        }
        assert!(hub.frames_from(group, 0).eq([0, 1, 2]));
        assert!(
            hub.get(group).unwrap().frames.is_empty(),
            "a list for each group would be one for each client"
        );
        assert_eq!(turns(&mut hub), [(2, 0), (1, 0)]);
        assert!(hub.destination(Stream::Raw, None).is_none());
        hub.forget(detail, 0);
        assert!(hub.frames_from(group, 0).eq([1, 2]));
        assert_eq!(hub.complete_from(group), 1);
        hub.unsubscribe(group, slot);
        hub.unsubscribe(group, 0);
        assert!(hub.get(group).is_none());
        for (stream, child) in members {
            let wanted = hub.destination(stream, child);
            assert_eq!(wanted, None, "nobody is left who wants {stream:?}");
        }
        hub.forget(Stream::Eps.root(), 1);
        hub.forget(Stream::Details.root(), 2);
        assert_eq!(hub.iter().count(), Stream::ALL.len());
        assert!(hub.destination(Stream::Eps, None).is_none());
        assert_eq!(hub.subscribers(), 0);
    }
}
