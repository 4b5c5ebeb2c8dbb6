//! What one thread writes.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use policy::statement::{Class, Flags};
use rustc_hash::FxBuildHasher;

use super::cell::{Counter, Gauge};
use super::pool::{PoolEntry, PoolMeter, PoolName};
use super::ring::{Dropped, EventWriter};
use super::statement::{StatementCell, StatementMeter, StatementText};
use super::{Interned, Sqlstate, Telemetry, TenantId, lock};

/// Distinct (statement, tenant, SQLSTATE) and (pool, tenant, SQLSTATE) rows kept per thread; further ones are counted
/// together.
const MAX_ERROR_ROWS: usize = 4_096;

type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// One thread's telemetry. It cannot leave its thread: its counters have one writer.
#[derive(Debug)]
pub struct WorkerTelemetry {
    telemetry: Arc<Telemetry>,
    shared: Arc<WorkerShared>,
    /// The way to the analyst.
    pub events: EventWriter,
    statements: RefCell<Map<(u64, TenantId), StatementMeter>>,
    pools: RefCell<Map<PoolName, PoolMeter>>,
}

/// What one thread has registered for readers.
#[derive(Debug)]
pub(crate) struct WorkerShared {
    pub(super) name: Box<str>,
    pub(super) load: WorkerLoad,
    pub(super) dropped: Dropped,
    pub(super) statements: Mutex<Vec<Arc<StatementCell>>>,
    pub(super) pools: Mutex<Vec<Arc<PoolEntry>>>,
    pub(super) errors: Mutex<ErrorTable<u64>>,
    pub(super) refusals: Mutex<ErrorTable<u32>>,
}

/// What a thread counts of itself.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    /// Clients served by it, those still logging in included.
    pub clients: Gauge,
    /// Upstreams registered with it.
    pub upstreams: Gauge,
    /// Successful logins.
    pub logins: Counter,
    /// Failed logins.
    pub login_failures: Counter,
    /// Cancel requests with a key that nobody has.
    pub cancels_unknown: Counter,
    /// Connections refused before login: over `max_clients`, malformed, or too slow.
    pub refused_connections: Counter,
    /// Connections closed because of bytes that are not the protocol.
    pub protocol_violations: Counter,
    /// Upstreams handed over from another worker.
    pub stolen: Counter,
    /// Statements refused or ended because of their tenant's statement timeout.
    pub statement_timeouts: Counter,
}

/// Errors counted by what they struck, whose it was, and their SQLSTATE. Bounded.
#[derive(Debug)]
pub(super) struct ErrorTable<K> {
    pub(super) rows: Map<(K, TenantId, Sqlstate), u64>,
    pub(super) others: u64,
}

impl<K> Default for ErrorTable<K> {
    fn default() -> Self {
        Self { rows: Map::default(), others: 0 }
    }
}

impl<K: Eq + std::hash::Hash> ErrorTable<K> {
    fn count(&mut self, what: K, tenant: TenantId, sqlstate: Sqlstate) {
        let room = self.rows.len() < MAX_ERROR_ROWS;
        match self.rows.entry((what, tenant, sqlstate)) {
            std::collections::hash_map::Entry::Occupied(mut row) => *row.get_mut() += 1,
            std::collections::hash_map::Entry::Vacant(row) if room => {
                row.insert(1);
            }
            std::collections::hash_map::Entry::Vacant(_) => self.others += 1,
        }
    }
}

impl WorkerShared {
    pub(super) fn new(name: &str, dropped: Dropped) -> Self {
        Self {
            name: name.into(),
            load: WorkerLoad::default(),
            dropped,
            statements: Mutex::default(),
            pools: Mutex::default(),
            errors: Mutex::default(),
            refusals: Mutex::default(),
        }
    }
}

impl WorkerTelemetry {
    pub(super) fn new(telemetry: Arc<Telemetry>, shared: Arc<WorkerShared>, events: EventWriter) -> Self {
        Self { telemetry, shared, events, statements: RefCell::default(), pools: RefCell::default() }
    }

    /// The process's telemetry.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// What this thread counts of itself.
    pub fn load(&self) -> &WorkerLoad {
        &self.shared.load
    }

    /// The counters of a statement of a tenant. Known: one look-up in a table of this thread. New: `describe` is
    /// called, and the statement registered under a lock. Beyond the bound: the tenant's row of all others.
    pub fn statement(&self, strict: u64, tenant: TenantId, describe: impl FnOnce() -> StatementText) -> StatementMeter {
        if let Some(meter) = self.statements.borrow().get(&(strict, tenant)) {
            return meter.clone();
        }
        self.new_statement(strict, tenant, describe)
    }

    #[cold]
    fn new_statement(&self, strict: u64, tenant: TenantId, describe: impl FnOnce() -> StatementText) -> StatementMeter {
        let mut statements = self.statements.borrow_mut();
        let full = statements.len() >= self.telemetry.bounds.fingerprints;
        let statement = if full { others() } else { self.telemetry.statements.intern(strict, describe) };
        // A statement that the shared table turned away has no text to show: it belongs to the others too.
        let (statement, key) = if statement.id == 0 { (others(), (0, tenant)) } else { (statement, (strict, tenant)) };
        if let Some(meter) = statements.get(&key) {
            return meter.clone();
        }
        let cell = Arc::new(StatementCell::new(statement, tenant));
        lock(&self.shared.statements).push(Arc::clone(&cell));
        let meter = StatementMeter::new(cell);
        statements.insert(key, meter.clone());
        meter
    }

    /// This thread's counters of a pool. Miss path: keep the meter.
    pub fn pool(&self, database: &str, user: &str) -> PoolMeter {
        let name = PoolName { database: database.into(), user: user.into() };
        let mut pools = self.pools.borrow_mut();
        if let Some(meter) = pools.get(&name) {
            return meter.clone();
        }
        let interned = self.telemetry.pools.intern(name.clone(), || name.clone());
        let (interned, name) = if interned.id == 0 { other_pools() } else { (interned, name) };
        if let Some(meter) = pools.get(&name) {
            return meter.clone();
        }
        let entry = Arc::new(PoolEntry { name: interned, cell: Default::default() });
        lock(&self.shared.pools).push(Arc::clone(&entry));
        let meter = PoolMeter::new(entry);
        pools.insert(name, meter.clone());
        meter
    }

    /// Counts an error that a statement ended in, by SQLSTATE. Slow path: takes a lock that only the admin port
    /// shares. [`StatementMeter::record`] counts the failed call itself.
    pub fn statement_failed(&self, statement: &StatementMeter, sqlstate: Sqlstate) {
        let strict = statement.statement().strict;
        lock(&self.shared.errors).count(strict, statement.tenant(), sqlstate);
    }

    /// Counts a request or connection that the proxy itself refused or ended, by SQLSTATE. `pool` is `None` before the
    /// client has one. Slow path, as [`WorkerTelemetry::statement_failed`].
    pub fn refused(&self, pool: Option<&PoolMeter>, tenant: TenantId, sqlstate: Sqlstate) {
        lock(&self.shared.refusals).count(pool.map_or(0, PoolMeter::id), tenant, sqlstate);
    }
}

/// The statement that stands for all beyond the bound.
fn others() -> Interned<StatementText> {
    let text = StatementText {
        strict: 0,
        family: 0,
        class: Class::Other,
        flags: Flags::NONE,
        text: "(all other statements)".into(),
    };
    Interned { id: 0, value: Arc::new(text) }
}

/// The pool that stands for all beyond the bound.
fn other_pools() -> (Interned<PoolName>, PoolName) {
    let name = PoolName { database: "(others)".into(), user: "(others)".into() };
    (Interned { id: 0, value: Arc::new(name.clone()) }, name)
}
