//! The methods that we send to an AMQP broker. This file chooses the values of their fields; it does not know when they
//! are sent.

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::Endpoint;
use super::bindings::Change;

/// Extensions of the protocol that we support. Without the last, a broker that rejects our password closes the
/// connection without a reason.
const CAPABILITIES: &[&str] = &[
    "consumer_cancel_notify",
    "connection.blocked",
    "publisher_confirms",
    "authentication_failure_close",
];

pub(super) fn start_ok(endpoint: &Endpoint, client_name: &str) -> AMQPClass {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut capabilities = FieldTable::default();
    for name in CAPABILITIES {
        capabilities.insert(short(name), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert(short("product"), text(env!("CARGO_PKG_NAME")));
    properties.insert(short("version"), text(env!("CARGO_PKG_VERSION")));
    properties.insert(short("connection_name"), text(client_name));
    properties.insert(short("capabilities"), AMQPValue::FieldTable(capabilities));
    let login = format!("\0{}\0{}", endpoint.username, endpoint.password);
    AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk {
        client_properties: properties,
        mechanism: short("PLAIN"),
        response: login.into(),
        locale: short("en_US"),
    }))
}

pub(super) fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }))
}

pub(super) fn open(vhost: &str) -> AMQPClass {
    let open = connection::Open {
        virtual_host: short(vhost),
    };
    AMQPClass::Connection(connection::AMQPMethod::Open(open))
}

pub(super) fn open_channel() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))
}

pub(super) fn close_channel_ok() -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))
}

pub(super) fn flow_ok(active: bool) -> AMQPClass {
    AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active }))
}

/// Asks whether the exchange exists (passive), or declares it: durable, as exchanges usually are.
pub(super) fn declare_exchange(endpoint: &Endpoint, is_passive: bool) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: short(&endpoint.exchange),
        kind: short(&endpoint.exchange_type.to_string()),
        passive: is_passive,
        durable: true,
        ..exchange::Declare::default()
    }))
}

/// Declares a queue that the broker names, and deletes with our connection.
pub(super) fn declare_queue() -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        exclusive: true,
        auto_delete: true,
        ..queue::Declare::default()
    }))
}

/// Messages are not acknowledged: what we cannot read is lost, as with Redis.
pub(super) fn consume(queue: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: short(queue),
        no_ack: true,
        exclusive: true,
        ..basic::Consume::default()
    }))
}

pub(super) fn select_confirms() -> AMQPClass {
    AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select::default()))
}

/// Binds or unbinds our queue.
pub(super) fn change(endpoint: &Endpoint, queue: &str, change: &Change) -> AMQPClass {
    let (queue, exchange) = (short(queue), short(&endpoint.exchange));
    let routing_key = short(&change.key);
    AMQPClass::Queue(match change.is_bind {
        true => queue::AMQPMethod::Bind(queue::Bind {
            queue,
            exchange,
            routing_key,
            ..queue::Bind::default()
        }),
        false => queue::AMQPMethod::Unbind(queue::Unbind {
            queue,
            exchange,
            routing_key,
            ..queue::Unbind::default()
        }),
    })
}

/// Publishes a message, which need not reach anybody.
pub(super) fn publish(endpoint: &Endpoint, routing_key: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
        exchange: short(&endpoint.exchange),
        routing_key: short(routing_key),
        ..basic::Publish::default()
    }))
}

/// A string of at most 255 bytes. Its callers check the length; a longer one would be empty.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
