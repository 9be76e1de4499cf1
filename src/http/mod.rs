//! HTTP/1.x, the server's side: the grammars of requests and replies. Bytes go in and values come out, or the other
//! way round. It makes no system call, and it must not know what a stream consists of, which paths there are, or who
//! may do what.

pub mod authorization;
pub mod body;
mod close_reason;
pub mod forwarded;
pub mod head;
pub mod publication;
pub mod reply;
pub mod target;

pub use close_reason::CloseReason;
pub use head::Request;
