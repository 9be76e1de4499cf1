//! Messages: where what the source brings belongs. It owns which channel feeds which stream, and what is
//! dropped; it must not know who receives a message.

use super::cleanup::CLEANUP_CHANNEL;
use super::settings::Settings;
use super::topics;
use crate::broker::Message;
use crate::bus::{Name, Stream, sse};

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

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Destination<'a> {
    /// It is a score update.
    Score,
    /// It goes to a namespace, as an event of its channel's name.
    Publish(Name<'a>),
    /// It cannot be sent, and those who are to have it are told so.
    Gap(Name<'a>, Drop),
    /// Another copy of the server tells of a cleanup.
    Relay,
    /// Nothing.
    Drop(Drop),
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// It is not UTF-8.
    Encoding,
    /// Its channel has control bytes.
    Channel,
    /// No stream is made of its channel.
    Unknown,
    /// It has come by itself as well.
    Double,
}

/// Where a message belongs; `has_channels` is whether there are any beside those of the emoji streams.
pub fn destination(message: &Message, has_channels: bool) -> Destination<'_> {
    let channel = message.channel.as_slice();
    let pattern = message.pattern.as_deref();
    let pattern = pattern.filter(|pattern| !is_own_channel(pattern));
    match (pattern, is_own_channel(channel)) {
        // What a pattern of channels matches beside them is not theirs, and has come by itself.
        (Some(_), true) => Destination::Drop(Drop::Double),
        (Some(pattern), false) => of_channel(pattern, message),
        (None, true) => of_server(message),
        (None, false) if !has_channels => Destination::Drop(Drop::Unknown),
        (None, false) => of_channel(channel, message),
    }
}

/// Where a message belongs that is for the emoji streams or for the server.
fn of_server(message: &Message) -> Destination<'_> {
    let channel = message.channel.as_slice();
    if channel == CLEANUP_CHANNEL.as_bytes() {
        return Destination::Relay;
    }
    let drop = unfit(message);
    if channel == SCORE_CHANNEL.as_bytes() {
        return drop.map_or(Destination::Score, Destination::Drop);
    }
    if let Some(drop) = drop {
        return Destination::Drop(drop);
    }
    if let Some(id) = channel.strip_prefix(TWEET_CHANNEL_PREFIX.as_bytes()) {
        Destination::Publish((Stream::Details, Some(id)))
    } else if channel.starts_with(KIOSK_CHANNEL_PREFIX.as_bytes()) {
        Destination::Publish((Stream::Kiosk, None))
    } else {
        Destination::Drop(Drop::Unknown)
    }
}

/// Where a message belongs that is for those who asked for `asked`, its channel or a pattern.
fn of_channel<'a>(asked: &'a [u8], message: &Message) -> Destination<'a> {
    let name = (Stream::Channels, Some(asked));
    match unfit(message) {
        None => Destination::Publish(name),
        Some(drop) => Destination::Gap(name, drop),
    }
}

/// Why a message cannot be sent, if it cannot.
fn unfit(message: &Message) -> Option<Drop> {
    let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
    if !is_text(&message.payload) || !is_text(&message.channel) {
        Some(Drop::Encoding)
    } else if sse::has_control_bytes(&message.channel) {
        Some(Drop::Channel)
    } else {
        None
    }
}

/// What a message that has come once stands for: itself, and one for each pattern of channels that it matches.
///
/// # Errors
/// Why it is dropped instead.
pub fn by_subscription(
    channel: &[u8],
    payload: &[u8],
    settings: &Settings,
) -> Result<Vec<Message>, Drop> {
    // Whoever may publish there is not one who may feed the emoji streams, or close streams.
    if is_own_channel(channel) {
        return Err(Drop::Unknown);
    }
    let name = std::str::from_utf8(channel).map_err(|_| Drop::Encoding)?;
    let globs = settings.channels.patterns.iter();
    let patterns = globs.filter(|glob| glob.is_pattern() && glob.matches(name));
    let patterns = patterns.map(|glob| Some(glob.text().into()));
    // A pattern can be published to by its own name, and matches that: it must not come twice.
    let itself = (!topics::is_pattern(name, settings)).then_some(None);
    let messages = itself.into_iter().chain(patterns).map(|pattern| Message {
        pattern,
        channel: channel.to_vec(),
        payload: payload.to_vec(),
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
