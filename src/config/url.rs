//! URLs: what the addresses of brokers and daemons have in common. It owns which parts of a refused address an error
//! may show; it must never show a password.

use std::net::Ipv6Addr;

use super::Misuse;
use super::given::{Given, digits};

const HIDDEN: &str = "(not shown, it may contain a password)";

pub(super) const NO_TLS: &str = "asks for TLS, which this build does not have: connect without it within a \
    private network, or through a local proxy that adds TLS";
pub(super) const NO_PASSWORD: &str =
    "has a user without a password, who cannot log in: use user:password@host";

/// Refuses an address.
pub(super) fn refuse(url: &Given, reason: &str) -> Misuse {
    url.refuse(&format!("{} {reason}", shown(&url.value, &url.value)))
}

/// A refused text for an error message, hidden unless the whole value consists of names, hosts and ports: anything
/// else might contain a password, or part of one that was not percent-encoded.
pub(super) fn shown(text: &str, typed: &str) -> String {
    let is_port = |after: &str| {
        let end = after.find([',', '/']).unwrap_or(after.len());
        digits::<u64>(&after[..end]).is_some()
    };
    let is_plain = |after: &str| after.starts_with("//") || is_port(after);
    let has_login = typed.contains(['@', '?', '#']) || typed.contains("/:");
    if has_login || !typed.split(':').skip(1).all(is_plain) {
        return HIDDEN.to_owned();
    }
    format!("{text:?}")
}

/// Parses `host[:port]`, with an IPv6 address in brackets. The unspecified addresses are refused, because one cannot
/// connect to them.
pub(super) fn host_and_port(place: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(literal) => {
            let (ip, port) = literal.split_once(']')?;
            let ip: Ipv6Addr = ip.parse().ok()?;
            ((!ip.is_unspecified()).then(|| ip.to_string())?, port)
        }
        None => {
            let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            let is_host = !host.is_empty() && host != "0.0.0.0" && host.bytes().all(is_part);
            (is_host.then(|| host.to_owned())?, port)
        }
    };
    let port = match port {
        "" => default_port,
        _ => digits(port.strip_prefix(':')?).filter(|&port| port > 0)?,
    };
    Some((host, port))
}
