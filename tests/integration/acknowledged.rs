//! Acknowledged publications: 200 means that the message was published at a primary. A replica, which would pass it on to
//! its own subscribers only, and a primary that is cut off from its replicas, are refused without publishing anything.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::channels::{KEY, options, publication, publish};
use crate::support::redis::{free_port, is_installed_or_skip};
use crate::support::resp::Value;
use crate::support::server::SUBSCRIBED;
use crate::support::{Redis, Reply, Server, ServerOptions, redis_or_skip, wait_until};

/// A copy that takes messages from one Redis and publishes at another.
fn between(source: &Redis, primary: &Redis) -> Server {
    options(source)
        .variable("REDIS_PUBLISH_URL", &primary.url())
        .variable("DYNO", "copy.7")
        .start()
}

/// Publishes on the channel `a`.
fn try_publish(server: &Server, message: &str) -> Reply {
    let mut connection = server.connect();
    connection.send(publication(&format!("channel=a&message={message}")));
    connection.read_reply()
}

/// Waits until publications get another answer than that there is no connection.
#[track_caller]
fn first_answer(server: &Server) -> Reply {
    let mut reply = None;
    wait_until("there is a connection for commands", || {
        let answer = try_publish(server, "first");
        let is_down = answer.text().contains("no connection");
        reply = Some(answer);
        !is_down
    });
    reply.expect("an answer")
}

#[test]
fn a_replica_refuses_publications_and_publishes_nothing() {
    let Some(primary) = redis_or_skip() else {
        return;
    };
    let replica = primary.start_replica();
    let server = options(&replica).start();
    let mut subscriber = server.subscribe("/?channels=a");
    let reply = first_answer(&server);
    assert_eq!(reply.head.status(), 503, "{}", reply.text());
    assert!(reply.text().contains("READONLY"), "{}", reply.text());
    // Nobody is subscribed there but the replica, which does not count.
    primary.client().command("PUBLISH a from-the-primary");
    assert_eq!(subscriber.next_event().data, "from-the-primary");
}

#[test]
fn publications_and_cleanups_go_to_the_primary() {
    let Some(primary) = redis_or_skip() else {
        return;
    };
    let replica = primary.start_replica();
    let there = options(&primary).start();
    let here = between(&replica, &primary);
    let mut subscribers = [&here, &there].map(|server| server.subscribe("/?channels=a"));
    let reply = first_answer(&here);
    assert_eq!(reply.head.status(), 200, "{}", reply.text());
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.next_event().data, "first");
    }
    // A cleanup that reaches one copy closes streams at the other.
    let mut stream = there.subscribe("/subscribe/eps?token=t");
    let cleanup = here.ask("POST", "/subscribe/cleanup/scores?token=t");
    assert_eq!(cleanup.head.status(), 200, "{}", cleanup.text());
    stream.read_to_end();
    // The status is where others look for it.
    wait_until("the status is at the primary", || {
        let row = "HEXISTS admin_stream_status rust-development-copy.7";
        primary.client().command(row) == Value::Integer(1)
    });
}

#[test]
fn the_primary_among_several_servers_is_found() {
    let Some(primary) = redis_or_skip() else {
        return;
    };
    let replica = primary.start_replica();
    let urls = format!("{},{}", replica.url(), primary.url());
    let server = options(&replica)
        .variable("REDIS_PUBLISH_URL", &urls)
        .start();
    wait_until("it publishes", || {
        try_publish(&server, "x").head.status() == 200
    });
    // The roles change under it.
    replica.client().command("REPLICAOF NO ONE");
    let port = replica.tcp_address().port();
    primary
        .client()
        .command(&format!("REPLICAOF 127.0.0.1 {port}"));
    let mut subscriber = server.subscribe("/?channels=a");
    wait_until("it publishes again", || {
        try_publish(&server, "y").head.status() == 200
    });
    assert_eq!(subscriber.next_event().data, "y");
}

#[test]
fn a_primary_without_enough_replicas_refuses_publications() {
    if !is_installed_or_skip() {
        return;
    }
    let redis = Redis::start_with_arguments(&["--min-replicas-to-write", "1"]);
    let server = options(&redis).start();
    let reply = first_answer(&server);
    assert_eq!(reply.head.status(), 503, "{}", reply.text());
    assert!(reply.text().contains("NOREPLICAS"), "{}", reply.text());
    redis.client().command("CONFIG SET min-replicas-to-write 0");
    publish(&server, "a", "x");
}

#[test]
fn users_who_may_not_write_publish_as_safely_as_they_may() {
    let Some(primary) = redis_or_skip() else {
        return;
    };
    let replica = primary.start_replica();
    // What the user may do besides, and the status at the primary and at a replica.
    let table = [
        ("+multi +exec +del ~stream.admin.none", 200, 503),
        ("+multi +exec +role", 200, 503),
        ("+multi +exec", 200, 200),
        ("+role", 200, 200),
        ("+ping", 200, 200),
    ];
    for (permissions, at_primary, at_replica) in table {
        for (redis, expected) in [(&primary, at_primary), (&replica, at_replica)] {
            let user = format!(
                "ACL SETUSER streamer reset on >secret &* +auth +publish +subscribe +psubscribe {permissions}"
            );
            redis.client().command(&user);
            let url = redis.url_with_login("streamer", "secret");
            let server = ServerOptions::redis_url(&url)
                .variable("CHANNELS", "a")
                .variable("PUBLISH_KEY", KEY)
                .start();
            let mut subscriber = server.subscribe("/?channels=a");
            let reply = first_answer(&server);
            let context = format!("{permissions}: {}", reply.text());
            assert_eq!(reply.head.status(), expected, "{context}");
            if expected == 200 {
                assert_eq!(subscriber.next_event().data, "first", "{context}");
            }
        }
    }
}

#[test]
fn a_node_of_a_cluster_publishes() {
    if !is_installed_or_skip() {
        return;
    }
    let bus = free_port().to_string();
    let redis = Redis::start_with_arguments(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    // Nobody serves the slot of the key that is deleted elsewhere, and then this node does.
    for (preparation, state) in [
        ("PING", "cluster_state:fail"),
        ("CLUSTER ADDSLOTSRANGE 0 16383", "cluster_state:ok"),
    ] {
        let mut client = redis.client();
        client.command(preparation);
        wait_until(state, || {
            client.command("CLUSTER INFO").text().contains(state)
        });
        let server = options(&redis).start();
        let mut subscriber = server.subscribe("/?channels=a");
        let reply = first_answer(&server);
        assert_eq!(reply.head.status(), 200, "{}", reply.text());
        assert_eq!(subscriber.next_event().data, "first");
        if preparation == "PING" {
            continue;
        }
        // The slot moves away while the server is connected, which refuses one publication.
        redis.client().command("CLUSTER DELSLOTSRANGE 0 16383");
        assert_eq!(try_publish(&server, "second").head.status(), 503);
        assert_eq!(try_publish(&server, "third").head.status(), 200);
        assert_eq!(subscriber.next_event().data, "third");
    }
}

#[test]
fn the_first_server_is_used_again_when_it_is_back() {
    let Some(mut first) = redis_or_skip() else {
        return;
    };
    let second = Redis::start();
    let urls = format!("{},{}", first.url(), second.url());
    let server = ServerOptions::redis_url(&urls)
        .variable("CHANNELS", "a")
        .variable("PUBLISH_KEY", KEY)
        .start();
    first.kill();
    server.wait_for_log_count(SUBSCRIBED, 2);
    let mut subscriber = server.subscribe("/?channels=a");
    assert_eq!(first_answer(&server).head.status(), 200);
    assert_eq!(subscriber.next_event().data, "first");
    let back_at = Instant::now();
    first.restart();
    let line = server.wait_for_log_count(SUBSCRIBED, 3);
    assert!(line.contains(&first.url()), "{line}");
    assert!(back_at.elapsed() < Duration::from_secs(12));
    wait_until("it publishes there", || {
        try_publish(&server, "second").head.status() == 200
    });
    assert_eq!(server.count_log("moving back"), 1);
    assert_eq!(server.count_log("the connection was closed"), 1);
}

#[test]
fn what_is_acknowledged_is_delivered_on_the_same_copy_while_connections_are_killed() {
    let Some(redis) = redis_or_skip() else { return };
    let server = options(&redis).start();
    let mut subscriber = server.subscribe("/?channels=a");
    let is_over = AtomicBool::new(false);
    let acknowledged: BTreeSet<String> = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut connection = server.connect();
            let mut acknowledged = BTreeSet::new();
            let mut number = 0;
            while !is_over.load(Ordering::Relaxed) {
                number += 1;
                connection.send(publication(&format!("channel=a&message={number}")));
                if connection.read_reply().head.status() == 200 {
                    acknowledged.insert(number.to_string());
                }
            }
            acknowledged
        });
        let mut client = redis.client();
        for times in 1..=5 {
            thread::sleep(Duration::from_millis(300));
            client.command("CLIENT KILL TYPE pubsub");
            server.wait_for_log_count(SUBSCRIBED, times + 1);
        }
        is_over.store(true, Ordering::Relaxed);
        publisher.join().expect("what was acknowledged")
    });
    publish(&server, "a", "end");
    let mut received = BTreeSet::new();
    while !received.contains("end") {
        let event = subscriber.next_event();
        // It is told of each time that the subscription was lost.
        let is_new = event.name == "gap" || received.insert(event.data);
        assert!(is_new, "a message came twice");
    }
    let lost: Vec<&String> = acknowledged.difference(&received).collect();
    assert!(
        lost.is_empty(),
        "{lost:?} of {} are lost",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
}
