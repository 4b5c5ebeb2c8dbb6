//! What statements had counted when they were reset.

use super::histogram::Distribution;
use super::row::StatementRow;
use super::worker::Map;
use super::{Sqlstate, TenantId};

/// What is subtracted from each row before it is shown. At most one for each row that exists.
#[derive(Debug, Default)]
pub(super) struct Baselines {
    since_us: u64,
    rows: Map<(u64, TenantId), Baseline>,
}

/// One row, as it was at a moment.
#[derive(Debug)]
struct Baseline {
    at_us: u64,
    counts: [u64; 9],
    codes: Box<[(Sqlstate, u64)]>,
    durations: Buckets,
    parts: [(u64, Buckets); 3],
}

/// The buckets of a distribution that hold something, by their place: most rows fill a few.
#[derive(Debug, Default)]
struct Buckets(Box<[(u8, u64)]>);

impl Buckets {
    fn of(distribution: &Distribution) -> Self {
        let filled = distribution.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        Self(filled.map(|(place, n)| (place as u8, *n)).collect())
    }

    fn plus(&self, other: &Self, sign: i8) -> Self {
        let mut all: std::collections::BTreeMap<u8, u64> = self.0.iter().copied().collect();
        for (place, n) in &other.0 {
            let sum = all.entry(*place).or_default();
            *sum = moved(*sum, *n, sign);
        }
        Self(all.into_iter().filter(|(_, n)| *n > 0).collect())
    }

    fn subtract_from(&self, distribution: &mut Distribution) {
        for (place, n) in &self.0 {
            if let Some(bucket) = distribution.buckets.get_mut(usize::from(*place)) {
                *bucket = bucket.saturating_sub(*n);
            }
        }
    }
}

/// More or less by so many.
fn moved(number: u64, by: u64, sign: i8) -> u64 {
    if sign > 0 { number.saturating_add(by) } else { number.saturating_sub(by) }
}

impl Baseline {
    fn of(row: &mut StatementRow, at_us: u64) -> Self {
        Self {
            at_us,
            counts: row.counts().map(|n| *n),
            codes: std::mem::take(&mut row.codes).into(),
            durations: Buckets::of(&row.durations),
            parts: row.parts().map(|part| (part.sum_us, part.spread.as_deref().map(Buckets::of).unwrap_or_default())),
        }
    }

    fn change(&mut self, by: &Self, sign: i8) {
        for (count, more) in self.counts.iter_mut().zip(by.counts) {
            *count = moved(*count, more, sign);
        }
        let mut codes = std::mem::take(&mut self.codes).into_vec();
        for (code, n) in &by.codes {
            match codes.iter_mut().find(|(known, _)| known == code) {
                Some((_, count)) => *count = moved(*count, *n, sign),
                None if sign > 0 => codes.push((*code, *n)),
                None => {}
            }
        }
        self.codes = codes.into();
        self.durations = self.durations.plus(&by.durations, sign);
        for ((sum_us, buckets), (more_us, more)) in self.parts.iter_mut().zip(&by.parts) {
            *sum_us = moved(*sum_us, *more_us, sign);
            *buckets = buckets.plus(more, sign);
        }
    }
}

/// A call that ended so long before a reset was counted before it.
const CERTAIN_US: u64 = 1_000_000;

impl Baselines {
    /// Whether a thread's part of a row, last called then, can be taken out of it: where the row was reset it has to be from
    /// before that as a whole, or it would not be known how much of it counts.
    pub(super) fn lets_go(&self, key: (u64, TenantId), last_seen_us: u64) -> bool {
        self.rows.get(&key).is_none_or(|known| last_seen_us.saturating_add(CERTAIN_US) < known.at_us)
    }

    /// The same has gone into another row: what is subtracted here is subtracted there.
    pub(super) fn carry(&mut self, part: &mut StatementRow, into: (u64, TenantId)) {
        let key = part.key();
        let Some(known) = self.rows.get_mut(&key) else { return };
        let moved = Baseline::of(part, 0);
        known.change(&moved, -1);
        if known.counts.iter().all(|count| *count == 0) {
            self.rows.remove(&key);
        }
        match self.rows.entry(into) {
            std::collections::hash_map::Entry::Occupied(mut there) => there.get_mut().change(&moved, 1),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(moved);
            }
        }
    }

    /// When everything was reset, in µs since 1970; 0: never.
    pub(super) fn since_us(&self) -> u64 {
        self.since_us
    }

    /// Everything is counted from `now_us` on; the baselines of the rows that there are have to follow.
    pub(super) fn reset_all(&mut self, now_us: u64) {
        self.since_us = now_us;
        self.rows.clear();
    }

    /// `row`, as it was counted from the start, is counted from `now_us` on.
    pub(super) fn reset(&mut self, mut row: StatementRow, now_us: u64) {
        let baseline = Baseline::of(&mut row, now_us);
        self.rows.insert(row.key(), baseline);
    }

    /// Takes away what the row had counted before it was reset.
    pub(super) fn apply(&self, row: &mut StatementRow) {
        row.since_us = row.since_us.max(self.since_us);
        let Some(baseline) = self.rows.get(&row.key()) else { return };
        row.since_us = row.since_us.max(baseline.at_us);
        for (count, before) in row.counts().into_iter().zip(baseline.counts) {
            *count = count.saturating_sub(before);
        }
        for (code, n) in &mut row.codes {
            let before = baseline.codes.iter().find(|(known, _)| known == code);
            *n = n.saturating_sub(before.map_or(0, |(_, before)| *before));
        }
        row.codes.retain(|(_, n)| *n > 0);
        baseline.durations.subtract_from(&mut row.durations);
        for (part, (sum_us, buckets)) in row.parts().into_iter().zip(&baseline.parts) {
            part.sum_us = part.sum_us.saturating_sub(*sum_us);
            if let Some(spread) = &mut part.spread {
                buckets.subtract_from(spread);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use policy::statement::Class;

    use super::super::testing::{telemetry_with, tenants, unknown_facts};
    use super::super::{Bounds, Finished, StatementText, Telemetry, WorkerTelemetry, lock};
    use super::*;

    fn call(worker: &WorkerTelemetry, strict: u64, tenant: u32, us: u64, error: Option<&[u8]>) {
        let text = || StatementText { class: Class::Select, facts: unknown_facts(strict), text: "select".into() };
        let start_us = worker.telemetry().clock.start_us();
        worker.statement(strict, TenantId(tenant), text).record(&Finished {
            start_us,
            end_us: start_us + us,
            queue_us: us / 10,
            server_us: us / 2,
            rows: 3,
            error: error.map(Sqlstate::new),
            ..Finished::default()
        });
    }

    fn row(telemetry: &Telemetry, strict: u64, tenant: u32) -> Option<StatementRow> {
        telemetry.statements().into_iter().find(|row| row.key() == (strict, TenantId(tenant)))
    }

    fn telemetry() -> Arc<Telemetry> {
        telemetry_with(Bounds::default(), tenants(4))
    }

    #[test]
    fn after_a_reset_only_what_came_later_is_shown() {
        let telemetry = telemetry();
        let [one, other] = ["0", "1"].map(|name| telemetry.worker(name));
        for worker in [&one, &other] {
            call(worker, 1, 1, 900_000, Some(b"57014"));
            call(worker, 1, 1, 5, None);
        }
        let now = telemetry.clock.start_us() + 2_000_000;
        assert_eq!(telemetry.reset_statements(now), 1);
        assert!(telemetry.statements().is_empty());
        assert_eq!(telemetry.statements_since_us(), now);
        call(&one, 1, 1, 2_000, Some(b"40001"));
        call(&one, 1, 1, 4_000, None);
        let row = row(&telemetry, 1, 1).unwrap();
        assert_eq!((row.calls, row.errors, row.rows, row.total_us), (2, 1, 6, 6_000));
        assert_eq!(
            (row.min_us, row.max_us),
            (2_000, 4_000),
            "extremes begin anew, though another thread saw larger ones"
        );
        assert_eq!((row.queue.sum_us, row.queue.max_us), (600, 400));
        assert_eq!(row.codes, [(Sqlstate::new(b"40001"), 1)]);
        assert_eq!(row.durations.count(), 2);
        assert_eq!(row.server.spread.as_ref().unwrap().count(), 2);
        assert_eq!((row.since_us, row.first_seen_us), (now, telemetry.clock.start_us()));
        let p99 = row.percentile_us(0.99);
        assert!((3_500.0..=4_000.0).contains(&p99), "{p99}");
    }

    #[test]
    fn a_bucket_that_overflows_behind_a_reset_shows_what_came_since() {
        let telemetry = telemetry();
        let worker = telemetry.worker("0");
        call(&worker, 1, 1, 100, None);
        for cell in lock(&telemetry.each_worker()[0].statements).iter() {
            cell.durations.fill_to(100, u32::MAX - 10);
        }
        telemetry.reset_some(7, |_, _| true);
        (0..20).for_each(|_| call(&worker, 1, 1, 100, None));
        (0..5).for_each(|_| call(&worker, 1, 1, 9_000, None));
        let row = row(&telemetry, 1, 1).unwrap();
        assert_eq!((row.calls, row.durations.count()), (25, 25));
        let p50 = row.percentile_us(0.5);
        assert!((90.0..115.0).contains(&p50), "{p50}");
    }

    #[test]
    fn a_reset_of_one_statement_or_tenant_leaves_the_others() {
        let telemetry = telemetry();
        let worker = telemetry.worker("0");
        for (strict, tenant) in [(1, 1), (2, 1), (1, 2)] {
            call(&worker, strict, tenant, 100, None);
        }
        assert_eq!(telemetry.reset_some(7, |strict, tenant| strict == 1 && tenant == TenantId(1)), 1);
        let shown = [(1, 1), (2, 1), (1, 2)].map(|(strict, tenant)| row(&telemetry, strict, tenant).is_some());
        assert_eq!(shown, [false, true, true]);
        assert_eq!(telemetry.reset_some(8, |_, tenant| tenant == TenantId(2)), 1);
        call(&worker, 1, 2, 100, None);
        assert_eq!(row(&telemetry, 1, 2).unwrap().calls, 1);
        // Tenants and metrics go on: only the statements' own rows are counted anew.
        assert_eq!(telemetry.tenants().iter().map(|row| row.calls).sum::<u64>(), 4);
    }

    #[test]
    fn parts_are_distributed_over_all_calls_those_without_them_included() {
        let telemetry = telemetry();
        let worker = telemetry.worker("0");
        (0..98).for_each(|_| call(&worker, 1, 1, 5, None));
        (0..2).for_each(|_| call(&worker, 1, 1, 100_000, None));
        let row = row(&telemetry, 1, 1).unwrap();
        assert_eq!(row.queue.spread.as_ref().unwrap().count(), 2, "zero is in no bucket");
        assert_eq!(row.part_percentile_us(&row.queue, 0.95), 0.0);
        let p99 = row.part_percentile_us(&row.queue, 0.99);
        assert!((p99 - 10_000.0).abs() / 10_000.0 < 0.12, "{p99}");
        assert!(row.back_pressure.spread.is_none(), "no memory for what never was");
        assert_eq!(row.part_percentile_us(&row.back_pressure, 0.99), 0.0);
    }

    #[test]
    fn a_row_is_whole_while_it_is_being_counted() {
        let telemetry = telemetry();
        let writing = Arc::clone(&telemetry);
        let thread = std::thread::spawn(move || {
            let worker = writing.worker("0");
            for n in 0..4_000 {
                call(&worker, 1, 1, 100, (n % 2 == 0).then_some(b"40001"));
                // A reader takes longer than a call does: between two of them it must find the time, as it does in life.
                std::thread::sleep(std::time::Duration::from_micros(20));
            }
        });
        while !thread.is_finished() {
            if let Some(row) = row(&telemetry, 1, 1) {
                assert_eq!(
                    (row.rows, row.total_us, row.durations.count()),
                    (3 * row.calls, 100 * row.calls, row.calls)
                );
                assert_eq!(row.codes.iter().map(|(_, n)| n).sum::<u64>(), row.errors);
            }
        }
        thread.join().unwrap();
    }
}
