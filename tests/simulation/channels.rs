//! Channels that come and go: visitors with streams and long polls, publishers, and a broker that falls over, or
//! none. It owns what one seed decides and what must hold at the end; each visitor is judged by `verdict`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use emojitrack_streamer::broker::redis::Redis;
use emojitrack_streamer::broker::{self, Embedded};
use emojitrack_streamer::bus::Stream;
use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::http::authorization::Secret;
use emojitrack_streamer::limits;
use emojitrack_streamer::net::Net;
use emojitrack_streamer::net::Process;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::server::Reports;
use emojitrack_streamer::server::settings::Channels;
use emojitrack_streamer::server::stats::SourceState;
use emojitrack_streamer::server::{Server, Settings};
use emojitrack_streamer::time::Time;

use crate::broker::{Broker, Plan};
use crate::net::{Faults, SimNet};
use crate::publishers::{Fault, KEY, Post, Publisher};
use crate::verdict::{Court, Entry, is_for, name_of};
use crate::visitors::{CHANNELS, Item, Manner, Nature, ROOMS, Visitor};
use crate::{seeds, server};

/// Where messages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Redis,
    /// Only from one publisher, which waits for each answer.
    OnePublisher,
    /// Only from several publishers; a visitor that receives everything determines their order.
    Publishers,
}

/// Everything that one seed decides.
pub struct World {
    reactor: Reactor<SimNet>,
    source: Source,
    broker: Option<Broker>,
    visitors: Vec<Visitor>,
    /// The visitor that is acting or being judged.
    about: Option<usize>,
    publishers: Vec<Publisher>,
    random: Random,
    settings: Settings,
    /// When something was first evicted from the log.
    evicted_at: Option<Time>,
    ends_at: Time,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0xC0FFEE);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_reads: fault(&mut random),
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            accept_failures: 0,
        };
        let source = match random.below(6) {
            0 => Source::OnePublisher,
            1 => Source::Publishers,
            _ => Source::Redis,
        };
        let busy_until = Time::from_micros(6_000_000);
        let linger = [0, 300, 2_000, 5_000][random.below(4) as usize];
        let linger = Duration::from_millis(match source {
            // Who tells the order must not lose its place.
            Source::Publishers => 2_000,
            _ => linger,
        });
        let has_all = source == Source::Publishers || random.one_in(2);
        let globs: &[&str] = match has_all {
            true => &["a", "b", ROOMS, "*"],
            false => &["a", "b", ROOMS],
        };
        let forces = random.one_in(3);
        let mut settings = server::settings(&mut random, forces);
        settings.channels = Channels {
            patterns: globs.iter().map(|text| Glob::new(text)).collect(),
            patterns_enabled: true,
            publish_key: Secret::new(KEY),
            has_no_broker: source != Source::Redis,
            linger,
        };
        let net = SimNet::new(random.next_u64(), faults);
        let server = Server::new(settings.clone(), net.now(), net.unix_seconds());
        let broker = (source == Source::Redis).then(|| {
            let plan = plan(&mut random, busy_until);
            Broker::new(plan, random.next_u64())
        });
        let feed: Box<dyn broker::Broker<SimNet>> = match source {
            Source::Redis => {
                let endpoints = vec![server::endpoint(None)];
                let seed = random.next_u64();
                Box::new(Redis::new(endpoints, server::topics(), "sim", seed))
            }
            Source::OnePublisher | Source::Publishers => Box::new(Embedded),
        };
        let publishers = match source {
            Source::Redis => random.below(4),
            Source::OnePublisher => 1,
            Source::Publishers => 4,
        };
        let is_patient = source == Source::OnePublisher;
        let publishers = (0..publishers)
            .map(|number| Publisher::new(&mut random, number, is_patient, busy_until))
            .collect();
        let visitors = visitors(&mut random, source, has_all, busy_until);
        let ends_at = busy_until + Duration::from_secs(23);
        World {
            reactor: Reactor::new(
                net,
                server,
                broker::Brokers::one(feed),
                Reports::new(Arc::default(), None),
            ),
            source,
            broker,
            visitors,
            about: None,
            publishers,
            random,
            settings,
            evicted_at: None,
            ends_at,
        }
    }

    fn run(&mut self) {
        while self.reactor.net().now() < self.ends_at {
            self.step();
        }
        self.check();
        self.stop();
    }

    fn last_steps(&self) -> String {
        let of_visitor = |number: usize| self.visitors[number].steps.tell("the visitor");
        let of_broker = |broker: &Broker| broker.steps.tell("the broker");
        let visitor = self.about.map(of_visitor).unwrap_or_default();
        visitor + &self.broker.as_ref().map(of_broker).unwrap_or_default()
    }
}

impl World {
    /// Lets everybody act, and the server take one turn.
    fn step(&mut self) {
        let now = self.reactor.net().now();
        let net = self.reactor.net_mut();
        let mut next = self.ends_at;
        if let Some(broker) = &mut self.broker {
            broker.act(net, now);
            next = next.min(broker.next_at(now));
        }
        for (number, visitor) in self.visitors.iter_mut().enumerate() {
            self.about = Some(number);
            let acted = visitor.act(net, &mut self.random, now);
            acted.unwrap_or_else(|error| panic!("{:?} received {error}", visitor.attempts.last()));
            next = next.min(visitor.next_at());
        }
        self.about = None;
        for publisher in &mut self.publishers {
            let acted = publisher.act(net, &mut self.random, now);
            acted.unwrap_or_else(|error| panic!("a publisher received {error}"));
            next = next.min(publisher.next_at());
            check_answer(&publisher.posts, self.broker.as_ref(), now);
        }
        net.set_horizon(next.max(now));
        self.reactor.turn().expect("a simulated poll does not fail");
        let spins = self.reactor.net().spins();
        assert!(spins < 5, "the server turns without need");
        if let Some(broker) = &mut self.broker {
            broker.note_delivered(self.reactor.net(), now);
        }
        if self.evicted_at.is_none() && has_evicted(self.reactor.server()) {
            self.evicted_at = Some(now);
        }
    }

    fn check(&mut self) {
        let entries = match &self.broker {
            Some(broker) => of_broker(broker),
            None => self.of_publishers(),
        };
        let now = self.reactor.net().now();
        let linger = self.settings.channels.linger;
        let court = Court::new(entries, self.broker.as_ref(), linger, self.evicted_at, now);
        for (number, visitor) in self.visitors.iter().enumerate() {
            self.about = Some(number);
            court.judge(visitor);
        }
        self.about = None;
        self.check_posts();
        self.check_demand();
    }

    /// The demand on the source is what visitors are subscribed to, and nothing else.
    fn check_demand(&self) {
        let net = self.reactor.net();
        let is_there =
            |visitor: &&Visitor| visitor.pipe.is_some_and(|pipe| !net.is_server_closed(pipe));
        let forces = self.settings.streams.detail.lifetime.is_some();
        let is_restless = |visitor: &&Visitor| forces || visitor.nature.manner != Manner::Fast;
        let (polling, streaming): (Vec<&Visitor>, Vec<&Visitor>) = self
            .visitors
            .iter()
            .filter(|it| it.nature.stays)
            .partition(is_restless);
        let streaming = streaming.into_iter().filter(is_there);
        let streaming = streaming.filter_map(Visitor::current);
        let wanted: BTreeSet<&str> = streaming.flat_map(|it| it.wish.topics.clone()).collect();
        // A visitor that polls or was drained is connected at some moments only.
        let lately = polling
            .into_iter()
            .flat_map(|it| it.attempts.iter().rev().take(9));
        let perhaps: BTreeSet<&str> = lately.flat_map(|it| it.wish.topics.clone()).collect();
        let registry = self.reactor.server().bus().line().registry();
        let channels = registry.children(Stream::Channels);
        let counted: BTreeSet<&str> = channels
            .filter(|&(_, subscribers)| subscribers > 0)
            .map(|(name, _)| std::str::from_utf8(name).expect("a name is text"))
            .collect();
        let is_right = |have: &BTreeSet<&str>| {
            wanted.is_subset(have)
                && have
                    .iter()
                    .all(|it| wanted.contains(it) || perhaps.contains(it))
        };
        let expected = format!("{wanted:?} and perhaps {perhaps:?}");
        assert!(
            is_right(&counted),
            "{counted:?} have subscribers, not {expected}"
        );
        let Some(broker) = &self.broker else { return };
        let topics = broker.topics.iter().map(String::as_str);
        let asked: BTreeSet<&str> = topics
            .filter(|topic| !topic.starts_with("stream."))
            .collect();
        assert!(
            is_right(&asked),
            "the broker was asked for {asked:?}, not {expected}"
        );
    }

    /// What was published without a broker, in the order in which it was.
    fn of_publishers(&self) -> Vec<Entry> {
        let posts: Vec<&Post> = self.publishers.iter().flat_map(|it| &it.posts).collect();
        let mut order: Vec<(&Post, &str, Option<Time>)> = Vec::new();
        if self.source == Source::OnePublisher {
            let taken = posts.iter().filter(|post| post.status == 200);
            order.extend(taken.flat_map(|post| post.channels.iter().map(|it| (*post, *it, None))));
        } else {
            let by_name: HashMap<&str, &Post> = posts
                .iter()
                .map(|post| (name_of(&post.payload), *post))
                .collect();
            let witness = self
                .visitors
                .iter()
                .find(|visitor| visitor.nature.is_witness);
            let attempts = witness.into_iter().flat_map(|witness| &witness.attempts);
            for (at, item) in attempts.flat_map(|attempt| &attempt.items) {
                let Item::Event(event) = item else { continue };
                let post = by_name.get(name_of(&event.data)).copied();
                let post = post.unwrap_or_else(|| panic!("the witness was sent {event:?}"));
                let channel = post.channels.iter().find(|channel| **channel == event.name);
                let channel = channel.unwrap_or_else(|| panic!("the witness was sent {event:?}"));
                order.push((post, channel, Some(*at)));
            }
            let mut first_at = None;
            let is_new = |visitor: &&Visitor| visitor.nature.is_witness;
            if let Some(witness) = self.visitors.iter().find(is_new) {
                first_at = witness
                    .attempts
                    .first()
                    .and_then(|attempt| attempt.answered_at);
            }
            for post in posts.iter().filter(|post| post.status == 200) {
                let is_late = post.sent_at > first_at;
                for channel in &post.channels {
                    let of = |(it, on, _): &&(&Post, &str, Option<Time>)| {
                        it.payload == post.payload && on == channel
                    };
                    let count = order.iter().filter(of).count();
                    assert!(
                        count == 1 || (!is_late && count == 0),
                        "{count} times {post:?}"
                    );
                }
            }
        }
        let globs = self.settings.channels.patterns.iter().map(Glob::text);
        let topics: Vec<&str> = CHANNELS
            .into_iter()
            .chain(globs.filter(|it| it.contains('*')))
            .collect();
        let never = Time::from_micros(u64::MAX);
        let of = |(post, channel, seen_at): (&Post, &str, Option<Time>)| {
            let topics = topics.iter().filter(|topic| is_for(topic, channel));
            let taken_at = post
                .answered_at
                .unwrap_or(never)
                .min(seen_at.unwrap_or(never));
            let entry = |topic: &&str| Entry {
                topic: (*topic).to_owned(),
                channel: channel.to_owned(),
                payload: post.payload.clone(),
                sent_at: post.sent_at.unwrap_or(never),
                taken_at,
            };
            topics.map(entry).collect::<Vec<Entry>>()
        };
        order.into_iter().flat_map(of).collect()
    }

    /// Everything that was waited for was answered, and what was refused was not published.
    fn check_posts(&self) {
        for post in self
            .publishers
            .iter()
            .flat_map(|publisher| &publisher.posts)
        {
            let Some(broker) = &self.broker else { continue };
            for channel in &post.channels {
                let was_published = broker.was_commanded(channel, &post.payload);
                let is_refused = post.fault != Fault::None;
                assert!(!(was_published && is_refused), "{post:?} was published");
            }
        }
    }

    fn stop(&mut self) {
        self.reactor.net_mut().signal();
        let asked_at = self.reactor.net().now();
        self.ends_at = asked_at + Duration::from_secs(20);
        for visitor in &mut self.visitors {
            visitor.gone = true;
        }
        while !self.reactor.is_done() {
            self.step();
        }
        let took = self.reactor.net().now().since(asked_at);
        assert!(took < Duration::from_secs(8), "the end took {took:?}");
    }
}

fn plan(random: &mut Random, until: Time) -> Plan {
    let loads = [
        (400, 40, 100),
        (1_000, 3, 50),
        (40, 4, 2_000),
        (1_500, 1, 3_000),
    ];
    let (pause_max_ms, burst_max, padding_max) = loads[random.below(4) as usize];
    Plan {
        from: Time::ZERO,
        until,
        pause_max: Duration::from_millis(pause_max_ms),
        burst_max,
        padding_max,
        falls: random.below(4).saturating_sub(1),
        channels: &CHANNELS,
        only_channels: random.one_in(2),
        is_moody: random.one_in(2),
    }
}

fn visitors(random: &mut Random, source: Source, has_all: bool, busy_until: Time) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    // Few, so that channels come and go.
    let count = [1, 3, 8, 30][random.below(4) as usize];
    let pause_max = [5, 300, 2_000, 4_000][random.below(4) as usize];
    for number in 0..count {
        let manner = match random.below(6) {
            0 => Manner::Slow,
            1 | 2 => Manner::Polls,
            _ => Manner::Fast,
        };
        let nature = Nature {
            manner,
            is_witness: false,
            is_named: random.one_in(3),
            may_have_all: has_all,
            pause_max: Duration::from_millis(pause_max),
            busy_until,
            stays: random.one_in(if manner == Manner::Polls { 8 } else { 2 }),
        };
        visitors.push(Visitor::new(random, number, nature));
    }
    if source == Source::Publishers {
        let nature = Nature {
            manner: Manner::Fast,
            is_witness: true,
            is_named: true,
            may_have_all: true,
            pause_max: Duration::from_millis(50),
            busy_until,
            stays: true,
        };
        visitors.push(Visitor::new(random, 1_000, nature));
    }
    visitors
}

/// Whether something that was in the log may be there no longer.
fn has_evicted(server: &Server) -> bool {
    let source = SourceState {
        kind: "",
        is_live: true,
        since: Duration::ZERO,
        place: "",
        losses: 0,
    };
    let log = server.snapshot(0, source, None, Process::default()).log;
    log.bytes > log.bytes_max / 2
}

/// What reached the server from the broker.
fn of_broker(broker: &Broker) -> Vec<Entry> {
    let of_channels = broker.delivered.iter();
    let of_channels = of_channels.filter(|message| !message.channel.starts_with("stream."));
    let entry = |message: &crate::broker::Delivered| Entry {
        topic: message.pattern.clone().unwrap_or(message.channel.clone()),
        channel: message.channel.clone(),
        payload: message.payload.clone(),
        sent_at: message.at,
        // It was taken in the turn that began then.
        taken_at: message.at + Duration::from_micros(1),
    };
    of_channels.map(entry).collect()
}

/// The answer to the last one of a publisher's posts is right, and comes when there is something to be answered.
fn check_answer(posts: &[Post], broker: Option<&Broker>, now: Time) {
    let Some(post) = posts.last().filter(|it| it.answered_at == Some(now)) else {
        return;
    };
    // After so many wrong or missing keys within a second, none is looked at for the rest of it. The publisher may have left
    // before it was told of some.
    let is_guess = |it: &&Post| matches!(it.fault, Fault::WrongKey | Fault::NoKey);
    let guesses = posts.iter().filter(is_guess).count();
    if post.status == 429 && guesses >= limits::AUTH_FAILURES_PER_WINDOW as usize {
        return;
    }
    let expected = match post.fault {
        Fault::None | Fault::CutOff => 200,
        Fault::WrongKey | Fault::NoKey => 401,
        Fault::NoMessage => 400,
        Fault::ForbiddenChannel => 403,
        Fault::UnknownType => 415,
    };
    let sent_at = post.sent_at.unwrap_or(now) - Duration::from_secs(3);
    let may_fail = broker.is_some_and(|broker| broker.is_doubtful || broker.was_away(sent_at, now));
    let is_right = post.status == expected || (expected == 200 && post.status == 503 && may_fail);
    assert!(is_right, "the answer {} to {post:?}", post.status);
    if post.status == 200
        && let Some(broker) = broker
    {
        for channel in &post.channels {
            let was_published = broker.was_commanded(channel, &post.payload);
            assert!(was_published, "{post:?} is not yet published on {channel}");
        }
    }
}
