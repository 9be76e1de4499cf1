//! Recent documents: a cache of one reply. It owns for how long the reply is reused and how many versions of it exist; it
//! must not know what it contains.
//!
//! A document about ten thousand connections takes megabytes, and clients may request it often and read it slowly.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::http::reply::Reply;
use crate::limits::{DOCUMENT_AGE_MAX, DOCUMENT_VERSIONS_MAX};
use crate::time::Time;

/// The latest version of one document.
#[derive(Default)]
pub struct Recent {
    /// It, and until when it is fresh.
    latest: Option<(Time, Reply)>,
    /// The bodies of all versions that may still be in transfer.
    held: Vec<Weak<[u8]>>,
}

impl Recent {
    /// Stores a version, which is fresh for so long.
    pub fn put(&mut self, reply: Reply, age_max: Duration, now: Time) {
        self.held.push(Arc::downgrade(&reply.body));
        self.latest = Some((now + age_max, reply));
    }

    /// The latest version, if it is fresh or there may be no further one.
    pub fn get(&mut self, now: Time) -> Option<&Reply> {
        self.held.retain(|version| version.strong_count() > 0);
        let (until, reply) = self.latest.as_ref()?;
        (now < *until || self.held.len() >= DOCUMENT_VERSIONS_MAX).then_some(reply)
    }

    /// The latest version, or a new one. It may be a moment old: what happened since must not make a new one, because
    /// the clients that read it come and go as well.
    pub fn get_or_make(&mut self, now: Time, make: impl FnOnce() -> Reply) -> Reply {
        if let Some(reply) = self.get(now) {
            return reply.clone();
        }
        let reply = make();
        self.put(reply.clone(), DOCUMENT_AGE_MAX, now);
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shared_while_fresh_and_bounded_in_number() {
        let mut recent = Recent::default();
        let mut now = Time::from_micros(1_000_000);
        let mut made = 0;
        let mut ask = |now| {
            let reply = recent.get_or_make(now, || {
                made += 1;
                Reply::json(200, format!("version {made}").into_bytes())
            });
            (String::from_utf8(reply.body.to_vec()).unwrap(), reply)
        };
        let mut holders = Vec::new();
        for version in 1..=DOCUMENT_VERSIONS_MAX {
            for _ in 0..2 {
                let (text, reply) = ask(now);
                assert_eq!(text, format!("version {version}"));
                holders.push(reply);
                now = now + DOCUMENT_AGE_MAX / 2;
            }
        }
        let latest = format!("version {DOCUMENT_VERSIONS_MAX}");
        assert_eq!(ask(now).0, latest, "no further version");
        holders.clear();
        let next = format!("version {}", DOCUMENT_VERSIONS_MAX + 1);
        assert_eq!(ask(now).0, next);
    }
}
