//! Settings: the configuration of the server, already validated. It owns no defaults, which are in `config`, and must not
//! be changed after the start.

use std::time::Duration;

use super::topics::Topic;
use crate::glob::Glob;
use crate::http::authorization::Secret;
use crate::limits;

/// The server's part of the configuration, grouped by who uses it. `Default` has no streams and no room for clients;
/// `config` fills it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Distinguishes this process's positions and relays from those of any other.
    pub epoch: u64,
    /// The name of this process in reports: `rust-<environment>-<DYNO or host name>`.
    pub node: String,
    /// Whether each connect and disconnect is logged.
    pub verbose: bool,
    /// Which emoji streams exist, and how streams end and are resumed.
    pub streams: Streams,
    /// Channels and publishing.
    pub channels: Channels,
    /// Who is accepted, and how many.
    pub admission: Admission,
    /// Who may see the pages about the server.
    pub access: Access,
    /// What pages and reports contain.
    pub reports: Reports,
    /// Budgets and intervals.
    pub pacing: Pacing,
}

/// Which emoji streams exist, and how streams end and are resumed.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// Whether `/subscribe/raw` exists.
    pub raw_enabled: bool,
    /// Whether `/subscribe/kiosk_interaction` exists.
    pub kiosk_enabled: bool,
    /// Whether clients are asked to request cleanups, because their closes do not reach us (`X-Sse-Cleanup-Requested`).
    pub force_refresh: bool,
    /// Whether all events have positions, also those of the emoji streams, unless a client asks for events without.
    pub ids_enabled: bool,
    /// The score streams: raw and eps.
    pub score: Reconnect,
    /// All other streams.
    pub detail: Reconnect,
}

/// When the streams of a family end, and how soon their clients return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconnect {
    /// `retry:` in milliseconds; `None` sends a comment instead.
    pub retry_ms: Option<u32>,
    /// The longest duration of a stream; `None` is forever.
    pub lifetime: Option<Duration>,
}

/// Channels and publishing.
#[derive(Clone, Debug, Default)]
pub struct Channels {
    /// Which channels clients may subscribe to; if this is empty, there are no channels.
    pub patterns: Vec<Glob>,
    /// Whether clients may subscribe to the patterns among these, and so to what is for one person alone.
    pub patterns_enabled: bool,
    /// The key for publishing; without one, clients cannot publish.
    pub publish_key: Option<Secret>,
    /// Whether publications go to this process's subscribers directly instead of through a broker.
    pub has_no_broker: bool,
    /// How long a channel is kept, and listened to, after its last subscriber has left.
    pub linger: Duration,
}

/// Who is accepted, and how many.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// How many proxies in front of us are trusted to name their clients.
    pub trusted_proxies: usize,
    /// The most connections.
    pub sockets_max: usize,
    /// The most connections of one network through the public door. `None` if there is no bound on its streams, and
    /// where connections come from proxies.
    pub sockets_per_network_max: Option<usize>,
    /// The number of connections at which no further ones are accepted through the public door.
    pub public_sockets_max: usize,
    /// The most subscribers.
    pub connections_max: usize,
    /// The most subscribers of one address.
    pub connections_per_ip_max: usize,
}

/// Who may see the pages about the server: see `server::access`.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// The token that the private pages require.
    pub admin_token: Option<Secret>,
    /// Whether they are served only through the admin's door.
    pub admin_is_apart: bool,
    /// Whether they are served to everybody.
    pub admin_is_open: bool,
    /// The names in lower case by which they may be requested, besides `localhost`.
    pub admin_hosts: Vec<String>,
}

/// What pages and reports contain.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    /// Whether `/` shows the live page.
    pub page_enabled: bool,
    /// Connections listed in the status that is written to Redis.
    pub status_rows_max: usize,
    /// Channels that reports list, the largest first.
    pub channel_stats_max: usize,
}

/// Budgets and intervals.
#[derive(Clone, Debug, Default)]
pub struct Pacing {
    /// The longest silence on a stream before a comment line is sent.
    pub keepalive: Duration,
    /// How long a connection may be idle between two requests.
    pub idle: Duration,
    /// The longest duration of a drain.
    pub drain: Duration,
    /// For how long at least connections without a request are kept in a drain, because one may be under way, and newcomers
    /// are answered.
    pub drain_grace: Duration,
    /// Whether other processes have the same socket or port, and answer newcomers in a drain.
    pub others_listen: bool,
    /// The bound on the shared message log, in bytes.
    pub log_bytes_max: usize,
    /// Reads from clients in one turn.
    pub reads_per_turn: usize,
    /// Writes to clients in one turn.
    pub writes_per_turn: usize,
    /// The number of subscribers from which on the messages of a namespace are gathered for a moment.
    pub paced_subscribers_min: usize,
}

impl Settings {
    /// Bounds the number of connections by the process's descriptors, of which the listening sockets take some.
    pub fn fit_into(&mut self, descriptors: usize, listeners: usize) {
        let others = limits::DESCRIPTORS_RESERVED + listeners;
        let sockets_max = descriptors.saturating_sub(others).max(2);
        let of_admin = match self.access.admin_is_apart {
            true => limits::ADMIN_SOCKETS_RESERVED.min(sockets_max / 2),
            false => 0,
        };
        let public = sockets_max - of_admin;
        // Some are left for other requests, including those that are told that there is no room.
        let room = public - (public / 16).max(1);
        let admission = &mut self.admission;
        admission.sockets_max = sockets_max;
        admission.public_sockets_max = public;
        admission.connections_max = admission.connections_max.min(room.max(1));
        let beside_streams = limits::SOCKETS_BESIDE_STREAMS;
        let of_network =
            (admission.connections_per_ip_max.saturating_mul(2)).saturating_add(beside_streams);
        let others = (public / limits::SOCKETS_FOR_OTHERS_PART).max(1);
        // Who sets no bound on the streams of an address lets it have them all, and others wait.
        let is_bounded =
            admission.connections_per_ip_max < usize::MAX && admission.trusted_proxies == 0;
        admission.sockets_per_network_max =
            is_bounded.then_some(of_network.min(public - others).max(1));
    }
}

impl Admission {
    /// Whether another connection can be accepted besides so many. Where there is an idle one, which makes room, there may
    /// be one too many until it is closed.
    pub fn has_room(&self, is_admin: bool, sockets: usize, has_idle: bool) -> bool {
        sockets < self.sockets_max(is_admin) || (has_idle && sockets <= self.sockets_max)
    }

    /// The most connections, through the admin's door or through the public one.
    pub fn sockets_max(&self, is_admin: bool) -> usize {
        match is_admin {
            true => self.sockets_max,
            false => self.public_sockets_max,
        }
    }
}

impl Streams {
    /// When a connection with these topics ends, and how soon its client returns.
    pub fn reconnect(&self, topics: &[Topic]) -> Reconnect {
        match topics.iter().all(|topic| topic.stream.is_score()) {
            true => self.score,
            false => self.detail,
        }
    }

    /// The additional header lines of a stream.
    pub fn head_extra(&self) -> &'static str {
        match self.force_refresh {
            true => "X-Sse-Cleanup-Requested: true\r\n",
            false => "",
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
            verbose: false,
            streams: Streams {
                raw_enabled: true,
                kiosk_enabled: false,
                force_refresh: false,
                ids_enabled: false,
                score: Reconnect::default(),
                detail: Reconnect::default(),
            },
            channels: Channels {
                patterns: Vec::new(),
                patterns_enabled: false,
                publish_key: None,
                has_no_broker: false,
                linger: Duration::ZERO,
            },
            admission: Admission {
                trusted_proxies: 0,
                sockets_max: 1,
                sockets_per_network_max: None,
                public_sockets_max: 1,
                connections_max: 1,
                connections_per_ip_max: 1,
            },
            access: Access::default(),
            reports: Reports {
                page_enabled: false,
                status_rows_max: 1,
                channel_stats_max: 1,
            },
            pacing: Pacing {
                keepalive: Duration::from_secs(15),
                idle: Duration::from_secs(10),
                drain: Duration::ZERO,
                drain_grace: Duration::ZERO,
                others_listen: false,
                log_bytes_max: 0,
                reads_per_turn: 1,
                writes_per_turn: 1,
                paced_subscribers_min: 1,
            },
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
            let mut settings = settings();
            settings.access.admin_is_apart = admin_is_apart;
            settings.admission.connections_max = connections_max;
            settings.fit_into(descriptors, listeners);
            let bounds = (
                settings.admission.sockets_max,
                settings.admission.public_sockets_max,
                settings.admission.connections_max,
            );
            assert_eq!(bounds, expected, "{descriptors}");
        }
    }

    #[test]
    fn a_network_leaves_sockets_to_others() {
        // Descriptors, trusted proxies, the bound on an address's streams, and that on a network's sockets.
        let none = usize::MAX;
        let table = [
            (65_536, 0, none, None),
            (65_536, 0, 4, Some(40)),
            (65_536, 1, 4, None),
            (64, 0, 4, Some(38)),
            (65_536, 0, 60_000, Some(63_464)),
            (0, 0, 4, Some(1)),
        ];
        for (descriptors, trusted_proxies, connections_per_ip_max, expected) in table {
            let mut settings = settings();
            settings.admission.trusted_proxies = trusted_proxies;
            settings.admission.connections_per_ip_max = connections_per_ip_max;
            settings.fit_into(descriptors, 1);
            let most = settings.admission.sockets_per_network_max;
            assert_eq!(most, expected, "{descriptors} {connections_per_ip_max}");
        }
    }

    #[test]
    fn an_idle_connection_is_room_for_one_more() {
        let admission = Admission {
            sockets_max: 9,
            public_sockets_max: 6,
            ..Admission::default()
        };
        // Whether for the admin, how many there are, whether one is idle, and whether there is room.
        let table = [
            (false, 5, false, true),
            (false, 6, false, false),
            (false, 6, true, true),
            (false, 9, true, true),
            (false, 10, true, false),
            (true, 8, false, true),
            (true, 9, false, false),
            (true, 9, true, true),
            (true, 10, true, false),
        ];
        for (is_admin, sockets, has_idle, expected) in table {
            let has_room = admission.has_room(is_admin, sockets, has_idle);
            assert_eq!(has_room, expected, "{is_admin} {sockets} {has_idle}");
        }
    }
}
