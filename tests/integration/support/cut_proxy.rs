//! A proxy in front of Redis that can stop to pass anything on, in both directions, without closing a connection, as a
//! network does that is cut off.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A proxy that is there for as long as the test's process.
pub struct CutProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    /// For each connection: whether it subscribes, and whether it is cut off for good.
    connections: Vec<(bool, bool)>,
}

impl CutProxy {
    /// Starts one in front of a Redis.
    pub fn start(redis: SocketAddr) -> CutProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::<Shared>::default();
        let proxy = CutProxy {
            address,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(client, redis, &shared));
            }
        });
        proxy
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Passes nothing on until [`CutProxy::restore`].
    pub fn cut(&self) {
        self.shared.lock().is_cut = true;
    }

    /// Passes on what has come since, and everything else.
    pub fn restore(&self) {
        self.shared.lock().is_cut = false;
        self.shared.changed.notify_all();
    }

    /// Passes nothing on over the connections that stand and subscribe, or over those that do not.
    pub fn cut_those_that_subscribe(&self, subscribe: bool) {
        let mut state = self.shared.lock();
        let connections = state.connections.iter_mut();
        let of_kind = connections.filter(|(subscribes, _)| *subscribes == subscribe);
        of_kind.for_each(|(_, is_cut)| *is_cut = true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when something may be passed on over this connection.
    fn wait(&self, number: usize) {
        let is_cut = |state: &mut State| state.is_cut || state.connections[number].1;
        let waited = self.changed.wait_while(self.lock(), is_cut);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

fn serve(client: TcpStream, redis: SocketAddr, shared: &Shared) {
    let number = {
        let mut state = shared.lock();
        state.connections.push((false, false));
        state.connections.len() - 1
    };
    shared.wait(number);
    let Ok(upstream) = TcpStream::connect(redis) else {
        return;
    };
    thread::scope(|scope| {
        scope.spawn(|| pass_on(&client, &upstream, number, shared));
        pass_on(&upstream, &client, number, shared);
    });
}

fn pass_on(mut from: &TcpStream, mut to: &TcpStream, number: usize, shared: &Shared) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if buffer[..len].windows(9).any(|word| word == b"SUBSCRIBE") {
            shared.lock().connections[number].0 = true;
        }
        shared.wait(number);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    shared.wait(number);
    let _gone_already = to.shutdown(Shutdown::Both);
    let _gone_already = from.shutdown(Shutdown::Both);
}
