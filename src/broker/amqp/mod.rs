//! AMQP 0-9-1: a session with a broker such as RabbitMQ, as a source of channels and a way to publish to them.
//! Where the broker is can be said in every build; the session is there with the feature `amqp`.

#[cfg(feature = "amqp")]
mod bindings;
#[cfg(feature = "amqp")]
mod broker;
#[cfg(feature = "amqp")]
pub mod codec;
#[cfg(feature = "amqp")]
mod confirms;
#[cfg(feature = "amqp")]
mod content;
mod endpoint;
#[cfg(feature = "amqp")]
mod error;
#[cfg(feature = "amqp")]
mod methods;
#[cfg(feature = "amqp")]
mod session;
#[cfg(feature = "amqp")]
mod waiting;

pub use endpoint::{Endpoint, ExchangeType};
#[cfg(feature = "amqp")]
pub use error::SessionError;
#[cfg(feature = "amqp")]
pub use session::Session;

#[cfg(feature = "amqp")]
pub use broker::Amqp;
