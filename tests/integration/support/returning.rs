//! A client that reconnects like a browser: it waits for the retry time, and sends its last id.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::http::Connection;
use super::sse::{Event, Item};
use super::subscriber::{End, Subscriber};

/// How the id is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdIn {
    /// As a browser does it.
    Header,
    /// As a page does it that has no browser's help.
    Query,
}

/// A client of one stream over any number of connections.
pub struct Returning {
    address: SocketAddr,
    path: String,
    id_in: IdIn,
    /// As browsers keep it: until another one comes, and an empty one is none.
    id: String,
    pause: Duration,
    stream: Option<Subscriber>,
    /// How often a stream has ended with an id to come back with.
    pub forced: usize,
}

impl Returning {
    /// Subscribes for the first time.
    #[track_caller]
    pub fn subscribe(address: SocketAddr, path: &str, id_in: IdIn) -> Returning {
        let mut client = Returning {
            address,
            path: path.to_owned(),
            id_in,
            id: String::new(),
            pause: Duration::ZERO,
            stream: None,
            forced: 0,
        };
        client.connect();
        client
    }

    /// The next event, over as many connections as it takes.
    #[track_caller]
    pub fn next_event(&mut self) -> Event {
        loop {
            let stream = self.stream.as_mut().expect("a stream");
            match stream.next_item_or_end() {
                Ok(Item::Event(event)) => return event,
                Ok(Item::Retry(retry_ms)) => self.pause = Duration::from_millis(retry_ms),
                Ok(Item::Comment(_)) => {}
                Err(end) => {
                    assert_eq!(end, End::Proper, "{} was cut off", self.path);
                    if let Some(id) = stream.last_event_id() {
                        id.clone_into(&mut self.id);
                    }
                    assert!(!self.id.is_empty(), "{} ended without an id", self.path);
                    self.forced += 1;
                    thread::sleep(self.pause);
                    self.connect();
                }
            }
        }
    }

    #[track_caller]
    fn connect(&mut self) {
        let (path, id) = (&self.path, &self.id);
        let request = match self.id_in {
            _ if id.is_empty() => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            IdIn::Header => {
                format!("GET {path} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n")
            }
            IdIn::Query => format!("GET {path}?lastEventId={id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        let connection = Connection::open(self.address);
        self.stream = Some(Subscriber::request(connection, request.as_bytes()));
    }
}
