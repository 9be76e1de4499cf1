//! Admission: who is let in. It owns who is there by address and by token, and the bounds on them; it must not refuse
//! anybody itself.

use std::net::IpAddr;

use super::addresses::{Addresses, Moved};
use super::settings;
use super::streams::{About, Subscription};
use crate::bus::sse;
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::random::Random;

/// Who is let in.
pub struct Admission {
    bounds: settings::Admission,
    addresses: Addresses,
}

impl Admission {
    /// Nobody is there.
    pub fn new(bounds: settings::Admission) -> Admission {
        Admission {
            bounds,
            addresses: Addresses::default(),
        }
    }

    /// A stream begins, which is told its places.
    pub fn handle_begin(&mut self, about: &mut About) {
        let token = about.token.as_deref();
        about.places = self.addresses.insert(about.key, about.client_ip, token);
    }

    /// A stream ends. Others take its places.
    pub fn handle_end(&mut self, about: &About) -> Moved {
        let token = about.token.as_deref();
        self.addresses.remove(about.places, about.client_ip, token)
    }

    /// Whether another connection can be accepted beside so many sockets, through the admin's door or the public
    /// one: some descriptors are left for other things.
    pub fn has_room(&self, sockets: usize, is_admin: bool) -> bool {
        let sockets_max = match is_admin {
            true => self.bounds.sockets_max,
            false => self.bounds.public_sockets_max,
        };
        sockets < sockets_max
    }

    /// Whether a stream can begin beside so many others, for a client of this address, and where it has channels, beside
    /// so many that are listened to.
    pub fn admits(&self, client_ip: IpAddr, subscribers: usize, listened: Option<usize>) -> bool {
        self.addresses.count(client_ip) < self.bounds.connections_per_ip_max
            && subscribers < self.bounds.connections_max
            && listened.is_none_or(|listened| listened < limits::CHANNELS_MAX)
    }

    /// Streams that may be a client's own: those that carry its token, or else those of its network.
    pub fn candidates(&self, token: Option<&str>, client_ip: IpAddr) -> &[Key] {
        match token {
            Some(token) => self.addresses.of_token(token),
            None => self.addresses.of_network(client_ip),
        }
    }

    /// Panics where a stream is not where it believes to be.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants(&self, subscription: &Subscription) {
        let (about, addresses) = (&subscription.about, &self.addresses);
        let token = about.token.as_deref();
        let is_there = addresses.is_at(about.places, about.key, about.client_ip, token);
        let key = about.key;
        assert!(
            is_there || !subscription.is_active(),
            "{key:?} is not where it believes to be among those of its address"
        );
    }
}

/// The answer to a subscription for which there is no room. A browser gives up for good on any answer but a stream, so
/// it gets one that ends at once and says when to come again. A script that polls would take that for an answer and poll
/// again at once: like everybody who takes no stream, it gets an error.
pub fn no_room(takes_stream: bool, random: &mut Random) -> Reply {
    let pause = random.between(limits::SHED_RETRY_MIN, limits::SHED_RETRY_MAX);
    if takes_stream {
        let mut body = Vec::new();
        sse::encode_retry(&mut body, pause.as_millis() as u32);
        return Reply::finite_stream(body);
    }
    let seconds = pause.as_secs();
    let message = format!("the server is full; try again in {seconds} s");
    Reply::error(503, &message).with_retry_after(seconds)
}
