//! The bus against a model: a list of everything that was published. Clients of all kinds take their writes whole, in
//! part or late, are cut off and come back, while the log evicts what is old. What each of them has received must be
//! what the list says, whatever the writes were.

use std::collections::BTreeMap;

use super::*;
use crate::random::Random;
use std::time::Duration;

const EPOCH: u64 = 0xE;
const SEEDS: u64 = 100;
const STEPS: u32 = 400;

/// What was published under a number.
#[derive(Clone, Debug, PartialEq)]
enum Published {
    Score(String),
    Message(Stream, String, String),
    Gap(Stream, String),
    /// Messages of these streams may be missing.
    Break(&'static [Stream]),
    /// What nobody receives.
    Nothing,
}

struct Client {
    id: SubscriberId,
    names: Vec<(Stream, Option<&'static str>)>,
    form: Format,
    start: Start,
    /// It has everything up to here before anything is received.
    base: u64,
    /// What it came back with, as long as it has not been made to forget that.
    resume: Option<u64>,
    received: Vec<u8>,
    is_blocked: bool,
    is_queued: bool,
}

/// A block of a stream, as a client reads it.
#[derive(Debug, Default, PartialEq)]
struct Block {
    /// The position; `None` is one that makes the client forget what it had.
    id: Option<Option<u64>>,
    event: Option<String>,
    data: Option<String>,
}

struct World {
    random: Random,
    bus: Bus,
    now: Time,
    /// By number, from 1 on.
    published: Vec<Published>,
    clients: Vec<Client>,
    /// Clients that are away, and the position that they will come back with.
    away: Vec<(Client, Option<String>)>,
    judged: u32,
}

const FORM: Format = Format {
    coding: Coding::Bare,
    named: false,
    ids: false,
};

const CHILDREN: [&str; 3] = ["A", "B", "C"];
const IDS: [&str; 4] = ["1F4C2", "2665", "a\nb", "\"x\""];

impl World {
    fn new(seed: u64) -> World {
        let options = Options {
            epoch: EPOCH,
            log_bytes_max: 0,
            paced_subscribers_min: 3,
        };
        World {
            random: Random::new(seed),
            bus: Bus::new(&options),
            now: Time::ZERO,
            published: Vec::new(),
            clients: Vec::new(),
            away: Vec::new(),
            judged: 0,
        }
    }

    fn step(&mut self) {
        self.now = self.now
            + self
                .random
                .between(Duration::ZERO, Duration::from_millis(10));
        self.bus.line_mut().begin_turn(self.now);
        for _ in 0..self.random.below(6) {
            self.publish();
        }
        match self.random.below(10) {
            0..3 => self.join(),
            3 => self.leave(),
            4 => self.come_back(),
            _ => {}
        }
        self.bus.line_mut().handle_time();
        let writes = self.random.below(20);
        self.write(writes);
        self.bus.line_mut().end_turn(self.now);
        let resting = |owner: u32| {
            let client = self.clients.iter().find(|client| client.id.0 == owner);
            client.is_some_and(|client| !client.is_blocked && !client.is_queued)
        };
        // Subscribers are owned by their own ids here.
        self.bus.check_invariants(resting);
        assert_eq!(self.bus.line().log().head(), self.published.len() as u64);
    }

    fn publish(&mut self) {
        let child = CHILDREN[self.random.below(3) as usize];
        let stream = match self.random.below(2) {
            0 => Stream::Details,
            _ => Stream::Channels,
        };
        let name = (stream, Some(child.as_bytes()));
        let published = match self.random.below(61) {
            60 => {
                let name = (Stream::Details, Some(child.as_bytes()));
                self.bus.line_mut().publish(name, None, &[b'\n'; 20_000]);
                Published::Gap(Stream::Details, child.to_owned())
            }
            0 => {
                let streams = match self.random.below(3) {
                    0 => &Stream::EMOJI[..],
                    _ => &[Stream::Channels],
                };
                self.bus.line_mut().publish_break(streams);
                Published::Break(streams)
            }
            1 => {
                let (stream, child) = match self.random.below(4) {
                    0 => (Stream::Eps, ""),
                    1 => (Stream::Raw, ""),
                    _ => (stream, child),
                };
                let segment = Some(child.as_bytes()).filter(|it| !it.is_empty());
                self.bus.line_mut().publish_gap((stream, segment));
                Published::Gap(stream, child.to_owned())
            }
            2..30 => {
                let id = IDS[self.random.below(4) as usize];
                self.bus.line_mut().publish_score(id.as_bytes());
                Published::Score(id.to_owned())
            }
            kind => {
                let len = if kind < 33 {
                    30_000
                } else {
                    self.random.below(60)
                };
                let number = self.published.len() + 1;
                let payload = format!("{number}\n{}", "x".repeat(len as usize));
                let event = format!("to.{child}");
                self.bus
                    .line_mut()
                    .publish(name, Some(event.as_bytes()), payload.as_bytes());
                Published::Message(stream, child.to_owned(), payload)
            }
        };
        self.published.push(published);
    }

    fn join(&mut self) {
        let mut names: Vec<(Stream, Option<&'static str>)> = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let child = CHILDREN[self.random.below(3) as usize];
            names.push(match self.random.below(5) {
                0 => (Stream::Raw, None),
                1 => (Stream::Eps, None),
                2 => (Stream::Details, None),
                3 => (Stream::Details, Some(child)),
                _ => (Stream::Channels, Some(child)),
            });
        }
        let form = Format {
            coding: match self.random.below(2) {
                0 => Coding::Chunked,
                _ => Coding::Bare,
            },
            named: self.random.one_in(2),
            ids: names.iter().any(|name| name.0 == Stream::Channels) || self.random.one_in(3),
        };
        self.subscribe(names, form, None);
    }

    fn subscribe(
        &mut self,
        names: Vec<(Stream, Option<&'static str>)>,
        form: Format,
        resume: Option<&str>,
    ) {
        let asked: Vec<Name<'_>> = names
            .iter()
            .map(|&(stream, child)| (stream, child.map(str::as_bytes)))
            .collect();
        let is_new = |name: &Name<'_>| {
            name.0 == Stream::Channels && !self.bus.line().registry().is_wanted(*name)
        };
        if asked.iter().any(is_new) {
            self.published.push(Published::Nothing);
        }
        let owner = self.bus.subscribers.vacant_key() as u32;
        let (id, start) = self.bus.subscribe(&asked, owner, form, resume);
        let base = self.bus.subscriber(id).unwrap().cursor();
        self.clients.push(Client {
            id,
            names,
            form,
            start,
            base,
            resume: (start == Start::Missed).then_some(base),
            received: Vec::new(),
            is_blocked: false,
            is_queued: true,
        });
    }

    /// A client goes: sent away with its position, or cut off wherever its stream is.
    fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let place = self.random.below(self.clients.len() as u64) as usize;
        let mut client = self.clients.swap_remove(place);
        if self.random.one_in(2) {
            self.bus
                .linger(client.id, self.now + Duration::from_millis(60));
        }
        let position = if self.random.one_in(2) {
            let mut block = Vec::new();
            self.bus.encode_position(client.id, &mut block);
            self.bus.end(client.id);
            // What was begun is completed, unless it is not kept any more.
            let mut ready = self.bus.prepare(client.id, None);
            while ready == Ready::Bytes {
                let bytes = self.bus.bytes().to_vec();
                self.bus.handle_written(bytes.len());
                client.received.extend_from_slice(&bytes);
                ready = self.bus.prepare(client.id, None);
            }
            let position = String::from_utf8(block).unwrap();
            let position = position.strip_prefix("id:").unwrap().trim().to_owned();
            let number = self.bus.batches.positions().parse(&position);
            self.judge(&client, number.filter(|_| ready == Ready::Nothing));
            (ready == Ready::Nothing).then_some(position)
        } else {
            let blocks = self.judge(&client, None);
            // A client keeps the position that it was given last, and forgets it when it is told to.
            let told = blocks.iter().rev().find_map(|block| block.id);
            let first = client.form.ids.then_some(client.base);
            let number = told.unwrap_or(first.or(client.resume));
            number.map(|number| format!("{EPOCH:x}-{number}"))
        };
        self.bus.unsubscribe(client.id);
        self.away.push((client, position));
    }

    fn come_back(&mut self) {
        if let Some((client, position)) = self.away.pop() {
            self.subscribe(client.names, client.form, position.as_deref());
        }
    }

    /// Up to so many writes, in passes and to clients by themselves.
    fn write(&mut self, writes: u64) {
        for _ in 0..writes {
            if self.random.one_in(2)
                && let Some(visit) = self.bus.line_mut().poll_visit()
            {
                let place = self.clients.iter().position(|it| it.id == visit.subscriber);
                let place = place.expect("a visit is to a client");
                if !self.clients[place].is_blocked && !self.clients[place].is_queued {
                    self.write_to(place, Some(visit));
                }
            } else if !self.clients.is_empty() {
                let place = self.random.below(self.clients.len() as u64) as usize;
                self.clients[place].is_blocked &= !self.random.one_in(3);
                if self.clients[place].is_queued && !self.clients[place].is_blocked {
                    self.write_to(place, None);
                }
            }
        }
    }

    fn write_to(&mut self, place: usize, visit: Option<Visit>) {
        let client = &mut self.clients[place];
        match self.bus.prepare(client.id, visit) {
            Ready::Nothing => client.is_queued = false,
            Ready::Lost => {
                let client = self.clients.swap_remove(place);
                self.judge(&client, None);
                self.bus.unsubscribe(client.id);
            }
            Ready::Bytes => {
                let bytes = self.bus.bytes();
                let taken = match self.random.below(4) {
                    0 => self.random.below(bytes.len() as u64 + 1) as usize,
                    _ => bytes.len(),
                };
                client.received.extend_from_slice(&bytes[..taken]);
                client.is_blocked = taken < bytes.len();
                self.bus.handle_written(taken);
                client.is_queued = self.bus.has_more(client.id);
            }
        }
    }

    /// Everybody gets everything, and is judged.
    fn finish(&mut self) {
        self.now = self.now + Duration::from_secs(1);
        self.bus.line_mut().begin_turn(self.now);
        self.bus.line_mut().handle_time();
        self.now = self.now + Duration::from_secs(1);
        self.bus.line_mut().begin_turn(self.now);
        while self.bus.line_mut().poll_visit().is_some() {}
        let mut place = 0;
        while place < self.clients.len() {
            let before = self.clients.len();
            self.clients[place].is_blocked = false;
            self.clients[place].is_queued = true;
            while self.clients.len() == before && self.clients[place].is_queued {
                self.write_to(place, None);
                if let Some(client) = self.clients.get_mut(place) {
                    client.is_blocked = false;
                }
            }
            place += usize::from(self.clients.len() == before);
        }
        for client in std::mem::take(&mut self.clients) {
            let (namespace, _) = self.bus.subscriber(client.id).unwrap().listed_at();
            let end = self.bus.line().end_of(namespace);
            self.judge(&client, Some(end));
        }
    }

    /// Compares what a client has received with what was published: if `end` is given, it must have everything up to
    /// there, and else everything up to some number.
    fn judge(&mut self, client: &Client, end: Option<u64>) -> Vec<Block> {
        self.judged += 1;
        let bytes = match client.form.coding {
            Coding::Chunked => without_chunks(&client.received),
            Coding::Bare => client.received.clone(),
        };
        let blocks = blocks_of(&bytes);
        let has = |stream| client.names.iter().any(|&(name, _)| name == stream);
        let (has_raw, has_eps) = (has(Stream::Raw), has(Stream::Eps));
        let scores = |from: u64, to: u64| self.scores(from, to);
        // Numbers of the messages and of the scores that were received last, and the sums so far.
        let (mut at, mut raw_at) = (client.base, client.base);
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        for block in &blocks {
            let data = block.data.as_deref().expect("a block has data");
            if block.event.is_none() && has_eps && data.starts_with('{') {
                let sum: BTreeMap<String, u64> = serde_json::from_str(data).unwrap();
                for (id, count) in sum {
                    *sums.entry(id).or_default() += count;
                }
            } else if block.event.is_none() && has_raw && IDS.contains(&data) {
                let next = scores(raw_at, u64::MAX)
                    .next()
                    .expect("a score was published");
                assert_eq!(next.1, data, "raw after {raw_at}");
                raw_at = next.0;
            } else {
                let (number, expected) = self.next_message(client, at);
                assert_eq!((block.event.as_deref(), data), expected, "after {at}");
                at = number;
            }
            let is_cut = has_raw && has_eps && !data.starts_with('{') && block.event.is_none();
            if client.form.ids && !is_cut {
                assert!(
                    block.id.flatten().is_some(),
                    "an event without its position"
                );
            }
            if let Some(id) = block.id.flatten() {
                let from = client.base;
                assert!(id >= at, "{id} is before what it comes with, {at}");
                let mut message = self.messages(client, at, id);
                assert_eq!(
                    message.next(),
                    None,
                    "{id} is said without a message before it"
                );
                if has_raw {
                    assert_eq!(scores(raw_at, id).next(), None, "{id} without a score");
                }
                if has_eps {
                    assert_eq!(sums, self.sum(from, id), "sums at {id}, from {from}");
                }
            }
        }
        if let Some(end) = end {
            assert_eq!(
                self.messages(client, at, end).next(),
                None,
                "a message is missing"
            );
            if has_raw {
                assert_eq!(scores(raw_at, end).next(), None, "a score is missing");
            }
            if has_eps {
                assert_eq!(sums, self.sum(client.base, end), "({}, {end}]", client.base);
            }
        }
        blocks
    }

    /// Scores in `(from, to]`.
    fn scores(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &str)> {
        let numbered = (1..).zip(&self.published);
        numbered.filter_map(move |(number, published)| match published {
            Published::Score(id) if number > from && number <= to => Some((number, &**id)),
            _ => None,
        })
    }

    fn sum(&self, from: u64, to: u64) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (_, id) in self.scores(from, to) {
            *sums.entry(id.to_owned()).or_default() += 1;
        }
        sums
    }

    /// Numbers of messages for a client in `(from, to]`.
    fn messages(&self, client: &Client, from: u64, to: u64) -> impl Iterator<Item = u64> {
        let numbered = (1..).zip(&self.published);
        numbered.filter_map(move |(number, published)| {
            let is_for = |stream: Stream, child: &str| {
                let mut names = client.names.iter();
                names.any(|&(name, of)| name == stream && of.is_none_or(|of| of == child))
            };
            let is_its = match published {
                Published::Message(stream, child, _) => is_for(*stream, child),
                Published::Gap(stream, child) => client.form.ids && is_for(*stream, child),
                Published::Break(streams) => {
                    let mut names = client.names.iter();
                    client.form.ids && names.any(|(name, _)| streams.contains(name))
                }
                Published::Score(_) | Published::Nothing => false,
            };
            (is_its && number > from && number <= to).then_some(number)
        })
    }

    /// The number of the next message for a client, and its event's name and data.
    fn next_message(&self, client: &Client, from: u64) -> (u64, (Option<&str>, &str)) {
        let number = self.messages(client, from, u64::MAX).next();
        let number = number.expect("a message was published");
        let block = match &self.published[number as usize - 1] {
            Published::Message(stream, child, payload) => {
                let is_named = client.form.named || *stream == Stream::Details;
                let name = match &**child {
                    "A" => "to.A",
                    "B" => "to.B",
                    _ => "to.C",
                };
                (is_named.then_some(name), &**payload)
            }
            _ => (Some("gap"), "null"),
        };
        (number, block)
    }
}

/// The bytes that chunks carry, of the last one perhaps a part.
fn without_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let len = usize::from_str_radix(head, 16).unwrap();
        assert!(len > 0, "an empty chunk ends a stream");
        bytes = &bytes[end + 2..];
        let here = len.min(bytes.len());
        body.extend_from_slice(&bytes[..here]);
        bytes = &bytes[here..];
        let line_end = &b"\r\n"[..bytes.len().min(2)];
        assert!(
            bytes.starts_with(line_end),
            "a chunk is longer than it says"
        );
        bytes = &bytes[line_end.len()..];
    }
    body
}

/// The blocks that have come whole.
fn blocks_of(bytes: &[u8]) -> Vec<Block> {
    let text = std::str::from_utf8(bytes).unwrap();
    let Some(end) = text.rfind("\n\n") else {
        return Vec::new();
    };
    let blocks = text[..end].split("\n\n");
    blocks.map(block_of).collect()
}

fn block_of(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').expect("a line is a field");
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => {
                let number = value.strip_prefix("e-");
                assert!(number.is_some() || value.is_empty(), "a position of ours");
                block.id = Some(number.map(|number| number.parse().unwrap()));
            }
            "event" => block.event = Some(value.to_owned()),
            "data" => match &mut block.data {
                Some(data) => *data = format!("{data}\n{value}"),
                none => *none = Some(value.to_owned()),
            },
            field => panic!("an unknown field {field}"),
        }
    }
    block
}

#[test]
fn everybody_receives_what_was_published() {
    let only = std::env::var("BUS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seeds = only.map_or(0..SEEDS, |seed| seed..seed + 1);
    let (mut judged, mut replays, mut gaps) = (0, 0, 0);
    for seed in seeds {
        eprintln!("BUS_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            let started = world.clients.last().map(|client| client.start);
            replays += u32::from(started == Some(Start::Missed));
            gaps += u32::from(started == Some(Start::Gap));
        }
        world.finish();
        judged += world.judged;
    }
    assert!(only.is_some() || (judged > 3_000 && replays > 100 && gaps > 100));
}

/// Writes what there is for a subscriber by itself; false where something was lost.
fn take_all(bus: &mut Bus, id: SubscriberId) -> bool {
    loop {
        match bus.prepare(id, None) {
            Ready::Bytes => bus.handle_written(bus.bytes().len()),
            Ready::Nothing => return true,
            Ready::Lost => return false,
        };
    }
}

#[test]
fn new_ids_of_any_length_evict_nothing_that_was_not_offered() {
    // What a message of the source has besides the id of a score, and what one read brings at most.
    let (head, read) = (50, limits::READ_BYTES);
    for len in [3, 10, 40, limits::SCORE_ID_BYTES_MAX] {
        for log_bytes_max in [0, 512 * 1024, 4 * 1024 * 1024] {
            let options = Options {
                log_bytes_max,
                ..Options::default()
            };
            let mut bus = Bus::new(&options);
            let (id, _) = bus.subscribe(&[(Stream::Raw, None)], 0, FORM, None);
            let mut number = 0;
            for turn in 0..40 {
                bus.line_mut().begin_turn(Time::from_micros(turn));
                while bus.line().wants_messages() {
                    for _ in 0..read / (head + len) {
                        number += 1;
                        let digits = format!("{number:x}");
                        bus.line_mut()
                            .publish_score(format!("{digits:~>len$}").as_bytes());
                    }
                }
                assert!(
                    take_all(&mut bus, id),
                    "ids of {len} bytes, {log_bytes_max}"
                );
                while bus.line_mut().poll_visit().is_some() {}
                bus.line_mut().all_offered();
                bus.line_mut().end_turn(Time::from_micros(turn));
                bus.check_invariants(|_| true);
            }
        }
    }
}

#[test]
fn a_group_that_is_created_again_waits_for_the_tick() {
    let mut bus = Bus::new(&Options::default());
    let names: [Name<'_>; 2] = [(Stream::Eps, None), (Stream::Details, Some(b"A"))];
    for name in names {
        bus.subscribe(&[name], 0, FORM, None);
    }
    bus.line_mut().begin_turn(Time::from_micros(1));
    let (id, _) = bus.subscribe(&names, 1, FORM, None);
    let mut block = Vec::new();
    bus.encode_position(id, &mut block);
    let position = String::from_utf8(block).unwrap();
    bus.unsubscribe(id);
    bus.line_mut().publish_score(b"1F4C2");
    bus.line_mut().publish(names[1], None, b"tweet");
    let resume = position.trim_start_matches("id:");
    let (id, start) = bus.subscribe(&names, 1, FORM, Some(resume));
    assert_eq!(
        (start, bus.prepare(id, None)),
        (Start::Caught, Ready::Nothing)
    );
    let tick = bus.line().deadline().expect("the group waits for the tick");
    bus.line_mut().begin_turn(tick);
    bus.line_mut().handle_time();
    let visits = std::iter::from_fn(|| bus.line_mut().poll_visit());
    let visit = visits.filter(|visit| visit.subscriber == id).last();
    assert_eq!(bus.prepare(id, visit), Ready::Bytes);
    let expected = b"data:{\"1F4C2\":1}\nid:\n\ndata:tweet\n\n";
    assert_eq!(
        String::from_utf8_lossy(bus.bytes()),
        String::from_utf8_lossy(expected)
    );
}

/// The lengths of the pieces of a subscriber's next write.
fn pieces(bus: &mut Bus, id: SubscriberId) -> Vec<usize> {
    let mut pieces = Vec::new();
    while bus.prepare(id, None) == Ready::Bytes {
        pieces.push(bus.bytes().len());
        bus.handle_written(bus.bytes().len());
    }
    pieces
}

#[test]
fn a_usual_message_is_one_write_and_only_a_long_one_is_not_copied() {
    let name: Name<'_> = (Stream::Channels, Some(b"news"));
    let chunked = Format {
        coding: Coding::Chunked,
        ids: true,
        ..FORM
    };
    for (len, expected) in [(10, 1), (5_000, 1), (60_000, 1), (70_000, 3)] {
        let mut bus = Bus::new(&Options::default());
        let (id, _) = bus.subscribe(&[name], 0, chunked, None);
        bus.line_mut().publish(name, None, &vec![b'x'; len]);
        let pieces = pieces(&mut bus, id);
        assert_eq!(pieces.len(), expected, "{len}: {pieces:?}");
    }
}

#[test]
fn a_sum_covers_so_many_scores_at_most_and_the_next_one_the_others() {
    let mut bus = Bus::new(&Options::default());
    let (id, _) = bus.subscribe(&[(Stream::Eps, None)], 0, FORM, None);
    let scores = limits::SUM_SCORES_MAX + 10;
    for _ in 0..scores {
        bus.line_mut().publish_score(b"1F4C2");
    }
    bus.line_mut().begin_turn(Time::from_micros(20_000));
    bus.line_mut().handle_time();
    for expected in [limits::SUM_SCORES_MAX, 10] {
        bus.take_work();
        assert_eq!(bus.prepare(id, None), Ready::Bytes);
        let event = format!("data:{{\"1F4C2\":{expected}}}\n\n");
        assert_eq!(bus.bytes(), event.as_bytes());
        assert!(bus.take_work() > 10 * expected, "scanning is work");
        bus.handle_written(event.len());
    }
    assert_eq!(bus.prepare(id, None), Ready::Nothing);
}

#[test]
fn a_long_poll_takes_one_event() {
    let names: [Name<'_>; 3] = [
        (Stream::Raw, None),
        (Stream::Eps, None),
        (Stream::Details, None),
    ];
    for (scores_first, expected) in [(true, "data:1F4C2\n\n"), (false, "data:tweet\n\n")] {
        let mut bus = Bus::new(&Options::default());
        let (id, _) = bus.subscribe(&names, 0, FORM, None);
        assert_eq!(bus.poll_first(id), Err(Ready::Nothing));
        for is_score in [scores_first, !scores_first] {
            match is_score {
                true => bus.line_mut().publish_score(b"1F4C2"),
                false => bus.line_mut().publish(names[2], None, b"tweet"),
            }
        }
        bus.line_mut().begin_turn(Time::from_micros(20_000));
        bus.line_mut().handle_time();
        assert_eq!(bus.poll_first(id), Ok(expected.into()));
    }
}

#[test]
fn what_nobody_wants_any_more_takes_no_memory() {
    let mut bus = Bus::new(&Options::default());
    let root: Name<'_> = (Stream::Details, None);
    let (watcher, _) = bus.subscribe(&[root], 0, FORM, None);
    for number in 0..5_000 {
        let child = format!("{number:X}");
        let name: Name<'_> = (Stream::Details, Some(child.as_bytes()));
        let (id, _) = bus.subscribe(&[name], 0, FORM, None);
        bus.line_mut().publish(name, None, b"tweet");
        bus.unsubscribe(id);
    }
    let registry = bus.line().registry();
    assert_eq!(registry.iter().count(), Stream::ALL.len());
    assert!(registry.list_bytes() < 5_000 * size_of::<u64>() * 5 / 4);
    bus.unsubscribe(watcher);
    assert_eq!(bus.line().registry().list_bytes(), 0);
    while bus.line_mut().poll_visit().is_some() {}
    bus.check_invariants(|_| true);
}

#[test]
fn batches_that_were_used_last_are_kept_when_one_more_is_made() {
    let name: Name<'_> = (Stream::Channels, Some(b"news"));
    let mut bus = Bus::new(&Options::default());
    let (id, _) = bus.subscribe(&[name], 0, FORM, None);
    bus.line_mut().publish(name, None, &[b'x'; 100]);
    for others in [1, 2, 7, 8] {
        let mut ids = vec![id];
        for number in 0..others {
            // Each stands elsewhere, and needs a batch of its own.
            bus.line_mut()
                .publish(name, None, format!("{others} {number}").as_bytes());
            let head = bus.line().log().head() - 1;
            let resume = format!("0-{head}");
            ids.push(bus.subscribe(&[name], 0, FORM, Some(&resume)).0);
        }
        let work = |bus: &mut Bus, id: SubscriberId| {
            bus.take_work();
            assert_eq!(bus.prepare(id, None), Ready::Bytes);
            bus.handle_written(0);
            bus.take_work()
        };
        for &id in &ids {
            work(&mut bus, id);
        }
        assert_eq!(work(&mut bus, id) > 0, others == 8, "{others}");
        for other in ids.drain(1..) {
            bus.unsubscribe(other);
        }
    }
}

/// The processor time of this thread: what others do on the machine does not count.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A bus with a client of a group that lacks so many scores and as many messages.
fn bus_with_client_behind(lacks: usize) -> (Bus, SubscriberId) {
    let rooms: Vec<String> = (0..31).map(|number| format!("room.{number}")).collect();
    let rooms = rooms.iter().map(String::as_bytes);
    let mut names: Vec<Name<'_>> = vec![(Stream::Raw, None)];
    names.extend(rooms.map(|room| (Stream::Channels, Some(room))));
    let mut bus = Bus::new(&Options {
        log_bytes_max: 64 * 1024 * 1024,
        ..Options::default()
    });
    let (client, _) = bus.subscribe(&names, 0, FORM, None);
    for number in 0..lacks {
        bus.line_mut().publish_score(b"1F4C2");
        bus.line_mut().publish(names[1 + number % 31], None, b"x");
        // Each score is in a block of the tape by itself, so that a walk over the blocks is as long as one over scores.
        for _ in 0..70 {
            bus.line_mut().publish((Stream::Kiosk, None), None, b"x");
        }
    }
    (bus, client)
}

#[test]
fn counting_takes_no_longer_for_a_client_that_is_far_behind() {
    let lacking = [10, 20_000];
    let buses = lacking.map(bus_with_client_behind);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..51 {
        for (index, (bus, client)) in buses.iter().enumerate() {
            let begun = processor_time();
            for _ in 0..20 {
                assert_eq!(bus.events_behind(*client), 2 * lacking[index] as u64);
            }
            times[index].push(processor_time() - begun);
        }
    }
    let [near, far] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    // Searches take somewhat longer. A walk over two thousand times as much takes many times as long.
    assert!(far < 5 * near, "{far:?} instead of {near:?}");
}

#[test]
fn channels_that_come_and_go_push_nothing_out_of_the_log() {
    let news: Name<'_> = (Stream::Channels, Some(b"news"));
    let mut bus = Bus::new(&Options::default());
    bus.subscribe(&[(Stream::Eps, None)], 0, FORM, None);
    let (client, _) = bus.subscribe(&[news], 1, FORM, None);
    bus.linger(client, Time::from_micros(1_000_000));
    let resume = format!("0-{}", bus.line().log().head());
    bus.unsubscribe(client);
    for _ in 0..400 {
        bus.line_mut().publish(news, None, b"x");
    }
    for number in 0..100_000 {
        let name = number.to_string();
        let name: Name<'_> = (Stream::Channels, Some(name.as_bytes()));
        let (visitor, _) = bus.subscribe(&[name], 2, FORM, None);
        bus.unsubscribe(visitor);
        if number % 80 == 0 {
            bus.line_mut().publish_score(b"1F4C2");
        }
    }
    let (_, start) = bus.subscribe(&[news], 1, FORM, Some(&resume));
    assert_eq!(start, Start::Missed);
}
