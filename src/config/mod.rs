//! Config: turns flags and variables into one validated `Config`. It owns the options and how they combine; it must
//! not read the environment, open files or resolve names: its caller passes everything in.
//!
//! - `table` has each option in one row: its names, default, help, parsing and display.
//!   To add an option, add a row, and the field of [`Config`] or of the server's settings that it sets.
//! - `rules` has everything that depends on more than one option.
//! - `given` parses the common kinds of values; `lists` and `addresses` parse the others.
//! - `help` writes `--help`, and suggests a flag after a typing mistake.

mod addresses;
mod given;
mod help;
mod lists;
mod rules;
mod table;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use lexopt::Arg;

use crate::broker;
use crate::broker::link::Target;
use crate::level::Level;
use crate::limits;
use crate::net::Listen;
use crate::random;
use crate::server::settings::{Admission, Pacing, Settings};
use given::Given;
use help::{HELP_ADVICE, help, unexpected_argument, unknown_flag};
use table::{DefaultText, OPTIONS};

pub use crate::broker::SourceConfig;
pub use help::NAME_AND_VERSION;

/// What the command line asks for. Neither this nor `Config` has `Debug`, because both contain secrets.
#[derive(Clone)]
pub enum Command {
    /// Run the server.
    Run(Box<Config>),
    /// Check that the server that listens there is alive.
    Healthcheck(Listen),
    /// Print this text: the help or the version.
    Print(String),
}

/// The complete, validated configuration.
#[derive(Clone)]
pub struct Config {
    /// Where clients connect.
    pub listen: Listen,
    /// Where the admin endpoints are served; if empty, at `listen`.
    pub admin_listen: Vec<SocketAddr>,
    /// Whether several processes may share the ports of `listen` (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// The least important level that is logged.
    pub log_level: Level,
    /// The source of messages.
    pub source: SourceConfig,
    /// Where Redis commands and publications go, if not to where messages come from.
    pub redis_publishers: Vec<broker::redis::Endpoint>,
    /// An additional AMQP broker for channels, in builds with AMQP only.
    pub amqp: Option<broker::amqp::Endpoint>,
    /// Where metrics are sent, if `GRAPHITE_URL` or `HOSTEDGRAPHITE_APIKEY` is set.
    pub graphite: Option<Graphite>,
    /// Whether `TRUST_PROXY` is left to its default on Heroku, whose router is trusted.
    pub is_on_heroku: bool,
    /// The settings of the server.
    pub server: Settings,
    typed: Typed,
}

/// Where metrics are sent.
#[derive(Clone)]
pub struct Graphite {
    /// The Graphite daemon.
    pub target: Target,
    /// The prefix of each metric's path, without the final dot: `[<API key>.][<prefix>.]<DYNO>`.
    pub root: String,
}

/// Options that depend on others, as typed, for `rules` to combine.
#[derive(Clone, Default)]
struct Typed {
    port: u16,
    redis_url: Given,
    redis_publish_url: Option<Given>,
    /// The flag or variable that enabled the demo, if any.
    demo: Option<String>,
    demo_rate: u32,
    demo_seed: Option<u64>,
    exchange: String,
    exchange_type: Option<broker::amqp::ExchangeType>,
    reconnect_ms: Option<u32>,
    idle: Option<Duration>,
    trusted_proxies: Option<usize>,
    dyno: Option<String>,
    environment: String,
    graphite_target: Option<Target>,
    graphite_key: Option<String>,
    graphite_prefix: Option<String>,
}

/// An invalid option: one line with its name, its value and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The only argument that is not a flag.
const HEALTHCHECK: &str = "healthcheck";

/// What the arguments ask for.
enum Mode {
    Run,
    Healthcheck,
    Print(String),
}

/// Parses `args` (without the program's name) and the environment. Flags win over variables. `host_name` is called
/// only if `DYNO` is not set.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
    host_name: impl FnOnce() -> Option<String>,
) -> Result<Command, Misuse> {
    let mut texts = vec![None; OPTIONS.len()];
    let mode = take_flags(&mut texts, args)?;
    if let Mode::Print(text) = mode {
        return Ok(Command::Print(text));
    }
    let mut config = Config::blank();
    config.is_on_heroku = rules::is_on_heroku(&env);
    take_variables(&mut texts, env)?;
    for (option, text) in OPTIONS.iter().zip(texts) {
        let given = match (text, &option.default) {
            (Some(given), _) => given,
            (None, DefaultText::Value(value)) => Given::new(option.variable, value.into())?,
            (None, DefaultText::Words(_)) => continue,
        };
        (option.set)(&mut config, &given)?;
    }
    rules::apply(&mut config, host_name)?;
    Ok(match mode {
        Mode::Healthcheck => Command::Healthcheck(config.listen),
        _ => Command::Run(Box::new(config)),
    })
}

/// Takes the flags into `texts`, which has the order of the table; the last of each flag wins.
fn take_flags(
    texts: &mut [Option<Given>],
    args: impl IntoIterator<Item = OsString>,
) -> Result<Mode, Misuse> {
    let mut mode = Mode::Run;
    let args: Vec<OsString> = args.into_iter().collect();
    let count = args.len();
    let mut parser = lexopt::Parser::from_args(args);
    // The parser's own errors repeat values, which may be passwords.
    let unreadable = |_| Misuse(format!("cannot parse the arguments: {HELP_ADVICE}"));
    while let Some(argument) = parser.next().map_err(unreadable)? {
        let flag = match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Mode::Print(help())),
            Arg::Short('V') | Arg::Long("version") => {
                return Ok(Mode::Print(format!("{NAME_AND_VERSION}\n")));
            }
            Arg::Short(letter) => format!("-{letter}"),
            Arg::Long(name) => format!("--{name}"),
            Arg::Value(text) if text == HEALTHCHECK && matches!(mode, Mode::Run) => {
                mode = Mode::Healthcheck;
                continue;
            }
            Arg::Value(_) => return Err(unexpected_argument(position(parser, count))),
        };
        let mut rows = OPTIONS.iter().zip(&mut *texts);
        let Some((option, text)) = rows.find(|(option, _)| option.flag() == flag) else {
            return Err(unknown_flag(&flag, position(parser, count)));
        };
        let value = match option.placeholder {
            "" => parser.optional_value().or(Some("true".into())),
            _ => parser.value().ok(),
        };
        let value = value.filter(|value| !value.is_empty());
        let missing = || Misuse(format!("{flag} needs a value: use {}", option.usage()));
        *text = Some(Given::new(&flag, value.ok_or_else(missing)?)?);
    }
    Ok(mode)
}

/// Which of so many arguments the parser has taken last, from one.
fn position(mut parser: lexopt::Parser, count: usize) -> usize {
    // A value behind `=` is part of its argument.
    let _value = parser.optional_value();
    let left = parser.raw_args().map_or(0, |left| left.as_slice().len());
    count - left
}

/// Takes the variables of options that have no flag. An empty variable counts as not set, because Heroku and
/// docker-compose leave a variable empty that is meant to be absent.
fn take_variables(
    texts: &mut [Option<Given>],
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(), Misuse> {
    let set = |name| Some((name, env(name).filter(|value| !value.is_empty())?));
    for (option, text) in OPTIONS.iter().zip(texts) {
        if text.is_none()
            && let Some((name, value)) = option.names().find_map(set)
        {
            *text = Some(Given::new(name, value)?);
        }
    }
    Ok(())
}

impl Config {
    /// The configuration before any option is set.
    fn blank() -> Config {
        Config {
            listen: Listen::Everywhere(0),
            admin_listen: Vec::new(),
            reuse_port: false,
            log_level: Level::Info,
            source: SourceConfig::None,
            redis_publishers: Vec::new(),
            amqp: None,
            graphite: None,
            is_on_heroku: false,
            server: Settings {
                epoch: random::process_seed(),
                admission: Admission {
                    connections_max: usize::MAX,
                    connections_per_ip_max: usize::MAX,
                    ..Admission::default()
                },
                pacing: Pacing {
                    reads_per_turn: limits::READS_PER_TURN,
                    writes_per_turn: limits::WRITES_PER_TURN,
                    paced_subscribers_min: limits::PACED_SUBSCRIBERS_MIN,
                    ..Pacing::default()
                },
                ..Settings::default()
            },
            typed: Typed::default(),
        }
    }

    /// All settings in force, as `NAME=value` separated by spaces, in the order of the help text and without secrets.
    pub fn settings_line(&self) -> String {
        let is_plain =
            |letter: char| !(letter.is_whitespace() || letter.is_control() || letter == '"');
        let pairs = OPTIONS.iter().map(|option| {
            let (name, value) = (option.variable, (option.show)(self));
            match !value.is_empty() && value.chars().all(is_plain) {
                true => format!("{name}={value}"),
                false => format!("{name}={value:?}"),
            }
        });
        pairs.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::broker::redis::{Address, Endpoint};

    pub(super) type Variables<'a> = &'a [(&'a str, &'a str)];

    pub(super) fn command(flags: &[&str], variables: Variables<'_>) -> Result<Command, String> {
        command_on(Some("box"), flags, variables)
    }

    fn command_on(
        host: Option<&str>,
        flags: &[&str],
        variables: Variables<'_>,
    ) -> Result<Command, String> {
        let env = |name: &str| {
            let set = variables.iter().find(|(variable, _)| *variable == name);
            set.map(|(_, value)| OsString::from(value))
        };
        let command = parse(flags.iter().map(OsString::from), env, || {
            host.map(str::to_owned)
        });
        command.map_err(|misuse| misuse.to_string())
    }

    pub(super) fn config(flags: &[&str], variables: Variables<'_>) -> Config {
        config_on(Some("box"), flags, variables)
    }

    /// The configuration on a machine with this host name.
    pub(super) fn config_on(
        host: Option<&str>,
        flags: &[&str],
        variables: Variables<'_>,
    ) -> Config {
        match command_on(host, flags, variables) {
            Ok(Command::Run(config)) => *config,
            Ok(_) => unreachable!("{flags:?} {variables:?} do not run"),
            Err(misuse) => unreachable!("{flags:?} {variables:?} gave {misuse}"),
        }
    }

    pub(super) fn misuse(flags: &[&str], variables: Variables<'_>) -> String {
        let misuse = command(flags, variables).err();
        misuse.unwrap_or_else(|| format!("{flags:?} {variables:?} was accepted"))
    }

    /// Where metrics go, and under which path.
    pub(super) fn shown_graphite(config: &Config) -> String {
        let shown = |to: &Graphite| format!("{} {}", to.target, to.root);
        let graphite = config.graphite.as_ref();
        graphite.map_or_else(|| "none".to_owned(), shown)
    }

    pub(super) fn tcp(host: &str, port: u16) -> Endpoint {
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
    fn defaults_are_the_documented_ones() {
        let config = config(&[], &[]);
        assert_eq!(config.listen, Listen::Everywhere(8001));
        assert!(!config.reuse_port);
        assert_eq!(
            config.source,
            SourceConfig::Redis(vec![tcp("localhost", 6379)])
        );
        let server = config.server;
        assert_eq!(server.node, "rust-development-box");
        assert!(server.channels.patterns.is_empty() && server.channels.publish_key.is_none());
        assert!(!server.channels.patterns_enabled);
        assert_eq!(
            (server.channels.linger, server.reports.channel_stats_max),
            (Duration::from_secs(8), 1_000)
        );
        assert!(
            server.streams.raw_enabled
                && !server.streams.kiosk_enabled
                && !server.reports.page_enabled
        );
        assert_eq!(server.pacing.keepalive, Duration::from_secs(15));
        assert_eq!(server.pacing.log_bytes_max, 4 * 1024 * 1024);
        assert_eq!(
            (
                server.streams.score.retry_ms,
                server.streams.detail.retry_ms
            ),
            (None, None)
        );
        assert!(!server.verbose);
        assert_eq!(config.log_level, Level::Info);
        assert!(server.access.admin_token.is_none() && !server.access.admin_is_apart);
        assert!(config.admin_listen.is_empty() && config.graphite.is_none());
        assert_eq!(
            (
                server.streams.score.lifetime,
                server.streams.detail.lifetime
            ),
            (None, None)
        );
        assert_eq!(
            (server.admission.trusted_proxies, server.pacing.drain),
            (0, Duration::from_secs(20))
        );
        assert_eq!(
            (
                server.admission.connections_max,
                server.admission.connections_per_ip_max
            ),
            (usize::MAX, usize::MAX)
        );
    }

    #[test]
    fn every_option_is_read_from_variables_and_from_both_spellings_of_its_flag() {
        // How to display the part of the configuration that the option changes.
        type Show = fn(&Config) -> String;
        let show_listen: Show = |config| format!("{:?}", config.listen);
        let show_source: Show = |config| format!("{:?}", config.source);
        let show_amqp: Show = |config| format!("{:?}", config.amqp);
        let show_graphite: Show = |config| shown_graphite(config);
        let show_retry: Show = |config| {
            format!(
                "{:?} {:?}",
                config.server.streams.score.retry_ms, config.server.streams.detail.retry_ms
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
            ("REDIS_PUBLISH_URL", "redis://a", |config| format!("{:?}", config.redis_publishers), "[Endpoint(redis://a:6379)]"),
            ("CHANNELS", "news, room.*,news", |config| format!("{:?}", config.server.channels.patterns),
                "[Glob { text: \"news\" }, Glob { text: \"room.*\" }]"),
            ("CHANNELS_PATTERNS", "1", |config| config.server.channels.patterns_enabled.to_string(), "true"),
            ("PUBLISH_KEY", "s", |config| format!("{:?}", config.server.channels.publish_key), "Some(Secret(***))"),
            ("REPLAY_SEC", "0", |config| format!("{:?}", config.server.channels.linger), "0ns"),
            ("REPLAY_SEC", "3600", |config| format!("{:?}", config.server.channels.linger), "3600s"),
            ("CHANNEL_STATS_MAX", "10000", |config| config.server.reports.channel_stats_max.to_string(), "10000"),
            #[cfg(feature = "amqp")]
            ("AMQP_URL", "amqp://a:b@h/v", show_amqp, "Some(Endpoint(amqp://a@h:5672/v direct \"emojitrack\"))"),
            ("AMQP_EXCHANGE", "x", show_amqp, "None"),
            ("AMQP_EXCHANGE_TYPE", "Topic", show_amqp, "None"),
            ("ENABLE_RAW_STREAM", "f", |config| config.server.streams.raw_enabled.to_string(), "false"),
            ("ENABLE_KIOSK_INTERACTION_STREAM", "1", |config| config.server.streams.kiosk_enabled.to_string(), "true"),
            ("SSE_IDS", "1", |config| config.server.streams.ids_enabled.to_string(), "true"),
            ("SSE_FORCE_REFRESH", "t", show_retry, "Some(100) Some(500)"),
            ("SSE_SCORE_RETRY_MS", "7", show_retry, "None None"),
            ("SSE_DETAIL_RETRY_MS", "7", show_retry, "None None"),
            ("SSE_RECONNECT_MS", "7", show_retry, "Some(7) Some(7)"),
            ("SSE_RECONNECT_MS", "3600000", show_retry, "Some(3600000) Some(3600000)"),
            ("SSE_SCORE_FORCECLOSE_SEC", "7", |config| format!("{:?}", config.server.streams.score.lifetime), "None"),
            ("SSE_DETAIL_FORCECLOSE_SEC", "7", |config| format!("{:?}", config.server.streams.detail.lifetime), "None"),
            ("TRUST_PROXY", "2", |config| config.server.admission.trusted_proxies.to_string(), "2"),
            ("MAX_CONNECTIONS", "7", |config| config.server.admission.connections_max.to_string(), "7"),
            ("MAX_CONNECTIONS_PER_IP", "7", |config| config.server.admission.connections_per_ip_max.to_string(), "7"),
            ("STATUS_CONNECTIONS_MAX", "1250", |config| config.server.reports.status_rows_max.to_string(), "1250"),
            ("DRAIN_SEC", "0", |config| format!("{:?}", config.server.pacing.drain), "0ns"),
            ("KEEPALIVE_SEC", "1", |config| format!("{:?}", config.server.pacing.keepalive), "1s"),
            ("KEEPALIVE_SEC", "50", |config| format!("{:?}", config.server.pacing.keepalive), "50s"),
            ("IDLE_SEC", "3600", |config| format!("{:?}", config.server.pacing.idle), "3600s"),
            ("LOG_BYTES_MAX", "1m", |config| config.server.pacing.log_bytes_max.to_string(), "1048576"),
            ("DYNO", "web.1", |config| config.server.node.clone(), "rust-development-web.1"),
            ("STREAMER_ENV", "production", |config| config.server.node.clone(), "rust-production-box"),
            ("ENABLE_DEMO_PAGE", "1", |config| config.server.reports.page_enabled.to_string(), "true"),
            ("GRAPHITE_URL", "udp://h", show_graphite, "udp://h:2003 box"),
            ("HOSTEDGRAPHITE_APIKEY", "k-1", show_graphite, "udp://carbon.hostedgraphite.com:2003 k-1.box"),
            ("GRAPHITE_PREFIX", "a.b", show_graphite, "none"),
            ("ADMIN_TOKEN", "s", |config| format!("{:?}", config.server.access.admin_token), "Some(Secret(***))"),
            ("ADMIN_LISTEN", "[::1]:7", |config| format!("{:?}", config.admin_listen), "[[::1]:7]"),
            ("ADMIN_OPEN", "yes", |config| config.server.access.admin_is_open.to_string(), "true"),
            ("ADMIN_HOSTS", "A.b,c", |config| config.server.access.admin_hosts.join(" "), "a.b c"),
            ("LOG_LEVEL", "Warn", |config| config.log_level.to_string(), "warn"),
            ("VERBOSE", "YES", |config| config.server.verbose.to_string(), "true"),
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
        assert!(config(&["--demo"], &[]).server.reports.page_enabled);
        for option in OPTIONS {
            let covered = table
                .iter()
                .any(|(variable, ..)| *variable == option.variable);
            let is_apart = option.variable == "DEMO" || option.variable == "AMQP_URL";
            assert!(covered || is_apart, "{}", option.variable);
        }
    }

    #[test]
    fn all_settings_in_force_are_shown() {
        let defaults = config(&[], &[]).settings_line();
        assert_eq!(
            defaults,
            "PORT=8001 LISTEN=all REUSE_PORT=false REDIS_URL=redis://localhost:6379 REDIS_PUBLISH_URL=none DEMO=false \
             DEMO_RATE=none DEMO_SEED=none ENABLE_DEMO_PAGE=false ENABLE_RAW_STREAM=true \
             ENABLE_KIOSK_INTERACTION_STREAM=false CHANNELS=none CHANNELS_PATTERNS=false PUBLISH_KEY=none \
             REPLAY_SEC=8 \
             CHANNEL_STATS_MAX=1000 AMQP_URL=none AMQP_EXCHANGE=emojitrack \
             AMQP_EXCHANGE_TYPE=direct SSE_FORCE_REFRESH=false SSE_IDS=false SSE_SCORE_RETRY_MS=none \
             SSE_DETAIL_RETRY_MS=none SSE_RECONNECT_MS=none SSE_SCORE_FORCECLOSE_SEC=none \
             SSE_DETAIL_FORCECLOSE_SEC=none TRUST_PROXY=0 MAX_CONNECTIONS=none \
             MAX_CONNECTIONS_PER_IP=none STATUS_CONNECTIONS_MAX=1000 DRAIN_SEC=20 KEEPALIVE_SEC=15 IDLE_SEC=10 \
             LOG_BYTES_MAX=4194304 DYNO=box STREAMER_ENV=development GRAPHITE_URL=none \
             HOSTEDGRAPHITE_APIKEY=none GRAPHITE_PREFIX=none ADMIN_TOKEN=none ADMIN_LISTEN=none ADMIN_OPEN=false ADMIN_HOSTS=none \
             LOG_LEVEL=info VERBOSE=false"
        );
        // Flags, and a part of the line.
        #[rustfmt::skip]
        let table: &[(&[&str], &str)] = &[
            (&["--demo", "--demo-seed=9"], " REDIS_URL=none REDIS_PUBLISH_URL=none DEMO=true DEMO_RATE=250 DEMO_SEED=9 ENABLE_DEMO_PAGE=true "),
            (&["--redis-url=redis://u:secret@a/1,redis+unix:///b"], " REDIS_URL=redis://u@a:6379/1,redis+unix:///b "),
            (&["--redis-url=none"], " REDIS_URL=none REDIS_PUBLISH_URL=none DEMO=false DEMO_RATE=none "),
            (&["--channels=b,a.*", "--publish-key=secret"], " CHANNELS=b,a.* CHANNELS_PATTERNS=false PUBLISH_KEY=*** REPLAY_SEC=8 "),
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
            let line = config(flags, &[]).settings_line();
            assert!(line.contains(part), "{part} is missing in {line}");
            assert!(!line.contains("secret"), "{line}");
        }
        let mut bounded = config(&[], &[]);
        bounded.server.fit_into(1_024, 1);
        let changed = defaults.replace("MAX_CONNECTIONS=none", "MAX_CONNECTIONS=937");
        assert_eq!(bounded.settings_line(), changed);
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let too_long = "secret".repeat(50);
        let token = "the value (not shown, it is a secret) is invalid: use 1 to 256 ASCII letters, \
             digits and punctuation marks, without spaces";
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
            let expected = format!("PUBLISH_KEY: {token}");
            assert_eq!(misuse(&[], &[("PUBLISH_KEY", value)]), expected);
        }
        let key = misuse(&[], &[("HOSTEDGRAPHITE_APIKEY", "secret/")]);
        assert!(
            key.starts_with("HOSTEDGRAPHITE_APIKEY: the value (not shown, it is a secret) is "),
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
                refused.contains("(not shown, it may contain a password)"),
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
        assert!(!config.settings_line().contains("secret"));
        assert_eq!(
            config.graphite.map(|to| to.root),
            Some("secret.box".to_owned())
        );
    }

    #[test]
    fn the_health_check_knows_the_settings() {
        let listen = |flags: &[&str], variables| match command(flags, variables) {
            Ok(Command::Healthcheck(listen)) => format!("{listen:?}"),
            Ok(_) => "another command".to_owned(),
            Err(misuse) => misuse,
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
        let asked = command(&["healthcheck", "-h"], &[]);
        assert!(matches!(asked, Ok(Command::Print(_))));
        for flags in [&["healthcheck", "healthcheck"][..], &["healthcheck", "x"]] {
            assert!(misuse(flags, &[]).starts_with("argument 2 (not shown"));
        }
        assert!(misuse(&["healthcheck"], &[("PORT", "x")]).starts_with("PORT: "));
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
        // An invalid variable is ignored if a flag overrides it.
        assert_eq!(
            listen(&["--port", "2"], &[("PORT", "x")]),
            Listen::Everywhere(2)
        );
        assert!(
            !config(&["--demo=false"], &[("DEMO", "true")])
                .server
                .reports
                .page_enabled
        );
        assert!(
            !config(&["--enable-raw-stream=no"], &[])
                .server
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
            "argument 2 (not shown, it may be a password) belongs to no flag: use --flag=value, --help lists all flags"
        );
    }

    #[test]
    fn the_first_alias_that_is_set_wins_and_errors_name_it() {
        let node = |variables| config(&[], variables).server.node;
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
                .server
                .streams
                .score
                .retry_ms,
            Some(8)
        );
        assert_eq!(
            misuse(&[], &[("SSE_RECONNECT", "soon")]),
            "SSE_RECONNECT: \"soon\" is not a number from 0 to 3600000"
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
        assert_eq!(config.server.node, "rust-development-box");
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

    #[cfg(unix)]
    #[test]
    fn values_that_are_not_utf_8_are_refused() {
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
    fn help_and_version_win_over_invalid_values() {
        for flags in [
            &["-h"][..],
            &["--help"],
            &["--port", "x", "--help"],
            &["-hV"],
            &["--demo", "-h", "--nope"],
        ] {
            assert!(
                matches!(command(flags, &[("PORT", "x")]), Ok(Command::Print(text)) if text == help()),
                "{flags:?}"
            );
        }
        for flags in [["-V"], ["--version"]] {
            assert!(
                matches!(command(&flags, &[("PORT", "x")]), Ok(Command::Print(text))
                    if text == format!("{NAME_AND_VERSION}\n")),
                "{flags:?}"
            );
        }
    }
}
