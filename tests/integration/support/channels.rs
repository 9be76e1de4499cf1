//! Helpers for tests of channels: servers with channels, and clients that reconnect and publish.

use super::http::Connection;
use super::redis::Redis;
use super::resp::{RedisClient, Value};
use super::server::{Server, ServerOptions};
use super::subscriber::Subscriber;
use super::wait_until;

/// The key that publications need.
pub const KEY: &str = "open-sesame-to-me";

/// A server with any channel on this Redis, to be published to with [`KEY`].
pub fn options(redis: &Redis) -> ServerOptions {
    with_channels(ServerOptions::redis(redis))
}

/// A server with channels and without a broker.
pub fn embedded() -> ServerOptions {
    with_channels(ServerOptions::redis_url("none").without_waiting())
}

/// The same with any channel, to be published to with [`KEY`].
pub fn with_channels(options: ServerOptions) -> ServerOptions {
    options
        .variable("CHANNELS", "*")
        .variable("CHANNELS_PATTERNS", "true")
        .variable("PUBLISH_KEY", KEY)
}

/// Subscribes with an id, as a browser sends it.
#[track_caller]
pub fn come_back(server: &Server, path: &str, id: &str) -> Subscriber {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nLast-Event-ID: {id}\r\n\r\n");
    Subscriber::request(server.connect(), request.as_bytes())
}

/// The id that a stream of channels begins with, or has come to.
#[track_caller]
pub fn id_of(subscriber: &mut Subscriber) -> String {
    while subscriber.last_event_id().is_none() {
        subscriber.receive();
    }
    subscriber.last_event_id().expect("an id").to_owned()
}

/// A request that publishes this form with the key.
pub fn publication(form: &str) -> String {
    let len = form.len();
    format!(
        "POST /publish HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len}\r\n\r\n{form}"
    )
}

/// Publishes a form; the status of the answer.
#[track_caller]
pub fn publish_over(connection: &mut Connection, form: &str) -> u16 {
    connection.send(publication(form));
    connection.read_reply().head.status()
}

/// Publishes a message of plain letters, which has to be taken.
#[track_caller]
pub fn publish(server: &Server, channel: &str, message: &str) {
    let form = format!("channel={channel}&message={message}");
    assert_eq!(publish_over(&mut server.connect(), &form), 200, "{form}");
}

/// Waits until so many clients of Redis are subscribed to a channel.
#[track_caller]
pub fn wait_for_subscribers(redis: &Redis, channel: &str, count: i64) {
    let mut client = redis.client();
    wait_until(&format!("{channel} has {count} subscribers"), || {
        subscribers_of(&mut client, channel) == count
    });
}

/// How many clients of Redis are subscribed to a channel.
#[track_caller]
pub fn subscribers_of(client: &mut RedisClient, channel: &str) -> i64 {
    let answer = client.try_command(&[b"PUBSUB", b"NUMSUB", channel.as_bytes()]);
    let Ok(Value::Array(pair)) = &answer else {
        panic!("{answer:?} instead of a pair");
    };
    match pair.get(1) {
        Some(Value::Integer(count)) => *count,
        _ => panic!("{answer:?} instead of a number"),
    }
}

/// A hundred clients ask for 32 channels each that nobody has asked for before this round, and leave at once.
pub fn make_up_channels(server: &Server, round: usize) {
    let ask = |client: usize| {
        let name = |index: usize| format!("{:x<200}", format!("{round}.{client}.{index}."));
        let names: Vec<String> = (0..32).map(name).collect();
        let mut connection = server.connect();
        let names = names.join(",");
        connection.send(format!(
            "GET /?channels={names} HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        connection
    };
    let clients: Vec<Connection> = (0..100).map(ask).collect();
    // A reset destroys what has not been read.
    assert_eq!(server.ask("GET", "/healthz").head.status(), 200);
    clients.into_iter().for_each(Connection::reset);
}
