//! A token bucket that many threads share without a lock: the generic cell rate algorithm over one number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Rate;

/// When the bucket is full again, in ns on the caller's clock; 0: it is full.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, rate: Rate, now_ns: u64) -> Result<(), Duration> {
        self.take_several(rate, 1, now_ns)
    }

    /// Takes so many tokens, or none. More than the bucket holds are never there.
    ///
    /// # Errors
    /// How long until there are as many.
    pub fn take_several(&self, rate: Rate, tokens: u32, now_ns: u64) -> Result<(), Duration> {
        let mut full_at = self.0.load(Ordering::Relaxed);
        loop {
            let next = without(full_at, rate, tokens, now_ns)?;
            match self.0.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }

    /// How long until so many tokens are there, of which none is taken; `None`: they are.
    pub fn lacks(&self, rate: Rate, tokens: u32, now_ns: u64) -> Option<Duration> {
        without(self.0.load(Ordering::Relaxed), rate, tokens, now_ns).err()
    }
}

/// When a bucket is full again that so many tokens are taken from.
///
/// # Errors
/// How long until there are as many.
fn without(full_at: u64, rate: Rate, tokens: u32, now_ns: u64) -> Result<u64, Duration> {
    let each = 1_000_000_000 / u64::from(rate.per_second.max(1));
    let taken = each.saturating_mul(tokens.into());
    let room = each.saturating_mul(u64::from(rate.burst.max(1)));
    // A rate that was lower before the configuration changed must not cost more than a full bucket does.
    let next = full_at.clamp(now_ns, now_ns.saturating_add(room)).saturating_add(taken);
    if next > now_ns.saturating_add(room) {
        return Err(Duration::from_nanos(next - room - now_ns));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 10, burst: 5 };
        let start = 7 * SECOND;
        for _ in 0..5 {
            assert_eq!(bucket.take(rate, start), Ok(()));
        }
        assert_eq!(bucket.take(rate, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, start + 99_000_000), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, start + 100_000_000), Ok(()));
        assert!(bucket.take(rate, start + 100_000_000).is_err());
        let passed = (0..1000).filter(|ms| bucket.take(rate, start + SECOND + ms * 1_000_000).is_ok()).count();
        assert!((14..=15).contains(&passed), "{passed}");
    }

    #[test]
    fn several_are_taken_together_or_not_at_all() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 10, burst: 5 };
        assert_eq!(bucket.take_several(rate, 3, SECOND), Ok(()));
        assert_eq!(bucket.take_several(rate, 3, SECOND), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take_several(rate, 2, SECOND), Ok(()));
        assert_eq!(bucket.take(rate, SECOND), Err(Duration::from_millis(100)));
        assert!(bucket.take_several(rate, 6, 100 * SECOND).is_err(), "there are never so many");
        assert_eq!(bucket.take_several(rate, 5, 100 * SECOND), Ok(()));
    }

    #[test]
    fn who_asks_what_is_there_takes_nothing() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 10, burst: 5 };
        for _ in 0..9 {
            assert_eq!(bucket.lacks(rate, 5, SECOND), None);
        }
        assert_eq!(bucket.take_several(rate, 3, SECOND), Ok(()));
        assert_eq!(bucket.lacks(rate, 3, SECOND), Some(Duration::from_millis(100)));
        assert_eq!(bucket.lacks(rate, 2, SECOND), None);
        assert_eq!(bucket.take_several(rate, 2, SECOND), Ok(()));
    }

    #[test]
    fn a_clock_that_jumps_back_costs_no_more_than_a_full_bucket() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 100, burst: 1 };
        assert_eq!(bucket.take(rate, 1000 * SECOND), Ok(()));
        assert!(bucket.take(rate, SECOND).is_err_and(|wait| wait <= Duration::from_millis(10)));
        assert!(bucket.take(rate, SECOND + 20_000_000).is_err());
    }

    #[test]
    fn threads_together_get_no_more_than_the_rate() {
        let bucket = Bucket::default();
        let rate = Rate { per_second: 1000, burst: 100 };
        let passed: usize = std::thread::scope(|scope| {
            let each = || (0..100_000_u64).filter(|n| bucket.take(rate, SECOND + n * 10_000).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(each)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // Threads whose clock is behind find the bucket emptied by those ahead, never fuller.
        assert!((100..=1_101).contains(&passed), "{passed}");
    }
}
