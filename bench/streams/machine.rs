//! The machine: its clock, its cores, and the figures of processes from `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock, which all processes of the machine share.
pub fn nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Keeps the calling thread, and whatever it starts from now on, on one core.
///
/// # Errors
/// Where there is no such core.
pub fn pin(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    let all_of_this_thread: Option<Pid> = None;
    Ok(sched_setaffinity(all_of_this_thread, &cores)?)
}

/// As long as it is held, this process and whatever it starts go before others, where that is allowed:
/// what else the machine does then disturbs less.
pub struct Priority {
    /// Whether it was allowed.
    pub is_raised: bool,
}

/// Linux shares cores among sessions first, so a process's own niceness counts within its session alone.
const SESSION: &str = "/proc/self/autogroup";

const RAISED: i32 = -15;

impl Priority {
    /// Raises it.
    pub fn raise() -> Priority {
        let is_raised = rustix::process::setpriority_process(None, RAISED).is_ok();
        if is_raised {
            let _other_kernel = fs::write(SESSION, RAISED.to_string());
        }
        Priority { is_raised }
    }
}

impl Drop for Priority {
    fn drop(&mut self) {
        // The session is the user's own and outlives us.
        let _other_kernel = fs::write(SESSION, "0");
    }
}

/// How many cores there are.
pub fn cores() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    text.lines().filter(is_core).count()
}

/// How long a core has been at work for anybody, in ticks of 10 ms.
pub fn core_busy(core: usize) -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let line = text.lines().find(|line| line.starts_with(&name));
    let fields = line.unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // After user, nice and system come idle and waiting for disks, then interrupts and what a
    // hypervisor took.
    let busy = ticks
        .iter()
        .enumerate()
        .filter(|(index, _)| ![3, 4].contains(index) && *index < 8)
        .map(|(_, ticks)| ticks)
        .sum::<u64>();
    Duration::from_millis(busy * 10)
}

/// What a process and all processes below it have used, with all their threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a core, in nanoseconds.
    pub cpu_nanos: u64,
    /// How often a thread has gone to sleep by itself: each is a wake-up.
    pub sleeps: u64,
}

/// What this process and those below it have used so far; nothing for one that is gone.
pub fn usage(pid: u32) -> Usage {
    let mut usage = Usage::default();
    for pid in family(pid) {
        for thread in threads(pid) {
            usage.cpu_nanos += cpu_nanos(&thread);
            let status = fs::read_to_string(format!("{thread}/status")).unwrap_or_default();
            usage.sleeps += field(&status, "voluntary_ctxt_switches:");
        }
    }
    usage
}

/// What this process has used of its core, without those below it.
pub fn own_cpu_nanos() -> u64 {
    let threads = threads(std::process::id());
    threads.iter().map(|thread| cpu_nanos(thread)).sum()
}

/// Bytes of memory that the process and those below it have in use, without what the kernel holds for
/// their sockets.
pub fn resident_bytes(pid: u32) -> u64 {
    let resident = |pid: u32| {
        // `VmRSS` is off by some dozen pages a thread; this is counted page by page.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        field(&text, "Rss:") * 1024
    };
    family(pid).into_iter().map(resident).sum()
}

/// The processor, the kernel and the load, for the head of a report.
pub fn description() -> Vec<(&'static str, String)> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| Some(line.split_once(':')?.1.trim()));
    let read = |path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    vec![
        ("processor", model.unwrap_or("unknown").to_owned()),
        ("cores", cores().to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("load before", load.join(" ")),
    ]
}

/// A process and all below it.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        for thread in threads(parent) {
            let text = fs::read_to_string(format!("{thread}/children")).unwrap_or_default();
            family.extend(
                text.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    family
}

/// What a thread has used: here it is in nanoseconds, where `/proc/<pid>/stat` counts ticks of 10 ms.
fn cpu_nanos(thread: &str) -> u64 {
    let text = fs::read_to_string(format!("{thread}/schedstat")).unwrap_or_default();
    let cpu = text.split_whitespace().next();
    cpu.and_then(|cpu| cpu.parse().ok()).unwrap_or(0)
}

/// The folders of a process's threads.
fn threads(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let path = |entry: fs::DirEntry| entry.path().to_string_lossy().into_owned();
    entries.filter_map(Result::ok).map(path).collect()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}
