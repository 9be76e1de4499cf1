//! Stats: counters, and the plain data that reports are made from. It owns what they mean; it must not format anything.

use std::net::IpAddr;
use std::time::Duration;

pub use super::messages::Drop;
pub use crate::broker::State as SourceState;
pub use crate::bus::{self, Histogram, LogState, Stream};
pub use crate::http::CloseReason;
pub use crate::net::Process;
use crate::time::Time;

/// The time of the turn, and of the start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time of the turn.
    pub now: Time,
    /// The time of the turn by the wall clock, in Unix seconds.
    pub unix_seconds: u64,
    /// The start of the process.
    pub started_at: Time,
    /// When the process started, in Unix seconds.
    pub startup_time: u64,
}

impl Clock {
    /// The clock of a process that starts now.
    pub fn new(now: Time, unix_seconds: u64) -> Clock {
        Clock {
            now,
            unix_seconds,
            started_at: now,
            startup_time: unix_seconds,
        }
    }
}

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Connections accepted.
    pub accepted: u64,
    /// Subscriptions begun.
    pub subscribed: u64,
    /// Subscriptions refused because there was no room.
    pub shed: u64,
    /// Clients that came back with a valid position.
    pub replayed: u64,
    /// Clients that came back with an invalid position.
    pub replay_refused: u64,
    /// Streams ended, with their connections or not, and connections without one, by reason.
    pub closes: [u64; CloseReason::ALL.len()],
    /// Messages from the broker.
    pub messages_in: u64,
    /// Messages dropped, in the order of [`Drop`].
    pub dropped: [u64; Drop::COUNT],
    /// Publications accepted from clients.
    pub published: u64,
    /// Requests with a wrong secret, and those refused unread after too many of them.
    pub auth_failures: u64,
    /// Events written, summed over clients.
    pub events_out: u64,
    /// Bytes written.
    pub bytes_out: u64,
}

impl Counters {
    /// Counts a message that was dropped.
    pub fn handle_drop(&mut self, drop: Drop) {
        self.dropped[drop as usize] += 1;
    }

    /// Counts a subscription, by where it begins.
    pub fn handle_start(&mut self, start: bus::Start) {
        self.subscribed += 1;
        match start {
            bus::Start::Now => {}
            bus::Start::Missed | bus::Start::Caught => self.replayed += 1,
            bus::Start::Gap => self.replay_refused += 1,
        }
    }
}

/// The current state, for reports.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// The name of this process.
    pub node: &'a str,
    /// The time, in Unix seconds.
    pub reported_at: u64,
    /// The start of the process, in Unix seconds.
    pub startup_time: u64,
    /// How long the process has been running.
    pub uptime: Duration,
    /// Totals since the start.
    pub counters: &'a Counters,
    /// Totals of the bus.
    pub bus: &'a bus::Counters,
    /// How many connections are open, including those without a stream.
    pub sockets: usize,
    /// How many subscribers each stream has, in the order of [`Stream::ALL`].
    pub streams: [usize; Stream::ALL.len()],
    /// How many channels the source listens to.
    pub channels: usize,
    /// What the message log holds.
    pub log: LogState,
    /// The state of the source.
    pub source: SourceState<'a>,
    /// The state of a second broker that has the channels, if there is one.
    pub exchange: Option<SourceState<'a>>,
    /// What the operating system reports about this process.
    pub process: Process,
    /// How many subscribers there are.
    pub connections_total: usize,
    /// Subscribers, oldest first; perhaps not all of them.
    pub connections: Vec<ConnectionRow<'a>>,
}

/// One subscriber.
#[derive(Clone, Debug)]
pub struct ConnectionRow<'a> {
    /// The path of the request.
    pub request_path: &'a str,
    /// The ID of a detail stream.
    pub tag: Option<&'a str>,
    /// When it subscribed, in Unix seconds.
    pub created_at: u64,
    /// How long it has been subscribed, in seconds.
    pub age: u64,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The client's `User-Agent`.
    pub user_agent: &'a str,
    /// Events sent.
    pub msgs_sent: u64,
    /// Events that it has not accepted yet; on `eps`, the one that sums up what it lacks. One for several of its channels
    /// counts for each.
    pub behind: u64,
}

/// One channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelRow<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many connections receive it.
    pub subscribers: usize,
}
