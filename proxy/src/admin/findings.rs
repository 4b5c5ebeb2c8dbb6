//! `/api/v1/findings…` and `/api/v1/mutes…`: what was found, and what people say about it.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use config::Mute;
use config::units::{parse_duration, parse_moment};
use policy::finding::{self, Kept, Timestamp, export};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{DEFAULT_LIMIT, MAX_LIMIT};
use super::body::Sent;
use super::clients::patiently;
use super::openapi::parameters::Asked as Checked;
use super::problem::Problem;
use super::server::{Peer, aside};
use super::{AdminContext, page};
use crate::analyst::findings::{MuteRefusal, Wanted};
use crate::telemetry::clock::rfc3339_us;

/// Longest name of who acknowledges, and longest note, in characters.
const MAX_BY: usize = 128;
const MAX_NOTE: usize = 1024;

type Context = State<Arc<AdminContext>>;
type Sender = Extension<Peer>;
type Answer = Result<Json<Value>, Problem>;

/// What a request for findings may ask for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindingsQuery {
    tenant: Option<String>,
    kind: Option<String>,
    state: Option<String>,
    application: Option<String>,
    fingerprint: Option<String>,
    since: Option<u64>,
    limit: Option<usize>,
    format: Option<String>,
    /// Read where the list is known.
    #[serde(rename = "cursor")]
    _cursor: Option<String>,
}

type Asked = Result<Query<FindingsQuery>, QueryRejection>;

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

impl FindingsQuery {
    /// What it wants, and in which form.
    fn checked(asked: Asked) -> Result<(Wanted, Option<String>), Problem> {
        let Query(query) = asked.map_err(|rejection| bad(rejection.body_text()))?;
        let state = match query.state.as_deref() {
            None => None,
            Some(name) => {
                let state = finding::State::ALL.into_iter().find(|state| state.name() == name);
                Some(state.ok_or_else(|| bad("`state` must be one of open, acknowledged, muted"))?)
            }
        };
        if query.kind.as_deref().is_some_and(|kind| !Mute::KINDS.contains(&kind)) {
            return Err(bad(format!("`kind` must be one of {}", Mute::KINDS.join(", "))));
        }
        let limit = match query.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=MAX_LIMIT => limit,
            limit => return Err(bad(format!("`limit` must be between 1 and {MAX_LIMIT}, not {limit}"))),
        };
        let FindingsQuery { tenant, kind, application, fingerprint, since, format, .. } = query;
        Ok((Wanted { tenant, kind, state, application, fingerprint, since, after: None, limit }, format))
    }
}

fn now(context: &AdminContext) -> Timestamp {
    Timestamp(context.telemetry.clock.micros(Instant::now()))
}

/// `/api/v1/findings`.
pub(super) async fn list(State(context): Context, place: Checked, asked: Asked) -> Answer {
    let (mut wanted, format) = FindingsQuery::checked(asked)?;
    wanted.after = page::after_text(&place)?;
    if format.is_some() {
        return Err(bad("`format` is not a parameter of this list; ask /api/v1/findings/export"));
    }
    aside(move || {
        let now = now(&context);
        let listing = context.findings.list(&wanted, now);
        let workers = context.telemetry.workers();
        Json(json!({
            "total": listing.total,
            "sequence": listing.sequence,
            "started": rfc3339_us(context.telemetry.clock.start_us()),
            "now": now,
            "judged_until": listing.judged_until,
            "events_skipped": workers.iter().map(|worker| worker.events_skipped).sum::<u64>(),
            "events_dropped": workers.iter().map(|worker| worker.events_dropped).sum::<u64>(),
            "detection_dropped": listing.left_out,
            "findings": listing.findings,
            "next": listing.next.map(|next| page::cursor_of(&place, next)),
        }))
    })
    .await
}

/// `/api/v1/findings/fence`: a moment by which each worker has handed on what it had served before the request.
pub(super) async fn fence(State(context): Context) -> Answer {
    // A worker answers between two turns; at the end of a turn all of its events are with the analyst.
    patiently(context.state.clients(1)).await?;
    Ok(Json(json!({"moment": now(&context)})))
}

/// `/api/v1/findings/export`.
pub(super) async fn exported(State(context): Context, asked: Asked) -> Result<Response, Problem> {
    let (wanted, format) = FindingsQuery::checked(asked)?;
    let render: fn(&[Kept]) -> String = match format.as_deref() {
        None | Some("json") => |findings| json!({"findings": findings}).to_string(),
        Some("ndjson") => |findings| {
            let line = |kept: &Kept| serde_json::to_string(kept).map(|line| line + "\n").unwrap_or_default();
            findings.iter().map(line).collect()
        },
        Some("markdown") => |findings| export::markdown("Findings of pgweir", findings),
        Some("junit") => |findings| export::junit(findings, |kept| kept.state == finding::State::Open, None),
        Some(_) => return Err(bad("`format` must be one of json, ndjson, markdown, junit")),
    };
    let kind = match format.as_deref() {
        Some("ndjson") => "application/x-ndjson",
        Some("markdown") => "text/markdown; charset=utf-8",
        Some("junit") => "application/xml",
        _ => "application/json",
    };
    let wanted = Wanted { limit: usize::MAX, ..wanted };
    let text = aside(move || render(&context.findings.list(&wanted, now(&context)).findings)).await?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}

/// Who knows of a finding.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    by: String,
    note: Option<String>,
}

fn no_such_finding() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no finding of this id; GET /api/v1/findings lists them")
}

/// `/api/v1/findings/{id}`.
pub(super) async fn one(
    State(context): Context,
    Path(id): Path<String>,
    asked: Checked,
) -> Result<Json<Kept>, Problem> {
    let kept = context.findings.find(&id).filter(|kept| asked.wants("tenant", &kept.finding.tenant));
    kept.map(Json).ok_or_else(no_such_finding)
}

/// `POST /api/v1/findings/{id}/acknowledge`.
pub(super) async fn acknowledge(
    State(context): Context,
    Extension(Peer(client)): Sender,
    Path(id): Path<String>,
    Sent(Acknowledgement { by, note }): Sent<Acknowledgement>,
) -> Result<Json<Kept>, Problem> {
    if by.is_empty() || by.chars().count() > MAX_BY {
        return Err(bad(format!("`by` must be 1 to {MAX_BY} characters long")));
    }
    if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE) {
        return Err(bad(format!("`note` must be at most {MAX_NOTE} characters long")));
    }
    let told = Arc::clone(&context.events);
    let kept = aside(move || context.findings.acknowledge(&id, by, note, now(&context))).await?;
    let kept = kept.ok_or_else(no_such_finding)?;
    told.soon();
    let said = kept.acknowledged.as_ref();
    let (by, note) = (said.map(|said| &*said.by), said.and_then(|said| said.note.as_deref()));
    tracing::info!(target: "admin", %client, id = kept.finding.id, by, note, "finding acknowledged");
    Ok(Json(kept))
}

/// `DELETE /api/v1/findings/{id}/acknowledge`.
pub(super) async fn withdraw(
    State(context): Context,
    Extension(Peer(client)): Sender,
    Path(id): Path<String>,
) -> Result<Json<Kept>, Problem> {
    let kept = aside(move || context.findings.withdraw(&id, now(&context))).await?;
    let kept = kept.ok_or_else(no_such_finding)?;
    tracing::info!(target: "admin", %client, id = kept.finding.id, "acknowledgement withdrawn");
    Ok(Json(kept))
}

/// What is to be muted, as it is sent: the keys of `[[observe.mute]]`, and `for` beside `until`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMute {
    fingerprint: Option<String>,
    kind: Option<String>,
    database: Option<String>,
    user: Option<String>,
    application: Option<String>,
    client: Option<String>,
    tenant: Option<String>,
    route: Option<String>,
    until: Option<String>,
    r#for: Option<String>,
    note: Option<String>,
}

impl NewMute {
    fn checked(self, now: Timestamp) -> Result<Mute, Problem> {
        let wrong = |key: &str, sentence: &dyn std::fmt::Display| bad(format!("`{key}` {sentence}"));
        let fingerprint = self.fingerprint.as_deref().map(Mute::parse_fingerprint).transpose();
        let fingerprint = fingerprint.map_err(|sentence| wrong("fingerprint", &sentence))?;
        let until_us = match (&self.until, &self.r#for) {
            (Some(_), Some(_)) => return Err(bad("`until` and `for` say the same; send one of them")),
            (Some(until), None) => Some(parse_moment(until).map_err(|error| wrong("until", &error))?),
            (None, Some(time)) => {
                let time = parse_duration(time).map_err(|error| wrong("for", &error))?;
                Some(now.0.saturating_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
            }
            (None, None) => None,
        };
        if until_us.is_some_and(|until| until <= now.0) {
            return Err(bad("the mute would have ended already; send a later `until`, or leave it out: for ever"));
        }
        let Self { kind, database, user, application, client, tenant, route, note, .. } = self;
        let mute = Mute { fingerprint, kind, database, user, application, client, tenant, route, until_us, note };
        match mute.check() {
            Ok(()) => Ok(mute),
            Err(("", sentence)) => Err(bad(format!("this {sentence}"))),
            Err((key, sentence)) => Err(wrong(key, &sentence)),
        }
    }
}

impl From<MuteRefusal> for Problem {
    fn from(refusal: MuteRefusal) -> Self {
        let status = match refusal {
            MuteRefusal::Unknown => StatusCode::NOT_FOUND,
            MuteRefusal::TooMany | MuteRefusal::Configured => StatusCode::CONFLICT,
        };
        Self::new(status, refusal.to_string())
    }
}

/// `GET /api/v1/mutes`.
pub(super) async fn mutes(State(context): Context) -> Answer {
    aside(move || Json(json!({"mutes": context.findings.mutes(now(&context))}))).await
}

/// `POST /api/v1/mutes`.
pub(super) async fn mute(
    State(context): Context,
    Extension(Peer(client)): Sender,
    Sent(mute): Sent<NewMute>,
) -> Result<Response, Problem> {
    let now = now(&context);
    let mute = mute.checked(now)?;
    // Each finding is judged anew.
    let kept = aside(move || context.findings.mute(mute, now)).await??;
    tracing::info!(target: "admin", %client, id = kept.id, mute = %json!(kept), "mute added");
    Ok((StatusCode::CREATED, Json(kept)).into_response())
}

/// `DELETE /api/v1/mutes/{id}`.
pub(super) async fn unmute(
    State(context): Context,
    Extension(Peer(client)): Sender,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let muted = id.clone();
    aside(move || context.findings.unmute(&muted, now(&context))).await??;
    tracing::info!(target: "admin", %client, id, "mute taken away");
    Ok(StatusCode::NO_CONTENT)
}
