//! HTTP/1.x request heads: bytes into a [`Request`]. It owns what RFC 9112 requires of a server that parses heads; it must
//! not know paths or write replies.

use super::error::RequestError;
use super::request_line;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// A request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `OPTIONS`
    Options,
    /// Any other token.
    Other,
}

/// How the end of a request's body is found (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; zero if the head announces none.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// One request head. It owns its bytes, so that it outlives the buffer that they came in; together they are bounded
/// by [`HEAD_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target as it was sent.
    pub target: Box<str>,
    /// Whether this is HTTP/1.1 (else 1.0): whether a reply may be chunked.
    pub http_11: bool,
    /// Whether the client lets the connection be used again (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `Authorization`, raw; empty if there is none. The last one counts.
    pub authorization: Box<[u8]>,
    /// `Content-Type`, likewise.
    pub content_type: Box<[u8]>,
    /// `User-Agent`, likewise.
    pub user_agent: Box<[u8]>,
    /// Whether the client accepts an event stream (RFC 9110 §12.5.1).
    pub accepts_stream: bool,
    /// Whether a script sent it with `XMLHttpRequest` rather than `EventSource` (`X-Requested-With`).
    pub is_xhr: bool,
    /// `Last-Event-ID`, likewise.
    pub last_event_id: Box<[u8]>,
    /// The lines of `X-Forwarded-For`, raw, in order.
    pub forwarded_for: Vec<Box<[u8]>>,
    /// Whether a proxy has passed it on (`X-Forwarded-For`, `Forwarded`, `Via`).
    pub is_forwarded: bool,
    /// `Host`, raw; empty if there is none.
    pub host: Box<[u8]>,
}

/// Parses a request head at the start of `bytes`: the request and the head's length, or `None` if more bytes are needed.
///
/// # Errors
/// Why it is refused, as soon as the bytes at hand show it.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Request, usize)>, RequestError> {
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(line) = request_line::parse(bytes)? else {
        return Ok(None);
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let parsed = httparse::parse_headers(&bytes[line.len..], &mut headers);
    let status = parsed.map_err(|error| match error {
        httparse::Error::TooManyHeaders => RequestError::HeadTooLarge,
        _ => RequestError::Malformed,
    })?;
    let (fields_len, headers) = match status {
        httparse::Status::Complete(complete) => complete,
        httparse::Status::Partial if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        httparse::Status::Partial => return Err(RequestError::HeadTooLarge),
    };
    let head_len = line.len + fields_len;
    let http_11 = line.http_11;
    let fields = Fields(headers);
    let framing = fields.framing(http_11)?;
    let mut expectations = fields.all("expect").map(<[u8]>::trim_ascii);
    if expectations.any(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
        return Err(RequestError::Expectation);
    }
    let hosts: Vec<&[u8]> = fields.all("host").collect();
    match hosts[..] {
        [] if !http_11 => {}
        [host] if is_host(host.trim_ascii()) => {}
        _ => return Err(RequestError::Host),
    }
    let requested_with = fields.last("x-requested-with").trim_ascii();
    let request = Request {
        method: method_of(line.method),
        target: line.target.into(),
        http_11,
        keep_alive: fields.keep_alive(http_11),
        framing,
        expects_continue: http_11 && fields.all("expect").next().is_some(),
        authorization: fields.last("authorization").into(),
        content_type: fields.last("content-type").into(),
        user_agent: fields.last("user-agent").into(),
        accepts_stream: fields.all("accept").next().is_none()
            || fields.all("accept").any(accepts_stream),
        is_xhr: requested_with.eq_ignore_ascii_case(b"XMLHttpRequest"),
        last_event_id: fields.last("last-event-id").into(),
        forwarded_for: fields.all("x-forwarded-for").map(Box::from).collect(),
        is_forwarded: ["x-forwarded-for", "forwarded", "via"]
            .into_iter()
            .any(|name| fields.all(name).next().is_some()),
        host: fields.last("host").into(),
    };
    Ok(Some((request, head_len)))
}

/// The header fields of a request.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of all fields of this name.
    fn all(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a [u8]> + use<'a> {
        let named = self.0.iter();
        let named = named.filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    /// The value of the last one, or nothing.
    fn last(&self, name: &'static str) -> &'a [u8] {
        self.all(name).next_back().unwrap_or_default()
    }

    /// `close` wins over `keep-alive`, in whichever order they come.
    fn keep_alive(&self, http_11: bool) -> bool {
        let has = |option: &[u8]| {
            let mut options = self
                .all("connection")
                .flat_map(|value| value.split(|&byte| byte == b','));
            options.any(|it| it.trim_ascii().eq_ignore_ascii_case(option))
        };
        !has(b"close") && (http_11 || has(b"keep-alive"))
    }

    fn framing(&self, http_11: bool) -> Result<Framing, RequestError> {
        let lens: Vec<u64> = self
            .all("content-length")
            .map(parse_length)
            .collect::<Result<_, _>>()?;
        let lines = self.all("transfer-encoding");
        let codings = lines.flat_map(|line| line.split(|&byte| byte == b','));
        let codings: Vec<&[u8]> = codings.map(<[u8]>::trim_ascii).collect();
        let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
        match (&lens[..], &codings[..]) {
            ([], []) => Ok(Framing::Length(0)),
            ([len], []) => Ok(Framing::Length(*len)),
            // HTTP/1.0 has no transfer codings; whoever sends one is confused or malicious.
            ([], [coding]) if http_11 && is_chunked(coding) => Ok(Framing::Chunked),
            // The end can be found only where the last coding, and no other, is `chunked`.
            ([], [others @ .., last])
                if http_11 && is_chunked(last) && !others.iter().any(is_chunked) =>
            {
                Err(RequestError::Coding)
            }
            _ => Err(RequestError::Framing),
        }
    }
}

/// Whether this is the host and port of a URI, either of which may be left out (RFC 9112 §3.2). Names have no comma,
/// which RFC 3986 §3.2.2 would allow: where there is one, two fields were joined.
fn is_host(value: &[u8]) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let (is_known, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let end = rest.iter().position(|&byte| byte == b']');
            let (address, port) = rest.split_at(end.unwrap_or(rest.len()));
            let address = std::str::from_utf8(address).unwrap_or_default();
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            (
                is_address && end.is_some(),
                port.get(1..).unwrap_or_default(),
            )
        }
        None => {
            let end = value.iter().position(|&byte| byte == b':');
            let (name, port) = value.split_at(end.unwrap_or(value.len()));
            (name.iter().all(is_name), port)
        }
    };
    is_known
        && match port {
            [] => true,
            [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// Whether one of the media ranges covers `text/event-stream`, and is not refused with `q=0`.
fn accepts_stream(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|range| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let covers = [&b"text/event-stream"[..], b"text/*", b"*/*"].contains(&kind.as_slice());
        let is_zero = |part: &[u8]| {
            let weight = part
                .strip_prefix(b"q=")
                .or_else(|| part.strip_prefix(b"Q="));
            weight.is_some_and(|weight| weight.iter().all(|byte| b"0.".contains(byte)))
        };
        covers && !parts.any(is_zero)
    })
}

/// Parses a `Content-Length`: digits only, no sign, no list.
fn parse_length(value: &[u8]) -> Result<u64, RequestError> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(RequestError::Framing);
    }
    let text = std::str::from_utf8(digits).map_err(|_| RequestError::Framing)?;
    // A number that overflows is over any bound on the body.
    Ok(text.parse().unwrap_or(u64::MAX))
}

fn method_of(token: &[u8]) -> Method {
    match token {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        b"OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\n\r\n";
    const LOGGED_IN: &str = "GET / HTTP/1.1\r\nHost: a\r\nauthorization: Bearer x\r\n\r\n";

    fn parse(text: &str) -> Result<Option<(Request, usize)>, RequestError> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn a_plain_request() {
        let (request, head_len) = parse(PLAIN).unwrap().unwrap();
        assert_eq!(head_len, PLAIN.len());
        assert_eq!(request.method, Method::Get);
        assert_eq!(&*request.target, "/subscribe/eps");
        assert_eq!(&*request.user_agent, b"curl/8");
        assert!(request.http_11 && request.keep_alive && !request.expects_continue);
        assert_eq!(request.framing, Framing::Length(0));
        assert_eq!(&*request.authorization, b"");
        let (request, _) = parse(LOGGED_IN).unwrap().unwrap();
        assert_eq!(&*request.authorization, b"Bearer x");
    }

    #[test]
    fn refused_heads() {
        use RequestError::*;
        let table: &[(&str, RequestError)] = &[
            ("GET\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", Malformed),
            ("\x16\x03\x01\x02\x00\x01", Malformed),
            ("G{T / HTTP/1.1\r\n\r\n", Malformed),
            ("GET / HTTP/1.1\r\n\r\n", Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Host),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Host),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
            ("GET / FTP/1.1\r\nHost: a\r\n\r\n", Malformed),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Coding,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Framing,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
                Expectation,
            ),
        ];
        for (text, error) in table {
            assert_eq!(parse(text), Err(*error), "for {text:?}");
        }
    }

    #[test]
    fn heads_over_the_limits() {
        let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse(&long), Err(RequestError::TargetTooLong));
        let wide = format!("GET / HTTP/1.1\r\nA: {}\r\n", "a".repeat(HEAD_BYTES_MAX));
        assert_eq!(parse(&wide), Err(RequestError::HeadTooLarge));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(parse(&many), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn a_host_is_a_host_and_perhaps_a_port() {
        let table = [
            ("", true),
            ("example.org", true),
            ("a_b-c.%41:8080", true),
            ("192.0.2.1:", true),
            ("[2001:db8::1]:80", true),
            ("user@example.org", false),
            ("example.org/path", false),
            ("a, b", false),
            ("a,b", false),
            ("a b", false),
            ("a:80:80", false),
            ("a:x", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[a]", false),
            ("\u{2764}", false),
        ];
        for (host, expected) in table {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let parsed = parse(&text).map(|request| request.is_some());
            let wanted = if expected {
                Ok(true)
            } else {
                Err(RequestError::Host)
            };
            assert_eq!(parsed, wanted, "for {host:?}");
        }
    }

    #[test]
    fn persistence_follows_version_and_connection() {
        let table = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                false,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Close\r\n\r\n",
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
        ];
        for (text, keep_alive) in table {
            assert_eq!(
                parse(text).unwrap().unwrap().0.keep_alive,
                keep_alive,
                "for {text:?}"
            );
        }
    }

    #[test]
    fn what_a_client_accepts() {
        let table = [
            ("", true),
            ("Accept: */*\r\n", true),
            ("Accept: text/event-stream\r\n", true),
            ("Accept: text/html, TEXT/Event-Stream;q=0.1\r\n", true),
            ("Accept: text/html\r\nAccept: text/*\r\n", true),
            ("Accept: application/json\r\n", false),
            ("Accept: text/html, */*;q=0.0\r\n", false),
            ("Accept:\r\n", false),
        ];
        for (line, expected) in table {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n");
            let accepts = parse(&text).unwrap().unwrap().0.accepts_stream;
            assert_eq!(accepts, expected, "for {line:?}");
        }
    }

    #[test]
    fn what_a_body_and_a_client_call_themselves() {
        let table: [(&str, &[u8], bool); 6] = [
            ("", b"", false),
            ("Content-Type: a/b; c=d\r\n", b"a/b; c=d", false),
            ("content-type: a/b\r\nContent-Type:\r\n", b"", false),
            ("X-Requested-With: XMLHttpRequest\r\n", b"", true),
            ("x-requested-with:  xmlhttprequest \r\n", b"", true),
            ("X-Requested-With: com.android.browser\r\n", b"", false),
        ];
        for (lines, content_type, is_xhr) in table {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
            let (request, _) = parse(&text).unwrap().unwrap();
            assert_eq!(&*request.content_type, content_type, "for {lines:?}");
            assert_eq!(request.is_xhr, is_xhr, "for {lines:?}");
        }
    }

    #[test]
    fn every_split_of_a_head_is_partial_until_the_last_byte() {
        let fixtures = [
            PLAIN,
            "GET http://a/b?c=d HTTP/1.1\nHost: a\n\n",
            "POST /subscribe/cleanup/scores HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            "HEAD / HTTP/1.0\r\nUser-Agent: \u{2764}\r\n\r\n",
        ];
        for text in fixtures {
            for len in 0..text.len() {
                assert_eq!(
                    parse_head(&text.as_bytes()[..len]),
                    Ok(None),
                    "{len} bytes of {text:?}"
                );
            }
            assert_eq!(parse(text).unwrap().unwrap().1, text.len());
        }
    }
}
