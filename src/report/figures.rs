//! Figures: what Graphite is told, and when. It owns the beat, the link to the daemon and the counters that were told
//! last; it must not know how a line looks, which `graphite` does.

use std::io;
use std::net::SocketAddr;

use super::carbon::Carbon;
use super::graphite;
use crate::broker::link::Link;
use crate::limits;
use crate::net::{Net, Token};
use crate::server::stats::{ChannelRow, Snapshot, bus};
use crate::time::Time;

/// The name of the socket, among those that we connect; Redis has those before.
const SOCKET: u8 = 2;

/// What Graphite is told.
pub struct Figures {
    link: Link<Carbon>,
    /// What stands before each name.
    root: String,
    due_at: Time,
    /// The counters that were told last.
    before: Option<bus::Counters>,
}

impl Figures {
    /// Figures whose names begin with `root`, over this conversation.
    pub fn new(carbon: Carbon, root: String) -> Figures {
        Figures {
            link: Link::new(SOCKET, carbon),
            root,
            due_at: Time::ZERO + limits::GRAPHITE_INTERVAL,
            before: None,
        }
    }

    /// Whether the socket is the daemon's.
    pub fn owns(&self, token: Token) -> bool {
        self.link.token() == token
    }

    /// The socket's state has changed.
    pub fn handle_ready(&mut self, readable: bool, writable: bool) {
        self.link.on_ready(readable, writable);
    }

    /// The answer to a question for the daemon's addresses.
    pub fn handle_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.link.on_resolved(result, now);
    }

    /// Reads, which shows whether the daemon is still there.
    pub fn receive<N: Net>(&mut self, net: &mut N, now: Time) {
        self.link.serve(net, now);
        while self.link.poll_message(net, true, now).is_some() {}
    }

    /// Whether a report is due.
    pub fn is_due(&self, now: Time) -> bool {
        self.due_at <= now
    }

    /// Takes the report that is due.
    pub fn report(&mut self, snapshot: &Snapshot<'_>, channels: &[ChannelRow<'_>], now: Time) {
        self.due_at = now.next_beat(limits::GRAPHITE_INTERVAL);
        let mut lines = Vec::new();
        graphite::encode(&mut lines, &self.root, snapshot, self.before.as_ref());
        graphite::encode_channels(&mut lines, &self.root, channels, snapshot.reported_at);
        self.before = Some(snapshot.bus.clone());
        self.link.conversation_mut().send(&lines, now);
    }

    /// Sends what there is to send.
    pub fn send<N: Net>(&mut self, net: &mut N, now: Time) {
        self.link.serve(net, now);
    }

    /// When a report is due, or the link must be served.
    pub fn deadline(&self) -> Option<Time> {
        let link = self.link.deadline();
        Some(link.map_or(self.due_at, |at| at.min(self.due_at)))
    }
}
