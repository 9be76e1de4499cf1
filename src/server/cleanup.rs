//! Cleanups: a client asks for the end of its own streams, because the router in between will not tell us
//! that it has left. It owns who may ask how often, which streams are meant, and what copies of the server tell each
//! other; it must not know how a stream is ended.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use super::addresses::network_of;
use super::admission::Admission;
use super::streams::Streams;
use super::visitor::is_token;
use crate::bus::{Bus, Name, Stream};
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;
use crate::time::Time;

/// The channel on which copies of the server tell each other of cleanups.
pub const CLEANUP_CHANNEL: &str = "stream.admin.cleanup";

/// Which streams are to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// The ID of a detail stream, or `None` for the rolled-up scores.
    pub detail: Option<String>,
    /// What the page chose to know its own streams by; then the address does not matter.
    pub token: Option<String>,
}

/// How often each address has asked for a cleanup.
#[derive(Default)]
pub struct CleanupRate {
    asked: HashMap<IpAddr, u32>,
    asked_since: Time,
}

impl Cleanup {
    /// The streams that are meant, of a client of this address.
    pub fn find(
        &self,
        client_ip: IpAddr,
        admission: &Admission,
        streams: &Streams,
        bus: &Bus,
    ) -> Vec<Key> {
        let candidates = admission.candidates(self.token.as_deref(), client_ip);
        let is_meant = |&key: &Key| {
            streams.get(key).is_some_and(|it| {
                let is_own = self.token.is_some() || it.about.client_ip == client_ip;
                is_own && bus.is_subscribed(it.subscriber, self.name())
            })
        };
        let meant = candidates.iter().copied().filter(is_meant);
        // Another page of the same address may be among them: it comes back and has lost nothing.
        meant.take(limits::CLEANUP_CLOSES_MAX).collect()
    }

    /// What the other copies are told, by the process of this epoch and name.
    pub fn relay(&self, client_ip: IpAddr, epoch: u64, node: &str) -> Vec<u8> {
        let document = serde_json::json!({
            "epoch": format!("{epoch:x}"),
            "node": node,
            "scope": if self.detail.is_some() { "details" } else { "scores" },
            "id": self.detail,
            "token": self.token,
            "client_ip": client_ip.to_string(),
        });
        document.to_string().into_bytes()
    }

    fn name(&self) -> Name<'_> {
        match &self.detail {
            Some(id) => (Stream::Details, Some(id.as_bytes())),
            None => (Stream::Eps, None),
        }
    }
}

impl CleanupRate {
    /// A client of this address asks for a cleanup; the refusal where it has asked too often.
    ///
    /// # Errors
    /// The refusal.
    pub fn handle_request(&mut self, client_ip: IpAddr, now: Time) -> Result<(), Reply> {
        if self.may_ask(client_ip, now) {
            return Ok(());
        }
        let seconds = self.asks_again_in(now).as_secs() + 1;
        let limit = limits::CLEANUPS_PER_WINDOW;
        let message = format!("more than {limit} cleanups from this address; retry in {seconds} s");
        Err(Reply::error(429, &message).with_retry_after(seconds))
    }

    /// Whether an address may ask for a cleanup now; counts the question.
    fn may_ask(&mut self, address: IpAddr, now: Time) -> bool {
        if now.since(self.asked_since) >= limits::CLEANUP_WINDOW {
            self.asked.clear();
            self.asked_since = now;
        }
        let network = network_of(address);
        if self.asked.len() >= limits::CLEANUP_ADDRESSES_MAX && !self.asked.contains_key(&network) {
            return false;
        }
        let asked = self.asked.entry(network).or_default();
        *asked += 1;
        *asked <= limits::CLEANUPS_PER_WINDOW
    }

    /// How long until an address that asked too often may ask again.
    fn asks_again_in(&self, now: Time) -> Duration {
        (self.asked_since + limits::CLEANUP_WINDOW).since(now)
    }
}

/// The answer to a cleanup that has ended so many streams here.
pub fn cleaned_up(closed: usize) -> Reply {
    let body = format!("{{\"status\":\"OK\",\"closed\":{closed}}}\n");
    Reply::json(200, body.into_bytes())
}

/// Who tells of it, what is to be closed, and for which client.
///
/// `None` where it cannot be understood.
pub fn parse_relay(payload: &[u8]) -> Option<(u64, Cleanup, IpAddr)> {
    let document: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| document.get(name)?.as_str().map(str::to_owned);
    let detail = match document.get("scope")?.as_str()? {
        "scores" => None,
        "details" => Some(text("id")?),
        _ => return None,
    };
    let token = match document.get("token") {
        None | Some(serde_json::Value::Null) => None,
        Some(_) => Some(text("token").filter(|token| is_token(token))?),
    };
    let cleanup = Cleanup { detail, token };
    let epoch = u64::from_str_radix(&text("epoch")?, 16).ok()?;
    let client_ip: IpAddr = text("client_ip")?.parse().ok()?;
    Some((epoch, cleanup, client_ip.to_canonical()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_that_cannot_be_understood_are_none() {
        let good =
            br#"{"epoch":"a1","scope":"details","id":"2665","token":null,"client_ip":"::1"}"#;
        let (epoch, cleanup, client_ip) = parse_relay(good).unwrap();
        assert_eq!((epoch, client_ip.to_string()), (0xa1, "::1".to_owned()));
        assert_eq!(cleanup.detail.as_deref(), Some("2665"));
        assert_eq!(cleanup.token, None);
        let table: &[&[u8]] = &[
            b"",
            b"null",
            b"[]",
            b"{",
            br#"{"epoch":"a1","scope":"scores"}"#,
            br#"{"epoch":"a1","scope":"details","client_ip":"::1"}"#,
            br#"{"epoch":"a1","scope":"all","client_ip":"::1"}"#,
            br#"{"epoch":"xyz","scope":"scores","client_ip":"::1"}"#,
            br#"{"epoch":"a1","scope":"scores","client_ip":"everybody"}"#,
            br#"{"epoch":"a1","scope":"scores","client_ip":"::1","token":7}"#,
            br#"{"epoch":"a1","scope":"scores","client_ip":"::1","token":""}"#,
            br#"{"epoch":7,"scope":"scores","client_ip":"::1"}"#,
        ];
        for payload in table {
            assert!(
                parse_relay(payload).is_none(),
                "{}",
                String::from_utf8_lossy(payload)
            );
        }
    }

    #[test]
    fn an_address_may_ask_so_often_and_again_later() {
        let mut rate = CleanupRate::default();
        let address: IpAddr = [10, 0, 0, 1].into();
        let neighbour: IpAddr = [10, 0, 0, 2].into();
        let now = Time::from_micros(100_000_000);
        for _ in 0..limits::CLEANUPS_PER_WINDOW {
            assert!(rate.may_ask(address, now));
        }
        assert!(!rate.may_ask(address, now));
        assert!(rate.may_ask(neighbour, now));
        let later = now + rate.asks_again_in(now);
        assert!(rate.may_ask(address, later));
    }
}
