//! Carbon: the conversation with a Graphite daemon, which takes lines and says nothing. It owns what is dropped
//! when the daemon is away or slow; it must not know what the lines say.
//!
//! Figures are worth something while they are fresh: nothing is kept for a daemon that is away, and what one
//! has not taken of a report is dropped when the next one comes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::dialer::{Dialer, Due};
use super::{Conversation, Target, Transport};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

/// The conversation with one daemon.
pub struct Carbon {
    target: Target,
    dialer: Dialer,
    /// Whole lines, but for the first, of which a part may have been sent.
    outgoing: Vec<u8>,
    /// Whether the other side has a part of the first line.
    within_line: bool,
    /// Attempts that failed since a report was last sent whole.
    failures: u32,
    /// When the name is resolved again, because nobody says that a receiver of datagrams has moved.
    renew_at: Time,
    /// Whether the daemon has ever been reached.
    was_reached: bool,
}

impl Carbon {
    /// A conversation that begins at once.
    pub fn new(target: Target, seed: u64) -> Carbon {
        Carbon {
            target,
            dialer: Dialer::new(seed),
            outgoing: Vec::new(),
            within_line: false,
            failures: 0,
            renew_at: Time::ZERO,
            was_reached: false,
        }
    }

    /// Sends a report of whole lines, and drops what is left of the one before.
    pub fn send(&mut self, report: &[u8]) {
        if !self.dialer.is_connected() {
            return;
        }
        if self.outgoing.is_empty() {
            self.failures = 0;
        }
        let kept = if self.within_line {
            let end = self.outgoing.iter().position(|&byte| byte == b'\n');
            end.map_or(0, |end| end + 1)
        } else {
            0
        };
        self.outgoing.truncate(kept);
        self.outgoing.extend_from_slice(report);
    }

    /// Says once for each time that it begins that nobody takes our figures.
    fn fail(&mut self, error: &io::Error, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.dialer.pause_after(self.failures);
        if self.failures == 1 {
            let target = &self.target;
            let line = format!("graphite: {target}: {error}; figures are dropped until it is back");
            self.dialer.log(Level::Warn, line);
        }
        self.outgoing.clear();
        self.dialer.hang_up(pause, now);
    }
}

impl Conversation for Carbon {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn deadline(&self) -> Option<Time> {
        let is_udp = self.target.transport == Transport::Udp;
        self.dialer.deadline().or(is_udp.then_some(self.renew_at))
    }

    fn on_time(&mut self, now: Time) {
        match self.dialer.due(now) {
            Some(Due::Dial) => self.dialer.dial(&self.target, now),
            Some(Due::Resolving) => self.fail(&io::ErrorKind::TimedOut.into(), now),
            Some(Due::Connecting) => self.on_lost(Some(io::ErrorKind::TimedOut.into()), now),
            None if self.deadline().is_some_and(|at| at <= now) => {
                self.dialer.hang_up(Duration::ZERO, now);
            }
            None => {}
        }
    }

    fn kernel_bytes_max(&self) -> Option<usize> {
        Some(limits::GRAPHITE_KERNEL_BYTES_MAX)
    }

    fn unsent(&self) -> &[u8] {
        let bytes = match self.target.transport {
            _ if !self.dialer.is_connected() => return &[],
            Transport::Tcp => return &self.outgoing,
            Transport::Udp => &self.outgoing,
        };
        let fits = &bytes[..bytes.len().min(limits::DATAGRAM_BYTES_MAX)];
        let end = fits.iter().rposition(|&byte| byte == b'\n');
        &bytes[..end.map_or(fits.len(), |end| end + 1)]
    }

    fn on_sent(&mut self, len: usize) {
        self.within_line = len > 0 && self.outgoing.get(len - 1) != Some(&b'\n');
        self.outgoing.drain(..len);
    }

    fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if let Err(error) = self.dialer.on_resolved(result, now) {
            self.fail(&error, now);
        }
    }

    fn on_connected(&mut self, now: Time) {
        self.dialer.on_connected();
        self.outgoing.clear();
        self.within_line = false;
        self.renew_at = now + limits::DATAGRAM_TARGET_AGE_MAX;
        let is_news = !self.was_reached || self.failures > 0;
        if is_news && self.target.transport == Transport::Tcp {
            let line = format!("graphite: connected to {}", self.target);
            self.dialer.log(Level::Info, line);
        }
        self.was_reached = true;
    }

    fn on_lost(&mut self, error: Option<io::Error>, now: Time) {
        let is_under_way = self.dialer.is_connecting() || self.dialer.is_connected();
        if is_under_way && !self.dialer.try_next_address(now) {
            let ended = || io::Error::other("the connection was closed by the server");
            self.fail(&error.unwrap_or_else(ended), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dialer::Intent;
    use super::*;

    fn connected(transport: Transport) -> Carbon {
        let target = Target {
            transport,
            host: "carbon".to_owned(),
            port: 2003,
        };
        let mut carbon = Carbon::new(target, 1);
        carbon.on_time(Time::ZERO);
        let address = SocketAddr::from(([127, 0, 0, 1], 2003));
        carbon.on_resolved(Ok(vec![address]), Time::ZERO);
        carbon.on_connected(Time::ZERO);
        let intents: Vec<Intent> =
            std::iter::from_fn(|| carbon.dialer_mut().poll_intent()).collect();
        assert_eq!(intents[0], Intent::Resolve("carbon".to_owned(), 2003));
        assert_eq!(intents[1], Intent::Connect(transport, address));
        carbon
    }

    #[test]
    fn a_new_report_takes_the_place_of_the_old_one_but_for_a_line_begun() {
        let mut carbon = connected(Transport::Tcp);
        carbon.send(b"a 1 1\nb 1 1\nc 1 1\n");
        carbon.on_sent(8);
        carbon.send(b"a 2 2\n");
        assert_eq!(carbon.unsent(), b"1 1\na 2 2\n".as_slice());
        carbon.on_sent(4);
        carbon.send(b"a 3 3\n");
        assert_eq!(carbon.unsent(), b"a 3 3\n".as_slice());
    }

    #[test]
    fn a_datagram_holds_whole_lines() {
        let mut carbon = connected(Transport::Udp);
        let line = format!("{} 1 1\n", "a".repeat(400));
        carbon.send(line.repeat(7).as_bytes());
        let mut datagrams = Vec::new();
        while !carbon.unsent().is_empty() {
            datagrams.push(carbon.unsent().len() / line.len());
            assert_eq!(carbon.unsent().len() % line.len(), 0);
            carbon.on_sent(carbon.unsent().len());
        }
        assert_eq!(datagrams, [3, 3, 1]);
    }

    #[test]
    fn nothing_is_kept_for_a_daemon_that_is_away() {
        let mut carbon = connected(Transport::Tcp);
        carbon.send(b"a 1 1\n");
        let now = Time::from_micros(1_000);
        carbon.on_lost(None, now);
        assert!(carbon.unsent().is_empty());
        carbon.send(b"a 2 2\n");
        carbon.on_time(now + Duration::from_secs(1));
        let address = SocketAddr::from(([127, 0, 0, 1], 2003));
        carbon.on_resolved(Ok(vec![address]), now);
        carbon.on_connected(now);
        assert!(carbon.unsent().is_empty());
        carbon.send(b"a 3 3\n");
        assert_eq!(carbon.unsent(), b"a 3 3\n".as_slice());
    }
}
