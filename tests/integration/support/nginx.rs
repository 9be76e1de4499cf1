//! nginx as a process in front of the server, configured by the test.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::redis::free_port;
use super::{TemporaryDirectory, wait_until};

/// A running nginx, killed when it is dropped.
pub struct Nginx {
    address: SocketAddr,
    child: Child,
    directory: TemporaryDirectory,
}

/// Whether there is an `nginx`. The test that asks has to return where there is none.
#[track_caller]
pub fn is_installed_or_skip() -> bool {
    let version = command().arg("-v").output();
    if version.is_ok_and(|output| output.status.success()) {
        return true;
    }
    let required = std::env::var("REQUIRE_NGINX").is_ok_and(|value| value == "1");
    assert!(!required, "nginx is not installed, and REQUIRE_NGINX=1");
    let caller = std::panic::Location::caller().to_string();
    let thread = thread::current();
    let name = thread.name().filter(|name| *name != "main");
    let name = name.unwrap_or(&caller);
    // Unlike `eprintln!`, this is not held back by the test harness.
    let line = format!("SKIPPED {name}: nginx is not installed\n");
    let _unheard = std::io::stderr().lock().write_all(line.as_bytes());
    false
}

/// Debian installs it where the PATH of ordinary users does not lead.
fn command() -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("nginx");
    command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
    command
}

impl Nginx {
    /// Starts it in front of a server, with these directives in the place that passes requests on.
    #[track_caller]
    pub fn start(server: SocketAddr, directives: &str) -> Nginx {
        Nginx::start_with_locations(server, &everything(directives))
    }

    /// The same with these places, which pass on to `http://streamer` what they do.
    #[track_caller]
    pub fn start_with_locations(server: SocketAddr, locations: &str) -> Nginx {
        let upstream = format!("server {server}; keepalive 4;");
        Nginx::start_before(&upstream, locations)
    }

    /// The same in front of what this says of `http://streamer`.
    #[track_caller]
    pub fn start_before(upstream: &str, locations: &str) -> Nginx {
        let directory = TemporaryDirectory::create();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let config = directory.path().join("nginx.conf");
        std::fs::write(&config, configuration(address, upstream, locations)).expect("to write");
        let mut nginx = command();
        nginx.arg("-p").arg(directory.path()).arg("-c").arg(&config);
        // Before the configuration is read it would complain in a log that is not ours.
        nginx.args(["-e", "stderr"]);
        nginx.stdin(Stdio::null()).stdout(Stdio::null());
        let mut nginx = Nginx {
            address,
            child: nginx.spawn().expect("to start nginx"),
            directory,
        };
        wait_until("nginx listens", || {
            let ended = nginx.child.try_wait().expect("a child");
            assert_eq!(ended, None, "nginx in {:?} ended", nginx.directory.path());
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

/// A place for all requests, which passes them on with these directives.
pub fn everything(directives: &str) -> String {
    format!("location / {{ proxy_pass http://streamer; {directives} }}")
}

/// All that any user needs to run it beside any other. It is one process, so that none stays behind.
fn configuration(address: SocketAddr, upstream: &str, locations: &str) -> String {
    format!(
        "daemon off;
         master_process off;
         pid nginx.pid;
         error_log stderr error;
         worker_rlimit_nofile 4096;
         events {{ worker_connections 2048; }}
         http {{
             access_log off;
             client_body_temp_path body;
             proxy_temp_path proxy;
             fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi;
             scgi_temp_path scgi;
             upstream streamer {{
                 {upstream}
             }}
             server {{
                 listen {address};
                 {locations}
             }}
         }}
        "
    )
}
