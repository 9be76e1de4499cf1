//! Subscriptions: a stream's beginning. It owns admission, the head and first bytes, and what a client that
//! comes back is sent of what it missed; it must not know how frames are written.

use super::conn::{About, Key, Phase, Reading, Subscription};
use super::requests::{Accepted, shown};
use super::route::Topic;
use super::{Effect, Engine};
use crate::bus::{self, Coding, Start, Stream, sse};
use crate::level::Level;
use crate::limits;
use crate::proto::reply::{self, Reply};

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
        let is_poll = mix.is_poll(accepted);
        let coding = match accepted.http_11 {
            true => Coding::Chunked,
            false => Coding::Bare,
        };
        let names: Vec<bus::Name<'_>> = topics.iter().map(Topic::name).collect();
        let named = topics.iter().any(|topic| topic.is_named);
        let form = bus::Form { coding, named };
        let last_event_id = accepted.last_event_id.as_deref();
        let resume = last_event_id.filter(|text| !text.is_empty());
        let (id, start) = self.bus.subscribe(&names, key.index, form, resume);
        match start {
            Start::Now => {}
            Start::Missed | Start::Caught => self.counters.replayed += 1,
            Start::Gap => self.counters.replay_refused += 1,
        }
        let Some(conn) = self.conns.get_mut(key) else {
            return Ok(());
        };
        conn.phase = Phase::Subscribed(Subscription {
            id,
            coding,
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
        if !is_poll {
            let out = conn.outbox.buffer();
            let extra = self.settings.streams.head_extra();
            reply::encode_stream_head(out, accepted.http_11, extra, self.unix_seconds);
            let mut first = Vec::new();
            match reconnect.retry_ms {
                Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
                None => first.extend_from_slice(sse::COMMENT),
            }
            self.bus.encode_start(id, start, &mut first);
            coding.encode(out, &first);
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
            self.bus.encode_start(id, start, &mut events);
            self.answer_poll(key, &events);
        }
        if mix.has_channels && !is_poll {
            self.hold_until_heard(key);
        }
        self.queue_write(key);
        Ok(())
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
            && self.bus.line().registry().subscribers() < self.settings.admission.connections_max
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
        self.leave(key, subscription.id);
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
