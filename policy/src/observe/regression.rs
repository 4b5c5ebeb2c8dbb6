//! What has become slower than it was: a statement's durations against its own history.
//!
//! Told in cumulative histograms now and then, a row for each statement of each tenant: the busiest of them, which are
//! chosen in front of every round. Calls are gathered until there are enough to judge; what was judged and found usual
//! becomes history, and what was not is left out of it for an hour: by then it is what is usual.
//!
//! ```text
//! cumulative counts ─ difference ─► gathered ─ 100 calls ─► p95 > 3 × history's? ─┬─ no ──► history
//!                                                                                 └─ yes ─► suspect
//! ```
//!
//! Whether a suspect is told of is a matter of its neighbours: [`slowdown`](super::slowdown) says what of it is everybody's.

use rustc_hash::{FxHashMap, FxHashSet};

/// Calls that a judgement needs, on both sides.
pub const MIN_CALLS: u64 = 100;
/// How many times its history's 95th percentile is a regression.
pub const FACTOR: f64 = 3.0;
/// Slower by less than this is none: below a millisecond a busy machine is many times slower than an idle one, and nobody
/// who waits for an answer feels it.
pub const MIN_EXCESS_US: u64 = 5_000;
/// Calls that say something about everybody's pace, where many statements have as many.
pub const MIN_SAMPLE: u64 = 20;
/// Calls that are gathered for so long become history unjudged.
const PATIENCE_US: u64 = 3_600_000_000;
/// For so long is what is slower not taken for usual.
const ACCEPTED_AFTER_US: u64 = 3_600_000_000;
/// Calls in a history; beyond, older ones count half.
const MAX_HISTORY: u64 = 100_000;
/// Statements looked after.
pub const MAX_ROWS: usize = 10_000;
/// One that is looked after makes room for another with more than so many times its calls: with less between them the two
/// would change places all the time, and neither would have a history.
const HYSTERESIS: u64 = 2;

/// Counts in buckets of rising durations, of which most are 0: (bucket, count).
type Sparse = Vec<(u16, u64)>;

/// A statement that has become slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regression {
    /// The 95th percentile of its history, in µs.
    pub usual_p95_us: u64,
    /// The 95th percentile of the calls that were looked at.
    pub p95_us: u64,
    /// Calls in its history.
    pub usual_calls: u64,
    /// Calls that were looked at.
    pub calls: u64,
}

impl Regression {
    /// How many times slower than usual.
    pub fn factor(&self) -> f64 {
        self.p95_us as f64 / self.usual_p95_us.max(1) as f64
    }

    /// What was lost: the slowest twentieth of the calls, each with what it took more.
    pub fn lost_us(&self) -> u64 {
        self.p95_us.saturating_sub(self.usual_p95_us).saturating_mul(self.calls) / 20
    }

    /// Whether it is one still when all its neighbours have become so many times slower too.
    pub fn stands(&self, everybody: f64) -> bool {
        let (own, usual) = (self.p95_us as f64 / everybody.max(1.0), self.usual_p95_us as f64);
        own > FACTOR * usual && own - usual >= MIN_EXCESS_US as f64
    }
}

/// What a statement's latest calls say against its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The latest of its calls, at least [`MIN_SAMPLE`].
    pub latest: Regression,
    /// Slower than it used to be, with enough calls to say so, unless everybody is: these calls, and since when they were
    /// gathered.
    pub suspect: Option<(Regression, u64)>,
}

/// A statement of a tenant: its strict fingerprint, and the tenant's id.
pub type Key = (u64, u32);

/// One that may be looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub key: Key,
    /// Its calls in all.
    pub calls: u64,
    /// When it was called last.
    pub seen_us: u64,
}

/// The histories. Buckets are those of whoever feeds them; `middle` says what duration one stands for, in µs.
///
/// A round is a call of [`Baselines::choose`] and one of [`Baselines::tell`] for each that it leaves.
#[derive(Debug)]
pub struct Baselines {
    rows: FxHashMap<Key, Row>,
    middle: fn(usize) -> u64,
}

#[derive(Debug, Default)]
struct Row {
    /// Counts as last told.
    told: Sparse,
    /// What came since the last judgement.
    gathered: Sparse,
    gathered_since_us: u64,
    history: Sparse,
    /// Since when it is slower than its history.
    slower_since_us: Option<u64>,
}

impl Baselines {
    /// No history yet.
    pub fn new(middle: fn(usize) -> u64) -> Self {
        Self { rows: FxHashMap::default(), middle }
    }

    /// Leaves of all statements those that are to be told: they are among the [`MAX_ROWS`] with most calls, without those
    /// that have been silent for an hour if there are more, and have been called since they were told last. The history of
    /// all others makes room.
    pub fn choose<T>(&mut self, all: &mut Vec<T>, describe: impl Fn(&T) -> Candidate, now_us: u64) {
        let Self { rows, .. } = self;
        if all.len() > MAX_ROWS {
            all.retain(|one| now_us.saturating_sub(describe(one).seen_us) < PATIENCE_US);
        }
        if all.len() > MAX_ROWS {
            let weight =
                |key: &Key, calls: u64| calls.saturating_mul(if rows.contains_key(key) { HYSTERESIS } else { 1 });
            all.select_nth_unstable_by_key(MAX_ROWS, |one| {
                let Candidate { key, calls, .. } = describe(one);
                std::cmp::Reverse((weight(&key, calls), key))
            });
            all.truncate(MAX_ROWS);
        }
        let chosen: FxHashSet<Key> = all.iter().map(|one| describe(one).key).collect();
        rows.retain(|key, _| chosen.contains(key));
        all.retain(|one| {
            let Candidate { key, calls: now, .. } = describe(one);
            now != rows.get(&key).map_or(0, |row| calls(&row.told))
        });
    }

    /// A statement's counts in all buckets since it was first seen. `None`: too few calls, or no history to compare with.
    pub fn tell(&mut self, key: Key, buckets: &[u64], now_us: u64) -> Option<Measured> {
        let total: u64 = buckets.iter().sum();
        if !self.rows.contains_key(&key) {
            // Only who tells what was not chosen comes so far.
            if self.rows.len() >= MAX_ROWS {
                return None;
            }
            // What was counted before anybody looked is as good a history as any.
            self.rows.insert(key, Row { gathered_since_us: now_us, ..Row::default() });
        }
        let row = self.rows.get_mut(&key)?;
        let before = calls(&row.told);
        if total == before {
            return None;
        }
        let told = std::mem::replace(&mut row.told, sparse(buckets));
        // `None`: they have been reset.
        let came = difference(&row.told, &told)?;
        add(&mut row.gathered, &came);
        let latest = row.latest(&came, self.middle);
        let suspect = row.judge(self.middle, now_us);
        latest.map(|latest| Measured { latest, suspect })
    }
}

impl Row {
    /// What came in this round; what has been gathered, if that was too little.
    fn latest(&self, came: &Sparse, middle: fn(usize) -> u64) -> Option<Regression> {
        let latest = [came, &self.gathered].into_iter().find(|counts| calls(counts) >= MIN_SAMPLE)?;
        let usual_calls = calls(&self.history);
        (usual_calls >= MIN_CALLS).then(|| Regression {
            usual_p95_us: p95(&self.history, middle),
            p95_us: p95(latest, middle),
            usual_calls,
            calls: calls(latest),
        })
    }

    fn judge(&mut self, middle: fn(usize) -> u64, now_us: u64) -> Option<(Regression, u64)> {
        let (calls_now, usual_calls) = (calls(&self.gathered), calls(&self.history));
        let late = now_us.saturating_sub(self.gathered_since_us) >= PATIENCE_US;
        if calls_now < MIN_CALLS && !late {
            return None;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let since_us = std::mem::replace(&mut self.gathered_since_us, now_us);
        let (p95_us, usual_p95_us) = (p95(&gathered, middle), p95(&self.history, middle));
        let enough = calls_now >= MIN_CALLS && usual_calls >= MIN_CALLS;
        let found = Regression { usual_p95_us, p95_us, usual_calls, calls: calls_now };
        // Whoever is slow with everybody is not as usual either: its history stays what it was.
        if !(enough && found.stands(1.0)) {
            self.slower_since_us = None;
            self.accept(&gathered);
            return None;
        }
        let slower_since_us = *self.slower_since_us.get_or_insert(now_us);
        if now_us.saturating_sub(slower_since_us) >= ACCEPTED_AFTER_US {
            self.history.clear();
            self.slower_since_us = None;
            self.accept(&gathered);
            return None;
        }
        Some((found, since_us))
    }

    fn accept(&mut self, gathered: &Sparse) {
        add(&mut self.history, gathered);
        if calls(&self.history) > MAX_HISTORY {
            self.history.iter_mut().for_each(|(_, count)| *count /= 2);
            self.history.retain(|(_, count)| *count > 0);
        }
    }
}

fn sparse(buckets: &[u64]) -> Sparse {
    (0..).zip(buckets).filter(|(_, count)| **count > 0).map(|(bucket, count)| (bucket, *count)).collect()
}

fn calls(counts: &Sparse) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

/// `now` less `before`; `None`: something has become less.
fn difference(now: &Sparse, before: &Sparse) -> Option<Sparse> {
    let mut difference = now.clone();
    for (bucket, count) in before {
        let at = difference.binary_search_by_key(bucket, |(bucket, _)| *bucket).ok()?;
        let (_, left) = difference.get_mut(at)?;
        *left = left.checked_sub(*count)?;
    }
    difference.retain(|(_, count)| *count > 0);
    Some(difference)
}

fn add(to: &mut Sparse, counts: &Sparse) {
    for (bucket, count) in counts {
        match to.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
            Ok(at) => {
                if let Some((_, total)) = to.get_mut(at) {
                    *total += count;
                }
            }
            Err(at) => to.insert(at, (*bucket, *count)),
        }
    }
}

/// The duration that 95 % of the calls do not exceed, in µs.
fn p95(counts: &Sparse, middle: fn(usize) -> u64) -> u64 {
    let rank = (calls(counts) * 95).div_ceil(100).max(1);
    let mut seen = 0;
    for (bucket, count) in counts {
        seen += count;
        if seen >= rank {
            return middle(usize::from(*bucket));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000_000;

    /// Bucket n stands for n ms.
    fn baselines() -> Baselines {
        Baselines::new(|bucket| bucket as u64 * 1_000)
    }

    /// A statement's counts so far, told once a minute.
    struct Statement {
        buckets: Vec<u64>,
        now_us: u64,
        baselines: Baselines,
    }

    impl Statement {
        fn new() -> Self {
            Self { buckets: vec![0; 64], now_us: 1, baselines: baselines() }
        }

        fn minute(&mut self, calls: u64, ms: usize) -> Option<Regression> {
            self.buckets[ms] += calls;
            self.now_us += MINUTE;
            self.baselines.tell((1, 1), &self.buckets, self.now_us)?.suspect.map(|(found, _)| found)
        }
    }

    #[test]
    fn three_times_slower_than_its_own_history_is_a_regression_and_twice_is_none() {
        let mut statement = Statement::new();
        for _ in 0..5 {
            assert_eq!(statement.minute(200, 4), None);
        }
        assert_eq!(statement.minute(200, 12), None, "three times is not more than three times");
        let mut statement = Statement::new();
        for _ in 0..5 {
            assert_eq!(statement.minute(200, 4), None);
        }
        let found = Regression { usual_p95_us: 4_000, p95_us: 13_000, usual_calls: 1_000, calls: 200 };
        assert_eq!(statement.minute(200, 13), Some(found));
        assert_eq!(statement.minute(200, 13), Some(found), "it has not become usual");
        assert_eq!(statement.minute(200, 4), None);
    }

    #[test]
    fn a_few_calls_are_gathered_until_there_are_enough() {
        let mut statement = Statement::new();
        statement.minute(100, 2);
        for _ in 0..3 {
            assert_eq!(statement.minute(33, 20), None);
        }
        assert_eq!(statement.minute(1, 20).map(|found| found.calls), Some(100));
    }

    #[test]
    fn a_history_of_less_than_a_hundred_calls_proves_nothing() {
        let mut statement = Statement::new();
        statement.minute(99, 2);
        statement.now_us += PATIENCE_US;
        assert_eq!(statement.minute(200, 50), None);
    }

    #[test]
    fn what_is_slower_for_an_hour_is_usual() {
        let mut statement = Statement::new();
        statement.minute(100, 2);
        let told = (0..120).filter(|_| statement.minute(100, 30).is_some()).count();
        assert_eq!(told, 60);
    }

    #[test]
    fn a_few_milliseconds_more_are_none() {
        for (ms, told) in [(1, false), (5, false), (6, true)] {
            let mut statement = Statement::new();
            assert_eq!(statement.minute(100, 1), None);
            assert_eq!(statement.minute(100, ms).is_some(), told, "1 → {ms} ms");
        }
    }

    #[test]
    fn what_is_left_of_it_beside_everybody_must_still_be_one() {
        let found = |usual_p95_us, p95_us| Regression { usual_p95_us, p95_us, usual_calls: 100, calls: 100 };
        for (usual_us, us, everybody, stands) in [
            (10_000, 40_000, 1.0, true),
            (10_000, 40_000, 0.1, true),
            (10_000, 29_000, 0.1, false),
            (10_000, 40_000, 1.5, false),
            (10_000, 400_000, 10.0, true),
            // 1 → 20 ms, and everybody four times slower: 5 ms are left, and 4 more than usual.
            (1_000, 20_000, 4.0, false),
        ] {
            assert_eq!(found(usual_us, us).stands(everybody), stands, "{usual_us} → {us} µs, everybody × {everybody}");
        }
    }

    #[test]
    fn the_latest_calls_are_those_of_the_round_or_with_few_of_them_all_that_were_gathered() {
        let mut statement = Statement::new();
        let mut minute = |calls: u64, ms: usize| {
            statement.buckets[ms] += calls;
            statement.now_us += MINUTE;
            let measured = statement.baselines.tell((1, 1), &statement.buckets, statement.now_us)?;
            Some((measured.latest.calls, measured.latest.p95_us / 1_000))
        };
        assert_eq!(minute(100, 2), None, "there is no history yet");
        assert_eq!(minute(MIN_SAMPLE, 2), Some((20, 2)));
        assert_eq!(minute(MIN_SAMPLE, 8), Some((20, 8)));
        assert_eq!(minute(1, 9), Some((41, 8)));
        assert_eq!(minute(59, 2), Some((59, 2)));
        assert_eq!(minute(1, 2), None, "a hundred were judged, and one is too few");
    }

    #[test]
    fn counts_that_were_reset_are_no_calls_and_rows_have_an_end() {
        let mut baselines = baselines();
        assert_eq!(baselines.tell((1, 1), &[0, 400], 1), None);
        assert_eq!(baselines.tell((1, 1), &[0, 200, 0, 0, 0, 0, 0, 0, 0, 400], 2), None);
        for strict in 0..MAX_ROWS as u64 + 50 {
            baselines.tell((strict, 1), &[1], 10 + strict);
        }
        assert_eq!(baselines.rows.len(), MAX_ROWS);
    }

    /// Statement n has n calls more than `calls`; told are those that are chosen.
    fn round(baselines: &mut Baselines, statements: std::ops::Range<u64>, calls: u64, now_us: u64) -> Vec<u64> {
        let mut all: Vec<u64> = statements.collect();
        let describe = |strict: &u64| Candidate { key: (*strict, 1), calls: calls + strict, seen_us: now_us };
        baselines.choose(&mut all, describe, now_us);
        for strict in &all {
            baselines.tell((*strict, 1), &[0, calls + strict], now_us);
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn of_too_many_those_with_most_calls_are_looked_after_and_neighbours_do_not_change_places() {
        let most = MAX_ROWS as u64;
        let mut baselines = baselines();
        let told = round(&mut baselines, 1..most + 101, 1_000, 1);
        assert_eq!(told, (101..most + 101).collect::<Vec<_>>(), "the first hundred have the fewest calls");
        assert_eq!(round(&mut baselines, 1..most + 101, 1_000, 2), [0; 0], "nothing was called since");
        // Now others have more calls, though not twice as many: their neighbours keep their histories.
        let mut all: Vec<u64> = (1..most + 101).collect();
        let calls = |strict: &u64| if *strict <= 100 { 1_900 } else { 1_001 + strict };
        let describe = |strict: &u64| Candidate { key: (*strict, 1), calls: calls(strict), seen_us: 3 };
        baselines.choose(&mut all, describe, 3);
        all.sort_unstable();
        assert_eq!(all, told);
        // More than twice as many, and what is silent for an hour does not count.
        let mut all: Vec<u64> = (1..most + 101).collect();
        let now_us = 3 + PATIENCE_US;
        let describe = |strict: &u64| Candidate {
            key: (*strict, 1),
            calls: if *strict <= 50 { 4_000 } else { 1_001 + strict },
            seen_us: if *strict == most { 3 } else { now_us },
        };
        baselines.choose(&mut all, describe, now_us);
        let at = |strict: u64| all.contains(&strict);
        assert!((1..=50).all(at) && !(51..150).any(at) && (150..most).all(at) && !at(most), "{}", all.len());
        assert!(baselines.rows.len() <= MAX_ROWS);
    }
}
