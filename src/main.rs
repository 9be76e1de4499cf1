//! The program: arguments and environment become a configuration, which is run. It owns exit codes
//! (0 clean, 1 failed, 2 wrong use) and the words at the start; it must not decide anything else.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

#[cfg(feature = "amqp")]
use emojitrack_streamer::broker::amqp::Amqp;
use emojitrack_streamer::broker::demo::{self, Demo};
use emojitrack_streamer::broker::redis::Endpoint;
use emojitrack_streamer::broker::redis::{Session, Topics};
use emojitrack_streamer::config::{self, Command, Config, SourceConfig};
use emojitrack_streamer::engine::{self, Engine};
use emojitrack_streamer::level::Level;
use emojitrack_streamer::net::mio::{Doors, MioNet};
use emojitrack_streamer::net::{Door, Net, healthcheck};
use emojitrack_streamer::random;
use emojitrack_streamer::reactor::{self, Exchange, Feed, Reactor, Reports};
use emojitrack_streamer::report::carbon::Carbon;
use emojitrack_streamer::report::page;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    match config::parse(arguments, |name| std::env::var_os(name), host_name) {
        Ok(Command::Help) => {
            print!("{}", config::help());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("{NAME_AND_VERSION}");
            ExitCode::SUCCESS
        }
        Ok(Command::Healthcheck(listen)) => match healthcheck::ask(&listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("emojitrack-streamer: not healthy: {reason}");
                ExitCode::FAILURE
            }
        },
        Ok(Command::Run(config)) => match run(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("emojitrack-streamer: {error}");
                ExitCode::FAILURE
            }
        },
        Err(misuse) => {
            eprintln!("emojitrack-streamer: {misuse}");
            ExitCode::from(2)
        }
    }
}

const NAME_AND_VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

fn run(mut config: Config) -> io::Result<()> {
    // Each client is a descriptor. Where the limit cannot be raised, what there is must do.
    let _unchanged = rlimit::increase_nofile_limit(rlimit::INFINITY);
    let descriptors = rlimit::Resource::NOFILE
        .get_soft()
        .unwrap_or(rlimit::INFINITY);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let listeners = config.listen.sockets() + config.admin_listen.len();
    config.engine.fit_into(descriptors, listeners);
    let doors = Doors {
        public: &config.listen,
        admin: &config.admin_listen,
        reuse_port: config.reuse_port,
    };
    let mut net = MioNet::new(doors, config.log_level)?;
    let (now, unix_seconds) = (net.now(), net.unix_seconds());
    for line in greeting(&net, &config) {
        net.log(Level::Info, &line);
    }
    let reports = reports(&config);
    let exchange = exchange(&config);
    let feed = match config.source {
        SourceConfig::Demo { per_second, seed } => {
            Feed::Demo(Box::new(Demo::new(per_second, seed, unix_seconds * 1_000)))
        }
        SourceConfig::None => Feed::Embedded,
        SourceConfig::Redis(endpoints) => redis(&config.engine, &endpoints),
    };
    let engine = Engine::new(config.engine, now, unix_seconds);
    Reactor::new(net, engine, feed, reports)
        .with_exchange(exchange)
        .run()
}

/// The broker beside Redis, if one is configured; a build that cannot speak to one refuses that before.
#[cfg(feature = "amqp")]
fn exchange(config: &Config) -> Exchange {
    let amqp = config.amqp.clone().map(|endpoint| {
        let seed = random::process_seed();
        Exchange::amqp(Amqp::new(endpoint, &config.engine.node, seed))
    });
    amqp.unwrap_or(Exchange::None)
}

#[cfg(not(feature = "amqp"))]
fn exchange(_: &Config) -> Exchange {
    Exchange::None
}

/// The two sessions with Redis: one for messages, and one for commands.
fn redis(settings: &engine::Settings, endpoints: &[Endpoint]) -> Feed {
    let session = |topics| {
        let seed = random::process_seed();
        Session::new(endpoints.to_vec(), topics, &settings.node, seed)
    };
    Feed::redis(session(topics(settings)), session(Topics::default()))
}

fn reports(config: &Config) -> Reports {
    let page = match (config.engine.reports.page_enabled, &config.source) {
        (false, _) => Arc::default(),
        (true, SourceConfig::Demo { .. }) => page::render_demo(demo::emoji()).into(),
        // Where Redis has the scores, those that were made up for the demo would be lies until it says them; and
        // where it is told nothing of any, they begin with nothing.
        (true, SourceConfig::Redis(_) | SourceConfig::None) => {
            page::render(demo::emoji().map(|(id, _, name)| (id, 0, name))).into()
        }
    };
    let graphite = config
        .graphite
        .clone()
        .map(|config::Graphite { target, root }| {
            reactor::Graphite::new(Carbon::new(target, random::process_seed()), root)
        });
    Reports::new(page, graphite)
}

/// The channels that the enabled streams are made of.
fn topics(settings: &engine::Settings) -> Topics {
    let mut patterns = vec![format!("{}*", engine::TWEET_CHANNEL_PREFIX)];
    if settings.streams.kiosk_enabled {
        patterns.push(format!("{}*", engine::KIOSK_CHANNEL_PREFIX));
    }
    Topics {
        channels: vec![engine::SCORE_CHANNEL.to_owned()],
        patterns,
        optional: vec![engine::CLEANUP_CHANNEL.to_owned()],
    }
}

/// Where the server is, and what to try next.
fn greeting(net: &MioNet, config: &Config) -> Vec<String> {
    let addresses = net.local_addresses(Door::Public);
    let mut lines: Vec<String> = addresses
        .iter()
        .map(|address| format!("{NAME_AND_VERSION} listening on http://{address}"))
        .collect();
    for address in net.local_addresses(Door::Admin) {
        lines.push(format!("admin page: http://{address}/admin/"));
    }
    lines.push(format!("settings: {}", config.settings_line()));
    let Some(first) = addresses.first() else {
        return lines;
    };
    let url = match first.ip().is_unspecified() {
        true => format!("http://localhost:{}", first.port()),
        false => format!("http://{first}"),
    };
    match &config.source {
        SourceConfig::Demo { per_second, .. } => {
            lines.push(format!(
                "demo: {per_second} made-up updates a second while somebody listens"
            ));
        }
        SourceConfig::None => lines.push(match &config.engine.channels.publish_key {
            Some(_) => "broker: embedded, fed by POST /publish".to_owned(),
            None => "broker: embedded; set PUBLISH_KEY to feed it by POST /publish".to_owned(),
        }),
        SourceConfig::Redis(endpoints) => {
            let names: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            lines.push(format!("redis: connecting to {}", names.join(", ")));
        }
    }
    if let Some(endpoint) = &config.amqp {
        lines.push(format!("amqp: connecting to {endpoint}, for channels"));
    }
    lines.push(format!("try:  curl -N {url}/subscribe/eps"));
    if config.engine.reports.page_enabled {
        lines.push(format!("page: {url}/"));
    }
    if config.admin_listen.is_empty() {
        lines.push(format!("admin page: {url}/admin/"));
    }
    lines
}

/// The machine's name, for reports.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned())
}
