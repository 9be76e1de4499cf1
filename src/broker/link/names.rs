//! Names: the addresses of the hosts that are dialed. While the network is cut off, name servers are out of reach as
//! well; then the addresses that a host had are used, so that the network's return is not noticed seconds later. It does not
//! resolve names.

use std::io;
use std::net::SocketAddr;

use super::Target;
use crate::limits;
use crate::time::Time;

/// The hosts that have been dialed. There are as many as are configured.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The host that is dialed.
    target: Option<Target>,
    /// When its addresses were asked for, if the answer is still to come.
    asked_at: Option<Time>,
    known: Vec<(Target, Vec<SocketAddr>)>,
}

impl Names {
    /// A host is dialed. Returns whether to ask for its addresses, and until when to wait for the answer.
    pub(super) fn handle_dial(&mut self, target: &Target, now: Time) -> (bool, Time) {
        let is_same = self.target.as_ref() == Some(target);
        let is_asked = is_same
            && self
                .asked_at
                .is_some_and(|at| now.since(at) < limits::RESOLVE_DEADLINE);
        if !is_asked {
            self.target = Some(target.clone());
            self.asked_at = Some(now);
        }
        let patience = match self.known() {
            Some(_) => limits::RESOLVE_PATIENCE,
            None => limits::RESOLVE_DEADLINE,
        };
        (!is_asked, now + patience)
    }

    /// The addresses of the host, or that there are none.
    pub(super) fn handle_answer(&mut self, answer: io::Result<Vec<SocketAddr>>) -> io::Result<()> {
        self.asked_at = None;
        let addresses = answer?;
        if addresses.is_empty() {
            let text = "the name has no address";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        if let Some(target) = &self.target {
            self.known.retain(|(known, _)| known != target);
            self.known.push((target.clone(), addresses));
        }
        Ok(())
    }

    /// The addresses that the host that is dialed had when they were last asked for.
    pub(super) fn known(&self) -> Option<&[SocketAddr]> {
        let target = self.target.as_ref()?;
        let (_, addresses) = self.known.iter().find(|(known, _)| known == target)?;
        Some(addresses)
    }
}
