//! `/api/v1/…`: what operators and scripts read, as JSON. Every field is described in `docs/admin-api.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use config::{Pool, PoolMode, Settings};
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::openapi::parameters::Asked;
use super::problem::Problem;
use super::source::{Switches, TenantState};
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::pool::{CloseReason, PinReason, PoolTotals, Reason};
use crate::telemetry::snapshot::PoolRow;

/// Rows in a list unless the request says otherwise.
pub(super) const DEFAULT_LIMIT: usize = 50;
/// Most rows in a list.
pub(super) const MAX_LIMIT: usize = 1_000;

pub(super) type Context = State<Arc<AdminContext>>;
pub(super) type Answer = Result<Json<Value>, Problem>;

/// `/api/v1/version`.
pub(super) async fn version(State(context): Context) -> Json<Value> {
    let clock = context.telemetry.clock;
    let uptime_us = clock.micros(Instant::now()) - clock.start_us();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": rfc3339_us(clock.start_us()),
        "uptime_seconds": uptime_us / 1_000_000,
        "workers": context.state.settings().workers,
    }))
}

/// `/api/v1/pools`.
pub(super) async fn pools(State(context): Context, asked: Asked) -> Json<Value> {
    let settings = context.state.settings();
    let pools: Vec<_> = context
        .telemetry
        .pools()
        .iter()
        .filter(|row| asked.wants("database", &row.name.database) && asked.wants("user", &row.name.user))
        .map(|row| {
            let mut pool = pool(row, &settings, context.state.switches(&row.name.database));
            let queue = context.state.queue(&row.name.database, &row.name.user, SHOWN_TENANTS);
            if let Some(object) = pool.as_object_mut() {
                object.insert("tenants".into(), queue.iter().map(standing).collect());
            }
            pool
        })
        .collect();
    Json(json!({"pools": pools}))
}

/// Tenants that are shown of each pool: those with most clients that wait.
const SHOWN_TENANTS: usize = 20;

fn standing(state: &TenantState) -> Value {
    json!({
        "tenant": state.tenant,
        "waiting": state.waiting,
        "holding": state.held,
        "weight": state.share.weight,
        "min_upstreams": state.share.min,
        "max_upstreams": state.share.max,
        "max_waiting": state.share.max_waiting,
    })
}

fn pool(row: &PoolRow, settings: &Settings, switches: Switches) -> Value {
    let totals = &row.totals;
    let own = settings.pool_of(&row.name.database, &row.name.user);
    let mut object = json!({
        "database": row.name.database,
        "user": row.name.user,
        "paused": switches.paused,
        "disabled": switches.disabled,
        "clients": {
            "total": totals.clients.max(0),
            "active": totals.clients_active.max(0),
            "waiting": totals.clients_waiting.max(0),
            "idle": (totals.clients - totals.clients_active - totals.clients_waiting).max(0),
        },
        "upstreams": {
            "active": totals.upstreams_active.max(0),
            "idle": totals.upstreams_idle.max(0),
            "dialling": totals.upstreams_dialling.max(0),
            "pinned": totals.pinned.max(0),
        },
    });
    if let (Some(object), Some(own)) = (object.as_object_mut(), own) {
        object.insert("settings".into(), pool_settings(&own));
    }
    if let Some(object) = object.as_object_mut() {
        object.append(&mut pool_counters(totals));
    }
    object
}

fn pool_settings(pool: &Pool) -> Value {
    json!({
        "mode": mode(pool.mode),
        "size": pool.size,
        "min_size": pool.min_size,
        "reserve_size": pool.reserve_size,
        "queue_timeout_ms": millis(pool.queue_timeout),
    })
}

/// A mode's name.
pub(super) fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

fn pool_counters(totals: &PoolTotals) -> Map<String, Value> {
    let counters = json!({
        "checkouts": totals.checkouts,
        "queue_timeouts": totals.queue_timeouts,
        "queue_refusals": totals.queue_refusals,
        "wait_ms": spread(&totals.waits),
        "dials": totals.dials,
        "dial_failures": totals.dial_failures,
        "dial_ms": spread(&totals.dial_times),
        "closes": reasons::<CloseReason>(&totals.closes),
        "resets": totals.resets,
        "pins": reasons::<PinReason>(&totals.pins),
        "pins_ended": totals.pins_ended,
        "discards": reasons::<PinReason>(&totals.discards),
        "rejects": reasons::<PinReason>(&totals.rejects),
        "cancels": {
            "requested": totals.cancels_requested,
            "forwarded": totals.cancels_forwarded,
            "ignored": totals.cancels_ignored,
        },
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "transactions": totals.transactions,
        "transaction_ms": totals.transaction_us as f64 / 1e3,
        "statements": totals.statements,
        "statement_errors": totals.statement_errors,
        "statement_ms": spread(&totals.durations),
        "prepared": {
            "parses": totals.parses,
            "binds": totals.binds,
            "hits": totals.prepared_hits,
            "injected": totals.prepared_injected,
            "evictions": totals.prepared_evictions,
            "retries": totals.prepared_retries,
        },
        "settings_sent": totals.settings_sent,
    });
    match counters {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Only the reasons that have happened.
fn reasons<R: Reason>(counts: &[u64]) -> Map<String, Value> {
    let happened = R::all().iter().zip(counts).filter(|(_, count)| **count > 0);
    happened.map(|(reason, count)| (reason.label().to_owned(), json!(count))).collect()
}

/// Sum and percentiles in ms.
pub(super) fn spread(durations: &Distribution) -> Value {
    let percentile = |q| round(durations.percentile(q, 0, u64::MAX) / 1e3);
    json!({
        "total": durations.sum_us as f64 / 1e3,
        "p50": percentile(0.50),
        "p95": percentile(0.95),
        "p99": percentile(0.99),
    })
}

/// Milliseconds to the µs.
pub(super) fn round(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

/// `/api/v1/sockets`.
pub(super) async fn sockets(State(context): Context) -> Json<Value> {
    Json(json!({"sockets": context.state.sockets()}))
}

/// `/api/v1/listeners`.
pub(super) async fn listeners(State(context): Context) -> Json<Value> {
    Json(json!({"listeners": context.state.listeners()}))
}
