//! Proto: bytes to values and back. It owns the grammars of the wire; it must not touch a socket, read a
//! clock or decide anything.

pub mod glob;

pub use crate::http::head as http;
pub use crate::http::{authorization, body, forwarded, publication, reply, target};
