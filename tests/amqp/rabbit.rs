//! RabbitMQ as a process on loopback, with its own directory; it stops when dropped. Starting one takes some eight
//! seconds on two cores, so tests that do not disturb it share one.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::redis::free_port;

/// How long a broker may take to start, or to do what its command-line tool says, on a machine that does much else.
const DEADLINE: Duration = Duration::from_secs(90);

/// Where Debian has what `rabbitmq-server` in the PATH starts as another user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// A running broker, killed when it is dropped.
pub struct Rabbit {
    port: u16,
    directory: PathBuf,
    /// The ports of Erlang's own.
    epmd_port: u16,
    distribution_port: u16,
    epmd: Option<Child>,
    broker: Option<Child>,
}

/// The broker that tests share, while any of them holds it; none, and a loud word about it, where there is none.
#[track_caller]
pub fn shared_or_skip() -> Option<Arc<Rabbit>> {
    static SHARED: Mutex<Weak<Rabbit>> = Mutex::new(Weak::new());
    if !is_installed_or_skip() {
        return None;
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(rabbit) = shared.upgrade() {
        return Some(rabbit);
    }
    let rabbit = Arc::new(Rabbit::start());
    *shared = Arc::downgrade(&rabbit);
    Some(rabbit)
}

/// Whether there is a RabbitMQ. The test that asks has to return where there is none. With `REQUIRE_RABBITMQ=1`
/// in the environment it fails instead.
#[track_caller]
pub fn is_installed_or_skip() -> bool {
    if Path::new(SCRIPTS).join("rabbitmq-server").exists() {
        return true;
    }
    let required = std::env::var("REQUIRE_RABBITMQ").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "rabbitmq-server is not installed, and REQUIRE_RABBITMQ=1"
    );
    skip("rabbitmq-server is not installed");
    false
}

/// Says that the test that calls it is skipped, past the test harness, which would hold it back.
#[track_caller]
pub fn skip(why: &str) {
    let caller = std::panic::Location::caller().to_string();
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main");
    let line = format!("SKIPPED {}: {why}\n", name.unwrap_or(&caller));
    let _unheard = std::io::stderr().lock().write_all(line.as_bytes());
}

impl Rabbit {
    /// Starts one on a port of 127.0.0.1, with nothing in it but the user `guest`.
    #[track_caller]
    pub fn start() -> Rabbit {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("emojitrack-rabbit-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a temporary directory");
        let mut rabbit = Rabbit {
            port: free_port(),
            directory,
            epmd_port: free_port(),
            distribution_port: free_port(),
            epmd: None,
            broker: None,
        };
        rabbit.restart();
        rabbit
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts it where it was, with what it had, and waits until it takes connections.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.broker.is_none(), "it is running");
        self.write(
            "rabbit.conf",
            &format!("listeners.tcp.1 = 127.0.0.1:{}\n", self.port),
        );
        self.write("plugins", "[].\n");
        if self.epmd.is_none() {
            // One that the broker started by itself would stay behind.
            let mut command = Command::new("epmd");
            command.args([
                "-address",
                "127.0.0.1",
                "-port",
                &self.epmd_port.to_string(),
            ]);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            self.epmd = Some(command.spawn().expect("to start epmd"));
        }
        let log = fs::File::create(self.directory.join("output")).expect("a file");
        let mut command = self.command("rabbitmq-server");
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        // The script and the machine that it starts.
        command.process_group(0);
        self.broker = Some(command.spawn().expect("to start rabbitmq-server"));
        self.wait_until("it takes connections", |rabbit| {
            TcpStream::connect(rabbit.address()).is_ok()
        });
    }

    /// Ends it at once, without a word to its clients.
    pub fn kill(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            let group = Pid::from_child(&broker);
            let _already_gone = kill_process_group(group, Signal::KILL);
            let _status = broker.wait();
        }
    }

    /// Asks it to end in good order: it says farewell to its clients. [`Rabbit::kill`] ends what is left.
    #[track_caller]
    pub fn ask_to_end(&self) {
        let text = fs::read_to_string(self.directory.join("pid")).expect("the broker's number");
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a number"), Signal::TERM).expect("to ask it");
    }

    /// Asks it to end, and waits until it has.
    #[track_caller]
    pub fn end(&mut self) {
        self.ask_to_end();
        let started = Instant::now();
        while let Some(broker) = &mut self.broker
            && broker.try_wait().is_ok_and(|status| status.is_none())
        {
            assert!(started.elapsed() < DEADLINE, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Has the broker do something by its own tool, which takes some seconds.
    #[track_caller]
    pub fn control(&self, arguments: &[&str]) -> String {
        let mut command = self.command("rabbitmqctl");
        let Output {
            status,
            stdout,
            stderr,
        } = command
            .args(arguments)
            .output()
            .expect("to run rabbitmqctl");
        let (out, errors) = (
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
        assert!(status.success(), "{arguments:?}: {out} {errors}");
        out.into_owned()
    }

    /// One of its scripts, in an environment in which it meets nobody else's broker.
    fn command(&self, script: &str) -> Command {
        let path = |name: &str| self.directory.join(name);
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command.env_clear();
        // Where Erlang leaves its dump when it fails.
        command.current_dir(&self.directory);
        for name in ["PATH", "LANG"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
        command
            // The cookie by which the broker and its tool know each other is made there.
            .env("HOME", &self.directory)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", self.epmd_port.to_string())
            .env("RABBITMQ_NODENAME", format!("test{}@localhost", self.port))
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", loopback)
            .env("RABBITMQ_CONF_ENV_FILE", path("none"))
            .env("RABBITMQ_CONFIG_FILE", path("rabbit.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_PID_FILE", path("pid"));
        command
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.join(name), text).expect("a file");
    }

    #[track_caller]
    fn wait_until(&mut self, what: &str, condition: impl Fn(&Rabbit) -> bool) {
        let started = Instant::now();
        while !condition(self) {
            let ended = self
                .broker
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            let is_late = started.elapsed() > DEADLINE;
            if is_late || ended.is_some() {
                let log = fs::read_to_string(self.directory.join("output")).unwrap_or_default();
                panic!("waited in vain until {what} (it has ended: {ended:?}): {log}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut epmd) = self.epmd.take() {
            let _already_gone = epmd.kill();
            let _status = epmd.wait();
        }
        // What is left of it does no harm, and a panic here would hide the test's own.
        let _left_behind = fs::remove_dir_all(&self.directory);
    }
}
