//! Figures: reports to Graphite. It owns their interval, the link to the daemon and the counters of the last report; it
//! must not know the format, which `graphite` does.

use std::io;
use std::net::SocketAddr;

use super::carbon::Carbon;
use super::graphite;
use crate::broker::link::Link;
use crate::limits;
use crate::net::{Net, Token};
use crate::server::stats::{ChannelRow, Snapshot, bus};
use crate::time::Time;

/// The index of the socket among outgoing connections; Redis uses the lower ones.
const SOCKET: u8 = 2;

/// The reports to Graphite.
pub struct Figures {
    link: Link<Carbon>,
    /// The prefix of each metric's path.
    root: String,
    due_at: Time,
    /// The counters of the last report.
    before: Option<bus::Counters>,
}

impl Figures {
    /// Reports over this conversation; all paths begin with `root`.
    pub fn new(carbon: Carbon, root: String) -> Figures {
        Figures {
            link: Link::new(SOCKET, carbon),
            root,
            due_at: Time::ZERO + limits::GRAPHITE_INTERVAL,
            before: None,
        }
    }

    /// Whether it is the socket of the daemon.
    pub fn owns(&self, token: Token) -> bool {
        self.link.token() == token
    }

    /// The socket has become ready.
    pub fn handle_ready(&mut self, readable: bool, writable: bool) {
        self.link.on_ready(readable, writable);
    }

    /// The daemon's name was resolved.
    pub fn handle_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        self.link.on_resolved(result, now);
    }

    /// Reads, to notice when the daemon closes the connection.
    pub fn receive<N: Net>(&mut self, net: &mut N, now: Time) {
        self.link.serve(net, now);
        while self.link.poll_message(net, true, now).is_some() {}
    }

    /// Whether a report is due.
    pub fn is_due(&self, now: Time) -> bool {
        self.due_at <= now
    }

    /// Queues the report that is due.
    pub fn report(&mut self, snapshot: &Snapshot<'_>, channels: &[ChannelRow<'_>], now: Time) {
        self.due_at = now.next_beat(limits::GRAPHITE_INTERVAL);
        let mut lines = Vec::new();
        graphite::encode(&mut lines, &self.root, snapshot, self.before.as_ref());
        graphite::encode_channels(&mut lines, &self.root, channels, snapshot.reported_at);
        self.before = Some(snapshot.bus.clone());
        self.link.conversation_mut().send(&lines, now);
    }

    /// Sends what is queued.
    pub fn send<N: Net>(&mut self, net: &mut N, now: Time) {
        self.link.serve(net, now);
    }

    /// When a report is due or the link needs a call.
    pub fn deadline(&self) -> Option<Time> {
        let link = self.link.deadline(true);
        Some(link.map_or(self.due_at, |at| at.min(self.due_at)))
    }
}
