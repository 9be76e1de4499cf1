//! Subscriptions: a stream's beginning. It owns admission, the head and first bytes, and what a client that
//! comes back is sent of what it missed; it must not know how frames are written.

use std::borrow::Cow;

use super::channels::segment_of;
use super::conn::{Cursor, Key, Phase, Reading, Subscription};
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

/// What tells the client of a channel that it lacks what nobody can send it any more.
const GAP: &[u8] = b"event: gap\ndata: reload\n\n";

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
        let names: Vec<_> = topics.iter().map(Topic::name).collect();
        let head = self.log.head();
        let names: Vec<_> = names
            .iter()
            .map(|(of, child)| (*of, child.as_deref()))
            .collect();
        let (namespace, slot) = match names[..] {
            [(stream, child)] => self.hub.subscribe(stream, child, key.index, head),
            _ => self.hub.subscribe_to_several(&names, key.index, head),
        };
        let is_of_channel = |topic: &Topic| topic.stream == Stream::Channels;
        let has_channels = topics.iter().any(is_of_channel);
        let is_poll = accepted.is_xhr && topics.iter().all(is_of_channel);
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
            Start::Now | Start::Caught | Start::Gap => head,
        };
        // Where channels come with other streams, all events have ids: a place is then one for all of them. Where
        // they come alone, their frames have them.
        let is_mixed = has_channels && !topics.iter().all(is_of_channel);
        let forgets_at = match start {
            _ if is_mixed => Some(u64::MAX),
            Start::Missed(_) if !has_channels => Some(head),
            _ => None,
        };
        // A request that stands behind the poll already is not going to be read.
        let is_last = matches!(&conn.phase, Phase::Reading(reading) if !reading.buffer.is_empty());
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
            forgets_at,
            poll: is_poll.then_some(accepted.keep_alive && !is_last),
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
            [topic] if !has_channels => topic.child.as_deref().map(Box::from),
            _ => None,
        };
        conn.about.user_agent = accepted.user_agent.clone();
        conn.about.token = accepted.token.as_deref().map(Box::from);
        let epoch = self.settings.epoch;
        let id = EventId { epoch, sequence };
        if !is_poll {
            let out = conn.outbox.buffer();
            let extra = self.settings.stream_head_extra();
            reply::encode_stream_head(out, accepted.http_11, extra, self.unix_seconds);
            let mut first = Vec::new();
            match self.settings.retry_of(stream) {
                Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
                None => first.extend_from_slice(sse::COMMENT),
            }
            match start {
                Start::Caught | Start::Gap if !has_channels => {
                    first.extend_from_slice(event_id::CLEAR);
                }
                Start::Missed(_) => {}
                // Who loses the connection before the first message has a place to come back to as well.
                _ if has_channels => {
                    id.encode_channel_line(&mut first);
                    first.extend_from_slice(if start == Start::Gap { GAP } else { b"\n" });
                }
                _ => {}
            }
            encode_piece(out, subscription.coding, &first);
        }
        let about = &conn.about;
        self.addresses
            .insert(key, about.client_ip, about.token.as_deref());
        self.counters.subscribed += 1;
        if self.settings.verbose {
            let line = format!("connect {} from {}", about.path, about.client_ip);
            self.effects.push_back(Effect::Log(Level::Debug, line));
        }
        self.arm(key);
        if is_poll && start == Start::Gap {
            let mut body = Vec::new();
            id.encode_channel_line(&mut body);
            body.extend_from_slice(GAP);
            self.answer_poll(key, body);
        }
        self.queue_write(key);
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
    fn start_of(&mut self, id: Option<&str>, namespace: NamespaceId) -> Start {
        let Some(text) = id.filter(|text| !text.is_empty()) else {
            return Start::Now;
        };
        let whole_from = match self.hub.carries(namespace, Stream::Channels) {
            true => self.channels_whole_from,
            false => 0,
        };
        let Some(namespace) = self.hub.get(namespace) else {
            return Start::Now;
        };
        let whole_from = namespace.complete_from.max(whole_from);
        match EventId::parse(text) {
            Some(EventId { epoch, sequence })
                if epoch == self.settings.epoch
                    && (whole_from..=self.log.head()).contains(&sequence) =>
            {
                self.counters.replayed += 1;
                match namespace.frames_from(sequence).next() {
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
    pub(super) fn answer_poll(&mut self, key: Key, events: Vec<u8>) {
        let Some(conn) = self.conns.get(key) else {
            return;
        };
        let Some(&subscription) = conn.subscription() else {
            return;
        };
        let Some(keep_alive) = subscription.poll else {
            return;
        };
        self.counters.events_out += u64::from(!events.is_empty());
        self.leave(key, &subscription);
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let reading = Reading {
            answered: 1,
            ..Reading::default()
        };
        conn.phase = Phase::Reading(Box::new(reading));
        conn.about.path = Box::default();
        conn.ends_at = None;
        let reply = Reply::finite_stream(events);
        let keep_alive = keep_alive && !self.stopping;
        self.put_reply(key, &reply, keep_alive, false);
        // Where its time had come, its entry in the timers is used up.
        self.arm(key);
    }
}
