//! Subscriptions: a stream's beginning. It owns admission, the head and first bytes, and what a client that
//! comes back is sent of what it missed; it must not know how frames are written.

use super::conn::{Cursor, Key, Phase, Subscription};
use super::event_id::{self, EventId};
use super::hub::Stream;
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
    /// The same, but the client has an id that it must forget.
    NowAndForget,
    /// With what was missed since this number; the client forgets its id behind it.
    Missed(u64),
}

impl Topic {
    fn name(&self) -> (Stream, Option<&[u8]>) {
        (self.stream, self.child.as_ref().map(String::as_bytes))
    }
}

/// What is shown of a request: its path, and of one for several streams which these are.
fn shown_path(topics: &[Topic], accepted: &Accepted) -> Box<str> {
    if topics.len() < 2 {
        return accepted.path.clone();
    }
    let mut path = accepted.path.to_string();
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

impl Engine {
    /// Begins a stream, or says why it cannot begin now.
    pub(super) fn subscribe(
        &mut self,
        key: Key,
        topics: &[Topic],
        accepted: &Accepted,
    ) -> Result<(), Reply> {
        if let Some(reply) = self.shed(accepted) {
            return Err(reply);
        }
        let head = self.log.head();
        let names: Vec<_> = topics.iter().map(Topic::name).collect();
        let (namespace, slot) = match names[..] {
            [(stream, child)] => self.hub.subscribe(stream, child, key.index, head),
            _ => self.hub.subscribe_to_several(&names, key.index, head),
        };
        // What carries anything but scores lasts as long as that.
        let stream = topics.iter().map(|topic| topic.stream);
        let stream = stream.max_by_key(|stream| !stream.is_score());
        let stream = stream.unwrap_or(Stream::Details);
        let start = self.start_of(accepted.last_event_id.as_deref(), namespace);
        let Some(conn) = self.conns.get_mut(key) else {
            return Ok(());
        };
        let sequence = match start {
            Start::Missed(sequence) => sequence,
            Start::Now | Start::NowAndForget => head,
        };
        let subscription = Subscription {
            namespace,
            slot,
            coding: if accepted.http_11 {
                Coding::Chunked
            } else {
                Coding::Bare
            },
            cursor: Cursor {
                sequence,
                offset: 0,
                merged: 0,
            },
            events: 0,
            forgets_at: matches!(start, Start::Missed(_)).then_some(head),
        };
        let lifetime = self.settings.lifetime_of(stream);
        conn.phase = Phase::Subscribed(subscription);
        conn.progress_at = self.now;
        // Spread, so that those who came together do not come back together.
        conn.ends_at = lifetime.map(|longest| {
            let shortest = longest * 4 / 5 + limits::LIFETIME_SLACK;
            self.now + self.random.between(shortest.min(longest), longest)
        });
        conn.about.subscribed_at = self.now;
        conn.about.client_ip = accepted.client_ip;
        conn.about.path = shown_path(topics, accepted);
        conn.about.tag = match topics {
            [topic] => topic.child.as_deref().map(Box::from),
            _ => None,
        };
        conn.about.user_agent = accepted.user_agent.clone();
        conn.about.token = accepted.token.as_deref().map(Box::from);
        let out = conn.outbox.buffer();
        let extra = self.settings.stream_head_extra();
        reply::encode_stream_head(out, accepted.http_11, extra, self.unix_seconds);
        let mut first = Vec::new();
        match self.settings.retry_of(stream) {
            Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
            None => first.extend_from_slice(sse::COMMENT),
        }
        if start == Start::NowAndForget {
            first.extend_from_slice(event_id::CLEAR);
        }
        encode_piece(out, subscription.coding, &first);
        let about = &conn.about;
        self.addresses
            .insert(key, about.client_ip, about.token.as_deref());
        self.counters.subscribed += 1;
        if self.settings.verbose {
            let line = format!("connect {} from {}", about.path, about.client_ip);
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        self.queue_write(key);
        self.arm(key);
        Ok(())
    }

    /// The answer to a subscription for which there is no room, or none for its address. A browser gives up
    /// for good on any answer but a stream, so it gets one that ends at once and says when to come again.
    fn shed(&mut self, accepted: &Accepted) -> Option<Reply> {
        let per_address = self.settings.connections_per_ip_max;
        let is_crowded = self.addresses.count(accepted.client_ip) >= per_address;
        if !self.stopping && !is_crowded && self.hub.subscribers() < self.settings.connections_max {
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
        if !accepted.accepts_stream {
            let seconds = pause.as_secs();
            let message = format!("no room for another stream; come again in {seconds} s");
            return Some(Reply {
                extra: format!("Retry-After: {seconds}\r\n").into(),
                ..Reply::error(503, &message)
            });
        }
        let mut body = Vec::new();
        sse::encode_retry(&mut body, pause.as_millis() as u32);
        Some(Reply::finite_stream(body))
    }

    /// Where a stream begins for a client with this id. An id of another process, of the future, or of what
    /// is not kept any more, is worth nothing: to replay a part would be to skip one silently.
    fn start_of(&mut self, id: Option<&str>, namespace: super::hub::NamespaceId) -> Start {
        let Some(text) = id.filter(|text| !text.is_empty()) else {
            return Start::Now;
        };
        let complete_from = self
            .hub
            .get(namespace)
            .map_or(u64::MAX, |namespace| namespace.complete_from);
        match EventId::parse(text) {
            Some(EventId { epoch, sequence })
                if epoch == self.settings.epoch
                    && (complete_from..=self.log.head()).contains(&sequence) =>
            {
                self.counters.replayed += 1;
                let missed = self
                    .hub
                    .get(namespace)
                    .and_then(|namespace| namespace.frames_from(sequence).next());
                if missed.is_some() {
                    Start::Missed(sequence)
                } else {
                    Start::NowAndForget
                }
            }
            _ => {
                self.counters.replay_refused += 1;
                Start::NowAndForget
            }
        }
    }
}
