//! Streams: connections joined with the bus. It owns which connection has which subscriber, the order of writes, and
//! their budgets; it must not decide who gets a stream, or when one ends.
//!
//! Three things may wait for a client, in this order: the rest of an event that was begun, the outbox, and further events.
//! A client that accepts everything at once is written to in the passes of the bus; any other one is written to
//! individually, from the queue of `http`, until it has caught up.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::Effect;
use super::about::About;
use super::admission::{Admission, network_of};
use super::demand::Demand;
use super::settings::Settings;
use super::topics::{self, Topic};
use crate::bus::{self, Bus, Format, Name, Ready, Start, Subscriber, SubscriberId, Visit, sse};
use crate::http::{self, CloseReason, Connections, Key};
use crate::limits;
use crate::time::Time;

/// All connections, and the streams that some of them have.
pub struct Streams {
    http: Connections,
    bus: Bus,
    /// By the connection's place.
    table: Vec<Option<Subscription>>,
    admission: Admission,
    demand: Demand,
    /// How long a channel is kept after its last subscriber has left.
    linger: Duration,
    now: Time,
    /// Whether the next write goes to the queue rather than to a pass.
    queue_is_next: bool,
    queue_writes_left: usize,
    pass_writes_left: usize,
    in_flight: Option<InFlight>,
}

/// A connection that has a stream, or waits for the first event of one.
pub struct Subscription {
    pub subscriber: SubscriberId,
    pub stage: Stage,
    /// In a box, because only reports and ends need it, and there are many streams.
    pub about: Box<About>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It receives events.
    Stream,
    /// It receives one event, which will be a whole reply.
    Poll,
    /// It has ended, but the client has only a part of an event.
    Ending,
    /// It has left the bus; its connection is about to end.
    Ended,
}

/// A write whose outcome is not known yet.
#[derive(Clone, Copy)]
struct InFlight {
    key: Key,
    /// The subscriber whose events are written; `None` for the outbox.
    subscriber: Option<SubscriberId>,
    len: usize,
}

pub enum Step {
    /// A write: see [`Streams::bytes`].
    Write,
    /// This event answers a long poll.
    Answer(Key, Vec<u8>),
}

impl Subscription {
    /// Whether it receives further events.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Stream | Stage::Poll)
    }

    fn on_bus(&self) -> Option<SubscriberId> {
        (self.stage != Stage::Ended).then_some(self.subscriber)
    }
}

impl Streams {
    pub fn new(settings: &Settings, now: Time) -> Streams {
        let pacing = &settings.pacing;
        let http = http::Options {
            keepalive: pacing.keepalive,
            idle: pacing.idle,
            reads_per_turn: pacing.reads_per_turn,
        };
        let bus = bus::Options {
            epoch: settings.epoch,
            log_bytes_max: pacing.log_bytes_max,
            paced_subscribers_min: pacing.paced_subscribers_min,
        };
        Streams {
            http: Connections::new(http, now),
            bus: Bus::new(&bus),
            table: Vec::new(),
            admission: Admission::new(settings.admission.clone()),
            demand: Demand::default(),
            linger: settings.channels.linger,
            now,
            queue_is_next: false,
            queue_writes_left: 0,
            pass_writes_left: 0,
            in_flight: None,
        }
    }

    /// Begins a turn with a new budget of writes.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64, writes: usize) {
        self.now = now;
        self.http.start_turn(now, unix_seconds);
        self.bus.line_mut().begin_turn(now);
        self.queue_writes_left = writes.div_ceil(2);
        self.pass_writes_left = writes.div_ceil(2);
    }

    /// Adds a subscriber for a connection.
    pub fn subscribe(
        &mut self,
        topics: &[Topic],
        format: Format,
        resume: Option<&str>,
        stage: Stage,
        about: Box<About>,
    ) -> (SubscriberId, Start) {
        self.admission.handle_begin(&about);
        let network = network_of(about.client_ip);
        self.demand
            .handle_topics(topics, network, &mut self.admission);
        let names: Vec<Name<'_>> = topics.iter().map(Topic::name).collect();
        let index = about.key.index;
        let (subscriber, start) = self.bus.subscribe(&names, index, format, resume);
        let index = index as usize;
        if index >= self.table.len() {
            self.table.resize_with(index + 1, || None);
        }
        debug_assert!(self.table[index].is_none(), "a connection has one stream");
        self.table[index] = Some(Subscription {
            subscriber,
            stage,
            about,
        });
        (subscriber, start)
    }

    /// Sends the first bytes of a stream; a long poll has none.
    pub fn begin(&mut self, key: Key, start: Start, retry_ms: Option<u32>, extra: &str) {
        match self.find(key) {
            Some((id, Stage::Stream)) => {
                let mut first = Vec::new();
                match retry_ms {
                    Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
                    None => first.extend_from_slice(sse::COMMENT),
                }
                self.bus.encode_start(id, start, &mut first);
                self.http.at(key).begin_stream(extra, &first);
            }
            _ => self.http.at(key).begin_poll(),
        }
    }

    /// Has a stream begin only when the source has confirmed that it listens to its channels: whoever sees it begin may
    /// have something published at once.
    pub fn hold(&mut self, key: Key) {
        if self.demand.hold(key, self.now) {
            self.http.at(key).hold();
        }
    }

    /// Lets streams begin that need not wait any longer; while the server stops, none needs to.
    pub fn release_held(&mut self, is_stopping: bool) {
        while let Some(key) = self.demand.poll_released(self.now, is_stopping) {
            self.http.at(key).release();
        }
    }

    /// Whether to begin or to stop listening to a channel, for each that has become wanted or unwanted.
    pub fn poll_demand(&mut self, settings: &Settings) -> Option<Effect> {
        let line = self.bus.line_mut();
        self.demand.handle_unwanted(line, &mut self.admission);
        let (name, is_wanted) = self.demand.poll_change()?;
        let text = std::str::from_utf8(&name).unwrap_or_default();
        let is_pattern = topics::is_pattern(text, settings);
        Some(Effect::Listen {
            name,
            is_pattern,
            is_wanted,
        })
    }

    /// The state of the source of channels.
    pub fn handle_channel_source(&mut self, is_live: bool, unanswered: usize) {
        self.demand.handle_channel_source(is_live, unanswered);
    }

    /// Breaks the silence of a stream. Where events have positions, so has this, because that of an old event may no longer be
    /// found when its client comes back.
    pub fn keep_alive(&mut self, key: Key) {
        let mut comment = sse::COMMENT.to_vec();
        if let Some((id, Stage::Stream)) = self.find(key)
            && self.bus.has_ids(id)
        {
            self.bus.encode_position(id, &mut comment);
        }
        self.http.at(key).send(&comment);
    }

    /// Ends a stream between two events, of which the first may still have to be completed. Messages are kept for a while,
    /// so that the client can come back for them.
    pub fn end(&mut self, key: Key, reason: CloseReason) {
        self.leave(key, true);
        let Some(subscription) = get_mut(&mut self.table, key) else {
            return;
        };
        let origin = subscription.about.origin;
        self.http.at(key).end_stream(reason, origin);
        let id = subscription.subscriber;
        if self.bus.has_unfinished(id) {
            subscription.stage = Stage::Ending;
            self.bus.end(id);
        } else {
            subscription.stage = Stage::Ended;
            self.bus.unsubscribe(id);
        }
    }

    /// Removes the stream of a connection.
    pub fn remove(&mut self, key: Key) -> Option<Box<About>> {
        self.leave(key, false);
        get_mut(&mut self.table, key)?;
        let subscription = self.table[key.index as usize].take()?;
        if let Some(id) = subscription.on_bus() {
            self.bus.unsubscribe(id);
        }
        Some(subscription.about)
    }

    /// A stream stops receiving events, unless it has done so before. Clients whose events have positions can always come back
    /// with one; others only if we end the stream.
    fn leave(&mut self, key: Key, is_forced: bool) {
        let subscription = get_mut(&mut self.table, key);
        let Some(subscription) = subscription.filter(|it| it.is_active()) else {
            return;
        };
        self.admission.handle_end(&subscription.about);
        let id = subscription.subscriber;
        if self.bus.has_ids(id) {
            let until = (self.now + self.linger).next_beat(limits::TIMER_SLACK);
            self.bus.linger(id, until);
        } else if is_forced {
            self.bus.linger(id, self.now + limits::LINGER);
        }
    }

    /// The outcome of a write: how many bytes the kernel accepted, or why it accepted none. Returns how many these are,
    /// and how many events are complete with them.
    pub fn handle_written(&mut self, result: io::Result<usize>) -> (usize, u64) {
        let Some(InFlight {
            key,
            subscriber,
            len,
        }) = self.in_flight.take()
        else {
            return (0, 0);
        };
        let taken = *result.as_ref().unwrap_or(&0);
        debug_assert!(taken <= len);
        let events = subscriber.map_or(0, |_| self.bus.handle_written(taken));
        match (result, subscriber) {
            (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                self.http.at(key).handle_write_would_block();
            }
            (Err(error), _) => self.http.at(key).handle_failure(&error),
            (Ok(_), None) => self.http.at(key).handle_outbox_written(taken),
            (Ok(_), Some(id)) => {
                let has_more = taken < len || self.bus.has_more(id);
                if !has_more
                    && let Some(Some(stream)) = self.table.get_mut(key.index as usize)
                    && stream.stage == Stage::Ending
                {
                    stream.stage = Stage::Ended;
                    self.bus.unsubscribe(id);
                }
                self.http.at(key).handle_stream_written(has_more);
            }
        }
        (taken, events)
    }

    /// What to do next. A write must be followed by [`Streams::handle_written`].
    pub fn poll(&mut self) -> Option<Step> {
        debug_assert!(self.in_flight.is_none(), "the last write has no outcome");
        loop {
            // The queue and the passes alternate, and each has its own budget, so that neither can starve the other.
            self.queue_is_next = !self.queue_is_next;
            let may_queue = self.queue_writes_left > 0 && self.http.has_writes();
            let may_pass = self.pass_writes_left > 0 && self.bus.line().has_visits();
            let is_queue = may_queue && (self.queue_is_next || !may_pass);
            let step = match (is_queue, may_pass) {
                (true, _) => self.poll_queue(),
                (false, true) => self.poll_pass(),
                (false, false) => {
                    if !self.http.has_writes() {
                        self.bus.line_mut().all_offered();
                    }
                    return None;
                }
            };
            if step.is_some() {
                // The write itself, and what was encoded for it.
                let cost = 1 + self.bus.take_work() / limits::ENCODED_BYTES_PER_WRITE;
                let budget = match is_queue {
                    true => &mut self.queue_writes_left,
                    false => &mut self.pass_writes_left,
                };
                *budget = budget.saturating_sub(cost);
                return step;
            }
        }
    }

    fn poll_queue(&mut self) -> Option<Step> {
        let key = self.http.poll_write()?;
        // A connection that is not closed is the one that holds its place.
        let subscription = self.table.get(key.index as usize).and_then(Option::as_ref);
        let id = subscription.and_then(Subscription::on_bus);
        let is_poll = subscription.is_some_and(|it| it.stage == Stage::Poll);
        let outbox = self.http.outbox(key).len();
        let step = match id {
            Some(id) if outbox == 0 || self.bus.has_unfinished(id) => {
                self.prepare(key, id, is_poll, None)
            }
            _ if outbox > 0 => Some(self.write(key, None, outbox)),
            _ => None,
        };
        if step.is_none() {
            self.http.at(key).handle_nothing_to_write();
        }
        step
    }

    fn poll_pass(&mut self) -> Option<Step> {
        let visit = self.bus.line_mut().poll_visit()?;
        let owner = self.bus.subscriber(visit.subscriber)?.owner();
        let key = self.http.caught_up(owner)?;
        let subscription = self.table.get(owner as usize)?.as_ref()?;
        let is_poll = subscription.stage == Stage::Poll;
        self.prepare(key, visit.subscriber, is_poll, Some(visit))
    }

    /// Has the bus prepare the next events for a client.
    fn prepare(
        &mut self,
        key: Key,
        id: SubscriberId,
        is_poll: bool,
        visit: Option<Visit>,
    ) -> Option<Step> {
        let ready = match is_poll {
            false => self.bus.prepare(id, visit),
            true => match self.bus.poll_first(id) {
                Ok(event) => return Some(Step::Answer(key, event)),
                Err(none) => none,
            },
        };
        match ready {
            Ready::Bytes => return Some(self.write(key, Some(id), self.bus.bytes().len())),
            Ready::Nothing => {}
            Ready::Lost => self.http.at(key).close(CloseReason::Slow),
        }
        None
    }

    fn write(&mut self, key: Key, subscriber: Option<SubscriberId>, len: usize) -> Step {
        self.in_flight = Some(InFlight {
            key,
            subscriber,
            len,
        });
        Step::Write
    }

    /// The write whose outcome is not known yet: for whom, and its bytes.
    pub fn bytes(&self) -> Option<(Key, &[u8])> {
        let in_flight = self.in_flight?;
        let bytes = match in_flight.subscriber {
            Some(_) => self.bus.bytes(),
            None => self.http.outbox(in_flight.key),
        };
        Some((in_flight.key, bytes))
    }

    /// A connection; if it is gone, calls have no effect.
    pub fn at(&mut self, key: Key) -> http::Connection<'_> {
        self.http.at(key)
    }

    pub fn http_mut(&mut self) -> &mut Connections {
        &mut self.http
    }

    pub fn http(&self) -> &Connections {
        &self.http
    }

    pub fn bus_mut(&mut self) -> &mut Bus {
        &mut self.bus
    }

    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// Whether there is room for another stream of a client with this address, and for those of its channels and IDs that
    /// nobody has. For these, idle ones go.
    pub fn admits(&mut self, client_ip: IpAddr, topics: &[Topic]) -> bool {
        let subscribers = self.bus.line().registry().subscribers();
        let (line, admission) = (self.bus.line_mut(), &mut self.admission);
        let network = network_of(client_ip);
        admission.admits(client_ip, subscribers)
            && self.demand.make_room(topics, network, line, admission)
    }

    /// Streams that may be a client's own: those that carry its token, or else those of its network.
    pub fn candidates(&self, token: Option<&str>, client_ip: IpAddr) -> Vec<&Subscription> {
        let keys: Vec<Key> = match token {
            Some(token) => self.admission.of_token(token).collect(),
            None => self.admission.of_network(client_ip).collect(),
        };
        keys.into_iter().filter_map(|key| self.get(key)).collect()
    }

    /// The stream of a connection.
    fn get(&self, key: Key) -> Option<&Subscription> {
        let subscription = self.table.get(key.index as usize)?.as_ref();
        subscription.filter(|it| it.about.key == key)
    }

    /// The subscriber of a connection, and the stage of its stream.
    pub fn find(&self, key: Key) -> Option<(SubscriberId, Stage)> {
        self.get(key).map(|it| (it.subscriber, it.stage))
    }

    /// All streams that receive events, by place.
    pub fn active(&self) -> impl Iterator<Item = &Subscription> {
        self.table.iter().flatten().filter(|it| it.is_active())
    }

    /// Checks what must hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        assert!(self.in_flight.is_none(), "a write has no outcome");
        assert!(!self.http.has_events(), "events were left behind");
        self.http.check_invariants();
        self.bus.check_invariants(|owner| {
            let subscription = self.table.get(owner as usize).and_then(Option::as_ref);
            let subscription = subscription.filter(|it| it.on_bus().is_some());
            let subscription = subscription.expect("each subscriber has a stream");
            self.http.caught_up(owner) == Some(subscription.about.key)
        });
        self.admission
            .check_invariants(self.active().map(|it| &*it.about));
        self.demand.check_invariants(self.bus.line().registry());
        for subscription in self.table.iter().flatten() {
            let (key, is_active) = (subscription.about.key, subscription.is_active());
            let is_subscribed = self.http.is_subscribed(key);
            assert_eq!(is_subscribed, is_active, "{key:?} does something else");
            let is_held = self.http.is_held(key);
            assert_eq!(is_held, self.demand.is_held(key), "{key:?} is held");
            if let Some(id) = subscription.on_bus() {
                let owner = self.bus.subscriber(id).map(Subscriber::owner);
                assert_eq!(owner, Some(key.index), "{key:?} is not a subscriber");
            }
        }
    }
}

fn get_mut(table: &mut [Option<Subscription>], key: Key) -> Option<&mut Subscription> {
    let subscription = table.get_mut(key.index as usize)?.as_mut();
    subscription.filter(|it| it.about.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<Option<Subscription>>() <= 16);
        assert!(size_of::<About>() <= 104);
    }
}
