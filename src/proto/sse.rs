//! Server-Sent Events, the writing side (WHATWG HTML §9.2.5), and the chunked transfer coding that
//! carries them (RFC 9112 §7.1). It owns the bytes of one frame; it must not know who receives it.

use std::io::Write;

/// A comment: keeps routers from closing a silent stream, and dispatches nothing. No blank line follows it:
/// some clients dispatch an empty message for every blank line, whatever stands before it.
pub const COMMENT: &[u8] = b":\n";

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one event. `event` must be free of line ends (see [`has_control_bytes`]); a payload with line
/// ends of any kind becomes several `data:` lines, which the receiver joins with LF.
pub fn encode_event(out: &mut Vec<u8>, event: Option<&[u8]>, payload: &[u8]) {
    if let Some(event) = event {
        debug_assert!(!has_control_bytes(event));
        out.extend_from_slice(b"event:");
        out.extend_from_slice(event);
        out.push(b'\n');
    }
    for line in lines(payload) {
        out.extend_from_slice(b"data:");
        // The receiver strips one leading space, so a line that starts with one is given another.
        if line.first() == Some(&b' ') {
            out.push(b' ');
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// The same for a channel's message, as servers for channels have always written it: with a space behind each
/// field's name, which the receiver strips.
pub fn encode_channel_event(out: &mut Vec<u8>, event: Option<&[u8]>, payload: &[u8]) {
    if let Some(event) = event {
        debug_assert!(!has_control_bytes(event));
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event);
        out.push(b'\n');
    }
    for line in lines(payload) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
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
/// line end, and no blank line follows it, for the same reason as behind a [`COMMENT`].
pub fn encode_retry(out: &mut Vec<u8>, retry_ms: u32) {
    let _infallible = writeln!(out, "retry:{retry_ms}");
}

/// Appends `body` as one chunk and returns the length of the chunk's head, so that the bare body can be
/// found again for receivers that cannot decode chunks. An empty body would end the stream.
pub fn encode_chunk(out: &mut Vec<u8>, body: &[u8]) -> usize {
    debug_assert!(!body.is_empty());
    let start = out.len();
    let _infallible = write!(out, "{:x}\r\n", body.len());
    let head_len = out.len() - start;
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    head_len
}

/// The length of a chunk with a body of `len` bytes.
pub fn chunk_len(len: usize) -> usize {
    let digits = len.checked_ilog2().map_or(1, |bits| bits as usize / 4 + 1);
    digits + 2 + len + 2
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
        let table: &[(Option<&str>, &str, &str)] = &[
            (None, "1F4C2", "data:1F4C2\n\n"),
            (None, "", "data:\n\n"),
            (Some("stream.x"), "{}", "event:stream.x\ndata:{}\n\n"),
            (None, "a\nb", "data:a\ndata:b\n\n"),
            (None, "a\rb", "data:a\ndata:b\n\n"),
            (None, "a\r\nb", "data:a\ndata:b\n\n"),
            (None, "a\n\rb", "data:a\ndata:\ndata:b\n\n"),
            (None, "a\n", "data:a\ndata:\n\n"),
            (None, "\n", "data:\ndata:\n\n"),
            (None, " a\n b", "data:  a\ndata:  b\n\n"),
            (None, "data:x\n\nid:1", "data:data:x\ndata:\ndata:id:1\n\n"),
        ];
        for (event, payload, expected) in table {
            let mut out = Vec::new();
            encode_event(&mut out, event.map(str::as_bytes), payload.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), *expected, "for {payload:?}");
            let lines = expected.split_inclusive('\n').map(|line| match line {
                line if line.starts_with("data: ") => line.to_owned(),
                line if line.starts_with("data:") => line.replacen("data:", "data: ", 1),
                line => line.replacen("event:", "event: ", 1),
            });
            let spaced: String = lines.collect();
            out.clear();
            encode_channel_event(&mut out, event.map(str::as_bytes), payload.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), spaced, "for {payload:?}");
        }
    }

    #[test]
    fn a_chunk_holds_the_bare_body_behind_its_head() {
        for len in [1, 15, 16, 255, 256, 70_000] {
            let body = vec![b'x'; len];
            let mut out = Vec::new();
            let head_len = encode_chunk(&mut out, &body);
            assert_eq!(&out[head_len..out.len() - 2], &body[..]);
            assert_eq!(&out[..head_len], format!("{len:x}\r\n").as_bytes());
            assert!(out.ends_with(b"\r\n"));
            assert_eq!(out.len(), chunk_len(len));
        }
    }
}
