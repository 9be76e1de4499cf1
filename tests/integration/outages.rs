//! Outages: when the broker fails, clients stay connected, and get every message published after the server has
//! reconnected.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::redis::{SCORES, TWEETS};
use crate::support::resp::{RedisClient, Value};
use crate::support::server::{SUBSCRIBED, signal};
use crate::support::{
    Crowd, DEADLINE, Event, Redis, Server, ServerOptions, Sums, add_sums, redis_or_skip,
};

/// What each client of a crowd has received. Clients take turns with the streams.
#[derive(Default)]
struct Received {
    raw: Vec<String>,
    eps: Sums,
    details: Vec<String>,
}

const PATHS: [&str; 3] = [
    "/subscribe/raw",
    "/subscribe/eps",
    "/subscribe/details/1F4C2",
];

/// Publishes a hundred of everything and waits until everybody has all of it, and nothing else.
#[track_caller]
fn expect_everything(crowd: &mut Crowd, redis: &Redis) {
    let ids: Vec<String> = (0..100)
        .map(|number| format!("{:X}", number % 40))
        .collect();
    let mut client = redis.client();
    let mut sums = Sums::new();
    for id in &ids {
        *sums.entry(id.clone()).or_default() += 1;
        client.publish(SCORES, id);
        client.publish(format!("{TWEETS}1F4C2"), id);
    }
    let mut received: Vec<Received> = Vec::new();
    received.resize_with(crowd.len(), Received::default);
    let received = std::cell::RefCell::new(received);
    let is_complete = |index: usize, received: &Received| match index % PATHS.len() {
        0 => received.raw.len() >= ids.len(),
        1 => received.eps.values().sum::<u64>() >= ids.len() as u64,
        _ => received.details.len() >= ids.len(),
    };
    crowd.run_until(
        "everybody has every message",
        |_| {
            let received = received.borrow();
            let mut all = received.iter().enumerate();
            all.all(|(index, received)| is_complete(index, received))
        },
        |index, event| {
            let received = &mut received.borrow_mut()[index];
            match index % PATHS.len() {
                0 => received.raw.push(event.data),
                1 => add_sums(&mut received.eps, &event.data),
                _ => received.details.push(event.data),
            }
        },
    );
    for (index, received) in received.into_inner().into_iter().enumerate() {
        match index % PATHS.len() {
            0 => assert_eq!(received.raw, ids),
            1 => assert_eq!(received.eps, sums),
            _ => assert_eq!(received.details, ids),
        }
    }
    assert_eq!(crowd.ended(), 0, "clients were disconnected");
}

/// Clients of all kinds.
fn crowd_of(count: usize, server: &Server) -> Crowd {
    let paths = PATHS.iter().cycle().take(count);
    Crowd::subscribe(server.address(), paths.map(ToString::to_string))
}

#[test]
fn redis_is_killed_and_started_again_under_two_hundred_clients() {
    let Some(mut redis) = redis_or_skip() else {
        return;
    };
    let server = ServerOptions::redis(&redis).start();
    let mut crowd = crowd_of(200, &server);
    expect_everything(&mut crowd, &redis);
    for times in 1..=2 {
        redis.kill();
        server.wait_for_log_count("the connection was closed", times);
        assert_eq!(server.connections().len(), 200);
        redis.restart();
        server.wait_for_log_count(SUBSCRIBED, times + 1);
        redis.wait_until_subscribed(1);
        expect_everything(&mut crowd, &redis);
    }
    assert_eq!(server.connections().len(), 200);
}

#[test]
fn the_server_starts_without_redis_and_finds_it_when_it_appears() {
    let Some(installed) = redis_or_skip() else {
        return;
    };
    drop(installed);
    let mut redis = Redis::absent();
    let server = ServerOptions::redis(&redis).without_waiting().start();
    let mut crowd = crowd_of(6, &server);
    let line = server.wait_for_log_count("refused", 3);
    assert!(line.contains(&redis.url()), "{line}");
    assert_eq!(server.connections().len(), 6);
    redis.restart();
    server.wait_for_log(SUBSCRIBED);
    expect_everything(&mut crowd, &redis);
}

#[test]
fn a_connection_that_redis_ends_is_made_again() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut crowd = crowd_of(6, &server);
    let mut client = redis.client();
    for times in 1..=5 {
        client.command("CLIENT KILL TYPE pubsub");
        server.wait_for_log_count(SUBSCRIBED, times + 1);
        expect_everything(&mut crowd, &redis);
    }
}

#[test]
fn a_redis_that_moves_to_another_server_is_found() {
    let Some(mut first) = redis_or_skip() else {
        return;
    };
    let second = Redis::start();
    let urls = format!("{},{}", first.url(), second.url());
    let server = ServerOptions::redis_url(&urls).start();
    let mut crowd = crowd_of(6, &server);
    expect_everything(&mut crowd, &first);
    first.kill();
    server.wait_for_log_count(SUBSCRIBED, 2);
    expect_everything(&mut crowd, &second);
}

#[test]
fn a_redis_that_accepts_and_never_answers_is_given_up() {
    let Some(redis) = redis_or_skip() else { return };
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = silent.local_addr().expect("its address");
    let urls = format!("redis://{address},{}", redis.url());
    let started = Instant::now();
    let server = ServerOptions::redis_url(&urls).without_waiting().start();
    let (mut accepted, _) = silent.accept().expect("the server");
    let mut crowd = crowd_of(6, &server);
    server.wait_for_log(&address.to_string());
    // All that it says is its greeting; then it hangs up.
    accepted
        .set_read_timeout(Some(DEADLINE))
        .expect("a timeout");
    let mut greeting = Vec::new();
    accepted.read_to_end(&mut greeting).expect("an end");
    let greeting = String::from_utf8_lossy(&greeting).to_ascii_uppercase();
    assert!(greeting.contains("SUBSCRIBE"), "{greeting}");
    server.wait_for_log(SUBSCRIBED);
    let elapsed = started.elapsed();
    let expected = Duration::from_secs(2)..Duration::from_secs(5);
    assert!(expected.contains(&elapsed), "given up after {elapsed:?}");
    expect_everything(&mut crowd, &redis);
}

#[test]
fn a_redis_that_freezes_is_given_up_and_taken_again_when_it_thaws() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut crowd = crowd_of(6, &server);
    expect_everything(&mut crowd, &redis);
    signal(redis.process_id(), "STOP");
    let frozen_at = Instant::now();
    server.wait_for_log("trying");
    let elapsed = frozen_at.elapsed();
    signal(redis.process_id(), "CONT");
    // Up to two seconds of silence, and two and a half for the answer to a PING.
    let expected = Duration::from_millis(2_400)..Duration::from_secs(5);
    assert!(expected.contains(&elapsed), "given up after {elapsed:?}");
    server.wait_for_log_count(SUBSCRIBED, 2);
    expect_everything(&mut crowd, &redis);
    assert_eq!(server.connections().len(), 6);
}

#[test]
fn a_suspended_server_catches_up_and_keeps_all_clients() {
    // More than the smallest log holds, and less than it and the kernel's buffers for a client hold
    // together: nobody is slow here, however late the machine lets this test read.
    const UPDATES: usize = 8_000;
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis)
        .variable("LOG_BYTES_MAX", "262144")
        .start();
    let paths = (0..200).map(|number| PATHS[number % 2].to_owned());
    let mut crowd = Crowd::subscribe(server.address(), paths);
    server.signal("STOP");
    let id = |update: usize| format!("{:X}", 0x1F300 + update % 300);
    redis
        .client()
        .publish_all((0..UPDATES).map(|update| (SCORES, id(update))));
    server.signal("CONT");
    let received = std::cell::RefCell::new(vec![0; crowd.len()]);
    crowd.run_until(
        "everybody has every update",
        |crowd| {
            assert_eq!(crowd.ended(), 0, "clients were disconnected");
            received.borrow().iter().all(|count| *count == UPDATES)
        },
        |index, event| {
            let count = &mut received.borrow_mut()[index];
            if index % 2 == 0 {
                assert_eq!(event.data, id(*count));
                *count += 1;
            } else {
                let mut sums = Sums::new();
                add_sums(&mut sums, &event.data);
                *count += usize::try_from(sums.values().sum::<u64>()).expect("a sum");
            }
        },
    );
}

/// What no broker should send, in answer to a greeting.
const GARBAGE: [&[u8]; 9] = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\r\n\r\n",
    b"\0\0\0\0",
    b"*-7\r\n$-9\r\n",
    b"$9223372036854775807\r\n",
    b"*9223372036854775807\r\n",
    b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n+a\r\n",
    b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
    b"*3\r\n$7\r\nmessage\r\n:1\r\n:2\r\n*0\r\n*3\r\n*0\r\n*0\r\n*0\r\n",
];

#[test]
fn a_broker_that_sends_garbage_does_not_affect_clients() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let server = ServerOptions::redis_url(&format!("redis://{address}"))
        .without_waiting()
        .start();
    let subscriber = server.subscribe("/subscribe/raw");
    for garbage in GARBAGE {
        // The server has other uses for Redis as well; the one that counts here is to subscribe.
        while !answer_with(listener.accept().expect("the server").0, garbage).contains("SUBSCRIBE")
        {
        }
        assert_eq!(server.connections().len(), 1, "after {garbage:?}");
    }
    drop(subscriber);
}

/// Sends these bytes and an end, and returns what the client says until it ends, too.
fn answer_with(mut stream: TcpStream, bytes: &[u8]) -> String {
    // The client may have hung up at any point, which is all right: what counts is that it comes back.
    let _hung_up = stream.write_all(bytes);
    let _hung_up = stream.shutdown(Shutdown::Write);
    let mut said = Vec::new();
    let _timeout = stream.set_read_timeout(Some(DEADLINE));
    let _hung_up = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn a_broker_that_knows_little_and_sends_byte_by_byte_is_understood() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    let server = ServerOptions::redis_url(&format!("redis://{address}"))
        .without_waiting()
        .start();
    let mut subscriber = server.subscribe("/subscribe/raw");
    thread::spawn(move || {
        for accepted in listener.incoming() {
            thread::spawn(move || play_broker(accepted.expect("a connection")));
        }
    });
    assert_eq!(subscriber.next_event(), Event::message("2665"));
    server.wait_for_log(SUBSCRIBED);
}

/// Knows how to subscribe its client and nothing else. What it sends once its client is subscribed is one
/// message on a channel that nobody asked for, and one score update.
fn play_broker(mut stream: TcpStream) {
    let reading = stream.try_clone().expect("a second handle");
    let mut commands = RedisClient::over_tcp(reading);
    let mut subscribed = 0;
    while let Ok(Value::Array(words)) = commands.read_value() {
        let words: Vec<String> = words.iter().map(Value::text).collect();
        let command = words[0].to_ascii_lowercase();
        let mut answer = String::new();
        if !matches!(command.as_str(), "subscribe" | "psubscribe") {
            answer += "-ERR unknown command\r\n";
        } else {
            for channel in &words[1..] {
                subscribed += 1;
                answer += &format!("*3\r\n{}{}:{subscribed}\r\n", bulk(&command), bulk(channel));
            }
        }
        if command == "psubscribe" {
            for (channel, payload) in [("another.name", "x"), (SCORES, "2665")] {
                let parts = ["message", channel, payload].map(bulk).concat();
                answer += &format!("*3\r\n{parts}");
            }
        }
        for byte in answer.as_bytes() {
            stream.write_all(&[*byte]).expect("to send");
        }
    }
}

/// A string as Redis sends it.
fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}
