//! Redis addresses: a list of URLs, as typed, becomes endpoints. It owns what such a URL may say and what
//! of a refused one may be shown; it must never show a password.

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::Misuse;
use super::raw::{Given, digits};
use crate::source::{Address, Endpoint};

pub(super) const REDIS_FORMS: &str = "is not a Redis address: use \
    redis://[user[:password]@]host[:port][/database] or redis+unix:///path[?db=number], \
    with special characters percent-encoded";
pub(super) const REDIS_NO_SCHEME: &str = "has no scheme: use redis://host:port";
pub(super) const REDIS_NO_TLS: &str = "asks for TLS, which this build does not have: use redis:// within a \
    private network, or through a local proxy that adds TLS";
pub(super) const REDIS_NO_PASSWORD: &str =
    "names a user without a password, who cannot log in: use redis://user:password@host";
pub(super) const REDIS_WILDCARD: &str =
    "names every machine and none: use a host such as localhost";
pub(super) const HIDDEN: &str = "(not shown, it may hold a password)";

/// The servers of a comma-separated list. A comma within a password has to be written `%2C`.
pub(super) fn endpoints(list: &Given) -> Result<Vec<Endpoint>, Misuse> {
    let mut endpoints = Vec::new();
    for (index, entry) in list.value.split(',').map(str::trim).enumerate() {
        let (name, place, shown) = (&list.name, index + 1, shown(entry, &list.value));
        let refused = |reason| Misuse(format!("{name}: address {place} {shown} {reason}"));
        endpoints.push(endpoint(entry).map_err(refused)?);
    }
    Ok(endpoints)
}

/// One Redis server, or what is wrong with its URL.
fn endpoint(entry: &str) -> Result<Endpoint, &'static str> {
    let (scheme, _) = entry.split_once("://").ok_or(REDIS_NO_SCHEME)?;
    if matches!(scheme.to_ascii_lowercase().as_str(), "rediss" | "valkeys") {
        return Err(REDIS_NO_TLS);
    }
    let url = redis::parse_redis_url(entry).ok_or(REDIS_FORMS)?;
    // A `#` or `?` in a password ends the address there, and the rest would vanish without a word.
    let cut_short = url.has_host() && url.query().is_some_and(|query| query.contains('@'));
    if cut_short || url.fragment().is_some() {
        return Err(REDIS_FORMS);
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        return Err(REDIS_WILDCARD);
    }
    let info = url.into_connection_info().map_err(|_| REDIS_FORMS)?;
    let address = match info.addr().clone() {
        ConnectionAddr::Tcp(host, port @ 1..) => Address::Tcp { host, port },
        ConnectionAddr::Unix(path) => Address::Unix(path),
        _ => return Err(REDIS_FORMS),
    };
    let login = info.redis_settings();
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (username, password) = (filled(login.username()), filled(login.password()));
    if username.is_some() && password.is_none() {
        return Err(REDIS_NO_PASSWORD);
    }
    let db = Some(login.db()).filter(|db| *db >= 0).ok_or(REDIS_FORMS)?;
    Ok(Endpoint {
        address,
        username,
        password,
        db,
    })
}

/// A refused text, if it and what it was typed with hold nothing but names, hosts and ports. Where there
/// might be a password, or a piece of one that was not percent-encoded, nothing is shown.
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
