//! The server under test, in various configurations.

use std::time::Duration;

use emojitrack_streamer::broker::Topics;
use emojitrack_streamer::broker::redis::{Address, Endpoint};
use emojitrack_streamer::glob::Glob;
use emojitrack_streamer::random::Random;
use emojitrack_streamer::server::{Settings, settings};

/// The longest silence on a stream.
pub const KEEPALIVE: Duration = Duration::from_secs(15);

/// The size of a log from which nothing is evicted in a run.
pub const LARGE_LOG: usize = 16 * 1024 * 1024;

/// What a deployer may have chosen: lifetimes only where closes are forced.
pub fn settings(random: &mut Random, forces: bool) -> Settings {
    let epoch = random.next_u64();
    let lifetime = Duration::from_secs(1);
    let mut lifetime = || forces.then(|| random.between(lifetime, 3 * lifetime));
    let (score_lifetime, detail_lifetime) = (lifetime(), lifetime());
    // Nothing is to be lost across forced closes, so there must be room for what was missed.
    let log_bytes_max = if forces || random.one_in(2) {
        LARGE_LOG
    } else {
        256 * 1024
    };
    Settings {
        node: "rust-test-sim.1".to_owned(),
        epoch,
        streams: settings::Streams {
            raw_enabled: true,
            kiosk_enabled: true,
            force_refresh: forces,
            ids_enabled: false,
            score: settings::Reconnect {
                retry_ms: random.one_in(2).then_some(100),
                lifetime: score_lifetime,
            },
            detail: settings::Reconnect {
                retry_ms: random.one_in(2).then_some(500),
                lifetime: detail_lifetime,
            },
        },
        channels: settings::Channels {
            patterns: Vec::new(),
            patterns_enabled: true,
            publish_key: None,
            has_no_broker: false,
            linger: Duration::from_secs(1),
        },
        admission: settings::Admission {
            trusted_proxies: 0,
            sockets_max: usize::MAX,
            public_sockets_max: usize::MAX,
            sockets_per_network_max: None,
            connections_max: usize::MAX,
            connections_per_ip_max: usize::MAX,
        },
        // The simulated clients have other addresses than ours, and all of them ask for this host.
        access: settings::Access {
            admin_is_open: true,
            admin_hosts: vec!["a".to_owned()],
            ..settings::Access::default()
        },
        reports: settings::Reports {
            page_enabled: false,
            status_rows_max: 10,
            channel_stats_max: 10,
        },
        pacing: settings::Pacing {
            keepalive: KEEPALIVE,
            idle: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            drain_grace: Duration::from_secs(1),
            others_listen: random.one_in(2),
            log_bytes_max,
            // Small ones, so that fan-outs are cut into slices although there are few clients.
            reads_per_turn: [3, 256][random.below(2) as usize],
            writes_per_turn: [1, 10, 512][random.below(3) as usize],
            paced_subscribers_min: [1, 8, 1_000][random.below(3) as usize],
        },
        verbose: random.one_in(2),
    }
}

/// The same with these channels, which are kept for so long, and with a log of this size.
pub fn settings_with_channels(
    random: &mut Random,
    forces: bool,
    channels: &[&str],
    linger: Duration,
    log_bytes_max: usize,
) -> Settings {
    let mut settings = settings(random, forces);
    settings.channels.patterns = channels.iter().map(|name| Glob::new(name)).collect();
    settings.channels.linger = linger;
    settings.pacing.log_bytes_max = log_bytes_max;
    settings
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
