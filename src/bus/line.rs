//! The line: what the source brings, up to the moment at which somebody is to be written to. It owns which messages get
//! a number and are kept, who is told of them and when, and what goes to make room; it must not know
//! subscribers but by their places in lists, nor bytes of events.

use super::Options;
use super::flow::Flow;
use super::histogram::Histogram;
use super::log::{Log, LogState, Message};
use super::namespace::{Namespace, NamespaceId, Stream, Streams};
use super::passes::{Passes, SubscriberId, Visit};
use super::registry::{self, Name, Registry};
use super::ticker::{Tick, Ticker};
use crate::limits;
use crate::time::Time;

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Messages that subscribers were visited for, and ticks.
    pub kept: u64,
    /// Messages too large for the log, or for eps: dropped there.
    pub oversized: u64,
    /// Times that the increments of several ticks were summed into one event.
    pub conflations: u64,
    /// Ticks that had something to send.
    pub ticks: u64,
    /// How late ticks were served.
    pub tick_lateness: Histogram,
    /// From a message's arrival to its last write, by stream in the order of [`Stream::ALL`]. What a subscriber did
    /// not take at once is not waited for; of several messages in one pass, the first counts for all.
    pub delivery: [Histogram; Stream::ALL.len()],
}

/// The number line, with what is kept on it and who is visited for it.
pub struct Line {
    now: Time,
    log: Log,
    registry: Registry,
    passes: Passes,
    ticker: Ticker,
    flow: Flow,
    counters: Counters,
    /// Bytes that batches take of the log's bound.
    batch_bytes: usize,
}

impl Line {
    /// A line without messages.
    pub fn new(options: &Options) -> Line {
        let log = Log::new(options.log_bytes_max);
        Line {
            now: Time::ZERO,
            registry: Registry::default(),
            passes: Passes::new(options.paced_subscribers_min),
            ticker: Ticker::new(),
            flow: Flow::new(log.bytes_max()),
            counters: Counters::default(),
            batch_bytes: 0,
            log,
        }
    }

    /// Begins a turn, which takes place at one moment.
    pub fn begin_turn(&mut self, now: Time) {
        self.now = now;
        self.flow.begin_turn(now);
        self.passes.begin_turn(now, self.flow.is_late());
    }

    /// Ends a turn, whose last write has been answered at the moment `now`.
    pub fn end_turn(&mut self, now: Time) {
        for pass in self.passes.poll_finished() {
            let took = now.since(pass.arrived_at);
            let times = &mut self.counters.delivery[pass.stream as usize];
            times.observe(took, u64::from(pass.messages));
        }
    }

    /// Does what has become due.
    pub fn handle_time(&mut self) {
        if let Some(tick) = self.ticker.poll(self.log.head(), self.now) {
            if tick.has_scores {
                self.counters.ticks += 1;
                self.counters.kept += 1;
                self.counters.tick_lateness.observe(tick.lateness, 1);
            }
            self.flow.tick();
            let eps = Stream::Eps.root();
            self.offer_tick(eps, &tick);
            for place in 0.. {
                let group = self.registry.group_at(eps, place);
                let Some(group) = group else { break };
                self.offer_tick(group, &tick);
            }
        }
        self.registry.expire(self.now);
    }

    /// A score update came; its id is valid UTF-8.
    pub fn publish_score(&mut self, id: &[u8]) {
        let is_raw = self.registry.is_wanted((Stream::Raw, None));
        let is_eps = self.registry.is_wanted((Stream::Eps, None));
        if id.len() > limits::SCORE_ID_BYTES_MAX {
            // It is an event for those who take each, and none to count.
            self.counters.oversized += u64::from(is_eps);
            self.publish((Stream::Raw, None), None, id);
            return self.publish_gap((Stream::Eps, None));
        }
        if !is_raw && !is_eps {
            self.log.skip();
            return;
        }
        while self.log.has_too_many_ids() {
            let registry = &mut self.registry;
            self.log
                .evict_scores(|id, stream, number| registry.forget(id, stream, number));
        }
        self.make_room(|log, _| log.score_growth(id));
        let before = self.log.bytes();
        self.log.push_score(id, self.now);
        self.counters.kept += u64::from(is_raw);
        let grown = self.log.bytes() - before;
        self.flow.take(id.len() + limits::EVENT_BYTES + grown);
        if is_raw {
            self.offer(Stream::Raw.root(), self.log.head());
        }
        if is_eps {
            self.ticker.arm(true, self.now);
        }
    }

    /// A message came for a stream, or for one child of it; its payload is valid UTF-8, and the event's name is free of
    /// control bytes. One that is too large is a gap.
    pub fn publish(&mut self, name: Name<'_>, event: Option<&[u8]>, payload: &[u8]) {
        let Some(id) = self.registry.destination(name) else {
            self.log.skip();
            return;
        };
        let message = Message::new(event, payload, name.0.style());
        if !self.log.takes(&message) {
            self.counters.oversized += 1;
            return self.publish_gap(name);
        }
        self.append((id, name.0), Some(&message));
        self.counters.kept += 1;
        self.flow
            .take(message.bytes_max() + limits::LOG_ENTRY_BYTES);
    }

    /// A message came that cannot be sent: those are told whose events have positions.
    pub fn publish_gap(&mut self, name: Name<'_>) {
        match self.registry.destination(name) {
            Some(id) => {
                self.append((id, name.0), None);
                self.flow.take(limits::LOG_ENTRY_BYTES);
            }
            None => {
                self.log.skip();
            }
        }
    }

    /// Messages of these streams may be missing that the source never gave us. Those are told whose events have positions,
    /// and whoever comes back with a position from before.
    pub fn publish_break(&mut self, streams: &[Stream]) {
        let number = self.log.skip();
        self.registry.breaks.add(streams, number);
        // Also where nobody is: those who come back for a namespace must have everything up to here.
        let has_one = |it: &Namespace| streams.iter().any(|&stream| it.carries.has(stream));
        let namespaces = self.registry.iter().filter(|(_, it)| has_one(it));
        let namespaces: Vec<NamespaceId> = namespaces.map(|(id, _)| id).collect();
        for id in namespaces {
            self.offer_here(id, number);
        }
    }

    /// Somebody is about to enter these namespaces: their group, or the one that there is.
    pub fn enter(&mut self, names: &[Name<'_>]) -> NamespaceId {
        let is_new = |&name: &Name<'_>| name.0.is_on_demand() && !self.registry.is_wanted(name);
        if names.iter().any(is_new) {
            // What came for it while nobody was there has left no trace, so no position may reach across this.
            self.log.skip();
        }
        let head = self.log.head();
        let had_eps = self.registry.is_wanted((Stream::Eps, None));
        let id = self.registry.enter(names, head, self.ticker.horizon());
        if !had_eps && self.carries(id, Stream::Eps) {
            self.ticker.begin(head);
        }
        if self.registry.get(id).is_some_and(|it| it.awaits_tick) {
            self.ticker.arm(false, self.now);
        }
        id
    }

    /// Adds a subscriber to a namespace, and returns its slot.
    pub fn add_subscriber(&mut self, id: NamespaceId, subscriber: SubscriberId) -> u32 {
        self.registry.add_subscriber(id, subscriber)
    }

    /// Removes the subscriber in a slot; the one that has the slot now, if any.
    pub fn remove_subscriber(&mut self, id: NamespaceId, slot: u32) -> Option<SubscriberId> {
        self.registry.remove_subscriber(id, slot)
    }

    /// Keeps what comes for a namespace until a moment, although everybody may leave.
    pub fn linger(&mut self, id: NamespaceId, until: Time) {
        self.registry.linger(id, until);
    }

    /// The source has more to say than can be taken at a tick, or has ended: it is read as it comes.
    pub fn end_rest(&mut self) {
        self.ticker.end_rest();
    }

    /// A batch was made; all of them take so many bytes. What is appended next has to leave them that room.
    pub fn handle_batch(&mut self, batch_bytes: usize) {
        self.batch_bytes = batch_bytes;
    }

    /// A sum was made that begins after `from`.
    pub fn count_sum(&mut self, from: u64) {
        self.counters.conflations += u64::from(from < self.ticker.last_horizon());
    }

    /// Nothing is left that could be written but in passes.
    pub fn all_offered(&mut self) {
        if self.passes.is_flushed() {
            let awaits_tick = self.ticker.due_at().is_some();
            self.flow.all_offered(awaits_tick);
        }
    }

    /// The next subscriber that something has come for.
    pub fn poll_visit(&mut self) -> Option<Visit> {
        self.passes.poll_visit(&mut self.registry)
    }

    /// The next child of a stream that has become unwanted, unless it is wanted again.
    pub fn poll_unwanted(&mut self) -> Option<(Stream, Box<[u8]>)> {
        self.registry.poll_unwanted()
    }

    /// Gives up a namespace that is idle: see [`Registry::idle`].
    pub fn evict(&mut self, name: Name<'_>) {
        self.registry.evict(name);
    }

    /// What is kept.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Who is where.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether a namespace has messages of a stream.
    pub fn carries(&self, id: NamespaceId, stream: Stream) -> bool {
        let namespace = self.registry.get(id);
        namespace.is_some_and(|namespace| namespace.carries.has(stream))
    }

    /// Up to where a namespace's subscribers could have everything by now.
    pub fn end_of(&self, id: NamespaceId) -> u64 {
        match self.carries(id, Stream::Eps) {
            true => self.ticker.horizon(),
            false => self.log.head(),
        }
    }

    /// Where a newcomer to a namespace begins. Those who come to eps between two ticks share the next sum; where there
    /// are messages as well, a newcomer must not get what came before it.
    pub fn start_of(&self, id: NamespaceId) -> u64 {
        let carries = self.registry.get(id).map(|namespace| namespace.carries);
        match carries == Some(Streams::only(Stream::Eps)) {
            true => self.ticker.horizon(),
            false => self.log.head(),
        }
    }

    /// The newest number that a subscriber of a namespace must have.
    pub fn newest_of(&self, id: NamespaceId) -> u64 {
        self.registry.get(id).map_or(0, Namespace::newest)
    }

    /// Whether there is an event of a namespace with a number in `(from, to]`.
    pub fn has_between(&self, id: NamespaceId, from: u64, to: u64) -> bool {
        let next = self.registry.next_after(id, from);
        next.is_some_and(|number| number <= to)
            || (self.has_scores(id) && self.log.scores(from, to).next().is_some())
    }

    /// The number of a namespace's last event after `number`; gaps and breaks count where they are told.
    pub fn last_after(&self, id: NamespaceId, number: u64, has_gaps: bool) -> Option<u64> {
        let is_told = |&number: &u64| {
            let message = self.log.message(number);
            message.is_some_and(|message| has_gaps || !message.is_gap())
        };
        let members = self.registry.members(id);
        let newest = self.newest_of(id);
        let last = |member: &Namespace| {
            let mut offered = member.after(number).rev().skip_while(|&it| it > newest);
            offered.find(is_told)
        };
        let broken = |member: &Namespace| {
            let last = self.registry.breaks.last(member.stream);
            Some(last).filter(|&it| has_gaps && it > number && it <= newest)
        };
        let message = members.filter_map(|it| last(it).max(broken(it))).max();
        let score = match self.has_scores(id) {
            true => self.log.last_score(number, newest),
            false => None,
        };
        message.max(score)
    }

    /// Whether a namespace has events of scores.
    pub fn has_scores(&self, id: NamespaceId) -> bool {
        self.carries(id, Stream::Raw) || self.carries(id, Stream::Eps)
    }

    /// How many events of a namespace have numbers after `from`.
    pub fn count_events(&self, id: NamespaceId, from: u64) -> u64 {
        let newest = self.newest_of(id);
        let messages = self.registry.count_after(id, from);
        let scores = match self.carries(id, Stream::Raw) {
            true => self.log.count_scores(from, newest),
            false => 0,
        };
        let is_summed = self.carries(id, Stream::Eps);
        let has_sum = is_summed && self.log.scores(from, newest).next().is_some();
        (messages + scores + usize::from(has_sum)) as u64
    }

    /// Whether messages should be taken from the source now.
    pub fn wants_messages(&self) -> bool {
        self.flow.wants_messages()
    }

    /// Whether a message with this payload, and names as long as any, would be kept.
    pub fn takes(&self, payload: &[u8]) -> bool {
        let name = [b'a'; limits::SEGMENT_BYTES_MAX];
        let message = Message::new(Some(&name), payload, Stream::Channels.style());
        self.log.takes(&message)
    }

    /// Until when the source may be left alone, because all that it could bring would wait for the next tick:
    /// a busy stream of score updates then costs one wake-up a tick, and not one for each update. When that
    /// moment has come, the source is read, and what it brought is sent in the same turn.
    pub fn rest_until(&self) -> Option<Time> {
        let rest_until = self.ticker.rest_until();
        rest_until.filter(|_| self.registry.has_only(&[Stream::Eps]))
    }

    /// When [`Line::begin_turn`] must be called, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.ticker.due_at(),
            self.rest_until(),
            self.passes.next_at(),
            self.registry.expires_at(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether [`Line::poll_visit`] has something.
    pub fn has_visits(&self) -> bool {
        self.passes.has_visits()
    }

    /// Whether the subscriber in a slot will be visited.
    pub fn will_visit(&self, id: NamespaceId, slot: u32) -> bool {
        let namespace = self.registry.get(id);
        let is_listed = namespace.is_some_and(|namespace| namespace.listeners.will_visit(slot));
        is_listed && self.passes.is_queued(id)
    }

    /// What the log and the batches hold, for reports.
    pub fn log_state(&self) -> LogState {
        self.log
            .state(self.registry.list_bytes() + self.batch_bytes, self.now)
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Panics with the name of what should hold between two turns, where it does not.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        let (bytes, list_bytes) = (self.log.bytes(), self.registry.list_bytes());
        assert!(
            self.log.has_room_for(0, list_bytes),
            "{bytes} bytes in the log, {list_bytes} in lists"
        );
        self.registry.check_invariants(&self.log);
    }

    /// Keeps a message, or a gap, at the cost of the oldest, and offers it. The namespace stays meanwhile, because
    /// somebody wants it.
    fn append(&mut self, (id, stream): (NamespaceId, Stream), message: Option<&Message<'_>>) {
        self.make_room(|log, registry| log.growth(message) + registry.list_growth(id, stream));
        let number = self.log.push((id, stream), message, self.now);
        self.registry.list(id, stream, number);
        for id in registry::with_root(id, stream) {
            self.offer(id, number);
        }
    }

    /// Has a namespace's subscribers, and those of its groups, visited for a message. Those who take sums are visited at
    /// the tick.
    fn offer(&mut self, id: NamespaceId, number: u64) {
        let mut next = self
            .registry
            .get(id)
            .filter(|it| it.is_wanted())
            .map(|_| id);
        for place in 0.. {
            let Some(namespace) = next else { break };
            self.offer_here(namespace, number);
            next = self.registry.group_at(id, place);
        }
    }

    /// Has a namespace's own subscribers visited for a message or a break.
    fn offer_here(&mut self, id: NamespaceId, number: u64) {
        let Some(namespace) = self.registry.get_mut(id) else {
            return;
        };
        if namespace.carries.has(Stream::Eps) {
            namespace.awaits_tick = true;
            self.ticker.arm(false, self.now);
        } else if namespace.advance(number) {
            self.passes.touch(namespace, number - 1, self.now);
        }
    }

    /// Has the subscribers of eps, or of a group with it, visited if something waited for the tick.
    fn offer_tick(&mut self, id: NamespaceId, tick: &Tick) {
        let horizon = self.ticker.horizon();
        let Some(namespace) = self.registry.get_mut(id) else {
            return;
        };
        let awaits_tick = std::mem::take(&mut namespace.awaits_tick);
        if (awaits_tick || tick.has_scores) && namespace.advance(horizon) {
            self.passes.touch(namespace, tick.from, tick.waiting_since);
        }
    }

    /// Evicts what is oldest until there is room.
    fn make_room(&mut self, growth: impl Fn(&Log, &Registry) -> usize) {
        loop {
            let (log, registry) = (&mut self.log, &mut self.registry);
            let elsewhere = registry.list_bytes() + self.batch_bytes;
            let is_roomy = log.has_room_for(growth(log, registry), elsewhere);
            if is_roomy || !log.evict(|id, stream, number| registry.forget(id, stream, number)) {
                break;
            }
        }
    }
}
