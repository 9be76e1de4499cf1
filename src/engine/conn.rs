//! Connections: what is known of each accepted socket, and the table of them. It owns the state that the
//! phases `Reading → Subscribed → Draining → Lingering` need; it must not decide when they change.

use std::net::IpAddr;
use std::sync::Arc;

use slab::Slab;

use super::addresses::Places;
use super::publications::Submission;
use super::route::Document;
use super::stats::CloseReason;
use crate::bus::{Coding, SubscriberId};
use crate::limits;
use crate::proto::body::Body;
use crate::proto::reply::Reply;
use crate::time::Time;

/// A connection's name: its place in the table, and which of the place's successive holders it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The place.
    pub index: u32,
    /// The holder; the table counts through all connections, so a name comes again after 2³² of them.
    pub generation: u32,
}

/// One accepted socket.
pub struct Conn {
    /// Which holder of its place this is.
    pub generation: u32,
    /// What the connection is doing.
    pub phase: Phase,
    /// The socket may hold unread bytes. Readiness comes as an edge, so this must be kept until a read
    /// says that there is nothing more.
    pub readable: bool,
    /// The client has sent its last byte (it may still read).
    pub peer_ended: bool,
    /// The socket is dead in both directions; only bytes already received can still be read.
    pub hung_up: bool,
    /// In the queue of connections to be read from.
    pub in_read_queue: bool,
    /// What the next write waits for.
    pub write: WriteState,
    /// What was read from it lately while it was subscribed.
    pub chatter: Chatter,
    /// When the client last took bytes from us: silence and patience are counted from here.
    pub progress_at: Time,
    /// When the current phase ends by itself; meaningless while subscribed.
    pub deadline: Time,
    /// When the stream is closed by force, if it is.
    pub ends_at: Option<Time>,
    /// When the valid entry in the timers comes; any other entry is outdated.
    pub armed_at: Option<Time>,
    /// Bytes for this client alone, to be sent before any further frame.
    pub outbox: Outbox,
    /// What there is beside, for status pages.
    pub about: Box<About>,
}

/// What the next write to a connection waits for. It is one of these at a time, so that nothing can write to a
/// connection that waits for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteState {
    /// Something to send. A subscriber gets it in its namespace's pass.
    Idle,
    /// Its turn in `Engine::write_queue`, the queue of connections to be written to by themselves.
    Queued,
    /// An edge: the last write was not taken whole.
    Blocked,
    /// The source's answer for its channels; the connection is in `Engine::held`.
    Held,
}

/// What a connection is doing.
pub enum Phase {
    /// Waiting for requests, or for the rest of one.
    Reading(Box<Reading>),
    /// Receiving a stream.
    Subscribed(Subscription),
    /// Being closed by us: what is in the outbox goes out first.
    Draining {
        /// Why.
        reason: CloseReason,
        /// The subscriber whose batch has to be completed before, so that the close is on a boundary.
        rest: Option<SubscriberId>,
    },
    /// We have sent our end and wait for the client's, discarding what it sends.
    Lingering(CloseReason),
    /// Closed, and waiting for the socket to be closed; nothing may be done with it.
    Closed,
}

/// A stream or a long poll, as far as it is the connection's.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    /// Its place on the bus.
    pub id: SubscriberId,
    /// How the client takes a stream's bytes.
    pub coding: Coding,
    /// Where this is a long poll, which the first event ends: whether the connection stays open then.
    pub poll: Option<KeepAlive>,
}

/// Whether the connection stays open for another request.
pub type KeepAlive = bool;

/// Input that is not yet a request.
#[derive(Default)]
pub struct Reading {
    /// Received and not yet consumed. Never more than `HEAD_BYTES_MAX`.
    pub buffer: Vec<u8>,
    /// A head is tried again when the buffer is this long, twice as long as at the last attempt: a head
    /// that comes byte by byte is then parsed some ten times and not once a byte.
    pub parse_at: usize,
    /// How much of the buffer was searched for the end of the head.
    pub searched: usize,
    /// A request whose body is still coming: its reply waits.
    pub pending: Option<Pending>,
    /// The pending request is whole, and its document is being made.
    pub rendering: bool,
    /// How many requests were answered.
    pub answered: u32,
}

/// A request that is answered when its body has been read.
pub struct Pending {
    /// What is left of the body.
    pub body: Body,
    /// The answer.
    pub answer: Answer,
    /// Whether the connection may be used again.
    pub keep_alive: bool,
    /// Whether the answer is without its body.
    pub head_only: bool,
}

/// What a request is answered with.
pub enum Answer {
    /// What was decided when its head came.
    Reply(Reply),
    /// What a report says at the time of the answer.
    Document(Document),
    /// What becomes of what is to be published.
    Submission(Submission),
}

/// What was read from a subscriber lately, and discarded. Every connection has one, so it is small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chatter {
    /// The second in which it was read, of the last 65,536.
    second: u16,
    bytes: u16,
    /// How many pauses there were in a row.
    pauses: u8,
    /// Nothing is read for now. In `Engine::pauses` exactly then.
    is_paused: bool,
}

/// What follows from bytes that a subscriber has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is not read from for a while.
    Pause,
    /// It is closed: it has gone on through all pauses.
    Close,
}

/// Bytes for one client alone.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// What follows the bytes, shared with other clients.
    shared: Option<Arc<[u8]>>,
    /// How much of both together was sent.
    sent: usize,
}

/// What is known of a client, most of it for status pages.
pub struct About {
    /// When it was accepted, and from then on when it subscribed.
    pub subscribed_at: Time,
    /// The address that the connection comes from, which may be a proxy's.
    pub peer_ip: IpAddr,
    /// The client's address.
    pub client_ip: IpAddr,
    /// Whether the client came through the admin's door.
    pub is_admin: bool,
    /// The path of the subscription, as requested.
    pub path: Box<str>,
    /// The ID of a detail stream.
    pub tag: Option<Box<str>>,
    /// The client's `User-Agent`.
    pub user_agent: Box<str>,
    /// What the page chose to know its own streams by.
    pub token: Option<Box<str>>,
    /// Where it stands in [`Addresses`](super::addresses::Addresses); meaningless unless subscribed.
    pub places: Places,
}

impl Chatter {
    /// Takes note of bytes that were read now.
    pub fn add(&mut self, len: usize, now: Time) -> Verdict {
        let second = (now.as_micros() / 1_000_000) as u16;
        // The first bytes behind a pause come one or two seconds after those before it.
        match second.wrapping_sub(self.second) {
            0 => {}
            1 | 2 => self.bytes = 0,
            _ => (self.bytes, self.pauses) = (0, 0),
        }
        self.second = second;
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.bytes = self.bytes.saturating_add(len);
        if self.bytes < limits::SUBSCRIBER_BYTES_MAX || self.is_paused {
            return Verdict::Fine;
        }
        if self.pauses == limits::SUBSCRIBER_PAUSES_MAX {
            return Verdict::Close;
        }
        self.pauses += 1;
        self.is_paused = true;
        Verdict::Pause
    }

    /// Whether nothing is read for now.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The pause is over.
    pub fn resume(&mut self) {
        self.is_paused = false;
        self.bytes = 0;
    }
}

impl Outbox {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_none()
    }

    /// What is still to be sent.
    pub fn unsent(&self) -> &[u8] {
        match (self.sent.checked_sub(self.bytes.len()), &self.shared) {
            (Some(sent), Some(shared)) => &shared[sent..],
            _ => &self.bytes[self.sent..],
        }
    }

    /// Where further bytes are appended.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(
            self.shared.is_none(),
            "nothing may come behind a shared body"
        );
        &mut self.bytes
    }

    /// Appends a reply's body: a large one without copying it, so that many clients who ask for the same
    /// document and do not read cost one of it.
    pub fn attach(&mut self, body: &Arc<[u8]>) {
        if body.len() <= limits::COPIED_BODY_BYTES_MAX {
            self.bytes.extend_from_slice(body);
        } else {
            self.shared = Some(Arc::clone(body));
        }
    }

    /// Takes note that so many bytes were sent. An emptied outbox gives its memory back, because most
    /// connections never need one again.
    pub fn advance(&mut self, len: usize) {
        self.sent += len;
        let len = self.bytes.len() + self.shared.as_ref().map_or(0, |shared| shared.len());
        debug_assert!(self.sent <= len);
        if self.sent == len {
            *self = Outbox::default();
        }
    }
}

impl Conn {
    /// A connection that was accepted just now.
    pub fn new(client_ip: IpAddr, is_admin: bool, now: Time, deadline: Time) -> Conn {
        Conn {
            generation: 0,
            phase: Phase::Reading(Box::default()),
            readable: true,
            peer_ended: false,
            hung_up: false,
            in_read_queue: false,
            write: WriteState::Idle,
            chatter: Chatter::default(),
            progress_at: now,
            deadline,
            ends_at: None,
            armed_at: None,
            outbox: Outbox::default(),
            about: Box::new(About {
                subscribed_at: now,
                peer_ip: client_ip,
                client_ip,
                is_admin,
                path: Box::default(),
                tag: None,
                user_agent: Box::default(),
                token: None,
                places: Places::default(),
            }),
        }
    }

    /// Whether the socket is still in use.
    pub fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closed)
    }

    /// The subscription, while it receives events.
    pub fn subscription(&self) -> Option<&Subscription> {
        match &self.phase {
            Phase::Subscribed(subscription) => Some(subscription),
            _ => None,
        }
    }

    /// The subscriber, while it receives events or what was begun of them.
    pub fn subscriber(&self) -> Option<SubscriberId> {
        match &self.phase {
            Phase::Subscribed(subscription) => Some(subscription.id),
            Phase::Draining { rest, .. } => *rest,
            _ => None,
        }
    }

    /// Whether this subscriber is written to by itself: it has not taken all it was offered, or has
    /// something to take before further frames.
    pub fn is_behind(&self) -> bool {
        self.write != WriteState::Idle
    }
}

/// The table of connections.
#[derive(Default)]
pub struct Conns {
    slab: Slab<Conn>,
    accepted: u32,
}

impl Conns {
    /// Takes a connection in and names it.
    pub fn insert(&mut self, mut conn: Conn) -> Key {
        self.accepted = self.accepted.wrapping_add(1);
        conn.generation = self.accepted;
        let generation = conn.generation;
        Key {
            index: self.slab.insert(conn) as u32,
            generation,
        }
    }

    /// The connection of this name, if it is still there.
    pub fn get(&self, key: Key) -> Option<&Conn> {
        self.slab
            .get(key.index as usize)
            .filter(|conn| conn.generation == key.generation)
    }

    /// The same, for changes.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut Conn> {
        self.slab
            .get_mut(key.index as usize)
            .filter(|conn| conn.generation == key.generation)
    }

    /// The present holder of a place, as the hub's lists name it.
    pub fn at(&self, index: u32) -> Option<(Key, &Conn)> {
        let conn = self.slab.get(index as usize)?;
        Some((
            Key {
                index,
                generation: conn.generation,
            },
            conn,
        ))
    }

    /// Frees a place.
    pub fn remove(&mut self, key: Key) {
        if self.get(key).is_some() {
            self.slab.remove(key.index as usize);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All of them, by place.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &Conn)> {
        self.slab.iter().map(|(index, conn)| {
            (
                Key {
                    index: index as u32,
                    generation: conn.generation,
                },
                conn,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Has a subscriber send so much, so often, every so many milliseconds, as far as it is read; what comes of it
    /// at last, and how many bytes were read.
    fn send(len: usize, times: usize, millis: u64) -> (Verdict, usize) {
        let mut now = Time::from_micros(77_300_000);
        let mut chatter = Chatter::default();
        let mut read = 0;
        let mut resumes_at = now;
        for _ in 0..times {
            now = now + Duration::from_millis(millis);
            if chatter.is_paused() {
                now = now.max(resumes_at);
                chatter.resume();
            }
            read += len;
            match chatter.add(len, now) {
                Verdict::Fine => {}
                Verdict::Pause => resumes_at = now + limits::SUBSCRIBER_PAUSE,
                Verdict::Close => return (Verdict::Close, read),
            }
        }
        (Verdict::Fine, read)
    }

    #[test]
    fn only_a_subscriber_that_goes_on_sending_is_closed() {
        let max = usize::from(limits::SUBSCRIBER_BYTES_MAX);
        let rounds = usize::from(limits::SUBSCRIBER_PAUSES_MAX) + 1;
        let table = [
            (max, 10_000, 0, (Verdict::Close, rounds * max)),
            (max / 2, 10_000, 1, (Verdict::Close, rounds * max)),
            (max, 10_000, 900, (Verdict::Close, rounds * max)),
            // The longest body comes to its end.
            (max, rounds - 1, 0, (Verdict::Fine, (rounds - 1) * max)),
            // It sends less in a second, or has breaks between.
            (max / 4, 1_000, 500, (Verdict::Fine, 1_000 * (max / 4))),
            (max, 1_000, 3_500, (Verdict::Fine, 1_000 * max)),
            (1, 100_000, 60_000, (Verdict::Fine, 100_000)),
        ];
        for (len, times, millis, expected) in table {
            let what = format!("{len} bytes, {times} times, every {millis} ms");
            assert_eq!(send(len, times, millis), expected, "{what}");
        }
    }
}
