//! Helpers for all tests: the server and Redis as processes, clients for both, and waiting for conditions.

pub mod channels;
pub mod chunked;
pub mod crowd;
pub mod cut_proxy;
pub mod hiding_proxy;
pub mod http;
pub mod nginx;
pub mod redis;
pub mod resp;
pub mod returning;
pub mod server;
pub mod sse;
pub mod subscriber;

use std::collections::BTreeMap;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use crowd::Crowd;
pub use http::{Connection, Reply};
pub use redis::{Redis, redis_or_skip};
pub use server::{Server, ServerOptions};
pub use sse::{Event, Item};
pub use subscriber::{End, Subscriber};

/// How long a test waits for anything that should happen at once. It is only ever used up by a failure,
/// so it can be long enough for a machine that does much else.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How often a condition is tried that nothing announces.
const TRY_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until the condition holds; `what` names it if it never does.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < DEADLINE,
            "waited in vain until {what} (for {DEADLINE:?})"
        );
        thread::sleep(TRY_INTERVAL);
    }
}

/// Whether this machine has the address: IPv6 may be missing.
pub fn has_address(ip: IpAddr) -> bool {
    TcpListener::bind((ip, 0)).is_ok()
}

/// Increments by emoji.
pub type Sums = BTreeMap<String, u64>;

/// Adds what one message of the eps stream says.
#[track_caller]
pub fn add_sums(sums: &mut Sums, data: &str) {
    let object: serde_json::Value =
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data:?}"));
    let pairs = object.as_object().expect("an object");
    assert!(!pairs.is_empty(), "an empty message says nothing");
    for (key, count) in pairs {
        let count = count.as_u64().expect("a whole number");
        assert!(count > 0, "a count of nothing in {data:?}");
        *sums.entry(key.clone()).or_default() += count;
    }
}

/// A number that no other call in this process returns.
pub fn unique_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A directory that lives as long as its owner.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    pub fn create() -> TemporaryDirectory {
        let name = format!("emojitrack-{}-{}", std::process::id(), unique_number());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        TemporaryDirectory(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // What is left of it does no harm, and a panic here would hide the test's own.
        let _left_behind = std::fs::remove_dir_all(&self.0);
    }
}

/// The wall clock.
pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock").as_secs()
}
