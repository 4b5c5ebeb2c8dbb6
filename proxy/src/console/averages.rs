//! What STATS counts, and its averages: from the counters of two moments, so that nothing is measured for them while
//! queries run.
//!
//! ```text
//!   older ──── 60 s ────► newer ──── up to 60 s ────► now
//!     └──────────── the time of an average ────────────┘
//! ```

use std::collections::BTreeMap;

use crate::telemetry::pool::PoolTotals;
use crate::telemetry::snapshot::PoolRow;

/// Time between two of those moments: PgBouncer's `stats_period`.
pub(super) const PERIOD: std::time::Duration = std::time::Duration::from_secs(60);

/// How many figures there are.
pub(super) const COUNT: usize = 11;

/// What an average is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Per {
    Second,
    /// Each of what stands at this place.
    Each(usize),
}

/// For each figure, in the order of the columns of STATS.
const PER: [Per; COUNT] = [
    Per::Second,
    Per::Second,
    Per::Second,
    Per::Second,
    Per::Second,
    Per::Each(1),
    Per::Each(2),
    Per::Each(0),
    Per::Second,
    Per::Second,
    Per::Second,
];

/// What STATS counts, in the order of its columns. Times in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Figures(pub(super) [u64; COUNT]);

impl From<&PoolTotals> for Figures {
    fn from(totals: &PoolTotals) -> Self {
        Self([
            totals.checkouts,
            totals.transactions,
            totals.statements,
            totals.bytes_in,
            totals.bytes_out,
            totals.transaction_us,
            totals.server_us.wrapping_add(totals.back_pressure_us),
            totals.waits.sum_us,
            totals.parses,
            (totals.parses + totals.prepared_injected).saturating_sub(totals.parses_kept),
            totals.binds,
        ])
    }
}

impl Figures {
    /// Adds another database's.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(more);
        }
    }

    /// What was counted since `before`, divided by the time or by how many there were.
    fn averages(&self, before: &Self, time_us: u64) -> Self {
        let mut grown = [0; COUNT];
        for (grown, (now, then)) in grown.iter_mut().zip(self.0.iter().zip(before.0)) {
            *grown = now.saturating_sub(then);
        }
        let mut averages = [0; COUNT];
        for (average, (grown_by, per)) in averages.iter_mut().zip(grown.iter().zip(PER)) {
            let (by, unit) = match per {
                Per::Second => (time_us, 1_000_000),
                Per::Each(place) => (grown.get(place).copied().unwrap_or(0), 1),
            };
            let exact = u128::from(*grown_by) * unit / u128::from(by.max(1));
            *average = if by == 0 { 0 } else { u64::try_from(exact).unwrap_or(u64::MAX) };
        }
        Self(averages)
    }
}

/// All databases' figures at one moment.
pub(super) type ByDatabase = BTreeMap<Box<str>, Figures>;

/// The pools' figures by database.
pub(super) fn by_database(pools: &[PoolRow]) -> ByDatabase {
    let mut all = ByDatabase::new();
    for row in pools {
        all.entry(row.name.database.clone()).or_default().add(&Figures::from(&row.totals));
    }
    all
}

/// The figures of two moments.
#[derive(Debug)]
pub(super) struct Averages {
    older: ByDatabase,
    older_us: u64,
    newer: ByDatabase,
    newer_us: u64,
}

impl Averages {
    /// Begins: everything was 0 then.
    pub(super) fn new(start_us: u64) -> Self {
        Self { older: ByDatabase::new(), older_us: start_us, newer: ByDatabase::new(), newer_us: start_us }
    }

    /// Another period has passed.
    pub(super) fn tick(&mut self, now: ByDatabase, now_us: u64) {
        self.older = std::mem::replace(&mut self.newer, now);
        self.older_us = std::mem::replace(&mut self.newer_us, now_us);
    }

    /// The averages of a database that has these figures now.
    pub(super) fn of(&self, database: &str, now: &Figures, now_us: u64) -> Figures {
        let before = self.older.get(database).copied().unwrap_or_default();
        now.averages(&before, now_us.saturating_sub(self.older_us))
    }

    /// Those of all databases together, which have these figures now.
    pub(super) fn of_all(&self, now: &Figures, now_us: u64) -> Figures {
        let mut before = Figures::default();
        self.older.values().for_each(|figures| before.add(figures));
        now.averages(&before, now_us.saturating_sub(self.older_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn figures(of: impl Fn(u64) -> u64) -> Figures {
        Figures(std::array::from_fn(|at| of(at as u64)))
    }

    #[test]
    fn averages_are_those_of_the_last_period_and_of_what_has_passed_of_this_one() {
        let mut averages = Averages::new(0);
        let at = |n: u64| ByDatabase::from([("shop".into(), figures(|_| n))]);
        let rate = |averages: &Averages, n, now| averages.of("shop", &figures(|_| n), now).0[0];
        assert_eq!(rate(&averages, 300, 30 * SECOND), 10, "since the start");
        averages.tick(at(600), 60 * SECOND);
        assert_eq!(rate(&averages, 900, 90 * SECOND), 10, "the first period counts");
        averages.tick(at(600), 120 * SECOND);
        assert_eq!(rate(&averages, 600, 180 * SECOND), 0, "nothing since its end");
        assert_eq!(rate(&averages, 1800, 180 * SECOND), 10);
        assert_eq!(averages.of("new", &figures(|_| 1200), 180 * SECOND).0[0], 10, "one that was not there yet");
        assert_eq!(averages.of_all(&figures(|_| 1800), 180 * SECOND).0[0], 10);
    }

    #[test]
    fn times_are_of_one_transaction_one_statement_and_one_wait() {
        // 2 leases, 3 transactions, 4 statements; 60, 80 and 100 µs of time.
        let now = Figures([2, 3, 4, 0, 0, 60, 80, 100, 0, 0, 0]);
        let averages = Averages::new(0).of("shop", &now, SECOND);
        assert_eq!(averages.0, [2, 3, 4, 0, 0, 20, 20, 50, 0, 0, 0]);
    }

    #[test]
    fn no_time_and_nothing_counted_is_no_division_by_zero() {
        let none = Averages::new(5);
        assert_eq!(none.of("shop", &Figures::default(), 5), Figures::default());
        assert_eq!(none.of("shop", &figures(|_| u64::MAX), 5).0[0], 0);
        assert_eq!(none.of("shop", &figures(|_| u64::MAX), 6).0[0], u64::MAX, "too large to say");
        assert_eq!(none.of("shop", &figures(|_| 1), 3).0[0], 0, "a clock that stands");
    }
}
