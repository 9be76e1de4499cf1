//! The server as a process: started with the options of the test, and killed when dropped. Its log is kept, and
//! printed when the test fails.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, Connection, Head, Reply};
use super::redis::Redis;
use super::subscriber::Subscriber;
use super::{DEADLINE, wait_until};

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_emojitrack-streamer");

/// What the server says once messages arrive.
pub const SUBSCRIBED: &str = "redis: subscribed at";

/// How the server is to be started.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    /// What the shell does before it becomes the server.
    before: Option<String>,
    awaits_redis: bool,
    /// How many lines of its log are read, if not all.
    log_lines_max: Option<usize>,
    /// A listening socket that is passed on to it.
    inherited: Option<Arc<OwnedFd>>,
}

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

impl ServerOptions {
    /// A free port of loopback, and nothing else.
    pub fn new() -> ServerOptions {
        ServerOptions {
            arguments: Vec::new(),
            variables: Vec::new(),
            before: None,
            awaits_redis: false,
            log_lines_max: None,
            inherited: None,
        }
        .argument("--port=0")
        .argument("--listen=127.0.0.1")
    }

    /// The embedded feeder: for tests that are not about messages.
    pub fn demo() -> ServerOptions {
        ServerOptions::new().argument("--demo")
    }

    /// Told of a Redis that is not there.
    pub fn without_redis() -> ServerOptions {
        ServerOptions::redis_url("redis://127.0.0.1:9").without_waiting()
    }

    /// Fed by this Redis, and started only when it is subscribed there.
    pub fn redis(redis: &Redis) -> ServerOptions {
        ServerOptions::redis_url(&redis.url())
    }

    /// With these URLs of Redis servers.
    pub fn redis_url(url: &str) -> ServerOptions {
        let mut options = ServerOptions::new().variable("REDIS_URL", url);
        options.awaits_redis = true;
        options
    }

    /// On all addresses of the machine, which is the default.
    pub fn everywhere(mut self) -> ServerOptions {
        self.arguments
            .retain(|argument| !argument.starts_with("--listen"));
        self
    }

    /// Not waiting until it is subscribed, because it may never be.
    pub fn without_waiting(mut self) -> ServerOptions {
        self.awaits_redis = false;
        self
    }

    pub fn argument(mut self, argument: &str) -> ServerOptions {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> ServerOptions {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A shell command to be run first in the server's process, such as one that sets limits.
    pub fn after(mut self, shell_command: &str) -> ServerOptions {
        self.before = Some(shell_command.to_owned());
        self
    }

    /// With this listening socket, as a service manager passes it on.
    pub fn inheriting(mut self, listener: &TcpListener) -> ServerOptions {
        let listener = listener.try_clone().expect("a second descriptor");
        self.inherited = Some(Arc::new(listener.into()));
        // It is the standard input at first, because only that can be passed on without `unsafe`.
        self.after("exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$")
    }

    /// With a log that the test stops reading after so many lines.
    pub fn reading_no_more_than(mut self, log_lines_max: usize) -> ServerOptions {
        self.log_lines_max = Some(log_lines_max);
        self
    }

    /// The command, with none of this process's environment.
    pub fn command(&self) -> Command {
        let mut command = match &self.before {
            Some(before) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\""), PROGRAM]);
                shell
            }
            None => Command::new(PROGRAM),
        };
        command.args(&self.arguments).env_clear();
        command.env("RUST_BACKTRACE", "1");
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        let inherited = self.inherited.as_ref();
        let inherited = inherited.map(|it| it.try_clone().expect("a second descriptor"));
        command.stdin(inherited.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts the server, and waits until it listens and, where it was told of one, has its Redis.
    #[track_caller]
    pub fn start(&self) -> Server {
        let mut child = self.command().spawn().expect("to start the server");
        let log = Log::default();
        let stderr = child.stderr.take().expect("standard error");
        let lines = Arc::clone(&log);
        let lines_max = self.log_lines_max.unwrap_or(usize::MAX);
        thread::spawn(move || {
            let mut stderr = BufReader::new(stderr).lines();
            for line in stderr.by_ref().take(lines_max).map_while(Result::ok) {
                lock(&lines).push(line);
            }
            // Closing the pipe would be another thing than not to read it.
            if lines_max < usize::MAX {
                thread::sleep(DEADLINE);
            }
        });
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Server {
            child,
            address: unknown,
            log,
        };
        let line = server.wait_for_log("listening on http://");
        let address = line.rsplit("http://").next().unwrap_or_default();
        server.address = address.parse().expect("an address to connect to");
        if self.awaits_redis {
            server.wait_for_log(SUBSCRIBED);
        }
        server
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory that it has.
    #[track_caller]
    pub fn memory_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most bytes of memory that it has had so far.
    #[track_caller]
    pub fn memory_bytes_max(&self) -> u64 {
        self.memory("VmHWM:")
    }

    #[track_caller]
    fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.process_id());
        let text = std::fs::read_to_string(path).expect("the state of the process");
        let line = text.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes = kilobytes.and_then(|text| text.parse::<u64>().ok());
        kilobytes.expect("a size") * 1024
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// A subscriber over HTTP/1.1.
    #[track_caller]
    pub fn subscribe(&self, path: &str) -> Subscriber {
        Subscriber::open(self.connect(), path)
    }

    /// A subscriber over HTTP/1.0.
    #[track_caller]
    pub fn subscribe_http_10(&self, path: &str) -> Subscriber {
        Subscriber::open_http_10(self.connect(), path)
    }

    /// The reply to one request, on a connection of its own.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str) -> Reply {
        let mut connection = self.connect();
        connection.send(http::request(method, path));
        connection.read_reply()
    }

    /// The head of the reply to one request, of which the rest may never end.
    #[track_caller]
    pub fn ask_for_head(&self, path: &str) -> Head {
        let mut connection = self.connect();
        connection.send(http::request("GET", path));
        connection.read_head()
    }

    /// A status document that was made after this call began: one that was made before may be shared for a moment.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        let ask = || {
            let reply = self.ask("GET", "/admin/status.json");
            assert_eq!(reply.head.status(), 200, "{}", reply.text());
            reply.json()
        };
        let known = ask();
        let mut next = known.clone();
        wait_until("there is a new status", || {
            next = ask();
            next["stats"]["uptime_ms"] != known["stats"]["uptime_ms"]
        });
        next
    }

    /// Waits until `/stats` lists these channels with their subscribers.
    #[track_caller]
    pub fn wait_for_stats(&self, expected: &serde_json::Value) {
        wait_until(&format!("the channels are {expected}"), || {
            self.ask("GET", "/stats").json() == *expected
        });
    }

    /// The connections that the status document lists.
    #[track_caller]
    pub fn connections(&self) -> Vec<serde_json::Value> {
        let status = self.status();
        status["connections"].as_array().expect("a list").clone()
    }

    #[track_caller]
    pub fn wait_for_connections(&self, count: usize) {
        wait_until(&format!("there are {count} connections"), || {
            self.connections().len() == count
        });
    }

    /// What it has said so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits for a line that contains the text, and returns it.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_count(text, 1)
    }

    /// Waits for so many of such lines, and returns the last one.
    #[track_caller]
    pub fn wait_for_log_count(&self, text: &str, count: usize) -> String {
        let mut found = None;
        wait_until(&format!("the log says {text:?} {count} times"), || {
            let log = lock(&self.log);
            let line = log.iter().filter(|line| line.contains(text)).nth(count - 1);
            found = line.cloned();
            found.is_some()
        });
        found.expect("a line")
    }

    /// Checks that whatever quotes this word is one line of its own, without control characters.
    #[track_caller]
    pub fn expect_quoted_on_one_line(&self, word: &str, forged: &str) {
        for line in self.log() {
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(!line.contains(forged) || line.contains(word), "{line:?}");
        }
    }

    /// How many lines so far contain the text.
    pub fn count_log(&self, text: &str) -> usize {
        let log = lock(&self.log);
        log.iter().filter(|line| line.contains(text)).count()
    }

    /// Sends a signal by its name, such as `TERM`.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(self.process_id(), name);
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for_exit(&mut self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
        if thread::panicking() {
            eprintln!("the server at {} ({ended:?}) said:", self.address);
            for line in self.log() {
                eprintln!("  {line}");
            }
        } else if let Ok(Some(status)) = ended {
            assert!(status.success(), "the server ended by itself: {status}");
        }
    }
}

/// Sends a signal to a process that this test has started.
#[track_caller]
pub fn signal(process_id: u32, name: &str) {
    // The shell's own `kill` is there where the program of that name is not.
    let kill = format!("kill -{name} {process_id}");
    let status = Command::new("/bin/sh").args(["-c", &kill]).status();
    assert!(status.is_ok_and(|status| status.success()), "{kill} failed");
}

/// Waits for the end of a process, and kills it when that does not come.
#[track_caller]
pub fn wait_for_exit(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if started.elapsed() > DEADLINE {
            let _gone_already = child.kill();
            let _gone_already = child.wait();
            panic!("the server did not end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A thread that failed while it held the log has left it whole.
fn lock(log: &Mutex<Vec<String>>) -> std::sync::MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
