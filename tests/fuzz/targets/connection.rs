//! One HTTP connection: its client gets the same answers however its bytes are split, and everything that is asked for
//! is answered or refused.

use std::net::Ipv4Addr;
use std::time::Duration;

use emojitrack_streamer::http::reply::{CONTINUE, Reply};
use emojitrack_streamer::http::{
    Action, BodyUse, CloseReason, Connections, Event, Key, Options, Origin, Request,
};
use emojitrack_streamer::time::Time;

/// Bytes of data that a body may have here.
const BODY_BYTES_MAX: u64 = 64;

pub fn run(input: &[u8]) {
    let (pieces, bytes) = super::pieces(input);
    let whole = exchange(&[bytes]);
    assert_eq!(exchange(&pieces), whole, "split differently");
}

/// What a client receives, and what its requests were taken for.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    received: String,
    requests: Vec<String>,
    reason: Option<CloseReason>,
}

/// A client sends these pieces, each after the last one was dealt with, and then its end.
fn exchange(pieces: &[&[u8]]) -> Outcome {
    let options = Options {
        keepalive: Duration::from_secs(15),
        idle: Duration::from_secs(10),
        reads_per_turn: 16,
    };
    let mut http = Connections::new(options, Time::ZERO);
    let key = http.accept(Origin::new(Ipv4Addr::LOCALHOST, false));
    let mut outcome = Outcome::default();
    for piece in pieces {
        turn(&mut http, key, piece, false, &mut outcome);
    }
    turn(&mut http, key, &[], true, &mut outcome);
    // Whether the client is told to go on depends on what it has sent by then.
    let interim = std::str::from_utf8(CONTINUE).expect("it is ASCII");
    outcome.received = outcome.received.replace(interim, "");
    outcome
}

fn turn(http: &mut Connections, key: Key, mut unread: &[u8], ends: bool, outcome: &mut Outcome) {
    http.at(key).handle_ready(true, false, false);
    let mut turns = 0;
    while http.has_work() {
        http.start_turn(Time::ZERO, 0);
        while let Some((key, room)) = http.poll_read() {
            let (piece, rest) = unread.split_at(room.min(unread.len()));
            unread = rest;
            let mut connection = http.at(key);
            match piece {
                [] if ends => connection.handle_end(),
                [] => connection.handle_read_would_block(),
                piece => connection.handle_input(piece),
            }
        }
        decide(http, outcome);
        while let Some(key) = http.poll_write() {
            let bytes = http.outbox(key).to_vec();
            outcome.received.push_str(&String::from_utf8_lossy(&bytes));
            match bytes.len() {
                0 => http.at(key).handle_nothing_to_write(),
                len => http.at(key).handle_outbox_written(len),
            }
            decide(http, outcome);
        }
        decide(http, outcome);
        while let Some(action) = http.poll_action() {
            assert!(matches!(action, Action::Close(it) | Action::ShutdownWrite(it) if it == key));
        }
        http.check_invariants();
        turns += 1;
        assert!(turns < 100_000, "there is work that no turn gets done");
    }
}

fn decide(http: &mut Connections, outcome: &mut Outcome) {
    while let Some(event) = http.poll_event() {
        match event {
            Event::Request(key, request) => {
                outcome.requests.push(format!("{request:?}"));
                begin(http, key, request);
            }
            Event::Body(key, _, data) => {
                outcome.requests.push(data.escape_ascii().to_string());
                http.at(key)
                    .complete_request(&Reply::json(200, b"{}".to_vec()));
            }
            Event::Closed(_, reason) | Event::StreamEnded(_, reason) => {
                outcome.reason = Some(reason);
            }
            Event::PeerEnded(key) => http.at(key).close(CloseReason::Client),
            Event::Silent(_) | Event::PollTimedOut(_) | Event::LifetimeOver(_) => {
                panic!("no time has passed");
            }
        }
    }
}

/// The target's length decides how a request is answered.
fn begin(http: &mut Connections, key: Key, request: Box<Request>) {
    let mut connection = http.at(key);
    match request.target.len() % 6 {
        0 => connection.read_body(request, BODY_BYTES_MAX, BodyUse::Keep),
        1 => connection.read_body(request, BODY_BYTES_MAX, BodyUse::KeepUnauthenticated),
        2 => connection.read_body(request, BODY_BYTES_MAX, BodyUse::Discard),
        3 => connection.refuse(&Reply::error(404, "nothing is here"), CloseReason::Answered),
        4 => connection.begin_stream("", b":\n"),
        _ => connection.complete_request(&Reply::json(200, b"{}".to_vec())),
    }
}
