//! The simulation: the server and the reactor as they are, on a network of pipes with faults, judged by
//! arithmetic. What a client received must be exactly what was published while it was there: in order,
//! nothing twice, nothing left out, sums right to the last increment.
//!
//! | world | what acts in it | what is judged, and where |
//! |---|---|---|
//! | `emoji` | clients of all kinds, a broker that falls over, Graphite | runs of messages, exact sums: `emoji_verdict` |
//! | `channels` | visitors with ids and long polls, publishers, a broker or none | runs, gaps and their reasons: `verdict` |
//! | `groups` | readers of groups with `eps`, cut off anywhere | one run over all connections: `group_verdict` |
//! | `evictions` | a reader that stops within an event until its lifetime ends | whole events, or closed as slow |
//! | `large_messages` | messages of 2 MiB for readers with little room | all is received, and others do not wait |
//! | `hostile_ids` | clients with ids that were never given out | nothing but the stream that was asked for |
//! | `pairs` | two clients of one stream, by HTTP/1.1 and HTTP/1.0 | the same events, valid by the grammar: `transcript` |
//! | `abuse` | attackers who do their worst, readers of groups | the readers as in `groups`; memory, and the longest turn |
//! | `cut_offs` | a network that is cut off without a word, a server that is suspended | noticed in 5 s, and its return in 1 s |
//! | `doors` | a crowd at the public door | the admin's door stays open |
//!
//! Every seed is one run of a world. `SIM_SEED=n` repeats one, `SIM_SEEDS=n` says how many are run, instead of the
//! number that stands with each test. Of a seed that failed, the last 50 steps are shown of the client that it is
//! about, and of the broker.

#![allow(clippy::panic, reason = "a panic is how an oracle speaks")]

mod abuse;
mod broker;
mod caller;
mod carbon;
mod channels;
mod client;
mod cut_offs;
mod documents;
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
fn large_messages_reach_slow_readers_without_delaying_others() {
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

#[test]
fn attackers_cost_honest_clients_nothing_and_the_server_little() {
    seeds::run::<abuse::World>(25);
}

#[test]
fn a_broker_that_is_cut_off_silently_is_noticed_and_found_again() {
    seeds::run::<cut_offs::World>(300);
}
