//! Dialing: from a name to a connection, and back to it after a failure. It owns the states in between
//! (`Waiting → Resolving → Connecting → Connected`), their deadlines, the pauses, and how the connection has fared; it
//! does not know what is said over the connection, nor when one is worth having.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::names::Names;
use super::{Target, Transport};
use crate::level::Level;
use crate::limits;
use crate::net::Peer;
use crate::random::Random;
use crate::time::Time;

/// What is to be done for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Resolve a name, and report the result.
    Resolve(String, u16),
    /// Connect to one address, and report the result.
    Connect(Peer),
    /// Close the connection, if there is one.
    Disconnect,
    /// Write a line to the log.
    Log(Level, String),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Until this moment, or until [`Dialer::hang_up`].
    Waiting(Option<Time>),
    /// The address must be known by this moment.
    Resolving(Time),
    /// The connection must be established by this moment.
    Connecting(Time),
    /// The connection is established, and the protocol needs no greeting.
    Connected,
    /// What both sides agree on first must be complete by this moment.
    Greeting(Time),
    /// The connection can be used.
    Live,
}

/// The way to one connection.
pub struct Dialer {
    state: State,
    transport: Transport,
    names: Names,
    /// When the latest attempt began.
    dialed_at: Time,
    /// The target of the latest attempt.
    peer: Option<Peer>,
    /// Further addresses of the same host, as long as the current one may turn out to be wrong.
    others: VecDeque<SocketAddr>,
    /// The address to begin with, if the host still has it.
    preferred: Option<SocketAddr>,
    intents: VecDeque<Intent>,
    /// What [`Dialer::log_once`] has logged since the last connection was given up.
    logged: Vec<&'static str>,
    random: Random,
    /// Failures in a row: since the connection last was live for a while.
    failures: u32,
    failure_logged_at: Time,
    losses: u64,
    since: Time,
}

impl Dialer {
    /// A dialer that begins at once.
    pub fn new(seed: u64) -> Dialer {
        Dialer {
            state: State::Waiting(Some(Time::ZERO)),
            ..Dialer::idle(seed)
        }
    }

    /// A dialer that begins after [`Dialer::hang_up`].
    pub fn idle(seed: u64) -> Dialer {
        Dialer {
            state: State::Waiting(None),
            transport: Transport::Tcp,
            names: Names::default(),
            dialed_at: Time::ZERO,
            peer: None,
            others: VecDeque::new(),
            preferred: None,
            intents: VecDeque::new(),
            logged: Vec::new(),
            random: Random::new(seed),
            failures: 0,
            failure_logged_at: Time::ZERO,
            losses: 0,
            since: Time::ZERO,
        }
    }

    /// Dials a host.
    pub fn dial(&mut self, target: &Target, now: Time) {
        self.transport = target.transport;
        self.dialed_at = now;
        let (must_ask, until) = self.names.handle_dial(target, now);
        self.state = State::Resolving(until);
        if must_ask {
            let intent = Intent::Resolve(target.host.clone(), target.port);
            self.intents.push_back(intent);
        }
    }

    /// Connects to an address that need not be resolved, and to no other.
    pub fn dial_directly(&mut self, peer: Peer, now: Time) {
        self.others.clear();
        self.dialed_at = now;
        self.connect_to(peer, now);
    }

    /// The result of [`Intent::Resolve`]. If it is late, it serves the next attempt.
    ///
    /// # Errors
    /// If no address is known; the caller gives up.
    pub fn on_resolved(
        &mut self,
        result: io::Result<Vec<SocketAddr>>,
        now: Time,
    ) -> io::Result<()> {
        let answer = self.names.handle_answer(result);
        match matches!(self.state, State::Resolving(_)) && !self.connect_to_known(now) {
            true => answer,
            false => Ok(()),
        }
    }

    /// Connects to the addresses that the host had the last time; false if none is known.
    pub fn connect_to_known(&mut self, now: Time) -> bool {
        let Some(known) = self.names.known() else {
            return false;
        };
        self.others = known.to_vec().into();
        let preferred = |&address: &SocketAddr| self.preferred == Some(address);
        if let Some(index) = self.others.iter().position(preferred) {
            self.others.make_contiguous()[..=index].rotate_right(1);
        }
        self.connect(now)
    }

    /// Continues with the next address of the same host; false if there is none. `localhost` is often two addresses,
    /// one of which nobody listens on: by TCP that shows while connecting, by UDP only when something was sent.
    pub fn try_next_address(&mut self, now: Time) -> bool {
        if !self.is_under_way() || self.others.is_empty() {
            return false;
        }
        self.intents.push_back(Intent::Disconnect);
        self.connect(now)
    }

    /// The connection is established.
    pub fn on_connected(&mut self) {
        debug_assert!(self.is_connecting());
        self.state = State::Connected;
        // A UDP socket is connected without anybody at the other end, which says nothing about the address.
        if self.transport == Transport::Tcp {
            self.others.clear();
        }
    }

    /// The current address has proved right: it is the first to be tried from now on.
    pub fn prefer_address(&mut self) {
        if let Some(Peer::Tcp { address, .. } | Peer::Udp(address)) = self.peer {
            self.preferred = Some(address);
        }
    }

    /// The protocol begins with a greeting, which must end with [`Dialer::handle_live`] by this moment.
    pub fn expect_greeting(&mut self, until: Time) {
        self.state = State::Greeting(until);
    }

    /// The connection can be used. Returns for how long it could not, as the end of a log line; empty at the first
    /// attempt.
    pub fn handle_live(&mut self, now: Time) -> String {
        self.state = State::Live;
        let away = now.since(self.since).as_secs_f64();
        self.since = now;
        match self.failures {
            0 => String::new(),
            _ => format!(" after {away:.1} s"),
        }
    }

    /// Gives up what there is after a failure, and dials again after a pause of at most `pause_max`, which is returned. If
    /// the connection was never live, each of `servers`, which are tried in turn, is tried before there is a pause, and the
    /// pause counts from the beginning of the attempt, which may itself have taken as long. Only a connection that has
    /// lasted resets the count of failures: a peer that accepts connections and drops them at once must not be dialed ten
    /// times a second.
    pub fn give_up(&mut self, servers: u32, pause_max: Duration, now: Time) -> Duration {
        let was_live = self.is_live();
        if was_live {
            if now.since(self.since) >= limits::LASTING_SESSION {
                self.failures = 0;
            }
            self.losses += 1;
            self.since = now;
        }
        self.failures = self.failures.saturating_add(1);
        let is_pausing = was_live || self.failures.is_multiple_of(servers);
        let attempt = match was_live {
            true => Duration::ZERO,
            false => now.since(self.dialed_at),
        };
        let pause = match is_pausing {
            true => self.pause_after(self.failures / servers, pause_max),
            false => Duration::ZERO,
        };
        let pause = pause.saturating_sub(attempt);
        self.hang_up(pause, now);
        pause
    }

    /// Gives up what there is, and dials again after this pause.
    pub fn hang_up(&mut self, pause: Duration, now: Time) {
        self.intents.push_back(Intent::Disconnect);
        self.logged.clear();
        self.state = State::Waiting(Some(now + pause));
    }

    /// The pause after so many failures in a row, from 1 on: doubled with each up to `pause_max`, and spread over its upper
    /// half, so that many copies of the server do not reconnect at the same moment.
    pub fn pause_after(&mut self, failures: u32, pause_max: Duration) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let longest = limits::BACKOFF_MIN * 2 * 2_u32.pow(doublings);
        let longest = longest.min(pause_max);
        self.random.between(longest / 2, longest)
    }

    /// Logs a line.
    pub fn log(&mut self, level: Level, line: String) {
        self.intents.push_back(Intent::Log(level, line));
    }

    /// Logs a failure: each of the first ones in a row, and one every few seconds after that, because the pauses are short.
    pub fn log_failure(&mut self, line: String, now: Time) {
        let is_due = now.since(self.failure_logged_at) >= limits::FAILURE_LOG_INTERVAL;
        if is_due || self.failures <= limits::FAILURES_LOGGED {
            self.failure_logged_at = now;
            self.log(Level::Warn, line);
        }
    }

    /// Logs a warning, unless one on this topic was logged on the same connection.
    pub fn log_once(&mut self, topic: &'static str, line: String) {
        if !self.logged.contains(&topic) {
            self.logged.push(topic);
            self.log(Level::Warn, line);
        }
    }

    /// The next thing to do.
    pub fn poll_intent(&mut self) -> Option<Intent> {
        self.intents.pop_front()
    }

    /// How far the connection has come.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(
            self.state,
            State::Connected | State::Greeting(_) | State::Live
        )
    }

    /// Whether the connection can be used.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// Whether a connection is being established.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    /// Whether there is a connection, or one is being established.
    pub fn is_under_way(&self) -> bool {
        self.is_connecting() || self.is_connected()
    }

    /// Whether it will dial after a pause.
    pub fn is_pausing(&self) -> bool {
        matches!(self.state, State::Waiting(Some(_)))
    }

    /// The other end of the connection that there is, or that is being established.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref().filter(|_| self.is_under_way())
    }

    /// When something must have happened, or is due; `None` while connected without a greeting, or idle.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Waiting(until) => until,
            State::Resolving(at) | State::Connecting(at) | State::Greeting(at) => Some(at),
            State::Connected | State::Live => None,
        }
    }

    /// How often a connection that was live was lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Since when the connection has been live, or has not been.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Begins to connect to the next of the host's addresses; false if there is none.
    fn connect(&mut self, now: Time) -> bool {
        let Some(address) = self.others.pop_front() else {
            return false;
        };
        let peer = match self.transport {
            Transport::Udp => Peer::Udp(address),
            Transport::Tcp => Peer::Tcp {
                address,
                kernel_bytes_max: None,
            },
        };
        self.connect_to(peer, now);
        true
    }

    fn connect_to(&mut self, peer: Peer, now: Time) {
        self.peer = Some(peer.clone());
        self.state = State::Connecting(now + limits::CONNECT_DEADLINE);
        self.intents.push_back(Intent::Connect(peer));
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
                Intent::Connect(Peer::Tcp { address, .. } | Peer::Udp(address)) => Some(address),
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

    #[test]
    fn only_a_connection_that_has_lasted_resets_the_count_of_failures() {
        let at = |millis: u64| Time::from_micros(millis * 1_000);
        let lasting = limits::LASTING_SESSION.as_millis() as u64;
        let mut dialer = Dialer::new(1);
        assert_eq!(dialer.handle_live(at(1_000)), "");
        // The moment of the next failure, whether the connection is live then, and failures and losses afterwards.
        for (millis, was_live, failures, losses) in [
            (1_500, true, 1, 1),
            (2_000, false, 2, 1),
            (2_200, true, 3, 2),
            (2_200 + lasting, true, 1, 3),
        ] {
            dialer.state = [State::Greeting(Time::ZERO), State::Live][usize::from(was_live)];
            dialer.give_up(1, limits::BACKOFF_MAX, at(millis));
            let counted = (dialer.failures, dialer.losses());
            assert_eq!(counted, (failures, losses), "{millis} ms");
        }
        assert_eq!(dialer.handle_live(at(5_200)), " after 2.0 s");
        assert_eq!(dialer.since(), at(5_200));
    }

    #[test]
    fn the_pause_counts_from_the_beginning_of_an_attempt() {
        let second = Duration::from_secs(1);
        // How long the connection was live if it was, how long the attempt took otherwise, and whether there is a pause.
        for (was_live, took, is_pausing) in [
            (false, Duration::ZERO, true),
            (false, second, false),
            (true, second, true),
        ] {
            let mut dialer = Dialer::new(1);
            dialing(Transport::Tcp, &mut dialer);
            if was_live {
                dialer.handle_live(Time::ZERO);
            }
            let pause = dialer.give_up(1, limits::BACKOFF_AWAY_MAX, Time::ZERO + took);
            assert_eq!(pause > Duration::ZERO, is_pausing, "{was_live} {took:?}");
            assert!(pause <= 2 * limits::BACKOFF_MIN, "{pause:?}");
        }
    }

    #[test]
    fn the_addresses_of_the_last_time_are_used_while_the_resolver_is_silent() {
        let at = |millis: u64| Time::from_micros(millis * 1_000);
        let target = Target::tcp("redis".to_owned(), 6379);
        let resolves = |dialer: &mut Dialer| {
            let intents = std::iter::from_fn(|| dialer.poll_intent());
            intents
                .filter(|it| matches!(it, Intent::Resolve(..)))
                .count()
        };
        let mut dialer = Dialer::new(1);
        dialer.dial(&target, at(0));
        assert_eq!(resolves(&mut dialer), 1);
        assert!(!dialer.connect_to_known(at(1)), "nothing is known");
        dialer.on_resolved(Ok(vec![address(1)]), at(2)).unwrap();
        dialer.hang_up(Duration::ZERO, at(3));

        dialer.dial(&target, at(10));
        assert_eq!(resolves(&mut dialer), 1);
        assert_eq!(dialer.deadline(), Some(at(10) + limits::RESOLVE_PATIENCE));
        assert!(dialer.connect_to_known(at(300)));
        assert_eq!(connects(&mut dialer), [address(1)]);
        dialer.hang_up(Duration::ZERO, at(1_000));
        // No further query while one is pending, whose answer counts from the next attempt on.
        dialer.dial(&target, at(1_000));
        assert!(dialer.connect_to_known(at(1_300)));
        dialer.on_resolved(Ok(vec![address(2)]), at(1_400)).unwrap();
        assert_eq!(connects(&mut dialer), [address(1)]);
        dialer.hang_up(Duration::ZERO, at(2_000));
        dialer.dial(&target, at(2_000));
        assert_eq!(resolves(&mut dialer), 1);
        let failed = Err(io::Error::other("no name server answers"));
        dialer.on_resolved(failed, at(2_100)).unwrap();
        assert_eq!(connects(&mut dialer), [address(2)]);

        // Of another host nothing is known.
        dialer.hang_up(Duration::ZERO, at(3_000));
        dialer.dial(&Target::tcp("other".to_owned(), 6379), at(3_000));
        let failed = Err(io::Error::other("no name server answers"));
        dialer.on_resolved(failed, at(3_100)).unwrap_err();
    }

    #[test]
    fn all_servers_are_tried_before_a_pause() {
        let mut dialer = Dialer::new(1);
        let pauses = [false, false, false, true].map(|was_live| {
            dialer.state = [State::Greeting(Time::ZERO), State::Live][usize::from(was_live)];
            let pause = dialer.give_up(3, limits::BACKOFF_MAX, Time::ZERO);
            pause > Duration::ZERO
        });
        assert_eq!(pauses, [false, false, true, true]);
    }
}
