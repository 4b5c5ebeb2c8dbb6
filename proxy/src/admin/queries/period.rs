//! Statements over a span of time, by what the history keeps of each; and how they ran in it, for small charts.

use std::collections::HashMap;
use std::time::Duration;

use config::units::show_duration;
use rustc_hash::FxBuildHasher;
use serde_json::{Value, json};

use super::{Filter, bad, key};
use crate::admin::AdminContext;
use crate::admin::api::round;
use crate::admin::openapi::parameters::Asked;
use crate::admin::page::{Place, page};
use crate::admin::problem::Problem;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::history::Point;
use crate::telemetry::history::span::Span;
use crate::telemetry::snapshot::TenantNames;
use crate::telemetry::{Telemetry, TenantId};

type Id = (u64, TenantId);
type Map<V> = HashMap<Id, V, FxBuildHasher>;

/// A duration in µs.
fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Adds a window of the same statement of the same tenant. What 95 % of the calls of both did not exceed is at most the
/// larger of the two figures: that is kept.
fn add(sum: &mut Point, point: &Point) {
    sum.calls += point.calls;
    sum.errors += point.errors;
    sum.rows += point.rows;
    sum.total_us += point.total_us;
    sum.queue_us += point.queue_us;
    sum.server_us += point.server_us;
    sum.max_us = sum.max_us.max(point.max_us);
    sum.p95_us = sum.p95_us.max(point.p95_us);
}

/// What a statement is sorted by; `None`: that is not kept over time.
fn sort_of(name: &str) -> Option<fn(&Point) -> f64> {
    let by: fn(&Point) -> f64 = match name {
        "total_time" => |point| point.total_us as f64,
        "calls" => |point| point.calls as f64,
        "mean_time" => |point| point.total_us as f64 / point.calls.max(1) as f64,
        "max_time" => |point| point.max_us as f64,
        "p95_time" => |point| point.p95_us as f64,
        "server_time" => |point| point.server_us as f64,
        "queue_time" => |point| point.queue_us as f64,
        "rows" => |point| point.rows as f64,
        "errors" => |point| point.errors as f64,
        "fingerprint" => |_| 0.0,
        _ => return None,
    };
    Some(by)
}

/// `/api/v1/queries?period=…`.
pub(super) fn list(context: &AdminContext, asked: &Asked, filter: &Filter, length: Duration) -> Result<Value, Problem> {
    let telemetry = &context.telemetry;
    let sort = asked.text("sort").unwrap_or("total_time");
    let by = sort_of(sort).ok_or_else(|| {
        bad(format!("`sort={sort}` goes with what is counted since the start; leave `period` out, or sort otherwise"))
    })?;
    let (span, names, texts) = (telemetry.span(micros(length)), telemetry.tenant_names(), telemetry.texts());
    let mut sums: Map<Point> = Map::default();
    span.each(|id, _, point| add(sums.entry(id).or_default(), point));
    sums.retain(|(strict, tenant), _| texts.get(strict).is_some_and(|text| filter.wants(text, *tenant, &names)));
    let time_us: u64 = sums.values().map(|point| point.total_us).sum();
    let rows: Vec<(Id, Point)> = sums.into_iter().collect();
    let place =
        |((strict, tenant), point): &(Id, Point)| Place::by_number(by(point), key(*strict, names.name(*tenant)));
    let (total, rows, next) = page(asked, rows, place)?;
    let ids: Vec<Id> = rows.iter().map(|(id, _)| *id).collect();
    let mut series = asked.flag("series").then(|| Series::within(&span, &ids));
    let minutes = minutes(context, &span);
    let server_ids = telemetry.server_ids.all();
    let mut shown = Vec::new();
    for (id, point) in &rows {
        let Some(text) = texts.get(&id.0) else { continue };
        let mut row = json!({
            "fingerprint": format!("{:016x}", id.0),
            "family": format!("{:016x}", text.facts.family),
            "class": text.class.name(),
            "text": text.text,
            "tenant": names.name(id.1),
        });
        if let Some(row) = row.as_object_mut() {
            if let Some(ids) = super::query_ids(&server_ids, id.0) {
                row.insert("query_id".to_owned(), json!(ids));
            }
            if let Value::Object(mut figures) = figures(point, time_us, minutes) {
                row.append(&mut figures);
            }
            if let Some(series) = &mut series {
                row.insert("series".to_owned(), series.take(*id));
            }
        }
        shown.push(row);
    }
    let mut answer = json!({"total": total, "period": shown_span(&span), "queries": shown, "next": next});
    filter.explain(&mut answer);
    Ok(answer)
}

/// How long it was looked at, in minutes: the process may be younger than the span.
fn minutes(context: &AdminContext, span: &Span) -> f64 {
    let begin_us = span.from_us.max(context.telemetry.clock.start_us());
    (span.until_us.saturating_sub(begin_us) as f64 / 60e6).max(1.0 / 6.0)
}

fn figures(point: &Point, time_us: u64, minutes: f64) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    json!({
        "calls": point.calls,
        "calls_per_minute": round(point.calls as f64 / minutes),
        "errors": point.errors,
        "rows": point.rows,
        "total_ms": ms(point.total_us),
        "time_share": (point.total_us as f64 / time_us.max(1) as f64 * 1e6).round() / 1e6,
        "queue_ms": ms(point.queue_us),
        "server_ms": ms(point.server_us),
        "mean_ms": round(ms(point.total_us) / point.calls.max(1) as f64),
        "max_ms": ms(point.max_us),
        "p95_ms": ms(point.p95_us),
    })
}

fn shown_span(span: &Span) -> Value {
    json!({
        "from": rfc3339_us(span.from_us),
        "until": rfc3339_us(span.until_us),
        "complete_from": rfc3339_us(span.complete_from_us),
        "step": show_duration(Duration::from_micros(span.step.length_us())),
    })
}

/// How statements ran, in equal steps: for small charts.
pub(super) struct Series {
    from_us: u64,
    step_us: u64,
    steps: usize,
    rows: Map<Vec<Point>>,
}

impl Series {
    /// Of these statements, over the time up to now.
    pub(super) fn of(telemetry: &Telemetry, length: Duration, ids: &[Id]) -> Self {
        Self::within(&telemetry.span(micros(length)), ids)
    }

    fn within(span: &Span, ids: &[Id]) -> Self {
        let (steps, step_us) = span.buckets();
        let mut rows: Map<Vec<Point>> = ids.iter().map(|id| (*id, vec![Point::default(); steps])).collect();
        span.each(|id, start_us, point| {
            let sum = rows.get_mut(&id).and_then(|row| row.get_mut(span.bucket(start_us)));
            sum.into_iter().for_each(|sum| add(sum, point));
        });
        Self { from_us: span.from_us, step_us, steps, rows }
    }

    /// One statement's.
    pub(super) fn take(&mut self, id: Id) -> Value {
        let row = self.rows.remove(&id).unwrap_or_else(|| vec![Point::default(); self.steps]);
        json!({
            "step": show_duration(Duration::from_micros(self.step_us)),
            "start": rfc3339_us(self.from_us),
            "calls": row.iter().map(|point| point.calls).collect::<Vec<_>>(),
            "p95_ms": row.iter().map(p95_ms).collect::<Vec<_>>(),
        })
    }
}

fn p95_ms(point: &Point) -> Option<f64> {
    (point.p95_us > 0).then(|| round(point.p95_us as f64 / 1e3))
}

/// How one statement ran, by all tenants or one: step by step, and its sums, those of at most `most` tenants among them.
pub(super) fn of_one(
    context: &AdminContext,
    names: &TenantNames,
    strict: u64,
    tenant: Option<TenantId>,
    length: Duration,
    most: usize,
) -> (Value, Value) {
    let span = context.telemetry.span(micros(length));
    let (steps, step_us) = span.buckets();
    let mut row = vec![Point::default(); steps];
    let mut sums: HashMap<TenantId, Point, FxBuildHasher> = HashMap::default();
    span.each(|(known, owner), start_us, point| {
        if known == strict && tenant.is_none_or(|tenant| tenant == owner) {
            row.get_mut(span.bucket(start_us)).into_iter().for_each(|sum| add(sum, point));
            add(sums.entry(owner).or_default(), point);
        }
    });
    let mean = |point: &Point| (point.calls > 0).then(|| round(point.total_us as f64 / point.calls as f64 / 1e3));
    let series = json!({
        "step": show_duration(Duration::from_micros(step_us)),
        "start": rfc3339_us(span.from_us),
        "complete_from": rfc3339_us(span.complete_from_us),
        "calls": row.iter().map(|point| point.calls).collect::<Vec<_>>(),
        "errors": row.iter().map(|point| point.errors).collect::<Vec<_>>(),
        "mean_ms": row.iter().map(mean).collect::<Vec<_>>(),
        "p95_ms": row.iter().map(p95_ms).collect::<Vec<_>>(),
    });
    (series, whole(&span, names, sums, minutes(context, &span), most))
}

/// The sums over a span, of all tenants together and of each.
fn whole(
    span: &Span,
    names: &TenantNames,
    sums: HashMap<TenantId, Point, FxBuildHasher>,
    minutes: f64,
    most: usize,
) -> Value {
    let mut all = Point::default();
    sums.values().for_each(|point| add(&mut all, point));
    let mut sums: Vec<(TenantId, Point)> = sums.into_iter().collect();
    sums.sort_by_key(|(tenant, point)| (u64::MAX - point.total_us, *tenant));
    let of_tenant = |(tenant, point): &(TenantId, Point)| {
        let mut shown = figures(point, all.total_us, minutes);
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("tenant".to_owned(), names.name(*tenant).into());
        }
        shown
    };
    let tenants: Vec<Value> = sums.iter().take(most).map(of_tenant).collect();
    let mut shown = shown_span(span);
    if let (Some(shown), Value::Object(mut figures)) = (shown.as_object_mut(), figures(&all, all.total_us, minutes)) {
        // It is all of itself.
        figures.remove("time_share");
        shown.append(&mut figures);
        shown.insert("tenants".to_owned(), tenants.into());
    }
    shown
}
