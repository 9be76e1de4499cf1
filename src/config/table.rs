//! The table of options, one row each. It owns every option's names, default, help, parsing and display; what depends
//! on several options belongs to `rules`.

use std::fmt::Display;
use std::iter;

use super::given::Given;
use super::{Config, Misuse, SourceConfig, addresses, lists};
use crate::broker::amqp::ExchangeType::{Direct, Fanout, Topic};
use crate::glob::Glob;
use crate::level::Level;
use crate::limits;
use crate::net::Listen;
use DefaultText::{Value, Words};

/// One option.
pub(super) struct Definition {
    /// The environment variable, from which the flag's name is made.
    pub(super) variable: &'static str,
    /// Alternative variables; the first one that is set counts.
    pub(super) aliases: &'static [&'static str],
    /// The name of the value in the help text; empty for a boolean, whose flag needs no value.
    pub(super) placeholder: &'static str,
    pub(super) default: DefaultText,
    pub(super) help: &'static str,
    /// Parses the value into the configuration. Called in the order of the table, with the default if the option is
    /// not set; not called then if the default is only a description.
    pub(super) set: fn(&mut Config, &Given) -> Result<(), Misuse>,
    /// The value in force, for the log; never a secret.
    pub(super) show: fn(&Config) -> String,
}

/// The value of an option that is not set.
pub(super) enum DefaultText {
    /// A value as a user would type it.
    Value(&'static str),
    /// A description, if there is no value or it depends on the environment.
    Words(&'static str),
}

impl Definition {
    pub(super) fn flag(&self) -> String {
        flag_of(self.variable)
    }

    /// The flag with its value's placeholder.
    pub(super) fn usage(&self) -> String {
        let usage = format!("{} {}", self.flag(), self.placeholder);
        usage.trim_end().to_owned()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        iter::once(self.variable).chain(self.aliases.iter().copied())
    }
}

pub(super) fn flag_of(variable: &str) -> String {
    format!("--{}", variable.to_ascii_lowercase().replace('_', "-"))
}

/// Makes the table from its rows: variable, aliases, placeholder, default, help, parsing into the configuration, and
/// display.
macro_rules! options {
    ($($variable:literal, $aliases:expr, $placeholder:literal, $default:expr, $help:literal,
        |$to:ident, $given:ident| $set:expr, |$of:ident| $show:expr;)*) => {
        pub(super) static OPTIONS: &[Definition] = &[$(Definition {
            variable: $variable,
            aliases: &$aliases,
            placeholder: $placeholder,
            default: $default,
            help: $help,
            set: |$to, $given| { $set; Ok(()) },
            show: |$of| $show.to_string(),
        }),*];
    };
}

options! {
    "PORT", [], "PORT", Value("8001"), "port to listen on; 0 for any free port",
        |c, v| { c.typed.port = v.number(0..=u16::MAX)?; c.listen = Listen::Everywhere(c.typed.port) },
        |c| c.typed.port;
    // Addresses without a port get the one that the row above has set.
    "LISTEN", [], "IP[:PORT],...", Words("all"), "addresses to listen on",
        |c, v| c.listen = Listen::Addresses(lists::addresses(v, Some(c.typed.port))?),
        |c| match &c.listen { Listen::Everywhere(_) => "all".to_owned(), Listen::Addresses(all) => list(all) };
    "REUSE_PORT", [], "", Value("false"), "let several processes share the port, to use all cores",
        |c, v| c.reuse_port = v.boolean()?, |c| c.reuse_port;

    "REDIS_URL", ["BOXEN_REDIS_URL"], "URL,...", Value("redis://localhost:6379"),
        "Redis servers, tried in turn; \"none\" runs without Redis, fed by POST /publish only",
        |c, v| c.typed.redis_url = v.clone(),
        |c| match &c.source { SourceConfig::Redis(servers) => list(servers), _ => NONE.to_owned() };
    "REDIS_PUBLISH_URL", [], "URL,...", Words("none"), "Redis servers for publications, cleanups and reports, if REDIS_URL has replicas",
        |c, v| c.typed.redis_publish_url = Some(v.clone()), |c| list(&c.redis_publishers);
    "DEMO", [], "", Value("false"), "generate random updates instead of using Redis",
        |c, v| c.typed.demo = v.boolean()?.then(|| v.name.clone()), |c| c.typed.demo.is_some();
    "DEMO_RATE", [], "NUMBER", Value("250"), "updates per second in the demo",
        |c, v| c.typed.demo_rate = v.number(1..=limits::DEMO_RATE_MAX)?, |c| or_none(demo(c).map(|(rate, _)| rate));
    "DEMO_SEED", [], "NUMBER", Words("random"), "seed of the demo, for reproducible runs",
        |c, v| c.typed.demo_seed = Some(v.number(0..=u64::MAX)?), |c| or_none(demo(c).map(|(_, seed)| seed));
    "ENABLE_DEMO_PAGE", [], "", Value("false"), "serve the live page at / even without the demo",
        |c, v| c.server.reports.page_enabled = v.boolean()?, |c| c.server.reports.page_enabled;

    "ENABLE_RAW_STREAM", [], "", Value("true"), "serve /subscribe/raw",
        |c, v| c.server.streams.raw_enabled = v.boolean()?, |c| c.server.streams.raw_enabled;
    "ENABLE_KIOSK_INTERACTION_STREAM", [], "", Value("false"), "serve /subscribe/kiosk_interaction",
        |c, v| c.server.streams.kiosk_enabled = v.boolean()?, |c| c.server.streams.kiosk_enabled;
    "CHANNELS", [], "GLOB,...", Words("none"), "channels that clients may subscribe to, as in news,room.*",
        |c, v| c.server.channels.patterns = lists::patterns(v)?,
        |c| list(&c.server.channels.patterns.iter().map(Glob::text).collect::<Vec<_>>());
    "CHANNELS_PATTERNS", [], "", Value("false"), "let clients subscribe to the globs themselves, and so to all that match",
        |c, v| c.server.channels.patterns_enabled = v.boolean()?, |c| c.server.channels.patterns_enabled;
    "PUBLISH_KEY", [], "SECRET", Words("none"), "enable POST /publish, which requires this key",
        |c, v| c.server.channels.publish_key = Some(v.secret()?), |c| masked(c.server.channels.publish_key.as_ref());
    "REPLAY_SEC", [], "SECONDS", Value("8"), "how long to keep a channel after its last subscriber has left",
        |c, v| c.server.channels.linger = v.seconds(0..=limits::REPLAY_SEC_MAX)?,
        |c| c.server.channels.linger.as_secs();
    "CHANNEL_STATS_MAX", [], "NUMBER", Value("1000"), "maximum number of channels in reports, largest first",
        |c, v| c.server.reports.channel_stats_max = v.number(0..=limits::CHANNEL_STATS_MAX)?,
        |c| c.server.reports.channel_stats_max;
    "AMQP_URL", [], "URL", Words("none"), "additional AMQP broker for channels: amqp://user:password@host:5672/vhost",
        |c, v| c.amqp = Some(addresses::amqp_endpoint(v)?), |c| or_none(c.amqp.as_ref());
    "AMQP_EXCHANGE", [], "NAME", Value("emojitrack"), "AMQP exchange for channels",
        |c, v| c.typed.exchange = addresses::exchange(v)?, |c| c.typed.exchange;
    "AMQP_EXCHANGE_TYPE", [], "TYPE", Value("direct"), "type of that exchange: direct, fanout or topic",
        |c, v| c.typed.exchange_type = Some(v.choice(&[Direct, Fanout, Topic])?), |c| or_none(c.typed.exchange_type);

    "SSE_FORCE_REFRESH", [], "", Value("false"), "limit the lifetime of streams, for routers that hide disconnects",
        |c, v| c.server.streams.force_refresh = v.boolean()?, |c| c.server.streams.force_refresh;
    "SSE_IDS", [], "", Value("false"), "give every event its position (id:), from which clients resume",
        |c, v| c.server.streams.ids_enabled = v.boolean()?, |c| c.server.streams.ids_enabled;
    "SSE_SCORE_RETRY_MS", [], "MS", Value("100"), "reconnection time (retry:) of raw and eps, with force refresh",
        |c, v| c.server.streams.score.retry_ms = Some(v.number(0..=limits::RETRY_MS_MAX)?),
        |c| or_none(c.server.streams.score.retry_ms);
    "SSE_DETAIL_RETRY_MS", [], "MS", Value("500"), "reconnection time of the other streams, with force refresh",
        |c, v| c.server.streams.detail.retry_ms = Some(v.number(0..=limits::RETRY_MS_MAX)?),
        |c| or_none(c.server.streams.detail.retry_ms);
    "SSE_RECONNECT_MS", ["SSE_RECONNECT"], "MS", Words("none"), "reconnection time of all streams; always applies",
        |c, v| c.typed.reconnect_ms = Some(v.number(0..=limits::RETRY_MS_MAX)?), |c| or_none(c.typed.reconnect_ms);
    "SSE_SCORE_FORCECLOSE_SEC", [], "SECONDS", Value("300"), "lifetime of raw and eps, with force refresh",
        |c, v| c.server.streams.score.lifetime = Some(v.seconds(1..=limits::LIFETIME_SEC_MAX)?),
        |c| or_none(c.server.streams.score.lifetime.map(|span| span.as_secs()));
    "SSE_DETAIL_FORCECLOSE_SEC", [], "SECONDS", Value("300"), "lifetime of the other streams, with force refresh",
        |c, v| c.server.streams.detail.lifetime = Some(v.seconds(1..=limits::LIFETIME_SEC_MAX)?),
        |c| or_none(c.server.streams.detail.lifetime.map(|span| span.as_secs()));

    "TRUST_PROXY", [], "NUMBER", Words("0, or 1 on Heroku"), "number of trusted proxies in front of the server",
        |c, v| c.typed.trusted_proxies = Some(v.number(0..=limits::TRUSTED_PROXIES_MAX)?),
        |c| c.server.admission.trusted_proxies;
    "MAX_CONNECTIONS", [], "NUMBER", Words("up to the descriptor limit"), "maximum number of open streams",
        |c, v| c.server.admission.connections_max = v.number(1..=u32::MAX as usize)?,
        |c| bound(c.server.admission.connections_max);
    "MAX_CONNECTIONS_PER_IP", [], "NUMBER", Words("none"), "maximum number of open streams per client address",
        |c, v| c.server.admission.connections_per_ip_max = v.number(1..=u32::MAX as usize)?,
        |c| bound(c.server.admission.connections_per_ip_max);
    "STATUS_CONNECTIONS_MAX", [], "NUMBER", Value("1000"), "maximum number of connections listed in Redis",
        |c, v| c.server.reports.status_rows_max = v.number(0..=limits::STATUS_ROWS_MAX)?,
        |c| c.server.reports.status_rows_max;
    "DRAIN_SEC", [], "SECONDS", Value("20"), "how long closing all streams may take at shutdown",
        |c, v| c.server.pacing.drain = v.seconds(0..=limits::DRAIN_SEC_MAX)?, |c| c.server.pacing.drain.as_secs();
    "KEEPALIVE_SEC", [], "SECONDS", Value("15"), "send a comment on a stream after this long without events, 1 to 50",
        |c, v| c.server.pacing.keepalive = v.seconds(1..=limits::KEEPALIVE_SEC_MAX)?,
        |c| c.server.pacing.keepalive.as_secs();
    "IDLE_SEC", [], "SECONDS", Words("10, or 95 behind a trusted proxy"),
        "close a connection that has sent no further request for this long",
        |c, v| c.typed.idle = Some(v.seconds(1..=limits::IDLE_SEC_MAX)?), |c| c.server.pacing.idle.as_secs();
    "LOG_BYTES_MAX", [], "BYTES", Value("4194304"),
        "memory for recent messages, for clients that are behind or reconnect; accepts units, as in 4MiB",
        |c, v| c.server.pacing.log_bytes_max = v.bytes(limits::LOG_BYTES_FLOOR..=limits::LOG_BYTES_CEILING)?,
        |c| c.server.pacing.log_bytes_max;

    "DYNO", [], "NAME", Words("host name"), "name of this copy in reports",
        |c, v| c.typed.dyno = Some(v.value.clone()), |c| or_none(c.typed.dyno.as_ref());
    "STREAMER_ENV", ["RACK_ENV", "NODE_ENV", "GO_ENV"], "NAME", Value("development"), "environment in reports",
        |c, v| c.typed.environment = v.value.clone(), |c| c.typed.environment;
    "GRAPHITE_URL", [], "URL", Words("none"), "Graphite daemon for metrics: udp://host[:2003] or tcp://host[:2003]",
        |c, v| c.typed.graphite_target = Some(addresses::graphite_target(v)?),
        |c| or_none(c.graphite.as_ref().map(|graphite| &graphite.target));
    "HOSTEDGRAPHITE_APIKEY", [], "KEY", Words("none"),
        "first part of metric paths; without GRAPHITE_URL, selects Hosted Graphite",
        |c, v| c.typed.graphite_key = Some(addresses::graphite_key(v)?), |c| masked(c.typed.graphite_key.as_ref());
    "GRAPHITE_PREFIX", [], "PATH", Words("none"), "part of metric paths between the API key and DYNO",
        |c, v| c.typed.graphite_prefix = Some(addresses::graphite_prefix(v)?),
        |c| or_none(c.typed.graphite_prefix.as_ref());
    "ADMIN_TOKEN", [], "SECRET", Words("none"), "token required for /admin/, /metrics and /stats",
        |c, v| c.server.access.admin_token = Some(v.secret()?), |c| masked(c.server.access.admin_token.as_ref());
    "ADMIN_LISTEN", [], "IP:PORT,...", Words("none"), "serve /admin/, /metrics and /stats on these addresses only",
        |c, v| c.admin_listen = lists::addresses(v, None)?, |c| list(&c.admin_listen);
    "ADMIN_OPEN", [], "", Value("false"), "without these two, serve them to everybody, not to loopback clients only",
        |c, v| c.server.access.admin_is_open = v.boolean()?, |c| c.server.access.admin_is_open;
    "ADMIN_HOSTS", [], "NAME,...", Words("none"), "host names by which they may be requested without ADMIN_TOKEN",
        |c, v| c.server.access.admin_hosts = lists::hosts(v)?, |c| list(&c.server.access.admin_hosts);
    "LOG_LEVEL", [], "LEVEL", Value("info"), "error, warn, info or debug",
        |c, v| c.log_level = v.choice(&Level::ALL)?, |c| c.log_level;
    "VERBOSE", [], "", Value("false"), "log each connect and disconnect, as LOG_LEVEL=debug does",
        |c, v| c.server.verbose = v.boolean()?, |c| c.server.verbose;
}

/// The display of an option or bound that is not set.
const NONE: &str = "none";

fn list<T: Display>(items: &[T]) -> String {
    let texts: Vec<String> = items.iter().map(ToString::to_string).collect();
    or_none(Some(texts.join(",")).filter(|text| !text.is_empty()))
}

fn or_none<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn bound(max: usize) -> String {
    or_none(Some(max).filter(|max| *max < usize::MAX))
}

fn masked<T>(secret: Option<&T>) -> String {
    or_none(secret.map(|_| "***"))
}

/// Rate and seed, if the demo is enabled.
fn demo(config: &Config) -> Option<(u32, u64)> {
    match config.source {
        SourceConfig::Demo { per_second, seed } => Some((per_second, seed)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;

    #[test]
    fn each_option_changes_its_own_display() {
        let random = &["--demo-seed=1", "--demo"][..];
        let forced = &["--sse-force-refresh"][..];
        // Flags that come first, the option, a value, and the other options whose display changes too.
        #[rustfmt::skip]
        let table: &[(&[&str], &str, &str, &[&str])] = &[
            (&[], "PORT", "7", &[]),
            (&[], "LISTEN", "::1", &[]),
            (&[], "REUSE_PORT", "1", &[]),
            (&[], "REDIS_URL", "redis://h", &[]),
            (&[], "REDIS_PUBLISH_URL", "redis://h", &[]),
            (&["--demo-seed=1"], "DEMO", "1", &["REDIS_URL", "DEMO_RATE", "DEMO_SEED", "ENABLE_DEMO_PAGE"]),
            (random, "DEMO_RATE", "7", &[]),
            (random, "DEMO_SEED", "7", &[]),
            (&[], "ENABLE_DEMO_PAGE", "1", &[]),
            (&[], "ENABLE_RAW_STREAM", "0", &[]),
            (&[], "ENABLE_KIOSK_INTERACTION_STREAM", "1", &[]),
            (&[], "CHANNELS", "a", &[]),
            (&[], "CHANNELS_PATTERNS", "1", &[]),
            (&[], "PUBLISH_KEY", "a", &[]),
            (&[], "REPLAY_SEC", "7", &[]),
            (&[], "CHANNEL_STATS_MAX", "7", &[]),
            #[cfg(feature = "amqp")]
            (&[], "AMQP_URL", "amqp://h", &[]),
            (&[], "AMQP_EXCHANGE", "a", &[]),
            (&[], "AMQP_EXCHANGE_TYPE", "topic", &[]),
            (&[], "SSE_IDS", "1", &[]),
            (&[], "SSE_FORCE_REFRESH", "1", &["SSE_SCORE_RETRY_MS", "SSE_DETAIL_RETRY_MS",
                "SSE_SCORE_FORCECLOSE_SEC", "SSE_DETAIL_FORCECLOSE_SEC"]),
            (forced, "SSE_SCORE_RETRY_MS", "7", &[]),
            (forced, "SSE_DETAIL_RETRY_MS", "7", &[]),
            (forced, "SSE_RECONNECT_MS", "7", &["SSE_SCORE_RETRY_MS", "SSE_DETAIL_RETRY_MS"]),
            (forced, "SSE_SCORE_FORCECLOSE_SEC", "7", &[]),
            (forced, "SSE_DETAIL_FORCECLOSE_SEC", "7", &[]),
            (&[], "TRUST_PROXY", "7", &["IDLE_SEC"]),
            (&[], "MAX_CONNECTIONS", "7", &[]),
            (&[], "MAX_CONNECTIONS_PER_IP", "7", &[]),
            (&[], "STATUS_CONNECTIONS_MAX", "7", &[]),
            (&[], "DRAIN_SEC", "7", &[]),
            (&[], "KEEPALIVE_SEC", "7", &[]),
            (&[], "IDLE_SEC", "7", &[]),
            (&[], "LOG_BYTES_MAX", "1m", &[]),
            (&[], "DYNO", "a", &[]),
            (&[], "STREAMER_ENV", "a", &[]),
            (&[], "GRAPHITE_URL", "udp://h", &[]),
            (&[], "HOSTEDGRAPHITE_APIKEY", "a", &["GRAPHITE_URL"]),
            (&[], "GRAPHITE_PREFIX", "a", &[]),
            (&[], "ADMIN_TOKEN", "a", &[]),
            (&[], "ADMIN_OPEN", "1", &[]),
            (&[], "ADMIN_HOSTS", "a", &[]),
            (&[], "ADMIN_LISTEN", "[::1]:7", &[]),
            (&[], "LOG_LEVEL", "error", &[]),
            (&[], "VERBOSE", "1", &["LOG_LEVEL"]),
        ];
        for (flags, variable, value, others) in table {
            let joined = format!("{}={value}", flag_of(variable));
            let (before, after) = (
                config(flags, &[]),
                config(&[*flags, &[&joined]].concat(), &[]),
            );
            let is_changed = |option: &&Definition| (option.show)(&before) != (option.show)(&after);
            let changed: Vec<&str> = OPTIONS
                .iter()
                .filter(is_changed)
                .map(|option| option.variable)
                .filter(|name| !others.contains(name))
                .collect();
            assert_eq!(changed, [*variable]);
        }
        let untried = OPTIONS
            .iter()
            .filter(|option| table.iter().all(|row| row.1 != option.variable));
        let untried: Vec<&str> = untried.map(|option| option.variable).collect();
        let without_amqp = ["AMQP_URL"];
        let expected = match cfg!(feature = "amqp") {
            true => &[],
            false => &without_amqp[..],
        };
        assert_eq!(untried, expected);
    }
}
