//! Outboxes: bytes for one client alone, which wait for its socket to take them.

use std::io::Write;
use std::sync::Arc;

use crate::limits;

/// How the pieces of a stream's body are framed (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As chunks.
    Chunked,
    /// Not at all, for HTTP/1.0: the end of the connection is the end of the body.
    Bare,
}

/// Bytes for one client alone.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// What follows the bytes, shared with other clients.
    shared: Option<Arc<[u8]>>,
    /// How much of both together was sent.
    sent: usize,
}

impl Outbox {
    /// Where further bytes are appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(
            self.shared.is_none(),
            "nothing may come behind a shared body"
        );
        &mut self.bytes
    }

    /// Appends a piece of a stream's body. An empty one would end the stream, and is left out.
    pub fn push_piece(&mut self, coding: Coding, piece: &[u8]) {
        let out = self.buffer();
        match coding {
            _ if piece.is_empty() => {}
            Coding::Bare => out.extend_from_slice(piece),
            Coding::Chunked => {
                let _infallible = write!(out, "{:x}\r\n", piece.len());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends the end of a stream's body.
    pub fn push_end(&mut self, coding: Coding) {
        if coding == Coding::Chunked {
            self.buffer().extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Appends a reply's body: a large one without copying it, so that many clients who ask for the same
    /// document and do not read cost one of it.
    pub fn attach(&mut self, body: &Arc<[u8]>) {
        if body.len() <= limits::COPIED_BODY_BYTES_MAX {
            self.buffer().extend_from_slice(body);
        } else {
            self.shared = Some(Arc::clone(body));
        }
    }

    /// Takes note that so many bytes were sent. An emptied outbox gives its memory back, because most
    /// connections never need one again.
    pub fn advance(&mut self, len: usize) {
        self.sent += len;
        let len = self.bytes.len() + self.shared.as_ref().map_or(0, |shared| shared.len());
        debug_assert!(self.sent <= len);
        if self.sent == len {
            *self = Outbox::default();
        }
    }

    /// What is still to be sent, or a part of it.
    pub fn unsent(&self) -> &[u8] {
        match (self.sent.checked_sub(self.bytes.len()), &self.shared) {
            (Some(sent), Some(shared)) => &shared[sent..],
            _ => &self.bytes[self.sent..],
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_none()
    }
}
