//! Configuration: text in, settings out. Holding a value of these types means that it is valid.
//!
//! Nothing here opens a file, reads the environment or exits: the caller hands text in and decides what to do with
//! the mistakes that come out, all of them at once, each with its key path and line.
#![forbid(unsafe_code)]

mod model;
pub mod units;

pub use model::*;
