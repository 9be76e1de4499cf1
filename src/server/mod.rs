//! Server: decisions that are no part of the engine, in parts that own their fields and return what is to be done.

mod desk;
mod doors;
mod publications;
mod reports;
mod shutdown;
mod waiters;

pub use desk::Desk;
pub use doors::Doors;
pub use publications::{Outcome, Publications, Submission};
pub use reports::Reports;
pub use shutdown::Shutdown;
