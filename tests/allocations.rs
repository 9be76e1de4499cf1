//! Counts allocations: there must be none per message and client. Unlike times, counts are the same on every machine.

use std::ffi::OsString;
use std::net::Ipv4Addr;

use emojitrack_streamer::broker::Message;
use emojitrack_streamer::config::{self, Command};
use emojitrack_streamer::http::body::Body;
use emojitrack_streamer::http::head::Framing;
use emojitrack_streamer::http::publication;
use emojitrack_streamer::http::{Key, Origin};
use emojitrack_streamer::report::cluster::Gathering;
use emojitrack_streamer::server::Server;
use emojitrack_streamer::time::Time;

const CLIENTS: u32 = 200;
const TURNS: u64 = 2_000;

/// A server with so many subscribers to each of these paths, and the moment.
struct Bench {
    server: Server,
    now_us: u64,
    /// Writes handed out.
    writes: u64,
}

impl Bench {
    fn new(paths: &[&str]) -> Bench {
        let args = ["--channels=*".into()] as [OsString; 1];
        let Ok(Command::Run(mut config)) = config::parse(args, |_| None, || None) else {
            unreachable!("this is a configuration");
        };
        config.server.fit_into(usize::MAX, 1);
        let mut bench = Bench {
            server: Server::new(config.server, Time::ZERO, 0),
            now_us: 0,
            writes: 0,
        };
        bench.turn(&[]);
        for path in paths {
            for number in 0..CLIENTS {
                let key: Key = bench
                    .server
                    .accept(Origin::new(Ipv4Addr::from(0x0a00_0000 + number), false));
                let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
                bench.server.at(key).handle_input(request.as_bytes());
            }
        }
        bench
    }

    /// One turn; all writes are complete.
    fn turn(&mut self, messages: &[Message]) {
        self.now_us += 17_000;
        let now = Time::from_micros(self.now_us);
        self.server.start_turn(now, self.now_us / 1_000_000);
        for message in messages {
            self.server.handle_message(message);
        }
        self.server.handle_time();
        while let Some((key, _)) = self.server.poll_read() {
            self.server.at(key).handle_read_would_block();
        }
        while let Some(write) = self.server.poll_write() {
            let len = write.bytes.len();
            self.writes += 1;
            self.server.handle_written(Ok(len));
        }
        while self.server.poll_effect().is_some() {}
        self.server.end_turn(now);
    }

    /// Runs turns until all clients have everything.
    fn finish(&mut self) {
        while self.server.has_work() {
            self.turn(&[]);
        }
    }
}

fn message(channel: &str, payload: &str) -> Message {
    Message {
        pattern: None,
        channel: channel.as_bytes().to_vec(),
        payload: payload.as_bytes().to_vec(),
        is_too_large: false,
    }
}

#[test]
fn fan_out_does_not_allocate_for_each_event() {
    let scores = ["1F602", "2764", "2665"].map(|id| message("stream.score_updates", id));
    let tweets =
        ["1F602", "2764"].map(|id| message(&format!("stream.tweet_updates.{id}"), "{\"id\":1}"));
    let both = [&scores[..], &tweets[..]].concat();
    let news = [message("news", "{\"id\":1}")];
    let table: [(&[&str], &[Message]); 5] = [
        (
            &[
                "/subscribe/channels/news",
                "/subscribe/channels/news?event=channel",
            ],
            &news,
        ),
        (&["/subscribe/raw"], &scores),
        (&["/subscribe/eps"], &scores),
        (&["/subscribe/details", "/subscribe/details/2764"], &tweets),
        (
            &[
                "/subscribe/raw",
                "/subscribe/eps",
                "/subscribe/details/1F602",
            ],
            &both,
        ),
    ];
    for (paths, messages) in table {
        let mut bench = Bench::new(paths);
        // Tables grow to their size, and each client's head is written.
        for _ in 0..200 {
            bench.turn(messages);
            bench.finish();
        }
        let before = bench.writes;
        let counted = allocation_counter::measure(|| {
            for _ in 0..TURNS {
                bench.turn(messages);
                bench.finish();
            }
        });
        let writes = bench.writes - before;
        let everybody = u64::from(CLIENTS) * paths.len() as u64;
        assert!(writes >= TURNS * everybody, "{paths:?}: {writes} writes");
        // Only segments of the log are allocated, one per hundreds of messages.
        let per_turn = counted.count_total as f64 / TURNS as f64;
        assert!(
            per_turn < 0.2,
            "{paths:?}: {per_turn} allocations a turn of {} writes",
            writes / TURNS
        );
        assert!(
            counted.bytes_current <= 1024 * 1024,
            "{paths:?}: {} bytes kept",
            counted.bytes_current
        );
    }
}

#[test]
fn sums_for_slow_clients_do_not_allocate() {
    let scores = ["1F602", "2764", "2665"].map(|id| message("stream.score_updates", id));
    // More clients than one turn has writes for, so that ticks come while the last one is under way.
    let mut bench = Bench::new(&["/subscribe/eps"; 8]);
    for _ in 0..200 {
        bench.turn(&scores);
    }
    let conflations = |bench: &Bench| bench.server.bus().line().counters().conflations;
    let before = conflations(&bench);
    let counted = allocation_counter::measure(|| {
        for _ in 0..TURNS {
            bench.turn(&scores);
        }
    });
    let sums = conflations(&bench) - before;
    assert!(sums > TURNS / 4, "{sums} sums");
    let per_turn = counted.count_total as f64 / TURNS as f64;
    assert!(per_turn < 0.2, "{per_turn} allocations a turn");
}

#[test]
fn a_body_of_any_content_takes_a_small_multiple_of_its_size() {
    const BYTES: usize = 1024 * 1024;
    let filled = |start: &str, part: &str, end: &str| {
        let count = (BYTES - start.len() - end.len()) / part.len();
        [start, &part.repeat(count), end].concat()
    };
    let (json, form) = ("application/json", "application/x-www-form-urlencoded");
    let table = [
        (json, filled("{\"x\":[", "{\"\":0},", "0]}")),
        (json, filled("{\"x\":", "[", "")),
        (
            json,
            filled("{\"channel\":[", "\"a\",", "\"b\"],\"message\":\"\"}"),
        ),
        (
            json,
            filled("{\"channel\":[", "[],", "[]],\"message\":\"\"}"),
        ),
        (
            json,
            filled("{\"channel\":\"a\",\"message\":\"", "x", "\"}"),
        ),
        (
            json,
            filled("{\"channel\":\"a\",\"message\":\"", "\\n", "\"}"),
        ),
        (
            json,
            filled("{\"channel\":\"a\",\"message\":[", "0,", "0]}"),
        ),
        (
            json,
            filled("{", "\"message\":\"x\",", "\"channel\":\"a\"}"),
        ),
        (json, filled("{\"", "x", "\":0}")),
        (form, filled("channel=a&message=", "x", "")),
        (form, filled("channel=a&message=", "%20", "")),
        (form, filled("channel=a&message=", "+", "")),
        (form, filled("message=&", "channel=a&", "")),
        (form, filled("message=&", "&", "")),
    ];
    for (content_type, body) in table {
        let counted = allocation_counter::measure(|| {
            let mut kept = Vec::new();
            let framing = Framing::Length(body.len() as u64);
            let mut reading = Body::new(framing, BYTES as u64).expect("it may be that long");
            for piece in body.as_bytes().chunks(16 * 1024) {
                let read = reading.consume(piece, Some(&mut kept));
                read.expect("it is not chunked");
            }
            drop(publication::parse(content_type.as_bytes(), &kept));
        });
        // The body, what is taken of it, and the parser's own copy of a string with escapes, which grows by doubling.
        let (bytes, bytes_max) = (counted.bytes_max as usize, BYTES * 4);
        let shown = &body[..40];
        assert!(bytes <= bytes_max, "{bytes} bytes for {shown}...");
    }
}

#[test]
fn a_row_of_any_content_takes_a_small_multiple_of_its_size() {
    const BYTES: usize = 8 * 1024 * 1024;
    for (start, part, end) in [
        ("{\"reported_at\":1,\"x\":[", "{\"\":0},", "0]}"),
        ("{\"reported_at\":1,\"connections\":[", "[],", "0]}"),
        ("{\"reported_at\":1", ",\"\":0", "}"),
        ("{\"reported_at\":", "[", ""),
    ] {
        let row = [start, &part.repeat(BYTES / part.len()), end].concat();
        let counted = allocation_counter::measure(|| {
            let mut gathering = Gathering::new(vec![b"node".to_vec()], 1);
            gathering.add(row.as_bytes());
            drop(gathering.encode());
        });
        let bytes = counted.bytes_max as usize;
        assert!(bytes <= BYTES * 4, "{bytes} bytes for {start}...");
    }
}
