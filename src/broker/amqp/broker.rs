//! AMQP as a broker: one session over one link. It decides when messages of all subscriptions arrive.

use std::io;
use std::net::SocketAddr;

use super::{Endpoint, Session};
use crate::broker::link::{Conversation, Link};
use crate::broker::{Answer, Broker, Received, State, Unanswered};
use crate::net::{Net, Token};
use crate::time::Time;

/// The index of its socket among our connections. Redis and Graphite have lower ones.
const SOCKET: u8 = 3;
/// The bytes of a publication besides the channel and the message.
const COMMAND_BYTES: usize = 64;

/// A broker that speaks AMQP 0-9-1.
pub struct Amqp {
    link: Link<Session>,
    /// Whether all subscriptions were in place at some moment since the session became live.
    is_whole: bool,
}

impl Amqp {
    /// Connects at once.
    pub fn new(endpoint: Endpoint, client_name: &str, seed: u64) -> Amqp {
        Amqp {
            link: Link::new(SOCKET, Session::new(endpoint, client_name, seed)),
            is_whole: false,
        }
    }
}

impl<N: Net> Broker<N> for Amqp {
    fn owns(&self, token: Token) -> bool {
        self.link.token() == token
    }

    fn handle_ready(&mut self, _: Token, readable: bool, writable: bool) {
        self.link.on_ready(readable, writable);
    }

    fn handle_resolved(&mut self, _: Token, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.link.on_resolved(result, now);
    }

    fn serve(&mut self, net: &mut N, now: Time) {
        self.link.serve(net, now);
    }

    fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.link.conversation_mut().subscribe(name, is_pattern);
    }

    fn unsubscribe(&mut self, name: &[u8], _: bool) {
        self.link.conversation_mut().unsubscribe(name);
    }

    fn publish(&mut self, number: u64, channel: &[u8], message: &[u8]) -> Result<(), Unanswered> {
        let session = self.link.conversation_mut();
        session.publish(number, channel, message)
    }

    fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received> {
        let message = self.link.poll_message(net, may_read, now);
        if message.is_none() {
            // Streams wait for subscriptions that are made later.
            let session = self.link.conversation();
            self.is_whole = session.is_live() && (self.is_whole || session.unsettled() == 0);
        }
        message.map(Received::Once)
    }

    fn poll_answer(&mut self) -> Option<Answer> {
        let (number, answer) = self.link.conversation_mut().poll_answer()?;
        Some(Answer::Publication(number, answer))
    }

    fn deadline(&self, may_read: bool) -> Option<Time> {
        self.link.deadline(may_read)
    }

    fn state(&self, now: Time) -> State<'_> {
        let session = self.link.conversation();
        State::of("amqp", session.place(), session.dialer(), now)
    }

    fn subscriptions(&self) -> Option<(bool, usize)> {
        Some((self.is_whole, self.link.conversation().unsettled()))
    }

    fn delivers(&self) -> bool {
        true
    }

    fn room(&self, messages: usize, bytes: usize) -> Result<(), Unanswered> {
        let session = self.link.conversation();
        match session.is_live() {
            false => Err(Unanswered::Lost),
            true if session.has_room_for(bytes + messages * COMMAND_BYTES) => Ok(()),
            true => Err(Unanswered::Full),
        }
    }

    fn is_settled(&self) -> bool {
        self.link.is_settled()
    }
}
