//! Carbon: the conversation with a Graphite daemon, which takes lines and says nothing. It owns what is dropped
//! when the daemon is away or slow; it must not know what the lines say.
//!
//! Figures are worth something while they are fresh: nothing is kept for a daemon that is away, and what one
//! has not taken of a report is dropped when the next one comes.
//!
//! A daemon says nothing, so that a report counts as taken when it was sent whole and the connection still
//! stands as the next one comes: a connection alone may be that of a proxy without a daemon behind it, and
//! one for datagrams always stands.

use std::net::IpAddr;
use std::time::Duration;

use crate::broker::Message;
use crate::broker::link::dialer::Dialer;
use crate::broker::link::{Conversation, Failure, Target, Transport};
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
    /// When this connection was given its last report; none before the first.
    reported_at: Option<Time>,
    /// Attempts that failed since a report was last taken.
    failures: u32,
    /// Since when nobody takes our figures, once that was said.
    away_since: Option<Time>,
    /// Whether a report was ever taken.
    was_reached: bool,
    /// When the name is resolved again, because nobody says that a receiver of datagrams has moved.
    renew_at: Option<Time>,
}

impl Carbon {
    /// A conversation that begins at once.
    pub fn new(target: Target, seed: u64) -> Carbon {
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

    /// Sends a report of whole lines, and drops what is left of the one before.
    pub fn send(&mut self, report: &[u8], now: Time) {
        if !self.dialer.is_connected() {
            return;
        }
        let before = self.reported_at.replace(now);
        if self.outgoing.is_empty()
            && let Some(at) = before
        {
            self.on_taken(at);
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

    /// The report of that moment was taken, which is said where it is news.
    fn on_taken(&mut self, at: Time) {
        self.failures = 0;
        self.dialer.prefer_address();
        let (target, away_since) = (&self.target, self.away_since.take());
        let is_first = !std::mem::replace(&mut self.was_reached, true);
        let line = match away_since {
            _ if is_first => format!("graphite: sending to {target}"),
            Some(since) => {
                let seconds = at.since(since).as_secs_f64();
                format!("graphite: {target} takes figures again after {seconds:.0} s")
            }
            None => return,
        };
        self.dialer.log(Level::Info, line);
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

    /// That nobody takes our figures is said once for each time that it begins.
    fn fail(&mut self, failure: Failure, now: Time) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.dialer.pause_after(self.failures);
        if self.away_since.is_none() {
            self.away_since = Some(now);
            let target = &self.target;
            let line =
                format!("graphite: {target}: {failure}; figures are dropped until it is back");
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

    /// The daemon says nothing. Its end is read all the same: it says that what was sent last may not have been taken.
    fn next_message(&mut self, input: &mut &[u8], _now: Time) -> Option<Message> {
        *input = &[];
        None
    }

    /// Whoever does say something is somebody else, and must not hold the turn.
    fn reads_per_turn(&self) -> usize {
        1
    }

    /// When the name is to be resolved again: not before what was begun is sent, because with the connection
    /// the rest of the report would go.
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
    use std::io;
    use std::net::SocketAddr;

    use super::*;
    use crate::broker::link::dialer::{Destination, Intent};

    const BEAT: Duration = limits::GRAPHITE_INTERVAL;

    /// What becomes of a report.
    #[derive(Clone, Copy, Debug)]
    enum Fate {
        /// It is sent whole.
        Sent,
        /// A part of it is sent.
        SentInPart,
        /// It is sent whole, and the connection is closed before the next beat.
        Closed,
        /// Its first datagram is sent, and comes back.
        Refused,
    }

    /// A conversation with a host of some addresses, at a time of its own.
    struct World {
        carbon: Carbon,
        addresses: Vec<SocketAddr>,
        now: Time,
        /// Where it has connected to, and what it has said.
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

        /// Grants all its wishes.
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
                Intent::Connect(Destination::Address(_, address)) => {
                    self.connects.push(address);
                    self.carbon.on_connected(self.now);
                }
                Intent::Log(_, line) => self.lines.push(line),
                Intent::Connect(Destination::Path(_)) | Intent::Disconnect => {}
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
    fn a_new_report_takes_the_place_of_the_old_one_but_for_a_line_begun() {
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
    fn a_datagram_holds_whole_lines() {
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
    fn that_figures_are_taken_or_not_is_said_when_it_changes() {
        use Fate::{Closed, Refused, Sent, SentInPart};
        use Transport::{Tcp, Udp};
        const LOST: &str = "figures are dropped until it is back";
        let cases: [(Transport, &[Fate], &[&str]); 11] = [
            // A report that was sent is not yet one that was taken.
            (Tcp, &[Sent], &[]),
            (Tcp, &[Sent; 5], &["sending to"]),
            (Udp, &[Sent; 5], &["sending to"]),
            (Tcp, &[SentInPart; 5], &[]),
            (Tcp, &[SentInPart, SentInPart, Sent, Sent], &["sending to"]),
            // Who was never there cannot be there again.
            (Udp, &[Refused; 5], &[LOST]),
            (Tcp, &[Closed; 5], &[LOST]),
            (Udp, &[Refused, Refused, Sent, Sent], &[LOST, "sending to"]),
            (
                Udp,
                &[Sent, Sent, Refused, Refused, Refused, Sent, Sent, Sent],
                &["sending to", LOST, "takes figures again after 30 s"],
            ),
            (
                Tcp,
                &[Sent, Closed, Closed, Sent, SentInPart, Sent],
                &["sending to", LOST, "takes figures again after 20 s"],
            ),
            (
                Udp,
                &[Refused, Sent, Sent, Refused, Sent, Sent],
                &[LOST, "sending to", LOST, "takes figures again after 10 s"],
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
    fn datagrams_go_to_the_next_address_when_they_come_back() {
        use Fate::{Refused, Sent};
        let cases: [(&[Fate], &[u8], usize); 5] = [
            (&[Sent; 3], &[1], 1),
            (&[Refused, Sent, Sent], &[1, 2], 1),
            // Nobody is at either of them.
            (&[Refused; 4], &[1, 2, 1, 2, 1], 1),
            // The one that has worked is the first of the next round.
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
    fn a_name_is_resolved_again_when_its_datagrams_are_sent_and_an_address_never() {
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
