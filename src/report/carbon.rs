//! Carbon: reports to a Graphite daemon, which reads lines and never answers. It owns when they are sent, and what is
//! dropped while the daemon is away or slow; it must not know their format, which `graphite` does.
//!
//! Old figures are useless: nothing is kept for a daemon that is away, and the unsent rest of a report is dropped when
//! the next one is due.
//!
//! A report counts as delivered if it was sent completely and the connection is still up when the next one is due. A
//! connection alone proves nothing: it may end at a proxy without a daemon, and a UDP socket is always connected.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::graphite;
use crate::broker::Message;
use crate::broker::link::dialer::Dialer;
use crate::broker::link::{Conversation, Failure, Link, Target, Transport};
use crate::level::Level;
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
    /// Reports to this daemon; all paths begin with `root`.
    pub fn new(target: Target, root: String, seed: u64) -> Figures {
        Figures {
            link: Link::new(SOCKET, Carbon::new(target, seed)),
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

/// The conversation with one daemon.
struct Carbon {
    target: Target,
    dialer: Dialer,
    /// Complete lines, except that part of the first may already have been sent.
    outgoing: Vec<u8>,
    /// Whether part of the first line has been sent.
    within_line: bool,
    /// When the last report was queued on this connection, if any.
    reported_at: Option<Time>,
    /// Failed attempts since the last delivered report.
    failures: u32,
    /// Since when the daemon is away, if that was logged.
    away_since: Option<Time>,
    /// Whether a report was ever delivered.
    was_reached: bool,
    /// When to resolve the name again: over UDP we would not notice that its address has changed.
    renew_at: Option<Time>,
}

impl Carbon {
    /// A conversation that connects at once.
    fn new(target: Target, seed: u64) -> Carbon {
        Carbon {
            target,
            dialer: Dialer::new(seed),
            outgoing: Vec::new(),
            within_line: false,
            reported_at: None,
            failures: 0,
            away_since: None,
            was_reached: false,
            renew_at: None,
        }
    }

    /// Queues a report of complete lines, and drops the unsent rest of the one before.
    fn send(&mut self, report: &[u8], now: Time) {
        if !self.dialer.is_connected() {
            return;
        }
        let before = self.reported_at.replace(now);
        if self.outgoing.is_empty()
            && let Some(at) = before
        {
            self.on_taken(at);
        }
        match self.outgoing.iter().position(|&byte| byte == b'\n') {
            Some(end) if self.within_line => self.outgoing.truncate(end + 1),
            _ => self.outgoing.clear(),
        }
        self.outgoing.extend_from_slice(report);
    }

    /// The report queued at that moment was delivered; logged if it is the first, or the first after an outage.
    fn on_taken(&mut self, at: Time) {
        self.failures = 0;
        self.dialer.prefer_address();
        let (target, away_since) = (&self.target, self.away_since.take());
        if !self.was_reached {
            let line = format!("graphite: sending to {target}");
            self.dialer.log(Level::Info, line);
        } else if let Some(since) = away_since {
            let seconds = at.since(since).as_secs_f64();
            let line = format!("graphite: {target} is back after {seconds:.0} s");
            self.dialer.log(Level::Info, line);
        }
        self.was_reached = true;
    }
}

impl Conversation for Carbon {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn dial(&mut self, now: Time) {
        self.dialer.dial(&self.target, now);
    }

    /// Logs the failure once per outage.
    fn fail(&mut self, failure: Failure, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.dialer.pause_after(self.failures, limits::BACKOFF_MAX);
        if self.away_since.is_none() {
            self.away_since = Some(now);
            let target = &self.target;
            let line = format!("graphite: {target}: {failure}; dropping metrics until it is back");
            self.dialer.log(Level::Warn, line);
        }
        self.outgoing.clear();
        self.dialer.hang_up(pause, now);
    }

    fn begin(&mut self, now: Time) {
        self.outgoing.clear();
        self.within_line = false;
        self.reported_at = None;
        let is_name = self.target.host.parse::<IpAddr>().is_err();
        let may_move = self.target.transport == Transport::Udp && is_name;
        self.renew_at = may_move.then(|| now + limits::DATAGRAM_TARGET_AGE_MAX);
    }

    /// The daemon never answers, but we read to notice its end: the last report may then not have been delivered.
    fn next_message(&mut self, input: &mut &[u8], _now: Time) -> Option<Message> {
        *input = &[];
        None
    }

    /// If the other side does send data, it is no Carbon, and must not take up the turn.
    fn reads_per_turn(&self) -> usize {
        1
    }

    /// When to resolve the name again: not before the report is sent, because reconnecting would drop the rest of it.
    fn talk_deadline(&self) -> Option<Time> {
        self.renew_at.filter(|_| self.outgoing.is_empty())
    }

    fn on_talk_time(&mut self, now: Time) {
        self.dialer.hang_up(Duration::ZERO, now);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::link::dialer::Intent;
    use crate::net::Peer;

    const BEAT: Duration = limits::GRAPHITE_INTERVAL;

    /// What happens to a report.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        /// It is sent completely.
        Sent,
        /// Part of it is sent.
        SentInPart,
        /// It is sent completely, and the connection is closed before the next interval.
        Closed,
        /// Its first datagram is refused by the other host.
        Refused,
    }

    /// A conversation with a host that has several addresses, on a simulated clock.
    struct World {
        carbon: Carbon,
        addresses: Vec<SocketAddr>,
        now: Time,
        /// The addresses it connected to, and the lines it logged.
        connects: Vec<SocketAddr>,
        lines: Vec<String>,
    }

    impl World {
        fn new(transport: Transport, host: &str, addresses: u8) -> World {
            let target = Target {
                transport,
                host: host.to_owned(),
                port: 2003,
            };
            let mut world = World {
                carbon: Carbon::new(target, 1),
                addresses: (1..=addresses).map(address).collect(),
                now: Time::ZERO,
                connects: Vec::new(),
                lines: Vec::new(),
            };
            world.settle();
            world
        }

        /// Carries out all its intents.
        fn settle(&mut self) {
            while let Some(intent) = self.carbon.dialer_mut().poll_intent() {
                self.grant(intent);
            }
            self.carbon.on_time(self.now);
            while let Some(intent) = self.carbon.dialer_mut().poll_intent() {
                self.grant(intent);
            }
        }

        fn grant(&mut self, intent: Intent) {
            match intent {
                Intent::Resolve(..) => {
                    self.carbon
                        .on_resolved(Ok(self.addresses.clone()), self.now);
                }
                Intent::Connect(Peer::Tcp { address, .. } | Peer::Udp(address)) => {
                    self.connects.push(address);
                    self.carbon.on_connected(self.now);
                }
                Intent::Log(_, line) => self.lines.push(line),
                Intent::Connect(Peer::Unix(_)) | Intent::Disconnect => {}
            }
        }

        fn beat(&mut self, fate: Fate) {
            self.now = self.now + BEAT;
            self.settle();
            self.carbon.send(b"a 1 1\nb 1 1\n", self.now);
            match fate {
                Fate::Sent | Fate::Closed => self.carbon.on_sent(self.carbon.unsent().len()),
                Fate::SentInPart => self.carbon.on_sent(8),
                Fate::Refused => {
                    self.carbon.on_sent(6);
                    let refused = io::ErrorKind::ConnectionRefused.into();
                    self.carbon.on_lost(Some(refused), self.now);
                }
            }
            self.settle();
            if let Fate::Closed = fate {
                self.carbon
                    .on_lost(None, self.now + Duration::from_millis(1));
                self.settle();
            }
        }
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 2003))
    }

    #[test]
    fn a_new_report_replaces_the_old_one_except_for_a_partly_sent_line() {
        let mut carbon = World::new(Transport::Tcp, "carbon", 1).carbon;
        carbon.send(b"a 1 1\nb 1 1\nc 1 1\n", Time::ZERO);
        carbon.on_sent(8);
        carbon.send(b"a 2 2\n", Time::ZERO);
        assert_eq!(carbon.unsent(), b"1 1\na 2 2\n".as_slice());
        carbon.on_sent(4);
        carbon.send(b"a 3 3\n", Time::ZERO);
        assert_eq!(carbon.unsent(), b"a 3 3\n".as_slice());
    }

    #[test]
    fn a_datagram_has_complete_lines() {
        let mut carbon = World::new(Transport::Udp, "carbon", 1).carbon;
        let line = format!("{} 1 1\n", "a".repeat(400));
        carbon.send(line.repeat(7).as_bytes(), Time::ZERO);
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
        let mut world = World::new(Transport::Tcp, "carbon", 1);
        world.carbon.send(b"a 1 1\n", world.now);
        world.carbon.on_lost(None, world.now);
        assert!(world.carbon.unsent().is_empty());
        world.carbon.send(b"a 2 2\n", world.now);
        world.now = world.now + Duration::from_secs(1);
        world.settle();
        assert!(world.carbon.unsent().is_empty());
        world.carbon.send(b"a 3 3\n", world.now);
        assert_eq!(world.carbon.unsent(), b"a 3 3\n".as_slice());
    }

    #[test]
    fn outages_are_logged_once_when_they_begin_and_end() {
        use Fate::{Closed, Refused, Sent, SentInPart};
        use Transport::{Tcp, Udp};
        const LOST: &str = "dropping metrics until it is back";
        let cases: [(Transport, &[Fate], &[&str]); 11] = [
            // One report alone does not prove delivery.
            (Tcp, &[Sent], &[]),
            (Tcp, &[Sent; 5], &["sending to"]),
            (Udp, &[Sent; 5], &["sending to"]),
            (Tcp, &[SentInPart; 5], &[]),
            (Tcp, &[SentInPart, SentInPart, Sent, Sent], &["sending to"]),
            // A daemon that was never reached cannot be back.
            (Udp, &[Refused; 5], &[LOST]),
            (Tcp, &[Closed; 5], &[LOST]),
            (Udp, &[Refused, Refused, Sent, Sent], &[LOST, "sending to"]),
            (
                Udp,
                &[Sent, Sent, Refused, Refused, Refused, Sent, Sent, Sent],
                &["sending to", LOST, "is back after 30 s"],
            ),
            (
                Tcp,
                &[Sent, Closed, Closed, Sent, SentInPart, Sent],
                &["sending to", LOST, "is back after 20 s"],
            ),
            (
                Udp,
                &[Refused, Sent, Sent, Refused, Sent, Sent],
                &[LOST, "sending to", LOST, "is back after 10 s"],
            ),
        ];
        for (transport, fates, expected) in cases {
            let mut world = World::new(transport, "carbon", 1);
            for &fate in fates {
                world.beat(fate);
            }
            let lines = &world.lines;
            let fits = lines.len() == expected.len()
                && lines.iter().zip(expected).all(|(a, b)| a.contains(b));
            assert!(fits, "{transport:?} {fates:?}: {lines:#?}");
            let scheme = if transport == Tcp { "tcp" } else { "udp" };
            let target = format!("{scheme}://carbon:2003");
            assert!(lines.iter().all(|line| line.contains(&target)), "{lines:?}");
        }
    }

    #[test]
    fn refused_datagrams_go_to_the_next_address() {
        use Fate::{Refused, Sent};
        let cases: [(&[Fate], &[u8], usize); 5] = [
            (&[Sent; 3], &[1], 1),
            (&[Refused, Sent, Sent], &[1, 2], 1),
            // Both addresses refuse.
            (&[Refused; 4], &[1, 2, 1, 2, 1], 1),
            // The next round starts with the address that worked.
            (&[Refused, Sent, Sent, Refused, Sent], &[1, 2, 2], 2),
            (
                &[Refused, Sent, Sent, Refused, Refused, Sent, Sent],
                &[1, 2, 2, 1],
                3,
            ),
        ];
        for (fates, expected, lines) in cases {
            let mut world = World::new(Transport::Udp, "localhost", 2);
            for &fate in fates {
                world.beat(fate);
            }
            world.now = world.now + limits::BACKOFF_MAX;
            world.settle();
            let expected: Vec<SocketAddr> = expected.iter().copied().map(address).collect();
            assert_eq!(world.connects, expected, "{fates:?}");
            assert_eq!(world.lines.len(), lines, "{fates:?}: {:?}", world.lines);
        }
    }

    #[test]
    fn only_the_name_of_a_udp_target_is_resolved_again() {
        let cases = [
            (Transport::Udp, "carbon", true),
            (Transport::Udp, "192.0.2.1", false),
            (Transport::Udp, "2001:db8::1", false),
            (Transport::Tcp, "carbon", false),
        ];
        for (transport, host, is_renewed) in cases {
            let mut world = World::new(transport, host, 1);
            world.now = world.now + limits::DATAGRAM_TARGET_AGE_MAX;
            world.carbon.send(b"a 1 1\n", world.now);
            assert_eq!(world.carbon.deadline(), None, "{transport:?} {host}");
            world.settle();
            assert_eq!(world.carbon.unsent(), b"a 1 1\n", "{transport:?} {host}");
            world.carbon.on_sent(6);
            let expected = is_renewed.then_some(world.now);
            assert_eq!(world.carbon.deadline(), expected, "{transport:?} {host}");
            world.settle();
            world.settle();
            let connects = 1 + usize::from(is_renewed);
            assert_eq!(world.connects.len(), connects, "{transport:?} {host}");
            assert!(world.lines.is_empty(), "{:?}", world.lines);
        }
    }
}
