//! Endpoints: the address of a Redis server, and the login. They are shown without the password.

use std::fmt;
use std::path::PathBuf;

use crate::broker::shown_host;

/// The address of a server.
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

/// A Redis server and the login. Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: Address,
    /// The user, if any.
    pub username: Option<String>,
    /// The password, if any.
    pub password: Option<String>,
    /// The number of the database, which keys belong to, but not channels.
    pub db: i64,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |user: &str| format!("{}@", user.escape_debug());
        let user = self.username.as_deref().map(shown).unwrap_or_default();
        let db = match self.db {
            0 => String::new(),
            db => format!("/{db}"),
        };
        match &self.address {
            Address::Tcp { host, port } => {
                let host = shown_host(host);
                write!(formatter, "redis://{user}{host}:{port}{db}")
            }
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
