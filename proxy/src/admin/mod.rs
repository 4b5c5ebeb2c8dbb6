//! The admin port: what operators and their tools read over HTTP.
//!
//! It reads telemetry and asks a [`StateSource`] for what telemetry does not hold; it changes nothing.

pub mod source;

pub use source::{ClientState, Readiness, StateFuture, StateSource, UpstreamState};
