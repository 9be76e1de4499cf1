//! A session with Redis over one connection, which either subscribes or sends commands. It owns logging in, subscribing,
//! noticing that the connection is dead, and the choice of the next server. It makes no system calls: its intents are
//! polled (`dialer`, `unsent`), and it is told what happened (`on_…`).

use std::collections::BTreeMap;
use std::time::Duration;

use redis::{ServerError, Value};

use super::answers::{message_of, strings_of};
use super::pipeline::{Awaited, Pipeline, Question, Strings};
use super::resp::Decoder;
use super::servers::Servers;
use super::{Address, Endpoint};
use crate::broker::link::dialer::{Dialer, State};
use crate::broker::link::{Conversation, Failure, Target};
use crate::broker::{Message, Topics, Unanswered, shown, shown_without};
use crate::level::Level;
use crate::limits;
use crate::net::Peer;
use crate::time::Time;

/// A session with Redis. It lives as long as the process, over one connection after another.
pub(super) struct Session {
    servers: Servers,
    client_name: String,
    /// What is subscribed to over every connection.
    topics: Topics,
    /// Channels and patterns that clients want at present, with `true` for patterns.
    wanted: BTreeMap<Box<[u8]>, bool>,
    /// For a session that sends commands: the session that subscribes.
    leader: Option<Leader>,
    dialer: Dialer,
    /// The number of answers to what begins the connection that are to come. Channels that clients want meanwhile do not
    /// count: there may always be more.
    greeting_left: usize,
    /// While live: when a PING is due, or its answer.
    check_at: Time,
    is_pinged: bool,
    decoder: Decoder,
    pipeline: Pipeline,
    /// What the changes of subscriptions take that are not answered, those aside that begin the connection.
    changing_bytes: usize,
    /// The first error of the server on this connection, such as that it has too many clients.
    reject_reason: Option<String>,
}

/// What a session for commands knows of the one that subscribes. It connects to the same address: a name may stand for
/// several servers, and what is published at one of them need not arrive from another.
#[derive(Default)]
struct Leader {
    peer: Option<Peer>,
    is_live: bool,
    /// Whether it was logged that commands cannot be sent.
    logged_down: bool,
}

impl Session {
    /// A session that connects at once and subscribes. `endpoints` is not empty.
    pub(super) fn subscriber(
        endpoints: Vec<Endpoint>,
        topics: Topics,
        client_name: &str,
        seed: u64,
    ) -> Session {
        Session {
            servers: Servers::new(endpoints),
            // Redis allows printable ASCII without spaces.
            client_name: client_name.replace(|letter: char| !letter.is_ascii_graphic(), "-"),
            topics,
            wanted: BTreeMap::new(),
            leader: None,
            dialer: Dialer::new(seed),
            greeting_left: 0,
            check_at: Time::ZERO,
            is_pinged: false,
            decoder: Decoder::default(),
            pipeline: Pipeline::default(),
            changing_bytes: 0,
            reject_reason: None,
        }
    }

    /// A session that sends commands, and does not connect before [`Session::follow`].
    pub(super) fn commander(endpoints: Vec<Endpoint>, client_name: &str, seed: u64) -> Session {
        Session {
            leader: Some(Leader::default()),
            dialer: Dialer::idle(seed),
            ..Session::subscriber(endpoints, Topics::default(), client_name, seed)
        }
    }

    /// Connects to where `leader`, which has the same servers, is connected. An established connection is given up only
    /// if the leader is live elsewhere, and a pause that has begun is not cut short.
    pub(super) fn follow(&mut self, leader: &Session, now: Time) {
        let Some(known) = &mut self.leader else {
            return;
        };
        known.is_live = leader.is_live();
        let Some(target) = leader.dialer.peer() else {
            return;
        };
        let is_there = known.peer.as_ref() == Some(target) && self.servers.is_at(&leader.servers);
        if is_there || (self.dialer.is_connected() && !known.is_live) {
            return;
        }
        known.peer = Some(target.clone());
        self.servers.follow(&leader.servers);
        if !self.dialer.is_pausing() {
            self.pipeline.clear();
            self.dialer.hang_up(Duration::ZERO, now);
        }
    }

    /// Subscribes to a channel or pattern, now and after each reconnect.
    pub(super) fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.wanted.insert(name.into(), is_pattern);
        self.change(subscribe(is_pattern), name);
    }

    /// Ends the subscription to a channel or pattern.
    pub(super) fn unsubscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.wanted.remove(name);
        let command: &[u8] = match is_pattern {
            true => b"PUNSUBSCRIBE",
            false => b"UNSUBSCRIBE",
        };
        self.change(command, name);
    }

    /// Changes what is subscribed to over this connection. If the server has not answered too many changes, it is given
    /// up instead: over the next connection, everything is subscribed to that is wanted by then.
    fn change(&mut self, command: &[u8], name: &[u8]) {
        if self.dialer.is_connected() && !self.is_stuck() {
            self.changing_bytes += change_bytes(name);
            self.pipeline.push_channel(command, name);
        }
    }

    fn is_stuck(&self) -> bool {
        self.changing_bytes > limits::COMMAND_BYTES_MAX
    }

    /// Sends a command; the answer to a question comes from [`Session::poll_answer`]. False without a connection, or if
    /// too much waits to be sent: the command is dropped.
    pub(super) fn send(&mut self, awaited: Awaited, arguments: &[&[u8]]) -> bool {
        let len: usize = arguments.iter().map(|argument| argument.len()).sum();
        let has_room = self.has_room_for(len);
        if has_room {
            self.pipeline.push(awaited, arguments);
        }
        has_room
    }

    /// The next answer. The loss of the connection answers all questions.
    pub(super) fn poll_answer(&mut self) -> Option<(Question, Strings)> {
        self.pipeline.poll_answer()
    }

    /// The server that is in use or tried next, without its password.
    pub(super) fn place(&self) -> &str {
        self.servers.place()
    }

    /// The number of calls of [`Session::subscribe`] and [`Session::unsubscribe`] that are not answered.
    pub(super) fn unanswered(&self) -> usize {
        self.pipeline.awaited_channels()
    }

    /// Whether commands of this size in total would be accepted now.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.is_live() && self.pipeline.unsent().len() + len <= limits::COMMAND_BYTES_MAX
    }

    /// Handles anything that is not a message.
    fn handle_reply(&mut self, value: Value, now: Time) {
        let refusal = match &value {
            Value::ServerError(error) => Some(self.without_password(error)),
            _ => None,
        };
        let Some(awaited) = self.pipeline.handle_reply() else {
            // A server that subscribes us may report errors at any time.
            if let Some(text) = refusal {
                self.log_refusal(&text);
            }
            return;
        };
        if let (Awaited::Channel(name), true) = (&awaited, self.is_live()) {
            self.changing_bytes -= change_bytes(name);
        }
        match (awaited, refusal) {
            (Awaited::Question(question), refusal) => {
                let refused = |text| Err(Unanswered::Refused(text));
                let answer = refusal.map_or_else(|| strings_of(value), refused);
                self.pipeline.handle_answer(question, answer);
            }
            (_, None) => {}
            (Awaited::Required(command), Some(mut text)) => {
                // Some servers quote the login that they refuse.
                if command == "AUTH" {
                    text.truncate(text.find(' ').unwrap_or(text.len()));
                }
                return self.fail(Failure::Refused(command, text), now);
            }
            (Awaited::SetName, Some(text)) => self.reject_reason = Some(text),
            (Awaited::Optional, Some(text)) => self.log_refusal(&text),
            (Awaited::Channel(name), Some(text)) => {
                let name = shown(&String::from_utf8_lossy(&name));
                self.log_refusal(&format!("{text} (the channel is {name:?})"));
            }
        }
        if !self.is_live() {
            self.greeting_left = self.greeting_left.saturating_sub(1);
            if self.greeting_left == 0 {
                self.become_live(now);
            }
        }
    }

    /// An error of the server, which may quote our password.
    fn without_password(&self, error: &ServerError) -> String {
        let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
        let password = self.servers.endpoint().password.as_deref();
        shown_without(password.unwrap_or_default(), &text)
    }

    /// Logs, once per connection, that the server refuses something that is not essential.
    fn log_refusal(&mut self, text: &str) {
        let line = format!("redis: {} refuses a command: {text}", self.place());
        self.dialer.log_once("refusal", line);
    }

    fn become_live(&mut self, now: Time) {
        self.reject_reason = None;
        let after = self.dialer.handle_live(now);
        let event = match &mut self.leader {
            None => Some("subscribed"),
            Some(leader) => {
                std::mem::take(&mut leader.logged_down).then_some("takes commands again")
            }
        };
        if let Some(event) = event {
            let line = format!("redis: {event} at {}{after}", self.place());
            self.dialer.log(Level::Info, line);
        }
        self.handle_sign_of_life(now);
    }

    /// The server has sent something.
    fn handle_sign_of_life(&mut self, now: Time) {
        // Both sessions check at the same moments, which saves wake-ups.
        self.check_at = (now + limits::PING_INTERVAL).next_beat(limits::PING_INTERVAL);
        self.is_pinged = false;
        if let State::Greeting(_) = self.dialer.state() {
            self.dialer.expect_greeting(now + limits::GREETING_SILENCE);
        }
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
        let followed = self.leader.as_ref().map(|leader| &leader.peer);
        if let Some(Some(peer)) = followed {
            return self.dialer.dial_directly(peer.clone(), now);
        }
        match self.servers.endpoint().address.clone() {
            Address::Tcp { host, port } => self.dialer.dial(&Target::tcp(host, port), now),
            Address::Unix(path) => self.dialer.dial_directly(Peer::Unix(path), now),
        }
    }

    /// Plans the next attempt: with the other servers at once, then after a pause.
    fn fail(&mut self, failure: Failure, now: Time) {
        let was_live = self.is_live();
        let failure = match (failure, self.reject_reason.take()) {
            (Failure::Ended | Failure::Link(_), Some(text)) => {
                Failure::Refused("a connection", text)
            }
            (failure, _) => failure,
        };
        let failed = self.place().to_owned();
        let servers = match self.leader {
            None => self.servers.len(),
            Some(_) => 1,
        };
        // A server that was live is the likeliest to be so again.
        if self.leader.is_none() && !was_live {
            self.servers.advance();
        }
        self.pipeline.clear();
        let pause = self.dialer.give_up(servers, failure.pause_max(), now);
        let line = match &mut self.leader {
            None => {
                let (next, millis) = (self.servers.place(), pause.as_millis());
                format!("redis: {failed}: {failure}; trying {next} in {millis} ms")
            }
            // If the server is down, the leader logs it for both.
            Some(leader) if leader.is_live && !was_live && !leader.logged_down => {
                leader.logged_down = true;
                format!("redis: command connection to {failed} failed: {failure}; retrying")
            }
            Some(_) => return,
        };
        self.dialer.log_failure(line, now);
    }

    /// Logs in and subscribes, all in one write.
    fn begin(&mut self, now: Time) {
        self.pipeline.clear();
        self.changing_bytes = 0;
        self.decoder = Decoder::default();
        let endpoint = self.servers.endpoint();
        if let Some(password) = &endpoint.password {
            let mut command: Vec<&[u8]> = vec![b"AUTH"];
            command.extend(endpoint.username.as_ref().map(String::as_bytes));
            command.push(password.as_bytes());
            self.pipeline.push(Awaited::Required("AUTH"), &command);
        }
        let name = self.client_name.as_bytes();
        self.pipeline
            .push(Awaited::SetName, &[b"CLIENT", b"SETNAME", name]);
        if self.leader.is_some() {
            // A server that rejects a connection answers the first command with the reason.
            self.pipeline.push(Awaited::Optional, &[b"PING"]);
            if endpoint.db != 0 {
                let db = endpoint.db.to_string();
                self.pipeline
                    .push(Awaited::Required("SELECT"), &[b"SELECT", db.as_bytes()]);
            }
        }
        let (channels, patterns) = (&self.topics.channels, &self.topics.patterns);
        for (names, is_pattern) in [(channels, false), (patterns, true)] {
            if !names.is_empty() {
                self.pipeline.push_topics(subscribe(is_pattern), names);
            }
        }
        for name in &self.topics.optional {
            self.pipeline
                .push(Awaited::Optional, &[b"SUBSCRIBE", name.as_bytes()]);
        }
        for (name, is_pattern) in &self.wanted {
            self.pipeline.push_channel(subscribe(*is_pattern), name);
        }
        self.greeting_left = self.pipeline.awaited();
        self.dialer.expect_greeting(now + limits::GREETING_SILENCE);
    }

    fn next_message(&mut self, input: &mut &[u8], now: Time) -> Option<Message> {
        if !input.is_empty() {
            self.handle_sign_of_life(now);
        }
        while self.dialer.is_connected() {
            match self.decoder.next_value(input) {
                // The answer to a command may look like a message.
                Ok(Some(value)) if self.leader.is_some() => self.handle_reply(value, now),
                Ok(Some(value)) => match message_of(value) {
                    Ok(message) => return Some(message),
                    Err(other) => self.handle_reply(other, now),
                },
                Ok(None) => return None,
                Err(error) => self.fail(Failure::Protocol(error.to_string()), now),
            }
        }
        // The rest came over a connection that has been given up.
        *input = &[];
        None
    }

    fn talk_deadline(&self) -> Option<Time> {
        Some(if self.is_stuck() {
            Time::ZERO
        } else {
            self.check_at
        })
    }

    fn on_talk_time(&mut self, now: Time) {
        if self.is_stuck() {
            return self.fail(Failure::Late("answers to subscriptions"), now);
        }
        if self.is_pinged {
            return self.fail(Failure::Late("a reply to PING"), now);
        }
        self.is_pinged = true;
        self.check_at = now + limits::PING_DEADLINE;
        self.pipeline.push(Awaited::Optional, &[b"PING"]);
    }

    /// What waits to be sent is dropped with the connection.
    fn unsent(&self) -> &[u8] {
        self.pipeline.unsent()
    }

    fn on_sent(&mut self, len: usize) {
        self.pipeline.handle_sent(len);
    }
}

/// What a change takes until it is answered: as a command, and as what the answer is for.
fn change_bytes(name: &[u8]) -> usize {
    2 * name.len() + 96
}

fn subscribe(is_pattern: bool) -> &'static [u8] {
    match is_pattern {
        true => b"PSUBSCRIBE",
        false => b"SUBSCRIBE",
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

    /// Both sessions, with a host that has several addresses.
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

        /// Does what is due for both. Returns the addresses that the one for commands connects to.
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
                    Intent::Connect(Peer::Tcp { address, .. }) => went.push(address),
                    Intent::Resolve(host, _) => panic!("{host} is resolved twice"),
                    _ => {}
                }
            }
            went
        }

        /// Establishes the connection for messages, until it is live.
        fn become_live(&mut self) {
            self.subscriber.on_connected(self.now);
            let mut input: &[u8] = b"+OK\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
            assert_eq!(self.subscriber.next_message(&mut input, self.now), None);
            assert!(self.subscriber.is_live());
        }

        /// Establishes the connection for commands, until it is live.
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

        // The name has another address now. The connection for commands is kept until messages come from there.
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

    #[test]
    fn what_waits_for_a_server_that_has_stopped_reading_is_bounded() {
        let mut pair = Pair::new();
        pair.serve(&[1]);
        pair.become_live();
        pair.take_commands();
        let payload = vec![b'x'; 1000];
        for _ in 0..10_000 {
            pair.commander
                .send(Awaited::Optional, &[b"PUBLISH", &payload]);
        }
        assert!(pair.commander.unsent().len() <= limits::COMMAND_BYTES_MAX * 11 / 10);
        // Channels that come and go.
        for number in 0..100_000 {
            let name = format!("{number:0200}");
            pair.subscriber.subscribe(name.as_bytes(), false);
            if number > 0 {
                pair.subscriber.unsubscribe(name.as_bytes(), false);
            }
        }
        assert!(pair.subscriber.unsent().len() <= limits::COMMAND_BYTES_MAX);
        assert!(pair.subscriber.pipeline.awaited() * 300 <= limits::COMMAND_BYTES_MAX);
        assert_eq!(pair.subscriber.deadline(), Some(Time::ZERO));
        pair.subscriber.on_time(pair.now);
        assert!(!pair.subscriber.is_live());

        // The next connection begins with what is wanted, and goes on.
        pair.now = pair.now + limits::BACKOFF_MAX;
        pair.serve(&[1]);
        pair.subscriber.on_connected(pair.now);
        let sent = String::from_utf8_lossy(pair.subscriber.unsent()).into_owned();
        assert_eq!(sent.matches("SUBSCRIBE").count(), 2, "{sent}");
        pair.subscriber.subscribe(b"b", false);
        let name = "0".repeat(200);
        let reply = |name: &str| {
            format!(
                "*3\r\n$9\r\nsubscribe\r\n${}\r\n{name}\r\n:1\r\n",
                name.len()
            )
        };
        let input = ["+OK\r\n".to_owned(), reply("a"), reply(&name), reply("b")].concat();
        assert_eq!(
            pair.subscriber
                .next_message(&mut input.as_bytes(), pair.now),
            None
        );
        assert!(pair.subscriber.is_live());
        assert_eq!(pair.subscriber.changing_bytes, 0);
    }
}
