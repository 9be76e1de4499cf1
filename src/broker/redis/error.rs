//! Errors: why a conversation with Redis was given up. It owns how each is put into words; it must not know what is
//! done about one.

use std::fmt;

use super::resp::ReplyError;
use crate::broker::link::Failure;

/// Why a connection was given up.
#[derive(Debug)]
pub(super) enum SessionError {
    /// As any connection may be.
    Upstream(Failure),
    /// The broker refused a command: the command and its words.
    Refused(&'static str, String),
    /// The broker sent what cannot be followed.
    Protocol(ReplyError),
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
