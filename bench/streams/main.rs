//! The benchmark: starts each server under test on one core, loads it from another, and reports the cost of a delivered
//! event as a ratio to the floor. `bench/README.md` says how to run it and what the figures mean.
//!
//! It owns the order of a run. Depending on its first argument, the program is also the floor or the launcher of its
//! children.

mod check;
mod child;
mod crowd;
mod figures;
mod floor;
mod goals;
mod histogram;
mod machine;
mod options;
mod peers;
mod plan;
mod probe;
mod publisher;
mod redis;
mod report;
mod servers;
mod wire;
mod workloads;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use figures::Figures;
use machine::Priority;
use options::Options;
use redis::Redis;
use report::Report;
use servers::Server;
use workloads::Workload;

/// Why a measurement could not be made.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What all measurements share.
pub struct Bench {
    /// What was asked for.
    pub options: Options,
    /// Where reports and logs go.
    pub folder: PathBuf,
    /// The core of the server under test.
    pub server_core: usize,
    /// Where messages come from, where it is installed.
    pub redis: Option<Redis>,
    started: Instant,
}

impl Bench {
    /// The Redis of this run.
    ///
    /// # Errors
    /// Where there is none.
    pub fn redis(&self) -> Result<&Redis, Failure> {
        let redis = self.redis.as_ref();
        redis.ok_or_else(|| "there is no redis-server here".into())
    }

    /// Says what is being done.
    fn progress(&self, line: &str) {
        eprintln!("[{:>3} s] {line}", self.started.elapsed().as_secs());
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((mode, rest)) if mode == child::LAUNCH => Err(child::launch(rest)),
        Some((mode, rest)) if mode == floor::FLOOR => floor::Options::parse(rest)
            .ok_or_else(|| "these are no options of the floor".into())
            .and_then(floor::run),
        // `cargo test --all-targets` runs benchmarks as well, without the argument that `cargo bench` gives.
        None => {
            eprintln!("streams: nothing to test; cargo bench --bench streams runs it");
            Ok(())
        }
        _ => match Options::parse(arguments.into_iter()) {
            Ok(options) if options.help => {
                print!("{}", options::HELP);
                Ok(())
            }
            Ok(options) if options.list => {
                list();
                Ok(())
            }
            Ok(options) => run(options),
            Err(text) => {
                eprintln!("{}", text.trim_end());
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("streams: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn list() {
    println!("workloads:");
    for workload in workloads::all(&Options::default()) {
        println!("  {:14} {}", workload.name, workload.about);
    }
    println!("servers:");
    for server in Server::ALL {
        let missing = server
            .look(&folder())
            .err()
            .map(|line| format!(" [{line}]"));
        let missing = missing.unwrap_or_default();
        println!("  {:14} {}{missing}", server.name(), server.about());
    }
}

fn run(options: Options) -> Result<(), Failure> {
    let started = Instant::now();
    let (server_core, own_core) = options.cores;
    if machine::cores() <= server_core.max(own_core) {
        let cores = machine::cores();
        return Err(format!("this needs two cores and sees {cores}: see --cores").into());
    }
    // Each client is a descriptor, here and in the server, which inherits the limit.
    let _unchanged = rlimit::increase_nofile_limit(rlimit::INFINITY);
    machine::pin(own_core)?;
    let mut facts = machine::description();
    let priority = Priority::raise();
    let is_raised = match priority.is_raised {
        true => "raised, for everything measured and the loader alike",
        false => "as usual, because raising it is not allowed",
    };
    facts.push(("priority", is_raised.to_owned()));
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    let mut report = Report::new(facts);
    let redis = match servers::which("redis-server") {
        Some(_) => Some(Redis::start(own_core, &folder)?),
        None => None,
    };
    let bench = Bench {
        folder,
        server_core,
        redis,
        started,
        options,
    };
    let servers = bench.servers(&mut report);
    let only = &bench.options.only;
    let is_asked_for =
        |workload: &Workload| only.is_empty() || only.iter().any(|name| workload.is_called(name));
    for workload in workloads::all(&bench.options) {
        if is_asked_for(&workload) {
            let results = bench.measure(&workload, &servers);
            report.add(&workload, results);
        }
    }
    report.finish(started.elapsed());
    print!("{}", report.markdown());
    report.write(&bench.folder)?;
    bench.progress(&format!("report in {}", bench.folder.display()));
    Ok(())
}

impl Bench {
    /// The servers that were asked for and can be started.
    fn servers(&self, report: &mut Report) -> Vec<Server> {
        let names = &self.options.servers;
        let is_asked_for =
            |server: &Server| names.is_empty() || names.iter().any(|name| name == server.name());
        let mut servers = Vec::new();
        for server in Server::ALL.into_iter().filter(is_asked_for) {
            match server.look(&self.folder) {
                Ok(()) => servers.push(server),
                Err(line) => {
                    let line = format!("{} is left out: {line}", server.name());
                    self.progress(&line);
                    report.note(line);
                }
            }
        }
        servers
    }

    /// Measures all servers in turns, so that what disturbs the machine meets all of them.
    fn measure(&self, workload: &Workload, servers: &[Server]) -> Vec<(Server, Vec<Figures>)> {
        let servers = servers.iter().filter(|server| (workload.servers)(**server));
        let mut results: Vec<(Server, Vec<Figures>)> =
            servers.map(|server| (*server, Vec::new())).collect();
        let rounds = self.options.rounds.min(workload.rounds_max);
        for round in 0..rounds {
            let mut floor = None;
            for (server, figures) in &mut results {
                if server.is_peer() && round >= self.options.peer_rounds {
                    continue;
                }
                let measured = (workload.run)(self, *server);
                let mut measured = measured.unwrap_or_else(|failure| Figures {
                    wrong: vec![failure.to_string()],
                    ..Figures::default()
                });
                let cost = measured.get("cpu_us_per_event");
                if *server == Server::Floor {
                    floor = cost;
                }
                if let (Some(cost), Some(floor)) = (cost, floor) {
                    measured.set("ratio", cost / floor);
                }
                let line = report::line(workload, &measured);
                let name = server.name();
                self.progress(&format!("{} {name}: {line}", workload.name));
                figures.push(measured);
            }
        }
        results
    }
}

/// `target/bench`, wherever cargo has put `target`.
fn folder() -> PathBuf {
    let target = Path::new(servers::PROGRAM).ancestors().nth(2);
    target.unwrap_or(Path::new("target")).join("bench")
}
