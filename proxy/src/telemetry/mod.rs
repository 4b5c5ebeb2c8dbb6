//! Telemetry: written from everywhere, read only by the admin port and the analyst. No decision is taken from it.
//!
//! ```text
//!   worker 0 ── WorkerTelemetry ─┬─ StatementMeter ─► cells, one writer each ─┐
//!   worker 1 ── WorkerTelemetry ─┼─ PoolMeter ──────► cells, one writer each ─┼─► Telemetry, added up on read
//!   control ─── WorkerTelemetry ─┴─ EventWriter ────► ring ─► analyst         ┘
//! ```
//!
//! On the path of a query: plain loads and stores in memory that this worker alone writes. Whatever is new (a
//! statement, a pool, a tenant, a scope) is registered once under a lock, and the caller keeps the handle. Everything
//! is bounded; beyond a bound there is a row for "all others".

mod baseline;
pub mod callers;
pub mod cell;
pub mod clock;
mod codes;
mod followed;
pub mod histogram;
pub mod history;
pub mod latency;
pub mod listen;
pub mod pool;
pub mod process;
mod quota;
pub mod registry;
pub mod ring;
mod room;
pub mod row;
pub mod samples;
pub mod snapshot;
pub mod statement;
#[cfg(test)]
pub(crate) mod testing;
pub mod tips;
pub mod untracked;
pub mod usage;
pub mod worker;

use std::sync::{Arc, Mutex, PoisonError};

use policy::tenant::Directory;
use serde::Serialize;

pub use clock::Clock;
pub use followed::Followed;
pub use latency::LatencyMeter;
pub use pool::{CloseReason, PinReason, PoolMeter, PoolName};
pub use registry::{Interned, Registry};
pub use ring::{Event, EventFlags, EventHeader, EventReader, EventWriter, Payload};
pub use statement::{Finished, StatementMeter, StatementText};
pub use untracked::{Untracked, UntrackedLog};
pub use usage::{RouteTag, UsageMeter};
pub use worker::{Rare, WorkerTelemetry};

use baseline::Baselines;
use history::History;
use tips::Tips;
use worker::WorkerShared;

use crate::column_names::ColumnNames;
use crate::plans::Plans;
use crate::server_ids::ServerIds;

/// A tenant's number, as [`policy::tenant::Directory`] gave it, in a form that fits into a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

impl TenantId {
    /// All tenants beyond `max_tenants`.
    pub const OTHERS: Self = Self(0);
}

impl From<policy::tenant::TenantId> for TenantId {
    fn from(id: policy::tenant::TenantId) -> Self {
        Self(u32::try_from(id.index()).unwrap_or(0))
    }
}

/// A five-character SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sqlstate([u8; 5]);

impl Sqlstate {
    /// What stands for a code that is not five letters or digits.
    pub const UNKNOWN: Self = Self(*b"XX000");

    /// The code in these bytes; anything but five upper-case letters and digits becomes [`Sqlstate::UNKNOWN`], so that
    /// a server cannot put other text into metrics.
    pub fn new(code: &[u8]) -> Self {
        match <[u8; 5]>::try_from(code) {
            Ok(five) if five.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) => Self(five),
            _ => Self::UNKNOWN,
        }
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The code's five bytes.
    pub fn bytes(self) -> [u8; 5] {
        self.0
    }

    /// Never 0.
    fn to_word(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_le_bytes([a, b, c, d, e, 0, 0, 0])
    }

    fn from_word(word: u64) -> Option<Self> {
        let [a, b, c, d, e, ..] = word.to_le_bytes();
        (word != 0).then(|| Self::new(&[a, b, c, d, e]))
    }
}

/// Who speaks: the unit in which repeated statements are looked for, across all connections of one client.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Scope {
    /// Database as the client asked for it.
    pub database: Box<str>,
    /// User as the client logged in.
    pub user: Box<str>,
    /// `application_name`, empty if there is none.
    pub application: Box<str>,
    /// The client's address without its port.
    pub client: Box<str>,
    /// Its tenant's name.
    pub tenant: Box<str>,
}

impl Scope {
    /// As findings have it.
    pub fn names(&self) -> policy::observe::Scope {
        policy::observe::Scope {
            database: self.database.to_string(),
            user: self.user.to_string(),
            application: self.application.to_string(),
            client: self.client.to_string(),
        }
    }
}

/// Types around a prepared statement, as far as the server or the client has told them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Description {
    /// Type OIDs of the parameters; 0: not known.
    pub parameters: Box<[u32]>,
    /// The columns of its result.
    pub columns: Box<[Column]>,
}

impl Description {
    /// The longest result that is described, in columns.
    pub const MAX_COLUMNS: usize = 256;

    fn weight(&self) -> usize {
        self.columns.len() + self.parameters.len() / 8
    }
}

/// One column of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Column {
    /// Its name in the result.
    pub name: Box<str>,
    /// The table that it comes from; 0: none.
    pub table: u32,
    /// Its number in that table; 0: none.
    pub attribute: i16,
    /// Its type's OID.
    pub type_oid: u32,
    /// Whether its values are in binary format, unless the event says that all are.
    pub binary: bool,
}

/// How much telemetry keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// (statement, tenant) pairs per worker; further statements share one row per tenant. One tenant alone leaves a quarter.
    pub fingerprints: usize,
    /// Pools; further ones share one row.
    pub pools: usize,
    /// Scopes in use at one time; further clients are not watched for repeated statements.
    pub scopes: usize,
    /// Routes named by comments; further ones are not told apart.
    pub routes: usize,
    /// Result descriptions in use at one time.
    pub descriptions: usize,
    /// Columns and parameters in all of them together; further results are counted, but not looked into.
    pub columns: usize,
    /// Bytes that windows of statements may take in the history.
    pub history_bytes: usize,
    /// Bytes of each worker's event ring.
    pub ring_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            fingerprints: 5_000,
            pools: 1_000,
            scopes: 50_000,
            routes: 10_000,
            descriptions: 50_000,
            columns: 200_000,
            history_bytes: 32 << 20,
            ring_bytes: 1 << 20,
        }
    }
}

/// All telemetry of the process: the tables shared by all threads and what each thread counts. Shared by `Arc`.
#[derive(Debug)]
pub struct Telemetry {
    /// The clock of every time in here.
    pub clock: Clock,
    pub(crate) bounds: Bounds,
    pub(crate) statements: Registry<u64, StatementText>,
    pub(crate) tenants: Arc<Directory>,
    pub(crate) pools: Registry<PoolName, PoolName>,
    pub(crate) applications: Registry<Box<str>, Box<str>>,
    pub(crate) latency_databases: Registry<Box<str>, Box<str>>,
    pub(crate) scopes: Registry<Scope, Scope>,
    pub(crate) routes: Registry<Box<str>, Box<str>>,
    /// Those that are counted by themselves.
    pub(crate) counted_routes: Registry<Box<str>, ()>,
    pub(crate) descriptions: Registry<Description, Description>,
    /// Who leaves what on server connections.
    pub untracked: UntrackedLog,
    /// Which applications were seen to run what.
    pub callers: callers::Callers,
    baselines: Mutex<Baselines>,
    history: Mutex<History>,
    /// Plans of slow statements.
    pub plans: Plans,
    /// What servers call the statements.
    pub server_ids: ServerIds,
    /// What catalogs call the columns of findings.
    pub column_names: ColumnNames,
    /// Statements with their values, where they are wanted.
    pub samples: samples::Samples,
    /// What the analyst is told besides events.
    pub tips: Tips,
    workers: Mutex<Vec<Arc<WorkerShared>>>,
    new_readers: Mutex<Vec<EventReader>>,
}

impl Telemetry {
    /// Empty telemetry. `tenants` bounds the tenants and knows their names.
    pub fn new(clock: Clock, bounds: Bounds, tenants: Arc<Directory>) -> Arc<Self> {
        Arc::new(Self {
            clock,
            bounds,
            // Every worker may meet statements that the others do not.
            statements: Registry::lasting(bounds.fingerprints.saturating_mul(2)),
            tenants,
            pools: Registry::lasting(bounds.pools),
            applications: Registry::lasting(usage::MAX_ROWS),
            latency_databases: Registry::lasting(latency::MAX_DATABASES),
            scopes: Registry::sweeping(bounds.scopes),
            routes: Registry::lasting(bounds.routes),
            counted_routes: Registry::lasting(usage::MAX_ROWS),
            descriptions: Registry::sweeping(bounds.descriptions).weighing(bounds.columns, Description::weight),
            untracked: UntrackedLog::default(),
            callers: callers::Callers::default(),
            baselines: Mutex::default(),
            history: Mutex::new(History::new(clock.start_us(), bounds.history_bytes)),
            plans: Plans::default(),
            server_ids: ServerIds::default(),
            column_names: ColumnNames::default(),
            samples: samples::Samples::default(),
            tips: Tips::default(),
            workers: Mutex::default(),
            new_readers: Mutex::default(),
        })
    }

    /// A thread's own telemetry. To be called on that thread: what it returns stays there. The reading end of its event
    /// ring waits for the analyst. `name` is a metric label: `0`, `1`, … for workers, `control` for the control thread.
    pub fn worker(self: &Arc<Self>, name: &str) -> WorkerTelemetry {
        let (events, reader) = ring::ring(self.bounds.ring_bytes);
        let shared = Arc::new(WorkerShared::new(name, events.dropped(), events.skipped()));
        lock(&self.workers).push(Arc::clone(&shared));
        lock(&self.new_readers).push(reader);
        WorkerTelemetry::new(Arc::clone(self), shared, events)
    }

    /// The event rings that have come up since the last call. For the analyst.
    pub fn new_readers(&self) -> Vec<EventReader> {
        std::mem::take(&mut *lock(&self.new_readers))
    }

    /// The id of a scope. Miss path: keep what it returns for as long as the id is used in events.
    pub fn scope(&self, scope: Scope) -> Interned<Scope> {
        self.scopes.intern(scope.clone(), || scope)
    }

    /// The id of a route, controller or job that a tenant's statement names; 0 beyond the bound. Miss path: keep it.
    pub fn route(&self, tenant: TenantId, name: &str) -> u32 {
        self.routes.intern_of(tenant, name.into(), || name.into()).id
    }

    /// The id of a description. Miss path: keep what it returns for as long as the id is used in events.
    pub fn description(&self, description: Description) -> Interned<Description> {
        self.descriptions.intern(description.clone(), || description)
    }

    pub(crate) fn each_worker(&self) -> Vec<Arc<WorkerShared>> {
        lock(&self.workers).clone()
    }
}

/// What a thread that panicked under a lock leaves behind is still whole here: every change is one insert or one push.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
