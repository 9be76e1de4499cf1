//! Lists: parses comma-separated addresses to listen on, and patterns of channels. It owns their forms; it must not
//! resolve names.

use std::net::SocketAddr;

use super::Misuse;
use super::given::Given;
use crate::glob::Glob;
use crate::limits::{
    ADMIN_HOSTS_MAX, CHANNEL_PATTERNS_MAX, LISTEN_ADDRESSES_MAX, SEGMENT_BYTES_MAX,
};
use crate::server::is_own_channel;

const LISTEN_FORMS: &str = "is not an IP address: use one such as 0.0.0.0, 127.0.0.1:9000 or [::1]:9000, \
    or localhost; other names are not looked up";
const NO_PORT: &str = "has no port: add a port other than PORT, as in 127.0.0.1:9000 or [::1]:9000";

/// An entry without a port gets `port`, or is refused if that is `None`. There are no duplicates, because a second bind
/// to the same address would fail, as with "127.0.0.1,localhost".
pub(super) fn addresses(list: &Given, port: Option<u16>) -> Result<Vec<SocketAddr>, Misuse> {
    list.list(LISTEN_ADDRESSES_MAX, "addresses", |entry| {
        addresses_of(entry, port).ok_or_else(|| match addresses_of(entry, Some(1)) {
            Some(_) => NO_PORT.to_owned(),
            None => LISTEN_FORMS.to_owned(),
        })
    })
}

fn addresses_of(entry: &str, port: Option<u16>) -> Option<Vec<SocketAddr>> {
    let address = |ip: &str| {
        let with_port = port.and_then(|port| {
            let forms = [format!("{ip}:{port}"), format!("[{ip}]:{port}")];
            forms.iter().find_map(|form| form.parse().ok())
        });
        ip.parse().ok().or(with_port)
    };
    match entry.to_ascii_lowercase().strip_prefix("localhost") {
        Some(port) => {
            let loopback = ["127.0.0.1", "[::1]"].iter();
            loopback.map(|ip| address(&format!("{ip}{port}"))).collect()
        }
        None => Some(vec![address(entry)?]),
    }
}

/// Names of hosts, in lower case.
pub(super) fn hosts(list: &Given) -> Result<Vec<String>, Misuse> {
    list.list(ADMIN_HOSTS_MAX, "names", |entry| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match !entry.is_empty() && entry.bytes().all(is_part) {
            true => Ok(vec![entry.to_ascii_lowercase()]),
            false => Err(
                "is not the name of a host: use names without ports, as in streamer.example.org"
                    .to_owned(),
            ),
        }
    })
}

/// Patterns of channels that clients may subscribe to.
pub(super) fn patterns(list: &Given) -> Result<Vec<Glob>, Misuse> {
    list.list(CHANNEL_PATTERNS_MAX, "patterns", |entry| {
        let is_text = !entry.chars().any(char::is_control);
        if !is_text || !(1..=SEGMENT_BYTES_MAX).contains(&entry.len()) {
            return Err(format!(
                "is not a pattern of channels: use 1 to {SEGMENT_BYTES_MAX} bytes without control characters, as in \
                 news or room.*"
            ));
        }
        // The text before the first wildcard decides whether a pattern can match other names than those reserved for
        // the server. `?` stands for what the wildcard matches: a name reserved as a whole does not reserve longer
        // ones.
        let can_only_match_own = match entry.find(['*', '?', '[', '\\']) {
            Some(end) => is_own_channel(format!("{}?", &entry[..end]).as_bytes()),
            None => is_own_channel(entry.as_bytes()),
        };
        match can_only_match_own {
            true => Err("matches only names that are reserved for the server: leave it out".to_owned()),
            false => Ok(vec![Glob::new(entry)]),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{command, config, misuse};
    use super::*;
    use crate::net::Listen;

    #[test]
    fn hosts_have_no_ports() {
        for typed in ["a:80", "http://a", "a,,b", "[::1]", "a b", "*"] {
            let refused = misuse(&[], &[("ADMIN_HOSTS", typed)]);
            let reason =
                "is not the name of a host: use names without ports, as in streamer.example.org";
            assert!(refused.ends_with(reason), "{refused}");
        }
    }

    #[test]
    fn addresses_to_listen_on() {
        let table: &[(&str, &[&str])] = &[
            ("0.0.0.0", &["0.0.0.0:7"]),
            ("::", &["[::]:7"]),
            ("[::1]", &["[::1]:7"]),
            ("[::1]:9000", &["[::1]:9000"]),
            ("127.0.0.1:9000, ::1", &["127.0.0.1:9000", "[::1]:7"]),
            ("localhost", &["127.0.0.1:7", "[::1]:7"]),
            ("LocalHost:0", &["127.0.0.1:0", "[::1]:0"]),
            (
                "127.0.0.1,localhost,127.0.0.1:7",
                &["127.0.0.1:7", "[::1]:7"],
            ),
            ("127.0.0.1,127.0.0.1:8", &["127.0.0.1:7", "127.0.0.1:8"]),
        ];
        for (typed, expected) in table {
            let expected = expected
                .iter()
                .map(|address| address.parse().expect("a literal"))
                .collect();
            let listen = config(&["--port=7", "--listen", typed], &[]).listen;
            assert_eq!(listen, Listen::Addresses(expected), "{typed}");
        }
        #[rustfmt::skip]
        let bad = ["example.com", "example.com:80", "localhost:x", "localhost:+1", "localhost1", "localhost.",
            ":80", "*", "127.0.0.1:65536", "127.0.0", "[127.0.0.1]", "[::1", "[::1]x", "80", ""];
        for entry in bad {
            let typed = format!("127.0.0.1,{entry}");
            let expected = format!(
                "LISTEN: {entry:?} is not an IP address: use one such as 0.0.0.0, 127.0.0.1:9000 or \
                 [::1]:9000, or localhost; other names are not looked up"
            );
            assert_eq!(misuse(&[], &[("LISTEN", &typed)]), expected);
        }
        assert!(misuse(&["--listen", "a"], &[]).starts_with("--listen: \"a\" is not"));
    }

    #[test]
    fn admin_addresses_need_a_port() {
        let table: &[(&str, &[&str])] = &[
            ("127.0.0.1:9000", &["127.0.0.1:9000"]),
            (
                "localhost:9, [::1]:9 ,0.0.0.0:1",
                &["127.0.0.1:9", "[::1]:9", "0.0.0.0:1"],
            ),
            ("127.0.0.1:0", &["127.0.0.1:0"]),
        ];
        for (typed, expected) in table {
            let config = config(&["--admin-listen", typed], &[]);
            let shown: Vec<String> = config
                .admin_listen
                .iter()
                .map(SocketAddr::to_string)
                .collect();
            assert_eq!(shown, *expected, "{typed}");
            assert!(config.server.access.admin_is_apart);
        }
        for entry in ["127.0.0.1", "localhost", "::1", "[::1]", "::1:9000"] {
            let typed = format!("127.0.0.1:1,{entry}");
            assert_eq!(
                misuse(&[], &[("ADMIN_LISTEN", &typed)]),
                format!(
                    "ADMIN_LISTEN: {entry:?} has no port: add a port other than PORT, as in 127.0.0.1:9000 or \
                     [::1]:9000"
                )
            );
        }
        let refused = misuse(&["--admin-listen=a:1"], &[]);
        assert!(refused.starts_with("--admin-listen: \"a:1\" is not an IP address"));
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let list = |count: usize| -> String {
            let entries: Vec<String> = (1..=count)
                .map(|last| format!("127.0.0.{last}:9"))
                .collect();
            entries.join(",")
        };
        for variable in ["LISTEN", "ADMIN_LISTEN"] {
            assert!(command(&[], &[(variable, &list(16))]).is_ok());
            assert_eq!(
                misuse(&[], &[(variable, &list(17))]),
                format!("{variable}: 17 addresses are too many: use 16 at most")
            );
        }
    }

    #[test]
    fn patterns_of_channels() {
        let longest = "a".repeat(200);
        let too_long = "a".repeat(201);
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            ("*", &["*"]),
            (" a b ,c", &["a b", "c"]),
            ("a,a,b.[cd]", &["a", "b.[cd]"]),
            ("\u{2764}", &["\u{2764}"]),
            (&longest, &[&longest]),
            ("stream.*,stream.score_updates.*,stream.score_updates?", &["stream.*", "stream.score_updates.*",
                "stream.score_updates?"]),
            ("stream.tweet_updates,stream.tweet_updates*,stream.admin", &["stream.tweet_updates",
                "stream.tweet_updates*", "stream.admin"]),
        ];
        for (typed, expected) in table {
            let found = config(&["--demo", "--channels", typed], &[])
                .server
                .channels
                .patterns;
            let texts: Vec<&str> = found.iter().map(Glob::text).collect();
            assert_eq!(texts, *expected, "{typed}");
        }
        for entry in ["", "a\nb", "a\u{85}b", &too_long] {
            let expected = format!(
                "CHANNELS: {entry:?} is not a pattern of channels: use 1 to 200 bytes without control \
                 characters, as in news or room.*"
            );
            let typed = format!("news,{entry}");
            assert_eq!(
                misuse(&[], &[("CHANNELS", &format!("{typed},b"))]),
                expected
            );
        }
        #[rustfmt::skip]
        let own = ["stream.score_updates", "stream.tweet_updates.*", "stream.tweet_updates.1F4C2",
            "stream.interaction.[a]", "stream.admin.", "stream.admin.a?"];
        for entry in own {
            let expected = format!(
                "--channels: {entry:?} matches only names that are reserved for the server: leave it out"
            );
            assert_eq!(
                misuse(&["--channels", &format!("a,{entry}")], &[]),
                expected
            );
        }
        let list = |count: usize| -> String {
            let entries: Vec<String> = (0..count).map(|index| format!("c{index}")).collect();
            entries.join(",")
        };
        assert!(command(&[], &[("CHANNELS", &list(64))]).is_ok());
        assert_eq!(
            misuse(&[], &[("CHANNELS", &list(65))]),
            "CHANNELS: 65 patterns are too many: use 64 at most"
        );
    }
}
