//! Methods: what we say to an AMQP broker, with all the fields that we leave as they are. It owns how we describe
//! ourselves and what we ask for; it must not know when anything is said.

use amq_protocol::protocol::{AMQPClass, basic, channel, confirm, connection, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable, ShortString};

use super::Endpoint;
use super::bindings::Change;

/// What a broker may say to us beside what everybody has to expect. Without the last of these, a wrong password is a
/// connection that ends without a word.
const CAPABILITIES: &[&str] = &[
    "consumer_cancel_notify",
    "connection.blocked",
    "publisher_confirms",
    "authentication_failure_close",
];

/// Who we are, and our login.
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

/// What is agreed.
pub(super) fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::TuneOk(connection::TuneOk {
        channel_max,
        frame_max,
        heartbeat,
    }))
}

pub(super) fn open(vhost: &str) -> AMQPClass {
    let virtual_host = short(vhost);
    AMQPClass::Connection(connection::AMQPMethod::Open(connection::Open {
        virtual_host,
    }))
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

/// Asks whether the exchange is there, or else makes it. Made by us it outlives us and the broker's restart, as
/// exchanges that others made for themselves do.
pub(super) fn declare_exchange(endpoint: &Endpoint, is_passive: bool) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: short(&endpoint.exchange),
        kind: short(endpoint.exchange_type.name()),
        passive: is_passive,
        durable: true,
        ..exchange::Declare::default()
    }))
}

/// A queue of our own, which the broker gives a name and which goes with us.
pub(super) fn declare_queue() -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        exclusive: true,
        auto_delete: true,
        ..queue::Declare::default()
    }))
}

/// Messages are sent as they come and forgotten: what we cannot take is lost, as from Redis.
pub(super) fn consume(queue: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: short(queue),
        no_ack: true,
        exclusive: true,
        ..basic::Consume::default()
    }))
}

pub(super) fn select_confirms() -> AMQPClass {
    AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select {
        nowait: false,
    }))
}

pub(super) fn change(endpoint: &Endpoint, queue: &str, change: &Change) -> AMQPClass {
    let (queue, exchange) = (short(queue), short(&endpoint.exchange));
    let routing_key = short(&change.key);
    let arguments = FieldTable::default();
    AMQPClass::Queue(match change.is_bind {
        true => queue::AMQPMethod::Bind(queue::Bind {
            queue,
            exchange,
            routing_key,
            nowait: false,
            arguments,
        }),
        false => queue::AMQPMethod::Unbind(queue::Unbind {
            queue,
            exchange,
            routing_key,
            arguments,
        }),
    })
}

/// Nobody has to be listening: that is no failure of the publisher's.
pub(super) fn publish(endpoint: &Endpoint, routing_key: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
        exchange: short(&endpoint.exchange),
        routing_key: short(routing_key),
        ..basic::Publish::default()
    }))
}

/// A name, which whoever made it has bounded. One that is too long would be no name at all.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
