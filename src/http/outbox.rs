//! Outboxes: bytes for one client alone that its socket has not accepted yet.

use std::io::Write;
use std::sync::Arc;

use crate::limits;

/// Bytes for one client alone. Most connections have none, and then it takes only a pointer.
#[derive(Default)]
pub struct Outbox(Option<Box<Unsent>>);

/// Never empty.
#[derive(Default)]
struct Unsent {
    bytes: Vec<u8>,
    /// What follows the bytes, shared with other clients.
    shared: Option<Arc<[u8]>>,
    /// How much of both together was sent.
    sent: usize,
}

impl Outbox {
    /// Where at least one byte is to be appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        let unsent = self.0.get_or_insert_default();
        debug_assert!(unsent.shared.is_none(), "a shared body comes last");
        &mut unsent.bytes
    }

    /// Appends a piece of a stream's body (RFC 9112 §7.1). An empty chunk would end the stream, and is left out.
    pub fn push_piece(&mut self, is_chunked: bool, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        let out = self.buffer();
        if is_chunked {
            let _infallible = write!(out, "{:x}\r\n", piece.len());
        }
        out.extend_from_slice(piece);
        if is_chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends the end of a stream's body.
    pub fn push_end(&mut self, is_chunked: bool) {
        if is_chunked {
            self.buffer().extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Appends a reply's body behind its head. A large one is not copied, so that many clients who request the same
    /// document and do not read cost one copy of it.
    pub fn attach(&mut self, body: &Arc<[u8]>) {
        if body.len() <= limits::COPIED_BODY_BYTES_MAX {
            self.buffer().extend_from_slice(body);
        } else {
            self.0.get_or_insert_default().shared = Some(Arc::clone(body));
        }
    }

    /// So many bytes were sent. An empty outbox gives its memory back.
    pub fn advance(&mut self, len: usize) {
        if let Some(unsent) = &mut self.0 {
            unsent.sent += len;
            let shared = unsent.shared.as_ref().map_or(0, |shared| shared.len());
            debug_assert!(unsent.sent <= unsent.bytes.len() + shared);
            if unsent.sent == unsent.bytes.len() + shared {
                self.0 = None;
            }
        }
    }

    /// What is still to be sent, or the first part of it.
    pub fn unsent(&self) -> &[u8] {
        let Some(unsent) = &self.0 else {
            return &[];
        };
        match (unsent.sent.checked_sub(unsent.bytes.len()), &unsent.shared) {
            (Some(sent), Some(shared)) => &shared[sent..],
            _ => &unsent.bytes[unsent.sent..],
        }
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}
