//! The emoji streams: clients of all kinds, and a broker that falls over. It owns what one seed decides and what must
//! hold at the end; each client is judged by `emoji_verdict`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use emojitrack_streamer::broker::Brokers;
use emojitrack_streamer::broker::link::{Target, Transport};
use emojitrack_streamer::broker::redis::Redis;
use emojitrack_streamer::net::{Door, Net};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::report::carbon::Figures;
use emojitrack_streamer::server::Reports;
use emojitrack_streamer::server::Server;
use emojitrack_streamer::server::stats::Drop;
use emojitrack_streamer::time::Time;

use crate::broker::{Broker, Plan};
use crate::client::{Client, Reading};
use crate::emoji_verdict::Judge;
use crate::net::{Faults, PipeId, SimNet};
use crate::{seeds, server};

/// Everything that one seed decides.
pub struct World {
    reactor: Reactor<SimNet>,
    broker: Broker,
    clients: Vec<Client>,
    /// The client that is acting or being judged.
    about: Option<usize>,
    random: Random,
    ends_at: Time,
    /// Whether lifetimes are bounded.
    forces: bool,
    /// Whether all events have positions.
    has_ids: bool,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_reads: fault(&mut random),
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            // Each delays all waiting clients by half a second.
            accept_failures: 10 * fault(&mut random),
        };
        let busy_until = Time::from_micros(6_000_000);
        // A quiet time follows, long enough for a keepalive, and in some runs for patience to end.
        let quiet = if random.one_in(4) { 85 } else { 24 };
        // Bursts, a steady stream of large messages, a dense one of small messages, hardly any, and bursts
        // that are larger than the smaller log.
        let loads = [
            (400, 40, 100),
            (40, 4, 3_000),
            (5, 4, 0),
            (400, 1, 6_000),
            (1_000, 700, 1_500),
        ];
        let (pause_max_ms, burst_max, padding_max) = loads[random.below(5) as usize];
        let pause_max = Duration::from_millis(pause_max_ms);
        let falls = random.below(3);
        let plan = Plan {
            until: busy_until,
            pause_max,
            burst_max,
            padding_max,
            falls,
            ..Plan::default()
        };
        let forces = random.one_in(2);
        let admin_is_apart = random.one_in(3);
        let mut settings = server::settings(&mut random, forces);
        settings.access.admin_is_apart = admin_is_apart;
        let has_ids = random.one_in(3);
        if has_ids {
            settings.streams.ids_enabled = true;
            // Nothing is to be lost however clients are cut off.
            settings.pacing.log_bytes_max = server::LARGE_LOG;
            settings.channels.linger = Duration::from_secs(10);
        }
        // With nothing else, the source is read at ticks alone.
        let only_eps = random.one_in(4);
        let clients = 60 + random.below(80);
        let clients = (0..clients).map(|number| {
            Client::new(
                &mut random,
                number,
                busy_until,
                (forces || has_ids, has_ids),
                only_eps,
                admin_is_apart,
            )
        });
        let clients = clients.collect();
        let net = SimNet::new(random.next_u64(), faults);
        let server = Server::new(settings, net.now(), net.unix_seconds());
        let password = random.one_in(2).then(|| "secret".to_owned());
        let (endpoint, topics) = (server::endpoint(password), server::topics());
        let redis = Redis::new(vec![endpoint], topics, "sim", random.next_u64());
        let target = Target {
            transport: Transport::Tcp,
            host: "carbon".to_owned(),
            port: 2003,
        };
        let figures = Figures::new(target, "sim".to_owned(), random.next_u64());
        World {
            reactor: Reactor::new(
                net,
                server,
                Brokers::one(Box::new(redis)),
                Reports::new(Arc::default(), Some(figures)),
            ),
            broker: Broker::new(plan, random.next_u64()),
            clients,
            random,
            about: None,
            forces,
            has_ids,
            ends_at: busy_until + Duration::from_secs(quiet),
        }
    }

    fn run(&mut self) {
        while self.reactor.net().now() < self.ends_at {
            self.step();
        }
        self.check_before_stop();
        self.stop();
        self.check_after_stop();
    }

    fn last_steps(&self) -> String {
        let client = self.about.map(|number| self.clients[number].tell_steps());
        client.unwrap_or_default() + &self.broker.steps.tell("the broker")
    }
}

impl World {
    /// Lets everybody act, and the server take one turn.
    fn step(&mut self) {
        let now = self.reactor.net().now();
        let net = self.reactor.net_mut();
        self.broker.act(net, now);
        let delivered = self.broker.delivered.len();
        for (number, client) in self.clients.iter_mut().enumerate() {
            self.about = Some(number);
            let acted = client.act(net, &mut self.random, now, delivered);
            acted.unwrap_or_else(|error| panic!("{:?} received {error}", client.wish));
        }
        self.about = None;
        let next = self
            .clients
            .iter()
            .map(Client::next_at)
            .min()
            .unwrap_or(self.ends_at);
        let next = next.min(self.broker.next_at(now)).min(self.ends_at);
        net.set_horizon(next.max(now));
        self.reactor.turn().expect("a simulated poll does not fail");
        assert!(
            self.reactor.net().spins() < 5,
            "the server turns without need"
        );
        self.broker.note_delivered(self.reactor.net(), now);
    }

    /// Everything published has had ample time to arrive, and all are still connected who want to be.
    fn check_before_stop(&mut self) {
        let counts = &self.reactor.server().counters().dropped;
        let dropped = counts[Drop::Encoding as usize] + counts[Drop::Channel as usize];
        let invalid = self.broker.dropped_at.len() as u64;
        assert!(
            dropped <= invalid,
            "{dropped} messages were dropped without a reason"
        );
        let messages_in = self.reactor.server().counters().messages_in;
        assert_eq!(messages_in, self.broker.delivered.len() as u64 + invalid);
        for (number, client) in self.clients.iter_mut().enumerate() {
            self.about = Some(number);
            let net = self.reactor.net();
            let closed = client.pipe.is_none_or(|pipe| net.is_server_closed(pipe));
            let hides = matches!(client.reading, Reading::Vanishes(_)) && client.asked_at.is_some();
            let patient = self.ends_at < Time::from_micros(80_000_000);
            assert!(
                closed || !hides || patient || !self.forces,
                "{:?} still holds a slot",
                client.wish
            );
            client.was_there = !closed && !client.gone && client.answered_at.is_some();
            let told = self.has_ids.then_some(invalid + self.broker.sessions);
            Judge::new(client, &self.broker.delivered, told, closed, net.now()).judge();
        }
        self.about = None;
        assert!(self.broker.carbon.lines > 0, "graphite was told nothing");
        let counters = self.reactor.server().counters();
        assert!(
            !(self.forces || self.has_ids) || counters.replay_refused == 0,
            "an id was worth nothing"
        );
    }

    fn stop(&mut self) {
        for client in &mut self.clients {
            client.comes_back = false;
        }
        let probes = self.keep_probing();
        self.reactor.net_mut().signal();
        let asked_at = self.reactor.net().now();
        self.ends_at = asked_at + Duration::from_secs(20);
        while !self.reactor.is_done() {
            self.step();
            let net = self.reactor.net();
            if net.now().since(asked_at) < Duration::from_secs(4) {
                for client in &mut self.clients {
                    client.ended_in_time |=
                        client.pipe.is_some_and(|pipe| net.is_server_closed(pipe));
                }
            }
        }
        let took = self.reactor.net().now().since(asked_at);
        assert!(took < Duration::from_secs(8), "the end took {took:?}");
        for pipe in probes {
            let replies = self.reactor.net_mut().peer_read(pipe, usize::MAX);
            let replies = String::from_utf8_lossy(&replies);
            // The last one was in the socket when the signal came: it is answered, or closed upon.
            let answered = replies.matches("HTTP/1.1 200 OK").count();
            assert!((2..=3).contains(&answered), "a probe got {replies}");
            let gone = self.reactor.net().is_server_closed(pipe);
            assert!(
                gone && took < Duration::from_secs(8),
                "a probe held up the end"
            );
        }
    }

    /// Connections that ask again and again whether the server is alive, once more just now.
    fn keep_probing(&mut self) -> Vec<PipeId> {
        const PROBE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
        let net = self.reactor.net_mut();
        let client_ip = IpAddr::from([10, 9, 9, 9]);
        let dialed = (0..4).filter_map(|_| net.dial(Door::Admin, client_ip, 64 * 1024));
        let probes: Vec<PipeId> = dialed.collect();
        for round in 0..3 {
            for &pipe in &probes {
                self.reactor.net_mut().peer_write(pipe, PROBE);
            }
            let asked_at = self.reactor.net().now();
            self.ends_at = asked_at + Duration::from_secs(1);
            while round < 2 && self.reactor.net().now() < self.ends_at {
                self.step();
            }
        }
        probes
    }

    /// Whoever still took its events got a proper end.
    fn check_after_stop(&mut self) {
        for (number, client) in self.clients.iter_mut().enumerate() {
            self.about = Some(number);
            let took = client.receive_all(self.reactor.net_mut());
            took.unwrap_or_else(|error| panic!("{:?} received {error}", client.wish));
            let receiver = &client.receiver;
            if !client.was_there || !receiver.streaming {
                continue;
            }
            let context = format!("{:?} {:?}", client.wish, client.reading);
            assert!(
                client.ended_in_time || !client.is_reliable(),
                "{context} was not ended"
            );
            if client.ended_in_time {
                assert!(
                    receiver.is_on_boundary(),
                    "{context} was cut within an event"
                );
                assert_eq!(
                    receiver.terminated, receiver.chunked,
                    "{context}: the last chunk"
                );
            }
        }
    }
}
