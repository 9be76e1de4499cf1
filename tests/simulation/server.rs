//! The server under test, as deployers may have configured it.

use std::time::Duration;

use emojitrack_streamer::engine::Settings;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::source::redis::Topics;
use emojitrack_streamer::source::{Address, Endpoint};

/// The longest silence on a stream.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// What a deployer may have chosen: lifetimes only where closes are forced.
pub fn settings(random: &mut Random, forces: bool) -> Settings {
    let lifetime = Duration::from_secs(1);
    Settings {
        node: "rust-test-sim.1".to_owned(),
        epoch: random.next_u64(),
        score_lifetime: forces.then(|| random.between(lifetime, 3 * lifetime)),
        detail_lifetime: forces.then(|| random.between(lifetime, 3 * lifetime)),
        trusted_proxies: 0,
        sockets_max: usize::MAX,
        public_sockets_max: usize::MAX,
        connections_max: usize::MAX,
        connections_per_ip_max: usize::MAX,
        drain: Duration::from_secs(2),
        status_rows_max: 10,
        raw_enabled: true,
        kiosk_enabled: true,
        channels: Vec::new(),
        publish_key: None,
        has_no_broker: false,
        channel_linger: Duration::from_secs(1),
        channel_stats_max: 10,
        page_enabled: false,
        admin_token: None,
        admin_is_apart: false,
        keepalive: KEEPALIVE,
        // Nothing is to be lost across forced closes, so there must be room for what was missed.
        log_bytes_max: if forces || random.one_in(2) {
            16 * 1024 * 1024
        } else {
            256 * 1024
        },
        force_refresh: forces,
        score_retry_ms: random.one_in(2).then_some(100),
        detail_retry_ms: random.one_in(2).then_some(500),
        // Small ones, so that fan-outs are cut into slices although there are few clients.
        reads_per_turn: [3, 256][random.below(2) as usize],
        writes_per_turn: [1, 10, 512][random.below(3) as usize],
        paced_subscribers_min: [1, 8, 1_000][random.below(3) as usize],
        verbose: random.one_in(2),
    }
}

/// Where the simulated broker is.
pub fn endpoint(password: Option<String>) -> Endpoint {
    Endpoint {
        address: Address::Tcp {
            host: "broker".to_owned(),
            port: 6379,
        },
        username: None,
        password,
        db: 0,
    }
}

/// What the emoji streams are fed by.
pub fn topics() -> Topics {
    Topics {
        channels: vec!["stream.score_updates".to_owned()],
        optional: vec!["stream.admin.cleanup".to_owned()],
        patterns: vec![
            "stream.tweet_updates.*".to_owned(),
            "stream.interaction.*".to_owned(),
        ],
    }
}
