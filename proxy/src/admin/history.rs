//! `/api/v1/history` and `/api/v1/queries/{fingerprint}/history`: how statements ran over time.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::AdminContext;
use super::api::{Answer, Context};
use super::openapi::parameters::Asked;
use super::queries::{fingerprint, query_ids};
use crate::telemetry::TenantId;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::history::{Course, Step, Stretch};

/// What was asked for, read.
struct Wanted {
    tenant: Option<String>,
    step: Step,
    from_us: u64,
}

impl Wanted {
    fn of(asked: &Asked) -> Self {
        let step = if asked.text("step") == Some("10s") { Step::TenSeconds } else { Step::Minute };
        Self { tenant: asked.text("tenant").map(str::to_owned), step, from_us: asked.moment_us("from").unwrap_or(0) }
    }

    /// The tenant by its name. `Err`: there is none, and so nothing has run.
    fn tenant(&self, context: &AdminContext) -> Result<Option<TenantId>, ()> {
        let names = context.telemetry.tenant_names();
        self.tenant.as_deref().map(|name| names.id(name).ok_or(())).transpose()
    }
}

/// `/api/v1/history`.
pub(super) async fn all(State(context): Context, asked: Asked) -> Answer {
    let wanted = Wanted::of(&asked);
    super::server::aside(move || {
        let course = |tenant| context.telemetry.course(tenant, wanted.step, wanted.from_us);
        Json(show(&wanted, wanted.tenant(&context).map(course)))
    })
    .await
}

/// `/api/v1/queries/{fingerprint}/history`.
pub(super) async fn of_query(State(context): Context, Path(strict): Path<String>, asked: Asked) -> Answer {
    let wanted = Wanted::of(&asked);
    let strict = fingerprint(&strict)?;
    super::server::aside(move || {
        let course = |tenant| context.telemetry.course_of_statement(strict, tenant, wanted.step, wanted.from_us);
        let course = wanted.tenant(&context).map(course);
        // To one tenant the ids would tell that others run a statement which it has not run itself.
        let may_know = wanted.tenant.is_none() || course.as_ref().is_ok_and(|course| !course.stretches.is_empty());
        let ids = may_know.then(|| query_ids(&context.telemetry.server_ids.all(), strict)).flatten();
        let mut shown = show(&wanted, course);
        if let (Some(ids), Value::Object(fields)) = (ids, &mut shown) {
            fields.insert("query_id".to_owned(), json!(ids));
        }
        Json(shown)
    })
    .await
}

fn show(wanted: &Wanted, course: Result<Course, ()>) -> Value {
    let course = course.unwrap_or(Course { stretches: Vec::new(), complete_from_us: wanted.from_us });
    let step = match wanted.step {
        Step::TenSeconds => "10s",
        Step::Minute => "1m",
    };
    let windows: Vec<_> = course.stretches.iter().map(window).collect();
    json!({"step": step, "complete_from": rfc3339_us(course.complete_from_us), "windows": windows})
}

fn window(stretch: &Stretch) -> Value {
    let point = &stretch.point;
    let ms = |us: u64| us as f64 / 1e3;
    json!({
        "start": rfc3339_us(stretch.start_us),
        "seconds": (stretch.end_us - stretch.start_us) as f64 / 1e6,
        "calls": point.calls,
        "errors": point.errors,
        "rows": point.rows,
        "total_ms": ms(point.total_us),
        "queue_ms": ms(point.queue_us),
        "server_ms": ms(point.server_us),
        "max_ms": ms(point.max_us),
        "p95_ms": (point.p95_us > 0).then(|| ms(point.p95_us)),
    })
}
