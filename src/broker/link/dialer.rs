//! Dialing: from a name to a connection, and back to it after a failure. It owns the states in between
//! (`Waiting → Resolving → Connecting → Connected`), their deadlines and the pauses; it must not know what
//! is said over the connection, nor when one is worth having.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Health, Target, Transport};
use crate::level::Level;
use crate::limits;
use crate::random::Random;
use crate::time::Time;

/// What is to be done for an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Resolve a name, and tell the answer.
    Resolve(String, u16),
    /// Connect, and tell what became of it.
    Connect(Destination),
    /// Close the connection, if there is one.
    Disconnect,
    /// Write a line to the log.
    Log(Level, String),
}

/// The other end of one attempt to connect: a name that has several addresses is one of them here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address of a network.
    Address(Transport, SocketAddr),
    /// A Unix domain socket.
    Path(PathBuf),
}

/// What has become due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The pause is over: dial.
    Dial,
    /// The answer to a name did not come.
    Resolving,
    /// The connection was not made.
    Connecting,
}

/// The way to one connection.
pub struct Dialer {
    state: State,
    transport: Transport,
    /// Where the latest attempt went.
    destination: Option<Destination>,
    /// Further addresses of the same host, as long as the one in use may turn out to be the wrong one.
    others: VecDeque<SocketAddr>,
    /// The address to begin with, if the host still has it.
    preferred: Option<SocketAddr>,
    intents: VecDeque<Intent>,
    health: Health,
    /// What [`Dialer::log_once`] has logged since the last connection was given up.
    logged: Vec<&'static str>,
    random: Random,
}

#[derive(Clone, Copy)]
enum State {
    /// `None` is until somebody says where to.
    Waiting {
        until: Option<Time>,
    },
    Resolving {
        deadline: Time,
    },
    Connecting {
        deadline: Time,
    },
    Connected,
}

impl Dialer {
    /// A dialer that is to dial at once.
    pub fn new(seed: u64) -> Dialer {
        let until = Some(Time::ZERO);
        Dialer {
            state: State::Waiting { until },
            ..Dialer::idle(seed)
        }
    }

    /// A dialer that is to dial once it is told to [`Dialer::hang_up`].
    pub fn idle(seed: u64) -> Dialer {
        Dialer {
            state: State::Waiting { until: None },
            transport: Transport::Tcp,
            destination: None,
            others: VecDeque::new(),
            preferred: None,
            intents: VecDeque::new(),
            health: Health::default(),
            logged: Vec::new(),
            random: Random::new(seed),
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected)
    }

    /// Whether a connection is being made.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting { .. })
    }

    /// Where the connection goes, while there is one or one is being made.
    pub fn destination(&self) -> Option<&Destination> {
        let is_under_way = self.is_connecting() || self.is_connected();
        self.destination.as_ref().filter(|_| is_under_way)
    }

    /// When [`Dialer::due`] must be asked, whatever happens before; `None` while connected or idle.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Waiting { until } => until,
            State::Resolving { deadline } | State::Connecting { deadline } => Some(deadline),
            State::Connected => None,
        }
    }

    /// What has become due, if anything.
    pub fn due(&self, now: Time) -> Option<Due> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return None;
        }
        match self.state {
            State::Waiting { .. } => Some(Due::Dial),
            State::Resolving { .. } => Some(Due::Resolving),
            State::Connecting { .. } => Some(Due::Connecting),
            State::Connected => None,
        }
    }

    /// The next thing to do.
    pub fn poll_intent(&mut self) -> Option<Intent> {
        self.intents.pop_front()
    }

    /// Has a line logged.
    pub fn log(&mut self, level: Level, line: String) {
        self.intents.push_back(Intent::Log(level, line));
    }

    /// Logs a warning, unless one on this topic was logged on the same connection.
    pub fn log_once(&mut self, topic: &'static str, line: String) {
        if !self.logged.contains(&topic) {
            self.logged.push(topic);
            self.log(Level::Warn, line);
        }
    }

    /// The connection has become of use. Returns for how long it was not, as [`Health::on_live`] does.
    pub fn handle_live(&mut self, now: Time) -> String {
        self.health.on_live(now)
    }

    /// Gives up what there is after a failure, and dials again after a pause, which is returned. Each of `servers`,
    /// which are tried in turn, is tried before there is one, unless a connection was lost that was of use.
    pub fn give_up(&mut self, was_live: bool, servers: u32, now: Time) -> Duration {
        self.health.on_failure(was_live, now);
        let failures = self.health.failures();
        let pause = match was_live || failures.is_multiple_of(servers) {
            true => self.pause_after(failures / servers),
            false => Duration::ZERO,
        };
        self.hang_up(pause, now);
        pause
    }

    /// How the connection has fared.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Dials a host.
    pub fn dial(&mut self, target: &Target, now: Time) {
        self.transport = target.transport;
        self.state = State::Resolving {
            deadline: now + limits::RESOLVE_DEADLINE,
        };
        let intent = Intent::Resolve(target.host.clone(), target.port);
        self.intents.push_back(intent);
    }

    /// Dials what needs no resolution, and nothing else.
    pub fn dial_directly(&mut self, destination: Destination, now: Time) {
        self.others.clear();
        self.connect_to(destination, now);
    }

    /// The answer to [`Intent::Resolve`].
    ///
    /// # Errors
    /// Where there is no address; the caller gives up.
    pub fn on_resolved(
        &mut self,
        result: io::Result<Vec<SocketAddr>>,
        now: Time,
    ) -> io::Result<()> {
        if !matches!(self.state, State::Resolving { .. }) {
            return Ok(());
        }
        self.others = result?.into();
        let preferred = |&address: &SocketAddr| self.preferred == Some(address);
        if let Some(address) = self.others.iter().position(preferred)
            && let Some(address) = self.others.remove(address)
        {
            self.others.push_front(address);
        }
        if self.connect(now) {
            return Ok(());
        }
        let none = "the name has no address";
        Err(io::Error::new(io::ErrorKind::NotFound, none))
    }

    /// Goes on with the next address of the same host; false when there is none. `localhost` is often two
    /// addresses, one of which nobody listens on: by TCP that shows while connecting, for datagrams only when
    /// one of them was sent.
    pub fn try_next_address(&mut self, now: Time) -> bool {
        let is_under_way = self.is_connecting() || self.is_connected();
        if !is_under_way || self.others.is_empty() {
            return false;
        }
        self.intents.push_back(Intent::Disconnect);
        self.connect(now)
    }

    /// The connection stands.
    pub fn on_connected(&mut self) {
        debug_assert!(self.is_connecting());
        self.state = State::Connected;
        // Datagrams need nobody at the other end for that, so it says nothing about their address.
        if self.transport == Transport::Tcp {
            self.others.clear();
        }
    }

    /// The address in use has proved itself: it is the first to be tried from now on.
    pub fn prefer_address(&mut self) {
        if let Some(Destination::Address(_, address)) = self.destination {
            self.preferred = Some(address);
        }
    }

    /// Gives up what there is, and dials again after a pause.
    pub fn hang_up(&mut self, pause: Duration, now: Time) {
        self.intents.push_back(Intent::Disconnect);
        self.logged.clear();
        let until = Some(now + pause);
        self.state = State::Waiting { until };
    }

    /// Whether it is not connected, and will dial after a pause.
    pub fn is_pausing(&self) -> bool {
        matches!(self.state, State::Waiting { until: Some(_) })
    }

    /// How long to wait after so many failures in a row, from 1 on: doubled with each, and spread over its
    /// upper half, so that many copies of the server do not come back together.
    pub fn pause_after(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let longest = limits::BACKOFF_MIN * 2 * 2_u32.pow(doublings);
        let longest = longest.min(limits::BACKOFF_MAX);
        self.random.between(longest / 2, longest)
    }

    /// Begins to connect to the next of the host's addresses; false when there is none.
    fn connect(&mut self, now: Time) -> bool {
        let Some(address) = self.others.pop_front() else {
            return false;
        };
        self.connect_to(Destination::Address(self.transport, address), now);
        true
    }

    fn connect_to(&mut self, destination: Destination, now: Time) {
        self.destination = Some(destination.clone());
        self.state = State::Connecting {
            deadline: now + limits::CONNECT_DEADLINE,
        };
        self.intents.push_back(Intent::Connect(destination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 2003))
    }

    /// Dials a host of two addresses.
    fn dialing(transport: Transport, dialer: &mut Dialer) {
        let target = Target {
            transport,
            host: "carbon".to_owned(),
            port: 2003,
        };
        dialer.dial(&target, Time::ZERO);
        let addresses = vec![address(1), address(2)];
        dialer.on_resolved(Ok(addresses), Time::ZERO).unwrap();
    }

    fn connects(dialer: &mut Dialer) -> Vec<SocketAddr> {
        std::iter::from_fn(|| dialer.poll_intent())
            .filter_map(|intent| match intent {
                Intent::Connect(Destination::Address(_, address)) => Some(address),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_next_address_is_tried_as_long_as_this_one_may_be_the_wrong_one() {
        let cases = [
            (Transport::Tcp, false, true),
            (Transport::Tcp, true, false),
            (Transport::Udp, false, true),
            (Transport::Udp, true, true),
        ];
        for (transport, is_connected, expected) in cases {
            let context = format!("{transport:?}, connected: {is_connected}");
            let mut dialer = Dialer::new(1);
            dialing(transport, &mut dialer);
            assert_eq!(connects(&mut dialer), [address(1)], "{context}");
            if is_connected {
                dialer.on_connected();
            }
            assert_eq!(dialer.try_next_address(Time::ZERO), expected, "{context}");
            let next: &[SocketAddr] = if expected { &[address(2)] } else { &[] };
            assert_eq!(connects(&mut dialer), next, "{context}");
            assert!(!dialer.try_next_address(Time::ZERO), "{context}");
        }
    }

    #[test]
    fn what_was_given_up_has_no_next_address() {
        let mut dialer = Dialer::new(1);
        dialing(Transport::Udp, &mut dialer);
        dialer.on_connected();
        dialer.hang_up(Duration::ZERO, Time::ZERO);
        assert!(!dialer.try_next_address(Time::ZERO));
    }

    #[test]
    fn the_address_that_has_proved_itself_is_tried_first() {
        let mut dialer = Dialer::new(1);
        dialing(Transport::Udp, &mut dialer);
        dialer.on_connected();
        assert!(dialer.try_next_address(Time::ZERO));
        dialer.on_connected();
        dialer.prefer_address();
        dialer.hang_up(Duration::ZERO, Time::ZERO);
        assert_eq!(connects(&mut dialer), [address(1), address(2)]);
        dialing(Transport::Udp, &mut dialer);
        assert!(dialer.try_next_address(Time::ZERO));
        assert_eq!(connects(&mut dialer), [address(2), address(1)]);
    }
}
