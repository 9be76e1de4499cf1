//! A session with Redis over one connection, which either subscribes or sends commands. It owns logging in, subscribing,
//! noticing that the connection is dead, and the choice of the next server. It makes no system calls: its intents are
//! polled (`dialer`, `unsent`), and it is told what happened (`on_…`).

use std::time::Duration;

use redis::{ServerError, Value};

use super::answers::{message_of, strings_of};
use super::guard::{self, Guard};
use super::pipeline::{Awaited, Pipeline, Question, Strings};
use super::resp::Decoder;
use super::role::{Commands, Leader, Role};
use super::servers::Servers;
use super::subscriptions::Subscriptions;
use super::{Address, COMMAND_BYTES, Endpoint};
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
    subscriptions: Subscriptions,
    role: Role,
    /// How publications are guarded over this connection.
    guard: Guard,
    dialer: Dialer,
    /// The number of answers to what begins the connection that are to come. Channels that clients want meanwhile do not
    /// count: there may always be more.
    greeting_left: usize,
    /// While live: when a PING is due, or its answer.
    check_at: Time,
    is_pinged: bool,
    decoder: Decoder,
    pipeline: Pipeline,
    /// The first error of the server on this connection, such as that it has too many clients.
    reject_reason: Option<String>,
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
            subscriptions: Subscriptions::new(topics),
            role: Role::Messages,
            guard: Guard::None,
            dialer: Dialer::new(seed),
            greeting_left: 0,
            check_at: Time::ZERO,
            is_pinged: false,
            decoder: Decoder::default(),
            pipeline: Pipeline::default(),
            reject_reason: None,
        }
    }

    /// A session that sends commands, and does not connect before [`Session::follow`].
    pub(super) fn commander(endpoints: Vec<Endpoint>, client_name: &str, seed: u64) -> Session {
        Session {
            role: Role::Following(Commands::default(), Leader::default()),
            dialer: Dialer::idle(seed),
            ..Session::subscriber(endpoints, Topics::default(), client_name, seed)
        }
    }

    /// A session that sends commands to servers of its own, and connects at once.
    pub(super) fn independent(endpoints: Vec<Endpoint>, client_name: &str, seed: u64) -> Session {
        Session {
            role: Role::Commands(Commands::default()),
            dialer: Dialer::new(seed),
            ..Session::commander(endpoints, client_name, seed)
        }
    }

    /// A session that finds out whether the first server answers.
    pub(super) fn attempt_at_first_server(&self) -> Session {
        Session {
            role: Role::Attempt,
            servers: self.servers.first(),
            dialer: Dialer::new(0),
            ..Session::commander(vec![self.servers.endpoint().clone()], &self.client_name, 0)
        }
    }

    /// Connects to where `leader`, which has the same servers, is connected. A pause that has begun is not cut short.
    pub(super) fn follow(&mut self, leader: &Session, now: Time) {
        let (is_live, peer) = (leader.is_live(), leader.dialer.peer());
        let is_at_its_server = self.servers.is_at(&leader.servers);
        let is_connected = self.dialer.is_connected();
        if !(self.role).handle_leader(is_live, peer, is_at_its_server, is_connected) {
            return;
        }
        self.servers.follow(&leader.servers);
        if !self.dialer.is_pausing() {
            self.pipeline.clear();
            self.dialer.hang_up(Duration::ZERO, now);
        }
    }

    /// Moves to the first server, which has just answered.
    pub(super) fn move_to_first_server(&mut self, now: Time) {
        self.servers.go_to_first();
        self.pipeline.clear();
        self.dialer.give_up(1, Duration::ZERO, now);
        let line = format!(
            "redis: moving back to {}, which answers again",
            self.place()
        );
        self.dialer.log(Level::Info, line);
    }

    /// Subscribes to a channel or pattern, now and after each reconnect.
    pub(super) fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        let pipeline = self.dialer.is_connected().then_some(&mut self.pipeline);
        self.subscriptions.subscribe(name, is_pattern, pipeline);
    }

    /// Ends the subscription to a channel or pattern.
    pub(super) fn unsubscribe(&mut self, name: &[u8], is_pattern: bool) {
        let pipeline = self.dialer.is_connected().then_some(&mut self.pipeline);
        self.subscriptions.unsubscribe(name, is_pattern, pipeline);
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

    /// Publishes a message, and asks whether it was; otherwise as [`Session::send`].
    pub(super) fn publish(&mut self, question: Question, channel: &[u8], message: &[u8]) -> bool {
        let question = Awaited::Question(question);
        let publish: &[&[u8]] = &[b"PUBLISH", channel, message];
        let Some(guard) = self.guard.command() else {
            return self.send(question, publish);
        };
        let has_room = self.has_room_for(COMMAND_BYTES + channel.len() + message.len());
        if has_room {
            self.pipeline.push_transaction(question, &[guard, publish]);
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

    /// Whether that is the first of the list.
    pub(super) fn is_at_first_server(&self) -> bool {
        self.servers.is_at_first()
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
            self.subscriptions.handle_answer(name);
        }
        match (awaited, refusal) {
            (Awaited::Queued, refusal) => self.pipeline.handle_refusal(refusal),
            (Awaited::Trial(tried), refusal) => {
                let refusal = self.pipeline.end_transaction(refusal);
                self.guard.handle_trial(tried, &value, refusal.as_deref());
                if let Some(text) = refusal.filter(|text| self.is_elsewhere(text)) {
                    return self.fail(Failure::Refused("a publication", text), now);
                }
            }
            (Awaited::Question(question @ Question::Publication { .. }), refusal) => {
                return self.handle_published(question, &value, refusal, now);
            }
            (Awaited::Question(question), refusal) => {
                let refused = |text| Err(Unanswered::Refused(text));
                let answer = refusal.map_or_else(|| strings_of(value), refused);
                self.pipeline.handle_answer(question, answer);
            }
            (_, None) => {}
            (Awaited::Optional, Some(text)) if self.is_loading(&text) => {
                return self.fail(Failure::Refused("a command", text), now);
            }
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

    /// A publication was answered, by this value or refusal.
    fn handle_published(
        &mut self,
        question: Question,
        value: &Value,
        refusal: Option<String>,
        now: Time,
    ) {
        let refusal = self.pipeline.end_transaction(refusal);
        if let Some(text) = &refusal {
            self.guard.handle_refusal(text);
        }
        let answer = match &refusal {
            Some(text) => Err(text.clone()),
            None => guard::outcome(value),
        };
        let answer = answer.map(|()| Vec::new()).map_err(Unanswered::Refused);
        self.pipeline.handle_answer(question, answer);
        if let Some(text) = refusal.filter(|text| self.is_elsewhere(text)) {
            self.fail(Failure::Refused("a publication", text), now);
        }
    }

    /// Whether this server is a replica, and there are others to publish at.
    fn is_elsewhere(&self, refusal: &str) -> bool {
        !self.role.follows() && self.servers.len() > 1 && guard::is_of_replica(refusal)
    }

    /// Whether the server cannot be used for commands yet, because it loads its data.
    fn is_loading(&self, refusal: &str) -> bool {
        !self.is_live() && !self.role.subscribes() && refusal.starts_with("LOADING")
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
        let event = self.role.handle_live();
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
        if let Some(peer) = self.role.peer() {
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
        let servers = match self.role.follows() {
            false => self.servers.len(),
            true => 1,
        };
        // A server that was live is the likeliest to be so again.
        if !self.role.follows() && !was_live {
            self.servers.advance();
        }
        self.pipeline.clear();
        let pause = self.dialer.give_up(servers, failure.pause_max(), now);
        if !self.role.handle_failure(was_live) {
            return;
        }
        let line = match self.role.subscribes() {
            true => {
                let (next, millis) = (self.servers.place(), pause.as_millis());
                format!("redis: {failed}: {failure}; trying {next} in {millis} ms")
            }
            false => format!("redis: command connection to {failed} failed: {failure}; retrying"),
        };
        self.dialer.log_failure(line, now);
    }

    /// Logs in and subscribes, all in one write.
    fn begin(&mut self, now: Time) {
        self.pipeline.clear();
        self.guard = Guard::None;
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
        if !self.role.subscribes() {
            // A server that rejects a connection answers the first command with the reason.
            self.pipeline.push(Awaited::Optional, &[b"PING"]);
            if endpoint.db != 0 {
                let db = endpoint.db.to_string();
                self.pipeline
                    .push(Awaited::Required("SELECT"), &[b"SELECT", db.as_bytes()]);
            }
        }
        if self.role.publishes() {
            for guard in Guard::TRIED {
                let command = guard.command();
                self.pipeline
                    .push_transaction(Awaited::Trial(guard), command.as_slice());
            }
        }
        self.subscriptions.begin(&mut self.pipeline);
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
                Ok(Some(value)) if !self.role.subscribes() => self.handle_reply(value, now),
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
        Some(if self.subscriptions.is_stuck() {
            Time::ZERO
        } else {
            self.check_at
        })
    }

    fn on_talk_time(&mut self, now: Time) {
        if self.subscriptions.is_stuck() {
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
            let trial = "+OK\r\n+QUEUED\r\n*1\r\n:0\r\n";
            let input = format!("+OK\r\n+PONG\r\n{trial}{trial}");
            let mut input = input.as_bytes();
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
        assert_eq!(pair.subscriber.subscriptions.changing_bytes(), 0);
    }
}
