//! Endpoints: the address of an AMQP broker, the login, and the exchange for our channels. They are shown without the
//! password.

use std::fmt;

use crate::broker::shown_host;

/// A broker, the login and the exchange. Neither `Display` nor `Debug` shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or literal address (without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The user.
    pub username: String,
    /// The user's password.
    pub password: String,
    /// The virtual host.
    pub vhost: String,
    /// The exchange that messages are published to and received from.
    pub exchange: String,
    /// The type of the exchange.
    pub exchange_type: ExchangeType,
}

/// How an exchange chooses the queues for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeType {
    /// By the routing key as a whole.
    Direct,
    /// All queues.
    Fanout,
    /// By the words of the routing key, with wildcards.
    Topic,
}

impl fmt::Display for ExchangeType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
            ExchangeType::Topic => "topic",
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, port) = (self.username.escape_debug(), self.port);
        write!(out, "amqp://{user}@{}:{port}", shown_host(&self.host))?;
        match self.vhost.as_str() {
            "/" => Ok(()),
            vhost => write!(out, "/{}", vhost.escape_debug()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exchange, exchange_type) = (&self.exchange, self.exchange_type);
        write!(out, "Endpoint({self} {exchange_type} {exchange:?})")
    }
}
