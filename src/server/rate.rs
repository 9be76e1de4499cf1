//! Rates: how often each network has done something in the present window. It owns the counts; what is counted, and how a
//! refusal reads, is up to the caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::admission::network_of;
use crate::limits;
use crate::time::Time;

pub struct Rate {
    counts: HashMap<IpAddr, u32>,
    since: Time,
    /// How often a network may do it in one window.
    most: u32,
    window: Duration,
}

impl Rate {
    pub fn new(most: u32, window: Duration) -> Rate {
        Rate {
            counts: HashMap::new(),
            since: Time::ZERO,
            most,
            window,
        }
    }

    /// Counts one more for an address's network; if that is too many, returns for how many seconds it has to wait.
    pub fn count(&mut self, address: IpAddr, now: Time) -> Option<u64> {
        if now.since(self.since) >= self.window {
            self.counts.clear();
            self.since = now;
        }
        let wait = self.wait(address, now);
        if wait.is_none() {
            *self.counts.entry(network_of(address)).or_default() += 1;
        }
        wait
    }

    /// For how many seconds an address's network has to wait, if it has done it often enough.
    pub fn wait(&self, address: IpAddr, now: Time) -> Option<u64> {
        let is_over = match self.counts.get(&network_of(address)) {
            Some(&count) => count >= self.most,
            None => self.counts.len() >= limits::RATE_NETWORKS_MAX,
        };
        let left = (self.since + self.window).since(now);
        (is_over && left > Duration::ZERO).then_some(left.as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_do_it_so_often_and_again_later() {
        let window = Duration::from_secs(10);
        let mut rate = Rate::new(3, window);
        let address: IpAddr = [10, 0, 0, 1].into();
        let neighbour: IpAddr = [10, 0, 0, 2].into();
        let now = Time::from_micros(100_000_000);
        for _ in 0..3 {
            assert_eq!(rate.wait(address, now), None);
            assert_eq!(rate.count(address, now), None);
        }
        assert_eq!(rate.wait(address, now), Some(11));
        assert_eq!(rate.count(address, now), Some(11));
        assert_eq!(rate.count(neighbour, now), None);
        assert_eq!(rate.wait(address, now + window), None);
        assert_eq!(rate.count(address, now + window), None);
    }

    #[test]
    fn further_networks_wait_for_the_next_window() {
        let window = Duration::from_secs(1);
        let mut rate = Rate::new(1, window);
        let now = Time::from_micros(100_000_000);
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let most = limits::RATE_NETWORKS_MAX as u32;
        assert!((0..most).all(|number| rate.count(address(number), now).is_none()));
        assert_eq!(rate.count(address(most), now), Some(2));
        assert_eq!(rate.count(address(most), now + window), None);
    }
}
