//! Groups with `eps`: several streams over one connection, with channels and without, whose readers are cut off in the
//! middle of whatever they are being sent, and come back with the id that they have. It owns what one seed decides and
//! what the readers do; they are judged by `group_verdict`.

use std::time::Duration;

use emojitrack_streamer::random::Random;
use emojitrack_streamer::time::Time;

use crate::broker::{Delivered, Plan};
use crate::caller::{Caller, WIDE, request};
use crate::group_verdict;
use crate::net::Faults;
use crate::receiver::Event;
use crate::stage::Stage;
use crate::steps::Steps;
use crate::{seeds, server};

/// Channels that there are.
pub const CHANNELS: [&str; 2] = ["a", "b"];

/// What a reader asks for beside `eps`.
#[derive(Clone, Debug)]
pub struct Wish {
    pub detail: Option<&'static str>,
    pub channels: Vec<&'static str>,
}

impl Wish {
    fn target(&self) -> String {
        let mut fields = vec!["ns=/eps".to_owned()];
        fields.extend(self.detail.map(|id| format!("ns=/details/{id}")));
        fields.extend(self.channels.iter().map(|it| format!("ns=/channels/{it}")));
        format!("/subscribe?{}", fields.join("&"))
    }

    /// Whether a message is one of those that come beside `eps`.
    pub fn wants(&self, message: &Delivered) -> bool {
        let id = message.channel.strip_prefix("stream.tweet_updates.");
        (id.is_some() && id == self.detail) || self.channels.contains(&message.channel.as_str())
    }
}

/// One connection of a reader, as far as it was read.
#[derive(Debug)]
pub struct Attempt {
    /// The id that was sent; empty where none was.
    pub id: String,
    /// When it was asked for, and how many messages had reached the server then, and when the first byte had come.
    pub asked_at: Time,
    pub asked: usize,
    pub answered: Option<usize>,
    pub events: Vec<Event>,
    /// Whether it was still open, and read to its end, when all was over.
    pub is_open: bool,
}

/// Who asks for a group, is cut off, and comes back.
pub struct Reader {
    pub wish: Wish,
    pub attempts: Vec<Attempt>,
    caller: Option<Caller>,
    /// What it carried when it was last cut off.
    last_event_id: String,
    steps: Steps,
    /// Whether it never leaves, so that everything is kept for the others.
    is_anchor: bool,
    room: usize,
    /// Bytes that it reads at a time, at most.
    read_max: usize,
    pub next_at: Time,
}

impl Reader {
    pub fn new(random: &mut Random, wish: Wish, is_anchor: bool) -> Reader {
        Reader {
            wish,
            attempts: Vec::new(),
            caller: None,
            last_event_id: String::new(),
            steps: Steps::default(),
            is_anchor,
            room: [WIDE, 500, 3_000][random.below(3) as usize],
            read_max: 0,
            next_at: Time::from_micros(match is_anchor {
                true => 0,
                false => 700_000 + random.below(3_000_000),
            }),
        }
    }

    /// Connects, or reads part of what is available, and sometimes disconnects within an event.
    pub fn act(
        &mut self,
        stage: &mut Stage,
        random: &mut Random,
        is_quiet: bool,
    ) -> Result<(), String> {
        let now = stage.now();
        if now < self.next_at {
            return Ok(());
        }
        self.next_at = now + random.between(Duration::from_millis(1), Duration::from_millis(9));
        let Some(mut caller) = self.caller.take() else {
            self.begin(stage, random);
            return Ok(());
        };
        let max = match self.read_max {
            usize::MAX => usize::MAX,
            _ if is_quiet => usize::MAX,
            max => 1 + random.below(max as u64) as usize,
        };
        let read = caller.read(stage.net(), max)?;
        if let Some(attempt) = self.attempts.last_mut()
            && read > 0
        {
            attempt.answered.get_or_insert(stage.broker.delivered.len());
        }
        let is_over = caller.sees_end(stage.net());
        let leaves = !is_quiet && !self.is_anchor && read > 0 && random.one_in(40);
        if is_over || leaves {
            self.end(caller, stage);
            let pause_max = [10, 300, 1_500][random.below(3) as usize];
            self.next_at = now + random.between(Duration::ZERO, Duration::from_millis(pause_max));
        } else {
            self.caller = Some(caller);
        }
        Ok(())
    }

    fn begin(&mut self, stage: &mut Stage, random: &mut Random) {
        let is_http_11 = random.one_in(2);
        let bytes = request(&self.wish.target(), is_http_11, &self.last_event_id);
        let steps = std::mem::take(&mut self.steps);
        let mut caller = Caller::call(stage.net(), &bytes, self.room, steps);
        caller
            .receiver
            .last_event_id
            .clone_from(&self.last_event_id);
        self.caller = Some(caller);
        self.read_max = [60, 700, usize::MAX][random.below(3) as usize];
        self.attempts.push(Attempt {
            id: self.last_event_id.clone(),
            asked_at: stage.now(),
            asked: stage.broker.delivered.len(),
            answered: None,
            events: Vec::new(),
            is_open: false,
        });
    }

    fn end(&mut self, caller: Caller, stage: &mut Stage) {
        let (receiver, steps) = caller.leave(stage.net());
        self.steps = steps;
        self.last_event_id = receiver.last_event_id;
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.events = receiver.events;
        }
    }

    /// Notes what came over the connection that is still open.
    pub fn finish(&mut self, stage: &mut Stage) {
        if let Some(caller) = self.caller.take() {
            let is_open = !caller.sees_end(stage.net());
            self.end(caller, stage);
            self.attempts.last_mut().expect("one was begun").is_open = is_open;
        }
    }

    pub fn tell_steps(&self) -> String {
        let steps = self.caller.as_ref().map_or(&self.steps, |it| &it.steps);
        steps.tell(&format!("the reader of {:?}", self.wish))
    }
}

/// Everything that one seed decides.
pub struct World {
    stage: Stage,
    readers: Vec<Reader>,
    /// The reader that is acting or being judged.
    about: Option<usize>,
    random: Random,
    /// Whether one reader always reads everything.
    is_anchored: bool,
    busy_until: Time,
    ends_at: Time,
}

impl seeds::World for World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed ^ 0x6_0075);
        let fault = |random: &mut Random| [0, 3, 20][random.below(3) as usize];
        let faults = Faults {
            short_reads: fault(&mut random),
            short_writes: fault(&mut random),
            spurious_events: fault(&mut random),
            stale_events: fault(&mut random),
            accept_failures: 0,
        };
        let forces = random.one_in(2);
        let settings = server::settings_with_channels(
            &mut random,
            forces,
            &CHANNELS,
            Duration::from_secs(5),
            server::LARGE_LOG,
        );
        let busy_until = Time::from_micros(5_000_000);
        // Bursts, a steady stream with larger messages, and a dense one of small ones.
        let loads = [(300, 40, 60), (30, 4, 800), (5, 4, 0)];
        let (pause_max_ms, burst_max, padding_max) = loads[random.below(3) as usize];
        let plan = Plan {
            until: busy_until,
            pause_max: Duration::from_millis(pause_max_ms),
            burst_max,
            padding_max,
            channels: &CHANNELS,
            ..Plan::default()
        };
        let stage = Stage::new(&mut random, settings, faults, plan);
        let is_anchored = random.one_in(2);
        let anchor = Wish {
            detail: Some("1F602"),
            channels: CHANNELS.to_vec(),
        };
        let mut readers = Vec::new();
        if is_anchored {
            readers.push(Reader::new(&mut random, anchor, true));
        }
        for _ in 0..3 + random.below(10) {
            let wish = wish(&mut random, is_anchored);
            readers.push(Reader::new(&mut random, wish, false));
        }
        World {
            stage,
            readers,
            about: None,
            random,
            is_anchored,
            busy_until,
            ends_at: busy_until + Duration::from_secs(6),
        }
    }

    fn run(&mut self) {
        while self.stage.now() < self.ends_at {
            let is_quiet = self.stage.now() >= self.busy_until;
            let mut next = self.ends_at;
            for (number, reader) in self.readers.iter_mut().enumerate() {
                self.about = Some(number);
                let acted = reader.act(&mut self.stage, &mut self.random, is_quiet);
                acted.unwrap_or_else(|error| panic!("{:?} received {error}", reader.wish));
                next = next.min(reader.next_at);
            }
            self.about = None;
            self.stage.turn(next);
        }
        for (number, reader) in self.readers.iter_mut().enumerate() {
            self.about = Some(number);
            reader.finish(&mut self.stage);
            let broker = &self.stage.broker;
            group_verdict::judge(reader, broker, self.is_anchored)
                .unwrap_or_else(|error| panic!("{:?}: {error}", reader.wish));
        }
    }

    fn last_steps(&self) -> String {
        let reader = self.about.map(|number| self.readers[number].tell_steps());
        reader.unwrap_or_default() + &self.stage.broker.steps.tell("the broker")
    }
}

/// Something beside `eps`. Without an anchor what has no channels is not asked for, because it is not kept for those
/// who were cut off.
pub fn wish(random: &mut Random, is_anchored: bool) -> Wish {
    let detail = random.one_in(2).then_some("1F602");
    let channels = match random.below(3) {
        0 if is_anchored => Vec::new(),
        1 => CHANNELS.to_vec(),
        _ => vec![CHANNELS[random.below(2) as usize]],
    };
    match (detail, channels.is_empty()) {
        (None, true) => Wish {
            detail: Some("1F602"),
            channels,
        },
        _ => Wish { detail, channels },
    }
}
