//! What is counted for each pool, a pair of database and user.

use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::Interned;
use super::cell::{Counter, Gauge};
use super::histogram::Histogram;

/// The names of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolName {
    /// The database that clients ask for.
    pub database: Box<str>,
    /// The user that clients log in as.
    pub user: Box<str>,
}

/// Declares an enum of reasons whose counts are kept in an array, with the label that each has in metrics.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in metrics and on the admin port.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }

        impl Reason for $name {
            fn index(self) -> usize { self as usize }
            fn all() -> &'static [Self] { Self::ALL }
            fn label(self) -> &'static str { $name::label(self) }
        }
    };
}

/// A closed set of reasons that can be counted each on its own.
pub trait Reason: Copy + 'static {
    /// Its place in [`Reason::all`].
    fn index(self) -> usize;
    /// Every one.
    fn all() -> &'static [Self];
    /// Its name in metrics.
    fn label(self) -> &'static str;
}

reasons! {
    /// Why an upstream was closed.
    CloseReason {
        /// Unused for longer than `idle_timeout`.
        Idle => "idle",
        /// Older than `lifetime`.
        Lifetime => "lifetime",
        /// The server closed it or said that it would.
        ServerClosed => "server_closed",
        /// It could not be proven clean at its client's end.
        Unclean => "unclean",
        /// It said something that the protocol does not allow.
        Protocol => "protocol",
        /// A cancel or a deadline did not bring it back in time.
        Overdue => "overdue",
        /// The check before use failed.
        HealthCheck => "health_check",
        /// The configuration changed.
        Reload => "reload",
        /// Somebody on the admin port asked for it.
        Admin => "admin",
        /// The proxy is stopping.
        Shutdown => "shutdown",
    }
}

reasons! {
    /// Why a client kept its upstream beyond the end of a transaction.
    PinReason {
        /// LISTEN.
        Listen => "listen",
        /// A temporary table, view or sequence.
        TemporaryObject => "temporary_object",
        /// A session-level advisory lock.
        AdvisoryLock => "advisory_lock",
        /// A cursor WITH HOLD.
        HeldCursor => "held_cursor",
        /// PREPARE as SQL text.
        SqlPrepare => "sql_prepare",
        /// LOAD of a library.
        Load => "load",
        /// SET ROLE or SET SESSION AUTHORIZATION.
        Role => "role",
        /// A setting changed where the proxy cannot follow it.
        HiddenSetting => "hidden_setting",
        /// Anything else.
        Other => "other",
    }
}

/// One counter for each reason of a closed set.
#[derive(Debug)]
pub struct ByReason<R> {
    counters: Box<[Counter]>,
    of: PhantomData<fn(R)>,
}

impl<R: Reason> Default for ByReason<R> {
    fn default() -> Self {
        Self { counters: R::all().iter().map(|_| Counter::default()).collect(), of: PhantomData }
    }
}

impl<R: Reason> ByReason<R> {
    /// Adds one for this reason.
    #[inline]
    pub fn increment(&self, reason: R) {
        if let Some(counter) = self.counters.get(reason.index()) {
            counter.increment();
        }
    }

    /// Adds what has been counted so far to `into`, by place.
    pub(super) fn merge_into(&self, into: &mut Vec<u64>) {
        into.resize(self.counters.len(), 0);
        for (total, counter) in into.iter_mut().zip(&self.counters) {
            *total += counter.value();
        }
    }
}

/// Counters of one pool on one worker (or on the control thread). Reached through a [`PoolMeter`]; each field is
/// written where the thing happens.
#[derive(Debug, Default)]
pub struct PoolCell {
    /// Clients logged in to the pool.
    pub clients: Gauge,
    /// Of them, those that hold an upstream.
    pub clients_active: Gauge,
    /// Of them, those that wait for an upstream.
    pub clients_waiting: Gauge,
    /// Upstreams held by a client.
    pub upstreams_active: Gauge,
    /// Upstreams that anybody may take.
    pub upstreams_idle: Gauge,
    /// Upstreams being connected and logged in.
    pub upstreams_dialling: Gauge,
    /// Leases given.
    pub checkouts: Counter,
    /// How long each lease was waited for, in µs; 0 where an upstream was free.
    pub waits: Histogram,
    /// Requests refused because no upstream came free in time.
    pub queue_timeouts: Counter,
    /// Connection attempts.
    pub dials: Counter,
    /// Of them, those that failed.
    pub dial_failures: Counter,
    /// How long each successful attempt took, login included, in µs.
    pub dial_times: Histogram,
    /// Upstreams closed.
    pub closes: ByReason<CloseReason>,
    /// Upstreams reset (DISCARD ALL, ROLLBACK) before reuse.
    pub resets: Counter,
    /// Clients that kept their upstream.
    pub pins: ByReason<PinReason>,
    /// Upstreams kept by a client now.
    pub pinned: Gauge,
    /// Cancel requests that named a client of this pool.
    pub cancels_requested: Counter,
    /// Of them, those sent on to the server.
    pub cancels_forwarded: Counter,
    /// Of them, those that came when nothing was running.
    pub cancels_ignored: Counter,
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// Transactions ended, implicit ones included.
    pub transactions: Counter,
    /// Time in transactions, in µs.
    pub transaction_us: Counter,
    /// Statements finished.
    pub statements: Counter,
    /// Of them, those that failed.
    pub statement_errors: Counter,
    /// How long each statement took, from its first byte to its last reply, in µs.
    pub durations: Histogram,
    /// Parse messages from clients.
    pub parses: Counter,
    /// Bind messages from clients.
    pub binds: Counter,
    /// Executions whose statement the upstream already had.
    pub prepared_hits: Counter,
    /// Parse messages added because the upstream did not have the statement.
    pub prepared_injected: Counter,
    /// Prepared statements closed on an upstream to make room.
    pub prepared_evictions: Counter,
    /// SET statements sent before a client's request to give it its settings.
    pub settings_sent: Counter,
}

/// What a worker registers for a pool.
#[derive(Debug)]
pub(super) struct PoolEntry {
    pub(super) name: Interned<PoolName>,
    pub(super) cell: PoolCell,
}

/// A thread's handle to its counters of one pool. Cheap to clone; cannot leave its thread.
#[derive(Debug, Clone)]
pub struct PoolMeter {
    entry: Arc<PoolEntry>,
    one_thread: PhantomData<Rc<()>>,
}

impl PoolMeter {
    pub(super) fn new(entry: Arc<PoolEntry>) -> Self {
        Self { entry, one_thread: PhantomData }
    }

    /// The pool's id, the same on every thread.
    pub fn id(&self) -> u32 {
        self.entry.name.id
    }

    /// The pool's names.
    pub fn name(&self) -> &PoolName {
        &self.entry.name.value
    }
}

impl Deref for PoolMeter {
    type Target = PoolCell;
    fn deref(&self) -> &PoolCell {
        &self.entry.cell
    }
}
