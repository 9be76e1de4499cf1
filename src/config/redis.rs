//! Redis: parses a list of URLs. It owns the form of such a URL; it must never show a password.

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::Misuse;
use super::given::Given;
use super::url::{NO_PASSWORD, NO_TLS, shown};
use crate::broker::redis::{Address, Endpoint};

const REDIS_FORMS: &str = "is not a Redis address: use \
    redis://[user[:password]@]host[:port][/database] or redis+unix:///path[?db=number], \
    with special characters percent-encoded";
const REDIS_NO_SCHEME: &str = "has no scheme: use redis://host:port";
const REDIS_WILDCARD: &str =
    "has the unspecified address, which cannot be connected to: use a host such as localhost";

/// Parses a comma-separated list. A comma within a password must be written as `%2C`.
pub(super) fn endpoints(list: &Given) -> Result<Vec<Endpoint>, Misuse> {
    let numbered = (1..).zip(list.entries());
    let endpoints = numbered.map(|(place, entry)| {
        endpoint(entry).map_err(|reason| {
            let shown = shown(entry, &list.value);
            list.refuse(&format!("address {place} {shown} {reason}"))
        })
    });
    endpoints.collect()
}

/// Parses one URL; the error is the reason for the refusal.
fn endpoint(entry: &str) -> Result<Endpoint, &'static str> {
    let (scheme, _) = entry.split_once("://").ok_or(REDIS_NO_SCHEME)?;
    if matches!(scheme.to_ascii_lowercase().as_str(), "rediss" | "valkeys") {
        return Err(NO_TLS);
    }
    let url = redis::parse_redis_url(entry).ok_or(REDIS_FORMS)?;
    // A bare `#` or `?` in a password would end the address there, and the rest would be ignored silently.
    let cut_short = url.has_host() && url.query().is_some_and(|query| query.contains('@'));
    if cut_short || url.fragment().is_some() {
        return Err(REDIS_FORMS);
    }
    if matches!(url.host_str(), Some("0.0.0.0" | "[::]")) {
        return Err(REDIS_WILDCARD);
    }
    let info = url.into_connection_info().map_err(|_| REDIS_FORMS)?;
    let address = match info.addr().clone() {
        ConnectionAddr::Tcp(host, port @ 1..) => Address::Tcp { host, port },
        ConnectionAddr::Unix(path) => Address::Unix(path),
        _ => return Err(REDIS_FORMS),
    };
    let login = info.redis_settings();
    let filled = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (username, password) = (filled(login.username()), filled(login.password()));
    if username.is_some() && password.is_none() {
        return Err(NO_PASSWORD);
    }
    let db = Some(login.db()).filter(|db| *db >= 0).ok_or(REDIS_FORMS)?;
    Ok(Endpoint {
        address,
        username,
        password,
        db,
    })
}

#[cfg(test)]
mod tests {
    use super::super::SourceConfig;
    use super::super::tests::{config, misuse, tcp};
    use super::*;

    fn redis(url: &str) -> Vec<Endpoint> {
        match config(&[], &[("REDIS_URL", url)]).source {
            SourceConfig::Redis(endpoints) => endpoints,
            SourceConfig::Demo { .. } | SourceConfig::None => Vec::new(),
        }
    }

    #[test]
    fn redis_urls() {
        let login = |username: &str, password: &str| {
            let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            (filled(username), filled(password))
        };
        #[rustfmt::skip]
        let table = [
            ("redis://h", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
            ("redis://h:1/", tcp("h", 1), login("", ""), 0, "redis://h:1"),
            ("REDIS://h", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
            ("valkey://h:2/3", tcp("h", 2), login("", ""), 3, "redis://h:2/3"),
            ("redis://:secret@h", tcp("h", 6379), login("", "secret"), 0, "redis://h:6379"),
            ("redis://u:secret@h/1", tcp("h", 6379), login("u", "secret"), 1, "redis://u@h:6379/1"),
            ("redis://u%3A:a%2Cb%40%2F@h", tcp("h", 6379), login("u:", "a,b@/"), 0, "redis://u:@h:6379"),
            ("redis://u%0A:p@h", tcp("h", 6379), login("u\n", "p"), 0, "redis://u\\n@h:6379"),
            ("redis://a@b:p@h", tcp("h", 6379), login("a@b", "p"), 0, "redis://a@b@h:6379"),
            ("redis://[::1]", tcp("::1", 6379), login("", ""), 0, "redis://[::1]:6379"),
            ("redis://:p@[fe80::1]:7/2", tcp("fe80::1", 7), login("", "p"), 2, "redis://[fe80::1]:7/2"),
            ("redis://10.0.0.1:7", tcp("10.0.0.1", 7), login("", ""), 0, "redis://10.0.0.1:7"),
            ("redis://h/?protocol=resp3", tcp("h", 6379), login("", ""), 0, "redis://h:6379"),
        ];
        for (url, endpoint, (username, password), db, shown) in table {
            let expected = Endpoint {
                username,
                password,
                db,
                ..endpoint
            };
            assert_eq!(redis(url), [expected], "{url}");
            assert_eq!(redis(url)[0].to_string(), shown);
            assert_eq!(format!("{:?}", redis(url)), format!("[Endpoint({shown})]"));
        }
    }

    #[test]
    fn redis_sockets_and_lists() {
        let socket = |path: &str| Address::Unix(path.into());
        for url in [
            "unix:///run/r.sock",
            "redis+unix:///run/r.sock",
            "valkey+unix:///run/r.sock",
        ] {
            let expected = Endpoint {
                address: socket("/run/r.sock"),
                ..tcp("", 0)
            };
            assert_eq!(redis(url), [expected], "{url}");
        }
        let found = redis("redis+unix:///a%20b?db=1&user=u%2F&pass=p%40%2Cq@");
        let expected = Endpoint {
            address: socket("/a b"),
            username: Some("u/".to_owned()),
            password: Some("p@,q@".to_owned()),
            db: 1,
        };
        assert_eq!(found, [expected]);
        assert_eq!(found[0].to_string(), "redis+unix:///a b");
        let listed = redis("redis://a, redis://b:2,unix:///c");
        assert_eq!(
            format!("{listed:?}"),
            "[Endpoint(redis://a:6379), Endpoint(redis://b:2), Endpoint(redis+unix:///c)]"
        );
    }

    #[test]
    fn bad_redis_urls_are_named_where_they_hold_no_secret() {
        let table = [
            (
                "localhost:6379",
                "address 1 \"localhost:6379\" ",
                REDIS_NO_SCHEME,
            ),
            ("localhost", "address 1 \"localhost\" ", REDIS_NO_SCHEME),
            ("redis://a,b:1", "address 2 \"b:1\" ", REDIS_NO_SCHEME),
            ("redis://a,", "address 2 \"\" ", REDIS_NO_SCHEME),
            (
                "redis://u@h",
                "address 1 (not shown, it may contain a password) ",
                NO_PASSWORD,
            ),
            (
                "redis://u:@h",
                "address 1 (not shown, it may contain a password) ",
                NO_PASSWORD,
            ),
            ("rediss://h:1", "address 1 \"rediss://h:1\" ", NO_TLS),
            ("VALKEYS://h", "address 1 \"VALKEYS://h\" ", NO_TLS),
            (
                "redis://0.0.0.0:6379",
                "address 1 \"redis://0.0.0.0:6379\" ",
                REDIS_WILDCARD,
            ),
            ("http://h", "address 1 \"http://h\" ", REDIS_FORMS),
            ("redis://", "address 1 \"redis://\" ", REDIS_FORMS),
            ("redis://h:0", "address 1 \"redis://h:0\" ", REDIS_FORMS),
            (
                "redis://h:65536",
                "address 1 \"redis://h:65536\" ",
                REDIS_FORMS,
            ),
            ("redis://h/x", "address 1 \"redis://h/x\" ", REDIS_FORMS),
            ("redis://h/-1", "address 1 \"redis://h/-1\" ", REDIS_FORMS),
            (
                "redis+unix://run/r.sock",
                "address 1 \"redis+unix://run/r.sock\" ",
                REDIS_FORMS,
            ),
        ];
        for (url, subject, reason) in table {
            assert_eq!(
                misuse(&[], &[("REDIS_URL", url)]),
                format!("REDIS_URL: {subject}{reason}")
            );
            assert_eq!(
                misuse(&["--redis-url", url], &[]),
                format!("--redis-url: {subject}{reason}")
            );
            let alias = misuse(&[], &[("BOXEN_REDIS_URL", url)]);
            assert_eq!(alias, format!("BOXEN_REDIS_URL: {subject}{reason}"));
        }
        assert_eq!(
            misuse(&[], &[("REDIS_URL", "localhost:6379")]),
            "REDIS_URL: address 1 \"localhost:6379\" has no scheme: use redis://host:port"
        );
    }

    #[test]
    fn a_password_is_never_shown() {
        // Each holds "secret" where a password or a piece of one is, often by a mistake in typing.
        let table = [
            ("rediss://u:secret@h", NO_TLS),
            ("u:secret@h:6379", REDIS_NO_SCHEME),
            ("u:secret", REDIS_NO_SCHEME),
            ("secret@h:1", REDIS_NO_SCHEME),
            ("redis://u:secret", REDIS_FORMS),
            ("redis://u:1secret", REDIS_FORMS),
            ("redis://:secret", REDIS_FORMS),
            ("redis://u:sec/secret@h", REDIS_FORMS),
            ("redis://u:1/secret@h", REDIS_FORMS),
            ("redis://u:1?secret@h", REDIS_FORMS),
            ("redis://u:1#secret@h", REDIS_FORMS),
            ("redis://u:1#secret", REDIS_FORMS),
            ("redis://u:secret@h:x", REDIS_FORMS),
            ("redis://u:secret@h/x", REDIS_FORMS),
            ("redis://u:secret@0.0.0.0", REDIS_WILDCARD),
            ("redis://u:%FFsecret@h", REDIS_FORMS),
            ("redis://u:secret,x@h", REDIS_FORMS),
            ("redis://u:1,secret@h", REDIS_NO_SCHEME),
            ("redis://u:1,secret://x@h", REDIS_FORMS),
            ("redis://u:1,secret,x@h", REDIS_NO_SCHEME),
            ("http://u:secret@h", REDIS_FORMS),
            ("redis+unix://h/p?pass=secret", REDIS_FORMS),
            ("redis+unix:///p?pass=a,secret", REDIS_NO_SCHEME),
            ("redis+unix:///p?pass=secret&db=x", REDIS_FORMS),
            ("redis://h?protocol=secret", REDIS_FORMS),
        ];
        for (url, reason) in table {
            let message = misuse(&[], &[("REDIS_URL", url)]);
            assert!(
                message.ends_with(&format!(" (not shown, it may contain a password) {reason}")),
                "{message}"
            );
            assert!(!message.contains("secret"), "{message}");
        }
        for argument in [
            "redis://u:secret@h",
            "u:secret",
            "--redis=redis://:secret@h",
            "-r:secret@h",
        ] {
            assert!(!misuse(&[argument], &[]).contains("secret"), "{argument}");
        }
        let source = config(&["--redis-url=redis://u:secret@h"], &[]).source;
        assert!(!format!("{source:?}").contains("secret"));
    }
}
