//! Simulated clients: each makes a request, reads at its own pace, and leaves at random. This module owns their behaviour
//! and what each received; `emoji_verdict` judges it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use emojitrack_streamer::net::Door;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::net::{PipeId, SimNet};
use crate::plain_requests::plain_requests;
use crate::published::IDS;
use crate::receiver::{Event, Receiver};
use crate::steps::Steps;

/// What a client is there for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    Raw,
    Eps,
    Details,
    Detail(&'static str),
    Kiosk,
    /// Raw and the tweets of two IDs over one connection: everything in the order in which it was published.
    Several(&'static str, &'static str),
    /// Eps and the tweets of an ID over one connection.
    EpsAnd(&'static str),
    /// Plain requests on one connection: the statuses that must come back, in order, and then whether
    /// the server ends the connection.
    Requests(Vec<u16>, bool),
    /// A head that never ends.
    EndlessHead,
    /// A connection on which nothing is ever sent.
    Silence,
}

/// How a client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Fast,
    /// A few bytes at a time.
    Slow,
    /// Not at all between two moments.
    Stalls(Time, Time),
    /// Not at all from a moment on, and without a word: a router hides it.
    Vanishes(Time),
}

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    Stays,
    Closes(Time),
    Resets(Time),
    /// The kernel gives it up.
    TimesOut(Time),
    /// It stops reading, hidden by a router, and asks on another connection for the end of its stream.
    CleansUp(Time),
}

pub struct Client {
    pub wish: Wish,
    pub reading: Reading,
    pub leaving: Leaving,
    pub starts_at: Time,
    /// The door that it comes to.
    door: Door,
    client_ip: IpAddr,
    request: Vec<u8>,
    head_len: usize,
    sent: usize,
    /// Bytes sent at a time.
    piece: usize,
    half_closes: bool,
    /// Bytes that fit on the way to it.
    room: usize,
    pub pipe: Option<PipeId>,
    /// Whether a stream came over that connection before.
    reuses: bool,
    pub receiver: Receiver,
    /// Events of earlier connections of the same client.
    earlier: Vec<Event>,
    /// Whether it comes back when the server ends its stream, as a browser does.
    pub comes_back: bool,
    /// Whether it does so as well when the network ends its stream.
    resumes: bool,
    pub comebacks: usize,
    token: String,
    /// The connection on which it asks for a cleanup, and what came of that.
    pub cleanup: Option<(PipeId, Receiver)>,
    pub gone: bool,
    next_at: Time,
    /// Until when something may happen at any time.
    busy_until: Time,
    /// Messages delivered when the request was sent, and when the first byte of the answer came.
    pub asked_at: Option<(Time, usize)>,
    pub answered_at: Option<(Time, usize)>,
    /// When the client connected, and when it last received anything.
    pub dialed_at: Option<Time>,
    pub received_at: Time,
    pub silence_max: Duration,
    pub refused: bool,
    /// Whether the client was connected when the server was asked to end, and was ended in good time.
    pub was_there: bool,
    pub ended_in_time: bool,
    steps: Steps,
}

impl Client {
    /// A client whose every choice comes from `random`. Where the admin is apart, each door leads to something
    /// else; else all that there is can be had through both. Where `only_eps`, no other stream is wished for.
    pub fn new(
        random: &mut Random,
        number: u64,
        busy_until: Time,
        (comes_back, resumes): (bool, bool),
        only_eps: bool,
        admin_is_apart: bool,
    ) -> Client {
        let starts_at = Time::from_micros(random.below(busy_until.as_micros()));
        let after = |random: &mut Random| {
            starts_at + random.between(Duration::ZERO, Duration::from_secs(8))
        };
        let mut wish = wish(random, only_eps);
        let is_plain = matches!(wish, Wish::Requests(..) | Wish::EndlessHead | Wish::Silence);
        let door = match random.one_in(3) && (is_plain || !admin_is_apart) {
            true => Door::Admin,
            false => Door::Public,
        };
        let mut receiver = Receiver::default();
        let request = match &mut wish {
            Wish::Requests(statuses, ends) => {
                let mut head_only = Vec::new();
                let bytes;
                let only = admin_is_apart.then_some(door);
                (bytes, *statuses, *ends) = plain_requests(random, &mut head_only, only);
                receiver.head_only = head_only.into();
                bytes
            }
            other => request(random, other),
        };
        let reading = match random.below(10) {
            0..=4 => Reading::Fast,
            5 => Reading::Slow,
            6 | 7 => {
                let from = after(random);
                Reading::Stalls(
                    from,
                    from + random.between(Duration::ZERO, Duration::from_secs(6)),
                )
            }
            8 => Reading::Vanishes(after(random)),
            _ => Reading::Fast,
        };
        let leaving = match random.below(10) {
            0 => Leaving::Closes(after(random)),
            1 => Leaving::Resets(after(random)),
            2 if random.one_in(3) => Leaving::TimesOut(after(random)),
            3 if matches!(wish, Wish::Eps | Wish::Detail(_)) => Leaving::CleansUp(after(random)),
            _ => Leaving::Stays,
        };
        let token = format!("t{number}");
        let request = match leaving {
            Leaving::CleansUp(_) if random.one_in(2) => {
                replace(&request, " HTTP/", &format!("?token={token} HTTP/"))
            }
            _ => request,
        };
        Client {
            earlier: Vec::new(),
            comes_back,
            resumes,
            comebacks: 0,
            token: if request.windows(7).any(|part| part == b"?token=") {
                token
            } else {
                String::new()
            },
            cleanup: None,
            piece: if random.one_in(4) {
                1 + random.below(3) as usize
            } else {
                request.len().max(1)
            },
            half_closes: random.one_in(8) && wish != Wish::EndlessHead,
            // Whoever is to keep up must be able to: the broker may send a quarter of this at once.
            room: if reading == Reading::Fast || random.one_in(2) {
                512 * 1024
            } else {
                200 + random.below(4_000) as usize
            },
            door,
            client_ip: IpAddr::V4(Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8)),
            wish,
            reading,
            leaving,
            starts_at,
            head_len: head_len(&request),
            request,
            sent: 0,
            pipe: None,
            reuses: false,
            receiver,
            gone: false,
            next_at: starts_at,
            busy_until: busy_until + Duration::from_secs(8),
            asked_at: None,
            answered_at: None,
            dialed_at: None,
            received_at: Time::ZERO,
            silence_max: Duration::ZERO,
            refused: false,
            was_there: false,
            ended_in_time: false,
            steps: Steps::default(),
        }
    }

    /// Whether this client is always there and takes everything at once.
    pub fn is_reliable(&self) -> bool {
        self.reading == Reading::Fast && self.leaving == Leaving::Stays && !self.refused
    }

    /// Whether little fits on the way to this client.
    pub fn is_narrow(&self) -> bool {
        self.room < 512 * 1024
    }

    /// Its last steps, as lines.
    pub fn tell_steps(&self) -> String {
        self.steps.tell(&format!("the client of {:?}", self.wish))
    }

    pub fn next_at(&self) -> Time {
        if self.gone {
            Time::from_micros(u64::MAX)
        } else {
            self.next_at
        }
    }

    pub fn act(
        &mut self,
        net: &mut SimNet,
        random: &mut Random,
        now: Time,
        delivered: usize,
    ) -> Result<(), String> {
        if self.gone || now < self.next_at {
            return Ok(());
        }
        if let Some((pipe, receiver)) = &mut self.cleanup {
            receiver.receive(&net.peer_read(*pipe, usize::MAX))?;
            self.next_at = now + Duration::from_millis(20);
            return Ok(());
        }
        let Some(pipe) = self.pipe else {
            self.pipe = net.dial(self.door, self.client_ip, self.room);
            self.refused = self.pipe.is_none();
            self.gone = self.refused;
            self.dialed_at = Some(now);
            self.steps
                .note(now, "dialed, with room for", self.room, b"");
            return Ok(());
        };
        self.send(net, pipe, now, delivered);
        self.leave(net, pipe, now);
        if self.gone || self.pipe.is_none() {
            return Ok(());
        }
        self.receive(net, random, pipe, now, delivered)?;
        let is_closed = net.peer_sees_end(pipe);
        // Who reads slowly may come to the end when the server has waited for a request in vain.
        let is_prompt = self.reading == Reading::Fast && self.comes_back;
        if is_closed && is_prompt && self.reuses && !self.receiver.streaming {
            return Err("no answer to a request behind a stream".to_owned());
        }
        let is_over = is_closed || self.receiver.terminated;
        if is_over && self.comes_back && !self.receiver.last_event_id.is_empty() {
            let pause = random.between(Duration::from_millis(100), Duration::from_secs(2));
            self.reuses = !is_closed && self.may_reuse() && random.one_in(2);
            self.come_back(now + pause);
            if !self.reuses {
                net.peer_close(pipe);
                self.pipe = None;
            }
            return Ok(());
        }
        // On a grid, so that several act between two turns; coarser when nothing is to be expected.
        let (grid, steps) = if now < self.busy_until {
            (1_000, 12)
        } else {
            (5_000, 30)
        };
        let next = now.as_micros() / grid + 1 + random.below(steps);
        self.next_at = Time::from_micros(next * grid);
        Ok(())
    }

    /// Takes all that is there, at the very end.
    pub fn receive_all(&mut self, net: &mut SimNet) -> Result<(), String> {
        let Some(pipe) = self.pipe.filter(|_| !self.gone) else {
            return Ok(());
        };
        let bytes = net.peer_read(pipe, usize::MAX);
        self.receiver.receive(&bytes)
    }

    fn send(&mut self, net: &mut SimNet, pipe: PipeId, now: Time, delivered: usize) {
        if self.sent == self.request.len() {
            return;
        }
        let end = (self.sent + self.piece).min(self.request.len());
        let bytes = &self.request[self.sent..end];
        net.peer_write(pipe, bytes);
        self.steps.note(now, "sent", bytes.len(), bytes);
        self.sent = end;
        // What follows the head of a subscription is not waited for.
        if end >= self.head_len && self.asked_at.is_none() {
            self.asked_at = Some((now, delivered));
        }
        if end == self.request.len() && self.half_closes {
            net.peer_shutdown(pipe);
            self.steps.note(now, "sent its end after", end, b"");
        }
    }

    fn leave(&mut self, net: &mut SimNet, pipe: PipeId, now: Time) {
        match self.leaving {
            Leaving::Closes(at) if at <= now => net.peer_close(pipe),
            Leaving::Resets(at) if at <= now => net.peer_reset(pipe),
            Leaving::TimesOut(at) if at <= now => net.time_out(pipe),
            Leaving::CleansUp(at) if at <= now && self.receiver.streaming => {
                self.steps.note(now, "asked for a cleanup of", 1, b"");
                return self.clean_up(net);
            }
            _ => return,
        }
        if self.resumes && !self.receiver.last_event_id.is_empty() {
            self.leaving = Leaving::Stays;
            self.reuses = false;
            self.pipe = None;
            return self.come_back(now + Duration::from_millis(100));
        }
        self.gone = true;
        self.steps
            .note(now, "left after events", self.receiver.events.len(), b"");
    }

    fn clean_up(&mut self, net: &mut SimNet) {
        let scope = match &self.wish {
            Wish::Detail(id) => format!("details/{}", encoded(id)),
            _ => "scores".to_owned(),
        };
        let query = match self.token.as_str() {
            "" => String::new(),
            token => format!("?token={token}"),
        };
        // With a token it does not matter where the request comes from.
        let client_ip = match self.token.as_str() {
            "" => self.client_ip,
            _ => IpAddr::V4(Ipv4Addr::new(172, 16, 0, 1)),
        };
        if let Some(pipe) = net.dial(self.door, client_ip, 512 * 1024) {
            let head = format!("POST /subscribe/cleanup/{scope}{query} HTTP/1.1\r\nHost: a\r\n");
            let head = format!("{head}Content-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
            net.peer_write(pipe, head.as_bytes());
            self.cleanup = Some((pipe, Receiver::default()));
        }
    }

    /// Whether the server has to let the connection be used again after a stream.
    fn may_reuse(&self) -> bool {
        let has = |part: &str| find(&self.request, part).is_some();
        has(" HTTP/1.1\r\n")
            && !has("Connection: close")
            && self.head_len == self.request.len()
            && !self.half_closes
    }

    /// Comes back at this moment, as `EventSource` does: with the id that came last.
    fn come_back(&mut self, at: Time) {
        self.comebacks += 1;
        let id = self.receiver.last_event_id.as_bytes();
        let what = match self.reuses {
            true => "was ended; asks again, times",
            false => "was ended; comes back, times",
        };
        self.steps.note(at, what, self.comebacks, id);
        self.next_at = at;
        self.earlier.append(&mut self.receiver.events);
        let last_event_id = std::mem::take(&mut self.receiver.last_event_id);
        let line = format!("Host: a\r\nLast-Event-ID: {last_event_id}\r\n");
        if let Some(start) = find(&self.request, "Last-Event-ID: ") {
            let end = self.request[start..].iter().position(|&byte| byte == b'\n');
            self.request.drain(start..=start + end.unwrap_or(0));
        }
        self.request = replace(&self.request, "Host: a\r\n", &line);
        self.head_len = head_len(&self.request);
        self.sent = 0;
        self.piece = self.request.len();
        self.receiver = Receiver::default();
        self.receiver.last_event_id = last_event_id;
        self.received_at = Time::ZERO;
    }

    /// All events of all connections, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.earlier.iter().chain(&self.receiver.events)
    }

    fn receive(
        &mut self,
        net: &mut SimNet,
        random: &mut Random,
        pipe: PipeId,
        now: Time,
        delivered: usize,
    ) -> Result<(), String> {
        let max = match self.reading {
            Reading::Fast => usize::MAX,
            Reading::Slow => 1 + random.below(300) as usize,
            Reading::Stalls(from, until) if from <= now && now < until => return Ok(()),
            Reading::Vanishes(from) if from <= now => return Ok(()),
            Reading::Stalls(..) | Reading::Vanishes(_) => usize::MAX,
        };
        let bytes = net.peer_read(pipe, max);
        if bytes.is_empty() {
            return Ok(());
        }
        if self.answered_at.is_none() {
            self.answered_at = Some((now, delivered));
        } else if self.received_at > Time::ZERO {
            self.silence_max = self.silence_max.max(now.since(self.received_at));
        }
        self.received_at = now;
        self.steps.note(now, "received", bytes.len(), &bytes);
        let was_streaming = self.receiver.streaming;
        self.receiver.receive(&bytes)?;
        let wants_close = find(&self.request, " HTTP/1.0\r\n").is_some()
            || find(&self.request, "Connection: close").is_some();
        // A stream that is over with its first bytes, as while the server stops, has a length.
        let receiver = &self.receiver;
        let lets_reuse = receiver.chunked && !wants_close;
        let is_wrong = receiver.streaming && receiver.keeps_alive != lets_reuse;
        match !was_streaming && is_wrong && !matches!(self.wish, Wish::Requests(..)) {
            true => Err(format!("a head that keeps alive: {}", !wants_close)),
            false => Ok(()),
        }
    }
}

fn wish(random: &mut Random, only_eps: bool) -> Wish {
    match random.below(20) {
        0..=15 if only_eps => Wish::Eps,
        0..=3 => Wish::Raw,
        4..=7 => Wish::Eps,
        8 => Wish::Several(id(random), id(random)),
        9 => Wish::EpsAnd(id(random)),
        10 | 11 => Wish::Details,
        12..=14 => Wish::Detail(id(random)),
        15 => Wish::Kiosk,
        16 | 17 => Wish::Requests(Vec::new(), false),
        18 => Wish::EndlessHead,
        _ => Wish::Silence,
    }
}

fn id(random: &mut Random) -> &'static str {
    IDS[random.below(IDS.len() as u64) as usize]
}

fn encoded(id: &str) -> String {
    id.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Where a text begins.
fn find(bytes: &[u8], text: &str) -> Option<usize> {
    let mut parts = bytes.windows(text.len());
    parts.position(|part| part == text.as_bytes())
}

/// The length of a request's head.
fn head_len(request: &[u8]) -> usize {
    find(request, "\r\n\r\n").map_or(0, |at| at + 4)
}

/// Replaces the first occurrence.
fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    match find(bytes, from) {
        Some(at) => [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat(),
        None => bytes.to_vec(),
    }
}

/// The bytes of a request that is no plain one.
fn request(random: &mut Random, wish: &Wish) -> Vec<u8> {
    let path = match wish {
        Wish::Raw => "raw".to_owned(),
        Wish::Eps => "eps".to_owned(),
        Wish::Details => "details".to_owned(),
        Wish::Detail(id) => {
            let encoded = encoded(id);
            format!(
                "details/{}",
                if random.one_in(2) && id.is_ascii() && !id.contains(' ') {
                    id
                } else {
                    &encoded[..]
                }
            )
        }
        Wish::Kiosk => "kiosk_interaction".to_owned(),
        Wish::Several(one, other) => {
            let (one, other) = (encoded(one), encoded(other));
            format!("?ns=/details/{one}&ns=/raw&x=y&ns=/details/{other}")
        }
        Wish::EpsAnd(id) => format!("?ns=/eps&ns=%2Fdetails%2F{}", encoded(id)),
        Wish::EndlessHead => return b"GET /subscribe/eps HTTP/1.1\r\nHost: a\r\nX: ".to_vec(),
        Wish::Silence | Wish::Requests(..) => return Vec::new(),
    };
    let path = match path.starts_with('?') {
        true => path,
        false => format!("/{path}"),
    };
    let version = if random.one_in(3) { "1.0" } else { "1.1" };
    let behind = if random.one_in(5) {
        "GET / HTTP/1.1\r\n\r\n\0\0"
    } else {
        ""
    };
    let agent = "simulated".repeat(1 + random.below(5) as usize);
    let connection = match random.one_in(6) {
        true => "Connection: close\r\n",
        false => "",
    };
    format!(
        "GET /subscribe{path} HTTP/{version}\r\nHost: a\r\nUser-Agent: {agent}\r\n{connection}\r\n{behind}"
    )
    .into_bytes()
}
