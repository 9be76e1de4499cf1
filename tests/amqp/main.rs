//! AMQP: the session and the program against a real RabbitMQ on loopback.
//!
//! Without `rabbitmq-server`, tests report that they are skipped; with `REQUIRE_RABBITMQ=1` in the environment they fail
//! instead.

// The exceptions that Clippy makes for tests cover the test functions, but not what they call.
#![allow(clippy::panic, clippy::unwrap_used)]

mod driver;
mod outages;
mod program;
mod program_outages;
mod publisher;
mod publishing;
mod rabbit;
mod session;
/// Servers, Redis and clients are those of the integration tests.
#[allow(dead_code, unused_imports)]
#[path = "../integration/support/mod.rs"]
mod support;
