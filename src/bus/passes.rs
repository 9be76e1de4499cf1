//! Passes: who is written to next. It owns the lists of subscribers and the order of a fan-out, so that all
//! who listen to a stream lose the same share under overload, and none waits for another stream; it must not know
//! what is written.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::namespace::{Namespace, NamespaceId, Stream};
use super::registry::Registry;
use crate::limits::{PASS_PAUSE_MAX, PASS_PAUSE_PER_SUBSCRIBER, WRITES_PER_NAMESPACE};
use crate::time::Time;

/// A subscriber, as a place in the table of them. Not used again before it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriberId(pub u32);

/// The subscribers of a namespace, and how far the way through them has come.
#[derive(Default)]
pub struct Listeners {
    /// In no order that means anything. A subscriber knows its slot in here.
    ids: Vec<SubscriberId>,
    /// What came since the last pass began. Its namespace is queued then.
    pending: Option<Pending>,
    pass: Option<Pass>,
    /// When the next pass may begin.
    ready_at: Time,
}

/// Messages that the next pass is about.
#[derive(Clone, Copy)]
struct Pending {
    /// Everybody who lacks nothing from before has everything up to here.
    from: u64,
    /// When the oldest of them arrived.
    arrived_at: Time,
    /// How many they are.
    messages: u32,
}

/// One way through the subscribers, from the last to the first, so that removing one (the last takes its
/// slot) cannot hide another that is still to come.
#[derive(Clone, Copy)]
struct Pass {
    about: Pending,
    /// Subscribers below this slot are still to come.
    remaining: usize,
}

/// A pass that has visited everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The stream of its namespace.
    pub stream: Stream,
    /// When the oldest of its messages arrived.
    pub arrived_at: Time,
    /// How many messages it was about.
    pub messages: u32,
}

/// A subscriber that something has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Which.
    pub subscriber: SubscriberId,
    /// It has everything up to here, provided that it lacks nothing from before.
    pub from: u64,
}

/// The passes that are under way or wanted.
pub struct Passes {
    /// Namespaces with a pass under way or pending; perhaps others, which have gone meanwhile. [`GROUPS`] stands for
    /// all groups.
    queue: VecDeque<NamespaceId>,
    /// Groups with a pass under way or pending.
    groups: VecDeque<NamespaceId>,
    /// Namespaces whose next pass must not begin yet, and when it may, the earliest first.
    paced: BinaryHeap<Reverse<(Time, Queued)>>,
    /// Subscribers of a namespace, alone or in groups, from which on its passes are paced.
    paced_from: usize,
    /// The moment of the turn.
    now: Time,
    /// Visits left before the namespace in front goes to the back.
    quantum: usize,
    /// Passes that have ended and were not yet asked for.
    finished: Vec<Finished>,
}

/// A namespace that is queued, and whether it is a group.
type Queued = (NamespaceId, bool);

/// What groups have in the queue. Each has few subscribers, mostly one, and there may be thousands: together they
/// get as much as one namespace.
const GROUPS: NamespaceId = Stream::Several.root();

impl Listeners {
    /// Adds a subscriber, and returns its slot.
    pub fn add(&mut self, id: SubscriberId) -> u32 {
        self.ids.push(id);
        self.ids.len() as u32 - 1
    }

    /// Removes the subscriber in a slot; the one that has the slot now, if any.
    pub fn remove(&mut self, slot: u32) -> Option<SubscriberId> {
        self.ids.swap_remove(slot as usize);
        if let Some(pass) = &mut self.pass {
            pass.remaining = pass.remaining.min(self.ids.len());
        }
        self.ids.get(slot as usize).copied()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The subscriber in a slot.
    pub fn at(&self, slot: u32) -> Option<SubscriberId> {
        self.ids.get(slot as usize).copied()
    }

    /// Whether the subscriber in a slot is still to be visited.
    pub fn will_visit(&self, slot: u32) -> bool {
        let is_passing = |pass: Pass| (slot as usize) < pass.remaining;
        self.pending.is_some() || self.pass.is_some_and(is_passing)
    }

    /// The next subscriber of the pass that is under way.
    fn next_visit(&mut self) -> Option<Visit> {
        let pass = self.pass.as_mut()?;
        pass.remaining = pass.remaining.checked_sub(1)?;
        Some(Visit {
            subscriber: self.ids[pass.remaining],
            from: pass.about.from,
        })
    }

    /// Begins the pass that is pending; the next one not before a moment.
    fn begin(&mut self, next_at: Time) {
        let remaining = self.ids.len();
        self.ready_at = next_at;
        let pending = self.pending.take();
        self.pass = pending.map(|about| Pass { about, remaining });
    }
}

impl Passes {
    /// No passes yet. Namespaces where fewer subscribers than `paced_from` get a message are not paced: they cost little, so
    /// that nobody needs to wait.
    pub fn new(paced_from: usize) -> Passes {
        Passes {
            queue: VecDeque::new(),
            groups: VecDeque::new(),
            paced: BinaryHeap::new(),
            paced_from,
            now: Time::ZERO,
            quantum: WRITES_PER_NAMESPACE,
            finished: Vec::new(),
        }
    }

    /// Begins a turn: passes whose time has come may begin, or all of them where they have been put off for
    /// too long already.
    pub fn begin_turn(&mut self, now: Time, is_late: bool) {
        self.now = now;
        while let Some(&Reverse((at, queued))) = self.paced.peek()
            && (at <= now || is_late)
        {
            self.paced.pop();
            self.queue(queued, now);
        }
    }

    /// A message has come for a namespace's subscribers, who have everything up to `from`, as a rule.
    pub fn touch(&mut self, namespace: &mut Namespace, from: u64, arrived_at: Time) {
        let queued = (namespace.id, namespace.is_group());
        let listeners = &mut namespace.listeners;
        if listeners.is_empty() {
            return;
        }
        if let Some(pending) = &mut listeners.pending {
            pending.messages = pending.messages.saturating_add(1);
            return;
        }
        listeners.pending = Some(Pending {
            from,
            arrived_at,
            messages: 1,
        });
        if listeners.pass.is_none() {
            self.queue(queued, listeners.ready_at);
        }
    }

    /// The next subscriber of a namespace that something has come for, in passes: each pass visits everybody once,
    /// so that under overload all lose the same share. Whether the subscriber needs anything is for the caller.
    pub fn poll_visit(&mut self, registry: &mut Registry) -> Option<Visit> {
        loop {
            let front = *self.queue.front()?;
            if self.quantum == 0 {
                self.quantum = WRITES_PER_NAMESPACE;
                self.queue.rotate_left(1);
                continue;
            }
            let id = match front == GROUPS {
                true => *self.groups.front()?,
                false => front,
            };
            let listeners = registry.get_mut(id).map(|it| &mut it.listeners);
            if let Some(visit) = listeners.and_then(Listeners::next_visit) {
                self.quantum -= 1;
                return Some(visit);
            }
            let audience = registry.audience(id);
            let Some(namespace) = registry.get_mut(id) else {
                self.pop(front);
                continue;
            };
            let (stream, queued) = (namespace.stream, (id, namespace.is_group()));
            let listeners = &mut namespace.listeners;
            if listeners.pass.is_none() && listeners.pending.is_some() {
                listeners.begin(self.now + self.pause_after(audience));
                continue;
            }
            let (pass, is_pending) = (listeners.pass.take(), listeners.pending.is_some());
            let ready_at = listeners.ready_at;
            self.finished.extend(pass.map(|pass| Finished {
                stream,
                arrived_at: pass.about.arrived_at,
                messages: pass.about.messages,
            }));
            self.pop(front);
            if is_pending {
                self.queue(queued, ready_at);
            }
        }
    }

    /// The passes that have ended since this was last called.
    pub fn poll_finished(&mut self) -> impl Iterator<Item = Finished> + '_ {
        self.finished.drain(..)
    }

    /// When the first of the passes that have been put off may begin.
    pub fn next_at(&self) -> Option<Time> {
        self.paced.peek().map(|&Reverse((at, _))| at)
    }

    /// Whether somebody is still to be visited in this turn.
    pub fn has_visits(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether everybody has been offered everything.
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty() && self.paced.is_empty()
    }

    /// Whether a namespace is queued.
    pub fn is_queued(&self, id: NamespaceId) -> bool {
        let is_paced = |entry: &Reverse<(Time, Queued)>| entry.0.1.0 == id;
        let mut queued = self.queue.iter().chain(&self.groups);
        queued.any(|&queued| queued == id) || self.paced.iter().any(is_paced)
    }

    /// Queues a namespace for its next pass, now or when that may begin.
    fn queue(&mut self, (id, is_group): Queued, ready_at: Time) {
        if ready_at > self.now {
            self.paced.push(Reverse((ready_at, (id, is_group))));
        } else if is_group {
            if self.groups.is_empty() {
                self.queue.push_back(GROUPS);
            }
            self.groups.push_back(id);
        } else {
            self.queue.push_back(id);
        }
    }

    /// Removes what is in front of the queue, of groups the first.
    fn pop(&mut self, front: NamespaceId) {
        if front == GROUPS {
            self.groups.pop_front();
            if !self.groups.is_empty() {
                return;
            }
        }
        self.queue.pop_front();
        self.quantum = WRITES_PER_NAMESPACE;
    }

    /// How long after the beginning of a pass the next one may begin, where so many subscribers get the same. A pass
    /// costs one system call for each of them, however many messages it brings: where more come than that, they are
    /// gathered meanwhile.
    fn pause_after(&self, audience: usize) -> Duration {
        let subscribers = u32::try_from(audience).unwrap_or(u32::MAX);
        match audience >= self.paced_from {
            true => PASS_PAUSE_MAX.min(PASS_PAUSE_PER_SUBSCRIBER.saturating_mul(subscribers)),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Eps, Raw};

    /// A registry with so many subscribers of raw and eps, whose places are 0, 1, … and 5,000.
    fn registry(eps: u32, raw: u32) -> Registry {
        let mut registry = Registry::default();
        for (stream, places) in [(Eps, 0..eps), (Raw, 5_000..5_000 + raw)] {
            for place in places {
                let id = registry.enter(&[(stream, None)], 0, 0);
                registry.add_subscriber(id, SubscriberId(place));
            }
        }
        registry
    }

    fn touch(passes: &mut Passes, registry: &mut Registry, stream: Stream, from: u64, at: Time) {
        let namespace = registry.get_mut(stream.root()).unwrap();
        passes.touch(namespace, from, at);
    }

    fn visits(passes: &mut Passes, registry: &mut Registry) -> Vec<(u32, u64)> {
        std::iter::from_fn(|| passes.poll_visit(registry))
            .map(|visit| (visit.subscriber.0, visit.from))
            .collect()
    }

    #[test]
    fn a_pass_visits_everybody_although_subscribers_leave_and_join() {
        for leaver in 0..4_u32 {
            for visited in 0..4 {
                let mut registry = registry(4, 0);
                let mut passes = Passes::new(usize::MAX);
                touch(&mut passes, &mut registry, Eps, 0, Time::ZERO);
                let mut seen: Vec<u32> = Vec::new();
                for _ in 0..visited {
                    seen.extend(
                        passes
                            .poll_visit(&mut registry)
                            .map(|visit| visit.subscriber.0),
                    );
                }
                registry.remove_subscriber(Eps.root(), leaver);
                registry.add_subscriber(Eps.root(), SubscriberId(9));
                let rest = visits(&mut passes, &mut registry);
                seen.extend(rest.iter().map(|&(place, _)| place));
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
    fn what_comes_during_a_pass_starts_another_one() {
        let mut registry = registry(2, 0);
        let mut passes = Passes::new(usize::MAX);
        touch(&mut passes, &mut registry, Eps, 5, Time::ZERO);
        let first = passes.poll_visit(&mut registry);
        assert_eq!(
            first,
            Some(Visit {
                subscriber: SubscriberId(1),
                from: 5
            })
        );
        touch(&mut passes, &mut registry, Eps, 6, Time::ZERO);
        touch(&mut passes, &mut registry, Eps, 7, Time::from_micros(9));
        assert!(registry.get(Eps.root()).unwrap().listeners.will_visit(1));
        assert_eq!(visits(&mut passes, &mut registry), [(0, 5), (1, 6), (0, 6)]);
        assert!(!passes.has_visits() && passes.is_flushed());
        let finished = |messages| Finished {
            stream: Eps,
            arrived_at: Time::ZERO,
            messages,
        };
        assert!(passes.poll_finished().eq([finished(1), finished(2)]));
    }

    #[test]
    fn a_big_namespace_does_not_hold_up_a_small_one() {
        let mut registry = registry(1_000, 1);
        let mut passes = Passes::new(usize::MAX);
        touch(&mut passes, &mut registry, Eps, 0, Time::ZERO);
        touch(&mut passes, &mut registry, Raw, 1, Time::ZERO);
        let order = visits(&mut passes, &mut registry);
        let place = order.iter().position(|&(place, _)| place == 5_000);
        assert_eq!((place, order.len()), (Some(WRITES_PER_NAMESPACE), 1_001));
    }

    #[test]
    fn a_pass_over_many_waits_for_more_messages_but_not_for_long() {
        let mut registry = registry(2, 0);
        let mut passes = Passes::new(2);
        let mut now = Time::from_micros(1_000_000);
        passes.begin_turn(now, false);
        touch(&mut passes, &mut registry, Eps, 0, now);
        let both = |from| [(1, from), (0, from)];
        assert_eq!(
            visits(&mut passes, &mut registry),
            both(0),
            "the first is not put off"
        );
        touch(&mut passes, &mut registry, Eps, 1, now);
        assert!(!passes.has_visits() && !passes.is_flushed());
        let at = now + 2 * PASS_PAUSE_PER_SUBSCRIBER;
        assert_eq!(passes.next_at(), Some(at));
        touch(&mut passes, &mut registry, Eps, 2, now);
        passes.begin_turn(now, false);
        assert!(visits(&mut passes, &mut registry).is_empty());
        now = at;
        passes.begin_turn(now, false);
        assert_eq!(
            visits(&mut passes, &mut registry),
            both(1),
            "both messages at once"
        );
        touch(&mut passes, &mut registry, Eps, 3, now);
        passes.begin_turn(now, true);
        assert_eq!(
            visits(&mut passes, &mut registry),
            both(3),
            "too much would be put off"
        );
        assert!(passes.is_flushed());
    }

    #[test]
    fn groups_share_one_place_and_are_paced_like_those_who_get_the_same() {
        let mut registry = registry(0, 1);
        let mut groups = Vec::new();
        for place in 0..200 {
            let child = [place as u8];
            let names = [(Raw, None), (Stream::Details, Some(&child[..]))];
            let id = registry.enter(&names, 0, 0);
            registry.add_subscriber(id, SubscriberId(place));
            groups.push(id);
        }
        let mut passes = Passes::new(100);
        let now = Time::from_micros(1_000_000);
        passes.begin_turn(now, false);
        let mut touch_all = |passes: &mut Passes, from| {
            for &id in &groups {
                passes.touch(registry.get_mut(id).unwrap(), from, now);
            }
            touch(passes, &mut registry, Raw, from, now);
            visits(passes, &mut registry)
        };
        let order = touch_all(&mut passes, 0);
        let place = order.iter().position(|&(place, _)| place == 5_000);
        assert_eq!((place, order.len()), (Some(WRITES_PER_NAMESPACE), 201));
        assert_eq!(touch_all(&mut passes, 1), [], "all of them wait");
        assert_eq!(passes.next_at(), Some(now + PASS_PAUSE_MAX));
        passes.begin_turn(now + PASS_PAUSE_MAX, false);
        assert_eq!(touch_all(&mut passes, 2).len(), 201);
    }

    #[test]
    fn a_pause_grows_with_subscribers_and_is_bounded() {
        let table = [
            (0, Duration::ZERO),
            (1, PASS_PAUSE_PER_SUBSCRIBER),
            (50, 50 * PASS_PAUSE_PER_SUBSCRIBER),
            (1_000_000, PASS_PAUSE_MAX),
            (usize::MAX, PASS_PAUSE_MAX),
        ];
        for (subscribers, pause) in table {
            assert_eq!(
                Passes::new(1).pause_after(subscribers),
                pause,
                "{subscribers}"
            );
        }
    }
}
