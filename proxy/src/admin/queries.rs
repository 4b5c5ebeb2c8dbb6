//! `/api/v1/queries` and what belongs to it: statements with their statistics.

pub(super) mod detail;
mod period;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rustc_hash::FxBuildHasher;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::api::{Answer, Context, round};
use super::openapi::parameters::Asked;
use super::page::{Place, page};
use super::problem::Problem;
use crate::server_ids::Ids;
use crate::telemetry::callers::{Caller, Seen};
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::row::{PartRow, StatementRow};
use crate::telemetry::snapshot::TenantNames;
use crate::telemetry::{StatementText, TenantId};

/// How far series go back unless the request says otherwise.
const HOUR: Duration = Duration::from_secs(3_600);

/// `/api/v1/queries`.
pub(super) async fn queries(State(context): Context, asked: Asked) -> Answer {
    super::server::aside(move || list(&context, &asked).map(Json)).await?
}

fn list(context: &AdminContext, asked: &Asked) -> Result<Value, Problem> {
    let filter = Filter::of(context, asked)?;
    if let Some(length) = asked.time("period") {
        return period::list(context, asked, &filter, length);
    }
    let mut view = View::of(context);
    let rows = std::mem::take(&mut view.rows);
    let rows: Vec<_> = rows.into_iter().filter(|row| filter.wants(&row.text, row.tenant, &view.names)).collect();
    let time_us = rows.iter().map(|row| row.total_us).sum();
    let sort = Sort::named(asked.text("sort").unwrap_or("total_time"));
    let place = |row: &StatementRow| sort.place(row, &view.names);
    let (total, rows, next) = page(asked, rows, place)?;
    let keys: Vec<_> = rows.iter().map(|row| (row.text.facts.strict, row.tenant)).collect();
    let mut series = asked.flag("series").then(|| period::Series::of(&context.telemetry, HOUR, &keys));
    let shown = rows.iter().map(|row| {
        let mut shown = serde_json::to_value(view.show(row, time_us)).unwrap_or_default();
        if let (Some(series), Some(shown)) = (&mut series, shown.as_object_mut()) {
            shown.insert("series".to_owned(), series.take((row.text.facts.strict, row.tenant)));
        }
        shown
    });
    let mut answer = json!({"total": total, "queries": shown.collect::<Vec<_>>(), "next": next});
    filter.explain(&mut answer);
    Ok(answer)
}

/// Which statements are wanted.
struct Filter {
    tenant: Option<String>,
    text: Option<String>,
    class: Option<String>,
    /// Those that an application, and those that somebody in a database, was seen to run.
    callers: Vec<HashMap<(u64, TenantId), Seen, FxBuildHasher>>,
}

impl Filter {
    fn of(context: &AdminContext, asked: &Asked) -> Result<Self, Problem> {
        let mut callers = Vec::new();
        for (name, caller) in [("application", Caller::Application), ("database", Caller::Database)] {
            let Some(wanted) = asked.text(name) else { continue };
            if !context.state.settings().observe.n_plus_one {
                let detail = format!(
                    "which {name} runs which statement is known only where observe.n_plus_one is on: statements are counted by tenant alone"
                );
                return Err(Problem::new(StatusCode::CONFLICT, detail));
            }
            callers.push(context.telemetry.callers.statements_of(caller, wanted));
        }
        let own = |name: &str| asked.text(name).map(str::to_owned);
        Ok(Self {
            tenant: own("tenant"),
            text: own("text").map(|text| text.to_lowercase()),
            class: own("class"),
            callers,
        })
    }

    fn wants(&self, text: &StatementText, tenant: TenantId, names: &TenantNames) -> bool {
        self.tenant.as_deref().is_none_or(|wanted| wanted == names.name(tenant))
            && self.class.as_deref().is_none_or(|wanted| wanted == text.class.name())
            && self.callers.iter().all(|seen| seen.contains_key(&(text.facts.strict, tenant)))
            && self.text.as_deref().is_none_or(|wanted| text.text.to_lowercase().contains(wanted))
    }

    /// Says what the numbers are of, where a filter does not narrow them.
    fn explain(&self, answer: &mut Value) {
        if let (false, Some(answer)) = (self.callers.is_empty(), answer.as_object_mut()) {
            let of = "all callers of each statement: they are not counted by application or database";
            answer.insert("numbers_of".to_owned(), of.into());
        }
    }
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

/// `POST /api/v1/queries/reset`.
pub(super) async fn reset(State(context): Context, asked: Asked) -> Answer {
    let (strict, tenant) = (asked.fingerprint("fingerprint"), asked.text("tenant").map(str::to_owned));
    super::server::aside(move || {
        let telemetry = &context.telemetry;
        let now_us = telemetry.clock.micros(Instant::now());
        let reset = if strict.is_none() && tenant.is_none() {
            telemetry.reset_statements(now_us)
        } else {
            let names = telemetry.tenant_names();
            telemetry.reset_some(now_us, |known, owner| {
                strict.is_none_or(|strict| strict == known)
                    && tenant.as_deref().is_none_or(|wanted| wanted == names.name(owner))
            })
        };
        tracing::info!(
            reset,
            fingerprint = asked.text("fingerprint"),
            tenant,
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

    fn calls_of_last_minute(&self, row: &StatementRow) -> u64 {
        self.last_minute.get(&(row.text.facts.strict, row.tenant)).copied().unwrap_or(0)
    }

    fn show<'a>(&'a self, row: &'a StatementRow, time_us: u64) -> QueryRow<'a> {
        let ms = |us: u64| us as f64 / 1e3;
        let percentile = |q| round(row.percentile_us(q) / 1e3);
        QueryRow {
            fingerprint: format!("{:016x}", row.text.facts.strict),
            family: format!("{:016x}", row.text.facts.family),
            query_id: query_ids(&self.server_ids, row.text.facts.strict),
            class: row.text.class.name(),
            text: &row.text.text,
            tenant: self.names.name(row.tenant),
            calls: row.calls,
            prepared_calls: row.prepared_calls,
            cached_calls: row.cached_calls,
            calls_per_minute: round(row.calls_per_minute(self.now_us)),
            calls_last_minute: self.calls_of_last_minute(row),
            errors: row.errors,
            errors_by_sqlstate: shown_errors(row),
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

/// Errors by code.
fn shown_errors(row: &StatementRow) -> Map<String, Value> {
    let mut errors: Vec<_> = row.codes.iter().map(|(code, n)| (code.as_str().to_owned(), json!(n))).collect();
    errors.sort_by(|(one, _), (other, _)| one.cmp(other));
    errors.extend((row.other_codes > 0).then(|| ("other".to_owned(), json!(row.other_codes))));
    errors.into_iter().collect()
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
    /// A sort of [`SORTS`](super::openapi::routes::SORTS); any other name is the fingerprint's, which alone goes up.
    fn named(name: &str) -> Self {
        Self(match name {
            "total_time" => |row| row.total_us as f64,
            "calls" => |row| row.calls as f64,
            "mean_time" => StatementRow::mean_us,
            "max_time" => |row| row.max_us as f64,
            "p95_time" => |row| row.percentile_us(0.95),
            "p99_time" => |row| row.percentile_us(0.99),
            "server_time" => |row| row.server.sum_us as f64,
            "queue_time" => |row| row.queue.sum_us as f64,
            "rows" => |row| row.rows as f64,
            "errors" => |row| row.errors as f64,
            "last_seen" => |row| row.last_seen_us as f64,
            _ => |_| 0.0,
        })
    }

    /// Equal rows in the order of fingerprint and tenant.
    fn place(&self, row: &StatementRow, names: &TenantNames) -> Place {
        Place::by_number((self.0)(row), key(row.text.facts.strict, names.name(row.tenant)))
    }
}

/// A row's own text.
fn key(strict: u64, tenant: &str) -> String {
    format!("{strict:016x} {tenant}")
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
    cached_calls: u64,
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
