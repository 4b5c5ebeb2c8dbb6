//! `/api/v1/capture`: the stream of events into a file.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminContext;
use super::problem::Problem;
use crate::capture::{MAX_BYTES, MAX_SECONDS, MIN_BYTES, Refused, Request, Status, Values};
use crate::telemetry::clock::rfc3339_us;

type Context = State<Arc<AdminContext>>;
type Answer = Result<Json<Value>, Problem>;
type Asked = Result<Query<Wish>, axum::extract::rejection::QueryRejection>;

/// How long a capture lasts unless the request says otherwise, in seconds.
const DEFAULT_SECONDS: u64 = 60;
/// How large it may become unless the request says otherwise, in bytes.
const DEFAULT_BYTES: u64 = 100 << 20;

/// What a request may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    file: Option<String>,
    values: Option<String>,
    seconds: Option<u64>,
    max_bytes: Option<u64>,
}

/// `POST`: begins one.
pub(super) async fn start(State(context): Context, asked: Asked) -> Answer {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(wish) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let request = request(&context, wish)?;
    let (directory, file) = (request.directory.clone(), request.file.clone());
    let captures = Arc::clone(&context.captures);
    let started = super::server::aside(move || captures.start(request)).await?;
    let status = started.map_err(|refused| match refused {
        Refused::Busy => conflict("a capture is running; there is one at a time"),
        Refused::Name => bad(format!("`file` must be a name of letters, digits, `.`, `_` and `-`, not \"{file}\"")),
        Refused::File(cause) => conflict(&format!("cannot make {} in {}: {cause}", file, directory.display())),
        Refused::Slow | Refused::None => slow(),
    })?;
    Ok(Json(shown(&status)))
}

/// `GET`: the latest one.
pub(super) async fn status(State(context): Context) -> Json<Value> {
    let settings = context.state.settings();
    let capture = &settings.capture;
    Json(json!({
        "directory": capture.directory,
        "allow_values": capture.allow_values,
        "capture": context.captures.status().as_ref().map(shown),
    }))
}

/// `DELETE`: ends the running one.
pub(super) async fn stop(State(context): Context) -> Answer {
    let captures = Arc::clone(&context.captures);
    match super::server::aside(move || captures.stop()).await? {
        Ok(status) => Ok(Json(shown(&status))),
        Err(Refused::None) => Err(conflict("no capture is running")),
        Err(_) => Err(slow()),
    }
}

fn request(context: &AdminContext, wish: Wish) -> Result<Request, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let settings = context.state.settings();
    let Some(directory) = settings.capture.directory.clone() else {
        return Err(conflict("captures are off: set capture.directory to the folder that they are written to"));
    };
    if !settings.observe.statements {
        return Err(conflict("there is nothing to capture: observe.statements is off"));
    }
    let named = wish.values.as_deref().unwrap_or("hash");
    let values =
        Values::named(named).ok_or_else(|| bad(format!("`values` must be drop, hash or keep, not \"{named}\"")))?;
    if values == Values::Keep && !settings.capture.allow_values {
        return Err(Problem::new(StatusCode::FORBIDDEN, "values may not be kept: capture.allow_values is off"));
    }
    let seconds = wish.seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(bad(format!("`seconds` must be between 1 and {MAX_SECONDS}, not {seconds}")));
    }
    let max_bytes = wish.max_bytes.unwrap_or(DEFAULT_BYTES);
    if !(MIN_BYTES..=MAX_BYTES).contains(&max_bytes) {
        return Err(bad(format!("`max_bytes` must be between {MIN_BYTES} and {MAX_BYTES}, not {max_bytes}")));
    }
    let now = rfc3339_us(context.telemetry.clock.micros(Instant::now())).replace(':', "");
    let file = wish.file.unwrap_or_else(|| format!("capture-{now}.jsonl"));
    Ok(Request { directory, file, values, seconds, max_bytes })
}

fn shown(status: &Status) -> Value {
    json!({
        "file": status.file,
        "values": status.values,
        "state": status.phase,
        "started": (status.started_us > 0).then(|| rfc3339_us(status.started_us)),
        "seconds": status.seconds,
        "max_bytes": status.max_bytes,
        "bytes": status.counts.bytes,
        "events": status.counts.events,
        "sessions": status.counts.sessions,
        "dropped": status.counts.dropped,
        "unknown": status.counts.unknown,
        "reason": status.reason,
        "error": status.error,
    })
}

fn conflict(detail: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, detail)
}

fn slow() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the analyst did not answer within 2 seconds; look again with GET")
}
