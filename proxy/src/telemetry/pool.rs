//! What is counted for each pool, a pair of database and user.

use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use policy::verdict::SessionState;

use super::cell::{Counter, Gauge};
use super::histogram::{Distribution, Histogram};
use super::{Finished, Interned};

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
        /// Its server is out of use, its pool paused, or the pool has become smaller.
        Retired => "retired",
        /// Another pool needed the room within a limit that both share.
        Room => "room",
        /// Somebody on the admin port asked for it.
        Admin => "admin",
        /// The proxy is stopping.
        Shutdown => "shutdown",
    }
}

reasons! {
    /// What a statement leaves on its upstream that cannot be followed: why a client keeps it, why it is reset, why the
    /// statement is refused.
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
        /// Prepared statements of the protocol by their names in SQL.
        StatementNames => "statement_names",
        /// LOAD of a library.
        Load => "load",
        /// A setting changed where the proxy cannot follow it.
        HiddenSetting => "hidden_setting",
        /// DO or CALL.
        Block => "block",
        /// A function or trigger that changes its session.
        Function => "function",
        /// `currval` or `lastval`.
        SequenceState => "sequence_state",
        /// `setseed`.
        Seed => "seed",
    }
}

impl From<SessionState> for PinReason {
    fn from(state: SessionState) -> Self {
        match state {
            SessionState::Listen => Self::Listen,
            SessionState::TemporaryObject => Self::TemporaryObject,
            SessionState::AdvisoryLock => Self::AdvisoryLock,
            SessionState::HeldCursor => Self::HeldCursor,
            SessionState::SqlPrepare => Self::SqlPrepare,
            SessionState::StatementNames => Self::StatementNames,
            SessionState::Load => Self::Load,
            SessionState::HiddenSetting => Self::HiddenSetting,
            SessionState::Block => Self::Block,
            SessionState::Function => Self::Function,
            SessionState::SequenceState => Self::SequenceState,
            SessionState::Seed => Self::Seed,
        }
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

/// Declares what is counted for a pool: the cells that a thread writes, the totals that a reader gets, and the sum.
macro_rules! pool_cells {
    (
        gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)+ }
        counters { $($(#[$counter_doc:meta])* $counter:ident,)+ }
        histograms { $($(#[$histogram_doc:meta])* $histogram:ident,)+ }
        reasons { $($(#[$reason_doc:meta])* $reason:ident: $of:ty,)+ }
    ) => {
        /// Counters of one pool on one thread. Reached through a [`PoolMeter`]; each is written where the thing
        /// happens.
        #[derive(Debug, Default)]
        pub struct PoolCell {
            $($(#[$gauge_doc])* pub $gauge: Gauge,)+
            $($(#[$counter_doc])* pub $counter: Counter,)+
            $($(#[$histogram_doc])* pub $histogram: Histogram,)+
            $($(#[$reason_doc])* pub $reason: ByReason<$of>,)+
        }

        /// The counters of one pool, added up over all threads.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct PoolTotals {
            $($(#[$gauge_doc])* pub $gauge: i64,)+
            $($(#[$counter_doc])* pub $counter: u64,)+
            $($(#[$histogram_doc])* pub $histogram: Distribution,)+
            $($(#[$reason_doc])* pub $reason: Vec<u64>,)+
        }

        impl PoolCell {
            /// Adds what has been counted so far to `into`.
            pub(super) fn merge_into(&self, into: &mut PoolTotals) {
                $(into.$gauge += self.$gauge.value();)+
                $(into.$counter = into.$counter.wrapping_add(self.$counter.value());)+
                $(self.$histogram.merge_into(&mut into.$histogram);)+
                $(self.$reason.merge_into(&mut into.$reason);)+
            }
        }
    };
}

pool_cells! {
    gauges {
        /// Clients logged in to the pool.
        clients,
        /// Of them, those that hold an upstream.
        clients_active,
        /// Of them, those that wait for an upstream.
        clients_waiting,
        /// Upstreams held by a client.
        upstreams_active,
        /// Upstreams that anybody may take.
        upstreams_idle,
        /// Upstreams being connected and logged in.
        upstreams_dialling,
        /// Upstreams kept by a client beyond its transaction.
        pinned,
        /// Functions and tables of its server that change the session that uses them.
        suspects,
    }
    counters {
        /// Leases given.
        checkouts,
        /// Requests refused because no upstream came free in time.
        queue_timeouts,
        /// Requests refused because too many waited already.
        queue_refusals,
        /// Connection attempts.
        dials,
        /// Of them, those that failed.
        dial_failures,
        /// Upstreams reset (DISCARD ALL, ROLLBACK) before reuse.
        resets,
        /// Cancel requests that named a client of this pool.
        cancels_requested,
        /// Of them, those sent on to the server.
        cancels_forwarded,
        /// Of them, those that came when nothing was running.
        cancels_ignored,
        /// Bytes from clients.
        bytes_in,
        /// Bytes to clients.
        bytes_out,
        /// Transactions ended, implicit ones included.
        transactions,
        /// Time in transactions, in µs.
        transaction_us,
        /// Statements finished.
        statements,
        /// Of them, those that failed.
        statement_errors,
        /// Rows that statements returned or changed.
        rows,
        /// Of the time of statements, waiting for an upstream or a turn, in µs.
        queue_us,
        /// Of it, in the server, in µs.
        server_us,
        /// Of it, waiting for clients to take their rows, in µs.
        back_pressure_us,
        /// Parse messages from clients.
        parses,
        /// Of them, those that were not sent on, for the upstream had the statement already.
        parses_kept,
        /// Bind messages from clients.
        binds,
        /// Executions whose statement the upstream already had.
        prepared_hits,
        /// Parse messages added because the upstream did not have the statement.
        prepared_injected,
        /// Prepared statements closed on an upstream to make room.
        prepared_evictions,
        /// Requests sent once more because the upstream's statement was out of date.
        prepared_retries,
        /// Statements sent before a client's request to give it its settings.
        settings_sent,
        /// Clients that gave up an upstream that they had kept, because nothing of theirs was left on it.
        pins_ended,
        /// Looks at its server's functions.
        inspections,
        /// Of them, those that the server did not answer.
        inspection_failures,
    }
    histograms {
        /// How long each lease was waited for, in µs; 0 where an upstream was free.
        waits,
        /// How long each successful connection attempt took, login included, in µs.
        dial_times,
        /// How long each statement took, from its first byte to its last reply, in µs.
        durations,
    }
    reasons {
        /// Upstreams closed, by [`CloseReason`].
        closes: CloseReason,
        /// Clients that kept their upstream, by [`PinReason`].
        pins: PinReason,
        /// Upstreams that had to be reset for what a statement may have left, by [`PinReason`].
        discards: PinReason,
        /// Statements refused for what they would leave, by [`PinReason`].
        rejects: PinReason,
    }
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

    /// Counts one finished statement.
    #[inline]
    pub fn finished(&self, finished: &Finished) {
        self.statements.increment();
        self.statement_errors.add(u64::from(finished.error.is_some()));
        self.rows.add(finished.rows);
        self.queue_us.add(finished.queue_us);
        self.server_us.add(finished.server_us);
        self.back_pressure_us.add(finished.back_pressure_us);
        self.durations.record(finished.total_us());
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
