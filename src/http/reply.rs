//! HTTP/1.x replies: a [`Reply`] and a stream's head into bytes. It owns status lines, header lines and dates; it must not
//! decide which reply is sent.

use std::borrow::Cow;
use std::io::Write;
use std::sync::Arc;

use crate::time::civil_date;

/// Pages of all origins may use the API, as they always could.
const CORS: &str = "Access-Control-Allow-Origin: *\r\n";

/// The interim answer to `Expect: 100-continue` (RFC 9110 §10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A complete reply, framed by `Content-Length`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `Content-Type`; `None` for a reply without a body.
    pub content_type: Option<&'static str>,
    /// Further header lines, each with its CRLF.
    pub extra: Cow<'static, str>,
    /// The body, which several clients may share.
    pub body: Arc<[u8]>,
    /// Whether pages of other origins may read it.
    pub is_for_all_origins: bool,
}

impl Reply {
    /// A JSON document.
    pub fn json(status: u16, body: impl Into<Arc<[u8]>>) -> Reply {
        Reply {
            status,
            content_type: Some("application/json"),
            extra: Cow::Borrowed(""),
            body: body.into(),
            is_for_all_origins: true,
        }
    }

    /// A reply without a body, with these header lines.
    pub fn bare(status: u16, extra: String) -> Reply {
        Reply {
            content_type: None,
            extra: extra.into(),
            ..Reply::json(status, Vec::new())
        }
    }

    /// Hides the reply from pages of other origins.
    pub fn for_own_origin(self) -> Reply {
        Reply {
            is_for_all_origins: false,
            ..self
        }
    }

    /// Replaces the further header lines.
    pub fn with_extra(self, extra: impl Into<Cow<'static, str>>) -> Reply {
        Reply {
            extra: extra.into(),
            ..self
        }
    }

    /// Tells the client after how many seconds to try again.
    pub fn with_retry_after(self, seconds: u64) -> Reply {
        self.with_extra(format!("Retry-After: {seconds}\r\n"))
    }

    /// A stream that consists of these events.
    pub fn finite_stream(body: Vec<u8>) -> Reply {
        Reply {
            content_type: Some("text/event-stream; charset=utf-8"),
            ..Reply::json(200, body)
        }
    }

    /// An error as a short JSON document; the message says what was wrong or what to do.
    pub fn error(status: u16, message: &str) -> Reply {
        let status_text = reason(status);
        let document = serde_json::json!({ "status": status_text, "error": message });
        let mut body = document.to_string().into_bytes();
        body.push(b'\n');
        Reply::json(status, body)
    }
}

/// Appends the head of a reply, which its body follows unless only the head was asked for.
pub fn encode_head(out: &mut Vec<u8>, reply: &Reply, keep_alive: bool, unix_seconds: u64) {
    status_line(out, reply.status);
    date_line(out, unix_seconds);
    if reply.is_for_all_origins {
        out.extend_from_slice(CORS.as_bytes());
    }
    out.extend_from_slice(b"Cache-Control: no-cache\r\n");
    if let Some(content_type) = reply.content_type {
        let _infallible = write!(out, "Content-Type: {content_type}\r\n");
        // Documents contain text from clients, which browsers must not interpret.
        out.extend_from_slice(b"X-Content-Type-Options: nosniff\r\n");
    }
    out.extend_from_slice(reply.extra.as_bytes());
    // A 204 has no body, and must not have this field (RFC 9110 §8.6).
    if reply.status != 204 {
        let _infallible = write!(out, "Content-Length: {}\r\n", reply.body.len());
    }
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let _infallible = write!(out, "Connection: {connection}\r\n\r\n");
}

/// Appends the head of a stream (WHATWG HTML §9.2.5; `X-Accel-Buffering` keeps nginx from buffering events). HTTP/1.0
/// clients get no transfer coding: their stream ends with the connection.
pub fn encode_stream_head(
    out: &mut Vec<u8>,
    is_chunked: bool,
    keep_alive: bool,
    extra: &str,
    unix_seconds: u64,
) {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let coding = match is_chunked {
        true => "Transfer-Encoding: chunked\r\n",
        false => "",
    };
    status_line(out, 200);
    date_line(out, unix_seconds);
    let _infallible = write!(
        out,
        "Content-Type: text/event-stream; charset=utf-8\r\n\
         Cache-Control: no-cache\r\n\
         Connection: {connection}\r\n\
         {CORS}\
         X-Accel-Buffering: no\r\n\
         {extra}{coding}\r\n"
    );
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    let _infallible = write!(out, "HTTP/1.1 {status} {}\r\n", reason(status));
}

/// `Date`, which an origin server with a clock must send (RFC 9110 §6.6.1).
fn date_line(out: &mut Vec<u8>, unix_seconds: u64) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let days = unix_seconds / 86_400;
    let seconds = unix_seconds % 86_400;
    let (year, month, day) = civil_date(days);
    let _infallible = write!(
        out,
        "Date: {}, {day:02} {} {year} {:02}:{:02}:{:02} GMT\r\n",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    );
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        301 => "Moved Permanently",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_announces_the_body() {
        let mut out = Vec::new();
        let document = Reply::json(200, b"{}".to_vec());
        encode_head(&mut out, &document, true, 784_111_777);
        let expected = "HTTP/1.1 200 OK\r\n\
            Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            Access-Control-Allow-Origin: *\r\n\
            Cache-Control: no-cache\r\n\
            Content-Type: application/json\r\n\
            X-Content-Type-Options: nosniff\r\n\
            Content-Length: 2\r\n\
            Connection: keep-alive\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
        out.clear();
        let private = document.for_own_origin();
        encode_head(&mut out, &private, true, 784_111_777);
        let expected = expected.replace("Access-Control-Allow-Origin: *\r\n", "");
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn an_error_says_what_was_wrong() {
        for (status, text) in [(403, "Forbidden"), (415, "Unsupported Media Type")] {
            let body = Reply::error(status, "").body;
            let shown = String::from_utf8_lossy(&body);
            assert!(shown.contains(&format!("\"status\":\"{text}\"")), "{shown}");
        }
        let reply = Reply::error(404, "nothing here");
        assert_eq!(
            &reply.body[..],
            b"{\"error\":\"nothing here\",\"status\":\"Not Found\"}\n"
        );
    }
}
