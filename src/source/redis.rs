//! Redis: a session, which subscribes, or is there for commands where it has nothing to subscribe to. It
//! owns logging in, subscribing, finding out that the link is dead, and coming back; it must not make a system call: what it wants is asked of it (`poll_intent`,
//! `unsent`), and what happened is told to it (`on_…`).
//!
//! One session lives as long as the process. Its states follow each other as
//! `Waiting → Resolving → Connecting → Greeting → Live`, and any failure leads back to `Waiting`.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use redis::Value;

use super::{Address, Endpoint, Message};
use crate::level::Level;
use crate::limits;
use crate::proto::resp::{self, Decoder, ReplyError};
use crate::random::Random;
use crate::time::Time;

/// What the session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Resolve a name, and call [`Session::on_resolved`].
    Resolve(String, u16),
    /// Connect by TCP, and call [`Session::on_connected`] or [`Session::on_lost`].
    ConnectTcp(SocketAddr),
    /// The same by a Unix domain socket.
    ConnectUnix(PathBuf),
    /// Close the connection, if there is one.
    Disconnect,
    /// Write a line to the log.
    Log(Level, String),
}

/// What to subscribe to.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Channels by their names.
    pub channels: Vec<String>,
    /// Channels by glob patterns.
    pub patterns: Vec<String>,
    /// Channels that the broker may refuse: a user of long standing may have rights to the others alone.
    pub optional: Vec<String>,
}

impl Topics {
    /// Whether nothing is subscribed to: the session is there for commands.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty()
    }
}

/// Why a connection was given up.
#[derive(Debug)]
pub enum SessionError {
    /// The name has no address.
    Unresolved(io::Error),
    /// The connection failed or ended.
    Link(io::Error),
    /// The broker closed it.
    Ended,
    /// Nothing came in time; what was waited for.
    Late(&'static str),
    /// The broker refused a command: the command and its words.
    Refused(&'static str, String),
    /// The broker sent what cannot be followed.
    Protocol(ReplyError),
}

/// The session with Redis.
pub struct Session {
    endpoints: Vec<Endpoint>,
    /// Which endpoint is in use, or is tried next.
    current: usize,
    topics: Topics,
    client_name: String,
    state: State,
    decoder: Decoder,
    outgoing: Vec<u8>,
    intents: VecDeque<Intent>,
    /// Attempts that failed since the session last was live.
    failures: u32,
    lost_at: Option<Time>,
    /// What the broker said against us before anything was agreed, such as that it has too many clients.
    objection: Option<String>,
    /// Whether it was logged that something is refused on this connection.
    complained: bool,
    random: Random,
}

enum State {
    Waiting {
        until: Time,
    },
    Resolving {
        deadline: Time,
    },
    Connecting {
        deadline: Time,
        /// Further addresses of the same host.
        others: VecDeque<SocketAddr>,
    },
    /// Commands are sent; their answers come in order.
    Greeting {
        deadline: Time,
        expected: VecDeque<Expected>,
    },
    Live {
        /// When the link is asked for a sign of life, or the sign must have come.
        check_at: Time,
        pinged: bool,
        /// When it became so.
        since: Time,
    },
}

/// Which answer comes next while greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Auth,
    /// The database that commands are for.
    Select,
    /// The name is a convenience: servers before 2.6.9 and some proxies refuse it.
    SetName,
    Subscription,
    /// One that may be refused.
    Optional,
}

impl Session {
    /// A session that connects at once. `endpoints` is not empty.
    pub fn new(endpoints: Vec<Endpoint>, topics: Topics, client_name: &str, seed: u64) -> Session {
        debug_assert!(!endpoints.is_empty());
        Session {
            endpoints,
            current: 0,
            topics,
            // Redis allows no white space in it, and nothing that is not printable.
            client_name: client_name.replace(|letter: char| !letter.is_ascii_graphic(), "-"),
            state: State::Waiting { until: Time::ZERO },
            decoder: Decoder::default(),
            outgoing: Vec::new(),
            intents: VecDeque::new(),
            failures: 0,
            lost_at: None,
            objection: None,
            complained: false,
            random: Random::new(seed),
        }
    }

    /// Whether all that was to be agreed is: messages arrive, or commands are taken.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// When the session must be looked at, whatever happens before.
    pub fn deadline(&self) -> Option<Time> {
        Some(match &self.state {
            State::Waiting { until } => *until,
            State::Resolving { deadline }
            | State::Connecting { deadline, .. }
            | State::Greeting { deadline, .. } => *deadline,
            State::Live { check_at, .. } => *check_at,
        })
    }

    /// Does what has become due.
    pub fn on_time(&mut self, now: Time) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match &mut self.state {
            State::Waiting { .. } => self.begin(now),
            State::Resolving { .. } => self.fail(SessionError::Late("the name's address"), now),
            // The host's other addresses, if any, have their turn.
            State::Connecting { .. } => self.on_lost(Some(io::ErrorKind::TimedOut.into()), now),
            State::Greeting { .. } => self.fail(SessionError::Late("the first answers"), now),
            State::Live { pinged: true, .. } => {
                self.fail(SessionError::Late("a sign of life"), now);
            }
            State::Live {
                check_at, pinged, ..
            } => {
                *pinged = true;
                *check_at = now + limits::PING_DEADLINE;
                resp::encode_command(&mut self.outgoing, &[b"PING"]);
            }
        }
    }

    /// The next thing to do.
    pub fn poll_intent(&mut self) -> Option<Intent> {
        self.intents.pop_front()
    }

    /// Bytes for the broker; empty while there is no connection.
    pub fn unsent(&self) -> &[u8] {
        if self.is_connected() {
            &self.outgoing
        } else {
            &[]
        }
    }

    /// So many of them were sent.
    pub fn on_sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
    }

    /// The answer to [`Intent::Resolve`].
    pub fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if !matches!(self.state, State::Resolving { .. }) {
            return;
        }
        match result {
            Ok(addresses) => self.connect(addresses.into(), now),
            Err(error) => self.fail(SessionError::Unresolved(error), now),
        }
    }

    /// Goes where `leader`, which has the same endpoints, is live: what is published here must come out
    /// there.
    pub fn follow(&mut self, leader: &Session, now: Time) {
        if self.current == leader.current {
            return;
        }
        self.current = leader.current;
        self.outgoing.clear();
        self.intents.push_back(Intent::Disconnect);
        self.state = State::Waiting { until: now };
    }

    /// Sends a command, whose answer is of no interest. False where there is no connection, or where the
    /// broker does not take what was sent before: the command is dropped then, not kept.
    pub fn send_command(&mut self, arguments: &[&[u8]]) -> bool {
        let len: usize = arguments.iter().map(|argument| argument.len()).sum();
        let has_room = self.outgoing.len() + len <= limits::COMMAND_BYTES_MAX;
        if !self.is_live() || !has_room {
            return false;
        }
        resp::encode_command(&mut self.outgoing, arguments);
        true
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Greeting { .. } | State::Live { .. })
    }

    /// Whether a connection is being made.
    pub fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting { .. })
    }

    /// The connection stands: says who we are and what we want, all in one write.
    pub fn on_connected(&mut self, now: Time) {
        if !self.is_connecting() {
            return;
        }
        let endpoint = &self.endpoints[self.current];
        let mut expected = VecDeque::new();
        let out = &mut self.outgoing;
        out.clear();
        if let Some(password) = &endpoint.password {
            match &endpoint.username {
                Some(username) => {
                    resp::encode_command(out, &[b"AUTH", username.as_bytes(), password.as_bytes()]);
                }
                None => resp::encode_command(out, &[b"AUTH", password.as_bytes()]),
            }
            expected.push_back(Expected::Auth);
        }
        resp::encode_command(out, &[b"CLIENT", b"SETNAME", self.client_name.as_bytes()]);
        expected.push_back(Expected::SetName);
        if endpoint.db != 0 && self.topics.is_empty() {
            resp::encode_command(out, &[b"SELECT", endpoint.db.to_string().as_bytes()]);
            expected.push_back(Expected::Select);
        }
        let topics = [
            ("SUBSCRIBE", &self.topics.channels),
            ("PSUBSCRIBE", &self.topics.patterns),
        ];
        for (command, names) in topics {
            if names.is_empty() {
                continue;
            }
            let mut arguments = vec![command.as_bytes()];
            arguments.extend(names.iter().map(String::as_bytes));
            resp::encode_command(out, &arguments);
            expected.extend(names.iter().map(|_| Expected::Subscription));
        }
        for name in &self.topics.optional {
            resp::encode_command(out, &[b"SUBSCRIBE", name.as_bytes()]);
            expected.push_back(Expected::Optional);
        }
        self.complained = false;
        self.decoder = Decoder::default();
        self.state = State::Greeting {
            deadline: now + limits::CONNECT_DEADLINE,
            expected,
        };
    }

    /// The connection failed, or could not be made; `None` where the broker ended it.
    pub fn on_lost(&mut self, error: Option<io::Error>, now: Time) {
        if let State::Connecting { others, .. } = &mut self.state
            && !others.is_empty()
        {
            // `localhost` is often two addresses, one of which nobody listens on.
            let others = std::mem::take(others);
            self.intents.push_back(Intent::Disconnect);
            return self.connect(others, now);
        }
        if matches!(self.state, State::Waiting { .. } | State::Resolving { .. }) {
            return;
        }
        self.fail(error.map_or(SessionError::Ended, SessionError::Link), now);
    }

    /// Takes bytes from the front of `input`, up to the end of the next message; `None` once it is empty.
    pub fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message> {
        if let State::Live {
            check_at, pinged, ..
        } = &mut self.state
        {
            *check_at = now + limits::PING_INTERVAL;
            *pinged = false;
        }
        while self.is_connected() {
            match self.decoder.next_value(input) {
                Ok(Some(value)) => match message_of(value) {
                    Ok(message) => return Some(message),
                    Err(other) => self.on_reply(&other, now),
                },
                Ok(None) => return None,
                Err(error) => self.fail(SessionError::Protocol(error), now),
            }
        }
        // The rest belongs to a connection that has been given up.
        *input = &[];
        None
    }

    fn begin(&mut self, now: Time) {
        match self.endpoints[self.current].address.clone() {
            Address::Tcp { host, port } => {
                self.state = State::Resolving {
                    deadline: now + limits::RESOLVE_DEADLINE,
                };
                self.intents.push_back(Intent::Resolve(host, port));
            }
            Address::Unix(path) => {
                let deadline = now + limits::CONNECT_DEADLINE;
                self.state = State::Connecting {
                    deadline,
                    others: VecDeque::new(),
                };
                self.intents.push_back(Intent::ConnectUnix(path));
            }
        }
    }

    fn connect(&mut self, mut addresses: VecDeque<SocketAddr>, now: Time) {
        let Some(address) = addresses.pop_front() else {
            let error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            return self.fail(SessionError::Unresolved(error), now);
        };
        let deadline = now + limits::CONNECT_DEADLINE;
        self.state = State::Connecting {
            deadline,
            others: addresses,
        };
        self.intents.push_back(Intent::ConnectTcp(address));
    }

    /// An answer that is no message.
    fn on_reply(&mut self, value: &Value, now: Time) {
        let refusal = match value {
            Value::ServerError(error) => Some(error.to_string()),
            _ => None,
        };
        let State::Greeting { expected, .. } = &mut self.state else {
            // The answer to a PING, or a refusal of one, is a sign of life.
            if let Some(words) = refusal {
                self.complain(&words);
            }
            return;
        };
        let Some(next) = expected.pop_front() else {
            return;
        };
        let is_last = expected.is_empty();
        let command = match next {
            Expected::Auth => "AUTH",
            Expected::Select => "SELECT",
            Expected::Subscription => "SUBSCRIBE",
            Expected::SetName | Expected::Optional => "",
        };
        match refusal {
            Some(words) if next == Expected::SetName => self.objection = Some(words),
            Some(words) if next == Expected::Optional => self.complain(&words),
            Some(words) => return self.fail(SessionError::Refused(command, words), now),
            None => {}
        }
        if is_last {
            self.become_live(now);
        }
    }

    /// Says that the broker refuses something that we can do without, once for each connection.
    fn complain(&mut self, words: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            let endpoint = &self.endpoints[self.current];
            let words = shown(words);
            let line = format!("redis: {endpoint} refuses a command: {words}");
            self.intents.push_back(Intent::Log(Level::Warn, line));
        }
    }

    fn become_live(&mut self, now: Time) {
        let after = match self.lost_at.take() {
            Some(lost_at) => format!(" after {:.1} s", now.since(lost_at).as_secs_f64()),
            None => String::new(),
        };
        self.objection = None;
        let endpoint = &self.endpoints[self.current];
        if !self.topics.is_empty() {
            let line = format!("redis: subscribed at {endpoint}{after}");
            self.intents.push_back(Intent::Log(Level::Info, line));
        }
        self.state = State::Live {
            check_at: now + limits::PING_INTERVAL,
            pinged: false,
            since: now,
        };
    }

    /// Gives the connection up and plans the next attempt: the other endpoints at once, then a pause.
    fn fail(&mut self, error: SessionError, now: Time) {
        let was_live = self.is_live();
        // A broker that takes us and drops us at once is not to be asked ten times a second.
        if let State::Live { since, .. } = self.state
            && now.since(since) >= limits::PING_INTERVAL
        {
            self.failures = 0;
        }
        let error = match (error, self.objection.take()) {
            (SessionError::Ended | SessionError::Link(_), Some(words)) => {
                SessionError::Refused("a connection", words)
            }
            (error, _) => error,
        };
        let failed = self.endpoints[self.current].to_string();
        self.failures = self.failures.saturating_add(1);
        // An endpoint that was live is the likeliest to be so again.
        if !was_live {
            self.current = (self.current + 1) % self.endpoints.len();
        }
        let pause = self.pause(was_live);
        self.lost_at.get_or_insert(now);
        self.outgoing.clear();
        self.state = State::Waiting { until: now + pause };
        self.intents.push_back(Intent::Disconnect);
        // Where commands go and messages come from is one server: one of the two sessions speaks for both.
        if !self.topics.is_empty() || matches!(error, SessionError::Refused(..)) {
            let next = &self.endpoints[self.current];
            let millis = pause.as_millis();
            let line = format!("redis: {failed}: {error}; trying {next} in {millis} ms");
            self.intents.push_back(Intent::Log(Level::Warn, line));
        }
    }

    /// How long to wait after a failure: doubled with each round through the endpoints, and spread over
    /// its upper half, so that many copies of the server do not come back together.
    fn pause(&mut self, was_live: bool) -> Duration {
        let endpoints = self.endpoints.len() as u32;
        if !was_live && !self.failures.is_multiple_of(endpoints) {
            return Duration::ZERO;
        }
        let doublings = (self.failures / endpoints).saturating_sub(1).min(16);
        let longest = limits::BACKOFF_MIN * 2 * 2_u32.pow(doublings);
        let longest = longest.min(limits::BACKOFF_MAX);
        self.random.between(longest / 2, longest)
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Unresolved(error) => write!(out, "cannot be resolved: {error}"),
            SessionError::Link(error) => write!(out, "{error}"),
            SessionError::Ended => write!(out, "the connection was closed by the server"),
            SessionError::Late(what) => write!(out, "{what} did not come in time"),
            SessionError::Refused(command, words) => {
                write!(out, "{command} was refused: {}", shown(words))
            }
            SessionError::Protocol(error) => write!(out, "the server sent {error}"),
        }
    }
}

/// Another program's words, so that they neither end our line nor fill the log.
fn shown(words: &str) -> String {
    let words: String = words.chars().take(limits::SHOWN_BYTES_MAX).collect();
    words.escape_debug().to_string()
}

/// A message, or the value itself where it is none.
fn message_of(value: Value) -> Result<Message, Value> {
    let Value::Array(mut items) = value else {
        return Err(value);
    };
    let is = |item: &Value, kind: &[u8]| matches!(item, Value::BulkString(bytes) if bytes == kind);
    let is_message = match items.as_slice() {
        [kind, _, _] => is(kind, b"message"),
        [kind, _, _, _] => is(kind, b"pmessage"),
        _ => false,
    };
    if is_message
        && let Some(Value::BulkString(payload)) =
            items.pop_if(|item| matches!(item, Value::BulkString(_)))
        && let Some(Value::BulkString(channel)) = items.pop()
    {
        return Ok(Message { channel, payload });
    }
    Err(Value::Array(items))
}
