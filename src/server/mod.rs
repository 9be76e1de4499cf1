//! Server: every decision about clients and messages. It joins connections, which know no streams, with the bus, which
//! knows no connections: it is told what happened (`handle_…`) and asked what to do (`poll_…`), and makes no system call.
//!
//! The decisions are made in parts that own their fields. `clients` joins connections and `streams`: `route`, `topics` and
//! `visitor` read a request; `admission` (with `addresses`), `cleanup` and `endings` say who may come and who has to go;
//! `submissions` and `demand` are about what is published and asked for; `fanout` says who is written to next. `messages`
//! says where on the bus a message belongs. Beside them are the parts that the reactor joins: [`Doors`],
//! [`Publications`], [`Reports`] and [`Shutdown`].
//!
//! A turn goes: [`Server::start_turn`], the events, [`Server::handle_time`], then [`Server::poll_read`],
//! [`Server::poll_write`] and [`Server::poll_effect`] until each has nothing more, in this order, and
//! [`Server::end_turn`].

mod addresses;
mod admission;
mod cleanup;
mod clients;
mod demand;
mod desk;
mod doors;
mod endings;
mod fanout;
mod invariants;
mod messages;
mod publications;
mod reports;
mod route;
mod rows;
pub mod settings;
mod shutdown;
pub mod stats;
mod streams;
mod submissions;
mod topics;
mod visitor;
mod waiters;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

pub use cleanup::CLEANUP_CHANNEL;
pub use desk::Desk;
pub use doors::Doors;
pub use messages::{KIOSK_CHANNEL_PREFIX, SCORE_CHANNEL, TWEET_CHANNEL_PREFIX, is_own_channel};
pub use publications::{Outcome, Publications, Submission};
pub use reports::Reports;
pub use route::Document;
pub use settings::Settings;
pub use shutdown::Shutdown;
pub use stats::Snapshot;
pub use submissions::published;

use crate::broker::Message;
use crate::bus::{self, Bus, Stream};
use crate::http::{self, Key};
use crate::level::Level;
use crate::time::Time;
use clients::Clients;
use messages::Destination;
use stats::{ChannelRow, Clock, Counters, Process, SourceState};

/// What the server wants done beside reading and writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Close the socket; the key is not used again.
    Close(Key),
    /// Send our end, and keep reading.
    ShutdownWrite(Key),
    /// Have this published, and give the answer to `complete_request` of the connection.
    Submit(Submission),
    /// Make a document, and give it to `complete_request` of the connection.
    Render(Key, Document),
    /// Ask the source for a channel, or for all that match a pattern.
    Listen {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Which of the two.
        is_pattern: bool,
    },
    /// Ask for it no longer.
    Unlisten {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Which of the two.
        is_pattern: bool,
    },
    /// Send this to the other copies of the server, on this channel.
    Publish(&'static str, Vec<u8>),
    /// Write a line to the log.
    Log(Level, String),
}

impl From<http::Action> for Effect {
    fn from(action: http::Action) -> Effect {
        match action {
            http::Action::Close(key) => Effect::Close(key),
            http::Action::ShutdownWrite(key) => Effect::ShutdownWrite(key),
        }
    }
}

/// Bytes to be handed to the kernel.
#[derive(Debug)]
pub struct Write<'a> {
    /// For whom.
    pub key: Key,
    /// What; never empty.
    pub bytes: &'a [u8],
}

/// Clients, and the messages that they get.
pub struct Server {
    settings: Arc<Settings>,
    clients: Clients,
    bus: Bus,
}

impl Server {
    /// A server without clients, at the moment `now`.
    pub fn new(settings: Settings, now: Time, unix_seconds: u64) -> Server {
        let settings = Arc::new(settings);
        let clock = Clock {
            now,
            unix_seconds,
            started_at: now,
            startup_time: unix_seconds,
        };
        let bus = Bus::new(&bus::Options {
            epoch: settings.epoch,
            log_bytes_max: settings.pacing.log_bytes_max,
            paced_subscribers_min: settings.pacing.paced_subscribers_min,
        });
        Server {
            clients: Clients::new(Arc::clone(&settings), clock),
            bus,
            settings,
        }
    }

    /// Begins a turn: the one moment that it takes place at, and fresh budgets.
    pub fn start_turn(&mut self, now: Time, unix_seconds: u64) {
        self.clients.start_turn(now, unix_seconds);
        self.bus.line_mut().begin_turn(now);
    }

    /// Ends a turn, whose last write has been answered at the moment `now`.
    pub fn end_turn(&mut self, now: Time) {
        self.bus.line_mut().end_turn(now);
    }

    /// A connection was accepted, through the admin's door or the public one.
    pub fn accept(&mut self, client_ip: IpAddr, is_admin: bool) -> Key {
        self.clients.accept(client_ip, is_admin)
    }

    /// A connection, to be told what has happened to its socket, or the answer to its request. Where it is gone,
    /// nothing becomes of that.
    pub fn at(&mut self, key: Key) -> http::Connection<'_> {
        self.clients.http_mut().at(key)
    }

    /// Does what has become due.
    pub fn handle_time(&mut self) {
        self.bus.line_mut().handle_time();
        self.clients.handle_time(&mut self.bus);
    }

    /// A message came from the source.
    pub fn handle_message(&mut self, message: &Message) {
        self.clients.counters_mut().messages_in += 1;
        let has_channels = !self.settings.channels.patterns.is_empty();
        let (channel, payload) = (Some(message.channel.as_slice()), &message.payload);
        match messages::destination(message, has_channels) {
            Destination::Score => self.bus.line_mut().publish_score(payload),
            Destination::Publish(name) => self.bus.line_mut().publish(name, channel, payload),
            Destination::Gap(name, drop) => {
                self.clients.counters_mut().handle_drop(drop);
                self.bus.line_mut().publish_gap(name);
            }
            Destination::Relay => self.clients.handle_relay(payload, &mut self.bus),
            Destination::Drop(drop) => self.clients.counters_mut().handle_drop(drop),
        }
    }

    /// A message came that is for the embedded broker to deliver, or from one that does not say whose pattern it
    /// matched.
    pub fn handle_channel_message(&mut self, channel: &[u8], payload: &[u8]) {
        match messages::by_subscription(channel, payload, &self.settings) {
            Ok(messages) => messages.iter().for_each(|it| self.handle_message(it)),
            Err(drop) => self.clients.counters_mut().handle_drop(drop),
        }
    }

    /// Publishes without a broker.
    pub fn publish_here(&mut self, channels: &[&String], message: &str) {
        for channel in channels {
            match is_own_channel(channel.as_bytes()) {
                true => self.handle_message(&Message {
                    pattern: None,
                    channel: channel.as_str().into(),
                    payload: message.into(),
                }),
                false => self.handle_channel_message(channel.as_bytes(), message.as_bytes()),
            }
        }
    }

    /// Whether the source is there at the moment. What came while it was away is missing from the log: a
    /// position from before it went, or from before it was back, cannot resume a channel. `unanswered` is how many of our
    /// wishes for channels it has not answered yet.
    pub fn handle_source_state(&mut self, is_live: bool, unanswered: usize) {
        let is_broken = self.clients.handle_source_state(is_live, unanswered);
        if is_broken && !self.settings.channels.patterns.is_empty() {
            self.bus.line_mut().publish_break(Stream::Channels);
        }
    }

    /// The source has more to say than can be taken at a tick, or has ended: it is read as it comes.
    pub fn end_rest(&mut self) {
        self.bus.line_mut().end_rest();
    }

    /// Ends all connections. Requests are answered or refused at once; streams are ended in slices, over
    /// at most the configured time. All are gone when [`Server::is_empty`] says so.
    pub fn stop(&mut self) {
        self.clients.stop(&mut self.bus);
    }

    /// What became of the write: how many bytes the kernel took, or why it took none.
    pub fn handle_written(&mut self, result: io::Result<usize>) {
        self.clients.handle_written(result, &mut self.bus);
    }

    /// The next connection to read from, and how many bytes there is room for. Each answer must be followed by one of
    /// `handle_input`, `handle_read_would_block`, `handle_end` and `handle_failure` of the connection.
    pub fn poll_read(&mut self) -> Option<(Key, usize)> {
        self.clients.http_mut().poll_read()
    }

    /// The next bytes to write. Each answer must be followed by [`Server::handle_written`].
    pub fn poll_write(&mut self) -> Option<Write<'_>> {
        let (key, bytes) = self.clients.poll_write(&mut self.bus)?;
        Some(Write { key, bytes })
    }

    /// The next thing to do that is neither a read nor a write.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.clients.poll_effect(&mut self.bus)
    }

    /// When the next turn must begin, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        let deadlines = [self.bus.line().deadline(), self.clients.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Whether something is left that needs no event: the next turn must not wait.
    pub fn has_work(&self) -> bool {
        self.clients.has_work()
            || self.bus.line().has_visits()
            || self.bus.line().registry().has_turned()
    }

    /// Whether messages should be taken from the source now. While those that are here have not been
    /// offered to everybody, a burst must not push them out of the log: it waits in the source's socket,
    /// but not for long.
    pub fn wants_messages(&self) -> bool {
        self.bus.line().wants_messages()
    }

    /// Whether somebody subscribes to anything but scores.
    pub fn wants_tweets(&self) -> bool {
        let scores = [Stream::Raw, Stream::Eps];
        !self.bus.line().registry().has_only(&scores)
    }

    /// Until when the source may be left alone, because all that it could bring would wait for the next tick:
    /// a busy stream of score updates then costs one wake-up a tick, and not one for each update. When that
    /// moment has come, the source is read, and what it brought is sent in the same turn.
    pub fn rest_until(&self) -> Option<Time> {
        self.bus.line().rest_until()
    }

    /// Whether another connection can be accepted through the admin's door or the public one: some descriptors
    /// are left for other things.
    pub fn has_room(&self, is_admin: bool) -> bool {
        self.clients.has_room(is_admin)
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.clients.http().is_empty()
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        self.bus.line().registry().subscribers()
    }

    /// Messages, and who gets them.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// The configuration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        self.clients.counters()
    }

    /// The channels that have most subscribers, those first, and then by name.
    pub fn channels(&self, rows_max: usize) -> Vec<ChannelRow<'_>> {
        rows::channels(rows_max, &self.bus)
    }

    /// The state at this moment, with the oldest `rows_max` subscribers, and with what others know.
    pub fn snapshot<'a>(
        &'a self,
        rows_max: usize,
        source: SourceState<'a>,
        exchange: Option<SourceState<'a>>,
        process: Process,
    ) -> Snapshot<'a> {
        let (line, clock) = (self.bus.line(), self.clients.clock());
        Snapshot {
            node: &self.settings.node,
            reported_at: clock.unix_seconds,
            startup_time: clock.startup_time,
            uptime: clock.now.since(clock.started_at),
            counters: self.clients.counters(),
            bus: line.counters(),
            sockets: self.clients.http().len(),
            channels: self.clients.demand().listened(),
            streams: line.registry().subscribers_by_stream(),
            log: line.log_state(),
            source,
            exchange,
            process,
            connections_total: line.registry().subscribers(),
            connections: rows::connections(rows_max, &self.clients, &self.bus),
        }
    }

    /// Panics with the invariant's name where one is broken. All hold between two turns.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self) {
        self.clients.check_invariants(&self.bus);
    }
}
