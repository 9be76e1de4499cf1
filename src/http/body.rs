//! HTTP/1.x request bodies: bytes into data, or into nothing. It owns finding the end of a body (RFC 9112 §6 and
//! §7.1) and holding it to its bound; it must not know what the data means.

use super::head::Framing;
use crate::limits::CHUNK_LINE_BYTES_MAX;

/// The progress of a body that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body {
    progress: Progress,
    bytes_max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// So many bytes are still to come.
    Length(u64),
    /// Inside a chunked body.
    Chunked {
        /// What comes next.
        state: ChunkState,
        /// Bytes of data so far, those of a chunk that is announced included.
        data: u64,
        /// Bytes so far that are no data: sizes, ends of lines, trailers.
        overhead: u64,
    },
    /// Nothing is to come.
    Ended,
}

/// What a chunked body's next byte belongs to. Lines end with CR LF and nothing else: two readers that
/// disagree about an end are how requests are smuggled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkState {
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
    /// Over its bound (413).
    TooLarge,
    /// Not a chunked body (400).
    Malformed,
}

impl Body {
    /// The start of a body with so many bytes of data at most. What divides chunked data may take as many again.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] where the head already announces too much.
    pub fn new(framing: Framing, bytes_max: u64) -> Result<Body, BodyError> {
        let progress = match framing {
            Framing::Length(len) if len > bytes_max => return Err(BodyError::TooLarge),
            Framing::Length(0) => Progress::Ended,
            Framing::Length(len) => Progress::Length(len),
            Framing::Chunked => Progress::Chunked {
                state: ChunkState::START,
                data: 0,
                overhead: 0,
            },
        };
        Ok(Body {
            progress,
            bytes_max,
        })
    }

    /// Whether all of it has been read, as it has where there is none.
    pub fn has_ended(&self) -> bool {
        self.progress == Progress::Ended
    }

    /// Bytes of data that it may have.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes in bytes: how many of them belong to the body, and whether it has ended with them. Its data is
    /// appended to `kept`, where that is given.
    ///
    /// # Errors
    /// Any [`BodyError`].
    pub fn consume(
        &mut self,
        bytes: &[u8],
        mut kept: Option<&mut Vec<u8>>,
    ) -> Result<(usize, bool), BodyError> {
        let mut taken = 0;
        while taken < bytes.len() && !self.has_ended() {
            let step = self.step(&bytes[taken..])?;
            if let (true, Some(kept)) = (step.is_data, &mut kept) {
                kept.extend_from_slice(&bytes[taken..taken + step.taken]);
            }
            taken += step.taken;
        }
        Ok((taken, self.has_ended()))
    }

    /// Takes as many bytes as are of one kind. `bytes` is not empty.
    fn step(&mut self, bytes: &[u8]) -> Result<Step, BodyError> {
        match &mut self.progress {
            Progress::Ended => Ok(Step {
                taken: 0,
                is_data: false,
            }),
            Progress::Length(left) => {
                let taken = part_of(bytes, *left);
                *left -= taken as u64;
                if *left == 0 {
                    self.progress = Progress::Ended;
                }
                Ok(Step {
                    taken,
                    is_data: true,
                })
            }
            Progress::Chunked {
                state,
                data,
                overhead,
            } => {
                if let ChunkState::Data(left) = *state {
                    let taken = part_of(bytes, left);
                    *state = match left - taken as u64 {
                        0 => ChunkState::DataCr,
                        left => ChunkState::Data(left),
                    };
                    return Ok(Step {
                        taken,
                        is_data: true,
                    });
                }
                let is_last = state.step(bytes[0], self.bytes_max - *data)?;
                *overhead += 1;
                if *overhead > self.bytes_max {
                    return Err(BodyError::TooLarge);
                }
                if let ChunkState::Data(size) = *state {
                    *data += size;
                }
                if is_last {
                    self.progress = Progress::Ended;
                }
                Ok(Step {
                    taken: 1,
                    is_data: false,
                })
            }
        }
    }
}

/// How many of the bytes at hand belong to the ones that are left.
fn part_of(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

/// What one step through a body took.
struct Step {
    taken: usize,
    is_data: bool,
}

impl ChunkState {
    const START: ChunkState = ChunkState::Size { size: 0, digits: 0 };

    /// Takes one byte that is no data, and says whether it is the body's last. The next chunk may have so many
    /// bytes at most.
    fn step(&mut self, byte: u8, bytes_max: u64) -> Result<bool, BodyError> {
        let state = *self;
        *self = match (state, byte) {
            (ChunkState::Size { size, digits: 1.. }, b'\r') => ChunkState::SizeEnd(size),
            (ChunkState::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => {
                ChunkState::Extension { size, len: 0 }
            }
            (ChunkState::Size { size, digits }, _) => {
                let size = longer(size, byte, bytes_max)?;
                ChunkState::Size {
                    size,
                    digits: bounded(digits)?,
                }
            }
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
        Ok(byte == b'\n' && state == ChunkState::TrailerEnd(0))
    }
}

/// A chunk's size with one more digit. The bound is checked at each, so that the size cannot overflow.
fn longer(size: u64, digit: u8, bytes_max: u64) -> Result<u64, BodyError> {
    let digit = char::from(digit).to_digit(16).ok_or(BodyError::Malformed)?;
    let size = size * 16 + u64::from(digit);
    Some(size)
        .filter(|size| *size <= bytes_max)
        .ok_or(BodyError::TooLarge)
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

    /// What the bodies of the table may have.
    const BYTES_MAX: u64 = 32;

    /// Feeds `text` in two pieces and returns the body's length and its data, or the error.
    fn read(
        framing: Framing,
        text: &[u8],
        split: usize,
    ) -> Result<Option<(usize, String)>, BodyError> {
        let mut kept = Vec::new();
        let mut body = Body::new(framing, BYTES_MAX)?;
        let mut discarded = body;
        let (first, ended) = body.consume(&text[..split], Some(&mut kept))?;
        assert_eq!(discarded.consume(&text[..split], None), Ok((first, ended)));
        assert!(
            ended || first == split,
            "an unfinished body takes every byte"
        );
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
        type Expected<'a> = Result<Option<(usize, &'a str)>, BodyError>;
        #[rustfmt::skip]
        let table: &[(Framing, &str, Expected<'_>)] = &[
            (Framing::Length(0), "GET", Ok(Some((0, "")))),
            (Framing::Length(3), "abcGET", Ok(Some((3, "abc")))),
            (Framing::Length(7), "abc", Ok(None)),
            (Framing::Length(32), &all, Ok(Some((32, &all)))),
            (Framing::Length(33), "", Err(BodyError::TooLarge)),
            (Framing::Chunked, "0\r\n\r\nGET", Ok(Some((5, "")))),
            (Framing::Chunked, "3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\nGET", Ok(Some((23, "abc")))),
            (Framing::Chunked, "a\r\n0123456789\r\n00\r\n\r\n", Ok(Some((21, "0123456789")))),
            (Framing::Chunked, "2\r\n\r\n\r\n1 \r\n0\r\n0\r\n\r\n", Ok(Some((19, "\r\n0")))),
            (Framing::Chunked, "3\r\nabc\r\n", Ok(None)),
            (Framing::Chunked, "3\r\nabcd\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "g\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "-1\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "1\nx\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "1\rX\r\na\r\n0\r\n\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "1\r\na\r\r\n", Err(BodyError::Malformed)),
            (Framing::Chunked, "fffffffffffffffff\r\n", Err(BodyError::TooLarge)),
            // The bound is on the data of all chunks together, and on all that is no data.
            (Framing::Chunked, &full, Ok(Some((43, &all)))),
            (Framing::Chunked, &split, Ok(Some((48, &all)))),
            (Framing::Chunked, &over, Err(BodyError::TooLarge)),
            (Framing::Chunked, &heads, Err(BodyError::TooLarge)),
            (Framing::Chunked, &trailer, Err(BodyError::TooLarge)),
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
