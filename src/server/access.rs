//! Access: who may see the private documents, which are about the server and its clients, and which
//! replies refuse a secret. It owns these rules; it must not know which documents are private, or what else secrets are for.

use std::net::IpAddr;

use super::about::Client;
use super::settings::Access;
use crate::http::Request;
use crate::http::authorization::CHALLENGE;
use crate::http::reply::Reply;

/// The refusal of a secret that is not looked at, if so.
pub fn refuse_guess(client: Client) -> Option<Reply> {
    let seconds = client.must_wait?;
    let message = format!("too many wrong secrets from this network; retry in {seconds} s");
    Some(Reply::error(429, &message).with_retry_after(seconds))
}

/// Whether this reply refuses a secret.
pub fn is_failure(reply: &Reply, request: &Request, body: &[u8], client: Client) -> bool {
    match reply.status {
        // Browsers ask without a password first.
        401 => !request.authorization.is_empty() || !body.is_empty(),
        429 => client.must_wait.is_some(),
        _ => false,
    }
}

/// Why a client may not see a private document, if so.
pub fn refuse(request: &Request, client: Client, access: &Access) -> Option<Reply> {
    if let Some(token) = &access.admin_token {
        if !request.authorization.is_empty() && client.must_wait.is_some() {
            return refuse_guess(client);
        }
        let message = "send the admin token as a bearer token or as a password";
        let refusal = || Reply::error(401, message).with_extra(CHALLENGE);
        return (!token.is_in(&request.authorization)).then(refusal);
    }
    if !(access.admin_is_apart || access.admin_is_open || client.is_local) {
        let message = "this is shown only to clients on the same machine that use no proxy; to see it from elsewhere, \
            set ADMIN_TOKEN or ADMIN_LISTEN, or ADMIN_OPEN=true to show it to everybody";
        return Some(Reply::error(403, message));
    }
    let message = "without ADMIN_TOKEN, this is shown only where Host is an IP address, localhost or listed in ADMIN_HOSTS";
    (!is_expected(&request.host, &access.admin_hosts)).then(|| Reply::error(403, message))
}

/// Whether `Host` cannot be the name of a page whose owner has it resolve to our address in order to read what the
/// visitor's browser can reach (DNS rebinding). Such a browser is a client on this machine.
fn is_expected(host: &[u8], listed: &[String]) -> bool {
    let host = String::from_utf8_lossy(host.trim_ascii()).to_ascii_lowercase();
    // The field has been checked, so that brackets enclose an IPv6 address. Without the field, this is HTTP/1.0, and
    // no browser.
    let name = host.split(':').next().unwrap_or_default();
    let is_address = host.starts_with('[') || name.parse::<IpAddr>().is_ok();
    is_address || matches!(name, "" | "localhost") || listed.iter().any(|it| it == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_an_address_or_a_name_that_is_ours() {
        let table = [
            ("", true),
            ("localhost", true),
            ("LocalHost:8001", true),
            ("127.0.0.1", true),
            ("10.0.0.1:8001", true),
            ("[::1]", true),
            ("[::1]:8001", true),
            ("Streamer.Example:8001", true),
            ("streamer.example", true),
            ("streamer.example.evil", false),
            ("a.streamer.example", false),
            ("localhost.evil", false),
            ("127.0.0.1.evil", false),
            ("evil:127", false),
        ];
        for (host, expected) in table {
            let listed = ["streamer.example".to_owned()];
            assert_eq!(is_expected(host.as_bytes(), &listed), expected, "{host:?}");
        }
    }
}
