//! Endpoints: where an AMQP broker is found, how to log in to it, and its exchange that our channels go through. It
//! owns how these are shown; it must never show a password.

use std::fmt;

/// A broker, how to log in to it, and the exchange. Neither `Display` nor `Debug` shows the password.
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
    /// The exchange that messages come from and go to.
    pub exchange: String,
    /// How it decides who gets a message.
    pub exchange_type: ExchangeType,
}

/// How an exchange decides which queue gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeType {
    /// By its whole routing key.
    Direct,
    /// All get all.
    Fanout,
    /// By the words of its routing key, with wildcards.
    Topic,
}

impl ExchangeType {
    /// Its name in AMQP.
    pub fn name(self) -> &'static str {
        match self {
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
            ExchangeType::Topic => "topic",
        }
    }
}

impl fmt::Display for ExchangeType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, port) = (self.username.escape_debug(), self.port);
        if self.host.contains(':') {
            write!(out, "amqp://{user}@[{}]:{port}", self.host)?;
        } else {
            write!(out, "amqp://{user}@{}:{port}", self.host)?;
        }
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
