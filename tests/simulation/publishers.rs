//! Simulated publishers: each posts one message after the other and waits for the answers, or does not. It owns
//! their behaviour and what each was told; the judgement is the oracle's (`verdict`).

use std::net::IpAddr;
use std::time::Duration;

use emojitrack_streamer::net::Door;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::net::{PipeId, SimNet};
use crate::published::payload;
use crate::receiver::Receiver;
use crate::visitors::CHANNELS;

pub const KEY: &str = "sesame";

/// What is wrong with a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    WrongKey,
    NoKey,
    NoMessage,
    ForbiddenChannel,
    UnknownType,
    /// The connection ends before the body does.
    CutOff,
}

/// A publication.
#[derive(Clone, Debug)]
pub struct Post {
    pub channels: Vec<&'static str>,
    pub payload: String,
    pub fault: Fault,
    /// When its last byte was sent, and when the answer came.
    pub sent_at: Option<Time>,
    pub answered_at: Option<Time>,
    pub status: u16,
}

pub struct Publisher {
    number: u64,
    /// Whether it always waits for its answers.
    is_patient: bool,
    padding_max: u64,
    pause_max: Duration,
    until: Time,
    pub posts: Vec<Post>,
    pub pipe: Option<PipeId>,
    receiver: Receiver,
    request: Vec<u8>,
    sent: usize,
    piece: usize,
    pause: Duration,
    /// Where the connection is given up, in bytes of the request or in time.
    cut_at: usize,
    leaves_at: Time,
    next_at: Time,
    pub gone: bool,
}

impl Publisher {
    pub fn new(random: &mut Random, number: u64, is_patient: bool, until: Time) -> Publisher {
        Publisher {
            number,
            is_patient,
            padding_max: [10, 300, 4_000][random.below(3) as usize],
            pause_max: Duration::from_millis([20, 200, 1_500][random.below(3) as usize]),
            until,
            posts: Vec::new(),
            pipe: None,
            receiver: Receiver::default(),
            request: Vec::new(),
            sent: 0,
            piece: 0,
            pause: Duration::ZERO,
            cut_at: usize::MAX,
            leaves_at: Time::from_micros(u64::MAX),
            next_at: Time::from_micros(100_000 + random.below(1_000_000)),
            gone: false,
        }
    }

    pub fn next_at(&self) -> Time {
        match self.gone {
            true => Time::from_micros(u64::MAX),
            false => self.next_at,
        }
    }

    pub fn act(&mut self, net: &mut SimNet, random: &mut Random, now: Time) -> Result<(), String> {
        if self.gone || now < self.next_at {
            return Ok(());
        }
        let waits = self
            .posts
            .last()
            .is_some_and(|post| post.answered_at.is_none());
        match self.pipe {
            Some(pipe) if waits => self.go_on(net, random, pipe, now)?,
            _ if now >= self.until => {
                if let Some(pipe) = self.pipe.take() {
                    net.peer_close(pipe);
                }
                self.gone = true;
            }
            _ => self.begin(net, random, now),
        }
        Ok(())
    }

    fn begin(&mut self, net: &mut SimNet, random: &mut Random, now: Time) {
        if let Some(pipe) = self.pipe
            && (net.is_server_closed(pipe) || random.one_in(4))
        {
            net.peer_close(pipe);
            self.pipe = None;
        }
        if self.pipe.is_none() {
            self.receiver = Receiver::default();
            let client_ip = IpAddr::from([10, 2, 0, self.number as u8]);
            self.pipe = net.dial(Door::Public, client_ip, 64 * 1024);
            self.gone = self.pipe.is_none();
        }
        let fault = match random.below(24) {
            0 => Fault::WrongKey,
            1 => Fault::NoKey,
            2 => Fault::NoMessage,
            3 => Fault::ForbiddenChannel,
            4 => Fault::UnknownType,
            5 => Fault::CutOff,
            _ => Fault::None,
        };
        let mut channels: Vec<&'static str> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let name = match random.below(40) {
                0 => "room.*",
                _ => CHANNELS[random.below(CHANNELS.len() as u64) as usize],
            };
            if !channels.contains(&name) {
                channels.push(name);
            }
        }
        if fault == Fault::ForbiddenChannel {
            channels.push("stream.admin.cleanup");
        }
        let name = format!("p{}.{}", self.number, self.posts.len());
        let payload = payload(random, &name, self.padding_max);
        self.request = request(random, &channels, &payload, fault);
        self.sent = 0;
        let len = self.request.len();
        (self.piece, self.pause) = match random.below(4) {
            // Slowly, but in time.
            0 => (len.div_ceil(8), Duration::from_millis(200)),
            1 => (len.div_ceil(3), Duration::from_millis(3)),
            _ => (len, Duration::ZERO),
        };
        self.cut_at = match fault {
            Fault::CutOff => random.below(len as u64) as usize,
            _ => usize::MAX,
        };
        self.leaves_at = match !self.is_patient && random.one_in(20) {
            true => now + random.between(Duration::ZERO, Duration::from_millis(20)),
            false => Time::from_micros(u64::MAX),
        };
        self.posts.push(Post {
            channels,
            payload,
            fault,
            sent_at: None,
            answered_at: None,
            status: 0,
        });
        self.next_at = now;
    }

    fn go_on(
        &mut self,
        net: &mut SimNet,
        random: &mut Random,
        pipe: PipeId,
        now: Time,
    ) -> Result<(), String> {
        let Some(post) = self.posts.last_mut() else {
            return Ok(());
        };
        if self.sent < self.request.len() {
            let end = (self.sent + self.piece)
                .min(self.request.len())
                .min(self.cut_at);
            net.peer_write(pipe, &self.request[self.sent..end]);
            self.sent = end;
            self.next_at = now + self.pause;
        } else {
            self.next_at = now + random.between(Duration::from_millis(1), Duration::from_millis(8));
        }
        if self.sent == self.request.len() {
            post.sent_at.get_or_insert(now);
        }
        if self.sent == self.cut_at || now >= self.leaves_at {
            match random.one_in(2) {
                true => net.peer_close(pipe),
                false => net.peer_reset(pipe),
            }
            self.pipe = None;
            self.next_at = now + random.between(Duration::from_millis(1), self.pause_max);
            return Ok(());
        }
        self.receiver.receive(&net.peer_read(pipe, usize::MAX))?;
        if let Some(reply) = self.receiver.replies.pop() {
            post.status = reply.status;
            post.answered_at = Some(now);
            let body = String::from_utf8_lossy(&reply.body);
            if reply.status == 200 && body != "{\"status\": \"ok\"}\n" {
                return Err(format!("{body:?}"));
            }
            // A key in the head is judged before the body is read, so that no other request can follow.
            if matches!(reply.status, 401 | 429) {
                net.peer_close(pipe);
                self.pipe = None;
            }
            self.next_at = now + random.between(Duration::from_millis(1), self.pause_max);
        } else if net.peer_sees_end(pipe) {
            return Err(format!("no answer to {post:?}"));
        }
        Ok(())
    }
}

fn request(random: &mut Random, channels: &[&str], message: &str, fault: Fault) -> Vec<u8> {
    let in_body = random.one_in(2);
    let key = match fault {
        Fault::WrongKey => Some("sesam"),
        Fault::NoKey => None,
        _ => Some(KEY),
    };
    let body_key = key.filter(|_| in_body);
    let is_form = random.one_in(2);
    let body = match is_form {
        true => form(channels, message, body_key, fault),
        false => {
            let mut document = serde_json::json!({ "channel": channels });
            if let Some(key) = body_key {
                document["key"] = key.into();
            }
            if fault != Fault::NoMessage {
                document["message"] = message.into();
            }
            document.to_string()
        }
    };
    let content_type = match (fault, is_form) {
        (Fault::UnknownType, _) => "text/plain",
        (_, true) => "application/x-www-form-urlencoded",
        (_, false) => "application/json; charset=utf-8",
    };
    let mut head = format!("POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n");
    if let Some(key) = key.filter(|_| !in_body) {
        head.push_str(&format!("Authorization: Bearer {key}\r\n"));
    }
    if random.one_in(2) {
        let len = body.len();
        return format!("{head}Content-Length: {len}\r\n\r\n{body}").into_bytes();
    }
    let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    let mut rest = body.as_bytes();
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + random.below(rest.len() as u64) as usize);
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn form(channels: &[&str], message: &str, key: Option<&str>, fault: Fault) -> String {
    let escaped: String = message.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut fields: Vec<String> = channels
        .iter()
        .map(|name| format!("channel={name}"))
        .collect();
    if fault != Fault::NoMessage {
        fields.push(format!("message={escaped}"));
    }
    fields.extend(key.map(|key| format!("key={key}")));
    fields.join("&")
}
