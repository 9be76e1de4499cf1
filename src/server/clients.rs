//! Clients: connections and their streams. It owns what becomes of a request, how a stream begins and ends, and what that
//! leaves behind; the bytes of a connection are `http`'s, and those of a stream are the bus's.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::admission::{self, Admission};
use super::cleanup::{self, CLEANUP_CHANNEL, Cleanup, CleanupRate};
use super::demand::Demand;
use super::endings::{self, DrainSchedule, stopping_reply};
use super::fanout::{Fanout, Step};
use super::publications::Submission;
use super::route::{self, Action};
use super::settings::Settings;
use super::stats::{Clock, Counters};
use super::streams::{self, About, Stage, Streams, Subscription};
use super::topics::{self, Mix, Topic};
use super::visitor::{self, Visitor};
use super::{Effect, invariants, submissions};
use crate::bus::{Bus, Name, Start, Stream, sse};
use crate::http::head::Framing;
use crate::http::reply::Reply;
use crate::http::{self, CloseReason, Connections, Event, Key, Request};
use crate::level::Level;
use crate::limits;
use crate::random::Random;
use crate::time::Time;

/// All connections, and the streams that some of them have.
pub struct Clients {
    settings: Arc<Settings>,
    clock: Clock,
    http: Connections,
    streams: Streams,
    admission: Admission,
    cleanups: CleanupRate,
    demand: Demand,
    drain: DrainSchedule,
    fanout: Fanout,
    random: Random,
    counters: Counters,
    effects: VecDeque<Effect>,
    is_stopping: bool,
}

impl Clients {
    /// Nobody has come yet.
    pub fn new(settings: Arc<Settings>, clock: Clock) -> Clients {
        let options = http::Options {
            keepalive: settings.pacing.keepalive,
            reads_per_turn: settings.pacing.reads_per_turn,
        };
        Clients {
            clock,
            http: Connections::new(options, clock.now),
            streams: Streams::default(),
            admission: Admission::new(settings.admission.clone()),
            cleanups: CleanupRate::default(),
            demand: Demand::default(),
            drain: DrainSchedule::default(),
            fanout: Fanout::default(),
            random: Random::new(settings.epoch),
            counters: Counters::default(),
            effects: VecDeque::new(),
            is_stopping: false,
            settings,
        }
    }

    /// Begins a turn: the one moment that it takes place at, and fresh budgets.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        self.clock.now = now;
        self.clock.unix_seconds = unix_seconds;
        self.http.start_turn(now, unix_seconds);
        self.fanout.start_turn(self.settings.pacing.writes_per_turn);
    }

    /// A connection was accepted, through the admin's door or the public one.
    pub fn accept(&mut self, client_ip: IpAddr, is_admin: bool) -> Key {
        self.counters.accepted += 1;
        self.http.accept(client_ip, is_admin)
    }

    /// Does what has become due.
    pub fn handle_time(&mut self, bus: &mut Bus) {
        self.release_held();
        while let Some(key) = self.drain.poll(self.clock.now) {
            self.drain_stream(key, bus);
        }
        self.http.handle_time();
    }

    /// Whether the source is there, and how many of our wishes for channels it has not answered. Returns whether
    /// messages of channels may be missing.
    pub fn handle_source_state(&mut self, is_live: bool, unanswered: usize) -> bool {
        let is_broken = self.demand.handle_source_state(is_live, unanswered);
        self.release_held();
        is_broken
    }

    /// Another copy of the server tells of a cleanup, or perhaps this one.
    pub fn handle_relay(&mut self, payload: &[u8], bus: &mut Bus) {
        match cleanup::parse_relay(payload) {
            Some((epoch, ..)) if epoch == self.settings.epoch => {}
            Some((_, cleanup, client_ip)) => {
                self.close_matching(&cleanup, client_ip, bus);
            }
            None => self.counters.dropped_relays += 1,
        }
    }

    /// Ends all connections: requests are answered or refused at once, and streams are ended in slices.
    pub fn stop(&mut self, bus: &mut Bus) {
        self.handle_events(bus);
        self.is_stopping = true;
        self.http.stop(&stopping_reply());
        let waiting = self.streams.active().map(|it| it.about.key).collect();
        let span = self.settings.pacing.drain;
        self.drain.begin(waiting, span, self.clock.now);
    }

    /// Decides about what connections have said. Whether there was anything.
    pub fn handle_events(&mut self, bus: &mut Bus) -> bool {
        let mut had_events = false;
        while let Some(event) = self.http.poll_event() {
            had_events = true;
            match event {
                Event::Request(key, request) => self.handle_request(key, request, bus),
                Event::Body(key, request, body) => {
                    let action = self.route(key, &request);
                    self.answer(key, action, &request, &body, bus);
                }
                Event::Silent(key) => self.http.at(key).send(sse::COMMENT),
                Event::PollTimedOut(key) => self.answer_poll(key, &[], bus),
                // A comment is answered with a reset where nobody is left, and so is an empty reply.
                Event::PeerEnded(key) => {
                    self.http.at(key).send(sse::COMMENT);
                    self.answer_poll(key, &[], bus);
                }
                Event::LifetimeOver(key) => self.end_stream(key, CloseReason::Lifetime, bus),
                Event::Closed(key, reason) => self.handle_closed(key, reason, bus),
            }
        }
        had_events
    }

    /// What became of the write: how many bytes the kernel took, or why it took none.
    pub fn handle_written(&mut self, result: io::Result<usize>, bus: &mut Bus) {
        let (http, streams) = (&mut self.http, &mut self.streams);
        let (bytes, events) = self.fanout.handle_written(result, http, bus, streams);
        self.counters.bytes_out += bytes as u64;
        self.counters.events_out += events;
    }

    /// The next bytes to write, and for whom.
    pub fn poll_write<'a>(&'a mut self, bus: &'a mut Bus) -> Option<(Key, &'a [u8])> {
        loop {
            let had_events = self.handle_events(bus);
            match self.fanout.poll(&mut self.http, bus, &self.streams) {
                Some(Step::Write) => break,
                Some(Step::Answer(key, event)) => self.answer_poll(key, &event, bus),
                None if had_events || self.http.has_events() => {}
                None => return None,
            }
        }
        self.fanout.bytes(&self.http, bus)
    }

    /// The next thing to do that is neither a read nor a write.
    pub fn poll_effect(&mut self, bus: &mut Bus) -> Option<Effect> {
        self.handle_events(bus);
        self.update_demand(bus);
        let effect = self.effects.pop_front();
        effect.or_else(|| self.http.poll_action().map(Effect::from))
    }

    /// When something is due.
    pub fn deadline(&self) -> Option<Time> {
        let (demand, drain) = (self.demand.deadline(), self.drain.deadline());
        let deadlines = [demand, drain, self.http.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Whether something is left that needs no event.
    pub fn has_work(&self) -> bool {
        self.http.has_work() || !self.effects.is_empty()
    }

    /// Whether another connection can be accepted through the admin's door or the public one.
    pub fn has_room(&self, is_admin: bool) -> bool {
        self.admission.has_room(self.http.len(), is_admin)
    }

    /// Their connections, to be told what has happened to sockets, and the answers to requests.
    pub fn http_mut(&mut self) -> &mut Connections {
        &mut self.http
    }

    /// Their connections.
    pub fn http(&self) -> &Connections {
        &self.http
    }

    /// Their streams.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// What the source is asked for.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Totals since the start, to be added to.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The moment of the turn.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Panics with the invariant's name where one is broken. All hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, bus: &Bus) {
        assert!(self.fanout.is_settled(), "a write was not answered");
        assert!(!self.http.has_events(), "events were left behind");
        self.http.check_invariants();
        self.demand.check_invariants(bus.line().registry());
        invariants::check_bus(&self.streams, &self.http, bus);
        for subscription in self.streams.iter() {
            invariants::check_stream(subscription, &self.http, bus);
            self.admission.check_invariants(subscription);
            let key = subscription.about.key;
            let (is_held, is_waiting) = (self.http.is_held(key), self.demand.is_held(key));
            assert_eq!(is_held, is_waiting, "{key:?} is held, or is not");
        }
    }

    fn route(&self, key: Key, request: &Request) -> Action {
        let (_, is_admin) = self.http.request_from(key).unzip();
        route::route(request, &self.settings, is_admin.unwrap_or(false))
    }

    /// A request head has come. It is answered when its body is whole, unless the answer is a stream.
    fn handle_request(&mut self, key: Key, request: Box<Request>, bus: &mut Bus) {
        // It may have been refused meanwhile, or its connection closed.
        if self.http.request_from(key).is_none() {
            return;
        }
        let action = self.route(key, &request);
        let is_probe = matches!(action, Action::Show(_) | Action::Subscribe(_));
        if self.is_stopping && !is_probe {
            let mut connection = self.http.at(key);
            return connection.refuse(&stopping_reply(), CloseReason::Drain);
        }
        match action {
            Action::Subscribe(topics) => self.subscribe(key, &topics, &request, bus),
            Action::ShowStream => {
                let extra = self.settings.streams.head_extra();
                self.http.at(key).show_stream_head(extra);
            }
            action if request.framing == Framing::Length(0) => {
                self.answer(key, action, &request, &[], bus);
            }
            action => {
                let (bytes_max, used) = action.body();
                self.http.at(key).read_body(request, bytes_max, used);
            }
        }
    }

    /// The whole request is there, and asks for no stream.
    fn answer(&mut self, key: Key, action: Action, request: &Request, body: &[u8], bus: &mut Bus) {
        let reply = match action {
            Action::Reply(reply) => reply,
            Action::CleanUp(cleanup) => self.clean_up(key, &cleanup, request, bus),
            Action::Publish { is_authorized } => {
                let (settings, line) = (&self.settings, bus.line());
                match submissions::judge(request, is_authorized, body, settings, line) {
                    Ok(publication) => {
                        let submission = Submission::new(key, publication);
                        self.counters.published += 1;
                        return self.effects.push_back(Effect::Submit(submission));
                    }
                    Err(reply) => reply,
                }
            }
            Action::Show(it) => return self.effects.push_back(Effect::Render(key, it)),
            // These do not wait for a body.
            Action::Subscribe(_) | Action::ShowStream => return,
        };
        self.http.at(key).complete_request(&reply);
    }

    /// Closes a client's own streams here, has the other copies do the same, and says how many they were here.
    fn clean_up(&mut self, key: Key, cleanup: &Cleanup, request: &Request, bus: &mut Bus) -> Reply {
        let Some((peer_ip, _)) = self.http.request_from(key) else {
            return Reply::bare(200, String::new());
        };
        let trusted_proxies = self.settings.admission.trusted_proxies;
        let client_ip = visitor::client_ip(request, peer_ip, trusted_proxies);
        if let Err(reply) = self.cleanups.handle_request(client_ip, self.clock.now) {
            return reply;
        }
        let closed = self.close_matching(cleanup, client_ip, bus);
        let payload = cleanup.relay(client_ip, self.settings.epoch, &self.settings.node);
        let relay = Effect::Publish(CLEANUP_CHANNEL, payload);
        self.effects.push_back(relay);
        cleanup::cleaned_up(closed)
    }

    fn close_matching(&mut self, cleanup: &Cleanup, client_ip: IpAddr, bus: &mut Bus) -> usize {
        let keys = cleanup.find(client_ip, &self.admission, &self.streams, bus);
        for &key in &keys {
            self.end_stream(key, CloseReason::Cleanup, bus);
        }
        keys.len()
    }

    /// Begins a stream or a long poll, or says why it cannot begin now.
    fn subscribe(&mut self, key: Key, topics: &[Topic], request: &Request, bus: &mut Bus) {
        let Some((peer_ip, _)) = self.http.request_from(key) else {
            return;
        };
        let visitor = Visitor::of(request, peer_ip, self.settings.admission.trusted_proxies);
        let mix = Mix::of(topics);
        let is_poll = mix.is_poll(request.is_xhr);
        let subscribers = bus.line().registry().subscribers();
        let listened = mix.has_channels.then(|| self.demand.listened());
        let client_ip = visitor.client_ip;
        if self.is_stopping || !self.admission.admits(client_ip, subscribers, listened) {
            return self.shed(key, &visitor, request.accepts_stream && !is_poll);
        }
        let names: Vec<Name<'_>> = topics.iter().map(Topic::name).collect();
        let format = topics::format(topics, request.http_11 && !is_poll);
        let resume = visitor.last_event_id.as_deref();
        let (subscriber, start) = bus.subscribe(&names, key.index, format, resume);
        self.counters.handle_start(start);
        let mut about = Box::new(About::new(key, topics, visitor, self.clock.now));
        self.admission.handle_begin(&mut about);
        self.log(|| format!("connect {} from {}", about.path, about.client_ip));
        self.streams.insert(Subscription {
            subscriber,
            stage: if is_poll { Stage::Poll } else { Stage::Stream },
            about,
        });
        let reconnect = self.settings.streams.reconnect(mix.stream);
        let mut connection = self.http.at(key);
        if is_poll {
            connection.begin_poll();
        } else {
            let first = streams::first_bytes(bus, subscriber, start, reconnect);
            connection.begin_stream(self.settings.streams.head_extra(), &first);
        }
        let now = self.clock.now;
        if let Some(at) = endings::lifetime_over(reconnect, &mut self.random, now) {
            connection.set_lifetime(at);
        }
        if is_poll && start == Start::Gap {
            let mut gap = Vec::new();
            bus.encode_start(subscriber, start, &mut gap);
            self.answer_poll(key, &gap, bus);
        } else if mix.has_channels && !is_poll {
            self.update_demand(bus);
            if self.demand.hold(key, now) {
                self.http.at(key).hold();
            }
        }
    }

    fn shed(&mut self, key: Key, visitor: &Visitor, takes_stream: bool) {
        self.counters.shed += 1;
        self.log(|| format!("shed {} from {}", visitor.path, visitor.client_ip));
        let reply = admission::no_room(takes_stream, &mut self.random);
        self.http.at(key).refuse(&reply, CloseReason::Shed);
    }

    /// Ends a long poll with these events, or with none.
    fn answer_poll(&mut self, key: Key, events: &[u8], bus: &mut Bus) {
        let reconnect = self.settings.streams.reconnect(Stream::Channels);
        let reply = endings::poll_reply(events, reconnect);
        if self.end_poll(key, &reply, bus) {
            self.counters.events_out += u64::from(!events.is_empty());
        }
    }

    /// Ends a long poll with this reply, and goes on with its connection. Whether there is one.
    fn end_poll(&mut self, key: Key, reply: &Reply, bus: &mut Bus) -> bool {
        let Some(poll) = self.streams.remove_in(key, Stage::Poll) else {
            return false;
        };
        self.leave(&poll, bus);
        bus.unsubscribe(poll.subscriber);
        let about = &poll.about;
        self.log(|| format!("answered {} from {}", about.path, about.client_ip));
        self.http.at(key).complete_request(reply);
        true
    }

    /// Ends the stream of a client that is sent away because the server stops.
    fn drain_stream(&mut self, key: Key, bus: &mut Bus) {
        let pause = endings::drain_pause(&mut self.random);
        // An empty answer would have a script poll again at once.
        let reply = stopping_reply().with_retry_after(pause.as_secs().max(1));
        if !self.end_poll(key, &reply, bus) {
            self.end_stream(key, CloseReason::Drain, bus);
        }
    }

    /// Ends a stream on a boundary, and tells its client where it stood. A long poll gets an empty answer.
    fn end_stream(&mut self, key: Key, reason: CloseReason, bus: &mut Bus) {
        self.answer_poll(key, &[], bus);
        let Some(mut subscription) = self.streams.remove_in(key, Stage::Stream) else {
            return;
        };
        let id = subscription.subscriber;
        let is_drain = reason == CloseReason::Drain;
        let retry = is_drain.then(|| endings::drain_pause(&mut self.random));
        let mut connection = self.http.at(key);
        connection.send(&endings::last_block(bus, id, retry));
        connection.end_stream(reason);
        if !bus.receives(id, Stream::Channels) {
            bus.linger(id, self.clock.now + limits::LINGER);
        }
        self.leave(&subscription, bus);
        if bus.has_rest(id) {
            subscription.stage = Stage::Ending;
            bus.end(id);
        } else {
            subscription.stage = Stage::Ended;
            bus.unsubscribe(id);
        }
        self.streams.insert(subscription);
    }

    /// A connection has ended.
    fn handle_closed(&mut self, key: Key, reason: CloseReason, bus: &mut Bus) {
        self.counters.handle_close(reason);
        let Some(subscription) = self.streams.remove(key) else {
            return;
        };
        if subscription.is_active() {
            self.leave(&subscription, bus);
        }
        if let Some(id) = subscription.on_bus() {
            bus.unsubscribe(id);
        }
        let now = self.clock.now;
        self.log(|| subscription.about.shown_end(reason, now));
    }

    /// A stream is to get nothing more than what was begun.
    fn leave(&mut self, subscription: &Subscription, bus: &mut Bus) {
        let id = subscription.subscriber;
        // Of a channel, everybody has a position to come back with.
        if bus.receives(id, Stream::Channels) {
            let until = self.clock.now + self.settings.channels.linger;
            bus.linger(id, until.next_beat(limits::TIMER_SLACK));
        }
        let moved = self.admission.handle_end(&subscription.about);
        self.streams.handle_moved(moved, subscription.about.places);
    }

    /// Lets the streams begin that need not wait for the source any longer.
    fn release_held(&mut self) {
        let now = self.clock.now;
        while let Some(key) = self.demand.poll_released(now, self.is_stopping) {
            self.http.at(key).release();
        }
    }

    /// Asks the source for channels that somebody has come for, and no longer for those that nobody is to come
    /// back to.
    fn update_demand(&mut self, bus: &mut Bus) {
        while let Some(name) = bus.line_mut().poll_demand() {
            let text = std::str::from_utf8(&name).unwrap_or_default();
            let is_pattern = topics::is_pattern(text, &self.settings);
            let registry = bus.line().registry();
            let is_wanted = registry.is_wanted((Stream::Channels, Some(&name)));
            let effect = self.demand.handle_turned(name, is_pattern, is_wanted);
            self.effects.extend(effect);
        }
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.settings.verbose {
            self.effects.push_back(Effect::Log(Level::Debug, line()));
        }
    }
}
