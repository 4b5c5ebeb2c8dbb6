//! What one scrape reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use config::Settings;
use policy::finding;

use crate::admin::requests::{Requests, RouteRow};
use crate::admin::source::{Switches, TenantUse};
use crate::admin::{AdminContext, Housekeeping, Readiness};
use crate::analyst::findings::Total;
use crate::cache::figures::Figures;
use crate::telemetry::Sqlstate;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::listen::ListenTotals;
use crate::telemetry::process::{Process, process};
use crate::telemetry::snapshot::{PoolRow, RefusalRow, TenantRow, WorkerRow};
use crate::telemetry::usage::Usage;
use crate::tls;

/// Everything that one scrape reads.
#[derive(Debug)]
pub(in crate::admin) struct Facts {
    pub(super) ready: bool,
    pub(super) housekeeping: Housekeeping,
    pub(super) findings: Vec<(finding::Kind, String, finding::State, u64)>,
    pub(super) finding_totals: Vec<(finding::Kind, String, Total)>,
    pub(super) findings_turned_away: u64,
    pub(super) left_out: u64,
    pub(super) start_seconds: f64,
    pub(super) process: Process,
    pub(super) pools: Vec<PoolRow>,
    pub(super) tenants: Vec<TenantRow>,
    pub(super) uses: Vec<TenantUse>,
    pub(super) classes: BTreeMap<(String, String), Usage>,
    /// By database and class of work.
    pub(super) latencies: BTreeMap<(String, String), Distribution>,
    pub(super) workers: Vec<WorkerRow>,
    pub(super) listen: ListenTotals,
    pub(super) errors: Vec<(Option<Sqlstate>, u64)>,
    pub(super) refusals: Vec<RefusalRow>,
    pub(super) evicted: u64,
    pub(super) tables: Vec<(&'static str, usize, u64)>,
    pub(super) plans: Vec<(&'static str, u64)>,
    pub(super) tips_dropped: u64,
    pub(super) settings: Arc<Settings>,
    /// Of the pools, in their order.
    pub(super) switches: Vec<Switches>,
    /// Until when certificates of ours hold, by their files.
    pub(super) certificates: Vec<(String, SystemTime)>,
    pub(super) requests: Vec<RouteRow>,
    pub(super) cache: Figures,
    /// Bytes by the tenant's name.
    pub(super) cache_tenants: BTreeMap<String, u64>,
}

impl Facts {
    /// Reads telemetry, the state and the settings.
    pub(in crate::admin) fn read(context: &AdminContext, requests: &Requests) -> Self {
        let AdminContext { telemetry, state, findings, .. } = context;
        let (settings, pools) = (state.settings(), telemetry.pools());
        let cache = state.caches().figures(Instant::now());
        Self {
            ready: state.readiness() == Readiness::Ready,
            housekeeping: state.housekeeping(),
            findings: findings.counts(),
            finding_totals: findings.totals(),
            findings_turned_away: findings.dropped(),
            left_out: findings.left_out(),
            start_seconds: telemetry.clock.start_us() as f64 / 1e6,
            process: process(),
            switches: pools.iter().map(|row| state.switches(&row.name.database)).collect(),
            pools,
            tenants: telemetry.tenants(),
            uses: state.tenancy(false),
            classes: telemetry.classes(),
            latencies: telemetry.latencies(),
            workers: telemetry.workers(),
            listen: telemetry.listening(),
            errors: telemetry.statement_errors(),
            refusals: telemetry.refusals(),
            evicted: telemetry.evicted(),
            tables: telemetry.tables().to_vec(),
            plans: telemetry.plans.outcomes(),
            tips_dropped: telemetry.tips.dropped(),
            certificates: tls::expiries(&settings),
            settings,
            requests: requests.rows(),
            cache_tenants: cache.by_tenant(&telemetry.tenant_names()),
            cache,
        }
    }

    /// How long statements of each class of work took, those of all tenants together: a histogram for each of them would
    /// be too many rows.
    pub(super) fn durations_by_class(&self) -> BTreeMap<&str, Distribution> {
        let mut rows: BTreeMap<&str, Distribution> = BTreeMap::new();
        for ((_, class), usage) in &self.classes {
            rows.entry(class).or_default().merge(&usage.durations);
        }
        rows
    }
}
