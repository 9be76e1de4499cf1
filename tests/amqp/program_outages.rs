//! The program with a broker that crashes, refuses the login, is away, or is no broker.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use emojitrack_streamer::limits;

use crate::program::{
    LISTENING, metric, options, readiness, start, wait_for_bindings, with_exchange,
};
use crate::publisher::{self, Publisher};
use crate::rabbit::{Rabbit, is_installed_or_skip, shared_or_skip};
use crate::support::channels::{
    come_back, id_of, make_up_channels, publication, publish, publish_over,
};
use crate::support::redis::{SCORES, free_port};
use crate::support::{Connection, Event, Server, ServerOptions, Subscriber, wait_until};

/// What the server says when it has lost the broker, or has not found it.
const TRYING: &str = "; trying again in";

/// What it has said that is not just information.
fn complaints_of(server: &Server) -> Vec<String> {
    let mut lines = server.log();
    lines.retain(|line| {
        ["warn", "error"]
            .iter()
            .any(|level| line.trim_start().starts_with(level))
    });
    lines
}

/// Makes sure that nothing is taken for channels, and all the rest goes on.
#[track_caller]
fn expect_no_broker(server: &Server) {
    assert_eq!(readiness(server), (503, "no broker\n".to_owned()));
    assert_eq!(server.ask("GET", "/healthz").head.status(), 200);
    assert!(metric(server, "source_up{source=\"amqp\"}").ends_with(" 0"));
    let exchange = &server.status()["stats"]["exchange"];
    assert_eq!(exchange["live"], false);
    let mut connection = server.connect();
    connection.send(publication("channel=a&message=lost"));
    let reply = connection.read_reply();
    assert_eq!(reply.head.status(), 503);
    assert!(reply.head.field("Retry-After").is_some());
    assert!(
        reply.text().contains("no connection to the broker"),
        "{}",
        reply.text()
    );
    let mut eps = server.subscribe("/subscribe/eps");
    let mut raw = server.subscribe("/subscribe/raw");
    publish(server, SCORES, "2665");
    assert_eq!(raw.next_data(1), ["2665"]);
    assert_eq!(eps.next_data(1), ["{\"2665\":1}"]);
}

#[track_caller]
fn expect_gap(server: &Server, path: &str, id: &str) {
    let event = come_back(server, path, id).next_event();
    assert_eq!((event.name.as_str(), event.data.as_str()), ("gap", "null"));
}

#[test]
fn clients_stay_while_the_broker_is_killed_and_have_what_comes_after_it() {
    if !publisher::is_installed_or_skip() || !is_installed_or_skip() {
        return;
    }
    let mut rabbit = Rabbit::start();
    let server = start(&options(&rabbit, "killed", "topic"));
    let mut a = server.subscribe("/?channels=a");
    let mut rooms = server.subscribe("/?channels=room.*");
    publish(&server, "a", "1");
    let before = a.next_event().id;
    assert_eq!(readiness(&server).0, 200);
    for times in 1..=2 {
        rabbit.kill();
        wait_until("the loss is noticed", || readiness(&server).0 == 503);
        expect_no_broker(&server);
        let mut during = server.subscribe("/?channels=b");
        let while_away = id_of(&mut during);
        rabbit.restart();
        server.wait_for_log_count(LISTENING, times + 1);
        wait_for_bindings(&rabbit, "killed", &["#", "a", "b"]);
        wait_until("it is ready", || readiness(&server).0 == 200);
        let exchange = &server.status()["stats"]["exchange"];
        assert_eq!(
            (&exchange["live"], &exchange["losses"]),
            (&true.into(), &times.into())
        );
        assert_eq!((&exchange["kind"]), "amqp");
        let place = format!("amqp://guest@{}", rabbit.address());
        assert_eq!(exchange["place"], place.as_str());

        let mut publisher = Publisher::new(&rabbit, "killed");
        for channel in ["a", "b", "room.7"] {
            assert!(publisher.publish(channel, "after"));
        }
        for subscriber in [&mut a, &mut during, &mut rooms] {
            assert_eq!(subscriber.next_event().name, "gap");
        }
        let event = a.next_event();
        assert_eq!(event.data, "after");
        assert_eq!(during.next_data(1), ["after"]);
        assert_eq!(rooms.next_data(1), ["after"]);
        for id in [&before, &while_away] {
            for path in ["/?channels=a", "/?channels=b", "/?channels=a,room.*"] {
                expect_gap(&server, path, id);
            }
        }
        for number in 0..50 {
            assert!(publisher.publish(["a", "room.7"][number % 2], &number.to_string()));
        }
        let expected: Vec<String> = (0..50)
            .step_by(2)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(a.next_data(25), expected);
        let mut back = come_back(&server, "/?channels=a", &event.id);
        assert_eq!(back.next_data(25), expected);
        rooms.next_data(25);
        assert!(publisher.publish("a", "last"));
        assert_eq!(
            (a.next_data(1), back.next_data(1)),
            (vec!["last".into()], vec!["last".into()])
        );
    }
    assert_eq!(server.status()["stats"]["closes"]["drain"], 0);
    assert!(metric(&server, "source_losses_total{source=\"amqp\"}").ends_with(" 2"));
}

/// Somebody who publishes one number after the other, whatever the answers.
struct Publishing {
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<BTreeSet<u64>>,
}

impl Publishing {
    fn begin(address: SocketAddr) -> Publishing {
        let is_over = Arc::new(AtomicBool::new(false));
        let is_asked_to_end = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut acknowledged = BTreeSet::new();
            let mut connection = Connection::open(address);
            let mut number = 0;
            while !is_asked_to_end.load(Ordering::SeqCst) {
                let form = format!("channel=a&message={number}");
                match publish_over(&mut connection, &form) {
                    200 => drop(acknowledged.insert(number)),
                    503 => thread::sleep(Duration::from_millis(10)),
                    status => panic!("{status}"),
                }
                number += 1;
            }
            acknowledged
        });
        Publishing { is_over, thread }
    }

    fn end(self) -> BTreeSet<u64> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().expect("the publisher")
    }
}

/// Has the broker end and begin again under a publisher; how many acknowledged messages did not reach a client of the
/// same copy of the server. Another copy may find the broker again later, and has what is published from then on.
fn lost_over_restarts(exchange: &str, end: impl Fn(&mut Rabbit)) -> Option<usize> {
    if !is_installed_or_skip() {
        return None;
    }
    let mut rabbit = Rabbit::start();
    let copies = [0, 1].map(|_| start(&options(&rabbit, exchange, "direct")));
    let mut subscribers = copies.each_ref().map(|copy| copy.subscribe("/?channels=a"));
    wait_for_bindings(&rabbit, exchange, &["a", "a"]);
    let publishing = Publishing::begin(copies[0].address());
    let number = |subscriber: &mut Subscriber| -> Option<u64> {
        let mut event = subscriber.next_event();
        // Those who stay are told of what they may have missed.
        while event.name == "gap" {
            event = subscriber.next_event();
        }
        event.data.parse().ok()
    };
    let mut received = [BTreeSet::new(), BTreeSet::new()];
    for times in 1..=3 {
        for (subscriber, received) in subscribers.iter_mut().zip(&mut received) {
            (0..50).for_each(|_| {
                assert!(
                    received.insert(number(subscriber).expect("a number")),
                    "it came twice"
                );
            });
        }
        end(&mut rabbit);
        rabbit.restart();
        for copy in &copies {
            copy.wait_for_log_count(LISTENING, times + 1);
        }
    }
    wait_for_bindings(&rabbit, exchange, &["a", "a"]);
    let acknowledged = publishing.end();
    publish(&copies[0], "a", "end");
    for (subscriber, received) in subscribers.iter_mut().zip(&mut received) {
        while let Some(number) = number(subscriber) {
            let is_next = received.last().is_none_or(|&last| last < number);
            assert!(
                is_next && received.insert(number),
                "{number} came out of order"
            );
        }
    }
    assert!(acknowledged.len() > 150, "{}", acknowledged.len());
    let lost = received.map(|received| acknowledged.difference(&received).count());
    eprintln!(
        "{exchange}: of {} acknowledged, {lost:?} were lost",
        acknowledged.len()
    );
    Some(lost[0])
}

#[test]
fn what_is_acknowledged_is_delivered_although_the_broker_ends() {
    let lost = lost_over_restarts("ended", Rabbit::end);
    assert!(lost.is_none_or(|lost| lost == 0), "{lost:?} were lost");
}

#[test]
fn what_is_acknowledged_is_delivered_although_the_broker_is_killed() {
    // It may be killed after it has confirmed a message, and before it has sent it to us: microseconds.
    let lost = lost_over_restarts("struck", Rabbit::kill);
    assert!(lost.is_none_or(|lost| lost <= 1), "{lost:?} were lost");
}

/// A retry would double what had been delivered.
#[test]
fn a_publication_that_is_refused_is_delivered_nowhere() {
    let url = "amqp://127.0.0.1:9";
    let options = with_exchange(ServerOptions::redis_url("none").without_waiting(), url);
    let server = options.start();
    let mut raw = server.subscribe("/subscribe/raw");
    let form = format!("channel={SCORES}&channel=news&message=1F4C2");
    assert_eq!(publish_over(&mut server.connect(), &form), 503);
    publish(&server, SCORES, "2665");
    assert_eq!(raw.next_data(1), ["2665"]);
}

#[test]
fn a_broker_that_refuses_the_login_is_logged_and_retried() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let (there, nowhere) = (
        rabbit.address(),
        SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())),
    );
    let table = [
        (
            format!("amqp://guest:hush-hush@{there}"),
            "403 ACCESS_REFUSED - Login was refused",
        ),
        (
            format!("amqp://nobody:hush-hush@{there}"),
            "403 ACCESS_REFUSED - Login was refused",
        ),
        (format!("amqp://{there}/nowhere"), "530 NOT_ALLOWED - "),
        (
            format!("amqp://guest:hush-hush@{nowhere}/x"),
            "Connection refused",
        ),
    ];
    let servers = table.map(|(url, words)| {
        let options = with_exchange(ServerOptions::redis_url("none").without_waiting(), &url);
        (options.start(), words)
    });
    for (mut server, words) in servers {
        let mut subscriber = server.subscribe("/?channels=a");
        id_of(&mut subscriber);
        server.wait_for_log_count(words, 3);
        expect_no_broker(&server);
        let lines = server.log();
        let complaints = complaints_of(&server);
        assert!(complaints.len() >= 3, "{complaints:?}");
        for line in complaints {
            assert!(line.contains(words) && line.contains(TRYING), "{line}");
        }
        assert!(!lines.iter().any(|line| line.contains("hush")), "{lines:?}");
        let status = server.status().to_string();
        assert!(!status.contains("hush"), "{status}");
        drop(subscriber);
        server.signal("TERM");
        assert!(server.wait_for_exit().success());
    }
}

/// Something that is no broker: it says this to whoever connects, and ends the connection or keeps it.
struct Impostor {
    address: SocketAddr,
    /// How many have come.
    attempts: Arc<AtomicUsize>,
}

impl Impostor {
    fn start(words: Vec<u8>, is_kept: bool) -> Impostor {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let attempts = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&attempts);
        thread::spawn(move || {
            let mut kept = Vec::new();
            for mut client in listener.incoming().map_while(Result::ok) {
                counter.fetch_add(1, Ordering::SeqCst);
                // Whoever has hung up meanwhile has heard enough.
                let _unheard = client.write_all(&words);
                if is_kept {
                    kept.push(client);
                }
            }
        });
        Impostor { address, attempts }
    }
}

/// The frame by which a broker ends a connection, with this reason.
fn farewell(text: &[u8]) -> Vec<u8> {
    let reason = [&[0, 10, 0, 50, 1, 0xf5, text.len() as u8], text, &[0; 4]].concat();
    let size = (reason.len() as u32).to_be_bytes();
    [b"\x01\0\0".as_slice(), &size, &reason, b"\xce"].concat()
}

#[test]
fn what_is_no_broker_costs_a_line_and_is_tried_again() {
    let start_of = |len: u32| [b"\x01\0\0".as_slice(), &len.to_be_bytes()].concat();
    // An end may show as a reset: what we have said by then was not read.
    let table: [(&str, Vec<u8>, bool, &str); 10] = [
        ("ends", Vec::new(), false, TRYING),
        (
            "is a web server",
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            true,
            "a frame of type 72",
        ),
        (
            "is a Redis",
            b"-ERR unknown command\r\n".to_vec(),
            true,
            "a frame of type 45",
        ),
        (
            "is of another version",
            b"AMQP\0\x01\0\0".to_vec(),
            true,
            "the header of another AMQP version",
        ),
        (
            "has a frame too large",
            start_of(131_072),
            true,
            "bytes, although 131072 is the limit",
        ),
        (
            "has a frame of 4 GB",
            [start_of(u32::MAX), vec![0; 1 << 20]].concat(),
            true,
            "bytes, although 131072 is the limit",
        ),
        (
            "has no end of a frame",
            [start_of(4), vec![0; 9]].concat(),
            true,
            "a frame without its end",
        ),
        (
            "has a method that is none",
            [start_of(4), b"\xff\xff\xff\xff\xce".to_vec()].concat(),
            true,
            "the server sent",
        ),
        ("stops within a frame", start_of(400), false, TRYING),
        (
            "forges lines",
            farewell(b"HOSTILE a\r\nwarn  forged\x1b[2J\x07\xc2\x9b"),
            true,
            "closed by the server: 501 HOSTILE",
        ),
    ];
    let servers = table.map(|(what, words, is_kept, line)| {
        let impostor = Impostor::start(words, is_kept);
        let url = format!("amqp://guest:hush-hush@{}", impostor.address);
        let options = with_exchange(ServerOptions::redis_url("none").without_waiting(), &url);
        (what, impostor, options.start(), line)
    });
    for (what, impostor, mut server, words) in servers {
        server.wait_for_log_count(words, 4);
        expect_no_broker(&server);
        let attempts = impostor.attempts.load(Ordering::SeqCst);
        let log = server.log();
        let complaints = complaints_of(&server);
        // Of many attempts in a row, the first ones are logged one by one.
        let logged = attempts.min(limits::FAILURES_LOGGED as usize);
        let is_one_each = (logged - 1..=attempts + 1).contains(&complaints.len());
        assert!(
            is_one_each,
            "{what}: {attempts} attempts and {complaints:?}"
        );
        for line in &complaints {
            assert!(
                line.contains(words) && line.contains(TRYING),
                "{what}: {line}"
            );
        }
        assert!(!log.iter().any(|line| line.contains("hush")), "{log:?}");
        server.expect_quoted_on_one_line("HOSTILE", "forged");
        server.signal("TERM");
        assert!(server.wait_for_exit().success(), "{what}");
    }
}

/// A stretch of the way to a broker on which somebody may put bytes of his own, or let nothing through.
struct Meddler {
    address: SocketAddr,
    is_due: Arc<AtomicBool>,
    is_blocked: Arc<AtomicBool>,
}

impl Meddler {
    fn start(broker: SocketAddr, words: Vec<u8>) -> Meddler {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (is_due, is_blocked) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
        let flags = (Arc::clone(&is_due), Arc::clone(&is_blocked));
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // Its end shows at either side.
                let _ended = pass_on(client, broker, (&flags.0, &flags.1), &words);
            }
        });
        Meddler {
            address,
            is_due,
            is_blocked,
        }
    }
}

/// Passes bytes on in both directions until either side ends, or the bytes were put between them and their reader
/// has left.
fn pass_on(
    client: TcpStream,
    broker: SocketAddr,
    (is_due, is_blocked): (&AtomicBool, &AtomicBool),
    words: &[u8],
) -> std::io::Result<()> {
    let broker = TcpStream::connect(broker)?;
    let mut buffer = [0; 16 * 1024];
    let mut ways = [(&client, &broker), (&broker, &client)];
    for socket in [&client, &broker] {
        socket.set_read_timeout(Some(Duration::from_millis(2)))?;
    }
    loop {
        while is_blocked.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        for (from, to) in &mut ways {
            match from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => to.write_all(&buffer[..len])?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        if is_due.swap(false, Ordering::SeqCst) {
            (&client).write_all(words)?;
        }
    }
}

#[test]
fn a_broker_that_loses_its_mind_under_clients_is_left_and_found_again() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let table = [
        (
            b"\x03\0\x01\x7f\xff\xff\xff".to_vec(),
            "although 131072 is the limit",
        ),
        (vec![0xff; 64 * 1024], "a frame of type 255"),
        (b"\x08\0\0\0\0\0\0\0".to_vec(), "a frame without its end"),
        (
            b"\x03\0\x01\0\0\0\x01x\xce".to_vec(),
            "unexpectedly sent a part of a message",
        ),
    ];
    for (number, (bytes, words)) in table.into_iter().enumerate() {
        let meddler = Meddler::start(rabbit.address(), bytes);
        let url = format!("amqp://{}", meddler.address);
        let exchange = format!("mad-{number}");
        let server = start(&options(&rabbit, &exchange, "topic").variable("AMQP_URL", &url));
        let mut subscriber = server.subscribe("/?channels=a,room.*&event=channel");
        publish(&server, "a", "before");
        let id = subscriber.next_event().id;
        meddler.is_due.store(true, Ordering::SeqCst);
        let line = server.wait_for_log(words);
        assert!(line.contains(TRYING), "{line}");
        server.wait_for_log_count(LISTENING, 2);
        assert_eq!(subscriber.next_event().name, "gap");
        publish(&server, "room.1", "after");
        let expected = Event {
            id: String::new(),
            ..Event::new("room.1", "after")
        };
        let event = Event {
            id: String::new(),
            ..subscriber.next_event()
        };
        assert_eq!(event, expected);
        expect_gap(&server, "/?channels=a", &id);
        assert_eq!(server.count_log(TRYING), 1);
        assert_eq!(server.status()["stats"]["exchange"]["losses"], 1);
    }
}

#[test]
fn subscriptions_do_not_pile_up_for_a_broker_that_reads_nothing_more() {
    const GROWTH_MAX: u64 = 24 * 1024 * 1024;
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let meddler = Meddler::start(rabbit.address(), Vec::new());
    let url = format!("amqp://{}", meddler.address);
    let options = options(&rabbit, "deaf", "direct").variable("AMQP_URL", &url);
    let server = start(&options.variable("REPLAY_SEC", "0"));
    let mut subscriber = server.subscribe("/?channels=a");
    meddler.is_blocked.store(true, Ordering::SeqCst);
    let before = server.memory_bytes();
    for round in 0..40 {
        make_up_channels(&server, round);
    }
    let growth = server.memory_bytes_max() - before;
    assert!(growth < GROWTH_MAX, "{growth} bytes");
    assert!(server.status()["stats"]["shed"].as_u64() > Some(1_000));
    // It comes to its senses.
    meddler.is_blocked.store(false, Ordering::SeqCst);
    wait_until("messages are taken again", || {
        publish_over(&mut server.connect(), "channel=a&message=after") == 200
    });
    assert_eq!(subscriber.next_event().data, "after");
}
