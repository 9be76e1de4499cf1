//! Messages: where on the bus a message belongs. It owns which channel feeds which stream, and which messages are dropped;
//! it must not know who receives a message.

use super::cleanup::CLEANUP_CHANNEL;
use super::settings::Settings;
use super::topics;
use crate::broker::Message;
use crate::bus::{Line, Name, Stream, sse};

/// The channel of score updates.
pub const SCORE_CHANNEL: &str = "stream.score_updates";
/// The prefix of the channels of tweets, which an ID follows.
pub const TWEET_CHANNEL_PREFIX: &str = "stream.tweet_updates.";
/// The prefix of the kiosk's channels.
pub const KIOSK_CHANNEL_PREFIX: &str = "stream.interaction.";
/// The prefix of the channels between copies of the server.
const ADMIN_CHANNEL_PREFIX: &str = "stream.admin.";

/// Whether a channel or a pattern is reserved for the emoji streams and the server: clients cannot subscribe to it.
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

/// Where a message goes.
#[derive(Debug, PartialEq, Eq)]
enum Destination<'a> {
    /// To the streams of scores.
    Score,
    /// To the streams of scores, as a gap, because it cannot be sent.
    ScoreGap(Drop),
    /// To a namespace, as an event with its channel's name.
    Publish(Name<'a>),
    /// To a namespace, as a gap, because it cannot be sent.
    Gap(Name<'a>, Drop),
    /// To the server: it is a cleanup that another copy relays.
    Relay,
    /// Nowhere.
    Drop(Drop),
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// The message is not UTF-8.
    Encoding,
    /// The broker's protocol would take more memory for it than one message may.
    Size,
    /// The channel has control bytes.
    Channel,
    /// The channel feeds no stream.
    Unknown,
    /// It is a cleanup of another copy that cannot be parsed.
    Relay,
    /// The source delivers it a second time, for another subscription.
    Double,
}

impl Drop {
    /// How many reasons there are.
    pub const COUNT: usize = Drop::Double as usize + 1;
}

/// Publishes a message where it belongs; `has_channels` is whether channels are enabled. Whether it is a relay instead, for
/// the server itself.
///
/// # Errors
/// Why it was dropped.
pub fn publish(line: &mut Line, message: &Message, has_channels: bool) -> Result<bool, Drop> {
    match destination(message, has_channels) {
        Destination::Score => line.publish_score(&message.payload),
        Destination::Publish(name) => line.publish(name, Some(&message.channel), &message.payload),
        Destination::ScoreGap(drop) => {
            line.publish_gap((Stream::Raw, None));
            line.publish_gap((Stream::Eps, None));
            return Err(drop);
        }
        Destination::Gap(name, drop) => {
            line.publish_gap(name);
            return Err(drop);
        }
        Destination::Relay => return Ok(true),
        Destination::Drop(drop) => return Err(drop),
    }
    Ok(false)
}

/// Where a message goes; `has_channels` is whether channels are enabled.
fn destination(message: &Message, has_channels: bool) -> Destination<'_> {
    let channel = message.channel.as_slice();
    let pattern = message.pattern.as_deref();
    let pattern = pattern.filter(|pattern| !is_own_channel(pattern));
    match (pattern, is_own_channel(channel)) {
        // Patterns do not cover reserved channels, which have subscriptions of their own.
        (Some(_), true) => Destination::Drop(Drop::Double),
        (Some(pattern), false) => of_channel(pattern, message),
        (None, true) => of_server(message),
        (None, false) if !has_channels => Destination::Drop(Drop::Unknown),
        (None, false) => of_channel(channel, message),
    }
}

/// Where a message of a reserved channel goes.
fn of_server(message: &Message) -> Destination<'_> {
    let channel = message.channel.as_slice();
    if channel == CLEANUP_CHANNEL.as_bytes() {
        return Destination::Relay;
    }
    let name = if channel == SCORE_CHANNEL.as_bytes() {
        return match unfit(message) {
            None => Destination::Score,
            Some(drop) => Destination::ScoreGap(drop),
        };
    } else if let Some(id) = channel.strip_prefix(TWEET_CHANNEL_PREFIX.as_bytes()) {
        (Stream::Details, Some(id))
    } else if channel.starts_with(KIOSK_CHANNEL_PREFIX.as_bytes()) {
        (Stream::Kiosk, None)
    } else {
        return Destination::Drop(Drop::Unknown);
    };
    of_namespace(name, message)
}

/// Where a message goes whose channel or pattern clients subscribe to by this name.
fn of_channel<'a>(name: &'a [u8], message: &Message) -> Destination<'a> {
    of_namespace((Stream::Channels, Some(name)), message)
}

fn of_namespace<'a>(name: Name<'a>, message: &Message) -> Destination<'a> {
    match unfit(message) {
        None => Destination::Publish(name),
        Some(drop) => Destination::Gap(name, drop),
    }
}

/// Why a message cannot be sent, if so.
fn unfit(message: &Message) -> Option<Drop> {
    let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
    if message.is_too_large {
        Some(Drop::Size)
    } else if !is_text(&message.payload) || !is_text(&message.channel) {
        Some(Drop::Encoding)
    } else if sse::has_control_bytes(&message.channel) {
        Some(Drop::Channel)
    } else {
        None
    }
}

/// The messages that a source would deliver for each subscription: one for the channel, and one for each pattern that it
/// matches.
///
/// # Errors
/// Why it is dropped instead.
pub fn by_subscription(message: &Message, settings: &Settings) -> Result<Vec<Message>, Drop> {
    let channel = message.channel.as_slice();
    // Permission to publish to channels includes neither the emoji streams nor cleanups.
    if is_own_channel(channel) {
        return Err(Drop::Unknown);
    }
    let name = std::str::from_utf8(channel).map_err(|_| Drop::Encoding)?;
    let globs = settings.channels.patterns.iter();
    let patterns = globs.filter(|glob| glob.is_pattern() && glob.matches(name));
    let patterns = patterns.map(|glob| Some(glob.text().into()));
    // A pattern matches its own name: what is published under that must not come twice.
    let itself = (!topics::is_pattern(name, settings)).then_some(None);
    let messages = itself.into_iter().chain(patterns).map(|pattern| Message {
        pattern,
        ..message.clone()
    });
    Ok(messages.collect())
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
