//! Config: raw options, as typed, become one validated `Config`. It owns what the options mean together; it
//! must not read the process's environment or look names up: both are passed in.

mod addresses;
mod amqp;
mod channels;
mod graphite;
mod in_force;
mod options;
mod raw;
mod redis_url;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::settings::{self, Settings};
use crate::level::Level;
use crate::limits::{self, DEMO_RATE_MAX, KEEPALIVE_SEC_MAX, RETRY_MS_MAX};
use crate::net::Listen;
use crate::proto::authorization::Secret;
use crate::random;
use crate::source::{self, Endpoint};
use crate::upstream::Target;
use options::Key;
use raw::{Asked, Raw, digits};
use redis_url::endpoints;

pub use in_force::InForce;
pub use options::help;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub enum Command {
    /// Serve, with this configuration.
    Run(Box<Config>),
    /// Ask the server that listens there whether it is alive.
    Healthcheck(Listen),
    /// Print `help()`.
    Help,
    /// Print the version.
    Version,
}

/// Everything that a deployer chose, validated and complete.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients are accepted.
    pub listen: Listen,
    /// Where the admin pages are served, if not where clients are accepted.
    pub admin_listen: Vec<SocketAddr>,
    /// Whether several processes may share the ports where clients are accepted (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// What is logged.
    pub log_level: Level,
    /// Where the messages come from.
    pub source: SourceConfig,
    /// An AMQP broker, from which channels come as well. Only in builds that have AMQP.
    pub amqp: Option<source::amqp::Endpoint>,
    /// Where metrics are sent, if anywhere.
    pub graphite: Option<Graphite>,
    /// The engine's part.
    pub engine: Settings,
    /// All of it to be shown.
    pub in_force: InForce,
}

/// Where the messages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Redis servers that are tried in turn, never empty.
    Redis(Vec<Endpoint>),
    /// No broker: whatever is published here goes straight to who listens here.
    None,
    /// The embedded feeder.
    Demo {
        /// Score updates in a second.
        per_second: u32,
        /// What the random choices start from.
        seed: u64,
    },
}

/// Where metrics are sent. `Debug` shows only the address, because the path may begin with a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Graphite {
    /// The daemon that takes them.
    pub target: Target,
    /// What stands before each metric's name, without a dot at its end: `[<key>.][<prefix>.]<this process>`.
    pub root: String,
}

impl fmt::Debug for Graphite {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Graphite({})", self.target)
    }
}

/// What tells this process from others.
struct Place {
    name: String,
    /// Somebody chose it, so it is not just the machine's name.
    is_given: bool,
}

/// An option that cannot be used: one line that names it, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// The command that `args` (without the program's name) and the environment ask for. Flags win over
/// variables. `host_name` is asked only when nothing else names this process.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    host_name: impl FnOnce() -> Option<String>,
) -> Result<Command, Misuse> {
    let mut raw = Raw::defaults();
    let asked = raw.take_flags(args)?;
    match asked {
        Asked::Help => return Ok(Command::Help),
        Asked::Version => return Ok(Command::Version),
        Asked::Run | Asked::Healthcheck => {}
    }
    raw.take_variables(env)?;
    let config = raw.resolve(host_name)?;
    Ok(match asked {
        Asked::Healthcheck => Command::Healthcheck(config.listen),
        _ => Command::Run(Box::new(config)),
    })
}

impl Raw {
    fn resolve(&self, host_name: impl FnOnce() -> Option<String>) -> Result<Config, Misuse> {
        let demo = self.boolean(Key::Demo)?;
        let seconds = "a number of seconds";
        let keepalive_sec = self.number(Key::KeepaliveSec, seconds, 1..=KEEPALIVE_SEC_MAX)?;
        let drain_sec = self.number(Key::DrainSec, seconds, 0..=limits::DRAIN_SEC_MAX)?;
        let (score_retry_ms, detail_retry_ms) = self.retries_ms()?;
        let (listen, log_level) = (self.listen()?, self.log_level()?);
        let admin_listen = self.admin_listen(&listen)?;
        let place = self.place(host_name);
        let source = self.source(demo)?;
        let has_no_broker = !matches!(source, SourceConfig::Redis(_));
        let mut config = Config {
            reuse_port: self.boolean(Key::ReusePort)?,
            log_level,
            source,
            amqp: self.amqp()?,
            graphite: self.graphite(&place)?,
            engine: Settings {
                node: self.node(&place),
                epoch: random::process_seed(),
                verbose: log_level >= Level::Debug,
                streams: settings::Streams {
                    raw_enabled: self.boolean(Key::RawStream)?,
                    kiosk_enabled: self.boolean(Key::KioskStream)?,
                    force_refresh: self.boolean(Key::ForceRefresh)?,
                    score: settings::Reconnect {
                        retry_ms: score_retry_ms,
                        lifetime: self.lifetime(Key::ScoreLifetimeSec)?,
                    },
                    detail: settings::Reconnect {
                        retry_ms: detail_retry_ms,
                        lifetime: self.lifetime(Key::DetailLifetimeSec)?,
                    },
                },
                channels: settings::Channels {
                    patterns: self.channels()?,
                    publish_key: self.secret(Key::PublishSecret, "a key")?,
                    has_no_broker,
                    linger: Duration::from_secs(self.number(
                        Key::ReplaySec,
                        seconds,
                        0..=limits::REPLAY_SEC_MAX,
                    )?),
                },
                admission: settings::Admission {
                    trusted_proxies: self.trusted_proxies()?,
                    sockets_max: usize::MAX,
                    public_sockets_max: usize::MAX,
                    connections_max: self.bound(Key::ConnectionsMax)?,
                    connections_per_ip_max: self.bound(Key::ConnectionsPerIpMax)?,
                },
                access: settings::Access {
                    admin_token: self.secret(Key::AdminToken, "a token")?,
                    admin_is_apart: !admin_listen.is_empty(),
                },
                reports: settings::Reports {
                    page_enabled: self.boolean(Key::DemoPage)? || demo,
                    status_rows_max: self.number(
                        Key::StatusRowsMax,
                        "a number of connections",
                        0..=limits::STATUS_ROWS_MAX,
                    )?,
                    channel_stats_max: self.number(
                        Key::ChannelStatsMax,
                        "a number of channels",
                        0..=limits::CHANNEL_STATS_MAX,
                    )?,
                },
                pacing: settings::Pacing {
                    keepalive: Duration::from_secs(keepalive_sec),
                    drain: Duration::from_secs(drain_sec),
                    log_bytes_max: self.log_bytes()?,
                    reads_per_turn: limits::READS_PER_TURN,
                    writes_per_turn: limits::WRITES_PER_TURN,
                    paced_subscribers_min: limits::PACED_SUBSCRIBERS_MIN,
                },
            },
            listen,
            admin_listen,
            in_force: InForce::default(),
        };
        config.in_force = self.in_force(&config, &place);
        Ok(config)
    }

    fn log_level(&self) -> Result<Level, Misuse> {
        let given = self.get(Key::LogLevel);
        let forms = "a level: use error, warn, info or debug";
        let refused = |()| given.refuse(&given.value, forms);
        let level: Level = given.value.parse().map_err(refused)?;
        Ok(match self.boolean(Key::Verbose)? {
            true => level.max(Level::Debug),
            false => level,
        })
    }

    fn secret(&self, key: Key, noun: &str) -> Result<Option<Secret>, Misuse> {
        let given = self.get(key);
        if given.is_default {
            return Ok(None);
        }
        let forms = format!(
            "{noun}: use 1 to {} ASCII letters, digits and signs, without spaces",
            limits::SECRET_BYTES_MAX
        );
        let secret = Secret::new(&given.value).ok_or_else(|| given.refuse_secret(&forms))?;
        Ok(Some(secret))
    }

    fn source(&self, demo: bool) -> Result<SourceConfig, Misuse> {
        let per_second = self.number(Key::DemoRate, "a rate", 1..=DEMO_RATE_MAX)?;
        let seed = match self.get(Key::DemoSeed).is_default {
            true => random::process_seed(),
            false => self.number(Key::DemoSeed, "a seed", 0..=u64::MAX)?,
        };
        let redis_url = self.get(Key::RedisUrl);
        let is_none = redis_url.value.eq_ignore_ascii_case("none");
        if !demo && is_none {
            return Ok(SourceConfig::None);
        }
        if !demo {
            return Ok(SourceConfig::Redis(endpoints(redis_url)?));
        }
        // The environment may be shared with other programs; a flag was meant for this one.
        if redis_url.name.starts_with("--") && !is_none {
            let (flag, demo) = (&redis_url.name, &self.get(Key::Demo).name);
            let advice = "which needs no Redis: leave one of them out";
            return Err(Misuse(format!("{flag} contradicts {demo}, {advice}")));
        }
        Ok(SourceConfig::Demo { per_second, seed })
    }

    /// `retry:` of the score streams and of the others.
    fn retries_ms(&self) -> Result<(Option<u32>, Option<u32>), Misuse> {
        let milliseconds = "a number of milliseconds";
        let retry_ms = |key| self.number(key, milliseconds, 0..=RETRY_MS_MAX);
        let score_ms = retry_ms(Key::ScoreRetryMs)?;
        let detail_ms = retry_ms(Key::DetailRetryMs)?;
        let forced = self.boolean(Key::ForceRefresh)?;
        if self.get(Key::ReconnectMs).is_default {
            return Ok((forced.then_some(score_ms), forced.then_some(detail_ms)));
        }
        let reconnect_ms = Some(retry_ms(Key::ReconnectMs)?);
        Ok((reconnect_ms, reconnect_ms))
    }

    /// How long a stream lasts; for ever unless closes are forced.
    fn lifetime(&self, key: Key) -> Result<Option<Duration>, Misuse> {
        let seconds = self.number(key, "a number of seconds", 1..=limits::LIFETIME_SEC_MAX)?;
        let forced = self.boolean(Key::ForceRefresh)?;
        Ok(forced.then_some(Duration::from_secs(seconds)))
    }

    /// Heroku's router is a proxy that can be trusted, and there is no way around it.
    fn trusted_proxies(&self) -> Result<usize, Misuse> {
        if self.get(Key::TrustProxy).is_default {
            return Ok(usize::from(!self.get(Key::Dyno).is_default));
        }
        let allowed = 0..=limits::TRUSTED_PROXIES_MAX;
        self.number(Key::TrustProxy, "a number of proxies", allowed)
    }

    /// A bound that is only there when it is set.
    fn bound(&self, key: Key) -> Result<usize, Misuse> {
        if self.get(key).is_default {
            return Ok(usize::MAX);
        }
        self.number(key, "a number of streams", 1..=u32::MAX as usize)
    }

    fn place(&self, host_name: impl FnOnce() -> Option<String>) -> Place {
        let dyno = self.get(Key::Dyno);
        let name = match dyno.is_default {
            true => host_name().filter(|name| !name.is_empty()),
            false => Some(dyno.value.clone()),
        };
        Place {
            name: name.unwrap_or_else(|| "localhost".to_owned()),
            is_given: !dyno.is_default,
        }
    }

    fn node(&self, place: &Place) -> String {
        let environment = &self.get(Key::Environment).value;
        let unfit = |letter: char| letter.is_control() || letter.is_whitespace();
        format!("rust-{environment}-{}", place.name).replace(unfit, "-")
    }

    fn log_bytes(&self) -> Result<usize, Misuse> {
        let given = self.get(Key::LogBytesMax);
        let typed = given.value.to_ascii_lowercase();
        let unit_start = typed.find(|letter: char| !letter.is_ascii_digit());
        let (count, unit) = typed.split_at(unit_start.unwrap_or(typed.len()));
        let size = digits::<usize>(count).and_then(|count| match unit {
            "" => Some(count),
            "k" | "kb" | "kib" => count.checked_mul(1 << 10),
            "m" | "mb" | "mib" => count.checked_mul(1 << 20),
            _ => None,
        });
        let (least, most) = (limits::LOG_BYTES_FLOOR, limits::LOG_BYTES_CEILING);
        let allowed = size.filter(|size| (least..=most).contains(size));
        let forms = format!("a size: use {least} to {most} bytes, also written as in 512k or 4MiB");
        allowed.ok_or_else(|| given.refuse(&given.value, &forms))
    }
}

#[cfg(test)]
mod tests {
    use super::options::{OPTIONS, edit_distance, flag_of};
    use super::redis_url::{
        REDIS_FORMS, REDIS_NO_PASSWORD, REDIS_NO_SCHEME, REDIS_NO_TLS, REDIS_WILDCARD,
    };
    use super::*;
    use crate::proto::glob::Glob;
    use crate::source::Address;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn command(flags: &[&str], variables: Variables<'_>) -> Result<Command, String> {
        let env = |name: &str| {
            let set = variables.iter().find(|(variable, _)| *variable == name);
            set.map(|(_, value)| OsString::from(value))
        };
        let host_name = || Some("box".to_owned());
        parse(flags.iter().map(OsString::from), env, host_name).map_err(|misuse| misuse.to_string())
    }

    fn config(flags: &[&str], variables: Variables<'_>) -> Config {
        match command(flags, variables) {
            Ok(Command::Run(config)) => *config,
            other => unreachable!("{flags:?} {variables:?} gave {other:?}"),
        }
    }

    fn misuse(flags: &[&str], variables: Variables<'_>) -> String {
        let misuse = command(flags, variables).err();
        misuse.unwrap_or_else(|| format!("{flags:?} {variables:?} was accepted"))
    }

    /// Where metrics go, and under which path.
    fn shown_graphite(config: &Config) -> String {
        let shown = |to: &Graphite| format!("{} {}", to.target, to.root);
        config
            .graphite
            .as_ref()
            .map_or_else(|| "none".to_owned(), shown)
    }

    fn redis(url: &str) -> Vec<Endpoint> {
        match config(&[], &[("REDIS_URL", url)]).source {
            SourceConfig::Redis(endpoints) => endpoints,
            SourceConfig::Demo { .. } | SourceConfig::None => Vec::new(),
        }
    }

    fn tcp(host: &str, port: u16) -> Endpoint {
        let address = Address::Tcp {
            host: host.to_owned(),
            port,
        };
        Endpoint {
            address,
            username: None,
            password: None,
            db: 0,
        }
    }

    #[test]
    fn nothing_given_means_the_documented_defaults() {
        let config = config(&[], &[]);
        assert_eq!(config.listen, Listen::Everywhere(8001));
        assert!(!config.reuse_port);
        assert_eq!(
            config.source,
            SourceConfig::Redis(vec![tcp("localhost", 6379)])
        );
        let engine = config.engine;
        assert_eq!(engine.node, "rust-development-box");
        assert!(engine.channels.patterns.is_empty() && engine.channels.publish_key.is_none());
        assert_eq!(
            (engine.channels.linger, engine.reports.channel_stats_max),
            (Duration::from_secs(8), 100)
        );
        assert!(
            engine.streams.raw_enabled
                && !engine.streams.kiosk_enabled
                && !engine.reports.page_enabled
        );
        assert_eq!(engine.pacing.keepalive, Duration::from_secs(15));
        assert_eq!(engine.pacing.log_bytes_max, 4 * 1024 * 1024);
        assert_eq!(
            (
                engine.streams.score.retry_ms,
                engine.streams.detail.retry_ms
            ),
            (None, None)
        );
        assert!(!engine.verbose);
        assert_eq!(config.log_level, Level::Info);
        assert!(engine.access.admin_token.is_none() && !engine.access.admin_is_apart);
        assert_eq!((config.admin_listen, config.graphite), (Vec::new(), None));
        assert_eq!(
            (
                engine.streams.score.lifetime,
                engine.streams.detail.lifetime
            ),
            (None, None)
        );
        assert_eq!(
            (engine.admission.trusted_proxies, engine.pacing.drain),
            (0, Duration::from_secs(20))
        );
        assert_eq!(
            (
                engine.admission.connections_max,
                engine.admission.connections_per_ip_max
            ),
            (usize::MAX, usize::MAX)
        );
    }

    #[test]
    fn lifetimes_are_each_family_s_own_and_need_force_refresh() {
        let flags = ["--sse-force-refresh", "--sse-score-forceclose-sec=60"];
        let engine = config(&flags, &[]).engine;
        assert_eq!(engine.streams.score.lifetime, Some(Duration::from_secs(60)));
        assert_eq!(
            engine.streams.detail.lifetime,
            Some(Duration::from_secs(300))
        );
        let flags = ["--dyno=web.1", "--trust-proxy=0"];
        assert_eq!(config(&flags, &[]).engine.admission.trusted_proxies, 0);
    }

    #[test]
    fn every_option_is_read_from_variables_and_from_both_spellings_of_its_flag() {
        // What is shown of the configuration, for the option alone with that value.
        type Show = fn(&Config) -> String;
        let show_listen: Show = |config| format!("{:?}", config.listen);
        let show_source: Show = |config| format!("{:?}", config.source);
        let show_amqp: Show = |config| format!("{:?}", config.amqp);
        let show_graphite: Show = |config| shown_graphite(config);
        let show_retry: Show = |config| {
            format!(
                "{:?} {:?}",
                config.engine.streams.score.retry_ms, config.engine.streams.detail.retry_ms
            )
        };
        #[rustfmt::skip]
        let table: &[(&str, &str, Show, &str)] = &[
            ("PORT", "80", show_listen, "Everywhere(80)"),
            ("PORT", "0", show_listen, "Everywhere(0)"),
            ("PORT", "65535", show_listen, "Everywhere(65535)"),
            ("LISTEN", "::1", show_listen, "Addresses([[::1]:8001])"),
            ("REUSE_PORT", "y", |config| config.reuse_port.to_string(), "true"),
            ("REDIS_URL", "redis://a", show_source, "Redis([Endpoint(redis://a:6379)])"),
            ("REDIS_URL", "None", show_source, "None"),
            ("CHANNELS", "news, room.*,news", |config| format!("{:?}", config.engine.channels.patterns),
                "[Glob { text: \"news\" }, Glob { text: \"room.*\" }]"),
            ("PUBLISH_KEY", "s", |config| format!("{:?}", config.engine.channels.publish_key), "Some(Secret(***))"),
            ("REPLAY_SEC", "0", |config| format!("{:?}", config.engine.channels.linger), "0ns"),
            ("REPLAY_SEC", "3600", |config| format!("{:?}", config.engine.channels.linger), "3600s"),
            ("CHANNEL_STATS_MAX", "10000", |config| config.engine.reports.channel_stats_max.to_string(), "10000"),
            #[cfg(feature = "amqp")]
            ("AMQP_URL", "amqp://a:b@h/v", show_amqp, "Some(Endpoint(amqp://a@h:5672/v direct \"emojitrack\"))"),
            ("AMQP_EXCHANGE", "x", show_amqp, "None"),
            ("AMQP_EXCHANGE_TYPE", "Topic", show_amqp, "None"),
            ("ENABLE_RAW_STREAM", "f", |config| config.engine.streams.raw_enabled.to_string(), "false"),
            ("ENABLE_KIOSK_INTERACTION_STREAM", "1", |config| config.engine.streams.kiosk_enabled.to_string(), "true"),
            ("SSE_FORCE_REFRESH", "t", show_retry, "Some(100) Some(500)"),
            ("SSE_SCORE_RETRY_MS", "7", show_retry, "None None"),
            ("SSE_DETAIL_RETRY_MS", "7", show_retry, "None None"),
            ("SSE_RECONNECT_MS", "7", show_retry, "Some(7) Some(7)"),
            ("SSE_RECONNECT_MS", "3600000", show_retry, "Some(3600000) Some(3600000)"),
            ("SSE_SCORE_FORCECLOSE_SEC", "7", |config| format!("{:?}", config.engine.streams.score.lifetime), "None"),
            ("SSE_DETAIL_FORCECLOSE_SEC", "7", |config| format!("{:?}", config.engine.streams.detail.lifetime), "None"),
            ("TRUST_PROXY", "2", |config| config.engine.admission.trusted_proxies.to_string(), "2"),
            ("DYNO", "web.1", |config| config.engine.admission.trusted_proxies.to_string(), "1"),
            ("MAX_CONNECTIONS", "7", |config| config.engine.admission.connections_max.to_string(), "7"),
            ("MAX_CONNECTIONS_PER_IP", "7", |config| config.engine.admission.connections_per_ip_max.to_string(), "7"),
            ("STATUS_CONNECTIONS_MAX", "1250", |config| config.engine.reports.status_rows_max.to_string(), "1250"),
            ("DRAIN_SEC", "0", |config| format!("{:?}", config.engine.pacing.drain), "0ns"),
            ("KEEPALIVE_SEC", "1", |config| format!("{:?}", config.engine.pacing.keepalive), "1s"),
            ("KEEPALIVE_SEC", "55", |config| format!("{:?}", config.engine.pacing.keepalive), "55s"),
            ("LOG_BYTES_MAX", "1m", |config| config.engine.pacing.log_bytes_max.to_string(), "1048576"),
            ("DYNO", "web.1", |config| config.engine.node.clone(), "rust-development-web.1"),
            ("STREAMER_ENV", "production", |config| config.engine.node.clone(), "rust-production-box"),
            ("ENABLE_DEMO_PAGE", "1", |config| config.engine.reports.page_enabled.to_string(), "true"),
            ("GRAPHITE_URL", "udp://h", show_graphite, "udp://h:2003 box"),
            ("HOSTEDGRAPHITE_APIKEY", "k-1", show_graphite, "udp://carbon.hostedgraphite.com:2003 k-1.box"),
            ("GRAPHITE_PREFIX", "a.b", show_graphite, "none"),
            ("ADMIN_TOKEN", "s", |config| format!("{:?}", config.engine.access.admin_token), "Some(Secret(***))"),
            ("ADMIN_LISTEN", "[::1]:7", |config| format!("{:?}", config.admin_listen), "[[::1]:7]"),
            ("LOG_LEVEL", "Warn", |config| config.log_level.to_string(), "warn"),
            ("VERBOSE", "YES", |config| config.engine.verbose.to_string(), "true"),
            ("DEMO_RATE", "5", show_source, "Redis([Endpoint(redis://localhost:6379)])"),
            ("DEMO_SEED", "5", show_source, "Redis([Endpoint(redis://localhost:6379)])"),
        ];
        for (variable, value, show, expected) in table {
            let flag = format!("--{}", variable.to_lowercase().replace('_', "-"));
            let joined = format!("{flag}={value}");
            assert_eq!(
                show(&config(&[], &[(variable, value)])),
                *expected,
                "{variable}"
            );
            assert_eq!(show(&config(&[&joined], &[])), *expected, "{joined}");
            let option = OPTIONS.iter().find(|option| option.variable == *variable);
            if option.is_some_and(|option| !option.placeholder.is_empty()) {
                assert_eq!(
                    show(&config(&[&flag, value], &[])),
                    *expected,
                    "{flag} {value}"
                );
            }
        }
        let demo = |rate: u32| SourceConfig::Demo {
            per_second: rate,
            seed: 9,
        };
        let variables = [("DEMO", "t"), ("DEMO_RATE", "100000"), ("DEMO_SEED", "9")];
        assert_eq!(config(&[], &variables).source, demo(100_000));
        assert_eq!(
            config(&["--demo", "--demo-seed", "9"], &[]).source,
            demo(250)
        );
        assert!(config(&["--demo"], &[]).engine.reports.page_enabled);
        for option in OPTIONS {
            let covered = table
                .iter()
                .any(|(variable, ..)| *variable == option.variable);
            let is_apart = option.variable == "DEMO" || option.variable == "AMQP_URL";
            assert!(covered || is_apart, "{}", option.variable);
        }
    }

    #[test]
    fn flags_win_over_variables_and_the_last_flag_over_those_before() {
        let listen = |flags: &[&str], variables| config(flags, variables).listen;
        assert_eq!(
            listen(&["--port", "2"], &[("PORT", "1")]),
            Listen::Everywhere(2)
        );
        assert_eq!(
            listen(&["--port=2", "--port", "3"], &[]),
            Listen::Everywhere(3)
        );
        // A bad variable does no harm when it is not used.
        assert_eq!(
            listen(&["--port", "2"], &[("PORT", "x")]),
            Listen::Everywhere(2)
        );
        assert!(
            !config(&["--demo=false"], &[("DEMO", "true")])
                .engine
                .reports
                .page_enabled
        );
        assert!(
            !config(&["--enable-raw-stream=no"], &[])
                .engine
                .streams
                .raw_enabled
        );
    }

    #[test]
    fn a_boolean_flag_does_not_eat_the_next_argument() {
        assert_eq!(
            config(&["--demo", "--port", "4"], &[]).listen,
            Listen::Everywhere(4)
        );
        assert_eq!(
            misuse(&["--demo", "false"], &[]),
            "unexpected argument \"false\": use --flag=value, --help lists all flags"
        );
    }

    #[test]
    fn aliases_count_in_order_and_under_their_own_name() {
        let node = |variables| config(&[], variables).engine.node;
        assert_eq!(node(&[("RACK_ENV", "a"), ("NODE_ENV", "b")]), "rust-a-box");
        assert_eq!(node(&[("NODE_ENV", "b"), ("GO_ENV", "c")]), "rust-b-box");
        assert_eq!(node(&[("GO_ENV", "c")]), "rust-c-box");
        assert_eq!(
            node(&[("STREAMER_ENV", "d"), ("RACK_ENV", "a")]),
            "rust-d-box"
        );
        assert_eq!(
            node(&[("STREAMER_ENV", ""), ("RACK_ENV", "a")]),
            "rust-a-box"
        );
        let boxen = config(&[], &[("BOXEN_REDIS_URL", "redis://b")]).source;
        assert_eq!(boxen, SourceConfig::Redis(vec![tcp("b", 6379)]));
        let both = [("BOXEN_REDIS_URL", "redis://b"), ("REDIS_URL", "redis://a")];
        assert_eq!(
            config(&[], &both).source,
            SourceConfig::Redis(vec![tcp("a", 6379)])
        );
        assert_eq!(
            config(&[], &[("SSE_RECONNECT", "8")])
                .engine
                .streams
                .score
                .retry_ms,
            Some(8)
        );
        assert_eq!(
            misuse(&[], &[("SSE_RECONNECT", "soon")]),
            "SSE_RECONNECT: \"soon\" is not a number of milliseconds: use a number from 0 to 3600000"
        );
    }

    #[test]
    fn an_empty_variable_is_not_set_and_an_empty_flag_is_refused() {
        let empty: Vec<_> = OPTIONS
            .iter()
            .flat_map(|option| option.names().map(|name| (name, "")))
            .collect();
        let config = config(&[], &empty);
        assert_eq!(config.listen, Listen::Everywhere(8001));
        assert_eq!(config.engine.node, "rust-development-box");
        assert_eq!(
            misuse(&["--port="], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--port", ""], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--port"], &[]),
            "--port needs a value: use --port PORT"
        );
        assert_eq!(
            misuse(&["--demo="], &[]),
            "--demo needs a value: use --demo"
        );
    }

    #[test]
    fn booleans_in_all_spellings() {
        let raw = |value: &str| command(&[], &[("ENABLE_RAW_STREAM", value)]);
        for (spellings, expected) in [
            ("true t yes y 1 TRUE Yes", true),
            ("false f no n 0 FALSE No", false),
        ] {
            for spelling in spellings.split(' ') {
                let config = config(&[], &[("ENABLE_RAW_STREAM", spelling)]);
                assert_eq!(config.engine.streams.raw_enabled, expected, "{spelling}");
            }
        }
        for bad in ["on", "off", "2", " true", "truee", "-1"] {
            let expected = format!(
                "ENABLE_RAW_STREAM: {bad:?} is not a boolean: use true t yes y 1 or false f no n 0"
            );
            assert_eq!(raw(bad).err(), Some(expected));
        }
    }

    #[test]
    fn bad_numbers_are_told_what_is_allowed() {
        #[rustfmt::skip]
        let table: &[(&str, &[&str], &str)] = &[
            ("PORT", &["80a", "-1", "+1", " 1", "1 ", "65536", "99999999999999999999999", "0x1", "1.0"],
                "a port: use a number from 0 to 65535"),
            ("DEMO_RATE", &["0", "100001", "-5", "many"], "a rate: use a number from 1 to 100000"),
            ("DEMO_SEED", &["-1", "x", "18446744073709551616"],
                "a seed: use a number from 0 to 18446744073709551615"),
            ("SSE_SCORE_RETRY_MS", &["3600001", "1s", "-1"],
                "a number of milliseconds: use a number from 0 to 3600000"),
            ("SSE_DETAIL_RETRY_MS", &["3600001", "1s", "-1"],
                "a number of milliseconds: use a number from 0 to 3600000"),
            ("SSE_RECONNECT_MS", &["3600001", "1s", "-1"],
                "a number of milliseconds: use a number from 0 to 3600000"),
            ("STATUS_CONNECTIONS_MAX", &["-1", "1251", "all"],
                "a number of connections: use a number from 0 to 1250"),
            ("REPLAY_SEC", &["-1", "3601", "8s"], "a number of seconds: use a number from 0 to 3600"),
            ("CHANNEL_STATS_MAX", &["-1", "10001", "all"],
                "a number of channels: use a number from 0 to 10000"),
            ("KEEPALIVE_SEC", &["0", "56", "15s"], "a number of seconds: use a number from 1 to 55"),
            ("LOG_BYTES_MAX", &["262143", "1073741825", "0", "k", "4 m", "4g", "-4m", "4mm", "4é",
                "255k", "1025m", "99999999999999999999m", "18014398509481984k"],
                "a size: use 262144 to 1073741824 bytes, also written as in 512k or 4MiB"),
        ];
        for (variable, values, allowed) in table {
            for value in *values {
                let flag = flag_of(variable);
                let joined = format!("{flag}={value}");
                let refused = format!("{value:?} is not {allowed}");
                assert_eq!(
                    misuse(&[], &[(variable, value)]),
                    format!("{variable}: {refused}")
                );
                assert_eq!(misuse(&[&joined], &[]), format!("{flag}: {refused}"));
            }
        }
    }

    #[test]
    fn sizes_take_units_of_1024() {
        let table = [
            ("262144", 262_144),
            ("1073741824", 1 << 30),
            ("256k", 262_144),
            ("512KB", 524_288),
            ("512KiB", 524_288),
            ("4m", 4_194_304),
            ("4Mb", 4_194_304),
            ("1024mib", 1 << 30),
        ];
        for (typed, expected) in table {
            let config = config(&[], &[("LOG_BYTES_MAX", typed)]);
            assert_eq!(config.engine.pacing.log_bytes_max, expected, "{typed}");
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
            let engine = config(&[], variables).engine;
            assert_eq!(
                (
                    engine.streams.score.retry_ms,
                    engine.streams.detail.retry_ms
                ),
                (*score_ms, *detail_ms),
                "{variables:?}"
            );
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
    fn addresses_of_the_admin_need_a_port_of_their_own() {
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
            assert!(config.engine.access.admin_is_apart);
        }
        for entry in ["127.0.0.1", "localhost", "::1", "[::1]", "::1:9000"] {
            let typed = format!("127.0.0.1:1,{entry}");
            assert_eq!(
                misuse(&[], &[("ADMIN_LISTEN", &typed)]),
                format!(
                    "ADMIN_LISTEN: {entry:?} is not complete: add a port, as in 127.0.0.1:9000 or \
                     [::1]:9000; PORT is taken"
                )
            );
        }
        let refused = misuse(&["--admin-listen=a:1"], &[]);
        assert!(refused.starts_with("--admin-listen: \"a:1\" is not an IP address"));
        // What is listened on, and which address of the admin meets it, if any.
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
                    "ADMIN_LISTEN: {address} is where LISTEN and PORT serve all clients: use another port"
                )
            });
            assert_eq!(refused, expected, "{flags:?} {typed}");
        }
    }

    #[test]
    fn addresses_are_not_without_number() {
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
        let on = |host: Option<&str>| {
            let host = host.map(str::to_owned);
            let flags = [OsString::from("--graphite-url=udp://h")];
            match parse(flags, |_| None, || host) {
                Ok(Command::Run(config)) => shown_graphite(&config),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(on(Some("box.example.org")), "udp://h:2003 box_example_org");
        assert_eq!(on(Some("")), "udp://h:2003 localhost");
        assert_eq!(on(None), "udp://h:2003 localhost");
    }

    #[test]
    fn metrics_do_not_go_just_anywhere() {
        let forms = "is not a metrics address: use udp://host[:port] or tcp://host[:port], with an IPv6 \
             address in brackets, and without anything else";
        #[rustfmt::skip]
        let shown = ["h:2003", "udp:h", "udp://", "udp://:2003", "http://h", "udp://h:0", "udp://h:65536",
            "udp://h/", "tcp://h:1/path", "udp://0.0.0.0", "udp://h\u{e9}", "udp://h h"];
        for url in shown {
            let expected = match url {
                // What may be a login without its end is not shown, whatever it is.
                "udp:h" | "udp://:2003" => "(not shown, it may hold a password)".to_owned(),
                _ => format!("{url:?}"),
            };
            let refused = misuse(&[], &[("GRAPHITE_URL", url)]);
            assert_eq!(refused, format!("GRAPHITE_URL: {expected} {forms}"));
        }
        for url in [
            "udp://[::]",
            "udp://[::1",
            "udp://::1",
            "udp://h:+1",
            "udp://h:",
            "tcp://[h]:1",
        ] {
            let refused = misuse(&["--graphite-url", url], &[]);
            assert!(refused.ends_with(forms), "{refused}");
        }
        for prefix in ["a b", "a/b", "..", "\u{e9}", "a\nb"] {
            let expected = format!(
                "GRAPHITE_PREFIX: {prefix:?} is not the start of a metric's path: use letters, digits, - \
                 and _, divided by dots"
            );
            let variables = [("GRAPHITE_PREFIX", prefix), ("GRAPHITE_URL", "udp://h")];
            assert_eq!(misuse(&[], &variables), expected);
        }
    }

    #[test]
    fn a_path_that_does_not_fit_into_a_line_of_metrics_is_refused() {
        let url = ("GRAPHITE_URL", "udp://h");
        let (fits, half) = ("a".repeat(320), "a".repeat(160));
        assert_eq!(
            shown_graphite(&config(&[], &[url, ("DYNO", &fits)])),
            format!("udp://h:2003 {fits}")
        );
        // Without metrics nothing is wrong with it.
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
                "HOSTEDGRAPHITE_APIKEY, GRAPHITE_PREFIX and DYNO: the {bytes} bytes that metrics' paths begin \
                 with are too many: use 320 bytes at most in all"
            );
            assert_eq!(misuse(&[], variables), expected);
        }
    }

    #[test]
    fn levels_of_the_log() {
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
            assert_eq!(config.engine.verbose, *is_verbose, "{variables:?}");
        }
        assert_eq!(
            misuse(&["--log-level=loud"], &[]),
            "--log-level: \"loud\" is not a level: use error, warn, info or debug"
        );
    }

    #[test]
    fn the_health_check_knows_the_settings() {
        let listen = |flags: &[&str], variables| match command(flags, variables) {
            Ok(Command::Healthcheck(listen)) => format!("{listen:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(listen(&["healthcheck"], &[]), "Everywhere(8001)");
        assert_eq!(
            listen(&["healthcheck"], &[("PORT", "7"), ("DEMO", "1")]),
            "Everywhere(7)"
        );
        assert_eq!(
            listen(&["--port=7", "healthcheck", "--listen=::1"], &[]),
            "Addresses([[::1]:7])"
        );
        assert_eq!(listen(&["healthcheck", "-h"], &[]), "Ok(Help)");
        for flags in [&["healthcheck", "healthcheck"][..], &["healthcheck", "x"]] {
            let last = flags[1];
            assert_eq!(
                misuse(flags, &[]),
                format!("unexpected argument \"{last}\": use --flag=value, --help lists all flags")
            );
        }
        assert!(misuse(&["healthcheck"], &[("PORT", "x")]).starts_with("PORT: "));
    }

    #[test]
    fn all_settings_in_force_are_shown() {
        let defaults = config(&[], &[]).in_force.to_string();
        assert_eq!(
            defaults,
            "PORT=8001 LISTEN=all REUSE_PORT=false REDIS_URL=redis://localhost:6379 DEMO=false \
             DEMO_RATE=none DEMO_SEED=none ENABLE_DEMO_PAGE=false ENABLE_RAW_STREAM=true \
             ENABLE_KIOSK_INTERACTION_STREAM=false CHANNELS=none PUBLISH_KEY=none REPLAY_SEC=8 \
             CHANNEL_STATS_MAX=100 AMQP_URL=none AMQP_EXCHANGE=emojitrack \
             AMQP_EXCHANGE_TYPE=direct SSE_FORCE_REFRESH=false SSE_SCORE_RETRY_MS=none \
             SSE_DETAIL_RETRY_MS=none SSE_RECONNECT_MS=none SSE_SCORE_FORCECLOSE_SEC=none \
             SSE_DETAIL_FORCECLOSE_SEC=none TRUST_PROXY=0 MAX_CONNECTIONS=none \
             MAX_CONNECTIONS_PER_IP=none STATUS_CONNECTIONS_MAX=1000 DRAIN_SEC=20 KEEPALIVE_SEC=15 \
             LOG_BYTES_MAX=4194304 DYNO=box STREAMER_ENV=development GRAPHITE_URL=none \
             HOSTEDGRAPHITE_APIKEY=none GRAPHITE_PREFIX=none ADMIN_TOKEN=none ADMIN_LISTEN=none \
             LOG_LEVEL=info VERBOSE=false"
        );
        // Flags, and a part of the line.
        #[rustfmt::skip]
        let table: &[(&[&str], &str)] = &[
            (&["--demo", "--demo-seed=9"], " REDIS_URL=none DEMO=true DEMO_RATE=250 DEMO_SEED=9 ENABLE_DEMO_PAGE=true "),
            (&["--redis-url=redis://u:secret@a/1,redis+unix:///b"], " REDIS_URL=redis://u@a:6379/1,redis+unix:///b "),
            (&["--redis-url=none"], " REDIS_URL=none DEMO=false DEMO_RATE=none "),
            (&["--channels=b,a.*", "--publish-key=secret"], " CHANNELS=b,a.* PUBLISH_KEY=*** REPLAY_SEC=8 "),
            (&["--listen=::1,127.0.0.1:9"], "PORT=8001 LISTEN=[::1]:8001,127.0.0.1:9 "),
            (&["--sse-force-refresh"], " SSE_SCORE_RETRY_MS=100 SSE_DETAIL_RETRY_MS=500 SSE_RECONNECT_MS=none \
                SSE_SCORE_FORCECLOSE_SEC=300 "),
            (&["--sse-reconnect-ms=7"], " SSE_SCORE_RETRY_MS=7 SSE_DETAIL_RETRY_MS=7 SSE_RECONNECT_MS=7 "),
            (&["--log-bytes-max=1m", "--dyno=web.1"], " LOG_BYTES_MAX=1048576 DYNO=web.1 "),
            (&["--dyno=a b\n\"c\"", "--streamer-env=\u{1b}x"],
                " DYNO=\"a b\\n\\\"c\\\"\" STREAMER_ENV=\"\\u{1b}x\" "),
            (&["--hostedgraphite-apikey=secret"],
                " GRAPHITE_URL=udp://carbon.hostedgraphite.com:2003 HOSTEDGRAPHITE_APIKEY=*** "),
            (&["--admin-token=secret", "--admin-listen=127.0.0.1:9"],
                " ADMIN_TOKEN=*** ADMIN_LISTEN=127.0.0.1:9 "),
            (&["--max-connections=7", "--max-connections-per-ip=8"], " MAX_CONNECTIONS=7 MAX_CONNECTIONS_PER_IP=8 "),
            (&["--verbose"], " LOG_LEVEL=debug VERBOSE=true"),
        ];
        for (flags, part) in table {
            let line = config(flags, &[]).in_force.to_string();
            assert!(line.contains(part), "{part} is missing in {line}");
            assert!(!line.contains("secret"), "{line}");
        }
        let mut in_force = config(&[], &[]).in_force;
        in_force.set("MAX_CONNECTIONS", 5);
        let changed = defaults.replace("CONNECTIONS=none", "CONNECTIONS=5");
        assert_eq!(in_force.to_string(), changed);
    }

    #[test]
    fn an_amqp_broker_is_taken_where_the_build_has_amqp() {
        if !cfg!(feature = "amqp") {
            for url in ["amqp://u:secret@h", "secret"] {
                assert_eq!(
                    misuse(&[], &[("AMQP_URL", url)]),
                    "AMQP_URL: this build has no amqp: build it with --features amqp"
                );
            }
            return;
        }
        let flags = [
            "--amqp-url=amqp://u:secret@h/v",
            "--amqp-exchange=x",
            "--amqp-exchange-type=FANOUT",
        ];
        let config = config(&flags, &[]);
        let shown = "AMQP_URL=amqp://u@h:5672/v AMQP_EXCHANGE=x AMQP_EXCHANGE_TYPE=FANOUT ";
        let in_force = config.in_force.to_string();
        assert!(in_force.contains(shown), "{in_force}");
        assert!(!format!("{config:?}").contains("secret"));
        let endpoint = config.amqp.expect("a broker");
        assert_eq!(
            (endpoint.password.as_str(), endpoint.exchange.as_str()),
            ("secret", "x")
        );
        assert_eq!(endpoint.exchange_type, source::amqp::ExchangeType::Fanout);
        for url in [
            "amqp://u:secret@",
            "amqps://u:secret@h",
            "amqp://u:se#cret@h",
            "amqp://secret:",
        ] {
            let text = misuse(&[], &[("AMQP_URL", url)]);
            assert!(
                text.starts_with("AMQP_URL: (not shown, it may hold a password) "),
                "{text}"
            );
            assert!(!text.contains("cret"), "{text}");
        }
        assert!(
            misuse(&[], &[("AMQP_URL", "h")])
                .starts_with("AMQP_URL: \"h\" is not an AMQP address: ")
        );
    }

    #[test]
    fn an_exchange_has_a_name_and_a_type() {
        let long = "x".repeat(256);
        for value in ["a\nb", &long] {
            let text = misuse(&[], &[("AMQP_EXCHANGE", value)]);
            assert!(
                text.ends_with(
                    "the name of an exchange: use 1 to 255 bytes, without control characters"
                ),
                "{text}"
            );
        }
        assert_eq!(
            misuse(&["--amqp-exchange-type", "headers"], &[]),
            "--amqp-exchange-type: \"headers\" is not a type of exchange: use direct, fanout or topic"
        );
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let too_long = "secret".repeat(50);
        let token = "the value (a secret, not shown) is not a token: use 1 to 256 ASCII letters, digits and \
             signs, without spaces";
        for value in ["the secret", "secret\u{e9}", "secret\n", &too_long] {
            assert_eq!(
                misuse(&[], &[("ADMIN_TOKEN", value)]),
                format!("ADMIN_TOKEN: {token}")
            );
            assert_eq!(
                misuse(&["--admin-token", value], &[]),
                format!("--admin-token: {token}")
            );
        }
        for value in ["the secret", "secret\u{e9}", &too_long] {
            let expected = format!("PUBLISH_KEY: {}", token.replace("a token", "a key"));
            assert_eq!(misuse(&[], &[("PUBLISH_KEY", value)]), expected);
        }
        let key = misuse(&[], &[("HOSTEDGRAPHITE_APIKEY", "secret/")]);
        assert!(
            key.starts_with("HOSTEDGRAPHITE_APIKEY: the value (a secret, not shown) is not "),
            "{key}"
        );
        assert!(!key.contains("secret/"), "{key}");
        for url in [
            "udp://secret@h",
            "secret:x@h",
            "udp://u:secret",
            "http://h?secret",
        ] {
            let refused = misuse(&[], &[("GRAPHITE_URL", url)]);
            assert!(
                refused.contains("(not shown, it may hold a password)"),
                "{refused}"
            );
            assert!(!refused.contains("secret"), "{refused}");
        }
        let flags = [
            "--admin-token=secret",
            "--publish-key=secret",
            "--hostedgraphite-apikey=secret",
        ];
        let config = config(&flags, &[]);
        assert!(!format!("{config:?}").contains("secret"), "{config:?}");
        assert!(!config.in_force.to_string().contains("secret"));
        assert_eq!(
            config.graphite.map(|to| to.root),
            Some("secret.box".to_owned())
        );
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
                "address 1 (not shown, it may hold a password) ",
                REDIS_NO_PASSWORD,
            ),
            (
                "redis://u:@h",
                "address 1 (not shown, it may hold a password) ",
                REDIS_NO_PASSWORD,
            ),
            ("rediss://h:1", "address 1 \"rediss://h:1\" ", REDIS_NO_TLS),
            ("VALKEYS://h", "address 1 \"VALKEYS://h\" ", REDIS_NO_TLS),
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
            ("rediss://u:secret@h", REDIS_NO_TLS),
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
                message.ends_with(&format!(" (not shown, it may hold a password) {reason}")),
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
        assert!(
            !format!("{:?}", config(&["--redis-url=redis://u:secret@h"], &[])).contains("secret")
        );
    }

    #[test]
    fn the_demo_needs_no_redis() {
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
            "--redis-url contradicts --demo, which needs no Redis: leave one of them out"
        );
        assert_eq!(
            misuse(&flags, &[("DEMO", "1")]),
            "--redis-url contradicts DEMO, which needs no Redis: leave one of them out"
        );
        let off = config(&["--demo=false", flags[0], flags[1]], &[("DEMO", "1")]).source;
        assert!(matches!(off, SourceConfig::Redis(_)));
    }

    #[test]
    fn no_redis_is_asked_for_with_one_word() {
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
            let expected = format!("REDIS_URL: address {place} \"none\" {REDIS_NO_SCHEME}");
            assert_eq!(misuse(&[], &[("REDIS_URL", list)]), expected);
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
                .engine
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
                "--channels: {entry:?} can match no channel, because all such names are the server's own: \
                 leave it out"
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

    #[test]
    fn unknown_flags_and_arguments() {
        #[rustfmt::skip]
        let table: &[(&[&str], &str)] = &[
            (&["--prot", "1"], "unknown flag --prot: did you mean --port? --help lists all flags"),
            (&["--PORT=1"], "unknown flag --PORT: did you mean --port? --help lists all flags"),
            (&["--demo_rate=1"], "unknown flag --demo_rate: did you mean --demo-rate? --help lists all flags"),
            (&["--go-env=x"], "unknown flag --go-env: did you mean --streamer-env? --help lists all flags"),
            (&["--sse-reconnect"],
                "unknown flag --sse-reconnect: did you mean --sse-reconnect-ms? --help lists all flags"),
            (&["--hlep"], "unknown flag --hlep: did you mean --help? --help lists all flags"),
            (&["--frobnicate"], "unknown flag --frobnicate: --help lists all flags"),
            (&["--a\nb"], "unknown flag --a\\nb: --help lists all flags"),
            (&["-p80"], "unknown flag -p: --help lists all flags"),
            (&["serve"], "unexpected argument \"serve\": use --flag=value, --help lists all flags"),
            (&["--", "--demo"], "unexpected argument \"--demo\": use --flag=value, --help lists all flags"),
        ];
        for (flags, expected) in table {
            assert_eq!(misuse(flags, &[]), *expected);
        }
        assert_eq!((edit_distance("", "abc"), edit_distance("abc", "")), (3, 3));
        assert_eq!(
            (edit_distance("kitten", "sitting"), edit_distance("é", "e")),
            (3, 1)
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let broken = || OsString::from_vec(b"redis://secret\xFF".to_vec());
        for option in OPTIONS
            .iter()
            .filter(|option| !option.placeholder.is_empty())
        {
            for name in option.names() {
                let env = |asked: &str| (asked == name).then(broken);
                let refused = parse([], env, || None)
                    .map_err(|misuse| misuse.to_string())
                    .err();
                assert_eq!(
                    refused,
                    Some(format!("{name}: the value is not UTF-8: use plain text"))
                );
            }
            let flags = [OsString::from(option.flag()), broken()];
            let refused = parse(flags, |_| None, || None)
                .map_err(|misuse| misuse.to_string())
                .err();
            assert_eq!(
                refused,
                Some(format!(
                    "{}: the value is not UTF-8: use plain text",
                    option.flag()
                ))
            );
        }
        assert!(
            parse(
                [OsString::from_vec(b"--p\xFFrt".to_vec())],
                |_| None,
                || None
            )
            .is_err()
        );
        assert!(parse([broken()], |_| None, || None).is_err());
    }

    #[test]
    fn node_names_are_fit_for_one_word() {
        let node = |flags: &[&str], host: Option<&str>| {
            let host = host.map(str::to_owned);
            match parse(flags.iter().map(OsString::from), |_| None, || host) {
                Ok(Command::Run(config)) => config.engine.node,
                other => format!("{other:?}"),
            }
        };
        assert_eq!(node(&[], None), "rust-development-localhost");
        assert_eq!(node(&[], Some("")), "rust-development-localhost");
        assert_eq!(node(&[], Some("a b\n")), "rust-development-a-b-");
        assert_eq!(
            node(&["--dyno", "web\t1\u{7f}\u{a0}é"], Some("x")),
            "rust-development-web-1--é"
        );
        assert_eq!(node(&["--streamer-env=a b"], Some("x")), "rust-a-b-x");
        let never = || unreachable!("the host's name was asked for in vain");
        assert!(parse([OsString::from("--dyno=web.1")], |_| None, never).is_ok());
    }

    #[test]
    fn help_and_version_come_before_any_resolution() {
        for flags in [
            &["-h"][..],
            &["--help"],
            &["--port", "x", "--help"],
            &["-hV"],
            &["--demo", "-h", "--nope"],
        ] {
            assert!(
                matches!(command(flags, &[("PORT", "x")]), Ok(Command::Help)),
                "{flags:?}"
            );
        }
        for flags in [["-V"], ["--version"]] {
            assert!(
                matches!(command(&flags, &[("PORT", "x")]), Ok(Command::Version)),
                "{flags:?}"
            );
        }
    }

    #[test]
    fn the_help_text_names_every_option_in_aligned_columns() {
        let help = help();
        assert!(
            help.lines()
                .all(|line| line.len() <= 100 && line == line.trim_end()),
            "{help}"
        );
        for option in OPTIONS {
            let row = help
                .lines()
                .find(|line| line.starts_with(&format!("  {} ", option.usage())));
            assert!(
                row.is_some_and(|row| row.contains(option.variable)),
                "{}",
                option.variable
            );
            assert!(
                option.names().all(|name| help.contains(name)),
                "{}",
                option.variable
            );
            assert!(help.contains(&format!("{} ({})\n", option.help, option.default)));
            // Whatever has a real default gets through its own parser.
            let described = [
                "all",
                "random",
                "none",
                "host name",
                "0, on Heroku 1",
                "as descriptors allow",
            ];
            let described = described.contains(&option.default);
            let joined = format!("{}={}", option.flag(), option.default);
            assert!(described || command(&[&joined], &[]).is_ok(), "{joined}");
        }
        let rows = [
            "  --port PORT                 PORT                  port to serve on; 0 takes any free one (8001)\n",
            "                                                    also RACK_ENV, NODE_ENV, GO_ENV\n",
            "  --enable-kiosk-interaction-stream  ENABLE_KIOSK_INTERACTION_STREAM\n                      ",
            "\n  emojitrack-streamer --demo\n  curl -N localhost:8001/subscribe/eps\n",
        ];
        for row in rows {
            assert!(help.contains(row), "{row}");
        }
    }
}
