//! The codec of RESP: bytes in pieces of any size → values, and commands → bytes. It limits the size of a value (the
//! grammar is that of the `redis` crate), and does not know which commands are sent when.

use std::io::{self, Read};

use redis::{ErrorKind, Parser, Value};

use crate::limits::REPLY_BYTES_MAX;

/// Why the server's bytes cannot be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyError {
    /// Not RESP, for this reason.
    Malformed(String),
    /// One value over [`REPLY_BYTES_MAX`].
    TooLarge,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReplyError::Malformed(detail) => write!(out, "not a redis reply: {detail}"),
            ReplyError::TooLarge => write!(out, "a reply over {REPLY_BYTES_MAX} bytes"),
        }
    }
}

/// An incremental decoder of the bytes of one connection.
pub struct Decoder {
    parser: Parser,
    /// The bytes since the last complete value, which the parser may hold.
    held: usize,
    /// The parser needs more bytes for the next value.
    is_starved: bool,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            parser: Parser::new(),
            held: 0,
            is_starved: false,
        }
    }
}

impl Decoder {
    /// The next value, whose bytes are taken from the front of `input`; `None` once `input` is empty and the next value is
    /// incomplete.
    ///
    /// # Errors
    /// Any [`ReplyError`]; the decoder must not be used after one.
    pub fn next_value(&mut self, input: &mut &[u8]) -> Result<Option<Value>, ReplyError> {
        // The parser clears a buffer of some kilobytes with each call.
        if self.is_starved && input.is_empty() {
            return Ok(None);
        }
        let mut feed = Feed {
            input,
            held: &mut self.held,
        };
        match self.parser.parse_value(&mut feed) {
            Ok(value) => {
                self.held = 0;
                self.is_starved = false;
                Ok(Some(value))
            }
            Err(error) if error.kind() == ErrorKind::Io => {
                if self.held > REPLY_BYTES_MAX {
                    return Err(ReplyError::TooLarge);
                }
                self.is_starved = true;
                Ok(None)
            }
            Err(error) => Err(ReplyError::Malformed(error.to_string())),
        }
    }
}

/// A reader of the available bytes. The parser resumes after `WouldBlock`, while `Ok(0)` would mean the end.
struct Feed<'a, 'b> {
    input: &'a mut &'b [u8],
    held: &'a mut usize,
}

impl Read for Feed<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() || *self.held > REPLY_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.input.read(buffer)?;
        *self.held += len;
        Ok(len)
    }
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
            &b"*1\r\n".repeat(200),
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
