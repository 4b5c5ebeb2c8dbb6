//! `/api/v1/queries` and what belongs to it: statements with their statistics.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::api::{Answer, Asked, Context, ListQuery, round};
use super::problem::Problem;
use crate::server_ids::Ids;
use crate::telemetry::TenantId;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::row::{PartRow, StatementRow};
use crate::telemetry::snapshot::TenantNames;

/// `/api/v1/queries`.
pub(super) async fn queries(State(context): Context, asked: Asked) -> Answer {
    let (query, limit) = ListQuery::checked(asked, &["tenant", "sort"])?;
    let sort = Sort::named(query.sort.as_deref().unwrap_or("total_time"))?;
    super::server::aside(move || Json(list(&context, &query, &sort, limit))).await
}

fn list(context: &AdminContext, query: &ListQuery, sort: &Sort, limit: usize) -> Value {
    let mut view = View::of(context);
    let names = &view.names;
    view.rows.retain(|row| query.wants_tenant(names.name(row.tenant)));
    let total = view.rows.len();
    let time_us = view.time_us();
    sort.apply(&mut view.rows);
    view.rows.truncate(limit);
    let queries: Vec<_> = view.rows.iter().map(|row| view.show(row, time_us)).collect();
    json!({"total": total, "queries": queries})
}

/// `/api/v1/queries/snapshot`: every row, one to a line, behind a line that says what it is.
pub(super) async fn snapshot(State(context): Context) -> Result<Response, Problem> {
    let text = super::server::aside(move || lines(&context)).await?;
    let kind = HeaderValue::from_static("application/x-ndjson");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

fn lines(context: &AdminContext) -> String {
    let mut view = View::of(context);
    // The same order each time: two snapshots can be compared line by line.
    view.rows.sort_by_key(|row| (row.text.facts.strict, row.tenant));
    let head = json!({
        "format": "pgweir-queries",
        "version": env!("CARGO_PKG_VERSION"),
        "since": rfc3339_us(context.telemetry.statements_since_us()),
        "until": rfc3339_us(view.now_us),
        "queries": view.rows.len(),
    });
    let mut text = format!("{head}\n");
    let time_us = view.time_us();
    for row in &view.rows {
        let histograms = Histograms::of(row);
        let line = serde_json::to_string(&Line { query: view.show(row, time_us), histograms }).unwrap_or_default();
        _ = writeln!(text, "{line}");
    }
    text
}

/// What a reset may name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetQuery {
    fingerprint: Option<String>,
    tenant: Option<String>,
}

/// `POST /api/v1/queries/reset`.
pub(super) async fn reset(
    State(context): Context,
    asked: Result<Query<ResetQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let strict = asked.fingerprint.as_deref().map(fingerprint).transpose()?;
    super::server::aside(move || {
        let telemetry = &context.telemetry;
        let now_us = telemetry.clock.micros(Instant::now());
        let reset = if strict.is_none() && asked.tenant.is_none() {
            telemetry.reset_statements(now_us)
        } else {
            let names = telemetry.tenant_names();
            telemetry.reset_some(now_us, |known, tenant| {
                strict.is_none_or(|strict| strict == known)
                    && asked.tenant.as_deref().is_none_or(|wanted| wanted == names.name(tenant))
            })
        };
        tracing::info!(
            reset,
            fingerprint = asked.fingerprint,
            tenant = asked.tenant,
            "statistics of statements are counted anew"
        );
        Json(json!({"reset": reset, "since": rfc3339_us(now_us)}))
    })
    .await
}

/// The number that 16 hexadecimal digits stand for.
pub(super) fn fingerprint(text: &str) -> Result<u64, Problem> {
    let number = config::Mute::parse_fingerprint(text);
    number.map_err(|_| bad("a fingerprint is 16 hexadecimal digits, as `/api/v1/queries` shows it".to_owned()))
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

/// All statements at one moment.
struct View {
    now_us: u64,
    names: TenantNames,
    rows: Vec<StatementRow>,
    last_minute: HashMap<(u64, TenantId), u64, FxBuildHasher>,
    server_ids: Ids,
}

impl View {
    fn of(context: &AdminContext) -> Self {
        let telemetry = &context.telemetry;
        let now_us = telemetry.clock.micros(Instant::now());
        let last_minute = telemetry.calls_of_last_minute();
        let (names, rows) = (telemetry.tenant_names(), telemetry.statements());
        Self { now_us, names, rows, last_minute, server_ids: telemetry.server_ids.all() }
    }

    /// The time of all rows.
    fn time_us(&self) -> u64 {
        self.rows.iter().map(|row| row.total_us).sum()
    }

    fn show<'a>(&'a self, row: &'a StatementRow, time_us: u64) -> QueryRow<'a> {
        let ms = |us: u64| us as f64 / 1e3;
        let percentile = |q| round(row.percentile_us(q) / 1e3);
        let mut errors: Vec<_> = row.codes.iter().map(|(code, n)| (code.as_str().to_owned(), json!(n))).collect();
        errors.sort_by(|(one, _), (other, _)| one.cmp(other));
        errors.extend((row.other_codes > 0).then(|| ("other".to_owned(), json!(row.other_codes))));
        QueryRow {
            fingerprint: format!("{:016x}", row.text.facts.strict),
            family: format!("{:016x}", row.text.facts.family),
            query_id: query_ids(&self.server_ids, row.text.facts.strict),
            class: row.text.class.name(),
            text: &row.text.text,
            tenant: self.names.name(row.tenant),
            calls: row.calls,
            prepared_calls: row.prepared_calls,
            calls_per_minute: round(row.calls_per_minute(self.now_us)),
            calls_last_minute: self.last_minute.get(&(row.text.facts.strict, row.tenant)).copied().unwrap_or(0),
            errors: row.errors,
            errors_by_sqlstate: errors.into_iter().collect(),
            rows: row.rows,
            bytes_in: row.bytes_in,
            bytes_out: row.bytes_out,
            total_ms: ms(row.total_us),
            time_share: (row.total_us as f64 / time_us.max(1) as f64 * 1e6).round() / 1e6,
            queue_ms: ms(row.queue.sum_us),
            server_ms: ms(row.server.sum_us),
            back_pressure_ms: ms(row.back_pressure.sum_us),
            mean_ms: round(row.mean_us() / 1e3),
            min_ms: ms(row.min_us),
            max_ms: ms(row.max_us),
            p50_ms: percentile(0.50),
            p95_ms: percentile(0.95),
            p99_ms: percentile(0.99),
            distribution_ms: PartsShown {
                queue: PartShown::of(row, &row.queue),
                server: PartShown::of(row, &row.server),
                back_pressure: PartShown::of(row, &row.back_pressure),
            },
            first_seen: rfc3339_us(row.first_seen_us),
            last_seen: rfc3339_us(row.last_seen_us),
            since: rfc3339_us(row.since_us),
        }
    }
}

/// What servers call a statement, as texts: they are longer than what every reader of JSON takes for a number. `None`: none
/// has said.
pub(super) fn query_ids(all: &Ids, strict: u64) -> Option<Vec<String>> {
    all.get(&strict).map(|ids| ids.iter().map(i64::to_string).collect())
}

/// An order of `/api/v1/queries`: the largest first.
struct Sort(Key);

/// What a statement is sorted by.
type Key = fn(&StatementRow) -> f64;

impl Sort {
    const ORDERS: [(&'static str, Key); 11] = [
        ("total_time", |row| row.total_us as f64),
        ("calls", |row| row.calls as f64),
        ("mean_time", StatementRow::mean_us),
        ("max_time", |row| row.max_us as f64),
        ("p95_time", |row| row.percentile_us(0.95)),
        ("p99_time", |row| row.percentile_us(0.99)),
        ("server_time", |row| row.server.sum_us as f64),
        ("queue_time", |row| row.queue.sum_us as f64),
        ("rows", |row| row.rows as f64),
        ("errors", |row| row.errors as f64),
        ("last_seen", |row| row.last_seen_us as f64),
    ];

    fn named(name: &str) -> Result<Self, Problem> {
        let known = Self::ORDERS.iter().find(|(known, _)| *known == name);
        known.map(|(_, key)| Self(*key)).ok_or_else(|| {
            let names: Vec<_> = Self::ORDERS.iter().map(|(name, _)| *name).collect();
            bad(format!("`sort` must be one of {}", names.join(", ")))
        })
    }

    /// Equal rows in the order of fingerprint and tenant, so that pages repeat.
    fn apply(&self, rows: &mut Vec<StatementRow>) {
        let mut keyed: Vec<_> = rows.drain(..).map(|row| ((self.0)(&row), row)).collect();
        keyed.sort_by(|(a, one), (b, other)| {
            let largest_first = b.partial_cmp(a).unwrap_or(Ordering::Equal);
            largest_first
                .then_with(|| (one.text.facts.strict, one.tenant).cmp(&(other.text.facts.strict, other.tenant)))
        });
        rows.extend(keyed.into_iter().map(|(_, row)| row));
    }
}

#[derive(Debug, Serialize)]
struct QueryRow<'a> {
    fingerprint: String,
    family: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    query_id: Option<Vec<String>>,
    class: &'static str,
    text: &'a str,
    tenant: &'a str,
    calls: u64,
    prepared_calls: u64,
    calls_per_minute: f64,
    calls_last_minute: u64,
    errors: u64,
    errors_by_sqlstate: Map<String, Value>,
    rows: u64,
    bytes_in: u64,
    bytes_out: u64,
    total_ms: f64,
    time_share: f64,
    queue_ms: f64,
    server_ms: f64,
    back_pressure_ms: f64,
    mean_ms: f64,
    min_ms: f64,
    max_ms: f64,
    p50_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
    distribution_ms: PartsShown,
    first_seen: String,
    last_seen: String,
    since: String,
}

/// How the parts of its time are distributed over all calls.
#[derive(Debug, Serialize)]
struct PartsShown {
    queue: PartShown,
    server: PartShown,
    back_pressure: PartShown,
}

#[derive(Debug, Serialize)]
struct PartShown {
    p50: f64,
    p95: f64,
    p99: f64,
    max: f64,
}

impl PartShown {
    fn of(row: &StatementRow, part: &PartRow) -> Self {
        let percentile = |q| round(row.part_percentile_us(part, q) / 1e3);
        Self { p50: percentile(0.50), p95: percentile(0.95), p99: percentile(0.99), max: part.max_us as f64 / 1e3 }
    }
}

/// A line of a snapshot: the row, and the buckets that its percentiles come from.
#[derive(Debug, Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    query: QueryRow<'a>,
    histograms: Histograms,
}

/// Buckets that hold something: lower bound in µs, calls in it.
#[derive(Debug, Serialize)]
struct Histograms {
    total: Vec<(u64, u64)>,
    queue: Vec<(u64, u64)>,
    server: Vec<(u64, u64)>,
    back_pressure: Vec<(u64, u64)>,
}

impl Histograms {
    fn of(row: &StatementRow) -> Self {
        let part = |part: &PartRow| part.spread.as_ref().map(|spread| spread.filled().collect()).unwrap_or_default();
        Self {
            total: row.durations.filled().collect(),
            queue: part(&row.queue),
            server: part(&row.server),
            back_pressure: part(&row.back_pressure),
        }
    }
}
