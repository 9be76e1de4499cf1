//! Evictions: a reader stops within an event, that event is evicted from the log, and the lifetime of the stream ends. The
//! reader must have received complete events in order, and then the proper end of the stream or an abrupt close. The
//! beginning of an event must never be followed by anything but its rest.

use std::time::Duration;

use emojitrack_streamer::http::CloseReason;
use emojitrack_streamer::limits;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::{Delivered, Plan};
use crate::caller::{Caller, request};
use crate::net::Faults;
use crate::receiver::joined_lines;
use crate::stage::Stage;
use crate::steps::{Steps, brief};
use crate::sums::{Counts, counts_of, end_of_run};
use crate::{seeds, server};

/// Streams, the channels that their messages come by, and the longest message.
const STREAMS: [(&str, &str, usize); 4] = [
    ("/subscribe/raw", "stream.score_updates", 100),
    ("/subscribe/eps", "stream.score_updates", 100),
    (
        "/subscribe/details/1F602",
        "stream.tweet_updates.1F602",
        20_000,
    ),
    ("/subscribe/channels/a", "a", 20_000),
];

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    caller: Caller,
    stream: (&'static str, &'static str, usize),
    is_http_11: bool,
    /// Bytes that it reads at a time, at most, and when it does not read at all.
    read_max: usize,
    stalls: (Time, Time),
    /// Bytes of messages that are still to be published, and how many in a burst.
    left: usize,
    burst: usize,
    random: Random,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0xE51C);
        let faults = Faults {
            short_writes: [0, 2, 10][random.below(3) as usize],
            ..Faults::default()
        };
        let settings = server::settings_with_channels(
            &mut random,
            true,
            &["a"],
            Duration::from_secs(1),
            limits::LOG_BYTES_FLOOR,
        );
        let mut stage = Stage::new(&mut random, settings, faults, Plan::default());
        stage.pass(Duration::from_secs(1));
        let stream = STREAMS[random.below(4) as usize];
        let is_http_11 = random.one_in(2);
        let bytes = request(stream.0, is_http_11, "");
        let room = 200 + random.below(6_000) as usize;
        let caller = Caller::call(stage.net(), &bytes, room, Steps::default());
        stage.pass(Duration::from_millis(100));
        let now = stage.now();
        let stalls_from = now + random.between(Duration::ZERO, Duration::from_millis(900));
        let stall = random.between(Duration::ZERO, Duration::from_secs(7));
        World {
            stage,
            caller,
            stream,
            is_http_11,
            read_max: [100, 3_000, usize::MAX][random.below(3) as usize],
            stalls: (stalls_from, stalls_from + stall),
            left: [20_000, 300_000, 900_000][random.below(3) as usize],
            burst: 1 + random.below(60_000) as usize,
            random,
        }
    }

    fn run(&mut self) {
        let gives_up_at = self.stage.now() + Duration::from_secs(90);
        while !self.caller.sees_end(self.stage.net()) {
            let now = self.stage.now();
            assert!(now < gives_up_at, "the lifetime does not end");
            self.publish();
            if now < self.stalls.0 || self.stalls.1 <= now {
                let read = self.caller.read(self.stage.net(), self.read_max);
                read.unwrap_or_else(|error| panic!("{} received {error}", self.stream.0));
            }
            let pause = self
                .random
                .between(Duration::ZERO, Duration::from_millis(12));
            self.stage.turn(now + pause);
        }
        // A connection that its client does not close ends a little later than its stream.
        self.stage.pass(limits::LINGER_DEADLINE * 2);
        self.check_end();
        self.check_events();
    }

    fn last_steps(&self) -> String {
        let client = self.caller.steps.tell(self.stream.0);
        client + &self.stage.broker.steps.tell("the broker")
    }
}

impl World {
    /// Publishes another burst.
    fn publish(&mut self) {
        let mut burst = self.burst.min(self.left);
        self.left -= burst;
        while burst > 0 {
            let number = self.stage.broker.published.len();
            let len = 10 + self.random.below(self.stream.2 as u64) as usize;
            let payload = format!("{number}:{}", "z".repeat(len));
            self.stage.publish(self.stream.1, &payload);
            burst = burst.saturating_sub(len);
        }
    }

    /// The stream was completed, or its reader was closed upon for its slowness.
    fn check_end(&self) {
        let receiver = &self.caller.receiver;
        let slow = self.stage.closes(CloseReason::Slow);
        let forced = self.stage.closes(CloseReason::Lifetime);
        let is_whole = receiver.is_on_boundary() && receiver.terminated == self.is_http_11;
        // Whoever does not take its end in time is closed upon as well.
        let kept_waiting = self.stalls.1.since(self.stalls.0) >= limits::DRAIN_DEADLINE;
        assert_eq!(
            slow + forced,
            1,
            "closes as slow: {slow}, at its lifetime: {forced}"
        );
        assert!(
            is_whole || slow == 1 || kept_waiting,
            "{} was cut within an event, although it was not closed as slow; {}",
            self.stream.0,
            receiver.describe_end()
        );
        // What ends properly must end within no event.
        assert!(
            !receiver.terminated || is_whole,
            "a torn event: {}",
            receiver.describe_end()
        );
    }

    /// The events are the first messages, none left out.
    fn check_events(&self) {
        let events = &self.caller.receiver.events;
        let delivered = &self.stage.broker.delivered;
        if self.stream.0 == "/subscribe/eps" {
            let sums: Result<Vec<Counts>, String> = events.iter().map(counts_of).collect();
            let updates: Vec<&str> = delivered.iter().map(|it| it.payload.as_str()).collect();
            let end = sums.and_then(|sums| end_of_run(&sums, &updates, 0));
            end.unwrap_or_else(|error| panic!("{error}"));
            return;
        }
        let count = events.len();
        assert!(
            count <= delivered.len(),
            "{count} events of {} messages",
            delivered.len()
        );
        for (number, (event, Delivered { payload, .. })) in events.iter().zip(delivered).enumerate()
        {
            let is_same = event.data == joined_lines(payload);
            assert!(
                is_same,
                "event {number}\n  expected {}\n  came     {}",
                brief(payload),
                brief(event)
            );
        }
    }
}
