//! Several streams over one connection: each event as it would be alone, in the order of publishing.

use serde_json::json;

use crate::support::redis::{SCORES, TWEETS};
use crate::support::{End, ServerOptions, redis_or_skip};

#[test]
fn each_event_is_as_it_would_be_alone() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let mut both = server.subscribe("/subscribe?ns=/eps&ns=/details/2665&uuid=7");
    let mut ordered = server.subscribe("/subscribe?ns=%2Fraw&ns=%2Fdetails");
    let mut client = redis.client();
    client.publish(format!("{TWEETS}1F4C2"), "{\"of\":\"another\"}");
    client.publish(SCORES, "2665");
    client.publish(format!("{TWEETS}2665"), "{\"n\":1}");
    client.publish(SCORES, "1F4C2");
    let events: Vec<(String, String)> = (0..4)
        .map(|_| ordered.next_event())
        .map(|event| (event.name, event.data))
        .collect();
    let expected = [
        ("stream.tweet_updates.1F4C2", "{\"of\":\"another\"}"),
        ("", "2665"),
        ("stream.tweet_updates.2665", "{\"n\":1}"),
        ("", "1F4C2"),
    ];
    let plain = |name: &str| if name == "message" { "" } else { name }.to_owned();
    let events: Vec<(String, String)> = events
        .into_iter()
        .map(|(name, data)| (plain(&name), data))
        .collect();
    assert_eq!(
        events,
        expected.map(|(name, data)| (name.to_owned(), data.to_owned()))
    );

    let mut tweets = Vec::new();
    let mut sum = 0;
    while tweets.is_empty() || sum < 2 {
        let event = both.next_event();
        match event.name.strip_prefix(TWEETS) {
            Some(id) => tweets.push((id.to_owned(), event.data)),
            None => {
                let counts: serde_json::Value = serde_json::from_str(&event.data).expect("counts");
                let counts = counts.as_object().expect("an object").values();
                sum += counts.filter_map(serde_json::Value::as_u64).sum::<u64>();
            }
        }
    }
    assert_eq!(tweets, [("2665".to_owned(), "{\"n\":1}".to_owned())]);
    assert_eq!(sum, 2);
    let rows = server.connections();
    assert_eq!(rows[0]["namespace"], "/eps,/details/2665");
    assert_eq!(
        rows[0]["request_path"],
        "/subscribe?ns=/eps&ns=/details/2665"
    );
    assert_eq!(rows[1]["namespace"], "/raw,/details");
    assert_eq!(server.status()["stats"]["streams"]["several"], 2);
}

#[test]
fn a_cleanup_of_a_part_closes_the_whole() {
    let server = ServerOptions::demo().start();
    let close = |path: &str| server.ask("POST", path).json();
    let mut first = server.subscribe("/subscribe?ns=/eps&ns=/details/2665&token=one");
    let mut second = server.subscribe("/subscribe?ns=/raw&ns=/details/2665&token=two");
    assert_eq!(
        close("/subscribe/cleanup/scores?token=two"),
        json!({ "status": "OK", "closed": 0 })
    );
    assert_eq!(
        close("/subscribe/cleanup/scores?token=one"),
        json!({ "status": "OK", "closed": 1 })
    );
    assert_eq!(
        close("/subscribe/cleanup/details/2665"),
        json!({ "status": "OK", "closed": 1 })
    );
    assert_eq!(first.read_to_end().1, End::Proper);
    assert_eq!(second.read_to_end().1, End::Proper);
    server.wait_for_connections(0);
}

#[test]
fn a_request_with_any_invalid_namespace_is_refused() {
    let server = ServerOptions::demo()
        .variable("ENABLE_RAW_STREAM", "false")
        .start();
    let too_many: Vec<String> = (0..33)
        .map(|number| format!("ns=/details/{number}"))
        .collect();
    let too_many = format!("/subscribe?{}", too_many.join("&"));
    let table = [
        ("/subscribe", 404),
        ("/subscribe?ns=", 404),
        ("/subscribe?ns=/eps&ns=/raw", 404),
        ("/subscribe?ns=/eps&ns=details", 404),
        ("/subscribe?ns=/details/%00", 400),
        (too_many.as_str(), 400),
    ];
    for (path, status) in table {
        assert_eq!(server.ask("GET", path).head.status(), status, "{path}");
    }
}
