//! Invariants: what must hold between a stream, its connection and its subscriber. It owns assertions only; a release
//! build must not need it.

use super::streams::{Streams, Subscription};
use crate::bus::{Bus, Subscriber};
use crate::http::Connections;

/// Panics where a subscriber has no stream, or lacks something that nothing will send.
///
/// # Panics
/// On a bug.
pub fn check_bus(streams: &Streams, http: &Connections, bus: &Bus) {
    bus.check_invariants(|owner| {
        let subscription = streams.at(owner);
        let subscription = subscription.filter(|it| it.on_bus().is_some());
        let subscription = subscription.expect("each subscriber has a stream");
        http.is_caught_up(subscription.about.key)
    });
}

/// Panics where a stream's connection does something else, or its subscriber is another's.
///
/// # Panics
/// On a bug.
pub fn check_stream(subscription: &Subscription, http: &Connections, bus: &Bus) {
    let key = subscription.about.key;
    let is_active = http.is_subscribed(key);
    assert_eq!(
        is_active,
        subscription.is_active(),
        "{key:?} does something else"
    );
    if let Some(id) = subscription.on_bus() {
        let owner = bus.subscriber(id).map(Subscriber::owner);
        assert_eq!(owner, Some(key.index), "{key:?} is not a subscriber");
    }
}
