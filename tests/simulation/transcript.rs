//! A transcript: what a client received of a stream, after the chunked coding was removed. It owns the grammar of
//! `text/event-stream` (WHATWG HTML §9.2.5), checked byte by byte, and shares no code with `receiver`, which forgives
//! what browsers forgive.

use crate::steps::brief;

/// An event as it stands in the bytes. Its id is known to be there or not; the text of ids is the server's affair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub name: Option<String>,
    pub data: Vec<String>,
    pub has_id: bool,
}

impl Written {
    fn is_about_nothing(&self) -> bool {
        self.name.is_none() && self.data.is_empty() && !self.has_id
    }
}

/// The events of a transcript that ends with a whole one, or what is wrong with it. A comment and a `retry:` may be
/// followed by an empty line or not.
pub fn events_of(transcript: &[u8]) -> Result<Vec<Written>, String> {
    let text = std::str::from_utf8(transcript).map_err(|error| error.to_string())?;
    if let Some(at) = text.find(['\r', '\0', '\u{FEFF}']) {
        return Err(format!("a byte that does not belong there, at {at}"));
    }
    let Some(whole) = text.strip_suffix('\n') else {
        return Err(format!("{:?} ends within a line", tail(text)));
    };
    let mut events = Vec::new();
    let mut open = Written {
        name: None,
        data: Vec::new(),
        has_id: false,
    };
    // Whether there was any line since the last empty one: an empty line ends something.
    let mut has_lines = false;
    for (number, line) in whole.split('\n').enumerate() {
        let wrong = |what: &str| Err(format!("line {number} {}: {what}", brief(&line)));
        if line.is_empty() {
            if !has_lines {
                return wrong("an empty line that ends nothing");
            }
            has_lines = false;
            if open.data.is_empty() && open.name.is_some() {
                return wrong("an event without data is not dispatched");
            }
            // An id alone is a block of its own, which dispatches nothing.
            if !open.data.is_empty() {
                events.push(open.clone());
            }
            open = Written {
                name: None,
                data: Vec::new(),
                has_id: false,
            };
            continue;
        }
        has_lines = true;
        let Some((field, value)) = line.split_once(':') else {
            return wrong("no field has a name alone");
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if value.is_empty() => {}
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {}
            "event" if open.name.is_none() && !value.is_empty() => {
                open.name = Some(value.to_owned());
            }
            "id" if value.bytes().all(|byte| byte.is_ascii_graphic()) => open.has_id = true,
            "data" => open.data.push(value.to_owned()),
            _ => return wrong("no such field"),
        }
    }
    match open.is_about_nothing() {
        true => Ok(events),
        false => Err(format!("{:?} ends within an event", tail(text))),
    }
}

/// The last part of a text, from the beginning of a character on.
fn tail(text: &str) -> &str {
    let far = text.len().saturating_sub(60);
    let start = (far..text.len()).find(|&at| text.is_char_boundary(at));
    &text[start.unwrap_or_default()..]
}

/// Removes the chunked coding (RFC 9112 §7.1): the body, and whether it has come to its end.
pub fn without_chunks(mut coded: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = coded.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok((body, false));
        };
        let digits = std::str::from_utf8(&coded[..end]).map_err(|error| error.to_string())?;
        let size = usize::from_str_radix(digits, 16).map_err(|_| format!("the size {digits:?}"))?;
        let rest = &coded[end + 2..];
        let taken = size.min(rest.len());
        body.extend_from_slice(&rest[..taken]);
        match rest[taken..] {
            // Cut within the chunk, or within the line end behind it.
            [] | [b'\r'] if taken == size || rest.len() < size => return Ok((body, false)),
            [b'\r', b'\n'] if size == 0 => return Ok((body, true)),
            [b'\r', b'\n', ..] if size > 0 => coded = &rest[taken + 2..],
            _ => {
                return Err(format!(
                    "{:?} ends a chunk",
                    &rest[taken..rest.len().min(taken + 8)]
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transcripts_are_read_by_the_grammar() {
        // A transcript, and how many events are in it, unless it is none.
        let table: [(&str, Option<usize>); 17] = [
            (":\n\n", Some(0)),
            (":\n", Some(0)),
            ("retry:100\n", Some(0)),
            ("retry:100\n\n", Some(0)),
            (":\ndata:1\n\n", Some(1)),
            ("data:1\n\ndata: 2\ndata: 3\n\n", Some(2)),
            ("id: 7\n\n", Some(0)),
            ("event:a\nid:7\ndata:\n\n:\n", Some(1)),
            ("id:\n\n", Some(0)),
            ("", None),
            ("data:1\n", None),
            ("data:1", None),
            ("\ndata:1\n\n", None),
            ("data:1\n\n\n", None),
            ("event:a\n\n", None),
            ("data:1\r\n\r\n", None),
            ("ata:1\n\n", None),
        ];
        for (text, expected) in table {
            let events = events_of(text.as_bytes()).ok().map(|events| events.len());
            assert_eq!(events, expected, "for {text:?}");
        }
    }

    #[test]
    fn chunks_are_removed() {
        // What was received, and what was sent, with whether that is all.
        let table: [(&str, Option<(&str, bool)>); 9] = [
            ("", Some(("", false))),
            ("1\r\na\r\n0\r\n\r\n", Some(("a", true))),
            ("2\r\nab\r\n1\r\nc\r\n", Some(("abc", false))),
            ("A\r\n012", Some(("012", false))),
            ("3\r\n012\r", Some(("012", false))),
            ("1\r\na\r\n0\r\n", Some(("a", false))),
            ("1\r\nab\r\n", None),
            ("x\r\na\r\n", None),
            ("0\r\n\r\n1", None),
        ];
        for (coded, expected) in table {
            let body = without_chunks(coded.as_bytes()).ok();
            let body = body.map(|(body, is_whole)| (String::from_utf8(body), is_whole));
            let expected = expected.map(|(body, is_whole)| (Ok(body.to_owned()), is_whole));
            assert_eq!(body, expected, "for {coded:?}");
        }
    }
}
