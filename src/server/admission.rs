//! Admission: who may have a stream, and new names below one. It owns which streams each address and each token has,
//! what each network's names take, and the bounds on these; it must not refuse or close anything itself.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use super::about::About;
use super::settings;
use crate::bus::sse;
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::random::Random;

pub struct Admission {
    bounds: settings::Admission,
    networks: HashMap<IpAddr, Network>,
    /// Bytes of memory that all channels and IDs of details take.
    name_bytes: usize,
    /// The streams of each network. As these are in order, none has to be searched for when it ends.
    by_network: BTreeSet<(IpAddr, Key)>,
    by_token: BTreeSet<(Box<str>, Key)>,
}

/// What a network has.
#[derive(Default, PartialEq, Eq)]
struct Network {
    streams: usize,
    /// Bytes of memory of those that one of its clients was the first to want.
    name_bytes: usize,
}

/// What there is no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// What one network may have.
    Network,
    /// What there is for all.
    All,
}

impl Admission {
    pub fn new(bounds: settings::Admission) -> Admission {
        Admission {
            bounds,
            networks: HashMap::new(),
            name_bytes: 0,
            by_network: BTreeSet::new(),
            by_token: BTreeSet::new(),
        }
    }

    /// A stream begins.
    pub fn handle_begin(&mut self, about: &About) {
        let network = network_of(about.client_ip);
        self.networks.entry(network).or_default().streams += 1;
        self.by_network.insert((network, about.key));
        if let Some(token) = &about.token {
            self.by_token.insert((token.clone(), about.key));
        }
    }

    /// A stream ends.
    pub fn handle_end(&mut self, about: &About) {
        let network = network_of(about.client_ip);
        if self.by_network.remove(&(network, about.key)) {
            self.release(network, |it| it.streams -= 1);
        }
        if let Some(token) = &about.token {
            self.by_token.remove(&(token.clone(), about.key));
        }
    }

    /// A client of this network is the first to want a channel or an ID, whose name has so many bytes.
    pub fn handle_name(&mut self, network: IpAddr, name_len: usize) {
        let bytes = name_bytes(name_len);
        self.networks.entry(network).or_default().name_bytes += bytes;
        self.name_bytes += bytes;
    }

    /// Nobody wants that name any more.
    pub fn handle_name_gone(&mut self, network: IpAddr, name_len: usize) {
        let bytes = name_bytes(name_len);
        self.release(network, |it| it.name_bytes -= bytes);
        self.name_bytes -= bytes;
    }

    /// Whether a client of this address may have a stream besides so many others.
    pub fn admits(&self, client_ip: IpAddr, subscribers: usize) -> bool {
        let network = self.networks.get(&network_of(client_ip));
        network.map_or(0, |it| it.streams) < self.bounds.connections_per_ip_max
            && subscribers < self.bounds.connections_max
    }

    /// Whether names of so many bytes are more than a network may have, or more than there is room for. There are so many
    /// subscribers.
    pub fn full(&self, network: IpAddr, bytes: usize, subscribers: usize) -> Option<Full> {
        let has_room = |held: usize, streams: usize, share: usize| {
            // The stream that is to begin counts as well.
            let of_streams = (streams + 1) * limits::NAMES_BYTES_PER_STREAM;
            held + bytes <= share + of_streams
        };
        let own = self.networks.get(&network);
        let (held, streams) = own.map_or((0, 0), |it| (it.name_bytes, it.streams));
        let share = limits::NAMES_BYTES_MAX;
        match has_room(self.name_bytes, subscribers, share) {
            false => Some(Full::All),
            true if has_room(held, streams, share / 2) => None,
            true => Some(Full::Network),
        }
    }

    /// The streams of an address's network; the caller compares the address.
    pub fn of_network(&self, address: IpAddr) -> impl Iterator<Item = Key> {
        let network = network_of(address);
        let streams = self.by_network.range((network, Key::FIRST)..);
        let streams = streams.take_while(move |(other, _)| *other == network);
        streams.map(|&(_, key)| key)
    }

    /// The streams with a token.
    pub fn of_token(&self, token: &str) -> impl Iterator<Item = Key> {
        let token: Box<str> = token.into();
        let streams = self.by_token.range((token.clone(), Key::FIRST)..);
        let streams = streams.take_while(move |(other, _)| *other == token);
        streams.map(|&(_, key)| key)
    }

    /// Checks that exactly these streams are registered.
    ///
    /// # Panics
    /// On a bug.
    pub fn check_invariants<'a>(&self, streams: impl Iterator<Item = &'a About>) {
        let (mut networks, mut tokens) = (0, 0);
        for about in streams {
            let (network, key) = (network_of(about.client_ip), about.key);
            assert!(self.by_network.contains(&(network, key)), "{key:?}");
            networks += 1;
            if let Some(token) = &about.token {
                assert!(self.by_token.contains(&(token.clone(), key)), "{key:?}");
                tokens += 1;
            }
        }
        let counted: usize = self.networks.values().map(|it| it.streams).sum();
        assert_eq!((networks, networks), (self.by_network.len(), counted));
        let name_bytes = self.networks.values().map(|it| it.name_bytes);
        assert_eq!(name_bytes.sum::<usize>(), self.name_bytes);
        assert_eq!(tokens, self.by_token.len());
    }

    /// A network loses something, and is forgotten with the last that it had.
    fn release(&mut self, network: IpAddr, change: impl FnOnce(&mut Network)) {
        if let Some(known) = self.networks.get_mut(&network) {
            change(known);
            if *known == Network::default() {
                self.networks.remove(&network);
            }
        }
    }
}

/// Bytes of memory that a channel or an ID takes.
pub fn name_bytes(name_len: usize) -> usize {
    limits::NAME_BYTES + limits::NAME_COPIES * name_len
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, in which a client can choose any address.
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

/// The reply to a subscription for which there is no room. `EventSource` gives up for good on anything but a stream, so it
/// gets one that ends at once and says when to come again. Other clients might take that for an answer and ask again at
/// once, so they get an error.
pub fn no_room(takes_stream: bool, pause: Option<Duration>, random: &mut Random) -> Reply {
    let pause =
        pause.unwrap_or_else(|| random.between(limits::SHED_RETRY_MIN, limits::SHED_RETRY_MAX));
    if takes_stream {
        let mut body = Vec::new();
        sse::encode_retry(&mut body, pause.as_millis() as u32);
        return Reply::finite_stream(body);
    }
    let seconds = pause.as_secs().max(1);
    let message = format!("the server is full or stopping; try again in {seconds} s");
    Reply::error(503, &message).with_retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::http::Origin;
    use crate::time::Time;

    fn about(index: u32, address: &str, token: Option<&str>) -> About {
        About {
            key: Key {
                index,
                generation: index,
            },
            origin: Origin::new([127, 0, 0, 1], false),
            subscribed_at: Time::ZERO,
            client_ip: address.parse().unwrap(),
            is_hidden: false,
            path: Box::default(),
            user_agent: Box::default(),
            token: token.map(Box::from),
        }
    }

    #[test]
    fn streams_are_found_by_network_and_token() {
        let mut admission = Admission::new(settings::Admission {
            connections_max: 9,
            connections_per_ip_max: 2,
            ..settings::Admission::default()
        });
        let streams = [
            about(1, "2001:db8::1", Some("a")),
            about(2, "2001:db8::2", None),
            about(3, "2001:db8:0:1::1", Some("a")),
            about(4, "10.0.0.1", Some("b")),
        ];
        for about in &streams {
            admission.handle_begin(about);
        }
        admission.check_invariants(streams.iter());
        let [first, ..] = &streams;
        let indices = |keys: &mut dyn Iterator<Item = Key>| -> Vec<u32> {
            keys.map(|key| key.index).collect()
        };
        assert_eq!(indices(&mut admission.of_network(first.client_ip)), [1, 2]);
        assert_eq!(indices(&mut admission.of_token("a")), [1, 3]);
        assert!(!admission.admits(first.client_ip, 4));
        admission.handle_end(first);
        // A stream ends once.
        admission.handle_end(first);
        assert!(admission.admits(first.client_ip, 4));
        assert!(!admission.admits(first.client_ip, 9));
        assert_eq!(indices(&mut admission.of_token("a")), [3]);
        for about in &streams {
            admission.handle_end(about);
        }
        admission.check_invariants([].iter());
        assert!(admission.networks.is_empty());
    }

    #[test]
    fn leaving_a_crowd_takes_no_search() {
        let mut admission = Admission::new(settings::Admission::default());
        let crowd = (0..100_000).map(|index| about(index, "10.0.0.1", Some("a")));
        let crowd: Vec<About> = crowd.collect();
        for about in &crowd {
            admission.handle_begin(about);
        }
        let begun = Instant::now();
        for about in crowd.iter().rev() {
            admission.handle_end(about);
        }
        // It takes a fraction of that; with a search it takes many times as long.
        let elapsed = begun.elapsed();
        assert!(elapsed < Duration::from_secs(2), "it took {elapsed:?}");
    }
}
