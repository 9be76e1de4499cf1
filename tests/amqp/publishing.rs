//! Publishing: every message is answered, by the broker or for it.

use emojitrack_streamer::source::Unanswered;
use emojitrack_streamer::source::amqp::ExchangeType;

use crate::driver::{Driver, endpoint};
use crate::rabbit::{Rabbit, is_installed_or_skip, shared_or_skip};

#[test]
fn many_messages_at_once_are_each_confirmed() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let mut publisher = Driver::live(endpoint(&rabbit, "confirms", ExchangeType::Fanout));
    for id in 0..5_000 {
        assert!(publisher.amqp.publish(id, b"a", b"payload"), "{id}");
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
fn what_the_broker_does_not_allow_is_refused_and_leaves_the_listener_alone() {
    if !is_installed_or_skip() {
        return;
    }
    let rabbit = Rabbit::start();
    let owner = Driver::live(endpoint(&rabbit, "rights", ExchangeType::Direct));
    rabbit.control(&["add_user", "reader", "hush"]);
    rabbit.control(&[
        "set_permissions",
        "reader",
        "^amq[.]gen",
        "^amq[.]gen",
        ".*",
    ]);
    let mut reader = endpoint(&rabbit, "rights", ExchangeType::Direct);
    (reader.username, reader.password) = ("reader".to_owned(), "hush".to_owned());
    let mut reader = Driver::live(reader);
    reader.listen(&["a"]);
    for _ in 0..3 {
        let answer = reader.publish("a", b"1");
        assert!(
            matches!(&answer, Err(Unanswered::Refused(words)) if words.contains("403 ACCESS_REFUSED")),
            "{answer:?}"
        );
    }
    let mut owner = owner;
    assert_eq!(owner.publish("a", b"2"), Ok(()));
    assert_eq!(reader.take_messages(1), [("a".to_owned(), "2".to_owned())]);
    assert_eq!(reader.amqp.losses(), 0);
    let lines = reader
        .log
        .iter()
        .filter(|(_, line)| line.contains("refuses a message"));
    assert_eq!(lines.count(), 1, "{:?}", reader.log);

    // A broker that is short of memory takes nothing, and says so once somebody publishes.
    rabbit.control(&["set_vm_memory_high_watermark", "absolute", "1"]);
    assert!(owner.amqp.publish(1, b"a", b"3"));
    owner.run_until("it is blocked", |owner| {
        owner
            .log
            .iter()
            .any(|(_, line)| line.contains("takes no messages for now: low on memory"))
    });
    let refused = Unanswered::Refused("blocked: low on memory".to_owned());
    assert_eq!(owner.publish("a", b"4"), Err(refused));
    rabbit.control(&["set_vm_memory_high_watermark", "0.4"]);
    owner.wait_for_log(&["takes messages again"]);
    assert_eq!(owner.publish("a", b"5"), Ok(()));
    owner.run_until("what waited was taken", |owner| {
        owner.answers.contains(&(1, Ok(())))
    });
}
