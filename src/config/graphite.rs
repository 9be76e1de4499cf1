//! Graphite: parses where metrics are sent and how their paths begin. It owns the form of a metrics address; it must
//! never show the key.

use super::Misuse;
use super::given::Given;
use super::url::{host_and_port, refuse};
use crate::broker::link::{Target, Transport};
use crate::report::graphite::{path, segment};

const GRAPHITE_FORMS: &str = "is not a metrics address: use udp://host[:port] or tcp://host[:port], with an \
    IPv6 address in brackets, and nothing else";
const PATH_FORMS: &str = "letters, digits, - and _, separated by dots";

/// The default port of Carbon's plaintext protocol.
const PORT: u16 = 2003;

/// Where metrics go if only the API key is set.
pub(super) fn hosted() -> Target {
    Target {
        transport: Transport::Udp,
        host: "carbon.hostedgraphite.com".to_owned(),
        port: PORT,
    }
}

pub(super) fn target(url: &Given) -> Result<Target, Misuse> {
    let refused = || refuse(url, GRAPHITE_FORMS);
    let (scheme, place) = url.value.split_once("://").ok_or_else(refused)?;
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return Err(refused()),
    };
    let (host, port) = host_and_port(place, PORT).ok_or_else(refused)?;
    Ok(Target {
        transport,
        host,
        port,
    })
}

pub(super) fn key(given: &Given) -> Result<String, Misuse> {
    fit(&given.value).ok_or_else(|| given.refuse_secret(PATH_FORMS))
}

pub(super) fn prefix(given: &Given) -> Result<String, Misuse> {
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
    use super::super::tests::misuse;

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
