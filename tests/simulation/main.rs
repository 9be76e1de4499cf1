//! The simulation: the engine and the reactor as they are, on a network of pipes with faults, judged by
//! arithmetic. What a client received must be exactly what was published while it was there: in order,
//! nothing twice, nothing left out, sums right to the last increment.
//!
//! Every seed is one run of a world. `SIM_SEED=n` repeats one, `SIM_SEEDS=n` says how many are run (500). Of a seed
//! that failed, the last steps are shown of the client that it is about, and of the broker.

#![allow(clippy::panic, reason = "a panic is how an oracle speaks")]

mod broker;
mod caller;
mod carbon;
mod channels;
mod client;
mod doors;
mod emoji;
mod emoji_verdict;
mod evictions;
mod group_verdict;
mod groups;
mod hostile_ids;
mod large_messages;
mod net;
mod pairs;
mod pipe;
mod plain_requests;
mod published;
mod publishers;
mod receiver;
mod resp;
mod seeds;
mod server;
mod stage;
mod steps;
mod sums;
mod transcript;
mod verdict;
mod visitors;

#[test]
fn clients_receive_exactly_what_was_published() {
    seeds::run::<emoji::World>(500);
}

#[test]
fn channels_bring_exactly_what_was_published_on_them() {
    seeds::run::<channels::World>(500);
}

#[test]
fn groups_with_eps_go_on_exactly_where_they_were_cut() {
    seeds::run::<groups::World>(300);
}

#[test]
fn a_reader_that_stops_within_an_event_never_sees_a_torn_one() {
    seeds::run::<evictions::World>(300);
}

#[test]
fn large_messages_reach_narrow_readers_and_keep_nobody_waiting() {
    seeds::run::<large_messages::World>(20);
}

#[test]
fn hostile_ids_bring_nothing_but_the_stream_that_was_asked_for() {
    seeds::run::<hostile_ids::World>(100);
}

#[test]
fn both_versions_of_http_carry_the_same_valid_event_stream() {
    seeds::run::<pairs::World>(300);
}
