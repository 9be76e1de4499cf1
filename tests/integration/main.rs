//! Integration tests: the program itself, as it is built, against a real `redis-server` over real sockets
//! on loopback. What it must do is written down in the contract of its wire and its configuration; the
//! clients here (HTTP, Server-Sent Events, Redis) share no code with the server, so that an error in an
//! encoder cannot hide behind the same error in a decoder.
//!
//! Nothing here sleeps in the hope that something has happened by then: tests wait for conditions, up to
//! a generous deadline. Where a test pauses all the same, the passing of time is what it is about.
//!
//! Tests that need Redis say loudly that they are skipped where `redis-server` is not installed. With
//! `REQUIRE_REDIS=1` in the environment they fail instead. It is the same with nginx and `REQUIRE_NGINX=1`.

// The exceptions that Clippy makes for tests cover the test functions, but not what they call.
#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

mod addresses;
mod admin;
mod admission;
mod bodies;
mod brokers;
mod channel_demand;
mod channel_replay;
mod channels;
mod cleanup;
mod demo;
mod drain;
mod hidden_departures;
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
