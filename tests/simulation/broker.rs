//! A simulated Redis: it answers what the session sends, publishes at random, falls over and comes back.
//! It owns the list of messages that certainly reached the server, which is what clients are judged by.

use std::collections::VecDeque;
use std::time::Duration;

use crate::carbon::Carbon;
use emojitrack_streamer::net::sim::{PipeId, SimNet};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

/// A message that the server has read to its last byte.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub at: Time,
    pub channel: String,
    pub payload: String,
}

/// How the broker behaves in one run.
pub struct Plan {
    /// When publishing ends.
    pub until: Time,
    /// The pause between two bursts, at most.
    pub pause_max: Duration,
    /// Messages in a burst, at most.
    pub burst_max: u64,
    /// Bytes of padding in a tweet, at most.
    pub padding_max: u64,
    /// How often it falls over.
    pub falls: u64,
}

pub struct Broker {
    plan: Plan,
    random: Random,
    pipe: Option<PipeId>,
    /// The connection that only commands come from, and what of them is not yet whole.
    commander: Option<(PipeId, Vec<u8>)>,
    /// The row that was written last.
    row: Option<(String, String)>,
    /// Who falls over at the same times.
    pub carbon: Carbon,
    /// When the next burst, fall or recovery comes.
    next_burst: Time,
    falls: VecDeque<Time>,
    down_until: Option<Time>,
    commands: Vec<u8>,
    topics: Vec<String>,
    outgoing: VecDeque<u8>,
    /// Bytes put into `outgoing` on this connection.
    written: u64,
    /// Messages under way: where each ends in the connection's bytes, and whether it counts.
    under_way: VecDeque<(u64, Option<(String, String)>)>,
    number: u64,
    pub delivered: Vec<Delivered>,
    pub dropped: u64,
}

const CODES: [&str; 24] = [
    "1F602",
    "2764",
    "1F60D",
    "267B",
    "2665",
    "1F62D",
    "1F60A",
    "1F612",
    "1F495",
    "1F618",
    "1F629",
    "263A",
    "1F1FA-1F1F8",
    "0023-20E3",
    "1F4C2",
    "A\nB",
    "A\rB",
    "A\r\nB",
    " A",
    "\u{2764}",
    "\"",
    "\\n",
    "",
    "1F4",
];

/// IDs of tweets; one is a prefix of another.
pub const IDS: [&str; 8] = [
    "1F602",
    "2764",
    "1F4C2",
    "1F4",
    "2665",
    "1F1FA-1F1F8",
    "\u{2764}",
    "a b",
];

impl Broker {
    pub fn new(plan: Plan, seed: u64) -> Broker {
        let mut random = Random::new(seed);
        let mut falls: Vec<Time> = (0..plan.falls)
            .map(|_| Time::from_micros(random.below(plan.until.as_micros())))
            .collect();
        falls.sort_unstable();
        Broker {
            plan,
            random,
            pipe: None,
            commander: None,
            row: None,
            carbon: Carbon::default(),
            next_burst: Time::ZERO,
            falls: falls.into(),
            down_until: None,
            commands: Vec::new(),
            topics: Vec::new(),
            outgoing: VecDeque::new(),
            written: 0,
            under_way: VecDeque::new(),
            number: 0,
            delivered: Vec::new(),
            dropped: 0,
        }
    }

    /// When the broker acts next.
    pub fn next_at(&self, now: Time) -> Time {
        let soon = now + Duration::from_millis(3);
        let busy = (!self.outgoing.is_empty() && self.pipe.is_some()).then_some(soon);
        let times = [
            busy,
            Some(self.next_burst),
            self.falls.front().copied(),
            self.down_until,
        ];
        times
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .min()
            .unwrap_or(soon)
    }

    pub fn act(&mut self, net: &mut SimNet, now: Time) {
        self.note_delivered(net, now);
        self.fall_or_rise(net, now);
        while let Some((index, pipe)) = net.take_dialed() {
            match index {
                0 => self.connection_begins(pipe),
                1 => self.commander = Some((pipe, Vec::new())),
                _ => self.carbon.connection_begins(pipe),
            }
        }
        self.obey(net);
        self.carbon.act(net, &mut self.random);
        let Some(pipe) = self.pipe else { return };
        if net.is_server_closed(pipe) {
            self.connection_ends();
            return;
        }
        self.commands.extend(net.peer_read(pipe, usize::MAX));
        while let Some(command) = take_command(&mut self.commands) {
            self.answer(&command);
        }
        if now >= self.next_burst && now < self.plan.until {
            for _ in 0..1 + self.random.below(self.plan.burst_max) {
                self.publish();
            }
            let pause_max = self.plan.pause_max;
            self.next_burst = now + self.random.between(Duration::from_millis(1), pause_max);
        } else if now >= self.plan.until {
            self.next_burst = Time::from_micros(u64::MAX);
        }
        // The network cuts the stream of bytes wherever it likes.
        let len = self.outgoing.len() as u64;
        if len > 0 {
            let cut = if self.random.one_in(3) {
                1 + self.random.below(len)
            } else {
                len
            };
            let bytes: Vec<u8> = self.outgoing.drain(..cut as usize).collect();
            net.peer_write(pipe, &bytes);
        }
    }

    /// Takes note of what the server has read since the last time.
    pub fn note_delivered(&mut self, net: &SimNet, now: Time) {
        let Some(pipe) = self.pipe else { return };
        let taken = net.taken_by_server(pipe);
        while self.under_way.front().is_some_and(|&(end, _)| end <= taken) {
            match self.under_way.pop_front() {
                Some((_, Some((channel, payload)))) => {
                    self.delivered.push(Delivered {
                        at: now,
                        channel,
                        payload,
                    });
                }
                _ => self.dropped += 1,
            }
        }
    }

    fn fall_or_rise(&mut self, net: &mut SimNet, now: Time) {
        if self.falls.front().is_some_and(|&at| at <= now) {
            self.falls.pop_front();
            let downtime = self.random.between(Duration::ZERO, Duration::from_secs(2));
            self.down_until = Some(now + downtime);
            net.set_broker_listens(false);
            self.carbon.fall(net);
            if let Some(pipe) = self.pipe.take() {
                if self.random.one_in(2) {
                    net.peer_reset(pipe);
                } else {
                    net.peer_close(pipe);
                }
                // A closed connection still brings what was under way; a reset one does not.
                self.pipe = Some(pipe);
                self.outgoing.clear();
            }
        }
        if self.down_until.is_some_and(|at| at <= now) {
            self.down_until = None;
            net.set_broker_listens(true);
        }
    }

    fn connection_begins(&mut self, pipe: PipeId) {
        self.connection_ends();
        self.pipe = Some(pipe);
    }

    fn connection_ends(&mut self) {
        self.pipe = None;
        self.commands.clear();
        self.topics.clear();
        self.outgoing.clear();
        self.written = 0;
        self.under_way.clear();
    }

    /// Answers commands.
    fn obey(&mut self, net: &mut SimNet) {
        let Some((pipe, bytes)) = &mut self.commander else {
            return;
        };
        bytes.extend(net.peer_read(*pipe, usize::MAX));
        while let Some(words) = take_command(bytes) {
            assert!(
                !words[0].ends_with("SUBSCRIBE"),
                "{words:?} over the wrong connection"
            );
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let bulk = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            let reply = match (words.as_slice(), &self.row) {
                (["HSET", _, node, row], _) => {
                    self.row = Some(((*node).to_owned(), (*row).to_owned()));
                    ":1\r\n".to_owned()
                }
                (["HKEYS" | "HGET", ..], _) if self.random.one_in(6) => "-NOPERM\r\n".to_owned(),
                (["HKEYS", _], None) => "*0\r\n".to_owned(),
                // What is a message where something is subscribed to is none here.
                (["HKEYS", _], Some((node, _))) => {
                    format!("*3\r\n{}{}{}", bulk("message"), bulk(node), bulk("gone"))
                }
                (["HGET", _, node], Some((own, row))) if node == own => bulk(row),
                (["HGET", _, "message"], _) => bulk("no report"),
                (["HGET", ..], _) => "$-1\r\n".to_owned(),
                _ => "+OK\r\n".to_owned(),
            };
            net.peer_write(*pipe, reply.as_bytes());
        }
    }

    fn answer(&mut self, command: &[String]) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["AUTH", ..] => self.send(b"+OK\r\n"),
            ["CLIENT", "SETNAME", _] if self.random.one_in(2) => self.send(b"+OK\r\n"),
            ["CLIENT", ..] => self.send(b"-ERR unknown command\r\n"),
            ["PING"] => self.send(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
            [kind @ ("SUBSCRIBE" | "PSUBSCRIBE"), topics @ ..] => {
                for topic in topics {
                    self.topics.push((*topic).to_owned());
                    let count = self.topics.len();
                    let kind = kind.to_lowercase();
                    let reply = format!(
                        "*3\r\n${}\r\n{kind}\r\n${}\r\n{topic}\r\n:{count}\r\n",
                        kind.len(),
                        topic.len()
                    );
                    self.send(reply.as_bytes());
                }
            }
            other => panic!("the server sent the command {other:?}"),
        }
    }

    fn publish(&mut self) {
        self.number += 1;
        let number = self.number;
        let id = IDS[self.random.below(IDS.len() as u64) as usize];
        let code = CODES[self.random.below(CODES.len() as u64) as usize];
        let padding = "x".repeat(self.random.below(self.plan.padding_max + 1) as usize);
        let tweet = format!("{{\"n\":{number},\"text\":\"{padding}\"}}");
        let (channel, payload, counts) = match self.random.below(40) {
            0 => (
                "stream.score_updates".to_owned(),
                b"\xff\xfe".to_vec(),
                false,
            ),
            1 => (
                format!("stream.tweet_updates.{id}\n"),
                tweet.into_bytes(),
                false,
            ),
            2 => ("stream.interaction.go".to_owned(), tweet.into_bytes(), true),
            3..=20 => (
                format!("stream.tweet_updates.{id}"),
                tweet.into_bytes(),
                true,
            ),
            _ => (
                "stream.score_updates".to_owned(),
                code.as_bytes().to_vec(),
                true,
            ),
        };
        let pattern = self.topics.iter().find(|topic| {
            topic
                .strip_suffix('*')
                .is_some_and(|prefix| channel.starts_with(prefix))
        });
        let mut bytes = match pattern {
            Some(pattern) => format!(
                "*4\r\n$8\r\npmessage\r\n${}\r\n{pattern}\r\n",
                pattern.len()
            ),
            None if self.topics.contains(&channel) => "*3\r\n$7\r\nmessage\r\n".to_owned(),
            None => return,
        }
        .into_bytes();
        bytes.extend(format!("${}\r\n{channel}\r\n${}\r\n", channel.len(), payload.len()).bytes());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(b"\r\n");
        self.send(&bytes);
        let message = counts.then(|| (channel, String::from_utf8(payload).unwrap_or_default()));
        self.under_way.push_back((self.written, message));
    }

    fn send(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.written += bytes.len() as u64;
    }
}

/// Takes one whole command from the front.
fn take_command(bytes: &mut Vec<u8>) -> Option<Vec<String>> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let end = bytes[*at..].windows(2).position(|pair| pair == b"\r\n")? + *at;
        let text = String::from_utf8_lossy(&bytes[*at..end]).into_owned();
        *at = end + 2;
        Some(text)
    };
    let count: usize = line(&mut at)?.strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len: usize = line(&mut at)?.strip_prefix('$')?.parse().ok()?;
        let word = bytes.get(at..at + len)?;
        words.push(String::from_utf8_lossy(word).into_owned());
        at += len + 2;
    }
    if at > bytes.len() {
        return None;
    }
    bytes.drain(..at);
    Some(words)
}
