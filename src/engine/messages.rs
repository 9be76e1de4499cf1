//! Messages: what the source brings is put on the bus. It owns which channel feeds which stream, and what is
//! dropped; it must not know who receives a message.

use super::Engine;
use super::cleanup::CLEANUP_CHANNEL;
use crate::broker::Message;
use crate::bus::{Stream, sse};

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
        let pattern = message.pattern.as_deref();
        let pattern = pattern.filter(|pattern| !is_own_channel(pattern));
        let is_own = is_own_channel(channel);
        match pattern {
            // What a pattern of channels matches beside them is not theirs, and has come by itself.
            Some(_) if is_own => {}
            Some(pattern) => self.on_message_of_channel(pattern, message),
            None if is_own => self.on_own_message(message),
            None if self.settings.channels.patterns.is_empty() => {
                self.counters.dropped_unknown += 1;
            }
            None => self.on_message_of_channel(channel, message),
        }
    }

    /// A message came for the emoji streams or for the server.
    fn on_own_message(&mut self, message: &Message) {
        let (channel, payload) = (message.channel.as_slice(), &message.payload);
        let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
        if channel == CLEANUP_CHANNEL.as_bytes() {
            self.on_relay(payload);
        } else if !is_text(payload) || !is_text(channel) {
            self.counters.dropped_encoding += 1;
        } else if channel == SCORE_CHANNEL.as_bytes() {
            self.bus.publish_score(payload);
        } else if sse::has_control_bytes(channel) {
            self.counters.dropped_channel += 1;
        } else if let Some(id) = channel.strip_prefix(TWEET_CHANNEL_PREFIX.as_bytes()) {
            let name = (Stream::Details, Some(id));
            self.bus.publish(name, Some(channel), payload);
        } else if channel.starts_with(KIOSK_CHANNEL_PREFIX.as_bytes()) {
            let name = (Stream::Kiosk, None);
            self.bus.publish(name, Some(channel), payload);
        } else {
            self.counters.dropped_unknown += 1;
        }
    }

    /// A message came for those who asked for `asked`, its channel or a pattern. They are told where it cannot be
    /// sent.
    fn on_message_of_channel(&mut self, asked: &[u8], message: &Message) {
        let (channel, payload) = (message.channel.as_slice(), &message.payload);
        let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
        let name = (Stream::Channels, Some(asked));
        if !is_text(payload) || !is_text(channel) {
            self.counters.dropped_encoding += 1;
            self.bus.publish_gap(name);
        } else if sse::has_control_bytes(channel) {
            self.counters.dropped_channel += 1;
            self.bus.publish_gap(name);
        } else {
            self.bus.publish(name, Some(channel), payload);
        }
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
