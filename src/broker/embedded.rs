//! The embedded broker: nothing comes from outside, and what is published here is all there is. It owns saying so.

use super::{Broker, Received, State};
use crate::net::Net;
use crate::time::Time;

/// No broker at all.
pub struct Embedded;

impl<N: Net> Broker<N> for Embedded {
    fn poll_message(&mut self, _: &mut N, _: bool, _: Time) -> Option<Received> {
        None
    }

    fn state(&self, now: Time) -> State<'_> {
        State::internal("embedded", now)
    }
}
