//! Visitors: what a request says of its client. It owns reading it out of a head, and how a client's words are shown; it
//! must not decide anything about the client.

use std::net::IpAddr;

use super::topics::Topic;
use crate::http::{Request, forwarded, target};
use crate::limits;

/// The client of a request.
pub struct Visitor {
    /// Its address, as far as trusted proxies tell.
    pub client_ip: IpAddr,
    /// The position that it comes back with.
    pub last_event_id: Option<String>,
    /// What the page chose to know its own streams by, where that is usable.
    pub token: Option<String>,
    /// The path of the request, as it is shown.
    pub path: Box<str>,
    /// Its `User-Agent`, as it is shown.
    pub user_agent: Box<str>,
}

impl Visitor {
    /// Who has sent this request over a connection from `peer_ip`.
    pub fn of(request: &Request, peer_ip: IpAddr, trusted_proxies: usize) -> Visitor {
        let target = target::split(&request.target).ok();
        let (path, query) = target.map_or(("", ""), |target| (target.path, target.query));
        // The parameter is for clients that cannot set the field; the field is a browser's own.
        let last_event_id = match std::str::from_utf8(&request.last_event_id) {
            Ok("") | Err(_) => target::query_values(query, "lastEventId").next(),
            Ok(id) => Some(id.to_owned()),
        };
        Visitor {
            client_ip: client_ip(request, peer_ip, trusted_proxies),
            last_event_id: last_event_id.filter(|id| !id.is_empty()),
            token: token_of(query).filter(|token| is_token(token)),
            path: shown(path.as_bytes()),
            user_agent: shown(&request.user_agent),
        }
    }

    /// What is shown of a stream: its path, and of one whose query names what it consists of which topics these are.
    pub fn shown_path(&self, topics: &[Topic]) -> Box<str> {
        // Such as `/subscribe/eps`, and `/subscribe/channels/a`.
        let depth = self.path.matches('/').count();
        let is_named_by_path =
            matches!(topics, [topic] if depth == 2 + usize::from(topic.child.is_some()));
        if is_named_by_path {
            return self.path.clone();
        }
        let mut path = String::from("/subscribe");
        for (index, topic) in topics.iter().enumerate() {
            path.push_str(if index == 0 { "?ns=/" } else { "&ns=/" });
            path.push_str(topic.stream.segment());
            if let Some(child) = &topic.child {
                path.push('/');
                path.push_str(child);
            }
        }
        shown(path.as_bytes())
    }
}

/// The address of a request's client, as far as trusted proxies tell.
pub fn client_ip(request: &Request, peer_ip: IpAddr, trusted_proxies: usize) -> IpAddr {
    let forwarded = forwarded::client_address(&request.forwarded_for, trusted_proxies);
    forwarded.unwrap_or(peer_ip)
}

/// What a page chose to know its own streams by, usable or not.
pub fn token_of(query: &str) -> Option<String> {
    target::query_values(query, "token").next()
}

/// Whether a token is usable.
pub fn is_token(token: &str) -> bool {
    (1..=limits::TOKEN_BYTES_MAX).contains(&token.len())
}

/// A client's words as they are kept to be shown: readable, and bounded. Control characters, of which some
/// above ASCII steer terminals as well, become escapes.
fn shown(bytes: &[u8]) -> Box<str> {
    let cut = &bytes[..bytes.len().min(limits::SHOWN_BYTES_MAX)];
    let mut shown = String::with_capacity(cut.len());
    for letter in String::from_utf8_lossy(cut).chars() {
        let end = shown.len();
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
        // Escapes, and what stands for bytes that are no UTF-8, are longer than what they stand for.
        if shown.len() > limits::SHOWN_BYTES_MAX {
            shown.truncate(end);
            break;
        }
    }
    shown.into()
}
