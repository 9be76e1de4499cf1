//! A whole server between hostile clients and a hostile broker. The input says who does what: clients connect, send
//! whatever bytes, read or do not, end their side or reset; the broker answers with whatever bytes; time passes. All
//! invariants hold after each turn, no turn is spent on nothing, and in the end an honest client is answered.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use emojitrack_streamer::broker::Brokers;
use emojitrack_streamer::broker::redis::Redis;
use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::http::authorization::Secret;
use emojitrack_streamer::net::{Door, Net};
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::server::{Reports, Server, Settings};

use super::Input;
use crate::net::{Faults, PipeId, SimNet};

/// Requests that a client may send whole.
const REQUESTS: [&str; 12] = [
    "GET /subscribe/raw HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /subscribe/details/1F602 HTTP/1.0\r\n\r\n",
    "GET /?channels=a,b HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /?channels=room.1 HTTP/1.1\r\nHost: a\r\nX-Requested-With: XMLHttpRequest\r\n\r\n",
    "GET /subscribe?ns=/eps&ns=/channels/a HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 1-1\r\n\r\n",
    "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
     Content-Length: 29\r\n\r\nchannel=a&message=hello&key=k",
    "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
     Transfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n",
    "POST /subscribe/cleanup/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /admin/status.json HTTP/1.1\r\nHost: a\r\n\r\n",
];

/// Replies that the broker may send whole. `{name}` is a channel.
const REPLIES: [&str; 6] = [
    "+OK\r\n",
    ":1\r\n",
    "-ERR no\r\n",
    "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    "*3\r\n$7\r\nmessage\r\n$20\r\nstream.score_updates\r\n$5\r\n1F602\r\n",
    "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n",
];

struct World {
    reactor: Reactor<SimNet>,
    clients: Vec<PipeId>,
    /// Clients that have sent their last byte, and may still read.
    half_closed: Vec<PipeId>,
    brokers: Vec<PipeId>,
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let mut world = World::new(input.byte());
    while !input.is_empty() {
        world.act(&mut input);
        world.pass(Duration::from_micros(u64::from(input.byte()) * 40));
    }
    world.finish();
}

impl World {
    fn new(decision: u8) -> World {
        let every = |bit: u8| if decision & bit == 0 { 0 } else { 5 };
        let faults = Faults {
            short_reads: every(1),
            short_writes: every(2),
            spurious_events: every(4),
            stale_events: every(8),
            accept_failures: 0,
        };
        let mut settings = Settings::default();
        settings.access.admin_is_open = true;
        settings.access.admin_hosts = vec!["a".to_owned()];
        settings.streams.raw_enabled = true;
        settings.streams.kiosk_enabled = true;
        settings.channels.patterns = ["a", "b", "room.*"].map(Glob::new).to_vec();
        settings.channels.patterns_enabled = true;
        settings.channels.linger = Duration::from_secs(2);
        settings.channels.publish_key = Secret::new("k");
        settings.pacing.keepalive = Duration::from_secs(3);
        settings.pacing.idle = Duration::from_secs(4);
        settings.pacing.drain = Duration::from_secs(1);
        settings.pacing.reads_per_turn = 64;
        settings.pacing.writes_per_turn = 64;
        settings.pacing.paced_subscribers_min = 4;
        settings.admission.sockets_max = 64;
        settings.admission.public_sockets_max = 60;
        settings.admission.connections_max = 32;
        settings.admission.connections_per_ip_max = 16;
        let net = SimNet::new(decision.into(), faults);
        let server = Server::new(settings, net.now(), net.unix_seconds());
        let endpoints = vec![crate::server::endpoint(None)];
        let redis = Redis::new(endpoints, crate::server::topics(), "fuzz", decision.into());
        let reports = Reports::new(Arc::default(), None);
        World {
            reactor: Reactor::new(net, server, Brokers::one(Box::new(redis)), reports),
            clients: Vec::new(),
            half_closed: Vec::new(),
            brokers: Vec::new(),
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let decision = input.byte();
        let (client, broker) = (pick(&self.clients, input), pick(&self.brokers, input));
        let net = self.reactor.net_mut();
        match (decision % 10, client, broker) {
            (0, ..) => {
                let client_ip = IpAddr::V4(Ipv4Addr::new(10, 0, 0, input.byte() % 4));
                let room = input.long() * 4;
                self.clients.extend(net.dial(Door::Public, client_ip, room));
            }
            (1, Some(client), _) => {
                let request = REQUESTS[input.below(REQUESTS.len())];
                net.peer_write(client, request.as_bytes());
            }
            (2, Some(client), _) => {
                let len = usize::from(input.byte());
                net.peer_write(client, input.take(len));
            }
            (3, Some(client), _) => drop(net.peer_read(client, input.long() + 1)),
            (4, Some(client), _) => {
                self.clients.retain(|&it| it != client);
                match input.below(8) {
                    0..4 => {
                        net.peer_shutdown(client);
                        self.half_closed.push(client);
                    }
                    4..7 => net.peer_reset(client),
                    _ => net.peer_close(client),
                }
            }
            (9, ..) => {
                if let Some(client) = pick(&self.half_closed, input) {
                    drop(net.peer_read(client, input.long() + 1));
                }
            }
            (5, _, Some(broker)) => {
                let reply = REPLIES[input.below(REPLIES.len())];
                net.peer_write(broker, reply.as_bytes());
            }
            (6, _, Some(broker)) => {
                let len = usize::from(input.byte());
                net.peer_write(broker, input.take(len));
            }
            (7, _, Some(broker)) if input.below(4) == 0 => {
                net.peer_reset(broker);
                self.brokers.retain(|&it| it != broker);
            }
            (7, _, Some(broker)) => drop(net.peer_read(broker, usize::MAX)),
            (8, ..) => self.pass(Duration::from_millis(input.long() as u64 / 16)),
            _ => {}
        }
    }

    fn pass(&mut self, span: Duration) {
        let until = self.reactor.net().now() + span;
        loop {
            let net = self.reactor.net_mut();
            while let Some((_, pipe)) = net.take_dialed() {
                self.brokers.push(pipe);
            }
            net.set_horizon(until);
            self.reactor.turn().expect("a simulated poll does not fail");
            assert!(
                self.reactor.net().spins() < 5,
                "the server turns without need"
            );
            if self.reactor.net().now() >= until || self.reactor.is_done() {
                return;
            }
        }
    }

    /// The attackers leave, an honest client is answered, and the server ends in time.
    fn finish(&mut self) {
        let clients = std::mem::take(&mut self.clients);
        for client in clients
            .into_iter()
            .chain(std::mem::take(&mut self.half_closed))
        {
            self.reactor.net_mut().peer_reset(client);
        }
        self.pass(Duration::from_secs(1));
        let client_ip = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));
        let net = self.reactor.net_mut();
        let client = net.dial(Door::Public, client_ip, 1 << 20);
        let client = client.expect("the server listens");
        net.peer_write(
            client,
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        self.pass(Duration::from_secs(1));
        let reply = self.reactor.net_mut().peer_read(client, usize::MAX);
        assert!(
            reply.starts_with(b"HTTP/1.1 200 "),
            "{}",
            reply.escape_ascii()
        );
        self.reactor.net_mut().signal();
        self.pass(Duration::from_secs(10));
        assert!(self.reactor.is_done(), "the server has not ended in 10 s");
    }
}

fn pick(pipes: &[PipeId], input: &mut Input<'_>) -> Option<PipeId> {
    let index = usize::from(input.byte()) % pipes.len().max(1);
    pipes.get(index).copied()
}
