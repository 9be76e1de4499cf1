//! Channels: encodes the channels and their subscribers for `/stats`. It must not count.

use std::io::Write;

use crate::server::stats::ChannelRow;

/// A JSON list of pairs: `[["news", 2], ["sport", 1]]`.
pub fn encode(rows: &[ChannelRow<'_>]) -> Vec<u8> {
    let mut out = Vec::from(b"[");
    for (index, row) in rows.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        let name = serde_json::Value::from(row.name);
        let _infallible = write!(out, "{separator}[{name}, {}]", row.subscribers);
    }
    out.extend_from_slice(b"]\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(String::from_utf8(encode(rows)).unwrap(), *expected);
        }
    }
}
