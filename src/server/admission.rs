//! Admission: who may have a stream. It owns which streams each address and each token has, and the bounds
//! on them; it must not refuse or close anything itself.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::about::About;
use super::settings;
use crate::bus::sse;
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::random::Random;

pub struct Admission {
    bounds: settings::Admission,
    /// How many streams each network has.
    counts: HashMap<IpAddr, u32>,
    /// The streams of each network. As these are in order, none has to be searched for when it ends.
    by_network: BTreeSet<(IpAddr, Key)>,
    by_token: BTreeSet<(Box<str>, Key)>,
}

impl Admission {
    pub fn new(bounds: settings::Admission) -> Admission {
        Admission {
            bounds,
            counts: HashMap::new(),
            by_network: BTreeSet::new(),
            by_token: BTreeSet::new(),
        }
    }

    /// A stream begins.
    pub fn handle_begin(&mut self, about: &About) {
        let network = network_of(about.client_ip);
        *self.counts.entry(network).or_default() += 1;
        self.by_network.insert((network, about.key));
        if let Some(token) = &about.token {
            self.by_token.insert((token.clone(), about.key));
        }
    }

    /// A stream ends.
    pub fn handle_end(&mut self, about: &About) {
        let network = network_of(about.client_ip);
        if self.by_network.remove(&(network, about.key))
            && let Some(count) = self.counts.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&network);
            }
        }
        if let Some(token) = &about.token {
            self.by_token.remove(&(token.clone(), about.key));
        }
    }

    /// Whether a client of this address may have a stream besides so many others, and if it has channels, besides so
    /// many that are listened to.
    pub fn admits(&self, client_ip: IpAddr, subscribers: usize, listened: Option<usize>) -> bool {
        let count = self.counts.get(&network_of(client_ip));
        count.map_or(0, |&count| count as usize) < self.bounds.connections_per_ip_max
            && subscribers < self.bounds.connections_max
            && listened.is_none_or(|listened| listened < limits::CHANNELS_MAX)
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
        let counted: u32 = self.counts.values().sum();
        assert_eq!(
            (networks, networks),
            (self.by_network.len(), counted as usize)
        );
        assert_eq!(tokens, self.by_token.len());
    }
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::time::Time;

    fn about(index: u32, address: &str, token: Option<&str>) -> About {
        About {
            key: Key {
                index,
                generation: index,
            },
            subscribed_at: Time::ZERO,
            client_ip: address.parse().unwrap(),
            is_hidden: false,
            path: Box::default(),
            tag: None,
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
        assert!(!admission.admits(first.client_ip, 4, None));
        admission.handle_end(first);
        // A stream ends once.
        admission.handle_end(first);
        assert!(admission.admits(first.client_ip, 4, None));
        assert!(!admission.admits(first.client_ip, 9, None));
        assert!(!admission.admits(first.client_ip, 4, Some(limits::CHANNELS_MAX)));
        assert_eq!(indices(&mut admission.of_token("a")), [3]);
        for about in &streams {
            admission.handle_end(about);
        }
        admission.check_invariants([].iter());
        assert!(admission.counts.is_empty());
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
