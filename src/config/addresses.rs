//! Addresses: parses those of Redis, AMQP and Graphite, and what the paths of metrics begin with. It owns their forms,
//! and which parts of a refused address an error may show; it must never show a password or a key.

use std::net::Ipv6Addr;

use ::redis::{ConnectionAddr, IntoConnectionInfo};

use super::Misuse;
use super::given::{Given, digits};
use crate::broker::link::{Target, Transport};
use crate::broker::{amqp, redis};
use crate::http::target::percent_decode;
use crate::limits::AMQP_NAME_BYTES_MAX;
use crate::report::graphite::{path, segment};

const HIDDEN: &str = "(not shown, it may contain a password)";

pub(super) const NO_TLS: &str = "asks for TLS, which this build does not have: connect without it within a \
    private network, or through a local proxy that adds TLS";
const NO_PASSWORD: &str =
    "has a user without a password, who cannot log in: use user:password@host";

/// Refuses an address.
fn refuse(url: &Given, reason: &str) -> Misuse {
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
fn host_and_port(place: &str, default_port: u16) -> Option<(String, u16)> {
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

const REDIS_FORMS: &str = "is not a Redis address: use \
    redis://[user[:password]@]host[:port][/database] or redis+unix:///path[?db=number], \
    with special characters percent-encoded";
const REDIS_NO_SCHEME: &str = "has no scheme: use redis://host:port";
const REDIS_WILDCARD: &str =
    "has the unspecified address, which cannot be connected to: use a host such as localhost";

/// Parses a comma-separated list. A comma within a password must be written as `%2C`.
pub(super) fn redis_endpoints(list: &Given) -> Result<Vec<redis::Endpoint>, Misuse> {
    let numbered = (1..).zip(list.entries());
    let endpoints = numbered.map(|(place, entry)| {
        redis_endpoint(entry).map_err(|reason| {
            let shown = shown(entry, &list.value);
            list.refuse(&format!("address {place} {shown} {reason}"))
        })
    });
    endpoints.collect()
}

/// Parses one URL; the error is the reason for the refusal.
fn redis_endpoint(entry: &str) -> Result<redis::Endpoint, &'static str> {
    let (scheme, _) = entry.split_once("://").ok_or(REDIS_NO_SCHEME)?;
    if matches!(scheme.to_ascii_lowercase().as_str(), "rediss" | "valkeys") {
        return Err(NO_TLS);
    }
    let url = ::redis::parse_redis_url(entry).ok_or(REDIS_FORMS)?;
    // A bare `#` or `?` in a password would end the address there, and the rest would be ignored silently.
    let cut_short = url.has_host() && url.query().is_some_and(|query| query.contains('@'));
    if cut_short || url.fragment().is_some() {
        return Err(REDIS_FORMS);
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        return Err(REDIS_WILDCARD);
    }
    let info = url.into_connection_info().map_err(|_| REDIS_FORMS)?;
    let address = match info.addr().clone() {
        ConnectionAddr::Tcp(host, port @ 1..) => redis::Address::Tcp { host, port },
        // With a second URL in it, the path would be shown together with that one's password.
        ConnectionAddr::Unix(path) if !path.to_string_lossy().contains("://") => {
            redis::Address::Unix(path)
        }
        _ => return Err(REDIS_FORMS),
    };
    let login = info.redis_settings();
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (username, password) = (filled(login.username()), filled(login.password()));
    if username.is_some() && password.is_none() {
        return Err(NO_PASSWORD);
    }
    let db = Some(login.db()).filter(|db| *db >= 0).ok_or(REDIS_FORMS)?;
    Ok(redis::Endpoint {
        address,
        username,
        password,
        db,
    })
}

const AMQP_FORMS: &str = "is not an AMQP address: use amqp://[user:password@]host[:port][/vhost], with special \
    characters percent-encoded (the vhost / is the default), and nothing else";
const NOT_BUILT: &str = "this build has no AMQP support: build with --features amqp";

/// The default port of AMQP.
const AMQP_PORT: u16 = 5672;

/// The broker; `rules` adds the exchange. A build without AMQP refuses the address, because channels would silently
/// stay empty.
pub(super) fn amqp_endpoint(url: &Given) -> Result<amqp::Endpoint, Misuse> {
    match cfg!(feature = "amqp") {
        true => parse_amqp(&url.value).map_err(|reason| refuse(url, reason)),
        false => Err(url.refuse(NOT_BUILT)),
    }
}

pub(super) fn exchange(given: &Given) -> Result<String, Misuse> {
    let name = &given.value;
    match name.len() <= AMQP_NAME_BYTES_MAX && !name.contains(char::is_control) {
        true => Ok(name.clone()),
        false => Err(given.is_not(&format!(
            "the name of an exchange: use 1 to {AMQP_NAME_BYTES_MAX} bytes, without control characters"
        ))),
    }
}

fn parse_amqp(url: &str) -> Result<amqp::Endpoint, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or(AMQP_FORMS)?;
    match scheme.to_ascii_lowercase().as_str() {
        "amqp" => {}
        "amqps" => return Err(NO_TLS),
        _ => return Err(AMQP_FORMS),
    }
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    // A new broker has the user guest, whose password is guest.
    let (login, place) = authority
        .split_once('@')
        .unwrap_or(("guest:guest", authority));
    let login = login.split_once(':').filter(|login| !login.1.is_empty());
    let (username, password) = login.ok_or(NO_PASSWORD)?;
    let (host, port) = host_and_port(place, AMQP_PORT).ok_or(AMQP_FORMS)?;
    let username = decoded(username).filter(|name| !name.is_empty());
    let vhost = decoded(vhost).ok_or(AMQP_FORMS)?;
    Ok(amqp::Endpoint {
        host,
        port,
        username: username.ok_or(AMQP_FORMS)?,
        password: decoded(password).ok_or(AMQP_FORMS)?,
        // Every broker has this virtual host.
        vhost: if vhost.is_empty() {
            "/".to_owned()
        } else {
            vhost
        },
        exchange: String::new(),
        exchange_type: amqp::ExchangeType::Direct,
    })
}

/// Percent-decodes a part of an address. Delimiters must be encoded: a bare one probably means that the address was
/// split in the wrong place.
fn decoded(text: &str) -> Option<String> {
    let is_split = text.contains(['/', '?', '#', '@', ':']);
    let bytes = percent_decode(text.as_bytes(), b'+')
        .ok()
        .filter(|_| !is_split)?;
    let fits = bytes.len() <= AMQP_NAME_BYTES_MAX && !bytes.contains(&0);
    String::from_utf8(bytes).ok().filter(|_| fits)
}

const GRAPHITE_FORMS: &str = "is not a metrics address: use udp://host[:port] or tcp://host[:port], with an \
    IPv6 address in brackets, and nothing else";
const PATH_FORMS: &str = "letters, digits, - and _, separated by dots";

/// The default port of Carbon's plaintext protocol.
const CARBON_PORT: u16 = 2003;

/// Where metrics go if only the API key is set.
pub(super) fn hosted() -> Target {
    Target {
        transport: Transport::Udp,
        host: "carbon.hostedgraphite.com".to_owned(),
        port: CARBON_PORT,
    }
}

pub(super) fn graphite_target(url: &Given) -> Result<Target, Misuse> {
    let refused = || refuse(url, GRAPHITE_FORMS);
    let (scheme, place) = url.value.split_once("://").ok_or_else(refused)?;
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return Err(refused()),
    };
    let (host, port) = host_and_port(place, CARBON_PORT).ok_or_else(refused)?;
    Ok(Target {
        transport,
        host,
        port,
    })
}

pub(super) fn graphite_key(given: &Given) -> Result<String, Misuse> {
    fit(&given.value).ok_or_else(|| given.refuse_secret(PATH_FORMS))
}

pub(super) fn graphite_prefix(given: &Given) -> Result<String, Misuse> {
    fit(&given.value)
        .ok_or_else(|| given.is_not(&format!("the start of a metric's path: use {PATH_FORMS}")))
}

/// A path without superfluous dots. Other characters are refused, not replaced: a changed key would not work.
fn fit(text: &str) -> Option<String> {
    let is_fit = text.split('.').all(|part| segment(part) == part);
    Some(path(text)).filter(|path| is_fit && !path.is_empty())
}

/// The part of a metric's path that names this process. Dots in `DYNO` separate segments (`web.1`), as in the old
/// server; those in a host name do not, because they would spread one machine over several folders.
pub(super) fn place_segments(name: &str, is_given: bool) -> String {
    let clean = if is_given { path(name) } else { segment(name) };
    if clean.is_empty() {
        "localhost".to_owned()
    } else {
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::super::SourceConfig;
    use super::super::tests::{config, misuse, tcp};
    use super::*;

    fn endpoints(url: &str) -> Vec<redis::Endpoint> {
        match config(&[], &[("REDIS_URL", url)]).source {
            SourceConfig::Redis(endpoints) => endpoints,
            SourceConfig::Demo { .. } | SourceConfig::None => Vec::new(),
        }
    }

    #[test]
    fn redis_urls() {
        let login = |username: &str, password: &str| {
            let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            (filled(username), filled(password))
        };
        #[rustfmt::skip]
        let table = [
            ("redis://h", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
            ("redis://h:1/", tcp("h", 1), login("", ""), 0, "redis://h:1"),
            ("REDIS://h", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
            ("valkey://h:2/3", tcp("h", 2), login("", ""), 3, "redis://h:2/3"),
            ("redis://:secret@h", tcp("h", 6379), login("", "secret"), 0, "redis://h:6379"),
            ("redis://u:secret@h/1", tcp("h", 6379), login("u", "secret"), 1, "redis://u@h:6379/1"),
            ("redis://u%3A:a%2Cb%40%2F@h", tcp("h", 6379), login("u:", "a,b@/"), 0, "redis://u:@h:6379"),
            ("redis://u%0A:p@h", tcp("h", 6379), login("u\n", "p"), 0, "redis://u\\n@h:6379"),
            ("redis://a@b:p@h", tcp("h", 6379), login("a@b", "p"), 0, "redis://a@b@h:6379"),
            ("redis://[::1]", tcp("::1", 6379), login("", ""), 0, "redis://[::1]:6379"),
            ("redis://:p@[fe80::1]:7/2", tcp("fe80::1", 7), login("", "p"), 2, "redis://[fe80::1]:7/2"),
            ("redis://10.0.0.1:7", tcp("10.0.0.1", 7), login("", ""), 0, "redis://10.0.0.1:7"),
            ("redis://h/?protocol=resp3", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
        ];
        for (url, endpoint, (username, password), db, shown) in table {
            let expected = redis::Endpoint {
                username,
                password,
                db,
                ..endpoint
            };
            assert_eq!(endpoints(url), [expected], "{url}");
            assert_eq!(endpoints(url)[0].to_string(), shown);
            assert_eq!(
                format!("{:?}", endpoints(url)),
                format!("[Endpoint({shown})]")
            );
        }
    }

    #[test]
    fn redis_sockets_and_lists() {
        let socket = |path: &str| redis::Address::Unix(path.into());
        for url in [
            "unix:///run/r.sock",
            "redis+unix:///run/r.sock",
            "valkey+unix:///run/r.sock",
        ] {
            let expected = redis::Endpoint {
                address: socket("/run/r.sock"),
                ..tcp("", 0)
            };
            assert_eq!(endpoints(url), [expected], "{url}");
        }
        let found = endpoints("redis+unix:///a%20b?db=1&user=u%2F&pass=p%40%2Cq@");
        let expected = redis::Endpoint {
            address: socket("/a b"),
            username: Some("u/".to_owned()),
            password: Some("p@,q@".to_owned()),
            db: 1,
        };
        assert_eq!(found, [expected]);
        assert_eq!(found[0].to_string(), "redis+unix:///a b");
        let listed = endpoints("redis://a, redis://b:2,unix:///c");
        assert_eq!(
            format!("{listed:?}"),
            "[Endpoint(redis://a:6379), Endpoint(redis://b:2), Endpoint(redis+unix:///c)]"
        );
    }

    #[test]
    fn bad_redis_urls_are_named_where_they_hold_no_secret() {
        let table = [
            (
                "localhost:6379",
                "address 1 \"localhost:6379\" ",
                REDIS_NO_SCHEME,
            ),
            ("localhost", "address 1 \"localhost\" ", REDIS_NO_SCHEME),
            ("redis://a,b:1", "address 2 \"b:1\" ", REDIS_NO_SCHEME),
            ("redis://a,", "address 2 \"\" ", REDIS_NO_SCHEME),
            (
                "redis://u@h",
                "address 1 (not shown, it may contain a password) ",
                NO_PASSWORD,
            ),
            (
                "redis://u:@h",
                "address 1 (not shown, it may contain a password) ",
                NO_PASSWORD,
            ),
            ("rediss://h:1", "address 1 \"rediss://h:1\" ", NO_TLS),
            ("VALKEYS://h", "address 1 \"VALKEYS://h\" ", NO_TLS),
            (
                "redis://0.0.0.0:6379",
                "address 1 \"redis://0.0.0.0:6379\" ",
                REDIS_WILDCARD,
            ),
            ("http://h", "address 1 \"http://h\" ", REDIS_FORMS),
            ("redis://", "address 1 \"redis://\" ", REDIS_FORMS),
            ("redis://h:0", "address 1 \"redis://h:0\" ", REDIS_FORMS),
            (
                "redis://h:65536",
                "address 1 \"redis://h:65536\" ",
                REDIS_FORMS,
            ),
            ("redis://h/x", "address 1 \"redis://h/x\" ", REDIS_FORMS),
            ("redis://h/-1", "address 1 \"redis://h/-1\" ", REDIS_FORMS),
            (
                "redis+unix://run/r.sock",
                "address 1 \"redis+unix://run/r.sock\" ",
                REDIS_FORMS,
            ),
        ];
        for (url, subject, reason) in table {
            assert_eq!(
                misuse(&[], &[("REDIS_URL", url)]),
                format!("REDIS_URL: {subject}{reason}")
            );
            assert_eq!(
                misuse(&["--redis-url", url], &[]),
                format!("--redis-url: {subject}{reason}")
            );
            let alias = misuse(&[], &[("BOXEN_REDIS_URL", url)]);
            assert_eq!(alias, format!("BOXEN_REDIS_URL: {subject}{reason}"));
        }
        assert_eq!(
            misuse(&[], &[("REDIS_URL", "localhost:6379")]),
            "REDIS_URL: address 1 \"localhost:6379\" has no scheme: use redis://host:port"
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        // Each holds "secret" where a password or a piece of one is, often by a mistake in typing.
        let table = [
            ("rediss://u:secret@h", NO_TLS),
            ("u:secret@h:6379", REDIS_NO_SCHEME),
            ("u:secret", REDIS_NO_SCHEME),
            ("secret@h:1", REDIS_NO_SCHEME),
            ("redis://u:secret", REDIS_FORMS),
            ("redis://u:1secret", REDIS_FORMS),
            ("redis://:secret", REDIS_FORMS),
            ("redis://u:sec/secret@h", REDIS_FORMS),
            ("redis://u:1/secret@h", REDIS_FORMS),
            ("redis://u:1?secret@h", REDIS_FORMS),
            ("redis://u:1#secret@h", REDIS_FORMS),
            ("redis://u:1#secret", REDIS_FORMS),
            ("redis://u:secret@h:x", REDIS_FORMS),
            ("redis://u:secret@h/x", REDIS_FORMS),
            ("redis://u:secret@0.0.0.0", REDIS_WILDCARD),
            ("redis://u:%FFsecret@h", REDIS_FORMS),
            ("redis://u:secret,x@h", REDIS_FORMS),
            ("redis://u:1,secret@h", REDIS_NO_SCHEME),
            ("redis://u:1,secret://x@h", REDIS_FORMS),
            ("redis://u:1,secret,x@h", REDIS_NO_SCHEME),
            ("http://u:secret@h", REDIS_FORMS),
            ("redis+unix://h/p?pass=secret", REDIS_FORMS),
            ("redis+unix:///p redis://u:secret@h", REDIS_FORMS),
            ("redis+unix:///p?pass=a,secret", REDIS_NO_SCHEME),
            ("redis+unix:///p?pass=secret&db=x", REDIS_FORMS),
            ("redis://h?protocol=secret", REDIS_FORMS),
        ];
        for (url, reason) in table {
            let message = misuse(&[], &[("REDIS_URL", url)]);
            assert!(
                message.ends_with(&format!(" (not shown, it may contain a password) {reason}")),
                "{message}"
            );
            assert!(!message.contains("secret"), "{message}");
        }
        for argument in [
            "redis://u:secret@h",
            "u:secret",
            "--redis=redis://:secret@h",
            "-r:secret@h",
        ] {
            assert!(!misuse(&[argument], &[]).contains("secret"), "{argument}");
        }
        let source = config(&["--redis-url=redis://u:secret@h"], &[]).source;
        assert!(!format!("{source:?}").contains("secret"));
    }

    #[test]
    fn an_amqp_broker_needs_a_build_with_amqp() {
        if !cfg!(feature = "amqp") {
            for url in ["amqp://u:secret@h", "secret"] {
                assert_eq!(
                    misuse(&[], &[("AMQP_URL", url)]),
                    "AMQP_URL: this build has no AMQP support: build with --features amqp"
                );
            }
            return;
        }
        let flags = [
            "--amqp-url=amqp://u:secret@h/v",
            "--amqp-exchange=x",
            "--amqp-exchange-type=FANOUT",
        ];
        let config = config(&flags, &[]);
        let shown = "AMQP_URL=amqp://u@h:5672/v AMQP_EXCHANGE=x AMQP_EXCHANGE_TYPE=fanout ";
        let in_force = config.settings_line();
        assert!(in_force.contains(shown), "{in_force}");
        assert!(!format!("{:?}", config.amqp).contains("secret"));
        let endpoint = config.amqp.expect("a broker");
        assert_eq!(
            (endpoint.password.as_str(), endpoint.exchange.as_str()),
            ("secret", "x")
        );
        assert_eq!(endpoint.exchange_type, amqp::ExchangeType::Fanout);
        for url in [
            "amqp://u:secret@",
            "amqps://u:secret@h",
            "amqp://u:se#cret@h",
            "amqp://secret:",
        ] {
            let text = misuse(&[], &[("AMQP_URL", url)]);
            assert!(
                text.starts_with("AMQP_URL: (not shown, it may contain a password) "),
                "{text}"
            );
            assert!(!text.contains("cret"), "{text}");
        }
        assert!(
            misuse(&[], &[("AMQP_URL", "h")])
                .starts_with("AMQP_URL: \"h\" is not an AMQP address: ")
        );
    }

    #[test]
    fn an_exchange_has_a_name_and_a_type() {
        let long = "x".repeat(256);
        for value in ["a\nb", &long] {
            let text = misuse(&[], &[("AMQP_EXCHANGE", value)]);
            assert!(
                text.ends_with(
                    "the name of an exchange: use 1 to 255 bytes, without control characters"
                ),
                "{text}"
            );
        }
        assert_eq!(
            misuse(&["--amqp-exchange-type", "headers"], &[]),
            "--amqp-exchange-type: \"headers\" is not one of direct, fanout, topic"
        );
    }

    #[test]
    fn valid_addresses() {
        // User, password, host, port, virtual host.
        #[rustfmt::skip]
        let table: &[(&str, (&str, &str, &str, u16, &str), &str)] = &[
            ("amqp://h", ("guest", "guest", "h", 5672, "/"), "amqp://guest@h:5672"),
            ("AMQP://h/", ("guest", "guest", "h", 5672, "/"), "amqp://guest@h:5672"),
            ("amqp://h:1/%2F", ("guest", "guest", "h", 1, "/"), "amqp://guest@h:1"),
            ("amqp://h/v", ("guest", "guest", "h", 5672, "v"), "amqp://guest@h:5672/v"),
            ("amqp://h/%2fv%20%c3%A9", ("guest", "guest", "h", 5672, "/v \u{e9}"), "amqp://guest@h:5672//v \u{e9}"),
            ("amqp://u:p@h:65535/v", ("u", "p", "h", 65_535, "v"), "amqp://u@h:65535/v"),
            ("amqp://%75:%3a%2f%40%25@[::1]:7", ("u", ":/@%", "::1", 7, "/"), "amqp://u@[::1]:7"),
            ("amqp://u:p@127.0.0.1", ("u", "p", "127.0.0.1", 5672, "/"), "amqp://u@127.0.0.1:5672"),
        ];
        for (url, expected, shown) in table {
            let endpoint = parse_amqp(url).unwrap_or_else(|reason| unreachable!("{url} {reason}"));
            let got = (
                endpoint.username.as_str(),
                endpoint.password.as_str(),
                endpoint.host.as_str(),
                endpoint.port,
                endpoint.vhost.as_str(),
            );
            assert_eq!(got, *expected, "{url}");
            assert_eq!(endpoint.to_string(), *shown);
            let debug = format!("{endpoint:?}");
            assert!(debug.contains(shown), "{debug}");
        }
    }

    #[test]
    fn invalid_addresses_are_refused() {
        let long = format!("amqp://h/{}", "v".repeat(256));
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            (NO_TLS, &["amqps://h", "AMQPS://u:p@h"]),
            (NO_PASSWORD, &["amqp://u@h", "amqp://u:@h"]),
            (AMQP_FORMS, &["", "h", "h:5672", "http://h", "redis://h", "amqp://", "amqp://u:p@", "amqp://:p@h",
                "amqp://h:0", "amqp://h:65536", "amqp://h:", "amqp://h:x", "amqp://0.0.0.0", "amqp://[::]",
                "amqp://h/a/b", "amqp://h?heartbeat=5", "amqp://h/v?heartbeat=5", "amqp://h#a", "amqp://u:p#q@h",
                "amqp://u:p/q@h", "amqp://u:p@q@h", "amqp://u:p:q@h", "amqp://u:%zz@h", "amqp://u:%4@h",
                "amqp://u:%ff@h", "amqp://u:%00@h", "amqp://h/%", "amqp://a b", &long]),
        ];
        for (expected, urls) in table {
            for url in *urls {
                assert_eq!(parse_amqp(url).err(), Some(*expected), "{url}");
            }
        }
    }

    #[test]
    fn bad_addresses_and_prefixes_of_metrics_are_refused() {
        let forms = "is not a metrics address: use udp://host[:port] or tcp://host[:port], with an IPv6 \
             address in brackets, and nothing else";
        #[rustfmt::skip]
        let shown = ["h:2003", "udp:h", "udp://", "udp://:2003", "http://h", "udp://h:0", "udp://h:65536",
            "udp://h/", "tcp://h:1/path", "udp://0.0.0.0", "udp://h\u{e9}", "udp://h h"];
        for url in shown {
            let expected = match url {
                // This might be the start of a login.
                "udp:h" | "udp://:2003" => "(not shown, it may contain a password)".to_owned(),
                _ => format!("{url:?}"),
            };
            let refused = misuse(&[], &[("GRAPHITE_URL", url)]);
            assert_eq!(refused, format!("GRAPHITE_URL: {expected} {forms}"));
        }
        for url in [
            "udp://[::]",
            "udp://[::1",
            "udp://::1",
            "udp://h:+1",
            "udp://h:",
            "tcp://[h]:1",
        ] {
            let refused = misuse(&["--graphite-url", url], &[]);
            assert!(refused.ends_with(forms), "{refused}");
        }
        for prefix in ["a b", "a/b", "..", "\u{e9}", "a\nb"] {
            let expected = format!(
                "GRAPHITE_PREFIX: {prefix:?} is not the start of a metric's path: use letters, digits, - \
                 and _, separated by dots"
            );
            let variables = [("GRAPHITE_PREFIX", prefix), ("GRAPHITE_URL", "udp://h")];
            assert_eq!(misuse(&[], &variables), expected);
        }
    }
}
