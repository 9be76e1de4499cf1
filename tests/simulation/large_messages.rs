//! Large messages: some of 2 MiB, sent to readers with little room on the way to them, several at once, while others read
//! small messages of the same stream and of another one. Whoever takes what it is sent, however slowly, receives
//! everything; and a slow reader keeps nobody else waiting.

use std::time::Duration;

use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::Plan;
use crate::caller::{Caller, WIDE, request};
use crate::net::Faults;
use crate::receiver::joined_lines;
use crate::stage::Stage;
use crate::steps::{Steps, brief};
use crate::{seeds, server};

/// About the largest message that a log of the default size takes; the log here is four times that size.
const LARGE: usize = 2 * 1024 * 1024 - 200;

/// How soon a client that reads at once must get a message after the server has read it.
const WAIT_MAX: Duration = Duration::from_millis(600);

/// A stream, and whether its messages are the large ones.
const STREAMS: [(&str, &str, bool); 3] = [
    ("/subscribe/channels/a", "a", true),
    (
        "/subscribe/details/1F602",
        "stream.tweet_updates.1F602",
        true,
    ),
    ("/subscribe/channels/b", "b", false),
];

struct Reader {
    caller: Caller,
    stream: (&'static str, &'static str, bool),
    is_narrow: bool,
    /// Bytes that it reads at a time, at most.
    read_max: usize,
    next_at: Time,
    /// When it received each event.
    received_at: Vec<Time>,
}

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    readers: Vec<Reader>,
    about: Option<usize>,
    random: Random,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0x1A26E);
        let faults = Faults {
            short_writes: [0, 20][random.below(2) as usize],
            short_reads: [0, 20][random.below(2) as usize],
            ..Faults::default()
        };
        let settings = server::settings_with_channels(
            &mut random,
            false,
            &["a", "b"],
            Duration::from_secs(1),
            server::LARGE_LOG,
        );
        let mut stage = Stage::new(&mut random, settings, faults, Plan::default());
        stage.pass(Duration::from_secs(1));
        let mut readers = Vec::new();
        // Of each stream some that are narrow, and one that is not.
        for is_narrow in [true, true, false] {
            for stream in STREAMS {
                readers.push(Reader::new(&mut stage, &mut random, stream, is_narrow));
            }
        }
        stage.pass(Duration::from_secs(2));
        World {
            stage,
            readers,
            about: None,
            random,
        }
    }

    fn run(&mut self) {
        for round in 0..3 {
            // All of a round fit into the log, so that none is evicted before narrow readers have it.
            for (_, channel, is_large) in STREAMS {
                let large = if is_large { LARGE } else { 1_000 };
                self.publish(channel, &format!("{round}:"), large);
                self.publish(channel, &format!("{round}, small:"), 100);
            }
            self.read_until_all_have_everything();
        }
        for (number, reader) in self.readers.iter().enumerate() {
            self.about = Some(number);
            reader.judge(&self.stage);
        }
    }

    fn last_steps(&self) -> String {
        let steps = self.about.map(|number| &self.readers[number].caller.steps);
        let client = steps.map(|steps| steps.tell("the reader"));
        client.unwrap_or_default() + &self.stage.broker.steps.tell("the broker")
    }
}

impl World {
    fn publish(&mut self, channel: &str, name: &str, large: usize) {
        let padding = "w".repeat(large - name.len() - self.random.below(50) as usize);
        self.stage.publish(channel, &format!("{name}{padding}"));
    }

    fn read_until_all_have_everything(&mut self) {
        let gives_up_at = self.stage.now() + Duration::from_secs(120);
        loop {
            let mut next = gives_up_at;
            let mut has_all = true;
            for (number, reader) in self.readers.iter_mut().enumerate() {
                self.about = Some(number);
                reader.act(&mut self.stage, &mut self.random);
                next = next.min(reader.next_at);
                let published = self.stage.broker.published.iter();
                let wanted = published.filter(|it| it.channel == reader.stream.1).count();
                has_all &= reader.caller.receiver.events.len() == wanted;
                assert!(
                    self.stage.now() < gives_up_at,
                    "{} has {} of {wanted} events; {}",
                    reader.stream.0,
                    reader.caller.receiver.events.len(),
                    reader.caller.receiver.describe_end()
                );
            }
            self.about = None;
            if has_all {
                return;
            }
            self.stage.turn(next);
        }
    }
}

impl Reader {
    fn new(
        stage: &mut Stage,
        random: &mut Random,
        stream: (&'static str, &'static str, bool),
        is_narrow: bool,
    ) -> Reader {
        let bytes = request(stream.0, random.one_in(2), "");
        let room = match is_narrow {
            true => 2_000 + random.below(30_000) as usize,
            false => WIDE,
        };
        Reader {
            caller: Caller::call(stage.net(), &bytes, room, Steps::default()),
            stream,
            is_narrow,
            read_max: match is_narrow {
                true => 3_000 + random.below(60_000) as usize,
                false => usize::MAX,
            },
            next_at: stage.now(),
            received_at: Vec::new(),
        }
    }

    fn act(&mut self, stage: &mut Stage, random: &mut Random) {
        let now = stage.now();
        if now < self.next_at {
            return;
        }
        self.next_at = now + random.between(Duration::from_millis(1), Duration::from_millis(8));
        let read = self.caller.read(stage.net(), self.read_max);
        read.unwrap_or_else(|error| panic!("{} received {error}", self.stream.0));
        let is_over = self.caller.sees_end(stage.net());
        assert!(
            !is_over,
            "{} was closed; {}",
            self.stream.0,
            self.caller.receiver.describe_end()
        );
        let events = self.caller.receiver.events.len();
        self.received_at
            .resize(events.max(self.received_at.len()), now);
    }

    /// Everything arrived, once and in order, and soon at clients that read at once.
    fn judge(&self, stage: &Stage) {
        let delivered = stage.broker.delivered.iter();
        let wanted: Vec<_> = delivered.filter(|it| it.channel == self.stream.1).collect();
        let events = &self.caller.receiver.events;
        assert_eq!(events.len(), wanted.len(), "{}", self.stream.0);
        for (number, (event, message)) in events.iter().zip(wanted).enumerate() {
            let is_same = event.data == joined_lines(&message.payload);
            assert!(
                is_same,
                "event {number} of {} is {}",
                self.stream.0,
                brief(event)
            );
            let waited = self.received_at[number].since(message.at);
            let is_soon = self.is_narrow || waited <= WAIT_MAX;
            assert!(
                is_soon,
                "event {number} of {} waited {waited:?}",
                self.stream.0
            );
        }
    }
}
