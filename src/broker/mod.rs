//! Brokers: where messages come from and are published. Each is a [`Broker`]: one or two sessions over supervised
//! connections ([`link`]), and the codec of a protocol. None knows subscribers, and nobody else knows which kind of
//! broker there is. To add one, implement the trait and choose it in [`open`].

pub mod amqp;
mod brokers;
pub mod demo;
mod embedded;
pub mod link;
pub mod redis;
mod setup;

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;
use crate::net::{Net, Token};
use crate::time::Time;
pub use brokers::Brokers;
pub use embedded::Embedded;
use link::dialer::Dialer;
pub use setup::{Setup, SourceConfig, open};

/// What a broker sends. A broker checks neither channel nor payload, which are raw bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The pattern that was subscribed to, unless it was the channel itself.
    pub pattern: Option<Vec<u8>>,
    /// The broker's address, such as `stream.score_updates`.
    pub channel: Vec<u8>,
    /// The payload, verbatim.
    pub payload: Vec<u8>,
    /// Whether the payload was skipped, because it has more bytes than are taken.
    pub is_too_large: bool,
}

/// How a message was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Once for each subscription that it matches.
    BySubscription(Message),
    /// Once. The server finds the patterns that it matches.
    Once(Message),
}

/// What is subscribed to over every connection.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Channels.
    pub channels: Vec<String>,
    /// Glob patterns of channels.
    pub patterns: Vec<String>,
    /// Channels that the broker may refuse: an older user may have permissions for the others only.
    pub optional: Vec<String>,
}

/// Who would receive messages, for a broker that need not make them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Whether there are subscribers.
    pub is_there: bool,
    /// Whether some of them subscribe to more than scores.
    pub wants_tweets: bool,
}

/// A command to a broker that stores more than messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Store the status of this process for others to read.
    WriteRow {
        /// Our name.
        node: &'a str,
        /// The status, as JSON.
        document: &'a [u8],
    },
    /// Remove it.
    RemoveRow {
        /// Our name.
        node: &'a str,
    },
    /// Send a message to the other copies of the server.
    Relay {
        /// The channel that they all subscribe to.
        channel: &'a str,
        /// The message.
        payload: &'a [u8],
    },
}

/// A question to a broker that stores more than messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    /// The names of all nodes that have stored their status.
    Nodes,
    /// The status of the node of this name.
    Row(Vec<u8>),
    /// The score of every emoji, as pairs, the highest first.
    Scores,
}

/// The answer of a broker, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Whether a message of the publication of this number was accepted.
    Publication(u64, Result<(), Unanswered>),
    /// The strings that answer an inquiry; none if what was asked for does not exist.
    Report(Inquiry, Result<Vec<Vec<u8>>, Unanswered>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The broker refused, for this reason.
    Refused(String),
    /// The connection was lost, or there was none.
    Lost,
    /// Too much waits to be sent.
    Full,
    /// The broker did not answer in time.
    Late,
    /// A message was sent, and neither its publication nor a refusal was confirmed.
    Unsure,
}

/// Whether commands and inquiries can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Never: this broker stores nothing.
    None,
    /// Not now, because there is no connection.
    Down,
    /// Yes, and some wait to be sent.
    Sending,
    /// Yes, and all were sent.
    Idle,
}

/// The state of a broker, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State<'a> {
    /// `redis`, `demo`, `embedded` or `amqp`.
    pub kind: &'static str,
    /// Whether messages can arrive.
    pub is_live: bool,
    /// For how long that has been so.
    pub since: Duration,
    /// Where it is found, without its password.
    pub place: &'a str,
    /// How often it was lost.
    pub losses: u64,
}

impl<'a> State<'a> {
    /// The state of a broker inside this process.
    fn internal(kind: &'static str, now: Time) -> State<'static> {
        State {
            kind,
            is_live: true,
            since: now.since(Time::ZERO),
            place: "",
            losses: 0,
        }
    }

    /// The state of a broker at this place.
    fn of(kind: &'static str, place: &'a str, dialer: &Dialer, now: Time) -> Self {
        State {
            kind,
            is_live: dialer.is_live(),
            since: now.since(dialer.since()),
            place,
            losses: dialer.losses(),
        }
    }
}

/// What messages come from and are published to. The provided methods suit a broker without connections that nothing can
/// be published to.
pub trait Broker<N: Net> {
    /// Whether a socket belongs to this broker.
    fn owns(&self, _token: Token) -> bool {
        false
    }

    /// One of its sockets became ready.
    fn handle_ready(&mut self, _token: Token, _readable: bool, _writable: bool) {}

    /// The result of resolving a name for one of its sockets.
    fn handle_resolved(&mut self, _token: Token, _: io::Result<Vec<SocketAddr>>, _now: Time) {}

    /// Does what is due, connects and sends: at the beginning of a turn, and again after the requests of the turn.
    fn serve(&mut self, _net: &mut N, _now: Time) {}

    /// Leaves messages unread until then, because nothing could be done with them before. Their arrival does not end the
    /// poll. `None` ends the rest.
    fn rest(&mut self, _until: Option<Time>, _net: &mut N) {}

    /// Tells who would receive messages.
    fn set_audience(&mut self, _audience: Audience, _now: Time) {}

    /// Subscribes to a channel or a pattern.
    fn subscribe(&mut self, _name: &[u8], _is_pattern: bool) {}

    /// Ends a subscription.
    fn unsubscribe(&mut self, _name: &[u8], _is_pattern: bool) {}

    /// Publishes a message of the publication of this number, to a broker that [delivers](Broker::delivers). The answer
    /// comes from [`Broker::poll_answer`].
    ///
    /// # Errors
    /// If it could not be sent; there is no further answer then.
    fn publish(&mut self, _: u64, _channel: &[u8], _message: &[u8]) -> Result<(), Unanswered> {
        Err(Unanswered::Lost)
    }

    /// Sends a command, whose answer is of no interest; false if it was dropped.
    fn command(&mut self, _command: Command<'_>) -> bool {
        false
    }

    /// Sends an inquiry, whose answer comes from [`Broker::poll_answer`]; false if it was dropped.
    fn ask(&mut self, _inquiry: Inquiry) -> bool {
        false
    }

    /// The next message, until there is none in this turn. More is read from sockets only if `may_read`.
    fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received>;

    /// The next answer. The loss of a connection answers everything that was sent over it.
    fn poll_answer(&mut self) -> Option<Answer> {
        None
    }

    /// When it must be served at the latest. Messages that can be read count only if `may_read`.
    fn deadline(&self, _may_read: bool) -> Option<Time> {
        None
    }

    /// The state, for reports.
    fn state(&self, now: Time) -> State<'_>;

    /// Whether messages of all subscriptions arrive, and how many calls of [`Broker::subscribe`] and
    /// [`Broker::unsubscribe`] are not answered; `None` for a broker that does not answer them.
    fn subscriptions(&self) -> Option<(bool, usize)> {
        None
    }

    /// Whether it may rest: not while it is down, or has more messages than were read.
    fn may_rest(&self) -> bool {
        true
    }

    /// Whether messages can be published to this broker, and come back.
    fn delivers(&self) -> bool {
        false
    }

    /// Whether so many messages, of this size in total with their channels, would be accepted now.
    ///
    /// # Errors
    /// Why not.
    fn room(&self, _messages: usize, _bytes: usize) -> Result<(), Unanswered> {
        Err(Unanswered::Lost)
    }

    /// What it is called in replies to publishers.
    fn publisher(&self) -> &'static str {
        "the broker"
    }

    /// Whether commands and inquiries can be sent.
    fn store(&self) -> Store {
        Store::None
    }

    /// Whether nothing waits to be sent that could be sent: an invariant of the loop when it polls.
    fn is_settled(&self) -> bool {
        true
    }
}

/// Another program's text with our password, which some brokers quote, masked. That is done before the text is cut to
/// its length, which might leave a part of the password.
fn shown_without(password: &str, text: &str) -> String {
    match password {
        "" => shown(text),
        password => shown(&text.replace(password, "***")),
    }
}

/// Another program's text, on one line and of limited length.
fn shown(text: &str) -> String {
    let text = text.trim_end().chars().take(limits::SHOWN_BYTES_MAX);
    text.map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// A name or address as it stands before a port: an IPv6 address needs brackets.
fn shown_host(host: &str) -> Cow<'_, str> {
    match host.contains(':') {
        true => format!("[{host}]").into(),
        false => host.into(),
    }
}
