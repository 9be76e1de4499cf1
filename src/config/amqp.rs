//! AMQP: an address, as typed, becomes a broker's endpoint with its exchange. It owns what such an address may say; it
//! must never show a password.

use super::Misuse;
use super::graphite::host_and_port;
use super::options::Key;
use super::raw::{Given, Raw};
use super::redis_url::shown;
use crate::limits::AMQP_NAME_BYTES_MAX;
use crate::source::amqp::{Endpoint, ExchangeType};

const AMQP_FORMS: &str = "is not an AMQP address: use amqp://[user:password@]host[:port][/vhost], with special \
    characters percent-encoded (the vhost / is the default), and without anything else";
const AMQP_NO_TLS: &str = "asks for TLS, which this build does not have: use amqp:// within a private network, or \
    through a local proxy that adds TLS";
const AMQP_NO_PASSWORD: &str =
    "names a user without a password, who cannot log in: use amqp://user:password@host";
const NOT_BUILT: &str = "this build has no amqp: build it with --features amqp";
const EXCHANGE_FORMS: &str =
    "the name of an exchange: use 1 to 255 bytes, without control characters";
const TYPE_FORMS: &str = "a type of exchange: use direct, fanout or topic";

/// Where AMQP brokers listen unless the address says another port.
const PORT: u16 = 5672;
/// The user, and the password, that a new broker has.
const GUEST: &str = "guest";
/// The virtual host that every broker has.
const VHOST: &str = "/";

impl Raw {
    /// Where channels come from beside Redis, if anywhere. Where the program was built without AMQP, an address is
    /// refused: to go on without what was asked for would be silence.
    pub(super) fn amqp(&self) -> Result<Option<Endpoint>, Misuse> {
        let (exchange, exchange_type) = (self.exchange()?, self.exchange_type()?);
        let url = self.get(Key::AmqpUrl);
        if url.is_default {
            return Ok(None);
        }
        if !cfg!(feature = "amqp") {
            return Err(Misuse(format!("{}: {NOT_BUILT}", url.name)));
        }
        let endpoint = endpoint(&url.value).map_err(|reason| refuse(url, reason))?;
        Ok(Some(Endpoint {
            exchange,
            exchange_type,
            ..endpoint
        }))
    }

    fn exchange(&self) -> Result<String, Misuse> {
        let given = self.get(Key::AmqpExchange);
        let is_fit =
            given.value.len() <= AMQP_NAME_BYTES_MAX && !given.value.contains(char::is_control);
        match is_fit {
            true => Ok(given.value.clone()),
            false => Err(given.refuse(&given.value, EXCHANGE_FORMS)),
        }
    }

    fn exchange_type(&self) -> Result<ExchangeType, Misuse> {
        let given = self.get(Key::AmqpExchangeType);
        match given.value.to_ascii_lowercase().as_str() {
            "direct" => Ok(ExchangeType::Direct),
            "fanout" => Ok(ExchangeType::Fanout),
            "topic" => Ok(ExchangeType::Topic),
            _ => Err(given.refuse(&given.value, TYPE_FORMS)),
        }
    }
}

/// The broker, with an exchange yet to be named, or what is wrong with its address.
fn endpoint(url: &str) -> Result<Endpoint, &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or(AMQP_FORMS)?;
    match scheme.to_ascii_lowercase().as_str() {
        "amqp" => {}
        "amqps" => return Err(AMQP_NO_TLS),
        _ => return Err(AMQP_FORMS),
    }
    let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
    let (username, password, place) = match authority.split_once('@') {
        Some((login, place)) => {
            let (username, password) = login.split_once(':').ok_or(AMQP_NO_PASSWORD)?;
            if password.is_empty() {
                return Err(AMQP_NO_PASSWORD);
            }
            let name = |text| {
                decoded(text)
                    .filter(|name| !name.is_empty())
                    .ok_or(AMQP_FORMS)
            };
            (name(username)?, name(password)?, place)
        }
        None => (GUEST.to_owned(), GUEST.to_owned(), authority),
    };
    let (host, port) = host_and_port(place, PORT).ok_or(AMQP_FORMS)?;
    let vhost = match vhost {
        "" => VHOST.to_owned(),
        name => decoded(name).ok_or(AMQP_FORMS)?,
    };
    Ok(Endpoint {
        host,
        port,
        username,
        password,
        vhost,
        exchange: String::new(),
        exchange_type: ExchangeType::Direct,
    })
}

/// A part of an address without its percent-encoding. What has a meaning in addresses must be encoded in it, or the
/// part might not be what was meant.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'/' | b'?' | b'#' | b'@' | b':' => return None,
            plain => plain,
        });
    }
    let fits = bytes.len() <= AMQP_NAME_BYTES_MAX && !bytes.contains(&0);
    String::from_utf8(bytes).ok().filter(|_| fits)
}

fn refuse(url: &Given, reason: &str) -> Misuse {
    let (name, shown) = (&url.name, shown(&url.value, &url.value));
    Misuse(format!("{name}: {shown} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_each_form() {
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
            let endpoint = endpoint(url).unwrap_or_else(|reason| unreachable!("{url} {reason}"));
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
    fn what_is_no_address_is_refused() {
        let long = format!("amqp://h/{}", "v".repeat(256));
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            (AMQP_NO_TLS, &["amqps://h", "AMQPS://u:p@h"]),
            (AMQP_NO_PASSWORD, &["amqp://u@h", "amqp://u:@h"]),
            (AMQP_FORMS, &["", "h", "h:5672", "http://h", "redis://h", "amqp://", "amqp://u:p@", "amqp://:p@h",
                "amqp://h:0", "amqp://h:65536", "amqp://h:", "amqp://h:x", "amqp://0.0.0.0", "amqp://[::]",
                "amqp://h/a/b", "amqp://h?heartbeat=5", "amqp://h/v?heartbeat=5", "amqp://h#a", "amqp://u:p#q@h",
                "amqp://u:p/q@h", "amqp://u:p@q@h", "amqp://u:p:q@h", "amqp://u:%zz@h", "amqp://u:%4@h",
                "amqp://u:%ff@h", "amqp://u:%00@h", "amqp://h/%", "amqp://a b", &long]),
        ];
        for (expected, urls) in table {
            for url in *urls {
                assert_eq!(endpoint(url).err(), Some(*expected), "{url}");
            }
        }
    }
}
