//! The servers under test: how to start, feed and query each of them. It owns their names and commands; the workloads
//! own what is measured.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::check::Expectation;
use super::child::{self, Process};
use super::plan::{CHANNEL, Plan, SEED, Stream};
use super::publisher::Way;
use super::{Bench, Failure, floor, peers};

/// Where a program is that can be started by its name.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}

/// The program whose figures this is about.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_emojitrack-streamer");

/// A server under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The bare loop that everything is compared with.
    Floor,
    /// This server, fed by Redis.
    Redis,
    /// This server, feeding itself.
    Demo,
    /// nginx with nchan.
    Nchan,
    /// Node.js with better-sse.
    BetterSse,
    /// Node.js with sse-channel.
    SseChannel,
    /// Rust with axum and tokio.
    Axum,
    /// Python with sse-starlette and uvicorn.
    Starlette,
}

/// What a server is started for.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// The stream.
    pub stream: Stream,
    /// Messages a second, for servers that make them by themselves.
    pub per_second: u32,
    /// Clients, for those that wait until all are there.
    pub clients: usize,
}

/// A server that answers.
pub struct Running {
    /// The process.
    pub process: Process,
    /// Where it listens.
    pub address: SocketAddr,
    /// How it is to be fed.
    pub way: Way,
}

impl Server {
    /// All of them, in the order of the tables.
    pub const ALL: [Server; 8] = [
        Server::Floor,
        Server::Redis,
        Server::Demo,
        Server::Nchan,
        Server::BetterSse,
        Server::SseChannel,
        Server::Axum,
        Server::Starlette,
    ];

    /// The short name, as in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Server::Floor => "floor",
            Server::Redis => "redis",
            Server::Demo => "demo",
            Server::Nchan => "nchan",
            Server::BetterSse => "better-sse",
            Server::SseChannel => "sse-channel",
            Server::Axum => "axum",
            Server::Starlette => "sse-starlette",
        }
    }

    /// What it is.
    pub fn about(self) -> &'static str {
        match self {
            Server::Floor => "a bare loop: one system call for each client and event, nothing else",
            Server::Redis => "this server, fed by Redis",
            Server::Demo => "this server, feeding itself (`--demo`)",
            Server::Nchan => "nginx with nchan, fed by POST; ticks are rolled up by the publisher",
            Server::BetterSse => "Node.js with better-sse, fed by Redis",
            Server::SseChannel => "Node.js with sse-channel, fed by Redis",
            Server::Axum => "Rust with axum and tokio on one thread, fed by Redis",
            Server::Starlette => "Python with sse-starlette on uvicorn and uvloop, fed by Redis",
        }
    }

    /// Whether it is somebody else's.
    pub fn is_peer(self) -> bool {
        !matches!(self, Server::Floor | Server::Redis | Server::Demo)
    }

    /// Whether it is the program whose figures this is about.
    pub fn is_ours(self) -> bool {
        matches!(self, Server::Redis | Server::Demo)
    }

    /// Whether it can be started here, or else what is missing.
    ///
    /// # Errors
    /// A line that says how to install it.
    pub fn look(self, folder: &Path) -> Result<(), String> {
        let has_redis = || which("redis-server").is_some();
        match self {
            Server::Floor | Server::Demo => Ok(()),
            Server::Redis if has_redis() => Ok(()),
            Server::Redis => {
                Err("redis-server is missing: apt-get install redis-server".to_owned())
            }
            _ => peers::look(self, folder),
        }
    }

    /// The path of a client's stream.
    pub fn path(self, stream: Stream, plan: &Plan, client: usize) -> String {
        match stream {
            Stream::Eps => "/subscribe/eps".to_owned(),
            Stream::Raw => "/subscribe/raw".to_owned(),
            Stream::Channel => format!("/subscribe/channels/{CHANNEL}"),
            Stream::Details => format!("/subscribe/details/{}", plan.id(Plan::watched(client))),
        }
    }

    /// The messages that it is to deliver, and how they will be checked.
    pub fn plan(self, task: Task, span: Duration) -> (Arc<Plan>, Expectation) {
        let Task {
            stream, per_second, ..
        } = task;
        match self {
            Server::Demo => {
                let plan = Plan::of_demo(stream, per_second, span);
                (Arc::new(plan), Expectation::Run)
            }
            _ => {
                let plan = Plan::new(stream, per_second, span);
                (Arc::new(plan), Expectation::FromTheFirst)
            }
        }
    }

    /// The command that starts it at this address.
    pub fn command(
        self,
        bench: &Bench,
        task: Task,
        address: SocketAddr,
    ) -> Result<Command, Failure> {
        let port = address.port().to_string();
        let ours = || {
            let mut command = Command::new(PROGRAM);
            command.args(["--listen", "127.0.0.1", "--port", &port]);
            command.args(["--keepalive-sec", "50", "--channels", CHANNEL]);
            command
        };
        Ok(match self {
            Server::Floor => {
                let options = floor::Options {
                    address,
                    stream: task.stream,
                    per_second: task.per_second,
                    clients: task.clients,
                };
                let mut command = Command::new(std::env::current_exe()?);
                command.args(options.arguments());
                command
            }
            Server::Redis => {
                let mut command = ours();
                let url = format!("redis://{}", bench.redis()?.address());
                command.args(["--redis-url", &url]);
                command
            }
            Server::Demo => {
                let mut command = ours();
                let rate = task.per_second.to_string();
                command.args(["--demo", "--demo-rate", &rate]);
                command.args(["--demo-seed", &SEED.to_string()]);
                command
            }
            _ => peers::command(self, bench, address)?,
        })
    }

    /// Starts it, and waits until it can serve.
    ///
    /// # Errors
    /// Where it cannot be started, or is not ready in time.
    pub fn start(self, bench: &Bench, task: Task) -> Result<Running, Failure> {
        let address = child::free_address()?;
        let command = self.command(bench, task, address)?;
        let mut process = Process::start(self.name(), bench.server_core, &command, &bench.folder)?;
        process.wait_for(address)?;
        let way = match self {
            Server::Floor | Server::Demo => Way::None,
            Server::Nchan => Way::Posts(address),
            _ => {
                let redis = bench.redis()?;
                redis.wait_for_subscriber()?;
                Way::Redis(redis.address())
            }
        };
        Ok(Running {
            process,
            address,
            way,
        })
    }
}
