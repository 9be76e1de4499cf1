//! Links: one socket that we connect each, with the conversation that is held over it. A link resolves a name,
//! dials, backs off after a failure and dials again. It owns carrying bytes and wishes between the socket and the
//! conversation; it must not know what a conversation is about.

mod conversation;
pub mod dialer;
mod health;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::Message;
use crate::limits;
use crate::net::{Net, Peer, Token};
use crate::time::Time;
pub use conversation::{Conversation, Failure, Target, Transport};
use dialer::{Destination, Intent};
pub use health::Health;

/// A conversation and the readiness of its socket, which comes as an edge and is kept until it is used up.
pub struct Link<C: Conversation> {
    token: Token,
    conversation: C,
    readable: bool,
    writable: bool,
    /// Where reads go. What lies in `unread` of it was read and is not decoded yet.
    buffer: Box<[u8]>,
    unread: Range<usize>,
    /// How often the socket may still be read in this turn.
    reads_left: usize,
}

impl<C: Conversation> Link<C> {
    /// A link that is not connected. The index is the socket's name among those that we connect.
    pub fn new(index: u8, conversation: C) -> Link<C> {
        Link {
            token: Token::Upstream(index),
            conversation,
            readable: false,
            writable: false,
            buffer: vec![0; limits::READ_BYTES].into_boxed_slice(),
            unread: 0..0,
            reads_left: 0,
        }
    }

    /// The name of the socket.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The conversation.
    pub fn conversation(&self) -> &C {
        &self.conversation
    }

    /// The conversation, to be told or asked something.
    pub fn conversation_mut(&mut self) -> &mut C {
        &mut self.conversation
    }

    /// Whether bytes wait to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.conversation.unsent().is_empty()
    }

    /// Whether there may be something to be read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether nothing waits to be sent that could be: what must hold when the loop goes to sleep.
    pub fn is_settled(&self) -> bool {
        !self.has_unsent() || !self.writable
    }

    /// When the link must be served at the latest: at once if there may be bytes to read, and `may_read`.
    pub fn deadline(&self, may_read: bool) -> Option<Time> {
        match self.readable && may_read {
            true => Some(Time::ZERO),
            false => self.conversation.deadline(),
        }
    }

    /// The socket's state has changed.
    pub fn on_ready(&mut self, readable: bool, writable: bool) {
        // A late event of a socket that was given up says nothing about the next one.
        let dialer = self.conversation.dialer();
        if dialer.is_connected() || dialer.is_connecting() {
            self.readable |= readable;
            self.writable |= writable;
        }
    }

    /// The answer to a question for a name.
    pub fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.conversation.on_resolved(result, now);
    }

    /// Does everything but reading: what is due, what the conversation wishes, what is to be sent. The reads of a
    /// turn come behind it.
    pub fn serve<N: Net>(&mut self, net: &mut N, now: Time) {
        self.reads_left = self.conversation.reads_per_turn();
        self.conversation.on_time(now);
        self.apply_intents(net, now);
        self.connect(net, now);
        self.write(net, now);
        // What failed just now has more to say.
        self.apply_intents(net, now);
    }

    /// The next message of what was read; the socket is read for more only where that is wanted. What was read is
    /// to be taken to its end in the same turn.
    pub fn poll_message<N: Net>(
        &mut self,
        net: &mut N,
        may_read: bool,
        now: Time,
    ) -> Option<Message> {
        loop {
            let mut input = &self.buffer[self.unread.clone()];
            let message = self.conversation.next_message(&mut input, now);
            self.unread.start = self.unread.end - input.len();
            if message.is_some() {
                return message;
            }
            if !may_read || self.reads_left == 0 {
                return None;
            }
            self.reads_left -= 1;
            let len = self.read(net, now)?;
            self.unread = 0..len;
        }
    }

    /// Reads once; `None` when there is nothing (more) to be read for now.
    fn read<N: Net>(&mut self, net: &mut N, now: Time) -> Option<usize> {
        if !self.readable || !self.conversation.dialer().is_connected() {
            return None;
        }
        match net.read(self.token, &mut self.buffer) {
            Ok(0) => {
                self.readable = false;
                self.conversation.on_lost(None, now);
                None
            }
            Ok(len) => Some(len),
            Err(error) => {
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.conversation.on_lost(Some(error), now);
                }
                None
            }
        }
    }

    /// Finds out what became of a connection that was begun.
    fn connect<N: Net>(&mut self, net: &mut N, now: Time) {
        if !self.conversation.dialer().is_connecting() || !(self.writable || self.readable) {
            return;
        }
        match net.is_connected(self.token) {
            Ok(true) => self.conversation.on_connected(now),
            Ok(false) => self.forget_readiness(),
            Err(error) => self.conversation.on_lost(Some(error), now),
        }
    }

    fn write<N: Net>(&mut self, net: &mut N, now: Time) {
        while self.writable && !self.conversation.unsent().is_empty() {
            match net.write(self.token, self.conversation.unsent()) {
                Ok(len) => self.conversation.on_sent(len),
                Err(error) => {
                    self.writable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.conversation.on_lost(Some(error), now);
                    }
                }
            }
        }
    }

    fn apply_intents<N: Net>(&mut self, net: &mut N, now: Time) {
        while let Some(intent) = self.conversation.dialer_mut().poll_intent() {
            let peer = match intent {
                Intent::Log(level, line) => {
                    net.log(level, &line);
                    continue;
                }
                Intent::Disconnect => {
                    self.forget_readiness();
                    net.close(self.token);
                    continue;
                }
                Intent::Resolve(host, port) => {
                    net.resolve(self.token, &host, port);
                    continue;
                }
                Intent::Connect(Destination::Address(Transport::Tcp, address)) => Peer::Tcp {
                    address,
                    kernel_bytes_max: self.conversation.kernel_bytes_max(),
                },
                Intent::Connect(Destination::Address(Transport::Udp, address)) => {
                    Peer::Udp(address)
                }
                Intent::Connect(Destination::Path(path)) => Peer::Unix(path),
            };
            self.forget_readiness();
            if let Err(error) = net.connect(self.token, &peer) {
                self.conversation.on_lost(Some(error), now);
            }
        }
    }

    fn forget_readiness(&mut self) {
        self.unread = 0..0;
        self.readable = false;
        self.writable = false;
    }
}
