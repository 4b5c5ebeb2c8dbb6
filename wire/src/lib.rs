//! PostgreSQL's frontend/backend protocol as a pooler needs it: bytes in, actions out.
//!
//! Nothing here opens a socket, reads a clock or knows what SQL means.
#![forbid(unsafe_code)]

pub mod encode;
pub mod encoding;
pub mod error;
pub mod frame;
pub mod login;
pub mod params;
pub mod pgoutput;
pub mod pipeline;
pub mod prepared;
pub mod startup;
pub mod tag;
pub mod view;

pub use error::{Error, Result};
