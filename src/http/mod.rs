//! HTTP/1.x, the server's side: one connection's protocol, the table of connections, and the grammars that they
//! need. Bytes go in and requests come out; replies go in and bytes come out. It makes no system call, and it must
//! not know what a stream consists of, which paths there are, or who may do what.

pub mod authorization;
pub mod body;
pub mod forwarded;
pub mod head;
pub mod publication;
pub mod reply;
pub mod target;
