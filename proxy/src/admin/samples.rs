//! `/api/v1/queries/{fingerprint}/samples`: the last executions of a statement as clients have sent them, for operators.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::AdminContext;
use super::access::{self, Viewer};
use super::api::{Answer, Context};
use super::openapi::parameters::Asked;
use super::queries::fingerprint;
use crate::telemetry::Scope;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::samples::Sample;

/// Samples shown of one statement.
const MAX_SHOWN: usize = 20;

/// For operators alone: these are the users' data.
pub(super) async fn samples(
    State(context): Context,
    Path(strict): Path<String>,
    Extension(viewer): Extension<Viewer>,
    asked: Asked,
) -> Response {
    if !viewer.may_act() {
        return access::for_operators("samples of statements are shown to operators alone");
    }
    answer(context, &strict, asked).await.into_response()
}

/// None where the operator does not want any to be kept, which it says.
async fn answer(context: Arc<AdminContext>, strict: &str, asked: Asked) -> Answer {
    let strict = fingerprint(strict)?;
    super::server::aside(move || {
        let names = context.telemetry.tenant_names();
        let (kept, samples) = context.telemetry.samples.of(strict, |tenant| asked.wants("tenant", names.name(tenant)));
        let shown: Vec<Value> =
            samples.iter().take(MAX_SHOWN).map(|sample| shown(sample, names.name(sample.tenant))).collect();
        Json(json!({"fingerprint": format!("{strict:016x}"), "kept": kept, "samples": shown}))
    })
    .await
}

fn shown(sample: &Sample, tenant: &str) -> Value {
    let of_scope = |part: fn(&Scope) -> &str| sample.scope.as_deref().map_or("", part);
    json!({
        "tenant": tenant,
        "database": of_scope(|scope| &scope.database),
        "user": of_scope(|scope| &scope.user),
        "application": of_scope(|scope| &scope.application),
        "started": rfc3339_us(sample.start_us),
        "duration_ms": sample.duration_us as f64 / 1e3,
        "sqlstate": sample.sqlstate.as_ref().map(|code| code.as_str()),
        "text": sample.text,
        "parameters": sample.parameters,
    })
}
