//! Addresses: which subscribers come from where. It owns the registry by address
//! and by token; it must not close anything itself.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::http::Key;

/// Where a subscriber stands in the lists of its network and of its token. The subscriber keeps this, so that
/// nothing has to be searched when it leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// In the list of its network.
    pub network: u32,
    /// In the list of its token; meaningless without one.
    pub token: u32,
}

/// Who was moved to the places of one that has left, and has to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// To its place in the list of its network.
    pub network: Option<Key>,
    /// To its place in the list of its token.
    pub token: Option<Key>,
}

/// Subscribers by their clients' addresses and tokens.
#[derive(Default)]
pub struct Addresses {
    /// An IPv6 network of 64 bits is one client: it can choose among 2⁶⁴ addresses.
    networks: HashMap<IpAddr, Vec<Key>>,
    tokens: HashMap<Box<str>, Vec<Key>>,
}

impl Addresses {
    /// How many subscribers an address has, its network's included.
    pub fn count(&self, address: IpAddr) -> usize {
        self.networks.get(&network_of(address)).map_or(0, Vec::len)
    }

    /// Registers a subscriber.
    pub fn insert(&mut self, key: Key, address: IpAddr, token: Option<&str>) -> Places {
        let of_network = self.networks.entry(network_of(address)).or_default();
        Places {
            network: append(of_network, key),
            token: token.map_or(0, |token| {
                append(self.tokens.entry(token.into()).or_default(), key)
            }),
        }
    }

    /// Takes a subscriber out.
    pub fn remove(&mut self, places: Places, address: IpAddr, token: Option<&str>) -> Moved {
        Moved {
            network: remove_from(&mut self.networks, &network_of(address), places.network),
            token: token.and_then(|token| remove_from(&mut self.tokens, token, places.token)),
        }
    }

    /// Whether a subscriber stands where it believes to.
    pub fn is_at(&self, places: Places, key: Key, address: IpAddr, token: Option<&str>) -> bool {
        let stands = |list: &[Key], place: u32| list.get(place as usize) == Some(&key);
        stands(self.of_network(address), places.network)
            && token.is_none_or(|token| stands(self.of_token(token), places.token))
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
}

/// Appends to a list, and says where.
fn append(list: &mut Vec<Key>, key: Key) -> u32 {
    list.push(key);
    list.len() as u32 - 1
}

/// Takes out what stands at a place, and says who was moved there.
fn remove_from<Q>(
    lists: &mut HashMap<impl std::borrow::Borrow<Q> + std::hash::Hash + Eq, Vec<Key>>,
    name: &Q,
    place: u32,
) -> Option<Key>
where
    Q: std::hash::Hash + Eq + ?Sized,
{
    let list = lists.get_mut(name)?;
    list.swap_remove(place as usize);
    let moved = list.get(place as usize).copied();
    if list.is_empty() {
        lists.remove(name);
    }
    moved
}

/// The network that stands for an address.
pub fn network_of(address: IpAddr) -> IpAddr {
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::random::Random;

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
        let first = addresses.insert(key(1), one, Some("a"));
        addresses.insert(key(2), other, None);
        let third = addresses.insert(key(3), far, Some("a"));
        assert_eq!(addresses.count(one), 2);
        assert_eq!(addresses.of_network(other), [key(1), key(2)]);
        assert_eq!(addresses.of_token("a"), [key(1), key(3)]);
        let moved = addresses.remove(first, one, Some("a"));
        let expected = Moved {
            network: Some(key(2)),
            token: Some(key(3)),
        };
        assert_eq!(moved, expected);
        let third = Places { token: 0, ..third };
        assert!(addresses.is_at(third, key(3), far, Some("a")));
        assert_eq!(addresses.remove(third, far, Some("a")), Moved::default());
        assert_eq!((addresses.count(one), addresses.count(far)), (1, 0));
        assert!(addresses.of_token("a").is_empty() && addresses.tokens.is_empty());
    }

    /// A crowd behind one address with one token, in which everybody knows its places.
    fn crowd(addresses: &mut Addresses, count: u32) -> Vec<Places> {
        let join = |index| addresses.insert(key(index), [10, 0, 0, 1].into(), Some("a"));
        (0..count).map(join).collect()
    }

    /// Takes one out of the crowd, and tells the others of it.
    fn leave(addresses: &mut Addresses, places: &mut [Places], index: u32) {
        let left = places[index as usize];
        let moved = addresses.remove(left, [10, 0, 0, 1].into(), Some("a"));
        if let Some(other) = moved.network {
            places[other.index as usize].network = left.network;
        }
        if let Some(other) = moved.token {
            places[other.index as usize].token = left.token;
        }
    }

    #[test]
    fn whoever_leaves_a_crowd_takes_nobody_elses_place() {
        let mut random = Random::new(1);
        let mut addresses = Addresses::default();
        let mut places = crowd(&mut addresses, 300);
        let mut there: Vec<u32> = (0..300).collect();
        while !there.is_empty() {
            let index = there.swap_remove(random.below(there.len() as u64) as usize);
            leave(&mut addresses, &mut places, index);
            assert_eq!(addresses.count([10, 0, 0, 1].into()), there.len());
            for &index in &there {
                let at = places[index as usize];
                assert!(addresses.is_at(at, key(index), [10, 0, 0, 1].into(), Some("a")));
            }
        }
        assert!(addresses.networks.is_empty() && addresses.tokens.is_empty());
    }

    #[test]
    fn leaving_a_crowd_takes_no_search() {
        const CROWD: u32 = 200_000;
        let mut addresses = Addresses::default();
        let mut places = crowd(&mut addresses, CROWD);
        let begun = Instant::now();
        for index in (0..CROWD).rev() {
            leave(&mut addresses, &mut places, index);
        }
        // It takes a fiftieth of that; with a search it takes ten times as long.
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(2), "it took {elapsed:?}");
    }
}
