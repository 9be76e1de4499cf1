//! Wrong secrets: guesses are counted, logged and soon refused unread, without locking out others.

use std::net::SocketAddr;
use std::time::Instant;

use crate::support::{Connection, Reply, Server, ServerOptions, wait_until};

const SECRET: &str = "0123456789abcdef";
/// Wrong secrets that are looked at within a second.
const LOOKED_AT: usize = 5;

fn start() -> Server {
    ServerOptions::redis_url("none")
        .without_waiting()
        .variable("ADMIN_TOKEN", SECRET)
        .variable("PUBLISH_KEY", SECRET)
        .variable("CHANNELS", "a")
        .start()
}

#[derive(Clone, Copy)]
enum Place {
    /// As the bearer token of the admin pages.
    Admin,
    /// As the bearer token of a publication.
    Head,
    /// In the body of a publication.
    Body,
}

/// The reply to a client at 127.0.0.`last` that gives this secret.
fn give(address: SocketAddr, last: u8, place: Place, secret: &str) -> Reply {
    let mut connection = Connection::open_from([127, 0, 0, last].into(), address);
    let bearer = format!("Authorization: Bearer {secret}\r\n");
    let (line, fields, body) = match place {
        Place::Admin => ("GET /admin/status.json", bearer, String::new()),
        Place::Head => ("POST /publish", bearer, "channel=a&message=x".to_owned()),
        Place::Body => {
            let body = format!("channel=a&message=x&key={secret}");
            ("POST /publish", String::new(), body)
        }
    };
    let len = body.len();
    connection.send(format!(
        "{line} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {len}\r\n{fields}Connection: close\r\n\r\n{body}"
    ));
    connection.read_reply()
}

fn failures(server: &Server) -> u64 {
    let reply = give(server.address(), 9, Place::Admin, SECRET);
    let failures = &reply.json()["stats"]["auth_failures"];
    failures.as_u64().expect("a number")
}

#[test]
fn after_a_handful_of_wrong_secrets_further_ones_are_not_looked_at() {
    for place in [Place::Admin, Place::Head, Place::Body] {
        let server = start();
        let address = server.address();
        let started = Instant::now();
        let (mut wrong, mut refused) = (0, 0);
        for _ in 0..200 {
            let reply = give(address, 1, place, "wrong");
            match reply.head.status() {
                401 => wrong += 1,
                429 => {
                    refused += 1;
                    let wait = reply.head.field("Retry-After").expect("a time");
                    assert!(matches!(wait, "1" | "2"), "{wait}");
                }
                status => panic!("{status}: {}", reply.text()),
            }
            assert!(!reply.text().contains("wrong\""), "{}", reply.text());
        }
        let windows = started.elapsed().as_secs() as usize + 2;
        assert!(wrong <= windows * LOOKED_AT, "{wrong} were looked at");
        assert_eq!(failures(&server), wrong as u64 + refused);
        // Others are not concerned, and who waits is heard again.
        assert_eq!(give(address, 2, place, SECRET).head.status(), 200);
        wait_until("the correct secret is looked at", || {
            give(address, 1, place, SECRET).head.status() == 200
        });
        // One line at once, and the next one in a minute.
        server.wait_for_log("warn  requests with a wrong secret since the last such line: 1, the last of them from 127.0.0.1");
        assert_eq!(server.count_log("wrong secret"), 1);
    }
}

#[test]
fn a_correct_secret_is_refused_like_a_wrong_one() {
    let server = start();
    let address = server.address();
    // The attempts take some milliseconds, but a window may end between two of them.
    wait_until("a correct secret is refused", || {
        for _ in 0..=LOOKED_AT {
            give(address, 1, Place::Body, "wrong");
        }
        [Place::Admin, Place::Head, Place::Body]
            .iter()
            .all(|place| give(address, 1, *place, SECRET).head.status() == 429)
    });
    // What needs no secret is served meanwhile.
    assert_eq!(server.ask("GET", "/healthz").head.status(), 200);
    drop(server.subscribe("/subscribe/eps"));
}

#[test]
fn without_a_secret_nothing_is_counted() {
    let server = start();
    for _ in 0..20 {
        assert_eq!(server.ask("GET", "/admin/").head.status(), 401);
        assert_eq!(server.ask("GET", "/admin/cleanup").head.status(), 401);
        assert_eq!(
            server
                .ask("POST", "/subscribe/cleanup/scores")
                .head
                .status(),
            200
        );
    }
    assert_eq!(failures(&server), 0);
    assert_eq!(server.count_log("wrong secret"), 0);
}

#[test]
fn short_secrets_are_warned_of() {
    let server = ServerOptions::demo()
        .variable("ADMIN_TOKEN", "0123456789abcde")
        .variable("PUBLISH_KEY", SECRET)
        .start();
    server.wait_for_log("warn  ADMIN_TOKEN has fewer than 16 bytes");
    drop(server.subscribe("/subscribe/eps"));
    assert_eq!(server.count_log("PUBLISH_KEY has"), 0);
    assert_eq!(server.count_log("0123456789"), 0);
}
