//! Submissions: what clients send to be published. It owns who may publish what where; it must not know how a message
//! reaches the broker.

use super::messages::{SCORE_CHANNEL, TWEET_CHANNEL_PREFIX};
use super::settings::Settings;
use super::topics::{is_allowed, is_name};
use crate::bus::Line;
use crate::http::Request;
use crate::http::publication::{Publication, PublicationError};
use crate::http::reply::Reply;
use crate::limits;

/// The answer to what was published.
pub fn published() -> Reply {
    Reply::json(200, b"{\"status\": \"ok\"}\n".to_vec())
}

/// What a client may publish with this request. `is_authorized` is whether the key has come with the head.
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
    let publication = Publication::parse(&request.content_type, body);
    let publication = publication.map_err(|error| refusal_of(&error))?;
    let given = publication.key.as_deref().map(str::as_bytes);
    let key = settings.channels.publish_key.as_ref();
    let has_key = key.is_some_and(|key| given.is_some_and(|given| key.equals(given)));
    if !is_authorized && !has_key {
        return Err(Reply {
            extra: "WWW-Authenticate: Bearer\r\n".into(),
            ..Reply::error(401, "send the key as the field key, or as a bearer token")
        });
    }
    let channels = &publication.channels;
    if !channels.iter().all(|name| is_name(name)) {
        let bytes_max = limits::SEGMENT_BYTES_MAX;
        let message = format!("a channel has 1 to {bytes_max} bytes, none a control byte");
        return Err(Reply::error(400, &message));
    }
    if let Some(name) = channels.iter().find(|name| !may_take(name, settings)) {
        let message = format!("the channel {name:?} is not one that can be published to");
        return Err(Reply::error(403, &message));
    }
    let bytes = publication.message.len() * channels.len();
    if bytes > limits::PUBLISH_BYTES_MAX {
        let bytes_max = limits::PUBLISH_BYTES_MAX;
        let message = format!("{bytes} bytes for all channels together; send at most {bytes_max}");
        return Err(Reply::error(413, &message));
    }
    if !line.takes(publication.message.as_bytes()) {
        let message = "the message is too long: LOG_BYTES_MAX is too small";
        return Err(Reply::error(413, message));
    }
    Ok(publication)
}

/// Whether messages for a channel are taken. Those of the emoji pipeline are where no broker has them.
fn may_take(name: &str, settings: &Settings) -> bool {
    let is_tweet = |name: &str| {
        let id = name.strip_prefix(TWEET_CHANNEL_PREFIX);
        id.is_some_and(|id| !id.is_empty())
    };
    let is_fed = name == SCORE_CHANNEL || is_tweet(name);
    is_allowed(name, settings) || (settings.channels.has_no_broker && is_fed)
}

fn refusal_of(error: &PublicationError) -> Reply {
    let status = match error {
        PublicationError::Unsupported => 415,
        _ => 400,
    };
    Reply::error(status, &error.to_string())
}
