//! Publications: what clients send to be published. It owns who may publish what where, and what is held of a
//! body meanwhile; it must not know how a message reaches the broker.

use super::channels::{is_allowed, is_name};
use super::conn::{Answer, Key, Phase};
use super::messages::{SCORE_CHANNEL, TWEET_CHANNEL_PREFIX, is_own_channel};
use super::settings::Settings;
use super::{Effect, Engine};
use crate::broker::Message;
use crate::limits;
use crate::proto::http::Request;
use crate::proto::publication::{Publication, PublicationError};
use crate::proto::reply::Reply;

/// A publication as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    content_type: Box<[u8]>,
    /// Whether the key has come with the head.
    is_authorized: bool,
    /// The body so far.
    pub body: Vec<u8>,
}

impl Submission {
    /// One whose head has come.
    pub fn new(request: &Request, settings: &Settings) -> Submission {
        let key = settings.channels.publish_key.as_ref();
        Submission {
            content_type: request.content_type.clone(),
            is_authorized: key.is_some_and(|key| key.is_in(&request.authorization)),
            body: Vec::new(),
        }
    }

    /// Bytes that are held for somebody who has not shown the key, without those that everybody may have held:
    /// whoever sends large bodies must not keep out those who send small ones.
    pub fn unproven(&self) -> usize {
        match self.is_authorized {
            true => 0,
            false => self.body.len().saturating_sub(limits::UNPROVEN_BYTES_FREE),
        }
    }
}

impl Engine {
    /// The whole publication of a client has come: has it published, or says why not.
    pub(super) fn on_submission(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else {
            return;
        };
        let Phase::Reading(reading) = &mut conn.phase else {
            return;
        };
        self.unproven_bytes -= reading.unproven();
        let Some(pending) = &mut reading.pending else {
            return;
        };
        let Answer::Submission(submission) = &mut pending.answer else {
            return;
        };
        let body = std::mem::take(&mut submission.body);
        match judge(submission, &body, &self.settings) {
            Err(reply) => self.on_rendered(key, &reply),
            Ok(publication) if !self.bus.line().takes(publication.message.as_bytes()) => {
                let reply =
                    Reply::error(413, "the message is too long: LOG_BYTES_MAX is too small");
                self.on_rendered(key, &reply);
            }
            Ok(Publication {
                channels, message, ..
            }) => {
                reading.rendering = true;
                // It is whole; what it has to wait for has a deadline of its own.
                conn.deadline = self.now + limits::REQUEST_DEADLINE;
                self.counters.published += 1;
                self.effects.push_back(Effect::Submit {
                    key,
                    channels,
                    message,
                });
            }
        }
    }

    /// Publishes without a broker.
    pub fn publish_here(&mut self, channels: &[&String], message: &str) {
        for channel in channels {
            match is_own_channel(channel.as_bytes()) {
                true => self.on_message(&Message {
                    pattern: None,
                    channel: channel.as_str().into(),
                    payload: message.into(),
                }),
                false => self.on_channel_message(channel.as_bytes(), message.as_bytes()),
            }
        }
    }
}

/// The answer to what was published.
pub fn published() -> Reply {
    Reply::json(200, b"{\"status\": \"ok\"}\n".to_vec())
}

/// Whether somebody may publish this; the refusal where not.
fn judge(submission: &Submission, body: &[u8], settings: &Settings) -> Result<Publication, Reply> {
    let publication = Publication::parse(&submission.content_type, body);
    let publication = publication.map_err(|error| refusal_of(&error))?;
    let given = publication.key.as_deref().map(str::as_bytes);
    let key = settings.channels.publish_key.as_ref();
    let has_key = key.is_some_and(|key| given.is_some_and(|given| key.equals(given)));
    if !submission.is_authorized && !has_key {
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
        let message = format!("the channel {name:?} is not among those that may be published to");
        return Err(Reply::error(403, &message));
    }
    let bytes = publication.message.len() * channels.len();
    if bytes > limits::PUBLISH_BYTES_MAX {
        let bytes_max = limits::PUBLISH_BYTES_MAX;
        let message = format!("{bytes} bytes for all channels together; send at most {bytes_max}");
        return Err(Reply::error(413, &message));
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
