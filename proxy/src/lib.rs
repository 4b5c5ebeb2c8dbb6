//! The proxy: sockets, workers, pools, admin port. The only asynchronous crate.

pub mod admin;
pub mod analyst;
pub mod cli;
pub mod offline;
pub mod slow_log;
pub mod source;
pub mod telemetry;
