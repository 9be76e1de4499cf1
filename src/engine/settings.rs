//! Settings: what a deployer may change about the engine, already validated. It owns no defaults (those
//! stand in `config`) and must not be changed after the start.

use std::time::Duration;

use super::hub::Stream;
use crate::limits;
use crate::proto::authorization::Secret;
use crate::proto::glob::Glob;

/// The engine's part of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What tells this process's event ids and relays from those of any other.
    pub epoch: u64,
    /// The name this process reports itself by: `rust-<environment>-<DYNO or host name>`.
    pub node: String,
    /// Whether `/subscribe/raw` exists.
    pub raw_enabled: bool,
    /// Whether `/subscribe/kiosk_interaction` exists.
    pub kiosk_enabled: bool,
    /// Which channels may be asked for; none at all where this is empty.
    pub channels: Vec<Glob>,
    /// What may publish; without one, nobody may.
    pub publish_key: Option<Secret>,
    /// Whether what is published goes nowhere but to our own subscribers.
    pub has_no_broker: bool,
    /// For how long a channel is kept, and listened to, after its last subscriber has left.
    pub channel_linger: Duration,
    /// Channels whose subscribers are counted in reports.
    pub channel_stats_max: usize,
    /// Whether `/` shows the live page.
    pub page_enabled: bool,
    /// What `/admin` and `/metrics` are shown for; without one, to everybody.
    pub admin_token: Option<Secret>,
    /// Whether those are served to clients who came through the door for them, and to nobody else.
    pub admin_is_apart: bool,
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
    /// How long a score stream lasts at most before it is closed by force; `None` is for ever.
    pub score_lifetime: Option<Duration>,
    /// The same for all other streams.
    pub detail_lifetime: Option<Duration>,
    /// How many proxies in front of us are trusted to say whom they talk to.
    pub trusted_proxies: usize,
    /// Accepted sockets at most.
    pub sockets_max: usize,
    /// Accepted sockets at which no further ones are accepted through the public door.
    pub public_sockets_max: usize,
    /// Subscribers at most.
    pub connections_max: usize,
    /// Subscribers of one address at most.
    pub connections_per_ip_max: usize,
    /// Connections listed in the status that is written to Redis.
    pub status_rows_max: usize,
    /// How long the end may take.
    pub drain: Duration,
    /// Reads from clients in one turn.
    pub reads_per_turn: usize,
    /// Writes to clients in one turn.
    pub writes_per_turn: usize,
    /// Subscribers of a namespace from which on its messages are gathered for some hundred microseconds.
    pub paced_subscribers_min: usize,
    /// Whether each connect and disconnect is logged.
    pub verbose: bool,
}

impl Settings {
    /// Whether what is about the server is kept from others, by the token or by the door. Then pages of other
    /// origins must not read it either: a browser can be where others cannot, as at a port of loopback.
    pub fn is_admin_guarded(&self) -> bool {
        self.admin_is_apart || self.admin_token.is_some()
    }

    /// Bounds what is accepted by the process's descriptors, of which the listening sockets take some.
    pub fn fit_into(&mut self, descriptors: usize, listeners: usize) {
        let others = limits::DESCRIPTORS_RESERVED + listeners;
        self.sockets_max = descriptors.saturating_sub(others).max(2);
        let of_admin = match self.admin_is_apart {
            true => limits::ADMIN_SOCKETS_RESERVED.min(self.sockets_max / 2),
            false => 0,
        };
        let public = self.sockets_max - of_admin;
        self.public_sockets_max = public;
        // Some are left to requests, among them those that are told that there is no room.
        let room = public - (public / 16).max(1);
        self.connections_max = self.connections_max.min(room.max(1));
    }

    /// `retry:` of a stream in milliseconds, if one is sent.
    pub fn retry_of(&self, stream: Stream) -> Option<u32> {
        if stream.is_score() {
            self.score_retry_ms
        } else {
            self.detail_retry_ms
        }
    }

    /// How long a stream lasts at most.
    pub fn lifetime_of(&self, stream: Stream) -> Option<Duration> {
        if stream.is_score() {
            self.score_lifetime
        } else {
            self.detail_lifetime
        }
    }

    /// What the head of a stream says beside the usual.
    pub fn stream_head_extra(&self) -> &'static str {
        if self.force_refresh {
            "X-Sse-Cleanup-Requested: true\r\n"
        } else {
            ""
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Settings with which little is possible.
    pub fn settings() -> Settings {
        Settings {
            node: String::new(),
            epoch: 0,
            score_lifetime: None,
            detail_lifetime: None,
            trusted_proxies: 0,
            sockets_max: 1,
            public_sockets_max: 1,
            connections_max: 1,
            connections_per_ip_max: 1,
            drain: Duration::ZERO,
            status_rows_max: 1,
            raw_enabled: true,
            kiosk_enabled: false,
            page_enabled: false,
            admin_token: None,
            admin_is_apart: false,
            channels: Vec::new(),
            publish_key: None,
            has_no_broker: false,
            channel_linger: Duration::ZERO,
            channel_stats_max: 1,
            keepalive: Duration::from_secs(15),
            log_bytes_max: 0,
            force_refresh: false,
            score_retry_ms: None,
            detail_retry_ms: None,
            reads_per_turn: 1,
            writes_per_turn: 1,
            paced_subscribers_min: 1,
            verbose: false,
        }
    }

    #[test]
    fn descriptors_bound_what_is_accepted() {
        // Descriptors, listening sockets, whether the admin has a door and the configured bound; then the bounds
        // on sockets, on those at which the public door is closed, and on streams.
        let none = usize::MAX;
        let table = [
            (64, 1, false, none, (39, 39, 37)),
            (64, 2, true, none, (38, 30, 29)),
            (128, 32, true, none, (72, 64, 60)),
            (1_048_576, 1, false, none, (1_048_551, 1_048_551, 983_017)),
            (1_048_576, 2, true, none, (1_048_550, 1_048_542, 983_009)),
            (1_048_576, 1, false, 5, (1_048_551, 1_048_551, 5)),
            (36, 2, true, none, (10, 5, 4)),
            (30, 32, false, none, (2, 2, 1)),
            (0, 2, true, none, (2, 1, 1)),
        ];
        for (descriptors, listeners, admin_is_apart, connections_max, expected) in table {
            let mut settings = Settings {
                admin_is_apart,
                connections_max,
                ..settings()
            };
            settings.fit_into(descriptors, listeners);
            let bounds = (
                settings.sockets_max,
                settings.public_sockets_max,
                settings.connections_max,
            );
            assert_eq!(bounds, expected, "{descriptors}");
        }
    }
}
