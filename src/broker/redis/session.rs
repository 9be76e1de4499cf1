//! The session with Redis over one connection, which subscribes or is there for commands. It owns logging in,
//! subscribing, finding out that the link is dead, and which server is next; it must not make a system call: what it
//! wants is asked of it (`poll_intent`, `unsent`), and what happened is told to it (`on_…`).

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{ServerError, Value};

use super::answers::{message_of, strings_of};
use super::error::SessionError;
use super::pipeline::{Awaited, Pipeline, Question, Strings};
use super::resp::Decoder;
use super::servers::Servers;
use super::{Address, Endpoint};
use crate::broker::link::dialer::{Destination, Dialer};
use crate::broker::link::{Conversation, Failure, Target};
use crate::broker::{Message, Topics, Unanswered, shown, shown_without};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

/// What a session is for.
enum Role {
    /// It subscribes.
    Subscriber {
        topics: Topics,
        /// Channels and patterns that somebody wants at present, and which of the two each is.
        wanted: BTreeMap<Box<[u8]>, bool>,
    },
    /// It sends commands to where the subscriber goes: a name may stand for several servers, and what is
    /// published at one of them need not come out at another.
    Commander {
        destination: Option<Destination>,
        /// Whether the subscriber is live, so that it does not speak for both.
        leader_is_live: bool,
        /// Whether it was logged that this session cannot be live.
        logged_down: bool,
    },
}

/// The session with Redis. One lives as long as the process: while its dialer is connected it is `Greeting`, then
/// `Live`, and any failure leads back to the dialer.
pub(super) struct Session {
    servers: Servers,
    role: Role,
    client_name: String,
    dialer: Dialer,
    /// How far the conversation has come; meaningless while the dialer is not connected.
    talk: Talk,
    decoder: Decoder,
    pipeline: Pipeline,
    /// What the server said against us before anything was agreed, such as that it has too many clients.
    reject_reason: Option<String>,
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

impl Session {
    /// A session that connects at once and subscribes. `endpoints` is not empty.
    pub(super) fn subscriber(
        endpoints: Vec<Endpoint>,
        topics: Topics,
        client_name: &str,
        seed: u64,
    ) -> Session {
        let role = Role::Subscriber {
            topics,
            wanted: BTreeMap::new(),
        };
        Session::new(endpoints, role, client_name, Dialer::new(seed))
    }

    /// A session for commands, which waits for [`Session::follow`].
    pub(super) fn commander(endpoints: Vec<Endpoint>, client_name: &str, seed: u64) -> Session {
        let role = Role::Commander {
            destination: None,
            leader_is_live: false,
            logged_down: false,
        };
        Session::new(endpoints, role, client_name, Dialer::idle(seed))
    }

    fn new(endpoints: Vec<Endpoint>, role: Role, client_name: &str, dialer: Dialer) -> Session {
        Session {
            servers: Servers::new(endpoints),
            role,
            // Redis allows no white space in it, and nothing that is not printable.
            client_name: client_name.replace(|letter: char| !letter.is_ascii_graphic(), "-"),
            dialer,
            talk: Talk::Greeting {
                deadline: Time::ZERO,
                left: 0,
            },
            decoder: Decoder::default(),
            pipeline: Pipeline::default(),
            reject_reason: None,
        }
    }

    /// Whether all that was to be agreed is: messages arrive, or commands are taken.
    pub(super) fn is_live(&self) -> bool {
        self.dialer.is_connected() && matches!(self.talk, Talk::Live { .. })
    }

    /// The server in use, or tried next, without its password.
    pub(super) fn place(&self) -> &str {
        self.servers.place()
    }

    /// Goes where `leader`, which has the same servers, goes: what is published here must come out there.
    /// A connection that stands is given up only for one of the leader's that is live, and a pause that has begun is
    /// not cut short.
    pub(super) fn follow(&mut self, leader: &Session, now: Time) {
        let Role::Commander {
            destination,
            leader_is_live,
            ..
        } = &mut self.role
        else {
            return;
        };
        *leader_is_live = leader.is_live();
        let Some(target) = leader.dialer.destination() else {
            return;
        };
        let is_there = destination.as_ref() == Some(target) && self.servers.is_at(&leader.servers);
        if is_there || (self.dialer.is_connected() && !leader.is_live()) {
            return;
        }
        *destination = Some(target.clone());
        self.servers.follow(&leader.servers);
        if !self.dialer.is_pausing() {
            self.pipeline.clear();
            self.dialer.hang_up(Duration::ZERO, now);
        }
    }

    /// Asks for a channel, or for a pattern, from now on and after each reconnect. What waits to be sent of this is
    /// bounded by how many channels clients can come for while a server that does not read is found out.
    pub(super) fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        if let Role::Subscriber { wanted, .. } = &mut self.role {
            wanted.insert(name.into(), is_pattern);
            if self.dialer.is_connected() {
                self.ask_for(subscribe_command(is_pattern), name);
            }
        }
    }

    /// Asks for it no longer.
    pub(super) fn unsubscribe(&mut self, name: &[u8], is_pattern: bool) {
        if let Role::Subscriber { wanted, .. } = &mut self.role {
            wanted.remove(name);
            if self.dialer.is_connected() {
                let command = if is_pattern {
                    "PUNSUBSCRIBE"
                } else {
                    "UNSUBSCRIBE"
                };
                self.ask_for(command, name);
            }
        }
    }

    /// How many wishes of [`Session::subscribe`] and [`Session::unsubscribe`] have no answer yet.
    pub(super) fn unanswered(&self) -> usize {
        self.pipeline.awaited_channels()
    }

    /// Whether commands of so many bytes would be taken at once.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.is_live() && self.pipeline.unsent().len() + len <= limits::COMMAND_BYTES_MAX
    }

    /// Sends a command; the answer to a question comes from [`Session::poll_answer`]. False where there is no
    /// connection, or where the broker does not take what was sent before: the command is dropped then, not kept.
    pub(super) fn send(&mut self, awaited: Awaited, arguments: &[&[u8]]) -> bool {
        let len: usize = arguments.iter().map(|argument| argument.len()).sum();
        let has_room = self.has_room_for(len);
        if has_room {
            self.say(awaited, arguments);
        }
        has_room
    }

    /// The next answer. A connection that is lost answers all that was asked.
    pub(super) fn poll_answer(&mut self) -> Option<(Question, Strings)> {
        self.pipeline.poll_answer()
    }

    fn say(&mut self, awaited: Awaited, arguments: &[&[u8]]) {
        self.pipeline.push(arguments, awaited, 1);
    }

    /// Subscribes to what is listened to from the beginning.
    fn say_topics(&mut self, topics: &Topics) {
        let kinds = [
            ("SUBSCRIBE", &topics.channels),
            ("PSUBSCRIBE", &topics.patterns),
        ];
        for (command, names) in kinds {
            if names.is_empty() {
                continue;
            }
            let mut arguments = vec![command.as_bytes()];
            arguments.extend(names.iter().map(String::as_bytes));
            self.pipeline
                .push(&arguments, Awaited::Subscription, names.len());
        }
        for name in &topics.optional {
            self.say(Awaited::Optional, &[b"SUBSCRIBE", name.as_bytes()]);
        }
    }

    /// One name a command, because a user may have rights to some of the channels only, and a refusal is for the
    /// whole command.
    fn ask_for(&mut self, command: &str, name: &[u8]) {
        self.say(Awaited::Channel(name.into()), &[command.as_bytes(), name]);
    }

    fn is_commander(&self) -> bool {
        matches!(self.role, Role::Commander { .. })
    }

    /// An answer that is no message.
    fn on_reply(&mut self, value: Value, now: Time) {
        let refusal = match &value {
            Value::ServerError(error) => Some(self.words_of(error)),
            _ => None,
        };
        let Some(awaited) = self.pipeline.handle_reply() else {
            // On a connection that is subscribed, only refusals say something that we did not await.
            if let Some(words) = refusal {
                self.log_refusal(&words);
            }
            return;
        };
        match (awaited, refusal) {
            (Awaited::Question(question), refusal) => {
                let refused = |words| Err(Unanswered::Refused(words));
                let answer = refusal.map_or_else(|| strings_of(value), refused);
                self.pipeline.handle_answer(question, answer);
            }
            // Some brokers quote what they were sent.
            (Awaited::Auth, Some(words)) => {
                let code = words.split(' ').next().unwrap_or_default().to_owned();
                return self.give_up(SessionError::Refused("AUTH", code), now);
            }
            (_, None) => {}
            (Awaited::SetName, Some(words)) => self.reject_reason = Some(words),
            (Awaited::Optional | Awaited::Nothing, Some(words)) => self.log_refusal(&words),
            (Awaited::Channel(name), Some(words)) => {
                let name = shown(&String::from_utf8_lossy(&name));
                self.log_refusal(&format!("{words} (the channel is {name:?})"));
            }
            (Awaited::Select, Some(words)) => {
                return self.give_up(SessionError::Refused("SELECT", words), now);
            }
            (Awaited::Subscription, Some(words)) => {
                return self.give_up(SessionError::Refused("SUBSCRIBE", words), now);
            }
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
        let password = self.servers.endpoint().password.as_deref();
        shown_without(password.unwrap_or_default(), &words)
    }

    /// Says that the broker refuses something that we can do without, once for each connection.
    fn log_refusal(&mut self, words: &str) {
        let line = format!("redis: {} refuses a command: {words}", self.place());
        self.dialer.log_once("refusal", line);
    }

    fn become_live(&mut self, now: Time) {
        self.reject_reason = None;
        let after = self.dialer.handle_live(now);
        let does = match &mut self.role {
            Role::Subscriber { .. } => Some("subscribed"),
            Role::Commander { logged_down, .. } => {
                std::mem::take(logged_down).then_some("takes commands again")
            }
        };
        if let Some(does) = does {
            let line = format!("redis: {does} at {}{after}", self.place());
            self.dialer.log(Level::Info, line);
        }
        self.talk = Talk::Live {
            check_at: now + limits::PING_INTERVAL,
            pinged: false,
        };
    }

    /// Gives the connection up and plans the next attempt: the other servers at once, then a pause.
    fn give_up(&mut self, error: SessionError, now: Time) {
        let was_live = self.is_live();
        let error = match (error, self.reject_reason.take()) {
            (SessionError::Upstream(Failure::Ended | Failure::Link(_)), Some(words)) => {
                SessionError::Refused("a connection", words)
            }
            (error, _) => error,
        };
        let failed = self.place().to_owned();
        // One that was live is the likeliest to be so again.
        if !was_live && !self.is_commander() {
            self.servers.advance();
        }
        let servers = match self.role {
            Role::Subscriber { .. } => self.servers.len(),
            Role::Commander { .. } => 1,
        };
        let pause = self.dialer.give_up(was_live, servers, now);
        self.pipeline.clear();
        let line = match &mut self.role {
            Role::Subscriber { .. } => {
                let (next, millis) = (self.servers.place(), pause.as_millis());
                format!("redis: {failed}: {error}; trying {next} in {millis} ms")
            }
            // Where commands go and messages come from is one server, and the session for these speaks for both; but
            // not where it alone got in.
            Role::Commander {
                leader_is_live,
                logged_down,
                ..
            } => {
                let is_news = *leader_is_live && !was_live && !*logged_down;
                if !is_news {
                    return;
                }
                *logged_down = true;
                format!("redis: command connection to {failed} failed: {error}; retrying")
            }
        };
        self.dialer.log(Level::Warn, line);
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
        if let Role::Commander {
            destination: Some(destination),
            ..
        } = &self.role
        {
            return self.dialer.dial_directly(destination.clone(), now);
        }
        match self.servers.endpoint().address.clone() {
            Address::Tcp { host, port } => {
                self.dialer.dial(&Target::tcp(host, port), now);
            }
            Address::Unix(path) => self.dialer.dial_directly(Destination::Path(path), now),
        }
    }

    fn fail(&mut self, failure: Failure, now: Time) {
        self.give_up(SessionError::Upstream(failure), now);
    }

    /// Says who we are and what we want, all in one write.
    fn begin(&mut self, now: Time) {
        self.pipeline.clear();
        let endpoint = self.servers.endpoint().clone();
        if let Some(password) = &endpoint.password {
            match &endpoint.username {
                Some(user) => self.say(
                    Awaited::Auth,
                    &[b"AUTH", user.as_bytes(), password.as_bytes()],
                ),
                None => self.say(Awaited::Auth, &[b"AUTH", password.as_bytes()]),
            }
        }
        let name = self.client_name.clone();
        self.say(Awaited::SetName, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
        match &self.role {
            Role::Subscriber { topics, wanted, .. } => {
                let (topics, wanted) = (topics.clone(), wanted.clone());
                self.say_topics(&topics);
                for (name, is_pattern) in &wanted {
                    self.ask_for(subscribe_command(*is_pattern), name);
                }
            }
            Role::Commander { .. } => {
                // A server that turns us away says so in answer to whatever came first, and ends.
                self.say(Awaited::Nothing, &[b"PING"]);
                if endpoint.db != 0 {
                    let db = endpoint.db.to_string();
                    self.say(Awaited::Select, &[b"SELECT", db.as_bytes()]);
                }
            }
        }
        self.decoder = Decoder::default();
        self.talk = Talk::Greeting {
            deadline: now + limits::CONNECT_DEADLINE,
            left: self.pipeline.awaited(),
        };
    }

    fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message> {
        if let Talk::Live { check_at, pinged } = &mut self.talk
            && !input.is_empty()
        {
            *check_at = now + limits::PING_INTERVAL;
            *pinged = false;
        }
        while self.dialer.is_connected() {
            match self.decoder.next_value(input) {
                // Whoever has subscribed to nothing gets no message, whatever an answer looks like.
                Ok(Some(value)) if self.is_commander() => self.on_reply(value, now),
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

    fn talk_deadline(&self) -> Option<Time> {
        Some(match self.talk {
            Talk::Greeting { deadline, .. } => deadline,
            Talk::Live { check_at, .. } => check_at,
        })
    }

    fn on_talk_time(&mut self, now: Time) {
        match &mut self.talk {
            Talk::Greeting { .. } => self.fail(Failure::Late("the first answers"), now),
            Talk::Live { pinged: true, .. } => self.fail(Failure::Late("a reply to PING"), now),
            Talk::Live { check_at, pinged } => {
                *pinged = true;
                *check_at = now + limits::PING_DEADLINE;
                self.say(Awaited::Nothing, &[b"PING"]);
            }
        }
    }

    /// Without a connection there is nothing: it is cleared when one is lost.
    fn unsent(&self) -> &[u8] {
        self.pipeline.unsent()
    }

    fn on_sent(&mut self, len: usize) {
        self.pipeline.handle_sent(len);
    }
}

fn subscribe_command(is_pattern: bool) -> &'static str {
    match is_pattern {
        true => "PSUBSCRIBE",
        false => "SUBSCRIBE",
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;

    use super::super::{Address, Endpoint};
    use super::*;
    use crate::broker::link::dialer::Intent;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 6379))
    }

    /// The two sessions with a host whose name has several addresses, in the same order as a link serves them.
    struct Pair {
        subscriber: Session,
        commander: Session,
        now: Time,
    }

    impl Pair {
        fn new() -> Pair {
            let host = "redis".to_owned();
            let endpoint = Endpoint {
                address: Address::Tcp { host, port: 6379 },
                username: None,
                password: None,
                db: 0,
            };
            let topics = Topics {
                channels: vec!["a".to_owned()],
                ..Topics::default()
            };
            let endpoints = vec![endpoint];
            Pair {
                subscriber: Session::subscriber(endpoints.clone(), topics, "test", 1),
                commander: Session::commander(endpoints, "test", 2),
                now: Time::ZERO,
            }
        }

        /// Lets both do what is due, and says where the one for commands goes.
        fn serve(&mut self, addresses: &[u8]) -> Vec<SocketAddr> {
            self.subscriber.on_time(self.now);
            while let Some(intent) = self.subscriber.dialer.poll_intent() {
                if let Intent::Resolve(..) = intent {
                    let addresses = addresses.iter().copied().map(address).collect();
                    self.subscriber.on_resolved(Ok(addresses), self.now);
                }
            }
            self.commander.follow(&self.subscriber, self.now);
            self.commander.on_time(self.now);
            let mut went = Vec::new();
            while let Some(intent) = self.commander.dialer.poll_intent() {
                match intent {
                    Intent::Connect(Destination::Address(_, address)) => went.push(address),
                    Intent::Resolve(host, _) => panic!("{host} is resolved twice"),
                    _ => {}
                }
            }
            went
        }

        /// The connection for messages stands, and everything is agreed.
        fn become_live(&mut self) {
            self.subscriber.on_connected(self.now);
            let mut input: &[u8] = b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
            assert_eq!(self.subscriber.next_message(&mut input, self.now), None);
            assert!(self.subscriber.is_live());
        }

        /// The connection for commands stands, and everything is agreed.
        fn take_commands(&mut self) {
            self.commander.on_connected(self.now);
            let mut input: &[u8] = b"+OK\r\n+PONG\r\n";
            assert_eq!(self.commander.next_message(&mut input, self.now), None);
            assert!(self.commander.is_live());
        }
    }

    #[test]
    fn commands_go_to_the_address_that_messages_come_from() {
        let mut pair = Pair::new();
        assert_eq!(pair.commander.deadline(), None, "it waits to be told");
        assert_eq!(pair.serve(&[1, 2]), [address(1)]);
        let refused = || Some(io::ErrorKind::ConnectionRefused.into());
        pair.subscriber.on_lost(refused(), pair.now);
        assert_eq!(pair.serve(&[]), [address(2)]);
        pair.become_live();
        pair.take_commands();
        assert_eq!(pair.serve(&[]), []);

        // The name stands for another server now; the connection for commands is kept until messages come from there.
        pair.subscriber.on_lost(None, pair.now);
        pair.now = pair.now + limits::BACKOFF_MAX;
        assert_eq!(pair.serve(&[3]), []);
        pair.become_live();
        assert_eq!(pair.serve(&[]), [address(3)]);

        // One that is lost alone comes back to the same place.
        pair.take_commands();
        pair.commander.on_lost(None, pair.now);
        pair.now = pair.now + limits::BACKOFF_MAX;
        assert_eq!(pair.serve(&[]), [address(3)]);
    }
}
