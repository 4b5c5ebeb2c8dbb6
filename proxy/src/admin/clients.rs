//! `/api/v1/clients…` and `/api/v1/upstreams`: who is connected, and to what.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};

use super::api::{Answer, Context};
use super::openapi::parameters::Asked;
use super::page::{Place, page};
use super::problem::Problem;
use super::source::ClientState;
use super::{AdminContext, StateFuture};
use crate::telemetry::clock::rfc3339_us;

/// How long workers may take to tell their state.
const STATE_PATIENCE: Duration = Duration::from_secs(2);

/// The state of a client that waits for a server connection.
const WAITING: &str = "waiting";

/// `/api/v1/clients`.
pub(super) async fn clients(State(context): Context, asked: Asked) -> Answer {
    let mut clients = all_clients(&context).await?;
    clients.retain(|client| {
        asked.wants("tenant", &client.tenant)
            && asked.wants("database", &client.database)
            && asked.wants("user", &client.user)
            && asked.wants("application", &client.application)
            && asked.wants("state", client.state)
            && asked.text("pinned").is_none_or(|wanted| (wanted == "true") == client.pinned.is_some())
            && asked.text("text").is_none_or(|text| has(client, text))
    });
    // Of all that are asked for, not of those on this page.
    let waiting = clients.iter().filter(|client| client.state == WAITING).count();
    let pinned = clients.iter().filter(|client| client.pinned.is_some()).count();
    let pressing = asked.text("sort") == Some("urgency");
    let (total, clients, next) =
        page(&asked, clients, |client| if pressing { by_urgency(client) } else { by_id(client.id) })?;
    let shown: Vec<_> = clients.iter().map(client_shown).collect();
    Ok(Json(json!({"total": total, "waiting": waiting, "pinned": pinned, "clients": shown, "next": next})))
}

/// Whether one of the names of a client has this in it.
fn has(client: &ClientState, text: &str) -> bool {
    [&client.application, &client.user, &client.address, &client.database].iter().any(|name| name.contains(text))
}

/// `/api/v1/clients/{id}`.
pub(super) async fn client(State(context): Context, Path(id): Path<u64>, asked: Asked) -> Answer {
    let clients = all_clients(&context).await?;
    let found = clients.iter().find(|client| client.id == id && asked.wants("tenant", &client.tenant));
    let found = found.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no client {id}; GET /api/v1/clients lists them"))
    })?;
    Ok(Json(client_shown(found)))
}

/// `/api/v1/upstreams`.
pub(super) async fn upstreams(State(context): Context, asked: Asked) -> Answer {
    let most = usize::MAX;
    let mut upstreams = patiently(context.state.upstreams(most)).await?;
    upstreams.retain(|upstream| {
        asked.wants("database", &upstream.database)
            && asked.wants("user", &upstream.user)
            && asked.wants("state", upstream.state)
    });
    let (total, upstreams, next) = page(&asked, upstreams, |upstream| by_id(upstream.id))?;
    let shown: Vec<_> =
        upstreams.iter().map(|upstream| with_times(upstream, upstream.connected_us, upstream.state_since_us)).collect();
    Ok(Json(json!({"total": total, "upstreams": shown, "next": next})))
}

/// Numbers are given out in the order in which connections come.
fn by_id(id: u64) -> Place {
    Place::by_text(format!("{id:020}"))
}

/// Those first that wait, then those that keep a server connection or are in a transaction; of equals who has been so for
/// longest.
fn by_urgency(client: &ClientState) -> Place {
    let urgency = match client.state {
        WAITING => 4.0,
        _ if client.pinned.is_some() => 3.0,
        "in_transaction" => 2.0,
        "active" => 1.0,
        _ => 0.0,
    };
    Place::by_number(urgency, format!("{:020}{:020}", client.state_since_us, client.id))
}

/// Every client; there are `max_clients` at most.
pub(super) async fn all_clients(context: &AdminContext) -> Result<Vec<ClientState>, Problem> {
    patiently(context.state.clients(usize::MAX)).await
}

pub(super) async fn patiently<T>(state: StateFuture<T>) -> Result<T, Problem> {
    tokio::time::timeout(STATE_PATIENCE, state).await.map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "a worker did not answer within 2 seconds; try again")
    })
}

fn client_shown(client: &ClientState) -> Value {
    with_times(client, client.connected_us, client.state_since_us)
}

fn with_times(state: &impl Serialize, connected_us: u64, since_us: u64) -> Value {
    let mut shown = serde_json::to_value(state).unwrap_or_default();
    if let Some(object) = shown.as_object_mut() {
        object.insert("connected".into(), rfc3339_us(connected_us).into());
        object.insert("state_since".into(), rfc3339_us(since_us).into());
    }
    shown
}
