//! Micro-benchmarks: the cost of the parts without a kernel, so that regressions can be located. What is private to the
//! server is measured through its public interface, with a network that accepts everything.
//!
//! `cargo bench --bench micro` runs all of them, `cargo bench --bench micro -- raw` those with that name.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use emojitrack_streamer::broker::redis::resp::Decoder;
use emojitrack_streamer::broker::{Message, demo};
use emojitrack_streamer::bus::{Coding, sse};
use emojitrack_streamer::config::{self, Command};
use emojitrack_streamer::http::head::parse_head;
use emojitrack_streamer::http::{Key, Origin, reply};
use emojitrack_streamer::limits::TICK;
use emojitrack_streamer::net::Process;
use emojitrack_streamer::report::status;
use emojitrack_streamer::server::stats::SourceState;
use emojitrack_streamer::server::{Effect, Server};
use emojitrack_streamer::time::Time;

fn main() {
    divan::main();
}

/// Subscribers of a fan-out.
const SUBSCRIBERS: usize = 1_000;

/// A tweet as the feeder sends them.
const TWEET: &str = r#"{"id":"451911837461532673","text":"the quick brown fox jumps over the lazy dog","screen_name":"somebody","name":"Some Body","links":[],"profile_image_url":"https://example.com/avatars/4711.png","created_at":"2014-04-02T03:15:52+00:00"}"#;

/// A request as a browser sends it.
fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:8001\r\nConnection: keep-alive\r\n\
         sec-ch-ua: \"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"\r\nAccept: text/event-stream\r\n\
         Cache-Control: no-cache\r\nsec-ch-ua-mobile: ?0\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) \
         AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n\
         sec-ch-ua-platform: \"Linux\"\r\nSec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n\
         Sec-Fetch-Dest: empty\r\nReferer: http://localhost:8001/\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
    )
}

mod proto {
    use super::*;

    #[divan::bench(args = ["update", "tweet"])]
    fn encode_event(bencher: Bencher, kind: &str) {
        let payload = match kind {
            "update" => "1F4C2",
            _ => TWEET,
        };
        let (mut body, mut out) = (Vec::new(), Vec::new());
        bencher
            .counter(BytesCount::of_str(payload))
            .bench_local(|| {
                body.clear();
                out.clear();
                let style = sse::Style::Tight;
                sse::encode_data(&mut body, style, black_box(payload.as_bytes()));
                Coding::Chunked.encode(&mut out, &body);
                out.len()
            });
    }

    #[divan::bench]
    fn encode_stream_head(bencher: Bencher) {
        let mut out = Vec::new();
        bencher.bench_local(|| {
            out.clear();
            reply::encode_stream_head(&mut out, true, true, "", black_box(784_111_777));
            out.len()
        });
    }

    #[divan::bench]
    fn parse_request(bencher: Bencher) {
        let head = request("/subscribe/eps");
        bencher
            .counter(BytesCount::of_str(&head))
            .bench_local(|| parse_head(black_box(head.as_bytes())).is_ok_and(|h| h.is_some()));
    }

    /// A hundred messages as they come from Redis, in one read.
    #[divan::bench]
    fn decode_messages(bencher: Bencher) {
        let message = "*3\r\n$7\r\nmessage\r\n$20\r\nstream.score_updates\r\n$5\r\n1F4C2\r\n";
        let bytes = message.repeat(100);
        let mut decoder = Decoder::default();
        bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
            let mut input = black_box(bytes.as_bytes());
            let mut values = 0;
            while decoder
                .next_value(&mut input)
                .is_ok_and(|value| value.is_some())
            {
                values += 1;
            }
            assert_eq!(values, 100);
        });
    }
}

mod server {
    use super::*;

    /// One tick of the usual five updates, to everybody.
    #[divan::bench]
    fn eps(bencher: Bencher) {
        let mut hall = Hall::with((0..SUBSCRIBERS).map(|_| "/subscribe/eps".to_owned()));
        let updates = ["1F602", "2764", "1F60D", "2665", "1F62D"].map(score);
        bencher
            .counter(ItemsCount::new(SUBSCRIBERS))
            .bench_local(|| {
                // Where the source has been left alone until the tick, that is due with what it brings.
                let writes = hall.turn(&updates) + hall.turn(&[]);
                assert_eq!(writes, SUBSCRIBERS);
            });
    }

    /// So many messages in one turn, to everybody: they share their writes.
    #[divan::bench(args = [1, 10, 100])]
    fn raw(bencher: Bencher, messages: usize) {
        let mut hall = Hall::with((0..SUBSCRIBERS).map(|_| "/subscribe/raw".to_owned()));
        let updates = vec![score("1F602"); messages];
        bencher
            .counter(ItemsCount::new(SUBSCRIBERS * messages))
            .bench_local(|| {
                let writes = hall.turn(&updates);
                assert!(writes >= SUBSCRIBERS);
            });
    }

    /// A message for ten of a thousand subscribers, and one for nobody.
    #[divan::bench(args = ["watched", "unwatched"])]
    fn details(bencher: Bencher, kind: &str) {
        let ids: Vec<&str> = demo::emoji().map(|(id, _, _)| id).take(101).collect();
        let path = |index: usize| format!("/subscribe/details/{}", ids[index % 100]);
        let mut hall = Hall::with((0..SUBSCRIBERS).map(path));
        let (id, expected) = match kind {
            "watched" => (ids[0], SUBSCRIBERS / 100),
            _ => (ids[100], 0),
        };
        let tweets = [Message {
            pattern: None,
            channel: format!("stream.tweet_updates.{id}").into_bytes(),
            payload: TWEET.as_bytes().to_vec(),
            is_too_large: false,
        }];
        bencher.bench_local(|| {
            let writes = hall.turn(&tweets);
            assert_eq!(writes, expected);
        });
    }

    /// A thousand updates of all emoji in one tick, for one subscriber.
    #[divan::bench]
    fn rollup(bencher: Bencher) {
        let mut hall = Hall::with(["/subscribe/eps".to_owned()]);
        let ids: Vec<&str> = demo::emoji().map(|(id, _, _)| id).collect();
        let updates: Vec<Message> = ids.iter().cycle().take(1_000).map(|id| score(id)).collect();
        bencher
            .counter(ItemsCount::new(updates.len()))
            .bench_local(|| {
                hall.turn(&updates);
                hall.turn(&[])
            });
    }

    /// A subscriber that has missed a hundred ticks gets their sum.
    #[divan::bench]
    fn conflation(bencher: Bencher) {
        let mut hall = Hall::with(["/subscribe/eps".to_owned()]);
        let updates = ["1F602", "2764", "1F60D", "2665", "1F62D"].map(score);
        bencher.counter(ItemsCount::new(100_usize)).bench_local(|| {
            hall.takes = false;
            for _ in 0..100 {
                hall.turn(&updates);
            }
            hall.takes = true;
            for &key in &hall.keys {
                hall.server.at(key).handle_ready(false, true, false);
            }
            let writes = hall.turn(&[]);
            assert!(writes > 0);
        });
    }

    /// A client comes, asks for a stream, gets its head, and leaves.
    #[divan::bench]
    fn subscribe(bencher: Bencher) {
        let mut hall = Hall::with((0..SUBSCRIBERS).map(|_| "/subscribe/eps".to_owned()));
        let request = request("/subscribe/eps");
        bencher.bench_local(|| {
            hall.enter(&request);
            let key = hall.keys.pop();
            hall.begin_turn();
            hall.server
                .at(key.expect("somebody has come"))
                .handle_ready(false, false, true);
            hall.end_turn()
        });
    }

    /// The status of a thousand connections.
    #[divan::bench]
    fn encode_status(bencher: Bencher) {
        let hall = Hall::with((0..SUBSCRIBERS).map(|_| "/subscribe/eps".to_owned()));
        bencher
            .counter(ItemsCount::new(SUBSCRIBERS))
            .bench_local(|| {
                let source = SourceState {
                    kind: "redis",
                    is_live: true,
                    since: Duration::ZERO,
                    place: "",
                    losses: 0,
                };
                let snapshot = hall
                    .server
                    .snapshot(usize::MAX, source, None, Process::default());
                status::encode(&snapshot, usize::MAX).len()
            });
    }
}

mod bus {
    use super::*;
    use emojitrack_streamer::bus::{Bus, Format, Options, Ready, Stream, SubscriberId};

    const FORM: Format = Format {
        coding: Coding::Chunked,
        named: false,
        ids: false,
    };

    /// A bus on which a client was subscribed, and then so much came: where it stood, and how it comes back.
    fn left(stream: Stream, child: Option<&[u8]>, publish: impl FnOnce(&mut Bus)) -> (Bus, String) {
        let mut bus = Bus::new(&Options::default());
        let (id, _) = bus.subscribe(&[(stream, child)], 0, FORM, None);
        let mut block = Vec::new();
        bus.encode_position(id, &mut block);
        publish(&mut bus);
        let position = String::from_utf8_lossy(&block);
        let position = position.trim_start_matches("id:").trim_end().to_owned();
        (bus, position)
    }

    /// Five updates at each of these ticks.
    fn scores(bus: &mut Bus, ticks: std::ops::Range<u64>) {
        for tick in ticks {
            bus.line_mut()
                .begin_turn(Time::from_micros(tick * TICK.as_micros() as u64));
            for id in ["1F602", "2764", "1F60D", "2665", "1F62D"] {
                bus.line_mut().publish_score(id.as_bytes());
            }
            bus.line_mut().handle_time();
        }
    }

    /// Writes everything that there is for a client; the bytes.
    fn write_all(bus: &mut Bus, id: SubscriberId) -> usize {
        let mut written = 0;
        while bus.prepare(id, None) == Ready::Bytes {
            let len = black_box(bus.bytes()).len();
            bus.handle_written(len);
            written += len;
        }
        written
    }

    /// A client of eps comes back after so many seconds of 300 updates a second, and gets their sum. There is a tick
    /// each time, so that the batch is always another one.
    #[divan::bench(args = [5, 60])]
    fn eps_client_returns(bencher: Bencher, seconds: u64) {
        let ticks = seconds * 60;
        let (mut bus, position) = left(Stream::Eps, None, |bus| scores(bus, 1..ticks));
        let mut tick = ticks;
        bencher.bench_local(|| {
            tick += 1;
            scores(&mut bus, tick..tick + 1);
            let name = (Stream::Eps, None);
            let (id, _) = bus.subscribe(&[name], 1, FORM, Some(&position));
            let written = write_all(&mut bus, id);
            bus.unsubscribe(id);
            assert!(written > 0);
        });
    }

    /// A client of a channel comes back and gets a thousand messages, each with its position.
    #[divan::bench]
    fn channel_client_returns(bencher: Bencher) {
        let name: (Stream, Option<&[u8]>) = (Stream::Channels, Some(b"news"));
        let (mut bus, position) = left(name.0, name.1, |bus| {
            for _ in 0..1_000 {
                bus.line_mut().publish(name, Some(b"news"), b"{\"id\":1}");
            }
        });
        bencher
            .counter(ItemsCount::new(1_000_usize))
            .bench_local(|| {
                bus.line_mut().publish(name, Some(b"news"), b"{\"id\":1}");
                let (id, _) = bus.subscribe(&[name], 1, FORM, Some(&position));
                let written = write_all(&mut bus, id);
                bus.unsubscribe(id);
                assert!(written > 0);
            });
    }

    /// Ten messages for a thousand subscribers of raw, who take all of them at once.
    #[divan::bench]
    fn raw_pass(bencher: Bencher) {
        let mut bus = Bus::new(&Options::default());
        for owner in 0..SUBSCRIBERS as u32 {
            bus.subscribe(&[(Stream::Raw, None)], owner, FORM, None);
        }
        let mut now = Time::ZERO;
        bencher
            .counter(ItemsCount::new(SUBSCRIBERS))
            .bench_local(|| {
                now = now + TICK;
                bus.line_mut().begin_turn(now);
                for _ in 0..10 {
                    bus.line_mut().publish_score(b"1F602");
                }
                let mut writes = 0;
                while let Some(visit) = bus.line_mut().poll_visit() {
                    if bus.prepare(visit.subscriber, Some(visit)) == Ready::Bytes {
                        let len = black_box(bus.bytes()).len();
                        bus.handle_written(len);
                        writes += 1;
                    }
                }
                bus.line_mut().end_turn(now);
                assert_eq!(writes, SUBSCRIBERS);
            });
    }
}

/// A server with subscribers, and a network that takes all that is written, or nothing.
struct Hall {
    server: Server,
    now: Time,
    keys: Vec<Key>,
    takes: bool,
}

impl Hall {
    /// One subscriber for each path, all of whom have their first bytes.
    fn with(paths: impl IntoIterator<Item = String>) -> Hall {
        let none: [OsString; 0] = [];
        let Ok(Command::Run(config)) = config::parse(none, |_| None, || Some("bench".to_owned()))
        else {
            unreachable!("the defaults are a configuration");
        };
        let mut settings = config.server;
        settings.fit_into(usize::MAX, 1);
        // Turns follow each other by a tick, so a run is hours long; nobody is to be reassured meanwhile.
        settings.pacing.keepalive = Duration::from_secs(1_000_000);
        // What a turn does must not depend on how much it may do.
        settings.pacing.writes_per_turn = 4 * SUBSCRIBERS;
        let mut hall = Hall {
            server: Server::new(settings, Time::ZERO, 784_111_777),
            now: Time::ZERO,
            keys: Vec::new(),
            takes: true,
        };
        for path in paths {
            hall.enter(&request(&path));
        }
        hall
    }

    fn enter(&mut self, request: &str) {
        self.begin_turn();
        let key = self.server.accept(Origin::new(Ipv4Addr::LOCALHOST, false));
        self.server.at(key).handle_ready(true, false, false);
        let mut unread = request;
        while let Some((key, _)) = self.server.poll_read() {
            match std::mem::take(&mut unread) {
                "" => self.server.at(key).handle_read_would_block(),
                bytes => self.server.at(key).handle_input(bytes.as_bytes()),
            }
        }
        self.keys.push(key);
        self.end_turn();
    }

    /// A turn in which these messages come, a tick after the last one; how many writes it made.
    fn turn(&mut self, messages: &[Message]) -> usize {
        self.begin_turn();
        for message in messages {
            self.server.handle_message(message);
        }
        self.server.handle_time();
        self.end_turn()
    }

    fn begin_turn(&mut self) {
        self.now = self.now + TICK;
        self.server.start_turn(self.now, 784_111_777);
    }

    fn end_turn(&mut self) -> usize {
        while let Some((key, _)) = self.server.poll_read() {
            self.server.at(key).handle_read_would_block();
        }
        self.apply_effects();
        let mut writes = 0;
        while let Some(write) = self.server.poll_write() {
            let result = match self.takes {
                true => Ok(black_box(write.bytes).len()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
            writes += 1;
            self.server.handle_written(result);
        }
        self.apply_effects();
        writes
    }

    fn apply_effects(&mut self) {
        while let Some(effect) = self.server.poll_effect() {
            debug_assert!(!matches!(effect, Effect::Render(..)));
        }
    }
}

fn score(id: &str) -> Message {
    Message {
        pattern: None,
        channel: b"stream.score_updates".to_vec(),
        payload: id.as_bytes().to_vec(),
        is_too_large: false,
    }
}
