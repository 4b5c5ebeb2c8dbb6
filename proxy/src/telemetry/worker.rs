//! What one thread writes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use policy::statement::Class;
use rustc_hash::FxBuildHasher;

use super::cell::{Counter, Gauge};
use super::latency::RegisteredLatencies;
use super::listen::ListenLoad;
use super::pool::{PoolEntry, PoolMeter, PoolName};
use super::quota::Quotas;
use super::ring::{Dropped, EventWriter};
use super::room::Room;
use super::statement::{NO_FACTS, StatementCell, StatementMeter, StatementText};
use super::usage::{Registered, RegisteredClasses, Usages};
use super::{Interned, Sqlstate, Telemetry, TenantId, lock};

/// Distinct (tenant, SQLSTATE) and (pool, tenant, SQLSTATE) rows kept per thread; further ones are counted together.
const MAX_ERROR_ROWS: usize = 4_096;

/// Samples that one thread may take in a second: each takes a lock that all share.
const SAMPLES_PER_SECOND: u32 = 100;

pub(super) type Map<K, V> = HashMap<K, V, FxBuildHasher>;

/// One thread's telemetry. It cannot leave its thread: its counters have one writer.
#[derive(Debug)]
pub struct WorkerTelemetry {
    telemetry: Arc<Telemetry>,
    pub(super) shared: Arc<WorkerShared>,
    pub(super) usages: Usages,
    /// The way to the analyst.
    pub events: EventWriter,
    pub(super) statements: RefCell<Map<(u64, TenantId), StatementMeter>>,
    /// Where the counts of rows are that have made room.
    pub(super) rests: RefCell<Map<TenantId, Arc<StatementCell>>>,
    serial: Cell<u64>,
    /// Whose these are.
    quotas: RefCell<Quotas>,
    pools: RefCell<Map<PoolName, PoolMeter>>,
    /// The second, and samples taken in it.
    sampled: Cell<(u64, u32)>,
}

/// What one thread has registered for readers.
#[derive(Debug)]
pub(crate) struct WorkerShared {
    pub(super) name: Box<str>,
    pub(super) load: WorkerLoad,
    pub(super) dropped: Dropped,
    pub(super) skipped: Dropped,
    pub(super) statements: Mutex<Vec<Arc<StatementCell>>>,
    pub(super) room: Room,
    pub(super) pools: Mutex<Vec<Arc<PoolEntry>>>,
    pub(super) applications: Registered,
    pub(super) routes: Registered,
    pub(super) classes: RegisteredClasses,
    pub(super) latencies: RegisteredLatencies,
    pub(super) errors: Mutex<ErrorTable<()>>,
    pub(super) refusals: Mutex<ErrorTable<u32>>,
    pub(super) rare: Mutex<Map<TenantId, [u64; Rare::ALL]>>,
}

/// What happens to a tenant's clients now and then, and is counted by tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rare {
    /// A statement was ended because of the tenant's statement timeout.
    StatementTimeout,
    /// A request was refused because no upstream came free in time.
    QueueTimeout,
    /// A client began to keep its upstream.
    Pin,
    /// A statement after which the upstream had to be reset.
    Discard,
    /// A statement was refused for what it would have left on the upstream.
    Reject,
}

impl Rare {
    const ALL: usize = Self::Reject as usize + 1;
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
    /// TLS handshakes with clients that failed.
    pub tls_failures: Counter,
    /// Those that succeeded with TLS 1.2.
    pub tls12_handshakes: Counter,
    /// Those that succeeded with TLS 1.3.
    pub tls13_handshakes: Counter,
    /// Clients served by it whose connection has TLS.
    pub tls_clients: Gauge,
    /// Connections that a limit on logins has kept out.
    pub logins_limited: Counter,
    /// Cancel requests with a key that nobody has.
    pub cancels_unknown: Counter,
    /// Cancel requests that were passed on to the process whose client they are for.
    pub cancels_passed_on: Counter,
    /// Connections refused before login: over `max_clients`, malformed, or too slow.
    pub refused_connections: Counter,
    /// Connections closed because of bytes that are not the protocol.
    pub protocol_violations: Counter,
    /// Upstreams taken over from another worker.
    pub stolen: Counter,
    /// LISTEN over shared connections.
    pub listen: ListenLoad,
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
    pub(super) fn new(name: &str, dropped: Dropped, skipped: Dropped) -> Self {
        Self {
            name: name.into(),
            load: WorkerLoad::default(),
            dropped,
            skipped,
            statements: Mutex::default(),
            room: Room::default(),
            pools: Mutex::default(),
            applications: Mutex::default(),
            routes: Mutex::default(),
            classes: Mutex::default(),
            latencies: Mutex::default(),
            errors: Mutex::default(),
            refusals: Mutex::default(),
            rare: Mutex::default(),
        }
    }
}

impl WorkerTelemetry {
    pub(super) fn new(telemetry: Arc<Telemetry>, shared: Arc<WorkerShared>, events: EventWriter) -> Self {
        Self {
            telemetry,
            shared,
            usages: Usages::default(),
            events,
            statements: RefCell::default(),
            rests: RefCell::default(),
            serial: Cell::default(),
            quotas: RefCell::default(),
            pools: RefCell::default(),
            sampled: Cell::default(),
        }
    }

    /// Whether another sample may be taken now.
    pub fn admits_sample(&self, now_us: u64) -> bool {
        let second = now_us / 1_000_000;
        let taken = match self.sampled.get() {
            (known, taken) if known == second => taken,
            _ => 0,
        };
        self.sampled.set((second, taken.saturating_add(1)));
        taken < SAMPLES_PER_SECOND
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
    /// called, and the statement registered under a lock. Beyond the bound, or beyond what one
    /// tenant may have of it: the tenant's row of all others.
    pub fn statement(&self, strict: u64, tenant: TenantId, describe: impl FnOnce() -> StatementText) -> StatementMeter {
        if let Some(meter) = self.statements.borrow().get(&(strict, tenant)) {
            return meter.clone();
        }
        self.new_statement(strict, tenant, false, describe)
    }

    /// The same of a statement that has come before: where its tenant has all that it may have, one that was not called for
    /// long makes room for it.
    pub fn statement_again(
        &self,
        strict: u64,
        tenant: TenantId,
        describe: impl FnOnce() -> StatementText,
    ) -> StatementMeter {
        if let Some(meter) = self.statements.borrow().get(&(strict, tenant)) {
            return meter.clone();
        }
        self.new_statement(strict, tenant, true, describe)
    }

    /// The next number of a cell.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.set(self.serial.get() + 1);
        self.serial.get()
    }

    #[cold]
    fn new_statement(
        &self,
        strict: u64,
        tenant: TenantId,
        again: bool,
        describe: impl FnOnce() -> StatementText,
    ) -> StatementMeter {
        let room = self.room_epoch();
        let free = self.telemetry.bounds.fingerprints.saturating_sub(self.quotas.borrow().taken());
        let admitted = self.quotas.borrow().admits(tenant, free);
        // One that is not admitted is described only where it may take another one's place.
        let statement = match (admitted, again) {
            (true, _) => self.telemetry.statements.intern_of(tenant, strict, describe),
            (false, true) if room > 0 => Interned { id: 0, value: Arc::new(describe()) },
            (false, _) => others(),
        };
        if again
            && room > 0
            && statement.id == 0
            && let Some(meter) = self.make_room(strict, tenant, &statement.value)
        {
            return meter;
        }
        // A statement that the shared table turned away has no text to show: it belongs to the others too.
        let (statement, key) = if statement.id == 0 { (others(), (0, tenant)) } else { (statement, (strict, tenant)) };
        if let Some(meter) = self.statements.borrow().get(&key) {
            return meter.asked(room);
        }
        if statement.id != 0 {
            self.quotas.borrow_mut().add(tenant);
        }
        let cell = Arc::new(StatementCell::new(statement, tenant, self.next_serial()));
        lock(&self.shared.statements).push(Arc::clone(&cell));
        let meter = StatementMeter::new(cell).asked(room);
        self.statements.borrow_mut().insert(key, meter.clone());
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

    /// Counts an error that a statement of this tenant ended in, by SQLSTATE. Slow path: takes a lock that only the admin
    /// port shares. [`StatementMeter::record`] counts it for the statement.
    pub fn statement_failed(&self, tenant: TenantId, sqlstate: Sqlstate) {
        lock(&self.shared.errors).count((), tenant, sqlstate);
    }

    /// Counts what has happened to a tenant's client. Slow path, as [`WorkerTelemetry::statement_failed`].
    pub fn happened(&self, tenant: TenantId, what: Rare) {
        let mut rare = lock(&self.shared.rare);
        if let Some(count) = rare.entry(tenant).or_default().get_mut(what as usize) {
            *count += 1;
        }
    }

    /// Counts a request or connection that the proxy itself refused or ended, by SQLSTATE. `pool` is `None` before the
    /// client has one. Slow path, as [`WorkerTelemetry::statement_failed`].
    pub fn refused(&self, pool: Option<&PoolMeter>, tenant: TenantId, sqlstate: Sqlstate) {
        lock(&self.shared.refusals).count(pool.map_or(0, PoolMeter::id), tenant, sqlstate);
    }
}

/// The statement that stands for all beyond the bound.
pub(super) fn others() -> Interned<StatementText> {
    let text = StatementText { class: Class::Other, facts: NO_FACTS, text: "(all other statements)".into() };
    Interned { id: 0, value: Arc::new(text) }
}

/// The pool that stands for all beyond the bound.
fn other_pools() -> (Interned<PoolName>, PoolName) {
    let name = PoolName { database: "(others)".into(), user: "(others)".into() };
    (Interned { id: 0, value: Arc::new(name.clone()) }, name)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{telemetry_with, tenants, unknown_facts};
    use super::super::{Bounds, Finished};
    use super::*;

    fn telemetry(fingerprints: usize) -> Arc<Telemetry> {
        telemetry_with(Bounds { fingerprints, ..Bounds::default() }, tenants(2))
    }

    fn text(strict: u64) -> StatementText {
        let text = format!("select {strict}").into();
        StatementText { class: Class::Select, facts: unknown_facts(strict), text }
    }

    #[test]
    fn beyond_the_bound_each_tenant_has_one_row_for_all_others() {
        let telemetry = telemetry(4);
        let worker = telemetry.worker("0");
        let (acme, beta) = (TenantId::from(telemetry.tenants.id("acme")), TenantId::from(telemetry.tenants.id("beta")));
        for strict in 1..=3 {
            let meter = worker.statement(strict, acme, || text(strict));
            meter.record(&Finished::default());
            assert_ne!(meter.statement_id(), 0);
        }
        for strict in 4..=100 {
            let meter = worker.statement(strict, acme, || text(strict));
            meter.record(&Finished { end_us: 5, ..Finished::default() });
            assert_eq!((meter.statement_id(), meter.tenant()), (0, acme));
        }
        worker.statement(4, beta, || text(4)).record(&Finished::default());
        worker.statement(5, beta, || text(5)).record(&Finished::default());
        let rows = telemetry.statements();
        assert_eq!(rows.len(), 6);
        let others: Vec<_> = rows.iter().filter(|row| row.text.facts.strict == 0).map(|row| row.calls).collect();
        assert_eq!(others.iter().sum::<u64>(), 98);
        assert_eq!(others.iter().max(), Some(&97));
    }

    #[test]
    fn a_tenant_that_makes_texts_up_leaves_others_rows_of_their_own() {
        let telemetry = telemetry(100);
        let [acme, beta] = ["acme", "beta"].map(|name| TenantId::from(telemetry.tenants.id(name)));
        // Whatever worker its clients are on: the shared table has twice the room of one of them.
        for name in ["0", "1", "2", "3"] {
            let worker = telemetry.worker(name);
            let first = name.parse::<u64>().unwrap() * 1_000 + 1;
            let kept = (first..first + 900).filter(|n| worker.statement(*n, acme, || text(*n)).statement_id() != 0);
            assert!(kept.count() <= 75);
            assert_ne!(worker.statement(7_777, beta, || text(7_777)).statement_id(), 0, "{name}");
        }
        let worker = telemetry.worker("4");
        let kept = (8_000..8_020).filter(|n| worker.statement(*n, beta, || text(*n)).statement_id() != 0);
        assert_eq!(kept.count(), 20);
    }

    #[test]
    fn pools_beyond_the_bound_share_a_row() {
        let telemetry = telemetry_with(Bounds { pools: 1, ..Bounds::default() }, tenants(1));
        let worker = telemetry.worker("0");
        worker.pool("one", "u").clients.up();
        worker.pool("two", "u").clients.up();
        worker.pool("three", "u").clients.up();
        let clients: Vec<_> =
            telemetry.pools().into_iter().map(|row| (row.name.database, row.totals.clients)).collect();
        assert_eq!(clients, [("(others)".into(), 2), ("one".into(), 1)]);
    }

    #[test]
    fn error_rows_are_bounded_and_nothing_is_lost() {
        let mut table = ErrorTable::default();
        for n in 0..MAX_ERROR_ROWS as u64 + 10 {
            table.count(n, TenantId(1), Sqlstate::UNKNOWN);
        }
        table.count(0, TenantId(1), Sqlstate::UNKNOWN);
        assert_eq!((table.rows.len(), table.others), (MAX_ERROR_ROWS, 10));
        assert_eq!(table.rows.values().sum::<u64>(), MAX_ERROR_ROWS as u64 + 1);
    }

    #[test]
    fn a_reader_sees_whole_numbers_while_a_worker_writes() {
        const CALLS: u64 = 300_000;
        let telemetry = telemetry(10);
        let writing = Arc::clone(&telemetry);
        let worker = std::thread::spawn(move || {
            let worker = writing.worker("0");
            let meter = worker.statement(1, TenantId::OTHERS, || text(1));
            for _ in 0..CALLS {
                meter.record(&Finished { end_us: 100, rows: 2, ..Finished::default() });
            }
        });
        let mut last = 0;
        while !worker.is_finished() {
            for row in telemetry.statements() {
                assert!(row.calls >= last && row.calls <= CALLS);
                assert!(row.max_us <= 100);
                last = row.calls;
            }
        }
        worker.join().unwrap();
        let row = telemetry.statements().remove(0);
        assert_eq!((row.calls, row.rows, row.durations.count()), (CALLS, 2 * CALLS, CALLS));
    }
}
