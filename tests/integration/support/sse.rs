//! A parser of event streams, written only from the WHATWG HTML Standard, section 9.2.6 ("Interpreting an event
//! stream").

/// What a stream says. Browsers show the page only events; the others are there to be tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Event),
    /// A pause in milliseconds before a reconnect.
    Retry(u64),
    Comment(String),
}

/// An event as a page's handler gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The event's type; `message` where the stream does not name one.
    pub name: String,
    pub data: String,
    /// The last event ID at that moment; empty where there has been none.
    pub id: String,
}

impl Event {
    /// An event of this type, without an ID.
    pub fn new(name: &str, data: &str) -> Event {
        Event {
            name: name.to_owned(),
            data: data.to_owned(),
            id: String::new(),
        }
    }

    /// An event that the stream does not name.
    pub fn message(data: &str) -> Event {
        Event::new("message", data)
    }
}

/// Reads a stream, fed in pieces of any size.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line under way. Lines are decoded whole, since no character's encoding contains a line end.
    line: Vec<u8>,
    /// The last line ended with a CR, to which an LF may still belong.
    after_carriage_return: bool,
    /// The first line, before which a byte order mark may stand, is over.
    begun: bool,
    name: String,
    data: String,
    id: String,
    /// The ID that the stream has set in blocks that are whole, if it has set one at all.
    last_event_id: Option<String>,
    /// The block under way has a line that sets the ID.
    sets_id: bool,
}

impl Parser {
    /// Takes bytes in, and hands over what is complete with them.
    pub fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Item)) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_carriage_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let is_line_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
            let Some(end) = bytes.iter().position(is_line_end) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.line.extend_from_slice(&bytes[..end]);
            self.after_carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, take);
        }
    }

    /// Whether the stream stands between two blocks: ending here loses nothing.
    pub fn is_at_boundary(&self) -> bool {
        self.line.is_empty() && self.name.is_empty() && self.data.is_empty()
    }

    /// What a browser would send as `Last-Event-ID` next time; `None` where it would send what it has had.
    pub fn last_event_id(&self) -> Option<&str> {
        self.last_event_id.as_deref()
    }

    fn take_line(&mut self, line: &[u8], take: &mut impl FnMut(Item)) {
        let is_first = !std::mem::replace(&mut self.begun, true);
        let mark = "\u{feff}".as_bytes();
        let line = line.strip_prefix(mark).filter(|_| is_first).unwrap_or(line);
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            take_some(self.dispatch(), take);
        } else if let Some(comment) = line.strip_prefix(':') {
            take(Item::Comment(comment.to_owned()));
        } else {
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            take_some(self.take_field(field, value), take);
        }
    }

    fn take_field(&mut self, field: &str, value: &str) -> Option<Item> {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.id);
                self.sets_id = true;
            }
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                return value.parse().ok().map(Item::Retry);
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Item> {
        if std::mem::take(&mut self.sets_id) {
            self.last_event_id = Some(self.id.clone());
        }
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        // The buffer ends with a line feed, which is not part of the data; nothing in it, no event.
        data.pop()?;
        let name = match name.is_empty() {
            true => "message".to_owned(),
            false => name,
        };
        let id = self.id.clone();
        Some(Item::Event(Event { name, data, id }))
    }
}

fn take_some(item: Option<Item>, take: &mut impl FnMut(Item)) {
    if let Some(item) = item {
        take(item);
    }
}

#[test]
fn the_examples_of_the_standard_are_read_as_it_says() {
    let event = |name: &str, data: &str, id: &str| {
        Item::Event(Event {
            id: id.to_owned(),
            ..Event::new(name, data)
        })
    };
    let comment = |text: &str| Item::Comment(text.to_owned());
    #[rustfmt::skip]
    let table: &[(&str, &[Item])] = &[
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &[event("message", "YHOO\n+2\n10", "")]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &[
                comment(" test stream"),
                event("message", "first event", "1"),
                event("message", "second event", ""),
                event("message", " third event", ""),
            ],
        ),
        ("data\n\ndata\ndata\n\ndata:", &[event("message", "", ""), event("message", "\n", "")]),
        ("data:test\n\ndata: test\n\n", &[event("message", "test", ""), event("message", "test", "")]),
        ("event: add\ndata: 73857293\n\nevent: remove\n\n", &[event("add", "73857293", "")]),
        ("\u{feff}data:a\r\ndata:b\rdata:c\n\r\n", &[event("message", "a\nb\nc", "")]),
        ("data:a\r\rdata:b\r\n\r\n", &[event("message", "a", ""), event("message", "b", "")]),
        ("retry:500\n\nretry:5s\n\nid:\u{0}\n\n", &[Item::Retry(500)]),
        ("id:7\n\ndata:a\n\nunknown:x\ndata:\u{1F4C2}\n\n", &[event("message", "a", "7"), event("message", "\u{1F4C2}", "7")]),
    ];
    for (stream, expected) in table {
        for split in 0..=stream.len() {
            let mut parser = Parser::default();
            let mut items = Vec::new();
            let (first, second) = stream.as_bytes().split_at(split);
            parser.feed(first, &mut |item| items.push(item));
            parser.feed(second, &mut |item| items.push(item));
            assert_eq!(items, *expected, "{stream:?} split at {split}");
        }
    }
}
