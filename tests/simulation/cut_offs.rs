//! Cut-offs: the network to the broker, or one of the connections, fails without a word. That must be noticed within five
//! seconds, and the network's return within one. A server that is itself suspended must not blame the broker.

use std::time::Duration;

use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::Plan;
use crate::net::{Faults, PipeId};
use crate::stage::Stage;
use crate::{seeds, server};

/// What fails. Numbers are those of the server's sockets.
#[derive(Clone, Copy, Debug)]
enum What {
    Connection(u8),
    Network,
    Server,
}

/// How long it may take to notice.
const NOTICED_IN: Duration = Duration::from_secs(5);
/// How long it may take to be back.
const BACK_IN: Duration = Duration::from_secs(1);

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    what: What,
    at: Time,
    lasts: Duration,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0xC0FF);
        let faults = Faults {
            short_reads: [0, 3][random.below(2) as usize],
            spurious_events: [0, 5][random.below(2) as usize],
            stale_events: [0, 5][random.below(2) as usize],
            ..Faults::default()
        };
        let settings = server::settings(&mut random, false);
        let is_quiet = random.one_in(2);
        let plan = Plan {
            until: Time::from_micros(if is_quiet { 0 } else { u64::MAX }),
            pause_max: Duration::from_millis([30, 3_000][random.below(2) as usize]),
            burst_max: 3,
            padding_max: 100,
            ..Plan::default()
        };
        let what = match random.below(5) {
            0 => What::Connection(0),
            1 => What::Connection(1),
            2 => What::Server,
            _ => What::Network,
        };
        let second = Duration::from_secs(1);
        World {
            stage: Stage::new(&mut random, settings, faults, plan),
            what,
            at: Time::ZERO + random.between(2 * second, 15 * second),
            lasts: random.between(5 * second, 60 * second),
        }
    }

    fn run(&mut self) {
        self.stage.pass(self.at.since(Time::ZERO));
        assert!(self.is_in_use(), "it was never in use");
        match self.what {
            What::Connection(index) => {
                let cut = self.cut(|stage| stage.net().cut_connection(index), &[index]);
                self.expect_noticed(&cut);
            }
            What::Network => {
                let cut = self.cut(|stage| stage.net().set_cut(true), &[0, 1]);
                self.expect_noticed(&cut);
                let until = self.at + self.lasts;
                self.stage.pass(until.since(self.stage.now()));
                self.stage.net().set_cut(false);
            }
            What::Server => return self.suspend(),
        }
        let back_at = self.stage.now();
        while !self.is_in_use() {
            let took = self.stage.now().since(back_at);
            assert!(took <= BACK_IN, "it is not back after {took:?}");
            self.stage.turn(back_at + BACK_IN);
        }
    }

    fn last_steps(&self) -> String {
        let steps = self.stage.broker.steps.tell("the broker");
        format!("{:?} at {:?} {steps}", self.what, self.at)
    }
}

impl World {
    fn is_in_use(&self) -> bool {
        let net = self.stage.net_ref();
        self.stage.broker.is_in_use(net)
    }

    /// Cuts something off, and returns the connections of these sockets.
    fn cut(&mut self, act: impl FnOnce(&mut Stage), sockets: &[u8]) -> Vec<PipeId> {
        self.at = self.stage.now();
        act(&mut self.stage);
        let net = self.stage.net();
        let pipes = sockets.iter().map(|&index| net.upstream(index));
        pipes.map(|pipe| pipe.expect("a connection")).collect()
    }

    /// Waits until the server has given up these connections.
    fn expect_noticed(&mut self, cut: &[PipeId]) {
        let until = self.at + NOTICED_IN;
        let mut left = cut.to_vec();
        loop {
            let net = self.stage.net();
            left.retain(|&pipe| !net.is_server_closed(pipe));
            if left.is_empty() {
                return;
            }
            assert!(self.stage.now() <= until, "{left:?} are not noticed");
            self.stage.turn(until);
        }
    }

    /// The server does not run while it waits for the answer to a PING.
    fn suspend(&mut self) {
        let gives_up_at = self.stage.now() + Duration::from_secs(600);
        let has_asked = |stage: &mut Stage| {
            let net = stage.net();
            let mut pipes = [0, 1].into_iter().filter_map(|index| net.upstream(index));
            pipes.any(|pipe| net.has_unread(pipe))
        };
        while !has_asked(&mut self.stage) {
            assert!(self.stage.now() < gives_up_at, "it never asks");
            self.stage.turn(gives_up_at);
        }
        let pipes = [0, 1].map(|index| self.stage.net().upstream(index));
        self.stage.net().suspend(self.lasts);
        self.stage.pass(NOTICED_IN);
        let now = [0, 1].map(|index| self.stage.net().upstream(index));
        assert_eq!(pipes, now, "a connection was given up");
    }
}
