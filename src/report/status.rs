//! The status document of one node, in the format of the admin service. It owns the field names; it must not know where
//! the document is sent.

use std::borrow::Cow;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::{closes, dropped, totals};
use crate::server::stats::{ChannelRow, ConnectionRow, Histogram, Snapshot, SourceState, Stream};

/// Encodes the document as JSON. Connections that do not fit into `bytes_max` are left out; `connections_total` still
/// counts them.
pub fn encode(snapshot: &Snapshot<'_>, bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + 256 * snapshot.connections.len());
    let (reported_at, startup_time) = (snapshot.reported_at, snapshot.startup_time);
    let connections_total = snapshot.connections_total;
    let (node, sent, stats) = (text(snapshot.node), snapshot.bus.kept, stats(snapshot));
    let _infallible = write!(
        out,
        "{{\"node\":{node},\"status\":\"OK\",\"reported_at\":{reported_at},\"startup_time\":{startup_time},\
         \"msgs_broadcast\":{sent},\"connections_total\":{connections_total},\"stats\":{stats},\"connections\":["
    );
    for (index, row) in snapshot.connections.iter().enumerate() {
        let end = out.len();
        if index > 0 {
            out.push(b',');
        }
        encode_row(&mut out, row);
        if out.len() > bytes_max {
            out.truncate(end);
            break;
        }
    }
    out.extend_from_slice(b"]}\n");
    out
}

/// Figures beyond those that the admin service reads.
fn stats(snapshot: &Snapshot<'_>) -> Value {
    let (bus, log, process) = (snapshot.bus, &snapshot.log, &snapshot.process);
    let streams = || Stream::ALL.into_iter().map(Stream::segment);
    let mut stats = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": millis(snapshot.uptime),
        "sockets": snapshot.sockets,
        "streams": streams().zip(snapshot.streams).collect::<Value>(),
        "messages_dropped": dropped(snapshot).into_iter().collect::<Value>(),
        "channels": snapshot.channels,
        "closes": closes(snapshot).collect::<Value>(),
        "tick_lateness": histogram(&bus.tick_lateness),
        "delivery": streams().zip(bus.delivery.iter().map(histogram)).collect::<Value>(),
        "log": { "bytes": log.bytes, "bytes_max": log.bytes_max, "frames": log.messages,
            "reach_sec": log.reach.as_secs() },
        "source": state(&snapshot.source),
        "exchange": snapshot.exchange.as_ref().map(state),
        "memory_bytes": process.resident_bytes,
        "cpu_ms": millis(process.cpu),
        "descriptors": process.descriptors,
        "descriptors_max": process.descriptors_max,
    });
    for (key, .., value) in totals(snapshot) {
        stats[key] = value.into();
    }
    stats
}

fn state(source: &SourceState<'_>) -> Value {
    json!({
        "kind": source.kind,
        "live": source.is_live,
        "for_ms": millis(source.since),
        "place": source.place,
        "losses": source.losses,
    })
}

fn histogram(histogram: &Histogram) -> Value {
    json!({
        "bounds_us": Histogram::BOUNDS_US,
        "counts": histogram.counts(),
        "sum_us": histogram.sum_us(),
    })
}

fn millis(span: Duration) -> u64 {
    span.as_millis() as u64
}

fn encode_row(out: &mut Vec<u8>, row: &ConnectionRow<'_>) {
    let (path, namespace) = (row.request_path, namespace_of(row.request_path));
    let (path, namespace) = (text(path), text(&namespace));
    let (created_at, age, client_ip) = (row.created_at, row.age, row.client_ip);
    let (msgs_sent, behind) = (row.msgs_sent, row.behind);
    let tag = row.tag.map_or_else(|| "null".to_owned(), foreign_text);
    let user_agent = text(row.user_agent);
    let _infallible = write!(
        out,
        "{{\"request_path\":{path},\"namespace\":{namespace},\"tag\":{tag},\"created_at\":{created_at},\
         \"age\":{age},\"client_ip\":\"{client_ip}\",\"user_agent\":{user_agent},\
         \"msgs_sent\":{msgs_sent},\"behind\":{behind}}}"
    );
}

/// The namespaces that a request subscribes to: those in the query if it has any, otherwise the one in the path.
fn namespace_of(path: &str) -> Cow<'_, str> {
    match path.split_once("?ns=") {
        Some((_, names)) => names.replace("&ns=", ",").into(),
        None => path.strip_prefix("/subscribe").unwrap_or(path).into(),
    }
}

fn text(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A client's text as a JSON string. The encoder escapes only ASCII control characters; others can control a terminal
/// as well, and somebody may view the document in one.
fn foreign_text(words: &str) -> String {
    let escaped = |letter: char| match letter.is_control() {
        true => format!("\\u{:04x}", u32::from(letter)),
        false => letter.to_string(),
    };
    text(words).chars().map(escaped).collect()
}

/// The channels and their subscribers for `/stats`, as a JSON list of pairs: `[["news", 2], ["sport", 1]]`.
pub fn encode_channels(rows: &[ChannelRow<'_>]) -> Vec<u8> {
    let pair = |row: &ChannelRow<'_>| format!("[{}, {}]", Value::from(row.name), row.subscribers);
    let pairs: Vec<String> = rows.iter().map(pair).collect();
    format!("[{}]\n", pairs.join(", ")).into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits;
    use crate::report::example;
    use crate::server::stats::{Counters, LogState, Process, bus};

    #[test]
    fn the_document_has_the_fields_that_the_admin_service_reads() {
        let counters = Counters::default();
        let bus = bus::Counters {
            kept: 7,
            ..bus::Counters::default()
        };
        let row = ConnectionRow {
            request_path: "/subscribe/details/1F4C2",
            tag: Some("1F4C2\"\u{e9}\u{9b}"),
            created_at: 90,
            age: 10,
            client_ip: [10, 0, 0, 1].into(),
            user_agent: "a \"browser\"\u{1}",
            msgs_sent: 3,
            behind: 1,
        };
        let other = ConnectionRow {
            request_path: "/subscribe/eps",
            tag: None,
            ..row.clone()
        };
        let snapshot = Snapshot {
            node: "rust-production-web.1",
            reported_at: 100,
            startup_time: 50,
            uptime: Duration::from_secs(50),
            counters: &counters,
            bus: &bus,
            sockets: 10,
            streams: [0, 7, 2, 0, 0, 0],
            channels: 0,
            log: LogState::default(),
            source: SourceState {
                kind: "redis",
                is_live: true,
                since: Duration::from_secs(40),
                place: "redis://localhost:6379",
                losses: 1,
            },
            exchange: None,
            process: Process::default(),
            connections_total: 9,
            connections: vec![row, other],
        };
        let document = encode(&snapshot, usize::MAX);
        let text = String::from_utf8(document.clone()).unwrap();
        assert!(!text.trim_end().contains(char::is_control), "{text:?}");
        let mut document: Value = serde_json::from_slice(&document).unwrap();
        let stats = document.as_object_mut().unwrap().remove("stats").unwrap();
        assert_eq!(stats["streams"]["eps"], 7);
        assert_eq!(stats["source"]["for_ms"], 40_000);
        assert_eq!(stats["frames"], 7);
        assert_eq!(
            stats["tick_lateness"]["counts"].as_array().unwrap().len(),
            15
        );
        let expected = serde_json::json!({
            "node": "rust-production-web.1",
            "status": "OK",
            "reported_at": 100,
            "startup_time": 50,
            "msgs_broadcast": 7,
            "connections_total": 9,
            "connections": [
                {
                    "request_path": "/subscribe/details/1F4C2", "namespace": "/details/1F4C2",
                    "tag": "1F4C2\"\u{e9}\u{9b}", "created_at": 90, "age": 10, "client_ip": "10.0.0.1",
                    "user_agent": "a \"browser\"\u{1}", "msgs_sent": 3, "behind": 1,
                },
                {
                    "request_path": "/subscribe/eps", "namespace": "/eps",
                    "tag": null, "created_at": 90, "age": 10, "client_ip": "10.0.0.1",
                    "user_agent": "a \"browser\"\u{1}", "msgs_sent": 3, "behind": 1,
                },
            ],
        });
        assert_eq!(document, expected);
        let one_too_few = encode(&snapshot, usize::MAX).len() - 10;
        let document = encode(&snapshot, one_too_few);
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["connections"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn namespaces_come_from_the_path_or_the_query() {
        let table = [
            ("/subscribe/eps", "/eps"),
            ("/subscribe/details/2665", "/details/2665"),
            ("/subscribe?ns=/eps&ns=/details/2665", "/eps,/details/2665"),
            ("/subscribe/channels/a", "/channels/a"),
            ("/?ns=/channels/a&ns=/channels/b", "/channels/a,/channels/b"),
            ("/?ns=/channels/a?b", "/channels/a?b"),
            ("/subscribe/channels?ns=/channels/a", "/channels/a"),
            ("", ""),
        ];
        for (path, expected) in table {
            assert_eq!(namespace_of(path), expected, "for {path:?}");
        }
    }

    #[test]
    fn the_maximum_number_of_connections_fits_into_the_row_in_redis() {
        let totals = example::totals();
        let id = "1F1FA-1F1F8";
        let path = format!("/subscribe/details/{id}");
        // The longest row of an ordinary client.
        let row = ConnectionRow {
            request_path: &path,
            tag: Some(id),
            created_at: 1_700_000_000,
            age: 86_400,
            client_ip: [0x2001, 0xdb8, 1, 2, 0xffff, 0xffff, 0xffff, 0xffff].into(),
            user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 \
                (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            msgs_sent: 12_345,
            behind: 0,
        };
        let mut encoded = Vec::new();
        encode_row(&mut encoded, &row);
        assert!(encoded.len() < limits::STATUS_ROW_BYTES);
        let snapshot = Snapshot {
            connections: vec![row; limits::STATUS_ROWS_MAX],
            ..example::snapshot(&totals)
        };
        let document = encode(&snapshot, limits::STATUS_BYTES_MAX);
        let document: Value = serde_json::from_slice(&document).unwrap();
        let listed = document["connections"].as_array().map(Vec::len);
        assert_eq!(listed, Some(limits::STATUS_ROWS_MAX));
    }

    #[test]
    fn pairs_in_a_list() {
        let row = |name, subscribers| ChannelRow { name, subscribers };
        let table: &[(&[ChannelRow<'_>], &str)] = &[
            (&[], "[]\n"),
            (
                &[row("a", 2), row("b\"", 1)],
                "[[\"a\", 2], [\"b\\\"\", 1]]\n",
            ),
        ];
        for (rows, expected) in table {
            assert_eq!(String::from_utf8(encode_channels(rows)).unwrap(), *expected);
        }
    }
}
