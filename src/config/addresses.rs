//! Addresses: where to listen, as typed. It owns the forms that an address may have; it must not look a name up.

use std::net::{IpAddr, SocketAddr};

use super::Misuse;
use super::options::Key;
use super::raw::{Given, Raw};
use crate::limits::LISTEN_ADDRESSES_MAX;
use crate::net::Listen;

const LISTEN_FORMS: &str = "an IP address: use one such as 0.0.0.0, 127.0.0.1:9000 or [::1]:9000, \
    or localhost; other names are not looked up";

impl Raw {
    /// Where clients are accepted.
    pub(super) fn listen(&self) -> Result<Listen, Misuse> {
        let port = self.number(Key::Port, "a port", 0..=u16::MAX)?;
        let list = self.get(Key::Listen);
        if list.is_default {
            return Ok(Listen::Everywhere(port));
        }
        Ok(Listen::Addresses(addresses(list, Some(port))?))
    }

    /// Where those who look after the server are accepted, if not where all clients are.
    pub(super) fn admin_listen(&self, public: &Listen) -> Result<Vec<SocketAddr>, Misuse> {
        let list = self.get(Key::AdminListen);
        if list.is_default {
            return Ok(Vec::new());
        }
        let admin = addresses(list, None)?;
        if let Some(address) = admin.iter().find(|address| is_taken(**address, public)) {
            let (name, reason) = (&list.name, "is where LISTEN and PORT serve all clients");
            return Err(Misuse(format!(
                "{name}: {address} {reason}: use another port"
            )));
        }
        Ok(admin)
    }
}

/// The addresses of a comma-separated list. An entry without a port has this one, or else is refused.
fn addresses(list: &Given, port: Option<u16>) -> Result<Vec<SocketAddr>, Misuse> {
    let mut addresses = Vec::new();
    for entry in list.value.split(',').map(str::trim) {
        // With a port to go by, it is seen whether that is all that is missing.
        let forms = match addresses_of(entry, Some(1)) {
            Some(_) => "complete: add a port, as in 127.0.0.1:9000 or [::1]:9000; PORT is taken",
            None => LISTEN_FORMS,
        };
        let found = addresses_of(entry, port);
        for address in found.ok_or_else(|| list.refuse(entry, forms))? {
            // A second bind to the same address would fail, as with "127.0.0.1,localhost".
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    if addresses.len() > LISTEN_ADDRESSES_MAX {
        let (name, count) = (&list.name, addresses.len());
        return Err(Misuse(format!(
            "{name}: {count} addresses are too many: use {LISTEN_ADDRESSES_MAX} at most"
        )));
    }
    Ok(addresses)
}

fn addresses_of(entry: &str, port: Option<u16>) -> Option<Vec<SocketAddr>> {
    let address = |ip: &str| {
        let with_port = port.and_then(|port| {
            let forms = [format!("{ip}:{port}"), format!("[{ip}]:{port}")];
            forms.iter().find_map(|form| form.parse().ok())
        });
        ip.parse().ok().or(with_port)
    };
    let loopback = ["127.0.0.1", "[::1]"];
    match entry.to_ascii_lowercase().strip_prefix("localhost") {
        Some(port) => loopback
            .iter()
            .map(|ip| address(&format!("{ip}{port}")))
            .collect(),
        None => Some(vec![address(entry)?]),
    }
}

/// Whether clients of an address would come to a public one, or the other way round. Sockets for all addresses
/// of one family take no clients of the other, except for the one that is there when nothing is said.
fn is_taken(address: SocketAddr, public: &Listen) -> bool {
    let is_any_of_them = |ip: IpAddr| ip == address.ip() || ip.is_unspecified();
    let meets = |other: &SocketAddr| {
        other.port() == address.port()
            && other.is_ipv4() == address.is_ipv4()
            && (is_any_of_them(other.ip()) || address.ip().is_unspecified())
    };
    // Port 0 is another one each time.
    address.port() != 0
        && match public {
            Listen::Everywhere(port) => *port == address.port(),
            Listen::Addresses(addresses) => addresses.iter().any(meets),
        }
}
