//! Numbers with one writer and any number of readers.
//!
//! A worker writes with a plain load and a plain store (no read-modify-write, so no locked instruction); the admin port
//! reads at any time and sees each number whole, though not all numbers of one moment. Two writers would lose counts:
//! outside `telemetry` these types are reached only through the meters, which cannot leave their thread.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// The count so far.
    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// An amount that goes up and down. Where an amount rises on one worker and falls on another, each holds its own part
/// and the sum is right; a single part may be below zero.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// One more.
    #[inline]
    pub fn up(&self) {
        self.add(1);
    }

    /// One less.
    #[inline]
    pub fn down(&self) {
        self.add(-1);
    }

    /// Adds `n`, which may be negative.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the amount.
    #[inline]
    pub fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// The amount now.
    pub(super) fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// The largest value seen; 0 before the first.
#[derive(Debug, Default)]
pub struct Maximum(AtomicU64);

impl Maximum {
    /// Takes `n` if it is larger.
    #[inline]
    pub fn raise(&self, n: u64) {
        if n > self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }

    /// The largest so far.
    pub(super) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The smallest value seen; `None` before the first.
#[derive(Debug)]
pub struct Minimum(AtomicU64);

impl Default for Minimum {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Minimum {
    /// Takes `n` if it is smaller. `u64::MAX` counts as nothing.
    #[inline]
    pub fn lower(&self, n: u64) {
        if n < self.0.load(Relaxed) {
            self.0.store(n, Relaxed);
        }
    }

    /// The smallest so far.
    pub(super) fn value(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|n| *n != u64::MAX)
    }
}

/// A 32-bit count for histograms with very many instances. The caller handles its end.
#[derive(Debug, Default)]
pub(super) struct SmallCounter(AtomicU32);

impl SmallCounter {
    /// Adds one; `false` when the count stands at its end and could not take it.
    #[inline]
    pub(super) fn increment(&self) -> bool {
        let n = self.0.load(Relaxed);
        if n == u32::MAX {
            return false;
        }
        self.0.store(n + 1, Relaxed);
        true
    }

    /// Halves the count.
    pub(super) fn halve(&self) {
        self.0.store(self.0.load(Relaxed) / 2, Relaxed);
    }

    /// The count so far.
    pub(super) fn value(&self) -> u32 {
        self.0.load(Relaxed)
    }

    #[cfg(test)]
    pub(super) fn set(&self, n: u32) {
        self.0.store(n, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_several_workers_add_up() {
        let (dialled_here, closed_there) = (Gauge::default(), Gauge::default());
        dialled_here.up();
        dialled_here.up();
        closed_there.down();
        assert_eq!(dialled_here.value() + closed_there.value(), 1);
    }

    #[test]
    fn extremes_keep_the_extreme() {
        let (low, high) = (Minimum::default(), Maximum::default());
        assert_eq!(low.value(), None);
        for n in [7, 3, 9] {
            low.lower(n);
            high.raise(n);
        }
        assert_eq!((low.value(), high.value()), (Some(3), 9));
    }
}
