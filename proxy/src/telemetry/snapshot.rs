//! Reading: what all threads have counted, added up. Numbers of one moment each, not all of the same moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::listen::ListenTotals;
use super::pool::{PoolName, PoolTotals};
use super::statement::StatementCell;
use super::worker::{Map, Rare};
use super::{Sqlstate, Telemetry, TenantId, lock};

/// The name under which everything beyond a bound is shown.
pub const OTHERS: &str = config::Tenants::OTHERS;

/// One pool.
#[derive(Debug, Clone)]
pub struct PoolRow {
    /// Its names.
    pub name: PoolName,
    /// Its counters.
    pub totals: PoolTotals,
}

/// One tenant: the sums over its statements. Times in µs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub tenant: String,
    /// Statements told apart.
    pub fingerprints: u64,
    /// Statements run.
    pub calls: u64,
    /// Of them, failed.
    pub errors: u64,
    /// Ended because of the tenant's statement timeout.
    pub statement_timeouts: u64,
    /// Refused because no upstream came free in time.
    pub queue_timeouts: u64,
    /// Clients that began to keep their upstream.
    pub pins: u64,
    /// Statements after which the upstream had to be reset.
    pub discards: u64,
    /// Statements refused for what they would have left on the upstream.
    pub rejects: u64,
    /// Refused or ended by the proxy itself, statement timeouts included.
    pub refusals: u64,
    /// The same by SQLSTATE.
    pub refused: BTreeMap<String, u64>,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes from its clients.
    pub bytes_in: u64,
    /// Bytes to its clients.
    pub bytes_out: u64,
    /// Time of its statements.
    pub total_us: u64,
    /// Of it, waiting for an upstream or a turn.
    pub queue_us: u64,
    /// Of it, in the server.
    pub server_us: u64,
    /// Of it, waiting for clients to take their rows.
    pub back_pressure_us: u64,
    /// Longest statement.
    pub max_us: u64,
    /// When its last statement ended, in µs since 1970; 0: never.
    pub last_seen_us: u64,
}

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// `0`, `1`, … for workers, `control` for the control thread.
    pub worker: String,
    /// Clients served by it.
    pub clients: i64,
    /// Upstreams registered with it.
    pub upstreams: i64,
    /// Successful logins.
    pub logins: u64,
    /// Failed logins.
    pub login_failures: u64,
    /// TLS handshakes with clients that failed.
    pub tls_failures: u64,
    /// Those that succeeded with TLS 1.2.
    pub tls12_handshakes: u64,
    /// Those that succeeded with TLS 1.3.
    pub tls13_handshakes: u64,
    /// Clients served by it whose connection has TLS.
    pub tls_clients: i64,
    /// Connections that a limit on logins has kept out.
    pub logins_limited: u64,
    /// Cancel requests with a key that nobody has.
    pub cancels_unknown: u64,
    /// Cancel requests that were passed on to another process.
    pub cancels_passed_on: u64,
    /// Connections refused before login.
    pub refused_connections: u64,
    /// Connections closed because of bytes that are not the protocol.
    pub protocol_violations: u64,
    /// Upstreams taken over from another worker.
    pub stolen: u64,
    /// Events that found no room on their way to the analyst.
    pub events_dropped: u64,
    /// Events beyond `observe.events_per_second`: counted as statements, but not looked at by the analyst.
    pub events_skipped: u64,
}

/// Errors of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusalRow {
    /// The pool; `None` before there was one.
    pub pool: Option<Arc<PoolName>>,
    /// The code; `None` for what was beyond the bound.
    pub sqlstate: Option<Sqlstate>,
    /// How many.
    pub count: u64,
}

/// Tenants' names at one moment.
#[derive(Debug, Clone)]
pub struct TenantNames(Vec<Arc<str>>);

impl TenantNames {
    /// The name of a tenant; [`OTHERS`] if it has none.
    pub fn name(&self, tenant: TenantId) -> &str {
        match self.0.get(tenant.0 as usize) {
            Some(name) if tenant != TenantId::OTHERS => name,
            _ => OTHERS,
        }
    }

    /// The tenant of a name; `None`: there is none.
    pub fn id(&self, name: &str) -> Option<TenantId> {
        if name == OTHERS {
            return Some(TenantId::OTHERS);
        }
        let mut ids = (0..).zip(&self.0).skip(1);
        ids.find(|(_, known)| ***known == *name).map(|(id, _)| TenantId(id))
    }
}

impl Telemetry {
    /// Every pool, by name.
    pub fn pools(&self) -> Vec<PoolRow> {
        let mut rows: HashMap<PoolName, PoolTotals> = HashMap::new();
        for worker in self.each_worker() {
            for entry in lock(&worker.pools).iter() {
                entry.cell.merge_into(rows.entry((*entry.name.value).clone()).or_default());
            }
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(name, totals)| PoolRow { name, totals }).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// Every tenant that has run a statement, by name.
    pub fn tenants(&self) -> Vec<TenantRow> {
        let mut rows: Map<TenantId, TenantRow> = Map::default();
        // Two workers may have met the same statement.
        let mut seen: HashSet<(u32, TenantId), FxBuildHasher> = HashSet::default();
        self.each_cell(|cell| {
            let row = rows.entry(cell.tenant).or_default();
            let is_new = cell.statement.id != 0 && seen.insert((cell.statement.id, cell.tenant));
            row.fingerprints += u64::from(is_new);
            row.calls += cell.calls.value();
            row.errors += cell.errors.value();
            row.rows += cell.rows.value();
            row.bytes_in += cell.bytes_in.value();
            row.bytes_out += cell.bytes_out.value();
            row.total_us += cell.total_us.value();
            row.queue_us += cell.queue.sum_us.value();
            row.server_us += cell.server.sum_us.value();
            row.back_pressure_us += cell.back_pressure.sum_us.value();
            row.max_us = row.max_us.max(cell.max_us.value());
            row.last_seen_us = row.last_seen_us.max(cell.last_seen_us.value());
        });
        self.add_slow_path(&mut rows);
        let names = self.tenant_names();
        let mut rows: Vec<_> =
            rows.into_iter().map(|(id, row)| TenantRow { tenant: names.name(id).to_owned(), ..row }).collect();
        rows.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        rows
    }

    fn add_slow_path(&self, rows: &mut Map<TenantId, TenantRow>) {
        for worker in self.each_worker() {
            for (tenant, counts) in lock(&worker.rare).iter() {
                let count = |what: Rare| counts.get(what as usize).copied().unwrap_or(0);
                let row = rows.entry(*tenant).or_default();
                row.statement_timeouts += count(Rare::StatementTimeout);
                row.queue_timeouts += count(Rare::QueueTimeout);
                row.pins += count(Rare::Pin);
                row.discards += count(Rare::Discard);
                row.rejects += count(Rare::Reject);
            }
            for ((_, tenant, code), count) in &lock(&worker.refusals).rows {
                let row = rows.entry(*tenant).or_default();
                row.refusals += count;
                *row.refused.entry(code.as_str().to_owned()).or_default() += count;
            }
        }
    }

    /// The names of all tenants, by id.
    pub fn tenant_names(&self) -> TenantNames {
        TenantNames(self.tenants.names())
    }

    /// Every thread, in the order in which they started.
    pub fn workers(&self) -> Vec<WorkerRow> {
        let row = |worker: &Arc<super::worker::WorkerShared>| WorkerRow {
            worker: worker.name.to_string(),
            clients: worker.load.clients.value(),
            upstreams: worker.load.upstreams.value(),
            logins: worker.load.logins.value(),
            login_failures: worker.load.login_failures.value(),
            tls_failures: worker.load.tls_failures.value(),
            tls12_handshakes: worker.load.tls12_handshakes.value(),
            tls13_handshakes: worker.load.tls13_handshakes.value(),
            tls_clients: worker.load.tls_clients.value(),
            logins_limited: worker.load.logins_limited.value(),
            cancels_unknown: worker.load.cancels_unknown.value(),
            cancels_passed_on: worker.load.cancels_passed_on.value(),
            refused_connections: worker.load.refused_connections.value(),
            protocol_violations: worker.load.protocol_violations.value(),
            stolen: worker.load.stolen.value(),
            events_dropped: worker.dropped.count(),
            events_skipped: worker.skipped.count(),
        };
        self.each_worker().iter().map(row).collect()
    }

    /// LISTEN over shared connections, all threads together.
    pub fn listening(&self) -> ListenTotals {
        let mut totals = ListenTotals::default();
        self.each_worker().iter().for_each(|worker| totals.add(&worker.load.listen));
        totals
    }

    /// Errors that statements ended in, by code; `None`: what was beyond the bound.
    pub fn statement_errors(&self) -> Vec<(Option<Sqlstate>, u64)> {
        let mut sums: BTreeMap<Option<Sqlstate>, u64> = BTreeMap::new();
        for worker in self.each_worker() {
            let table = lock(&worker.errors);
            for ((.., code), count) in &table.rows {
                *sums.entry(Some(*code)).or_default() += count;
            }
            if table.others > 0 {
                *sums.entry(None).or_default() += table.others;
            }
        }
        sums.into_iter().collect()
    }

    /// What the proxy itself refused or ended, by pool and code.
    pub fn refusals(&self) -> Vec<RefusalRow> {
        let mut sums: Map<(u32, Option<Sqlstate>), u64> = Map::default();
        for worker in self.each_worker() {
            let table = lock(&worker.refusals);
            for ((pool, _, sqlstate), count) in &table.rows {
                *sums.entry((*pool, Some(*sqlstate))).or_default() += count;
            }
            if table.others > 0 {
                *sums.entry((0, None)).or_default() += table.others;
            }
        }
        let mut rows: Vec<_> = sums.into_iter().collect();
        rows.sort_unstable();
        rows.into_iter()
            .map(|((pool, sqlstate), count)| RefusalRow { pool: self.pools.by_id(pool), sqlstate, count })
            .collect()
    }

    /// The tables with a bound: (name, entries, things turned away).
    pub fn tables(&self) -> [(&'static str, usize, u64); 7] {
        let (windows, windows_cut) = self.history_size();
        [
            ("statements", self.statements.len(), self.statements.turned_away()),
            ("pools", self.pools.len(), self.pools.turned_away()),
            ("applications", self.applications.len(), self.applications.turned_away()),
            ("scopes", self.scopes.len(), self.scopes.turned_away()),
            ("routes", self.routes.len(), self.routes.turned_away()),
            ("descriptions", self.descriptions.len(), self.descriptions.turned_away()),
            ("history", windows, windows_cut),
        ]
    }

    /// Rows of statements that have made room for others.
    pub fn evicted(&self) -> u64 {
        self.each_worker().iter().map(|worker| worker.room.gone.value()).sum()
    }

    pub(super) fn each_cell(&self, mut each: impl FnMut(&StatementCell)) {
        for worker in self.each_worker() {
            // No count moves from one cell to another meanwhile; a worker does not wait for that.
            let _still = lock(&worker.room.still);
            // Only the list is copied under the lock: a worker that meets a new statement must not wait for a reader.
            let cells = lock(&worker.statements).clone();
            cells.iter().for_each(|cell| each(cell));
        }
    }
}
