//! Cleanups: a client asks for the end of its own streams, because the router in between will not tell us
//! that it has left. It owns who may close what, and the relay to other copies of the server; it must not
//! know how a stream is ended.

use std::net::IpAddr;

use super::conn::{Conn, Key};
use super::route;
use super::stats::CloseReason;
use super::{Effect, Engine};
use crate::bus::Stream;
use crate::limits;
use crate::proto::reply::Reply;

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

impl Engine {
    /// Closes a client's own streams here, has the other copies do the same, and says how many they were
    /// here.
    pub(super) fn clean_up(&mut self, cleanup: &Cleanup, client_ip: IpAddr) -> Reply {
        if !self.addresses.may_ask(client_ip, self.now) {
            let seconds = self.addresses.asks_again_in(self.now).as_secs() + 1;
            let limit = limits::CLEANUPS_PER_WINDOW;
            let message = format!("more than {limit} cleanups from here; ask again in {seconds} s");
            return Reply::error(429, &message).with_retry_after(seconds);
        }
        let closed = self.close_matching(cleanup, client_ip);
        self.relay(cleanup, client_ip);
        let body = format!("{{\"status\":\"OK\",\"closed\":{closed}}}\n");
        Reply::json(200, body.into_bytes())
    }

    /// A copy of the server, perhaps this one, has told of a cleanup.
    pub(super) fn on_relay(&mut self, payload: &[u8]) {
        match parse_relay(payload) {
            Some((epoch, ..)) if epoch == self.settings.epoch => {}
            Some((_, cleanup, client_ip)) => {
                self.close_matching(&cleanup, client_ip);
            }
            None => self.counters.dropped_relays += 1,
        }
    }

    fn close_matching(&mut self, cleanup: &Cleanup, client_ip: IpAddr) -> usize {
        let stream = match cleanup.detail {
            Some(_) => Stream::Details,
            None => Stream::Eps,
        };
        let name = (stream, cleanup.detail.as_ref().map(String::as_bytes));
        let candidates = match &cleanup.token {
            Some(token) => self.addresses.of_token(token),
            None => self.addresses.of_network(client_ip),
        };
        let is_meant = |conn: &Conn| {
            let listens = conn
                .subscription()
                .is_some_and(|subscription| self.bus.is_subscribed(subscription.id, name));
            listens && (cleanup.token.is_some() || conn.about.client_ip == client_ip)
        };
        let meant = candidates.iter().copied();
        let meant = meant.filter(|&key| self.conns.get(key).is_some_and(is_meant));
        let meant: Vec<Key> = meant.take(limits::CLEANUP_CLOSES_MAX).collect();
        for &key in &meant {
            // Another page of the same address may be among them: it comes back and has lost nothing.
            self.dismiss(key, CloseReason::Cleanup, None);
        }
        meant.len()
    }

    fn relay(&mut self, cleanup: &Cleanup, client_ip: IpAddr) {
        let document = serde_json::json!({
            "epoch": format!("{:x}", self.settings.epoch),
            "node": self.settings.node,
            "scope": if cleanup.detail.is_some() { "details" } else { "scores" },
            "id": cleanup.detail,
            "token": cleanup.token,
            "client_ip": client_ip.to_string(),
        });
        let payload = document.to_string().into_bytes();
        self.effects
            .push_back(Effect::Publish(CLEANUP_CHANNEL, payload));
    }
}

/// Who tells of it, what is to be closed, and for which client.
fn parse_relay(payload: &[u8]) -> Option<(u64, Cleanup, IpAddr)> {
    let document: serde_json::Value = serde_json::from_slice(payload).ok()?;
    let text = |name: &str| document.get(name)?.as_str().map(str::to_owned);
    let detail = match document.get("scope")?.as_str()? {
        "scores" => None,
        "details" => Some(text("id")?),
        _ => return None,
    };
    let token = match document.get("token") {
        None | Some(serde_json::Value::Null) => None,
        Some(_) => Some(text("token").filter(|token| route::is_token(token))?),
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
}
