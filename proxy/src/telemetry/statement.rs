//! What is counted for each statement of each tenant.

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use policy::observe::ShapeFacts;
use policy::statement::Class;

use super::cell::{Counter, Maximum, Minimum};
use super::histogram::CompactHistogram;
use super::{Interned, TenantId};

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
    /// When its first byte was seen, in µs on the telemetry clock.
    pub start_us: u64,
    /// When its last reply had gone out, in µs on the telemetry clock.
    pub end_us: u64,
    /// Of that, waiting for an upstream or for its tenant's turn.
    pub queue_us: u64,
    /// Of that, from the send to the server to the server's last reply.
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
    /// Whether it ended in an error.
    pub failed: bool,
}

impl Finished {
    /// From first byte to last reply, in µs.
    #[inline]
    pub fn total_us(&self) -> u64 {
        self.end_us.saturating_sub(self.start_us)
    }
}

/// Counters of one statement of one tenant on one worker.
#[derive(Debug)]
pub struct StatementCell {
    pub(super) statement: Interned<StatementText>,
    pub(super) tenant: TenantId,
    pub(super) calls: Counter,
    pub(super) prepared_calls: Counter,
    pub(super) errors: Counter,
    pub(super) rows: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    pub(super) total_us: Counter,
    pub(super) queue_us: Counter,
    pub(super) server_us: Counter,
    pub(super) back_pressure_us: Counter,
    pub(super) min_us: Minimum,
    pub(super) max_us: Maximum,
    pub(super) first_seen_us: Minimum,
    pub(super) last_seen_us: Maximum,
    pub(super) durations: CompactHistogram,
}

impl StatementCell {
    pub(super) fn new(statement: Interned<StatementText>, tenant: TenantId) -> Self {
        Self {
            statement,
            tenant,
            calls: Counter::default(),
            prepared_calls: Counter::default(),
            errors: Counter::default(),
            rows: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            total_us: Counter::default(),
            queue_us: Counter::default(),
            server_us: Counter::default(),
            back_pressure_us: Counter::default(),
            min_us: Minimum::default(),
            max_us: Maximum::default(),
            first_seen_us: Minimum::default(),
            last_seen_us: Maximum::default(),
            durations: CompactHistogram::default(),
        }
    }
}

/// A worker's handle to the counters of one statement of one tenant. Cheap to clone; cannot leave its thread, because
/// the counters have one writer.
#[derive(Debug, Clone)]
pub struct StatementMeter {
    cell: Arc<StatementCell>,
    one_thread: PhantomData<Rc<()>>,
}

impl StatementMeter {
    pub(super) fn new(cell: Arc<StatementCell>) -> Self {
        Self { cell, one_thread: PhantomData }
    }

    /// Counts one finished statement. No allocation, no lock, no clock.
    #[inline]
    pub fn record(&self, finished: &Finished) {
        let cell = &*self.cell;
        let total_us = finished.total_us();
        cell.calls.increment();
        cell.prepared_calls.add(u64::from(finished.prepared));
        cell.errors.add(u64::from(finished.failed));
        cell.rows.add(finished.rows);
        cell.bytes_in.add(finished.bytes_in);
        cell.bytes_out.add(finished.bytes_out);
        cell.total_us.add(total_us);
        cell.queue_us.add(finished.queue_us);
        cell.server_us.add(finished.server_us);
        cell.back_pressure_us.add(finished.back_pressure_us);
        cell.min_us.lower(total_us);
        cell.max_us.raise(total_us);
        cell.first_seen_us.lower(finished.start_us);
        cell.last_seen_us.raise(finished.end_us);
        cell.durations.record(total_us);
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
