//! Administration: the admin pages, `ADMIN_TOKEN`, `ADMIN_LISTEN`, the health check, and the lines logged at startup.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::support::http::Head;
use crate::support::redis::free_port;
use crate::support::server::{PROGRAM, signal, wait_for_exit};
use crate::support::{Connection, Reply, Server, ServerOptions, wait_until};

const BEARER: &str = "Authorization: Bearer sesame\r\n";
/// The user is `admin`.
const BASIC: &str = "Authorization: Basic YWRtaW46c2VzYW1l\r\n";
const CHALLENGE: &str = "Basic realm=\"emojitrack-streamer\", charset=\"UTF-8\"";

/// The paths that the token is for; the last one is nothing.
const PRIVATE: [&str; 6] = [
    "/admin",
    "/admin/",
    "/admin/status.json",
    "/admin/cluster.json",
    "/metrics",
    "/admin/other",
];

fn with_token() -> Server {
    ServerOptions::demo()
        .variable("ADMIN_TOKEN", "sesame")
        .start()
}

fn send(address: SocketAddr, method: &str, path: &str, fields: &str) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(request_with(method, path, fields));
    connection
}

fn request_with(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}Connection: close\r\n\r\n")
}

#[track_caller]
fn ask(address: SocketAddr, method: &str, path: &str, fields: &str) -> Reply {
    send(address, method, path, fields).read_reply()
}

/// The head of an answer to `HEAD`, behind which there must be nothing.
#[track_caller]
fn ask_for_head(address: SocketAddr, path: &str, fields: &str) -> Head {
    let mut connection = send(address, "HEAD", path, fields);
    let head = connection.read_head();
    connection.expect_end();
    head
}

#[track_caller]
fn status(address: SocketAddr, method: &str, path: &str, fields: &str) -> u16 {
    ask(address, method, path, fields).head.status()
}

#[test]
fn the_admin_page_is_a_folder() {
    let server = ServerOptions::demo().start();
    for path in ["/admin", "/admin?x=y"] {
        let reply = ask(server.address(), "GET", path, "");
        assert_eq!(reply.head.status(), 301);
        assert_eq!(reply.head.field("Location"), Some("/admin/"));
        assert_eq!(reply.text(), "");
        let head = ask_for_head(server.address(), path, "");
        assert_eq!(
            (head.status(), head.field("Location")),
            (301, Some("/admin/"))
        );
    }
    let reply = ask(server.address(), "POST", "/admin", "");
    assert_eq!(reply.head.status(), 405);
    assert_eq!(reply.head.field("Allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn without_the_token_nothing_private_is_shown() {
    let server = with_token();
    let address = server.address();
    let wrong = [
        "",
        "Authorization: Bearer Sesame\r\n",
        "Authorization: Bearer sesam\r\n",
        "Authorization: Bearer sesame-and-more\r\n",
        "Authorization: sesame\r\n",
        // admin:, then something that is not base64.
        "Authorization: Basic YWRtaW46\r\n",
        "Authorization: Basic admin:sesame\r\n",
        "Cookie: sesame\r\n",
    ];
    for (third, path) in (1..).zip(PRIVATE) {
        for (last, fields) in (1..).zip(wrong) {
            // Each comes from an address of its own, because many wrong tokens from one are not looked at.
            let mut connection = Connection::open_from([127, 0, third, last].into(), address);
            connection.send(request_with("GET", path, fields));
            let reply = connection.read_reply();
            assert_eq!(reply.head.status(), 401, "{path} with {fields:?}");
            assert_eq!(reply.head.field("WWW-Authenticate"), Some(CHALLENGE));
            assert_eq!(reply.json()["status"], "Unauthorized");
            assert!(!reply.text().contains("sesame"), "{}", reply.text());
        }
        let head = ask_for_head(address, path, "");
        assert_eq!(head.status(), 401, "{path}");
        assert_eq!(head.field("WWW-Authenticate"), Some(CHALLENGE));
        assert_eq!(status(address, "DELETE", path, ""), 401, "{path}");
    }
    // What a request carries in another place is not looked at.
    let path = "/admin/status.json?token=sesame";
    assert_eq!(status(address, "GET", path, ""), 401);
}

#[test]
fn with_the_token_everything_is_as_without_one() {
    let server = with_token();
    let address = server.address();
    for fields in [BEARER, BASIC, "authorization: bEARER  sesame\r\n"] {
        let reply = ask(address, "GET", "/admin/status.json", fields);
        assert_eq!(reply.head.status(), 200, "{fields:?}");
        assert_eq!(reply.json()["status"], "OK");
        let head = ask_for_head(address, "/admin/status.json", fields);
        assert_eq!(head.status(), 200);
        assert_eq!(status(address, "GET", "/admin", fields), 301);
        assert_eq!(status(address, "GET", "/admin/other", fields), 404);
        assert_eq!(status(address, "POST", "/admin/status.json", fields), 405);
        for path in ["/admin/", "/admin/cluster.json", "/metrics"] {
            let status = status(address, "GET", path, fields);
            assert!(![401, 404, 405].contains(&status), "{path}: {status}");
        }
    }
}

#[test]
fn the_rest_stays_open() {
    let server = with_token();
    let address = server.address();
    for path in ["/", "/healthz", "/readyz"] {
        assert_eq!(status(address, "GET", path, ""), 200, "{path}");
    }
    for path in ["/admin/status.json", "/metrics", "/subscribe/eps"] {
        assert_eq!(status(address, "OPTIONS", path, ""), 204, "{path}");
    }
    let mut subscriber = server.subscribe("/subscribe/eps");
    subscriber.next_event();
}

/// A stranger on the same network, a visitor of a proxy on the same machine, and a page that has resolved its name to the
/// server.
#[test]
fn without_settings_nothing_private_leaves_the_machine() {
    let local = ServerOptions::demo().everywhere().start();
    let open = ServerOptions::demo()
        .everywhere()
        .variable("ADMIN_OPEN", "1");
    let open = open.variable("ADMIN_HOSTS", "streamer.example").start();
    local.wait_for_log("/admin/, /metrics and /stats are open to loopback clients only");
    open.wait_for_log("/admin/, /metrics and /stats are open to everybody (ADMIN_OPEN)");
    let port = |server: &Server| server.address().port();
    let at = |server: &Server| SocketAddr::from((Ipv4Addr::LOCALHOST, port(server)));
    let asked = |server: &Server, path: &str, fields: &str| {
        let mut connection = Connection::open(at(server));
        connection.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n"));
        connection.read_reply()
    };
    #[rustfmt::skip]
    let table = [
        ("Host: localhost", true, true),
        ("Host: 10.0.0.1:80", true, true),
        ("Host: localhost\r\nX-Forwarded-For: 10.0.0.1", false, true),
        ("Host: localhost\r\nForwarded: for=10.0.0.1", false, true),
        ("Host: localhost\r\nVia: 1.1 proxy", false, true),
        ("Host: streamer.example", false, true),
        ("Host: evil.example", false, false),
    ];
    for (fields, is_local, is_open) in table {
        for path in PRIVATE {
            for (server, is_shown) in [(&local, is_local), (&open, is_open)] {
                let reply = asked(server, path, fields);
                let is_refused = reply.head.status() == 403;
                assert_eq!(is_refused, !is_shown, "{path} with {fields:?}");
                assert!(
                    !is_refused || reply.text().contains("ADMIN_TOKEN"),
                    "{}",
                    reply.text()
                );
            }
        }
        for path in ["/healthz", "/readyz"] {
            assert_eq!(
                asked(&local, path, fields).head.status(),
                200,
                "{path} with {fields:?}"
            );
        }
    }
    // The machine's own address is none of loopback.
    let Some(own) = own_address() else { return };
    for (server, expected) in [(&local, 403), (&open, 200)] {
        let address = SocketAddr::from((own, port(server)));
        assert_eq!(status(address, "GET", "/metrics", ""), expected);
        assert_eq!(status(address, "GET", "/healthz", ""), 200);
    }
}

/// The address from which this machine would reach others, if it has a network. Nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn what_is_kept_from_others_is_kept_from_other_origins() {
    const CORS: &str = "Access-Control-Allow-Origin";
    let local = ServerOptions::demo().start();
    let open = ServerOptions::demo().variable("ADMIN_OPEN", "1").start();
    let apart = ServerOptions::demo()
        .variable("ADMIN_LISTEN", "127.0.0.1:0")
        .start();
    let asking = with_token();
    let (asking, admin) = (asking.address(), admin_address(&apart));
    let answering = [
        (local.address(), ""),
        (open.address(), ""),
        (admin, ""),
        (asking, BEARER),
        (asking, ""),
    ];
    for path in PRIVATE {
        for (address, fields) in answering {
            let head = ask(address, "GET", path, fields).head;
            assert_eq!(head.field(CORS), None, "{path} with {fields:?}");
            assert_eq!(ask_for_head(address, path, fields).field(CORS), None);
            let mut connection = send(address, "OPTIONS", path, "Origin: http://b\r\n");
            let head = connection.read_head();
            let name = |line: &String| line.starts_with("Access-Control-");
            assert!(!head.lines_but_date().iter().any(name), "{path}: {head:?}");
        }
    }
    // Again, because some documents are given out twice.
    for (address, fields) in &answering[..4] {
        let reply = ask(*address, "GET", "/admin/cluster.json", fields);
        assert_eq!((reply.head.status(), reply.head.field(CORS)), (200, None));
    }
    for address in [apart.address(), asking] {
        for path in ["/", "/healthz", "/nothing"] {
            let head = ask(address, "GET", path, "").head;
            assert_eq!(head.field(CORS), Some("*"), "{path}");
        }
        let mut stream = send(address, "GET", "/subscribe/eps", "");
        assert_eq!(stream.read_head().field(CORS), Some("*"));
    }
}

/// Where the admin's door is, by what the server says.
#[track_caller]
pub fn admin_address(server: &Server) -> SocketAddr {
    let line = server.wait_for_log("admin page: http://");
    let url = line.rsplit("http://").next().unwrap_or_default();
    let address = url.strip_suffix("/admin/").expect("the admin page");
    address.parse().expect("an address to connect to")
}

#[test]
fn the_admin_may_have_a_door_of_its_own() {
    let mut server = ServerOptions::demo()
        .variable("ADMIN_LISTEN", "127.0.0.1:0")
        .start();
    let (public, admin) = (server.address(), admin_address(&server));
    assert_ne!(public, admin);
    for path in PRIVATE {
        assert_eq!(status(public, "GET", path, ""), 404, "{path}");
        assert_eq!(status(public, "OPTIONS", path, ""), 404, "{path}");
    }
    assert_eq!(status(admin, "GET", "/admin", ""), 301);
    assert_eq!(status(admin, "GET", "/admin/status.json", ""), 200);
    assert_eq!(status(admin, "GET", "/admin/other", ""), 404);
    for path in ["/", "/subscribe/raw", "/subscribe/eps", "/nothing"] {
        assert_eq!(status(admin, "GET", path, ""), 404, "{path}");
    }
    assert_eq!(status(admin, "POST", "/subscribe/cleanup/scores", ""), 404);
    for address in [public, admin] {
        assert_eq!(status(address, "GET", "/healthz", ""), 200);
        assert_eq!(status(address, "GET", "/readyz", ""), 200);
    }
    server.subscribe("/subscribe/eps").next_event();
    // Half a request is refused at the stop; then the process waits for the client's end, for some seconds.
    let mut late = Connection::open(admin);
    late.send("GET /healthz HTTP/1.1\r\n");
    // Whoever comes later is served later, so it has been accepted by now.
    assert_eq!(status(admin, "GET", "/healthz", ""), 200);
    server.signal("TERM");
    wait_until("both doors are closed", || {
        [public, admin]
            .map(TcpStream::connect)
            .iter()
            .all(Result::is_err)
    });
    assert_eq!(late.read_reply().head.status(), 503);
    drop(late);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn the_door_may_ask_for_the_token_too() {
    let server = ServerOptions::demo()
        .variable("ADMIN_LISTEN", "127.0.0.1:0")
        .variable("ADMIN_TOKEN", "sesame")
        .start();
    let (public, admin) = (server.address(), admin_address(&server));
    let path = "/admin/status.json";
    assert_eq!(status(public, "GET", path, BEARER), 404);
    assert_eq!(status(admin, "GET", path, ""), 401);
    assert_eq!(status(admin, "GET", path, BASIC), 200);
}

#[test]
fn a_crowd_at_the_public_door_does_not_keep_the_admin_out() {
    let server = ServerOptions::demo()
        .variable("ADMIN_LISTEN", "127.0.0.1:0")
        .after("ulimit -Sn 64 && ulimit -Hn 64")
        .start();
    let admin = admin_address(&server);
    let crowd: Vec<Connection> = (0..60).map(|_| server.connect()).collect();
    wait_until("no more of the crowd are let in", || {
        let path = format!("/proc/{}/fd", server.process_id());
        let open = || fs::read_dir(&path).expect("the process").count();
        let before = open();
        std::thread::sleep(Duration::from_millis(100));
        before > 30 && before == open()
    });
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(status(admin, "GET", "/healthz", ""), 200);
        assert_eq!(status(admin, "GET", "/admin/status.json", ""), 200);
    }
    // The crowd is sent away for its silence only later.
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "answered after {took:?}");
    assert_eq!(server.count_log("accept:"), 0);
    // Whoever waits outside is let in when others leave.
    drop(crowd);
    assert_eq!(status(server.address(), "GET", "/healthz", ""), 200);
}

/// Runs the health check with these settings.
fn healthcheck(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("healthcheck").args(arguments).env_clear();
    command.output().expect("an end")
}

/// The one line with which it says that a server is not healthy.
#[track_caller]
fn not_healthy(arguments: &[&str]) -> String {
    let output = healthcheck(arguments);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn the_health_check_finds_a_server_that_is_alive() {
    let everywhere = ServerOptions::demo().everywhere().start();
    let port = format!("--port={}", everywhere.address().port());
    let checks = [&[port.as_str()][..], &["--listen=0.0.0.0", port.as_str()]];
    for arguments in checks {
        let output = healthcheck(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty() && output.stdout.is_empty());
    }
    let one = ServerOptions::without_redis().start();
    let listen = format!("--listen={}", one.address());
    let output = healthcheck(&[&listen, "--port=0", "--admin-token=sesame"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn the_health_check_says_why_a_server_is_not() {
    let port = free_port();
    let text = not_healthy(&[&format!("--port={port}")]);
    assert!(text.contains(&format!("127.0.0.1:{port}: ")), "{text}");
    assert!(text.contains(&format!("[::1]:{port}: ")), "{text}");
    // It accepts, or the kernel does so for it, and never answers.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = silent.local_addr().expect("its address");
    let text = not_healthy(&[&format!("--listen={address}")]);
    let expected = format!("{address}: no answer within 3 s");
    assert!(text.contains(&expected), "{text}");
    let text = not_healthy(&["--port=0"]);
    assert!(text.contains("port 0"), "{text}");
    assert_eq!(healthcheck(&["--port=x"]).status.code(), Some(2));
    assert_eq!(healthcheck(&["now"]).status.code(), Some(2));
}

#[test]
fn the_start_shows_the_settings_without_their_secrets() {
    let server = ServerOptions::redis_url("redis://user:secret@127.0.0.1:9/1")
        .without_waiting()
        .variable("ADMIN_TOKEN", "secret")
        .variable("PUBLISH_KEY", "secret")
        .variable("HOSTEDGRAPHITE_APIKEY", "secret")
        // A loopback port without a listener.
        .variable("GRAPHITE_URL", "udp://127.0.0.1:9")
        .variable("DYNO", "web 1")
        .variable("ENABLE_DEMO_PAGE", "yes")
        .start();
    let line = server.wait_for_log("settings: ");
    let parts = [
        "info  settings: PORT=0 LISTEN=127.0.0.1:0 ",
        " REDIS_URL=redis://user@127.0.0.1:9/1 ",
        " ENABLE_DEMO_PAGE=true ",
        " CHANNELS=none CHANNELS_PATTERNS=false PUBLISH_KEY=*** ",
        " DYNO=\"web 1\" ",
        " GRAPHITE_URL=udp://127.0.0.1:9 ",
        " HOSTEDGRAPHITE_APIKEY=*** ",
        " ADMIN_TOKEN=*** ",
        " ADMIN_LISTEN=none ",
        " LOG_LEVEL=info VERBOSE=false",
    ];
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing in {line}");
    }
    assert!(!line.contains("MAX_CONNECTIONS=none"), "{line}");
    assert_eq!(status(server.address(), "GET", "/", ""), 200);
    server.wait_for_log("redis: connecting to ");
    assert_eq!(server.count_log("secret"), 0);
}

#[test]
fn without_redis_the_server_is_all_there_is() {
    let mut server = ServerOptions::redis_url("none")
        .without_waiting()
        .variable("ENABLE_DEMO_PAGE", "yes")
        .start();
    server.wait_for_log("broker: embedded; set PUBLISH_KEY to feed it by POST /publish");
    for path in ["/readyz", "/", "/admin/cluster.json"] {
        assert_eq!(status(server.address(), "GET", path, ""), 200, "{path}");
    }
    let source = &server.status()["stats"]["source"];
    assert_eq!(source["kind"], "embedded", "{source}");
    let _subscriber = server.subscribe("/subscribe/eps");
    server.wait_for_connections(1);
    server.signal("TERM");
    assert!(server.wait_for_exit().success());
}

#[test]
fn a_log_of_errors_is_silent_while_there_are_none() {
    let port = format!("--port={}", free_port());
    let options = ServerOptions::demo()
        .argument(&port)
        .variable("LOG_LEVEL", "error");
    let mut child = options.command().spawn().expect("to start the server");
    wait_until("the server is healthy", || {
        healthcheck(&["--listen=127.0.0.1", &port]).status.success()
    });
    signal(child.id(), "TERM");
    assert_eq!(wait_for_exit(&mut child).code(), Some(0));
    let output = child.wait_with_output().expect("what it has said");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn the_debug_level_logs_connects_and_disconnects() {
    let server = ServerOptions::demo().variable("LOG_LEVEL", "DEBUG").start();
    drop(server.subscribe("/subscribe/eps"));
    server.wait_for_log("debug connect /subscribe/eps from 127.0.0.1");
    server.wait_for_log("debug disconnect /subscribe/eps from 127.0.0.1");
}

#[test]
fn what_clients_say_does_not_steer_the_terminal_that_shows_it() {
    let server = ServerOptions::demo().variable("VERBOSE", "true").start();
    let mut connection = server.connect();
    // U+009B begins a sequence of control characters, as an escape and a bracket do.
    let path = "/subscribe/details/caf%C3%A9%C2%9B31m";
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\n");
    connection.send(format!("{head}User-Agent: \u{9b}2J\t\u{1f4c2}\r\n\r\n"));
    assert_eq!(connection.read_head().status(), 200);
    let reply = server.ask("GET", "/admin/status.json");
    let row = &reply.json()["connections"][0];
    assert_eq!(row["request_path"], path);
    assert_eq!(row["user_agent"], "\\u{9b}2J\\t\u{1f4c2}");
    // What is asked for is what it is; only its writing is changed.
    assert_eq!(row["tag"], "caf\u{e9}\u{9b}31m");
    let is_control = |letter: char| letter.is_control() && letter != '\n';
    assert!(!reply.text().contains(is_control), "{:?}", reply.text());
    drop(connection);
    for word in ["connect", "disconnect"] {
        let line = format!("debug {word} {path} from 127.0.0.1");
        server.wait_for_log(&line);
    }
    assert!(!server.log().iter().any(|line| line.contains(is_control)));
}

#[test]
fn verbose_wins_over_a_quieter_level() {
    let server = ServerOptions::demo()
        .variable("LOG_LEVEL", "warn")
        .variable("VERBOSE", "true")
        .start();
    drop(server.subscribe("/subscribe/raw"));
    server.wait_for_log("debug connect /subscribe/raw from 127.0.0.1");
}
