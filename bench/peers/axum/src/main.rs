//! A server made of axum: it serves the streams that are measured, each client with a receiver of a
//! `broadcast` channel as axum's and tokio's documentation show it, on one thread, because it is given one
//! core. It rolls increments up at the same beat as ours.
//!
//! usage: axum-peer PORT REDIS_URL

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

const TICK: Duration = Duration::from_millis(17);

/// Messages that a client may be behind.
const BACKLOG: usize = 4096;

/// What goes to all clients of a stream: axum makes bytes of it for each of them.
type Sender = broadcast::Sender<Event>;

#[derive(Clone, Default)]
struct Streams(Arc<Mutex<HashMap<String, Sender>>>);

impl Streams {
    fn subscribe(&self, name: &str) -> broadcast::Receiver<Event> {
        let mut streams = self.0.lock().unwrap();
        let sender = streams
            .entry(name.to_owned())
            .or_insert_with(|| broadcast::channel(BACKLOG).0);
        sender.subscribe()
    }

    fn send(&self, name: &str, event: impl FnOnce() -> Event) {
        if let Some(sender) = self.0.lock().unwrap().get(name) {
            let _nobody = sender.send(event());
        }
    }
}

async fn subscribe(
    Path(name): Path<String>,
    State(streams): State<Streams>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    // Who is too far behind has lost messages, and goes on.
    let events =
        BroadcastStream::new(streams.subscribe(&name)).filter_map(|event| event.ok().map(Ok));
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(55)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(redis_url)) = (arguments.next(), arguments.next()) else {
        return Err("usage: axum-peer PORT REDIS_URL".into());
    };
    let streams = Streams::default();
    let app = Router::new()
        .route("/subscribe/{*name}", get(subscribe))
        .with_state(streams.clone());
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_nodelay(true)?;
    socket.bind(([127, 0, 0, 1], port.parse()?).into())?;
    let listener = socket.listen(4096)?;
    let local = tokio::task::LocalSet::new();
    local.spawn_local(async move {
        if let Err(error) = feed(&redis_url, &streams).await {
            eprintln!("redis: {error}");
            std::process::exit(1);
        }
    });
    local
        .run_until(async { axum::serve(listener, app).await })
        .await?;
    Ok(())
}

async fn feed(redis_url: &str, streams: &Streams) -> Result<(), Box<dyn Error>> {
    let mut pubsub = redis::Client::open(redis_url)?.get_async_pubsub().await?;
    pubsub.subscribe("stream.score_updates").await?;
    pubsub.psubscribe("stream.tweet_updates.*").await?;
    let mut messages = pubsub.into_on_message();
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = message.ok_or("the connection was closed")?;
                let channel = message.get_channel_name().to_owned();
                let payload: String = message.get_payload()?;
                match channel.strip_prefix("stream.tweet_updates.") {
                    Some(id) => streams.send(&format!("details/{id}"), || {
                        Event::default().event(&channel).data(&payload)
                    }),
                    None => {
                        streams.send("raw", || Event::default().data(&payload));
                        *counts.entry(payload).or_default() += 1;
                    }
                }
            }
            _ = ticks.tick(), if !counts.is_empty() => {
                let mut object = String::new();
                for (id, count) in counts.drain() {
                    let separator = if object.is_empty() { '{' } else { ',' };
                    write!(object, "{separator}\"{id}\":{count}")?;
                }
                object.push('}');
                streams.send("eps", || Event::default().data(&object));
            }
        }
    }
}
