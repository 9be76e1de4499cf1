//! Links: one socket to a broker each, with the session that speaks over it. It owns carrying bytes and
//! wishes between the two; it must not know what a session is about.

use std::io;
use std::net::SocketAddr;

use crate::net::{Net, Peer, Token};
use crate::source::redis::{Intent, Session};
use crate::time::Time;

/// A session and the readiness of its socket, which comes as an edge and is kept until it is used up.
pub struct Link {
    token: Token,
    session: Session,
    readable: bool,
    writable: bool,
}

impl Link {
    /// A link that is not connected. The index is the socket's name among those that we connect.
    pub fn new(index: u8, session: Session) -> Link {
        Link {
            token: Token::Upstream(index),
            session,
            readable: false,
            writable: false,
        }
    }

    /// The name of the socket.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to be told or asked something.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// When the link must be served, whatever happens before; at once where bytes may be waiting.
    pub fn deadline(&self) -> Option<Time> {
        if self.readable {
            Some(Time::ZERO)
        } else {
            self.session.deadline()
        }
    }

    /// The socket's state has changed.
    pub fn on_ready(&mut self, readable: bool, writable: bool) {
        // A late event of a socket that was given up says nothing about the next one.
        if self.session.is_connected() || self.session.is_connecting() {
            self.readable |= readable;
            self.writable |= writable;
        }
    }

    /// The answer to a question for a name.
    pub fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.session.on_resolved(result, now);
    }

    /// Does everything but reading: what is due, what the session wishes, what is to be sent.
    pub fn serve<N: Net>(&mut self, net: &mut N, now: Time) {
        self.session.on_time(now);
        self.apply_intents(net, now);
        self.connect(net, now);
        self.write(net, now);
        // What failed just now has more to say.
        self.apply_intents(net, now);
    }

    /// Reads once into `buffer`; `None` when there is nothing (more) to be read for now.
    pub fn read<N: Net>(&mut self, net: &mut N, buffer: &mut [u8], now: Time) -> Option<usize> {
        if !self.readable || !self.session.is_connected() {
            return None;
        }
        match net.read(self.token, buffer) {
            Ok(0) => {
                self.readable = false;
                self.session.on_lost(None, now);
                None
            }
            Ok(len) => Some(len),
            Err(error) => {
                self.readable = false;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.session.on_lost(Some(error), now);
                }
                None
            }
        }
    }

    /// Finds out what became of a connection that was begun.
    fn connect<N: Net>(&mut self, net: &mut N, now: Time) {
        if !self.session.is_connecting() || !(self.writable || self.readable) {
            return;
        }
        match net.is_connected(self.token) {
            Ok(true) => self.session.on_connected(now),
            Ok(false) => self.forget_readiness(),
            Err(error) => self.session.on_lost(Some(error), now),
        }
    }

    fn write<N: Net>(&mut self, net: &mut N, now: Time) {
        while self.writable && !self.session.unsent().is_empty() {
            match net.write(self.token, self.session.unsent()) {
                Ok(len) => self.session.on_sent(len),
                Err(error) => {
                    self.writable = false;
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.session.on_lost(Some(error), now);
                    }
                }
            }
        }
    }

    fn apply_intents<N: Net>(&mut self, net: &mut N, now: Time) {
        while let Some(intent) = self.session.poll_intent() {
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
                Intent::ConnectTcp(address) => Peer::Tcp(address),
                Intent::ConnectUnix(path) => Peer::Unix(path),
            };
            self.forget_readiness();
            if let Err(error) = net.connect(self.token, &peer) {
                self.session.on_lost(Some(error), now);
            }
        }
    }

    fn forget_readiness(&mut self) {
        self.readable = false;
        self.writable = false;
    }
}
