//! `/api/v1/untracked`: who leaves what on server connections, and what it came to.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminContext;
use super::problem::Problem;
use crate::telemetry::clock::rfc3339_us;

/// Rows unless the request says otherwise, and at most.
const LIMITS: (usize, usize) = (50, 1_000);

/// What may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant: Option<String>,
    limit: Option<usize>,
}

/// The latest first.
pub(super) async fn untracked(
    State(context): State<Arc<AdminContext>>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let limit = asked.limit.unwrap_or(LIMITS.0);
    if limit == 0 || limit > LIMITS.1 {
        return Err(bad(format!("`limit` must be between 1 and {}, not {limit}", LIMITS.1)));
    }
    let mut rows = context.telemetry.untracked.rows();
    rows.retain(|(row, _)| asked.tenant.as_deref().is_none_or(|tenant| *tenant == *row.tenant));
    let total = rows.len();
    rows.truncate(limit);
    let shown: Vec<_> = rows
        .iter()
        .map(|(row, seen)| {
            let mut shown = serde_json::to_value(row).unwrap_or_default();
            if let Some(object) = shown.as_object_mut() {
                let fingerprint = (row.fingerprint != 0).then(|| format!("{:016x}", row.fingerprint));
                object.insert("fingerprint".into(), fingerprint.into());
                object.insert("count".into(), seen.count.into());
                object.insert("client".into(), seen.client.into());
                object.insert("first_seen".into(), rfc3339_us(seen.first_us).into());
                object.insert("last_seen".into(), rfc3339_us(seen.last_us).into());
            }
            shown
        })
        .collect();
    Ok(Json(json!({"total": total, "untracked": shown})))
}
