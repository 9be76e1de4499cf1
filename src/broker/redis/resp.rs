//! RESP, the broker's protocol: bytes fed in pieces of any size, whole values out. It owns finding the end of a value,
//! the bounds on one, and the packing of commands (values are parsed by the `redis` crate); it must not know which
//! commands are sent when.

use redis::Value;

use crate::limits::{REPLY_BYTES_MAX, REPLY_ELEMENTS_MAX};

/// Why the server's bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not RESP; what the parser says, in one line.
    Malformed(String),
    /// One value over [`REPLY_BYTES_MAX`], or of more than [`REPLY_ELEMENTS_MAX`] elements.
    TooLarge,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReplyError::Malformed(detail) => write!(out, "not a redis reply: {detail}"),
            ReplyError::TooLarge => write!(
                out,
                "a reply over {REPLY_BYTES_MAX} bytes or {REPLY_ELEMENTS_MAX} elements"
            ),
        }
    }
}

impl std::error::Error for ReplyError {}

/// An incremental decoder of one connection's bytes.
#[derive(Default)]
pub struct Decoder {
    /// The beginning of a value that is not whole yet.
    buffer: Vec<u8>,
    scan: Scan,
}

impl Decoder {
    /// The next value, whose bytes are taken from the front of `input`; `None` once `input` is empty and the next value is
    /// incomplete.
    ///
    /// # Errors
    /// Any [`ReplyError`]; the decoder must not be used after one.
    pub fn next_value(&mut self, input: &mut &[u8]) -> Result<Option<Value>, ReplyError> {
        if self.buffer.is_empty() {
            // Most values are whole, and are parsed where they lie.
            if let Some(len) = self.scan.end_of(input)? {
                let (value, rest) = input.split_at(len);
                *input = rest;
                return parse(value).map(Some);
            }
            self.buffer.extend_from_slice(std::mem::take(input));
            return Ok(None);
        }
        let before = self.buffer.len();
        self.buffer.extend_from_slice(input);
        let Some(len) = self.scan.end_of(&self.buffer)? else {
            *input = &[];
            return Ok(None);
        };
        *input = &input[len - before..];
        let value = parse(&self.buffer[..len]);
        self.buffer = Vec::new();
        value.map(Some)
    }
}

/// How far a value has been looked through for its end.
#[derive(Default)]
struct Scan {
    /// Bytes of elements that are whole.
    passed: usize,
    /// Bytes in which the end of the current element's line is known not to be.
    searched: usize,
    /// Elements of the value that are whole, and those that were announced and are not.
    elements: usize,
    missing: usize,
}

impl Scan {
    /// How long the value is that `bytes` begin with, if it is whole. Must be given the same bytes again, and more,
    /// until it is.
    fn end_of(&mut self, bytes: &[u8]) -> Result<Option<usize>, ReplyError> {
        if self.elements == 0 {
            self.missing = 1;
        }
        while self.missing > 0 {
            let Some((element, announced)) = self.element(bytes)? else {
                return match bytes.len() > REPLY_BYTES_MAX {
                    true => Err(ReplyError::TooLarge),
                    false => Ok(None),
                };
            };
            self.passed += element;
            self.searched = self.passed;
            self.elements += 1;
            self.missing = (self.missing - 1).saturating_add(announced);
            if self.elements.saturating_add(self.missing) > REPLY_ELEMENTS_MAX {
                return Err(ReplyError::TooLarge);
            }
        }
        let end = std::mem::take(self).passed;
        match end > REPLY_BYTES_MAX {
            true => Err(ReplyError::TooLarge),
            false => Ok(Some(end)),
        }
    }

    /// How long the current element is, without those within it, and how many these are; `None` where it is not whole.
    fn element(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, ReplyError> {
        let rest = &bytes[self.passed..];
        let Some(&kind) = rest.first() else {
            return Ok(None);
        };
        if !b"+-:$*_#,(!=%~>|".contains(&kind) {
            let byte = kind.escape_ascii();
            return Err(ReplyError::Malformed(format!(
                "no value begins with `{byte}`"
            )));
        }
        let from = self.searched.max(self.passed + 1) - self.passed;
        let unsearched = rest.get(from..).unwrap_or_default();
        let Some(at) = unsearched.windows(2).position(|pair| pair == b"\r\n") else {
            // The last byte may be the first of an end.
            self.searched = (bytes.len() - 1).max(self.passed);
            return Ok(None);
        };
        let line_len = from + at + 2;
        self.searched = self.passed + from + at;
        if !b"$*!=%~>|".contains(&kind) {
            return Ok(Some((line_len, 0)));
        }
        let Some(count) = count_of(&rest[1..line_len - 2])? else {
            // There is no such value: `$-1` and `*-1`.
            return Ok(Some((line_len, 0)));
        };
        Ok(match kind {
            b'$' | b'!' | b'=' => {
                let len = count.saturating_add(line_len + 2);
                if self.passed.saturating_add(len) > REPLY_BYTES_MAX {
                    return Err(ReplyError::TooLarge);
                }
                (len <= rest.len()).then_some((len, 0))
            }
            b'%' => Some((line_len, count.saturating_mul(2))),
            // Attributes stand before the value that they are about.
            b'|' => Some((line_len, count.saturating_mul(2).saturating_add(1))),
            _ => Some((line_len, count)),
        })
    }
}

/// The length or the number of elements that a line announces; `None` where it says that there is no value.
fn count_of(digits: &[u8]) -> Result<Option<usize>, ReplyError> {
    match digits {
        b"-1" => Ok(None),
        [] => Err(malformed(digits)),
        _ if !digits.iter().all(u8::is_ascii_digit) => Err(malformed(digits)),
        _ => {
            let text = std::str::from_utf8(digits).map_err(|_| malformed(digits))?;
            Ok(Some(text.parse().unwrap_or(usize::MAX)))
        }
    }
}

fn malformed(digits: &[u8]) -> ReplyError {
    ReplyError::Malformed(format!("`{}` is no length", digits.escape_ascii()))
}

fn parse(value: &[u8]) -> Result<Value, ReplyError> {
    redis::parse_redis_value(value).map_err(|error| {
        let lines = error.to_string();
        let lines: Vec<&str> = lines.split_ascii_whitespace().collect();
        ReplyError::Malformed(lines.join(" "))
    })
}

/// Appends one command, packed as an array of bulk strings.
pub fn encode_command(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    let mut command = redis::Cmd::new();
    for argument in arguments {
        command.arg(*argument);
    }
    command.write_packed_command(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<Value>, ReplyError> {
        let mut decoder = Decoder::default();
        let mut values = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(value) = decoder.next_value(&mut input)? {
                values.push(value);
            }
            assert!(input.is_empty(), "every byte is taken in");
        }
        Ok(values)
    }

    #[test]
    fn every_split_of_a_fixture_gives_the_same_values() {
        let fixtures: &[&[u8]] = &[
            b"+OK\r\n:12\r\n$-1\r\n-NOAUTH Authentication required.\r\n",
            b"*3\r\n$9\r\nsubscribe\r\n$20\r\nstream.score_updates\r\n:1\r\n",
            b"*4\r\n$8\r\npmessage\r\n$3\r\na.*\r\n$3\r\na.b\r\n$6\r\nx\r\ny\xff\0\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n",
        ];
        for fixture in fixtures {
            let whole = decode(&[fixture]).unwrap();
            assert!(!whole.is_empty());
            for split in 0..=fixture.len() {
                let (first, second) = fixture.split_at(split);
                assert_eq!(decode(&[first, second]).unwrap(), whole, "split at {split}");
            }
            let bytes: Vec<&[u8]> = fixture.chunks(1).collect();
            assert_eq!(decode(&bytes).unwrap(), whole, "byte by byte");
        }
    }

    #[test]
    fn what_is_not_resp_is_an_error_and_never_a_panic() {
        let table: &[&[u8]] = &[
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"?\r\n",
            b"$abc\r\n",
            b"*1\r\n?\r\n",
            b"$3\r\nabcdef\r\n",
            b"|-1\r\n+a\r\n",
            b"%-1\r\n+a\r\n",
            &[b"*1\r\n".repeat(200), b":1\r\n".to_vec()].concat(),
            b"?",
        ];
        for bytes in table {
            let got = decode(&[bytes]);
            assert!(
                matches!(got, Err(ReplyError::Malformed(_))),
                "{bytes:?} gave {got:?}"
            );
        }
    }

    #[test]
    fn huge_announcements_are_only_waited_for_up_to_the_bound() {
        let table: &[&[u8]] = &[
            b"$9223372036854775807\r\n",
            b"*9223372036854775807\r\n",
            b"~9223372036854775807\r\n",
            b"%4611686018427387904\r\n",
            b">9223372036854775807\r\n",
            b"=-5\r\n",
            b"!-5\r\n",
        ];
        for announcement in table {
            let mut decoder = Decoder::default();
            let mut input: &[u8] = announcement;
            if decoder.next_value(&mut input).is_err() {
                continue;
            }
            let filler = b"+x\r\n".repeat(64 * 1024);
            let outcome = (0..64).find_map(|_| {
                let mut input: &[u8] = &filler;
                decoder.next_value(&mut input).err()
            });
            assert_eq!(outcome, Some(ReplyError::TooLarge), "for {announcement:?}");
        }
    }

    #[test]
    fn a_reply_up_to_the_bound_is_whole() {
        let len = 1024 * 1024;
        let mut bytes = format!("${len}\r\n").into_bytes();
        bytes.resize(bytes.len() + len, b'x');
        bytes.extend_from_slice(b"\r\n");
        let pieces: Vec<&[u8]> = bytes.chunks(10_000).collect();
        assert_eq!(
            decode(&pieces).unwrap(),
            [Value::BulkString(vec![b'x'; len])]
        );
    }

    #[test]
    fn commands_are_packed() {
        let mut out = Vec::new();
        encode_command(&mut out, &[b"AUTH", b"user", b"a b"]);
        assert_eq!(out, b"*3\r\n$4\r\nAUTH\r\n$4\r\nuser\r\n$3\r\na b\r\n");
    }
}
