//! Telemetry for tests.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use policy::observe::ShapeFacts;
use policy::tenant::Directory;

use super::{Bounds, Clock, Telemetry};

/// A directory with room for this many tenants that nobody configured.
pub(crate) fn tenants(max_tenants: usize) -> Arc<Directory> {
    Arc::new(Directory::new(&config::Tenants { max_tenants, ..config::Tenants::default() }))
}

/// Telemetry whose clock starts at 2026-01-01.
pub(crate) fn telemetry_with(bounds: Bounds, tenants: Arc<Directory>) -> Arc<Telemetry> {
    let wall = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    Telemetry::new(Clock::new(Instant::now(), wall), bounds, tenants)
}

/// Facts of a statement that detection passes over, with this fingerprint.
pub(crate) fn unknown_facts(strict: u64) -> ShapeFacts {
    ShapeFacts { strict, family: strict, ..super::statement::NO_FACTS }
}
