//! Resources: the paths, and the methods that each of them accepts.

use crate::support::ServerOptions;

#[test]
fn unknown_paths_are_answered_with_a_short_json_error() {
    let server = ServerOptions::without_redis().start();
    let paths = [
        "/",
        "/favicon.ico",
        "/subscribe",
        "/subscribe/",
        "/subscribe/nothing",
        "/subscribe/raw/",
        "/subscribe/raw/1F4C2",
        "/subscribe/eps/1F4C2",
        "/subscribe/details/1F4C2/more",
        "/subscribe/RAW",
        "/subscriber/raw",
        "/raw",
        "//subscribe/raw",
    ];
    for path in paths {
        for method in ["GET", "POST", "OPTIONS"] {
            let reply = server.ask(method, path);
            assert_eq!(reply.head.status(), 404, "{method} {path}");
            let field = |name: &str| reply.head.field(name);
            assert_eq!(field("Content-Type"), Some("application/json"), "{path}");
            assert_eq!(field("Access-Control-Allow-Origin"), Some("*"), "{path}");
            assert!(reply.json()["error"].is_string(), "{path}");
            assert!(reply.body.len() < 200, "{path}: {}", reply.text());
        }
    }
}

#[test]
fn a_query_changes_nothing() {
    let server = ServerOptions::demo().start();
    let subscriber = server.subscribe("/subscribe/raw?lang=en&%00=%zz");
    assert_eq!(server.connections()[0]["namespace"], "/raw");
    drop(subscriber);
    let reply = server.ask("GET", "/admin/status.json?");
    assert_eq!(reply.head.status(), 200);
}

/// Paths of every kind that take the same methods.
const PATHS: [&str; 4] = [
    "/subscribe/raw",
    "/subscribe/eps",
    "/subscribe/details/1F4C2",
    "/admin/status.json",
];

#[test]
fn other_methods_get_an_allow_header() {
    let server = ServerOptions::demo().start();
    for path in PATHS {
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "X-OWN"] {
            let reply = server.ask(method, path);
            assert_eq!(reply.head.status(), 405, "{method} {path}");
            let allowed = reply.head.field("Allow").expect("the methods");
            let mut allowed: Vec<&str> = allowed.split(", ").collect();
            allowed.sort_unstable();
            assert_eq!(allowed, ["GET", "HEAD", "OPTIONS"], "{path}");
            assert!(reply.json()["error"].is_string());
        }
    }
}

#[test]
fn other_origins_may_ask_for_streams() {
    let server = ServerOptions::demo().start();
    // The last one is not for them.
    for path in &PATHS[..3] {
        let mut connection = server.connect();
        connection.send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: a\r\nOrigin: http://b\r\n\
             Access-Control-Request-Method: GET\r\n\
             Access-Control-Request-Headers: cache-control,last-event-id\r\n\r\n"
        ));
        let head = connection.read_head();
        assert_eq!(head.status_line, "HTTP/1.1 204 No Content", "{path}");
        assert_eq!(head.field("Access-Control-Allow-Origin"), Some("*"));
        let headers = "Cache-Control, Last-Event-ID, Content-Type";
        assert_eq!(head.field("Access-Control-Allow-Headers"), Some(headers));
        let methods = head.field("Access-Control-Allow-Methods");
        assert!(methods.is_some_and(|methods| methods.contains("GET")));
        let age = head.field("Access-Control-Max-Age").expect("an age");
        assert!(age.parse::<u32>().is_ok_and(|age| age > 0), "{age}");
        // A 204 has neither a body nor a length (RFC 9110 §8.6), and the connection is kept.
        assert_eq!(head.field("Content-Length"), None);
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(connection.read_head().status(), 200, "{path}");
    }
}

#[test]
fn options_asterisk_is_answered() {
    let server = ServerOptions::demo().start();
    assert_eq!(server.ask("OPTIONS", "*").head.status(), 204);
    assert_eq!(server.ask("GET", "*").head.status(), 400);
}

#[test]
fn every_reply_has_a_date_and_is_not_to_be_cached() {
    let server = ServerOptions::demo().start();
    for (path, status) in [("/admin/status.json", 200), ("/", 200), ("/nothing", 404)] {
        let reply = server.ask("GET", path);
        assert_eq!(reply.head.status(), status, "{path}");
        assert_eq!(
            reply.head.field("Cache-Control"),
            Some("no-cache"),
            "{path}"
        );
        assert!(reply.head.field("Date").is_some(), "{path}");
    }
}
