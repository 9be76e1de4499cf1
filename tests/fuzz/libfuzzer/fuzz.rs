//! A fuzz target under libFuzzer: the one that this program is named after.

#![no_main]

#[allow(dead_code)]
#[path = "../../simulation/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../../simulation/pipe.rs"]
mod pipe;
#[allow(dead_code)]
#[path = "../../simulation/server.rs"]
mod server;
#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let target = targets::find(env!("CARGO_BIN_NAME")).expect("it has a target's name");
    target(input);
});
