//! Inherited sockets: listening ones that a service manager has opened and passes on (`LISTEN_FDS`, as systemd does). They
//! stay open while the process is restarted, so that no connection is refused meanwhile.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that were passed on; none without a service manager. They are not taken by programs that this one starts.
///
/// # Errors
/// If one of them is no TCP socket that listens.
pub fn listeners() -> io::Result<Vec<TcpListener>> {
    let mut passed_on = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed_on.len() {
        let listener = passed_on.take_tcp_listener(index).map_err(refused)?;
        let Some(listener) = listener else { continue };
        match SockRef::from(&listener).is_listener() {
            Ok(true) => listeners.push(listener),
            _ => return Err(refused(format!("socket {index} does not listen"))),
        }
    }
    Ok(listeners)
}

fn refused(reason: impl ToString) -> io::Error {
    let reason = reason.to_string();
    let text = format!("LISTEN_FDS: {reason}: only TCP sockets that listen can be used");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
