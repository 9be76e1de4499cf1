//! A strict decoder of the chunked transfer coding (RFC 9112 §7.1): it rejects what a lenient one would accept.

/// Decodes one body, fed in pieces of any size.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    /// The line with a chunk's size, or the line end behind a chunk, as far as it came.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// So many bytes of the chunk are still to come.
    Data(usize),
    DataEnd,
    /// The last chunk has come, and the empty line behind it has not.
    Last,
    Done,
}

impl ChunkDecoder {
    /// Takes bytes in, and appends the body's share of them.
    #[track_caller]
    pub fn feed(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) {
        while !bytes.is_empty() {
            match self.state {
                State::Data(left) => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    body.extend_from_slice(data);
                    bytes = rest;
                    self.state = match left - data.len() {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                }
                State::Done => panic!("{} bytes behind the last chunk", bytes.len()),
                State::Size | State::DataEnd | State::Last => {
                    self.line.push(bytes[0]);
                    bytes = &bytes[1..];
                    if self.line.ends_with(b"\r\n") {
                        self.state = self.state.after_line(&self.line[..self.line.len() - 2]);
                        self.line.clear();
                    }
                }
            }
            assert!(self.line.len() < 20, "no line of a chunk is this long");
        }
    }

    /// Whether the last chunk has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }
}

impl State {
    #[track_caller]
    fn after_line(self, line: &[u8]) -> State {
        let text = String::from_utf8_lossy(line);
        match self {
            State::Size => match usize::from_str_radix(&text, 16) {
                Ok(0) => State::Last,
                Ok(size) => State::Data(size),
                Err(error) => panic!("{text:?} is no chunk size: {error}"),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::Last if line.is_empty() => State::Done,
            other => panic!("{text:?} is not the end of a chunk ({other:?})"),
        }
    }
}

#[test]
fn chunks_are_decoded_at_every_split() {
    let coded = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
    for split in 0..=coded.len() {
        let mut decoder = ChunkDecoder::default();
        let mut body = Vec::new();
        decoder.feed(&coded[..split], &mut body);
        assert_eq!(decoder.is_done(), split == coded.len());
        decoder.feed(&coded[split..], &mut body);
        assert!(decoder.is_done());
        assert_eq!(body, b"abc0123456789");
    }
}
