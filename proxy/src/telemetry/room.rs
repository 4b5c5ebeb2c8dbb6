//! Room for statements where a tenant has as many as it may have: the one that was not called for longest goes.
//!
//! ```text
//! analyst, every 10 s: who had statements among all others? ─► its rows without a call since the last look, oldest first
//!                                                                   │ offers, a quarter of its rows at most
//! worker: a statement among all others has come again ◄─────────────┘ ─► takes one: its counts go to all others
//! ```
//!
//! Nothing is searched on a worker. A text that comes once never asks for room, so that a flood of those leaves it to
//! statements that come again. What was counted stays counted: whoever adds up rows never misses a call, nor has one twice.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use super::cell::Counter;
use super::row::StatementRow;
use super::statement::{StatementCell, StatementMeter, StatementText};
use super::worker::{Map, WorkerTelemetry, others};
use super::{TenantId, lock};

/// Of a tenant's rows of one worker, so many are offered at a time.
const PART: usize = 4;

/// A row that may go, as it was when it was looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Where it is registered.
    pub(super) place: usize,
    pub(super) serial: u64,
    pub(super) calls: u64,
    pub(super) last_seen_us: u64,
}

/// What a worker may take.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// By tenant, the oldest last.
    offers: Mutex<Map<TenantId, Vec<Offer>>>,
    /// Grows when there are others.
    epoch: AtomicU64,
    /// Held by whoever reads several cells as of one moment: no count moves from one to another meanwhile.
    pub(super) still: Mutex<()>,
    /// Rows that have gone.
    pub(super) gone: Counter,
}

impl Room {
    /// Offers these rows in place of those that were offered before.
    pub(super) fn offer(&self, mut rows: Map<TenantId, Vec<Offer>>) {
        for offers in rows.values_mut() {
            offers.sort_unstable_by_key(|offer| offer.last_seen_us);
            offers.truncate(offers.len().div_ceil(PART));
            offers.reverse();
        }
        let any = !rows.is_empty();
        *lock(&self.offers) = rows;
        if any {
            self.epoch.fetch_add(1, Relaxed);
        }
    }

    fn pop(&self, tenant: TenantId) -> Option<Offer> {
        lock(&self.offers).get_mut(&tenant)?.pop()
    }

    fn put_back(&self, tenant: TenantId, offer: Offer) {
        lock(&self.offers).entry(tenant).or_default().push(offer);
    }
}

/// What a look at the cells of a worker finds in passing.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// Tenants that had statements among all others since the last look.
    crowded: Vec<TenantId>,
    /// Rows that were not called since.
    quiet: Map<TenantId, Vec<Offer>>,
}

impl Looked {
    /// A cell, and whether it was called since the last look.
    pub(super) fn note(&mut self, cell: &StatementCell, place: usize, calls: u64, moved: bool) {
        if cell.statement.id == 0 {
            if moved {
                self.crowded.push(cell.tenant);
            }
        } else if !moved && calls > 0 {
            let (serial, last_seen_us) = (cell.serial, cell.last_seen_us.value());
            self.quiet.entry(cell.tenant).or_default().push(Offer { place, serial, calls, last_seen_us });
        }
    }

    /// The rows that may go.
    pub(super) fn offers(mut self) -> Map<TenantId, Vec<Offer>> {
        self.quiet.retain(|tenant, _| self.crowded.contains(tenant));
        self.quiet
    }
}

/// What became of a registered cell: it counts on, or its counts have gone elsewhere. Written and read by its worker.
#[derive(Debug, Default)]
pub(super) struct Gone(AtomicBool);

impl Gone {
    #[inline]
    pub(super) fn is_gone(&self) -> bool {
        self.0.load(Relaxed)
    }
}

fn tried<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl WorkerTelemetry {
    /// Which offers there are; a statement among all others asks once for each.
    #[inline]
    pub(super) fn room_epoch(&self) -> u64 {
        self.shared.room.epoch.load(Relaxed)
    }

    /// A row for this statement in place of one of the same tenant that is offered; `None`: none is, or somebody reads the
    /// rows just now.
    pub(super) fn make_room(&self, strict: u64, tenant: TenantId, text: &StatementText) -> Option<StatementMeter> {
        while let Some(offer) = self.shared.room.pop(tenant) {
            let (Some(_still), Some(mut baselines)) =
                (tried(&self.shared.room.still), tried(&self.telemetry().baselines))
            else {
                self.shared.room.put_back(tenant, offer);
                return None;
            };
            let Some(old) = lock(&self.shared.statements).get(offer.place).cloned() else { continue };
            let key = (old.statement.value.facts.strict, old.tenant);
            let untouched = old.serial == offer.serial && old.calls.value() == offer.calls && old.tenant == tenant;
            if !untouched || !baselines.lets_go(key, offer.last_seen_us) {
                continue;
            }
            let statement = self.telemetry().statements.replace(&key.0, tenant, strict, || text.clone())?;
            let rest = self.rest_of(tenant);
            rest.sequence.write(|| rest.absorb(&old));
            baselines.carry(&mut StatementRow::of(&old), (0, tenant));
            old.gone.0.store(true, Relaxed);
            let cell = Arc::new(StatementCell::new(statement, tenant, self.next_serial()));
            if let Some(place) = lock(&self.shared.statements).get_mut(offer.place) {
                *place = Arc::clone(&cell);
            }
            self.shared.room.gone.increment();
            let meter = StatementMeter::new(cell);
            let mut statements = self.statements.borrow_mut();
            statements.remove(&key);
            statements.insert((strict, tenant), meter.clone());
            return Some(meter);
        }
        None
    }

    /// Where the counts of a tenant's rows go that have made room. Apart from what is counted for all others now: the history
    /// has seen these already.
    fn rest_of(&self, tenant: TenantId) -> Arc<StatementCell> {
        let mut rests = self.rests.borrow_mut();
        let new = || {
            let cell = Arc::new(StatementCell::rest(others(), tenant, self.next_serial()));
            lock(&self.shared.statements).push(Arc::clone(&cell));
            cell
        };
        Arc::clone(rests.entry(tenant).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use policy::statement::Class;

    use super::super::testing::{telemetry_with, tenants, unknown_facts};
    use super::super::{Bounds, Finished, Sqlstate, Telemetry};
    use super::*;

    const LOOK_US: u64 = 10_000_000;
    const ONE: TenantId = TenantId(1);

    fn text(strict: u64) -> StatementText {
        StatementText { class: Class::Select, facts: unknown_facts(strict), text: format!("select {strict}").into() }
    }

    /// A worker whose tenant may have 75 rows, in virtual time.
    struct Bench {
        telemetry: Arc<Telemetry>,
        worker: WorkerTelemetry,
        now_us: u64,
        sent: u64,
    }

    impl Bench {
        fn new() -> Self {
            Self::with_history(Bounds::default().history_bytes)
        }

        fn with_history(history_bytes: usize) -> Self {
            let bounds = Bounds { fingerprints: 100, history_bytes, ..Bounds::default() };
            let telemetry = telemetry_with(bounds, tenants(4));
            let (worker, now_us) = (telemetry.worker("0"), telemetry.clock.start_us());
            Self { telemetry, worker, now_us, sent: 0 }
        }

        fn call_of(&mut self, strict: u64, tenant: TenantId) -> bool {
            let meter = self.worker.statement_again(strict, tenant, || text(strict));
            self.now_us += 10;
            self.sent += 1;
            let error = strict.is_multiple_of(2).then_some(Sqlstate::new(b"22P02"));
            let (start_us, end_us) = (self.now_us - 5, self.now_us);
            meter.record(&Finished { start_us, end_us, queue_us: 1, rows: 2, error, ..Finished::default() });
            meter.statement_id() != 0
        }

        fn call(&mut self, strict: u64) -> bool {
            self.call_of(strict, ONE)
        }

        fn run(&mut self, strict: u64) {
            self.call(strict);
        }

        fn look(&mut self) {
            self.now_us += LOOK_US;
            self.telemetry.look_at_history(self.now_us);
        }

        fn has(&self, strict: u64) -> bool {
            self.telemetry.statements().iter().any(|row| row.text.facts.strict == strict)
        }

        /// Nothing is lost, whatever has gone.
        fn assert_whole(&self) {
            let rows = self.telemetry.statements();
            let sum = |part: fn(&StatementRow) -> u64| rows.iter().map(part).sum::<u64>();
            assert_eq!((sum(|row| row.calls), sum(|row| row.rows)), (self.sent, 2 * self.sent));
            assert_eq!(sum(|row| row.durations.count()), self.sent);
            assert_eq!(sum(|row| row.queue.sum_us), self.sent);
            let codes = |row: &StatementRow| row.codes.iter().map(|(_, n)| n).sum::<u64>() + row.other_codes;
            assert_eq!(sum(codes), sum(|row| row.errors));
            let tenants = self.telemetry.tenants();
            assert_eq!(tenants.iter().map(|tenant| tenant.calls).sum::<u64>(), self.sent);
        }

        fn in_windows(&self) -> u64 {
            let course = self.telemetry.course(Some(ONE), super::super::history::Step::TenSeconds, 0);
            course.stretches.iter().map(|stretch| stretch.point.calls).sum()
        }
    }

    #[test]
    fn what_was_not_called_for_longest_makes_room_for_what_comes_again() {
        let mut bench = Bench::new();
        let kept = (1..=225).filter(|strict| bench.call(*strict)).count();
        assert_eq!(kept, 75);
        assert!(!bench.call(1_000), "beyond what the tenant may have");
        bench.look();
        assert!((1..=40).all(|strict| bench.call(strict)));
        assert!(!bench.call(1_000), "all were called in the last window");
        bench.look();
        assert!(bench.call(1_000));
        assert!(bench.has(1_000) && !bench.has(41) && bench.has(42) && bench.has(1), "the oldest has gone");
        bench.assert_whole();
        assert!(bench.call(1_000) && bench.call(1), "what has a row keeps it");
        let taken = (2_000..2_100).filter(|strict| bench.call(*strict)).count();
        assert_eq!(taken, 8, "a quarter of 35 in one look, one of which is gone");
        bench.look();
        bench.look();
        assert_eq!(bench.in_windows(), bench.sent, "no window has a call twice");
        bench.assert_whole();
        assert_eq!(bench.telemetry.evicted(), 9);
        assert_eq!(bench.telemetry.statements.len(), 75, "texts go with their rows");
    }

    #[test]
    fn a_row_that_is_called_after_it_was_offered_stays() {
        let mut bench = Bench::new();
        (1..=100).for_each(|strict| bench.run(strict));
        bench.look();
        bench.call(1_000);
        bench.look();
        assert!((1..=75).all(|strict| bench.call(strict)));
        assert!(!bench.call(1_000));
        bench.assert_whole();
    }

    #[test]
    fn others_keep_their_rows_and_a_meter_that_is_kept_asks_again() {
        let mut bench = Bench::new();
        let theirs: Vec<u64> = (5_001..=5_010).collect();
        assert!(theirs.iter().all(|strict| bench.call_of(*strict, TenantId(2))));
        (1..=100).for_each(|strict| bench.run(strict));
        let kept = bench.worker.statement(1, ONE, || text(1));
        let among_others = bench.worker.statement(1_000, ONE, || text(1_000));
        assert!(among_others.stands(&bench.worker) && kept.stands(&bench.worker));
        bench.look();
        bench.call(1_000);
        bench.look();
        assert!(!among_others.stands(&bench.worker), "there is room to ask for");
        assert!(bench.call(1_000) && !kept.stands(&bench.worker), "its row has gone");
        assert!((2_000..2_060).filter(|strict| bench.call(*strict)).count() > 10);
        assert!(theirs.iter().all(|strict| bench.has(*strict)));
        bench.assert_whole();
    }

    #[test]
    fn what_was_counted_before_a_reset_does_not_come_back() {
        let mut bench = Bench::new();
        let long = Finished { start_us: bench.now_us, end_us: bench.now_us + 900, rows: 2, ..Finished::default() };
        bench.worker.statement(41, ONE, || text(41)).record(&long);
        (bench.now_us, bench.sent) = (bench.now_us + 1_000, 1);
        (1..=100).for_each(|strict| bench.run(strict));
        let raw = bench.sent;
        bench.now_us += 5_000_000;
        bench.telemetry.reset_statements(bench.now_us);
        bench.now_us += 5_000_000;
        bench.sent = 0;
        (1..=40).for_each(|strict| bench.run(strict));
        (1_000..1_010).for_each(|strict| bench.run(strict));
        bench.look();
        bench.call(1_000);
        bench.look();
        let taken = (1_000..1_100).filter(|strict| bench.call(*strict)).count();
        assert!(taken > 5, "{taken}");
        assert!((1..=40).all(|strict| bench.has(strict)), "they were called before and after the reset");
        let rows = bench.telemetry.statements();
        assert!(rows.iter().all(|row| row.max_us == 5), "what 41 had taken was before the reset");
        assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), bench.sent);
        assert_eq!(rows.iter().map(|row| row.durations.count()).sum::<u64>(), bench.sent);
        let all: u64 = bench.telemetry.tenants().iter().map(|tenant| tenant.calls).sum();
        assert_eq!(all, raw + bench.sent, "a tenant's counters only grow");
    }

    #[test]
    fn while_somebody_reads_nothing_moves() {
        let mut bench = Bench::new();
        (1..=100).for_each(|strict| bench.run(strict));
        bench.look();
        bench.call(1_000);
        bench.look();
        let shared = Arc::clone(&bench.worker.shared);
        let still = lock(&shared.room.still);
        assert!(!bench.call(1_000));
        drop(still);
        assert!(bench.call(1_000));
        bench.assert_whole();
    }

    #[test]
    fn a_flood_for_days_leaves_no_trace_but_its_windows() {
        let mut bench = Bench::with_history(64 << 10);
        for round in 0..3_000_u64 {
            (0..90).for_each(|n| bench.run(1_000_000 + 90 * round + n));
            bench.look();
        }
        let (gone, series) = (bench.telemetry.evicted(), bench.telemetry.series());
        assert!(gone > 30_000 && series < 25_000, "{gone} {series}");
        assert!(lock(&bench.worker.shared.statements).len() < 80);
        bench.assert_whole();
    }
}
