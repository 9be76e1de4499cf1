//! HTTP/1.x request bodies: bytes into data. It owns finding the end of a body (RFC 9112 §6 and §7.1) and enforcing its
//! bound; it must not know what the data means.

use super::error::RequestError;
use super::head::Framing;
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

    /// Consumes a line that is not data: its length with its end, or `None` if it is incomplete.
    fn take_line(&mut self, bytes: &[u8]) -> Result<Option<usize>, RequestError> {
        let (line, is_whole) = line_of(bytes)?;
        let next = match self.next {
            // Incomplete lines are parsed as well, so that an error is found as early as possible.
            Next::Size if is_whole || !line.is_empty() => match self.chunk_size(line)? {
                0 => Next::Trailer,
                size => Next::Data(size),
            },
            Next::DataEnd if !line.is_empty() => return Err(RequestError::Chunks),
            Next::DataEnd => Next::Size,
            Next::Trailer if line.is_empty() => Next::End,
            other => other,
        };
        if self.overhead + line.len() as u64 > self.bytes_max {
            return Err(RequestError::BodyTooLarge(self.bytes_max));
        }
        if !is_whole {
            return Ok(None);
        }
        if let Next::Data(size) = next {
            self.data += size;
        }
        self.next = next;
        self.overhead += line.len() as u64 + 2;
        Ok(Some(line.len() + 2))
    }

    /// Parses a chunk's size. The bound is checked at each digit, so that the size cannot overflow.
    fn chunk_size(&self, line: &[u8]) -> Result<u64, RequestError> {
        let is_extension = |byte: &u8| b"; \t".contains(byte);
        let digits = line.split(is_extension).next().unwrap_or_default();
        if digits.is_empty() {
            return Err(RequestError::Chunks);
        }
        let mut size = 0;
        for &digit in digits {
            let digit = char::from(digit).to_digit(16);
            size = size * 16 + u64::from(digit.ok_or(RequestError::Chunks)?);
            if size > self.bytes_max - self.data {
                return Err(RequestError::BodyTooLarge(self.bytes_max));
            }
        }
        Ok(size)
    }
}

/// The first line without its end, and whether it is complete. Only CR LF ends a line: if a proxy and we disagreed about
/// an end, requests could be smuggled.
fn line_of(bytes: &[u8]) -> Result<(&[u8], bool), RequestError> {
    let end = bytes.iter().position(|byte| b"\r\n".contains(byte));
    let (line, end) = bytes.split_at(end.unwrap_or(bytes.len()));
    match end {
        _ if line.len() > CHUNK_LINE_BYTES_MAX => Err(RequestError::Chunks),
        [] | [b'\r'] => Ok((line, false)),
        [b'\r', b'\n', ..] => Ok((line, true)),
        _ => Err(RequestError::Chunks),
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
            (Framing::Chunked, "2\r\n\r\n\r\n1 \r\n0\r\n0\r\n\r\n", Ok(Some((19, "\r\n0")))),
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
