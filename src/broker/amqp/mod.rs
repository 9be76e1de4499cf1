//! AMQP 0-9-1: a session with a broker such as RabbitMQ, from which channels are received and to which they are
//! published. Every build can parse the broker's address; the session needs the feature `amqp`.

#[cfg(feature = "amqp")]
mod bindings;
#[cfg(feature = "amqp")]
mod broker;
#[cfg(feature = "amqp")]
pub mod codec;
#[cfg(feature = "amqp")]
mod content;
mod endpoint;
#[cfg(feature = "amqp")]
mod handshake;
#[cfg(feature = "amqp")]
mod methods;
#[cfg(feature = "amqp")]
mod publisher;
#[cfg(feature = "amqp")]
mod session;

pub use endpoint::{Endpoint, ExchangeType};
#[cfg(feature = "amqp")]
pub use session::Session;

#[cfg(feature = "amqp")]
pub use broker::Amqp;
