//! Sockets: how many each network has. It owns the counts, and must not close anything itself. Connections of the
//! admin's door do not count.

use std::collections::HashMap;
use std::net::IpAddr;

use super::admission::network_of;
use crate::http::Key;

/// The sockets that are open through the public door.
#[derive(Debug)]
pub struct Sockets {
    /// The most of one network. If there is no bound, none is counted.
    most: Option<usize>,
    counts: HashMap<IpAddr, usize>,
    /// Where each connection comes from, by its place.
    networks: Vec<Option<IpAddr>>,
}

impl Sockets {
    /// No sockets, and at most so many of one network later.
    pub fn new(most: Option<usize>) -> Sockets {
        Sockets {
            most,
            counts: HashMap::new(),
            networks: Vec::new(),
        }
    }

    /// A connection was accepted. False if its network has as many as it may: such a one is not counted.
    pub fn handle_accepted(&mut self, key: Key, client_ip: IpAddr) -> bool {
        let Some(most) = self.most else {
            return true;
        };
        let network = network_of(client_ip);
        let count = self.counts.entry(network).or_default();
        if *count >= most {
            return false;
        }
        *count += 1;
        let index = key.index as usize;
        if index >= self.networks.len() {
            self.networks.resize(index + 1, None);
        }
        debug_assert!(self.networks[index].is_none(), "a place was taken twice");
        self.networks[index] = Some(network);
        true
    }

    /// A connection has closed, whether it was counted or not.
    pub fn handle_closed(&mut self, key: Key) {
        let network = self.networks.get_mut(key.index as usize);
        let Some(network) = network.and_then(Option::take) else {
            return;
        };
        if let Some(count) = self.counts.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_counted_per_network_until_they_close() {
        let key = |index| Key {
            index,
            generation: 0,
        };
        let mut sockets = Sockets::new(Some(2));
        // The place, the address, and whether its network has a socket left.
        let accepted = [
            (0, "10.0.0.1", true),
            (3, "10.0.0.1", true),
            (1, "10.0.0.1", false),
            (2, "10.0.0.2", true),
            (4, "2001:db8::1", true),
            (5, "2001:db8::2", true),
            (6, "2001:db8::3", false),
        ];
        for (index, address, expected) in accepted {
            let address: IpAddr = address.parse().unwrap();
            let is_taken = sockets.handle_accepted(key(index), address);
            assert_eq!(is_taken, expected, "{address}");
        }
        // A socket is released once, and one that was not counted not at all.
        for index in [1, 3, 3, 77] {
            sockets.handle_closed(key(index));
        }
        let address = "10.0.0.1".parse().unwrap();
        assert!(sockets.handle_accepted(key(1), address));
        assert!(!sockets.handle_accepted(key(6), address));
        for index in 0..7 {
            sockets.handle_closed(key(index));
        }
        assert!(sockets.counts.is_empty());
    }
}
