//! Rules: everything that depends on more than one option. It owns these dependencies; it must not parse values,
//! except for the addresses of Redis, which the demo ignores.

use std::ffi::OsString;
use std::mem;
use std::net::SocketAddr;

use super::addresses::{hosted, place_segments, redis_endpoints};
use super::given::digits;
use super::{Config, Graphite, Misuse, SourceConfig, Typed};
use crate::broker::redis::Endpoint;
use crate::level::Level;
use crate::limits;
use crate::net::Listen;
use crate::random;
use crate::report::graphite::ROOT_BYTES_MAX;
use crate::server::settings::Reconnect;

/// Applies all rules. `host_name` is called only if `DYNO` is not set.
pub(super) fn apply(
    config: &mut Config,
    host_name: impl FnOnce() -> Option<String>,
) -> Result<(), Misuse> {
    config.source = source(&mut config.typed)?;
    config.redis_publishers = publishers(&mut config.typed, &config.source)?;
    let is_demo = matches!(config.source, SourceConfig::Demo { .. });
    config.server.reports.page_enabled |= is_demo;
    config.server.channels.has_no_broker = !matches!(config.source, SourceConfig::Redis(_));

    let is_taken = |address: &&SocketAddr| is_taken(**address, &config.listen);
    if let Some(address) = config.admin_listen.iter().find(is_taken) {
        return Err(Misuse(format!(
            "ADMIN_LISTEN: {address} is already used by LISTEN and PORT for clients: use another port"
        )));
    }
    config.server.access.admin_is_apart = !config.admin_listen.is_empty();

    // Retry times and lifetimes apply only with SSE_FORCE_REFRESH, except for SSE_RECONNECT_MS, which always applies
    // and wins over the others.
    let streams = &mut config.server.streams;
    for family in [&mut streams.score, &mut streams.detail] {
        if !streams.force_refresh {
            *family = Reconnect::default();
        }
        family.retry_ms = config.typed.reconnect_ms.or(family.retry_ms);
    }

    // VERBOSE is short for LOG_LEVEL=debug.
    if config.server.verbose {
        config.log_level = config.log_level.max(Level::Debug);
    }
    config.server.verbose = config.log_level >= Level::Debug;

    if let (Some(endpoint), Some(kind)) = (&mut config.amqp, config.typed.exchange_type) {
        endpoint.exchange = config.typed.exchange.clone();
        endpoint.exchange_type = kind;
    }

    // Heroku's router is a proxy that can be trusted, and clients cannot bypass it.
    let trusted_proxies = config.typed.trusted_proxies;
    config.is_on_heroku &= trusted_proxies.is_none();
    let default = usize::from(config.is_on_heroku);
    config.server.admission.trusted_proxies = trusted_proxies.unwrap_or(default);
    let idle = match config.server.admission.trusted_proxies {
        0 => limits::IDLE,
        _ => limits::IDLE_BEHIND_PROXY,
    };
    config.server.pacing.idle = config.typed.idle.unwrap_or(idle);
    config.server.pacing.drain_grace = limits::DRAIN_GRACE;
    config.server.pacing.others_listen = config.reuse_port;

    let host_name = || host_name().filter(|name| !name.is_empty());
    let is_named = config.typed.dyno.is_some();
    let dyno = config.typed.dyno.take().or_else(host_name);
    let place = dyno.unwrap_or_else(|| "localhost".to_owned());
    let unfit = |letter: char| letter.is_control() || letter.is_whitespace();
    let environment = &config.typed.environment;
    config.server.node = format!("rust-{environment}-{place}").replace(unfit, "-");
    config.graphite = graphite(&config.typed, place_segments(&place, is_named))?;
    config.typed.dyno = Some(place);
    Ok(())
}

/// Whether the environment is that of a dyno that Heroku's router sends requests to: `PORT` is set, and `DYNO` is a name
/// such as `web.1`. Others set `DYNO` to name a copy, and need not have a proxy.
pub(super) fn is_on_heroku(env: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_set = |name| env(name).is_some_and(|value| !value.is_empty());
    let dyno = env("DYNO").unwrap_or_default();
    let number = dyno.to_str().and_then(|name| name.strip_prefix("web."));
    is_set("PORT") && number.is_some_and(|number| digits::<u32>(number).is_some())
}

/// `DEMO` wins over the variable `REDIS_URL`, which is then ignored, and conflicts with the flag `--redis-url`.
fn source(typed: &mut Typed) -> Result<SourceConfig, Misuse> {
    let redis_url = mem::take(&mut typed.redis_url);
    let is_none = redis_url.value.eq_ignore_ascii_case("none");
    match &typed.demo {
        // Other programs may share the environment; a flag is meant for this one.
        Some(demo) if redis_url.name.starts_with("--") && !is_none => Err(Misuse(format!(
            "{} conflicts with {demo}, which does not use Redis: use only one of them",
            redis_url.name
        ))),
        Some(_) => Ok(SourceConfig::Demo {
            per_second: typed.demo_rate,
            seed: typed.demo_seed.unwrap_or_else(random::process_seed),
        }),
        None if is_none => Ok(SourceConfig::None),
        None => Ok(SourceConfig::Redis(redis_endpoints(&redis_url)?)),
    }
}

/// Without Redis, the variable `REDIS_PUBLISH_URL` is ignored like `REDIS_URL`, and the flag is refused.
fn publishers(typed: &mut Typed, source: &SourceConfig) -> Result<Vec<Endpoint>, Misuse> {
    match (typed.redis_publish_url.take(), source) {
        (Some(url), SourceConfig::Redis(_)) => redis_endpoints(&url),
        (Some(url), _) if url.name.starts_with("--") => Err(Misuse(format!(
            "{} has no use without Redis: set REDIS_URL as well, or use neither",
            url.name
        ))),
        _ => Ok(Vec::new()),
    }
}

/// Whether an address overlaps with a public one. A wildcard address covers its own address family only, except for
/// the dual-stack socket that is used without `LISTEN`.
fn is_taken(address: SocketAddr, public: &Listen) -> bool {
    let (ip, port) = (address.ip(), address.port());
    let meets = |other: &SocketAddr| {
        let is_wildcard = ip.is_unspecified() || other.ip().is_unspecified();
        let is_same_ip = other.ip() == ip || is_wildcard && other.is_ipv4() == ip.is_ipv4();
        other.port() == port && is_same_ip
    };
    match public {
        // Port 0 gives another port each time.
        _ if port == 0 => false,
        Listen::Everywhere(used) => *used == port,
        Listen::Addresses(addresses) => addresses.iter().any(meets),
    }
}

/// Metrics go to `GRAPHITE_URL`, or with only `HOSTEDGRAPHITE_APIKEY` to Hosted Graphite. Their paths begin with the
/// key, `GRAPHITE_PREFIX` and the name of this process.
fn graphite(typed: &Typed, place: String) -> Result<Option<Graphite>, Misuse> {
    let target = match (&typed.graphite_target, &typed.graphite_key) {
        (Some(target), _) => target.clone(),
        (None, Some(_)) => hosted(),
        (None, None) => return Ok(None),
    };
    let given = [&typed.graphite_key, &typed.graphite_prefix, &Some(place)];
    let segments: Vec<&str> = given.into_iter().flatten().map(String::as_str).collect();
    let root = segments.join(".");
    if root.len() > ROOT_BYTES_MAX {
        // The path is not shown, because it may contain the key.
        return Err(Misuse(format!(
            "HOSTEDGRAPHITE_APIKEY, GRAPHITE_PREFIX and DYNO: metric paths would begin with {} bytes: use \
             {ROOT_BYTES_MAX} bytes in total at most",
            root.len()
        )));
    }
    Ok(Some(Graphite { target, root }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::addresses::NO_TLS;
    use super::super::parse;
    use super::super::tests::{Variables, command, config, config_on, misuse, shown_graphite};
    use super::*;

    #[test]
    fn each_family_has_a_lifetime_with_force_refresh() {
        let flags = ["--sse-force-refresh", "--sse-score-forceclose-sec=60"];
        let server = config(&flags, &[]).server;
        assert_eq!(server.streams.score.lifetime, Some(Duration::from_secs(60)));
        assert_eq!(
            server.streams.detail.lifetime,
            Some(Duration::from_secs(300))
        );
    }

    #[test]
    fn a_proxy_is_trusted_on_heroku_only() {
        let (dyno, port) = (("DYNO", "web.1"), ("PORT", "5000"));
        #[rustfmt::skip]
        let table: &[(&[&str], Variables<'_>, usize)] = &[
            (&[], &[], 0),
            (&[], &[dyno, port], 1),
            (&[], &[("DYNO", "web.23"), port], 1),
            (&[], &[dyno], 0),
            (&[], &[port], 0),
            (&["--dyno=web.1"], &[port], 0),
            (&["--port=5000"], &[dyno], 0),
            (&["--port=5000", "--dyno=a"], &[dyno, port], 1),
            (&[], &[dyno, ("PORT", "")], 0),
            (&[], &[("DYNO", "copy.1"), port], 0),
            (&[], &[("DYNO", "web.a"), port], 0),
            (&[], &[("DYNO", "web."), port], 0),
            (&[], &[("DYNO", "web"), port], 0),
            (&["--trust-proxy=0"], &[dyno, port], 0),
            (&[], &[dyno, port, ("TRUST_PROXY", "2")], 2),
        ];
        for (flags, variables, expected) in table {
            let config = config(flags, variables);
            let trusted = config.server.admission.trusted_proxies;
            assert_eq!(trusted, *expected, "{flags:?} {variables:?}");
            assert_eq!(config.is_on_heroku, trusted == 1, "{flags:?} {variables:?}");
        }
    }

    #[test]
    fn proxies_may_keep_idle_connections_longer_than_clients() {
        #[rustfmt::skip]
        let table: &[(&[&str], Variables<'_>, u64)] = &[
            (&[], &[], 10),
            (&["--trust-proxy=0"], &[], 10),
            (&["--trust-proxy=2"], &[], 95),
            (&[], &[("DYNO", "web.1"), ("PORT", "5000")], 95),
            (&["--trust-proxy=1"], &[("IDLE_SEC", "70")], 70),
            (&["--idle-sec=30"], &[], 30),
        ];
        for (flags, variables, expected) in table {
            let idle = config(flags, variables).server.pacing.idle;
            assert_eq!(
                idle,
                Duration::from_secs(*expected),
                "{flags:?} {variables:?}"
            );
        }
    }

    #[test]
    fn retry_is_sent_with_force_refresh_or_with_a_reconnect_time() {
        #[rustfmt::skip]
        let table: &[(Variables<'_>, Option<u32>, Option<u32>)] = &[
            (&[], None, None),
            (&[("SSE_SCORE_RETRY_MS", "1"), ("SSE_DETAIL_RETRY_MS", "2")], None, None),
            (&[("SSE_FORCE_REFRESH", "1")], Some(100), Some(500)),
            (&[("SSE_FORCE_REFRESH", "1"), ("SSE_SCORE_RETRY_MS", "0")], Some(0), Some(500)),
            (&[("SSE_FORCE_REFRESH", "1"), ("SSE_DETAIL_RETRY_MS", "2")], Some(100), Some(2)),
            (&[("SSE_RECONNECT_MS", "3")], Some(3), Some(3)),
            (&[("SSE_RECONNECT_MS", "0")], Some(0), Some(0)),
            (&[("SSE_FORCE_REFRESH", "1"), ("SSE_RECONNECT_MS", "3"), ("SSE_SCORE_RETRY_MS", "1")],
                Some(3), Some(3)),
        ];
        for (variables, score_ms, detail_ms) in table {
            let server = config(&[], variables).server;
            assert_eq!(
                (
                    server.streams.score.retry_ms,
                    server.streams.detail.retry_ms
                ),
                (*score_ms, *detail_ms),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn admin_addresses_must_not_overlap_with_public_ones() {
        // Flags, `ADMIN_LISTEN`, and which of its addresses overlaps with a public one, if any.
        let table: &[(&[&str], &str, Option<&str>)] = &[
            (&[], "127.0.0.1:8001", Some("127.0.0.1:8001")),
            (&["--port=7"], "127.0.0.1:8001,[::1]:7", Some("[::1]:7")),
            (&["--port=0"], "127.0.0.1:0", None),
            (
                &["--listen=127.0.0.1"],
                "127.0.0.1:8001",
                Some("127.0.0.1:8001"),
            ),
            (
                &["--listen=127.0.0.1"],
                "0.0.0.0:8001",
                Some("0.0.0.0:8001"),
            ),
            (&["--listen=127.0.0.1"], "127.0.0.2:8001,[::]:8001", None),
            (&["--listen=0.0.0.0:9"], "127.0.0.1:9", Some("127.0.0.1:9")),
            (&["--listen=[::]:9"], "127.0.0.1:9", None),
            (
                &["--listen=127.0.0.1:0"],
                "127.0.0.1:0,127.0.0.1:8001",
                None,
            ),
        ];
        for (flags, typed, met) in table {
            let refused = command(flags, &[("ADMIN_LISTEN", typed)]).err();
            let expected = met.map(|address| {
                format!(
                    "ADMIN_LISTEN: {address} is already used by LISTEN and PORT for clients: use another port"
                )
            });
            assert_eq!(refused, expected, "{flags:?} {typed}");
        }
    }

    #[test]
    fn metrics_go_to_an_address_under_a_path() {
        let url = |url| ("GRAPHITE_URL", url);
        let key = ("HOSTEDGRAPHITE_APIKEY", "0a1b-2c");
        let prefix = |prefix| ("GRAPHITE_PREFIX", prefix);
        let dyno = |dyno| ("DYNO", dyno);
        #[rustfmt::skip]
        let table: &[(Variables<'_>, &str)] = &[
            (&[], "none"),
            (&[prefix("a")], "none"),
            (&[url("udp://h")], "udp://h:2003 box"),
            (&[url("TCP://a-b.c_d.example:7")], "tcp://a-b.c_d.example:7 box"),
            (&[url("tcp://10.0.0.1")], "tcp://10.0.0.1:2003 box"),
            (&[url("udp://[::1]")], "udp://[::1]:2003 box"),
            (&[url("udp://[FE80::0:1]:7")], "udp://[fe80::1]:7 box"),
            (&[key], "udp://carbon.hostedgraphite.com:2003 0a1b-2c.box"),
            (&[key, url("tcp://h:1")], "tcp://h:1 0a1b-2c.box"),
            (&[key, prefix("a.b")], "udp://carbon.hostedgraphite.com:2003 0a1b-2c.a.b.box"),
            (&[url("udp://h"), prefix(".a.")], "udp://h:2003 a.box"),
            (&[url("udp://h"), dyno("web.1")], "udp://h:2003 web.1"),
            (&[url("udp://h"), dyno(".web 1..x/")], "udp://h:2003 web_1.x_"),
            (&[url("udp://h"), dyno("...")], "udp://h:2003 localhost"),
        ];
        for (variables, expected) in table {
            assert_eq!(
                shown_graphite(&config(&[], variables)),
                *expected,
                "{variables:?}"
            );
        }
        let on = |host| shown_graphite(&config_on(host, &["--graphite-url=udp://h"], &[]));
        assert_eq!(on(Some("box.example.org")), "udp://h:2003 box_example_org");
        assert_eq!(on(Some("")), "udp://h:2003 localhost");
        assert_eq!(on(None), "udp://h:2003 localhost");
    }

    #[test]
    fn a_path_that_does_not_fit_into_a_metrics_line_is_refused() {
        let url = ("GRAPHITE_URL", "udp://h");
        let (fits, half) = ("a".repeat(320), "a".repeat(160));
        assert_eq!(
            shown_graphite(&config(&[], &[url, ("DYNO", &fits)])),
            format!("udp://h:2003 {fits}")
        );
        // Without metrics it is accepted.
        assert!(
            config(&[], &[("DYNO", &"a".repeat(1_000))])
                .graphite
                .is_none()
        );
        let table: [(Variables<'_>, usize); 3] = [
            (&[url, ("DYNO", &format!("{fits}a"))], 321),
            (&[url, ("DYNO", &half), ("GRAPHITE_PREFIX", &half)], 321),
            (&[("HOSTEDGRAPHITE_APIKEY", &fits)], 324),
        ];
        for (variables, bytes) in table {
            let expected = format!(
                "HOSTEDGRAPHITE_APIKEY, GRAPHITE_PREFIX and DYNO: metric paths would begin with {bytes} bytes: \
                 use 320 bytes in total at most"
            );
            assert_eq!(misuse(&[], variables), expected);
        }
    }

    #[test]
    fn log_levels() {
        #[rustfmt::skip]
        let table: &[(Variables<'_>, Level, bool)] = &[
            (&[], Level::Info, false),
            (&[("LOG_LEVEL", "error")], Level::Error, false),
            (&[("LOG_LEVEL", "WARN")], Level::Warn, false),
            (&[("LOG_LEVEL", "debug")], Level::Debug, true),
            (&[("LOG_LEVEL", "error"), ("VERBOSE", "true")], Level::Debug, true),
            (&[("LOG_LEVEL", "debug"), ("VERBOSE", "false")], Level::Debug, true),
        ];
        for (variables, level, is_verbose) in table {
            let config = config(&[], variables);
            assert_eq!(config.log_level, *level, "{variables:?}");
            assert_eq!(config.server.verbose, *is_verbose, "{variables:?}");
        }
        assert_eq!(
            misuse(&["--log-level=loud"], &[]),
            "--log-level: \"loud\" is not one of error, warn, info, debug"
        );
    }

    #[test]
    fn the_demo_does_not_use_redis() {
        let demo = config(
            &["--demo", "--demo-seed=1"],
            &[("REDIS_URL", "not looked at")],
        )
        .source;
        assert_eq!(
            demo,
            SourceConfig::Demo {
                per_second: 250,
                seed: 1
            }
        );
        let flags = ["--redis-url", "redis://:secret@h"];
        assert_eq!(
            misuse(&["--demo", flags[0], flags[1]], &[]),
            "--redis-url conflicts with --demo, which does not use Redis: use only one of them"
        );
        assert_eq!(
            misuse(&flags, &[("DEMO", "1")]),
            "--redis-url conflicts with DEMO, which does not use Redis: use only one of them"
        );
        let off = config(&["--demo=false", flags[0], flags[1]], &[("DEMO", "1")]).source;
        assert!(matches!(off, SourceConfig::Redis(_)));
    }

    #[test]
    fn publications_have_redis_servers_of_their_own_only_beside_redis() {
        let publishers = |flags: &[&str], variables: Variables<'_>| {
            let publishers = config(flags, variables).redis_publishers;
            publishers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        let url = ("REDIS_PUBLISH_URL", "redis://:secret@a,redis://b:1");
        assert_eq!(publishers(&[], &[]), "");
        assert_eq!(publishers(&[], &[url]), "redis://a:6379,redis://b:1");
        assert_eq!(publishers(&["--demo"], &[url]), "");
        assert_eq!(publishers(&["--redis-url=none"], &[url]), "");
        let flag = "--redis-publish-url=redis://:secret@a";
        for other in ["--demo", "--redis-url=none"] {
            assert_eq!(
                misuse(&[flag, other], &[]),
                "--redis-publish-url has no use without Redis: set REDIS_URL as well, or use neither"
            );
        }
        assert_eq!(
            misuse(
                &[],
                &[("REDIS_PUBLISH_URL", "redis://u:secret@a,rediss://b")]
            ),
            format!("REDIS_PUBLISH_URL: address 2 (not shown, it may contain a password) {NO_TLS}")
        );
    }

    #[test]
    fn none_in_any_case_disables_redis() {
        for url in ["none", "NONE", "None"] {
            assert_eq!(
                config(&[], &[("REDIS_URL", url)]).source,
                SourceConfig::None
            );
            assert_eq!(
                config(&["--redis-url", url], &[]).source,
                SourceConfig::None
            );
            let demo = config(&["--demo", "--redis-url", url], &[]).source;
            assert!(matches!(demo, SourceConfig::Demo { .. }));
        }
        for (list, place) in [("none,redis://a", 1), ("redis://a,none", 2)] {
            let expected =
                format!("REDIS_URL: address {place} \"none\" has no scheme: use redis://host:port");
            assert_eq!(misuse(&[], &[("REDIS_URL", list)]), expected);
        }
    }

    #[test]
    fn node_names_have_no_spaces_or_control_characters() {
        let node = |flags: &[&str], host| config_on(host, flags, &[]).server.node;
        assert_eq!(node(&[], None), "rust-development-localhost");
        assert_eq!(node(&[], Some("")), "rust-development-localhost");
        assert_eq!(node(&[], Some("a b\n")), "rust-development-a-b-");
        assert_eq!(
            node(&["--dyno", "web\t1\u{7f}\u{a0}é"], Some("x")),
            "rust-development-web-1--é"
        );
        assert_eq!(node(&["--streamer-env=a b"], Some("x")), "rust-a-b-x");
        let never = || unreachable!("the host name is not needed");
        assert!(parse([OsString::from("--dyno=web.1")], |_| None, never).is_ok());
    }
}
