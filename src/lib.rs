#![doc = include_str!("ARCHITECTURE.md")]

pub mod config;
pub mod glob;
pub mod level;
pub mod limits;
pub mod random;
pub mod time;

pub mod bus;
pub mod http;

pub mod broker;

pub mod report;
pub mod server;

pub mod net;
pub mod reactor;
