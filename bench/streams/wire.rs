//! A receiver of HTTP and Server-Sent Events that shares no code with the server, so that they cannot share an error. It
//! owns the input of one client; it must not know what the events mean.

/// What a client has of its stream.
#[derive(Default)]
pub struct Wire {
    state: State,
    /// The head until it is whole, then a line that has not ended yet.
    partial: Vec<u8>,
    /// The data lines of the event that is being received.
    data: Vec<u8>,
    has_data: bool,
    /// The last line ended with CR: an LF that follows belongs to it.
    skips_lf: bool,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// A body that ends with the connection.
    Bare,
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkLf(u64),
    ChunkData(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Behind the last chunk.
    Over,
}

/// What cannot be followed, in words.
pub type Fault = &'static str;

impl Wire {
    /// Whether the head of the stream has come.
    pub fn has_begun(&self) -> bool {
        self.state != State::Head
    }

    /// Whether the stream has ended as it should.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Takes what was received, and hands the data of each event over.
    ///
    /// # Errors
    /// For an answer other than 200 with a stream, and for bytes that are no chunked coding.
    pub fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) -> Result<(), Fault> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            match self.state {
                State::Head => rest = self.feed_head(rest)?,
                State::Bare => {
                    self.feed_body(rest, &mut event);
                    return Ok(());
                }
                State::ChunkData(left) => {
                    let len = left.min(rest.len() as u64);
                    let (body, behind) = rest.split_at(len as usize);
                    self.feed_body(body, &mut event);
                    self.state = match left - len {
                        0 => State::ChunkEnd,
                        left => State::ChunkData(left),
                    };
                    rest = behind;
                }
                _ => {
                    self.state = self.after(byte)?;
                    rest = &rest[1..];
                }
            }
        }
        Ok(())
    }

    /// The state behind one byte of what frames the chunks.
    fn after(&self, byte: u8) -> Result<State, Fault> {
        Ok(match (self.state, byte) {
            (State::ChunkSize(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).unwrap_or(0);
                State::ChunkSize(size << 4 | u64::from(digit))
            }
            (State::ChunkSize(size), b'\r') => State::ChunkLf(size),
            (State::ChunkSize(size), b';') => State::ChunkExtension(size),
            (State::ChunkExtension(size), b'\r') => State::ChunkLf(size),
            (State::ChunkExtension(size), _) => State::ChunkExtension(size),
            (State::ChunkLf(0), b'\n') => State::Over,
            (State::ChunkLf(size), b'\n') => State::ChunkData(size),
            (State::ChunkEnd, b'\r') => State::ChunkEnd,
            (State::ChunkEnd, b'\n') => State::ChunkSize(0),
            (State::Over, _) => State::Over,
            _ => return Err("the chunked coding is broken"),
        })
    }

    fn feed_head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Fault> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.partial.push(byte);
            if byte == b'\n' && self.partial.ends_with(b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.partial).to_ascii_lowercase();
                if !head.starts_with("http/1.1 200") || !head.contains("text/event-stream") {
                    return Err("the answer is not a stream");
                }
                self.state = match head.contains("\r\ntransfer-encoding: chunked\r\n") {
                    true => State::ChunkSize(0),
                    false => State::Bare,
                };
                self.partial.clear();
                return Ok(&bytes[index + 1..]);
            }
        }
        Ok(&[])
    }

    fn feed_body(&mut self, body: &[u8], event: &mut impl FnMut(&[u8])) {
        let mut rest = body;
        while !rest.is_empty() {
            if std::mem::take(&mut self.skips_lf) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n' || byte == b'\r') else {
                self.partial.extend_from_slice(rest);
                return;
            };
            self.skips_lf = rest[end] == b'\r';
            if self.partial.is_empty() {
                self.feed_line(&rest[..end], event);
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(&rest[..end]);
                self.feed_line(&line, event);
                line.clear();
                self.partial = line;
            }
            rest = &rest[end + 1..];
        }
    }

    fn feed_line(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) {
        if line.is_empty() {
            if std::mem::take(&mut self.has_data) {
                event(&self.data);
                self.data.clear();
            }
        } else if let Some(value) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            let value = value.strip_prefix(b" ").unwrap_or(value);
            self.data.extend_from_slice(value);
        }
    }
}
