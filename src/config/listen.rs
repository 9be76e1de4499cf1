//! Listen: parses addresses to listen on. It owns the forms of such an address; it must not resolve names.

use std::net::SocketAddr;

use super::Misuse;
use super::given::Given;
use crate::limits::LISTEN_ADDRESSES_MAX;

const LISTEN_FORMS: &str = "is not an IP address: use one such as 0.0.0.0, 127.0.0.1:9000 or [::1]:9000, \
    or localhost; other names are not looked up";
const NO_PORT: &str = "has no port: add a port other than PORT, as in 127.0.0.1:9000 or [::1]:9000";

/// Parses a comma-separated list. An entry without a port gets `port`, or is refused if that is `None`.
pub(super) fn addresses(list: &Given, port: Option<u16>) -> Result<Vec<SocketAddr>, Misuse> {
    let mut addresses = Vec::new();
    for entry in list.entries() {
        let refused = || {
            let lacks_port = port.is_none() && addresses_of(entry, Some(1)).is_some();
            let reason = if lacks_port { NO_PORT } else { LISTEN_FORMS };
            list.refuse(&format!("{entry:?} {reason}"))
        };
        for address in addresses_of(entry, port).ok_or_else(refused)? {
            // A second bind to the same address would fail, as with "127.0.0.1,localhost".
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    list.at_most(LISTEN_ADDRESSES_MAX, addresses.len(), "addresses")?;
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
    match entry.to_ascii_lowercase().strip_prefix("localhost") {
        Some(port) => {
            let loopback = ["127.0.0.1", "[::1]"].iter();
            loopback.map(|ip| address(&format!("{ip}{port}"))).collect()
        }
        None => Some(vec![address(entry)?]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{command, config, misuse};
    use super::*;
    use crate::net::Listen;

    #[test]
    fn addresses_to_listen_on() {
        let table: &[(&str, &[&str])] = &[
            ("0.0.0.0", &["0.0.0.0:7"]),
            ("::", &["[::]:7"]),
            ("[::1]", &["[::1]:7"]),
            ("[::1]:9000", &["[::1]:9000"]),
            ("127.0.0.1:9000, ::1", &["127.0.0.1:9000", "[::1]:7"]),
            ("localhost", &["127.0.0.1:7", "[::1]:7"]),
            ("LocalHost:0", &["127.0.0.1:0", "[::1]:0"]),
            (
                "127.0.0.1,localhost,127.0.0.1:7",
                &["127.0.0.1:7", "[::1]:7"],
            ),
            ("127.0.0.1,127.0.0.1:8", &["127.0.0.1:7", "127.0.0.1:8"]),
        ];
        for (typed, expected) in table {
            let expected = expected
                .iter()
                .map(|address| address.parse().expect("a literal"))
                .collect();
            let listen = config(&["--port=7", "--listen", typed], &[]).listen;
            assert_eq!(listen, Listen::Addresses(expected), "{typed}");
        }
        #[rustfmt::skip]
        let bad = ["example.com", "example.com:80", "localhost:x", "localhost:+1", "localhost1", "localhost.",
            ":80", "*", "127.0.0.1:65536", "127.0.0", "[127.0.0.1]", "[::1", "[::1]x", "80", ""];
        for entry in bad {
            let typed = format!("127.0.0.1,{entry}");
            let expected = format!(
                "LISTEN: {entry:?} is not an IP address: use one such as 0.0.0.0, 127.0.0.1:9000 or \
                 [::1]:9000, or localhost; other names are not looked up"
            );
            assert_eq!(misuse(&[], &[("LISTEN", &typed)]), expected);
        }
        assert!(misuse(&["--listen", "a"], &[]).starts_with("--listen: \"a\" is not"));
    }

    #[test]
    fn admin_addresses_need_a_port() {
        let table: &[(&str, &[&str])] = &[
            ("127.0.0.1:9000", &["127.0.0.1:9000"]),
            (
                "localhost:9, [::1]:9 ,0.0.0.0:1",
                &["127.0.0.1:9", "[::1]:9", "0.0.0.0:1"],
            ),
            ("127.0.0.1:0", &["127.0.0.1:0"]),
        ];
        for (typed, expected) in table {
            let config = config(&["--admin-listen", typed], &[]);
            let shown: Vec<String> = config
                .admin_listen
                .iter()
                .map(SocketAddr::to_string)
                .collect();
            assert_eq!(shown, *expected, "{typed}");
            assert!(config.server.access.admin_is_apart);
        }
        for entry in ["127.0.0.1", "localhost", "::1", "[::1]", "::1:9000"] {
            let typed = format!("127.0.0.1:1,{entry}");
            assert_eq!(
                misuse(&[], &[("ADMIN_LISTEN", &typed)]),
                format!(
                    "ADMIN_LISTEN: {entry:?} has no port: add a port other than PORT, as in 127.0.0.1:9000 or \
                     [::1]:9000"
                )
            );
        }
        let refused = misuse(&["--admin-listen=a:1"], &[]);
        assert!(refused.starts_with("--admin-listen: \"a:1\" is not an IP address"));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let list = |count: usize| -> String {
            let entries: Vec<String> = (1..=count)
                .map(|last| format!("127.0.0.{last}:9"))
                .collect();
            entries.join(",")
        };
        for variable in ["LISTEN", "ADMIN_LISTEN"] {
            assert!(command(&[], &[(variable, &list(16))]).is_ok());
            assert_eq!(
                misuse(&[], &[(variable, &list(17))]),
                format!("{variable}: 17 addresses are too many: use 16 at most")
            );
        }
    }
}
