//! Why a request is refused before the owner decides about it, and with which reply.

use super::CloseReason;
use super::reply::Reply;
use crate::limits;

/// Why a request cannot be processed. Unless stated otherwise, it is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The head is not HTTP.
    Malformed,
    /// The target has other bytes than visible ASCII, or a fragment.
    Target,
    /// HTTP/1.1 without `Host`, any request with several, or one that is not a host (RFC 9112 §3.2).
    Host,
    /// A `Content-Length` that is not a number, or is repeated, or stands beside `Transfer-Encoding`, or a
    /// `Transfer-Encoding` that does not end in `chunked`: ways to smuggle a request (RFC 9112 §6.3 and §11.2).
    Framing,
    /// The request line is over [`limits::HEAD_BYTES_MAX`].
    TargetTooLong,
    /// The head is over [`limits::HEAD_BYTES_MAX`] or [`limits::HEADERS_MAX`].
    HeadTooLarge,
    /// A transfer coding before `chunked`.
    Coding,
    /// Not HTTP/1.x.
    Version,
    /// An `Expect` other than `100-continue`.
    Expectation,
    /// The body is not chunked as announced.
    Chunks,
    /// The body is longer than this bound.
    BodyTooLarge(u64),
    /// It was not complete at its deadline.
    Late,
    /// It was complete, but not answered at its deadline: our fault.
    Unanswered,
    /// Too many bytes are held of incomplete requests whose senders have not authenticated: not this client's fault alone.
    Overloaded,
}

impl RequestError {
    /// The reply.
    pub fn reply(self) -> Reply {
        let seconds = limits::REQUEST_DEADLINE.as_secs();
        let (status, text) = match self {
            RequestError::Malformed => (400, "this is not an HTTP/1.x request"),
            RequestError::Target => (
                400,
                "send a target of visible ASCII characters without a fragment; percent-encode others",
            ),
            RequestError::Host => (
                400,
                "send one Host header field, with a host and perhaps a port",
            ),
            RequestError::TargetTooLong => {
                let text = format!("a request line may have {} bytes", limits::HEAD_BYTES_MAX);
                return Reply::error(414, &text);
            }
            RequestError::Framing => (
                400,
                "send either one Content-Length or Transfer-Encoding: chunked",
            ),
            RequestError::HeadTooLarge => {
                let (bytes_max, fields_max) = (limits::HEAD_BYTES_MAX, limits::HEADERS_MAX);
                let text = format!("a head may have {bytes_max} bytes and {fields_max} fields");
                return Reply::error(431, &text);
            }
            RequestError::Coding => (501, "the only supported transfer coding is chunked"),
            RequestError::Version => (505, "use HTTP/1.1 or HTTP/1.0"),
            RequestError::Expectation => (417, "the only supported expectation is 100-continue"),
            RequestError::Chunks => (400, "the body is not chunked as announced"),
            RequestError::BodyTooLarge(bytes_max) => {
                return Reply::error(413, &format!("the body may have {bytes_max} bytes"));
            }
            RequestError::Late => {
                let rate = limits::BODY_BYTES_PER_SEC_MIN;
                let text = format!(
                    "send the head within {seconds} s, and the body at {rate} bytes a second or faster"
                );
                return Reply::error(408, &text);
            }
            RequestError::Unanswered => {
                return Reply::error(503, &format!("there was no answer within {seconds} s"));
            }
            RequestError::Overloaded => {
                let text = "too many incomplete requests at a time; send the key of a publication as a bearer token";
                return Reply::error(503, text).with_retry_after(5);
            }
        };
        Reply::error(status, text)
    }

    /// Why the connection is closed after that reply.
    pub fn close_reason(self) -> CloseReason {
        match self {
            RequestError::Late => CloseReason::Idle,
            RequestError::Unanswered => CloseReason::Failure,
            _ => CloseReason::Protocol,
        }
    }
}
