//! Connections: the cost of one, how many per second are possible, and what happens when thousands connect at once.

use std::time::{Duration, Instant};

use super::CONNECT_DEADLINE;
use crate::check::{Expectation, Judge};
use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::machine;
use crate::plan::Stream;
use crate::publisher::Publisher;
use crate::servers::{Server, Task};
use crate::{Bench, Failure};

/// Clients that come and go together.
const WAVE: usize = 500;

/// Of those, the ones that are on their way at a time.
const CONNECTING: usize = 64;

/// Lets clients come, get the head of a stream and leave, for this long.
pub fn churn(bench: &Bench, server: Server, window: Duration) -> Result<Figures, Failure> {
    let task = Task {
        stream: Stream::Eps,
        per_second: 1,
        clients: usize::MAX,
    };
    let running = server.start(bench, task)?;
    let pid = running.process.pid();
    let (plan, expectation) = server.plan(task, Duration::ZERO);
    let mut judge = Judge::new(plan.clone(), expectation, WAVE);
    let paths = (0..WAVE).map(|client| server.path(task.stream, &plan, client));
    let mut crowd = Crowd::new(running.address, paths)?;
    let mut wave = |crowd: &mut Crowd| {
        crowd.connect_by(0..WAVE, CONNECTING, &mut judge, CONNECT_DEADLINE)?;
        crowd.leave(0..WAVE);
        Ok::<usize, Failure>(WAVE)
    };
    // The first ones pay for what the others share.
    wave(&mut crowd)?;
    let before = machine::usage(pid).cpu_nanos;
    let own_before = machine::own_cpu_nanos();
    let began = Instant::now();
    let mut connects = 0;
    while began.elapsed() < window {
        connects += wave(&mut crowd)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let own = (machine::own_cpu_nanos() - own_before) as f64;
    // The last ones' leaving belongs to it.
    std::thread::sleep(Duration::from_millis(100));
    let cpu = (machine::usage(pid).cpu_nanos - before) as f64;
    let mut figures = Figures::default();
    let connects = connects as f64;
    figures.set("cpu_us_per_connect", cpu / 1e3 / connects);
    figures.set("connects_per_second", connects / seconds);
    figures.set("server_core", cpu / 1e9 / seconds);
    figures.set("loader_core", own / 1e9 / seconds);
    Ok(figures)
}

/// Clients that stay, and see what the others' return does to them.
const WITNESSES: usize = 100;

/// Lets so many clients leave and come back at once, while others stay.
pub fn herd(bench: &Bench, server: Server, clients: usize) -> Result<Figures, Failure> {
    let task = Task {
        stream: Stream::Eps,
        per_second: 300,
        clients: WITNESSES + clients,
    };
    let running = server.start(bench, task)?;
    let span = Duration::from_secs(10) + 2 * CONNECT_DEADLINE;
    let (plan, _) = server.plan(task, span);
    // A client that reconnects receives a run of messages that begins at an unknown position.
    let mut judge = Judge::new(plan.clone(), Expectation::Run, task.clients);
    let paths = (0..task.clients).map(|client| server.path(task.stream, &plan, client));
    let mut crowd = Crowd::new(running.address, paths)?;
    crowd.connect(0..task.clients, &mut judge, CONNECT_DEADLINE)?;
    crowd.run(Duration::from_millis(200), &mut judge)?;
    let publisher = Publisher::start(running.way, &plan)?;
    crowd.run(Duration::from_secs(1), &mut judge)?;

    let herd = WITNESSES..task.clients;
    judge.start_window();
    crowd.leave(herd.clone());
    herd.clone().for_each(|client| judge.forget(client));
    let began = Instant::now();
    crowd.connect_by(herd.clone(), clients, &mut judge, CONNECT_DEADLINE)?;
    let mut figures = Figures::default();
    figures.set("back_ms", began.elapsed().as_secs_f64() * 1e3);
    let slowest = crowd.longest_wait(herd);
    figures.set("slowest_ms", slowest as f64 / 1e6);
    crowd.run(Duration::from_secs(1), &mut judge)?;
    let silence = judge.silence(0..WITNESSES);
    figures.set("silence_ms", silence as f64 / 1e6);
    publisher.map(Publisher::stop).transpose()?;
    figures.wrong = judge.verdict(None);
    figures.wrong.extend(crowd.failures());
    Ok(figures)
}
