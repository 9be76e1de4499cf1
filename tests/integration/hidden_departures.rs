//! Hidden disconnects: behind a router that hides them, only a lifetime or a cleanup ends a stream.

use std::time::{Duration, Instant};

use crate::support::hiding_proxy::HidingProxy;
use crate::support::redis::SCORES;
use crate::support::{Connection, ServerOptions, Subscriber, redis_or_skip, wait_until};

/// Clients in one batch, and batches.
const BATCH: usize = 250;
const BATCHES: usize = 4;

#[test]
fn a_thousand_clients_come_and_go_and_leave_nothing_behind() {
    let Some(redis) = redis_or_skip() else { return };
    let lifetime = Duration::from_secs(2);
    let server = ServerOptions::redis(&redis)
        .variable("SSE_FORCE_REFRESH", "true")
        .variable("SSE_SCORE_FORCECLOSE_SEC", "2")
        .variable("SSE_DETAIL_FORCECLOSE_SEC", "2")
        .variable("VERBOSE", "true")
        .start();
    let proxy = HidingProxy::start(server.address());
    let paths = [
        "/subscribe/eps",
        "/subscribe/raw",
        "/subscribe/details/2665",
    ];
    let mut client = redis.client();
    let mut hidden = 0;
    let mut left_at = Instant::now();
    for batch in 0..BATCHES {
        let subscribers: Vec<Subscriber> = (0..BATCH)
            .map(|number| {
                let connection = Connection::open(proxy.address());
                let mut subscriber = Subscriber::open(connection, paths[number % paths.len()]);
                subscriber.next_item();
                subscriber
            })
            .collect();
        drop(subscribers);
        left_at = Instant::now();
        wait_until("the proxy knows that they are gone", || {
            proxy.departed() >= (batch + 1) * BATCH
        });
        // Not even a message finds out.
        client.publish(SCORES, "2665");
        hidden = hidden.max(server.connections().len());
    }
    assert!(hidden >= BATCH / 2, "the proxy hid only {hidden}");
    server.wait_for_connections(0);
    let elapsed = left_at.elapsed();
    assert!(elapsed < lifetime + Duration::from_secs(5), "{elapsed:?}");
    // The line is written when the last bytes have left, a little after the stream has.
    server.wait_for_log_count(": lifetime", BATCHES * BATCH);
    assert_eq!(server.count_log("disconnect "), BATCHES * BATCH);
}

#[test]
fn without_force_refresh_their_streams_stay() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let proxy = HidingProxy::start(server.address());
    let connect = || Connection::open(proxy.address());
    let mut subscribers = [(); 5].map(|()| Subscriber::open(connect(), "/subscribe/eps"));
    for subscriber in &mut subscribers {
        subscriber.next_item();
    }
    drop(subscribers);
    wait_until("the proxy knows that they are gone", || {
        proxy.departed() == 5
    });
    // This is what the proxy is there for: otherwise the tests beside this one would prove nothing.
    std::thread::sleep(Duration::from_secs(3));
    redis.client().publish(SCORES, "2665");
    assert_eq!(server.connections().len(), 5);
}

#[test]
fn a_cleanup_frees_their_places_at_once() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("SSE_FORCE_REFRESH", "true")
        .variable("VERBOSE", "true")
        .start();
    let proxy = HidingProxy::start(server.address());
    for round in 0..20 {
        let connection = Connection::open(proxy.address());
        let path = format!("/subscribe/eps?token={round}");
        let mut subscriber = Subscriber::open(connection, &path);
        subscriber.next_item();
        drop(subscriber);
        let mut beacon = Connection::open(proxy.address());
        beacon.send(format!(
            "POST /subscribe/cleanup/scores?token={round} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(beacon.read_reply().json()["closed"], 1);
        assert_eq!(server.connections().len(), 0);
    }
    server.wait_for_log_count(": cleanup", 20);
}
