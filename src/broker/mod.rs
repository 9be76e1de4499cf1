//! Brokers: what feeds us, and what we publish to. Each is a [`Broker`]: a session or two over supervised links
//! ([`link`]), its protocol's codec, and what it makes of being asked for channels. None may know of subscribers; nobody
//! else knows which kind there is. To add one, implement the trait and say in [`open`] when it is used.

pub mod amqp;
pub mod demo;
mod embedded;
pub mod link;
pub mod redis;
mod setup;
mod split;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits;
use crate::net::{Net, Token};
use crate::time::Time;
pub use embedded::Embedded;
use link::Health;
pub use setup::{Setup, SourceConfig, open};
pub use split::Split;

/// What a broker sends: an address and a payload, both as raw bytes, because a broker checks neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The pattern that was subscribed to, where it was not the channel itself.
    pub pattern: Option<Vec<u8>>,
    /// The broker's address, such as `stream.score_updates`.
    pub channel: Vec<u8>,
    /// The payload, verbatim.
    pub payload: Vec<u8>,
}

/// How a message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// Once for each channel or pattern subscribed to that it matches.
    BySubscription(Message),
    /// Once. Which patterns it matches is for us to find out.
    Once(Message),
}

/// What is subscribed to as long as there is a connection.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    /// Channels by their names.
    pub channels: Vec<String>,
    /// Channels by glob patterns.
    pub patterns: Vec<String>,
    /// Channels that the broker may refuse: a user of long standing may have rights to the others alone.
    pub optional: Vec<String>,
}

/// Who would receive what a broker sends, for one that can do without sending it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Whether there are subscribers.
    pub is_there: bool,
    /// Whether some of them subscribe to more than scores.
    pub wants_tweets: bool,
}

/// What is done at a broker that keeps more than messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Leave the status of this process for others to read.
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
    /// Tell the other copies of the server.
    Relay {
        /// The channel that they all listen to.
        channel: &'a str,
        /// What they are told.
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

/// An answer of the broker's, or that there will be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One of the messages of the publication of this number was taken, or not.
    Publication(u64, Result<(), Unanswered>),
    /// The strings that answer an inquiry; none if what was asked for does not exist.
    Report(Inquiry, Result<Vec<Vec<u8>>, Unanswered>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The broker refused it, in these words.
    Refused(String),
    /// The connection was lost, or there was none.
    Lost,
    /// It was not asked, because it has not taken what was sent before.
    Full,
    /// The broker did not answer in time.
    Late,
}

/// Whether commands and inquiries can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Never: this broker has messages and nothing else.
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
    /// Whether messages can come.
    pub is_live: bool,
    /// For how long it has been so.
    pub since: Duration,
    /// Where it is found, without secrets.
    pub place: &'a str,
    /// How often it was lost.
    pub losses: u64,
}

impl<'a> State<'a> {
    /// The state of a broker inside this process.
    fn internal(kind: &'static str, now: Time) -> State<'static> {
        State::of(kind, "", true, &Health::default(), now)
    }

    /// The state of a broker at this place.
    fn of(kind: &'static str, place: &'a str, is_live: bool, health: &Health, now: Time) -> Self {
        State {
            kind,
            is_live,
            since: now.since(health.since()),
            place,
            losses: health.losses(),
        }
    }
}

/// What feeds us, and what we publish to. What is provided here is right for a broker without a connection, to which
/// nothing can be published.
pub trait Broker<N: Net> {
    /// Whether a socket is one of this broker's.
    fn owns(&self, _token: Token) -> bool {
        false
    }

    /// The state of a socket of this broker's has changed.
    fn handle_ready(&mut self, _token: Token, _readable: bool, _writable: bool) {}

    /// The answer to a question for a name's addresses, for a socket of this broker's.
    fn handle_resolved(&mut self, _token: Token, _: io::Result<Vec<SocketAddr>>, _now: Time) {}

    /// Does what is due, connects and sends. It begins a turn, and is called again after what was asked of the broker
    /// in the same turn.
    fn serve(&mut self, _net: &mut N, _now: Time) {}

    /// Leaves messages where they are until then, because nothing could be done with them before; `None` is not at
    /// all. Meanwhile they do not wake us up.
    fn rest(&mut self, _until: Option<Time>, _net: &mut N) {}

    /// Says who would receive messages.
    fn set_audience(&mut self, _audience: Audience, _now: Time) {}

    /// Asks for a channel, or for all that match a pattern, from now on.
    fn subscribe(&mut self, _name: &[u8], _is_pattern: bool) {}

    /// Asks for it no longer.
    fn unsubscribe(&mut self, _name: &[u8], _is_pattern: bool) {}

    /// Publishes a message of the publication of this number, on a channel that it [delivers](Broker::delivers). Its
    /// answer comes from [`Broker::poll_answer`].
    ///
    /// # Errors
    /// Where it could not be sent; no answer will come then.
    fn publish(&mut self, _: u64, _channel: &[u8], _message: &[u8]) -> Result<(), Unanswered> {
        Err(Unanswered::Lost)
    }

    /// Sends a command, whose answer is of no interest. False where it was dropped.
    fn command(&mut self, _command: Command<'_>) -> bool {
        false
    }

    /// Asks, and has the answer come from [`Broker::poll_answer`]. False where it was not asked.
    fn ask(&mut self, _inquiry: Inquiry) -> bool {
        false
    }

    /// The next message; more is read only if that is wanted. To be called in each turn until there is none.
    fn poll_message(&mut self, net: &mut N, may_read: bool, now: Time) -> Option<Received>;

    /// The next answer. A connection that is lost answers all that was asked.
    fn poll_answer(&mut self) -> Option<Answer> {
        None
    }

    /// When it must be served, whatever happens before. Messages that are there to be read are no reason unless
    /// `may_read`.
    fn deadline(&self, _may_read: bool) -> Option<Time> {
        None
    }

    /// The state, for reports.
    fn state(&self, now: Time) -> State<'_>;

    /// The state of the broker for channels, where that is another one.
    fn state_of_channels(&self, _now: Time) -> Option<State<'_>> {
        None
    }

    /// Whether clients should be sent to this process.
    ///
    /// # Errors
    /// What is missing, in two words.
    fn readiness(&self, now: Time) -> Result<(), &'static str> {
        match (self.state(now), self.state_of_channels(now)) {
            (_, Some(channels)) if !channels.is_live => Err("no broker"),
            (source, _) if !source.is_live => Err("no source"),
            _ => Ok(()),
        }
    }

    /// Whether all that was asked for arrives, and how many calls of [`Broker::subscribe`] and
    /// [`Broker::unsubscribe`] are not answered; `None` for a broker that never answers.
    fn subscriptions(&self) -> Option<(bool, usize)> {
        None
    }

    /// Whether it may be left alone: not while it has more to say than was taken, nor while it is away.
    fn may_rest(&self) -> bool {
        true
    }

    /// Whether what is published on this channel goes out by this broker and comes back.
    fn delivers(&self, _channel: &str) -> bool {
        false
    }

    /// Whether so many messages, of so many bytes with their channels, would be taken at once.
    ///
    /// # Errors
    /// Why not.
    fn room(&self, _messages: usize, _bytes: usize) -> Result<(), Unanswered> {
        Err(Unanswered::Lost)
    }

    /// What it is called where a client is told what became of a publication.
    fn publisher(&self) -> &'static str {
        "the broker"
    }

    /// Whether commands and inquiries can be sent.
    fn store(&self) -> Store {
        Store::None
    }

    /// Whether nothing waits to be sent that could be: what must hold when the loop goes to sleep.
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
fn shown(words: &str) -> String {
    let words = words.trim_end().chars().take(limits::SHOWN_BYTES_MAX);
    words
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
