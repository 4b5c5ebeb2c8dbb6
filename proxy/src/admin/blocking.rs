//! `/api/v1/blocking`: who waits for whom in the pools. No server is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::AdminContext;
use super::api::{Answer, Context, round};
use super::clients::all_clients;
use super::openapi::parameters::Asked;
use super::source::{ClientState, PoolState};
use crate::telemetry::clock::rfc3339_us;

/// Of each pool: tenants, waiters and holders shown, those with most clients and those of the longest first.
const MAX_SHOWN: usize = 20;
/// Clients shown that keep their upstream.
const MAX_PINNED: usize = 200;

/// `/api/v1/blocking`.
pub(super) async fn blocking(State(context): Context, asked: Asked) -> Answer {
    let clients = all_clients(&context).await?;
    super::server::aside(move || Json(shown(&context, &asked, &clients))).await
}

fn shown(context: &Arc<AdminContext>, asked: &Asked, clients: &[ClientState]) -> Value {
    let now_us = context.telemetry.clock.micros(Instant::now());
    let wanted = |database: &str, user: &str| asked.wants("database", database) && asked.wants("user", user);
    let mut by_pool: BTreeMap<(&str, &str), Vec<&ClientState>> = BTreeMap::new();
    for client in clients.iter().filter(|client| wanted(&client.database, &client.user)) {
        by_pool.entry((&client.database, &client.user)).or_default().push(client);
    }
    let pools = context.state.pool_states();
    let waited_for = pools.iter().filter(|pool| pool.waiting > 0 && wanted(&pool.database, &pool.user));
    let queues: Vec<Value> = waited_for
        .filter_map(|pool| {
            let clients = by_pool.get(&(&*pool.database, &*pool.user)).map_or(&[][..], Vec::as_slice);
            queue(context, asked, pool, clients, now_us)
        })
        .collect();
    let mut pinned: Vec<&ClientState> = by_pool
        .values()
        .flatten()
        .copied()
        .filter(|client| client.pinned.is_some() && asked.wants("tenant", &client.tenant))
        .collect();
    pinned.sort_by_key(|client| (client.state_since_us, client.id));
    let pinned: Vec<Value> = pinned.into_iter().take(MAX_PINNED).map(pin).collect();
    json!({"pools": queues, "pinned": pinned})
}

/// One pool's queue. A tenant sees its own clients in it, and not how many others there are.
fn queue(
    context: &Arc<AdminContext>,
    asked: &Asked,
    pool: &PoolState,
    clients: &[&ClientState],
    now_us: u64,
) -> Option<Value> {
    let alone = asked.text("tenant");
    let own = |tenant: &str| alone.is_none_or(|alone| alone == tenant);
    let mut waiters: Vec<_> =
        clients.iter().filter(|client| client.state == "waiting" && own(&client.tenant)).collect();
    let mut holders: Vec<_> =
        clients.iter().filter(|client| client.upstream.is_some() && own(&client.tenant)).collect();
    waiters.sort_by_key(|client| (client.state_since_us, client.id));
    holders.sort_by_key(|client| (client.held_since_us, client.id));
    if alone.is_some() && waiters.is_empty() {
        return None;
    }
    let all = |number: usize| alone.is_none().then_some(number);
    let ms = |since_us: u64| round(now_us.saturating_sub(since_us) as f64 / 1e3);
    let tenants = context.state.queue(&pool.database, &pool.user, usize::MAX);
    let tenants: Vec<Value> = tenants
        .iter()
        .filter(|standing| own(&standing.tenant))
        .take(MAX_SHOWN)
        .map(|standing| {
            json!({
                "tenant": standing.tenant,
                "waiting": standing.waiting,
                "holding": standing.held,
                "max_upstreams": Some(standing.share.max).filter(|max| *max > 0),
            })
        })
        .collect();
    let longest = waiters.first().map(|client| ms(client.state_since_us));
    let waiting = if alone.is_some() { waiters.len() } else { pool.waiting };
    Some(json!({
        "database": pool.database,
        "user": pool.user,
        "size": all(pool.size),
        "open": all(pool.open),
        "paused": pool.paused,
        "waiting": waiting,
        "waiting_ms": longest,
        "failure": pool.failure.as_ref().filter(|_| alone.is_none()),
        "tenants": tenants,
        "waiters": waiters.iter().take(MAX_SHOWN).map(|client| json!({
            "client": client.id,
            "tenant": client.tenant,
            "application": client.application,
            "waiting_ms": ms(client.state_since_us),
        })).collect::<Vec<_>>(),
        "holders": holders.iter().take(MAX_SHOWN).map(|client| json!({
            "client": client.id,
            "tenant": client.tenant,
            "application": client.application,
            "state": client.state,
            "upstream": client.upstream,
            "held_ms": ms(client.held_since_us),
            "fingerprint": client.statement,
            "pinned": client.pinned,
            "pinned_by": client.pinned_by,
        })).collect::<Vec<_>>(),
    }))
}

/// A client that keeps its upstream beyond its transaction, and why.
fn pin(client: &ClientState) -> Value {
    json!({
        "client": client.id,
        "tenant": client.tenant,
        "application": client.application,
        "database": client.database,
        "user": client.user,
        "state": client.state,
        "upstream": client.upstream,
        "reason": client.pinned,
        "by": client.pinned_by,
        "state_since": rfc3339_us(client.state_since_us),
    })
}
