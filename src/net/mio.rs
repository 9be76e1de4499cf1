//! The real side of [`Net`]: sockets, epoll (or kqueue) through `mio`, signals and the system's clocks.
//! It owns every descriptor and socket option; it must not hold bytes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::mio::net::{TcpListener, TcpStream, UnixStream};
use ::mio::unix::SourceFd;
use ::mio::{Events, Interest, Poll, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use socket2::{Domain, Protocol, Socket, Type};

use super::log::Log;
use super::notify::Notifier;
use super::process;
use super::resolve::Resolver;
use super::{Door, Event, Listen, Net, Peer, Process, Token};
use crate::level::Level;
use crate::limits;
use crate::time::Time;

/// The sockets of this process.
pub struct MioNet {
    poll: Poll,
    events: Events,
    started: Instant,
    listeners: Vec<(Door, TcpListener)>,
    /// Accepted sockets and their generations, by the index in their token.
    clients: Vec<Option<(u32, Socket)>>,
    upstreams: [Option<Socket>; UPSTREAMS_MAX],
    resolver: Resolver,
    /// The listener to try first next time, so that a crowd at one listener does not starve the others.
    next_listener: usize,
    /// Delivers a byte for each `SIGTERM` or `SIGINT`.
    signals: UnixStream,
    /// Delivers a byte for each `SIGHUP`.
    hangups: UnixStream,
    /// Descriptors other than listeners, clients and upstreams.
    other_descriptors: usize,
    /// Whether the public listeners were inherited, and stay open in the service manager.
    shares_listeners: bool,
    notifier: Option<Notifier>,
    log: Log,
}

const UPSTREAMS_MAX: usize = 5;

/// Sockets are registered for both directions once, which saves the system calls for changing that.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Clients are registered under their index, which is far below these reserved tokens.
const FIRST_RESERVED: usize = usize::MAX - 64;
const SIGNALS: usize = FIRST_RESERVED;
const HANGUPS: usize = FIRST_RESERVED + 1;
const RESOLVER: usize = FIRST_RESERVED + 2;
const FIRST_UPSTREAM: usize = FIRST_RESERVED + 3;
const FIRST_LISTENER: usize = FIRST_UPSTREAM + UPSTREAMS_MAX;
const _: () = assert!(2 * limits::LISTEN_ADDRESSES_MAX <= usize::MAX - FIRST_LISTENER);

impl MioNet {
    /// Starts to listen, handles the process's signals from now on, and starts the log. With `reuse_port`, several
    /// processes may share the public ports. Admin ports are never shared, so that a request reaches the process that
    /// it is meant for. If it cannot listen on an address, the error names it. If there are `inherited` listeners, they are
    /// used instead of the public ports.
    pub fn new(
        public: &Listen,
        admin: &[SocketAddr],
        reuse_port: bool,
        inherited: Vec<std::net::TcpListener>,
        log_level: Level,
    ) -> io::Result<MioNet> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        let mut listeners = Vec::new();
        for &address in admin {
            listeners.push((Door::Admin, listen_on(address, false, false)?));
        }
        let shares_listeners = !inherited.is_empty();
        let public = match shares_listeners {
            true => inherited.into_iter().map(adopt_listener).collect(),
            false => listen(public, reuse_port),
        };
        listeners.extend(public?.into_iter().map(|listener| (Door::Public, listener)));
        for (index, (_, listener)) in listeners.iter_mut().enumerate() {
            let token = ::mio::Token(FIRST_LISTENER + index);
            registry.register(listener, token, Interest::READABLE)?;
        }
        let waker = Arc::new(Waker::new(registry, ::mio::Token(RESOLVER))?);
        let signals = register_signals(registry, &[SIGTERM, SIGINT], SIGNALS)?;
        let hangups = register_signals(registry, &[SIGHUP], HANGUPS)?;
        let other_descriptors = process::count_descriptors().saturating_sub(listeners.len());
        Ok(MioNet {
            events: Events::with_capacity(1024),
            started: Instant::now(),
            listeners,
            clients: Vec::new(),
            upstreams: [const { None }; UPSTREAMS_MAX],
            resolver: Resolver::new(waker),
            next_listener: 0,
            signals,
            hangups,
            other_descriptors,
            shares_listeners,
            notifier: None,
            log: Log::start(log_level),
            poll,
        })
    }

    /// Tells this service manager from now on.
    pub fn set_notifier(&mut self, notifier: Notifier) {
        self.other_descriptors += 1;
        self.notifier = Some(notifier);
    }

    /// The addresses that one kind of listener is bound to.
    pub fn local_addresses(&self, door: Door) -> Vec<SocketAddr> {
        let listeners = self.listeners.iter().filter(|(of, _)| *of == door);
        let addresses = listeners.map(|(_, listener)| listener.local_addr());
        addresses.filter_map(Result::ok).collect()
    }

    /// The token of a socket with an event. The generation is the current one: indexes are freed and reused only
    /// between two polls.
    fn token_at(&self, place: usize) -> Option<Token> {
        if place >= FIRST_UPSTREAM {
            return Some(Token::Upstream((place - FIRST_UPSTREAM) as u8));
        }
        let (generation, _) = self.clients.get(place)?.as_ref()?;
        Some(Token::Client(place as u32, *generation))
    }

    fn socket(&self, token: Token) -> io::Result<&Socket> {
        let socket = match token {
            Token::Client(index, generation) => {
                let client = self.clients.get(index as usize).and_then(Option::as_ref);
                let client = client.filter(|(holder, _)| *holder == generation);
                client.map(|(_, socket)| socket)
            }
            Token::Upstream(index) => self.upstreams[usize::from(index)].as_ref(),
        };
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Net for MioNet {
    type Accepted = Socket;

    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    fn unix_seconds(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    fn poll(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let place = event.token().0;
            if let Some(index) = place.checked_sub(FIRST_LISTENER) {
                let listener = self.listeners.get(index);
                events.extend(listener.map(|(door, _)| Event::Acceptable(*door)));
            } else if place == RESOLVER {
                let answers = self.resolver.answers();
                events.extend(answers.map(|(token, answer)| Event::Resolved(token, answer)));
            } else if place == SIGNALS {
                events.extend((0..count_signals(&mut self.signals)).map(|_| Event::Signal));
            } else if place == HANGUPS {
                events.extend((0..count_signals(&mut self.hangups)).map(|_| Event::Reload));
            } else if let Some(token) = self.token_at(place) {
                events.push(Event::Ready {
                    token,
                    readable: event.is_readable() || event.is_read_closed(),
                    writable: event.is_writable(),
                    hung_up: event.is_write_closed() || event.is_error(),
                });
            }
        }
        Ok(())
    }

    fn accept(&mut self, door: Door) -> io::Result<(Socket, IpAddr)> {
        let mut result = Err(io::ErrorKind::WouldBlock.into());
        let count = self.listeners.len();
        for index in (self.next_listener..count).chain(0..self.next_listener) {
            let (of, listener) = &self.listeners[index];
            if *of != door {
                continue;
            }
            match listener.accept() {
                Ok((stream, address)) => {
                    self.next_listener = (index + 1) % count;
                    return Ok((OwnedFd::from(stream).into(), address.ip().to_canonical()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn adopt(&mut self, token: Token, accepted: Socket) -> io::Result<()> {
        let Token::Client(index, generation) = token else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let place = index as usize;
        register(self.poll.registry(), &accepted, place)?;
        if place >= self.clients.len() {
            self.clients.resize_with(place + 1, || None);
        }
        debug_assert!(self.clients[place].is_none(), "a place was taken twice");
        self.clients[place] = Some((generation, accepted));
        Ok(())
    }

    fn stop_listening(&mut self) {
        for (_, listener) in &mut self.listeners {
            // Closing would do this, unless another process has the same socket.
            let _unknown = self.poll.registry().deregister(listener);
        }
        self.listeners.clear();
        self.next_listener = 0;
    }

    fn shares_listeners(&self) -> bool {
        self.shares_listeners
    }

    fn read(&mut self, token: Token, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = self.socket(token)?;
        retry_interrupted(|| socket.read(buffer))
    }

    fn write(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        let mut socket = self.socket(token)?;
        retry_interrupted(|| socket.write(bytes))
    }

    fn shutdown_write(&mut self, token: Token) {
        if let Ok(socket) = self.socket(token) {
            // This fails if the client is already gone, which the next read reports.
            let _gone = socket.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, token: Token) {
        match token {
            Token::Client(index, generation) => {
                if let Some(place) = self.clients.get_mut(index as usize) {
                    place.take_if(|(holder, _)| *holder == generation);
                }
            }
            Token::Upstream(index) => self.upstreams[usize::from(index)] = None,
        }
    }

    fn resolve(&mut self, token: Token, host: &str, port: u16) {
        self.resolver.ask(token, host, port);
    }

    fn connect(&mut self, token: Token, peer: &Peer) -> io::Result<()> {
        let Token::Upstream(index) = token else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let index = usize::from(index);
        let upstream = connect(peer)?;
        register(self.poll.registry(), &upstream, FIRST_UPSTREAM + index)?;
        self.upstreams[index] = Some(upstream);
        Ok(())
    }

    fn is_connected(&mut self, token: Token) -> io::Result<bool> {
        is_connected(self.socket(token)?)
    }

    fn listen_to(&mut self, token: Token, readable: bool) {
        if let (Token::Upstream(index), Ok(socket)) = (token, self.socket(token)) {
            let interest = match readable {
                true => INTEREST,
                false => Interest::WRITABLE,
            };
            let place = ::mio::Token(FIRST_UPSTREAM + usize::from(index));
            let mut source = SourceFd(&socket.as_raw_fd());
            let changed = (self.poll.registry()).reregister(&mut source, place, interest);
            debug_assert!(changed.is_ok(), "an upstream was not registered");
        }
    }

    fn process(&self) -> Process {
        let clients = self.clients.iter().flatten().count();
        let upstreams = self.upstreams.iter().flatten().count();
        let sockets = self.listeners.len() + clients + upstreams;
        process::read((self.other_descriptors + sockets) as u64)
    }

    fn notify(&mut self, lines: &str) {
        if let Some(notifier) = &self.notifier {
            notifier.send(lines);
        }
    }

    fn log(&mut self, level: Level, line: &str) {
        self.log.line(level, line);
    }
}

fn register(registry: &::mio::Registry, socket: &Socket, place: usize) -> io::Result<()> {
    let mut source = SourceFd(&socket.as_raw_fd());
    registry.register(&mut source, ::mio::Token(place), INTEREST)
}

/// Starts to connect.
fn connect(peer: &Peer) -> io::Result<Socket> {
    match peer {
        Peer::Tcp {
            address,
            kernel_bytes_max,
        } => connect_tcp(*address, *kernel_bytes_max),
        Peer::Udp(address) => {
            let socket = Socket::new(Domain::for_address(*address), Type::DGRAM, None)?;
            socket.set_nonblocking(true)?;
            socket.connect(&(*address).into())?;
            Ok(socket)
        }
        Peer::Unix(path) => Ok(OwnedFd::from(UnixStream::connect(path)?).into()),
    }
}

/// The socket options are optional, so failing to set one does not fail the connection.
fn connect_tcp(address: SocketAddr, kernel_bytes_max: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::from(OwnedFd::from(TcpStream::connect(address)?));
    // Commands are short and should be sent at once.
    let _slower = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let _later = socket.set_tcp_user_timeout(Some(limits::UPSTREAM_TIMEOUT));
    if let Some(bytes) = kernel_bytes_max {
        // Linux doubles the number, and uses half of it for bookkeeping.
        let _older = socket.set_send_buffer_size(bytes);
    }
    Ok(socket)
}

/// A connection to ourselves is refused. The kernel makes one if nothing listens on the destination port and the socket
/// happens to get that same port: it would then block the real listener, and we would read our own output.
fn is_connected(upstream: &Socket) -> io::Result<bool> {
    if let Some(error) = upstream.take_error()? {
        return Err(error);
    }
    match upstream.peer_addr() {
        Ok(peer) if peer == upstream.local_addr()? => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// Without addresses: a dual-stack IPv6 socket, or an IPv4 one if the machine has no IPv6.
fn listen(public: &Listen, reuse_port: bool) -> io::Result<Vec<TcpListener>> {
    let port = match public {
        Listen::Everywhere(port) => *port,
        Listen::Addresses(addresses) => {
            let listeners = addresses.iter();
            return listeners
                .map(|&address| listen_on(address, false, reuse_port))
                .collect();
        }
    };
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listener = match listen_on(everywhere, true, reuse_port) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            listen_on(SocketAddr::from(([0, 0, 0, 0], port)), false, reuse_port)
        }
        other => other,
    };
    Ok(vec![listener?])
}

fn listen_on(address: SocketAddr, dual_stack: bool, reuse_port: bool) -> io::Result<TcpListener> {
    bind(address, dual_stack, reuse_port).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

fn bind(address: SocketAddr, dual_stack: bool, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!dual_stack)?;
    }
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    set_options(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Listens on a socket that does so already, with a backlog of our size.
fn adopt_listener(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    let socket = Socket::from(listener);
    set_options(&socket)?;
    socket.listen(limits::LISTEN_BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Accepted sockets inherit the options set here, which saves three system calls per client.
fn set_options(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(limits::PEER_TIMEOUT))?;
        socket.set_tcp_notsent_lowat(limits::NOTSENT_BYTES)?;
        socket.set_send_buffer_size(limits::SEND_BUFFER_BYTES)?;
    }
    Ok(())
}

/// Writes a byte to a socket pair for each signal, so that the poll reports signals.
fn register_signals(
    registry: &::mio::Registry,
    signals: &[i32],
    token: usize,
) -> io::Result<UnixStream> {
    let (mut receiver, sender) = UnixStream::pair()?;
    let sender = OwnedFd::from(sender);
    for &signal in signals {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    registry.register(&mut receiver, ::mio::Token(token), Interest::READABLE)?;
    Ok(receiver)
}

/// The number of signals since the last call; those beyond 16 are counted the next time.
fn count_signals(receiver: &mut UnixStream) -> usize {
    receiver.read(&mut [0; 16]).unwrap_or(0)
}

fn retry_interrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;

    use super::*;

    /// Waits for the connection that a client has just made.
    fn accept(listener: &TcpListener) -> TcpStream {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match listener.accept() {
                Ok((stream, _)) => return stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "the connection never came");
                    std::thread::yield_now();
                }
                Err(error) => panic!("cannot accept: {error}"),
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_the_options_of_the_listener() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false, false).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = accept(&listener);
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(limits::PEER_TIMEOUT)
        );
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), limits::NOTSENT_BYTES);
        // The kernel doubles the number.
        let sent = socket.send_buffer_size().unwrap();
        assert_eq!(sent, 2 * limits::SEND_BUFFER_BYTES);
    }

    #[test]
    fn the_dual_stack_socket_accepts_ipv4() {
        let listener = listen(&Listen::Everywhere(0), false).unwrap().remove(0);
        let port = listener.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let stream = accept(&listener);
        let address = stream.peer_addr().unwrap().ip().to_canonical();
        assert_eq!(address, client.local_addr().unwrap().ip());
    }

    #[test]
    fn listeners_take_turns() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let public = Listen::Addresses(vec![anywhere, anywhere]);
        let mut net = MioNet::new(&public, &[], false, Vec::new(), Level::Error).unwrap();
        let addresses = net.local_addresses(Door::Public);
        let crowd = |address: &SocketAddr| {
            let connect = |_| std::net::TcpStream::connect(address).unwrap();
            (0..3).map(connect).collect::<Vec<_>>()
        };
        let _clients: Vec<_> = addresses.iter().map(crowd).collect();
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut came = Vec::new();
        while came.len() < 6 {
            assert!(Instant::now() < deadline, "only {} came", came.len());
            match net.accept(Door::Public) {
                Ok((stream, _)) => came.push(stream.local_addr().unwrap().as_socket().unwrap()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("cannot accept: {error}"),
            }
        }
        let expected: Vec<SocketAddr> = addresses.iter().cycle().take(6).copied().collect();
        assert_eq!(came, expected);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn outgoing_connections_have_a_user_timeout() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false, false).unwrap();
        let socket = connect_tcp(listener.local_addr().unwrap(), None).unwrap();
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(limits::UPSTREAM_TIMEOUT)
        );
    }

    #[test]
    fn the_kernel_buffers_little_for_a_daemon_that_does_not_read() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), false, false).unwrap();
        // The receive buffer of the other side counts as well.
        let there = 4 * 1024;
        SockRef::from(&listener)
            .set_recv_buffer_size(there)
            .unwrap();
        let held = limits::GRAPHITE_KERNEL_BYTES_MAX;
        let address = listener.local_addr().unwrap();
        let mut stream = connect_tcp(address, Some(held)).unwrap();
        let _silent = accept(&listener);
        let (mut taken, mut refusals) = (0, 0);
        while refusals < 100 {
            match stream.write(&[b'a'; 1024]) {
                Ok(len) => (taken, refusals) = (taken + len, 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    refusals += 1;
                    std::thread::yield_now();
                }
                Err(error) => panic!("cannot write: {error}"),
            }
        }
        assert!(taken <= 2 * (held + there), "{taken} bytes");
    }

    #[test]
    fn a_connection_to_itself_is_refused() {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let itself = |kind, protocol| {
            let socket = Socket::new(Domain::IPV4, kind, Some(protocol)).unwrap();
            socket.bind(&anywhere.into()).unwrap();
            socket.connect(&socket.local_addr().unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        for upstream in [
            itself(Type::STREAM, Protocol::TCP),
            itself(Type::DGRAM, Protocol::UDP),
        ] {
            let error = is_connected(&upstream).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        let listener = bind(anywhere, false, false).unwrap();
        let address = listener.local_addr().unwrap();
        let stream = connect_tcp(address, None).unwrap();
        let _other = accept(&listener);
        let datagrams = connect(&Peer::Udp(address)).unwrap();
        for upstream in [stream, datagrams] {
            assert!(is_connected(&upstream).unwrap());
        }
    }
}
