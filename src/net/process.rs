//! Figures about the process, read from `/proc`. Each file costs several system calls, so do not read them every turn.

use std::fs;
use std::time::Duration;

/// The operating system's figures about this process; zero if they are not available.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory.
    pub resident_bytes: u64,
    /// CPU time, user and system.
    pub cpu: Duration,
    /// Open file descriptors.
    pub descriptors: u64,
    /// The limit of open file descriptors.
    pub descriptors_max: u64,
}

/// Reads all figures but the number of descriptors, which the caller counts.
pub(super) fn read(descriptors: u64) -> Process {
    let text = |name: &str| fs::read_to_string(name).unwrap_or_default();
    Process {
        resident_bytes: resident_bytes(&text("/proc/self/status")).unwrap_or(0),
        cpu: cpu(&text("/proc/self/stat")).unwrap_or_default(),
        descriptors,
        descriptors_max: rlimit::Resource::NOFILE.get_soft().unwrap_or(0),
    }
}

/// `VmRSS` of `proc_pid_status(5)`, which is in kibibytes.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1024)
}

/// `utime` and `stime` of `proc_pid_stat(5)`, in units of 10 ms on Linux. Fields are counted from after the process
/// name, which may contain anything.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks =
        |field: usize| -> Option<u64> { fields.split_whitespace().nth(field)?.parse().ok() };
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}

/// Counts open descriptors. Called only at startup: every few thousand of them take a millisecond.
pub(super) fn count_descriptors() -> usize {
    // The directory being read is open, too.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_among_others() {
        let status = "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    2048 kB\nThreads:\t2\n";
        assert_eq!(resident_bytes(status), Some(2 * 1024 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "42 (a ) b) S 1 1 1 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 2 0 77 0 0";
        assert_eq!(cpu(stat), Some(Duration::from_millis(1_750)));
        assert_eq!(cpu("42 (x) S"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_figures() {
        let figures = read(count_descriptors() as u64);
        assert!(figures.resident_bytes > 100_000);
        assert!(figures.descriptors >= 3 && figures.descriptors <= figures.descriptors_max);
    }
}
