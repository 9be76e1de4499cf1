//! The server by itself: turns with a client, without a network.

use std::time::Duration;

use super::messages::Drop;
use super::settings::tests::settings;
use super::*;
use crate::broker::Message;
use crate::bus::Stream;
use crate::glob::Glob;
use crate::http::Origin;
use crate::limits;
use crate::time::Time;

/// Runs a turn in which a client has this to be read, and takes all that it is sent: how many channels the
/// source was asked for in it, and what was written.
fn turn(server: &mut Server, now: Time, input: &mut Option<&str>) -> (usize, Vec<u8>) {
    let done = unchecked_turn(server, now, input);
    server.check_invariants();
    done
}

/// Where there are many channels, checking each turn takes long.
fn unchecked_turn(server: &mut Server, now: Time, input: &mut Option<&str>) -> (usize, Vec<u8>) {
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
        server.handle_sources(None, Some((true, 0)));
        let key = server.accept(Origin::new([127, 0, 0, 1], false));
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
        server.handle_sources(None, Some((true, 0)));
        let (_, bytes) = turn(&mut server, now, &mut None);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("event-stream"), "it has not begun: {text:?}");
    }
}

/// A server that keeps channels for so long after their last client.
fn server_with_channels(linger: Duration) -> Server {
    let mut settings = settings();
    settings.channels.patterns = vec![Glob::new("*")];
    settings.channels.linger = linger;
    settings.admission.connections_max = usize::MAX;
    settings.admission.connections_per_ip_max = usize::MAX;
    settings.pacing.reads_per_turn = 8;
    settings.pacing.writes_per_turn = 8;
    Server::new(settings, Time::from_micros(1_000_000), 0)
}

/// A client asks from an address for a stream of these channels, and leaves if it is not to stay: whether it has got one.
fn ask(server: &mut Server, address: [u8; 4], names: &str, stays: bool) -> bool {
    ask_for(server, address, &format!("/?channels={names}"), stays)
}

/// The same with any target.
fn ask_for(server: &mut Server, address: [u8; 4], target: &str, stays: bool) -> bool {
    // Each comes a second after the last.
    let now = Time::from_micros(1_000_000 * (2 + server.counters().accepted));
    let shed = server.counters().shed;
    let key = server.accept(Origin::new(address, false));
    server.at(key).handle_ready(true, false, false);
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    unchecked_turn(server, now, &mut Some(&request));
    if !stays {
        let reset = std::io::ErrorKind::ConnectionReset.into();
        server.at(key).handle_failure(&reset);
        unchecked_turn(server, now, &mut None);
    }
    server.counters().shed == shed
}

/// Names that nobody else has, of so many bytes each.
fn new_names(round: usize, count: usize, len: usize) -> String {
    let name = |index| format!("{:x<len$}", format!("{round}.{index}."));
    let names: Vec<String> = (0..count).map(name).collect();
    names.join(",")
}

#[test]
fn made_up_channels_lock_nobody_out_and_take_no_more_than_their_share() {
    const HONEST: [u8; 4] = [10, 0, 0, 1];
    for (len, networks, rounds) in [(20, 1, 1_000), (200, 1, 500), (200, 250, 800)] {
        let mut server = server_with_channels(Duration::from_secs(3_600));
        assert!(ask(&mut server, HONEST, "news,quiet", false));
        server.publish_here("news", "kept");
        for round in 0..rounds {
            let attacker = [10, 1, 0, (round % networks) as u8];
            let is_taken = ask(&mut server, attacker, &new_names(round, 32, len), false);
            assert!(is_taken, "{round}: idle channels go for new ones");
        }
        let registry = server.bus().line().registry();
        let bytes = registry.children(Stream::Channels).count() * admission::name_bytes(len);
        let share = limits::NAMES_BYTES_MAX / if networks == 1 { 2 } else { 1 };
        assert!((share * 9 / 10..share + 4_096).contains(&bytes), "{bytes}");
        let is_kept = |name: &[u8]| registry.is_wanted((Stream::Channels, Some(name)));
        assert!(is_kept(b"news"), "what has messages is kept");
        assert_eq!(
            is_kept(b"quiet"),
            networks == 1,
            "what others have goes only if all is full"
        );
        server.check_invariants();
        assert!(ask(&mut server, HONEST, "news,new", true));
    }
}

#[test]
fn only_new_channels_are_refused_where_those_that_are_needed_take_all_the_room() {
    let mut server = server_with_channels(Duration::ZERO);
    let attackers = [[10, 1, 0, 1], [10, 1, 0, 2], [10, 1, 0, 3]];
    let mut round = 0;
    for attacker in attackers {
        let others = limits::NAMES_BYTES_MAX / admission::name_bytes(200) / 32;
        let mut taken = 0;
        while ask(&mut server, attacker, &new_names(round, 32, 200), true) {
            (round, taken) = (round + 1, taken + 1);
            assert!(taken < others, "a network has a half");
        }
    }
    let honest = [10, 2, 0, 1];
    assert!(ask(&mut server, honest, &new_names(0, 32, 200), true));
    assert!(!ask(&mut server, honest, &new_names(round, 32, 200), true));
    assert!(
        ask(&mut server, honest, "mine", true),
        "a stream is worth a channel"
    );
    server.check_invariants();
}

#[test]
fn made_up_ids_of_details_count_as_channels_do() {
    let (attacker, honest) = ([10, 1, 0, 1], [10, 2, 0, 1]);
    let mut server = server_with_channels(Duration::ZERO);
    let ids = |round| {
        let names = new_names(round, 32, 180).replace(',', "&ns=/details/");
        format!("/subscribe?ns=/details/{names}")
    };
    let known = |server: &Server| {
        let registry = server.bus().line().registry();
        registry.children(Stream::Details).count()
    };
    let mut rounds = 0;
    while ask_for(&mut server, attacker, &ids(rounds), true) {
        rounds += 1;
        assert!(rounds < 1_000, "{} are kept", known(&server));
    }
    let bytes = known(&server) * admission::name_bytes(180);
    let share = limits::NAMES_BYTES_MAX / 2 + rounds * limits::NAMES_BYTES_PER_STREAM;
    assert!((share * 9 / 10..=share).contains(&bytes), "{bytes}");
    assert!(ask_for(&mut server, attacker, &ids(0), true), "it is known");
    assert!(ask_for(
        &mut server,
        honest,
        "/subscribe/details/2665",
        true
    ));
    server.check_invariants();
    // Those that nobody wants any more make room.
    let mut server = server_with_channels(Duration::ZERO);
    for round in 0..300 {
        assert!(ask_for(&mut server, attacker, &ids(round), false));
    }
    assert_eq!(known(&server), 0);
    server.check_invariants();
}

#[test]
fn no_new_channels_are_taken_while_the_source_has_to_answer_for_many() {
    let mut server = server_with_channels(Duration::ZERO);
    let mut taken = 0;
    for round in 0..1_000 {
        // It has to answer for the beginning and the end of each.
        server.handle_sources(None, Some((true, 2 * 32 * taken)));
        taken += usize::from(ask(
            &mut server,
            [10, 1, 0, 1],
            &new_names(round, 32, 20),
            false,
        ));
    }
    // Beside one for each channel that there is.
    let commands = 2 * 32 * taken - limits::CHANNEL_COMMANDS_MAX;
    assert!(commands <= 4 * 32, "{commands} too many");
    server.handle_sources(None, Some((true, 0)));
    assert!(ask(&mut server, [10, 1, 0, 1], "new", false));
}

#[test]
fn what_a_broker_has_skipped_is_a_gap_for_the_channel() {
    let mut server = server_with_channels(Duration::ZERO);
    let now = Time::from_micros(9_000_000);
    for names in ["a", "b"] {
        assert!(ask(&mut server, [10, 0, 0, 1], names, true));
    }
    server.start_turn(now, 0);
    server.handle_channel_message(&Message {
        pattern: None,
        channel: b"a".to_vec(),
        payload: Vec::new(),
        is_too_large: true,
    });
    let (_, written) = turn(&mut server, now, &mut None);
    let text = String::from_utf8(written).unwrap();
    assert_eq!(text.matches("event: gap").count(), 1, "{text}");
    // One is for the pattern, which nobody subscribes to.
    assert_eq!(server.counters().dropped[Drop::Size as usize], 2);
}
