//! `X-Forwarded-For`: the client's address according to a chain of proxies. It owns the formats of the field; it must not
//! decide how many proxies are trusted.

use std::net::{IpAddr, SocketAddr};

/// The `hops`-th address from the right in all lines of the field together. Each trusted proxy has appended the address
/// of its peer, so what is further left is not trustworthy. `None` if `hops` is zero, or if there is no address there.
pub fn client_address(lines: &[impl AsRef<[u8]>], hops: usize) -> Option<IpAddr> {
    let entries = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_ref().rsplit(|&byte| byte == b','));
    let entry = entries.into_iter().nth(hops.checked_sub(1)?)?;
    parse_address(std::str::from_utf8(entry.trim_ascii()).ok()?)
}

/// Parses an address as proxies write it: with or without a port, with or without brackets for IPv6, quoted or not. IPv4
/// mapped into IPv6 becomes IPv4.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address: Option<IpAddr> = text.parse().ok().or_else(bracketed).or_else(with_port);
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trusted_proxies_word_is_taken_and_no_other() {
        let table: &[(&[&str], usize, Option<&str>)] = &[
            (&["10.0.0.1"], 1, Some("10.0.0.1")),
            (&["10.0.0.1"], 0, None),
            (&["10.0.0.1"], 2, None),
            (&["6.6.6.6, 10.0.0.1"], 1, Some("10.0.0.1")),
            (&["6.6.6.6, 10.0.0.1"], 2, Some("6.6.6.6")),
            (&["6.6.6.6", "10.0.0.1,10.0.0.2"], 1, Some("10.0.0.2")),
            (&["6.6.6.6", "10.0.0.1,10.0.0.2"], 3, Some("6.6.6.6")),
            (&["10.0.0.1:4711"], 1, Some("10.0.0.1")),
            (&["2001:db8::1"], 1, Some("2001:db8::1")),
            (&["[2001:db8::1]"], 1, Some("2001:db8::1")),
            (&["\"[2001:db8::1]:443\""], 1, Some("2001:db8::1")),
            (&["::ffff:10.0.0.1"], 1, Some("10.0.0.1")),
            (&["  10.0.0.1\t"], 1, Some("10.0.0.1")),
            (&["unknown"], 1, None),
            (&["10.0.0.1, "], 1, None),
            (&["10.0.0.999"], 1, None),
            (&["[::1"], 1, None),
            (&[""], 1, None),
            (&[], 1, None),
        ];
        for (lines, hops, expected) in table {
            let bytes: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            let got = client_address(&bytes, *hops).map(|address| address.to_string());
            assert_eq!(got.as_deref(), *expected, "{lines:?} with {hops}");
        }
    }
}
