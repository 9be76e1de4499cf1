//! The fuzz targets as ordinary tests: each runs over its committed corpus, and over inputs that are derived from the
//! corpus by seeded mutations. `tests/fuzz/run.sh` runs the same targets under libFuzzer, for as long as it is told.
//!
//! `FUZZ_RUNS=n` says how many derived inputs each target gets. A failure prints the input as a file for
//! `tests/fuzz/run.sh`, and the seed that it was derived from.

#![allow(clippy::panic, reason = "a panic is how a target reports a failure")]

mod mutate;
mod targets;

// The whole server runs on the network of the simulation.
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/net.rs"]
mod net;
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/pipe.rs"]
mod pipe;
#[allow(dead_code, reason = "the simulation uses more of it")]
#[path = "../simulation/server.rs"]
mod server;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use emojitrack_streamer::config::{self, Command};
use emojitrack_streamer::random::Random;

/// Runs a target over its corpus, and over so many inputs derived from it.
fn check(name: &str, runs: u64) {
    let target = targets::find(name).unwrap_or_else(|| panic!("there is no target {name}"));
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the corpus of {name} is empty");
    for (file, input) in &corpus {
        run(target, input, &format!("tests/fuzz/corpus/{name}/{file}"));
    }
    let seeds: Vec<&[u8]> = corpus.iter().map(|(_, input)| input.as_slice()).collect();
    let runs = std::env::var("FUZZ_RUNS").map_or(runs, |text| text.parse().expect("a number"));
    for seed in 0..runs {
        let input = mutate::derive(&seeds, &mut Random::new(seed));
        run(target, &input, &format!("seed {seed}"));
    }
}

fn run(target: fn(&[u8]), input: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| target(input))).is_err() {
        let file = std::env::temp_dir().join("fuzz-failure");
        fs::write(&file, input).expect("the temporary directory can be written to");
        let (file, shown) = (file.display(), input.escape_ascii());
        panic!("{origin} failed; the input is in {file}: {shown}");
    }
}

/// The files of a target's corpus, by name.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = fs::read_dir(root.join(name)).expect("the target has a corpus");
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("the corpus can be listed").path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let input = fs::read(&path).expect("the corpus can be read");
            (file.into_owned(), input)
        })
        .collect();
    files.sort();
    files
}

#[test]
fn every_target_has_a_test() {
    let (tests, programs) = (
        include_str!("main.rs"),
        include_str!("libfuzzer/Cargo.toml"),
    );
    for (name, _) in targets::ALL {
        let is_tested = tests.contains(&format!("check(\"{name}\""));
        assert!(is_tested, "{name} has none");
        let is_built = programs.contains(&format!("name = \"{name}\"\n"));
        assert!(is_built, "{name} is no program for libFuzzer");
    }
}

#[test]
fn every_option_is_in_the_corpus() {
    let Ok(Command::Run(config)) = config::parse([], |_| None, || None) else {
        panic!("no options are a configuration");
    };
    let files = corpus("options");
    let files = files
        .iter()
        .map(|(_, input)| String::from_utf8_lossy(input));
    let given: Vec<_> = files.collect();
    let line = config.settings_line();
    let names = line.split(' ').filter_map(|it| it.split_once('='));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert!(names.len() > 40, "{line}");
    for name in names {
        let is_given = |text: &str| text.lines().any(|it| it.starts_with(&format!("{name}=")));
        assert!(given.iter().any(|text| is_given(text)), "{name} is in none");
    }
}

#[test]
fn heads_are_read_alike_however_they_are_split() {
    check("head", 20_000);
}

#[test]
fn bodies_are_read_alike_however_they_are_split() {
    check("body", 20_000);
}

#[test]
fn connections_answer_alike_however_their_input_is_split() {
    check("connection", 5_000);
}

#[test]
fn targets_are_split_and_decoded() {
    check("target", 20_000);
}

#[test]
fn publications_are_parsed() {
    check("publication", 20_000);
}

#[test]
fn forwarded_addresses_are_those_of_the_trusted_proxies() {
    check("forwarded", 20_000);
}

#[test]
fn globs_match_what_a_naive_matcher_matches() {
    check("glob", 20_000);
}

#[test]
fn redis_replies_are_read_alike_however_they_are_split() {
    check("resp", 20_000);
}

#[cfg(feature = "amqp")]
#[test]
fn amqp_frames_are_read_alike_however_they_are_split() {
    check("amqp", 20_000);
}

#[test]
fn options_are_parsed_or_refused_in_one_line() {
    check("options", 10_000);
}

#[test]
fn the_bus_delivers_what_a_naive_model_delivers() {
    check("bus", 2_000);
}

#[test]
fn a_whole_server_survives_hostile_clients_and_a_hostile_broker() {
    check("server", 1_000);
}
