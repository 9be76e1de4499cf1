//! The publisher: sends the plan's messages when they are due, on a thread of its own. It owns the
//! schedule and the two ways to publish; it must not know the receivers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Failure;
use super::machine::nanos;
use super::plan::{CHANNEL, Plan, Stream, TICK};

/// How messages reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The server makes them by itself.
    None,
    /// `PUBLISH` to the Redis at this address.
    Redis(SocketAddr),
    /// `POST /pub/<channel>` to the server. Increments are rolled up here, once a tick: that work is not
    /// counted as the server's.
    Posts(SocketAddr),
}

impl Way {
    /// Whether messages come from here.
    pub fn is_external(self) -> bool {
        self != Way::None
    }
}

/// The silence after which there will be no more answers.
const LAST_REPLY: Duration = Duration::from_millis(200);

/// How long answers are waited for. Who has not answered by then is as far behind as its clients are.
const LAST_REPLIES: Duration = Duration::from_secs(1);

/// A publisher at work.
pub struct Publisher {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<usize>>,
}

impl Publisher {
    /// Begins with the first message of the plan.
    ///
    /// # Errors
    /// Where the way is not open.
    pub fn start(way: Way, plan: &Arc<Plan>) -> Result<Option<Publisher>, Failure> {
        let mut sink = match way {
            Way::None => return Ok(None),
            Way::Redis(address) => Sink::redis(address)?,
            Way::Posts(address) => Sink::posts(address)?,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (plan, until) = (Arc::clone(plan), Arc::clone(&stop));
        let thread = thread::spawn(move || publish(&plan, &mut sink, &until));
        Ok(Some(Publisher { stop, thread }))
    }

    /// Says that nothing more is to be sent.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether everything is on its way.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for that, and says how many messages were sent.
    ///
    /// # Errors
    /// Where they could not be sent.
    pub fn stop(self) -> Result<usize, Failure> {
        self.halt();
        let joined = self.thread.join();
        let published = joined.map_err(|_| "the publisher failed")?;
        published.map_err(|error| format!("the publisher failed: {error}").into())
    }
}

fn publish(plan: &Plan, sink: &mut Sink, stop: &AtomicBool) -> io::Result<usize> {
    let started = Instant::now();
    let mut next = 0;
    let mut payload = Vec::new();
    while next < plan.len() && !stop.load(Ordering::Relaxed) {
        let elapsed = started.elapsed();
        while next < plan.len() && plan.due(next) <= elapsed {
            payload.clear();
            plan.encode(next, nanos(), &mut payload);
            sink.add(plan, next, &payload);
            next += 1;
        }
        sink.send(elapsed)?;
        if next < plan.len() {
            let wait = plan.due(next).saturating_sub(started.elapsed());
            // Not so long that a stop would have to wait, or a tick that is being rolled up.
            thread::sleep(wait.min(Duration::from_millis(2)));
        }
    }
    sink.send(Duration::MAX)?;
    sink.finish()?;
    Ok(next)
}

/// Messages on their way.
struct Sink {
    connection: TcpStream,
    /// Written and not yet sent.
    out: Vec<u8>,
    /// For posts: the increments of the tick that is being counted, and which tick it is.
    counts: Option<(BTreeMap<&'static str, u64>, u128)>,
}

impl Sink {
    fn redis(address: SocketAddr) -> io::Result<Sink> {
        let mut sink = Sink::new(address)?;
        // Answers would cost the loader's core what nobody reads.
        sink.out.extend_from_slice(b"CLIENT REPLY OFF\r\n");
        sink.send(Duration::ZERO)?;
        Ok(sink)
    }

    fn posts(address: SocketAddr) -> io::Result<Sink> {
        let mut sink = Sink::new(address)?;
        sink.counts = Some((BTreeMap::new(), 0));
        Ok(sink)
    }

    fn new(address: SocketAddr) -> io::Result<Sink> {
        let connection = TcpStream::connect(address)?;
        connection.set_nodelay(true)?;
        connection.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Sink {
            connection,
            out: Vec::new(),
            counts: None,
        })
    }

    fn add(&mut self, plan: &Plan, index: usize, payload: &[u8]) {
        match (&mut self.counts, plan.stream) {
            (Some((counts, _)), Stream::Eps) => *counts.entry(plan.name(index)).or_default() += 1,
            (Some(_), Stream::Raw | Stream::Channel) => self.post("raw", payload),
            (Some(_), Stream::Details) => self.post(plan.name(index), payload),
            (None, Stream::Eps | Stream::Raw) => self.command("stream.score_updates", payload),
            (None, Stream::Channel) => self.command(CHANNEL, payload),
            (None, Stream::Details) => {
                let channel = format!("stream.tweet_updates.{}", plan.name(index));
                self.command(&channel, payload);
            }
        }
    }

    /// Sends what is there; of increments, those of ticks that are over.
    fn send(&mut self, elapsed: Duration) -> io::Result<()> {
        if let Some((counts, tick)) = &mut self.counts {
            let present = elapsed.as_nanos() / TICK.as_nanos();
            if present > *tick && !counts.is_empty() {
                let pairs = counts
                    .iter()
                    .map(|(name, count)| format!("\"{name}\":{count}"));
                let object = format!("{{{}}}", pairs.collect::<Vec<_>>().join(","));
                counts.clear();
                *tick = present;
                self.post("eps", object.as_bytes());
            }
        }
        if self.out.is_empty() {
            return Ok(());
        }
        self.connection.write_all(&self.out)?;
        self.out.clear();
        if self.counts.is_some() {
            self.discard_replies()?;
        }
        Ok(())
    }

    fn command(&mut self, channel: &str, payload: &[u8]) {
        let (channel_len, payload_len) = (channel.len(), payload.len());
        let _infallible = write!(
            self.out,
            "*3\r\n$7\r\nPUBLISH\r\n${channel_len}\r\n{channel}\r\n${payload_len}\r\n"
        );
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
    }

    fn post(&mut self, channel: &str, payload: &[u8]) {
        let len = payload.len();
        let _infallible = write!(
            self.out,
            "POST /pub/{channel} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len}\r\n\r\n"
        );
        self.out.extend_from_slice(payload);
    }

    /// Waits for the answers to posts, for some time: to close before would take back what was sent.
    fn finish(&mut self) -> io::Result<()> {
        if self.counts.is_some() {
            self.connection.set_read_timeout(Some(LAST_REPLY))?;
            let mut buffer = [0; 16 * 1024];
            let started = Instant::now();
            while started.elapsed() < LAST_REPLIES
                && self.connection.read(&mut buffer).is_ok_and(|len| len > 0)
            {}
        }
        Ok(())
    }

    fn discard_replies(&mut self) -> io::Result<()> {
        self.connection.set_nonblocking(true)?;
        let mut buffer = [0; 16 * 1024];
        let result = loop {
            match self.connection.read(&mut buffer) {
                Ok(0) => break Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.connection.set_nonblocking(false)?;
        result
    }
}
