//! Receiving: messages on demanded channels arrive over each type of exchange, and no others.

use std::process::Command;
use std::time::Duration;

use emojitrack_streamer::broker::amqp::ExchangeType;
use emojitrack_streamer::broker::link::Conversation;
use emojitrack_streamer::level::Level;
use emojitrack_streamer::limits::AMQP_BODY_BYTES_MAX;

use crate::driver::{Driver, endpoint};
use crate::rabbit::{shared_or_skip, skip};

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |&(channel, payload): &(&str, &str)| (channel.to_owned(), payload.to_owned());
    expected.iter().map(owned).collect()
}

/// Publishes in this order, and says that nothing more comes with a last message to `end`.
#[track_caller]
fn publish_all(publisher: &mut Driver, messages: &[(&str, &str)]) {
    for (channel, payload) in messages.iter().chain(&[("end", "")]) {
        assert_eq!(publisher.publish(channel, payload.as_bytes()), Ok(()));
    }
}

#[test]
fn messages_arrive_as_they_are_asked_for() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for exchange_type in [
        ExchangeType::Direct,
        ExchangeType::Fanout,
        ExchangeType::Topic,
    ] {
        let endpoint = endpoint(&rabbit, &format!("listen-{exchange_type}"), exchange_type);
        let mut publisher = Driver::live(endpoint.clone());
        let mut listener = Driver::live(endpoint);
        // The last two are no wildcards: their messages are, as any others, those with these very names.
        listener.listen(&["a", "b.c", "häuser", "end", "x.*", "#"]);
        let sent = [
            ("a", "1"),
            ("b", "nobody's"),
            ("b.c", "2"),
            ("häuser", "äöü"),
            ("a", ""),
            ("x.y", "nobody's"),
            ("x.*", "3"),
            ("#", "4"),
        ];
        publish_all(&mut publisher, &sent);
        let mut expected = pairs(&sent);
        expected.retain(|(_, payload)| payload != "nobody's");
        expected.extend(pairs(&[("end", "")]));
        assert_eq!(listener.take_messages(7), expected, "{exchange_type}");

        for channel in ["a", "#"] {
            listener.amqp.unsubscribe(channel.as_bytes());
        }
        listener.listen(&["b"]);
        publish_all(&mut publisher, &[("a", "6"), ("b", "7")]);
        assert_eq!(listener.take_messages(2), pairs(&[("b", "7"), ("end", "")]));
        let problems: Vec<_> = listener
            .log
            .iter()
            .filter(|(level, _)| *level <= Level::Warn)
            .collect();
        assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn patterns_are_served_but_by_a_direct_exchange() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    for exchange_type in [
        ExchangeType::Direct,
        ExchangeType::Fanout,
        ExchangeType::Topic,
    ] {
        let endpoint = endpoint(&rabbit, &format!("pattern-{exchange_type}"), exchange_type);
        let mut publisher = Driver::live(endpoint.clone());
        let mut listener = Driver::live(endpoint);
        listener.amqp.subscribe(b"room.*", true);
        listener.amqp.subscribe(b"other?", true);
        listener.listen(&["end"]);
        publish_all(&mut publisher, &[("room.1", "1"), ("elsewhere", "2")]);
        let lines = listener
            .log
            .iter()
            .filter(|(_, line)| line.contains("cannot serve patterns"));
        if exchange_type == ExchangeType::Direct {
            assert_eq!(lines.count(), 1, "{:?}", listener.log);
            assert_eq!(listener.take_messages(1), pairs(&[("end", "")]));
            continue;
        }
        assert_eq!(lines.count(), 0, "{:?}", listener.log);
        // Which of them a pattern matches is for the server to say.
        let expected = pairs(&[("room.1", "1"), ("elsewhere", "2"), ("end", "")]);
        assert_eq!(listener.take_messages(3), expected);
        listener.amqp.unsubscribe(b"room.*");
        listener.amqp.unsubscribe(b"other?");
        listener.run_until("all is unbound", |listener| listener.amqp.unsettled() == 0);
        publish_all(&mut publisher, &[("room.1", "3")]);
        assert_eq!(listener.take_messages(1), pairs(&[("end", "")]));
    }
}

#[test]
fn bodies_of_any_size_up_to_the_bound_arrive_whole() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let endpoint = endpoint(&rabbit, "bodies", ExchangeType::Direct);
    let mut publisher = Driver::live(endpoint.clone());
    let mut listener = Driver::live(endpoint);
    listener.listen(&["a", "end"]);
    let frame = 128 * 1024 - 8;
    let bound = AMQP_BODY_BYTES_MAX as usize;
    for len in [1, frame - 1, frame, frame + 1, 3 * frame, bound] {
        let body: Vec<u8> = (0..len).map(|index| (index % 251) as u8).collect();
        assert_eq!(publisher.publish("a", &body), Ok(()), "{len}");
        listener.run_until("it is there", |listener| !listener.messages.is_empty());
        assert!(listener.messages.pop().unwrap().payload == body, "{len}");
    }
    assert_eq!(publisher.publish("a", &vec![b'x'; bound + 1]), Ok(()));
    assert_eq!(publisher.publish("a", &vec![b'x'; bound + 2]), Ok(()));
    publish_all(&mut publisher, &[("a", "small")]);
    listener.run_until("all are there", |listener| listener.messages.len() == 4);
    // Those who listen are told of what was skipped.
    let skipped: Vec<bool> = listener.messages.iter().map(|it| it.is_too_large).collect();
    assert_eq!(skipped, [true, true, false, false]);
    assert_eq!(
        listener.take_messages(4),
        pairs(&[("a", ""), ("a", ""), ("a", "small"), ("end", "")])
    );
    let lines = listener
        .log
        .iter()
        .filter(|(_, line)| line.contains("skipping messages"));
    assert_eq!(lines.count(), 1);
    assert_eq!(listener.amqp.dialer().losses(), 0);
}

#[test]
fn ten_thousand_channels_are_bound_in_slices() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let endpoint = endpoint(&rabbit, "many", ExchangeType::Direct);
    let mut publisher = Driver::live(endpoint.clone());
    let mut listener = Driver::live(endpoint);
    for number in 0..10_000 {
        listener
            .amqp
            .subscribe(format!("channel.{number:0>150}").as_bytes(), false);
    }
    listener.run_until("all are bound", |listener| {
        let unsent = emojitrack_streamer::broker::link::Conversation::unsent(&listener.amqp).len();
        assert!(unsent < 65 * 1024, "{unsent}");
        listener.amqp.unsettled() == 0
    });
    listener.listen(&["end"]);
    let (first, last) = (
        format!("channel.{:0>150}", 0),
        format!("channel.{:0>150}", 9_999),
    );
    publish_all(&mut publisher, &[(&first, "1"), (&last, "2")]);
    let expected = pairs(&[(&first, "1"), (&last, "2"), ("end", "")]);
    assert_eq!(listener.take_messages(3), expected);
}

/// A client that has nothing in common with ours, and headers, properties and routing keys that ours does not send.
#[test]
fn a_publisher_of_another_make_is_understood() {
    const SCRIPT: &str = r"
import sys, pika
port, exchange = int(sys.argv[1]), sys.argv[2]
connection = pika.BlockingConnection(pika.ConnectionParameters('127.0.0.1', port))
channel = connection.channel()
channel.confirm_delivery()
channel.exchange_declare(exchange, passive=True)
properties = pika.BasicProperties(
    content_type='text/plain', headers={'a': 1, 'b': {'c': [None, True, 'd', -1]}}, delivery_mode=2,
    correlation_id='e', reply_to='f', expiration='60000', message_id='g', timestamp=1, type='h', app_id='i')
channel.basic_publish(exchange, 'a', 'with properties', properties)
channel.basic_publish(exchange, 'a', b'\xff\x00')
channel.basic_publish(exchange, 'end', '')
connection.close()
";
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let pythons = ["python3", "/usr/bin/python3"];
    let has_pika = |python: &&&str| {
        let output = Command::new(python).args(["-c", "import pika"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(python) = pythons.iter().find(has_pika) else {
        return skip("pika is not installed");
    };
    let mut listener = Driver::live(endpoint(&rabbit, "pika", ExchangeType::Topic));
    listener.listen(&["a", "end"]);
    let port = rabbit.address().port().to_string();
    let output = Command::new(python)
        .args(["-c", SCRIPT, &port, "pika"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = pairs(&[("a", "with properties"), ("a", "\u{fffd}\0"), ("end", "")]);
    assert_eq!(listener.take_messages(3), expected);
}

#[test]
fn an_exchange_that_is_there_is_taken_as_it_is() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    // What every broker has, and we may not make.
    let endpoint = endpoint(&rabbit, "amq.topic", ExchangeType::Topic);
    let mut publisher = Driver::live(endpoint.clone());
    let mut listener = Driver::live(endpoint);
    listener.listen(&["a"]);
    assert_eq!(publisher.publish("a", b"1"), Ok(()));
    assert_eq!(listener.take_messages(1), pairs(&[("a", "1")]));
}

#[test]
fn an_idle_connection_is_kept_by_heartbeats() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let endpoint = endpoint(&rabbit, "idle", ExchangeType::Direct);
    let mut listener = Driver::live(endpoint);
    // Without heartbeats, either side gives the other up after 20 s.
    listener.run_for(Duration::from_secs(25));
    assert!(listener.amqp.is_live());
    assert_eq!(listener.amqp.dialer().losses(), 0, "{:?}", listener.log);
}
