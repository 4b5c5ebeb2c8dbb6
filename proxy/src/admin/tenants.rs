//! `/api/v1/tenants`: what each tenant does, what it uses, and what it is held to.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::access::Viewer;
use super::api::{Answer, Context};
use super::problem::Problem;
use super::redacted;
use super::source::TenantUse;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::snapshot::TenantRow;
use crate::telemetry::usage::Usage;
use crate::tenancy::Reached;
use policy::limits::Explained;

/// What may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantQuery {
    tenant: Option<String>,
}

type AskedTenant = Result<Query<TenantQuery>, axum::extract::rejection::QueryRejection>;

/// `/api/v1/tenants`.
pub(super) async fn tenants(
    State(context): Context,
    Extension(viewer): Extension<Viewer>,
    asked: AskedTenant,
) -> Answer {
    let Query(TenantQuery { tenant: wanted }) =
        asked.map_err(|rejection| Problem::new(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    super::server::aside(move || {
        let mut uses: BTreeMap<String, Vec<TenantUse>> = BTreeMap::new();
        for own in context.state.tenancy(true) {
            uses.entry(own.tenant.clone()).or_default().push(own);
        }
        let mut classes: BTreeMap<String, BTreeMap<String, Usage>> = BTreeMap::new();
        for ((tenant, class), usage) in context.telemetry.classes() {
            classes.entry(tenant).or_default().insert(class, usage);
        }
        let rows = context.telemetry.tenants();
        // What share a tenant has tells how much the others do.
        let whole = viewer.tenant().is_none().then(|| Whole::of(&rows));
        let rows: BTreeMap<String, TenantRow> = rows.into_iter().map(|row| (row.tenant.clone(), row)).collect();
        // One that is connected and has run nothing yet is there too.
        let mut names: Vec<&String> = rows.keys().chain(uses.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names.retain(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name));
        let none = BTreeMap::new();
        let shown = names.into_iter().map(|name| {
            let uses = uses.get(name).map_or(&[][..], Vec::as_slice);
            tenant(name, rows.get(name), whole.as_ref(), uses, classes.get(name).unwrap_or(&none))
        });
        Json(json!({"tenants": shown.collect::<Vec<Value>>()}))
    })
    .await
}

/// The time of all tenants' statements.
struct Whole {
    total_us: u64,
    server_us: u64,
}

impl Whole {
    fn of(rows: &[TenantRow]) -> Self {
        let sum = |of: fn(&TenantRow) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
        Self { total_us: sum(|row| row.total_us), server_us: sum(|row| row.server_us) }
    }

    /// What share of it is this tenant's.
    fn share(&self, row: &TenantRow) -> Value {
        let of = |part: u64, whole: u64| (part as f64 / whole.max(1) as f64 * 1e4).round() / 1e4;
        json!({"time": of(row.total_us, self.total_us), "server": of(row.server_us, self.server_us)})
    }
}

fn tenant(
    name: &str,
    row: Option<&TenantRow>,
    whole: Option<&Whole>,
    uses: &[TenantUse],
    classes: &BTreeMap<String, Usage>,
) -> Value {
    let mut shown = row.map(traffic).unwrap_or_default();
    shown.insert("tenant".to_owned(), name.into());
    if let (Some(row), Some(whole)) = (row, whole) {
        shown.insert("share".to_owned(), whole.share(row));
    }
    let (all, of_classes): (Vec<&TenantUse>, Vec<&TenantUse>) = uses.iter().partition(|own| own.class.is_empty());
    shown.extend(used(&all.first().copied().cloned().unwrap_or_default()));
    // Those without clients now, and those that have run nothing yet.
    let mut names: Vec<&String> = of_classes.iter().map(|own| &own.class).chain(classes.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of_classes: Map<String, Value> = names
        .into_iter()
        .map(|class| {
            let mut shown = classes.get(class).map(work).unwrap_or_default();
            let own = of_classes.iter().find(|own| own.class == *class).copied().cloned().unwrap_or_default();
            shown.extend(used(&own));
            shown.insert("class_limits".to_owned(), in_force(&own.limits, true).into());
            (class.clone(), shown.into())
        })
        .collect();
    shown.insert("classes".to_owned(), of_classes.into());
    shown.into()
}

fn used(own: &TenantUse) -> Map<String, Value> {
    let reached: Map<String, Value> = own.reached.iter().map(hits).collect();
    Map::from_iter([
        ("clients".to_owned(), own.clients.into()),
        ("connections".to_owned(), own.joined.into()),
        ("running".to_owned(), own.running.into()),
        ("limits_reached".to_owned(), reached.into()),
        ("limits".to_owned(), in_force(&own.limits, false).into()),
    ])
}

/// Limits by their keys: those of a class's own part of a pool, or all others.
pub(super) fn in_force(limits: &[Explained], of_class: bool) -> Map<String, Value> {
    limits.iter().filter(|limit| limit.is_of_class() == of_class).filter_map(limit).collect()
}

pub(super) fn hits(reached: &Reached) -> (String, Value) {
    let counts = json!({"observed": reached.observed, "warned": reached.warned, "enforced": reached.enforced});
    (reached.key.word().to_owned(), counts)
}

/// One limit in force: its value, the table that says it, and what happens when it is reached.
pub(crate) fn limit(explained: &Explained) -> Option<(String, Value)> {
    let (name, value) = redacted::limit(explained.key, explained.value.as_ref()?);
    let mode = explained.mode.map(config::Mode::word);
    Some((name, json!({"value": value, "from": explained.from.shown(), "mode": mode})))
}

/// What the statements of one class came to.
fn work(usage: &Usage) -> Map<String, Value> {
    let ms = |us: u64| us as f64 / 1e3;
    object(json!({
        "statements": usage.durations.count(),
        "errors": usage.errors,
        "rows": usage.rows,
        "bytes_in": usage.bytes_in,
        "bytes_out": usage.bytes_out,
        "total_ms": ms(usage.durations.sum_us),
        "queue_ms": ms(usage.queue_us),
        "server_ms": ms(usage.server_us),
        "back_pressure_ms": ms(usage.back_pressure_us),
    }))
}

fn traffic(row: &TenantRow) -> Map<String, Value> {
    let ms = |us: u64| us as f64 / 1e3;
    let seen = (row.last_seen_us > 0).then(|| rfc3339_us(row.last_seen_us));
    object(json!({
        "fingerprints": row.fingerprints,
        "statements": row.calls,
        "errors": row.errors,
        "statement_timeouts": row.statement_timeouts,
        "queue_timeouts": row.queue_timeouts,
        "refusals": row.refusals,
        "refusals_by_sqlstate": row.refused,
        "pins": row.pins,
        "discards": row.discards,
        "rejects": row.rejects,
        "rows": row.rows,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "total_ms": ms(row.total_us),
        "queue_ms": ms(row.queue_us),
        "server_ms": ms(row.server_us),
        "back_pressure_ms": ms(row.back_pressure_us),
        "max_ms": ms(row.max_us),
        "last_seen": seen,
    }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
