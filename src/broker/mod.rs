//! Sources: sessions with what feeds us. Each is a state machine over bytes and time; none may make a
//! system call or know of subscribers.

pub mod amqp;
pub mod demo;
pub mod link;
pub mod redis;

use crate::limits;

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

/// Another program's words, so that they neither end our line nor fill the log.
fn shown(words: &str) -> String {
    let words = words.trim_end().chars().take(limits::SHOWN_BYTES_MAX);
    words
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}
