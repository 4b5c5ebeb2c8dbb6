//! The watch: looks every two seconds at how things are, and tells what has changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::finding::Timestamp;
use serde_json::{Value, json};

use super::memory::Look;
use super::samples::{ByDatabase, Done};
use crate::admin::api::round;
use crate::admin::{AdminContext, Readiness, server};
use crate::analyst::findings::Wanted;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::history::Step;
use crate::telemetry::lock;

/// Time between two looks.
pub(in crate::admin) const INTERVAL: Duration = Duration::from_secs(2);
/// Looks between two at the limits of all tenants.
const LIMITS_EVERY: u64 = 5;
/// Findings told at once: the rest come with the next look.
const MAX_FINDINGS: usize = 200;
/// Tenants of a pool's queue that are looked at.
const MAX_QUEUED: usize = 1_000;
/// How far back the last ten seconds that are over can have begun, in µs.
const P95_US: u64 = 20_000_000;

/// The few numbers that a live page shows.
#[derive(Debug, Default)]
pub(in crate::admin) struct Tick {
    /// When, in µs since 1970; 0: never.
    pub(in crate::admin) at_us: u64,
    /// Of all together.
    pub(in crate::admin) all: Numbers,
    /// By tenant, where somebody listens.
    tenants: HashMap<String, Numbers>,
    /// Sums at that time, to be compared with at the next.
    sums: HashMap<String, (u64, u64)>,
}

/// Numbers of all, or of a tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::admin) struct Numbers {
    pub(in crate::admin) statements_per_second: f64,
    pub(in crate::admin) errors_per_second: f64,
    pub(in crate::admin) clients: u64,
    pub(in crate::admin) waiting: u64,
    /// Active and idle; `None`: they are nobody's.
    pub(in crate::admin) upstreams: Option<(u64, u64)>,
    pub(in crate::admin) clients_active: Option<u64>,
    /// Of the last ten seconds that are over.
    pub(in crate::admin) p95_ms: Option<f64>,
}

impl Tick {
    /// As a stream has it; `None`: nothing is known of this tenant yet.
    pub(super) fn shown(&self, tenant: Option<&str>) -> Option<Value> {
        let numbers = match tenant {
            Some(tenant) => self.tenants.get(tenant)?,
            None => &self.all,
        };
        Some(json!({
            "at": rfc3339_us(self.at_us),
            "statements_per_second": numbers.statements_per_second,
            "errors_per_second": numbers.errors_per_second,
            "clients": numbers.clients,
            "waiting": numbers.waiting,
            "upstreams": numbers.upstreams.map(|(active, idle)| active + idle),
            "p95_ms": numbers.p95_ms,
        }))
    }
}

/// Looks until it is dropped. What it adds up is added up on a thread of its own.
pub(in crate::admin) async fn watch(context: Arc<AdminContext>) {
    for turn in 0_u64.. {
        let own = Arc::clone(&context);
        if server::aside(move || look(&own, turn.is_multiple_of(LIMITS_EVERY))).await.is_err() {
            tracing::error!("the watch over the proxy's state has failed once; it goes on");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = context.events.wake.notified() => {}
        }
    }
}

/// One look.
pub(in crate::admin) fn look(context: &AdminContext, limits: bool) {
    let now_us = context.telemetry.clock.micros(Instant::now());
    let housekeeping = context.state.housekeeping();
    let reloads = &housekeeping.reloads;
    let listing = {
        let since = lock(&context.events.memory).sequence;
        let wanted = Wanted { since: Some(since), limit: MAX_FINDINGS, ..Wanted::default() };
        context.findings.list(&wanted, Timestamp(now_us))
    };
    let seen = Look {
        now_us,
        pools: context.state.pool_states(),
        draining: context.state.readiness() != Readiness::Ready,
        suspended: housekeeping.suspended,
        short_of_memory: housekeeping.short_of_memory,
        reloads: (reloads.done, reloads.refused, reloads.error.is_some()),
        findings: listing.findings,
        limits: limits.then(|| {
            let uses = context.state.tenancy(false).into_iter().filter(|own| own.class.is_empty());
            uses.filter(|own| !own.reached.is_empty()).map(|own| (own.tenant, own.reached)).collect()
        }),
        losses: losses(context, housekeeping.log_lines_lost),
    };
    let tick = tick(context, now_us, &seen);
    let is_due = lock(&context.events.memory).samples.is_due(now_us);
    let done = is_due.then(|| done(context));
    let events = {
        let mut memory = lock(&context.events.memory);
        memory.sequence = listing.sequence;
        if let Some(done) = done {
            memory.samples.put(now_us, context.telemetry.clock.start_us(), done);
        }
        memory.take(&seen)
    };
    context.events.publish(events, tick);
}

/// What every database has done since the start.
fn done(context: &AdminContext) -> ByDatabase {
    let all = context.telemetry.databases().into_iter();
    all.map(|(name, usage)| (name.into(), Done { calls: usage.durations.count(), errors: usage.errors })).collect()
}

/// What is lost when there is too much of it.
fn losses(context: &AdminContext, log_lines: u64) -> Vec<(&'static str, u64)> {
    let workers = context.telemetry.workers();
    let dropped = workers.iter().map(|worker| worker.events_dropped).sum();
    let mut losses = vec![
        ("log lines", log_lines),
        ("events of the analyst", dropped),
        ("bursts under detection", context.findings.left_out()),
        ("findings", context.findings.dropped()),
    ];
    losses.extend(context.telemetry.tables().into_iter().map(|(table, _, turned_away)| {
        let name = match table {
            "statements" => "fingerprints beyond observe.max_fingerprints",
            "pools" => "pools in statistics",
            "applications" => "applications in statistics",
            "scopes" => "clients under detection",
            "routes" => "routes in statistics",
            "descriptions" => "descriptions of results",
            _ => "windows of the history",
        };
        (name, turned_away)
    }));
    losses
}

fn tick(context: &AdminContext, now_us: u64, seen: &Look) -> Tick {
    let telemetry = &context.telemetry;
    let before = context.events.tick();
    let seconds = now_us.saturating_sub(before.at_us) as f64 / 1e6;
    let rate = |now: u64, then: u64| {
        if before.at_us == 0 || seconds <= 0.0 { 0.0 } else { round(now.saturating_sub(then) as f64 / seconds) }
    };
    let mut sums = HashMap::new();
    let mut all = Numbers::default();
    let (mut statements, mut errors, mut active, mut idle, mut held) = (0, 0, 0, 0, 0);
    for row in telemetry.pools() {
        let totals = &row.totals;
        statements += totals.statements;
        errors += totals.statement_errors;
        let positive = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        all.clients += positive(totals.clients);
        all.waiting += positive(totals.clients_waiting);
        held += positive(totals.clients_active);
        active += positive(totals.upstreams_active);
        idle += positive(totals.upstreams_idle);
    }
    let (then_statements, then_errors) = before.sums.get("").copied().unwrap_or_default();
    all.statements_per_second = rate(statements, then_statements);
    all.errors_per_second = rate(errors, then_errors);
    all.upstreams = Some((active, idle));
    all.clients_active = Some(held);
    let course = telemetry.course(None, Step::TenSeconds, now_us.saturating_sub(P95_US));
    all.p95_ms = course.stretches.last().and_then(|stretch| p95_ms(stretch.point.p95_us));
    sums.insert(String::new(), (statements, errors));
    let mut tenants = HashMap::new();
    if context.events.streams() > 0 {
        let names = telemetry.tenant_names();
        // All at once: there may be thousands of tenants, and each one's would have to be looked for among all others'.
        let p95 = telemetry.last_p95_of_tenants(Step::TenSeconds, now_us.saturating_sub(P95_US));
        let p95: HashMap<&str, u64> = p95.into_iter().map(|(id, us)| (names.name(id), us)).collect();
        for row in telemetry.tenants() {
            let known = before.sums.get(&row.tenant).copied();
            let (then_statements, then_errors) = known.unwrap_or((row.calls, row.errors));
            let numbers = Numbers {
                statements_per_second: rate(row.calls, then_statements),
                errors_per_second: rate(row.errors, then_errors),
                p95_ms: p95.get(&*row.tenant).copied().and_then(p95_ms),
                ..Numbers::default()
            };
            sums.insert(row.tenant.clone(), (row.calls, row.errors));
            tenants.insert(row.tenant, numbers);
        }
        for own in context.state.tenancy(false).into_iter().filter(|own| own.class.is_empty()) {
            tenants.entry(own.tenant).or_default().clients = own.clients.into();
        }
        for pool in seen.pools.iter().filter(|pool| pool.waiting > 0) {
            for standing in context.state.queue(&pool.database, &pool.user, MAX_QUEUED) {
                let numbers = tenants.entry(standing.tenant).or_default();
                numbers.waiting += standing.waiting as u64;
            }
        }
    }
    Tick { at_us: now_us, all, tenants, sums }
}

/// In milliseconds; `None`: nothing was called.
fn p95_ms(us: u64) -> Option<f64> {
    (us > 0).then(|| round(us as f64 / 1e3))
}
