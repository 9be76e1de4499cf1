//! The registry: namespaces, groups, and who is in which. It owns their names and what becomes wanted or unwanted; it must
//! not know messages other than by their numbers, nor in which order subscribers are visited (`passes`).
//!
//! A stream is a root, and has children. A message for a child is listed there and at the root, if somebody wants
//! these; a namespace's list is therefore all that a subscriber of it may need, in order. A child that nobody wants is
//! gone. Who subscribes to several namespaces at once subscribes to their *group*, which has no list of its own:
//! what it has is the union of its members' lists, so that a thousand groups with one busy member cost one list.

use std::collections::{BTreeSet, HashMap, VecDeque};

use slab::Slab;

use super::breaks::Breaks;
use super::log::Log;
use super::namespace::{Namespace, NamespaceId, Stream, Streams};
use super::passes::SubscriberId;
use crate::time::Time;

/// A namespace as somebody asks for it: a stream, or one child of it.
pub type Name<'a> = (Stream, Option<&'a [u8]>);

/// The registry of namespaces.
pub struct Registry {
    namespaces: Slab<Namespace>,
    /// The children of each stream by their segments, and groups by the places of their members.
    children: [HashMap<Box<[u8]>, NamespaceId>; Stream::ALL.len()],
    /// Subscribers of each stream.
    subscribers: [usize; Stream::ALL.len()],
    /// The breaks of all streams.
    pub breaks: Breaks,
    /// Namespaces that linger, and until when.
    lingering: BTreeSet<(Time, NamespaceId)>,
    /// Those among them that could go at any time, because nobody is there and nothing is kept: see
    /// [`Namespace::is_idle`].
    idle: BTreeSet<(Time, NamespaceId)>,
    /// Namespaces that were ever created, beside the roots.
    created: u32,
    /// Bytes of memory of the lists of all namespaces.
    list_bytes: usize,
    /// Children of streams that have become unwanted; some perhaps more than once, or wanted again.
    unwanted: VecDeque<(Stream, Box<[u8]>)>,
}

impl Default for Registry {
    /// A registry of the streams' roots.
    fn default() -> Registry {
        let mut namespaces = Slab::new();
        for stream in Stream::ALL {
            let index = namespaces.insert(Namespace::new(stream.root(), stream, b""));
            debug_assert_eq!(index, stream.root().index as usize);
        }
        Registry {
            namespaces,
            children: Default::default(),
            subscribers: [0; Stream::ALL.len()],
            breaks: Breaks::default(),
            lingering: BTreeSet::new(),
            idle: BTreeSet::new(),
            created: 0,
            list_bytes: 0,
            unwanted: VecDeque::new(),
        }
    }
}

impl Registry {
    /// The namespace of these names, or their group, which somebody is about to enter. Of those that nobody has
    /// wanted until now, everything up to `head` may be missing. A new group with eps has what came up to the horizon,
    /// and awaits the tick for the rest.
    pub fn enter(&mut self, names: &[Name<'_>], head: u64, horizon: u64) -> NamespaceId {
        let insert = |&name: &Name<'_>| self.find_or_insert(name);
        let mut members: Vec<NamespaceId> = names.iter().map(insert).collect();
        members.sort_unstable();
        members.dedup();
        for &member in &members {
            self.want(member, head);
        }
        match members[..] {
            [alone] => alone,
            ref several => self.group(several, horizon),
        }
    }

    /// Adds a subscriber to a namespace, and returns its slot.
    pub fn add_subscriber(&mut self, id: NamespaceId, subscriber: SubscriberId) -> u32 {
        let namespace = &mut self.namespaces[id.index as usize];
        self.subscribers[namespace.stream as usize] += 1;
        let slot = namespace.listeners.add(subscriber);
        self.each_member(id, |member| member.audience += 1);
        self.update_idle(id);
        slot
    }

    /// Removes the subscriber in a slot; the one that has the slot now, if any.
    pub fn remove_subscriber(&mut self, id: NamespaceId, slot: u32) -> Option<SubscriberId> {
        let namespace = &mut self.namespaces[id.index as usize];
        self.subscribers[namespace.stream as usize] -= 1;
        let moved = namespace.listeners.remove(slot);
        self.each_member(id, |member| member.audience -= 1);
        self.after_loss(id);
        moved
    }

    /// Keeps a namespace's messages, or those of a group's members, until a moment, or until a later one that was
    /// said before, although everybody may leave. A group itself need not stay: it begins again with what its
    /// members have kept.
    pub fn linger(&mut self, id: NamespaceId, until: Time) {
        let mut lingering = std::mem::take(&mut self.lingering);
        self.each_member(id, |member| {
            let known = member.lingers_until.unwrap_or_default();
            lingering.remove(&(known, member.id));
            lingering.insert((until.max(known), member.id));
            member.lingers_until = Some(until.max(known));
        });
        self.lingering = lingering;
    }

    /// Ends the lingering of those whose time has come.
    pub fn expire(&mut self, now: Time) {
        while let Some(&(until, id)) = self.lingering.first()
            && until <= now
        {
            self.stop_lingering(until, id);
        }
    }

    /// Gives up a namespace that is idle. Whoever comes back to it is told that something may be missing.
    pub fn evict(&mut self, name: Name<'_>) {
        let namespace = self.find(name).and_then(|id| self.get(id));
        let idle = namespace.filter(|it| it.is_idle());
        if let Some((until, id)) = idle.and_then(|it| Some((it.lingers_until?, it.id))) {
            self.stop_lingering(until, id);
        }
    }

    /// Lists a message where it was published, and above.
    pub fn list(&mut self, id: NamespaceId, stream: Stream, number: u64) {
        for id in with_root(id, stream) {
            let namespace = self.get_mut(id);
            if let Some(namespace) = namespace.filter(|it| it.is_wanted()) {
                let growth = namespace.list_growth();
                namespace.list(number);
                self.list_bytes += growth;
                self.update_idle(id);
            }
        }
    }

    /// Takes an evicted message, or scores up to this number, out of the lists that have it.
    pub fn forget(&mut self, id: NamespaceId, stream: Stream, number: u64) {
        for id in with_root(id, stream) {
            if let Some(namespace) = self.get_mut(id) {
                let freed = namespace.evict(number);
                self.list_bytes -= freed;
                self.update_idle(id);
            }
        }
    }

    /// The next child of a stream that has become unwanted, unless it is wanted again.
    pub fn poll_unwanted(&mut self) -> Option<(Stream, Box<[u8]>)> {
        self.unwanted.pop_front()
    }

    /// Whether there is one.
    pub fn has_unwanted(&self) -> bool {
        !self.unwanted.is_empty()
    }

    /// The children of streams that [`Registry::evict`] would give up, those that would be kept for the shortest first.
    pub fn idle(&self) -> impl Iterator<Item = (Stream, &[u8])> {
        let idle = self.idle.iter().filter_map(|&(_, id)| self.get(id));
        idle.map(|namespace| (namespace.stream, &*namespace.segment))
    }

    /// The namespace, which exists as long as somebody wants it. Roots always do.
    pub fn get(&self, id: NamespaceId) -> Option<&Namespace> {
        let namespace = self.namespaces.get(id.index as usize);
        namespace.filter(|namespace| namespace.id == id)
    }

    /// The namespace, for changes.
    pub fn get_mut(&mut self, id: NamespaceId) -> Option<&mut Namespace> {
        let namespace = self.namespaces.get_mut(id.index as usize);
        namespace.filter(|namespace| namespace.id == id)
    }

    /// How many subscribers get what a namespace's subscribers get: of a group's members, that of the greatest.
    pub fn audience(&self, id: NamespaceId) -> usize {
        let audiences = self.members(id).map(|member| member.audience);
        audiences.max().unwrap_or(0)
    }

    /// The namespace of a stream, or of one child of it, if it exists.
    pub fn find(&self, (stream, child): Name<'_>) -> Option<NamespaceId> {
        match child {
            None => Some(stream.root()),
            Some(segment) => self.children[stream as usize].get(segment).copied(),
        }
    }

    /// Whether messages of a stream, or of one child of it, are kept.
    pub fn is_wanted(&self, name: Name<'_>) -> bool {
        let namespace = self.find(name).and_then(|id| self.get(id));
        namespace.is_some_and(Namespace::is_wanted)
    }

    /// Where a message for a stream, or for one child of it, is to be published: the deepest namespace that
    /// somebody wants. `None` where nobody would get it, so that it need not be kept.
    pub fn destination(&self, (stream, child): Name<'_>) -> Option<NamespaceId> {
        let child = child.and_then(|segment| self.find((stream, Some(segment))));
        let is_wanted = |id: &NamespaceId| self.get(*id).is_some_and(Namespace::is_wanted);
        child.or(Some(stream.root()).filter(is_wanted))
    }

    /// Whether a namespace is `member`, or a group that it is a member of.
    pub fn includes(&self, id: NamespaceId, member: NamespaceId) -> bool {
        let is_member =
            |namespace: &Namespace| namespace.members.iter().any(|&(id, _)| id == member);
        id == member || self.get(id).is_some_and(is_member)
    }

    /// The group in a place of a namespace's list of groups.
    pub fn group_at(&self, id: NamespaceId, place: usize) -> Option<NamespaceId> {
        Some(self.get(id)?.groups.get(place)?.0)
    }

    /// The number of a namespace's first message or break after `number`.
    pub fn next_after(&self, id: NamespaceId, number: u64) -> Option<u64> {
        let next = |member: &Namespace| member.number_at(member.place_after(number));
        let messages = self.members(id).filter_map(next);
        messages.chain(self.next_break(id, number)).min()
    }

    /// The number of a namespace's first break after `number`.
    pub fn next_break(&self, id: NamespaceId, number: u64) -> Option<u64> {
        let streams = self.members(id).map(|member| member.stream);
        let next = |stream: Stream| self.breaks.after(stream, number).next();
        streams.filter_map(next).min()
    }

    /// How many messages of a namespace have greater numbers. One that concerns several of a group's members
    /// counts for each.
    pub fn count_after(&self, id: NamespaceId, number: u64) -> usize {
        self.members(id)
            .map(|member| member.count_after(number))
            .sum()
    }

    /// The greatest number of a message of a namespace that was evicted, or of scores.
    pub fn evicted(&self, id: NamespaceId) -> u64 {
        let evicted = self.members(id).map(Namespace::evicted);
        evicted.max().unwrap_or(u64::MAX)
    }

    /// The number from which on nothing of a namespace is missing: neither was it evicted, nor did nobody want it
    /// when it came.
    pub fn complete_since(&self, id: NamespaceId) -> u64 {
        let since = |member: &Namespace| {
            let known_since = self.breaks.known_since(member.stream);
            member.complete_since().max(known_since)
        };
        self.members(id).map(since).max().unwrap_or(u64::MAX)
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.subscribers.iter().sum()
    }

    /// How many subscribers each stream has, in the order of [`Stream::ALL`].
    pub fn subscribers_by_stream(&self) -> [usize; Stream::ALL.len()] {
        self.subscribers
    }

    /// Whether no other streams than these have subscribers.
    pub fn has_only(&self, streams: &[Stream]) -> bool {
        let count = |&stream: &Stream| self.subscribers[stream as usize];
        self.subscribers() == streams.iter().map(count).sum::<usize>()
    }

    /// The children of a stream, and the subscribers of each, alone or with others, in no order that means
    /// anything.
    pub fn children(&self, stream: Stream) -> impl Iterator<Item = (&[u8], usize)> {
        let children = self.children[stream as usize].iter();
        children.map(|(segment, &id)| (&**segment, self.audience(id)))
    }

    /// Bytes of memory of the lists of messages.
    pub fn list_bytes(&self) -> usize {
        self.list_bytes
    }

    /// Bytes of memory that listing a message there needs beyond those that are held.
    pub fn list_growth(&self, id: NamespaceId, stream: Stream) -> usize {
        let namespaces = with_root(id, stream).filter_map(|id| self.get(id));
        namespaces.map(Namespace::list_growth).sum()
    }

    /// When [`Registry::expire`] has something to do.
    pub fn expires_at(&self) -> Option<Time> {
        self.lingering.first().map(|&(until, _)| until)
    }

    /// All namespaces, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (NamespaceId, &Namespace)> {
        self.namespaces.iter().map(|(_, it)| (it.id, it))
    }

    /// Panics with the name of what should hold between two turns, where it does not.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, log: &Log) {
        let mut subscribers = 0;
        let (mut lingering, mut idle) = (BTreeSet::new(), BTreeSet::new());
        for (id, namespace) in self.iter() {
            subscribers += namespace.listeners.len();
            let until = namespace.lingers_until.map(|until| (until, id));
            lingering.extend(until);
            idle.extend(until.filter(|_| namespace.is_idle()));
            // Listing asserts their order, so the ends speak for all.
            for number in namespace.listed().into_iter().flat_map(<[u64; 2]>::from) {
                assert!(
                    log.message(number).is_some(),
                    "{number} is listed and not kept"
                );
            }
            for (place, &(member, index)) in (0..).zip(&namespace.members) {
                let groups = self.get(member).map(|member| &member.groups);
                let known = groups.and_then(|groups| groups.get(index as usize));
                assert_eq!(
                    known,
                    Some(&(id, place)),
                    "a member does not know its group"
                );
            }
        }
        let list_bytes = self.iter().map(|(_, namespace)| namespace.list_bytes());
        assert_eq!(list_bytes.sum::<usize>(), self.list_bytes);
        assert_eq!(
            subscribers,
            self.subscribers(),
            "subscribers were miscounted"
        );
        assert_eq!(self.lingering, lingering, "those who linger");
        assert_eq!(self.idle, idle, "those who could go at any time");
    }

    fn stop_lingering(&mut self, until: Time, id: NamespaceId) {
        self.lingering.remove(&(until, id));
        self.idle.remove(&(until, id));
        self.namespaces[id.index as usize].lingers_until = None;
        self.after_loss(id);
    }

    /// A namespace, or a group's members, may have begun or ceased to be idle.
    fn update_idle(&mut self, id: NamespaceId) {
        let mut idle = std::mem::take(&mut self.idle);
        self.each_member(id, |member| {
            if let Some(until) = member.lingers_until {
                match member.is_idle() {
                    true => idle.insert((until, member.id)),
                    false => idle.remove(&(until, member.id)),
                };
            }
        });
        self.idle = idle;
    }

    /// Changes the members of a group, or the namespace itself where it is none.
    fn each_member(&mut self, id: NamespaceId, mut change: impl FnMut(&mut Namespace)) {
        let count = self.namespaces[id.index as usize].members.len();
        if count == 0 {
            change(&mut self.namespaces[id.index as usize]);
        }
        for place in 0..count {
            let (member, _) = self.namespaces[id.index as usize].members[place];
            change(&mut self.namespaces[member.index as usize]);
        }
    }

    /// The members of a group, or the namespace itself where it is none.
    pub fn members(&self, id: NamespaceId) -> impl Iterator<Item = &Namespace> {
        let namespace = self.get(id);
        let members = namespace.map_or(&[][..], |namespace| &namespace.members);
        let alone = namespace.filter(|_| members.is_empty());
        let members = members.iter().filter_map(|&(id, _)| self.get(id));
        alone.into_iter().chain(members)
    }

    fn find_or_insert(&mut self, (stream, child): Name<'_>) -> NamespaceId {
        let Some(segment) = child else {
            return stream.root();
        };
        let children = &mut self.children[stream as usize];
        if let Some(&id) = children.get(segment) {
            return id;
        }
        self.created = self.created.wrapping_add(1).max(1);
        let entry = self.namespaces.vacant_entry();
        let id = NamespaceId {
            index: entry.key() as u32,
            generation: self.created,
        };
        entry.insert(Namespace::new(id, stream, segment));
        children.insert(segment.into(), id);
        id
    }

    /// The group of these namespaces, which are wanted from now on.
    fn group(&mut self, members: &[NamespaceId], horizon: u64) -> NamespaceId {
        let name: Vec<u8> = members
            .iter()
            .flat_map(|id| id.index.to_be_bytes())
            .collect();
        let group = self.find_or_insert((Stream::Several, Some(&name)));
        if !self.namespaces[group.index as usize].members.is_empty() {
            return group;
        }
        let mut listed = Vec::with_capacity(members.len());
        let (mut carries, mut newest) = (Streams::default(), 0);
        for (place, &id) in (0..).zip(members) {
            let member = &mut self.namespaces[id.index as usize];
            listed.push((id, member.groups.len() as u32));
            member.groups.push((group, place));
            carries = carries.with(member.carries);
            let broken = self.breaks.last(member.stream);
            newest = member.newest().max(newest).max(broken);
        }
        let namespace = &mut self.namespaces[group.index as usize];
        namespace.members = listed;
        namespace.carries = carries;
        // Who comes back to it may lack what its members had before it was there.
        namespace.awaits_tick = carries.has(Stream::Eps) && newest > horizon;
        namespace.advance(match namespace.awaits_tick {
            true => horizon,
            false => newest,
        });
        let alone = Stream::ALL
            .into_iter()
            .find(|&stream| carries == Streams::only(stream));
        namespace.stream = alone.unwrap_or(Stream::Several);
        group
    }

    /// Somebody comes for a namespace.
    fn want(&mut self, id: NamespaceId, head: u64) {
        let namespace = &mut self.namespaces[id.index as usize];
        if !namespace.is_wanted() {
            namespace.begin(head);
        }
    }

    /// A namespace has lost something that it was wanted for.
    fn after_loss(&mut self, id: NamespaceId) {
        let namespace = &mut self.namespaces[id.index as usize];
        if namespace.is_wanted() {
            return self.update_idle(id);
        }
        self.list_bytes -= namespace.clear();
        if namespace.is_child() {
            let name = (namespace.stream, namespace.segment.clone());
            self.unwanted.push_back(name);
        }
        if id.generation == 0 {
            return;
        }
        let namespace = self.namespaces.remove(id.index as usize);
        let stream = match namespace.members[..] {
            [] => namespace.stream,
            _ => Stream::Several,
        };
        self.children[stream as usize].remove(&namespace.segment);
        for (member, place) in namespace.members {
            self.leave_member(member, place);
            self.after_loss(member);
        }
    }

    /// Takes the group in this place out of a member's list. The last group takes the place, and must know.
    fn leave_member(&mut self, member: NamespaceId, place: u32) {
        let groups = &mut self.namespaces[member.index as usize].groups;
        groups.swap_remove(place as usize);
        if let Some(&(group, index)) = groups.get(place as usize) {
            self.namespaces[group.index as usize].members[index as usize].1 = place;
        }
    }
}

/// A namespace, and above it the root of its stream.
pub fn with_root(id: NamespaceId, stream: Stream) -> impl Iterator<Item = NamespaceId> {
    let root = Some(stream.root()).filter(|&root| root != id);
    [Some(id), root].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::super::numbers::Numbers;
    use super::*;
    use Stream::{Channels, Details, Eps, Raw};

    /// Publishes a message where somebody wants it; the namespace.
    fn publish(registry: &mut Registry, name: Name<'_>, number: u64) -> Option<NamespaceId> {
        let id = registry.destination(name)?;
        registry.list(id, name.0, number);
        Some(id)
    }

    fn numbers(registry: &Registry, id: NamespaceId) -> Vec<u64> {
        let mut numbers = Numbers::default();
        numbers.start(registry, id, 0);
        std::iter::from_fn(|| numbers.next(registry, id)).collect()
    }

    #[test]
    fn a_message_is_listed_in_the_deepest_namespace_that_is_wanted_and_above() {
        let mut registry = Registry::default();
        let child = registry.enter(&[(Details, Some(b"A"))], 0, 0);
        let slot = registry.add_subscriber(child, SubscriberId(1));
        let root = registry.enter(&[(Details, None)], 0, 0);
        registry.add_subscriber(root, SubscriberId(2));
        assert_eq!(
            publish(&mut registry, (Details, Some(b"A")), 1),
            Some(child)
        );
        assert_eq!(publish(&mut registry, (Details, Some(b"B")), 2), Some(root));
        assert_eq!(publish(&mut registry, (Raw, None), 3), None);
        assert_eq!(
            (numbers(&registry, child), numbers(&registry, root)),
            (vec![1], vec![1, 2])
        );
        registry.remove_subscriber(child, slot);
        let again = registry.enter(&[(Details, Some(b"B"))], 0, 0);
        assert_eq!(again.index, child.index, "its memory is used again");
        assert!(registry.get(child).is_none() && registry.get(again).is_some());
        assert_eq!(publish(&mut registry, (Details, Some(b"A")), 4), Some(root));
        registry.forget(child, Details, 1);
        assert_eq!(registry.evicted(again), 0);
        assert_eq!(
            (numbers(&registry, root), registry.evicted(root)),
            (vec![2, 4], 1)
        );
    }

    #[test]
    fn a_group_has_what_any_of_its_members_has_and_goes_with_its_last_subscriber() {
        let mut registry = Registry::default();
        let names: [Name<'_>; 3] = [(Eps, None), (Details, Some(b"A")), (Details, None)];
        let group = registry.enter(&names, 0, 0);
        let slots = [1, 2].map(|place| registry.add_subscriber(group, SubscriberId(place)));
        let mut others = names;
        others.reverse();
        assert_eq!(
            registry.enter(&others, 0, 0),
            group,
            "the same namespaces are one group"
        );
        let detail = registry.find((Details, Some(b"A"))).unwrap();
        assert!(registry.includes(group, detail) && registry.includes(group, Eps.root()));
        assert!(!registry.includes(group, Raw.root()) && registry.includes(detail, detail));
        let carries = registry.get(group).unwrap().carries;
        assert!(carries.has(Eps) && carries.has(Details) && !carries.has(Raw));
        for (number, child) in [(1, b"A"), (2, b"B")] {
            publish(&mut registry, (Details, Some(child)), number);
        }
        assert_eq!(
            numbers(&registry, group),
            [1, 2],
            "a message of two members comes once"
        );
        registry.forget(detail, Details, 1);
        assert_eq!(
            (numbers(&registry, group), registry.evicted(group)),
            (vec![2], 1)
        );
        for slot in slots.into_iter().rev() {
            registry.remove_subscriber(group, slot);
        }
        assert!(registry.get(group).is_none());
        assert!(names.iter().all(|&name| !registry.is_wanted(name)));
        assert_eq!(registry.iter().count(), Stream::ALL.len());
        assert_eq!(registry.subscribers(), 0);
    }

    #[test]
    fn groups_leave_their_members_in_any_order() {
        for leaver in 0..4_usize {
            let mut registry = Registry::default();
            let own = [b"a", b"b", b"c", b"d"];
            let names = own.map(|name| [(Eps, None), (Details, Some(&name[..]))]);
            let groups = names.map(|names| registry.enter(&names, 0, 0));
            let slots = groups.map(|id| registry.add_subscriber(id, SubscriberId(0)));
            for round in 0..4 {
                let index = (leaver + round) % 4;
                registry.remove_subscriber(groups[index], slots[index]);
                for (id, namespace) in registry.iter() {
                    for (place, &(group, index)) in (0..).zip(&namespace.groups) {
                        let group = registry.get(group).unwrap();
                        assert_eq!(group.members[index as usize], (id, place));
                    }
                }
                assert_eq!(registry.get(Eps.root()).unwrap().groups.len(), 3 - round);
            }
            assert_eq!(registry.iter().count(), Stream::ALL.len());
        }
    }

    #[test]
    fn what_may_be_missing_is_said_for_each_namespace_and_for_its_groups() {
        let mut registry = Registry::default();
        let one = registry.enter(&[(Channels, Some(b"one"))], 5, 0);
        registry.add_subscriber(one, SubscriberId(1));
        let both = registry.enter(&[(Channels, Some(b"one")), (Channels, Some(b"two"))], 9, 0);
        registry.add_subscriber(both, SubscriberId(2));
        assert_eq!(
            (registry.complete_since(one), registry.complete_since(both)),
            (5, 9)
        );
        assert_eq!(registry.get(both).unwrap().stream, Channels);
        registry.breaks.add(&[Channels], 12);
        assert_eq!(
            (registry.complete_since(one), registry.next_after(one, 5)),
            (5, Some(12))
        );
    }

    #[test]
    fn those_who_are_to_come_back_keep_a_namespace_for_a_while() {
        let mut registry = Registry::default();
        let names: [Name<'_>; 2] = [(Channels, Some(b"a")), (Channels, Some(b"b"))];
        let group = registry.enter(&names, 0, 0);
        let slot = registry.add_subscriber(group, SubscriberId(1));
        let (until, later) = (Time::from_micros(100), Time::from_micros(200));
        registry.linger(group, until);
        registry.linger(group, later);
        registry.remove_subscriber(group, slot);
        assert!(registry.get(group).is_none() && !registry.has_unwanted());
        registry.expire(until);
        assert!(names.iter().all(|&name| registry.is_wanted(name)));
        assert_eq!(registry.expires_at(), Some(later));
        registry.expire(later);
        assert!(names.iter().all(|&name| !registry.is_wanted(name)));
        let mut changes: Vec<_> = std::iter::from_fn(|| registry.poll_unwanted()).collect();
        changes.sort_by(|(_, one), (_, other)| one.cmp(other));
        let child = |name: &[u8]| (Channels, Box::from(name));
        assert_eq!(changes, [child(b"a"), child(b"b")]);
        assert_eq!(
            (registry.expires_at(), registry.iter().count()),
            (None, Stream::ALL.len())
        );
    }
}
