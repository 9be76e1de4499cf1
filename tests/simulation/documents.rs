//! Documents about the server: what they cost does not grow with the number of their readers.

use std::time::Duration;

use emojitrack_streamer::random::Random;

use crate::broker::Plan;
use crate::caller::{Caller, WIDE};
use crate::net::Faults;
use crate::server;
use crate::stage::Stage;
use crate::steps::Steps;

/// The body of a reply to one who connects, asks for a document and leaves.
fn ask(stage: &mut Stage, target: &str) -> Vec<u8> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut caller = Caller::call(stage.net(), request.as_bytes(), WIDE, Steps::default());
    stage.pass(Duration::from_millis(5));
    let read = caller.read(stage.net(), usize::MAX);
    read.unwrap_or_else(|error| panic!("{target}: {error}"));
    let (mut receiver, _) = caller.leave(stage.net());
    assert_eq!(receiver.statuses(), [200], "{target}");
    stage.pass(Duration::from_millis(5));
    receiver.replies.remove(0).body
}

/// Asks for a stream of such a channel, and keeps it.
fn subscribe(stage: &mut Stage, number: usize) -> Caller {
    let target = format!("/?channels=room.{number:03}");
    let request = crate::caller::request(&target, true, "");
    Caller::call(stage.net(), &request, WIDE, Steps::default())
}

#[test]
fn readers_who_come_and_go_within_a_tenth_of_a_second_share_a_document() {
    let mut random = Random::new(1);
    let linger = Duration::from_secs(1);
    let mut settings =
        server::settings_with_channels(&mut random, false, &["room.*"], linger, server::LARGE_LOG);
    settings.reports.channel_stats_max = 3;
    let mut stage = Stage::new(&mut random, settings, Faults::default(), Plan::default());
    let mut number = 0;
    let mut kept = Vec::new();
    for target in ["/stats", "/admin/status.json", "/metrics"] {
        stage.pass(Duration::from_secs(1));
        let first = ask(&mut stage, target);
        for _ in 0..3 {
            kept.push(subscribe(&mut stage, number));
            number += 1;
            let body = ask(&mut stage, target);
            assert!(body == first, "{target} was made for one reader");
        }
        stage.pass(Duration::from_millis(100));
        assert!(ask(&mut stage, target) != first, "{target} stays the same");
    }
    // Of nine channels, the three with the most subscribers are listed.
    kept.push(subscribe(&mut stage, 8));
    stage.pass(Duration::from_millis(100));
    let rows = ask(&mut stage, "/stats");
    let expected = "[[\"room.008\", 2], [\"room.000\", 1], [\"room.001\", 1]]\n";
    assert_eq!(String::from_utf8_lossy(&rows), expected);
}
