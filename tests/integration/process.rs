//! The process: startup, exit, and its use of resources.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::redis::free_port;
use crate::support::server::wait_for_exit;
use crate::support::{
    Connection, End, Server, ServerOptions, Subscriber, redis_or_skip, wait_until,
};

#[test]
fn signals_end_it_cleanly() {
    for signal in ["TERM", "INT"] {
        let mut server = ServerOptions::demo().start();
        let paths = ["/subscribe/eps", "/subscribe/raw", "/subscribe/details"];
        let mut chunked = paths.map(|path| server.subscribe(path));
        let mut bare = server.subscribe_http_10("/subscribe/raw");
        let mut idle = server.connect();
        for subscriber in chunked.iter_mut().chain([&mut bare]) {
            subscriber.next_event();
        }
        server.signal(signal);
        for subscriber in chunked.iter_mut().chain([&mut bare]) {
            let (_, end) = subscriber.read_to_end();
            assert_eq!(end, End::Proper, "after {signal}");
            assert!(subscriber.is_at_boundary(), "after {signal}");
        }
        idle.expect_end();
        assert_eq!(server.wait_for_exit().code(), Some(0), "after {signal}");
    }
}

#[test]
fn a_hangup_does_not_end_it() {
    let mut server = ServerOptions::demo().start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    subscriber.next_event();
    server.signal("HUP");
    server.wait_for_log("SIGHUP: ");
    subscriber.next_event();
    assert_eq!(server.count_log("SIGHUP: "), 1);
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_stream_ends_with_these_bytes() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut connection = server.connect();
    connection.send("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.read_head();
    server.signal("TERM");
    let stream = connection.read_to_end();
    let stream = String::from_utf8_lossy(&stream);
    assert!(stream.ends_with("\r\n0\r\n\r\n"), "{stream:?}");
}

#[test]
fn a_client_that_does_not_read_cannot_keep_it_from_ending() {
    let mut server = ServerOptions::demo().variable("DEMO_RATE", "20000").start();
    let connection = Connection::open_narrow(server.address(), 4 * 1024);
    let stalled = Subscriber::open(connection, "/subscribe/details");
    let mut attentive = server.subscribe("/subscribe/details");
    attentive.next_data(5_000);
    server.signal("TERM");
    let signalled_at = Instant::now();
    let (_, end) = attentive.read_to_end();
    assert_eq!(end, End::Proper);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let elapsed = signalled_at.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    drop(stalled);
}

#[test]
fn a_log_that_is_not_read_does_not_block_the_server() {
    // Where it listens is the first line; then the pipe fills up.
    let mut server = ServerOptions::demo()
        .variable("VERBOSE", "true")
        .variable("DYNO", "quiet")
        .reading_no_more_than(1)
        .start();
    let path = format!("/subscribe/details/{}", "a".repeat(200));
    for _ in 0..1_500 {
        drop(server.subscribe(&path));
    }
    assert_eq!(server.status()["node"], "rust-development-quiet");
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_port_in_use_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    let options = ServerOptions::demo().argument(&format!("--port={}", address.port()));
    let output = options.command().output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(text.contains("in use"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn several_processes_share_a_port_with_reuse_port() {
    let options = ServerOptions::demo().variable("REUSE_PORT", "true");
    let first = options.clone().variable("DYNO", "first").start();
    let port = format!("--port={}", first.address().port());
    let second = options.argument(&port).variable("DYNO", "second").start();
    assert_eq!(first.address(), second.address());
    let mut nodes: Vec<String> = (0..64)
        .map(|_| first.status()["node"].as_str().expect("a name").to_owned())
        .collect();
    nodes.sort();
    nodes.dedup();
    assert_eq!(nodes, ["rust-development-first", "rust-development-second"]);
    // When one of them goes, the other has the port to itself.
    drop(first);
    wait_until("all reach the second", || {
        second.status()["node"] == "rust-development-second"
    });
}

#[test]
fn the_port_of_the_admin_is_not_shared() {
    let port = free_port();
    let options = ServerOptions::demo()
        .variable("REUSE_PORT", "true")
        .variable("ADMIN_LISTEN", &format!("127.0.0.1:{port}"));
    let first = options.start();
    let argument = format!("--port={}", first.address().port());
    let second = options.argument(&argument);
    let mut child = second.command().spawn().expect("to start");
    assert_eq!(wait_for_exit(&mut child).code(), Some(1));
    let output = child.wait_with_output().expect("what it has said");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("in use"), "{text}");
    // With another port of its own it may come.
    second.variable("ADMIN_LISTEN", "127.0.0.1:0").start();
}

#[test]
fn a_port_is_not_shared_by_default() {
    let first = ServerOptions::demo().start();
    let port = format!("--port={}", first.address().port());
    let command = ServerOptions::demo().argument(&port).command().spawn();
    let status = wait_for_exit(&mut command.expect("to start"));
    assert_eq!(status.code(), Some(1));
}

/// Processor time that the process has used, in hundredths of a second.
fn processor_time(server: &Server) -> u64 {
    let path = format!("/proc/{}/stat", server.process_id());
    let stat = fs::read_to_string(path).expect("the process");
    // The name, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| -> u64 { fields[index].parse().expect("a number") };
    ticks(11) + ticks(12)
}

/// How often any thread of the process has gone to sleep, which is how often it has woken up.
fn wake_ups(server: &Server) -> u64 {
    let path = format!("/proc/{}/task", server.process_id());
    let threads = fs::read_dir(path).expect("the process");
    let of_thread = |thread: std::io::Result<fs::DirEntry>| -> u64 {
        let path = thread.expect("a thread").path().join("status");
        let status = fs::read_to_string(path).expect("a thread");
        let name = "voluntary_ctxt_switches:";
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a count").trim().parse().expect("a number")
    };
    threads.map(of_thread).sum()
}

#[test]
fn at_rest_it_does_not_wake_up() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let paths = ["/subscribe/raw", "/subscribe/eps", "/subscribe/details/A"];
    let subscribers: Vec<Subscriber> = (0..100)
        .map(|number| server.subscribe(paths[number % paths.len()]))
        .collect();
    // Each second or two, Redis is asked over both connections whether it is there, and answers.
    let before = (wake_ups(&server), processor_time(&server));
    thread::sleep(Duration::from_secs(3));
    let after = (wake_ups(&server), processor_time(&server));
    let woken = after.0 - before.0;
    assert!(woken <= 6, "woken {woken} times in three seconds");
    assert!(after.1 - before.1 <= 1, "busy from {before:?} to {after:?}");
    drop(subscribers);
}

#[test]
fn a_demo_without_clients_does_not_wake_up() {
    let server = ServerOptions::demo().start();
    let mut subscriber = server.subscribe("/subscribe/eps");
    subscriber.next_event();
    drop(subscriber);
    server.wait_for_connections(0);
    let before = wake_ups(&server);
    thread::sleep(Duration::from_secs(2));
    let woken = wake_ups(&server) - before;
    // The connection that asked for the status may have ended only just now.
    assert!(woken <= 5, "woken {woken} times in two seconds");
}

#[test]
fn more_clients_than_descriptors_wait_until_others_leave() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .after("ulimit -Sn 64 && ulimit -Hn 64")
        .start();
    let mut waiting: Vec<Connection> = (0..150)
        .map(|_| {
            let mut connection = server.connect();
            connection.send("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
            connection
        })
        .collect();
    let rest = waiting.split_off(30);
    let mut first: Vec<Subscriber> = waiting.into_iter().map(Subscriber::begin).collect();
    first
        .iter_mut()
        .for_each(|subscriber| drop(subscriber.next_item()));

    // All descriptors that there are for clients are taken, and a hundred more clients wait.
    let before = processor_time(&server);
    thread::sleep(Duration::from_secs(2));
    let busy = processor_time(&server) - before;
    assert!(busy <= 20, "{busy} hundredths of two seconds busy");

    // The broker is not shut out by them.
    redis.client().command("CLIENT KILL TYPE pubsub");
    server.wait_for_log_count("redis: subscribed", 2);

    drop(first);
    waiting = rest;
    // Whoever leaves makes room for one that waits, in the order in which they came.
    let mut served = 30;
    while !waiting.is_empty() {
        let rest = waiting.split_off(waiting.len().min(30));
        for connection in waiting {
            let mut subscriber = Subscriber::begin(connection);
            subscriber.next_item();
            served += 1;
        }
        waiting = rest;
    }
    assert_eq!(served, 150);
    server.wait_for_connections(0);
}

#[test]
fn many_addresses_leave_room_for_the_broker() {
    let Some(redis) = redis_or_skip() else { return };
    let addresses = |port: &str| {
        let addresses = (1..=16).map(|number| format!("127.0.0.{number}{port}"));
        addresses.collect::<Vec<_>>().join(",")
    };
    let server = ServerOptions::redis(&redis)
        .argument(&format!("--listen={}", addresses("")))
        .variable("ADMIN_LISTEN", &addresses(":0"))
        .after("ulimit -Sn 128 && ulimit -Hn 128")
        .start();
    let mut streams = Vec::new();
    loop {
        let mut connection = server.connect();
        connection.send("GET /subscribe/eps HTTP/1.1\r\nHost: a\r\n\r\n");
        if connection.read_head().field("Transfer-Encoding").is_none() {
            break;
        }
        streams.push(connection);
        assert!(streams.len() < 128, "more streams than descriptors");
    }
    assert!(streams.len() >= 32, "{} streams", streams.len());
    // Whoever comes now takes what places there are left.
    streams.extend((0..128).map(|_| server.connect()));
    redis.client().command("CLIENT KILL TYPE pubsub");
    server.wait_for_log_count("redis: subscribed", 2);
    assert_eq!(server.count_log("accept:"), 0);
}

#[test]
fn its_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let server = ServerOptions::demo()
        .after("ulimit -Sn 32 && ulimit -Hn 512")
        .start();
    let path = format!("/proc/{}/limits", server.process_id());
    let limits = fs::read_to_string(path).expect("the process");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut limits = line.expect("a limit").split_whitespace().skip(3);
    assert_eq!((limits.next(), limits.next()), (Some("512"), Some("512")));
    let subscribers: Vec<Subscriber> = (0..100)
        .map(|_| server.subscribe("/subscribe/eps"))
        .collect();
    assert_eq!(server.connections().len(), subscribers.len());
}
