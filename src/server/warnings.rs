//! Warnings: what operators should know of requests. It owns how often the log says so, and how many wrong secrets a
//! network may give; it must not refuse anything itself.

use std::net::IpAddr;

use super::about::Client;
use super::rate::Rate;
use crate::limits;
use crate::time::Time;

pub struct Warnings {
    wrong_secrets: Rate,
    /// How many wrong secrets there were since the last line about them, and the client of the last one.
    unlogged: Option<(u64, IpAddr)>,
    /// When the next line about them may be logged.
    logs_at: Time,
    /// A proxy whose clients are hidden, until it is logged.
    proxy: Option<IpAddr>,
    /// Whether there was one; further ones are not logged.
    had_proxy: bool,
}

impl Warnings {
    pub fn new() -> Warnings {
        Warnings {
            wrong_secrets: Rate::new(limits::AUTH_FAILURES_PER_WINDOW, limits::AUTH_WINDOW),
            unlogged: None,
            logs_at: Time::ZERO,
            proxy: None,
            had_proxy: false,
        }
    }

    /// A client has sent a request; returns for how many seconds no secret from its network is looked at.
    pub fn handle_request(&mut self, client: Client, now: Time) -> Option<u64> {
        if client.is_hidden && !self.had_proxy {
            self.had_proxy = true;
            self.proxy = Some(client.ip);
        }
        self.wrong_secrets.wait(client.ip, now)
    }

    /// A request of this client was refused for its secret.
    pub fn handle_wrong_secret(&mut self, client_ip: IpAddr, now: Time) {
        self.wrong_secrets.count(client_ip, now);
        let count = self.unlogged.map_or(0, |(count, _)| count);
        self.unlogged = Some((count + 1, client_ip));
    }

    /// The next line for the log, if one is due.
    pub fn poll_line(&mut self, now: Time) -> Option<String> {
        if let Some(proxy) = self.proxy.take() {
            return Some(format!(
                "X-Forwarded-For came from {proxy}, and TRUST_PROXY takes no address from it: set TRUST_PROXY to the number \
                 of your proxies; until then, cleanups without a token close nothing for their clients"
            ));
        }
        let (count, client_ip) = self.unlogged.take_if(|_| self.logs_at <= now)?;
        self.logs_at = now + limits::AUTH_LOG_INTERVAL;
        Some(format!(
            "requests with a wrong secret since the last such line: {count}, the last of them from {client_ip}"
        ))
    }

    /// When a line is due.
    pub fn deadline(&self) -> Option<Time> {
        let proxy = self.proxy.map(|_| Time::ZERO);
        proxy.or(self.unlogged.map(|_| self.logs_at))
    }
}
