//! A proxy that hides when its clients leave, as Heroku's classic router does: it keeps its connection to
//! the server, reads on, and throws away what comes.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A proxy that is there for as long as the test's process.
pub struct HidingProxy {
    address: SocketAddr,
    /// Clients that have left, or were left.
    departed: Arc<AtomicUsize>,
}

/// What one of its threads needs, of which there are as many as there are clients.
const STACK_BYTES: usize = 128 * 1024;

impl HidingProxy {
    /// Starts one in front of a server.
    pub fn start(server: SocketAddr) -> HidingProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let departed = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&departed);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let counter = Arc::clone(&counter);
                let builder = thread::Builder::new().stack_size(STACK_BYTES);
                let spawned = builder.spawn(move || {
                    // Whatever goes wrong here, the test sees as a stream that does not do what it should.
                    let _ended = pass_on(client, server, &counter);
                });
                spawned.expect("a thread");
            }
        });
        HidingProxy { address, departed }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many of its clients are gone: nobody is behind these connections to the server any more.
    pub fn departed(&self) -> usize {
        self.departed.load(Ordering::SeqCst)
    }
}

/// Passes one request on, and its answer back until the server ends it.
fn pass_on(mut client: TcpStream, server: SocketAddr, departed: &AtomicUsize) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        match client.read(&mut buffer)? {
            0 => return Ok(()),
            len => head.extend_from_slice(&buffer[..len]),
        }
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&head)?;
    let mut watched = client.try_clone()?;
    thread::scope(|scope| {
        let watcher = thread::Builder::new().stack_size(STACK_BYTES);
        watcher.spawn_scoped(scope, move || {
            // A client sends nothing more, so whatever comes now is its end, or ours.
            let _end = watched.read(&mut [0]);
            departed.fetch_add(1, Ordering::SeqCst);
        })?;
        let mut is_heard = true;
        while let Ok(len @ 1..) = upstream.read(&mut buffer) {
            is_heard = is_heard && client.write_all(&buffer[..len]).is_ok();
        }
        client.shutdown(Shutdown::Both).or(Ok(()))
    })
}
