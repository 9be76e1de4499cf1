//! Seeds: each determines one run of a world. This module runs many of them, and prints what is known about failures.
//!
//! `SIM_SEED=n` repeats one, `SIM_SEEDS=n` says how many are run.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// A world that one seed decides.
pub trait World {
    /// The world at its beginning.
    fn new(seed: u64) -> Self;

    /// Runs it to its end, and panics where something is wrong.
    fn run(&mut self);

    /// The last steps of whoever was being simulated or judged when it panicked, and of the broker.
    fn last_steps(&self) -> String;
}

/// Runs so many seeds on all processors, and fails if one of them did.
pub fn run<W: World>(seeds: u64) {
    if let Some(seed) = number_from("SIM_SEED") {
        if let Err(text) = run_one::<W>(seed) {
            fail(&[text]);
        }
        return;
    }
    let seeds = number_from("SIM_SEEDS").unwrap_or(seeds);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failures.len() > 3 {
                return failures;
            }
            failures.extend(run_one::<W>(seed).err());
        }
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .flat_map(|failures| failures.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    fail(&failures);
}

/// Runs what one seed decides; an error says everything about its failure.
fn run_one<W: World>(seed: u64) -> Result<(), String> {
    let mut world = W::new(seed);
    catch_unwind(AssertUnwindSafe(|| world.run())).map_err(|panic| {
        let (text, steps) = (text_of(panic.as_ref()), world.last_steps());
        format!("seed {seed} failed (repeat it with SIM_SEED={seed}): {text}\n{steps}")
    })
}

/// Panics if there are failures.
fn fail(failures: &[String]) {
    let count = failures.len();
    assert!(count == 0, "{count} seeds failed\n{}", failures.join("\n"));
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without text")
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
