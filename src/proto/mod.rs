//! Proto: bytes to values and back. It owns the grammars of the wire; it must not touch a socket, read a
//! clock or decide anything.

pub mod authorization;
pub mod body;
pub mod forwarded;
pub mod glob;
pub mod http;
pub mod publication;
pub mod reply;

pub mod target;
