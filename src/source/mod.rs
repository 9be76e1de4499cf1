//! Sources: sessions with what feeds us. Each is a state machine over bytes and time; none may make a
//! system call or know of subscribers.

pub mod demo;
mod endpoint;
pub mod redis;

pub use endpoint::{Address, Endpoint};

/// What a broker sends: an address and a payload, both as raw bytes, because a broker checks neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The broker's address, such as `stream.score_updates`.
    pub channel: Vec<u8>,
    /// The payload, verbatim.
    pub payload: Vec<u8>,
}
