//! What a table of connections tells its owner: events that need a decision, and actions on sockets.

use std::net::IpAddr;

use super::CloseReason;
use super::head::Request;

/// Identifies a connection: its place in the table, and which of the place's successive holders it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// The holder. The table counts through all connections, so a key is reused after 2³² of them.
    pub generation: u32,
}

impl Key {
    /// The first in order.
    pub const FIRST: Key = Key {
        index: 0,
        generation: 0,
    };
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The address of its other end, which may be a proxy's.
    pub peer_ip: IpAddr,
    /// Whether it came through the admin's door.
    pub is_admin: bool,
}

impl Origin {
    /// That of a connection from this address.
    pub fn new(peer_ip: impl Into<IpAddr>, is_admin: bool) -> Origin {
        Origin {
            peer_ip: peer_ip.into(),
            is_admin,
        }
    }
}

/// Something that the owner has to decide or to know.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A complete request head. The connection waits for a command that says how to answer it, or what to do with its
    /// body.
    Request(Key, Box<Request>),
    /// The body of this request is complete; it is empty if it was discarded. The connection waits for the answer.
    Body(Key, Box<Request>, Vec<u8>),
    /// The client of a stream or a long poll has sent its last byte, but may still read. If it does not, sending
    /// something brings back a reset.
    PeerEnded(Key),
    /// Nothing was sent on this stream for the keepalive interval.
    Silent(Key),
    /// A long poll has waited for the keepalive interval.
    PollTimedOut(Key),
    /// The lifetime of this stream or long poll is over.
    LifetimeOver(Key),
    /// A stream has ended, and its connection waits for the next request, which may be there already.
    StreamEnded(Key, CloseReason),
    /// The connection has ended. There is one such event for each connection.
    Closed(Key, CloseReason),
}

/// What to do with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Close it; the key is not used again.
    Close(Key),
    /// Shut down our side, and keep reading.
    ShutdownWrite(Key),
}
