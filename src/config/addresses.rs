//! Addresses: where to listen, as typed. It owns the forms that an address may have; it must not look a name up.

use std::net::SocketAddr;

use super::Misuse;
use super::options::Key;
use super::raw::Raw;
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
        let mut addresses = Vec::new();
        for entry in list.value.split(',').map(str::trim) {
            let found = addresses_of(entry, port);
            for address in found.ok_or_else(|| list.refuse(entry, LISTEN_FORMS))? {
                // A second bind to the same address would fail, as with "127.0.0.1,localhost".
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Ok(Listen::Addresses(addresses))
    }
}

fn addresses_of(entry: &str, port: u16) -> Option<Vec<SocketAddr>> {
    let address = |ip: &str| {
        let forms = [
            ip.to_owned(),
            format!("{ip}:{port}"),
            format!("[{ip}]:{port}"),
        ];
        forms.iter().find_map(|form| form.parse().ok())
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
