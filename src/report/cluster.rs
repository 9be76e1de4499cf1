//! The cluster document: the reports of all nodes. It owns which rows are included; it must not know how they are
//! fetched.

use std::fmt;
use std::time::Duration;

use serde_core::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

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
    /// are left out and counted. Once the document has reached its limit, rows are added without
    /// their connections; one that is too long even so counts as malformed.
    pub fn add(&mut self, row: &[u8]) {
        let parsed = serde_json::from_slice(row).ok();
        let Some((row_alone, reported_at)) = parsed.and_then(|Row(alone, at)| Some((alone, at?)))
        else {
            self.malformed += 1;
            return;
        };
        let silence = Duration::from_secs(self.unix_seconds.saturating_sub(reported_at));
        if silence > NODE_SILENCE_MAX {
            self.stale += 1;
            return;
        }
        let row = match self.rows.len() + row.len() <= DOCUMENT_BYTES_MAX {
            true => row.trim_ascii(),
            false => &row_alone,
        };
        if self.rows.len() + row.len() > 2 * DOCUMENT_BYTES_MAX {
            self.malformed += 1;
            return;
        }
        if !self.rows.is_empty() {
            self.rows.push(b',');
        }
        self.rows.extend_from_slice(row);
    }

    /// Encodes the document as JSON, with each row as it was reported.
    pub fn encode(self) -> Vec<u8> {
        let (at, stale, malformed) = (self.unix_seconds, self.stale, self.malformed);
        let counts = format!("\"stale\":{stale},\"malformed\":{malformed}");
        let head = format!("{{\"reported_at\":{at},{counts},\"nodes\":[");
        [head.as_bytes(), &self.rows, b"]}\n"].concat()
    }
}

/// A row without its connections, and its time in Unix seconds. No value is parsed, because a parsed document takes up to
/// a hundred times its size, and anybody who has the broker's password may write one.
struct Row(Vec<u8>, Option<u64>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Row, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the row of a node")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
        let (mut alone, mut reported_at) = (b"{".to_vec(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "connections" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&RawValue>()?.get();
            if name == "reported_at" {
                // Servers in other languages may write a fraction.
                let seconds = serde_json::from_str::<f64>(value).ok();
                reported_at = seconds.map(|seconds| seconds as u64);
            }
            let _infallible = serde_json::to_writer(&mut alone, &name);
            alone.extend_from_slice(format!(":{value},").as_bytes());
        }
        alone.extend_from_slice(b"\"connections\":[]}");
        Ok(Row(alone, reported_at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
        let row = format!(
            r#"{{"node":"n","reported_at":1,"x":{{"y":[1,"\""]}},"connections":[{list}0]}}"#
        );
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
        let figures: Vec<&Value> = document["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["x"])
            .collect();
        assert_eq!(figures, [&serde_json::json!({"y": [1, "\""]}); 9]);
    }

    #[test]
    fn rows_that_are_too_long_without_connections_are_left_out() {
        let long = "0,".repeat(DOCUMENT_BYTES_MAX);
        let row = format!(r#"{{"node":"n","reported_at":1,"x":[{long}0]}}"#);
        let rows = (0..2).map(|number| (vec![number], row.clone().into_bytes()));
        let document: Value = serde_json::from_slice(&encode(rows.collect(), 1)).unwrap();
        assert_eq!(document["malformed"], 2);
        assert_eq!(document["nodes"], serde_json::json!([]));
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
