//! The server by itself: turns with a client, without a network.

use std::time::Duration;

use super::settings::tests::settings;
use super::*;
use crate::glob::Glob;
use crate::time::Time;

/// Runs a turn in which a client has this to be read, and takes all that it is sent: how many channels the
/// source was asked for in it, and what was written.
fn turn(server: &mut Server, now: Time, input: &mut Option<&str>) -> (usize, Vec<u8>) {
    let mut asked = 0;
    let mut written = Vec::new();
    server.start_turn(now, 0);
    server.handle_time();
    while let Some((key, _)) = server.poll_read() {
        match input.take() {
            Some(text) => server.at(key).handle_input(text.as_bytes()),
            None => server.at(key).handle_read_would_block(),
        }
    }
    while let Some(write) = server.poll_write() {
        let len = write.bytes.len();
        written.extend_from_slice(write.bytes);
        server.handle_written(Ok(len));
    }
    while let Some(effect) = server.poll_effect() {
        asked += usize::from(matches!(effect, Effect::Listen { .. }));
    }
    server.end_turn(now);
    server.check_invariants();
    (asked, written)
}

#[test]
fn a_stream_waits_for_the_source_whatever_its_connection_was_used_for_before() {
    let other = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n";
    let stream = "GET /?channels=a HTTP/1.1\r\nHost: a\r\n\r\n";
    let together = format!("{other}{stream}");
    let table: [&[&str]; 3] = [&[stream], &[other, stream], &[&together]];
    // Of two writes in a turn, one is for those who are written to by themselves, and the reply is that.
    for (inputs, writes_per_turn) in table.into_iter().flat_map(|it| [(it, 2), (it, 8)]) {
        let mut now = Time::from_micros(1_000_000);
        let mut settings = settings();
        settings.channels.patterns = vec![Glob::new("*")];
        settings.admission.connections_max = 2;
        settings.admission.connections_per_ip_max = 2;
        settings.pacing.reads_per_turn = 8;
        settings.pacing.writes_per_turn = writes_per_turn;
        let mut server = Server::new(settings, now, 0);
        server.handle_channel_source(true, 0);
        let key = server.accept([127, 0, 0, 1].into(), false);
        let mut asked = 0;
        let mut written = Vec::new();
        let mut inputs_left = inputs.iter().copied();
        let mut input = inputs_left.next();
        while input.is_some() || server.has_work() {
            now = now + Duration::from_millis(1);
            server.at(key).handle_ready(true, false, false);
            let (count, bytes) = turn(&mut server, now, &mut input);
            asked += count;
            written.extend(bytes);
            let text = String::from_utf8_lossy(&written);
            assert!(!text.contains("event-stream"), "it has begun: {text:?}");
            // The next comes at once, as from a client that has its reply while we have more to do.
            input = input.or_else(|| inputs_left.next());
        }
        assert_eq!(asked, 1, "{inputs:?}");
        // The answer has come.
        server.handle_channel_source(true, 0);
        let (_, bytes) = turn(&mut server, now, &mut None);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("event-stream"), "it has not begun: {text:?}");
    }
}
