//! Links: each is a connection that we make, and the conversation over it. A link resolves a name, connects, backs off
//! after a failure and connects again. It carries bytes and intents between the socket and the conversation, and does not
//! know what the conversation is about.

mod conversation;
pub mod dialer;
mod names;

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use super::Message;
use crate::limits;
use crate::net::{Net, Peer, Token};
use crate::time::Time;
pub use conversation::{Conversation, Failure, Target, Transport};
use dialer::Intent;

/// A conversation and the readiness of its socket, which is edge-triggered and kept until a call returns `WouldBlock`.
pub struct Link<C: Conversation> {
    token: Token,
    conversation: C,
    readable: bool,
    writable: bool,
    /// Where reads go. The bytes in the range `unread` are not decoded yet.
    buffer: Box<[u8]>,
    unread: Range<usize>,
    /// The number of reads that are left in this turn.
    reads_left: usize,
}

impl<C: Conversation> Link<C> {
    /// A link that is not connected. The index of its socket is unique among our connections.
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

    /// The socket became ready.
    pub fn on_ready(&mut self, readable: bool, writable: bool) {
        // It may be a late event of a socket that was given up.
        if self.conversation.dialer().is_under_way() {
            self.readable |= readable;
            self.writable |= writable;
        }
    }

    /// The result of resolving the name.
    pub fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.conversation.on_resolved(result, now);
    }

    /// Does everything except reading: what is due, the intents of the conversation, and writes. It begins a turn, whose
    /// reads follow.
    pub fn serve<N: Net>(&mut self, net: &mut N, now: Time) {
        self.reads_left = self.conversation.reads_per_turn();
        // What has come is read before it is judged that nothing comes: we may have been suspended.
        if !self.readable {
            self.conversation.on_time(now);
        }
        self.apply_intents(net, now);
        self.connect(net, now);
        self.write(net, now);
        // A failed write leads to further intents.
        self.apply_intents(net, now);
    }

    /// The next message; more is read from the socket only if `may_read`. Poll until there is none in the same turn.
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

    /// The token of the socket.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The conversation.
    pub fn conversation(&self) -> &C {
        &self.conversation
    }

    /// The conversation.
    pub fn conversation_mut(&mut self) -> &mut C {
        &mut self.conversation
    }

    /// Whether bytes wait to be sent.
    pub fn has_unsent(&self) -> bool {
        !self.conversation.unsent().is_empty()
    }

    /// Whether there may be bytes to read.
    pub fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether nothing waits to be sent that could be sent.
    pub fn is_settled(&self) -> bool {
        !self.has_unsent() || !self.writable
    }

    /// When the link must be served at the latest: at once if there may be bytes to read, and `may_read`.
    pub fn deadline(&self, may_read: bool) -> Option<Time> {
        match self.readable {
            true => may_read.then_some(Time::ZERO),
            false => self.conversation.deadline(),
        }
    }

    /// Reads once; `None` if there is nothing to read.
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

    /// Checks whether a connection that is being established has succeeded or failed.
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
            match intent {
                Intent::Log(level, line) => net.log(level, &line),
                Intent::Resolve(host, port) => net.resolve(self.token, &host, port),
                Intent::Disconnect => {
                    self.forget_readiness();
                    net.close(self.token);
                }
                Intent::Connect(mut peer) => {
                    self.forget_readiness();
                    if let Peer::Tcp {
                        kernel_bytes_max, ..
                    } = &mut peer
                    {
                        *kernel_bytes_max = self.conversation.kernel_bytes_max();
                    }
                    if let Err(error) = net.connect(self.token, &peer) {
                        self.conversation.on_lost(Some(error), now);
                    }
                }
            }
        }
    }

    fn forget_readiness(&mut self) {
        self.unread = 0..0;
        self.readable = false;
        self.writable = false;
    }
}
