//! `/api/v1/untracked`: who leaves what on server connections, and what it came to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AdminContext;
use super::openapi::parameters::Asked;
use super::problem::Problem;
use crate::telemetry::clock::rfc3339_us;

/// The latest first.
pub(super) async fn untracked(State(context): State<Arc<AdminContext>>, asked: Asked) -> Result<Json<Value>, Problem> {
    let mut rows = context.telemetry.untracked.rows();
    rows.retain(|(row, _)| asked.wants("tenant", &row.tenant));
    let total = rows.len();
    rows.truncate(asked.limit());
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
