//! Notifications to a service manager: datagrams to the socket that it names in `NOTIFY_SOCKET`, as sd_notify(3) describes.
//! It does not know what is worth telling.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager.
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The service manager that started this process, with this ID, if there is one. `variable` reads the environment.
    ///
    /// # Errors
    /// If its socket has an address that cannot be used.
    pub fn of(
        variable: impl Fn(&str) -> Option<OsString>,
        process_id: u32,
    ) -> io::Result<Option<Notifier>> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(process_id));
        let watchdog = number("WATCHDOG_USEC").filter(|&micros| is_meant && micros > 0);
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Notifier {
            socket,
            address: address(name.as_bytes())?,
            watchdog: watchdog.map(Duration::from_micros),
        }))
    }

    /// How often it wants to be told that the process is alive.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Sends lines of the form `NAME=value`.
    pub(super) fn send(&self, lines: &str) {
        // A manager that takes nothing at the moment is told more the next time.
        let _dropped = self.socket.send_to_addr(lines.as_bytes(), &self.address);
    }
}

/// A path, or a name in Linux's abstract namespace, which is written with `@`.
fn address(name: &[u8]) -> io::Result<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(rest)
        }
        _ => {
            let text = "NOTIFY_SOCKET: use an absolute path, or @ and a name";
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_service_manager_is_found_by_its_variables() {
        use std::os::linux::net::SocketAddrExt;

        let name = format!("emojitrack-notify-{}", std::process::id());
        let there = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&there).unwrap();
        let at = format!("@{name}");
        let found = |variables: &[(&str, &str)]| {
            let value = |wanted: &str| {
                let mut all = variables.iter();
                let found = all.find(|(name, _)| *name == wanted);
                found.map(|(_, value)| OsString::from(value))
            };
            Notifier::of(value, 7)
        };
        assert!(found(&[]).unwrap().is_none());
        assert!(found(&[("NOTIFY_SOCKET", "")]).unwrap().is_none());
        assert!(found(&[("NOTIFY_SOCKET", "relative")]).is_err());
        let millis = Duration::from_millis;
        for (usec, pid, expected) in [
            ("3000", "", Some(millis(3))),
            ("3000", "7", Some(millis(3))),
            ("3000", "8", None),
            ("0", "7", None),
            ("", "7", None),
        ] {
            let variables = [
                ("NOTIFY_SOCKET", at.as_str()),
                ("WATCHDOG_USEC", usec),
                ("WATCHDOG_PID", pid),
            ];
            let notifier = found(&variables).unwrap().unwrap();
            assert_eq!(notifier.watchdog(), expected, "{usec} {pid}");
            notifier.send("READY=1\n");
            let mut buffer = [0; 99];
            let len = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], b"READY=1\n");
        }
    }
}
