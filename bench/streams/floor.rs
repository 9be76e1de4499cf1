//! The floor: the cost of writing the same bytes to the same sockets with one system call per client and event, and
//! nothing else. It generates its own messages, and has no timeouts, reports or limits: it is the lower bound of that
//! design, not a server.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::Failure;
use super::machine::nanos;
use super::plan::{IDS, Plan, Stream, TICK};

/// The first argument that makes this program the floor.
pub const FLOOR: &str = "--floor";

/// The head and the first bytes of a stream, as long as the server's own.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n\
    Connection: keep-alive\r\nAccess-Control-Allow-Origin: *\r\nX-Accel-Buffering: no\r\n\
    Transfer-Encoding: chunked\r\n\r\n2\r\n:\n\r\n";

const LISTENER: Token = Token(usize::MAX);

/// The longest that a plan is made for.
const SPAN: Duration = Duration::from_secs(60);

/// What it is to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it sends.
    pub stream: Stream,
    /// Messages a second.
    pub per_second: u32,
    /// It begins when so many clients have come.
    pub clients: usize,
}

impl Options {
    /// As arguments of this program.
    pub fn arguments(&self) -> Vec<String> {
        let stream = match self.stream {
            Stream::Eps => "eps",
            Stream::Raw => "raw",
            Stream::Details => "details",
            Stream::Channel => "channel",
        };
        let (address, per_second, clients) = (self.address, self.per_second, self.clients);
        let numbers = [per_second.to_string(), clients.to_string()];
        let mut arguments = vec![FLOOR.to_owned(), address.to_string(), stream.to_owned()];
        arguments.extend(numbers);
        arguments
    }

    /// From what stands behind the first of those.
    pub fn parse(arguments: &[String]) -> Option<Options> {
        let [address, stream, per_second, clients] = arguments else {
            return None;
        };
        Some(Options {
            address: address.parse().ok()?,
            stream: match stream.as_str() {
                "eps" => Stream::Eps,
                "raw" => Stream::Raw,
                "details" => Stream::Details,
                "channel" => Stream::Channel,
                _ => return None,
            },
            per_second: per_second.parse().ok()?,
            clients: clients.parse().ok()?,
        })
    }
}

/// Serves until it is killed.
pub fn run(options: Options) -> Result<(), Failure> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(options.address)?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut floor = Floor {
        clients: Vec::new(),
        by_id: vec![Vec::new(); IDS],
        subscribed: 0,
    };
    let mut schedule = Schedule::new(options);
    let mut began: Option<Instant> = None;
    loop {
        let timeout = began.map(|began| schedule.due().saturating_sub(began.elapsed()));
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            match event.token() {
                LISTENER => floor.accept(&listener, poll.registry())?,
                token => floor.read(token.0, &schedule.plan),
            }
        }
        if began.is_none() && floor.subscribed >= options.clients {
            began = Some(Instant::now());
        }
        if let Some(began) = began {
            // One message a turn, as a turn is: late ones are not collected.
            if schedule.due() <= began.elapsed() {
                schedule.send_next(&mut floor);
            }
        }
    }
}

/// All connected clients.
struct Floor {
    clients: Vec<Option<Client>>,
    /// For each ID, who asked for it.
    by_id: Vec<Vec<usize>>,
    subscribed: usize,
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    /// The rest of a frame that was not taken whole.
    rest: Vec<u8>,
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, registry: &mio::Registry) -> io::Result<()> {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(self.clients.len());
                    registry.register(&mut stream, token, Interest::READABLE)?;
                    self.clients.push(Some(Client {
                        stream,
                        request: Vec::new(),
                        rest: Vec::new(),
                    }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, index: usize, plan: &Plan) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let mut buffer = [0; 4096];
        match client.stream.read(&mut buffer) {
            Ok(0) => self.clients[index] = None,
            Ok(len) => {
                client.request.extend_from_slice(&buffer[..len]);
                if client.request.ends_with(b"\r\n\r\n") {
                    let request = std::mem::take(&mut client.request);
                    let _taken = client.stream.write(HEAD);
                    self.subscribed += 1;
                    if let Some(id) = id_of(&request, plan) {
                        self.by_id[id].push(index);
                    }
                }
            }
            Err(_) => {}
        }
    }
}

impl Client {
    /// One system call, unless the client is behind: then it loses this frame.
    fn send(&mut self, frame: &[u8]) {
        if !self.rest.is_empty() {
            let written = self.stream.write(&self.rest).unwrap_or(0);
            self.rest.drain(..written);
            return;
        }
        match self.stream.write(frame) {
            Ok(written) if written < frame.len() => self.rest.extend_from_slice(&frame[written..]),
            _ => {}
        }
    }
}

/// The index of the ID in a request for details.
fn id_of(request: &[u8], plan: &Plan) -> Option<usize> {
    let text = std::str::from_utf8(request).ok()?;
    let id = text
        .strip_prefix("GET /subscribe/details/")?
        .split(' ')
        .next()?;
    (0..IDS).find(|index| plan.id(*index) == id)
}

/// What is sent, and when.
struct Schedule {
    plan: Plan,
    /// For increments: the frames of all ticks, and when each is due.
    frames: Vec<(Duration, Vec<u8>)>,
    next: usize,
    frame: Vec<u8>,
    body: Vec<u8>,
}

impl Schedule {
    fn new(options: Options) -> Schedule {
        let plan = Plan::new(options.stream, options.per_second, SPAN);
        let frames = match options.stream {
            Stream::Eps => roll_up(&plan),
            Stream::Raw | Stream::Details | Stream::Channel => Vec::new(),
        };
        Schedule {
            plan,
            frames,
            next: 0,
            frame: Vec::new(),
            body: Vec::new(),
        }
    }

    /// When the next frame is due, counted from the beginning.
    fn due(&self) -> Duration {
        let due = match self.plan.stream {
            Stream::Eps => self.frames.get(self.next).map(|(due, _)| *due),
            _ if self.next < self.plan.len() => Some(self.plan.due(self.next)),
            _ => None,
        };
        due.unwrap_or(Duration::MAX)
    }

    fn send_next(&mut self, floor: &mut Floor) {
        let index = self.next;
        self.next += 1;
        if self.plan.stream == Stream::Eps {
            let (_, frame) = &self.frames[index];
            let clients = floor.clients.iter_mut().flatten();
            clients.for_each(|client| client.send(frame));
            return;
        }
        self.body.clear();
        if self.plan.stream == Stream::Details {
            if floor.by_id[self.plan.pick(index)].is_empty() {
                return;
            }
            let name = self.plan.name(index);
            let _infallible = writeln!(self.body, "event:stream.tweet_updates.{name}");
        }
        self.body.extend_from_slice(b"data:");
        self.plan.encode(index, nanos(), &mut self.body);
        self.body.extend_from_slice(b"\n\n");
        self.frame.clear();
        chunk(&self.body, &mut self.frame);
        if matches!(self.plan.stream, Stream::Raw | Stream::Channel) {
            let clients = floor.clients.iter_mut().flatten();
            clients.for_each(|client| client.send(&self.frame));
            return;
        }
        for &client in &floor.by_id[self.plan.pick(index)] {
            if let Some(client) = &mut floor.clients[client] {
                client.send(&self.frame);
            }
        }
    }
}

/// The frames of all ticks.
fn roll_up(plan: &Plan) -> Vec<(Duration, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut next = 0;
    for tick in 1.. {
        let due = TICK * tick;
        let mut counts: Vec<(&str, u64)> = Vec::new();
        while next < plan.len() && plan.due(next) <= due {
            let name = plan.name(next);
            match counts.iter_mut().find(|(counted, _)| *counted == name) {
                Some((_, count)) => *count += 1,
                None => counts.push((name, 1)),
            }
            next += 1;
        }
        let pairs = counts
            .iter()
            .map(|(name, count)| format!("\"{name}\":{count}"));
        let pairs: Vec<String> = pairs.collect();
        if !pairs.is_empty() {
            let mut frame = Vec::new();
            chunk(
                format!("data:{{{}}}\n\n", pairs.join(",")).as_bytes(),
                &mut frame,
            );
            frames.push((due, frame));
        }
        if next == plan.len() {
            break;
        }
    }
    frames
}

fn chunk(body: &[u8], out: &mut Vec<u8>) {
    let _infallible = write!(out, "{:x}\r\n", body.len());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}
