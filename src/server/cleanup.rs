//! Cleanups: a client closes its own streams, because the router in between will not tell us that it has left. It owns
//! which streams are closed, and what copies of the server tell each other; it must not know how a stream is closed.

use std::net::IpAddr;

use super::about::is_token;
use super::rate::Rate;
use super::streams::Streams;
use crate::bus::{Name, Stream};
use crate::http::Key;
use crate::http::reply::Reply;
use crate::limits;

/// The channel on which copies of the server tell each other of cleanups.
pub const CLEANUP_CHANNEL: &str = "stream.admin.cleanup";

/// Which streams to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// The ID of a detail stream, or `None` for eps.
    pub detail: Option<String>,
    /// By which a page identifies its own streams. With one, the address does not matter.
    pub token: Option<String>,
}

impl Cleanup {
    /// The streams to close, for a client with this address.
    pub fn find(&self, client_ip: IpAddr, streams: &Streams) -> Vec<Key> {
        let candidates = streams.candidates(self.token.as_deref(), client_ip);
        let meant = candidates.into_iter().filter(|it| {
            let is_client = it.about.client_ip == client_ip && !it.about.is_hidden;
            let is_own = self.token.is_some() || is_client;
            is_own && streams.bus().is_subscribed(it.subscriber, self.name())
        });
        // These may include another page at the same address: it reconnects, and loses nothing.
        let keys = meant.map(|it| it.about.key);
        keys.take(limits::CLEANUP_CLOSES_MAX).collect()
    }

    /// The message to the other copies, from the process with this epoch and name.
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

/// How often cleanups may be requested.
pub fn rate() -> Rate {
    Rate::new(limits::CLEANUPS_PER_WINDOW, limits::CLEANUP_WINDOW)
}

/// The reply to a client that has requested too many cleanups and may do so again in so many seconds.
pub fn too_many(seconds: u64) -> Reply {
    let limit = limits::CLEANUPS_PER_WINDOW;
    let message = format!("more than {limit} cleanups from this address; retry in {seconds} s");
    Reply::error(429, &message).with_retry_after(seconds)
}

/// The reply to a cleanup that closed so many streams here.
pub fn cleaned_up(closed: usize) -> Reply {
    let body = format!("{{\"status\":\"OK\",\"closed\":{closed}}}\n");
    Reply::json(200, body.into_bytes())
}

/// Parses a message from a copy of the server: its epoch, the cleanup, and the client's address.
pub fn parse_relay(payload: &[u8]) -> Option<(u64, Cleanup, IpAddr)> {
    // A parsed document takes up to a hundred times its size.
    let is_short = payload.len() <= limits::RELAY_BYTES_MAX;
    let document: serde_json::Value = is_short.then(|| serde_json::from_slice(payload).ok())??;
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
            [good.as_slice(), &[b' '; limits::RELAY_BYTES_MAX]]
                .concat()
                .leak(),
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
