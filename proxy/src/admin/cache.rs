//! `/api/v1/cache`: what the read cache holds and does, its mode, and the end of answers by hand.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use policy::cache::Mode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::access::Viewer;
use super::api::{Answer, Context};
use super::body::Sent;
use super::problem::Problem;
use super::server::Peer;
use crate::cache::Fate;
use crate::cache::by_hand::{ByHand, NotEnded};
use crate::cache::figures::{ByReason, DatabaseFigures, mode_of_word, mode_word};

/// `GET /api/v1/cache`.
pub(super) async fn cache(State(context): Context) -> Answer {
    super::server::aside(move || Json(shown(&context))).await.map(Ok)?
}

fn shown(context: &AdminContext) -> Value {
    let figures = context.state.caches().figures(Instant::now());
    let by_tenant = figures.by_tenant(&context.telemetry.tenant_names());
    json!({
        "mode": mode_word(figures.mode),
        "follows": figures.follows,
        "bytes": figures.bytes,
        "max_bytes": figures.budget.max_bytes,
        "max_entry": figures.budget.max_entry,
        "max_bytes_of_tenant": figures.budget.of_tenant(),
        "entries": figures.entries,
        "hit_ratio": figures.hit_ratio.map(|ratio| (ratio * 1e4).round() / 1e4),
        "hits": figures.hits,
        "stale": figures.stale,
        "joined": figures.joined,
        "fills": figures.fills,
        "evictions": figures.evictions,
        "saved_us": figures.saved_us,
        "observed_hits": figures.observed_hits,
        "observed_saved_us": figures.observed_saved_us,
        "agreed": figures.agreed,
        "disagreed": figures.disagreed,
        "misses": counted(&figures.misses),
        "bypasses": counted(&figures.bypasses),
        "refused": counted(&figures.refused),
        "invalidated": counted(&figures.invalidated),
        "bytes_by_tenant": by_tenant,
        "databases": figures.databases.iter().map(of_database).collect::<Vec<_>>(),
    })
}

/// Reasons that there were.
fn counted(counts: &ByReason) -> Map<String, Value> {
    counts.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect()
}

/// How one database stands with it.
pub(super) fn of_database(one: &DatabaseFigures) -> Value {
    json!({
        "name": one.name,
        "ready": one.ready,
        "trouble": one.trouble,
        "slot": one.slot,
        "slot_lag_ms": one.slot_lag.map(|lag| super::api::round(lag.as_secs_f64() * 1e3)),
        "questions": one.questions,
        "unresolved_writes": one.unresolved_writes,
        "dropped_writes": one.dropped_writes,
    })
}

/// Why a statement is not cached, or that it is.
pub(super) fn fate(fate: Fate) -> Value {
    json!({"fate": fate.word(), "reason": fate.reason(), "words": fate.words()})
}

/// What mode is wanted.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedMode {
    mode: String,
}

/// `POST /api/v1/cache/mode`.
pub(super) async fn mode(
    State(context): Context,
    Extension(Peer(client)): Extension<Peer>,
    Extension(by): Extension<Viewer>,
    Sent(wanted): Sent<WantedMode>,
) -> Answer {
    let bad = || Problem::new(StatusCode::BAD_REQUEST, "the body: `mode` is \"off\", \"observe\" or \"on\"");
    let mode = mode_of_word(&wanted.mode).ok_or_else(bad)?;
    let caches = context.state.caches();
    if !caches.follows() && mode != Mode::Off {
        let detail = "the cache cannot be switched on: the process was started without a [[cache.rule]], so statements \
                      that write are not followed; write a rule and restart";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let before = mode_word(caches.mode());
    caches.set_mode(mode);
    context.events.soon();
    let mode = mode_word(mode);
    tracing::info!(target: "admin", %client, by = by.name(), before, mode, "the cache's mode was changed");
    Ok(Json(json!({"mode": mode, "before": before})))
}

/// What is to be ended: one of the last four.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WantedEnd {
    database: Option<String>,
    tag: Option<String>,
    table: Option<String>,
    tenant: Option<String>,
    all: Option<bool>,
}

impl WantedEnd {
    fn what(&self) -> Option<ByHand<'_>> {
        let texts = [&self.tag, &self.table, &self.tenant];
        let is_empty = texts.into_iter().chain([&self.database]).flatten().any(String::is_empty);
        match (texts.map(Option::as_deref), self.all) {
            _ if is_empty => None,
            ([Some(tag), None, None], None | Some(false)) => Some(ByHand::Tag(tag)),
            ([None, Some(table), None], None | Some(false)) => Some(ByHand::Table(table)),
            ([None, None, Some(tenant)], None | Some(false)) => Some(ByHand::Tenant(tenant)),
            ([None, None, None], Some(true)) => Some(ByHand::All),
            _ => None,
        }
    }
}

impl From<NotEnded> for Problem {
    fn from(why: NotEnded) -> Self {
        let status = match why {
            NotEnded::View(_) => StatusCode::CONFLICT,
            NotEnded::NoDatabase(_) | NotEnded::NoTag(_) | NotEnded::NoTable(_) => StatusCode::NOT_FOUND,
        };
        Self::new(status, why.to_string())
    }
}

/// `POST /api/v1/cache/invalidate`.
pub(super) async fn invalidate(
    State(context): Context,
    Extension(Peer(client)): Extension<Peer>,
    Extension(by): Extension<Viewer>,
    Sent(wanted): Sent<WantedEnd>,
) -> Answer {
    let bad = || {
        let detail =
            "the body: send one of `tag`, `table`, `tenant` and `\"all\": true`, and `database` if it is for one";
        Problem::new(StatusCode::BAD_REQUEST, detail)
    };
    let what = wanted.what().ok_or_else(bad)?;
    let databases = context.state.caches().invalidate(wanted.database.as_deref(), what)?;
    context.events.soon();
    let WantedEnd { database, tag, table, tenant, .. } = &wanted;
    tracing::info!(target: "admin", %client, by = by.name(), database, tag, table, tenant, databases, "answers of the cache were ended");
    Ok(Json(json!({"databases": databases})))
}
