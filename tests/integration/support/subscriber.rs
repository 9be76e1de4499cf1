//! A subscriber: a connection with a stream.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::DEADLINE;
use super::chunked::ChunkDecoder;
use super::http::{Connection, Head};
use super::sse::{Event, Item, Parser};

/// A client of one stream, which reads when it is asked for something.
#[derive(Debug)]
pub struct Subscriber {
    connection: Connection,
    pub head: Head,
    /// None over HTTP/1.0, which has no chunks.
    chunks: Option<ChunkDecoder>,
    parser: Parser,
    items: VecDeque<Item>,
    /// The stream so far, without its transfer coding.
    body: Vec<u8>,
    end: Option<End>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As the coding says: after the last chunk, or for HTTP/1.0 with the connection.
    Proper,
    /// With the connection, although the last chunk had not come.
    Cut,
    /// With a reset.
    Reset,
}

impl Subscriber {
    /// Subscribes over HTTP/1.1.
    #[track_caller]
    pub fn open(connection: Connection, path: &str) -> Subscriber {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Subscriber::request(connection, request.as_bytes())
    }

    /// Subscribes over HTTP/1.0, as nginx does for its clients unless told otherwise.
    #[track_caller]
    pub fn open_http_10(connection: Connection, path: &str) -> Subscriber {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        Subscriber::request(connection, request.as_bytes())
    }

    /// Subscribes with exactly these bytes.
    #[track_caller]
    pub fn request(mut connection: Connection, request: &[u8]) -> Subscriber {
        connection.send(request);
        Subscriber::begin(connection)
    }

    /// Reads the head of a stream that was asked for.
    #[track_caller]
    pub fn begin(mut connection: Connection) -> Subscriber {
        let head = connection.read_head();
        assert_eq!(head.status(), 200, "{head:?}");
        let is_chunked = head.field("Transfer-Encoding").is_some();
        Subscriber {
            connection,
            head,
            chunks: is_chunked.then(ChunkDecoder::default),
            parser: Parser::default(),
            items: VecDeque::new(),
            body: Vec::new(),
            end: None,
        }
    }

    /// The next item, which has to come.
    #[track_caller]
    pub fn next_item(&mut self) -> Item {
        match self.next_item_or_end() {
            Ok(item) => item,
            Err(end) => panic!("the stream ended ({end:?}) before the next item"),
        }
    }

    /// The next item, or how the stream ended when there is none.
    #[track_caller]
    pub fn next_item_or_end(&mut self) -> Result<Item, End> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Ok(item);
            }
            if let Some(end) = self.end {
                return Err(end);
            }
            self.receive();
        }
    }

    /// The next event, whatever stands before it.
    #[track_caller]
    pub fn next_event(&mut self) -> Event {
        let started = Instant::now();
        loop {
            match self.next_item() {
                Item::Event(event) => return event,
                // Keepalives must not keep a test alive.
                other => assert!(started.elapsed() < DEADLINE, "{other:?} and no event"),
            }
        }
    }

    /// The next so many events' data.
    #[track_caller]
    pub fn next_data(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next_event().data).collect()
    }

    /// The events that were received and not asked for yet.
    pub fn take_events(&mut self) -> Vec<Event> {
        let events = self.items.drain(..).filter_map(|item| match item {
            Item::Event(event) => Some(event),
            Item::Retry(_) | Item::Comment(_) => None,
        });
        events.collect()
    }

    /// What came until the stream ended, and how it ended.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<Event>, End) {
        let started = Instant::now();
        let end = loop {
            match self.end {
                Some(end) => break end,
                None => self.receive(),
            }
            assert!(started.elapsed() < DEADLINE, "the stream does not end");
        };
        (self.take_events(), end)
    }

    /// The stream so far as it was sent, without its transfer coding.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The bytes received so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The ID that the stream has set last, if it has set one.
    pub fn last_event_id(&self) -> Option<&str> {
        self.parser.last_event_id()
    }

    /// Whether what came does not end within an event.
    pub fn is_at_boundary(&self) -> bool {
        self.parser.is_at_boundary()
    }

    /// The connection, for what is not about streams.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The connection, for the next request.
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Leaves with a reset.
    pub fn reset(self) {
        self.connection.reset();
    }

    /// Reads once.
    #[track_caller]
    pub fn receive(&mut self) {
        let bytes = match self.connection.receive() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.end = Some(End::Reset);
                return;
            }
            Err(error) => panic!("{error} on a stream that began with {:?}", self.head),
        };
        if bytes.is_empty() {
            self.end.get_or_insert(match self.chunks {
                Some(_) => End::Cut,
                None => End::Proper,
            });
            return;
        }
        let start = self.body.len();
        match &mut self.chunks {
            Some(chunks) => {
                chunks.feed(&bytes, &mut self.body);
                if chunks.is_done() {
                    self.end = Some(End::Proper);
                }
            }
            None => self.body.extend_from_slice(&bytes),
        }
        let items = &mut self.items;
        self.parser
            .feed(&self.body[start..], &mut |item| items.push_back(item));
    }
}
