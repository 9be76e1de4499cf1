//! The preference for the first server of the list: while a session is live at another one, the first is tried over a
//! connection of its own, until it answers. Then the session moves there. It does not touch the session.

use std::io;
use std::net::SocketAddr;

use super::session::Session;
use crate::broker::link::{Conversation, Link};
use crate::limits;
use crate::net::{Net, Token};
use crate::time::Time;

/// The index of its socket among our connections.
const SOCKET: u8 = 4;

/// The attempts to reach the first server.
#[derive(Default)]
pub(super) struct Preference {
    attempt: Option<Link<Session>>,
    /// While the session is live at another server: when the next attempt begins.
    next_at: Option<Time>,
}

impl Preference {
    pub(super) fn handle_ready(&mut self, readable: bool, writable: bool) {
        if let Some(link) = &mut self.attempt {
            link.on_ready(readable, writable);
        }
    }

    pub(super) fn handle_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if let Some(link) = &mut self.attempt {
            link.on_resolved(result, now);
        }
    }

    /// Does what is due. Returns whether the session should move to the first server now.
    pub(super) fn serve<N: Net>(&mut self, session: &Session, net: &mut N, now: Time) -> bool {
        if !session.is_live() || session.is_at_first_server() {
            self.end_attempt(net);
            self.next_at = None;
            return false;
        }
        let interval = limits::FIRST_SERVER_INTERVAL;
        let next_at = *self.next_at.get_or_insert(now + interval);
        if self.attempt.is_none() && now < next_at {
            return false;
        }
        let attempt = || Link::new(SOCKET, session.attempt_at_first_server());
        let link = self.attempt.get_or_insert_with(attempt);
        link.serve(net, now);
        while link.poll_message(net, true, now).is_some() {}
        let is_there = link.conversation().is_live();
        if is_there || link.conversation().dialer().is_pausing() {
            self.end_attempt(net);
            self.next_at = Some(now + interval);
        }
        is_there
    }

    pub(super) fn token(&self) -> Token {
        Token::Upstream(SOCKET)
    }

    /// When it must be served at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.attempt {
            Some(link) => link.deadline(true),
            None => self.next_at,
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.attempt.as_ref().is_none_or(Link::is_settled)
    }

    fn end_attempt<N: Net>(&mut self, net: &mut N) {
        if self.attempt.take().is_some() {
            net.close(self.token());
        }
    }
}
