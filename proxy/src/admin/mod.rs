//! The admin port: what operators and their tools read over HTTP.
//!
//! It reads telemetry and asks a [`StateSource`] for what telemetry does not hold; the little that it changes is what is
//! shown and told from then on, and it can have the configuration read again. Paths and fields: `docs/admin-api.md`; metrics: `docs/metrics.md`.

mod access;
mod actions;
mod api;
mod audit;
mod blocking;
mod body;
mod breakdown;
mod cache;
mod capture;
mod clients;
mod databases;
mod door;
mod etag;
mod events;
mod exposition;
mod findings;
mod history;
mod limits;
mod log_level;
pub mod metrics;
mod openapi;
mod overview;
mod page;
mod pages;
mod plans;
mod problem;
mod queries;
mod redacted;
mod reload;
mod request_id;
mod requests;
mod samples;
mod seats;
mod server;
pub mod source;
mod tenants;
#[cfg(test)]
mod tests;
mod untracked;
mod verdicts;

use std::sync::Arc;

pub use audit::Audit;
pub(crate) use audit::Command;
pub use events::Events;
pub use server::serve;
pub use source::{
    ClientState, Housekeeping, ListenerState, Readiness, SocketState, StateFuture, StateSource, UpstreamState,
};
pub(crate) use tenants::limit as shown_limit;

use crate::analyst::FindingsStore;
use crate::capture::Captures;
use crate::telemetry::Telemetry;

/// What the admin port reads from.
pub struct AdminContext {
    /// What is counted.
    pub telemetry: Arc<Telemetry>,
    /// What the analyst found.
    pub findings: Arc<FindingsStore>,
    /// What the analyst writes down when it is asked to.
    pub captures: Arc<Captures>,
    /// What only the rest of the proxy knows.
    pub state: Arc<dyn StateSource>,
    /// What has happened lately.
    pub events: Arc<Events>,
    /// Who has looked at what, and done what.
    pub audit: Audit,
}

impl std::fmt::Debug for AdminContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminContext").finish_non_exhaustive()
    }
}
