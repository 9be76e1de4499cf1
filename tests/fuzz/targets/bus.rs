//! The bus against a list: one subscriber of each kind, short writes, returns and evictions. What a subscriber was sent
//! is a run of what was published for it, in order and without a gap, unless it was told that it lost something.

use std::time::Duration;

use emojitrack_streamer::bus::{
    Bus, Coding, Format, Name, Options, Ready, Start, Stream, SubscriberId,
};
use emojitrack_streamer::time::Time;

use super::Input;

const CHANNELS: [&str; 2] = ["one", "two"];

/// A subscriber, and what it has received.
struct Reader {
    id: SubscriberId,
    names: Vec<(Stream, Option<&'static str>)>,
    received: Vec<u8>,
    /// How many messages had been published when it came.
    since: usize,
    is_exact: bool,
    /// It has not taken everything, and is written to by itself.
    is_behind: bool,
}

struct World {
    bus: Bus,
    now: Time,
    /// What was published, and where.
    published: Vec<(Stream, &'static str, String)>,
    readers: Vec<Reader>,
}

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let options = Options {
        epoch: 7,
        log_bytes_max: 0,
        paced_subscribers_min: 1 + input.below(4),
    };
    let mut world = World {
        bus: Bus::new(&options),
        now: Time::ZERO,
        published: Vec::new(),
        readers: Vec::new(),
    };
    while !input.is_empty() {
        world.step(&mut input);
    }
    world.finish();
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        self.now = self.now + Duration::from_micros(input.byte().into()) * 100;
        self.bus.line_mut().begin_turn(self.now);
        match input.below(8) {
            0 => self.subscribe(input),
            1 if !self.readers.is_empty() => {
                let reader = self.readers.swap_remove(input.below(self.readers.len()));
                self.bus.unsubscribe(reader.id);
                reader.judge(&self.published, false);
            }
            2..5 => {
                for _ in 0..input.below(16) {
                    self.publish(input);
                }
            }
            _ => self.publish(input),
        }
        self.bus.line_mut().handle_time();
        for _ in 0..input.below(8) {
            self.write(usize::from(input.byte()) * 8);
        }
        self.bus.line_mut().end_turn(self.now);
    }

    fn subscribe(&mut self, input: &mut Input<'_>) {
        let names: Vec<(Stream, Option<&'static str>)> = match input.below(6) {
            0 => vec![(Stream::Raw, None)],
            1 => vec![(Stream::Eps, None)],
            2 => vec![(Stream::Channels, Some(CHANNELS[0]))],
            3 => vec![(Stream::Channels, Some(CHANNELS[1]))],
            4 => CHANNELS.map(|name| (Stream::Channels, Some(name))).to_vec(),
            _ => vec![(Stream::Eps, None), (Stream::Channels, Some(CHANNELS[0]))],
        };
        let asked: Vec<Name<'_>> = names
            .iter()
            .map(|&(stream, child)| (stream, child.map(str::as_bytes)))
            .collect();
        let format = Format {
            coding: Coding::Bare,
            named: false,
            ids: names.iter().any(|name| name.0 == Stream::Channels),
        };
        let owner = self.readers.len() as u32;
        let (id, start) = self.bus.subscribe(&asked, owner, format, None);
        assert_eq!(start, Start::Now);
        self.readers.push(Reader {
            id,
            names,
            received: Vec::new(),
            since: self.published.len(),
            is_exact: true,
            is_behind: false,
        });
    }

    fn publish(&mut self, input: &mut Input<'_>) {
        let number = self.published.len();
        match input.below(3) {
            0 => {
                let id = format!("s{}", input.below(8));
                self.bus.line_mut().publish_score(id.as_bytes());
                self.published.push((Stream::Raw, "", id));
            }
            _ => {
                let channel = CHANNELS[input.below(2)];
                let payload = format!("{number}{}", ".".repeat(input.long() % 9_000));
                let name = (Stream::Channels, Some(channel.as_bytes()));
                self.bus
                    .line_mut()
                    .publish(name, Some(channel.as_bytes()), payload.as_bytes());
                self.published.push((Stream::Channels, channel, payload));
            }
        }
    }

    /// Writes once, and has so many bytes taken at most.
    fn write(&mut self, room: usize) {
        let Some(visit) = self.bus.line_mut().poll_visit() else {
            for index in 0..self.readers.len() {
                self.write_to(index, room);
            }
            return self.bus.line_mut().all_offered();
        };
        let index = self
            .readers
            .iter()
            .position(|reader| reader.id == visit.subscriber);
        let Some(index) = index else { return };
        if self.readers[index].is_behind {
            return self.write_to(index, room);
        }
        let ready = self.bus.prepare(visit.subscriber, Some(visit));
        self.take(index, ready, room);
    }

    fn write_to(&mut self, index: usize, room: usize) {
        let ready = self.bus.prepare(self.readers[index].id, None);
        self.take(index, ready, room);
    }

    fn take(&mut self, index: usize, ready: Ready, room: usize) {
        let reader = &mut self.readers[index];
        match ready {
            Ready::Nothing => reader.is_behind = false,
            Ready::Lost => reader.is_exact = false,
            Ready::Bytes => {
                let bytes = self.bus.bytes();
                assert!(!bytes.is_empty(), "an empty write was prepared");
                let taken = &bytes[..room.min(bytes.len())];
                reader.received.extend_from_slice(taken);
                let (taken, len) = (taken.len(), bytes.len());
                self.bus.handle_written(taken);
                reader.is_behind = taken < len || self.bus.has_more(reader.id);
            }
        }
    }

    fn finish(&mut self) {
        for _ in 0..4 {
            self.now = self.now + Duration::from_millis(50);
            self.bus.line_mut().begin_turn(self.now);
            self.bus.line_mut().handle_time();
            while let Some(visit) = self.bus.line_mut().poll_visit() {
                let index = self.readers.iter().position(|it| it.id == visit.subscriber);
                let Some(index) = index else { continue };
                self.drain(index);
            }
            for index in 0..self.readers.len() {
                self.drain(index);
            }
            self.bus.line_mut().all_offered();
            self.bus.line_mut().end_turn(self.now);
        }
        for reader in std::mem::take(&mut self.readers) {
            reader.judge(&self.published, true);
        }
    }

    /// Has a reader take all that there is for it.
    fn drain(&mut self, index: usize) {
        for _ in 0..100_000 {
            let ready = self.bus.prepare(self.readers[index].id, None);
            if ready != Ready::Bytes {
                return self.take(index, ready, 0);
            }
            self.take(index, ready, usize::MAX);
        }
        panic!("a reader never has everything");
    }
}

impl Reader {
    /// Compares what was received with what was published; `is_complete` where it must be all of it.
    fn judge(&self, published: &[(Stream, &'static str, String)], is_complete: bool) {
        if !self.is_exact {
            return;
        }
        let text = String::from_utf8_lossy(&self.received);
        let wants = |stream, child| self.names.contains(&(stream, child));
        let since = &published[self.since..];
        let messages = since.iter().filter(|(stream, channel, _)| match stream {
            Stream::Raw => wants(Stream::Raw, None),
            _ => wants(Stream::Channels, Some(*channel)),
        });
        let expected = messages.map(|(_, _, payload)| payload.trim_end_matches('.'));
        let expected: Vec<&str> = expected.collect();
        let mut came: Vec<&str> = Vec::new();
        let mut sum = 0;
        let blocks = text
            .split_inclusive("\n\n")
            .filter(|block| block.ends_with("\n\n"));
        for block in blocks {
            let data = block.lines().find_map(|line| line.strip_prefix("data:"));
            match data.map(str::trim_start) {
                Some(data) if data.starts_with('{') => sum += total(data),
                // The number tells a message from all others.
                Some(data) => came.push(data.trim_end_matches('.')),
                None => {}
            }
        }
        match is_complete {
            true => assert_eq!(came, expected),
            false => assert!(expected.starts_with(&came), "{came:?}\nof {expected:?}"),
        }
        if wants(Stream::Eps, None) {
            let scores = since
                .iter()
                .filter(|(stream, ..)| *stream == Stream::Raw)
                .count();
            // A newcomer may be sent what came since the last tick.
            let before = published[..self.since].iter();
            let earlier = before.filter(|(stream, ..)| *stream == Stream::Raw).count();
            assert!(sum <= scores + earlier, "{sum} of {scores} and {earlier}");
            assert!(!is_complete || sum >= scores, "{sum} of {scores}");
        }
    }
}

/// The total of a sum such as `{"s1":2,"s2":1}`.
fn total(sum: &str) -> usize {
    let counts = sum.trim_matches(['{', '}']).split(',');
    let counts = counts.filter_map(|pair| pair.rsplit(':').next()?.parse::<usize>().ok());
    counts.sum()
}
