//! Event ids: a place in the log as a browser carries it. It owns their form, `<epoch>-<number>`; it must
//! not judge whether the place still exists.
//!
//! An id goes out when a stream is ended by us, in a block of its own: a browser dispatches nothing for it,
//! keeps it as its last event id, and sends it back as `Last-Event-ID` (WHATWG HTML §9.2.3, §9.2.6). It also
//! goes out with each event that is replayed, so that a replay that is cut off is continued where it was.

use std::io::Write;

/// A place in the log of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// Which process: numbers of another one mean nothing here.
    pub epoch: u64,
    /// The oldest frame that the client lacks.
    pub sequence: u64,
}

/// The block that makes a browser forget the id it has. Without it, Chromium goes on sending the id with
/// every later reconnect, and would be sent the same events again.
pub const CLEAR: &[u8] = b"id:\n\n";

impl EventId {
    /// Reads what a client sent back.
    pub fn parse(text: &str) -> Option<EventId> {
        let (epoch, sequence) = text.trim().split_once('-')?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_plain(epoch) || !is_plain(sequence) {
            return None;
        }
        Some(EventId {
            epoch: u64::from_str_radix(epoch, 16).ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    /// Appends the line that gives the id to a client, to be followed by an event's other lines, or by the
    /// empty line that ends a block.
    pub fn encode_line(self, out: &mut Vec<u8>) {
        let _infallible = writeln!(out, "id:{:x}-{}", self.epoch, self.sequence);
    }

    /// The same in the form that a channel's messages have.
    pub fn encode_channel_line(self, out: &mut Vec<u8>) {
        let _infallible = writeln!(out, "id: {:x}-{}", self.epoch, self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_as_they_went_out() {
        let id = EventId {
            epoch: 0xDEAD_BEEF,
            sequence: 42,
        };
        let mut out = Vec::new();
        id.encode_line(&mut out);
        assert_eq!(out, b"id:deadbeef-42\n");
        assert_eq!(EventId::parse("deadbeef-42"), Some(id));
        for text in [
            "",
            "-",
            "1-",
            "-1",
            "1",
            "1-2-3",
            "x-1",
            "1-+2",
            "1--2",
            "1-ffffffffffffffffff",
            "1-a",
        ] {
            assert_eq!(EventId::parse(text), None, "for {text:?}");
        }
    }
}
