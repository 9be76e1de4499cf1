//! The brokers of a process: the source of the emoji streams, and the broker for channels, which is another one if AMQP
//! is configured. It decides which of the two is meant.

use super::{Answer, Broker, Received, State, Store, Topics};
use crate::glob::Glob;
use crate::net::{Net, Token};
use crate::time::Time;

/// One broker for everything, or a source of the emoji streams and a broker for channels.
pub struct Brokers<N> {
    source: Box<dyn Broker<N>>,
    channels: Option<Box<dyn Broker<N>>>,
    /// The channels and patterns of the source, if there is another broker for the rest.
    topics: Vec<Glob>,
}

impl<N: Net> Brokers<N> {
    /// One broker for everything.
    pub fn one(source: Box<dyn Broker<N>>) -> Brokers<N> {
        Brokers {
            source,
            channels: None,
            topics: Vec::new(),
        }
    }

    /// What is published on `topics` goes to `source`, and everything else to `channels`.
    pub fn split(
        source: Box<dyn Broker<N>>,
        channels: Box<dyn Broker<N>>,
        topics: &Topics,
    ) -> Brokers<N> {
        let names = topics.channels.iter().chain(&topics.patterns);
        Brokers {
            source,
            channels: Some(channels),
            topics: names.map(|name| Glob::new(name)).collect(),
        }
    }

    /// Serves all brokers.
    pub fn serve(&mut self, net: &mut N, now: Time) {
        self.all_mut().for_each(|broker| broker.serve(net, now));
    }

    /// The next message of any broker.
    pub fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received> {
        self.all_mut()
            .find_map(|broker| broker.poll_message(net, may_read, now))
    }

    /// The next answer of any broker.
    pub fn poll_answer(&mut self) -> Option<Answer> {
        self.all_mut().find_map(|broker| broker.poll_answer())
    }

    /// The broker that a socket belongs to.
    pub fn owner(&mut self, token: Token) -> Option<&mut Box<dyn Broker<N>>> {
        self.all_mut().find(|broker| broker.owns(token))
    }

    /// The source of the emoji streams, which also stores what is to be stored.
    pub fn source(&mut self) -> &mut dyn Broker<N> {
        self.source.as_mut()
    }

    /// The broker for channels.
    pub fn channels(&mut self) -> &mut dyn Broker<N> {
        self.channels.as_mut().unwrap_or(&mut self.source).as_mut()
    }

    /// The broker that messages on this channel are published to.
    pub fn for_channel(&mut self, channel: &str) -> &mut dyn Broker<N> {
        match self.topics.iter().any(|glob| glob.matches(channel)) {
            true => self.source(),
            false => self.channels(),
        }
    }

    /// When a broker must be served at the latest.
    pub fn deadline(&self, may_read: bool) -> Option<Time> {
        let deadlines = self.all().filter_map(|broker| broker.deadline(may_read));
        deadlines.min()
    }

    /// The state of the source, and that of the broker for channels if it is another one.
    pub fn states(&self, now: Time) -> (State<'_>, Option<State<'_>>) {
        let channels = self.channels.as_ref();
        (self.source.state(now), channels.map(|it| it.state(now)))
    }

    /// Whether clients should be sent to this process.
    ///
    /// # Errors
    /// What is missing, in two words.
    pub fn readiness(&self, now: Time) -> Result<(), &'static str> {
        match self.states(now) {
            (_, Some(channels)) if !channels.is_live => Err("no broker"),
            (source, _) if !source.is_live => Err("no source"),
            _ => Ok(()),
        }
    }

    /// Whether commands and inquiries can be sent.
    pub fn store(&self) -> Store {
        self.source.store()
    }

    /// Whether nothing waits to be sent that could be sent: an invariant of the loop when it polls.
    pub fn is_settled(&self) -> bool {
        self.all().all(|broker| broker.is_settled())
    }

    fn all(&self) -> impl Iterator<Item = &Box<dyn Broker<N>>> {
        [&self.source].into_iter().chain(&self.channels)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Broker<N>>> {
        [&mut self.source].into_iter().chain(&mut self.channels)
    }
}
