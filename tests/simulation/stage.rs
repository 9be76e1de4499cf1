//! A stage: a server and a simulated Redis, on which a world places its clients.

use std::sync::Arc;
use std::time::Duration;

use emojitrack_streamer::broker::Brokers;
use emojitrack_streamer::broker::redis::Redis;
use emojitrack_streamer::http::CloseReason;
use emojitrack_streamer::net::Net;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::server::Reports;
use emojitrack_streamer::server::{Server, Settings};
use emojitrack_streamer::time::Time;

use crate::broker::{Broker, Plan};
use crate::net::{Faults, SimNet};
use crate::server;

pub struct Stage {
    reactor: Reactor<SimNet>,
    pub broker: Broker,
    pub cost: Cost,
}

/// What the server's turns have cost, without what the simulated network takes.
#[derive(Default)]
pub struct Cost {
    /// Bytes that are allocated, beyond what the server had at its beginning.
    pub bytes: i64,
    /// The most that there were at any moment.
    pub bytes_max: i64,
    /// The most processor time that one turn took.
    pub longest_turn: Duration,
}

impl Stage {
    pub fn new(random: &mut Random, settings: Settings, faults: Faults, plan: Plan) -> Stage {
        let net = SimNet::new(random.next_u64(), faults);
        let server = Server::new(settings, net.now(), net.unix_seconds());
        let endpoints = vec![server::endpoint(None)];
        let redis = Redis::new(endpoints, server::topics(), "sim", random.next_u64());
        Stage {
            reactor: Reactor::new(
                net,
                server,
                Brokers::one(Box::new(redis)),
                Reports::new(Arc::default(), None),
            ),
            broker: Broker::new(plan, random.next_u64()),
            cost: Cost::default(),
        }
    }

    pub fn net(&mut self) -> &mut SimNet {
        self.reactor.net_mut()
    }

    pub fn net_ref(&self) -> &SimNet {
        self.reactor.net()
    }

    pub fn now(&self) -> Time {
        self.reactor.net().now()
    }

    /// Whether the server was asked to end, and has.
    pub fn is_done(&self) -> bool {
        self.reactor.is_done()
    }

    /// Lets the broker act and the server take one turn; time does not go beyond `until` unless a turn takes so long.
    pub fn turn(&mut self, until: Time) {
        let now = self.now();
        let net = self.reactor.net_mut();
        self.broker.act(net, now);
        net.set_horizon(self.broker.next_at(now).min(until).max(now));
        let (held, began) = (net.held_bytes(), processor_time());
        let turn = allocation_counter::measure(|| self.reactor.turn().expect("no poll fails"));
        let growth = self.reactor.net().held_bytes() as i64 - held as i64;
        let cost = &mut self.cost;
        cost.longest_turn = cost.longest_turn.max(processor_time() - began);
        let highest = cost.bytes + turn.bytes_max as i64 - growth;
        cost.bytes_max = cost.bytes_max.max(highest);
        cost.bytes += turn.bytes_current - growth;
        let spins = self.reactor.net().spins();
        assert!(spins < 5, "the server turns without need");
        self.broker.note_delivered(self.reactor.net(), now);
    }

    /// Lets so much time go by.
    pub fn pass(&mut self, span: Duration) {
        let until = self.now() + span;
        while self.now() < until {
            self.turn(until);
        }
    }

    /// Publishes a message, which reaches the server in a moment.
    pub fn publish(&mut self, channel: &str, payload: &str) {
        let now = self.now();
        let net = self.reactor.net();
        self.broker
            .put_on_channel(channel.to_owned(), payload.to_owned(), net, now);
    }

    /// Connections that were closed for this reason.
    pub fn closes(&self, reason: CloseReason) -> u64 {
        let at = CloseReason::ALL.iter().position(|it| *it == reason);
        at.map_or(0, |at| self.reactor.server().counters().closes[at])
    }
}

/// The processor time of this thread: what others do on the machine does not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
