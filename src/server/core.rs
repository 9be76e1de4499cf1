//! The server's core: what it owns, and what it does with each event. See the module's documentation.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;

use super::about::{self, About, Client};
use super::cleanup::{self, CLEANUP_CHANNEL, Cleanup};
use super::endings::{self, DrainSchedule, poll_refusal, stopping_reply};
use super::messages::{self, Drop, is_own_channel};
use super::rate::Rate;
use super::route::{self, Action};
use super::settings::Settings;
use super::sockets::Sockets;
use super::sources::Sources;
use super::stats::{Clock, Counters, Process, Snapshot, SourceState};
use super::streams::{Stage, Step, Streams};
use super::topics::{self, Topic};
use super::warnings::Warnings;
use super::{Effect, Write, access, admission, rows, submissions};
use crate::broker::Message;
use crate::bus::{Bus, Start, Stream};
use crate::http::head::Framing;
use crate::http::reply::Reply;
use crate::http::{self, CloseReason, Event, Key, Origin, Request};
use crate::level::Level;
use crate::random::Random;
use crate::time::Time;

/// Clients, and the messages that they get.
pub struct Server {
    settings: Settings,
    clock: Clock,
    sockets: Sockets,
    sources: Sources,
    streams: Streams,
    cleanups: Rate,
    warnings: Warnings,
    drain: DrainSchedule,
    random: Random,
    counters: Counters,
    effects: VecDeque<Effect>,
}

impl Server {
    /// A server without clients.
    pub fn new(settings: Settings, now: Time, unix_seconds: u64) -> Server {
        Server {
            clock: Clock::new(now, unix_seconds),
            sockets: Sockets::new(settings.admission.sockets_per_network_max),
            sources: Sources::default(),
            streams: Streams::new(&settings, now),
            cleanups: cleanup::rate(),
            warnings: Warnings::new(),
            drain: DrainSchedule::default(),
            random: Random::new(settings.epoch),
            counters: Counters::default(),
            effects: VecDeque::new(),
            settings,
        }
    }

    /// Begins a turn with the current time and new budgets.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        self.clock.now = now;
        self.clock.unix_seconds = unix_seconds;
        let writes = self.settings.pacing.writes_per_turn;
        self.streams.start_turn(now, unix_seconds, writes);
    }

    /// Ends a turn, at the time after its last write.
    pub fn end_turn(&mut self, now: Time) {
        self.streams.bus_mut().line_mut().end_turn(now);
    }

    /// Adds a connection that was accepted, or closes it at once.
    pub fn accept(&mut self, origin: Origin) -> Key {
        self.counters.accepted += 1;
        let http = self.streams.http_mut();
        let key = http.accept(origin);
        if !origin.is_admin && !self.sockets.handle_accepted(key, origin.peer_ip) {
            http.at(key).close(CloseReason::Crowded);
        } else {
            http.make_room(self.settings.admission.sockets_max(origin.is_admin));
        }
        key
    }

    /// A connection, for events of its socket and replies to its requests. If it is gone, calls have no effect.
    pub fn at(&mut self, key: Key) -> http::Connection<'_> {
        self.streams.at(key)
    }

    /// Does what is due.
    pub fn handle_time(&mut self) {
        self.streams.bus_mut().line_mut().handle_time();
        self.streams.release_held(self.drain.has_begun());
        if let Some(line) = self.warnings.poll_line(self.clock.now) {
            self.effects.push_back(Effect::Log(Level::Warn, line));
        }
        while let Some(key) = self.drain.poll(self.clock.now) {
            self.end_stream(key, CloseReason::Drain);
        }
        self.streams.http_mut().handle_time();
    }

    /// A message came from the source.
    pub fn handle_message(&mut self, message: &Message) {
        self.counters.messages_in += 1;
        let has_channels = !self.settings.channels.patterns.is_empty();
        let line = self.streams.bus_mut().line_mut();
        match messages::publish(line, message, has_channels) {
            Ok(false) => {}
            Ok(true) => self.handle_relay(&message.payload),
            Err(drop) => self.counters.handle_drop(drop),
        }
    }

    /// A message came without the subscription that it matched, as from the embedded broker.
    pub fn handle_channel_message(&mut self, message: &Message) {
        match messages::by_subscription(message, &self.settings) {
            Ok(messages) => messages.iter().for_each(|it| self.handle_message(it)),
            Err(drop) => self.counters.handle_drop(drop),
        }
    }

    /// Publishes a client's message without a broker.
    pub fn publish_here(&mut self, channel: &str, message: &str) {
        let message = Message {
            channel: channel.into(),
            payload: message.into(),
            ..Message::default()
        };
        match is_own_channel(channel.as_bytes()) {
            true => self.handle_message(&message),
            false => self.handle_channel_message(&message),
        }
    }

    /// Whether the sources of the emoji streams and of channels are connected, where they can be lost, and how many of our
    /// commands the latter has not confirmed. What was published while one was away is lost, and those who have stayed are
    /// told when it is back.
    pub fn handle_sources(&mut self, emoji: Option<bool>, channels: Option<(bool, usize)>) {
        if let Some((is_live, unanswered)) = channels {
            self.streams.handle_channel_source(is_live, unanswered);
        }
        let is_live = channels.map(|(is_live, _)| is_live);
        let broken = self.sources.handle(emoji, is_live);
        if !broken.is_empty() {
            self.streams.bus_mut().line_mut().publish_break(&broken);
        }
        self.streams.release_held(self.drain.has_begun());
    }

    /// The source has more messages than fit between two ticks, or has ended: it is read without resting.
    pub fn end_rest(&mut self) {
        self.streams.bus_mut().line_mut().end_rest();
    }

    /// Ends streams in slices over at most the configured time, and answers newcomers with when to return.
    pub fn stop(&mut self) {
        self.handle_events();
        let has_clients = !self.is_empty();
        self.streams.http_mut().drain();
        let waiting = self.streams.active().map(|it| it.about.key).collect();
        let (pacing, now) = (&self.settings.pacing, self.clock.now);
        self.drain.begin(waiting, pacing, has_clients, now);
    }

    /// No further connections come: refuses requests that are incomplete, and closes idle connections.
    pub fn close(&mut self) {
        self.streams.http_mut().stop(&stopping_reply());
    }

    /// Whether to stop listening, because newcomers are not awaited any longer; then [`Server::close`].
    pub fn poll_closing(&mut self) -> bool {
        self.drain.poll_closing(self.clock.now)
    }

    /// The outcome of a write: how many bytes the kernel accepted, or why it accepted none.
    pub fn handle_written(&mut self, result: io::Result<usize>) {
        let (bytes, events) = self.streams.handle_written(result);
        self.counters.bytes_out += bytes as u64;
        self.counters.events_out += events;
    }

    /// The next connection to read from: see [`http::Connections::poll_read`].
    pub fn poll_read(&mut self) -> Option<(Key, usize)> {
        self.streams.http_mut().poll_read()
    }

    /// The next write, whose outcome goes to [`Server::handle_written`].
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        loop {
            let had_events = self.handle_events();
            match self.streams.poll() {
                Some(Step::Write) => break,
                Some(Step::Answer(key, event)) => self.answer_poll(key, &event),
                None if had_events || self.streams.http().has_events() => {}
                None => return None,
            }
        }
        let (key, bytes) = self.streams.bytes()?;
        Some(Write { key, bytes })
    }

    /// The next thing to do besides reads and writes.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.handle_events();
        let changes = std::iter::from_fn(|| self.streams.poll_demand(&self.settings));
        self.effects.extend(changes);
        let effect = self.effects.pop_front();
        effect.or_else(|| self.streams.http_mut().poll_action().map(Effect::Socket))
    }

    /// When the next turn must begin.
    pub fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.bus().line().deadline(),
            self.streams.demand().deadline(),
            self.drain.deadline(),
            self.warnings.deadline(),
            self.streams.http().deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Whether there is work that needs no event: the next turn must not wait.
    pub fn has_work(&self) -> bool {
        let line = self.bus().line();
        self.streams.http().has_work()
            || !self.effects.is_empty()
            || line.has_visits()
            || line.registry().has_unwanted()
    }

    /// Whether another connection can be accepted through the admin's door or the public one.
    pub fn has_room(&self, is_admin: bool) -> bool {
        let (bounds, http) = (&self.settings.admission, self.streams.http());
        bounds.has_room(is_admin, http.len(), http.has_idle())
    }

    /// Whether further connections are awaited.
    pub fn is_open(&self) -> bool {
        let is_answering = self.drain.is_open() && !self.settings.pacing.others_listen;
        is_answering || !self.drain.has_begun()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.streams.http().is_empty()
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.bus().line().registry().subscribers()
    }

    /// Messages, and who gets them.
    pub fn bus(&self) -> &Bus {
        self.streams.bus()
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The current state, with the oldest `rows_max` subscribers.
    pub fn snapshot<'a>(
        &'a self,
        rows_max: usize,
        source: SourceState<'a>,
        exchange: Option<SourceState<'a>>,
        process: Process,
    ) -> Snapshot<'a> {
        let outside = (source, exchange, process);
        rows::snapshot(self, &self.streams, &self.clock, rows_max, outside)
    }

    /// Checks what must hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        self.streams.check_invariants();
    }

    /// Decides about the events of connections; whether there were any.
    fn handle_events(&mut self) -> bool {
        let mut had_events = false;
        while let Some(event) = self.streams.http_mut().poll_event() {
            had_events = true;
            match event {
                Event::Request(key, request) => self.handle_request(key, request, None),
                Event::Body(key, request, body) => self.handle_request(key, request, Some(body)),
                Event::Silent(key) => self.streams.keep_alive(key),
                Event::PollTimedOut(key) => self.answer_poll(key, &[]),
                // If the client is gone, a comment or an empty reply brings back a reset.
                Event::PeerEnded(key) => match self.streams.find(key) {
                    Some((_, Stage::Poll)) => self.answer_poll(key, &[]),
                    _ => self.streams.keep_alive(key),
                },
                Event::LifetimeOver(key) => self.end_stream(key, CloseReason::Lifetime),
                Event::StreamEnded(key, reason) => self.handle_end(key, reason),
                Event::Closed(key, reason) => {
                    self.sockets.handle_closed(key);
                    self.handle_end(key, reason);
                }
            }
        }
        had_events
    }

    /// A request has come: first its head alone, and if that needs no stream, but has a body, again with the body.
    fn handle_request(&mut self, key: Key, request: Box<Request>, body: Option<Vec<u8>>) {
        // The connection may have been closed in the meantime.
        let Some(origin) = self.streams.http().request_from(key) else {
            return;
        };
        let trusted = self.settings.admission.trusted_proxies;
        let mut client = Client::new(&request, origin, trusted);
        client.must_wait = self.warnings.handle_request(client, self.clock.now);
        let action = route::route(&request, &self.settings, client);
        // Probes are answered, and streams told when to return.
        let is_answered = matches!(action, Action::Show(_) | Action::Subscribe(_));
        if self.drain.has_begun() && body.is_none() && !is_answered {
            let mut connection = self.streams.at(key);
            return connection.refuse(&stopping_reply(), CloseReason::Drain);
        }
        match (action, body) {
            (Action::Subscribe(topics), _) => self.subscribe(key, client, &topics, &request),
            (Action::ShowStream, _) => {
                let extra = self.settings.streams.head_extra();
                self.streams.at(key).show_stream_head(extra);
            }
            (action, None) if request.framing != Framing::Length(0) && !action.is_refusal() => {
                let (bytes_max, used) = action.body();
                self.streams.at(key).read_body(request, bytes_max, used);
            }
            (action, body) => {
                let body = body.unwrap_or_default();
                self.answer(key, client, action, &request, &body);
            }
        }
    }

    /// Answers a complete request that is not for a stream.
    fn answer(&mut self, key: Key, client: Client, action: Action, request: &Request, body: &[u8]) {
        let reply = match action {
            Action::Reply(reply) => reply,
            Action::CleanUp(cleanup) => self.clean_up(&cleanup, client),
            Action::Publish { is_authorized } => {
                let line = self.streams.bus().line();
                match submissions::judge(request, is_authorized, body, &self.settings, line) {
                    Ok(publication) => {
                        self.counters.published += 1;
                        return self.effects.push_back(Effect::Publish(key, publication));
                    }
                    Err(reply) => reply,
                }
            }
            Action::Show(it) => return self.effects.push_back(Effect::Render(key, it)),
            Action::Subscribe(_) | Action::ShowStream => return,
        };
        if access::is_failure(&reply, request, body, client) {
            self.counters.auth_failures += 1;
            self.warnings.handle_wrong_secret(client.ip, self.clock.now);
        }
        self.streams.at(key).complete_request(&reply);
    }

    /// Ends a client's own streams here, and has the other copies of the server do the same.
    fn clean_up(&mut self, cleanup: &Cleanup, client: Client) -> Reply {
        if let Some(seconds) = self.cleanups.count(client.ip, self.clock.now) {
            return cleanup::too_many(seconds);
        }
        if client.is_hidden && cleanup.token.is_none() {
            return cleanup::cleaned_up(0);
        }
        let closed = self.close_matching(cleanup, client.ip);
        let relay = cleanup.relay(client.ip, self.settings.epoch, &self.settings.node);
        self.effects
            .push_back(Effect::TellCopies(CLEANUP_CHANNEL, relay));
        cleanup::cleaned_up(closed)
    }

    /// A copy of the server, perhaps this one, reports a cleanup.
    fn handle_relay(&mut self, payload: &[u8]) {
        match cleanup::parse_relay(payload) {
            Some((epoch, ..)) if epoch == self.settings.epoch => {}
            Some((_, cleanup, client_ip)) => _ = self.close_matching(&cleanup, client_ip),
            None => self.counters.handle_drop(Drop::Relay),
        }
    }

    fn close_matching(&mut self, cleanup: &Cleanup, client_ip: IpAddr) -> usize {
        let keys = cleanup.find(client_ip, &self.streams);
        for &key in &keys {
            self.end_stream(key, CloseReason::Cleanup);
        }
        keys.len()
    }

    /// Begins a stream or a long poll, or refuses it.
    fn subscribe(&mut self, key: Key, client: Client, topics: &[Topic], request: &Request) {
        let (now, client_ip) = (self.clock.now, client.ip);
        let about = Box::new(About::new(key, topics, request, client, now));
        let has_channels = topics.iter().any(|it| it.stream == Stream::Channels);
        let is_poll = request.is_xhr && topics.iter().all(|it| it.stream == Stream::Channels);
        let pause = self.drain.pause(&mut self.random);
        if pause.is_some() || !self.streams.admits(client_ip, topics) {
            self.counters.shed += 1;
            self.log(|| format!("shed {} from {client_ip}", about.path));
            let takes_stream = request.accepts_stream && !is_poll;
            let reply = admission::no_room(takes_stream, pause, &mut self.random);
            let mut connection = self.streams.at(key);
            return connection.complete_stream(&reply, CloseReason::Shed);
        }
        self.log(|| format!("connect {} from {client_ip}", about.path));
        let has_ids = about::wants_ids(request).unwrap_or(self.settings.streams.ids_enabled);
        let format = topics::format(topics, request.http_11 && !is_poll, has_ids);
        let resume = about::last_event_id(request);
        let stage = if is_poll { Stage::Poll } else { Stage::Stream };
        let streams = &mut self.streams;
        let (id, start) = streams.subscribe(topics, format, resume.as_deref(), stage, about);
        self.counters.handle_start(start);
        let reconnect = self.settings.streams.reconnect(topics);
        let extra = self.settings.streams.head_extra();
        streams.begin(key, start, reconnect.retry_ms, extra);
        if let Some(at) = endings::lifetime_over(reconnect, &mut self.random, now) {
            streams.at(key).set_lifetime(at);
        }
        if is_poll && start == Start::Gap {
            let mut gap = Vec::new();
            streams.bus().encode_start(id, start, &mut gap);
            self.answer_poll(key, &gap);
        } else if has_channels && !is_poll {
            self.streams.hold(key);
        }
    }

    /// Answers a long poll with these events, or with none.
    fn answer_poll(&mut self, key: Key, events: &[u8]) {
        self.counters.events_out += u64::from(!events.is_empty());
        let retry_ms = self.settings.streams.detail.retry_ms;
        self.end_poll(key, &endings::poll_reply(retry_ms, events));
    }

    fn end_poll(&mut self, key: Key, reply: &Reply) {
        if let Some((_, Stage::Poll)) = self.streams.find(key)
            && let Some(about) = self.streams.remove(key)
        {
            self.log(|| format!("answered {} from {}", about.path, about.client_ip));
            self.streams.at(key).complete_request(reply);
        }
    }

    /// Ends a stream or a long poll, and tells its client where it stood and, if the server stops, when to return.
    fn end_stream(&mut self, key: Key, reason: CloseReason) {
        let pause = self
            .drain
            .pause(&mut self.random)
            .filter(|_| reason == CloseReason::Drain);
        match (self.streams.find(key), pause) {
            (Some((_, Stage::Poll)), None) => self.answer_poll(key, &[]),
            (Some((_, Stage::Poll)), Some(pause)) => self.end_poll(key, &poll_refusal(pause)),
            (Some((id, Stage::Stream)), pause) => {
                let mut block = endings::last_block(pause);
                self.bus().encode_position(id, &mut block);
                self.streams.at(key).send(&block);
                self.streams.end(key, reason);
            }
            _ => {}
        }
    }

    /// A stream has ended, with its connection or not, or a connection without one.
    fn handle_end(&mut self, key: Key, reason: CloseReason) {
        self.counters.closes[reason as usize] += 1;
        if let Some(about) = self.streams.remove(key) {
            let now = self.clock.now;
            self.log(|| about.shown_end(reason, now));
        }
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.settings.verbose {
            self.effects.push_back(Effect::Log(Level::Debug, line()));
        }
    }
}
