//! A crowd: any number of stream clients on one thread.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::DEADLINE;
use super::chunked::ChunkDecoder;
use super::http::Head;
use super::sse::{Event, Item, Parser};

/// Clients, each of which has asked for a stream over HTTP/1.1.
pub struct Crowd {
    poll: Poll,
    events: Events,
    members: Vec<Member>,
    buffer: Vec<u8>,
}

struct Member {
    stream: TcpStream,
    /// What came of the head, until it is whole.
    head: Vec<u8>,
    begun: bool,
    ended: bool,
    chunks: ChunkDecoder,
    body: Vec<u8>,
    parser: Parser,
}

impl Crowd {
    /// Connects one client for each path, and waits until all streams have begun.
    #[track_caller]
    pub fn subscribe(address: SocketAddr, paths: impl IntoIterator<Item = String>) -> Crowd {
        let poll = Poll::new().expect("a poll");
        let connect = |(index, path): (usize, String)| {
            let mut stream = std::net::TcpStream::connect(address).expect("a connection");
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("to send");
            stream.set_nonblocking(true).expect("not to block");
            let mut stream = TcpStream::from_std(stream);
            let registered =
                poll.registry()
                    .register(&mut stream, Token(index), Interest::READABLE);
            registered.expect("to watch a socket");
            Member::new(stream)
        };
        let members = paths.into_iter().enumerate().map(connect).collect();
        let mut crowd = Crowd {
            poll,
            events: Events::with_capacity(1024),
            members,
            buffer: vec![0; 64 * 1024],
        };
        crowd.run_until(
            "all streams have begun",
            |crowd| crowd.members.iter().all(|member| member.begun),
            |_, event| panic!("{event:?} came before anything was published"),
        );
        crowd
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// How many of the streams have ended.
    pub fn ended(&self) -> usize {
        self.members.iter().filter(|member| member.ended).count()
    }

    /// Receives until the condition holds. Each event is handed over with its client's number; what is
    /// no event is passed over.
    #[track_caller]
    pub fn run_until(
        &mut self,
        what: &str,
        mut condition: impl FnMut(&Crowd) -> bool,
        mut take: impl FnMut(usize, Event),
    ) {
        let started = Instant::now();
        while !condition(self) {
            assert!(
                started.elapsed() < DEADLINE,
                "waited in vain until {what}; {} of {} streams ended",
                self.ended(),
                self.len()
            );
            self.receive(&mut take);
        }
    }

    #[track_caller]
    fn receive(&mut self, take: &mut impl FnMut(usize, Event)) {
        let polled = self
            .poll
            .poll(&mut self.events, Some(Duration::from_millis(20)));
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            other => other.expect("to poll"),
        }
        for event in &self.events {
            let index = event.token().0;
            let mut take_item = |item| {
                if let Item::Event(event) = item {
                    take(index, event);
                }
            };
            self.members[index].receive(&mut self.buffer, &mut take_item);
        }
    }
}

impl Member {
    fn new(stream: TcpStream) -> Member {
        Member {
            stream,
            head: Vec::new(),
            begun: false,
            ended: false,
            chunks: ChunkDecoder::default(),
            body: Vec::new(),
            parser: Parser::default(),
        }
    }

    /// Readiness is an edge: reads until there is nothing more.
    #[track_caller]
    fn receive(&mut self, buffer: &mut [u8], take: &mut impl FnMut(Item)) {
        while !self.ended {
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(len) => self.take_in(&buffer[..len], take),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => panic!("a stream failed: {error}"),
            }
        }
    }

    #[track_caller]
    fn take_in(&mut self, bytes: &[u8], take: &mut impl FnMut(Item)) {
        let mut rest = bytes;
        while !self.begun {
            let Some((&byte, others)) = rest.split_first() else {
                return;
            };
            rest = others;
            self.head.push(byte);
            if self.head.ends_with(b"\r\n\r\n") {
                let head = Head::parse(&self.head);
                assert_eq!(head.status(), 200, "{head:?}");
                self.begun = true;
            }
        }
        self.body.clear();
        self.chunks.feed(rest, &mut self.body);
        self.parser.feed(&self.body, take);
        self.ended |= self.chunks.is_done();
    }
}
