//! A small Redis client: sends commands, also pipelined, and reads the replies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::DEADLINE;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Status(String),
    Error(String),
    Integer(i64),
    Bulk(Option<Vec<u8>>),
    Array(Vec<Value>),
}

/// A connection to Redis.
pub struct RedisClient {
    stream: BufReader<Box<dyn ReadWrite>>,
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

/// How many messages are under way at a time: enough to make round trips cheap, and few enough that
/// neither side's buffers matter.
const PIPELINED_MAX: usize = 500;

impl RedisClient {
    pub fn connect_tcp(address: SocketAddr) -> std::io::Result<RedisClient> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(RedisClient::over_tcp(stream))
    }

    /// Over a connection that stands. With [`RedisClient::read_value`] it reads commands as well, which
    /// look like answers.
    pub fn over_tcp(stream: TcpStream) -> RedisClient {
        RedisClient::over(Box::new(stream))
    }

    pub fn connect_unix(path: &Path) -> std::io::Result<RedisClient> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(RedisClient::over(Box::new(stream)))
    }

    fn over(stream: Box<dyn ReadWrite>) -> RedisClient {
        let stream = BufReader::new(stream);
        RedisClient { stream }
    }

    /// Sends a command of words and returns the answer, which must be no error.
    #[track_caller]
    pub fn command(&mut self, words: &str) -> Value {
        let arguments: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        let answer = self.try_command(&arguments).expect("an answer");
        assert!(!matches!(answer, Value::Error(_)), "{words}: {answer:?}");
        answer
    }

    pub fn try_command(&mut self, arguments: &[&[u8]]) -> std::io::Result<Value> {
        let mut bytes = Vec::new();
        encode(&mut bytes, arguments);
        self.stream.get_mut().write_all(&bytes)?;
        self.read_value()
    }

    /// Publishes a message, which must have a subscriber.
    #[track_caller]
    pub fn publish(&mut self, channel: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) {
        self.publish_all([(channel, payload)]);
    }

    /// Publishes messages in this order, each of which must have a subscriber.
    #[track_caller]
    pub fn publish_all<C: AsRef<[u8]>, P: AsRef<[u8]>>(
        &mut self,
        messages: impl IntoIterator<Item = (C, P)>,
    ) {
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let mut bytes = Vec::new();
            let mut count = 0;
            for (channel, payload) in messages.by_ref().take(PIPELINED_MAX) {
                encode(
                    &mut bytes,
                    &[b"PUBLISH", channel.as_ref(), payload.as_ref()],
                );
                count += 1;
            }
            let sent = self.stream.get_mut().write_all(&bytes);
            sent.expect("to send to redis");
            for _ in 0..count {
                let answer = self.read_value().expect("an answer from redis");
                let is_heard = matches!(answer, Value::Integer(1..));
                assert!(is_heard, "nobody received a message: {answer:?}");
            }
        }
    }

    pub fn read_value(&mut self) -> std::io::Result<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let Some(text) = line.strip_suffix("\r\n") else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let rest = text.get(1..).unwrap_or_default();
        let number = || -> i64 { rest.parse().expect("a number") };
        Ok(match text.as_bytes().first() {
            Some(b'+') => Value::Status(rest.to_owned()),
            Some(b'-') => Value::Error(rest.to_owned()),
            Some(b':') => Value::Integer(number()),
            Some(b'$') => Value::Bulk(match usize::try_from(number()) {
                Ok(len) => Some(self.read_bulk(len)?),
                Err(_) => None,
            }),
            Some(b'*') => {
                let values = (0..number()).map(|_| self.read_value());
                Value::Array(values.collect::<std::io::Result<_>>()?)
            }
            _ => panic!("{text:?} is not what redis answers"),
        })
    }

    fn read_bulk(&mut self, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }
}

impl Value {
    /// The text of an answer that is one.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Value::Status(text) => text.clone(),
            Value::Bulk(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("{other:?} is no text"),
        }
    }
}

fn encode(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", arguments.len()).as_bytes());
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
}
