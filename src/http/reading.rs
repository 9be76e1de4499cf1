//! Reading: a connection's input becomes heads and bodies. It holds what only a connection needs that reads
//! requests or owes an answer; a stream has none of it.

use super::body::Body;
use super::error::RequestError;
use super::head::{self, Framing, Method, Request};
use crate::limits;

/// What becomes of a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// It is read and forgotten.
    Discard,
    /// It is kept, for a client that has shown that it may send it.
    Keep,
    /// It is kept, for a client that has not shown that yet. What is held for all such clients together is bounded
    /// by [`limits::UNAUTHENTICATED_BYTES_MAX`].
    KeepUnauthenticated,
}

/// What the input at hand amounts to.
pub enum Step {
    /// Nothing yet.
    Wait,
    /// A request head.
    Head(Box<Request>),
    /// The request's body has ended; its data, if that was to be kept.
    Body(Box<Request>, Vec<u8>),
}

/// Input that is not yet a request, and the request that is being read or answered.
pub struct Reading {
    /// Received and not yet consumed. Never more than [`limits::HEAD_BYTES_MAX`].
    buffer: Vec<u8>,
    /// A head is tried again when the buffer is this long, twice as long as at the last attempt: a head
    /// that comes byte by byte is then parsed some ten times and not once a byte.
    parse_at: usize,
    /// How much of the buffer was searched for the end of the head.
    searched: usize,
    /// Whether a request was answered on this connection before.
    is_reused: bool,
    /// Whether the client of the request that was read last lets the connection be used again.
    keep_alive: bool,
    /// Whether that request asks for only the head of the reply.
    pub head_only: bool,
    /// Whether the reply to it may be chunked.
    pub http_11: bool,
    /// Whether its client waits for `100 Continue`.
    expects_continue: bool,
    /// Its body, as long as nothing was decided about that; of length zero where there is none.
    undecided: Framing,
    /// A request whose body is still coming.
    pending: Option<Pending>,
}

/// A request whose body is being read.
struct Pending {
    request: Box<Request>,
    body: Body,
    used: BodyUse,
    data: Vec<u8>,
}

impl Reading {
    /// Nothing was received yet, or nothing behind the request that was answered last.
    pub fn new(is_reused: bool) -> Reading {
        Reading {
            buffer: Vec::new(),
            parse_at: 0,
            searched: 0,
            is_reused,
            keep_alive: false,
            head_only: false,
            http_11: false,
            expects_continue: false,
            undecided: Framing::Length(0),
            pending: None,
        }
    }

    /// Takes bytes in. Whether the next request of a connection that was idle between two begins with them.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let is_blank = bytes.iter().all(|byte| b"\r\n".contains(byte));
        let begins = self.is_idle() && self.is_reused && !is_blank;
        self.buffer.extend_from_slice(bytes);
        begins
    }

    /// Begins to read the body of the request whose head came last. Whether the client is to be told to send it.
    ///
    /// # Errors
    /// Where it is announced to be longer than `bytes_max`.
    pub fn begin_body(
        &mut self,
        request: Box<Request>,
        bytes_max: u64,
        used: BodyUse,
    ) -> Result<bool, RequestError> {
        let framing = std::mem::replace(&mut self.undecided, Framing::Length(0));
        let body =
            Body::new(framing, bytes_max).map_err(|error| RequestError::Body(error, bytes_max))?;
        let has_ended = body.has_ended();
        self.pending = Some(Pending {
            request,
            body,
            used,
            data: Vec::new(),
        });
        Ok(!has_ended && self.expects_continue && self.buffer.is_empty())
    }

    /// The request was answered; the next one may follow.
    pub fn finish(&mut self) {
        self.is_reused = true;
        // What comes next and cannot be read is refused with a whole reply.
        self.head_only = false;
    }

    /// Takes the next head or the rest of a body from the input. `unauthenticated` is what is held for all clients
    /// that have not shown that they may send it: one is bounded by a body's length, and all of them by this.
    ///
    /// # Errors
    /// Where the input cannot be followed any further.
    pub fn step(&mut self, unauthenticated: &mut usize) -> Result<Step, RequestError> {
        match self.pending {
            Some(_) => self.take_body(unauthenticated),
            None => self.take_head(),
        }
    }

    fn take_head(&mut self) -> Result<Step, RequestError> {
        // Empty lines before a request are nothing (RFC 9112 §2.2), and must not be parsed again and again.
        let is_blank = |byte: &&u8| b"\r\n".contains(byte);
        let blank = self.buffer.iter().take_while(is_blank).count();
        if blank > 0 {
            self.consume(blank);
        }
        if self.buffer.is_empty() || !self.is_worth_parsing() {
            return Ok(Step::Wait);
        }
        let parsed = head::parse_head(&self.buffer).map_err(RequestError::Head)?;
        let Some((request, head_len)) = parsed else {
            self.parse_at = (self.buffer.len() * 2).min(limits::HEAD_BYTES_MAX);
            return Ok(Step::Wait);
        };
        self.consume(head_len);
        self.keep_alive = request.keep_alive;
        self.head_only = request.method == Method::Head;
        self.http_11 = request.http_11;
        self.expects_continue = request.expects_continue;
        self.undecided = request.framing;
        Ok(Step::Head(Box::new(request)))
    }

    fn take_body(&mut self, unauthenticated: &mut usize) -> Result<Step, RequestError> {
        let Some(pending) = &mut self.pending else {
            return Ok(Step::Wait);
        };
        let before = pending.unauthenticated();
        let kept = (pending.used != BodyUse::Discard).then_some(&mut pending.data);
        let taken = pending.body.consume(&self.buffer, kept);
        *unauthenticated += pending.unauthenticated() - before;
        let bytes_max = pending.body.bytes_max();
        let (len, has_ended) = taken.map_err(|error| RequestError::Body(error, bytes_max))?;
        if *unauthenticated > limits::UNAUTHENTICATED_BYTES_MAX {
            return Err(RequestError::Overloaded);
        }
        self.buffer.drain(..len);
        match self.pending.take_if(|_| has_ended) {
            None => Ok(Step::Wait),
            Some(pending) => {
                *unauthenticated -= pending.unauthenticated();
                Ok(Step::Body(pending.request, pending.data))
            }
        }
    }

    /// Whether parsing the head again is worth it: when its end may have come, or when it has doubled.
    fn is_worth_parsing(&mut self) -> bool {
        // The end of a head is an LF that an LF or a CR LF follows.
        let from = self.searched.saturating_sub(2);
        let fresh = &self.buffer[from..];
        let has_end = fresh.windows(2).any(|pair| pair == b"\n\n")
            || fresh.windows(3).any(|triple| triple == b"\n\r\n");
        self.searched = self.buffer.len();
        has_end || self.buffer.len() >= self.parse_at
    }

    /// Drops what was consumed of a head.
    fn consume(&mut self, len: usize) {
        self.buffer.drain(..len);
        self.searched = 0;
        self.parse_at = 0;
    }

    /// Bytes that there is room for.
    pub fn room(&self) -> usize {
        limits::HEAD_BYTES_MAX - self.buffer.len()
    }

    /// Whether no part of a request is at hand.
    pub fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.pending.is_none()
    }

    /// Whether the request was read to its end, so that what follows it is another one.
    pub fn is_whole(&self) -> bool {
        self.undecided == Framing::Length(0) && self.pending.is_none()
    }

    /// Whether nothing was received behind what was consumed.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether the connection can take another request: the client lets it, and it is known where that begins.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive && self.is_whole()
    }

    /// Bytes that are held for a client that has not shown that it may send them.
    pub fn unauthenticated(&self) -> usize {
        self.pending.as_ref().map_or(0, Pending::unauthenticated)
    }
}

impl Pending {
    /// What counts of the data, without what everybody may have held: whoever sends large bodies must not keep
    /// out those who send small ones.
    fn unauthenticated(&self) -> usize {
        match self.used {
            BodyUse::KeepUnauthenticated => self
                .data
                .len()
                .saturating_sub(limits::UNAUTHENTICATED_BYTES_FREE),
            BodyUse::Keep | BodyUse::Discard => 0,
        }
    }
}
