//! A split: two brokers, of which one feeds the emoji streams and the other has the channels. It owns which of the two
//! is meant; it must not know what either is.

use std::io;
use std::net::SocketAddr;

use super::{
    Answer, Audience, Broker, Command, Inquiry, Received, State, Store, Topics, Unanswered,
};
use crate::glob::Glob;
use crate::net::{Net, Token};
use crate::time::Time;

/// A source of the emoji streams, and a broker for channels beside it.
pub struct Split<N> {
    source: Box<dyn Broker<N>>,
    channels: Box<dyn Broker<N>>,
    /// What is published to the source: its own channels and patterns.
    topics: Vec<Glob>,
}

impl<N: Net> Split<N> {
    /// Messages on `topics` go to the source, and all others to `channels`.
    pub fn new(
        source: Box<dyn Broker<N>>,
        channels: Box<dyn Broker<N>>,
        topics: &Topics,
    ) -> Split<N> {
        let names = topics.channels.iter().chain(&topics.patterns);
        Split {
            source,
            channels,
            topics: names.map(|name| Glob::new(name)).collect(),
        }
    }

    fn owner(&mut self, token: Token) -> &mut dyn Broker<N> {
        match self.source.owns(token) {
            true => self.source.as_mut(),
            false => self.channels.as_mut(),
        }
    }

    fn is_of_source(&self, channel: &str) -> bool {
        self.topics.iter().any(|glob| glob.matches(channel))
    }
}

impl<N: Net> Broker<N> for Split<N> {
    fn owns(&self, token: Token) -> bool {
        self.source.owns(token) || self.channels.owns(token)
    }

    fn handle_ready(&mut self, token: Token, readable: bool, writable: bool) {
        let broker = self.owner(token);
        broker.handle_ready(token, readable, writable);
    }

    fn handle_resolved(&mut self, token: Token, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.owner(token).handle_resolved(token, result, now);
    }

    fn serve(&mut self, net: &mut N, now: Time) {
        self.source.serve(net, now);
        self.channels.serve(net, now);
    }

    fn rest(&mut self, until: Option<Time>, net: &mut N) {
        self.source.rest(until, net);
    }

    fn set_audience(&mut self, audience: Audience, now: Time) {
        self.source.set_audience(audience, now);
    }

    fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.channels.subscribe(name, is_pattern);
    }

    fn unsubscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.channels.unsubscribe(name, is_pattern);
    }

    fn publish(&mut self, number: u64, channel: &[u8], message: &[u8]) -> Result<(), Unanswered> {
        let is_of_source = std::str::from_utf8(channel).is_ok_and(|name| self.is_of_source(name));
        match is_of_source {
            true => self.source.publish(number, channel, message),
            false => self.channels.publish(number, channel, message),
        }
    }

    fn command(&mut self, command: Command<'_>) -> bool {
        self.source.command(command)
    }

    fn ask(&mut self, inquiry: Inquiry) -> bool {
        self.source.ask(inquiry)
    }

    fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received> {
        let message = self.source.poll_message(net, may_read, now);
        message.or_else(|| self.channels.poll_message(net, may_read, now))
    }

    fn poll_answer(&mut self) -> Option<Answer> {
        let answer = self.source.poll_answer();
        answer.or_else(|| self.channels.poll_answer())
    }

    fn deadline(&self, may_read: bool) -> Option<Time> {
        let deadlines = [
            self.source.deadline(may_read),
            self.channels.deadline(may_read),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn state(&self, now: Time) -> State<'_> {
        self.source.state(now)
    }

    fn state_of_channels(&self, now: Time) -> Option<State<'_>> {
        Some(self.channels.state(now))
    }

    fn subscriptions(&self) -> Option<(bool, usize)> {
        self.channels.subscriptions()
    }

    fn may_rest(&self) -> bool {
        self.source.may_rest()
    }

    fn delivers(&self, channel: &str) -> bool {
        match self.is_of_source(channel) {
            true => self.source.delivers(channel),
            false => self.channels.delivers(channel),
        }
    }

    fn room(&self, messages: usize, bytes: usize) -> Result<(), Unanswered> {
        self.channels.room(messages, bytes)
    }

    fn publisher(&self) -> &'static str {
        self.channels.publisher()
    }

    fn store(&self) -> Store {
        self.source.store()
    }

    fn is_settled(&self) -> bool {
        self.source.is_settled() && self.channels.is_settled()
    }
}
