//! Handover: a service manager keeps the listening socket open while the server is restarted, and is told how it is.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::redis::free_port;
use crate::support::server::{PROGRAM, signal};
use crate::support::{DEADLINE, Server, ServerOptions, TemporaryDirectory, wait_until};

/// Connections that are made over all restarts of a test.
const CONNECTIONS: usize = 3_000;
const THREADS: usize = 8;

/// What became of the connections.
#[derive(Debug, Default)]
struct Outcomes {
    served: AtomicUsize,
    /// Answered with 503, because the process had just been asked to stop.
    sent_away: AtomicUsize,
    refused: AtomicUsize,
    broken: AtomicUsize,
}

impl Outcomes {
    fn counts(&self) -> [usize; 4] {
        let all = [&self.served, &self.sent_away, &self.refused, &self.broken];
        all.map(|count| count.load(Ordering::Relaxed))
    }
}

/// One request on a connection of its own.
fn call(address: SocketAddr, outcomes: &Outcomes) {
    let answer = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let count = match answer {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => &outcomes.served,
        Ok(answer) if answer.starts_with("HTTP/1.1 503") => &outcomes.sent_away,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => &outcomes.refused,
        _ => &outcomes.broken,
    };
    count.fetch_add(1, Ordering::Relaxed);
}

/// Restarts a server so many times while clients connect, each time when a part of them has.
fn restart_under_load(
    address: SocketAddr,
    restarts: usize,
    mut restart: impl FnMut(),
) -> [usize; 4] {
    let outcomes = Outcomes::default();
    let left = AtomicUsize::new(CONNECTIONS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let take = |left: usize| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                    .is_ok()
                {
                    call(address, &outcomes);
                }
            });
        }
        for number in 1..=restarts {
            let begun = CONNECTIONS * number / (restarts + 1);
            wait_until("so many connections were made", || {
                left.load(Ordering::Relaxed) <= CONNECTIONS - begun
            });
            restart();
        }
    });
    outcomes.counts()
}

fn options() -> ServerOptions {
    ServerOptions::demo().variable("DRAIN_SEC", "1")
}

#[test]
fn no_connection_is_refused_while_the_server_is_restarted() {
    // The next process begins when the last one has ended, or before it was asked to.
    for overlaps in [false, true] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let start = || options().inheriting(&listener).start();
        let mut server = Some(start());
        assert_eq!(server.as_ref().map(Server::address), Some(address));
        let mut subscribers = Vec::new();
        let [served, sent_away, refused, broken] = restart_under_load(address, 5, || {
            let mut old = server.take().expect("a server");
            subscribers.push(old.subscribe("/subscribe/eps"));
            let early = overlaps.then(start);
            old.signal("TERM");
            assert!(old.wait_for_exit().success());
            server = Some(early.unwrap_or_else(start));
        });
        eprintln!("{served} served, {sent_away} sent away, {refused} refused, {broken} broken");
        assert_eq!((refused, broken), (0, 0), "overlaps: {overlaps}");
        assert!(sent_away < CONNECTIONS / 20, "{sent_away} were sent away");
    }
}

/// A process that is killed when it is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _gone_already = self.0.wait();
    }
}

#[test]
fn systemd_passes_its_socket_on() {
    let version = Command::new("systemd-socket-activate")
        .arg("--version")
        .output();
    if !version.is_ok_and(|output| output.status.success()) {
        let required = std::env::var("REQUIRE_SYSTEMD").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "systemd-socket-activate is not installed, and REQUIRE_SYSTEMD=1"
        );
        let line =
            "SKIPPED systemd_passes_its_socket_on: systemd-socket-activate is not installed\n";
        let _unheard = std::io::stderr().lock().write_all(line.as_bytes());
        return;
    }
    // What systemd does with a service that ends: it is started again, with its process ID in LISTEN_PID.
    let directory = TemporaryDirectory::create();
    let pids = directory.path().join("pids");
    let script = format!(
        "while :; do sh -c 'echo $$ >>{}; LISTEN_PID=$$ exec {PROGRAM} --demo --port=1 --drain-sec=1'; done",
        pids.display()
    );
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut command = Command::new("systemd-socket-activate");
    command.args(["-l", &address.to_string(), "sh", "-c", &script]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let manager = Killed(command.spawn().expect("to start systemd-socket-activate"));
    wait_until("it listens", || TcpStream::connect(address).is_ok());
    let last_pid = || {
        let text = std::fs::read_to_string(&pids).unwrap_or_default();
        text.lines()
            .map(|line| line.parse::<u32>().expect("a number"))
            .next_back()
    };
    wait_until("the server is started", || last_pid().is_some());
    let [served, sent_away, refused, broken] = restart_under_load(address, 5, || {
        let old = last_pid();
        signal(old.expect("a server"), "TERM");
        wait_until("it is started again", || last_pid() != old);
    });
    drop(manager);
    signal(last_pid().expect("a server"), "KILL");
    eprintln!("{served} served, {sent_away} sent away, {refused} refused, {broken} broken");
    assert_eq!((refused, broken), (0, 0));
}

#[test]
fn descriptors_that_cannot_be_used_are_named() {
    let file = "exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$";
    let output = options().after(file).command().output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("LISTEN_FDS") && said.contains("not a socket"),
        "{said}"
    );
    // They are for another process.
    let other = options()
        .after("exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=1")
        .start();
    assert_eq!(other.ask("GET", "/healthz").head.status(), 200);
}

#[test]
fn a_service_manager_is_told_how_the_server_is() {
    let directory = TemporaryDirectory::create();
    let path = directory.path().join("notify.sock");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    let receive = || {
        let mut buffer = [0; 500];
        let len = manager.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let mut server = options()
        .variable("NOTIFY_SOCKET", path.to_str().expect("text"))
        .variable("WATCHDOG_USEC", "400000")
        .start();
    assert_eq!(receive(), "READY=1\nWATCHDOG=1\nSTATUS=ready, 0 streams\n");
    let began_at = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(receive(), "WATCHDOG=1\n");
    }
    let took = began_at.elapsed();
    assert!(took > Duration::from_millis(700), "five beats in {took:?}");
    let _subscriber = server.subscribe("/subscribe/eps");
    server.signal("TERM");
    let mut last = receive();
    while last == "WATCHDOG=1\n" {
        last = receive();
    }
    assert!(last.starts_with("STOPPING=1\n"), "{last}");
    assert!(last.ends_with("STATUS=stopping, 1 streams\n"), "{last}");
    assert!(server.wait_for_exit().success());
}
