//! Errors: why a connection to an AMQP broker was given up, and the text for the log.

use std::fmt;

use amq_protocol::protocol::AMQPClass;

use super::codec::{Closing, FrameError};
use super::content::Unexpected;
use crate::broker::link::Failure;

/// Why a connection was given up.
#[derive(Debug)]
pub enum SessionError {
    /// A failure that any connection may have.
    Upstream(Failure),
    /// The broker has closed the connection or a channel.
    Closed(Closing),
    /// The broker sent something that cannot be decoded.
    Protocol(FrameError),
    /// The broker sent a method or part of a message that must not come at that point.
    Unexpected(String),
    /// The broker offers nothing that we support.
    Unsupported(String),
    /// The broker has cancelled the consumer.
    Cancelled,
}

impl SessionError {
    /// An unexpected method, by the names of its class and method.
    pub(super) fn unexpected(method: &AMQPClass) -> SessionError {
        let shown = format!("{method:?}");
        let names = shown.split(|letter: char| !letter.is_ascii_alphanumeric());
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).take(2).collect();
        SessionError::Unexpected(names.join(".").to_ascii_lowercase())
    }
}

impl From<Unexpected> for SessionError {
    fn from(_: Unexpected) -> SessionError {
        SessionError::Unexpected("a part of a message".to_owned())
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SessionError::Upstream(failure) => write!(out, "{failure}"),
            SessionError::Closed(closing) => write!(out, "closed by the broker: {closing}"),
            SessionError::Protocol(error) => write!(out, "the broker sent {error}"),
            SessionError::Unexpected(what) => write!(out, "the broker unexpectedly sent {what}"),
            SessionError::Unsupported(offer) => write!(out, "the broker offers {offer}"),
            SessionError::Cancelled => {
                write!(
                    out,
                    "the broker has cancelled the consumer, as when the queue is deleted"
                )
            }
        }
    }
}
