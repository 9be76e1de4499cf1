//! Server: every decision about clients and messages. It joins connections, which know no streams, with the bus, which
//! knows no connections: it is told what happened (`handle_…`) and asked what to do (`poll_…`), and makes no system call.
//!
//! Its parts own their fields and return decisions. `streams` joins connections and subscribers; `route`, `topics` and
//! `about` interpret a request; `access` decides who may see the private documents; `sockets`, `admission`, `cleanup`
//! and `endings` decide who may connect or have a stream, and when it ends; `submissions` and `demand` are about channels;
//! `messages` tells where on the bus a message belongs. Beside the server, the reactor owns [`Doors`], [`Publications`],
//! [`Reports`], [`Shutdown`] and [`Supervision`].
//!
//! A turn goes: [`Server::start_turn`], the events, [`Server::handle_time`], then [`Server::poll_read`],
//! [`Server::poll_effect`], [`Server::poll_write`] and again [`Server::poll_effect`], each until it has nothing left, and
//! [`Server::end_turn`].

mod about;
mod access;
mod admission;
mod cleanup;
mod core;
mod demand;
mod doors;
mod endings;
mod messages;
mod publications;
mod rate;
mod reports;
mod route;
mod rows;
pub mod settings;
mod shutdown;
mod sockets;
mod sources;
pub mod stats;
mod streams;
mod submissions;
mod supervision;
mod topics;
mod waiters;
mod warnings;

#[cfg(test)]
mod tests;

pub use self::core::Server;
pub use cleanup::CLEANUP_CHANNEL;
pub use doors::Doors;
pub use messages::{KIOSK_CHANNEL_PREFIX, SCORE_CHANNEL, TWEET_CHANNEL_PREFIX, is_own_channel};
pub use publications::{Outcome, Publications};
pub use reports::{Desk, Reports};
pub use route::Document;
pub use settings::Settings;
pub use shutdown::Shutdown;
pub use stats::Snapshot;
pub use submissions::published;
pub use supervision::Supervision;

use crate::http::publication::Publication;
use crate::http::{self, Key};
use crate::level::Level;

/// What the server wants done besides reads and writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Close or shut down a socket.
    Socket(http::Action),
    /// Publish this. The result goes to `complete_request` of the connection.
    Publish(Key, Publication),
    /// Render a document. The result goes to `complete_request` of the connection.
    Render(Key, Document),
    /// Begin or stop listening to a channel, or to all that match a pattern.
    Listen {
        /// The channel or the pattern.
        name: Box<[u8]>,
        /// Whether it is a pattern.
        is_pattern: bool,
        /// Whether to begin or to stop.
        is_wanted: bool,
    },
    /// Send this to the other copies of the server, on this channel.
    TellCopies(&'static str, Vec<u8>),
    /// Write a line to the log.
    Log(Level, String),
}

/// Bytes to be handed to the kernel.
#[derive(Debug)]
pub struct Write<'a> {
    /// The connection.
    pub key: Key,
    /// Never empty.
    pub bytes: &'a [u8],
}
