//! The first line of a request: method, target and version (RFC 9112 §3). It is read from left to right, so that what
//! is wrong is found at the same byte however the line was split.

use super::error::RequestError;
use crate::limits::HEAD_BYTES_MAX;

/// A request's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'a> {
    /// The method, a token.
    pub method: &'a [u8],
    /// The target: visible ASCII without a fragment.
    pub target: &'a str,
    /// Whether this is HTTP/1.1 or a later 1.x, which is served as 1.1 (RFC 9110 §2.5); else it is 1.0.
    pub http_11: bool,
    /// How long the line is, with its end.
    pub len: usize,
}

/// Parses the line that `bytes` begin with; `None` where more bytes are needed.
///
/// # Errors
/// [`RequestError::Malformed`], [`RequestError::Target`], [`RequestError::TargetTooLong`] and [`RequestError::Version`].
pub fn parse(bytes: &[u8]) -> Result<Option<RequestLine<'_>>, RequestError> {
    let partial = |error| match bytes.len() < HEAD_BYTES_MAX {
        true => Ok(None),
        false => Err(error),
    };
    let Some((method, rest)) = split_at_space(bytes, is_token_byte, RequestError::Malformed)?
    else {
        return partial(RequestError::Malformed);
    };
    let is_target = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    let Some((target, rest)) = split_at_space(rest, is_target, RequestError::Target)? else {
        return partial(RequestError::TargetTooLong);
    };
    let Some((major, minor, rest)) = split_version(rest)? else {
        return partial(RequestError::TargetTooLong);
    };
    if major != b'1' {
        return Err(RequestError::Version);
    }
    Ok(Some(RequestLine {
        method,
        target: std::str::from_utf8(target).map_err(|_| RequestError::Target)?,
        http_11: minor != b'0',
        len: bytes.len() - rest.len(),
    }))
}

/// Whether a byte may be a part of a token (RFC 9110 §5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What stands before the first space, at least one byte, and what follows the space.
fn split_at_space(
    bytes: &[u8],
    is_allowed: impl Fn(u8) -> bool,
    error: RequestError,
) -> Result<Option<(&[u8], &[u8])>, RequestError> {
    let end = bytes.iter().position(|&byte| !is_allowed(byte));
    match end.map(|end| (end, bytes[end])) {
        None => Ok(None),
        Some((0, _)) => Err(error),
        Some((end, b' ')) => Ok(Some((&bytes[..end], &bytes[end + 1..]))),
        // A line that ends here has no version.
        Some((_, b'\r' | b'\n')) => Err(RequestError::Malformed),
        Some(_) => Err(error),
    }
}

/// The digits of `HTTP/1.1` and what follows the line's end.
fn split_version(bytes: &[u8]) -> Result<Option<(u8, u8, &[u8])>, RequestError> {
    let known = b"HTTP/".iter().zip(bytes);
    if known.into_iter().any(|(expected, byte)| expected != byte) {
        return Err(RequestError::Malformed);
    }
    match bytes.get(5..).unwrap_or_default() {
        [major, b'.', minor, b'\n', rest @ ..] | [major, b'.', minor, b'\r', b'\n', rest @ ..]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Ok(Some((*major, *minor, rest)))
        }
        part if is_version_start(part) => Ok(None),
        _ => Err(RequestError::Malformed),
    }
}

/// Whether this may become the rest of a version and the line's end.
fn is_version_start(part: &[u8]) -> bool {
    match part {
        [] => true,
        [major] => major.is_ascii_digit(),
        [major, b'.'] => major.is_ascii_digit(),
        [major, b'.', minor] | [major, b'.', minor, b'\r'] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_or_refused_at_every_split() {
        type Expected<'a> = Result<(&'a str, bool), RequestError>;
        use RequestError::{Malformed, Target, Version};
        let table: &[(&str, Expected<'_>)] = &[
            ("GET /a?b HTTP/1.1\r\n", Ok(("/a?b", true))),
            ("GET * HTTP/1.0\n", Ok(("*", false))),
            ("GET / HTTP/1.2\r\n", Ok(("/", true))),
            ("GET /pa th HTTP/1.1\r\n", Err(Malformed)),
            ("GET  / HTTP/1.1\r\n", Err(Target)),
            ("GET /  HTTP/1.1\r\n", Err(Malformed)),
            ("GET / HTTP/1.1 \r\n", Err(Malformed)),
            ("GET / HTTP/1\r\n", Err(Malformed)),
            ("GET / HTTP/01.01\r\n", Err(Malformed)),
            ("GET / http/1.1\r\n", Err(Malformed)),
            ("GET / HTTP/1.1\r\r\n", Err(Malformed)),
            ("GET / FTP/1.1\r\n", Err(Malformed)),
            ("GET /\r\n", Err(Malformed)),
            ("GET\r\n", Err(Malformed)),
            (" GET / HTTP/1.1\r\n", Err(Malformed)),
            ("G{T / HTTP/1.1\r\n", Err(Malformed)),
            ("\x16\x03\x01\x02\0\x01", Err(Malformed)),
            ("GET /#a HTTP/1.1\r\n", Err(Target)),
            ("GET /\u{2764} HTTP/1.1\r\n", Err(Target)),
            ("GET /\ta HTTP/1.1\r\n", Err(Target)),
            ("GET / HTTP/2.0\r\n", Err(Version)),
            ("GET / HTTP/0.9\r\n", Err(Version)),
        ];
        for (text, expected) in table {
            let whole = parse(text.as_bytes()).map(|line| line.expect("the line is whole"));
            let read = whole.map(|line| (line.target, line.http_11));
            assert_eq!(read, *expected, "for {text:?}");
            assert!(whole.is_err() || whole.is_ok_and(|line| line.len == text.len()));
            for len in 0..text.len() {
                let part = parse(&text.as_bytes()[..len]);
                let error = whole.err();
                assert!(part == Ok(None) || part.err() == error, "{len} of {text:?}");
            }
        }
    }

    #[test]
    fn long_targets_are_told_from_long_methods() {
        let long = "a".repeat(HEAD_BYTES_MAX);
        for (text, error) in [
            (format!("GET /{long}"), RequestError::TargetTooLong),
            (long.clone(), RequestError::Malformed),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(error));
        }
    }
}
