//! Reading: a connection's input becomes heads and bodies. It owns what a connection needs while it reads requests or owes
//! an answer; a stream has none of it.

use std::time::Duration;

use super::body::Body;
use super::error::RequestError;
use super::event::{Event, Key, Origin};
use super::head::{self, Framing, Method, Request};
use crate::limits;
use crate::time::Time;

/// What is done with a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyUse {
    /// It is read and discarded.
    Discard,
    /// It is kept: the client has authenticated.
    Keep,
    /// It is kept although the client has not authenticated yet. What is held for all such clients together is bounded
    /// by [`limits::UNAUTHENTICATED_BYTES_MAX`].
    KeepUnauthenticated,
}

/// Input that is not yet a request, and the request that is being read or answered.
pub struct Reading {
    pub origin: Origin,
    /// Received and not yet consumed. Never more than [`limits::HEAD_BYTES_MAX`].
    buffer: Vec<u8>,
    /// A head is parsed again when the buffer is this long, twice as long as at the last attempt: a head that arrives
    /// byte by byte is then parsed some ten times and not once a byte.
    parse_at: usize,
    /// How much of the buffer was searched for the end of the head.
    searched: usize,
    /// Whether a request was answered on this connection before.
    is_reused: bool,
    /// Whether the client of the last request lets the connection be used again.
    keep_alive: bool,
    /// Whether that request asks for only the head of the reply.
    pub head_only: bool,
    /// Whether the reply to it may be chunked.
    pub http_11: bool,
    /// Whether its client waits for `100 Continue`.
    expects_continue: bool,
    /// Its body, until it is decided what to do with it; of length zero if there is none.
    undecided: Framing,
    /// A request whose body is still arriving.
    pending: Option<Pending>,
}

struct Pending {
    request: Box<Request>,
    body: Body,
    used: BodyUse,
    data: Vec<u8>,
}

impl Reading {
    /// A connection that has received nothing yet.
    pub fn new(origin: Origin) -> Reading {
        Reading {
            origin,
            buffer: Vec::new(),
            parse_at: 0,
            searched: 0,
            is_reused: false,
            keep_alive: false,
            head_only: false,
            http_11: false,
            expects_continue: false,
            undecided: Framing::Length(0),
            pending: None,
        }
    }

    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The deadline of the request, which was this one, once these bytes are taken in. That of a head is fixed when it
    /// begins. A body postpones it as it comes, so that one that takes its time is not refused halfway.
    pub fn deadline_after(&self, bytes: &[u8], deadline: Time, now: Time) -> Time {
        if self.pending.is_some() {
            let micros = bytes.len() as u64 * 1_000_000 / limits::BODY_BYTES_PER_SEC_MIN;
            return deadline + Duration::from_micros(micros);
        }
        let is_blank = bytes.iter().all(|byte| b"\r\n".contains(byte));
        match self.is_idle() && self.is_reused && !is_blank {
            true => now + limits::REQUEST_DEADLINE,
            false => deadline,
        }
    }

    /// No more bytes will come. What is there is parsed once more, so that the client learns what is wrong with it.
    pub fn handle_end(&mut self) {
        self.parse_at = 0;
    }

    /// Begins to read the body of the request whose head came last. Whether the client must be told to send it.
    ///
    /// # Errors
    /// If it is announced to be longer than `bytes_max`.
    pub fn begin_body(
        &mut self,
        request: Box<Request>,
        bytes_max: u64,
        used: BodyUse,
    ) -> Result<bool, RequestError> {
        let framing = std::mem::replace(&mut self.undecided, Framing::Length(0));
        let body = Body::new(framing, bytes_max)?;
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
        // If what comes next cannot be parsed, it is refused with a whole reply.
        self.head_only = false;
    }

    /// The next request or body, if the input has one.
    ///
    /// # Errors
    /// If the input cannot be parsed any further.
    pub fn poll(&mut self, key: Key) -> Result<Option<Event>, RequestError> {
        match self.pending {
            Some(_) => self.poll_body(key),
            None => self.poll_head(key),
        }
    }

    fn poll_head(&mut self, key: Key) -> Result<Option<Event>, RequestError> {
        // RFC 9112 §2.2 allows empty lines between requests.
        let blank = self.buffer.iter().take_while(|byte| b"\r\n".contains(byte));
        let blank = blank.count();
        if blank > 0 {
            self.consume(blank);
        }
        if self.buffer.is_empty() || !self.is_worth_parsing() {
            return Ok(None);
        }
        // Where the head cannot be parsed, the refusal must know whether it may have a body (RFC 9110 §9.3.2).
        self.head_only = self.buffer.starts_with(b"HEAD ");
        let Some((request, head_len)) = head::parse_head(&self.buffer)? else {
            self.parse_at = (self.buffer.len() * 2).min(limits::HEAD_BYTES_MAX);
            return Ok(None);
        };
        self.consume(head_len);
        self.keep_alive = request.keep_alive;
        self.head_only = request.method == Method::Head;
        self.http_11 = request.http_11;
        self.expects_continue = request.expects_continue;
        self.undecided = request.framing;
        Ok(Some(Event::Request(key, Box::new(request))))
    }

    fn poll_body(&mut self, key: Key) -> Result<Option<Event>, RequestError> {
        let Some(pending) = &mut self.pending else {
            return Ok(None);
        };
        let kept = (pending.used != BodyUse::Discard).then_some(&mut pending.data);
        let (len, has_ended) = pending.body.consume(&self.buffer, kept)?;
        self.buffer.drain(..len);
        let ended = self.pending.take_if(|_| has_ended);
        Ok(ended.map(|pending| Event::Body(key, pending.request, pending.data)))
    }

    /// Whether to parse the head again: if its end may have come, or if it has doubled.
    fn is_worth_parsing(&mut self) -> bool {
        // The end of a head is an LF that an LF or a CR LF follows.
        let fresh = &self.buffer[self.searched.saturating_sub(2)..];
        let has_end = fresh.windows(2).any(|pair| pair == b"\n\n")
            || fresh.windows(3).any(|triple| triple == b"\n\r\n");
        self.searched = self.buffer.len();
        has_end || self.buffer.len() >= self.parse_at
    }

    fn consume(&mut self, len: usize) {
        self.buffer.drain(..len);
        if self.buffer.is_empty() {
            // A long poll may wait for a while.
            self.buffer = Vec::new();
        }
        self.searched = 0;
        self.parse_at = 0;
    }

    /// Bytes that there is room for.
    pub fn room(&self) -> usize {
        limits::HEAD_BYTES_MAX - self.buffer.len()
    }

    /// Bytes that there is room for behind a request that is not answered yet.
    pub fn room_behind(&self) -> usize {
        limits::UNAUTHENTICATED_BYTES_FREE.saturating_sub(self.buffer.len())
    }

    /// Whether something came behind the request.
    pub fn has_input(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether no part of a request has been received.
    pub fn is_idle(&self) -> bool {
        self.buffer.is_empty() && self.pending.is_none()
    }

    /// Whether a request was answered on this connection before.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether the body of a request is being read.
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the request was read to its end, so that another one may follow.
    pub fn is_whole(&self) -> bool {
        self.undecided == Framing::Length(0) && self.pending.is_none()
    }

    /// Whether the connection can be used again: the client lets it, and it is known where the next request begins.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive && self.is_whole()
    }

    /// Bytes of an incomplete request whose sender has not authenticated yet. A few are free: clients that send much
    /// must not keep out those that send little.
    pub fn unauthenticated(&self) -> usize {
        let held = match &self.pending {
            None => self.buffer.len(),
            Some(pending) if pending.used == BodyUse::KeepUnauthenticated => pending.data.len(),
            Some(_) => 0,
        };
        held.saturating_sub(limits::UNAUTHENTICATED_BYTES_FREE)
    }
}
