//! Dialing: from a name to a connection, and back to it after a failure. It owns the states in between
//! (`Waiting → Resolving → Connecting → Connected`), their deadlines and the pauses; it must not know what
//! is said over the connection, nor when one is worth having.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Target, Transport};
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
    Connect(Transport, SocketAddr),
    /// The same by a Unix domain socket.
    ConnectUnix(PathBuf),
    /// Close the connection, if there is one.
    Disconnect,
    /// Write a line to the log.
    Log(Level, String),
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
    intents: VecDeque<Intent>,
    random: Random,
}

enum State {
    Waiting {
        until: Time,
    },
    Resolving {
        deadline: Time,
        transport: Transport,
    },
    Connecting {
        deadline: Time,
        transport: Transport,
        /// Further addresses of the same host.
        others: VecDeque<SocketAddr>,
    },
    Connected,
}

impl Dialer {
    /// A dialer that is to dial at once.
    pub fn new(seed: u64) -> Dialer {
        Dialer {
            state: State::Waiting { until: Time::ZERO },
            intents: VecDeque::new(),
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

    /// When [`Dialer::due`] must be asked, whatever happens before; `None` while connected.
    pub fn deadline(&self) -> Option<Time> {
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Resolving { deadline, .. } | State::Connecting { deadline, .. } => {
                Some(*deadline)
            }
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

    /// Dials a host.
    pub fn dial(&mut self, target: &Target, now: Time) {
        self.state = State::Resolving {
            deadline: now + limits::RESOLVE_DEADLINE,
            transport: target.transport,
        };
        let intent = Intent::Resolve(target.host.clone(), target.port);
        self.intents.push_back(intent);
    }

    /// Dials a Unix domain socket.
    pub fn dial_unix(&mut self, path: PathBuf, now: Time) {
        self.state = State::Connecting {
            deadline: now + limits::CONNECT_DEADLINE,
            transport: Transport::Tcp,
            others: VecDeque::new(),
        };
        self.intents.push_back(Intent::ConnectUnix(path));
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
        let State::Resolving { transport, .. } = self.state else {
            return Ok(());
        };
        if self.connect(transport, result?.into(), now) {
            return Ok(());
        }
        let none = "the name has no address";
        Err(io::Error::new(io::ErrorKind::NotFound, none))
    }

    /// Goes on with the next address of the same host, while connecting; false when there is none.
    /// `localhost` is often two addresses, one of which nobody listens on.
    pub fn try_next_address(&mut self, now: Time) -> bool {
        let State::Connecting {
            transport, others, ..
        } = &mut self.state
        else {
            return false;
        };
        let (transport, others) = (*transport, std::mem::take(others));
        if others.is_empty() {
            return false;
        }
        self.intents.push_back(Intent::Disconnect);
        self.connect(transport, others, now)
    }

    /// The connection stands.
    pub fn on_connected(&mut self) {
        debug_assert!(self.is_connecting());
        self.state = State::Connected;
    }

    /// Gives up what there is, and dials again after a pause.
    pub fn hang_up(&mut self, pause: Duration, now: Time) {
        self.intents.push_back(Intent::Disconnect);
        self.state = State::Waiting { until: now + pause };
    }

    /// Whether nothing is under way.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// How long to wait after so many failures in a row, from 1 on: doubled with each, and spread over its
    /// upper half, so that many copies of the server do not come back together.
    pub fn pause_after(&mut self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let longest = limits::BACKOFF_MIN * 2 * 2_u32.pow(doublings);
        let longest = longest.min(limits::BACKOFF_MAX);
        self.random.between(longest / 2, longest)
    }

    /// Begins to connect to the first of these addresses; false when there is none.
    fn connect(
        &mut self,
        transport: Transport,
        mut addresses: VecDeque<SocketAddr>,
        now: Time,
    ) -> bool {
        let Some(address) = addresses.pop_front() else {
            return false;
        };
        self.state = State::Connecting {
            deadline: now + limits::CONNECT_DEADLINE,
            transport,
            others: addresses,
        };
        self.intents.push_back(Intent::Connect(transport, address));
        true
    }
}
