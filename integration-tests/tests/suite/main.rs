//! End-to-end tests, one file per behaviour, in one program so that they share one PostgreSQL.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod architecture;
mod cli;
mod harness;
