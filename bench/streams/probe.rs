//! The prober: sends other requests to a server under load. It owns these requests and the longest time of each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::figures::Figures;

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest that is waited for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked for, and under which name the longest wait for its answer is reported.
const REQUESTS: [(&str, &str); 2] = [
    ("/healthz", "accept_ms"),
    ("/admin/status.json", "status_ms"),
];

/// A prober at work.
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<[Duration; REQUESTS.len()]>,
}

impl Prober {
    /// Begins to ask.
    pub fn start(address: SocketAddr) -> Prober {
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut longest = [Duration::ZERO; REQUESTS.len()];
            while !until.load(Ordering::Relaxed) {
                for ((path, _), longest) in REQUESTS.iter().zip(&mut longest) {
                    // No answer counts as the longest possible time.
                    let took = ask(address, path).unwrap_or(PATIENCE);
                    *longest = took.max(*longest);
                    thread::sleep(PAUSE);
                }
            }
            longest
        });
        Prober { stop, thread }
    }

    /// Stops, and reports.
    pub fn stop(self, figures: &mut Figures) {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(longest) = self.thread.join() else {
            return;
        };
        for ((_, name), longest) in REQUESTS.iter().zip(longest) {
            figures.set(name, longest.as_secs_f64() * 1e3);
        }
    }
}

/// How long it takes from connecting to the first bytes of the answer.
///
/// # Errors
/// Where there is no answer, or it does not come to its end.
pub fn ask(address: SocketAddr, path: &str) -> Result<Duration, Failure> {
    let started = Instant::now();
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut buffer = vec![0; 64 * 1024];
    let len = connection.read(&mut buffer)?;
    let took = started.elapsed();
    if !buffer[..len].starts_with(b"HTTP/1.1 200 ") {
        return Err(format!("{path} is not answered with 200").into());
    }
    while connection.read(&mut buffer)? > 0 {}
    Ok(took)
}
