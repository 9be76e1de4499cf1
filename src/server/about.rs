//! About: what is known of a stream besides its events. It owns how it is read from the request, and how text from clients
//! is shown; it must not decide anything.

use std::net::IpAddr;

use super::topics::Topic;
use crate::http::{CloseReason, Key, Origin, Request, forwarded, target};
use crate::limits;
use crate::time::Time;

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The address according to trusted proxies, or else that of the connection.
    pub ip: IpAddr,
    /// Whether that is the address of a proxy that is not trusted to name its clients.
    pub is_hidden: bool,
    /// Whether it is a program on this machine. A proxy on it is not meant, but those whose requests it passes on.
    pub is_local: bool,
    /// Where its connection comes from.
    pub origin: Origin,
    /// For how many seconds no secret from its network is looked at, after many wrong ones.
    pub must_wait: Option<u64>,
}

impl Client {
    /// The client that sent a request over a connection from there, behind so many trusted proxies.
    pub fn new(request: &Request, origin: Origin, trusted: usize) -> Client {
        let peer_ip = origin.peer_ip;
        let named_ip = forwarded::client_address(&request.forwarded_for, trusted);
        Client {
            ip: named_ip.unwrap_or(peer_ip),
            is_hidden: named_ip.is_none() && !request.forwarded_for.is_empty(),
            is_local: peer_ip.to_canonical().is_loopback() && !request.is_forwarded,
            origin,
            must_wait: None,
        }
    }
}

/// What is known of a stream, most of it for reports.
pub struct About {
    /// Its connection.
    pub key: Key,
    /// Where that comes from, which the connection itself does not know while it is a stream.
    pub origin: Origin,
    pub subscribed_at: Time,
    /// The client's address, according to trusted proxies.
    pub client_ip: IpAddr,
    /// Whether that is the address of a proxy which many clients may share.
    pub is_hidden: bool,
    /// The path of the request.
    pub path: Box<str>,
    /// `User-Agent`.
    pub user_agent: Box<str>,
    /// By which a page identifies its own streams.
    pub token: Option<Box<str>>,
}

impl About {
    /// A stream of these topics that is requested now.
    pub fn new(key: Key, topics: &[Topic], request: &Request, client: Client, now: Time) -> About {
        let (path, query) =
            target::split(&request.target).map_or(("", ""), |target| (target.path, target.query));
        let token = token_of(query).filter(|token| is_token(token));
        About {
            key,
            origin: client.origin,
            subscribed_at: now,
            client_ip: client.ip,
            is_hidden: client.is_hidden,
            path: shown_path(path, topics),
            user_agent: shown(&request.user_agent),
            token: token.map(Box::from),
        }
    }

    /// The log line at its end.
    pub fn shown_end(&self, reason: CloseReason, now: Time) -> String {
        let (path, client_ip, reason) = (&self.path, self.client_ip, reason.name());
        let age = now.since(self.subscribed_at).as_secs_f64();
        format!("disconnect {path} from {client_ip} after {age:.1} s: {reason}")
    }
}

/// The position that the client of a request comes back with.
pub fn last_event_id(request: &Request) -> Option<String> {
    let id = match std::str::from_utf8(&request.last_event_id) {
        // The parameters are for clients that cannot set the field; browsers set it themselves.
        Ok("") | Err(_) => {
            let query = target::split(&request.target).ok()?.query;
            let mut values = ["lastEventId", "lastEventID"]
                .iter()
                .filter_map(|name| target::query_values(query, name).next());
            values.next()?
        }
        Ok(id) => id.to_owned(),
    };
    Some(id).filter(|id| !id.is_empty())
}

/// Whether a request asks for events with positions, or for events without; `None` where it does neither.
pub fn wants_ids(request: &Request) -> Option<bool> {
    let query = target::split(&request.target).ok()?.query;
    target::query_values(query, "ids").find_map(|value| match &*value {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    })
}

/// The token in a query, valid or not.
pub fn token_of(query: &str) -> Option<String> {
    target::query_values(query, "token").next()
}

/// Whether a token is valid.
pub fn is_token(token: &str) -> bool {
    (1..=limits::TOKEN_BYTES_MAX).contains(&token.len())
}

/// The path that reports show: the requested one, or a list of topics if the query named them.
fn shown_path(path: &str, topics: &[Topic]) -> Box<str> {
    // Such as `/subscribe/eps`, and `/subscribe/channels/a`.
    let depth = path.matches('/').count();
    if matches!(topics, [topic] if depth == 2 + usize::from(topic.child.is_some())) {
        return shown(path.as_bytes());
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

/// Text from a client as it is kept for reports: readable, and of bounded length. Control characters become escapes,
/// also those beyond ASCII, of which some control terminals.
fn shown(bytes: &[u8]) -> Box<str> {
    let cut = &bytes[..bytes.len().min(limits::SHOWN_BYTES_MAX)];
    let mut shown = String::with_capacity(cut.len());
    for letter in String::from_utf8_lossy(cut).chars() {
        let end = shown.len();
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
        // Escapes and replacement characters are longer than what they replace.
        if shown.len() > limits::SHOWN_BYTES_MAX {
            shown.truncate(end);
            break;
        }
    }
    shown.into()
}
