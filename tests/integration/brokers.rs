//! Brokers: all ways to address Redis and to log in.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::support::redis::{SCORES, free_port, is_installed_or_skip};
use crate::support::resp::Value;
use crate::support::server::SUBSCRIBED;
use crate::support::{Event, Redis, Server, ServerOptions, has_address, redis_or_skip, wait_until};

/// Publishes one message and sees it arrive.
#[track_caller]
fn expect_fed(server: &Server, redis: &Redis) {
    let mut subscriber = server.subscribe("/subscribe/raw");
    redis.client().publish(SCORES, "1F4C2");
    assert_eq!(subscriber.next_event(), Event::message("1F4C2"));
}

#[test]
fn a_password_is_given() {
    if !is_installed_or_skip() {
        return;
    }
    // What has a meaning in URLs has to be written in another way there.
    let redis = Redis::start_protected(&["--requirepass", "a:b/c@d%e"], "AUTH a:b/c@d%e");
    let url = redis.url_with_login("", "a%3Ab%2Fc%40d%25e");
    let server = ServerOptions::redis_url(&url).start();
    expect_fed(&server, &redis);
    assert_eq!(server.count_log("a:b"), 0, "the password is in the log");
}

#[test]
fn a_user_and_a_password_are_given() {
    if !is_installed_or_skip() {
        return;
    }
    let users = [
        "--user", "streamer", "on", ">secret", "&*", "+@all", "--user", "default", "off",
    ];
    let redis = Redis::start_protected(&users, "AUTH streamer secret");
    let url = redis.url_with_login("streamer", "secret");
    let server = ServerOptions::redis_url(&url).start();
    expect_fed(&server, &redis);
    assert_eq!(server.count_log("secret"), 0, "the password is in the log");
}

#[test]
fn a_wrong_password_is_reported_and_tried_again() {
    if !is_installed_or_skip() {
        return;
    }
    let redis = Redis::start_protected(&["--requirepass", "right"], "AUTH right");
    let url = redis.url_with_login("", "mistaken");
    let server = ServerOptions::redis_url(&url).without_waiting().start();
    let mut subscriber = server.subscribe("/subscribe/raw");
    let line = server.wait_for_log_count("WRONGPASS", 2);
    assert!(line.contains(&redis.url()), "{line}");
    assert_eq!(
        server.count_log("mistaken"),
        0,
        "the password is in the log"
    );
    assert_eq!(server.connections().len(), 1);

    let mut client = redis.client();
    client.command("CONFIG SET requirepass mistaken");
    server.wait_for_log(SUBSCRIBED);
    client.publish(SCORES, "2665");
    assert_eq!(subscriber.next_event(), Event::message("2665"));
}

#[test]
fn a_missing_password_is_reported() {
    if !is_installed_or_skip() {
        return;
    }
    let redis = Redis::start_protected(&["--requirepass", "right"], "AUTH right");
    let server = ServerOptions::redis(&redis).without_waiting().start();
    server.wait_for_log("NOAUTH");
    assert_eq!(server.status()["status"], "OK");
}

#[test]
fn a_unix_domain_socket_is_found() {
    if !is_installed_or_skip() {
        return;
    }
    let redis = Redis::start_unix();
    let server = ServerOptions::redis(&redis).start();
    expect_fed(&server, &redis);
}

#[test]
fn an_ipv6_address_is_found() {
    if !is_installed_or_skip() || !has_address(Ipv6Addr::LOCALHOST.into()) {
        return;
    }
    let redis = Redis::start_ipv6();
    assert!(redis.url().starts_with("redis://[::1]:"));
    let server = ServerOptions::redis(&redis).start();
    expect_fed(&server, &redis);
}

#[test]
fn a_name_with_one_dead_address_is_reached() {
    let Some(redis) = redis_or_skip() else { return };
    // On most machines this is `::1` as well, and comes first.
    let url = redis.url().replace("127.0.0.1", "localhost");
    let server = ServerOptions::redis_url(&url).start();
    expect_fed(&server, &redis);
}

#[test]
fn a_database_may_be_named() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis_url(&format!("{}/3", redis.url())).start();
    expect_fed(&server, &redis);
}

#[test]
fn the_subscribing_connection_has_the_nodes_name() {
    let Some(redis) = redis_or_skip() else { return };
    let _server = ServerOptions::redis(&redis)
        .variable("DYNO", "web.1")
        .start();
    let clients = redis.client().command("CLIENT LIST TYPE pubsub").text();
    let mut fields = clients.split_whitespace();
    let name = fields.find_map(|field| field.strip_prefix("name="));
    assert_eq!(name, Some("rust-development-web.1"), "{clients}");
}

#[test]
fn only_the_channels_of_enabled_streams_are_subscribed() {
    let Some(redis) = redis_or_skip() else { return };
    let options = ServerOptions::redis(&redis);
    let server = options.start();
    redis.wait_until_subscribed(1);
    let mut client = redis.client();
    let without_kiosk = client.command("PUBSUB NUMPAT");
    assert_eq!(without_kiosk, Value::Integer(1));
    drop(server);
    wait_until("redis has noticed", || {
        client.command("PUBSUB NUMPAT") == Value::Integer(0)
    });
    let kiosk = options.variable("ENABLE_KIOSK_INTERACTION_STREAM", "true");
    let _server = kiosk.start();
    assert_eq!(client.command("PUBSUB NUMPAT"), Value::Integer(2));
}

#[test]
fn several_servers_are_tried_in_turn() {
    let Some(redis) = redis_or_skip() else { return };
    let dead = format!("redis://{}:{}", Ipv4Addr::LOCALHOST, free_port());
    let nowhere = "redis+unix:///nowhere/redis.sock";
    let url = format!("{dead}, {nowhere},{}", redis.url());
    let server = ServerOptions::redis_url(&url).start();
    expect_fed(&server, &redis);
    for tried in [&dead, nowhere] {
        assert!(server.count_log(tried) > 0, "nothing said of {tried}");
    }
}
