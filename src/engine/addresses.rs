//! Addresses: which subscribers come from where, and who asks too often. It owns the registry by address
//! and by token; it must not close anything itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::conn::Key;
use crate::limits;
use crate::time::Time;

/// Subscribers by their clients' addresses and tokens.
#[derive(Default)]
pub struct Addresses {
    /// An IPv6 network of 64 bits is one client: it can choose among 2⁶⁴ addresses.
    networks: HashMap<IpAddr, Vec<Key>>,
    tokens: HashMap<Box<str>, Vec<Key>>,
    asked: HashMap<IpAddr, u32>,
    asked_since: Time,
}

impl Addresses {
    /// How many subscribers an address has, its network's included.
    pub fn count(&self, address: IpAddr) -> usize {
        self.networks.get(&network_of(address)).map_or(0, Vec::len)
    }

    /// Registers a subscriber.
    pub fn insert(&mut self, key: Key, address: IpAddr, token: Option<&str>) {
        self.networks
            .entry(network_of(address))
            .or_default()
            .push(key);
        if let Some(token) = token {
            self.tokens.entry(token.into()).or_default().push(key);
        }
    }

    /// Takes a subscriber out.
    pub fn remove(&mut self, key: Key, address: IpAddr, token: Option<&str>) {
        remove_from(&mut self.networks, &network_of(address), key);
        if let Some(token) = token {
            remove_from(&mut self.tokens, token, key);
        }
    }

    /// Subscribers of an address's network; the caller compares the address.
    pub fn of_network(&self, address: IpAddr) -> &[Key] {
        self.networks
            .get(&network_of(address))
            .map_or(&[], Vec::as_slice)
    }

    /// Subscribers that carry a token.
    pub fn of_token(&self, token: &str) -> &[Key] {
        self.tokens.get(token).map_or(&[], Vec::as_slice)
    }

    /// Whether an address may ask for a cleanup now; counts the question.
    pub fn may_ask(&mut self, address: IpAddr, now: Time) -> bool {
        if now.since(self.asked_since) >= limits::CLEANUP_WINDOW {
            self.asked.clear();
            self.asked_since = now;
        }
        let network = network_of(address);
        if self.asked.len() >= limits::CLEANUP_ADDRESSES_MAX && !self.asked.contains_key(&network) {
            return false;
        }
        let asked = self.asked.entry(network).or_default();
        *asked += 1;
        *asked <= limits::CLEANUPS_PER_WINDOW
    }

    /// How long until an address that asked too often may ask again.
    pub fn asks_again_in(&self, now: Time) -> Duration {
        (self.asked_since + limits::CLEANUP_WINDOW).since(now)
    }
}

fn remove_from<Q>(
    lists: &mut HashMap<impl std::borrow::Borrow<Q> + std::hash::Hash + Eq, Vec<Key>>,
    name: &Q,
    key: Key,
) where
    Q: std::hash::Hash + Eq + ?Sized,
{
    let Some(list) = lists.get_mut(name) else {
        return;
    };
    if let Some(place) = list.iter().position(|&other| other == key) {
        list.swap_remove(place);
    }
    if list.is_empty() {
        lists.remove(name);
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> Key {
        Key {
            index,
            generation: index,
        }
    }

    #[test]
    fn subscribers_are_found_by_network_and_token() {
        let mut addresses = Addresses::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let other: IpAddr = "2001:db8::2".parse().unwrap();
        let far: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        addresses.insert(key(1), one, Some("a"));
        addresses.insert(key(2), other, None);
        addresses.insert(key(3), far, Some("a"));
        assert_eq!(addresses.count(one), 2);
        assert_eq!(addresses.of_network(other), [key(1), key(2)]);
        assert_eq!(addresses.of_token("a"), [key(1), key(3)]);
        addresses.remove(key(1), one, Some("a"));
        addresses.remove(key(3), far, Some("a"));
        assert_eq!((addresses.count(one), addresses.count(far)), (1, 0));
        assert!(addresses.of_token("a").is_empty() && addresses.tokens.is_empty());
    }

    #[test]
    fn an_address_may_ask_so_often_and_again_later() {
        let mut addresses = Addresses::default();
        let address: IpAddr = [10, 0, 0, 1].into();
        let neighbour: IpAddr = [10, 0, 0, 2].into();
        let now = Time::from_micros(100_000_000);
        for _ in 0..limits::CLEANUPS_PER_WINDOW {
            assert!(addresses.may_ask(address, now));
        }
        assert!(!addresses.may_ask(address, now));
        assert!(addresses.may_ask(neighbour, now));
        let later = now + addresses.asks_again_in(now);
        assert!(addresses.may_ask(address, later));
    }
}
