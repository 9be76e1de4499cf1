//! Startup: the time until the first answer, and the size of the program.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::figures::{Figures, median};
use crate::servers::{PROGRAM, Server, Task};
use crate::{Bench, Failure, child, machine, plan::Stream, probe};

/// Starts of which the median counts.
const STARTS: usize = 15;

/// The longest that one may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Measures the time from starting the program to its first answer.
pub fn run(bench: &Bench, server: Server) -> Result<Figures, Failure> {
    let task = Task {
        stream: Stream::Eps,
        per_second: 300,
        clients: 0,
    };
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let address = child::free_address()?;
        let mut command = server.command(bench, task, address)?;
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        // It inherits the core; the launcher would add its own start.
        machine::pin(bench.server_core)?;
        let started = Instant::now();
        let spawned = command.spawn();
        machine::pin(bench.options.cores.1)?;
        let mut process = spawned?;
        while probe::ask(address, "/healthz").is_err() && started.elapsed() < DEADLINE {
            std::thread::yield_now();
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
        process.kill()?;
        process.wait()?;
    }
    let mut figures = Figures::default();
    figures.set("slowest_ms", times.iter().copied().fold(0.0, f64::max));
    figures.set("start_ms", median(times));
    let size = std::fs::metadata(PROGRAM)?.len();
    figures.set("program_mb", size as f64 / 1e6);
    Ok(figures)
}
