//! HTTP/1.x requests: a head into a [`Request`], and a body into nothing. It owns what RFC 9112 asks of
//! a server that reads; it must not know paths or write replies.

use crate::limits::{BODY_BYTES_MAX, CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX};

/// The methods that this server tells apart.
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
    /// So many bytes; zero where the head announced nothing.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// One request head, borrowed from the bytes it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub method: Method,
    /// The target as it was sent.
    pub target: &'a str,
    /// Whether this is HTTP/1.1 (else 1.0): whether a reply may be chunked.
    pub http_11: bool,
    /// Whether the client lets the connection be used again (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `User-Agent`, raw.
    pub user_agent: &'a [u8],
}

/// Why a head was refused. Each is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Not HTTP (400).
    Malformed,
    /// HTTP/1.1 without `Host`, or any request with several (400; RFC 9112 §3.2).
    Host,
    /// A `Content-Length` that is no number, or comes twice, or beside `Transfer-Encoding` (400; the
    /// ways to smuggle a request, RFC 9112 §6.3 and §11.2).
    Framing,
    /// Over [`HEAD_BYTES_MAX`] or [`HEADERS_MAX`] (431).
    TooLarge,
    /// A transfer coding other than `chunked` (501).
    Coding,
    /// Not HTTP/1.x (505).
    Version,
    /// An `Expect` other than `100-continue` (417).
    Expectation,
}

/// Parses a request head at the start of `bytes`: the request and the head's length, or `None` where
/// more bytes are needed.
///
/// # Errors
/// Any [`HeadError`], as soon as the bytes at hand show it.
pub fn parse_head(bytes: &[u8]) -> Result<Option<(Request<'_>, usize)>, HeadError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => HeadError::TooLarge,
        httparse::Error::Version if is_http(bytes) => HeadError::Version,
        _ => HeadError::Malformed,
    })?;
    let head_len = match status {
        httparse::Status::Complete(head_len) if head_len <= HEAD_BYTES_MAX => head_len,
        httparse::Status::Partial if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(HeadError::TooLarge),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(HeadError::Malformed);
    };
    let fields = Fields::collect(parsed.headers)?;
    let http_11 = version == 1;
    if fields.hosts > 1 || (http_11 && fields.hosts == 0) {
        return Err(HeadError::Host);
    }
    let request = Request {
        method: method_of(method),
        target,
        http_11,
        keep_alive: fields.keep_alive.unwrap_or(http_11),
        framing: fields.framing(http_11)?,
        expects_continue: http_11 && fields.expects_continue,
        user_agent: fields.user_agent,
    };
    Ok(Some((request, head_len)))
}

/// The progress of a body that is being discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come.
    Length(u64),
    /// Inside a chunked body.
    Chunked {
        /// What comes next.
        state: ChunkState,
        /// Bytes of the body so far, chunk heads included.
        seen: u64,
    },
}

/// What a chunked body's next byte belongs to. Lines end with CR LF and nothing else: two readers that
/// disagree about an end are how requests are smuggled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// The digits of a chunk's size.
    Size {
        /// The size as far as it was read.
        size: u64,
        /// Digits so far; none means that the line is malformed if it ends here.
        digits: usize,
    },
    /// The extensions behind the digits, which are ignored, with their length so far.
    Extension {
        /// The chunk's size.
        size: u64,
        /// Bytes so far.
        len: usize,
    },
    /// The LF that ends the line with this size.
    SizeEnd(u64),
    /// The chunk's data, with so many bytes left.
    Data(u64),
    /// The CR behind the data.
    DataCr,
    /// The LF behind that.
    DataLf,
    /// A trailer line, with its length so far; an empty one ends the body.
    Trailer(usize),
    /// The LF that ends a trailer line of this length.
    TrailerEnd(usize),
}

/// Why a body was refused. Each is the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Over [`BODY_BYTES_MAX`] (413).
    TooLarge,
    /// Not a chunked body (400).
    Malformed,
}

impl Body {
    /// The start of a body.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] where the head already announces too much.
    pub fn new(framing: Framing) -> Result<Body, BodyError> {
        match framing {
            Framing::Length(len) if len > BODY_BYTES_MAX => Err(BodyError::TooLarge),
            Framing::Length(len) => Ok(Body::Length(len)),
            Framing::Chunked => Ok(Body::Chunked {
                state: ChunkState::START,
                seen: 0,
            }),
        }
    }

    /// Takes in bytes: how many of them belong to the body, and whether it has ended with them.
    ///
    /// # Errors
    /// Any [`BodyError`].
    pub fn consume(&mut self, bytes: &[u8]) -> Result<(usize, bool), BodyError> {
        match self {
            Body::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                Ok((taken, *left == 0))
            }
            Body::Chunked { state, seen } => {
                let mut taken = 0;
                while taken < bytes.len() {
                    let step = state.step(&bytes[taken..])?;
                    taken += step.taken;
                    *seen += step.taken as u64;
                    if *seen > BODY_BYTES_MAX {
                        return Err(BodyError::TooLarge);
                    }
                    if step.ended {
                        return Ok((taken, true));
                    }
                }
                Ok((taken, false))
            }
        }
    }
}

/// What one step through a chunked body took.
struct Step {
    taken: usize,
    ended: bool,
}

impl ChunkState {
    const START: ChunkState = ChunkState::Size { size: 0, digits: 0 };

    /// Takes one byte, or as many as the chunk's data has. `bytes` is not empty.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        let (state, byte) = (*self, bytes[0]);
        if let ChunkState::Data(left) = state {
            let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            *self = match left - taken as u64 {
                0 => ChunkState::DataCr,
                left => ChunkState::Data(left),
            };
            return Ok(Step {
                taken,
                ended: false,
            });
        }
        *self = match (state, byte) {
            (ChunkState::Size { size, digits: 1.. }, b'\r') => ChunkState::SizeEnd(size),
            (ChunkState::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => {
                ChunkState::Extension { size, len: 0 }
            }
            (ChunkState::Size { size, digits }, _) => Self::digit(byte, size, digits)?,
            (ChunkState::Extension { size, .. }, b'\r') => ChunkState::SizeEnd(size),
            (ChunkState::Extension { size, len }, _) if byte != b'\n' => ChunkState::Extension {
                size,
                len: bounded(len)?,
            },
            (ChunkState::SizeEnd(0), b'\n') => ChunkState::Trailer(0),
            (ChunkState::SizeEnd(size), b'\n') => ChunkState::Data(size),
            (ChunkState::DataCr, b'\r') => ChunkState::DataLf,
            (ChunkState::DataLf, b'\n') => ChunkState::START,
            (ChunkState::Trailer(len), b'\r') => ChunkState::TrailerEnd(len),
            (ChunkState::Trailer(len), _) if byte != b'\n' => ChunkState::Trailer(bounded(len)?),
            (ChunkState::TrailerEnd(_), b'\n') => ChunkState::Trailer(0),
            _ => return Err(BodyError::Malformed),
        };
        Ok(Step {
            taken: 1,
            ended: byte == b'\n' && state == ChunkState::TrailerEnd(0),
        })
    }

    fn digit(byte: u8, size: u64, digits: usize) -> Result<ChunkState, BodyError> {
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::Malformed)?;
        // The bound is checked here already, so that the size cannot overflow.
        match size * 16 + u64::from(digit) {
            size if size > BODY_BYTES_MAX => Err(BodyError::TooLarge),
            size => Ok(ChunkState::Size {
                size,
                digits: bounded(digits)?,
            }),
        }
    }
}

/// The length of a line with one more byte.
fn bounded(len: usize) -> Result<usize, BodyError> {
    if len < CHUNK_LINE_BYTES_MAX {
        Ok(len + 1)
    } else {
        Err(BodyError::Malformed)
    }
}

/// The header fields that matter, gathered in one pass.
#[derive(Default)]
struct Fields<'a> {
    hosts: usize,
    content_length: Option<u64>,
    chunked: bool,
    keep_alive: Option<bool>,
    expects_continue: bool,
    user_agent: &'a [u8],
}

impl<'a> Fields<'a> {
    fn collect(headers: &[httparse::Header<'a>]) -> Result<Fields<'a>, HeadError> {
        let mut fields = Fields::default();
        for header in headers {
            let value = header.value;
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                fields.hosts += 1;
            } else if is("content-length") {
                if fields.content_length.is_some() {
                    return Err(HeadError::Framing);
                }
                fields.content_length = Some(parse_length(value)?);
            } else if is("transfer-encoding") {
                // A second coding, in this line or another, would have to be decoded to find the end.
                if fields.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::Coding);
                }
                fields.chunked = true;
            } else if is("connection") {
                fields.connection(value);
            } else if is("expect") {
                if !value.trim_ascii().eq_ignore_ascii_case(b"100-continue") {
                    return Err(HeadError::Expectation);
                }
                fields.expects_continue = true;
            } else if is("user-agent") {
                fields.user_agent = value;
            }
        }
        Ok(fields)
    }

    /// `close` wins over `keep-alive`, in whichever order they come.
    fn connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = Some(false);
            } else if option.eq_ignore_ascii_case(b"keep-alive") && self.keep_alive.is_none() {
                self.keep_alive = Some(true);
            }
        }
    }

    fn framing(&self, http_11: bool) -> Result<Framing, HeadError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::Framing),
            // HTTP/1.0 has no transfer codings; whoever sends one is confused or malicious.
            (true, None) if !http_11 => Err(HeadError::Framing),
            (true, None) => Ok(Framing::Chunked),
            (false, len) => Ok(Framing::Length(len.unwrap_or(0))),
        }
    }
}

/// Digits only: no sign, no list, no white space within.
fn parse_length(value: &[u8]) -> Result<u64, HeadError> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Framing);
    }
    let text = std::str::from_utf8(digits).map_err(|_| HeadError::Framing)?;
    // A number too large to hold is too large to read, too: the body's bound will say so.
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Whether the request line ends with some version of HTTP, rather than with anything else.
fn is_http(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start().split(|&byte| byte == b'\n').next();
    let version = line.and_then(|line| line.trim_ascii_end().rsplit(|&byte| byte == b' ').next());
    version.is_some_and(|version| version.starts_with(b"HTTP/"))
}

fn method_of(token: &str) -> Method {
    match token {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\n\r\n";

    fn parse(text: &str) -> Result<Option<(Request<'_>, usize)>, HeadError> {
        parse_head(text.as_bytes())
    }

    #[test]
    fn a_plain_request() {
        let (request, head_len) = parse(PLAIN).unwrap().unwrap();
        assert_eq!(head_len, PLAIN.len());
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.target, "/subscribe/eps");
        assert_eq!(request.user_agent, b"curl/8");
        assert!(request.http_11 && request.keep_alive && !request.expects_continue);
        assert_eq!(request.framing, Framing::Length(0));
    }

    #[test]
    fn refused_heads() {
        use HeadError::*;
        let table: &[(&str, HeadError)] = &[
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
                Coding,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Coding,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Coding,
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
        assert_eq!(parse(&long), Err(HeadError::TooLarge));
        let many = format!(
            "GET / HTTP/1.1\r\n{}\r\n",
            "a: b\r\n".repeat(HEADERS_MAX + 1)
        );
        assert_eq!(parse(&many), Err(HeadError::TooLarge));
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
    fn every_split_of_a_head_is_partial_until_the_last_byte() {
        let fixtures = [
            PLAIN,
            "\r\nGET http://a/b?c=d HTTP/1.1\nHost: a\n\n",
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

    /// Feeds `text` in two pieces and returns the body's length, or the error.
    fn discard(framing: Framing, text: &[u8], split: usize) -> Result<Option<usize>, BodyError> {
        let mut body = Body::new(framing)?;
        let (first, ended) = body.consume(&text[..split])?;
        if ended {
            return Ok(Some(first));
        }
        assert_eq!(first, split, "an unfinished body takes every byte");
        let (second, ended) = body.consume(&text[split..])?;
        Ok(ended.then_some(first + second))
    }

    #[test]
    fn bodies_end_where_they_should_at_every_split() {
        let table: &[(Framing, &str, Result<Option<usize>, BodyError>)] = &[
            (Framing::Length(3), "abcGET", Ok(Some(3))),
            (Framing::Length(7), "abc", Ok(None)),
            (Framing::Chunked, "0\r\n\r\nGET", Ok(Some(5))),
            (
                Framing::Chunked,
                "3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET",
                Ok(Some(23)),
            ),
            (
                Framing::Chunked,
                "a\r\n0123456789\r\n00\r\n\r\n",
                Ok(Some(21)),
            ),
            (Framing::Chunked, "3\r\nabcd\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "g\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "-1\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "1\nx\n", Err(BodyError::Malformed)),
            (
                Framing::Chunked,
                "1\rX\r\na\r\n0\r\n\r\n",
                Err(BodyError::Malformed),
            ),
            (Framing::Chunked, "1\r\na\r\r\n", Err(BodyError::Malformed)),
            (
                Framing::Chunked,
                "fffffffffffffffff\r\n",
                Err(BodyError::TooLarge),
            ),
        ];
        for (framing, text, expected) in table {
            for split in 0..=text.len() {
                let got = discard(*framing, text.as_bytes(), split);
                assert_eq!(got, *expected, "{text:?} split at {split}");
            }
        }
        assert_eq!(
            Body::new(Framing::Length(BODY_BYTES_MAX + 1)),
            Err(BodyError::TooLarge)
        );
    }
}
