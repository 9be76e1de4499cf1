//! An HTTP/1.x client that sends exactly the bytes it is given, and reads replies by their framing.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::DEADLINE;
use super::chunked::ChunkDecoder;

/// One connection to the server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Received, and not yet part of anything that was asked for.
    unread: Vec<u8>,
}

/// The head of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub status_line: String,
    /// Header lines in the order in which they came, as name and value.
    pub fields: Vec<(String, String)>,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    pub head: Head,
    pub body: Vec<u8>,
}

impl Connection {
    /// Connects, and sends every write at once.
    pub fn open(address: SocketAddr) -> Connection {
        Connection::over(TcpStream::connect(address).expect("a connection to the server"))
    }

    /// Connects with so small a buffer for what is received that reading nothing soon stalls the sender.
    pub fn open_narrow(address: SocketAddr, receive_buffer_bytes: usize) -> Connection {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        // It has to be set before the connection is made: that is when the window is agreed on.
        socket
            .set_recv_buffer_size(receive_buffer_bytes)
            .expect("a smaller buffer");
        socket
            .connect(&address.into())
            .expect("a connection to the server");
        Connection::over(socket.into())
    }

    /// Connects from an address of this machine's loopback network, which is all of `127.0.0.0/8`.
    pub fn open_from(source: Ipv4Addr, address: SocketAddr) -> Connection {
        let stream = Connection::try_open_from(source, address);
        Connection::over(stream.expect("a connection to the server"))
    }

    /// Connects from such an address, as a client that the server may refuse, and returns the bare socket.
    pub fn try_open_from(source: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect_timeout(&address.into(), DEADLINE)?;
        Ok(socket.into())
    }

    fn over(stream: TcpStream) -> Connection {
        stream.set_nodelay(true).expect("no delay");
        let connection = Connection {
            stream,
            unread: Vec::new(),
        };
        connection.set_patience(DEADLINE);
        connection
    }

    /// The same connection for another thread, to send while this one reads.
    pub fn try_clone(&self) -> io::Result<Connection> {
        Ok(Connection {
            stream: self.stream.try_clone()?,
            unread: Vec::new(),
        })
    }

    /// Sets how long any read or write may take.
    pub fn set_patience(&self, patience: Duration) {
        let stream = &self.stream;
        stream
            .set_read_timeout(Some(patience))
            .expect("a read timeout");
        stream
            .set_write_timeout(Some(patience))
            .expect("a write timeout");
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("to send");
    }

    /// Sends what there is room for, as far as the server still listens.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    /// Sends each byte by itself, and stops where the server has ended the connection.
    pub fn send_byte_by_byte(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }

    /// Ends our side, as `nc -N` does after its input.
    pub fn shut_down_write(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("to shut down");
    }

    /// Ends both sides with a reset.
    pub fn reset(self) {
        let linger = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("to abandon what is unsent");
    }

    /// Reads once; the bytes, none at the end.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        if !self.unread.is_empty() {
            return Ok(std::mem::take(&mut self.unread));
        }
        let mut buffer = vec![0; 64 * 1024];
        let len = self.read(&mut buffer)?;
        buffer.truncate(len);
        Ok(buffer)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.stream.read(buffer) {
                // A machine that was suspended does this to whoever waits with a timeout.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Reads the head of a reply, informational ones included.
    #[track_caller]
    pub fn read_head(&mut self) -> Head {
        loop {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head = self.unread.drain(..end + 4).collect::<Vec<u8>>();
                return Head::parse(&head);
            }
            self.fill("a head");
        }
    }

    /// Reads a whole reply to any request but HEAD.
    #[track_caller]
    pub fn read_reply(&mut self) -> Reply {
        let head = self.read_head();
        let body = match (head.field("Content-Length"), head.status()) {
            (_, 100..200 | 204) => Vec::new(),
            (Some(len), _) => self.read_exactly(len.parse().expect("a length")),
            (None, _) if head.is_chunked() => self.read_chunks(),
            (None, _) => self.read_to_end(),
        };
        Reply { head, body }
    }

    /// Reads until the server ends the connection properly.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            match self.receive() {
                Ok(more) if more.is_empty() => return bytes,
                Ok(more) => bytes.extend(more),
                Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&bytes)),
            }
        }
        panic!("no end after {}", String::from_utf8_lossy(&bytes));
    }

    /// Makes sure that the server ends the connection now, without a further byte and without a reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let rest = self.read_to_end();
        assert!(
            rest.is_empty(),
            "unexpected: {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    #[track_caller]
    fn read_exactly(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            self.fill("the whole body");
        }
        self.unread.drain(..len).collect()
    }

    #[track_caller]
    fn read_chunks(&mut self) -> Vec<u8> {
        let mut decoder = ChunkDecoder::default();
        let mut body = Vec::new();
        while !decoder.is_done() {
            let byte = self.read_exactly(1);
            decoder.feed(&byte, &mut body);
        }
        body
    }

    #[track_caller]
    fn fill(&mut self, wanted: &str) {
        let mut buffer = [0; 16 * 1024];
        let len = match self.read(&mut buffer) {
            Ok(0) => panic!("the connection ended instead of {wanted}: {self:?}"),
            Ok(len) => len,
            Err(error) => panic!("{error} instead of {wanted}: {self:?}"),
        };
        self.unread.extend_from_slice(&buffer[..len]);
    }
}

impl Head {
    /// Parses a head, and insists on what RFC 9112 asks of a sender.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Head {
        let text = std::str::from_utf8(bytes).expect("a head in ASCII");
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| {
            assert!(!line.contains(['\r', '\n']), "{line:?} has a bare line end");
            let field = line.split_once(": ");
            let (name, value) = field.unwrap_or_else(|| panic!("{line:?} is no header line"));
            (name.to_owned(), value.to_owned())
        });
        let head = Head {
            fields: fields.collect(),
            status_line,
        };
        assert!(head.status_line.starts_with("HTTP/1.1 "), "{head:?}");
        head
    }

    /// The status code.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let code = self.status_line.split(' ').nth(1);
        let code = code.and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("{:?} has no status", self.status_line))
    }

    /// The value of a field that comes at most once.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice in {self:?}");
        value
    }

    /// The header lines without `Date`, which is never twice the same, in alphabetical order.
    pub fn lines_but_date(&self) -> Vec<String> {
        let lines = self.fields.iter().filter(|(name, _)| name != "Date");
        let mut lines: Vec<String> = lines
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        lines.sort();
        lines
    }

    fn is_chunked(&self) -> bool {
        self.field("Transfer-Encoding") == Some("chunked")
    }
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request without a body and with nothing that is not needed.
pub fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}
