//! Child processes: each runs on one core, and is killed when dropped or when this process exits.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Failure, machine};

/// The first argument that makes this program a launcher.
pub const LAUNCH: &str = "--launch";

/// A running process.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program on one core. What it says goes to a file that its name gives.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn start(
        name: &str,
        core: usize,
        command: &Command,
        folder: &Path,
    ) -> Result<Process, Failure> {
        let mut launcher = Command::new(std::env::current_exe()?);
        launcher.arg(LAUNCH).arg(core.to_string());
        launcher.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            launcher.env(name, value.unwrap_or_default());
        }
        if let Some(folder) = command.get_current_dir() {
            launcher.current_dir(folder);
        }
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let file = File::create(&log)?;
        launcher.stdin(Stdio::null());
        launcher.stdout(file.try_clone()?).stderr(file);
        let child = launcher
            .spawn()
            .map_err(|error| format!("{name} cannot be started: {error}"))?;
        Ok(Process { child, log })
    }

    /// Its number, which is the program's own: the launcher becomes it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and then its last words.
    pub fn last_words(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        Some(format!("ended with {status}: {}", lines.join(" | ")))
    }

    /// Waits until somebody listens at this address.
    ///
    /// # Errors
    /// Where that takes longer than ten seconds, or the process ends.
    pub fn wait_for(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(words) = self.last_words() {
                return Err(words.into());
            }
            if started.elapsed() > Duration::from_secs(10) {
                return Err("did not listen within ten seconds".into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A port of loopback that nobody listens at.
///
/// # Errors
/// Where there is none.
pub fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}

/// Becomes the program that the arguments name, on the core that they name, to be killed with its parent.
/// It returns only where that fails.
pub fn launch(arguments: &[String]) -> Failure {
    use std::os::unix::process::CommandExt;
    let [core, program, arguments @ ..] = arguments else {
        return "launching needs a core and a program".into();
    };
    let Ok(core) = core.parse() else {
        return format!("{core} is no core").into();
    };
    if let Err(error) = machine::pin(core) {
        return format!("core {core} cannot be used: {error}").into();
    }
    let kill = Some(rustix::process::Signal::KILL);
    if let Err(error) = rustix::process::set_parent_process_death_signal(kill) {
        return error.into();
    }
    Command::new(program).args(arguments).exec().into()
}
