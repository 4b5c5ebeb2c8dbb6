//! `/api/v1/queries/{fingerprint}`: all that is known of one statement, in one answer.

use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use policy::finding::Timestamp;
use policy::observe::plans::Row;
use serde_json::{Value, json};

use super::{HOUR, View, fingerprint, period, query_ids, shown_errors};
use crate::admin::AdminContext;
use crate::admin::api::{Answer, Context, round};
use crate::admin::openapi::parameters::Asked;
use crate::admin::plans;
use crate::admin::problem::Problem;
use crate::analyst::findings::Wanted;
use crate::telemetry::TenantId;
use crate::telemetry::callers::Caller;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::row::StatementRow;

/// Tenants, callers, plans and findings shown of one statement.
const MAX_SHOWN: usize = 100;

/// `/api/v1/queries/{fingerprint}`.
pub(in crate::admin) async fn query(State(context): Context, Path(strict): Path<String>, asked: Asked) -> Answer {
    let strict = fingerprint(&strict)?;
    crate::admin::server::aside(move || shown(&context, strict, &asked).map(Json)).await?
}

fn shown(context: &AdminContext, strict: u64, asked: &Asked) -> Result<Value, Problem> {
    let unknown = || {
        let detail =
            "no statement of this fingerprint has run since the start or a reset; GET /api/v1/queries lists them";
        Problem::new(StatusCode::NOT_FOUND, detail)
    };
    let telemetry = &context.telemetry;
    let mut view = View::of(context);
    let mut rows: Vec<StatementRow> = std::mem::take(&mut view.rows);
    rows.retain(|row| row.text.facts.strict == strict && asked.wants("tenant", view.names.name(row.tenant)));
    rows.sort_by_key(|row| (u64::MAX - row.total_us, row.tenant));
    let mut all = rows.iter().cloned().reduce(StatementRow::merged).ok_or_else(unknown)?;
    all.since_us = rows.iter().map(|row| row.since_us).min().unwrap_or(all.since_us);
    let tenant: Option<TenantId> = asked.text("tenant").and_then(|name| view.names.id(name));
    let time_us = all.total_us;
    let tenants: Vec<_> = rows.iter().take(MAX_SHOWN).map(|row| view.show(row, time_us)).collect();
    let mut answer = totals(&all);
    let lately: u64 = rows.iter().map(|row| view.calls_of_last_minute(row)).sum();
    let Some(fields) = answer.as_object_mut() else { return Err(unknown()) };
    if let Some(ids) = query_ids(&view.server_ids, strict) {
        fields.insert("query_id".to_owned(), json!(ids));
    }
    fields.insert("calls_last_minute".to_owned(), lately.into());
    let histogram: Vec<Value> =
        all.durations.filled().map(|(us, calls)| json!({"from_ms": us as f64 / 1e3, "calls": calls})).collect();
    fields.insert("histogram".to_owned(), histogram.into());
    fields.insert("tenants".to_owned(), json!(tenants));
    for (name, caller) in [("applications", Caller::Application), ("databases", Caller::Database)] {
        let seen = telemetry.callers.of_statement(strict, tenant, caller).into_iter().take(MAX_SHOWN);
        let seen =
            seen.map(|(name, seen)| json!({"name": name, "seen": seen.count, "last_seen": rfc3339_us(seen.last_us)}));
        fields.insert(name.to_owned(), seen.collect::<Vec<_>>().into());
    }
    let length = asked.time("period").unwrap_or(HOUR);
    let (series, lately) = period::of_one(context, &view.names, strict, tenant, length, MAX_SHOWN);
    fields.insert("series".to_owned(), series);
    fields.insert("period".to_owned(), lately);
    let own = |row: &Row| row.key.strict == strict && asked.wants("tenant", &row.key.tenant);
    let plans: Vec<Value> =
        telemetry.plans.rows(own).iter().take(MAX_SHOWN).map(|row| plans::shown(row, true)).collect();
    fields.insert("plans".to_owned(), plans.into());
    // What became of the last execution is not said to one tenant: it may have been another one's.
    let fate = context.state.caches().fate(strict, &all.text.text).filter(|_| asked.text("tenant").is_none());
    fields.insert("cache".to_owned(), fate.map_or(Value::Null, crate::admin::cache::fate));
    let wanted = Wanted {
        fingerprint: Some(format!("{strict:016x}")),
        tenant: asked.text("tenant").map(str::to_owned),
        limit: MAX_SHOWN,
        ..Wanted::default()
    };
    let now = Timestamp(telemetry.clock.micros(Instant::now()));
    fields.insert("findings".to_owned(), json!(context.findings.list(&wanted, now).findings));
    Ok(answer)
}

/// Of all tenants that are looked at.
fn totals(row: &StatementRow) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    let percentile = |q| round(row.percentile_us(q) / 1e3);
    json!({
        "fingerprint": format!("{:016x}", row.text.facts.strict),
        "family": format!("{:016x}", row.text.facts.family),
        "class": row.text.class.name(),
        "text": row.text.text,
        "calls": row.calls,
        "prepared_calls": row.prepared_calls,
        "cached_calls": row.cached_calls,
        "errors": row.errors,
        "errors_by_sqlstate": shown_errors(row),
        "rows": row.rows,
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "total_ms": ms(row.total_us),
        "queue_ms": ms(row.queue.sum_us),
        "server_ms": ms(row.server.sum_us),
        "back_pressure_ms": ms(row.back_pressure.sum_us),
        "mean_ms": round(row.mean_us() / 1e3),
        "min_ms": ms(row.min_us),
        "max_ms": ms(row.max_us),
        "p50_ms": percentile(0.50),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
        "first_seen": rfc3339_us(row.first_seen_us),
        "last_seen": rfc3339_us(row.last_seen_us),
        "since": rfc3339_us(row.since_us),
    })
}
