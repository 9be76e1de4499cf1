//! HTTP/1.x request bodies: bytes into data. It owns finding the end of a body (RFC 9112 §6 and §7.1) and enforcing its
//! bound; it must not know what the data means.

use super::error::RequestError;
use super::head::Framing;
use super::request_line::is_token_byte;
use crate::limits::CHUNK_LINE_BYTES_MAX;

/// The progress of a body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    next: Next,
    bytes_max: u64,
    /// Bytes of data in the chunks that were announced so far.
    data: u64,
    /// Bytes so far that are not data: sizes, line ends, trailers.
    overhead: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The last so many bytes of the body.
    Rest(u64),
    /// A line with a chunk's size, and with extensions, which are ignored.
    Size,
    /// So many bytes of a chunk.
    Data(u64),
    /// The line end behind a chunk.
    DataEnd,
    /// A trailer line; an empty one ends the body.
    Trailer,
    /// Nothing.
    End,
}

impl Body {
    /// The start of a body of at most so many bytes of data. Chunk headers and trailers may take as many again.
    ///
    /// # Errors
    /// [`RequestError::BodyTooLarge`] if the head already announces too much.
    pub fn new(framing: Framing, bytes_max: u64) -> Result<Body, RequestError> {
        let next = match framing {
            Framing::Length(len) if len > bytes_max => {
                return Err(RequestError::BodyTooLarge(bytes_max));
            }
            Framing::Length(0) => Next::End,
            Framing::Length(len) => Next::Rest(len),
            Framing::Chunked => Next::Size,
        };
        Ok(Body {
            next,
            bytes_max,
            data: 0,
            overhead: 0,
        })
    }

    /// Whether all of it has been read; a body of length zero has ended from the start.
    pub fn has_ended(&self) -> bool {
        self.next == Next::End
    }

    /// Consumes bytes: how many of them belong to the body, and whether it has ended with them. An incomplete line is not
    /// consumed, and must be given again. Data is appended to `kept`.
    ///
    /// # Errors
    /// [`RequestError::BodyTooLarge`] and [`RequestError::Chunks`].
    pub fn consume(
        &mut self,
        bytes: &[u8],
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<(usize, bool), RequestError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.has_ended() {
            let (Next::Rest(left) | Next::Data(left)) = self.next else {
                match self.take_line(rest)? {
                    Some(len) => rest = &rest[len..],
                    None => break,
                }
                continue;
            };
            let len = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
            if let Some(kept) = &mut kept {
                if kept.capacity() - kept.len() < len {
                    // An eighth more, and not twice as much: nobody counts the memory that is not used.
                    kept.reserve_exact(len.max(kept.len() / 8));
                }
                kept.extend_from_slice(&rest[..len]);
            }
            rest = &rest[len..];
            let left = left - len as u64;
            self.next = match self.next {
                Next::Rest(_) if left == 0 => Next::End,
                Next::Rest(_) => Next::Rest(left),
                _ if left == 0 => Next::DataEnd,
                _ => Next::Data(left),
            };
        }
        Ok((bytes.len() - rest.len(), self.has_ended()))
    }

    /// Takes a line that is no data: how long it is, with its end. `None` where it is not whole. What is wrong is
    /// looked for from left to right, also in a line that is not whole, so that the answer does not depend on how
    /// the bytes were split.
    fn take_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, RequestError> {
        let (line, end) = line_of(bytes);
        let Some(room) = self.bytes_max.checked_sub(self.overhead) else {
            return Err(RequestError::BodyTooLarge(self.bytes_max));
        };
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let shown = &line[..line.len().min(CHUNK_LINE_BYTES_MAX).min(room)];
        let size = match self.next {
            Next::Size if !shown.is_empty() => Some(self.size_of(shown)?),
            Next::Size if line.is_empty() && end != LineEnd::Missing => {
                return Err(RequestError::Chunks);
            }
            Next::DataEnd if !line.is_empty() => return Err(RequestError::Chunks),
            _ => None,
        };
        if line.len() > CHUNK_LINE_BYTES_MAX.min(room) {
            return Err(match room > CHUNK_LINE_BYTES_MAX {
                true => RequestError::Chunks,
                false => RequestError::BodyTooLarge(self.bytes_max),
            });
        }
        match end {
            LineEnd::Missing => return Ok(None),
            LineEnd::Wrong => return Err(RequestError::Chunks),
            LineEnd::Whole => {}
        }
        self.overhead += line.len() as u64 + 2;
        self.next = match (self.next, size) {
            (Next::Size, Some((_, extensions))) if !are_extensions(extensions) => {
                return Err(RequestError::Chunks);
            }
            (Next::Size, Some((0, _))) => Next::Trailer,
            (Next::Size, Some((size, _))) => {
                self.data += size;
                Next::Data(size)
            }
            (Next::DataEnd, _) => Next::Size,
            (Next::Trailer, _) if line.is_empty() => Next::End,
            (other, _) => other,
        };
        Ok(Some(line.len() + 2))
    }

    /// The size that a line begins with, and what follows it. The bound is checked at each digit, so that the size
    /// cannot overflow.
    fn size_of<'a>(&self, line: &'a [u8]) -> Result<(u64, &'a [u8]), RequestError> {
        let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
        let (digits, rest) = line.split_at(end.unwrap_or(line.len()));
        let mut size = 0;
        for &digit in digits {
            size = size * 16 + u64::from(char::from(digit).to_digit(16).unwrap_or_default());
            if size > self.bytes_max - self.data {
                return Err(RequestError::BodyTooLarge(self.bytes_max));
            }
        }
        match rest.first() {
            _ if digits.is_empty() => Err(RequestError::Chunks),
            None | Some(b';' | b' ' | b'\t') => Ok((size, rest)),
            Some(_) => Err(RequestError::Chunks),
        }
    }
}

/// How a line ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// The end has not come yet.
    Missing,
    /// With CR LF.
    Whole,
    /// With anything else: two readers that disagree about an end are how requests are smuggled.
    Wrong,
}

/// The line that the bytes begin with, without its end, and how it ends.
fn line_of(bytes: &[u8]) -> (&[u8], LineEnd) {
    let end = bytes.iter().position(|byte| b"\r\n".contains(byte));
    let (line, end) = bytes.split_at(end.unwrap_or(bytes.len()));
    match end {
        [] | [b'\r'] => (line, LineEnd::Missing),
        [b'\r', b'\n', ..] => (line, LineEnd::Whole),
        _ => (line, LineEnd::Wrong),
    }
}

/// Whether this is a list of chunk extensions, or nothing (RFC 9112 §7.1.1). What they say is ignored.
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(name) = trim_start(rest).strip_prefix(b";") else {
            return false;
        };
        let Some(after) = strip_token(trim_start(name)) else {
            return false;
        };
        rest = match trim_start(after).strip_prefix(b"=").map(trim_start) {
            None => after,
            Some(value) => match strip_token(value).or_else(|| strip_quoted(value)) {
                Some(after) => after,
                None => return false,
            },
        };
    }
    true
}

fn trim_start(bytes: &[u8]) -> &[u8] {
    let blank = bytes
        .iter()
        .take_while(|byte| b" \t".contains(byte))
        .count();
    &bytes[blank..]
}

/// What follows a token.
fn strip_token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes
        .iter()
        .take_while(|&&byte| is_token_byte(byte))
        .count();
    (len > 0).then_some(&bytes[len..])
}

/// What follows a quoted string (RFC 9110 §5.6.4).
fn strip_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7F);
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(*escaped) => rest,
            [byte, rest @ ..] if is_text(*byte) && *byte != b'\\' => rest,
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bodies of the table may have.
    const BYTES_MAX: u64 = 32;

    /// Feeds `text` in two pieces and returns the body's length and its data, or the error.
    fn read(
        framing: Framing,
        text: &[u8],
        split: usize,
    ) -> Result<Option<(usize, String)>, RequestError> {
        let mut kept = Vec::new();
        let mut body = Body::new(framing, BYTES_MAX)?;
        let mut discarded = body;
        let (first, ended) = body.consume(&text[..split], Some(&mut kept))?;
        assert_eq!(discarded.consume(&text[..split], None), Ok((first, ended)));
        assert!(ended || split - first <= CHUNK_LINE_BYTES_MAX + 1);
        let (second, ended) = body.consume(&text[first..], Some(&mut kept))?;
        assert_eq!(body.has_ended(), ended);
        let data = String::from_utf8_lossy(&kept).into_owned();
        Ok(ended.then_some((first + second, data)))
    }

    #[test]
    fn bodies_end_where_they_should_at_every_split() {
        let full = format!("20\r\n{}\r\n0\r\n\r\n", "x".repeat(32));
        let split = format!("1f\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(31));
        let over = format!("1f\r\n{}\r\n2\r\nxx\r\n0\r\n\r\n", "x".repeat(31));
        let heads = "1\r\nx\r\n".repeat(7);
        let trailer = format!("0\r\nT: {}\r\n\r\n", "x".repeat(32));
        let all = "x".repeat(32);
        type Expected<'a> = Result<Option<(usize, &'a str)>, RequestError>;
        #[rustfmt::skip]
        let table: &[(Framing, &str, Expected<'_>)] = &[
            (Framing::Length(0), "GET", Ok(Some((0, "")))),
            (Framing::Length(3), "abcGET", Ok(Some((3, "abc")))),
            (Framing::Length(7), "abc", Ok(None)),
            (Framing::Length(32), &all, Ok(Some((32, &all)))),
            (Framing::Length(33), "", Err(RequestError::BodyTooLarge(BYTES_MAX))),
            (Framing::Chunked, "0\r\n\r\nGET", Ok(Some((5, "")))),
            (Framing::Chunked, "3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET", Ok(Some((23, "abc")))),
            (Framing::Chunked, "a\r\n0123456789\r\n00\r\n\r\n", Ok(Some((21, "0123456789")))),
            (Framing::Chunked, "2\r\n\r\n\r\n1\r\n0\r\n0\r\n\r\n", Ok(Some((18, "\r\n0")))),
            (Framing::Chunked, "1 ; a = \"\\\";\" ;b;c=d\r\nx\r\n0;e\r\n\r\n", Ok(Some((32, "x")))),
            (Framing::Chunked, "1;\r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1 \r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1;bad[=x\r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1;\0ext\r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1;a=\r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1;a=\"b\r\nx\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "3\r\nabc\r\n", Ok(None)),
            (Framing::Chunked, "3\r\nabcd\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "g\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "-1\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1\nx\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1\rX\r\na\r\n0\r\n\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "1\r\na\r\r\n", Err(RequestError::Chunks)),
            (Framing::Chunked, "fffffffffffffffff\r\n", Err(RequestError::BodyTooLarge(BYTES_MAX))),
            // The bound is on the data of all chunks together, and on all that is no data.
            (Framing::Chunked, &full, Ok(Some((43, &all)))),
            (Framing::Chunked, &split, Ok(Some((48, &all)))),
            (Framing::Chunked, &over, Err(RequestError::BodyTooLarge(BYTES_MAX))),
            (Framing::Chunked, &heads, Err(RequestError::BodyTooLarge(BYTES_MAX))),
            (Framing::Chunked, &trailer, Err(RequestError::BodyTooLarge(BYTES_MAX))),
        ];
        for (framing, text, expected) in table {
            for split in 0..=text.len() {
                let expected = expected.map(|end| end.map(|(len, data)| (len, data.to_owned())));
                let got = read(*framing, text.as_bytes(), split);
                assert_eq!(got, expected, "{text:?} split at {split}");
            }
        }
    }
}
