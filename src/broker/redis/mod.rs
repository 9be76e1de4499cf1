//! Redis pub/sub: where a server is found, and the sessions with it.

mod answers;
mod endpoint;
pub mod resp;
mod session;

pub use answers::{Answer, Question, Subject};
pub use endpoint::{Address, Endpoint};
pub use session::{Session, SessionError, Topics};
