//! Why a request is refused before anybody decides about it, and with which reply.

use super::CloseReason;
use super::body::BodyError;
use super::head::HeadError;
use super::reply::Reply;
use crate::limits;

/// Why a request cannot be followed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// Its head is wrong: the client's fault (400, 417, 431, 501, 505).
    Head(HeadError),
    /// Its body is wrong, or has more bytes than this bound: the client's fault (400, 413).
    Body(BodyError, u64),
    /// It was not whole at its deadline: the client's fault (408).
    Late,
    /// It was whole, and not answered at its deadline: ours (503).
    Unanswered,
    /// Too much is held for clients that are not authenticated: not this client's fault alone (503).
    Overloaded,
}

impl RequestError {
    /// The answer to it.
    pub fn reply(self) -> Reply {
        let seconds = limits::REQUEST_DEADLINE.as_secs();
        let (status, text) = match self {
            RequestError::Head(error) => return Reply::error(error.status(), &error.to_string()),
            RequestError::Body(BodyError::Malformed, _) => {
                (400, "the body is not chunked as announced".to_owned())
            }
            RequestError::Body(BodyError::TooLarge, bytes_max) => {
                (413, format!("the body may have {bytes_max} bytes"))
            }
            RequestError::Late => (408, format!("the request was not whole after {seconds} s")),
            RequestError::Unanswered => (503, format!("there was no answer within {seconds} s")),
            RequestError::Overloaded => {
                let text = "too much is being sent; send the key as a bearer token";
                return Reply {
                    extra: "Retry-After: 5\r\n".into(),
                    ..Reply::error(503, text)
                };
            }
        };
        Reply::error(status, &text)
    }

    /// Why the connection is closed behind that answer.
    pub fn close_reason(self) -> CloseReason {
        match self {
            RequestError::Late => CloseReason::Idle,
            RequestError::Unanswered => CloseReason::Failure,
            _ => CloseReason::Protocol,
        }
    }
}
