//! Redis as a process: a real `redis-server` that stores nothing and stops when dropped.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::resp::{RedisClient, Value};
use super::server::{signal, wait_for_exit};
use super::{DEADLINE, TemporaryDirectory, unique_number, wait_until};

/// Where the server's channels begin.
pub const SCORES: &str = "stream.score_updates";
pub const TWEETS: &str = "stream.tweet_updates.";

/// A running `redis-server`, killed when it is dropped.
pub struct Redis {
    address: Address,
    arguments: Vec<String>,
    child: Option<Child>,
    directory: TemporaryDirectory,
    /// What clients have to say first.
    login: Option<String>,
}

#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A Redis on a port of its own; none, and a loud word about it, where there is no `redis-server`.
#[track_caller]
pub fn redis_or_skip() -> Option<Redis> {
    is_installed_or_skip().then(Redis::start)
}

/// Whether there is a `redis-server`. The test that asks has to return where there is none.
#[track_caller]
pub fn is_installed_or_skip() -> bool {
    let version = Command::new("redis-server").arg("--version").output();
    if version.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let required = std::env::var("REQUIRE_REDIS").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "redis-server is not installed, and REQUIRE_REDIS=1"
    );
    let caller = std::panic::Location::caller().to_string();
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main");
    let name = name.unwrap_or(&caller);
    // Unlike `eprintln!`, this is not held back by the test harness.
    let line = format!("SKIPPED {name}: redis-server is not installed\n");
    let _unheard = std::io::stderr().lock().write_all(line.as_bytes());
    false
}

impl Redis {
    /// Starts it on a port of 127.0.0.1.
    pub fn start() -> Redis {
        Redis::start_with(Redis::at(Ipv4Addr::LOCALHOST.into()))
    }

    /// Starts it on a port of `::1`.
    pub fn start_ipv6() -> Redis {
        Redis::start_with(Redis::at(Ipv6Addr::LOCALHOST.into()))
    }

    /// Starts it with arguments that make it ask its clients for a login, and the command that is one.
    pub fn start_protected(arguments: &[&str], login: &str) -> Redis {
        let mut redis = Redis::absent();
        redis.arguments = arguments.iter().map(ToString::to_string).collect();
        redis.login = Some(login.to_owned());
        Redis::start_with(redis)
    }

    /// Starts it with arguments.
    pub fn start_with_arguments(arguments: &[&str]) -> Redis {
        let mut redis = Redis::absent();
        redis.arguments = arguments.iter().map(ToString::to_string).collect();
        Redis::start_with(redis)
    }

    /// Starts a replica of this one, and waits until it passes on what is published here.
    #[track_caller]
    pub fn start_replica(&self) -> Redis {
        let port = self.tcp_address().port().to_string();
        let replica = Redis::start_with_arguments(&["--replicaof", "127.0.0.1", &port]);
        let mut client = replica.client();
        wait_until("the replica has its primary", || {
            let info = client.command("INFO replication").text();
            info.contains("master_link_status:up")
        });
        replica
    }

    /// Starts it on a Unix domain socket alone.
    pub fn start_unix() -> Redis {
        let directory = TemporaryDirectory::create();
        let address = Address::Unix(directory.path().join("redis.sock"));
        Redis::start_with(Redis::new(address, directory))
    }

    /// One that is not yet running.
    pub fn absent() -> Redis {
        Redis::at(Ipv4Addr::LOCALHOST.into())
    }

    fn at(ip: IpAddr) -> Redis {
        let address = Address::Tcp(SocketAddr::from((ip, free_port())));
        Redis::new(address, TemporaryDirectory::create())
    }

    fn new(address: Address, directory: TemporaryDirectory) -> Redis {
        Redis {
            address,
            arguments: Vec::new(),
            child: None,
            directory,
            login: None,
        }
    }

    #[track_caller]
    fn start_with(mut redis: Redis) -> Redis {
        redis.restart();
        redis
    }

    /// Starts it where it belongs, and waits until it answers.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let mut command = Command::new("redis-server");
        command.args(["--save", "", "--appendonly", "no", "--dir"]);
        command.arg(self.directory.path());
        match &self.address {
            Address::Tcp(address) => {
                let (ip, port) = (address.ip().to_string(), address.port().to_string());
                command.args(["--bind", &ip, "--port", &port]);
            }
            Address::Unix(path) => {
                command.args(["--port", "0", "--unixsocket"]).arg(path);
            }
        }
        command.args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.spawn().expect("to start redis-server"));
        self.wait_until_answering();
    }

    #[track_caller]
    fn wait_until_answering(&mut self) {
        let started = Instant::now();
        loop {
            let exited = self.child.as_mut().and_then(|child| child.try_wait().ok());
            if let Some(Some(status)) = exited {
                panic!("redis-server at {:?} ended: {status}", self.address);
            }
            let answer = self
                .try_client()
                .and_then(|mut client| client.try_command(&[b"PING"]));
            match answer {
                // Whoever is refused for want of a password was answered, too.
                Ok(Value::Status(_) | Value::Error(_)) => return,
                _ => thread::sleep(Duration::from_millis(5)),
            }
            assert!(
                started.elapsed() < DEADLINE,
                "redis-server does not answer: {answer:?}"
            );
        }
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _gone_already = child.kill();
            let _gone_already = child.wait();
        }
    }

    /// Has it end by itself, which it does between two turns of its loop: what it has said to one client it has
    /// said to the others.
    pub fn end(&mut self) {
        signal(self.process_id(), "TERM");
        if let Some(mut child) = self.child.take() {
            wait_for_exit(&mut child);
        }
    }

    /// Its process.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("a running redis").id()
    }

    /// The URL by which the server finds it.
    pub fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("redis://{address}"),
            Address::Unix(path) => format!("redis+unix://{}", path.display()),
        }
    }

    /// The address and port of one that has them.
    pub fn tcp_address(&self) -> SocketAddr {
        match self.address {
            Address::Tcp(address) => address,
            Address::Unix(_) => panic!("it listens on a path"),
        }
    }

    /// The same with a user and a password; either may be empty.
    pub fn url_with_login(&self, user: &str, password: &str) -> String {
        let scheme = "redis://";
        self.url()
            .replacen(scheme, &format!("{scheme}{user}:{password}@"), 1)
    }

    /// A client, logged in.
    #[track_caller]
    pub fn client(&self) -> RedisClient {
        let mut client = self.try_client().expect("a connection to redis");
        if let Some(login) = &self.login {
            client.command(login);
        }
        client
    }

    fn try_client(&self) -> std::io::Result<RedisClient> {
        match &self.address {
            Address::Tcp(address) => RedisClient::connect_tcp(*address),
            Address::Unix(path) => RedisClient::connect_unix(path),
        }
    }

    /// Waits until so many clients are subscribed to the score updates and to the tweets.
    #[track_caller]
    pub fn wait_until_subscribed(&self, count: i64) {
        let mut client = self.client();
        wait_until("redis counts the subscriptions", || {
            let scores = client.command(&format!("PUBSUB NUMSUB {SCORES}"));
            let patterns = client.command("PUBSUB NUMPAT");
            let is_counted = |value: &Value| *value == Value::Integer(count.min(1));
            matches!(&scores, Value::Array(pair) if pair.get(1) == Some(&Value::Integer(count)))
                && is_counted(&patterns)
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on. It lies below the range from which the kernel takes the ports of
/// outgoing connections, so that it is still free when a process is started, or started again, on it.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    loop {
        // Tests of another process at the same time begin elsewhere.
        let place = std::process::id()
            .wrapping_mul(97)
            .wrapping_add(unique_number());
        let port = u16::try_from(FIRST + place % COUNT).expect("a port");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
