//! A simulated Redis: it answers commands, publishes at random, crashes and returns. It owns the list of messages that
//! certainly reached the server; the oracles compare what clients received with it.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::carbon::Carbon;
use crate::net::{PipeId, SimNet};
use crate::published::{emoji_message, payload};
use crate::resp;
use crate::steps::Steps;

/// A message that the server has read to its last byte.
#[derive(Clone, Debug)]
pub struct Delivered {
    pub at: Time,
    /// The pattern that it came by.
    pub pattern: Option<String>,
    pub channel: String,
    pub payload: String,
}

/// A message that somebody published on a channel.
#[derive(Clone, Debug)]
pub struct Published {
    pub at: Time,
    pub channel: String,
    pub payload: String,
    /// The channels and patterns by which the server was subscribed to it.
    pub asked: Vec<String>,
    /// Whether the connection to the server had stood for a while.
    pub is_steady: bool,
}

/// Commands come from here.
struct Commander {
    pipe: PipeId,
    /// What of them is not yet whole.
    bytes: Vec<u8>,
    /// The commands of a transaction that has begun.
    queued: Option<Vec<Vec<String>>>,
    /// Replies, and when they are sent.
    replies: VecDeque<(Time, String)>,
}

/// How long after its beginning a connection has certainly said all that it wants.
const STEADY_AFTER: Duration = Duration::from_millis(600);

/// How the broker behaves in one run.
#[derive(Default)]
pub struct Plan {
    /// When publishing begins and ends.
    pub from: Time,
    pub until: Time,
    /// The pause between two bursts, at most.
    pub pause_max: Duration,
    /// Messages in a burst, at most.
    pub burst_max: u64,
    /// Bytes of padding in a tweet, at most.
    pub padding_max: u64,
    /// How often it falls over.
    pub falls: u64,
    /// Channels that messages are published on, beside the emoji pipeline's.
    pub channels: &'static [&'static str],
    /// Whether there is nothing but these.
    pub only_channels: bool,
    /// Whether it refuses some publications, and is late with some answers.
    pub is_moody: bool,
}

pub struct Broker {
    plan: Plan,
    random: Random,
    pipe: Option<PipeId>,
    /// The connection that only commands come from.
    commander: Option<Commander>,
    /// The row that was written last.
    row: Option<(String, String)>,
    /// Who falls over at the same times.
    pub carbon: Carbon,
    /// When the next burst, fall or recovery comes.
    next_burst: Time,
    falls: VecDeque<Time>,
    down_until: Option<Time>,
    commands: Vec<u8>,
    /// Channels and patterns that the server is subscribed to.
    pub topics: Vec<String>,
    /// When the connection for messages began.
    began_at: Time,
    /// Since when no connection has been steady, and all such times that are over.
    away_since: Option<Time>,
    away: Vec<(Time, Time)>,
    /// What was published on the channels of the plan.
    pub published: Vec<Published>,
    /// The same, by channel and payload: what was published by a command is so once.
    commanded: HashSet<(String, String)>,
    /// Whether a publication may have been refused, or its answer be late or lost.
    pub is_doubtful: bool,
    outgoing: VecDeque<u8>,
    /// Bytes put into `outgoing` on this connection.
    written: u64,
    /// Messages under way: where each ends in the connection's bytes, and whether it counts.
    under_way: VecDeque<(u64, Option<(Option<String>, String, String)>)>,
    number: u64,
    pub delivered: Vec<Delivered>,
    /// How often the server has connected for messages.
    pub sessions: u64,
    /// When the server had taken messages that it must drop.
    pub dropped_at: Vec<Time>,
    pub steps: Steps,
}

impl Broker {
    pub fn new(plan: Plan, seed: u64) -> Broker {
        let mut random = Random::new(seed);
        let mut falls: Vec<Time> = (0..plan.falls)
            .map(|_| Time::from_micros(random.below(plan.until.as_micros())))
            .collect();
        falls.sort_unstable();
        Broker {
            random,
            pipe: None,
            commander: None,
            row: None,
            carbon: Carbon::default(),
            next_burst: plan.from,
            plan,
            falls: falls.into(),
            down_until: None,
            commands: Vec::new(),
            topics: Vec::new(),
            began_at: Time::ZERO,
            away_since: Some(Time::ZERO),
            away: Vec::new(),
            published: Vec::new(),
            commanded: HashSet::new(),
            is_doubtful: false,
            outgoing: VecDeque::new(),
            written: 0,
            under_way: VecDeque::new(),
            number: 0,
            delivered: Vec::new(),
            sessions: 0,
            dropped_at: Vec::new(),
            steps: Steps::default(),
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
            self.reply_at(),
        ];
        times
            .into_iter()
            .flatten()
            .filter(|&at| at > now)
            .min()
            .unwrap_or(soon)
    }

    fn reply_at(&self) -> Option<Time> {
        let commander = self.commander.as_ref()?;
        commander.replies.front().map(|&(at, _)| at)
    }

    /// Whether the connection for messages has stood for a while.
    fn is_steady(&self, net: &SimNet, now: Time) -> bool {
        let stands = self.pipe.is_some_and(|pipe| !net.is_server_closed(pipe));
        stands && self.down_until.is_none() && now >= self.began_at + STEADY_AFTER
    }

    /// Whether the server is subscribed, and can send commands.
    pub fn is_in_use(&self, net: &SimNet) -> bool {
        let pipes = [self.pipe, self.commander.as_ref().map(|it| it.pipe)];
        let stands = |pipe: Option<PipeId>| pipe.is_some_and(|pipe| !net.is_server_closed(pipe));
        !self.topics.is_empty() && pipes.into_iter().all(stands)
    }

    /// Whether there was a moment between these two at which no connection was steady.
    pub fn was_away(&self, from: Time, until: Time) -> bool {
        let now_away = self
            .away_since
            .map(|since| (since, Time::from_micros(u64::MAX)));
        let mut times = self.away.iter().copied().chain(now_away);
        times.any(|(began, ended)| began <= until && from <= ended)
    }

    /// When no connection was steady, until it was again.
    pub fn absences(&self) -> &[(Time, Time)] {
        &self.away
    }

    /// Whether this was published by a command.
    pub fn was_commanded(&self, channel: &str, payload: &str) -> bool {
        self.commanded
            .contains(&(channel.to_owned(), payload.to_owned()))
    }

    pub fn act(&mut self, net: &mut SimNet, now: Time) {
        self.note_delivered(net, now);
        self.fall_or_rise(net, now);
        while let Some((index, pipe)) = net.take_dialed() {
            self.steps
                .note(now, "was dialed by socket", index.into(), b"");
            match index {
                0 => {
                    self.connection_begins(pipe);
                    self.began_at = now;
                    self.sessions += 1;
                }
                1 => {
                    self.is_doubtful |= self.commander.is_some();
                    self.commander = Some(Commander {
                        pipe,
                        bytes: Vec::new(),
                        queued: None,
                        replies: VecDeque::new(),
                    });
                }
                _ => self.carbon.connection_begins(pipe),
            }
        }
        match (self.is_steady(net, now), self.away_since) {
            (true, Some(since)) => {
                self.away.push((since, now));
                self.away_since = None;
            }
            (false, None) => self.away_since = Some(now),
            _ => {}
        }
        self.obey(net, now);
        self.carbon.act(net, &mut self.random);
        let Some(pipe) = self.pipe else { return };
        if net.is_server_closed(pipe) {
            self.connection_ends();
            return;
        }
        self.commands.extend(net.peer_read(pipe, usize::MAX));
        while let Some(command) = resp::take_command(&mut self.commands) {
            let looks = command.join(" ");
            self.steps
                .note(now, "was told words", command.len(), looks.as_bytes());
            self.answer(&command);
        }
        if now >= self.next_burst && now < self.plan.until {
            for _ in 0..1 + self.random.below(self.plan.burst_max) {
                self.publish(net, now);
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
            self.steps.note(now, "sent", bytes.len(), &bytes);
            net.peer_write(pipe, &bytes);
        }
    }

    /// Takes note of what the server has read since the last time.
    pub fn note_delivered(&mut self, net: &SimNet, now: Time) {
        let Some(pipe) = self.pipe else { return };
        let taken = net.taken_by_server(pipe);
        while self.under_way.front().is_some_and(|&(end, _)| end <= taken) {
            match self.under_way.pop_front() {
                Some((_, Some((pattern, channel, payload)))) => {
                    self.delivered.push(Delivered {
                        at: now,
                        pattern,
                        channel,
                        payload,
                    });
                }
                _ => self.dropped_at.push(now),
            }
        }
    }

    fn fall_or_rise(&mut self, net: &mut SimNet, now: Time) {
        if self.falls.front().is_some_and(|&at| at <= now) {
            self.falls.pop_front();
            self.steps
                .note(now, "falls; falls left", self.falls.len(), b"");
            let downtime = self.random.between(Duration::ZERO, Duration::from_secs(2));
            self.down_until = Some(now + downtime);
            net.set_broker_listens(false);
            self.carbon.fall(net);
            self.is_doubtful = true;
            // Until another one begins.
            self.began_at = Time::from_micros(u64::MAX);
            if !self.plan.channels.is_empty()
                && self.random.one_in(2)
                && let Some(commander) = self.commander.take()
            {
                net.peer_reset(commander.pipe);
            }
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
            self.steps
                .note(now, "is back; messages taken", self.delivered.len(), b"");
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
    fn obey(&mut self, net: &mut SimNet, now: Time) {
        let Some(mut commander) = self.commander.take() else {
            return;
        };
        commander
            .bytes
            .extend(net.peer_read(commander.pipe, usize::MAX));
        while let Some(words) = resp::take_command(&mut commander.bytes) {
            assert!(
                !words[0].ends_with("SUBSCRIBE"),
                "{words:?} over the wrong connection"
            );
            let mut at = now;
            let reply = match (words[0].as_str(), &mut commander.queued) {
                ("MULTI", None) => {
                    commander.queued = Some(Vec::new());
                    "+OK\r\n".to_owned()
                }
                ("EXEC", queued @ Some(_)) => {
                    let queued = queued.take().unwrap_or_default();
                    let head = format!("*{}\r\n", queued.len());
                    let replies = queued.iter().map(|words| self.execute(words, net, &mut at));
                    replies.fold(head, |all, reply| all + &reply)
                }
                (_, Some(queued)) => {
                    queued.push(words);
                    "+QUEUED\r\n".to_owned()
                }
                (_, None) => self.execute(&words, net, &mut at),
            };
            let last = commander.replies.back().map_or(now, |&(last, _)| last);
            commander.replies.push_back((at.max(last), reply));
        }
        while commander.replies.front().is_some_and(|&(at, _)| at <= now)
            && let Some((_, reply)) = commander.replies.pop_front()
        {
            net.peer_write(commander.pipe, reply.as_bytes());
        }
        self.commander = Some(commander);
    }

    /// Executes a command; the answer, and when it comes.
    fn execute(&mut self, words: &[String], net: &SimNet, at: &mut Time) -> String {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (words.as_slice(), &self.row) {
            (["HSET", _, node, row], _) => {
                self.row = Some(((*node).to_owned(), (*row).to_owned()));
                ":1\r\n".to_owned()
            }
            (["HKEYS" | "HGET", ..], _) if self.random.one_in(6) => "-NOPERM\r\n".to_owned(),
            (["HKEYS", _], None) => "*0\r\n".to_owned(),
            // What is a message where something is subscribed to is none here.
            (["HKEYS", _], Some((node, _))) => {
                format!(
                    "*3\r\n{}{}{}",
                    resp::bulk("message"),
                    resp::bulk(node),
                    resp::bulk("gone")
                )
            }
            (["HGET", _, node], Some((own, row))) if node == own => resp::bulk(row),
            (["HGET", _, "message"], _) => resp::bulk("no report"),
            (["HGET", ..], _) => "$-1\r\n".to_owned(),
            (["PUBLISH", channel, payload], _) if !channel.starts_with("stream.") => {
                let (channel, payload) = ((*channel).to_owned(), (*payload).to_owned());
                self.on_publish_command(channel, payload, net, at)
            }
            (["DEL", _], _) => ":0\r\n".to_owned(),
            (["ROLE"], _) => format!("*3\r\n{}:0\r\n*0\r\n", resp::bulk("master")),
            _ => "+OK\r\n".to_owned(),
        }
    }

    /// Publishes for a client of the server, or refuses to; the answer, and when it comes.
    fn on_publish_command(
        &mut self,
        channel: String,
        payload: String,
        net: &SimNet,
        at: &mut Time,
    ) -> String {
        let now = *at;
        if self.plan.is_moody && self.random.one_in(20) {
            self.is_doubtful = true;
            return "-NOPERM\r\n".to_owned();
        }
        *at = now
            + self
                .random
                .between(Duration::ZERO, Duration::from_millis(30));
        if self.plan.is_moody && self.random.one_in(20) {
            self.is_doubtful = true;
            *at = now + Duration::from_secs(3);
        }
        let is_first = self.commanded.insert((channel.clone(), payload.clone()));
        assert!(is_first, "{payload:.20} was published twice on {channel}");
        let receivers = self.put_on_channel(channel, payload, net, now);
        format!(":{receivers}\r\n")
    }

    /// Takes note of a message on a channel of the plan, and sends it to the server.
    pub fn put_on_channel(
        &mut self,
        channel: String,
        payload: String,
        net: &SimNet,
        now: Time,
    ) -> usize {
        let asked = self.deliver(&channel, payload.as_bytes(), true);
        let receivers = asked.len();
        self.published.push(Published {
            at: now,
            channel,
            payload,
            asked,
            is_steady: self.is_steady(net, now),
        });
        receivers
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
                    let is_new = !self.topics.iter().any(|known| known == topic);
                    assert!(is_new, "{topic} was subscribed to twice");
                    self.topics.push((*topic).to_owned());
                    let count = self.topics.len();
                    let reply = resp::confirmation(kind, topic, count);
                    self.send(reply.as_bytes());
                }
            }
            [kind @ ("UNSUBSCRIBE" | "PUNSUBSCRIBE"), topic] => {
                let at = self.topics.iter().position(|known| known == topic);
                self.topics.remove(at.expect("it was subscribed to"));
                let reply = resp::confirmation(kind, topic, self.topics.len());
                self.send(reply.as_bytes());
            }
            other => panic!("the server sent the command {other:?}"),
        }
    }

    fn publish(&mut self, net: &SimNet, now: Time) {
        self.number += 1;
        let number = self.number;
        let channels = self.plan.channels;
        if !channels.is_empty() && (self.plan.only_channels || self.random.one_in(2)) {
            let channel = channels[self.random.below(channels.len() as u64) as usize];
            let payload = payload(
                &mut self.random,
                &format!("m{number}"),
                self.plan.padding_max,
            );
            self.put_on_channel(channel.to_owned(), payload, net, now);
            return;
        }
        let (channel, payload, counts) =
            emoji_message(&mut self.random, number, self.plan.padding_max);
        self.deliver(&channel, &payload, counts);
    }

    /// Sends a message to the server, once for its name and once for each pattern that matches it; by which that
    /// was.
    fn deliver(&mut self, channel: &str, payload: &[u8], counts: bool) -> Vec<String> {
        let is_pattern = |topic: &String| Glob::new(topic).is_pattern();
        let matches = |topic: &&String| topic.as_str() == channel && !is_pattern(topic);
        let by_name: Vec<String> = self.topics.iter().filter(matches).cloned().collect();
        let matches = |topic: &&String| is_pattern(topic) && Glob::new(topic).matches(channel);
        let by_pattern: Vec<String> = self.topics.iter().filter(matches).cloned().collect();
        let asked: Vec<String> = by_name.iter().chain(&by_pattern).cloned().collect();
        for topic in &asked {
            let pattern = by_pattern.contains(topic).then(|| topic.clone());
            let bytes = resp::message(pattern.as_deref(), channel, payload);
            self.send(&bytes);
            let text = || String::from_utf8_lossy(payload).into_owned();
            let message = counts.then(|| (pattern, channel.to_owned(), text()));
            self.under_way.push_back((self.written, message));
        }
        asked
    }

    fn send(&mut self, bytes: &[u8]) {
        self.outgoing.extend(bytes);
        self.written += bytes.len() as u64;
    }
}
