//! Statements as a reader sees them: one row for each statement of each tenant, added up over all threads.

use std::sync::Arc;

use super::baseline::Baselines;
use super::histogram::Distribution;
use super::statement::{Part, StatementCell, StatementText};
use super::worker::Map;
use super::{Sqlstate, Telemetry, TenantId, lock};

/// One statement of one tenant, since the process started or since it was reset. Times in µs, moments in µs since 1970.
#[derive(Debug, Clone)]
pub struct StatementRow {
    /// What it is.
    pub text: Arc<StatementText>,
    /// Whose.
    pub tenant: TenantId,
    /// Since when everything here is counted, but for `first_seen_us`.
    pub since_us: u64,
    /// Times run.
    pub calls: u64,
    /// Of them, by the extended protocol.
    pub prepared_calls: u64,
    /// Of them, answered from the cache.
    pub cached_calls: u64,
    /// Of them, failed.
    pub errors: u64,
    /// Of them, by SQLSTATE: the first codes that each thread has seen.
    pub codes: Vec<(Sqlstate, u64)>,
    /// Of them, with other codes.
    pub other_codes: u64,
    /// Rows returned or changed.
    pub rows: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// Time from first byte to last reply.
    pub total_us: u64,
    /// Of it, waiting for an upstream or a turn.
    pub queue: PartRow,
    /// Of it, in the server.
    pub server: PartRow,
    /// Of it, waiting for clients to take their rows.
    pub back_pressure: PartRow,
    /// Shortest run.
    pub min_us: u64,
    /// Longest run.
    pub max_us: u64,
    /// When the first run ever began.
    pub first_seen_us: u64,
    /// When the last one ended.
    pub last_seen_us: u64,
    /// How the runs are distributed.
    pub durations: Box<Distribution>,
}

/// A part of a statement's time.
#[derive(Debug, Clone, Default)]
pub struct PartRow {
    /// Over all runs.
    pub sum_us: u64,
    /// The most in one run.
    pub max_us: u64,
    /// The runs of which it took any time; `None`: there were none.
    pub spread: Option<Box<Distribution>>,
}

impl StatementRow {
    /// The mean duration in µs; 0 when nothing ran.
    pub fn mean_us(&self) -> f64 {
        if self.calls == 0 { 0.0 } else { self.total_us as f64 / self.calls as f64 }
    }

    /// The duration in µs that a share `q` of the runs does not exceed, within 11.1 %.
    pub fn percentile_us(&self, q: f64) -> f64 {
        self.durations.percentile(q, self.min_us, self.max_us)
    }

    /// The same of one of its parts. The runs of which it took no time are in none of its buckets.
    pub fn part_percentile_us(&self, part: &PartRow, q: f64) -> f64 {
        let Some(spread) = &part.spread else { return 0.0 };
        let without = self.durations.count().saturating_sub(spread.count());
        let rank = (q.clamp(0.0, 1.0) * (without + spread.count()) as f64).ceil().max(1.0) as u64;
        rank.checked_sub(without).filter(|rank| *rank > 0).map_or(0.0, |rank| spread.at_rank(rank, 1, part.max_us))
    }

    /// `calls` in one minute, over the time from the first of them, or from when they were reset, up to `now_us`.
    pub fn calls_per_minute(&self, now_us: u64) -> f64 {
        let since = self.first_seen_us.max(self.since_us);
        // What has only just been seen has no rate yet: a minute is the shortest time that one is given for.
        self.calls as f64 * 60e6 / now_us.saturating_sub(since).max(60_000_000) as f64
    }

    pub(super) fn key(&self) -> (u64, TenantId) {
        (self.text.facts.strict, self.tenant)
    }

    /// The plain counts, always in this order.
    pub(super) fn counts(&mut self) -> [&mut u64; 9] {
        [
            &mut self.calls,
            &mut self.prepared_calls,
            &mut self.cached_calls,
            &mut self.errors,
            &mut self.other_codes,
            &mut self.rows,
            &mut self.bytes_in,
            &mut self.bytes_out,
            &mut self.total_us,
        ]
    }

    pub(super) fn parts(&mut self) -> [&mut PartRow; 3] {
        [&mut self.queue, &mut self.server, &mut self.back_pressure]
    }

    /// What one thread has counted, as of one moment.
    pub(super) fn of(cell: &StatementCell) -> Self {
        cell.sequence.read(|| Self::read(cell))
    }

    fn read(cell: &StatementCell) -> Self {
        // Nothing was counted since the reset that wants the extremes anew.
        let forgotten = cell.anew.stands();
        let extreme = |us: u64| if forgotten { 0 } else { us };
        let part = |part: &Part| PartRow {
            sum_us: part.sum_us.value(),
            max_us: extreme(part.max_us.value()),
            spread: part.spread.get().map(|spread| {
                let mut distribution = Box::<Distribution>::default();
                spread.merge_into(&mut distribution);
                distribution
            }),
        };
        let mut durations = Box::<Distribution>::default();
        cell.durations.merge_into(&mut durations);
        Self {
            text: Arc::clone(&cell.statement.value),
            tenant: cell.tenant,
            since_us: 0,
            calls: cell.calls.value(),
            prepared_calls: cell.prepared_calls.value(),
            cached_calls: cell.cached_calls.value(),
            errors: cell.errors.value(),
            codes: cell.codes.get().map(|codes| codes.rows().collect()).unwrap_or_default(),
            other_codes: cell.codes.get().map_or(0, |codes| codes.others()),
            rows: cell.rows.value(),
            bytes_in: cell.bytes_in.value(),
            bytes_out: cell.bytes_out.value(),
            total_us: cell.total_us.value(),
            queue: part(&cell.queue),
            server: part(&cell.server),
            back_pressure: part(&cell.back_pressure),
            min_us: cell.min_us.value().filter(|_| !forgotten).unwrap_or(u64::MAX),
            max_us: extreme(cell.max_us.value()),
            first_seen_us: cell.first_seen_us.value().unwrap_or(u64::MAX),
            last_seen_us: cell.last_seen_us.value(),
            durations,
        }
    }

    /// The same statement of two tenants together.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }

    /// Adds what another thread has counted of the same statement of the same tenant.
    fn merge(&mut self, mut other: Self) {
        for (total, n) in self.counts().into_iter().zip(other.counts()) {
            *total = total.wrapping_add(*n);
        }
        for (part, more) in self.parts().into_iter().zip(other.parts()) {
            part.merge(std::mem::take(more));
        }
        for (code, n) in other.codes {
            match self.codes.iter_mut().find(|(known, _)| *known == code) {
                Some((_, total)) => *total += n,
                None => self.codes.push((code, n)),
            }
        }
        self.min_us = self.min_us.min(other.min_us);
        self.max_us = self.max_us.max(other.max_us);
        self.first_seen_us = self.first_seen_us.min(other.first_seen_us);
        self.last_seen_us = self.last_seen_us.max(other.last_seen_us);
        self.durations.merge(&other.durations);
    }
}

impl PartRow {
    fn merge(&mut self, other: Self) {
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
        match (&mut self.spread, other.spread) {
            (Some(spread), Some(more)) => spread.merge(&more),
            (None, more) => self.spread = more,
            (Some(_), None) => {}
        }
    }
}

impl Telemetry {
    /// Every statement of every tenant that has run since it was reset, in no order. Each thread's part of a row is of one
    /// moment.
    pub fn statements(&self) -> Vec<StatementRow> {
        // Held while rows are read: a reset meanwhile would be subtracted from what was counted before it.
        let baselines = lock(&self.baselines);
        let rows = self.raw_statements().into_values().filter_map(|mut row| {
            row.since_us = self.clock.start_us();
            baselines.apply(&mut row);
            // A cell is registered a moment before its first call.
            (row.calls > 0).then_some(row)
        });
        rows.collect()
    }

    /// Since when statements are counted that were not reset one by one, in µs since 1970.
    pub fn statements_since_us(&self) -> u64 {
        lock(&self.baselines).since_us().max(self.clock.start_us())
    }

    /// Has all statements counted from `now_us` on, those that nobody has seen yet too; returns how many rows that were.
    /// Counters have one writer, so nothing is set to zero: what they showed is subtracted from now on.
    pub fn reset_statements(&self, now_us: u64) -> usize {
        let mut baselines = lock(&self.baselines);
        baselines.reset_all(now_us);
        self.reset(&mut baselines, now_us, |_, _| true)
    }

    /// The same for those that `wanted` picks by their strict fingerprint and tenant.
    pub fn reset_some(&self, now_us: u64, wanted: impl Fn(u64, TenantId) -> bool) -> usize {
        self.reset(&mut lock(&self.baselines), now_us, wanted)
    }

    fn reset(&self, baselines: &mut Baselines, now_us: u64, wanted: impl Fn(u64, TenantId) -> bool) -> usize {
        // First, so that no call counts whose extremes do not.
        self.each_cell(|cell| {
            if wanted(cell.statement.value.facts.strict, cell.tenant) {
                cell.anew.make();
            }
        });
        let mut reset = 0;
        for (_, row) in self.raw_statements().into_iter().filter(|((strict, tenant), _)| wanted(*strict, *tenant)) {
            reset += 1;
            baselines.reset(row, now_us);
        }
        reset
    }

    /// Everything that was ever counted.
    fn raw_statements(&self) -> Map<(u64, TenantId), StatementRow> {
        let mut rows: Map<(u64, TenantId), StatementRow> = Map::default();
        self.each_cell(|cell| {
            let row = StatementRow::of(cell);
            match rows.entry(row.key()) {
                std::collections::hash_map::Entry::Occupied(mut known) => known.get_mut().merge(row),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(row);
                }
            }
        });
        rows
    }
}
