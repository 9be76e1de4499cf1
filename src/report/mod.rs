//! Reports: the state of the server in the formats of its readers. It owns these formats and when each report is due;
//! of the server it reads `server::stats` only.

pub mod admin;
pub mod carbon;
pub mod channels;
pub mod cluster;
mod decimal;
pub mod figures;
pub mod graphite;
mod html;
pub mod metrics;
pub mod names;
pub mod page;
pub mod recent;
pub mod row;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use crate::broker::Unanswered;
use crate::http::reply::Reply;
use crate::limits;
use crate::server::stats::Snapshot;

/// The reply to a health probe: 200, or 503 with a reason.
pub fn probe_reply(state: Result<(), &str>) -> Reply {
    let (status, word) = match state {
        Ok(()) => (200, "ok"),
        Err(reason) => (503, reason),
    };
    let body = format!("{word}\n").into_bytes();
    Reply {
        content_type: Some("text/plain; charset=utf-8"),
        ..Reply::json(status, body)
    }
}

/// The reply with the live page, as made by [`page::render`].
pub fn page_reply(page: &Arc<[u8]>) -> Reply {
    html::reply(page, &page::POLICY)
}

/// The reply with the admin page, [`admin::HTML`].
pub fn admin_reply(page: &Arc<[u8]>) -> Reply {
    html::reply(page, &admin::POLICY)
}

/// The reply with the metrics for Prometheus.
pub fn metrics_reply(snapshot: &Snapshot<'_>) -> Reply {
    Reply {
        content_type: Some(metrics::CONTENT_TYPE),
        ..Reply::json(200, metrics::encode(snapshot))
    }
}

/// The reply to a request that the broker did not answer, and when the client may retry.
pub fn no_answer(broker: &str, unanswered: &Unanswered) -> (Reply, Duration) {
    let (words, again_in) = match unanswered {
        Unanswered::Refused(words) => (format!("{broker} refuses: {words}"), limits::REFUSAL_RETRY),
        Unanswered::Lost => (
            format!("there is no connection to {broker}"),
            limits::ANSWER_RETRY,
        ),
        Unanswered::Full => (
            format!("{broker} does not take so much at a time"),
            limits::ANSWER_RETRY,
        ),
        Unanswered::Late => (format!("{broker} does not answer"), limits::ANSWER_RETRY),
    };
    let extra = format!("Retry-After: {}\r\n", again_in.as_secs()).into();
    let reply = Reply {
        extra,
        ..Reply::error(503, &words)
    };
    (reply, again_in)
}

/// Messages dropped by cause, with the name that all reports use for the cause.
fn dropped(snapshot: &Snapshot<'_>) -> [(&'static str, u64); 5] {
    let counters = snapshot.counters;
    [
        ("encoding", counters.dropped_encoding),
        ("channel", counters.dropped_channel),
        ("oversized", snapshot.bus.oversized),
        ("unknown", counters.dropped_unknown),
        ("relay", counters.dropped_relays),
    ]
}

#[cfg(test)]
mod example {
    //! Test data for several reports: no two figures are equal.

    use std::time::Duration;

    use crate::server::stats::bus;
    use crate::server::stats::{Counters, Histogram, LogState, Process, Snapshot, SourceState};

    /// All counters.
    #[derive(Clone, Default)]
    pub(super) struct Totals {
        pub counters: Counters,
        pub bus: bus::Counters,
    }

    pub(super) fn histogram(observations: &[(u64, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        for &(micros, times) in observations {
            histogram.observe(Duration::from_micros(micros), times);
        }
        histogram
    }

    pub(super) fn totals() -> Totals {
        Totals {
            counters: Counters {
                accepted: 101,
                subscribed: 102,
                shed: 103,
                replayed: 104,
                replay_refused: 105,
                closes: std::array::from_fn(|index| 200 + index as u64),
                messages_in: 106,
                dropped_encoding: 107,
                dropped_channel: 108,
                dropped_unknown: 110,
                dropped_relays: 112,
                events_out: 113,
                // No floating-point number has this value.
                bytes_out: u64::MAX,
                published: 117,
            },
            bus: bus::Counters {
                oversized: 109,
                kept: 111,
                conflations: 115,
                ticks: 116,
                tick_lateness: histogram(&[(100, 2), (17_000, 3), (6_000_001, 1)]),
                delivery: [
                    histogram(&[(250, 5)]),
                    histogram(&[(1_500, 4)]),
                    Histogram::default(),
                    Histogram::default(),
                    Histogram::default(),
                    Histogram::default(),
                ],
            },
        }
    }

    pub(super) fn snapshot(totals: &Totals) -> Snapshot<'_> {
        Snapshot {
            node: "rust-production-web.1",
            reported_at: 1_700_000_100,
            startup_time: 1_700_000_000,
            uptime: Duration::from_secs(100),
            counters: &totals.counters,
            bus: &totals.bus,
            sockets: 19,
            streams: [2, 7, 5, 3, 4, 1],
            channels: 118,
            log: LogState {
                bytes: 120,
                bytes_max: 121,
                messages: 122,
                reach: Duration::from_secs(119),
            },
            source: SourceState {
                kind: "redis",
                is_live: true,
                since: Duration::from_secs(40),
                place: "redis://localhost:6379",
                losses: 123,
            },
            exchange: Some(SourceState {
                kind: "amqp",
                is_live: false,
                since: Duration::from_secs(2),
                place: "amqp://localhost:5672/",
                losses: 125,
            }),
            process: Process {
                resident_bytes: 124,
                cpu: Duration::from_millis(12_340),
                descriptors: 126,
                descriptors_max: 127,
            },
            connections_total: 17,
            connections: Vec::new(),
        }
    }
}
