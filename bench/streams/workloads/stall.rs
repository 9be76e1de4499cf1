//! Stalls: some clients stop reading for a while and then continue. Measures the server's memory, the effect on other
//! clients, and whether all receive everything in the end.

use std::time::Duration;

use super::CONNECT_DEADLINE;
use crate::check::Judge;
use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::machine;
use crate::plan::Stream;
use crate::publisher::Publisher;
use crate::servers::{Server, Task};
use crate::{Bench, Failure};

const CLIENTS: usize = 1_000;
const STALLING: usize = 100;

/// More updates than elsewhere, so that what the kernel takes for a client who does not read is full
/// within two seconds.
const UPDATES_PER_SECOND: u32 = 1_000;

/// What is measured before they stall.
const BEFORE: Duration = Duration::from_secs(3);

/// How long all may take to get what they missed.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Measures a server some of whose clients stall for this long.
pub fn run(bench: &Bench, server: Server, stall: Duration) -> Result<Figures, Failure> {
    let task = Task {
        stream: Stream::Eps,
        per_second: UPDATES_PER_SECOND,
        clients: CLIENTS,
    };
    let mut running = server.start(bench, task)?;
    let pid = running.process.pid();
    let span = BEFORE + stall + CATCH_UP + CONNECT_DEADLINE;
    let (plan, expectation) = server.plan(task, span);
    let mut judge = Judge::new(plan.clone(), expectation, CLIENTS);
    let paths = (0..CLIENTS).map(|client| server.path(task.stream, &plan, client));
    let mut crowd = Crowd::new(running.address, paths)?;
    crowd.will_stall(0..STALLING);
    crowd.connect(0..CLIENTS, &mut judge, CONNECT_DEADLINE)?;
    crowd.run(Duration::from_millis(200), &mut judge)?;
    let publisher = Publisher::start(running.way, &plan)?;
    crowd.run(BEFORE, &mut judge)?;

    let resident_before = machine::resident_bytes(pid);
    crowd.stall(0..STALLING);
    let (cpu_before, events_before) = (machine::usage(pid).cpu_nanos, judge.events);
    judge.start_window();
    crowd.run(stall, &mut judge)?;
    judge.is_recording = false;
    let cpu = (machine::usage(pid).cpu_nanos - cpu_before) as f64;
    let events = (judge.events - events_before) as f64;
    let grown = machine::resident_bytes(pid) as f64 - resident_before as f64;
    let mut figures = Figures::default();
    figures.set("stalled_mb", grown / 1e6);
    figures.set("cpu_us_per_event", cpu / 1e3 / events);
    if judge.latency.total() > 0 {
        figures.set("p99_us", judge.latency.quantile(0.99) as f64 / 1e3);
    }
    let silence = judge.silence(STALLING..CLIENTS);
    figures.set("silence_ms", silence as f64 / 1e6);

    crowd.resume()?;
    let published = publisher.map(Publisher::stop).transpose()?.unwrap_or(0);
    crowd.run_until(CATCH_UP, &mut judge, |judge| judge.is_complete(published))?;
    figures.set("closed", (CLIENTS - crowd.streaming()) as f64);
    figures.wrong = judge.verdict(Some(published));
    figures.wrong.extend(crowd.failures());
    figures.wrong.extend(running.process.last_words());
    Ok(figures)
}
