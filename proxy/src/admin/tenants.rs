//! `/api/v1/tenants`: what each tenant does, what it uses, and what it is held to.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::api::Context;
use super::redacted;
use super::source::TenantUse;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::snapshot::TenantRow;
use crate::tenancy::Reached;
use policy::limits::Explained;

/// `/api/v1/tenants`.
pub(super) async fn tenants(State(context): Context) -> Json<Value> {
    let mut uses: BTreeMap<String, Vec<TenantUse>> = BTreeMap::new();
    for own in context.state.tenancy() {
        uses.entry(own.tenant.clone()).or_default().push(own);
    }
    let rows: BTreeMap<String, TenantRow> =
        context.telemetry.tenants().into_iter().map(|row| (row.tenant.clone(), row)).collect();
    // One that is connected and has run nothing yet is there too.
    let mut names: Vec<&String> = rows.keys().chain(uses.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let shown: Vec<Value> =
        names.into_iter().map(|name| tenant(name, rows.get(name), uses.get(name).map_or(&[], Vec::as_slice))).collect();
    Json(json!({"tenants": shown}))
}

fn tenant(name: &str, row: Option<&TenantRow>, uses: &[TenantUse]) -> Value {
    let mut shown = row.map(traffic).unwrap_or_default();
    shown.insert("tenant".to_owned(), name.into());
    let (all, classes): (Vec<&TenantUse>, Vec<&TenantUse>) = uses.iter().partition(|own| own.class.is_empty());
    let all = all.first().copied().cloned().unwrap_or_default();
    let classes: Map<String, Value> = classes.into_iter().map(|own| (own.class.clone(), used(own).into())).collect();
    shown.extend(used(&all));
    shown.insert("classes".to_owned(), classes.into());
    shown.into()
}

fn used(own: &TenantUse) -> Map<String, Value> {
    let limits = own.limits.iter().filter_map(limit);
    let reached: Map<String, Value> = own.reached.iter().map(hits).collect();
    Map::from_iter([
        ("clients".to_owned(), own.clients.into()),
        ("running".to_owned(), own.running.into()),
        ("limits_reached".to_owned(), reached.into()),
        ("limits".to_owned(), limits.collect::<Map<_, _>>().into()),
    ])
}

fn hits(reached: &Reached) -> (String, Value) {
    let counts = json!({"observed": reached.observed, "warned": reached.warned, "enforced": reached.enforced});
    (reached.key.word().to_owned(), counts)
}

/// One limit in force: its value, the table that says it, and what happens when it is reached.
pub(crate) fn limit(explained: &Explained) -> Option<(String, Value)> {
    let (name, value) = redacted::limit(explained.key, explained.value.as_ref()?);
    let mode = explained.mode.map(config::Mode::word);
    Some((name, json!({"value": value, "from": explained.from.shown(), "mode": mode})))
}

fn traffic(row: &TenantRow) -> Map<String, Value> {
    let ms = |us: u64| us as f64 / 1e3;
    let seen = (row.last_seen_us > 0).then(|| rfc3339_us(row.last_seen_us));
    let shown = json!({
        "fingerprints": row.fingerprints,
        "statements": row.calls,
        "errors": row.errors,
        "statement_timeouts": row.statement_timeouts,
        "refusals": row.refusals,
        "rows": row.rows,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "total_ms": ms(row.total_us),
        "queue_ms": ms(row.queue_us),
        "server_ms": ms(row.server_us),
        "back_pressure_ms": ms(row.back_pressure_us),
        "max_ms": ms(row.max_us),
        "last_seen": seen,
    });
    match shown {
        Value::Object(shown) => shown,
        _ => Map::new(),
    }
}
