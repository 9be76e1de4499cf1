//! A pipe: the kernel's side of one simulated connection.

use std::collections::VecDeque;

use emojitrack_streamer::net::Token;

/// Bytes under way in one direction.
#[derive(Default)]
pub struct Direction {
    pub bytes: VecDeque<u8>,
    /// The sender has sent its last byte.
    pub ended: bool,
    /// Bytes that the receiver has taken.
    pub taken: u64,
}

/// A connection between the server (which calls `Net`) and somebody simulated, its peer.
#[derive(Default)]
pub struct Pipe {
    pub to_server: Direction,
    pub to_peer: Direction,
    /// Bytes that fit on the way to the peer: send buffer, network and receive buffer together.
    pub room: usize,
    /// The kernel takes any write whole as long as there is some room, so that writes fail between
    /// frames; else it takes what fits, and they fail within one.
    pub takes_whole: bool,
    /// The peer is gone in both directions: what is written to it comes back as a reset.
    pub peer_gone: bool,
    /// A reset has arrived at the server.
    pub reset: bool,
    /// The kernel gave the peer up.
    pub timed_out: bool,
    /// What is sent does not arrive, in either direction, and nobody is told.
    pub is_cut: bool,
    /// The server has closed its socket.
    pub server_closed: bool,
    /// A write found no room: room is worth an event.
    pub starved: bool,
    /// A read found nothing, and nothing has come since.
    pub drained: bool,
    pub token: Option<Token>,
    pub readable_edge: bool,
    /// The server does not want to know that there is something to be read.
    pub muted: bool,
    pub writable_edge: bool,
    pub hangup_edge: bool,
}

impl Pipe {
    /// Whether what there is to be read is not reported. Ends and resets always are.
    pub fn is_silent(&self) -> bool {
        self.muted && !self.to_server.ended && !self.reset
    }
}
