//! Log-scaled histograms of durations in µs.
//!
//! Four buckets to each doubling from 16 µs to 16.8 s, one below and one above: 82. Taking the harmonic mean of a
//! bucket's bounds for its values is off by at most 1/9 (11.1 %) of the value; below 16 µs and above 16.8 s the smallest
//! and largest value seen stand in for the missing bound.

use std::sync::OnceLock;

use super::cell::{Counter, SmallCounter};

/// Number of buckets, with the one below the range and the one above it.
pub const BUCKETS: usize = 2 + OCTAVES * PER_OCTAVE;

/// The range starts at 2⁴ µs.
const FIRST_OCTAVE: u32 = 4;
/// … and spans twenty doublings, up to 2²⁴ µs.
const OCTAVES: usize = 20;
/// Buckets in one doubling.
const PER_OCTAVE: usize = 4;

/// The bucket for a duration.
#[inline]
fn bucket(us: u64) -> usize {
    if us < 1 << FIRST_OCTAVE {
        return 0;
    }
    let octave = us.ilog2();
    let quarter = (us >> (octave - 2)) as usize & 3;
    let index = 1 + (octave - FIRST_OCTAVE) as usize * PER_OCTAVE + quarter;
    index.min(BUCKETS - 1)
}

/// Lower bound of a bucket, inclusive, in µs.
pub fn lower_bound(bucket: usize) -> u64 {
    match bucket.checked_sub(1) {
        None => 0,
        Some(inner) => {
            let octave = FIRST_OCTAVE + (inner / PER_OCTAVE) as u32;
            (4 + (inner % PER_OCTAVE) as u64) << (octave - 2)
        }
    }
}

/// A histogram for things there are few of: 64-bit buckets and the exact sum. One writer.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| Counter::default()), sum_us: Counter::default() }
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, us: u64) {
        if let Some(cell) = self.buckets.get(bucket(us)) {
            cell.increment();
        }
        self.sum_us.add(us);
    }

    /// Adds what has been counted so far to `into`.
    pub(super) fn merge_into(&self, into: &mut Distribution) {
        for (total, cell) in into.buckets.iter_mut().zip(&self.buckets) {
            *total += cell.value();
        }
        into.sum_us = into.sum_us.wrapping_add(self.sum_us.value());
    }
}

/// A histogram for things there are very many of: 32-bit buckets, 344 bytes. One writer.
///
/// What a bucket cannot hold is carried into a second row, which is made when that first happens: counts only grow, so
/// that whoever subtracts an earlier one has what came since.
#[derive(Debug)]
pub struct CompactHistogram {
    buckets: [SmallCounter; BUCKETS],
    /// How often each has begun anew.
    carried: OnceLock<Box<[SmallCounter; BUCKETS]>>,
}

impl Default for CompactHistogram {
    fn default() -> Self {
        Self { buckets: row(), carried: OnceLock::new() }
    }
}

fn row() -> [SmallCounter; BUCKETS] {
    std::array::from_fn(|_| SmallCounter::default())
}

impl CompactHistogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, us: u64) {
        let bucket = bucket(us);
        if let Some(cell) = self.buckets.get(bucket)
            && cell.increment()
        {
            self.carry(bucket);
        }
    }

    /// Adds what another one has counted, which does not count any more.
    pub(super) fn absorb(&self, other: &Self) {
        for (bucket, (own, more)) in self.buckets.iter().zip(&other.buckets).enumerate() {
            if own.add(more.value()) {
                self.carry(bucket);
            }
        }
        if let Some(carried) = other.carried.get() {
            let own = self.carried.get_or_init(|| Box::new(row()));
            for (own, more) in own.iter().zip(carried.iter()) {
                own.add(more.value());
            }
        }
    }

    /// As if so many runs had taken this long.
    #[cfg(test)]
    pub(super) fn fill_to(&self, us: u64, n: u32) {
        if let Some(cell) = self.buckets.get(bucket(us)) {
            cell.set(n);
        }
    }

    /// Copies the buckets as they are, without what was carried: two copies differ by what came between them, modulo 2³².
    pub(super) fn copy_to(&self, into: &mut [u32; BUCKETS]) {
        into.iter_mut().zip(&self.buckets).for_each(|(to, from)| *to = from.value());
    }

    #[cold]
    fn carry(&self, bucket: usize) {
        if let Some(cell) = self.carried.get_or_init(|| Box::new(row())).get(bucket) {
            cell.increment();
        }
    }

    /// Adds what has been counted so far to `into`. The sum is not known here and stays.
    pub(super) fn merge_into(&self, into: &mut Distribution) {
        for (total, cell) in into.buckets.iter_mut().zip(&self.buckets) {
            *total += u64::from(cell.value());
        }
        let carried = self.carried.get().into_iter().flat_map(|row| row.iter());
        for (total, cell) in into.buckets.iter_mut().zip(carried) {
            *total += u64::from(cell.value()) << u32::BITS;
        }
    }
}

/// Histograms of several workers, added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distribution {
    /// Values in each bucket; see [`lower_bound`].
    pub buckets: [u64; BUCKETS],
    /// Sum of all values in µs, where it is known.
    pub sum_us: u64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum_us: 0 }
    }
}

impl Distribution {
    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The buckets that hold something, as (lower bound in µs, values in it).
    pub fn filled(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let filled = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(index, n)| (lower_bound(index), *n))
    }

    /// Adds another distribution.
    pub fn merge(&mut self, other: &Distribution) {
        for (total, n) in self.buckets.iter_mut().zip(&other.buckets) {
            *total += n;
        }
        self.sum_us = self.sum_us.wrapping_add(other.sum_us);
    }

    /// The value in µs that a share `q` (0 to 1) of all values does not exceed, within 11.1 %; 0 when there are none.
    /// `min` and `max` are the exact extremes: no answer lies outside them.
    pub fn percentile(&self, q: f64, min: u64, max: u64) -> f64 {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        self.at_rank(rank, min, max)
    }

    /// The value in µs with this many values up to it, itself included, within 11.1 %; otherwise as
    /// [`Distribution::percentile`].
    pub fn at_rank(&self, rank: u64, min: u64, max: u64) -> f64 {
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return representative(index, min, max).clamp(min as f64, max.max(min) as f64);
            }
        }
        0.0
    }

    /// Cumulative counts at each doubling, as (upper bound in µs, values below it); the last bound is the range's end.
    pub fn cumulative_octaves(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut seen = self.buckets.first().copied().unwrap_or(0);
        let inner = self.buckets.get(1..BUCKETS - 1).unwrap_or_default();
        let first = std::iter::once((1 << FIRST_OCTAVE, seen));
        first.chain(inner.chunks(PER_OCTAVE).enumerate().map(move |(octave, quarters)| {
            seen += quarters.iter().sum::<u64>();
            (2 << (FIRST_OCTAVE as usize + octave), seen)
        }))
    }
}

/// The value that stands for a bucket: the harmonic mean of its bounds, which halves the largest relative error.
fn representative(bucket: usize, min: u64, max: u64) -> f64 {
    let low = lower_bound(bucket).max(if bucket == 0 { min } else { 0 }) as f64;
    let high = if bucket + 1 < BUCKETS { lower_bound(bucket + 1) as f64 } else { (max as f64).max(low) };
    if low + high == 0.0 { 0.0 } else { 2.0 * low * high / (low + high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distribution(values: impl IntoIterator<Item = u64>) -> Distribution {
        let histogram = Histogram::default();
        values.into_iter().for_each(|us| histogram.record(us));
        let mut merged = Distribution::default();
        histogram.merge_into(&mut merged);
        merged
    }

    #[test]
    fn every_value_lies_in_its_bucket_s_bounds() {
        for us in (0..5_000).chain((0..40).map(|n| 1_u64 << n)).chain((5..40).map(|n| (1_u64 << n) - 1)) {
            let index = bucket(us);
            assert!(lower_bound(index) <= us, "{us} below bucket {index}");
            assert!(index + 1 == BUCKETS || us < lower_bound(index + 1), "{us} above bucket {index}");
        }
    }

    #[test]
    fn bounds_grow_and_end_at_the_documented_range() {
        for index in 1..BUCKETS {
            assert!(lower_bound(index) > lower_bound(index - 1));
        }
        assert_eq!((lower_bound(1), lower_bound(BUCKETS - 1)), (16, 1 << 24));
    }

    #[test]
    fn a_percentile_is_within_one_ninth() {
        for us in (16..100_000).step_by(7).chain([1_000_000, 5_555_555, 16_777_215]) {
            let estimate = distribution([us]).percentile(0.5, 0, u64::MAX);
            let error = (estimate - us as f64).abs() / us as f64;
            assert!(error <= 1.0 / 9.0 + 1e-9, "{us} estimated as {estimate}");
        }
    }

    #[test]
    fn percentiles_follow_the_ranks() {
        let merged = distribution(1..=10_000);
        for (q, exact) in [(0.50, 5_000.0), (0.95, 9_500.0), (0.99, 9_900.0)] {
            let estimate = merged.percentile(q, 1, 10_000);
            assert!((estimate - exact).abs() / exact < 0.12, "p{q}: {estimate}");
        }
        assert_eq!(merged.count(), 10_000);
        assert_eq!(merged.sum_us, 10_000 * 10_001 / 2);
    }

    #[test]
    fn answers_stay_between_the_extremes() {
        assert_eq!(distribution([3]).percentile(0.99, 3, 3), 3.0);
        assert_eq!(distribution([60_000_000]).percentile(0.5, 60_000_000, 60_000_000), 60_000_000.0);
        assert_eq!(Distribution::default().percentile(0.5, 0, 0), 0.0);
    }

    #[test]
    fn merging_equals_recording_in_one() {
        let mut parts = distribution((0..1_000).step_by(2));
        parts.merge(&distribution((1..1_000).step_by(2)));
        assert_eq!(parts, distribution(0..1_000));
    }

    #[test]
    fn octaves_are_cumulative_and_hold_all_but_the_overflow() {
        let merged = distribution([1, 16, 31, 32, 1_000, 20_000_000]);
        let octaves: Vec<_> = merged.cumulative_octaves().collect();
        assert_eq!(octaves.len(), OCTAVES + 1);
        assert_eq!(octaves[..3], [(16, 1), (32, 3), (64, 4)]);
        assert_eq!(octaves.last(), Some(&(1 << 24, 5)));
        assert!(octaves.windows(2).all(|pair| pair[0].1 <= pair[1].1 && pair[0].0 * 2 == pair[1].0));
    }

    #[test]
    fn a_full_bucket_is_carried_and_no_count_becomes_less() {
        let histogram = CompactHistogram::default();
        histogram.fill_to(100, u32::MAX);
        histogram.fill_to(9_000, 1_000);
        let now = || {
            let mut merged = Distribution::default();
            histogram.merge_into(&mut merged);
            [100, 9_000].map(|us| merged.buckets[bucket(us)])
        };
        assert_eq!(now(), [u64::from(u32::MAX), 1_000]);
        (0..3).for_each(|_| histogram.record(100));
        histogram.record(9_000);
        assert_eq!(now(), [u64::from(u32::MAX) + 3, 1_001]);
    }
}
