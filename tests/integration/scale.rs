//! Scale: thousands of clients at once all receive everything.

use std::cell::RefCell;

use crate::support::redis::{SCORES, TWEETS};
use crate::support::{Crowd, ServerOptions, Sums, add_sums, redis_or_skip};

/// How many clients.
const CLIENTS: usize = 2_000;
/// How many score updates, each with a tweet.
const UPDATES: usize = 500;
/// How many different emoji. Every second client of details wants one of them, the others all.
const EMOJI: usize = 20;

fn emoji(update: usize) -> String {
    format!("{:X}", 0x1F600 + update * 7 % EMOJI)
}

/// What a client has asked for, and what it has received of it so far.
enum Client {
    Raw { next: usize },
    Eps { sums: Sums, total: usize },
    Details { next: usize },
    DetailsOf { id: String, next: usize },
}

impl Client {
    fn new(number: usize) -> Client {
        match number % 4 {
            0 => Client::Raw { next: 0 },
            1 => Client::Eps {
                sums: Sums::new(),
                total: 0,
            },
            2 => Client::Details { next: 0 },
            _ => Client::DetailsOf {
                id: emoji(number / 4),
                next: 0,
            },
        }
    }

    fn path(&self) -> String {
        match self {
            Client::Raw { .. } => "/subscribe/raw".to_owned(),
            Client::Eps { .. } => "/subscribe/eps".to_owned(),
            Client::Details { .. } => "/subscribe/details".to_owned(),
            Client::DetailsOf { id, .. } => format!("/subscribe/details/{id}"),
        }
    }

    /// Takes an event, which has to be the next one.
    #[track_caller]
    fn take(&mut self, data: &str) {
        match self {
            Client::Raw { next } => {
                assert_eq!(data, emoji(*next));
                *next += 1;
            }
            Client::Eps { sums, total } => {
                add_sums(sums, data);
                *total = usize::try_from(sums.values().sum::<u64>()).expect("a sum");
            }
            Client::Details { next } => {
                assert_eq!(data, tweet(*next));
                *next += 1;
            }
            Client::DetailsOf { id, next } => {
                *next = next_of(id, *next);
                assert_eq!(data, tweet(*next));
                *next += 1;
            }
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Client::Raw { next } | Client::Details { next } => *next == UPDATES,
            Client::Eps { total, .. } => *total >= UPDATES,
            Client::DetailsOf { id, next } => next_of(id, *next) == UPDATES,
        }
    }
}

fn tweet(update: usize) -> String {
    format!(r#"{{"number":{update},"id":"{}"}}"#, emoji(update))
}

/// The first update of this emoji from the given one on; the number of all of them where there is none.
fn next_of(id: &str, from: usize) -> usize {
    let mut updates = from..UPDATES;
    updates
        .find(|&update| emoji(update) == id)
        .unwrap_or(UPDATES)
}

#[test]
fn two_thousand_clients_get_everything() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    let clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
    let mut crowd = Crowd::subscribe(server.address(), clients.iter().map(Client::path));
    assert_eq!(server.connections().len(), CLIENTS);
    let incomplete = RefCell::new(CLIENTS);
    let clients = RefCell::new(clients);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = redis.client();
            for update in 0..UPDATES {
                client.publish(SCORES, emoji(update));
                client.publish(format!("{TWEETS}{}", emoji(update)), tweet(update));
            }
        });
        crowd.run_until(
            "everybody has everything",
            |_| *incomplete.borrow() == 0,
            |index, event| {
                let client = &mut clients.borrow_mut()[index];
                client.take(&event.data);
                *incomplete.borrow_mut() -= usize::from(client.is_complete());
            },
        );
    });
    let mut published = Sums::new();
    for update in 0..UPDATES {
        *published.entry(emoji(update)).or_default() += 1;
    }
    for client in clients.into_inner() {
        if let Client::Eps { sums, .. } = client {
            assert_eq!(sums, published);
        }
    }
    assert_eq!(crowd.ended(), 0);
}

#[test]
fn a_herd_that_leaves_and_comes_back_at_once_is_served() {
    let Some(redis) = redis_or_skip() else { return };
    let server = ServerOptions::redis(&redis).start();
    for round in 0..5 {
        let paths = (0..400).map(|_| "/subscribe/raw".to_owned());
        let mut crowd = Crowd::subscribe(server.address(), paths);
        let id = format!("{round:X}");
        redis.client().publish(SCORES, &id);
        let served = RefCell::new(0);
        crowd.run_until(
            "everybody is served",
            |crowd| *served.borrow() == crowd.len(),
            |_, event| {
                assert_eq!(event.data, id);
                *served.borrow_mut() += 1;
            },
        );
    }
    server.wait_for_connections(0);
}
