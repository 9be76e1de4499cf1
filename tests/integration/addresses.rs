//! Client addresses: taken from the socket or from trusted proxies, never from what the client claims.

use crate::support::http::request;
use crate::support::{Server, ServerOptions, Subscriber};

/// Options with this number of trusted proxies.
fn trusting(proxies: &str) -> Server {
    ServerOptions::demo()
        .variable("TRUST_PROXY", proxies)
        .start()
}

/// The address by which the server knows a client that sends these lines of `X-Forwarded-For`.
#[track_caller]
fn client_ip(server: &Server, lines: &[&str]) -> String {
    let fields: String = lines
        .iter()
        .map(|line| format!("X-Forwarded-For: {line}\r\n"))
        .collect();
    let request = format!("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let subscriber = Subscriber::request(server.connect(), request.as_bytes());
    let connections = server.connections();
    assert_eq!(connections.len(), 1);
    let client_ip = connections[0]["client_ip"].as_str().expect("an address");
    drop(subscriber);
    server.wait_for_connections(0);
    client_ip.to_owned()
}

/// How many streams a cleanup closes that comes with this `X-Forwarded-For`.
#[track_caller]
fn closed_by(server: &Server, forwarded_for: &str) -> u64 {
    let mut connection = server.connect();
    let line = format!("\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n");
    let request = request("POST", "/subscribe/cleanup/scores").replace("\r\n\r\n", &line);
    connection.send(request);
    let closed = &connection.read_reply().json()["closed"];
    closed.as_u64().expect("a number")
}

#[test]
fn what_a_client_claims_has_no_effect_where_no_proxy_is_trusted() {
    for server in [ServerOptions::demo().start(), trusting("0")] {
        for line in ["10.0.0.1", "10.0.0.1, 10.0.0.2", "::1", "garbage", ""] {
            assert_eq!(client_ip(&server, &[line]), "127.0.0.1", "{line:?}");
        }
        // Whoever is behind a proxy, or says so, closes nothing by the address.
        let _stays = server.subscribe("/subscribe/eps");
        assert_eq!(closed_by(&server, "10.0.0.1"), 0);
        assert_eq!(server.connections().len(), 1);
    }
}

#[test]
fn spoofed_addresses_do_not_close_the_streams_of_others() {
    let server = trusting("1");
    let subscribe = |forwarded_for: &str| {
        let head = format!("\r\nX-Forwarded-For: {forwarded_for}\r\n\r\n");
        let request = request("GET", "/subscribe/eps").replace("\r\n\r\n", &head);
        Subscriber::request(server.connect(), request.as_bytes())
    };
    let _victim = subscribe("10.0.0.1");
    let _attacker = subscribe("10.0.0.2");
    // The proxy appends the attacker's own address to the claim.
    assert_eq!(closed_by(&server, "10.0.0.1, 10.0.0.2"), 1);
    assert_eq!(closed_by(&server, "10.0.0.1, 10.0.0.2"), 0);
    assert_eq!(server.connections()[0]["client_ip"], "10.0.0.1");
}

#[test]
fn so_many_proxies_as_are_trusted_vouch_for_an_address() {
    // In each row: the field's lines, and the address with one and with two trusted proxies.
    let table: &[(&[&str], &str, &str)] = &[
        (&[], "127.0.0.1", "127.0.0.1"),
        (&["10.0.0.1"], "10.0.0.1", "127.0.0.1"),
        (&["6.6.6.6, 10.0.0.1"], "10.0.0.1", "6.6.6.6"),
        (&["6.6.6.6,10.0.0.2,10.0.0.1"], "10.0.0.1", "10.0.0.2"),
        (&["6.6.6.6", "10.0.0.2", "10.0.0.1"], "10.0.0.1", "10.0.0.2"),
        (&["6.6.6.6, 10.0.0.2", "10.0.0.1"], "10.0.0.1", "10.0.0.2"),
        (&["10.0.0.2:4711, 10.0.0.1:80"], "10.0.0.1", "10.0.0.2"),
        (
            &["2001:db8::2, 2001:DB8::0:1"],
            "2001:db8::1",
            "2001:db8::2",
        ),
        (
            &["[2001:db8::2], [2001:db8::1]"],
            "2001:db8::1",
            "2001:db8::2",
        ),
        (
            &["\"[2001:db8::2]:443\", [2001:db8::1]:443"],
            "2001:db8::1",
            "2001:db8::2",
        ),
        (
            &["::ffff:10.0.0.2, ::ffff:10.0.0.1"],
            "10.0.0.1",
            "10.0.0.2",
        ),
        (&[" \t10.0.0.2 ,\t10.0.0.1 "], "10.0.0.1", "10.0.0.2"),
        // Where the place of the address holds none, the socket's is what is known.
        (&["10.0.0.2, unknown"], "127.0.0.1", "10.0.0.2"),
        (&["unknown, 10.0.0.1"], "10.0.0.1", "127.0.0.1"),
        (&["10.0.0.2, "], "127.0.0.1", "10.0.0.2"),
        (&[""], "127.0.0.1", "127.0.0.1"),
        (&[",,,"], "127.0.0.1", "127.0.0.1"),
        (&["10.0.0.256"], "127.0.0.1", "127.0.0.1"),
        (&["10.0.0.1:99999"], "127.0.0.1", "127.0.0.1"),
        (&["[::1"], "127.0.0.1", "127.0.0.1"),
        (&["_hidden, for=10.0.0.1"], "127.0.0.1", "127.0.0.1"),
        (&["\u{1F4C2}, localhost"], "127.0.0.1", "127.0.0.1"),
    ];
    let (one, two) = (trusting("1"), trusting("2"));
    for (lines, with_one, with_two) in table {
        assert_eq!(client_ip(&one, lines), *with_one, "{lines:?} with one");
        assert_eq!(client_ip(&two, lines), *with_two, "{lines:?} with two");
    }
}

#[test]
fn on_heroku_one_proxy_is_trusted_by_default() {
    let named = ServerOptions::demo().variable("DYNO", "web.1");
    let lines = ["6.6.6.6, 10.0.0.1"];
    assert_eq!(client_ip(&named.start(), &lines), "127.0.0.1");
    let heroku = named.variable("PORT", "5000");
    let server = heroku.start();
    server.wait_for_log("entry 1 from the right of X-Forwarded-For, on Heroku, because of the variables DYNO and PORT");
    assert_eq!(client_ip(&server, &lines), "10.0.0.1");
    let told = heroku.variable("TRUST_PROXY", "0").start();
    told.wait_for_log("client addresses are those of the connections (TRUST_PROXY=0)");
    assert_eq!(client_ip(&told, &lines), "127.0.0.1");
}

#[test]
fn ipv4_over_an_ipv6_socket_is_shown_as_ipv4() {
    let server = ServerOptions::demo().everywhere().start();
    let port = server.address().port();
    let connection = crate::support::Connection::open(([127, 0, 0, 1], port).into());
    let _subscriber = Subscriber::open(connection, "/subscribe/eps");
    assert_eq!(server.connections()[0]["client_ip"], "127.0.0.1");
}
