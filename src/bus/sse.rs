//! Server-Sent Events, the writing side (WHATWG HTML §9.2.5), and the chunked transfer coding that
//! carries them (RFC 9112 §7.1). It owns the bytes of fields and chunks; it must not know who receives them.

use std::io::Write;

/// A comment: keeps routers from closing a silent stream, and dispatches nothing. No blank line follows it:
/// some clients dispatch an empty message for every blank line, whatever stands before it.
pub const COMMENT: &[u8] = b":\n";

/// What stands between a field's name and its value. Receivers strip one space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Style {
    /// Nothing, as the emoji streams have always had it.
    Tight,
    /// A space, as servers for channels have always written it.
    Spaced,
}

/// How a receiver takes bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// HTTP/1.1: in chunks.
    Chunked,
    /// HTTP/1.0: as they are.
    Bare,
}

impl Coding {
    /// Appends bytes of a stream, which are not empty: an empty chunk would end it.
    pub fn encode(self, out: &mut Vec<u8>, body: &[u8]) {
        debug_assert!(!body.is_empty());
        match self {
            Coding::Chunked => {
                let _infallible = write!(out, "{:x}\r\n", body.len());
                out.extend_from_slice(body);
                out.extend_from_slice(b"\r\n");
            }
            Coding::Bare => out.extend_from_slice(body),
        }
    }
}

/// Appends an `event:` line. The name must be free of line ends (see [`has_control_bytes`]).
pub fn encode_name(out: &mut Vec<u8>, style: Style, name: &[u8]) {
    debug_assert!(!has_control_bytes(name));
    out.extend_from_slice(match style {
        Style::Tight => b"event:",
        Style::Spaced => b"event: ",
    });
    out.extend_from_slice(name);
    out.push(b'\n');
}

/// Appends a payload as `data:` lines. Line ends of any kind divide it, and the receiver joins the lines with LF.
pub fn encode_data(out: &mut Vec<u8>, style: Style, payload: &[u8]) {
    for line in lines(payload) {
        out.extend_from_slice(b"data:");
        // The receiver strips one leading space, so a line that starts with one is given another.
        if style == Style::Spaced || line.first() == Some(&b' ') {
            out.push(b' ');
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// The lines of a payload, whatever ends them: at least one.
fn lines(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(payload);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let end = bytes
            .iter()
            .position(|&byte| byte == b'\n' || byte == b'\r');
        let Some(end) = end else { return rest.take() };
        let line_end = match bytes[end..].starts_with(b"\r\n") {
            true => 2,
            false => 1,
        };
        rest = Some(&bytes[end + line_end..]);
        Some(&bytes[..end])
    })
}

/// Appends a `retry:` line: the pause in milliseconds before a browser reconnects. It takes effect at its
/// line end, and no blank line follows it, for the same reason as after a [`COMMENT`].
pub fn encode_retry(out: &mut Vec<u8>, retry_ms: u32) {
    let _infallible = writeln!(out, "retry:{retry_ms}");
}

/// Appends a number. By hand, because formatting takes several times as long, and every event may have one.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Whether bytes that were to become a field value contain any that could end it or hide in a log.
pub fn has_control_bytes(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_with_any_line_end_become_data_lines() {
        let table: &[(&str, &str, &str)] = &[
            ("1F4C2", "data:1F4C2\n", "data: 1F4C2\n"),
            ("", "data:\n", "data: \n"),
            ("a\nb", "data:a\ndata:b\n", "data: a\ndata: b\n"),
            ("a\rb", "data:a\ndata:b\n", "data: a\ndata: b\n"),
            ("a\r\nb", "data:a\ndata:b\n", "data: a\ndata: b\n"),
            (
                "a\n\rb",
                "data:a\ndata:\ndata:b\n",
                "data: a\ndata: \ndata: b\n",
            ),
            ("a\n", "data:a\ndata:\n", "data: a\ndata: \n"),
            ("\n", "data:\ndata:\n", "data: \ndata: \n"),
            (" a\n b", "data:  a\ndata:  b\n", "data:  a\ndata:  b\n"),
            (
                "data:x\n\nid:1",
                "data:data:x\ndata:\ndata:id:1\n",
                "data: data:x\ndata: \ndata: id:1\n",
            ),
        ];
        for (payload, tight, spaced) in table {
            for (style, expected) in [(Style::Tight, tight), (Style::Spaced, spaced)] {
                let mut out = Vec::new();
                encode_data(&mut out, style, payload.as_bytes());
                assert_eq!(String::from_utf8_lossy(&out), *expected, "for {payload:?}");
            }
        }
    }

    #[test]
    fn a_chunk_holds_the_bare_body_after_its_head() {
        for len in [1, 15, 16, 255, 256, 70_000] {
            let body = vec![b'x'; len];
            let mut out = Vec::new();
            Coding::Chunked.encode(&mut out, &body);
            let head = format!("{len:x}\r\n");
            assert!(out.starts_with(head.as_bytes()) && out.ends_with(b"\r\n"));
            assert_eq!(&out[head.len()..out.len() - 2], &body[..]);
        }
    }

    #[test]
    fn numbers_have_their_digits() {
        for number in [0, 7, 10, 4_711, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
