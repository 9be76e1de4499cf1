//! The desk: what reports are made from at one moment. It owns nothing.

use super::{Server, Snapshot};
use crate::broker::Brokers;
use crate::net::Net;
use crate::time::Time;

/// Those who know what is reported.
pub struct Desk<'a, N: Net> {
    /// The network, for the clock on the wall and for what the system says of the process.
    pub net: &'a N,
    /// The server.
    pub server: &'a Server,
    /// The brokers.
    pub brokers: &'a mut Brokers<N>,
    /// The moment.
    pub now: Time,
}

impl<N: Net> Desk<'_, N> {
    /// The state, with the oldest `rows_max` subscribers.
    pub fn snapshot(&self, rows_max: usize) -> Snapshot<'_> {
        let (source, channels) = self.brokers.states(self.now);
        let process = self.net.process();
        self.server.snapshot(rows_max, source, channels, process)
    }
}
