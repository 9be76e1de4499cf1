//! Other people's servers, as packages give them: what each needs, and the command that starts it.

use std::net::SocketAddr;
use std::process::Command;

use super::servers::Server;
use super::{Bench, Failure};

/// Whether a peer is installed, or else how it would be.
pub fn look(_server: Server) -> Result<(), String> {
    Err("not installed".to_owned())
}

/// The command that starts a peer at this address.
pub fn command(server: Server, _bench: &Bench, _address: SocketAddr) -> Result<Command, Failure> {
    Err(format!("{} is no peer", server.name()).into())
}
