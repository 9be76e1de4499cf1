#![doc = include_str!("ARCHITECTURE.md")]

pub mod config;
pub mod level;
pub mod limits;
pub mod process;
pub mod random;
pub mod time;

pub mod bus;
pub mod proto;

pub mod engine;
pub mod source;
pub mod upstream;

pub mod report;

pub mod link;
pub mod net;
pub mod reactor;
