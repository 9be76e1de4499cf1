//! HTTP/1.x request bodies: bytes into nothing. It owns finding the end of a body (RFC 9112 §6 and §7.1) and
//! the bound on it; it must not keep a byte, because no endpoint here needs one.

use super::http::Framing;
use crate::limits::{BODY_BYTES_MAX, CHUNK_LINE_BYTES_MAX};

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

#[cfg(test)]
mod tests {
    use super::*;

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
