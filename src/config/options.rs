//! Options: what there is to be set. It owns every option's name, default and line of help, and what is said
//! about a flag that does not exist; it must not interpret a value.

use std::iter;

use super::Misuse;
use super::redis_url::shown;

/// The text of `--help`, at most 100 columns wide.
pub fn help() -> String {
    let mut text = HELP_HEAD.to_owned();
    for option in OPTIONS {
        let help = format!("{} ({})", option.help, option.default);
        text += &help_line(&option.usage(), option.variable, &help);
        if !option.aliases.is_empty() {
            text += &help_line("", "", &format!("also {}", option.aliases.join(", ")));
        }
    }
    text += &help_line("-h, --help", "", "this text");
    text += &help_line("-V, --version", "", "the version");
    text + HELP_TAIL
}

const HELP_HEAD: &str = "\
emojitrack-streamer: a Server-Sent Events server, from Redis pub/sub to many browsers

Usage: emojitrack-streamer [FLAGS]
       emojitrack-streamer healthcheck [FLAGS]

Options, each a flag or an environment variable (flags win):
";

const HELP_TAIL: &str = "
A flag shown without a value is a boolean: --demo means --demo=true. Booleans are true t yes y 1
and false f no n 0, in any case. An environment variable that is empty counts as not set.

Metrics go to Graphite as [<key>.][<prefix>.]<DYNO>.stream and so on; a key without a URL means
udp://carbon.hostedgraphite.com:2003. A secret is better given by its variable: flags can be seen
in the list of processes.

healthcheck asks /healthz of the server that runs here with the same settings, and exits with 0
when it is alive, or else with 1.

Examples:
  emojitrack-streamer --demo
  curl -N localhost:8001/subscribe/eps

  REDIS_URL=redis://broker:6379 emojitrack-streamer --port 80 --sse-force-refresh
";

/// One option: all that flags, environment and help text need to know about it.
pub(super) struct Definition {
    pub(super) key: Key,
    pub(super) variable: &'static str,
    /// Other variables for the same thing; the first one that is set counts.
    pub(super) aliases: &'static [&'static str],
    /// What the help text calls the value; empty for a boolean, which needs none.
    pub(super) placeholder: &'static str,
    /// The value as it would be typed, or a description of one that is found out.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
}

/// Makes the keys and the table from one list, so that both have the same entries in the same order.
macro_rules! options {
    ($($key:ident: $variable:literal, $aliases:expr, $placeholder:literal, $default:literal, $help:literal;)*) => {
        #[derive(Clone, Copy)]
        pub(super) enum Key { $($key),* }

        pub(super) static OPTIONS: &[Definition] = &[$(Definition {
            key: Key::$key,
            variable: $variable,
            aliases: &$aliases,
            placeholder: $placeholder,
            default: $default,
            help: $help,
        }),*];
    };
}

// Each row gives a key, its variable, aliases, placeholder, default and line of help.
options! {
    Port: "PORT", [], "PORT", "8001", "port to serve on; 0 takes any free one";
    Listen: "LISTEN", [], "IP[:PORT],...", "all", "addresses to serve on";
    ReusePort: "REUSE_PORT", [], "", "false", "let several processes share the port";
    RedisUrl: "REDIS_URL", ["BOXEN_REDIS_URL"], "URL,...", "redis://localhost:6379", "or none; tried in turn";
    Demo: "DEMO", [], "", "false", "serve random updates; needs no Redis";
    DemoRate: "DEMO_RATE", [], "NUMBER", "250", "demo: updates in a second";
    DemoSeed: "DEMO_SEED", [], "NUMBER", "random", "demo: repeat the run of this seed";
    DemoPage: "ENABLE_DEMO_PAGE", [], "", "false", "show the live page without --demo, too";
    RawStream: "ENABLE_RAW_STREAM", [], "", "true", "serve /subscribe/raw";
    KioskStream: "ENABLE_KIOSK_INTERACTION_STREAM", [], "", "false", "serve /subscribe/kiosk_interaction";
    Channels: "CHANNELS", [], "GLOB,...", "none", "channels that may be asked for";
    PublishSecret: "PUBLISH_KEY", [], "SECRET", "none", "allows POST /publish, with this";
    ReplaySec: "REPLAY_SEC", [], "SECONDS", "8", "how long a channel outlives its clients";
    ChannelStatsMax: "CHANNEL_STATS_MAX", [], "NUMBER", "100", "channels listed in reports";
    AmqpUrl: "AMQP_URL", [], "URL", "none", "channels: from amqp://host[:5672], too";
    AmqpExchange: "AMQP_EXCHANGE", [], "NAME", "emojitrack", "AMQP: where they go through";
    AmqpExchangeType: "AMQP_EXCHANGE_TYPE", [], "TYPE", "direct", "AMQP: direct, fanout or topic";
    ForceRefresh: "SSE_FORCE_REFRESH", [], "", "false", "for routers that hide disconnects";
    ScoreRetryMs: "SSE_SCORE_RETRY_MS", [], "MS", "100", "force refresh: retry of raw and eps";
    DetailRetryMs: "SSE_DETAIL_RETRY_MS", [], "MS", "500", "force refresh: retry of the rest";
    ReconnectMs: "SSE_RECONNECT_MS", ["SSE_RECONNECT"], "MS", "none", "retry of all streams, always sent";
    ScoreLifetimeSec: "SSE_SCORE_FORCECLOSE_SEC", [], "SECONDS", "300", "force refresh: lifetime of raw, eps";
    DetailLifetimeSec: "SSE_DETAIL_FORCECLOSE_SEC", [], "SECONDS", "300", "force refresh: and of the rest";
    TrustProxy: "TRUST_PROXY", [], "NUMBER", "0, on Heroku 1", "trusted proxies in front";
    ConnectionsMax: "MAX_CONNECTIONS", [], "NUMBER", "as descriptors allow", "streams at a time";
    ConnectionsPerIpMax: "MAX_CONNECTIONS_PER_IP", [], "NUMBER", "none", "streams of one address";
    StatusRowsMax: "STATUS_CONNECTIONS_MAX", [], "NUMBER", "1000", "connections listed in Redis";
    DrainSec: "DRAIN_SEC", [], "SECONDS", "20", "how long a clean end may take";
    KeepaliveSec: "KEEPALIVE_SEC", [], "SECONDS", "15", "longest silence on a stream, 1 to 55";
    LogBytesMax: "LOG_BYTES_MAX", [], "BYTES", "4194304", "kept for slow clients; also 512k, 4MiB";
    Dyno: "DYNO", [], "NAME", "host name", "this process, in reports";
    Environment: "STREAMER_ENV", ["RACK_ENV", "NODE_ENV", "GO_ENV"], "NAME", "development", "environment, in reports";
    GraphiteUrl: "GRAPHITE_URL", [], "URL", "none", "metrics: to udp:// or tcp://host[:2003]";
    HostedGraphite: "HOSTEDGRAPHITE_APIKEY", [], "KEY", "none", "metrics: first in the path";
    GraphitePrefix: "GRAPHITE_PREFIX", [], "PATH", "none", "metrics: next in it, before DYNO";
    AdminToken: "ADMIN_TOKEN", [], "SECRET", "none", "asked for at /admin/ and /metrics";
    AdminListen: "ADMIN_LISTEN", [], "IP:PORT,...", "none", "serve those here, and only here";
    LogLevel: "LOG_LEVEL", [], "LEVEL", "info", "error, warn, info or debug";
    Verbose: "VERBOSE", [], "", "false", "log each connect and disconnect";
}

/// Columns of a flag and of a variable in the help text; a longer one pushes its help to the next line.
const FLAG_COLUMNS: usize = 26;
const VARIABLE_COLUMNS: usize = 20;

/// Typing mistakes within which a flag is suggested; two letters in the wrong order are two.
const TYPOS_MAX: usize = 2;

/// Where a wrong use is sent.
pub(super) const HELP_ADVICE: &str = "--help lists all flags";

fn help_line(flag: &str, variable: &str, help: &str) -> String {
    let names = format!("  {flag:FLAG_COLUMNS$}  {variable:VARIABLE_COLUMNS$}");
    if flag.len() > FLAG_COLUMNS || variable.len() > VARIABLE_COLUMNS {
        return format!("{names}\n{}", help_line("", "", help));
    }
    format!("{names}  {help}\n")
}

pub(super) fn flag_of(variable: &str) -> String {
    format!("--{}", variable.to_ascii_lowercase().replace('_', "-"))
}

impl Definition {
    pub(super) fn flag(&self) -> String {
        flag_of(self.variable)
    }

    pub(super) fn usage(&self) -> String {
        let usage = format!("{} {}", self.flag(), self.placeholder);
        usage.trim_end().to_owned()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        iter::once(self.variable).chain(self.aliases.iter().copied())
    }
}

pub(super) fn unexpected_argument(text: &str) -> Misuse {
    let shown = shown(text, text);
    Misuse(format!(
        "unexpected argument {shown}: use --flag=value, {HELP_ADVICE}"
    ))
}

pub(super) fn unknown_flag(flag: &str) -> Misuse {
    let guess = nearest_flag(flag).map(|nearest| format!("did you mean {nearest}? "));
    let (flag, guess) = (flag.escape_debug(), guess.unwrap_or_default());
    Misuse(format!("unknown flag {flag}: {guess}{HELP_ADVICE}"))
}

/// The flag that was probably meant. Aliases, which have no flag of their own, lead to the one they mean.
fn nearest_flag(flag: &str) -> Option<String> {
    let typed = flag_of(flag.trim_start_matches('-'));
    let mut known = ["--help", "--version"]
        .map(|flag| (flag.to_owned(), flag.to_owned()))
        .to_vec();
    for option in OPTIONS {
        known.extend(option.names().map(|name| (flag_of(name), option.flag())));
    }
    let typos = |(known, _): &(String, String)| edit_distance(&typed, known);
    let nearest = known.into_iter().min_by_key(typos)?;
    (typos(&nearest) <= TYPOS_MAX).then_some(nearest.1)
}

/// Levenshtein's distance: single letters to insert, delete or replace.
pub(super) fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    for (row, left) in from.chars().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(left != *right);
            current.push(replaced.min(above[column + 1] + 1).min(current[column] + 1));
        }
        above = current;
    }
    above.last().copied().unwrap_or_default()
}
