//! Streams: what the server knows of each stream and long poll, by its connection's place. A stream is small here, as
//! there are many: what only reports and ends need is in a box.

use std::net::IpAddr;

use super::addresses::{Moved, Places};
use super::settings::Reconnect;
use super::topics::Topic;
use super::visitor::Visitor;
use crate::bus::{Bus, Start, Stream, SubscriberId, sse};
use crate::http::{CloseReason, Key};
use crate::time::Time;

/// A connection that has a stream, or waits for the first event of one.
pub struct Subscription {
    /// Its place on the bus, unless it has left.
    pub subscriber: SubscriberId,
    /// How far it has come.
    pub stage: Stage,
    /// What there is beside.
    pub about: Box<About>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It receives events.
    Stream,
    /// It receives one event, which will be a whole reply.
    Poll,
    /// It has ended, and its subscriber is there for the rest of what was begun.
    Ending,
    /// It has left the bus; its connection is about to end.
    Ended,
}

/// What is known of a stream, most of it for status pages.
pub struct About {
    /// Its connection.
    pub key: Key,
    /// When it began.
    pub subscribed_at: Time,
    /// The client's address.
    pub client_ip: IpAddr,
    /// The path of the subscription, as requested.
    pub path: Box<str>,
    /// The ID of a detail stream.
    pub tag: Option<Box<str>>,
    /// The client's `User-Agent`.
    pub user_agent: Box<str>,
    /// What the page chose to know its own streams by.
    pub token: Option<Box<str>>,
    /// Where it stands in the lists of its address and its token, until it ends.
    pub places: Places,
}

/// All streams.
#[derive(Default)]
pub struct Streams {
    /// By the connection's place.
    places: Vec<Option<Subscription>>,
}

impl About {
    /// What is known of a stream of these topics that begins now.
    pub fn new(key: Key, topics: &[Topic], visitor: Visitor, now: Time) -> About {
        About {
            key,
            subscribed_at: now,
            client_ip: visitor.client_ip,
            path: visitor.shown_path(topics),
            tag: match topics {
                [topic] if topic.stream != Stream::Channels => {
                    topic.child.as_deref().map(Box::from)
                }
                _ => None,
            },
            user_agent: visitor.user_agent,
            token: visitor.token.map(Box::from),
            places: Places::default(),
        }
    }

    /// What the log says of its end.
    pub fn shown_end(&self, reason: CloseReason, now: Time) -> String {
        let (path, client_ip, reason) = (&self.path, self.client_ip, reason.name());
        let age = now.since(self.subscribed_at).as_secs_f64();
        format!("disconnect {path} from {client_ip} after {age:.1} s: {reason}")
    }
}

impl Subscription {
    /// Whether it receives what comes for it.
    pub fn is_active(&self) -> bool {
        matches!(self.stage, Stage::Stream | Stage::Poll)
    }

    /// Its place on the bus, if it has one.
    pub fn on_bus(&self) -> Option<SubscriberId> {
        (self.stage != Stage::Ended).then_some(self.subscriber)
    }
}

impl Streams {
    /// A stream has begun.
    pub fn insert(&mut self, subscription: Subscription) {
        let index = subscription.about.key.index as usize;
        if index >= self.places.len() {
            self.places.resize_with(index + 1, || None);
        }
        debug_assert!(self.places[index].is_none(), "a connection has one stream");
        self.places[index] = Some(subscription);
    }

    /// The connection of a stream has ended, or is used for something else.
    pub fn remove(&mut self, key: Key) -> Option<Subscription> {
        let place = self.places.get_mut(key.index as usize)?;
        place.take_if(|subscription| subscription.about.key == key)
    }

    /// Takes a stream out that has come so far and no further.
    pub fn remove_in(&mut self, key: Key, stage: Stage) -> Option<Subscription> {
        self.get(key).filter(|it| it.stage == stage)?;
        self.remove(key)
    }

    /// Others have moved to the places of one that has left the lists of its address and its token.
    pub fn handle_moved(&mut self, moved: Moved, left: Places) {
        if let Some(other) = moved.network.and_then(|key| self.get_mut(key)) {
            other.about.places.network = left.network;
        }
        if let Some(other) = moved.token.and_then(|key| self.get_mut(key)) {
            other.about.places.token = left.token;
        }
    }

    /// The stream of a connection.
    pub fn get(&self, key: Key) -> Option<&Subscription> {
        self.at(key.index).filter(|it| it.about.key == key)
    }

    /// The stream of a connection, for changes.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Subscription> {
        let place = self.places.get_mut(key.index as usize)?;
        place.as_mut().filter(|it| it.about.key == key)
    }

    /// The stream of a place's present holder.
    pub fn at(&self, index: u32) -> Option<&Subscription> {
        self.places.get(index as usize)?.as_ref()
    }

    /// All that receive events, by place.
    pub fn active(&self) -> impl Iterator<Item = &Subscription> {
        self.iter().filter(|it| it.is_active())
    }

    /// All, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.places.iter().flatten()
    }
}

/// What a stream begins with.
pub fn first_bytes(bus: &Bus, id: SubscriberId, start: Start, reconnect: Reconnect) -> Vec<u8> {
    let mut first = Vec::new();
    match reconnect.retry_ms {
        Some(retry_ms) => sse::encode_retry(&mut first, retry_ms),
        None => first.extend_from_slice(sse::COMMENT),
    }
    bus.encode_start(id, start, &mut first);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_stream_is_small() {
        assert!(size_of::<Option<Subscription>>() <= 16);
    }
}
