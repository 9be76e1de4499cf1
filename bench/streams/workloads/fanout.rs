//! Fan-out: the cost of a delivered event for a number of clients and a message rate. It owns the order of such a
//! measurement: connect all clients, publish, measure a window, and wait until all have received everything.

use std::time::Duration;

use super::CONNECT_DEADLINE;
use crate::check::Judge;
use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::machine::{self, nanos};
use crate::plan::{IDS, Stream, TICK};
use crate::probe::Prober;
use crate::publisher::Publisher;
use crate::servers::{Server, Task};
use crate::{Bench, Failure};

/// What is published before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often clients look at their sockets where throughput matters: latencies are this much too long at
/// most. Where few messages come and latency matters, they are woken by each.
const PACE: Duration = Duration::from_micros(200);

/// How long clients may take to get the last messages.
const CATCH_UP: Duration = Duration::from_secs(2);

/// One fan-out.
#[derive(Clone, Copy, Debug)]
pub struct Fanout {
    /// What is sent, to how many, how often.
    pub task: Task,
    /// Whether the server is asked for other things meanwhile.
    pub is_probed: bool,
}

/// Measures a server for this long.
pub fn run(
    bench: &Bench,
    server: Server,
    fanout: Fanout,
    window: Duration,
) -> Result<Figures, Failure> {
    let Fanout { task, is_probed } = fanout;
    let running = server.start(bench, task)?;
    let span = WARM_UP + window + CATCH_UP + CONNECT_DEADLINE;
    let (plan, expectation) = server.plan(task, span);
    let mut judge = Judge::new(plan.clone(), expectation, task.clients);
    let paths = (0..task.clients).map(|client| server.path(task.stream, &plan, client));
    let mut crowd = Crowd::new(running.address, paths)?;
    crowd.connect(0..task.clients, &mut judge, CONNECT_DEADLINE)?;
    // Some servers answer before they have put the client on their list.
    if running.way.is_external() {
        crowd.run(Duration::from_millis(200), &mut judge)?;
    }
    if task.stream != Stream::Details {
        crowd.look_every(PACE);
    }
    let publisher = Publisher::start(running.way, &plan)?;
    crowd.run(WARM_UP, &mut judge)?;

    let prober = is_probed.then(|| Prober::start(running.address));
    let before = Reading::take(bench, running.process.pid());
    let events_before = judge.events;
    judge.start_window();
    crowd.run(window, &mut judge)?;
    judge.is_recording = false;
    let spent = Reading::take(bench, running.process.pid()).since(before);
    let events = (judge.events - events_before) as f64;
    let (fewest, most) = judge.spread();

    let mut figures = Figures::default();
    figures.set("cpu_us_per_event", spent.server / 1e3 / events);
    figures.set("events_per_second", events * 1e9 / spent.passed);
    figures.set("share_of_due", events / due(task, spent.passed / 1e9));
    figures.set("server_core", spent.server / spent.passed);
    figures.set("loader_core", spent.loader / spent.passed);
    let others = spent.server_core - spent.server;
    figures.set("others_on_core", others.max(0.0) / spent.passed);
    if task.stream != Stream::Details {
        let share = f64::from(fewest) / f64::from(most.max(1));
        figures.set("worst_client_share", share);
    }
    let resident = machine::resident_bytes(running.process.pid());
    figures.set("resident_mb", resident as f64 / 1e6);
    if judge.latency.total() > 0 {
        figures.set("p50_us", judge.latency.quantile(0.5) as f64 / 1e3);
        figures.set("p99_us", judge.latency.quantile(0.99) as f64 / 1e3);
        figures.set("max_us", judge.latency.max() as f64 / 1e3);
    }
    if let Some(prober) = prober {
        prober.stop(&mut figures);
    }

    if let Some(publisher) = &publisher {
        publisher.halt();
        crowd.run_until(CATCH_UP, &mut judge, |_| publisher.is_finished())?;
    }
    let published = publisher.map(Publisher::stop).transpose()?;
    if let Some(published) = published {
        crowd.run_until(CATCH_UP, &mut judge, |judge| judge.is_complete(published))?;
    }
    figures.wrong = judge.verdict(published);
    figures.wrong.extend(crowd.failures());
    Ok(figures)
}

/// Nanoseconds at one moment, or between two.
#[derive(Clone, Copy)]
struct Reading {
    passed: f64,
    /// Of the server under test.
    server: f64,
    /// Of this process and of Redis, which share the other core.
    loader: f64,
    /// Of everybody on the server's core.
    server_core: f64,
}

impl Reading {
    fn take(bench: &Bench, server: u32) -> Reading {
        let redis = bench
            .redis
            .as_ref()
            .map(|redis| machine::usage(redis.pid()));
        let loader = machine::own_cpu_nanos() + redis.unwrap_or_default().cpu_nanos;
        Reading {
            passed: nanos() as f64,
            server: machine::usage(server).cpu_nanos as f64,
            loader: loader as f64,
            server_core: machine::core_busy(bench.server_core).as_nanos() as f64,
        }
    }

    fn since(self, before: Reading) -> Reading {
        Reading {
            passed: self.passed - before.passed,
            server: self.server - before.server,
            loader: self.loader - before.loader,
            server_core: self.server_core - before.server_core,
        }
    }
}

/// How many events there would be in so many seconds if none was late.
fn due(task: Task, seconds: f64) -> f64 {
    let clients = task.clients as f64;
    let messages = f64::from(task.per_second) * seconds;
    match task.stream {
        Stream::Eps => clients * seconds / TICK.as_secs_f64(),
        Stream::Raw | Stream::Channel => clients * messages,
        Stream::Details => clients * messages / IDS as f64,
    }
}
