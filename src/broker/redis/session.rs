//! Redis: a session, which subscribes, or is there for commands where it has nothing to subscribe to. It owns
//! logging in, subscribing, finding out that the link is dead, and which server is next; it must not make a
//! system call: what it wants is asked of it (`poll_intent`, `unsent`), and what happened is told to it
//! (`on_…`).
//!
//! One session lives as long as the process. While its dialer is connected it is `Greeting`, then `Live`, and
//! any failure leads back to the dialer.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use redis::{ServerError, Value};

use super::answers::{Answer, Question, message_of, strings_of};
use super::resp::{self, Decoder, ReplyError};
use super::{Address, Endpoint};
use crate::broker::link::dialer::Dialer;
use crate::broker::link::{Conversation, Failure, Target, Transport};
use crate::broker::{Message, Unanswered, shown};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

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
    /// As any connection may be.
    Upstream(Failure),
    /// The broker refused a command: the command and its words.
    Refused(&'static str, String),
    /// The broker sent what cannot be followed.
    Protocol(ReplyError),
}

/// The session with Redis.
pub struct Session {
    endpoints: Vec<Endpoint>,
    /// The same as they are shown.
    places: Vec<String>,
    /// Which endpoint is in use, or is tried next.
    current: usize,
    topics: Topics,
    /// Channels and patterns that somebody wants at present, and which of the two each is.
    wanted: BTreeMap<Box<[u8]>, bool>,
    client_name: String,
    dialer: Dialer,
    /// How far the conversation has come; meaningless while the dialer is not connected.
    talk: Talk,
    decoder: Decoder,
    outgoing: Vec<u8>,
    /// What the answers to come are for, in their order.
    awaited: VecDeque<Awaited>,
    /// How many of those are about channels that clients have come for, or have left.
    unanswered: usize,
    answers: VecDeque<(Question, Answer)>,
    /// Attempts that failed since the session last was live.
    failures: u32,
    /// How often a live session was lost.
    losses: u64,
    /// Since when it has been live, or has not been.
    since: Time,
    /// What the broker said against us before anything was agreed, such as that it has too many clients.
    objection: Option<String>,
    /// Whether it was logged that something is refused on this connection.
    complained: bool,
    /// Of a session for commands: whether the other one is live, so that it does not speak for both.
    is_alone: bool,
    /// Of the same: whether it was logged that it cannot be live.
    mourned: bool,
}

#[derive(Clone, Copy)]
enum Talk {
    /// Commands are sent; their answers come in order.
    Greeting {
        deadline: Time,
        /// Answers that are still to come. What clients come for meanwhile is not waited for: there may always be
        /// more of it.
        left: usize,
    },
    Live {
        /// When the link is asked for a sign of life, or the sign must have come.
        check_at: Time,
        pinged: bool,
    },
}

/// What an answer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaited {
    Auth,
    /// The database that commands are for.
    Select,
    /// The name is a convenience: servers before 2.6.9 and some proxies refuse it.
    SetName,
    Subscription,
    /// One that may be refused.
    Optional,
    /// The same, of this channel or pattern that a client wants.
    Channel(Box<[u8]>),
    /// A command whose answer is of no interest, but as a sign of life.
    Nothing,
    /// What was asked.
    Question(Question),
}

impl Session {
    /// A session that connects at once. `endpoints` is not empty.
    pub fn new(endpoints: Vec<Endpoint>, topics: Topics, client_name: &str, seed: u64) -> Session {
        debug_assert!(!endpoints.is_empty());
        Session {
            places: endpoints.iter().map(ToString::to_string).collect(),
            endpoints,
            current: 0,
            topics,
            wanted: BTreeMap::new(),
            // Redis allows no white space in it, and nothing that is not printable.
            client_name: client_name.replace(|letter: char| !letter.is_ascii_graphic(), "-"),
            dialer: Dialer::new(seed),
            talk: Talk::Greeting {
                deadline: Time::ZERO,
                left: 0,
            },
            decoder: Decoder::default(),
            outgoing: Vec::new(),
            awaited: VecDeque::new(),
            unanswered: 0,
            answers: VecDeque::new(),
            failures: 0,
            losses: 0,
            since: Time::ZERO,
            objection: None,
            complained: false,
            is_alone: false,
            mourned: false,
        }
    }

    /// Whether all that was to be agreed is: messages arrive, or commands are taken.
    pub fn is_live(&self) -> bool {
        self.dialer.is_connected() && matches!(self.talk, Talk::Live { .. })
    }

    /// Since when it has been live, or has not been.
    pub fn since(&self) -> Time {
        self.since
    }

    /// How often a live session was lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// The endpoint in use, or tried next, without its password.
    pub fn place(&self) -> &str {
        &self.places[self.current]
    }

    /// Goes where `leader`, which has the same endpoints, is live: what is published here must come out
    /// there. A pause that has begun is not cut short by it.
    pub fn follow(&mut self, leader: &Session, now: Time) {
        self.is_alone = leader.is_live();
        if !self.is_alone || self.current == leader.current {
            return;
        }
        self.current = leader.current;
        if !self.dialer.is_waiting() {
            self.forget_conversation();
            self.dialer.hang_up(Duration::ZERO, now);
        }
    }

    /// Asks for a channel, or for a pattern, from now on and after each reconnect. What waits to be sent of this is
    /// bounded by how many channels clients can come for while a broker that does not read is found out.
    pub fn listen(&mut self, name: &[u8], is_pattern: bool) {
        self.wanted.insert(name.into(), is_pattern);
        if self.dialer.is_connected() {
            self.ask_for(subscribe_command(is_pattern), name);
        }
    }

    /// Asks for it no longer.
    pub fn unlisten(&mut self, name: &[u8], is_pattern: bool) {
        self.wanted.remove(name);
        if self.dialer.is_connected() {
            let command = match is_pattern {
                true => "PUNSUBSCRIBE",
                false => "UNSUBSCRIBE",
            };
            self.ask_for(command, name);
        }
    }

    /// How many wishes of [`Session::listen`] and [`Session::unlisten`] have no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    /// Whether commands of so many bytes would be taken at once.
    pub fn has_room_for(&self, len: usize) -> bool {
        self.is_live() && self.outgoing.len() + len <= limits::COMMAND_BYTES_MAX
    }

    /// Sends a command, whose answer is of no interest. False where there is no connection, or where the
    /// broker does not take what was sent before: the command is dropped then, not kept.
    pub fn send_command(&mut self, arguments: &[&[u8]]) -> bool {
        self.send(Awaited::Nothing, arguments)
    }

    /// Sends a command, whose answer comes from [`Session::poll_answer`]. False where it was dropped.
    pub fn ask(&mut self, question: Question, arguments: &[&[u8]]) -> bool {
        self.send(Awaited::Question(question), arguments)
    }

    /// The next answer. A connection that is lost answers all that was asked.
    pub fn poll_answer(&mut self) -> Option<(Question, Answer)> {
        self.answers.pop_front()
    }

    /// Takes bytes from the front of `input`, up to the end of the next message; `None` once it is empty.
    pub fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message> {
        if let Talk::Live { check_at, pinged } = &mut self.talk {
            *check_at = now + limits::PING_INTERVAL;
            *pinged = false;
        }
        while self.dialer.is_connected() {
            match self.decoder.next_value(input) {
                // Whoever has subscribed to nothing gets no message, whatever an answer looks like.
                Ok(Some(value)) if self.topics.is_empty() => self.on_reply(value, now),
                Ok(Some(value)) => match message_of(value) {
                    Ok(message) => return Some(message),
                    Err(other) => self.on_reply(other, now),
                },
                Ok(None) => return None,
                Err(error) => self.give_up(SessionError::Protocol(error), now),
            }
        }
        // The rest belongs to a connection that has been given up.
        *input = &[];
        None
    }

    fn send(&mut self, awaited: Awaited, arguments: &[&[u8]]) -> bool {
        let len: usize = arguments.iter().map(|argument| argument.len()).sum();
        if !self.has_room_for(len) {
            return false;
        }
        resp::encode_command(&mut self.outgoing, arguments);
        self.awaited.push_back(awaited);
        true
    }

    /// One name a command, because a user may have rights to some of the channels only, and a refusal is for the
    /// whole command.
    fn ask_for(&mut self, command: &str, name: &[u8]) {
        resp::encode_command(&mut self.outgoing, &[command.as_bytes(), name]);
        self.awaited.push_back(Awaited::Channel(name.into()));
        self.unanswered += 1;
    }

    fn forget_conversation(&mut self) {
        self.unanswered = 0;
        self.outgoing.clear();
        for awaited in self.awaited.drain(..) {
            if let Awaited::Question(question) = awaited {
                self.answers.push_back((question, Err(Unanswered::Lost)));
            }
        }
    }

    /// An answer that is no message.
    fn on_reply(&mut self, value: Value, now: Time) {
        let refusal = match &value {
            Value::ServerError(error) => Some(self.words_of(error)),
            _ => None,
        };
        let Some(awaited) = self.awaited.pop_front() else {
            // On a connection that is subscribed, only refusals say something that we did not await.
            if let Some(words) = refusal {
                self.complain(&words);
            }
            return;
        };
        if matches!(awaited, Awaited::Channel(_)) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        let command = match &awaited {
            Awaited::Auth => "AUTH",
            Awaited::Select => "SELECT",
            Awaited::Subscription => "SUBSCRIBE",
            Awaited::SetName
            | Awaited::Optional
            | Awaited::Channel(_)
            | Awaited::Nothing
            | Awaited::Question(_) => "",
        };
        match (awaited, refusal) {
            (Awaited::Question(question), refusal) => {
                let refused = |words| Err(Unanswered::Refused(words));
                let answer = refusal.map_or_else(|| strings_of(value), refused);
                self.answers.push_back((question, answer));
            }
            // Some brokers quote what they were sent.
            (Awaited::Auth, Some(words)) => {
                let code = words.split(' ').next().unwrap_or_default().to_owned();
                return self.give_up(SessionError::Refused(command, code), now);
            }
            (_, None) => {}
            (Awaited::SetName, Some(words)) => self.objection = Some(words),
            (Awaited::Optional | Awaited::Nothing, Some(words)) => self.complain(&words),
            (Awaited::Channel(name), Some(words)) => {
                let name = shown(&String::from_utf8_lossy(&name));
                self.complain(&format!("{words} (the channel is {name:?})"));
            }
            (_, Some(words)) => return self.give_up(SessionError::Refused(command, words), now),
        }
        if let Talk::Greeting { left, .. } = &mut self.talk {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.become_live(now);
            }
        }
    }

    /// The broker's words against us, without our password: some brokers quote what they were sent.
    fn words_of(&self, error: &ServerError) -> String {
        let details = error.details().unwrap_or_default();
        let words = format!("{} {details}", error.code());
        // Before it is cut to its length, which might leave a part of it.
        match self.endpoints[self.current].password.as_deref() {
            None | Some("") => shown(&words),
            Some(password) => shown(&words.replace(password, "***")),
        }
    }

    /// Says that the broker refuses something that we can do without, once for each connection.
    fn complain(&mut self, words: &str) {
        if !std::mem::replace(&mut self.complained, true) {
            let line = format!("redis: {} refuses a command: {words}", self.place());
            self.dialer.log(Level::Warn, line);
        }
    }

    fn become_live(&mut self, now: Time) {
        self.objection = None;
        let does = match self.topics.is_empty() {
            true => "takes commands again",
            false => "subscribed",
        };
        if !self.topics.is_empty() || std::mem::take(&mut self.mourned) {
            let after = match self.failures {
                0 => String::new(),
                _ => format!(" after {:.1} s", now.since(self.since).as_secs_f64()),
            };
            let line = format!("redis: {does} at {}{after}", self.place());
            self.dialer.log(Level::Info, line);
        }
        self.since = now;
        self.talk = Talk::Live {
            check_at: now + limits::PING_INTERVAL,
            pinged: false,
        };
    }

    /// Gives the connection up and plans the next attempt: the other endpoints at once, then a pause.
    fn give_up(&mut self, error: SessionError, now: Time) {
        let was_live = self.is_live();
        // A broker that takes us and drops us at once is not to be asked ten times a second.
        if was_live && now.since(self.since) >= limits::PING_INTERVAL {
            self.failures = 0;
        }
        let error = match (error, self.objection.take()) {
            (SessionError::Upstream(Failure::Ended | Failure::Link(_)), Some(words)) => {
                SessionError::Refused("a connection", words)
            }
            (error, _) => error,
        };
        let failed = self.current;
        self.failures = self.failures.saturating_add(1);
        if was_live {
            self.losses += 1;
            self.since = now;
        } else {
            // One that was live is the likeliest to be so again.
            self.current = (self.current + 1) % self.endpoints.len();
        }
        let pause = self.pause(was_live);
        self.forget_conversation();
        self.dialer.hang_up(pause, now);
        let (failed, next) = (&self.places[failed], self.place());
        let millis = pause.as_millis();
        if !self.topics.is_empty() {
            let line = format!("redis: {failed}: {error}; trying {next} in {millis} ms");
            self.dialer.log(Level::Warn, line);
        } else if self.is_alone && !was_live && !std::mem::replace(&mut self.mourned, true) {
            // Where commands go and messages come from is one server, and the session for these speaks for
            // both; but not where it alone got in.
            let line =
                format!("redis: {failed} takes no commands: {error}; trying again and again");
            self.dialer.log(Level::Warn, line);
        }
    }

    /// How long to wait after a failure: not before all endpoints were tried.
    fn pause(&mut self, was_live: bool) -> Duration {
        let endpoints = self.endpoints.len() as u32;
        if !was_live && !self.failures.is_multiple_of(endpoints) {
            return Duration::ZERO;
        }
        self.dialer.pause_after(self.failures / endpoints)
    }
}

impl Conversation for Session {
    fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn dialer_mut(&mut self) -> &mut Dialer {
        &mut self.dialer
    }

    fn dial(&mut self, now: Time) {
        match self.endpoints[self.current].address.clone() {
            Address::Tcp { host, port } => {
                let transport = Transport::Tcp;
                let target = Target {
                    transport,
                    host,
                    port,
                };
                self.dialer.dial(&target, now);
            }
            Address::Unix(path) => self.dialer.dial_unix(path, now),
        }
    }

    fn fail(&mut self, failure: Failure, now: Time) {
        self.give_up(SessionError::Upstream(failure), now);
    }

    /// Says who we are and what we want, all in one write.
    fn begin(&mut self, now: Time) {
        self.forget_conversation();
        let endpoint = &self.endpoints[self.current];
        let (out, awaited) = (&mut self.outgoing, &mut self.awaited);
        if let Some(password) = &endpoint.password {
            match &endpoint.username {
                Some(username) => {
                    resp::encode_command(out, &[b"AUTH", username.as_bytes(), password.as_bytes()]);
                }
                None => resp::encode_command(out, &[b"AUTH", password.as_bytes()]),
            }
            awaited.push_back(Awaited::Auth);
        }
        resp::encode_command(out, &[b"CLIENT", b"SETNAME", self.client_name.as_bytes()]);
        awaited.push_back(Awaited::SetName);
        if self.topics.is_empty() {
            // A broker that turns us away says so in answer to whatever came first, and ends.
            resp::encode_command(out, &[b"PING"]);
            awaited.push_back(Awaited::Nothing);
        }
        if endpoint.db != 0 && self.topics.is_empty() {
            resp::encode_command(out, &[b"SELECT", endpoint.db.to_string().as_bytes()]);
            awaited.push_back(Awaited::Select);
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
            awaited.extend(names.iter().map(|_| Awaited::Subscription));
        }
        for name in &self.topics.optional {
            resp::encode_command(out, &[b"SUBSCRIBE", name.as_bytes()]);
            awaited.push_back(Awaited::Optional);
        }
        for (name, is_pattern) in std::mem::take(&mut self.wanted) {
            self.ask_for(subscribe_command(is_pattern), &name);
            self.wanted.insert(name, is_pattern);
        }
        self.complained = false;
        self.decoder = Decoder::default();
        self.talk = Talk::Greeting {
            deadline: now + limits::CONNECT_DEADLINE,
            left: self.awaited.len(),
        };
    }

    fn talk_deadline(&self) -> Option<Time> {
        Some(match self.talk {
            Talk::Greeting { deadline, .. } => deadline,
            Talk::Live { check_at, .. } => check_at,
        })
    }

    fn on_talk_time(&mut self, now: Time) {
        match &mut self.talk {
            Talk::Greeting { .. } => self.fail(Failure::Late("the first answers"), now),
            Talk::Live { pinged: true, .. } => self.fail(Failure::Late("a sign of life"), now),
            Talk::Live { check_at, pinged } => {
                *pinged = true;
                *check_at = now + limits::PING_DEADLINE;
                resp::encode_command(&mut self.outgoing, &[b"PING"]);
                self.awaited.push_back(Awaited::Nothing);
            }
        }
    }

    fn unsent(&self) -> &[u8] {
        if self.dialer.is_connected() {
            &self.outgoing
        } else {
            &[]
        }
    }

    fn on_sent(&mut self, len: usize) {
        self.outgoing.drain(..len);
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Upstream(failure) => write!(out, "{failure}"),
            SessionError::Refused(command, words) => {
                write!(out, "{command} was refused: {words}")
            }
            SessionError::Protocol(error) => write!(out, "the server sent {error}"),
        }
    }
}

fn subscribe_command(is_pattern: bool) -> &'static str {
    match is_pattern {
        true => "PSUBSCRIBE",
        false => "SUBSCRIBE",
    }
}
