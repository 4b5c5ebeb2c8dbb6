//! Numbers with one writer and any number of readers.
//!
//! A worker writes with a plain load and a plain store (no read-modify-write, so no locked instruction); the admin port
//! reads at any time and sees each number whole, though not all numbers of one moment. Two writers would lose counts:
//! outside `telemetry` these types are reached only through the meters, which cannot leave their thread.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, fence};

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

    /// Forgets what it has seen.
    pub(super) fn forget(&self) {
        self.0.store(0, Relaxed);
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

    /// Forgets what it has seen.
    pub(super) fn forget(&self) {
        self.0.store(u64::MAX, Relaxed);
    }

    /// The smallest so far.
    pub(super) fn value(&self) -> Option<u64> {
        Some(self.0.load(Relaxed)).filter(|n| *n != u64::MAX)
    }
}

/// What a reader wants of the writer: that it forgets its extremes before it counts again. Everything else is counted
/// from a baseline, but the largest of what came later cannot be told from the largest of all.
#[derive(Debug, Default)]
pub(super) struct Wish(AtomicBool);

impl Wish {
    /// Utters it. For readers, one at a time.
    pub(super) fn make(&self) {
        self.0.store(true, Relaxed);
    }

    /// Whether it stands: nothing has been counted since it was made.
    pub(super) fn stands(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Whether it stood. For the writer, which fulfils it.
    #[inline]
    pub(super) fn take(&self) -> bool {
        let stood = self.0.load(Relaxed);
        if stood {
            self.0.store(false, Relaxed);
        }
        stood
    }
}

/// Looks that a reader takes at numbers that are being written before it makes do with what it sees.
const LOOKS: u32 = 200;
/// Of those, so many one behind the other; it sleeps in front of each further one. A tenth of a second in all.
const LOOKS_AT_ONCE: u32 = 32;
const PAUSE: std::time::Duration = std::time::Duration::from_micros(500);

/// Makes several numbers readable as of one moment. The writer counts it up before and after it writes them, and never
/// waits; a reader looks again when it has seen an odd count, or two different ones.
#[derive(Debug, Default)]
pub(super) struct Sequence(AtomicU32);

impl Sequence {
    /// Writes what belongs together.
    #[inline]
    pub(super) fn write(&self, write: impl FnOnce()) {
        let count = self.0.load(Relaxed);
        self.0.store(count.wrapping_add(1), Relaxed);
        // What is written below is not seen before the odd count.
        fence(Release);
        write();
        self.0.store(count.wrapping_add(2), Release);
    }

    /// Reads what belongs together. A writer that was interrupted in the middle of it for very long is not waited for.
    pub(super) fn read<T>(&self, mut read: impl FnMut() -> T) -> T {
        for look in 0..LOOKS {
            let before = self.0.load(Acquire);
            if before.is_multiple_of(2) {
                let seen = read();
                // What was read above was read before the count is looked at again.
                fence(Acquire);
                if self.0.load(Relaxed) == before {
                    return seen;
                }
            }
            // A writer that the kernel has set aside in the middle comes back when others have had their time, milliseconds
            // later: giving the processor up at once is not enough then.
            match look {
                0..LOOKS_AT_ONCE => std::thread::yield_now(),
                _ => std::thread::sleep(PAUSE),
            }
        }
        read()
    }
}

/// A 32-bit count for histograms with very many instances. Behind its end it begins anew, and the caller carries.
#[derive(Debug, Default)]
pub(super) struct SmallCounter(AtomicU32);

impl SmallCounter {
    /// Adds one; `true` when the count has begun anew.
    #[inline]
    pub(super) fn increment(&self) -> bool {
        let n = self.0.load(Relaxed).wrapping_add(1);
        self.0.store(n, Relaxed);
        n == 0
    }

    /// The count so far.
    pub(super) fn value(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Adds so many; `true` when the count has begun anew.
    pub(super) fn add(&self, more: u32) -> bool {
        let (n, anew) = self.0.load(Relaxed).overflowing_add(more);
        self.0.store(n, Relaxed);
        anew
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
    fn numbers_that_belong_together_are_read_of_one_moment() {
        let (sequence, one, other) = (Sequence::default(), Counter::default(), Counter::default());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..200_000 {
                    sequence.write(|| {
                        one.increment();
                        other.increment();
                    });
                }
                done.store(true, Release);
            });
            while !done.load(Acquire) {
                let (a, b) = sequence.read(|| (one.value(), other.value()));
                assert_eq!(a, b);
            }
        });
        assert_eq!(sequence.read(|| one.value()), 200_000);
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
