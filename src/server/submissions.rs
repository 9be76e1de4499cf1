//! Submissions: what clients publish. It owns who may publish what to which channel; it must not know how a message reaches
//! the broker.

use super::messages::{SCORE_CHANNEL, TWEET_CHANNEL_PREFIX};
use super::settings::Settings;
use super::topics::{bad_name, is_allowed, is_name};
use crate::bus::Line;
use crate::http::Request;
use crate::http::publication::{self, Publication};
use crate::http::reply::Reply;
use crate::limits;

/// The reply to a successful publication.
pub fn published() -> Reply {
    Reply::json(200, b"{\"status\": \"ok\"}\n".to_vec())
}

/// The refusal of a publication without the key.
pub fn wrong_key() -> Reply {
    let refusal = Reply::error(401, "send the key as the field key, or as a bearer token");
    refusal.with_extra("WWW-Authenticate: Bearer\r\n")
}

/// Parses a publication and checks whether it is permitted. `is_authorized` is whether the head has the key.
///
/// # Errors
/// The refusal.
pub fn judge(
    request: &Request,
    is_authorized: bool,
    body: &[u8],
    settings: &Settings,
    line: &Line,
) -> Result<Publication, Reply> {
    let parsed = publication::parse(&request.content_type, body);
    let (publication, given) = parsed.map_err(|error| error.reply())?;
    let key = settings.channels.publish_key.as_ref();
    let has_key = key.is_some_and(|key| given.is_some_and(|given| key.equals(given.as_bytes())));
    if !is_authorized && !has_key {
        return Err(wrong_key());
    }
    let channels = &publication.channels;
    if !channels.iter().all(|name| is_name(name)) {
        return Err(bad_name());
    }
    if let Some(name) = channels.iter().find(|name| !may_take(name, settings)) {
        let message = format!("the channel {name:?} is not one that can be published to");
        return Err(Reply::error(403, &message));
    }
    let bytes = publication.message.len() * channels.len();
    if bytes > limits::PUBLISH_BYTES_MAX {
        let bytes_max = limits::PUBLISH_BYTES_MAX;
        let message = format!(
            "a publication may have {bytes_max} bytes in all channels together, not {bytes}"
        );
        return Err(Reply::error(413, &message));
    }
    if !line.takes(publication.message.as_bytes()) {
        let message = "the message is too long for LOG_BYTES_MAX";
        return Err(Reply::error(413, message));
    }
    Ok(publication)
}

/// Whether clients may publish to a channel. Without a broker, that includes the channels of the emoji streams.
fn may_take(name: &str, settings: &Settings) -> bool {
    let is_tweet = |name: &str| {
        let id = name.strip_prefix(TWEET_CHANNEL_PREFIX);
        id.is_some_and(|id| !id.is_empty())
    };
    let is_fed = name == SCORE_CHANNEL || is_tweet(name);
    is_allowed(name, settings) || (settings.channels.has_no_broker && is_fed)
}
