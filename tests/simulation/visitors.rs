//! Simulated visitors of channels: each comes for some channels, by a stream or by long polls, is cut off, and comes
//! back with the id of the last event that it dispatched. It owns their behaviour and what each received; the
//! judgement is the oracle's (`verdict`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use emojitrack_streamer::net::Door;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::net::{PipeId, SimNet};
use crate::receiver::{Event, Receiver};
use crate::steps::Steps;

/// Channels by their names.
pub const CHANNELS: [&str; 5] = ["a", "b", "room.1", "room.2", "room.3"];
/// A pattern of some of them.
pub const ROOMS: &str = "room.*";

/// An id of another process, and what is none.
pub const FOREIGN_IDS: [&str; 3] = ["0-0", "fedcba9876543210-7", "nonsense"];

/// What a visitor asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Channels and patterns, without those that a pattern brings.
    pub topics: Vec<&'static str>,
    /// What comes beside them.
    pub others: Option<&'static str>,
    pub is_named: bool,
    query: String,
}

/// How a visitor takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A stream that is read at once.
    Fast,
    /// A stream that is read bit by bit.
    Slow,
    /// One poll after the other.
    Polls,
}

/// What came over a stream, or with a poll.
#[derive(Clone, Debug)]
pub enum Item {
    Event(Event),
    /// An id without an event.
    Id(String),
}

/// One request.
#[derive(Clone)]
pub struct Attempt {
    pub wish: Wish,
    /// The id that was sent; empty where none was.
    pub id: String,
    /// When its head had been sent, and when the first byte of its answer came.
    pub asked_at: Option<Time>,
    pub answered_at: Option<Time>,
    /// When it was over for the client.
    pub left_at: Option<Time>,
    /// Whether the server ended it, at some time before.
    pub was_ended: bool,
    pub items: Vec<(Time, Item)>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, times) = (&self.id, (self.asked_at, self.answered_at, self.left_at));
        let ended = self.was_ended;
        write!(out, "{:?} with {id:?} {times:?}, ended: {ended}", self.wish)?;
        for (at, item) in self.items.iter().take(8) {
            write!(out, "\n    {:?} ", at.as_micros())?;
            match item {
                Item::Id(id) => write!(out, "id {id}")?,
                Item::Event(event) => {
                    let (name, id) = (&event.name, &event.id);
                    let data: String = event.data.chars().take(30).collect();
                    write!(out, "{name} {data:?} {id}")?;
                }
            }
        }
        write!(out, "\n    of {} items", self.items.len())
    }
}

/// What a visitor is like.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    pub manner: Manner,
    /// Whether it never leaves, and asks for everything.
    pub is_witness: bool,
    /// Whether its events are to name their channels. One message in two forms is at two places in the log, so
    /// nobody changes this.
    pub is_named: bool,
    /// Whether it may ask for the pattern of all channels.
    pub may_have_all: bool,
    /// How long it is away at most between two attempts.
    pub pause_max: Duration,
    pub busy_until: Time,
    /// Whether it stays to the end.
    pub stays: bool,
}

pub struct Visitor {
    pub nature: Nature,
    wish: Wish,
    pub attempts: Vec<Attempt>,
    pub pipe: Option<PipeId>,
    /// Whether a stream came over that connection before.
    reuses: bool,
    receiver: Receiver,
    last_event_id: String,
    request: Vec<u8>,
    head_len: usize,
    sent: usize,
    piece: usize,
    room: usize,
    client_ip: IpAddr,
    leaves_at: Time,
    next_at: Time,
    replies_taken: usize,
    pub gone: bool,
    pub steps: Steps,
}

impl Visitor {
    pub fn new(random: &mut Random, number: u64, nature: Nature) -> Visitor {
        let starts = match nature.is_witness {
            true => 1,
            false => nature.busy_until.as_micros() * 2 / 3,
        };
        let is_wide = nature.manner == Manner::Fast || random.one_in(2);
        Visitor {
            nature,
            wish: wish(random, &nature),
            attempts: Vec::new(),
            pipe: None,
            reuses: false,
            receiver: Receiver::default(),
            last_event_id: String::new(),
            request: Vec::new(),
            head_len: 0,
            sent: 0,
            piece: 0,
            room: match is_wide {
                true => 512 * 1024,
                false => 200 + random.below(4_000) as usize,
            },
            client_ip: IpAddr::V4(Ipv4Addr::new(10, 1, (number >> 8) as u8, number as u8)),
            leaves_at: Time::from_micros(u64::MAX),
            next_at: Time::from_micros(random.below(starts)),
            replies_taken: 0,
            gone: false,
            steps: Steps::default(),
        }
    }

    pub fn next_at(&self) -> Time {
        match self.gone {
            true => Time::from_micros(u64::MAX),
            false => self.next_at,
        }
    }

    /// The request that is under way.
    pub fn current(&self) -> Option<&Attempt> {
        let attempt = self.attempts.last()?;
        attempt.left_at.is_none().then_some(attempt)
    }

    pub fn act(&mut self, net: &mut SimNet, random: &mut Random, now: Time) -> Result<(), String> {
        if self.gone || now < self.next_at {
            return Ok(());
        }
        if self.current().is_none() {
            self.begin(net, random, now);
            return Ok(());
        }
        let Some(pipe) = self.pipe else { return Ok(()) };
        self.send(net, pipe, now);
        if now >= self.leaves_at {
            self.leave(net, random, pipe, now);
            return Ok(());
        }
        self.receive(net, random, pipe, now)?;
        let is_busy = now < self.nature.busy_until + Duration::from_secs(8);
        let (grid, steps) = if is_busy { (1_000, 12) } else { (20_000, 30) };
        let next = now.as_micros() / grid + 1 + random.below(steps);
        self.next_at = self.next_at.max(Time::from_micros(next * grid));
        if self.nature.is_witness {
            self.next_at = now + Duration::from_millis(5);
        }
        Ok(())
    }

    /// Begins another attempt, on the connection that there is or on a new one.
    fn begin(&mut self, net: &mut SimNet, random: &mut Random, now: Time) {
        if now >= self.nature.busy_until && !self.nature.stays {
            if let Some(pipe) = self.pipe.take() {
                net.peer_close(pipe);
            }
            self.gone = true;
            return;
        }
        if let Some(pipe) = self.pipe
            && (net.peer_sees_end(pipe) || random.one_in(3))
        {
            net.peer_close(pipe);
            self.pipe = None;
            self.reuses = false;
        }
        if self.reuses {
            self.receiver = Receiver::default();
        }
        if self.pipe.is_none() {
            self.receiver = Receiver::default();
            self.replies_taken = 0;
            self.pipe = net.dial(Door::Public, self.client_ip, self.room);
            self.gone = self.pipe.is_none();
            if self.gone {
                return;
            }
            self.steps
                .note(now, "dialed, with room for", self.room, b"");
        }
        if !self.attempts.is_empty() && random.one_in(4) && !self.nature.is_witness {
            self.wish = wish(random, &self.nature);
        }
        let is_foreign = random.one_in(20) && !self.nature.is_witness;
        let id = match is_foreign {
            true => FOREIGN_IDS[random.below(FOREIGN_IDS.len() as u64) as usize].to_owned(),
            false => self.last_event_id.clone(),
        };
        self.receiver.last_event_id.clone_from(&id);
        self.request = self.request_with(random, &id);
        self.head_len = self.request.len();
        if self.nature.manner == Manner::Polls && random.one_in(12) {
            // An unexpected body, which must not be taken for a request.
            let end = self.head_len - 2;
            self.request
                .splice(end.., *b"Content-Length: 9\r\n\r\nGET / HTT");
            self.head_len = self.request.len() - 9;
        }
        self.sent = 0;
        let is_hasty = self.nature.is_witness || now >= self.nature.busy_until;
        self.piece = match !is_hasty && random.one_in(5) {
            true => 1 + random.below(40) as usize,
            false => self.request.len(),
        };
        let stays = self.nature.is_witness || (self.nature.stays && now >= self.nature.busy_until);
        let stay = random.between(Duration::ZERO, Duration::from_secs(2));
        self.leaves_at = match stays || (self.nature.stays && random.one_in(6)) {
            true => Time::from_micros(u64::MAX),
            false => now + stay,
        };
        self.attempts.push(Attempt {
            wish: self.wish.clone(),
            id,
            asked_at: None,
            answered_at: None,
            left_at: None,
            was_ended: false,
            items: Vec::new(),
        });
        self.next_at = now;
    }

    fn request_with(&self, random: &mut Random, id: &str) -> Vec<u8> {
        let mut target = self.wish.query.clone();
        let mut fields = "Host: a\r\n".to_owned();
        match (id, random.one_in(3)) {
            ("", _) => {}
            (id, true) => {
                target.push_str(if target.contains('?') { "&" } else { "?" });
                target.push_str(&format!("lastEventId={id}"));
            }
            (id, false) => fields.push_str(&format!("Last-Event-ID: {id}\r\n")),
        }
        if self.nature.manner == Manner::Polls {
            fields.push_str("X-Requested-With: XMLHttpRequest\r\n");
        }
        let version = match random.one_in(4) && self.nature.manner != Manner::Polls {
            true => "1.0",
            false => "1.1",
        };
        format!("GET {target} HTTP/{version}\r\n{fields}\r\n").into_bytes()
    }

    fn send(&mut self, net: &mut SimNet, pipe: PipeId, now: Time) {
        if self.sent == self.request.len() {
            return;
        }
        let end = (self.sent + self.piece).min(self.request.len());
        let bytes = &self.request[self.sent..end];
        net.peer_write(pipe, bytes);
        self.steps.note(now, "sent", bytes.len(), bytes);
        self.sent = end;
        if let Some(attempt) = self.attempts.last_mut()
            && end >= self.head_len
        {
            attempt.asked_at.get_or_insert(now);
        }
    }

    /// Goes without a word, or with a reset.
    fn leave(&mut self, net: &mut SimNet, random: &mut Random, pipe: PipeId, now: Time) {
        // Who closes on what it has not read resets the connection.
        match self.nature.manner != Manner::Slow && random.one_in(2) {
            true => net.peer_close(pipe),
            false => net.peer_reset(pipe),
        }
        self.pipe = None;
        self.end_attempt(random, now, false);
    }

    fn end_attempt(&mut self, random: &mut Random, now: Time, was_ended: bool) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.left_at = Some(now);
            attempt.was_ended = was_ended;
            let (what, items) = match was_ended {
                true => ("was ended after items", attempt.items.len()),
                false => ("left after items", attempt.items.len()),
            };
            let id = self.last_event_id.as_bytes();
            self.steps.note(now, what, items, id);
        }
        let pause_max = match was_ended {
            true => self.nature.pause_max.min(Duration::from_millis(100)),
            false => self.nature.pause_max,
        };
        self.next_at = now + random.between(Duration::from_millis(1), pause_max);
    }

    fn receive(
        &mut self,
        net: &mut SimNet,
        random: &mut Random,
        pipe: PipeId,
        now: Time,
    ) -> Result<(), String> {
        let max = match self.nature.manner {
            Manner::Slow => 1 + random.below(600) as usize,
            Manner::Fast | Manner::Polls => usize::MAX,
        };
        let bytes = net.peer_read(pipe, max);
        if !bytes.is_empty() {
            self.steps.note(now, "received", bytes.len(), &bytes);
            let attempt = self.attempts.last_mut().ok_or("bytes without a request")?;
            if attempt.asked_at.is_none() {
                let text = String::from_utf8_lossy(&bytes);
                return Err(format!("an answer to half a request: {text:?}"));
            }
            attempt.answered_at.get_or_insert(now);
            self.receiver.receive(&bytes)?;
        }
        if self.receiver.replies.len() > self.replies_taken {
            let reply = self.receiver.replies[self.replies_taken].clone();
            self.replies_taken += 1;
            if reply.status != 200 || self.nature.manner != Manner::Polls {
                let body = String::from_utf8_lossy(&reply.body).into_owned();
                return Err(format!("the answer {} {body}", reply.status));
            }
            self.receiver.take_events(&reply.body)?;
            let events = self.receiver.events.len();
            if events > 1 {
                return Err(format!("{events} events in answer to a poll"));
            }
            self.take_items(now);
            self.end_attempt(random, now, true);
            return Ok(());
        }
        self.take_items(now);
        let is_closed = net.peer_sees_end(pipe);
        let is_unanswered = self
            .attempts
            .last()
            .is_some_and(|it| it.answered_at.is_none());
        // Who reads slowly may come to the end when the server has waited for a request in vain.
        let is_prompt = self.nature.manner == Manner::Fast;
        if is_closed && is_unanswered && is_prompt && self.reuses {
            return Err("no answer to a request behind a stream".to_owned());
        }
        if is_closed || self.receiver.terminated {
            self.reuses = self.receiver.keeps_alive && !is_closed && random.one_in(2);
            if !self.reuses {
                net.peer_close(pipe);
                self.pipe = None;
            }
            self.end_attempt(random, now, true);
        }
        Ok(())
    }

    fn take_items(&mut self, now: Time) {
        self.last_event_id.clone_from(&self.receiver.last_event_id);
        let Some(attempt) = self.attempts.last_mut() else {
            return;
        };
        let mut ids = std::mem::take(&mut self.receiver.bare_ids)
            .into_iter()
            .peekable();
        let events = std::mem::take(&mut self.receiver.events);
        for (index, event) in events.into_iter().enumerate() {
            while let Some((_, id)) = ids.next_if(|&(before, _)| before <= index) {
                attempt.items.push((now, Item::Id(id)));
            }
            attempt.items.push((now, Item::Event(event)));
        }
        attempt.items.extend(ids.map(|(_, id)| (now, Item::Id(id))));
    }
}

fn wish(random: &mut Random, nature: &Nature) -> Wish {
    let mut asked: Vec<&'static str> = Vec::new();
    let all = nature.is_witness || (nature.may_have_all && random.one_in(10));
    if all {
        asked.push("*");
    } else {
        for _ in 0..1 + random.below(4) {
            asked.push(match random.below(6) {
                0 => ROOMS,
                other => CHANNELS[other as usize - 1],
            });
        }
    }
    let mut topics = asked.clone();
    if asked.contains(&ROOMS) {
        topics.retain(|topic| !topic.starts_with("room.") || *topic == ROOMS);
    }
    topics.sort_unstable();
    topics.dedup();
    let is_poll = nature.manner == Manner::Polls;
    let others = match random.below(12) {
        _ if nature.is_witness || is_poll => None,
        0 => Some("/eps"),
        1 => Some("/details/1F602"),
        _ => None,
    };
    let is_named = nature.is_named;
    let named = if is_named { "&event=channel" } else { "" };
    let query = match (others, random.below(4)) {
        (None, 0) => format!("/?channels={}{named}", asked.join(",")),
        (None, 1) if asked.len() == 1 => {
            format!("/subscribe/channels/{}?x=y{named}", asked[0])
        }
        (None, 1 | 2) => {
            let fields: Vec<String> = asked.iter().map(|it| format!("channels={it}")).collect();
            format!("/?{}{named}", fields.join("&"))
        }
        (others, _) => {
            let names = asked.iter().map(|it| format!("ns=/channels/{it}"));
            let others = others.into_iter().map(|it| format!("ns={it}"));
            let fields: Vec<String> = names.chain(others).collect();
            format!("/subscribe?{}{named}", fields.join("&"))
        }
    };
    Wish {
        topics,
        others,
        is_named,
        query,
    }
}
