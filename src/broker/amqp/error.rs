//! Errors: why a conversation with an AMQP broker was given up. It owns how each is put into words; it must not know
//! what is done about one.

use std::fmt;

use amq_protocol::protocol::AMQPClass;

use crate::broker::amqp::codec::{Closing, FrameError};
use crate::broker::link::Failure;

/// Why a connection was given up.
#[derive(Debug)]
pub enum SessionError {
    /// As any connection may be.
    Upstream(Failure),
    /// The broker closed the connection or a channel, and said why.
    Closed(Closing),
    /// The broker sent what cannot be followed.
    Protocol(FrameError),
    /// The broker sent a method that may not come then; which one.
    OutOfTurn(String),
    /// The broker offers nothing that we can do.
    Unfit(String),
    /// The broker has taken the queue away.
    Cancelled,
}

impl SessionError {
    /// A method that may not come then. Its fields are not shown.
    pub(super) fn out_of_turn(method: &AMQPClass) -> SessionError {
        let shown = format!("{method:?}");
        let names: Vec<&str> = shown
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .filter(|name| !name.is_empty())
            .take(2)
            .collect();
        SessionError::OutOfTurn(names.join(".").to_ascii_lowercase())
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Upstream(failure) => write!(out, "{failure}"),
            SessionError::Closed(closing) => write!(out, "the broker refused us: {closing}"),
            SessionError::Protocol(error) => write!(out, "the broker sent {error}"),
            SessionError::OutOfTurn(what) => write!(out, "the broker sent {what} out of turn"),
            SessionError::Unfit(offer) => write!(out, "the broker offers {offer}"),
            SessionError::Cancelled => write!(out, "the broker has taken our queue away"),
        }
    }
}
