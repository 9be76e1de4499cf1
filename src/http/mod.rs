//! HTTP/1.x, the server's side: one connection's protocol, the table of connections, and the grammars that they need.
//! Bytes go in and requests come out; replies go in and bytes come out. It makes no system call, and it must not know
//! what a stream consists of, which paths exist, or who may do what.
//!
//! [`Connections`] is asked what is next (`poll_…`); each [`Connection`] is told what happened (`handle_…`) and what was
//! decided (commands such as [`Connection::complete_request`]). A turn goes:
//!
//! 1. [`start_turn`](Connections::start_turn); [`accept`](Connections::accept) and
//!    [`handle_ready`](Connection::handle_ready) for events of sockets;
//! 2. [`handle_time`](Connections::handle_time);
//! 3. [`poll_read`](Connections::poll_read) until there is nothing left, each time with a read and its outcome;
//! 4. [`poll_event`](Connections::poll_event) until there is nothing left, each time with a decision;
//! 5. [`poll_write`](Connections::poll_write) until there is nothing left or the turn's budget is used up: the rest of an
//!    event that was begun comes first, then the [`outbox`](Connections::outbox), then further events. Requests that
//!    waited until a reply was sent cause events here, which are handled as in 4;
//! 6. [`poll_action`](Connections::poll_action) until there is nothing left.

pub mod authorization;
pub mod body;
mod close_reason;
mod connection;
mod connections;
mod error;
mod event;
pub mod forwarded;
pub mod head;
mod idle;
mod outbox;
pub mod publication;
mod reading;
pub mod reply;
mod request_line;
mod slot;
pub mod target;
mod timers;

pub use close_reason::CloseReason;
pub use connection::Connection;
pub use connections::{Connections, Options};
pub use error::RequestError;
pub use event::{Action, Event, Key, Origin};
pub use head::Request;
pub use reading::BodyUse;
