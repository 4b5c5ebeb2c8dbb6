//! `/api/v1/overview`: what is wrong, and ten numbers that tell how it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use axum::extract::State;
use axum::{Extension, Json};
use policy::finding::{State as Finding, Timestamp};
use serde_json::{Map, Value, json};

use super::access::Viewer;
use super::api::{Answer, Context, round};
use super::openapi::parameters::Asked;
use super::verdicts::{Facts, Verdict, checked, verdicts};
use super::{AdminContext, Readiness};
use crate::analyst::findings::Wanted;
use crate::telemetry::TenantId;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::history::{Course, Step};

/// Of errors: what is new, and what it is compared with.
const RECENT_US: u64 = 300 * 1_000_000;
const HOUR_US: u64 = 3_600 * 1_000_000;
/// Open findings that are looked at one by one, the gravest first.
const MAX_FINDINGS: usize = 500;
/// Minutes of the series.
const MINUTES: usize = 60;

/// `/api/v1/overview`.
pub(super) async fn overview(State(context): Context, Extension(viewer): Extension<Viewer>, asked: Asked) -> Answer {
    let tenant = viewer.tenant().or(asked.text("tenant")).map(str::to_owned);
    super::server::aside(move || Json(shown(&context, tenant))).await
}

fn shown(context: &Arc<AdminContext>, tenant: Option<String>) -> Value {
    let telemetry = &context.telemetry;
    let now_us = telemetry.clock.micros(Instant::now());
    let id = tenant.as_deref().map(|name| telemetry.tenant_names().id(name));
    // A tenant that nobody has heard of has run nothing.
    let course = |step, from_us| match id {
        Some(None) => Course { stretches: Vec::new(), complete_from_us: from_us },
        Some(id) => telemetry.course(id, step, from_us),
        None => telemetry.course(None::<TenantId>, step, from_us),
    };
    let begin_us = now_us.saturating_sub(RECENT_US + HOUR_US);
    let minutes = course(Step::Minute, begin_us);
    let recent = course(Step::TenSeconds, now_us.saturating_sub(RECENT_US));
    let facts = facts(context, now_us, tenant.clone(), &recent, &minutes);
    let open: u64 = facts.open.values().sum();
    let verdicts: Vec<Value> = verdicts(&facts).iter().map(told).collect();
    json!({
        "at": rfc3339_us(now_us),
        "verdicts": verdicts,
        "checked": checked(tenant.is_some()),
        "numbers": numbers(context, tenant.as_deref(), &recent, open),
        "series": series(now_us, &minutes),
    })
}

/// Calls and errors of some windows.
fn sums(course: &Course, wanted: impl Fn(u64) -> bool) -> (u64, u64) {
    let wanted = course.stretches.iter().filter(|stretch| wanted(stretch.start_us));
    wanted.fold((0, 0), |(calls, errors), stretch| (calls + stretch.point.calls, errors + stretch.point.errors))
}

fn facts(context: &AdminContext, now_us: u64, tenant: Option<String>, recent: &Course, minutes: &Course) -> Facts {
    let wanted =
        Wanted { tenant: tenant.clone(), state: Some(Finding::Open), limit: MAX_FINDINGS, ..Wanted::default() };
    let memory = context.events.memory();
    let mut open = BTreeMap::new();
    for (kind, owner, state, count) in context.findings.counts() {
        if state == Finding::Open && tenant.as_ref().is_none_or(|tenant| *tenant == owner) {
            *open.entry(kind.name()).or_insert(0) += count;
        }
    }
    let own = Facts {
        now_us,
        recent: sums(recent, |_| true),
        before: sums(minutes, |start_us| start_us < now_us.saturating_sub(RECENT_US)),
        findings: context.findings.list(&wanted, Timestamp(now_us)).findings,
        open,
        limits: memory.limits,
        tenant,
        ..Facts::default()
    };
    if own.tenant.is_some() {
        return own;
    }
    let housekeeping = context.state.housekeeping();
    let reloads = &housekeeping.reloads;
    let tried_us = reloads.last.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(|since| since.as_micros() as u64);
    let pools = context.state.pool_states().into_iter().map(|pool| {
        let since = memory.pools.get(&(pool.database.clone(), pool.user.clone())).copied().unwrap_or_default();
        (pool, since)
    });
    Facts {
        pools: pools.collect(),
        losses: memory.losses,
        draining: (context.state.readiness() != Readiness::Ready).then_some(memory.draining),
        suspended: housekeeping.suspended.then_some(memory.suspended),
        short_of_memory: housekeeping.short_of_memory.then_some(memory.short_of_memory),
        reload: reloads.error.as_ref().map(|why| (tried_us, why.lines().next().unwrap_or_default().to_owned())),
        tenant_table: housekeeping.tenant_table,
        ..own
    }
}

fn told(verdict: &Verdict) -> Value {
    let numbers: Map<String, Value> =
        verdict.numbers.iter().map(|(name, number)| ((*name).to_owned(), json!(number))).collect();
    json!({
        "kind": verdict.kind,
        "severity": verdict.severity.word(),
        "what": verdict.what,
        "since": verdict.since_us.map(rfc3339_us),
        "whom": {
            "tenant": verdict.tenant,
            "database": verdict.database,
            "user": verdict.user,
            "fingerprint": verdict.fingerprint,
        },
        "evidence": verdict.evidence,
        "numbers": numbers,
        "advice": verdict.advice,
        "link": verdict.link,
    })
}

/// Ten numbers: of all, or of a tenant, who is not shown what others do.
fn numbers(context: &AdminContext, tenant: Option<&str>, recent: &Course, open: u64) -> Value {
    let (calls, errors) = sums(recent, |_| true);
    let share = (errors as f64 / calls.max(1) as f64 * 1e6).round() / 1e6;
    let last = recent.stretches.last();
    let per_second = |count: u64| {
        let seconds = last.map_or(0, |last| last.end_us - last.start_us) as f64 / 1e6;
        if seconds > 0.0 { round(count as f64 / seconds) } else { 0.0 }
    };
    let p95 = last.filter(|last| last.point.p95_us > 0).map(|last| round(last.point.p95_us as f64 / 1e3));
    let Some(tenant) = tenant else {
        let tick = context.events.tick();
        let all = &tick.all;
        return json!({
            "statements_per_second": all.statements_per_second,
            "errors_per_second": all.errors_per_second,
            "error_share": share,
            "p95_ms": all.p95_ms,
            "clients": all.clients,
            "clients_active": all.clients_active,
            "clients_waiting": all.waiting,
            "upstreams_active": all.upstreams.map(|(active, _)| active),
            "upstreams_idle": all.upstreams.map(|(_, idle)| idle),
            "findings_open": open,
        });
    };
    let uses = context.state.tenancy(false);
    let clients = uses.iter().find(|own| own.tenant == tenant && own.class.is_empty()).map_or(0, |own| own.clients);
    let waited_for = context.state.pool_states().into_iter().filter(|pool| pool.waiting > 0);
    let standings = waited_for.flat_map(|pool| context.state.queue(&pool.database, &pool.user, usize::MAX));
    let waiting: usize = standings.filter(|standing| standing.tenant == tenant).map(|standing| standing.waiting).sum();
    json!({
        "statements_per_second": last.map_or(0.0, |last| per_second(last.point.calls)),
        "errors_per_second": last.map_or(0.0, |last| per_second(last.point.errors)),
        "error_share": share,
        "p95_ms": p95,
        "clients": clients,
        "clients_active": null,
        "clients_waiting": waiting,
        "upstreams_active": null,
        "upstreams_idle": null,
        "findings_open": open,
    })
}

/// The last hour, minute by minute, up to the last one that is over.
fn series(now_us: u64, minutes: &Course) -> Value {
    let minute_us = Step::Minute.length_us();
    let end_us = now_us - now_us % minute_us;
    let start_us = end_us.saturating_sub(MINUTES as u64 * minute_us);
    let (mut calls, mut errors, mut p95) = (vec![0; MINUTES], vec![0; MINUTES], vec![None; MINUTES]);
    for stretch in &minutes.stretches {
        // By its end: what lasted longer than a minute was looked at late.
        let Some(place) = stretch.end_us.checked_sub(start_us + 1).map(|since| (since / minute_us) as usize) else {
            continue;
        };
        if let (Some(calls), Some(errors), Some(p95)) =
            (calls.get_mut(place), errors.get_mut(place), p95.get_mut(place))
        {
            *calls += stretch.point.calls;
            *errors += stretch.point.errors;
            *p95 = (stretch.point.p95_us > 0).then(|| round(stretch.point.p95_us as f64 / 1e3)).or(*p95);
        }
    }
    json!({
        "step": config::units::show_duration(Duration::from_micros(minute_us)),
        "start": rfc3339_us(start_us),
        "complete_from": rfc3339_us(minutes.complete_from_us.max(start_us)),
        "calls": calls,
        "errors": errors,
        "p95_ms": p95,
    })
}
