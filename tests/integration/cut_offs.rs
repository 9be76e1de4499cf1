//! Cut-offs: a network that drops everything without a word, a Redis that ends connections again and again, and one that is
//! merely busy.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::channels::{KEY, publish_over};
use crate::support::cut_proxy::CutProxy;
use crate::support::redis::SCORES;
use crate::support::server::SUBSCRIBED;
use crate::support::{Crowd, Event, Redis, Server, ServerOptions, redis_or_skip, wait_until};

/// How long it may take to notice that Redis is cut off.
const NOTICED_IN: Duration = Duration::from_secs(5);
/// How long it may take to be back.
const BACK_IN: Duration = Duration::from_secs(1);

/// A server that finds its Redis behind a proxy.
fn behind_proxy(redis: &Redis) -> (CutProxy, Server) {
    let proxy = CutProxy::start(redis.tcp_address());
    let server = ServerOptions::redis_url(&proxy.url())
        .variable("CHANNELS", "news")
        .variable("PUBLISH_KEY", KEY)
        .start();
    wait_until("it takes publications", || publish(&server) == 200);
    (proxy, server)
}

/// The status of the answer to a publication.
fn publish(server: &Server) -> u16 {
    publish_over(&mut server.connect(), "channel=news&message=hello")
}

fn is_ready(server: &Server) -> bool {
    server.ask("GET", "/readyz").head.status() == 200
}

/// Waits for the condition, which must come in this time.
#[track_caller]
fn expect_within(span: Duration, what: &str, condition: impl FnMut() -> bool) {
    let started = Instant::now();
    wait_until(what, condition);
    let took = started.elapsed();
    assert!(took <= span, "{what}: after {took:?}");
    eprintln!("{what}: after {took:?}");
}

#[test]
fn a_network_that_is_cut_is_noticed_and_so_is_its_return() {
    let Some(redis) = redis_or_skip() else { return };
    let (proxy, server) = behind_proxy(&redis);
    let mut subscriber = server.subscribe("/subscribe/raw");
    // The second one is over before the connections that are tried meanwhile are given up.
    for outage in [Duration::from_secs(7), Duration::from_secs(5)] {
        proxy.cut();
        let until = Instant::now() + outage;
        expect_within(NOTICED_IN, "the copy is not ready", || !is_ready(&server));
        assert_eq!(publish(&server), 503);
        thread::sleep(until.saturating_duration_since(Instant::now()));
        proxy.restore();
        expect_within(BACK_IN, "the copy is ready", || is_ready(&server));
        redis.client().publish(SCORES, "1F4C2");
        assert_eq!(subscriber.next_event(), Event::message("1F4C2"));
    }
}

#[test]
fn one_connection_that_is_cut_is_replaced() {
    let Some(redis) = redis_or_skip() else { return };
    let (proxy, server) = behind_proxy(&redis);
    proxy.cut_those_that_subscribe(true);
    expect_within(NOTICED_IN, "it subscribes again", || {
        server.count_log(SUBSCRIBED) == 2
    });
    assert_eq!(server.count_log("a reply to PING"), 1);
    proxy.cut_those_that_subscribe(false);
    let mut answers = Vec::new();
    expect_within(NOTICED_IN, "it takes publications again", || {
        answers.push(publish(&server));
        answers.last() == Some(&200)
    });
    assert_eq!(answers[0], 503, "nothing was cut off");
    assert_eq!(server.count_log(SUBSCRIBED), 2);
}

#[test]
fn a_redis_that_is_busy_for_two_seconds_is_not_given_up() {
    let Some(redis) = redis_or_skip() else { return };
    let (_proxy, server) = behind_proxy(&redis);
    let mut subscriber = server.subscribe("/subscribe/raw");
    let mut client = redis.client();
    for round in 0..3 {
        client.command("CLIENT PAUSE 2000 ALL");
        // This waits until the pause is over.
        client.publish(SCORES, format!("{round}"));
        assert_eq!(subscriber.next_event(), Event::message(&round.to_string()));
    }
    assert_eq!(server.count_log(SUBSCRIBED), 1);
}

#[test]
fn sessions_that_end_early_cost_few_messages() {
    const KILLS: usize = 8;
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut crowd = Crowd::subscribe(server.address(), ["/subscribe/raw".to_owned()]);
    let is_over = AtomicBool::new(false);
    let published = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut client = redis.client();
            let mut published = 0;
            while !is_over.load(Ordering::Relaxed) {
                let command: [&[u8]; 3] = [b"PUBLISH", SCORES.as_bytes(), b"1F4C2"];
                client.try_command(&command).expect("an answer");
                published += 1;
                thread::sleep(Duration::from_millis(2));
            }
            published
        });
        let mut client = redis.client();
        for times in 1..=KILLS {
            client.command("CLIENT KILL TYPE pubsub");
            server.wait_for_log_count(SUBSCRIBED, times + 1);
            thread::sleep(Duration::from_millis(1_200));
        }
        is_over.store(true, Ordering::Relaxed);
        publisher.join().expect("a number")
    });
    redis.client().publish(SCORES, "END");
    let received = std::cell::Cell::new((0, false));
    crowd.run_until(
        "the end has come",
        |_| received.get().1,
        |_, event| received.set((received.get().0 + 1, event.data == "END")),
    );
    let lost = published + 1 - received.get().0;
    eprintln!("{lost} of {published} were lost");
    assert!(lost * 12 < published, "{lost} of {published} were lost");
}
