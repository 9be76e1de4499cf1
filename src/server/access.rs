//! Access: who may see the private documents, which are about the server and its clients. It owns the rules and the
//! refusals; it must not know which documents are private.

use std::net::IpAddr;

use super::about::Client;
use super::settings::Access;
use crate::http::Request;
use crate::http::authorization::CHALLENGE;
use crate::http::reply::Reply;

/// Why a client may not see a private document, if so.
pub fn refuse(request: &Request, client: Client, access: &Access) -> Option<Reply> {
    if let Some(token) = &access.admin_token {
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
