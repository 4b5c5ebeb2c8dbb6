//! What the admin port tells, and rates between two looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::cli::ask::{self, Trouble};
use crate::cli::http::Admin;

/// Statements that are asked for: those that have taken most time.
const STATEMENTS: usize = 500;
/// Rows of the other lists.
const ROWS: usize = 1_000;

/// One list of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(in crate::cli) enum Tab {
    /// Statements, each with its tenant.
    Statements,
    /// Tenants.
    Tenants,
    /// Pools.
    Pools,
    /// Clients.
    Clients,
    /// Findings.
    Findings,
}

impl Tab {
    /// All, from left to right.
    pub(super) const ALL: [Self; 5] = [Self::Statements, Self::Tenants, Self::Pools, Self::Clients, Self::Findings];

    /// As it stands above the list.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Statements => "Statements",
            Self::Tenants => "Tenants",
            Self::Pools => "Pools",
            Self::Clients => "Clients",
            Self::Findings => "Findings",
        }
    }
}

/// `/api/v1/version`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Version {
    pub(in crate::cli) version: String,
    pub(in crate::cli) uptime_seconds: u64,
    pub(in crate::cli) workers: usize,
}

/// A pool, as far as it is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Pool {
    pub(in crate::cli) database: String,
    pub(in crate::cli) user: String,
    pub(in crate::cli) paused: bool,
    pub(in crate::cli) disabled: bool,
    pub(in crate::cli) clients: Clients,
    pub(in crate::cli) upstreams: Upstreams,
    pub(in crate::cli) settings: Option<PoolSettings>,
    pub(in crate::cli) queue_timeouts: u64,
    pub(in crate::cli) queue_refusals: u64,
    pub(in crate::cli) wait_ms: Spread,
    pub(in crate::cli) dials: u64,
    pub(in crate::cli) dial_failures: u64,
    pub(in crate::cli) statements: u64,
    pub(in crate::cli) statement_errors: u64,
    pub(in crate::cli) statement_ms: Spread,
}

/// Clients of a pool.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Clients {
    pub(in crate::cli) total: u64,
    pub(in crate::cli) active: u64,
    pub(in crate::cli) waiting: u64,
}

/// Server connections of a pool.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Upstreams {
    pub(in crate::cli) active: u64,
    pub(in crate::cli) idle: u64,
    pub(in crate::cli) pinned: u64,
}

/// Settings of a pool.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct PoolSettings {
    pub(in crate::cli) size: u64,
    pub(in crate::cli) reserve_size: u64,
}

/// A sum and percentiles.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Spread {
    pub(in crate::cli) total: f64,
    pub(in crate::cli) p95: f64,
}

/// A statement of a tenant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Statement {
    pub(super) fingerprint: String,
    pub(super) class: String,
    pub(super) text: String,
    pub(super) tenant: String,
    pub(super) calls: u64,
    pub(super) calls_last_minute: u64,
    pub(super) errors: u64,
    pub(super) errors_by_sqlstate: std::collections::BTreeMap<String, u64>,
    pub(super) rows: u64,
    pub(super) total_ms: f64,
    pub(super) queue_ms: f64,
    pub(super) server_ms: f64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) last_seen: String,
}

/// A tenant.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tenant {
    pub(super) tenant: String,
    pub(super) clients: u64,
    pub(super) statements: u64,
    pub(super) errors: u64,
    pub(super) statement_timeouts: u64,
    pub(super) queue_timeouts: u64,
    pub(super) refusals: u64,
    pub(super) total_ms: f64,
    pub(super) queue_ms: f64,
    pub(super) limits_reached: std::collections::BTreeMap<String, Reached>,
}

/// How often a limit was reached.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reached {
    pub(super) observed: u64,
    pub(super) warned: u64,
    pub(super) enforced: u64,
}

/// A client.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) tenant: String,
    pub(super) application: String,
    pub(super) address: String,
    pub(super) state: String,
    pub(super) state_since: String,
    pub(super) pinned: Option<String>,
}

/// One side of a finding.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Side {
    pub(in crate::cli) fingerprint: String,
    pub(in crate::cli) text: String,
}

/// A finding.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Finding {
    pub(in crate::cli) id: String,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) severity: String,
    pub(in crate::cli) tenant: String,
    pub(in crate::cli) application: String,
    pub(in crate::cli) route: Option<String>,
    pub(in crate::cli) parent: Option<Side>,
    pub(in crate::cli) child: Side,
    pub(in crate::cli) evidence: Option<String>,
    pub(in crate::cli) count: u64,
    pub(in crate::cli) wasted_ms: f64,
    pub(in crate::cli) occurrences: u64,
    pub(in crate::cli) rewrite: Option<String>,
    pub(in crate::cli) state: String,
    pub(in crate::cli) last_seen: String,
}

/// A stretch of time in a statement's history.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Window {
    pub(in crate::cli) start: String,
    pub(in crate::cli) seconds: f64,
    pub(in crate::cli) calls: u64,
    pub(in crate::cli) errors: u64,
    pub(in crate::cli) total_ms: f64,
    pub(in crate::cli) p95_ms: Option<f64>,
}

/// What is told at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) version: Option<Version>,
    pub(super) not_ready: Option<Vec<String>>,
    pub(super) pools: Option<Vec<Pool>>,
    pub(super) list: List,
    /// How many rows the list has and how many there are, where it does not have them all.
    pub(super) cut: Option<(usize, u64)>,
}

/// The list that was asked for.
#[derive(Debug, Clone)]
pub(super) enum List {
    Statements(Vec<Statement>),
    Tenants(Vec<Tenant>),
    Pools,
    Clients(Vec<Client>),
    Findings(Vec<Finding>),
}

#[derive(Deserialize)]
struct Pools {
    pools: Vec<Pool>,
}
#[derive(Deserialize)]
struct Queries {
    queries: Vec<Statement>,
}
#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}
#[derive(Deserialize)]
struct AllClients {
    total: u64,
    clients: Vec<Client>,
}
#[derive(Deserialize)]
struct Findings {
    findings: Vec<Finding>,
}
#[derive(Deserialize)]
struct Course {
    windows: Vec<Window>,
}
#[derive(Deserialize)]
struct Reasons {
    reasons: Vec<String>,
}

/// Version and uptime; `None`: the token does not open it.
pub(in crate::cli) fn version(admin: &Admin) -> Result<Option<Version>, Trouble> {
    ask::permitted(ask::json(admin, "/api/v1/version"))
}

/// All pools; `None`: the token does not open it.
pub(in crate::cli) fn pools(admin: &Admin) -> Result<Option<Vec<Pool>>, Trouble> {
    Ok(ask::permitted(ask::json::<Pools>(admin, "/api/v1/pools"))?.map(|answer| answer.pools))
}

/// Open findings, the gravest first, at most `limit`.
pub(in crate::cli) fn findings(admin: &Admin, limit: usize) -> Result<Vec<Finding>, Trouble> {
    let path = format!("/api/v1/findings?state=open&limit={limit}");
    Ok(ask::json::<Findings>(admin, &path)?.findings)
}

/// How everything has run, in windows of 10 s; with a fingerprint: how that statement has.
pub(in crate::cli) fn history(admin: &Admin, fingerprint: Option<&str>) -> Result<Vec<Window>, Trouble> {
    let path = match fingerprint {
        Some(fingerprint) => format!("/api/v1/queries/{}/history?step=10s", ask::encoded(fingerprint)),
        None => "/api/v1/history?step=10s".to_owned(),
    };
    Ok(ask::json::<Course>(admin, &path)?.windows)
}

/// Why new clients are not welcome; `None`: they are.
pub(in crate::cli) fn not_ready(admin: &Admin) -> Result<Option<Vec<String>>, Trouble> {
    let silent = |error| Trouble::Silent(admin.address().to_owned(), error);
    let answer = admin.get("/readyz").map_err(silent)?;
    let reasons = serde_json::from_slice::<Reasons>(&answer.body).map(|answer| answer.reasons).unwrap_or_default();
    Ok((answer.status != 200).then_some(reasons))
}

impl Snapshot {
    /// Asks for what a tab shows.
    ///
    /// # Errors
    /// The first question that was not answered.
    pub(super) fn take(admin: &Admin, tab: Tab) -> Result<Self, Trouble> {
        let mut cut = None;
        let list = match tab {
            Tab::Statements => {
                let path = format!("/api/v1/queries?sort=total_time&limit={STATEMENTS}");
                List::Statements(ask::json::<Queries>(admin, &path)?.queries)
            }
            Tab::Tenants => List::Tenants(ask::json::<Tenants>(admin, "/api/v1/tenants")?.tenants),
            Tab::Pools => List::Pools,
            Tab::Clients => {
                let path = format!("/api/v1/clients?sort=urgency&limit={ROWS}");
                let answer = ask::json::<AllClients>(admin, &path)?;
                cut = Some((answer.clients.len(), answer.total)).filter(|(rows, of)| *of > *rows as u64);
                List::Clients(answer.clients)
            }
            Tab::Findings => List::Findings(findings(admin, ROWS)?),
        };
        Ok(Self {
            version: version(admin)?,
            not_ready: not_ready(admin)?,
            pools: pools(admin)?,
            list,
            cut,
            at: Instant::now(),
        })
    }
}

/// The counters of one row, for rates.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Counters {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) total_ms: f64,
}

impl Counters {
    /// Per second since an earlier look. A counter that has fallen has begun anew.
    pub(super) fn rates(self, before: Self, elapsed: Duration) -> Rates {
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let since = |now: u64, before: u64| if now >= before { now - before } else { now };
        let ms = if self.total_ms >= before.total_ms { self.total_ms - before.total_ms } else { self.total_ms };
        Rates {
            calls: since(self.calls, before.calls) as f64 / seconds,
            errors: since(self.errors, before.errors) as f64 / seconds,
            busy: ms / 1e3 / seconds,
        }
    }
}

/// What a row does now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    /// Calls per second.
    pub(super) calls: f64,
    /// Errors per second.
    pub(super) errors: f64,
    /// How many ran at once, on average.
    pub(super) busy: f64,
}

/// A snapshot with rates since the one before of the same kind.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) now: Snapshot,
    rates: HashMap<String, Rates>,
    /// All pools together.
    pub(super) all: Rates,
    /// Two looks have been taken: rates are of the time between them.
    pub(super) measured: bool,
}

impl View {
    /// Of this snapshot; `before`: an earlier one, if it has the same list.
    pub(super) fn new(now: Snapshot, before: Option<&Snapshot>) -> Self {
        let before = before.filter(|before| before.at < now.at);
        let elapsed = before.map_or(Duration::ZERO, |before| now.at.duration_since(before.at));
        let earlier = before.map(Snapshot::counters).unwrap_or_default();
        let same = before.is_some_and(|before| before.kind() == now.kind());
        let usual = if same { HashMap::new() } else { now.of_last_minute() };
        let mut rates = HashMap::new();
        for (id, counters) in now.counters() {
            let rate = match earlier.get(&id) {
                Some(before) => counters.rates(*before, elapsed),
                // What was not there at the last look has all run since.
                None if same => counters.rates(Counters::default(), elapsed),
                None => usual.get(&id).copied().unwrap_or_default(),
            };
            rates.insert(id, rate);
        }
        let sum =
            |snapshot: &Snapshot| snapshot.pool_counters().fold(Counters::default(), |sum, (_, one)| sum.and(one));
        let all = before.map(|before| sum(&now).rates(sum(before), elapsed)).unwrap_or_default();
        Self { rates, all, measured: before.is_some(), now }
    }

    /// A row's rates.
    pub(super) fn rates(&self, id: &str) -> Rates {
        self.rates.get(id).copied().unwrap_or_default()
    }
}

impl Counters {
    fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            errors: self.errors + other.errors,
            total_ms: self.total_ms + other.total_ms,
        }
    }
}

impl Snapshot {
    fn kind(&self) -> std::mem::Discriminant<List> {
        std::mem::discriminant(&self.list)
    }

    fn pool_counters(&self) -> impl Iterator<Item = (String, Counters)> + '_ {
        self.pools.iter().flatten().map(|pool| {
            let (calls, errors, total_ms) = (pool.statements, pool.statement_errors, pool.statement_ms.total);
            (pool.id(), Counters { calls, errors, total_ms })
        })
    }

    fn counters(&self) -> HashMap<String, Counters> {
        match &self.list {
            List::Statements(all) => all.iter().map(|own| (own.id(), own.counters())).collect(),
            List::Tenants(all) => {
                let of = |own: &Tenant| Counters { calls: own.statements, errors: own.errors, total_ms: own.total_ms };
                all.iter().map(|own| (own.tenant.clone(), of(own))).collect()
            }
            List::Pools => self.pool_counters().collect(),
            List::Clients(_) | List::Findings(_) => HashMap::new(),
        }
    }

    /// What the proxy itself counts of the last minute, for who has looked once.
    fn of_last_minute(&self) -> HashMap<String, Rates> {
        let List::Statements(all) = &self.list else { return HashMap::new() };
        let rates = |own: &Statement| {
            let calls = own.calls_last_minute as f64 / 60.0;
            Rates { calls, errors: 0.0, busy: calls * own.mean_ms / 1e3 }
        };
        all.iter().map(|own| (own.id(), rates(own))).collect()
    }
}

impl Statement {
    /// Unique among statements.
    pub(super) fn id(&self) -> String {
        format!("{} {}", self.fingerprint, self.tenant)
    }

    fn counters(&self) -> Counters {
        Counters { calls: self.calls, errors: self.errors, total_ms: self.total_ms }
    }
}

impl Pool {
    /// Unique among pools.
    pub(in crate::cli) fn id(&self) -> String {
        format!("{}/{}", self.database, self.user)
    }
}
