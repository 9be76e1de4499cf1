//! AMQP: parses the address of a broker. It owns the form of that address; it must never show a password.

use super::Misuse;
use super::given::Given;
use super::url::{NO_PASSWORD, NO_TLS, host_and_port, refuse};
use crate::broker::amqp::{Endpoint, ExchangeType};
use crate::http::target::percent_decode;
use crate::limits::AMQP_NAME_BYTES_MAX;

const AMQP_FORMS: &str = "is not an AMQP address: use amqp://[user:password@]host[:port][/vhost], with special \
    characters percent-encoded (the vhost / is the default), and nothing else";
const NOT_BUILT: &str = "this build has no AMQP support: build with --features amqp";

/// The default port of AMQP.
const PORT: u16 = 5672;

/// The broker; `rules` adds the exchange. A build without AMQP refuses the address, because channels would silently
/// stay empty.
pub(super) fn endpoint(url: &Given) -> Result<Endpoint, Misuse> {
    match cfg!(feature = "amqp") {
        true => parsed(&url.value).map_err(|reason| refuse(url, reason)),
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

fn parsed(url: &str) -> Result<Endpoint, &'static str> {
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
    let (host, port) = host_and_port(place, PORT).ok_or(AMQP_FORMS)?;
    let username = decoded(username).filter(|name| !name.is_empty());
    let vhost = decoded(vhost).ok_or(AMQP_FORMS)?;
    Ok(Endpoint {
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
        exchange_type: ExchangeType::Direct,
    })
}

/// Percent-decodes a part of an address. Delimiters must be encoded: a bare one probably means that the address was
/// split in the wrong place.
fn decoded(text: &str) -> Option<String> {
    let is_split = text.contains(['/', '?', '#', '@', ':']);
    let bytes = percent_decode(text.as_bytes()).ok().filter(|_| !is_split)?;
    let fits = bytes.len() <= AMQP_NAME_BYTES_MAX && !bytes.contains(&0);
    String::from_utf8(bytes).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, misuse};
    use super::*;

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
        assert_eq!(endpoint.exchange_type, ExchangeType::Fanout);
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
            let endpoint = parsed(url).unwrap_or_else(|reason| unreachable!("{url} {reason}"));
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
                assert_eq!(parsed(url).err(), Some(*expected), "{url}");
            }
        }
    }
}
