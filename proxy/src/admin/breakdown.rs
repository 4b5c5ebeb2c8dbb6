//! `/api/v1/applications`, `/api/v1/routes`: whose work statements were.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::api::{Answer, Context, round};
use super::openapi::parameters::Asked;
use crate::telemetry::Telemetry;
use crate::telemetry::usage::Usage;

/// `/api/v1/applications`.
pub(super) async fn applications(State(context): Context, asked: Asked) -> Answer {
    list(context, asked, ("applications", "application"), Telemetry::applications).await
}

/// `/api/v1/routes`.
pub(super) async fn routes(State(context): Context, asked: Asked) -> Answer {
    list(context, asked, ("routes", "route"), Telemetry::routes).await
}

/// The rows that took most time first; equal ones by name.
async fn list(
    context: std::sync::Arc<super::AdminContext>,
    asked: Asked,
    (plural, singular): (&'static str, &'static str),
    read: impl FnOnce(&Telemetry) -> Vec<(String, Usage)> + Send + 'static,
) -> Answer {
    super::server::aside(move || {
        let mut rows = read(&context.telemetry);
        rows.sort_by(|(a, one), (b, other)| other.durations.sum_us.cmp(&one.durations.sum_us).then_with(|| a.cmp(b)));
        let total = rows.len();
        rows.truncate(asked.limit());
        let shown: Vec<_> = rows.iter().map(|(name, usage)| row(singular, name, usage)).collect();
        Json(json!({"total": total, plural: shown}))
    })
    .await
}

/// One row, its name under `kind`.
pub(super) fn row(kind: &str, name: &str, usage: &Usage) -> Value {
    let ms = |us: u64| us as f64 / 1e3;
    let durations = &usage.durations;
    let calls = durations.count();
    let percentile = |q| round(durations.percentile(q, 0, u64::MAX) / 1e3);
    json!({
        kind: name,
        "calls": calls,
        "errors": usage.errors,
        "rows": usage.rows,
        "bytes_in": usage.bytes_in,
        "bytes_out": usage.bytes_out,
        "total_ms": ms(durations.sum_us),
        "queue_ms": ms(usage.queue_us),
        "server_ms": ms(usage.server_us),
        "back_pressure_ms": ms(usage.back_pressure_us),
        "mean_ms": round(ms(durations.sum_us) / calls.max(1) as f64),
        "p50_ms": percentile(0.50),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
    })
}
