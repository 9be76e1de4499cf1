//! Graphite: where metrics are sent, and under which path. It owns what a metrics address may say; it must never
//! show the key.

use std::net::Ipv6Addr;

use super::options::Key;
use super::raw::{Given, Raw, digits};
use super::redis_url::shown;
use super::{Graphite, Misuse, Place};
use crate::report::graphite::ROOT_BYTES_MAX;
use crate::report::names;
use crate::upstream::{Target, Transport};

const GRAPHITE_FORMS: &str = "is not a metrics address: use udp://host[:port] or tcp://host[:port], with an \
    IPv6 address in brackets, and without anything else";
const PATH_FORMS: &str =
    "the start of a metric's path: use letters, digits, - and _, divided by dots";

/// Where plaintext metrics are taken unless the address says another port.
const PORT: u16 = 2003;
/// Where metrics go whose key is all that is known.
const HOSTED: &str = "carbon.hostedgraphite.com";

impl Raw {
    /// Where metrics go, if anywhere: to the address, or with the key alone to the service that gave it out.
    pub(super) fn graphite(&self, place: &Place) -> Result<Option<Graphite>, Misuse> {
        let (url, key) = (self.get(Key::GraphiteUrl), self.get(Key::HostedGraphite));
        let prefix = self.get(Key::GraphitePrefix);
        let mut segments = Vec::new();
        if !key.is_default {
            let refused = || key.refuse_secret(PATH_FORMS);
            segments.push(path(&key.value).ok_or_else(refused)?);
        }
        if !prefix.is_default {
            let refused = || prefix.refuse(&prefix.value, PATH_FORMS);
            segments.push(path(&prefix.value).ok_or_else(refused)?);
        }
        segments.push(place.segments());
        let target = match (url.is_default, key.is_default) {
            (true, true) => return Ok(None),
            (true, false) => Target {
                transport: Transport::Udp,
                host: HOSTED.to_owned(),
                port: PORT,
            },
            (false, _) => target(&url.value).ok_or_else(|| refuse_url(url))?,
        };
        let root = segments.join(".");
        if root.len() > ROOT_BYTES_MAX {
            return Err(refuse_root(root.len()));
        }
        Ok(Some(Graphite { target, root }))
    }
}

impl Place {
    /// The part of a metric's path that names this process. The dots of a given name divide it, as they always
    /// have (`web.1`); those of a machine's name would spread one machine over several folders.
    fn segments(&self) -> String {
        let clean = match self.is_given {
            true => names::path(&self.name),
            false => names::segment(&self.name),
        };
        match clean.as_str() {
            "" => "localhost".to_owned(),
            _ => clean,
        }
    }
}

/// A path that nothing has to be changed in but dots too many: a key that was changed would be nobody's.
fn path(text: &str) -> Option<String> {
    let is_fit = text.split('.').all(|part| names::segment(part) == part);
    Some(names::path(text)).filter(|path| is_fit && !path.is_empty())
}

fn target(url: &str) -> Option<Target> {
    let (scheme, place) = url.split_once("://")?;
    let transport = match scheme.to_ascii_lowercase().as_str() {
        "udp" => Transport::Udp,
        "tcp" => Transport::Tcp,
        _ => return None,
    };
    let (host, port) = host_and_port(place, PORT)?;
    Some(Target {
        transport,
        host,
        port,
    })
}

/// A host and its port, or the port that it has where none is given: `host[:port]`, an IPv6 address in brackets.
pub(super) fn host_and_port(place: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(literal) => {
            let (ip, port) = literal.split_once(']')?;
            let ip: Ipv6Addr = ip.parse().ok()?;
            // That is every machine and none, as is 0.0.0.0 below.
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

fn refuse_url(url: &Given) -> Misuse {
    let (name, shown) = (&url.name, shown(&url.value, &url.value));
    Misuse(format!("{name}: {shown} {GRAPHITE_FORMS}"))
}

/// The refusal of a path that is not shown, because a key may be a part of it.
fn refuse_root(bytes: usize) -> Misuse {
    Misuse(format!(
        "HOSTEDGRAPHITE_APIKEY, GRAPHITE_PREFIX and DYNO: the {bytes} bytes that metrics' paths begin with are \
         too many: use {ROOT_BYTES_MAX} bytes at most in all"
    ))
}
