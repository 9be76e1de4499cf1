//! Positions: a number as a browser carries it. It owns their form, `<epoch>-<number>`; it must not judge whether what
//! lies behind one is still kept.
//!
//! A position goes out with each event of a channel, or of any stream that was asked for with positions; with each event that
//! is replayed; and when a stream is ended by us, in a block of its own: a browser dispatches nothing for that, keeps it as its last event id, and sends it back as
//! `Last-Event-ID` (WHATWG HTML §9.2.3, §9.2.6).

use super::sse::{self, Style};

/// The line that makes a client forget the position it has. Without it, Chromium goes on sending it with every later
/// reconnect, and would be sent the same events again.
pub const CLEAR_LINE: &[u8] = b"id:\n";

/// Positions of one process, on which its numbers mean something.
pub struct Positions {
    /// What stands before the number.
    prefix: Box<[u8]>,
}

impl Positions {
    /// Positions of the process of this epoch.
    pub fn new(epoch: u64) -> Positions {
        Positions {
            prefix: format!("{epoch:x}-").into_bytes().into(),
        }
    }

    /// Appends the line that gives a position to a client, to be followed by the empty line
    /// that ends a block. It says that the client has everything up to this number.
    pub fn encode_line(&self, out: &mut Vec<u8>, style: Style, number: u64) {
        out.extend_from_slice(match style {
            Style::Tight => b"id:",
            Style::Spaced => b"id: ",
        });
        out.extend_from_slice(&self.prefix);
        sse::push_decimal(out, number);
        out.push(b'\n');
    }

    /// The number of a position that a client has sent back; `None` where it is not one of ours.
    pub fn parse(&self, text: &str) -> Option<u64> {
        let text = text.trim();
        let number = text.as_bytes().strip_prefix(&*self.prefix)?;
        let number = std::str::from_utf8(number).ok()?;
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|_| is_plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_as_they_went_out() {
        let positions = Positions::new(0xDEAD_BEEF);
        let mut out = Vec::new();
        positions.encode_line(&mut out, Style::Tight, 42);
        positions.encode_line(&mut out, Style::Spaced, 7);
        assert_eq!(out, b"id:deadbeef-42\nid: deadbeef-7\n");
        assert_eq!(positions.parse(" deadbeef-42"), Some(42));
        for text in [
            "",
            "-",
            "deadbeef-",
            "-1",
            "1",
            "deadbeef-2-3",
            "1-2",
            "DEADBEEF-2",
            "deadbeef-+2",
            "deadbeef--2",
            "deadbeef-99999999999999999999",
            "deadbeef-a",
        ] {
            assert_eq!(positions.parse(text), None, "for {text:?}");
        }
    }
}
