//! Outages: a broker that refuses the login, crashes or closes the connection, and the recovery.

use emojitrack_streamer::broker::Unanswered;
use emojitrack_streamer::broker::amqp::ExchangeType;
use emojitrack_streamer::broker::link::Conversation;

use crate::driver::{Driver, endpoint};
use crate::rabbit::{Rabbit, is_installed_or_skip, shared_or_skip};

#[test]
fn a_wrong_login_or_virtual_host_is_logged_and_retried() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    let right = endpoint(&rabbit, "login", ExchangeType::Direct);
    let mut wrong_password = right.clone();
    wrong_password.password = "mistaken".to_owned();
    let mut wrong_vhost = right;
    wrong_vhost.vhost = "nowhere".to_owned();
    let table = [
        (wrong_password, "403 ACCESS_REFUSED - Login was refused"),
        (wrong_vhost, "530 NOT_ALLOWED - "),
    ];
    for (endpoint, words) in table {
        let mut driver = Driver::new(endpoint);
        driver.run_until("it was refused twice", |driver| {
            driver
                .log
                .iter()
                .filter(|(_, line)| line.contains(words))
                .count()
                == 2
        });
        assert_eq!(driver.log.len(), 2, "one line each: {:?}", driver.log);
        for (_, line) in &driver.log {
            assert!(
                line.contains("trying again in") && !line.contains("mistaken"),
                "{line}"
            );
        }
        assert!(!driver.amqp.is_live());
        assert_eq!(driver.amqp.dialer().losses(), 0);
    }
}

#[test]
fn an_exchange_that_cannot_be_declared_is_logged() {
    let Some(rabbit) = shared_or_skip() else {
        return;
    };
    // Nobody but the broker may make exchanges of such a name.
    let mut driver = Driver::new(endpoint(&rabbit, "amq.mine", ExchangeType::Direct));
    let line = driver.wait_for_log(&["403 ACCESS_REFUSED", "amq.mine"]);
    assert!(line.contains("trying again in"), "{line}");
}

#[test]
fn bindings_return_after_the_broker_is_killed_or_closes_the_connection() {
    if !is_installed_or_skip() {
        return;
    }
    let mut rabbit = Rabbit::start();
    let endpoint = endpoint(&rabbit, "outage", ExchangeType::Topic);
    let mut publisher = Driver::live(endpoint.clone());
    let mut listener = Driver::live(endpoint);
    listener.amqp.subscribe(b"p*", true);
    listener.listen(&["a", "gone"]);
    assert_eq!(publisher.publish("a", b"before"), Ok(()));
    listener.take_messages(1);

    rabbit.kill();
    listener.run_until("the loss is noticed", |listener| !listener.amqp.is_live());
    assert_eq!(
        publisher.amqp.publish(7, b"a", b"lost"),
        Ok(()),
        "it does not know yet"
    );
    publisher.run_until("the loss is noticed", |publisher| !publisher.amqp.is_live());
    assert!(publisher.answers.contains(&(7, Err(Unanswered::Lost))));
    let dropped = publisher.amqp.publish(8, b"a", b"dropped");
    assert_eq!(dropped, Err(Unanswered::Lost));
    // The demand may change while there is no connection.
    listener.amqp.subscribe(b"b", false);
    listener.amqp.unsubscribe(b"gone");
    listener.wait_for_log(&["Connection refused", "trying again in"]);

    for (round, is_last) in [(1, false), (2, true)] {
        rabbit.restart();
        for driver in [&mut publisher, &mut listener] {
            driver.run_until("it is live", |driver| driver.amqp.is_live());
            assert_eq!(driver.amqp.dialer().losses(), round);
            driver.wait_for_log(&["listening at amqp://guest@127.0.0.1:", " after "]);
        }
        listener.run_until("all is bound", |listener| listener.amqp.unsettled() == 0);
        for channel in ["gone", "a", "b", "p"] {
            assert_eq!(publisher.publish(channel, b"after"), Ok(()));
        }
        let channels: Vec<String> = listener
            .take_messages(4)
            .into_iter()
            .map(|(channel, _)| channel)
            .collect();
        assert_eq!(
            channels,
            ["gone", "a", "b", "p"],
            "the pattern has all of them"
        );
        if !is_last {
            rabbit.ask_to_end();
            for driver in [&mut publisher, &mut listener] {
                driver.wait_for_log(&["320 CONNECTION_FORCED"]);
            }
            rabbit.kill();
        }
    }
    assert!(listener.amqp.unsent().is_empty());
}
