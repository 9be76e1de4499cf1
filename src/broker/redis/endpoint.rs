//! Endpoints: where a broker is found and how to log in to it. It owns how these are shown; it must never
//! show a password.

use std::fmt;
use std::path::PathBuf;

/// Where a broker is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host name or an IP address (without brackets), and a port.
    Tcp {
        /// Name or literal address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

/// A Redis server and how to log in to it. Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is found.
    pub address: Address,
    /// The user of Redis's access control lists, if any.
    pub username: Option<String>,
    /// The password, if any.
    pub password: Option<String>,
    /// The database number. Publish and subscribe are not divided by it, the sets and hashes are.
    pub db: i64,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |user: &str| format!("{}@", user.escape_debug());
        let user = self.username.as_deref().map(shown).unwrap_or_default();
        let db = if self.db == 0 {
            String::new()
        } else {
            format!("/{}", self.db)
        };
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(formatter, "redis://{user}[{host}]:{port}{db}")
            }
            Address::Tcp { host, port } => write!(formatter, "redis://{user}{host}:{port}{db}"),
            Address::Unix(path) => {
                let path = path.to_string_lossy();
                write!(formatter, "redis+unix://{}", path.escape_debug())
            }
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Endpoint({self})")
    }
}
