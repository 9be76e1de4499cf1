//! Subscriptions: a stream's beginning. It owns admission, the head and first bytes, and what a client that
//! comes back is sent of what it missed; it must not know how frames are written.

use std::borrow::Cow;

use super::channels::segment_of;
use super::conn::{About, Cursor, Key, Phase, Reading, Subscription};
use super::event_id::{self, EventId};
use super::hub::{NamespaceId, Stream};
use super::log::Coding;
use super::requests::{Accepted, shown};
use super::route::Topic;
use super::{Effect, Engine, encode_piece};
use crate::level::Level;
use crate::limits;
use crate::proto::reply::{self, Reply};
use crate::proto::sse;

/// Where a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With what is published from now on.
    Now,
    /// With what was missed since this number.
    Missed(u64),
    /// Now, although the client has the id of a place; nothing that it lacks is there.
    Caught,
    /// The same, but what it lacks, if anything, is not kept any more.
    Gap,
}

/// What tells the client of a channel that it lacks what nobody can send it any more. It has data, or a browser
/// would not dispatch it; scripts that poll and know no names of events take this for nothing.
const GAP: &[u8] = b"event: gap\ndata: null\n\n";

impl Topic {
    fn name(&self) -> (Stream, Option<Cow<'_, [u8]>>) {
        let child = self.child.as_deref().map(str::as_bytes);
        let child = child.map(|name| match self.stream {
            Stream::Channels => segment_of(name, self.form).into(),
            _ => Cow::Borrowed(name),
        });
        (self.stream, child)
    }
}

/// What is shown of a request: its path, and of one whose query names the streams which these are.
fn shown_path(topics: &[Topic], accepted: &Accepted) -> Box<str> {
    // Such as `/subscribe/eps`, and `/subscribe/channels/a`.
    let depth = accepted.path.matches('/').count();
    let is_named_by_path =
        matches!(topics, [topic] if depth == 2 + usize::from(topic.child.is_some()));
    if is_named_by_path {
        return accepted.path.clone();
    }
    let mut path = String::from("/subscribe");
    for (index, topic) in topics.iter().enumerate() {
        path.push_str(if index == 0 { "?ns=/" } else { "&ns=/" });
        path.push_str(topic.stream.segment());
        if let Some(child) = &topic.child {
            path.push('/');
            path.push_str(child);
        }
    }
    shown(path.as_bytes())
}

impl About {
    /// Takes what is to be shown of a stream.
    fn describe(&mut self, topics: &[Topic], accepted: &Accepted) {
        self.client_ip = accepted.client_ip;
        self.path = shown_path(topics, accepted);
        self.tag = match topics {
            [topic] if topic.stream != Stream::Channels => topic.child.as_deref().map(Box::from),
            _ => None,
        };
        self.user_agent = accepted.user_agent.clone();
        self.token = accepted.token.as_deref().map(Box::from);
    }
}

/// What a list of topics amounts to.
#[derive(Clone, Copy)]
struct Mix {
    /// Whose settings hold for it: what carries anything but scores lasts as long as that.
    stream: Stream,
    has_channels: bool,
    has_others: bool,
}

impl Mix {
    fn of(topics: &[Topic]) -> Mix {
        let streams = || topics.iter().map(|topic| topic.stream);
        let stream = streams().max_by_key(|stream| !stream.is_score());
        Mix {
            stream: stream.unwrap_or(Stream::Details),
            has_channels: streams().any(|stream| stream == Stream::Channels),
            has_others: streams().any(|stream| stream != Stream::Channels),
        }
    }

    /// Whether a request for it is a long poll: one of a script, for channels alone.
    fn is_poll(self, accepted: &Accepted) -> bool {
        accepted.is_xhr && !self.has_others
    }

    /// Until which number events carry their ids. Where channels come with other streams, all have them for good: a
    /// place is then one for all of them. Where they come alone, it is their frames that have them.
    fn forgets_at(self, start: Start, head: u64) -> Option<u64> {
        match start {
            _ if self.has_channels => self.has_others.then_some(u64::MAX),
            Start::Missed(_) => Some(head),
            Start::Now | Start::Caught | Start::Gap => None,
        }
    }

    /// What a stream that begins like this says of its client's place, this one, before any event.
    fn encode_start(self, start: Start, id: EventId, out: &mut Vec<u8>) {
        match start {
            // It is told with each event, or when all are there.
            Start::Missed(_) => {}
            Start::Gap if self.has_channels => {
                id.encode_channel_line(out);
                out.extend_from_slice(GAP);
            }
            // Who loses the connection before the first message has a place to come back to as well.
            Start::Now | Start::Caught if self.has_channels => {
                id.encode_channel_line(out);
                out.push(b'\n');
            }
            Start::Caught | Start::Gap => out.extend_from_slice(event_id::CLEAR),
            Start::Now => {}
        }
    }
}

impl Engine {
    /// Begins a stream, or says why it cannot begin now.
    pub(super) fn subscribe(
        &mut self,
        key: Key,
        topics: &[Topic],
        accepted: &Accepted,
    ) -> Result<(), Reply> {
        let mix = Mix::of(topics);
        if let Some(reply) = self.shed(accepted, mix) {
            return Err(reply);
        }
        let (namespace, slot) = self.enter(key, topics);
        let head = self.log.head();
        let start = self.start_of(accepted.last_event_id.as_deref(), namespace);
        let Some(conn) = self.conns.get_mut(key) else {
            return Ok(());
        };
        let sequence = match start {
            Start::Missed(sequence) => sequence,
            Start::Now | Start::Caught | Start::Gap => head,
        };
        let is_poll = mix.is_poll(accepted);
        let coding = match accepted.http_11 {
            true => Coding::Chunked,
            false => Coding::Bare,
        };
        conn.phase = Phase::Subscribed(Subscription {
            namespace,
            slot,
            coding,
            cursor: Cursor {
                sequence,
                offset: 0,
                merged: 0,
            },
            events: 0,
            forgets_at: mix.forgets_at(start, head),
            poll: is_poll.then_some(accepted.keep_alive),
        });
        conn.progress_at = self.now;
        // Spread, so that those who came together do not come back together.
        let reconnect = self.settings.streams.reconnect(mix.stream);
        conn.ends_at = reconnect.lifetime.map(|longest| {
            let shortest = longest * 4 / 5 + limits::LIFETIME_SLACK;
            self.now + self.random.between(shortest.min(longest), longest)
        });
        conn.about.subscribed_at = self.now;
        conn.about.describe(topics, accepted);
        let epoch = self.settings.epoch;
        let id = EventId { epoch, sequence };
        self.unnamed_place = None;
        if !is_poll {
            let out = conn.outbox.buffer();
            let extra = self.settings.streams.head_extra();
            reply::encode_stream_head(out, accepted.http_11, extra, self.unix_seconds);
            let mut first = Vec::new();
            match reconnect.retry_ms {
                Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
                None => first.extend_from_slice(sse::COMMENT),
            }
            mix.encode_start(start, id, &mut first);
            encode_piece(out, coding, &first);
        }
        let about = &mut conn.about;
        about.places = self
            .addresses
            .insert(key, about.client_ip, about.token.as_deref());
        self.counters.subscribed += 1;
        if self.settings.verbose {
            let line = format!("connect {} from {}", about.path, about.client_ip);
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        self.arm(key);
        if is_poll && start == Start::Gap {
            let mut events = Vec::new();
            mix.encode_start(start, id, &mut events);
            self.answer_poll(key, &events);
        }
        if mix.has_channels && !is_poll {
            self.hold_until_heard(key);
        }
        self.queue_write(key);
        Ok(())
    }

    /// Registers a connection for what it wants.
    fn enter(&mut self, key: Key, topics: &[Topic]) -> (NamespaceId, u32) {
        let names: Vec<_> = topics.iter().map(Topic::name).collect();
        let names = names.iter().map(|(of, child)| (*of, child.as_deref()));
        let names: Vec<(Stream, Option<&[u8]>)> = names.collect();
        let is_new = |&(of, child): &(Stream, Option<&[u8]>)| {
            of.is_on_demand() && child.is_some_and(|child| !self.hub.is_wanted(of, child))
        };
        if names.iter().any(is_new) {
            // What came for it while nobody was there has left no trace.
            self.begin_afresh();
        }
        let head = self.log.head();
        match names[..] {
            [(stream, child)] => self.hub.subscribe(stream, child, key.index, head),
            ref several => self.hub.subscribe_to_several(several, key.index, head),
        }
    }

    /// The answer to a subscription for which there is no room, or none for its address. A browser gives up
    /// for good on any answer but a stream, so it gets one that ends at once and says when to come again. A
    /// script that polls would take that for an answer and poll again at once: it gets an error.
    fn shed(&mut self, accepted: &Accepted, mix: Mix) -> Option<Reply> {
        let per_address = self.settings.admission.connections_per_ip_max;
        let is_crowded = self.addresses.count(accepted.client_ip) >= per_address;
        let is_crowded =
            is_crowded || (mix.has_channels && self.listened.len() >= limits::CHANNELS_MAX);
        if !self.stopping
            && !is_crowded
            && self.hub.subscribers() < self.settings.admission.connections_max
        {
            return None;
        }
        self.counters.shed += 1;
        if self.settings.verbose {
            let line = format!("shed {} from {}", accepted.path, accepted.client_ip);
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        let pause = self
            .random
            .between(limits::SHED_RETRY_MIN, limits::SHED_RETRY_MAX);
        if !accepted.accepts_stream || mix.is_poll(accepted) {
            let seconds = pause.as_secs();
            let message = format!("no room for another stream; come again in {seconds} s");
            return Some(Reply::error(503, &message).with_retry_after(seconds));
        }
        let mut body = Vec::new();
        sse::encode_retry(&mut body, pause.as_millis() as u32);
        Some(Reply::finite_stream(body))
    }

    /// Where a stream begins for a client with this id. An id of another process, of the future, or of what
    /// is not kept any more, is worth nothing: to replay a part would be to skip one silently.
    fn start_of(&mut self, id: Option<&str>, namespace: NamespaceId) -> Start {
        let Some(text) = id.filter(|text| !text.is_empty()) else {
            return Start::Now;
        };
        let whole_from = match self.hub.carries(namespace, Stream::Channels) {
            true => self.channels_whole_from,
            false => 0,
        };
        let whole_from = self.hub.complete_from(namespace).max(whole_from);
        match EventId::parse(text) {
            Some(EventId { epoch, sequence })
                if epoch == self.settings.epoch
                    && (whole_from..=self.log.head()).contains(&sequence) =>
            {
                self.counters.replayed += 1;
                match self.hub.frames_from(namespace, sequence).next() {
                    Some(_) => Start::Missed(sequence),
                    None => Start::Caught,
                }
            }
            _ => {
                self.counters.replay_refused += 1;
                Start::Gap
            }
        }
    }

    /// Ends a long poll with these events, or with none.
    pub(super) fn answer_poll(&mut self, key: Key, events: &[u8]) {
        self.counters.events_out += u64::from(!events.is_empty());
        let mut body = Vec::new();
        if !events.is_empty()
            && let Some(retry_ms) = self.settings.streams.reconnect(Stream::Channels).retry_ms
        {
            sse::encode_retry(&mut body, retry_ms);
        }
        body.extend_from_slice(events);
        self.end_poll(key, &Reply::finite_stream(body));
    }

    /// Ends a long poll with this reply, and goes on with its connection.
    pub(super) fn end_poll(&mut self, key: Key, reply: &Reply) {
        let Some(conn) = self.conns.get(key) else {
            return;
        };
        let Some(&subscription) = conn.subscription() else {
            return;
        };
        let Some(keep_alive) = subscription.poll else {
            return;
        };
        self.leave(key, &subscription);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let reading = Reading {
            answered: 1,
            ..Reading::default()
        };
        conn.phase = Phase::Reading(Box::new(reading));
        if self.settings.verbose {
            let (path, client_ip) = (&conn.about.path, conn.about.client_ip);
            let line = format!("answered {path} from {client_ip}");
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        conn.about.path = Box::default();
        conn.about.client_ip = conn.about.peer_ip;
        conn.ends_at = None;
        let keep_alive = keep_alive && !self.stopping;
        self.put_reply(key, reply, keep_alive, false);
        // Where its time had come, its entry in the timers is used up.
        self.arm(key);
    }
}
