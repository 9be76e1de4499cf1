//! The cluster document: the reports of all nodes. It owns which rows are included; it must not know how they are
//! fetched.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::limits::{DOCUMENT_BYTES_MAX, NODE_SILENCE_MAX, NODES_MAX};

/// A cluster document under construction.
pub struct Gathering {
    /// Nodes whose rows are still missing, in reverse order.
    names: Vec<Vec<u8>>,
    rows: Vec<u8>,
    stale: u64,
    malformed: u64,
    unix_seconds: u64,
}

impl Gathering {
    /// A document for the nodes with these names.
    pub fn new(mut names: Vec<Vec<u8>>, unix_seconds: u64) -> Gathering {
        names.sort_unstable_by(|one, other| other.cmp(one));
        names.truncate(NODES_MAX);
        Gathering {
            names,
            rows: Vec::new(),
            stale: 0,
            malformed: 0,
            unix_seconds,
        }
    }

    /// A document for one node that knows of no others, with its own row.
    pub fn alone(row: &[u8], unix_seconds: u64) -> Gathering {
        Gathering {
            rows: row.trim_ascii().to_vec(),
            ..Gathering::new(Vec::new(), unix_seconds)
        }
    }

    /// The node whose row is next, in alphabetical order.
    pub fn next_name(&mut self) -> Option<Vec<u8>> {
        self.names.pop()
    }

    /// Adds a row; one that lists thousands of connections takes some milliseconds. Rows that are stale or malformed
    /// are left out and counted. Once the document has reached its limit, rows are added without their connections.
    pub fn add(&mut self, row: &[u8]) {
        let Some((mut document, reported_at)) = parse(row) else {
            self.malformed += 1;
            return;
        };
        let silence = Duration::from_secs(self.unix_seconds.saturating_sub(reported_at));
        if silence > NODE_SILENCE_MAX {
            self.stale += 1;
            return;
        }
        if !self.rows.is_empty() {
            self.rows.push(b',');
        }
        if self.rows.len() + row.len() <= DOCUMENT_BYTES_MAX {
            self.rows.extend_from_slice(row.trim_ascii());
        } else {
            document.insert("connections".to_owned(), Value::Array(Vec::new()));
            let _infallible = serde_json::to_writer(&mut self.rows, &document);
        }
    }

    /// Encodes the document as JSON, with each row as it was reported.
    pub fn encode(self) -> Vec<u8> {
        let (at, stale, malformed) = (self.unix_seconds, self.stale, self.malformed);
        let counts = format!("\"stale\":{stale},\"malformed\":{malformed}");
        let head = format!("{{\"reported_at\":{at},{counts},\"nodes\":[");
        [head.as_bytes(), &self.rows, b"]}\n"].concat()
    }
}

/// A row and its time in Unix seconds; `None` if it is malformed. Servers in other languages may write a fraction.
fn parse(row: &[u8]) -> Option<(Map<String, Value>, u64)> {
    let Value::Object(document) = serde_json::from_slice(row).ok()? else {
        return None;
    };
    let at = document.get("reported_at")?;
    let at = at.as_u64().or_else(|| at.as_f64().map(|at| at as u64))?;
    Some((document, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(mut rows: Vec<(Vec<u8>, Vec<u8>)>, unix_seconds: u64) -> Vec<u8> {
        let names = rows.iter().map(|(name, _)| name.clone()).collect();
        let mut gathering = Gathering::new(names, unix_seconds);
        rows.sort();
        for (name, row) in rows {
            assert_eq!(gathering.next_name(), Some(name));
            gathering.add(&row);
        }
        assert_eq!(gathering.next_name(), None);
        gathering.encode()
    }

    #[test]
    fn lists_of_connections_do_not_exceed_the_limit_of_the_document() {
        let list = "0,".repeat(DOCUMENT_BYTES_MAX / 7);
        let row = format!(r#"{{"node":"n","reported_at":1,"connections":[{list}0]}}"#);
        let rows = (0..9).map(|number| (vec![number], row.clone().into_bytes()));
        let encoded = encode(rows.collect(), 1);
        assert!(encoded.len() < DOCUMENT_BYTES_MAX + 1_000);
        let document: Value = serde_json::from_slice(&encoded).unwrap();
        let lists = document["nodes"].as_array().unwrap().iter();
        let lens: Vec<usize> = lists
            .filter_map(|node| Some(node["connections"].as_array()?.len()))
            .collect();
        assert_eq!(lens.len(), 9);
        assert!(lens[0] > 0 && lens[8] == 0, "{lens:?}");
    }

    #[test]
    fn stale_and_malformed_rows_are_counted_and_left_out() {
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
        let alone = Gathering::alone(b"{\"reported_at\":7}\n", 7).encode();
        let expected =
            b"{\"reported_at\":7,\"stale\":0,\"malformed\":0,\"nodes\":[{\"reported_at\":7}]}\n";
        assert_eq!(alone, expected);
        let none: Value = serde_json::from_slice(&encode(Vec::new(), 7)).unwrap();
        assert_eq!(none["nodes"], serde_json::json!([]));
    }
}
