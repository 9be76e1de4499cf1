//! Settings: what a deployer may change about the engine, already validated. It owns no defaults (those
//! stand in `config`) and must not be changed after the start.

use std::time::Duration;

/// The engine's part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name this process reports itself by: `rust-<environment>-<DYNO or host name>`.
    pub node: String,
    /// Whether `/subscribe/raw` exists.
    pub raw_enabled: bool,
    /// Whether `/subscribe/kiosk_interaction` exists.
    pub kiosk_enabled: bool,
    /// Whether `/` shows the live page.
    pub page_enabled: bool,
    /// The longest silence on a stream before a comment line is sent.
    pub keepalive: Duration,
    /// The bound on the shared message log, in bytes.
    pub log_bytes_max: usize,
    /// Whether clients are told that their closes do not reach us (`X-Sse-Cleanup-Requested`).
    pub force_refresh: bool,
    /// `retry:` of the score streams (raw, eps) in milliseconds; `None` sends a comment instead.
    pub score_retry_ms: Option<u32>,
    /// `retry:` of all other streams in milliseconds; `None` sends a comment instead.
    pub detail_retry_ms: Option<u32>,
    /// Reads from clients in one turn.
    pub reads_per_turn: usize,
    /// Writes to clients in one turn.
    pub writes_per_turn: usize,
    /// Whether each connect and disconnect is logged.
    pub verbose: bool,
}
