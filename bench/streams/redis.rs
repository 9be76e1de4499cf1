//! Redis: a server for one run, and the commands that a measurement needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Failure;
use super::child::{self, Process};

/// A running `redis-server`.
pub struct Redis {
    process: Process,
    address: SocketAddr,
}

impl Redis {
    /// Starts one that keeps nothing.
    ///
    /// # Errors
    /// Where it is not installed, or does not begin to listen.
    pub fn start(core: usize, folder: &Path) -> Result<Redis, Failure> {
        let address = child::free_address()?;
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &address.port().to_string()]);
        command.arg("--dir").arg(folder);
        let mut process = Process::start("redis", core, &command, folder)?;
        process.wait_for(address)?;
        Ok(Redis { process, address })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until somebody is subscribed to the score updates and to the tweets.
    ///
    /// # Errors
    /// Where nobody is within ten seconds.
    pub fn wait_for_subscriber(&self) -> Result<(), Failure> {
        let started = Instant::now();
        let mut connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(Duration::from_secs(2)))?;
        while started.elapsed() < Duration::from_secs(10) {
            let mut ask = |command: &str| -> Result<String, Failure> {
                connection.write_all(command.as_bytes())?;
                // The answers are short, and the next is not asked for before.
                let mut buffer = [0; 512];
                let len = connection.read(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
            };
            let channels = ask("PUBSUB NUMSUB stream.score_updates\r\n")?;
            let patterns = ask("PUBSUB NUMPAT\r\n")?;
            if channels.contains(":1") && !patterns.contains(":0") {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("did not subscribe to Redis within ten seconds".into())
    }
}
