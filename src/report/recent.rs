//! Recent documents: a cache. It owns how often a document is encoded and how many versions of it exist; it must not
//! know what it contains.
//!
//! A document about ten thousand connections takes megabytes, and clients may request it often and read it slowly.

use std::sync::{Arc, Weak};

use crate::limits::{DOCUMENT_AGE_MAX, DOCUMENT_VERSIONS_MAX};
use crate::time::Time;

/// The latest version of one document.
#[derive(Default)]
pub struct Recent {
    latest: Option<Version>,
    /// All versions that may still be in transfer.
    held: Vec<Weak<[u8]>>,
}

struct Version {
    made_at: Time,
    /// A stamp of what the document depends on; if it has changed, the document is outdated.
    state: u64,
    bytes: Arc<[u8]>,
}

impl Recent {
    /// A version that is fresh enough, if there is one.
    pub fn get(&mut self, state: u64, now: Time) -> Option<Arc<[u8]>> {
        self.held.retain(|version| version.strong_count() > 0);
        let latest = self.latest.as_ref()?;
        let is_fresh = latest.state == state && now.since(latest.made_at) < DOCUMENT_AGE_MAX;
        let is_last = self.held.len() >= DOCUMENT_VERSIONS_MAX;
        (is_fresh || is_last || latest.made_at == now).then(|| Arc::clone(&latest.bytes))
    }

    /// Stores a version encoded just now.
    pub fn put(&mut self, state: u64, now: Time, bytes: Vec<u8>) -> Arc<[u8]> {
        let bytes: Arc<[u8]> = bytes.into();
        self.held.push(Arc::downgrade(&bytes));
        self.latest = Some(Version {
            made_at: now,
            state,
            bytes: Arc::clone(&bytes),
        });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn versions_are_shared_while_fresh_and_bounded_in_number() {
        let mut recent = Recent::default();
        let mut now = Time::from_micros(1_000_000);
        assert_eq!(recent.get(1, now), None);
        let first = recent.put(1, now, b"first".to_vec());
        assert_eq!(
            recent.get(2, now).as_deref(),
            Some(&b"first"[..]),
            "the same turn"
        );
        now = now + Duration::from_millis(50);
        assert_eq!(recent.get(1, now), Some(Arc::clone(&first)));
        assert_eq!(recent.get(2, now), None, "somebody came");
        now = now + Duration::from_millis(50);
        assert_eq!(recent.get(1, now), None, "too old");
        let mut holders = vec![first];
        while holders.len() < DOCUMENT_VERSIONS_MAX {
            now = now + DOCUMENT_AGE_MAX;
            assert_eq!(recent.get(1, now), None);
            holders.push(recent.put(1, now, b"another".to_vec()));
        }
        now = now + DOCUMENT_AGE_MAX;
        assert!(recent.get(1, now).is_some(), "no further version");
        holders.clear();
        assert_eq!(recent.get(1, now), None);
    }
}
