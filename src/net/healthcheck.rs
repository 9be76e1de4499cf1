//! The health check: requests `/healthz` from a running server, for containers that have no other HTTP client. It
//! blocks, so the server itself must not call it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::Listen;
use crate::limits::HEALTHCHECK_BYTES_MAX;

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Checks the server that listens there on this machine. If no address answers with 200 within this time, the error is
/// one line with each address and its failure.
pub fn ask(listen: &Listen, span: Duration) -> Result<(), String> {
    let deadline = Instant::now() + span;
    let mut failures = Vec::new();
    for address in addresses(listen) {
        if address.port() == 0 {
            return Err("port 0 means any free port: set the port of the server".to_owned());
        }
        // A timeout is one of two kinds of error, depending on the platform; neither says how long the wait was.
        use io::ErrorKind::{TimedOut, WouldBlock};
        failures.push(match ask_one(address, deadline) {
            Ok(Some(200)) => return Ok(()),
            Ok(Some(status)) => format!("{address} answers with {status}"),
            Ok(None) => format!("{address}: the answer is not HTTP"),
            Err(error) if matches!(error.kind(), TimedOut | WouldBlock) => {
                format!("{address}: no answer within {} s", span.as_secs_f32())
            }
            Err(error) => format!("{address}: {error}"),
        });
    }
    Err(failures.join("; "))
}

/// The addresses at which this machine can reach that server, in the order to try them.
fn addresses(listen: &Listen) -> Vec<SocketAddr> {
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let reachable = |address: &SocketAddr| match address.ip().is_unspecified() {
        true => (loopback[usize::from(address.is_ipv6())], address.port()).into(),
        false => *address,
    };
    match listen {
        Listen::Everywhere(port) => loopback.map(|ip| (ip, *port).into()).to_vec(),
        Listen::Addresses(addresses) => addresses.iter().map(reachable).collect(),
    }
}

/// The status of the answer from one address, if it is HTTP.
fn ask_one(address: SocketAddr, deadline: Instant) -> io::Result<Option<u16>> {
    let mut stream = TcpStream::connect_timeout(&address, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::new();
    let mut buffer = [0; HEALTHCHECK_BYTES_MAX];
    while !answer.contains(&b'\n') && answer.len() < HEALTHCHECK_BYTES_MAX {
        // The deadline holds for the whole answer, even if it arrives byte by byte.
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(status_of(&answer))
}

/// Parses the status line.
fn status_of(answer: &[u8]) -> Option<u16> {
    let end = answer.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&answer[..end]).ok()?;
    let mut words = line.split_ascii_whitespace();
    let _version = words.next().filter(|word| word.starts_with("HTTP/1."))?;
    words.next()?.parse().ok()
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A server that answers one client with these pieces, pausing before each.
    fn server(pieces: &'static [&'static str], pause: Duration) -> Listen {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; REQUEST.len()];
            client.read_exact(&mut request).unwrap();
            assert_eq!(request, REQUEST);
            for piece in pieces {
                thread::sleep(pause);
                if client.write_all(piece.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Listen::Addresses(vec![address])
    }

    #[test]
    fn the_answer_decides() {
        let table: &[(&[&str], Result<(), &str>)] = &[
            (
                &["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"],
                Ok(()),
            ),
            (&["HTT", "P/1.1 20", "0 OK\r", "\n"], Ok(())),
            (&["HTTP/1.0 200\n"], Ok(())),
            (
                &["HTTP/1.1 503 Service Unavailable\r\n\r\n"],
                Err(" answers with 503"),
            ),
            (&["HTTP/1.1 2000 OK\r\n"], Err(" answers with 2000")),
            (&["HTTP/1.1 200 OK"], Err(": the answer is not HTTP")),
            (&["HTTP/2 200 OK\r\n"], Err(": the answer is not HTTP")),
            (&["SSH-2.0-x\r\n"], Err(": the answer is not HTTP")),
            (&[], Err(": the answer is not HTTP")),
        ];
        for (pieces, expected) in table {
            let listen = server(pieces, Duration::ZERO);
            let address = addresses(&listen)[0];
            let expected = expected.map_err(|text| format!("{address}{text}"));
            assert_eq!(ask(&listen, PATIENCE), expected, "for {pieces:?}");
        }
    }

    #[test]
    fn the_deadline_covers_the_whole_answer() {
        let pieces = &["H", "T", "T", "P", "/", "1", ".", "1", " ", "2", "0", "0"];
        let listen = server(pieces, Duration::from_millis(40));
        let started = Instant::now();
        let error = ask(&listen, Duration::from_millis(100)).unwrap_err();
        assert!(error.ends_with(": no answer within 0.1 s"), "{error}");
        assert!(started.elapsed() < PATIENCE);
    }

    #[test]
    fn a_failure_names_each_address() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let error = ask(&Listen::Everywhere(address.port()), PATIENCE).unwrap_err();
        let parts: Vec<&str> = error.split("; ").collect();
        assert!(parts[0].starts_with(&format!("{address}: ")), "{error}");
        assert!(parts[1].starts_with("[::1]:"), "{error}");
        let error = ask(&Listen::Everywhere(0), PATIENCE).unwrap_err();
        assert!(error.starts_with("port 0 "), "{error}");
    }

    #[test]
    fn a_wildcard_address_is_checked_over_loopback() {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        let table: &[(Listen, &[&str])] = &[
            (Listen::Everywhere(7), &["127.0.0.1:7", "[::1]:7"]),
            (
                Listen::Addresses(parse(&["0.0.0.0:7", "[::]:8", "10.0.0.1:9", "[::1]:1"])),
                &["127.0.0.1:7", "[::1]:8", "10.0.0.1:9", "[::1]:1"],
            ),
        ];
        for (listen, expected) in table {
            let expected: Vec<SocketAddr> = parse(expected);
            assert_eq!(addresses(listen), expected);
        }
    }
}
