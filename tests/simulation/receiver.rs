//! A receiver of HTTP/1.x replies and of Server-Sent Events, written from the standards alone (RFC 9112
//! §7, WHATWG HTML §9.2.6). It owns what the server is judged by, so it must not share code with it.

/// An event as `EventSource` would dispatch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field; empty when there was none.
    pub name: String,
    /// The `data:` lines, joined with LF.
    pub data: String,
    /// The last event id when it was dispatched.
    pub id: String,
}

/// A plain reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What one connection has brought so far.
#[derive(Default)]
pub struct Receiver {
    unparsed: Vec<u8>,
    state: State,
    /// Whether each reply is to a `HEAD`, oldest first.
    pub head_only: std::collections::VecDeque<bool>,
    /// Whole plain replies.
    pub replies: Vec<Reply>,
    /// Whether the head of a stream has come.
    pub streaming: bool,
    /// Whether it is chunked.
    pub chunked: bool,
    /// Whether the last head lets the connection be used again.
    pub keeps_alive: bool,
    /// Events of the stream.
    pub events: Vec<Event>,
    /// Comment lines of the stream.
    pub comments: usize,
    /// The last event id, as `EventSource` would send it back.
    pub last_event_id: String,
    /// Ids that came in blocks without data, and how many events had come before.
    pub bare_ids: Vec<(usize, String)>,
    /// Whether the last chunk has come.
    pub terminated: bool,
    chunk: Chunk,
    lines: Lines,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Body {
        status: u16,
        left: usize,
        body: Vec<u8>,
    },
    ChunkedStream,
    BareStream,
    Ended,
}

#[derive(Default)]
enum Chunk {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    LastLine,
}

/// The line buffer and the fields of the event under construction.
#[derive(Default)]
struct Lines {
    line: Vec<u8>,
    after_cr: bool,
    name: String,
    data: String,
    has_data: bool,
    /// Takes effect when the block is whole.
    id: Option<String>,
}

impl Receiver {
    /// Takes bytes in; an error is a violation of a standard.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.unparsed.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// Takes the events of a plain reply's body, as of a stream that is over.
    pub fn take_events(&mut self, body: &[u8]) -> Result<(), String> {
        self.stream_bytes(body)?;
        let is_over = self.lines.line.is_empty() && !self.lines.has_data;
        is_over
            .then_some(())
            .ok_or_else(|| "an unfinished event".to_owned())
    }

    /// The statuses of the plain replies.
    pub fn statuses(&self) -> Vec<u16> {
        self.replies.iter().map(|reply| reply.status).collect()
    }

    /// Whether nothing of a reply or of a chunk is left hanging.
    pub fn is_on_boundary(&self) -> bool {
        let framed = match self.state {
            State::Head | State::Ended => self.unparsed.is_empty(),
            State::ChunkedStream => matches!(self.chunk, Chunk::Size) && self.unparsed.is_empty(),
            State::BareStream => true,
            State::Body { .. } => false,
        };
        framed && self.lines.line.is_empty() && !self.lines.has_data
    }

    /// What is left hanging, for what is said of a failure.
    pub fn describe_end(&self) -> String {
        let (line, rest) = (&self.lines.line, &self.unparsed);
        let excerpt = |bytes: &[u8]| bytes[..bytes.len().min(60)].escape_ascii().to_string();
        format!(
            "its last chunk came: {}, unparsed: {}, the line: {}, {} bytes of data",
            self.terminated,
            excerpt(rest),
            excerpt(line),
            self.lines.data.len()
        )
    }

    /// One step of parsing; false when more bytes are needed.
    fn step(&mut self) -> Result<bool, String> {
        match &mut self.state {
            State::Head => self.head(),
            State::Body { status, left, body } => {
                let len = (*left).min(self.unparsed.len());
                body.extend(self.unparsed.drain(..len));
                *left -= len;
                if *left > 0 {
                    return Ok(false);
                }
                let reply = Reply {
                    status: *status,
                    body: std::mem::take(body),
                };
                self.replies.push(reply);
                self.state = State::Head;
                Ok(!self.unparsed.is_empty())
            }
            State::BareStream => {
                let bytes = std::mem::take(&mut self.unparsed);
                self.stream_bytes(&bytes)?;
                Ok(false)
            }
            State::ChunkedStream => self.chunk(),
            State::Ended if self.unparsed.is_empty() => Ok(false),
            State::Ended => Err("bytes behind the last chunk".to_owned()),
        }
    }

    fn head(&mut self) -> Result<bool, String> {
        let Some(end) = find(&self.unparsed, b"\r\n\r\n") else {
            return Ok(false);
        };
        let head = String::from_utf8(self.unparsed.drain(..end + 4).collect())
            .map_err(|_| "a head that is not text".to_owned())?;
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| format!("the status line {status_line:?}"))?;
        if status == 100 {
            return Ok(true);
        }
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            let mut lines = head
                .split("\r\n")
                .filter_map(|line| line.strip_prefix(&prefix));
            lines.next().map(str::to_owned)
        };
        let head_only = self.head_only.pop_front().unwrap_or(false);
        let is_stream =
            field("Content-Type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        let chunked = field("Transfer-Encoding").is_some_and(|coding| coding == "chunked");
        let length = field("Content-Length").and_then(|length| length.parse().ok());
        self.state = match (head_only || status == 204, chunked, length) {
            (true, _, _) => {
                self.replies.push(Reply {
                    status,
                    body: Vec::new(),
                });
                State::Head
            }
            (false, true, None) => State::ChunkedStream,
            (false, false, Some(left)) => State::Body {
                status,
                left,
                body: Vec::new(),
            },
            (false, false, None) if is_stream => State::BareStream,
            _ => return Err(format!("a reply without a clear end: {head:?}")),
        };
        self.keeps_alive = field("Connection").is_some_and(|it| it == "keep-alive");
        self.streaming |= is_stream && !head_only;
        self.chunked |= chunked && !head_only;
        Ok(true)
    }

    fn chunk(&mut self) -> Result<bool, String> {
        match self.chunk {
            Chunk::Size => {
                let Some(end) = find(&self.unparsed, b"\r\n") else {
                    return Ok(false);
                };
                let line: Vec<u8> = self.unparsed.drain(..end + 2).collect();
                let digits = String::from_utf8_lossy(&line[..end]).into_owned();
                let size = usize::from_str_radix(&digits, 16)
                    .map_err(|_| format!("the chunk size {digits:?}"))?;
                self.chunk = if size == 0 {
                    Chunk::LastLine
                } else {
                    Chunk::Data(size)
                };
                Ok(true)
            }
            Chunk::Data(left) => {
                let len = left.min(self.unparsed.len());
                let bytes: Vec<u8> = self.unparsed.drain(..len).collect();
                self.stream_bytes(&bytes)?;
                self.chunk = if len == left {
                    Chunk::DataEnd
                } else {
                    Chunk::Data(left - len)
                };
                Ok(len > 0)
            }
            Chunk::DataEnd | Chunk::LastLine => {
                if self.unparsed.len() < 2 {
                    return Ok(false);
                }
                let line: Vec<u8> = self.unparsed.drain(..2).collect();
                if line != b"\r\n" {
                    return Err(format!("a chunk that ends with {line:?}"));
                }
                if matches!(self.chunk, Chunk::LastLine) {
                    self.terminated = true;
                    self.state = State::Ended;
                }
                self.chunk = Chunk::Size;
                Ok(true)
            }
        }
    }

    fn stream_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        for &byte in bytes {
            let follows_cr = std::mem::replace(&mut self.lines.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.lines.line);
                    let line = String::from_utf8(line).map_err(|_| "a line that is not UTF-8")?;
                    self.field(&line)?;
                }
                _ => self.lines.line.push(byte),
            }
        }
        Ok(())
    }

    fn field(&mut self, line: &str) -> Result<(), String> {
        let lines = &mut self.lines;
        if line.is_empty() {
            let (name, data) = (
                std::mem::take(&mut lines.name),
                std::mem::take(&mut lines.data),
            );
            let id = lines.id.take();
            let has_id = id.is_some();
            self.last_event_id = id.unwrap_or(std::mem::take(&mut self.last_event_id));
            if std::mem::take(&mut lines.has_data) {
                // A page that came back with this event would be sent it again.
                if !has_id && !self.last_event_id.is_empty() {
                    return Err(format!("{data:?} under the id {}", self.last_event_id));
                }
                let id = self.last_event_id.clone();
                self.events.push(Event { name, data, id });
            } else if has_id {
                let id = self.last_event_id.clone();
                self.bare_ids.push((self.events.len(), id));
            }
            return Ok(());
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => self.comments += 1,
            "event" => value.clone_into(&mut lines.name),
            "data" => {
                if lines.has_data {
                    lines.data.push('\n');
                }
                lines.data.push_str(value);
                lines.has_data = true;
            }
            "id" => lines.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {}
            _ => return Err(format!("the field line {line:?}")),
        }
        Ok(())
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes
        .windows(needle.len())
        .position(|window| window == needle)
}

/// What a receiver makes of a payload with line ends of other kinds.
pub fn joined_lines(payload: &str) -> String {
    payload.replace("\r\n", "\n").replace('\r', "\n")
}
