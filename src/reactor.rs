//! The reactor: the event loop. It owns the order of a turn, and passes bytes and commands between `net`, `server` and
//! `broker`; it must not decide anything about a client or a message itself.

use std::io;
use std::time::Duration;

use crate::broker::{Answer, Audience, Brokers, Command, Received};
use crate::http::{Action, CloseReason, Key, Origin};
use crate::level::Level;
use crate::limits;
use crate::net::{Door, Event, Net, Token};
use crate::report;
use crate::server::stats::Stream;
use crate::server::{
    self, Desk, Doors, Effect, Outcome, Publications, Reports, Server, Shutdown, Supervision,
};
use crate::time::Time;

/// The event loop.
pub struct Reactor<N: Net> {
    net: N,
    server: Server,
    brokers: Brokers<N>,
    reports: Reports,
    publications: Publications,
    doors: Doors,
    shutdown: Shutdown,
    supervision: Supervision,
    now: Time,
    turn_ended_at: Time,
    events: Vec<Event>,
    /// For reads from all clients.
    buffer: Box<[u8]>,
}

impl<N: Net> Reactor<N> {
    /// A loop that does not run yet.
    pub fn new(net: N, server: Server, brokers: Brokers<N>, reports: Reports) -> Reactor<N> {
        Reactor {
            net,
            server,
            brokers,
            reports,
            publications: Publications::default(),
            doors: Doors::default(),
            shutdown: Shutdown::default(),
            supervision: Supervision::default(),
            now: Time::ZERO,
            turn_ended_at: Time::ZERO,
            events: Vec::new(),
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
        }
    }

    /// The same with a service manager.
    #[must_use]
    pub fn supervised(mut self, supervision: Supervision) -> Reactor<N> {
        self.supervision = supervision;
        self
    }

    /// Runs until the process was asked to stop, and all clients are gone or their time is over.
    ///
    /// # Errors
    /// If waiting for events fails.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_done() {
            self.turn()?;
        }
        self.log_end();
        Ok(())
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// If waiting for events fails.
    pub fn turn(&mut self) -> io::Result<()> {
        let mut events = std::mem::take(&mut self.events);
        self.net.poll(self.timeout(), &mut events)?;
        self.now = self.net.now();
        self.server.start_turn(self.now, self.net.unix_seconds());
        for event in events.drain(..) {
            self.dispatch(event);
        }
        self.events = events;
        self.accept(limits::ACCEPTS_PER_TURN);
        self.receive();
        self.report();
        self.supervise();
        self.publish();
        self.server.handle_time();
        self.close_doors();
        self.read_clients();
        self.apply_effects();
        // Subscriptions must reach the broker before their clients see that the streams have begun.
        self.brokers.serve(&mut self.net, self.now);
        self.write_clients();
        self.apply_effects();
        self.brokers.serve(&mut self.net, self.now);
        self.tell_broker();
        self.turn_ended_at = self.net.now();
        self.server.end_turn(self.turn_ended_at);
        #[cfg(debug_assertions)]
        self.check_invariants();
        Ok(())
    }

    /// Whether the process may exit.
    pub fn is_done(&self) -> bool {
        if !self.shutdown.has_begun() {
            return false;
        }
        let now = self.net.now();
        let is_settled = || self.reports.is_settled(self.brokers.store(), now);
        self.shutdown.is_over(now)
            || (self.server.is_empty() && !self.server.is_open() && is_settled())
    }

    /// The network.
    pub fn net(&self) -> &N {
        &self.net
    }

    /// The network, for a simulation of its other side.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.net
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How long the next poll may wait; `None` is forever.
    fn timeout(&self) -> Option<Duration> {
        if self.server.has_work() || self.open_door().is_some() {
            return Some(Duration::ZERO);
        }
        Some(self.deadline()?.since(self.turn_ended_at))
    }

    fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.server.deadline(),
            self.brokers
                .deadline(self.server.bus().line().wants_messages()),
            self.reports.deadline(self.brokers.store(), self.now),
            self.publications.deadline(self.turn_ended_at),
            self.doors.deadline(),
            self.shutdown.deadline(),
            self.supervision.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Acceptable(door) => self.doors.handle_acceptable(door),
            Event::Ready {
                token,
                readable,
                writable,
                hung_up,
            } => match token {
                Token::Client(index, generation) => {
                    let mut client = self.server.at(Key { index, generation });
                    client.handle_ready(readable, writable, hung_up);
                }
                _ => match self.brokers.owner(token) {
                    Some(broker) => broker.handle_ready(token, readable || hung_up, writable),
                    None => self
                        .reports
                        .handle_ready(token, readable || hung_up, writable),
                },
            },
            Event::Resolved(token, result) => match self.brokers.owner(token) {
                Some(broker) => broker.handle_resolved(token, result, self.now),
                None => self.reports.handle_resolved(token, result, self.now),
            },
            Event::Signal => self.stop(),
            Event::Reload => {
                let line = "SIGHUP: restart the process to change an option; nothing is reloaded";
                self.net.log(Level::Info, line);
            }
        }
    }

    fn stop(&mut self) {
        let drain = self.server.settings().pacing.drain;
        if !self.shutdown.handle_signal(drain, self.now) {
            return;
        }
        self.reports.handle_stop(self.now);
        self.supervision.handle_stop();
        let streams = self.server.subscribers();
        let seconds = drain.as_secs();
        let line = format!("stopping: closing all streams within {seconds} s ({streams} open)");
        self.net.log(Level::Info, &line);
        self.server.stop();
        if self.server.settings().pacing.others_listen {
            self.accept_last();
        }
        self.close_doors();
    }

    /// Stops listening when newcomers are not awaited any longer.
    fn close_doors(&mut self) {
        if self.server.poll_closing() {
            if !self.server.settings().pacing.others_listen {
                self.accept_last();
            }
            self.server.close();
        }
    }

    fn log_end(&mut self) {
        let seconds = self.shutdown.took(self.net.now()).as_secs_f64();
        let drained = self.server.counters().closes[CloseReason::Drain as usize];
        let (level, left) = match self.server.subscribers() {
            0 => (Level::Info, String::new()),
            cut => (Level::Warn, format!(", {cut} streams were cut off")),
        };
        let line = format!("stopped after {seconds:.1} s: {drained} connections drained{left}");
        self.net.log(level, &line);
    }

    #[cfg(debug_assertions)]
    fn check_invariants(&self) {
        self.server.check_invariants();
        let is_settled = self.brokers.is_settled();
        assert!(is_settled, "bytes for the broker were left behind");
    }

    fn open_door(&self) -> Option<Door> {
        self.doors
            .next(self.server.has_room(false), self.server.has_room(true))
    }

    /// Accepts at most so many connections.
    fn accept(&mut self, most: usize) {
        self.doors.handle_time(self.now);
        for _ in 0..most {
            let Some(door) = self.open_door() else {
                return;
            };
            let accepted = self.net.accept(door);
            if let Some(error) = self.doors.handle_outcome(door, &accepted, self.now) {
                let line = format!("accept: {error}; waiting for a connection to close");
                self.net.log(Level::Warn, &line);
            }
            if let Ok((accepted, peer_ip)) = accepted {
                let origin = Origin::new(peer_ip, door == Door::Admin);
                let key = self.server.accept(origin);
                if let Err(error) = self.net.adopt(client(key), accepted) {
                    self.server.at(key).handle_failure(&error);
                }
            }
        }
    }

    /// Stops listening, after accepting the connections that the kernel has already established, because they would be reset.
    /// Their number is bounded, so that new ones cannot delay the end. Those at a listener that stays open elsewhere are for
    /// the next process.
    fn accept_last(&mut self) {
        self.doors = Doors::default();
        self.doors.handle_acceptable(Door::Admin);
        if !self.net.shares_listeners() {
            self.doors.handle_acceptable(Door::Public);
        }
        self.accept(limits::LISTEN_BACKLOG as usize);
        self.doors = Doors::default();
        self.net.stop_listening();
    }

    /// Receives messages and answers from the broker.
    fn receive(&mut self) {
        self.brokers.serve(&mut self.net, self.now);
        loop {
            let may_read = self.server.bus().line().wants_messages();
            match self.brokers.poll_message(&mut self.net, may_read, self.now) {
                Some(Received::BySubscription(message)) => self.server.handle_message(&message),
                Some(Received::Once(message)) => self.server.handle_channel_message(&message),
                None => break,
            }
        }
        if !self.brokers.source().may_rest() {
            self.server.end_rest();
        }
        let emoji = self.brokers.source().subscriptions();
        let channels = self.brokers.channels().subscriptions();
        self.server
            .handle_sources(emoji.map(|(is_live, _)| is_live), channels);
        while let Some(answer) = self.brokers.poll_answer() {
            match answer {
                Answer::Publication(number, answer) => {
                    let outcome = self.publications.handle_answer(number, answer);
                    self.answer_publication(outcome);
                }
                Answer::Report(inquiry, answer) => {
                    self.at_desk(|reports, desk| reports.handle_answer(inquiry, answer, desk));
                }
            }
        }
    }

    /// Sends the reports that are due.
    fn report(&mut self) {
        self.reports.receive(&mut self.net, self.now);
        self.at_desk(Reports::handle_time);
        self.reports.send(&mut self.net, self.now);
    }

    /// Tells a service manager how the process is.
    fn supervise(&mut self) {
        if !self.supervision.is_due(self.now) {
            return;
        }
        let state = match self.brokers.readiness(self.now) {
            _ if self.shutdown.has_begun() => "stopping",
            Ok(()) => "ready",
            Err(missing) => missing,
        };
        let status = format!("{state}, {} streams", self.server.subscribers());
        if let Some(lines) = self.supervision.poll(status, self.now) {
            self.net.notify(&lines);
        }
    }

    /// Calls a method of the reports, and passes on the replies that it made.
    fn at_desk(&mut self, act: impl FnOnce(&mut Reports, &mut Desk<'_, N>)) {
        let mut desk = Desk {
            net: &self.net,
            server: &self.server,
            brokers: &mut self.brokers,
            now: self.now,
        };
        act(&mut self.reports, &mut desk);
        while let Some((key, reply)) = self.reports.poll_reply() {
            self.server.at(key).complete_request(&reply);
        }
    }

    /// Publishes what clients have submitted, and answers for the broker where it is late.
    fn publish(&mut self) {
        while let Some((key, publication)) = self
            .publications
            .poll_submission(self.server.bus().line().wants_messages())
        {
            let brokers = &mut self.brokers;
            let outcome = self.publications.send(key, &publication, brokers, self.now);
            // What the broker has no room for is not published here either, so that a retry does not double it.
            let is_refused = matches!(outcome, Some((_, Err(_))));
            for channel in publication.channels.iter().filter(|_| !is_refused) {
                if !self.brokers.for_channel(channel).delivers() {
                    self.server.publish_here(channel, &publication.message);
                }
            }
            self.answer_publication(outcome);
        }
        while let Some(outcome) = self.publications.poll_late(self.now) {
            self.answer_publication(Some(outcome));
        }
    }

    fn answer_publication(&mut self, outcome: Option<Outcome>) {
        let Some((key, outcome)) = outcome else {
            return;
        };
        let reply = match outcome {
            Ok(()) => server::published(),
            Err(unanswered) => {
                report::no_answer(self.brokers.channels().publisher(), &unanswered).0
            }
        };
        self.server.at(key).complete_request(&reply);
    }

    fn read_clients(&mut self) {
        while let Some((key, room)) = self.server.poll_read() {
            match self.net.read(client(key), &mut self.buffer[..room]) {
                Ok(0) => self.server.at(key).handle_end(),
                Ok(len) => self.server.at(key).handle_input(&self.buffer[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.server.at(key).handle_read_would_block();
                }
                Err(error) => self.server.at(key).handle_failure(&error),
            }
        }
    }

    fn write_clients(&mut self) {
        while let Some(write) = self.server.poll_write() {
            let result = self.net.write(client(write.key), write.bytes);
            self.server.handle_written(result);
        }
    }

    fn apply_effects(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            match effect {
                Effect::Socket(Action::Close(key)) => {
                    self.net.close(client(key));
                    self.doors.handle_close();
                }
                Effect::Socket(Action::ShutdownWrite(key)) => self.net.shutdown_write(client(key)),
                Effect::Listen {
                    name,
                    is_pattern,
                    is_wanted,
                } => match is_wanted {
                    true => self.brokers.channels().subscribe(&name, is_pattern),
                    false => self.brokers.channels().unsubscribe(&name, is_pattern),
                },
                Effect::Publish(key, publication) => {
                    let mut channels = publication.channels.iter();
                    let is_here = channels.any(|name| !self.brokers.for_channel(name).delivers());
                    self.publications
                        .handle_submission(key, publication, is_here);
                    self.publish();
                }
                Effect::Render(key, document) => {
                    self.at_desk(|reports, desk| reports.handle_request(key, document, desk));
                }
                Effect::TellCopies(channel, payload) => {
                    let payload = &payload;
                    self.brokers
                        .source()
                        .command(Command::Relay { channel, payload });
                }
                Effect::Log(level, line) => self.net.log(level, &line),
            }
        }
    }

    /// Tells the broker whether there are subscribers, and until when its messages can wait.
    fn tell_broker(&mut self) {
        let line = self.server.bus().line();
        let audience = Audience {
            is_there: self.server.subscribers() > 0,
            wants_tweets: !line.registry().has_only(&[Stream::Raw, Stream::Eps]),
        };
        let source = self.brokers.source();
        source.set_audience(audience, self.now);
        source.rest(line.rest_until(), &mut self.net);
    }
}

fn client(key: Key) -> Token {
    Token::Client(key.index, key.generation)
}
