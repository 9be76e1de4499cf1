//! Reports: the state of the server in the formats of its readers. It owns these formats and when each report is due;
//! of the server it reads `server::stats` only.

pub mod carbon;
pub mod cluster;
pub mod graphite;
pub mod metrics;
pub mod page;
pub mod recent;
pub mod row;
pub mod status;

use std::time::Duration;

use crate::broker::Unanswered;
use crate::http::reply::Reply;
use crate::limits;
use crate::server::stats::{CloseReason, Drop, Snapshot};

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

/// The reply with the metrics for Prometheus.
pub fn metrics_reply(snapshot: &Snapshot<'_>) -> Reply {
    Reply {
        content_type: Some(metrics::CONTENT_TYPE),
        ..Reply::json(200, metrics::encode(snapshot))
    }
}

/// The reply to a request that the broker did not answer, and when the client may retry.
pub fn no_answer(broker: &str, unanswered: &Unanswered) -> (Reply, Duration) {
    let reason = match unanswered {
        Unanswered::Refused(words) => format!("{broker} refuses: {words}"),
        Unanswered::Lost => format!("there is no connection to {broker}"),
        Unanswered::Full => format!("too much is waiting to be sent to {broker}"),
        Unanswered::Late => format!("{broker} does not answer"),
        Unanswered::Unsure => {
            format!("{broker} has not confirmed the message, which may have been published")
        }
    };
    let again_in = match unanswered {
        Unanswered::Refused(_) => limits::REFUSAL_RETRY,
        _ => limits::ANSWER_RETRY,
    };
    let reply = Reply {
        extra: format!("Retry-After: {}\r\n", again_in.as_secs()).into(),
        ..Reply::error(503, &reason)
    };
    (reply, again_in)
}

/// Each counter: its key in the status, the metric of Prometheus with its help text, the path in Graphite, the value.
#[rustfmt::skip]
fn totals(snapshot: &Snapshot<'_>) -> [(&'static str, &'static str, &'static str, &'static str, u64); 13] {
    const REPLAYS: &str = "Clients that reconnected with an event id, by whether the replay was possible.";
    let (counters, bus) = (snapshot.counters, snapshot.bus);
    [
        ("accepted", "connections_accepted_total", "Connections accepted.", "connections.accepted", counters.accepted),
        ("subscribed", "subscriptions_total", "Subscriptions accepted.", "subscriptions", counters.subscribed),
        ("shed", "subscriptions_shed_total", "Subscriptions shed because a limit was reached.", "shed", counters.shed),
        ("replayed", r#"replays_total{result="served"}"#, REPLAYS, "replays.served", counters.replayed),
        ("replay_refused", r#"replays_total{result="refused"}"#, REPLAYS, "replays.refused", counters.replay_refused),
        ("messages_in", "messages_received_total", "Messages received from the source.", "messages.in",
            counters.messages_in),
        ("frames", "frames_total", "Messages that had subscribers, plus ticks.", "frames", bus.kept),
        ("events_out", "events_sent_total", "Events sent, summed over all clients.", "events.out", counters.events_out),
        ("bytes_out", "bytes_sent_total", "Bytes sent to clients.", "bytes.out", counters.bytes_out),
        ("conflations", "conflations_total", "Events that sum up several ticks for a client that was behind.",
            "conflations", bus.conflations),
        ("publications", "publications_total", "Publications accepted from clients.", "publications",
            counters.published),
        ("auth_failures", "auth_failures_total", "Requests refused for a wrong secret, or for too many of them.",
            "auth.failures", counters.auth_failures),
        ("ticks", "ticks_total", "Ticks that had something to send.", "ticks.count", bus.ticks),
    ]
}

/// Streams ended, and connections without one closed, by reason.
fn closes(snapshot: &Snapshot<'_>) -> impl Iterator<Item = (&'static str, u64)> {
    let reasons = CloseReason::ALL.into_iter().map(CloseReason::name);
    reasons.zip(snapshot.counters.closes)
}

/// Messages dropped, by cause.
fn dropped(snapshot: &Snapshot<'_>) -> [(&'static str, u64); 5] {
    let count = |drop: Drop| snapshot.counters.dropped[drop as usize];
    [
        ("encoding", count(Drop::Encoding)),
        ("channel", count(Drop::Channel)),
        ("oversized", snapshot.bus.oversized + count(Drop::Size)),
        ("unknown", count(Drop::Unknown)),
        ("relay", count(Drop::Relay)),
    ]
}

/// An exact decimal fraction: a number with its last `places` digits after the point, without trailing zeros. Floating
/// point would round.
fn decimal(number: u64, places: u32) -> String {
    let unit = 10_u64.pow(places);
    let (whole, fraction, width) = (number / unit, number % unit, places as usize);
    let text = format!("{whole}.{fraction:0width$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
                // In the order of `Drop`.
                dropped: [107, 0, 108, 110, 112, 119],
                events_out: 113,
                // No floating-point number has this value.
                bytes_out: u64::MAX,
                published: 117,
                auth_failures: 118,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::stats::Histogram;

    #[test]
    fn numbers_are_exact_and_short() {
        let table = [
            (0, "0", "0"),
            (1, "0.000001", "0.001"),
            (100, "0.0001", "0.1"),
            (1_000, "0.001", "1"),
            (17_000, "0.017", "17"),
            (1_000_000, "1", "1000"),
            (1_000_010, "1.00001", "1000.01"),
            (10_100_000, "10.1", "10100"),
            (u64::MAX, "18446744073709.551615", "18446744073709551.615"),
        ];
        for (number, millionths, thousandths) in table {
            assert_eq!(decimal(number, 6), millionths, "{number}");
            assert_eq!(decimal(number, 3), thousandths, "{number}");
        }
    }

    #[test]
    fn histogram_bounds_are_exact() {
        let seconds = Histogram::BOUNDS_US.map(|bound| decimal(bound, 6));
        let expected =
            "0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.017 0.025 0.05 0.1 0.25 1 5";
        assert_eq!(seconds.join(" "), expected);
    }
}
