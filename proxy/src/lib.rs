//! The proxy: sockets, workers, pools, admin port. The only asynchronous crate.

pub mod admin;
pub mod analyst;
pub mod cancel;
pub mod cli;
pub mod control;
pub mod inspect;
pub mod listen;
pub mod listeners;
pub mod log;
pub mod login;
pub mod offline;
pub mod pool;
pub mod replication;
pub mod run;
pub mod session;
pub mod shared;
pub mod slow_log;
pub mod source;
pub mod stream;
pub mod systemd;
pub mod telemetry;
pub mod tls;
pub mod trouble;
pub mod upstream;
pub mod worker;
