//! The status document of one node, as the admin service reads it. It owns its names; it must not know
//! where it goes.

use std::io::Write;

use crate::engine::stats::{ConnectionRow, Snapshot};

/// Encodes the document, as JSON. Connections that do not fit into `bytes_max` are left out; the total
/// beside them is true.
pub fn encode(snapshot: &Snapshot<'_>, bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + 256 * snapshot.connections.len());
    out.extend_from_slice(b"{\"node\":");
    text(&mut out, snapshot.node);
    let _infallible = write!(
        out,
        ",\"status\":\"OK\",\"reported_at\":{},\"startup_time\":{},\"msgs_broadcast\":{},\"connections_total\":{},\"connections\":[",
        snapshot.reported_at,
        snapshot.startup_time,
        snapshot.counters.frames,
        snapshot.connections_total,
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

fn encode_row(out: &mut Vec<u8>, row: &ConnectionRow<'_>) {
    let namespace = row
        .request_path
        .strip_prefix("/subscribe")
        .unwrap_or(row.request_path);
    out.extend_from_slice(b"{\"request_path\":");
    text(out, row.request_path);
    out.extend_from_slice(b",\"namespace\":");
    text(out, namespace);
    out.extend_from_slice(b",\"tag\":");
    match row.tag {
        Some(tag) => text(out, tag),
        None => out.extend_from_slice(b"null"),
    }
    let _infallible = write!(
        out,
        ",\"created_at\":{},\"age\":{},\"client_ip\":\"{}\",\"user_agent\":",
        row.created_at, row.age, row.client_ip,
    );
    text(out, row.user_agent);
    let _infallible = write!(out, ",\"msgs_sent\":{}}}", row.msgs_sent);
}

/// A JSON string.
fn text(out: &mut Vec<u8>, text: &str) {
    let _infallible = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::stats::Counters;

    #[test]
    fn the_document_has_the_names_that_the_admin_service_reads() {
        let counters = Counters {
            frames: 7,
            ..Counters::default()
        };
        let row = ConnectionRow {
            request_path: "/subscribe/details/1F4C2",
            tag: Some("1F4C2"),
            created_at: 90,
            age: 10,
            client_ip: [10, 0, 0, 1].into(),
            user_agent: "a \"browser\"\u{1}",
            msgs_sent: 3,
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
            counters: &counters,
            connections_total: 9,
            connections: vec![row, other],
        };
        let document: serde_json::Value =
            serde_json::from_slice(&encode(&snapshot, usize::MAX)).unwrap();
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
                    "tag": "1F4C2", "created_at": 90, "age": 10, "client_ip": "10.0.0.1",
                    "user_agent": "a \"browser\"\u{1}", "msgs_sent": 3,
                },
                {
                    "request_path": "/subscribe/eps", "namespace": "/eps",
                    "tag": null, "created_at": 90, "age": 10, "client_ip": "10.0.0.1",
                    "user_agent": "a \"browser\"\u{1}", "msgs_sent": 3,
                },
            ],
        });
        assert_eq!(document, expected);
        let document = encode(&snapshot, 400);
        let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
        assert_eq!(document["connections"].as_array().map(Vec::len), Some(1));
    }
}
