//! Publishing: every message gets an answer, from the broker or on its behalf.

use emojitrack_streamer::broker::Unanswered;
use emojitrack_streamer::broker::amqp::{Endpoint, ExchangeType};
use emojitrack_streamer::broker::link::Conversation;

use crate::driver::{Driver, endpoint};
use crate::rabbit::{Rabbit, is_installed_or_skip, shared_or_skip};

#[test]
fn many_messages_at_once_are_each_confirmed() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let mut publisher = Driver::live(endpoint(&rabbit, "confirms", ExchangeType::Fanout));
    for id in 0..5_000 {
        let sent = publisher.amqp.publish(id, b"a", b"payload");
        assert_eq!(sent, Ok(()), "{id}");
    }
    publisher.run_until("all are answered", |publisher| {
        publisher.answers.len() == 5_000
    });
    let mut ids: Vec<u64> = publisher.answers.iter().map(|(id, _)| *id).collect();
    ids.sort_unstable();
    assert_eq!(ids, Vec::from_iter(0..5_000));
    assert!(publisher.answers.iter().all(|(_, answer)| answer.is_ok()));
}

#[test]
fn what_the_broker_does_not_allow_is_refused_and_leaves_the_rest_alone() {
    if !is_installed_or_skip() {
        return;
    }
    let rabbit = Rabbit::start();
    let endpoint = endpoint(&rabbit, "rights", ExchangeType::Topic);
    let mut owner = Driver::live(endpoint.clone());
    rabbit.control(&["add_user", "reader", "hush"]);
    rabbit.control(&[
        "set_permissions",
        "reader",
        "^amq[.]gen",
        "^amq[.]gen",
        ".*",
    ]);
    rabbit.control(&["set_topic_permissions", "reader", "rights", ".*", "^(a|b)$"]);
    let mut reader = Driver::live(Endpoint {
        username: "reader".to_owned(),
        password: "hush".to_owned(),
        ..endpoint
    });
    reader.listen(&["a"]);
    for _ in 0..3 {
        let answer = reader.publish("a", b"1");
        assert!(
            matches!(&answer, Err(Unanswered::Refused(words)) if words.contains("403 ACCESS_REFUSED")),
            "{answer:?}"
        );
    }
    assert_eq!(owner.publish("a", b"2"), Ok(()));
    assert_eq!(reader.take_messages(1), [("a".to_owned(), "2".to_owned())]);
    assert_eq!(reader.amqp.dialer().losses(), 0);
    let lines = reader
        .log
        .iter()
        .filter(|(_, line)| line.contains("refuses a message"));
    assert_eq!(lines.count(), 1, "{:?}", reader.log);

    // A channel that we may not listen to costs the connection, once.
    for channel in ["forbidden", "b"] {
        reader.amqp.subscribe(channel.as_bytes(), false);
    }
    reader.wait_for_log(&[
        "does not permit to bind \"forbidden\"",
        "403 ACCESS_REFUSED",
    ]);
    reader.run_until("the rest is bound", |reader| {
        reader.amqp.is_live() && reader.amqp.unsettled() == 0
    });
    for channel in ["a", "forbidden", "b"] {
        assert_eq!(owner.publish(channel, b"3"), Ok(()));
    }
    let expected = ["a", "b"].map(|channel| (channel.to_owned(), "3".to_owned()));
    assert_eq!(reader.take_messages(2), expected);
    assert_eq!(reader.amqp.dialer().losses(), 1);
}

#[test]
fn a_broker_that_is_short_of_memory_and_an_exchange_that_is_gone_are_survived() {
    if !is_installed_or_skip() {
        return;
    }
    let rabbit = Rabbit::start();
    let endpoint = endpoint(&rabbit, "survived", ExchangeType::Direct);
    let mut publisher = Driver::live(endpoint.clone());
    // A broker that is short of memory takes nothing, and says so once somebody publishes.
    rabbit.control(&["set_vm_memory_high_watermark", "absolute", "1"]);
    assert_eq!(publisher.amqp.publish(1, b"a", b"waits"), Ok(()));
    publisher.wait_for_log(&["blocks publishers: low on memory"]);
    let refused = Unanswered::Refused("blocked: low on memory".to_owned());
    assert_eq!(publisher.publish("a", b"refused"), Err(refused));
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    publisher.wait_for_log(&["no longer blocks publishers"]);
    assert_eq!(publisher.publish("a", b"taken"), Ok(()));
    publisher.run_until("what waited was taken", |publisher| {
        publisher.answers.contains(&(1, Ok(())))
    });

    let exchange = "rabbit_misc:r(<<\"/\">>, exchange, <<\"survived\">>)";
    let deletion = format!("ok = rabbit_exchange:delete({exchange}, false, <<\"test\">>).");
    rabbit.control(&["eval", &deletion]);
    assert_eq!(publisher.publish("a", b"lost"), Err(Unanswered::Lost));
    publisher.run_until("it is live again", |publisher| publisher.amqp.is_live());
    let mut listener = Driver::live(endpoint);
    listener.listen(&["a"]);
    assert_eq!(publisher.publish("a", b"after"), Ok(()));
    assert_eq!(
        listener.take_messages(1),
        [("a".to_owned(), "after".to_owned())]
    );
}
