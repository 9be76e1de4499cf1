//! Listeners: a crowd that exceeds the limits of the public listener must neither lock out administrators nor keep the
//! server busy.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use emojitrack_streamer::broker::Brokers;
use emojitrack_streamer::broker::demo::Demo;
use emojitrack_streamer::http::CloseReason;
use emojitrack_streamer::net::{Door, Net};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::server::Reports;
use emojitrack_streamer::server::Server;

use crate::net::{Faults, PipeId, SimNet};
use crate::receiver::Receiver;

/// Places in all, and those that the public door gives away.
const PLACES: usize = 9;
const PUBLIC: usize = 6;

fn server(random: &mut Random, may_fail: bool) -> Reactor<SimNet> {
    let faults = Faults {
        spurious_events: 3,
        stale_events: 3,
        accept_failures: [0, 5][random.below(2) as usize] * u64::from(may_fail),
        ..Faults::default()
    };
    server_with(random, faults, None)
}

fn server_with(random: &mut Random, faults: Faults, most: Option<usize>) -> Reactor<SimNet> {
    let mut settings = crate::server::settings(random, false);
    settings.access.admin_is_apart = true;
    settings.admission.sockets_max = PLACES;
    settings.admission.public_sockets_max = PUBLIC;
    settings.admission.sockets_per_network_max = most;
    let net = SimNet::new(random.next_u64(), faults);
    let server = Server::new(settings, net.now(), net.unix_seconds());
    let demo = Brokers::one(Box::new(Demo::new(250, random.next_u64(), 0)));
    Reactor::new(net, server, demo, Reports::new(Arc::default(), None))
}

fn come(server: &mut Reactor<SimNet>, door: Door) -> PipeId {
    come_from(server, door, 1)
}

/// Comes from an address with this last number.
fn come_from(server: &mut Reactor<SimNet>, door: Door, last: u8) -> PipeId {
    let client_ip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    let net = server.net_mut();
    net.dial(door, client_ip, 64 * 1024).expect("a listener")
}

/// Asks whether the server is alive.
fn ask(server: &mut Reactor<SimNet>, pipe: PipeId) {
    let request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    server.net_mut().peer_write(pipe, request);
}

/// The statuses of what the server has answered since the last call.
fn answers(server: &mut Reactor<SimNet>, pipe: PipeId) -> Vec<u16> {
    let mut receiver = Receiver::default();
    let bytes = server.net_mut().peer_read(pipe, usize::MAX);
    receiver.receive(&bytes).expect("replies");
    receiver.statuses().to_vec()
}

fn crowded(server: &Reactor<SimNet>) -> u64 {
    server.server().counters().closes[CloseReason::Crowded as usize]
}

/// Lets the server turn until so much time has gone by.
fn pass(server: &mut Reactor<SimNet>, span: Duration) {
    let until = server.net().now() + span;
    while server.net().now() < until {
        server.net_mut().set_horizon(until);
        server.turn().expect("a simulated poll does not fail");
        assert!(server.net().spins() < 5, "the server turns without need");
    }
}

#[test]
fn clients_in_the_accept_queue_are_answered_at_shutdown() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let server = &mut server(&mut random, false);
        // A shed stream has a retry time.
        let asked = [
            (Door::Public, "/subscribe/eps", 200),
            (Door::Public, "/subscribe/cleanup/scores", 503),
            (Door::Public, "/healthz", 200),
            (Door::Admin, "/healthz", 200),
        ];
        let pipes: Vec<PipeId> = asked
            .iter()
            .map(|(door, path, _)| {
                let pipe = come(server, *door);
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                server.net_mut().peer_write(pipe, request.as_bytes());
                pipe
            })
            .collect();
        server.net_mut().signal();
        while !server.is_done() {
            let horizon = server.net().now() + Duration::from_secs(1);
            server.net_mut().set_horizon(horizon);
            server.turn().expect("a simulated poll does not fail");
        }
        for (pipe, (_, path, status)) in pipes.into_iter().zip(asked) {
            let mut receiver = Receiver::default();
            let bytes = server.net_mut().peer_read(pipe, usize::MAX);
            receiver.receive(&bytes).expect("a reply");
            assert_eq!(receiver.statuses(), [status], "seed {seed}: {path}");
        }
    }
}

#[test]
fn a_crowd_at_the_public_door_leaves_the_admin_some_places() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let server = &mut server(&mut random, true);
        let crowd: Vec<PipeId> = (0..20).map(|_| come(server, Door::Public)).collect();
        // Accepting may have failed, which costs half a second each time.
        pass(server, Duration::from_secs(4));
        let accepted = |server: &Reactor<SimNet>| server.server().counters().accepted as usize;
        assert_eq!(accepted(server), PUBLIC, "seed {seed}");

        let admin = come(server, Door::Admin);
        let request = b"GET /admin/status.json HTTP/1.1\r\nHost: a\r\n\r\n";
        server.net_mut().peer_write(admin, request);
        pass(server, Duration::from_secs(2));
        let mut receiver = Receiver::default();
        let bytes = server.net_mut().peer_read(admin, usize::MAX);
        receiver.receive(&bytes).expect("a reply");
        assert_eq!(receiver.statuses(), [200], "seed {seed}");

        // The admin's places are not endless either.
        for _ in 0..PLACES {
            come(server, Door::Admin);
        }
        pass(server, Duration::from_secs(3));
        assert_eq!(accepted(server), PLACES, "seed {seed}");

        // All have had their time, and made room for each other.
        pass(server, Duration::from_secs(60));
        assert_eq!(accepted(server), 20 + 1 + PLACES, "seed {seed}");
        let net = server.net();
        assert!(crowd.iter().all(|&pipe| net.is_server_closed(pipe)));
    }
}

#[test]
fn connections_that_idle_between_requests_make_room_for_others() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let server = &mut server(&mut random, false);
        let mut crowd: Vec<PipeId> = (0..PUBLIC).map(|_| come(server, Door::Public)).collect();
        for second in 0..40 {
            // Each of the crowd asks every seven seconds, and connects again when it was closed.
            let index = second % 7;
            if let Some(pipe) = crowd.get_mut(index) {
                if server.net().is_server_closed(*pipe) {
                    *pipe = come(server, Door::Public);
                }
                ask(server, *pipe);
            }
            let other = come_from(server, Door::Public, 2);
            ask(server, other);
            pass(server, Duration::from_millis(900));
            assert_eq!(
                answers(server, other),
                [200],
                "seed {seed}: second {second}"
            );
            server.net_mut().peer_close(other);
            pass(server, Duration::from_millis(100));
        }
        assert!(crowded(server) > 0, "seed {seed}");
    }
}

#[test]
fn the_one_that_has_been_idle_the_longest_makes_room() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        // A spurious event might be a request, which is read first.
        let server = &mut server_with(&mut random, Faults::default(), None);
        let crowd: Vec<PipeId> = (0..PUBLIC).map(|_| come(server, Door::Public)).collect();
        for index in [0, 1, 2, 3, 4, 0, 2] {
            ask(server, crowd[index]);
            pass(server, Duration::from_millis(300));
        }
        // The last has asked nothing yet, and nobody is waiting: all stay.
        assert_eq!(crowded(server), 0, "seed {seed}");
        for expected in [1, 3, 4, 0, 2] {
            come_from(server, Door::Public, 2);
            pass(server, Duration::from_millis(300));
            let net = server.net();
            let closed = crowd
                .iter()
                .filter(|&&pipe| net.is_server_closed(pipe))
                .count();
            assert!(net.is_server_closed(crowd[expected]), "seed {seed}");
            assert_eq!(crowded(server), closed as u64, "seed {seed}");
        }
        // Nobody is idle between requests any more: the next one waits.
        let next = come_from(server, Door::Public, 2);
        ask(server, next);
        pass(server, Duration::from_secs(1));
        assert!(answers(server, next).is_empty(), "seed {seed}");
        assert_eq!(crowded(server), 5, "seed {seed}");
    }
}

#[test]
fn a_network_has_no_more_sockets_than_it_may() {
    const MOST: usize = 4;
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let server = &mut server_with(&mut random, Faults::default(), Some(MOST));
        let crowd: Vec<PipeId> = (0..50).map(|_| come(server, Door::Public)).collect();
        pass(server, Duration::from_secs(1));
        let open = |server: &Reactor<SimNet>| {
            let net = server.net();
            crowd
                .iter()
                .filter(|&&pipe| !net.is_server_closed(pipe))
                .count()
        };
        assert_eq!((open(server), crowded(server)), (MOST, 46), "seed {seed}");
        let other = come_from(server, Door::Public, 2);
        ask(server, other);
        let admin = come(server, Door::Admin);
        ask(server, admin);
        pass(server, Duration::from_secs(1));
        assert_eq!(answers(server, other), [200], "seed {seed}");
        assert_eq!(answers(server, admin), [200], "seed {seed}");
        // A place that was left can be taken again.
        server.net_mut().peer_reset(crowd[0]);
        pass(server, Duration::from_secs(1));
        let next = come(server, Door::Public);
        ask(server, next);
        pass(server, Duration::from_secs(1));
        assert_eq!(answers(server, next), [200], "seed {seed}");
    }
}
