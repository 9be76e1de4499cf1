//! Drives sessions over plain blocking sockets, without the reactor. One thread advances one or more sessions step by
//! step until the condition of a test holds.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use emojitrack_streamer::broker::Message;
use emojitrack_streamer::broker::Unanswered;
use emojitrack_streamer::broker::amqp::{Endpoint, ExchangeType, Session};
use emojitrack_streamer::broker::link::Conversation;
use emojitrack_streamer::broker::link::dialer::Intent;
use emojitrack_streamer::level::Level;
use emojitrack_streamer::net::Peer;
use emojitrack_streamer::time::Time;

use crate::rabbit::Rabbit;

/// How long a test waits for anything that should happen at once. It is only ever used up by a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A session and its socket.
pub struct Driver {
    pub amqp: Session,
    pub messages: Vec<Message>,
    pub answers: Vec<(u64, Result<(), Unanswered>)>,
    pub log: Vec<(Level, String)>,
    socket: Option<TcpStream>,
    started: Instant,
    buffer: Vec<u8>,
}

/// The broker as `guest` finds it.
pub fn endpoint(rabbit: &Rabbit, exchange: &str, exchange_type: ExchangeType) -> Endpoint {
    Endpoint {
        host: "127.0.0.1".to_owned(),
        port: rabbit.address().port(),
        username: "guest".to_owned(),
        password: "guest".to_owned(),
        vhost: "/".to_owned(),
        exchange: exchange.to_owned(),
        exchange_type,
    }
}

impl Driver {
    /// A session that has not begun to connect.
    pub fn new(endpoint: Endpoint) -> Driver {
        Driver {
            amqp: Session::new(endpoint, "test", 1),
            messages: Vec::new(),
            answers: Vec::new(),
            log: Vec::new(),
            socket: None,
            started: Instant::now(),
            buffer: vec![0; 64 * 1024],
        }
    }

    /// A session that is live.
    #[track_caller]
    pub fn live(endpoint: Endpoint) -> Driver {
        let mut driver = Driver::new(endpoint);
        driver.run_until("it is live", |driver| driver.amqp.is_live());
        driver
    }

    /// Listens to channels, and waits until the broker sends them.
    #[track_caller]
    pub fn listen(&mut self, channels: &[&str]) {
        for channel in channels {
            self.amqp.subscribe(channel.as_bytes(), false);
        }
        self.run_until("all is bound", |driver| driver.amqp.unsettled() == 0);
    }

    /// Publishes, and waits for the answer.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, payload: &[u8]) -> Result<(), Unanswered> {
        let id = 1_000_000 + self.answers.len() as u64;
        self.amqp.publish(id, channel.as_bytes(), payload)?;
        self.run_until("there is an answer", |driver| {
            driver.answers.iter().any(|(answered, _)| *answered == id)
        });
        let (_, answer) = self
            .answers
            .iter()
            .find(|(answered, _)| *answered == id)
            .expect("it is there");
        answer.clone()
    }

    /// The first line of the log with all of these words, once it is there.
    #[track_caller]
    pub fn wait_for_log(&mut self, words: &[&str]) -> String {
        let fits = |line: &str| words.iter().all(|word| line.contains(word));
        self.run_until(&format!("the log says {words:?}"), |driver| {
            driver.log.iter().any(|(_, line)| fits(line))
        });
        let line = self.log.iter().find(|(_, line)| fits(line));
        line.expect("it is there").1.clone()
    }

    /// Waits for so many messages and takes them, as channels and payloads.
    #[track_caller]
    pub fn take_messages(&mut self, count: usize) -> Vec<(String, String)> {
        self.run_until(&format!("there are {count} messages"), |driver| {
            driver.messages.len() >= count
        });
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let messages = self.messages.drain(..);
        messages
            .map(|message| (text(message.channel), text(message.payload)))
            .collect()
    }

    /// Drives the session until the condition holds.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, condition: impl Fn(&Driver) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            assert!(
                started.elapsed() < DEADLINE,
                "waited in vain until {what}: {:?} {:?}",
                self.log,
                self.answers
            );
            self.step();
        }
    }

    /// Drives the session for a time.
    pub fn run_for(&mut self, span: Duration) {
        let started = Instant::now();
        while started.elapsed() < span {
            self.step();
        }
    }

    fn now(&self) -> Time {
        Time::from_micros(self.started.elapsed().as_micros() as u64)
    }

    /// What is due, what is wished, what is to be sent, and a look at what has come.
    pub fn step(&mut self) {
        self.amqp.on_time(self.now());
        self.follow_intents();
        self.write();
        self.read();
        self.follow_intents();
        self.answers
            .extend(std::iter::from_fn(|| self.amqp.poll_answer()));
    }

    fn follow_intents(&mut self) {
        while let Some(intent) = self.amqp.dialer_mut().poll_intent() {
            match intent {
                Intent::Log(level, line) => self.log.push((level, line)),
                Intent::Disconnect => self.socket = None,
                Intent::Resolve(host, port) => {
                    let addresses = (host.as_str(), port).to_socket_addrs();
                    self.amqp
                        .on_resolved(addresses.map(Iterator::collect), self.now());
                }
                Intent::Connect(Peer::Tcp { address, .. }) => match TcpStream::connect(address) {
                    Ok(socket) => {
                        socket
                            .set_read_timeout(Some(Duration::from_millis(2)))
                            .expect("a socket");
                        self.socket = Some(socket);
                        self.amqp.on_connected(self.now());
                    }
                    Err(error) => self.amqp.on_lost(Some(error), self.now()),
                },
                Intent::Connect(peer) => panic!("{peer:?}"),
            }
        }
    }

    fn write(&mut self) {
        while let Some(socket) = &mut self.socket
            && !self.amqp.unsent().is_empty()
        {
            match socket.write(self.amqp.unsent()) {
                Ok(len) => self.amqp.on_sent(len),
                Err(error) => return self.amqp.on_lost(Some(error), self.now()),
            }
        }
    }

    fn read(&mut self) {
        let Some(socket) = &mut self.socket else {
            std::thread::sleep(Duration::from_millis(2));
            return;
        };
        let len = match socket.read(&mut self.buffer) {
            Ok(0) => return self.amqp.on_lost(None, self.now()),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return;
            }
            Err(error) => return self.amqp.on_lost(Some(error), self.now()),
        };
        let now = self.now();
        let mut input = &self.buffer[..len];
        while let Some(message) = self.amqp.next_message(&mut input, now) {
            self.messages.push(message);
        }
    }
}
