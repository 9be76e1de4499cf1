//! What a table of connections says to its owner: events to be answered, and actions on sockets.

use super::CloseReason;
use super::head::Request;

/// A connection's name: its place in the table, and which of the place's successive holders it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// The holder; the table counts through all connections, so a name comes again after 2³² of them.
    pub generation: u32,
}

/// Something that the owner has to decide about or take note of.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A whole request head. The connection is rendering until a command says how the request is answered, or
    /// what is to be done with its body.
    Request(Key, Box<Request>),
    /// The body of this request is whole; it is empty where it was not to be kept. The connection is rendering
    /// until a command says how the request is answered.
    Body(Key, Box<Request>, Vec<u8>),
    /// The client of a stream or a long poll has sent its last byte. It may still read. Sending something finds
    /// out: where nobody is left, a reset comes back.
    PeerEnded(Key),
    /// Nothing was sent on this stream for the keepalive.
    Silent(Key),
    /// A long poll has waited for the keepalive.
    PollTimedOut(Key),
    /// The lifetime of this stream or long poll is over.
    LifetimeOver(Key),
    /// The connection has ended, whoever ended it; said once of each connection.
    Closed(Key, CloseReason),
}

/// What is to be done with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Close it; the key is not used again.
    Close(Key),
    /// Send our end, and keep reading.
    ShutdownWrite(Key),
}
