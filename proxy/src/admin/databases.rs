//! `/api/v1/databases`: one object for each database: where it leads, how its pools stand, what ran.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use config::{Database, Settings};
use serde_json::{Map, Value, json};

use super::AdminContext;
use super::api::{self, Answer, Context};
use super::breakdown;
use super::events::memory::Memory;
use super::events::samples::ByDatabase;
use super::openapi::parameters::Asked;
use super::source::PoolState;
use crate::cache::figures::DatabaseFigures;
use crate::telemetry::clock::rfc3339_us;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::pool::PoolTotals;
use crate::telemetry::usage::Usage;

/// How far back what ran lately goes unless the request says otherwise.
const HOUR: Duration = Duration::from_secs(3_600);

/// `/api/v1/databases`.
pub(super) async fn databases(State(context): Context, asked: Asked) -> Answer {
    super::server::aside(move || Json(list(&context, &asked))).await.map(Ok)?
}

/// What there is of a database, over its pools.
#[derive(Debug, Default)]
struct Sums {
    usage: Usage,
    clients: [i64; 3],
    upstreams: [i64; 4],
    waits: Distribution,
    /// Connections by the pools' own books.
    open: usize,
    /// How long the first client has waited, in µs.
    waiting_us: Option<u64>,
    paused_since: Option<u64>,
    disabled_since: Option<u64>,
}

impl Sums {
    fn add(&mut self, totals: &PoolTotals) {
        self.usage.add_pool(totals);
        self.waits.merge(&totals.waits);
        let clients = [totals.clients, totals.clients_active, totals.clients_waiting];
        let upstreams = [totals.upstreams_active, totals.upstreams_idle, totals.upstreams_dialling, totals.pinned];
        self.clients.iter_mut().zip(clients).for_each(|(sum, more)| *sum += more);
        self.upstreams.iter_mut().zip(upstreams).for_each(|(sum, more)| *sum += more);
    }

    fn add_state(&mut self, pool: &PoolState, memory: &Memory) {
        self.open += pool.open;
        let waited = pool.waiting_for.map(|waited| waited.as_micros() as u64);
        self.waiting_us = self.waiting_us.max(waited);
        let Some(since) = memory.pools.get(&(pool.database.clone(), pool.user.clone())) else { return };
        let earlier = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        self.paused_since = earlier(self.paused_since, since.paused);
        self.disabled_since = earlier(self.disabled_since, since.disabled);
    }
}

/// Those that are configured, and those that clients have asked for; what took most time first.
fn list(context: &AdminContext, asked: &Asked) -> Value {
    let settings = context.state.settings();
    let memory = context.events.memory();
    let mut all: BTreeMap<Box<str>, Sums> =
        settings.databases.keys().map(|name| (name.as_str().into(), Sums::default())).collect();
    for pool in context.telemetry.pools() {
        all.entry(pool.name.database.clone()).or_default().add(&pool.totals);
    }
    for pool in context.state.pool_states() {
        all.entry(pool.database.as_str().into()).or_default().add_state(&pool, &memory);
    }
    let mut rows: Vec<(Box<str>, Sums)> = all.into_iter().collect();
    rows.sort_by(|(a, one), (b, other)| {
        other.usage.durations.sum_us.cmp(&one.usage.durations.sum_us).then_with(|| a.cmp(b))
    });
    let total = rows.len();
    rows.truncate(asked.limit());
    let lately = Lately::of(context, &memory, asked.time("period").unwrap_or(HOUR));
    let cached = context.state.caches().figures(Instant::now()).databases;
    let suspended = context.state.housekeeping().suspended;
    let shown: Vec<Value> = rows
        .iter()
        .map(|(name, sums)| {
            let mut row = configured(name, &settings);
            row.extend(state(context, name, sums));
            row.insert("suspended".to_owned(), suspended.into());
            let suspended_since = memory.suspended.filter(|_| suspended);
            row.insert("suspended_since".to_owned(), suspended_since.map(rfc3339_us).into());
            row.insert("period".to_owned(), lately.shown(name, &sums.usage));
            row.extend(server(context, name, &cached));
            if let Value::Object(usage) = breakdown::row("database", name, &sums.usage) {
                row.extend(usage);
            }
            Value::Object(row)
        })
        .collect();
    json!({"total": total, "databases": shown})
}

/// Where it leads and what it may take, as `SHOW DATABASES` names it; `null` where it has left the configuration.
fn configured(name: &str, settings: &Settings) -> Map<String, Value> {
    let known = settings.database(name);
    let of = |show: &dyn Fn(&Database) -> Value| known.map_or(Value::Null, show);
    let hosts = |known: &Database| {
        let names: Vec<&str> = known.upstream.hosts.iter().map(|host| host.name.as_str()).collect();
        names.join(",").into()
    };
    let balance = |known: &Database| match known.upstream.hosts.len() {
        0 | 1 => Value::Null,
        _ if known.upstream.load_balance => "random".into(),
        _ => "disable".into(),
    };
    let facts = [
        ("name", name.into()),
        ("host", of(&hosts)),
        ("port", of(&|known| known.upstream.hosts.first().map(|host| host.port).into())),
        ("dbname", of(&|known| known.upstream.database.as_deref().unwrap_or(name).into())),
        ("force_user", of(&|known| known.upstream.user.clone().into())),
        ("pool_mode", of(&|known| api::mode(known.pool.mode).into())),
        ("pool_size", of(&|known| known.pool.size.into())),
        ("min_pool_size", of(&|known| known.pool.min_size.into())),
        ("reserve_pool_size", of(&|known| known.pool.reserve_size.into())),
        ("server_lifetime_seconds", of(&|known| known.pool.lifetime.as_secs().into())),
        ("load_balance_hosts", of(&balance)),
        ("max_connections", of(&|known| known.limits.max_upstreams.into())),
        ("max_client_connections", of(&|known| known.limits.max_clients.into())),
    ];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What it does now.
fn state(context: &AdminContext, name: &str, sums: &Sums) -> Map<String, Value> {
    let switches = context.state.switches(name);
    let [clients, active, waiting] = sums.clients.map(|count| count.max(0));
    let [busy, idle, dialling, pinned] = sums.upstreams.map(|count| count.max(0));
    let since = |is_so: bool, since: Option<u64>| since.filter(|_| is_so).map(rfc3339_us);
    let facts = [
        ("current_connections", json!(sums.open)),
        ("current_client_connections", json!(clients)),
        ("paused", json!(switches.paused)),
        ("paused_since", json!(since(switches.paused, sums.paused_since))),
        ("disabled", json!(switches.disabled)),
        ("disabled_since", json!(since(switches.disabled, sums.disabled_since))),
        (
            "clients",
            json!({"total": clients, "active": active, "waiting": waiting, "idle": (clients - active - waiting).max(0)}),
        ),
        ("upstreams", json!({"active": busy, "idle": idle, "dialling": dialling, "pinned": pinned})),
        ("waiting_ms", json!(sums.waiting_us.map(|us| api::round(us as f64 / 1e3)))),
        ("wait_ms", api::spread(&sums.waits)),
    ];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What its servers have said of themselves, and how it stands with the cache.
fn server(context: &AdminContext, name: &str, cached: &[DatabaseFigures]) -> Map<String, Value> {
    let said = context.state.server(name);
    let own = cached.iter().find(|one| said.cached_as.contains(&one.name));
    let facts = [
        ("server_version", json!(said.version)),
        ("is_in_recovery", json!(said.in_recovery)),
        ("cache", own.map_or(Value::Null, super::cache::of_database)),
    ];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What has run of late, by what had run before.
struct Lately {
    from_us: u64,
    now_us: u64,
    before: std::sync::Arc<ByDatabase>,
}

impl Lately {
    fn of(context: &AdminContext, memory: &Memory, length: Duration) -> Self {
        let clock = context.telemetry.clock;
        let now_us = clock.micros(Instant::now());
        let wanted_us = now_us.saturating_sub(length.as_micros() as u64);
        let (from_us, before) =
            memory.samples.before(wanted_us).unwrap_or((clock.start_us(), std::sync::Arc::default()));
        Self { from_us, now_us, before }
    }

    fn shown(&self, name: &str, usage: &Usage) -> Value {
        let then = self.before.get(name).copied().unwrap_or_default();
        let (calls, errors) =
            (usage.durations.count().saturating_sub(then.calls), usage.errors.saturating_sub(then.errors));
        let seconds = self.now_us.saturating_sub(self.from_us) as f64 / 1e6;
        json!({
            "from": rfc3339_us(self.from_us),
            "until": rfc3339_us(self.now_us),
            "calls": calls,
            "calls_per_second": api::round(calls as f64 / seconds.max(1.0)),
            "errors": errors,
        })
    }
}
