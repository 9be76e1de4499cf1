//! Integration tests: the built program against a real `redis-server`, over loopback sockets. The clients here (HTTP,
//! Server-Sent Events, Redis) share no code with the server, so that an error in an encoder cannot hide behind the same
//! error in a decoder.
//!
//! Tests wait for conditions with a generous deadline, and never sleep and hope. A test pauses only if it is about the
//! passing of time.
//!
//! Without `redis-server`, tests that need it report that they are skipped; with `REQUIRE_REDIS=1` in the environment
//! they fail instead. The same holds for nginx and `REQUIRE_NGINX=1`, and for `systemd-socket-activate` and
//! `REQUIRE_SYSTEMD=1`.

// The exceptions that Clippy makes for tests cover the test functions, but not what they call.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

mod acknowledged;
mod addresses;
mod admin;
mod admission;
mod bodies;
mod brokers;
mod channel_demand;
mod channel_replay;
mod channels;
mod cleanup;
mod cut_offs;
mod demo;
mod drain;
mod guesses;
mod handover;
mod hidden_departures;
mod hostile_broker;
mod ids;
mod long_poll;
mod malformed;
mod nginx;
mod options;
mod outages;
mod payloads;
mod persistence;
mod process;
mod publish;
mod refresh;
mod replay;
mod reports;
mod resources;
mod scale;
mod several;
mod slow_clients;
mod status;
mod streams;
