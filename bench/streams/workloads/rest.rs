//! At rest: the cost of idle clients, and how often an idle server wakes up.

use std::time::Duration;

use super::CONNECT_DEADLINE;
use crate::check::Judge;
use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::machine;
use crate::plan::Stream;
use crate::servers::{Server, Task};
use crate::{Bench, Failure};

/// The time that wake-ups are counted in: less than a silence of 50 seconds, after which keepalives are
/// due, and twice the 5 seconds between two reports to Redis.
const WINDOW: Duration = Duration::from_secs(10);

/// What is still going on after the last client has connected.
const SETTLE: Duration = Duration::from_millis(500);

/// How long the time that this server gives for a request has an entry in its timers, even after the
/// request has come.
const REQUEST_DEADLINE: Duration = Duration::from_millis(10_500);

/// Measures a server with so many clients, none of whom gets anything.
pub fn run(bench: &Bench, server: Server, clients: usize) -> Result<Figures, Failure> {
    let task = Task {
        stream: Stream::Eps,
        per_second: 1,
        clients: usize::MAX,
    };
    let running = server.start(bench, task)?;
    let pid = running.process.pid();
    let (plan, expectation) = server.plan(task, Duration::ZERO);
    let mut judge = Judge::new(plan.clone(), expectation, clients);
    let paths = (0..clients).map(|client| server.path(task.stream, &plan, client));
    let mut crowd = Crowd::new(running.address, paths)?;
    crowd.run(SETTLE, &mut judge)?;
    let resident_before = machine::resident_bytes(pid);
    let cpu_before = machine::usage(pid).cpu_nanos;
    crowd.connect(0..clients, &mut judge, CONNECT_DEADLINE)?;
    crowd.run(SETTLE, &mut judge)?;

    let mut figures = Figures::default();
    let resident = machine::resident_bytes(pid);
    figures.set("resident_mb", resident as f64 / 1e6);
    if clients > 0 {
        let grown = resident.saturating_sub(resident_before);
        figures.set("bytes_per_client", grown as f64 / clients as f64);
        let spent = machine::usage(pid).cpu_nanos - cpu_before;
        figures.set("cpu_us_per_connect", spent as f64 / 1e3 / clients as f64);
    }
    // It takes long, and is promised of this server alone.
    if server.is_ours() {
        crowd.run(REQUEST_DEADLINE, &mut judge)?;
        let before = machine::usage(pid);
        crowd.run(WINDOW, &mut judge)?;
        let after = machine::usage(pid);
        let seconds = WINDOW.as_secs_f64();
        let woken = (after.sleeps - before.sleeps) as f64;
        figures.set("wakeups_per_second", woken / seconds);
        let spent = (after.cpu_nanos - before.cpu_nanos) as f64;
        figures.set("cpu_us_per_second", spent / 1e3 / seconds);
    }
    if crowd.streaming() < clients {
        let line = format!("only {} streams are still open", crowd.streaming());
        figures.wrong.push(line);
    }
    figures.wrong.extend(crowd.failures());
    Ok(figures)
}
