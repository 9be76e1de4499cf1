//! Workloads: what is measured, for which servers, and which figures are shown. Each file owns one kind of measurement
//! from the start of a server to its figures.

mod connects;
mod fanout;
mod rest;
mod stall;
mod startup;

use std::time::Duration;

use crate::figures::Figures;
use crate::options::Options;
use crate::plan::Stream;
use crate::servers::{Server, Task};
use crate::{Bench, Failure};
use fanout::Fanout;

/// How long all clients of a measurement may take to connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// One row of the bench.
pub struct Workload {
    /// The short name, as in options and reports.
    pub name: &'static str,
    /// What is done, in a sentence.
    pub about: String,
    /// What is shown of it.
    pub columns: &'static [Column],
    /// How often it is measured at most.
    pub rounds_max: usize,
    /// Whom it concerns.
    pub servers: fn(Server) -> bool,
    /// Measures one server.
    pub run: Box<dyn Fn(&Bench, Server) -> Result<Figures, Failure>>,
}

impl Workload {
    /// Whether this is its name, or the first word of it.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split('-').next() == Some(name)
    }
}

/// A figure in a table.
pub struct Column {
    /// The figure's name.
    pub name: &'static str,
    /// What stands above it.
    pub heading: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// What it is multiplied with to be shown.
    pub scale: f64,
}

const fn column(name: &'static str, heading: &'static str, digits: usize, scale: f64) -> Column {
    Column {
        name,
        heading,
        digits,
        scale,
    }
}

const FANOUT_COLUMNS: &[Column] = &[
    column("cpu_us_per_event", "µs CPU/event", 2, 1.0),
    column("ratio", "× floor", 2, 1.0),
    column("events_per_second", "events/s", 0, 1.0),
    column("share_of_due", "of due %", 0, 100.0),
    column("server_core", "core %", 0, 100.0),
    column("p50_us", "p50 µs", 0, 1.0),
    column("p99_us", "p99 µs", 0, 1.0),
    column("max_us", "max µs", 0, 1.0),
    column("resident_mb", "RSS MB", 1, 1.0),
    column("worst_client_share", "worst/best client", 2, 1.0),
    column("accept_ms", "accept ms", 0, 1.0),
    column("status_ms", "status.json ms", 0, 1.0),
    column("loader_core", "loader core %", 0, 100.0),
    column("others_on_core", "others on core %", 0, 100.0),
];

const REST_COLUMNS: &[Column] = &[
    column("bytes_per_client", "bytes/client", 0, 1.0),
    column("resident_mb", "RSS MB", 1, 1.0),
    column("wakeups_per_second", "wake-ups/s", 1, 1.0),
    column("cpu_us_per_second", "µs CPU/s", 0, 1.0),
    column("cpu_us_per_connect", "µs CPU/connect", 1, 1.0),
];

const STALL_COLUMNS: &[Column] = &[
    column("stalled_mb", "RSS growth MB", 2, 1.0),
    column("cpu_us_per_event", "µs CPU/event", 2, 1.0),
    column("p99_us", "others' p99 µs", 0, 1.0),
    column("silence_ms", "others' longest gap ms", 0, 1.0),
    column("closed", "streams closed", 0, 1.0),
];

const CONNECTS_COLUMNS: &[Column] = &[
    column("cpu_us_per_connect", "µs CPU/connect", 1, 1.0),
    column("connects_per_second", "connects/s", 0, 1.0),
    column("server_core", "core %", 0, 100.0),
    column("loader_core", "loader core %", 0, 100.0),
];

const HERD_COLUMNS: &[Column] = &[
    column("back_ms", "all back ms", 0, 1.0),
    column("slowest_ms", "slowest ms", 0, 1.0),
    column("silence_ms", "others' longest gap ms", 0, 1.0),
];

const START_COLUMNS: &[Column] = &[
    column("start_ms", "start to answer ms", 1, 1.0),
    column("slowest_ms", "slowest ms", 1, 1.0),
    column("program_mb", "program MB", 2, 1.0),
];

/// All workloads, in the order in which they run.
pub fn all(options: &Options) -> Vec<Workload> {
    let (window, stall) = (options.window, options.stall);
    let eps = |name, clients, servers| fanout(name, Stream::Eps, clients, 300, servers, window);
    let raw = |name, rate| fanout(name, Stream::Raw, 100, rate, everybody, window);
    vec![
        eps("eps-1000", 1_000, everybody),
        eps("eps-100", 100, |server| !server.is_peer()),
        raw("raw-1000", 1_000),
        raw("raw-10000", 10_000),
        fanout(
            "details",
            Stream::Details,
            1_000,
            400,
            |server| server != Server::Demo,
            window,
        ),
        fanout(
            "channel",
            Stream::Channel,
            1_000,
            60,
            |server| matches!(server, Server::Floor | Server::Redis),
            window,
        ),
        eps("eps-15000", 15_000, everybody),
        once(
            "rest-0",
            "no clients",
            REST_COLUMNS,
            |server| server == Server::Demo,
            |bench, server| rest::run(bench, server, 0),
        ),
        once(
            "rest-15000",
            "15000 clients, nothing to send",
            REST_COLUMNS,
            |server| server != Server::Demo,
            |bench, server| rest::run(bench, server, 15_000),
        ),
        once(
            "stall",
            &format!(
                "1000 clients on eps, 1000 updates a second; 100 of them do not read for {} s",
                stall.as_secs()
            ),
            STALL_COLUMNS,
            |server| server == Server::Redis,
            move |bench, server| stall::run(bench, server, stall),
        ),
        once(
            "herd",
            "5000 clients of eps leave and come back at once, while 100 stay",
            HERD_COLUMNS,
            is_fed,
            |bench, server| connects::herd(bench, server, 5_000),
        ),
        once(
            "connects",
            "clients come, get the head of a stream, and leave",
            CONNECTS_COLUMNS,
            |server| server != Server::Demo,
            move |bench, server| connects::churn(bench, server, window),
        ),
        once(
            "start",
            "from starting the program to its first answer",
            START_COLUMNS,
            Server::is_ours,
            startup::run,
        ),
    ]
}

fn everybody(_: Server) -> bool {
    true
}

/// Whether a server is told what to deliver.
fn is_fed(server: Server) -> bool {
    !matches!(server, Server::Floor | Server::Demo)
}

fn once(
    name: &'static str,
    about: &str,
    columns: &'static [Column],
    servers: fn(Server) -> bool,
    run: impl Fn(&Bench, Server) -> Result<Figures, Failure> + 'static,
) -> Workload {
    Workload {
        name,
        about: about.to_owned(),
        columns,
        rounds_max: 1,
        servers,
        run: Box::new(run),
    }
}

fn fanout(
    name: &'static str,
    stream: Stream,
    clients: usize,
    per_second: u32,
    servers: fn(Server) -> bool,
    window: Duration,
) -> Workload {
    let task = Task {
        stream,
        per_second,
        clients,
    };
    let about = match stream {
        Stream::Eps => format!("{clients} clients, {per_second} updates a second, rolled up"),
        Stream::Raw => format!("{clients} clients, {per_second} messages a second to each"),
        Stream::Channel => {
            format!("{clients} clients of one channel, {per_second} messages a second to each")
        }
        Stream::Details => {
            format!("{clients} clients over 100 IDs, {per_second} messages a second over 400 IDs")
        }
    };
    Workload {
        name,
        about,
        columns: FANOUT_COLUMNS,
        rounds_max: if clients < 10_000 { usize::MAX } else { 2 },
        servers,
        run: Box::new(move |bench, server| {
            let is_probed = clients >= 10_000 && server.is_ours();
            fanout::run(bench, server, Fanout { task, is_probed }, window)
        }),
    }
}
