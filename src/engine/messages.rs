//! Messages: what the source brings becomes frames in the log. It owns which channel feeds which stream,
//! what is dropped, and the tick; it must not know who receives a frame.

use super::Engine;
use super::cleanup::CLEANUP_CHANNEL;
use super::hub::{NamespaceId, Stream};
use super::rollup::CountError;
use crate::limits;
use crate::proto::sse;
use crate::source::Message;
use crate::time::Time;

/// The channel of score updates.
pub const SCORE_CHANNEL: &str = "stream.score_updates";
/// What stands before the ID in the channels of tweets.
pub const TWEET_CHANNEL_PREFIX: &str = "stream.tweet_updates.";
/// What stands before the command in the kiosk's channels.
pub const KIOSK_CHANNEL_PREFIX: &str = "stream.interaction.";
/// What stands before what the copies of the server tell each other.
const ADMIN_CHANNEL_PREFIX: &str = "stream.admin.";

/// Whether a channel, or a pattern, belongs to the emoji streams or to the server, and is never to be asked for by
/// its name.
pub fn is_own_channel(channel: &[u8]) -> bool {
    let prefixes = [
        TWEET_CHANNEL_PREFIX,
        KIOSK_CHANNEL_PREFIX,
        ADMIN_CHANNEL_PREFIX,
    ];
    channel == SCORE_CHANNEL.as_bytes()
        || prefixes
            .iter()
            .any(|prefix| channel.starts_with(prefix.as_bytes()))
}

impl Engine {
    /// A message came from the source.
    pub fn on_message(&mut self, message: &Message) {
        self.counters.messages_in += 1;
        let channel = message.channel.as_slice();
        let foreign = message.pattern.as_deref();
        let foreign = foreign.filter(|pattern| !is_own_channel(pattern));
        if channel == CLEANUP_CHANNEL.as_bytes() && foreign.is_none() {
            self.on_relay(&message.payload);
        } else if std::str::from_utf8(&message.payload).is_err()
            || std::str::from_utf8(channel).is_err()
        {
            self.counters.dropped_encoding += 1;
        } else if let Some(pattern) = foreign {
            // What a pattern of channels matches beside them is not theirs, and has come by itself.
            if !is_own_channel(channel) {
                self.on_message_of_channel(pattern, message);
            }
        } else if channel == SCORE_CHANNEL.as_bytes() {
            self.publish(Stream::Raw, None, None, &message.payload);
            self.count_score(&message.payload);
        } else if sse::has_control_bytes(channel) {
            self.counters.dropped_channel += 1;
        } else if let Some(id) = channel.strip_prefix(TWEET_CHANNEL_PREFIX.as_bytes()) {
            self.publish(Stream::Details, Some(id), Some(channel), &message.payload);
        } else if channel.starts_with(KIOSK_CHANNEL_PREFIX.as_bytes()) {
            self.publish(Stream::Kiosk, None, Some(channel), &message.payload);
        } else if !self.settings.channels.patterns.is_empty() {
            self.on_message_of_channel(channel, message);
        } else {
            self.counters.dropped_unknown += 1;
        }
    }

    /// A message came for those who asked for `asked`, its channel or a pattern.
    fn on_message_of_channel(&mut self, asked: &[u8], message: &Message) {
        if sse::has_control_bytes(&message.channel) {
            self.counters.dropped_channel += 1;
        } else {
            self.publish_to_channel(asked, message);
        }
    }

    /// Encodes a message once and puts it where its subscribers will find it.
    fn publish(
        &mut self,
        stream: Stream,
        child: Option<&[u8]>,
        event: Option<&[u8]>,
        payload: &[u8],
    ) {
        let Some(namespace) = self.hub.destination(stream, child) else {
            return;
        };
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        sse::encode_event(&mut body, event, payload);
        self.append(namespace, &body, self.now);
        self.body = body;
    }

    /// Puts a frame into the log, at the cost of the oldest ones. The namespace stays meanwhile, because
    /// somebody is in it.
    pub(super) fn append(&mut self, namespace: NamespaceId, body: &[u8], arrived_at: Time) {
        if !self.log.takes(body.len()) {
            self.counters.dropped_oversized += 1;
            return;
        }
        self.make_room_for(body.len());
        let sequence = self.log.append(namespace, body, self.now);
        self.hub.publish(namespace, sequence, arrived_at);
        self.counters.frames += 1;
    }

    /// Evicts the oldest frames until one of this length can be taken.
    pub(super) fn make_room_for(&mut self, len: usize) {
        while self.log.is_full_for(len) {
            let Some((sequence, published_to)) = self.log.evict() else {
                break;
            };
            self.hub.forget(published_to, sequence);
        }
    }

    fn count_score(&mut self, key: &[u8]) {
        if self.hub.destination(Stream::Eps, None).is_none() {
            return;
        }
        let mut counted = self.rollup.count(key);
        if counted == Err(CountError::Full) {
            self.tick();
            counted = self.rollup.count(key);
        }
        match counted {
            Ok(()) if self.tick_at.is_none() => {
                let rested = self.rest_until.filter(|&at| at <= self.now);
                self.tick_at = Some(rested.unwrap_or_else(|| self.now.next_beat(limits::TICK)));
                // What has been waiting may have come as early as when the rest began.
                self.counted_since = rested.map_or(self.now, |at| at - limits::TICK);
            }
            Ok(()) => {}
            Err(_) => self.counters.dropped_oversized += 1,
        }
    }

    /// Sends what was counted since the last tick as one frame.
    pub(super) fn tick(&mut self) {
        let due_at = self.tick_at.take();
        self.rest_until = None;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        body.extend_from_slice(b"data:");
        let empty_len = body.len();
        self.rollup.take(&mut body);
        if body.len() > empty_len {
            body.extend_from_slice(b"\n\n");
            self.counters.ticks += 1;
            // One that is full before its time is not late.
            let lateness = self.now.since(due_at.unwrap_or(self.now));
            self.counters.tick_lateness.observe(lateness, 1);
            self.rest_until = Some(self.now.next_beat(limits::TICK));
            if let Some(namespace) = self.hub.destination(Stream::Eps, None) {
                self.append(namespace, &body, self.counted_since);
            }
        }
        self.body = body;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_channels_are_known_by_name() {
        assert!(is_own_channel(CLEANUP_CHANNEL.as_bytes()));
        for (name, expected) in [
            ("stream.score_updates", true),
            ("stream.tweet_updates.1F4C2", true),
            ("stream.tweet_updates.", true),
            ("stream.interaction.a", true),
            ("stream.admin.a", true),
            ("stream.score_updates.a", false),
            ("stream.tweet_updates", false),
            ("stream.a", false),
            ("Stream.admin.a", false),
            ("", false),
        ] {
            assert_eq!(is_own_channel(name.as_bytes()), expected, "{name:?}");
        }
    }
}
