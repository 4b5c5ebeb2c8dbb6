//! What is counted for each statement of each tenant.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use policy::observe::ShapeFacts;
use policy::statement::Class;
use xxhash_rust::xxh3::xxh3_64;

use super::cell::{Counter, Maximum, Minimum, Sequence, Wish};
use super::codes::CodeCounts;
use super::histogram::CompactHistogram;
use super::room::Gone;
use super::{Interned, Sqlstate, TenantId, WorkerTelemetry};

/// What a strict fingerprint stands for. Described once, when the fingerprint is first met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementText {
    /// What kind of statement it is.
    pub class: Class,
    /// Its fingerprints and what detection wants to know. A strict fingerprint of 0 is the row that stands for all
    /// statements beyond the bound.
    pub facts: ShapeFacts,
    /// The normalised text, without literals.
    pub text: Box<str>,
}

impl StatementText {
    /// The text of those that cannot be read.
    pub const UNREADABLE: &str = "(statements whose encoding hides where strings end)";

    /// What stands for all of them.
    pub fn unreadable() -> Self {
        let strict = xxh3_64(Self::UNREADABLE.as_bytes());
        let facts = ShapeFacts { strict, family: strict, ..NO_FACTS };
        Self { class: Class::Other, facts, text: Self::UNREADABLE.into() }
    }
}

/// Facts of the row that stands for all statements beyond the bound: detection passes over it.
pub(super) const NO_FACTS: ShapeFacts = ShapeFacts {
    strict: 0,
    family: 0,
    class: policy::observe::Class::Skip,
    batched: false,
    has_limit: false,
    has_offset: false,
    skip_locked: false,
};

/// One finished statement, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Finished {
    /// When its first byte was seen, in µs on the telemetry clock; or, less what it had waited by then, when the server was
    /// done with the statements that the client had sent in front of it.
    pub start_us: u64,
    /// When its last reply had come, in µs on the telemetry clock; of one whose reply came with those of others behind it,
    /// when it had its share of their time.
    pub end_us: u64,
    /// Of that, waiting for an upstream or for its tenant's turn.
    pub queue_us: u64,
    /// Of that, from the send to the server, or the end of the statement in front of it, to the server's last reply, less
    /// what the client took to take its rows.
    pub server_us: u64,
    /// Of that, waiting for the client to take its rows.
    pub back_pressure_us: u64,
    /// Rows returned or changed, by the command tag.
    pub rows: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Whether it came by the extended protocol.
    pub prepared: bool,
    /// Whether it was answered from the cache.
    pub cached: bool,
    /// The error that it ended in.
    pub error: Option<Sqlstate>,
}

impl Finished {
    /// From first byte to last reply, in µs.
    #[inline]
    pub fn total_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }

    /// Of that, what it has not waited for an upstream or a turn, in µs.
    #[inline]
    pub fn own_us(&self) -> u64 {
        self.total_us().saturating_sub(self.queue_us)
    }
}

/// A part of statements' time. Of most statements some part is never anything but zero: its histogram is made when it is
/// needed, once.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) sum_us: Counter,
    pub(super) max_us: Maximum,
    pub(super) spread: OnceLock<Box<CompactHistogram>>,
}

impl Part {
    #[inline]
    fn record(&self, us: u64) {
        if us > 0 {
            self.sum_us.add(us);
            self.max_us.raise(us);
            self.spread.get_or_init(Box::default).record(us);
        }
    }

    fn absorb(&self, other: &Self) {
        self.sum_us.add(other.sum_us.value());
        self.max_us.raise(other.max_us.value());
        if let Some(spread) = other.spread.get() {
            self.spread.get_or_init(Box::default).absorb(spread);
        }
    }
}

/// Counters of one statement of one tenant on one worker.
#[derive(Debug)]
pub struct StatementCell {
    pub(super) sequence: Sequence,
    /// No other cell of its worker has the same.
    pub(super) serial: u64,
    /// It holds what was counted of rows that have made room.
    pub(super) is_rest: bool,
    /// Its own counts are in such a one.
    pub(super) gone: Gone,
    /// A reset wants the extremes of what comes after it.
    pub(super) anew: Wish,
    pub(super) statement: Interned<StatementText>,
    pub(super) tenant: TenantId,
    pub(super) calls: Counter,
    pub(super) prepared_calls: Counter,
    pub(super) cached_calls: Counter,
    pub(super) errors: Counter,
    pub(super) rows: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) total_us: Counter,
    pub(super) queue: Part,
    pub(super) server: Part,
    pub(super) back_pressure: Part,
    pub(super) min_us: Minimum,
    pub(super) max_us: Maximum,
    pub(super) first_seen_us: Minimum,
    pub(super) last_seen_us: Maximum,
    pub(super) durations: CompactHistogram,
    /// Made at the first error.
    pub(super) codes: OnceLock<Box<CodeCounts>>,
}

impl StatementCell {
    pub(super) fn new(statement: Interned<StatementText>, tenant: TenantId, serial: u64) -> Self {
        Self {
            sequence: Sequence::default(),
            serial,
            is_rest: false,
            gone: Gone::default(),
            anew: Wish::default(),
            statement,
            tenant,
            calls: Counter::default(),
            prepared_calls: Counter::default(),
            cached_calls: Counter::default(),
            errors: Counter::default(),
            rows: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            total_us: Counter::default(),
            queue: Part::default(),
            server: Part::default(),
            back_pressure: Part::default(),
            min_us: Minimum::default(),
            max_us: Maximum::default(),
            first_seen_us: Minimum::default(),
            last_seen_us: Maximum::default(),
            durations: CompactHistogram::default(),
            codes: OnceLock::new(),
        }
    }

    #[inline]
    fn record(&self, finished: &Finished) {
        if self.anew.take() {
            self.forget_extremes();
        }
        let total_us = finished.total_us();
        self.calls.increment();
        self.prepared_calls.add(u64::from(finished.prepared));
        self.cached_calls.add(u64::from(finished.cached));
        self.rows.add(finished.rows);
        self.bytes_in.add(finished.bytes_in);
        self.bytes_out.add(finished.bytes_out);
        self.total_us.add(total_us);
        self.queue.record(finished.queue_us);
        self.server.record(finished.server_us);
        self.back_pressure.record(finished.back_pressure_us);
        self.min_us.lower(total_us);
        self.max_us.raise(total_us);
        self.first_seen_us.lower(finished.start_us);
        self.last_seen_us.raise(finished.end_us);
        self.durations.record(total_us);
        if let Some(code) = finished.error {
            self.record_error(code);
        }
    }

    /// Where the counts of a tenant's rows go that make room. `statement` stands for all others.
    pub(super) fn rest(statement: Interned<StatementText>, tenant: TenantId, serial: u64) -> Self {
        Self { is_rest: true, ..Self::new(statement, tenant, serial) }
    }

    /// Adds what another cell has counted, which does not count any more.
    pub(super) fn absorb(&self, other: &Self) {
        // Extremes of before a reset are nobody's any more.
        for cell in [self, other] {
            if cell.anew.take() {
                cell.forget_extremes();
            }
        }
        for (own, more) in [
            (&self.calls, &other.calls),
            (&self.prepared_calls, &other.prepared_calls),
            (&self.cached_calls, &other.cached_calls),
            (&self.errors, &other.errors),
            (&self.rows, &other.rows),
            (&self.bytes_in, &other.bytes_in),
            (&self.bytes_out, &other.bytes_out),
            (&self.total_us, &other.total_us),
        ] {
            own.add(more.value());
        }
        self.queue.absorb(&other.queue);
        self.server.absorb(&other.server);
        self.back_pressure.absorb(&other.back_pressure);
        self.min_us.lower(other.min_us.value().unwrap_or(u64::MAX));
        self.max_us.raise(other.max_us.value());
        self.first_seen_us.lower(other.first_seen_us.value().unwrap_or(u64::MAX));
        self.last_seen_us.raise(other.last_seen_us.value());
        self.durations.absorb(&other.durations);
        if let Some(codes) = other.codes.get() {
            self.codes.get_or_init(Box::default).absorb(codes);
        }
    }

    #[cold]
    fn record_error(&self, code: Sqlstate) {
        self.errors.increment();
        self.codes.get_or_init(Box::default).count(code);
    }

    #[cold]
    fn forget_extremes(&self) {
        self.min_us.forget();
        let parts = [&self.queue, &self.server, &self.back_pressure].map(|part| &part.max_us);
        parts.into_iter().chain([&self.max_us]).for_each(Maximum::forget);
    }
}

/// A worker's handle to the counters of one statement of one tenant. Cheap to clone; cannot leave its thread, because
/// the counters have one writer.
#[derive(Debug, Clone)]
pub struct StatementMeter {
    cell: Arc<StatementCell>,
    /// Which room there was when it was asked for.
    room: u64,
    one_thread: PhantomData<Rc<()>>,
}

impl StatementMeter {
    pub(super) fn new(cell: Arc<StatementCell>) -> Self {
        Self { cell, room: 0, one_thread: PhantomData }
    }

    /// The same, asked for while there was this room.
    pub(super) fn asked(&self, room: u64) -> Self {
        Self { room, ..self.clone() }
    }

    /// Whether it is the one to count by still. One whose row has made room is not, and one of all others has to be asked for
    /// anew when there may be room for a row of its own.
    #[inline]
    pub fn stands(&self, telemetry: &WorkerTelemetry) -> bool {
        !self.cell.gone.is_gone() && (self.cell.statement.id != 0 || self.room == telemetry.room_epoch())
    }

    /// Counts one finished statement. No lock, no clock; an allocation at the first error, and at the first time that is
    /// not zero of each part.
    #[inline]
    pub fn record(&self, finished: &Finished) {
        let cell = &*self.cell;
        cell.sequence.write(|| cell.record(finished));
    }

    /// The statement's id, for [`EventHeader`](super::ring::EventHeader); 0 for the row of all others.
    #[inline]
    pub fn statement_id(&self) -> u32 {
        self.cell.statement.id
    }

    /// What the statement is.
    pub fn statement(&self) -> &StatementText {
        &self.cell.statement.value
    }

    /// Whose calls these are.
    #[inline]
    pub fn tenant(&self) -> TenantId {
        self.cell.tenant
    }
}
