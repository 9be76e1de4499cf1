//! The cluster: what all nodes have reported, as one document. It owns which rows count; it must not know how
//! they were asked for.

use std::time::Duration;

use serde_json::Value;

use crate::limits::NODE_SILENCE_MAX;

/// The rows of all nodes, on their way to a document.
pub struct Gathering {
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    fresh: Vec<(Vec<u8>, Vec<u8>)>,
    stale: u64,
    malformed: u64,
    unix_seconds: u64,
}

impl Gathering {
    /// Begins with the rows by their nodes' names, at this time.
    pub fn new(rows: Vec<(Vec<u8>, Vec<u8>)>, unix_seconds: u64) -> Gathering {
        Gathering {
            rows,
            fresh: Vec::new(),
            stale: 0,
            malformed: 0,
            unix_seconds,
        }
    }

    /// Looks at one row more, which takes some milliseconds where thousands of connections are listed; false
    /// when there is none left. Rows of nodes that have been silent for too long, and what is no report, are
    /// left out and counted.
    pub fn look_at_next(&mut self) -> bool {
        let Some((name, row)) = self.rows.pop() else {
            return false;
        };
        let silence = |at| Duration::from_secs(self.unix_seconds.saturating_sub(at));
        match reported_at(&row) {
            None => self.malformed += 1,
            Some(at) if silence(at) > NODE_SILENCE_MAX => self.stale += 1,
            Some(_) => self.fresh.push((name, row)),
        }
        true
    }

    /// Encodes what was looked at, as JSON: the rows as they were reported, in the order of the nodes' names.
    pub fn encode(mut self) -> Vec<u8> {
        self.fresh.sort_unstable();
        let (at, stale, malformed) = (self.unix_seconds, self.stale, self.malformed);
        let head = format!(
            "{{\"reported_at\":{at},\"stale\":{stale},\"malformed\":{malformed},\"nodes\":["
        );
        let mut out = head.into_bytes();
        for (index, (_, row)) in self.fresh.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(row.trim_ascii());
        }
        out.extend_from_slice(b"]}\n");
        out
    }
}

/// When a row was reported, in Unix seconds; `None` where it is no report. Servers in other languages may
/// write a fraction.
fn reported_at(row: &[u8]) -> Option<u64> {
    let document: Value = serde_json::from_slice(row).ok()?;
    let at = document.as_object()?.get("reported_at")?;
    at.as_u64().or_else(|| at.as_f64().map(|at| at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(rows: Vec<(Vec<u8>, Vec<u8>)>, unix_seconds: u64) -> Vec<u8> {
        let mut gathering = Gathering::new(rows, unix_seconds);
        while gathering.look_at_next() {}
        gathering.encode()
    }

    #[test]
    fn rows_that_are_fresh_are_shown_and_others_counted() {
        let row = |name: &str, row: &str| (name.as_bytes().to_vec(), row.as_bytes().to_vec());
        let rows = vec![
            row(
                "node-web.1",
                r#" {"node":"node-web.1","reported_at":999.5,"x":[1]} "#,
            ),
            row("mri-web.2", r#"{"node":"mri-web.2","reported_at":950}"#),
            row("old", r#"{"node":"old","reported_at":949}"#),
            row("ahead", r#"{"node":"ahead","reported_at":2000}"#),
            row("bad", r#"{"node":"bad""#),
            row("empty", ""),
            row("list", "[1]"),
            row("no time", r#"{"node":"no time"}"#),
            row("a text", r#"{"node":"x","reported_at":"now"}"#),
            (b"binary".to_vec(), vec![0xff, 0xfe]),
        ];
        let document: Value = serde_json::from_slice(&encode(rows, 1_000)).unwrap();
        let nodes = document["nodes"].as_array().unwrap();
        let nodes: Vec<&str> = nodes
            .iter()
            .filter_map(|node| node["node"].as_str())
            .collect();
        assert_eq!(nodes, ["ahead", "mri-web.2", "node-web.1"]);
        assert_eq!(document["reported_at"], 1_000);
        assert_eq!(
            (&document["stale"], &document["malformed"]),
            (&1.into(), &6.into())
        );
        let none: Value = serde_json::from_slice(&encode(Vec::new(), 7)).unwrap();
        assert_eq!(none["nodes"], serde_json::json!([]));
    }
}
