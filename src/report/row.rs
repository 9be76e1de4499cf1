//! The row in Redis: where all nodes leave their status, and the admin service reads it. It owns the commands;
//! it must not decide when they are sent.

/// The hash with one field a node.
const KEY: &[u8] = b"admin_stream_status";

/// Writes a node's status.
pub fn write<'a>(node: &'a str, document: &'a [u8]) -> [&'a [u8]; 4] {
    [b"HSET", KEY, node.as_bytes(), document]
}

/// Reads the names of all nodes. The rows themselves are read one by one: all at once, those of some thirty
/// nodes with a thousand connections each would be more than a reply may have.
pub fn names() -> [&'static [u8]; 2] {
    [b"HKEYS", KEY]
}

/// Reads a node's status.
pub fn read(node: &[u8]) -> [&[u8]; 3] {
    [b"HGET", KEY, node]
}

/// Removes a node.
pub fn remove(node: &str) -> [&[u8]; 3] {
    [b"HDEL", KEY, node.as_bytes()]
}
