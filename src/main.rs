//! The program: parses arguments and environment, and runs the server. It owns the exit codes (0 clean, 1 failed,
//! 2 invalid usage) and the lines logged at startup; it must not decide anything else.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use emojitrack_streamer::broker::{self, Setup, Topics, demo};
use emojitrack_streamer::config::{self, Command, Config, NAME_AND_VERSION};
use emojitrack_streamer::http::authorization::Secret;
use emojitrack_streamer::level::Level;
use emojitrack_streamer::limits;
use emojitrack_streamer::net::mio::MioNet;
use emojitrack_streamer::net::notify::Notifier;
use emojitrack_streamer::net::{self, Door, Net, healthcheck, inherited};
use emojitrack_streamer::random;
use emojitrack_streamer::reactor::Reactor;
use emojitrack_streamer::report::carbon::Figures;
use emojitrack_streamer::report::page;
use emojitrack_streamer::server::{self, Server};
use emojitrack_streamer::server::{Reports, Supervision};

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    let done = match config::parse(arguments, |name| std::env::var_os(name), host_name) {
        Ok(Command::Print(text)) => {
            print!("{text}");
            Ok(())
        }
        Ok(Command::Healthcheck(listen)) => healthcheck::ask(&listen, limits::HEALTHCHECK_DEADLINE)
            .map_err(|reason| (1, format!("unhealthy: {reason}"))),
        Ok(Command::Run(config)) => run(*config).map_err(|error| (1, error.to_string())),
        Err(misuse) => Err((2, misuse.to_string())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => {
            eprintln!("emojitrack-streamer: {}", net::one_line(&reason));
            ExitCode::from(code)
        }
    }
}

fn run(mut config: Config) -> io::Result<()> {
    // Each client takes a descriptor. If the limit cannot be raised, the server fits into it.
    let _unchanged = rlimit::increase_nofile_limit(rlimit::INFINITY);
    let descriptors = rlimit::Resource::NOFILE.get_soft().ok();
    let descriptors = descriptors.and_then(|soft| usize::try_from(soft).ok());
    let inherited = inherited::listeners()?;
    let listeners = match inherited.len() {
        0 => config.listen.sockets(),
        inherited => {
            // Who comes during a drain waits in the manager's socket for the next process.
            config.server.pacing.others_listen = true;
            inherited
        }
    };
    let listeners = listeners + config.admin_listen.len();
    let descriptors = descriptors.unwrap_or(usize::MAX);
    config.server.fit_into(descriptors, listeners);
    let mut net = MioNet::new(
        &config.listen,
        &config.admin_listen,
        config.reuse_port,
        inherited,
        config.log_level,
    )?;
    let notifier = Notifier::of(|name| std::env::var_os(name), std::process::id())?;
    let supervision = (notifier.as_ref())
        .map(|notifier| Supervision::new(notifier.watchdog()))
        .unwrap_or_default();
    if let Some(notifier) = notifier {
        net.set_notifier(notifier);
    }
    let (now, unix_seconds) = (net.now(), net.unix_seconds());
    let setup = Setup {
        source: config.source.clone(),
        redis_publishers: config.redis_publishers.clone(),
        amqp: config.amqp.clone(),
        topics: topics(&config.server),
        client_name: config.server.node.clone(),
        seed: random::process_seed(),
        unix_origin_ms: unix_seconds * 1_000,
    };
    for line in greeting(&net, &config, &setup) {
        net.log(Level::Info, &line);
    }
    for line in warnings(&config.server) {
        net.log(Level::Warn, &line);
    }
    let reports = reports(&config);
    let server = Server::new(config.server, now, unix_seconds);
    let reactor = Reactor::new(net, server, broker::open(setup), reports);
    reactor.supervised(supervision).run()
}

fn reports(config: &Config) -> Reports {
    let page = match config.source.is_made_up() {
        _ if !config.server.reports.page_enabled => Arc::default(),
        true => page::render(page::DEMO, demo::emoji()).into(),
        // The demo's scores would be wrong here: without scores from a broker, all counts start at zero.
        false => page::render(page::FEED, demo::emoji().map(|(id, _, name)| (id, 0, name))).into(),
    };
    let figures = config.graphite.clone();
    let figures = figures.map(|to| Figures::new(to.target, to.root, random::process_seed()));
    Reports::new(page, figures)
}

/// The channels that feed the enabled streams.
fn topics(settings: &server::Settings) -> Topics {
    let mut patterns = vec![format!("{}*", server::TWEET_CHANNEL_PREFIX)];
    if settings.streams.kiosk_enabled {
        patterns.push(format!("{}*", server::KIOSK_CHANNEL_PREFIX));
    }
    Topics {
        channels: vec![server::SCORE_CHANNEL.to_owned()],
        patterns,
        optional: vec![server::CLEANUP_CHANNEL.to_owned()],
    }
}

/// The lines logged at startup: addresses, settings, and a command to try.
fn greeting(net: &MioNet, config: &Config, setup: &Setup) -> Vec<String> {
    let addresses = net.local_addresses(Door::Public);
    let listening = |address| format!("{NAME_AND_VERSION} listening on http://{address}");
    let mut lines: Vec<String> = addresses.iter().map(listening).collect();
    for address in net.local_addresses(Door::Admin) {
        lines.push(format!("admin page: http://{address}/admin/"));
    }
    if net.shares_listeners() {
        let line = "the service manager has opened these ports (LISTEN_FDS); PORT, LISTEN and REUSE_PORT are not used";
        lines.push(line.to_owned());
    }
    lines.push(format!("settings: {}", config.settings_line()));
    let Some(first) = addresses.first() else {
        return lines;
    };
    let url = match first.ip().is_unspecified() {
        true => format!("http://localhost:{}", first.port()),
        false => format!("http://{first}"),
    };
    lines.extend(setup.greeting(config.server.channels.publish_key.is_some()));
    lines.push(format!("try:  curl -N {url}/subscribe/eps"));
    if config.server.reports.page_enabled {
        lines.push(format!("page: {url}/"));
    }
    if config.admin_listen.is_empty() {
        lines.push(format!("admin page: {url}/admin/"));
    }
    lines.push(match config.server.admission.trusted_proxies {
        0 => "client addresses are those of the connections (TRUST_PROXY=0)".to_owned(),
        hops => {
            let reason = match config.is_on_heroku {
                true => "on Heroku, because of the variables DYNO and PORT",
                false => "as TRUST_PROXY says",
            };
            format!("client addresses are entry {hops} from the right of X-Forwarded-For, {reason}")
        }
    });
    let access = &config.server.access;
    let audience = match access.admin_token {
        Some(_) => "to who has ADMIN_TOKEN",
        None if access.admin_is_apart => "to everybody who can reach ADMIN_LISTEN",
        None if access.admin_is_open => "to everybody (ADMIN_OPEN)",
        None => "to loopback clients only; set ADMIN_TOKEN or ADMIN_LISTEN to let others in",
    };
    lines.push(format!("/admin/, /metrics and /stats are open {audience}"));
    lines
}

/// Secrets that may be guessed.
fn warnings(settings: &server::Settings) -> impl Iterator<Item = String> {
    let secrets = [
        ("ADMIN_TOKEN", &settings.access.admin_token),
        ("PUBLISH_KEY", &settings.channels.publish_key),
    ];
    let is_short = |secret: &Option<Secret>| secret.as_ref().is_some_and(Secret::is_short);
    let short = secrets.into_iter().filter(move |(_, it)| is_short(it));
    short.map(|(name, _)| {
        let advised = limits::SECRET_BYTES_ADVISED;
        format!("{name} has fewer than {advised} bytes and may be guessed: use the output of openssl rand -hex 16")
    })
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| std::env::var("HOSTNAME").ok())?;
    Some(name.trim().to_owned())
}
