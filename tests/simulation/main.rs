//! The simulation: the engine and the reactor as they are, on a network of pipes with faults, judged by
//! arithmetic. What a client received must be exactly what was published while it was there: in order,
//! nothing twice, nothing left out, sums right to the last increment.
//!
//! Every seed is one run, of emoji streams and one of channels. `SIM_SEED=n` repeats one, `SIM_SEEDS=n` says how many
//! are run (500).

#![allow(clippy::panic, reason = "a panic is how an oracle speaks")]

mod broker;
mod carbon;
mod channels;
mod client;
mod doors;
mod net;
mod publishers;
mod receiver;
mod verdict;
mod visitors;

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::{Broker, Delivered, Plan};
use client::{Client, DEPENDS, Leaving, Reading, Wish};
use emojitrack_streamer::engine::{Engine, Settings};
use emojitrack_streamer::net::{Door, Net};
use emojitrack_streamer::random::Random;
use emojitrack_streamer::reactor::{Feed, Graphite, Reactor, Reports};
use emojitrack_streamer::source::redis::{Session, Topics};
use emojitrack_streamer::source::{Address, Endpoint};
use emojitrack_streamer::time::Time;
use emojitrack_streamer::upstream::carbon::Carbon;
use emojitrack_streamer::upstream::{Target, Transport};
use net::{Faults, PipeId, SimNet};
use receiver::Event;

/// Everything that one seed decides.
struct World {
    reactor: Reactor<SimNet>,
    broker: Broker,
    clients: Vec<Client>,
    random: Random,
    ends_at: Time,
    /// Whether lifetimes are bounded.
    forces: bool,
}

#[test]
fn clients_receive_exactly_what_was_published() {
    run_seeds(500, run);
}

/// Runs what each seed decides, as many of them as said, and says which have failed.
fn run_seeds(seeds: u64, run: fn(u64)) {
    if let Some(seed) = number_from("SIM_SEED") {
        return run(seed);
    }
    let seeds = number_from("SIM_SEEDS").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<(u64, String)> = std::thread::scope(|scope| {
        let work = || {
            let mut failures = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds || failures.len() > 3 {
                    return failures;
                }
                if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed))) {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text =
                        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                    failures.push((seed, text.unwrap_or_default()));
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    for (seed, text) in &failures {
        eprintln!("seed {seed} failed (repeat it with SIM_SEED={seed}): {text}");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    while world.reactor.net().now() < world.ends_at {
        world.step();
    }
    world.check_before_stop();
    world.stop();
    world.check_after_stop();
}

const KEEPALIVE: Duration = Duration::from_secs(15);

/// What a deployer may have chosen: lifetimes only where closes are forced.
fn settings(random: &mut Random, forces: bool) -> Settings {
    let lifetime = Duration::from_secs(1);
    Settings {
        node: "rust-test-sim.1".to_owned(),
        epoch: random.next_u64(),
        score_lifetime: forces.then(|| random.between(lifetime, 3 * lifetime)),
        detail_lifetime: forces.then(|| random.between(lifetime, 3 * lifetime)),
        trusted_proxies: 0,
        sockets_max: usize::MAX,
        public_sockets_max: usize::MAX,
        connections_max: usize::MAX,
        connections_per_ip_max: usize::MAX,
        drain: Duration::from_secs(2),
        status_rows_max: 10,
        raw_enabled: true,
        kiosk_enabled: true,
        channels: Vec::new(),
        publish_key: None,
        has_no_broker: false,
        channel_linger: Duration::from_secs(1),
        channel_stats_max: 10,
        page_enabled: false,
        admin_token: None,
        admin_is_apart: false,
        keepalive: KEEPALIVE,
        // Nothing is to be lost across forced closes, so there must be room for what was missed.
        log_bytes_max: if forces || random.one_in(2) {
            16 * 1024 * 1024
        } else {
            256 * 1024
        },
        force_refresh: forces,
        score_retry_ms: random.one_in(2).then_some(100),
        detail_retry_ms: random.one_in(2).then_some(500),
        // Small ones, so that fan-outs are cut into slices although there are few clients.
        reads_per_turn: [3, 256][random.below(2) as usize],
        writes_per_turn: [1, 10, 512][random.below(3) as usize],
        paced_subscribers_min: [1, 8, 1_000][random.below(3) as usize],
        verbose: random.one_in(2),
    }
}

/// Where the simulated broker is.
fn endpoint(password: Option<String>) -> Endpoint {
    Endpoint {
        address: Address::Tcp {
            host: "broker".to_owned(),
            port: 6379,
        },
        username: None,
        password,
        db: 0,
    }
}

/// What the emoji streams are fed by.
fn topics() -> Topics {
    Topics {
        channels: vec!["stream.score_updates".to_owned()],
        optional: vec!["stream.admin.cleanup".to_owned()],
        patterns: vec![
            "stream.tweet_updates.*".to_owned(),
            "stream.interaction.*".to_owned(),
        ],
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_reads: fault(&mut random),
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            // Each costs all who wait half a second.
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
        let settings = Settings {
            admin_is_apart,
            ..settings(&mut random, forces)
        };
        // With nothing else, the source is read at ticks alone.
        let only_eps = random.one_in(4);
        let clients = 60 + random.below(80);
        let clients = (0..clients).map(|number| {
            Client::new(
                &mut random,
                number,
                busy_until,
                forces,
                only_eps,
                admin_is_apart,
            )
        });
        let clients = clients.collect();
        let net = SimNet::new(random.next_u64(), faults);
        let engine = Engine::new(settings, net.now(), net.unix_seconds());
        let password = random.one_in(2).then(|| "secret".to_owned());
        let (endpoint, topics) = (endpoint(password), topics());
        let messages = Session::new(vec![endpoint.clone()], topics, "sim", random.next_u64());
        let commands = Session::new(vec![endpoint], Topics::default(), "sim", random.next_u64());
        let target = Target {
            transport: Transport::Tcp,
            host: "carbon".to_owned(),
            port: 2003,
        };
        let graphite = Graphite::new(Carbon::new(target, random.next_u64()), "sim".to_owned());
        World {
            reactor: Reactor::new(
                net,
                engine,
                Feed::redis(messages, commands),
                Reports::new(Arc::default(), Some(graphite)),
            ),
            broker: Broker::new(plan, random.next_u64()),
            clients,
            random,
            forces,
            ends_at: busy_until + Duration::from_secs(quiet),
        }
    }

    /// Lets everybody act, and the server take one turn.
    fn step(&mut self) {
        let now = self.reactor.net().now();
        let net = self.reactor.net_mut();
        self.broker.act(net, now);
        let delivered = self.broker.delivered.len();
        for client in &mut self.clients {
            let acted = client.act(net, &mut self.random, now, delivered);
            acted.unwrap_or_else(|error| panic!("{:?} received {error}", client.wish));
        }
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
        let dropped = self.reactor.engine().counters();
        let dropped = dropped.dropped_encoding + dropped.dropped_channel;
        assert!(
            dropped <= self.broker.dropped,
            "{dropped} messages were dropped without a reason"
        );
        let messages_in = self.reactor.engine().counters().messages_in;
        assert_eq!(
            messages_in,
            self.broker.delivered.len() as u64 + self.broker.dropped
        );
        for client in &mut self.clients {
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
            client.check(&self.broker.delivered, closed, KEEPALIVE, net.now());
        }
        assert!(self.broker.carbon.lines > 0, "graphite was told nothing");
        let counters = self.reactor.engine().counters();
        assert!(
            !self.forces || counters.replay_refused == 0,
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
        for client in &mut self.clients {
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

impl Client {
    fn is_stream(&self) -> bool {
        matches!(
            self.wish,
            Wish::Raw
                | Wish::Eps
                | Wish::Details
                | Wish::Detail(_)
                | Wish::Kiosk
                | Wish::Several(..)
                | Wish::EpsAnd(_)
        )
    }

    fn check(&self, delivered: &[Delivered], closed: bool, keepalive: Duration, now: Time) {
        let context = format!(
            "{:?} {:?} {:?} from {:?}",
            self.wish, self.reading, self.leaving, self.starts_at
        );
        match &self.wish {
            Wish::Requests(statuses, ends) if self.is_reliable() => {
                let got = self.receiver.statuses();
                let fits = |(got, wanted): (&u16, &u16)| match *wanted {
                    DEPENDS => [200, 503].contains(got),
                    wanted => *got == wanted,
                };
                let fit = got.len() == statuses.len() && got.iter().zip(statuses).all(fits);
                assert!(fit, "{context}: {got:?}");
                // The broker answers every command that reaches it.
                let silence = b"redis does not answer";
                let replies = &self.receiver.replies;
                let waited = replies.iter().any(|reply| {
                    reply
                        .body
                        .windows(silence.len())
                        .any(|words| words == silence)
                });
                assert!(!waited, "{context} waited in vain for the broker");
                // Those that are kept alive have been given up for want of a further request.
                assert!(closed, "{context} is still connected, ends: {ends}");
            }
            Wish::EndlessHead if self.is_reliable() => {
                let got = self.receiver.statuses();
                assert_eq!(got, [408], "{context}");
                assert!(closed, "{context} holds a slot");
            }
            Wish::Silence if self.is_reliable() => {
                assert!(
                    closed && self.receiver.replies.is_empty(),
                    "{context} holds a slot"
                );
            }
            _ if self.is_stream() => self.check_stream(delivered, closed, &context, keepalive, now),
            _ => {}
        }
    }

    fn check_stream(
        &self,
        delivered: &[Delivered],
        closed: bool,
        context: &str,
        keepalive: Duration,
        now: Time,
    ) {
        if self.is_reliable() {
            assert!(!closed || self.comes_back, "{context} was closed");
            let between = self.comebacks > 0;
            assert!(
                self.receiver.streaming || between,
                "{context} got no stream"
            );
            let forgot = closed || self.receiver.last_event_id.is_empty();
            assert!(
                forgot || !self.receiver.streaming,
                "{context} was not told to forget its id"
            );
            let slack = Duration::from_millis(200);
            let since = if self.received_at == Time::ZERO {
                now
            } else {
                self.received_at
            };
            let silence = self.silence_max.max(now.since(since));
            assert!(
                silence <= keepalive + slack,
                "{context}: nothing came for {silence:?}"
            );
        }
        let gives_up = matches!(self.reading, Reading::Vanishes(_));
        let stayed = self.leaving == Leaving::Stays;
        if let (Some((_, receiver)), Leaving::CleansUp(_)) = (&self.cleanup, self.leaving) {
            assert_eq!(receiver.statuses(), [200], "{context}: the cleanup");
            // A stream that is already being ended by force, but does not take its end, waits for that.
            let is_stuck = self.comes_back && self.reading != Reading::Fast;
            assert!(closed || is_stuck, "{context} was not cleaned up");
        }
        assert!(
            !closed || self.comes_back || gives_up || !stayed || self.reading != Reading::Fast,
            "{context} was closed"
        );
        let (Some((asked_at, asked)), Some((_, answered))) = (self.asked_at, self.answered_at)
        else {
            return;
        };
        let is_sum = |message: &Delivered| {
            let sums_up = matches!(self.wish, Wish::Eps | Wish::EpsAnd(_));
            sums_up && message.channel == "stream.score_updates"
        };
        // Sums stand in events without a name, whatever else comes over the connection.
        let sums_up = matches!(self.wish, Wish::Eps | Wish::EpsAnd(_));
        let (unnamed, named): (Vec<&Event>, Vec<&Event>) = self
            .events()
            .partition(|event| sums_up && event.name.is_empty());
        let part = |of_sums: bool| {
            let is_in = |message: &&Delivered| self.wants(message) && is_sum(message) == of_sums;
            let wanted: Vec<&Delivered> = delivered.iter().filter(is_in).collect();
            let count_before = |end: usize| delivered[..end].iter().filter(is_in).count();
            (wanted, count_before(asked), count_before(answered))
        };
        if sums_up {
            let (wanted, first, last) = part(true);
            // The first tick may hold what was counted just before.
            let tick_began = asked_at - Duration::from_millis(18);
            let early = wanted.iter().position(|message| message.at >= tick_began);
            let first = early.unwrap_or(first).min(first);
            self.check_sums(&unnamed, &wanted, first, last, closed, context);
        }
        if self.wish != Wish::Eps {
            let (wanted, first, last) = part(false);
            self.check_sequence(&named, &wanted, first, last, closed, context);
        }
    }

    fn wants(&self, message: &Delivered) -> bool {
        match &self.wish {
            Wish::Raw | Wish::Eps => message.channel == "stream.score_updates",
            Wish::Details => message.channel.starts_with("stream.tweet_updates."),
            Wish::Detail(id) => message.channel.strip_prefix("stream.tweet_updates.") == Some(id),
            Wish::Kiosk => message.channel.starts_with("stream.interaction."),
            Wish::Several(one, other) => {
                let id = message.channel.strip_prefix("stream.tweet_updates.");
                message.channel == "stream.score_updates"
                    || id.is_some_and(|id| id == *one || id == *other)
            }
            Wish::EpsAnd(id) => {
                let of = message.channel.strip_prefix("stream.tweet_updates.");
                message.channel == "stream.score_updates" || of == Some(id)
            }
            _ => false,
        }
    }

    /// The events are a run of the messages without a gap, that began between the request and its answer.
    fn check_sequence(
        &self,
        events: &[&Event],
        wanted: &[&Delivered],
        first: usize,
        last: usize,
        closed: bool,
        context: &str,
    ) {
        let fits = |start: usize| {
            let Some(run) = wanted.get(start..start + events.len()) else {
                return false;
            };
            run.iter().zip(events).all(|(message, event)| {
                let is_score = message.channel == "stream.score_updates";
                let named = match is_score {
                    true => event.name.is_empty() || event.name == "message",
                    false => event.name == message.channel,
                };
                named && event.data == joined_lines(&message.payload)
            })
        };
        let start = (first..=last).find(|&start| fits(start));
        let Some(start) = start else {
            panic!(
                "{context}: {} events are no run of {} messages from {first} to {last}",
                events.len(),
                wanted.len()
            );
        };
        if self.is_there_to_the_end(closed) {
            let all =
                (first..=last).any(|start| fits(start) && start + events.len() == wanted.len());
            assert!(
                all,
                "{context}: {} events from {start} end before {}",
                events.len(),
                wanted.len()
            );
        }
    }

    /// The sums are those of a run of the messages without a gap.
    fn check_sums(
        &self,
        events: &[&Event],
        wanted: &[&Delivered],
        first: usize,
        last: usize,
        closed: bool,
        context: &str,
    ) {
        let mut sums: HashMap<String, u64> = HashMap::new();
        let mut total = 0;
        for event in events {
            let counts: HashMap<String, u64> = serde_json::from_str(&event.data)
                .unwrap_or_else(|_| panic!("{context}: {event:?}"));
            assert!(!counts.is_empty(), "{context} got an event about nothing");
            for (key, count) in counts {
                total += count as usize;
                *sums.entry(key).or_default() += count;
            }
        }
        let fits = |start: usize| {
            let Some(run) = wanted.get(start..start + total) else {
                return false;
            };
            let mut expected: HashMap<&str, u64> = HashMap::new();
            for message in run {
                *expected.entry(message.payload.as_str()).or_default() += 1;
            }
            expected.len() == sums.len()
                && expected
                    .iter()
                    .all(|(key, count)| sums.get(*key) == Some(count))
        };
        let starts: Vec<usize> = (first..=last).filter(|&start| fits(start)).collect();
        assert!(
            !starts.is_empty(),
            "{context}: the sum {total} is that of no run of {} updates from {first} to {last}",
            wanted.len()
        );
        if self.is_there_to_the_end(closed) {
            let all = starts.iter().any(|start| start + total == wanted.len());
            assert!(
                all,
                "{context}: the sum {total} from {starts:?} ends before {}",
                wanted.len()
            );
        }
    }

    fn is_there_to_the_end(&self, closed: bool) -> bool {
        // Who takes little at a time may still be taking it.
        let reads = match self.reading {
            Reading::Fast => true,
            Reading::Stalls(..) => self.wish == Wish::Eps || !self.is_narrow(),
            Reading::Vanishes(_) | Reading::Slow => false,
        };
        reads && self.leaving == Leaving::Stays && !closed
    }
}

/// What a receiver makes of a payload with line ends of other kinds.
fn joined_lines(payload: &str) -> String {
    payload.replace("\r\n", "\n").replace('\r', "\n")
}
