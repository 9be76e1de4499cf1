//! The embedded broker: no messages come from outside, and what is published stays in this process.

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
