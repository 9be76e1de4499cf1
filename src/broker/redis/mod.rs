//! Redis pub/sub: a broker over two connections, because one that subscribes may not send other commands, and sometimes a
//! third, which tries the first of several servers. It owns how they belong together, and the keys that are stored in Redis.

mod answers;
mod endpoint;
mod guard;
mod pipeline;
mod preference;
pub mod resp;
mod role;
mod servers;
mod session;
mod subscriptions;

use std::io;
use std::net::SocketAddr;

use super::link::{Conversation, Link};
use super::{
    Answer, Broker, Command, Inquiry, Message, Received, State, Store, Topics, Unanswered,
};
use crate::net::{Net, Token};
use crate::time::Time;
pub use endpoint::{Address, Endpoint};
use pipeline::{Awaited, Question};
use preference::Preference;
use session::Session;

/// The hash with a field for each node, from which the admin service reads their status.
const STATUS_KEY: &[u8] = b"admin_stream_status";
/// The sorted set of emoji by score.
const SCORE_KEY: &[u8] = b"emojitrack_score";
/// The index of the last emoji on the live page. There are half as many emoji.
const SCORE_LAST: &[u8] = b"1999";
/// The bytes of a publication besides the channel and the message, with its guard.
const COMMAND_BYTES: usize = 160;

/// A Redis server, or several that are tried in turn.
pub struct Redis {
    messages: Link<Session>,
    commands: Link<Session>,
    preference: Preference,
    /// Until when messages are left unread.
    rest_until: Option<Time>,
    /// Whether the arrival of messages does not end the poll.
    is_muted: bool,
}

impl Redis {
    /// Connects at once; `endpoints` is not empty.
    pub fn new(endpoints: Vec<Endpoint>, topics: Topics, client_name: &str, seed: u64) -> Redis {
        let commander = Session::commander(endpoints.clone(), client_name, !seed);
        let subscriber = Session::subscriber(endpoints, topics, client_name, seed);
        Redis {
            messages: Link::new(0, subscriber),
            commands: Link::new(1, commander),
            preference: Preference::default(),
            rest_until: None,
            is_muted: false,
        }
    }

    /// The same with commands and publications sent to these servers instead, if there are any.
    #[must_use]
    pub fn publishing_at(
        mut self,
        endpoints: Vec<Endpoint>,
        client_name: &str,
        seed: u64,
    ) -> Redis {
        if !endpoints.is_empty() {
            self.commands = Link::new(1, Session::independent(endpoints, client_name, !seed));
        }
        self
    }
}

impl<N: Net> Broker<N> for Redis {
    fn owns(&self, token: Token) -> bool {
        let tokens = [
            self.messages.token(),
            self.commands.token(),
            self.preference.token(),
        ];
        tokens.contains(&token)
    }

    fn handle_ready(&mut self, token: Token, readable: bool, writable: bool) {
        if self.messages.token() == token {
            self.messages.on_ready(readable, writable);
        } else if self.commands.token() == token {
            self.commands.on_ready(readable, writable);
        } else {
            self.preference.handle_ready(readable, writable);
        }
    }

    fn handle_resolved(&mut self, token: Token, result: io::Result<Vec<SocketAddr>>, now: Time) {
        if self.messages.token() == token {
            self.messages.on_resolved(result, now);
        } else if self.commands.token() == token {
            self.commands.on_resolved(result, now);
        } else {
            self.preference.handle_resolved(result, now);
        }
    }

    fn serve(&mut self, net: &mut N, now: Time) {
        self.messages.serve(net, now);
        let session = self.messages.conversation_mut();
        if self.preference.serve(session, net, now) {
            session.move_to_first_server(now);
            self.messages.serve(net, now);
        }
        let leader = self.messages.conversation();
        self.commands.conversation_mut().follow(leader, now);
        self.commands.serve(net, now);
        if self.rest_until.take_if(|until| *until <= now).is_some() {
            // There was no event if it became readable.
            self.messages.on_ready(true, false);
        }
    }

    fn rest(&mut self, until: Option<Time>, net: &mut N) {
        if until.is_some() != self.is_muted {
            self.is_muted = until.is_some();
            net.listen_to(self.messages.token(), !self.is_muted);
        }
        self.rest_until = until;
    }

    fn subscribe(&mut self, name: &[u8], is_pattern: bool) {
        self.messages.conversation_mut().subscribe(name, is_pattern);
    }

    fn unsubscribe(&mut self, name: &[u8], is_pattern: bool) {
        let session = self.messages.conversation_mut();
        session.unsubscribe(name, is_pattern);
    }

    fn publish(&mut self, number: u64, channel: &[u8], message: &[u8]) -> Result<(), Unanswered> {
        let losses = self.messages.conversation().dialer().losses();
        let question = Question::Publication { number, losses };
        let session = self.commands.conversation_mut();
        let is_sent = session.publish(question, channel, message);
        is_sent.then_some(()).ok_or(Unanswered::Lost)
    }

    fn command(&mut self, command: Command<'_>) -> bool {
        let session = self.commands.conversation_mut();
        let mut send = |arguments: &[&[u8]]| session.send(Awaited::Optional, arguments);
        match command {
            Command::WriteRow { node, document } => {
                send(&[b"HSET", STATUS_KEY, node.as_bytes(), document])
            }
            Command::RemoveRow { node } => send(&[b"HDEL", STATUS_KEY, node.as_bytes()]),
            Command::Relay { channel, payload } => send(&[b"PUBLISH", channel.as_bytes(), payload]),
        }
    }

    fn ask(&mut self, inquiry: Inquiry) -> bool {
        // Rows are read one by one: those of some thirty nodes with a thousand connections each would exceed the limit
        // for one reply.
        let command: &[&[u8]] = match &inquiry {
            Inquiry::Nodes => &[b"HKEYS", STATUS_KEY],
            Inquiry::Row(node) => &[b"HGET", STATUS_KEY, node],
            Inquiry::Scores => &[b"ZREVRANGE", SCORE_KEY, b"0", SCORE_LAST, b"WITHSCORES"],
        };
        let question = Awaited::Question(Question::Report(inquiry.clone()));
        self.commands.conversation_mut().send(question, command)
    }

    fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received> {
        let may_read = may_read && self.rest_until.is_none();
        if let Some(message) = self.messages.poll_message(net, may_read, now) {
            return Some(Received::BySubscription(message));
        }
        while let Some(Message { .. }) = self.commands.poll_message(net, true, now) {}
        None
    }

    /// If the connection for messages was lost since something was published, nobody knows whether it came back.
    fn poll_answer(&mut self) -> Option<Answer> {
        let (question, strings) = self.commands.conversation_mut().poll_answer()?;
        Some(match question {
            Question::Report(inquiry) => Answer::Report(inquiry, strings),
            Question::Publication { number, losses } => {
                let is_lost = losses != self.messages.conversation().dialer().losses();
                let answer = match strings {
                    Ok(_) if is_lost => Err(Unanswered::Lost),
                    strings => strings.map(drop),
                };
                Answer::Publication(number, answer)
            }
        })
    }

    fn deadline(&self, may_read: bool) -> Option<Time> {
        let messages = self.messages.deadline(may_read);
        messages
            .into_iter()
            .chain(self.commands.deadline(true))
            .chain(self.preference.deadline())
            .min()
    }

    fn state(&self, now: Time) -> State<'_> {
        let session = self.messages.conversation();
        State::of("redis", session.place(), session.dialer(), now)
    }

    fn subscriptions(&self) -> Option<(bool, usize)> {
        let session = self.messages.conversation();
        Some((session.is_live(), session.unanswered()))
    }

    fn may_rest(&self) -> bool {
        !self.messages.is_readable() && self.messages.conversation().is_live()
    }

    fn delivers(&self) -> bool {
        true
    }

    fn room(&self, messages: usize, bytes: usize) -> Result<(), Unanswered> {
        let commands = self.commands.conversation();
        match self.messages.conversation().is_live() && commands.is_live() {
            false => Err(Unanswered::Lost),
            true if commands.has_room_for(bytes + messages * COMMAND_BYTES) => Ok(()),
            true => Err(Unanswered::Full),
        }
    }

    fn publisher(&self) -> &'static str {
        "redis"
    }

    fn store(&self) -> Store {
        match self.commands.conversation().is_live() {
            false => Store::Down,
            true if self.commands.has_unsent() => Store::Sending,
            true => Store::Idle,
        }
    }

    fn is_settled(&self) -> bool {
        let are_settled = self.messages.is_settled() && self.commands.is_settled();
        are_settled && self.preference.is_settled()
    }
}
