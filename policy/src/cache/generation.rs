//! Generations: a seqlock for each table, for all tables of a database at once, and for its catalog.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Bits of a generation that count the writes that are under way; the others count those that are over.
const BITS: u32 = 20;
const WRITERS: u64 = (1 << BITS) - 1;
const VERSION: u64 = 1 << BITS;

/// What a [`Counter`] said at one moment.
///
/// *Even*, in the words of seqlocks: no write is under way. An even generation never comes again once it is over: every
/// write that ends leaves a higher version behind. (After 2⁴⁴ writes it would. At 100,000 a second that takes five years,
/// and an entry of that age would still have to be there.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// Whether no write is under way.
    pub const fn is_even(self) -> bool {
        self.0 & WRITERS == 0
    }

    /// How many writes are under way.
    pub const fn writers(self) -> u64 {
        self.0 & WRITERS
    }

    /// How many writes are over.
    pub const fn version(self) -> u64 {
        self.0 >> BITS
    }

    /// The same as one number, for a key.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Two counters in one word, so that both change in one step: writes under way, and writes that are over.
///
/// A bare toggle would be even again when the first of two writers ends; this is even when the last one has. All steps are
/// sequentially consistent: they are few, and a load costs the same.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// What it says now. This is all that a hit does, once for each table: no lock, no write.
    pub fn now(&self) -> Generation {
        Generation(self.0.load(SeqCst))
    }

    /// One more write is under way: before anything of it that can commit is forwarded.
    ///
    /// At its maximum the number of writers stays there for good, so that it cannot run over and look even.
    pub(super) fn enter(&self) {
        self.change(|value| if value & WRITERS == WRITERS { value } else { value + 1 });
    }

    /// A write is over, however it went.
    pub(super) fn leave(&self) {
        self.change(|value| match value & WRITERS {
            0 | WRITERS => value.wrapping_add(VERSION),
            _ => value.wrapping_add(VERSION) - 1,
        });
    }

    /// Something was written that nobody saw begin: what was read before counts no more.
    pub fn bump(&self) {
        self.0.fetch_add(VERSION, SeqCst);
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let _ = self.0.fetch_update(SeqCst, SeqCst, |value| Some(change(value)));
    }

    /// What no code may do: a write that is over without a trace. The model shows what would come of it.
    #[cfg(test)]
    pub(super) fn leave_without_a_trace(&self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_even_when_the_last_of_several_writers_has_ended() {
        let counter = Counter::default();
        let before = counter.now();
        assert!(before.is_even());
        counter.enter();
        counter.enter();
        assert_eq!(counter.now().writers(), 2);
        counter.leave();
        assert!(!counter.now().is_even(), "the second one is still under way");
        counter.leave();
        let after = counter.now();
        assert!(after.is_even());
        assert_ne!(after, before);
        assert_eq!(after.version(), 2);
    }

    #[test]
    fn no_even_generation_comes_twice() {
        // All orders of three writers' beginnings and ends, and one write from outside.
        fn run(counter: &Counter, begun: u32, ended: u32, bumps: u32, seen: &mut Vec<Generation>) {
            let now = counter.now();
            if now.is_even() {
                assert!(!seen.contains(&now) || seen.last() == Some(&now), "{now:?} again after {seen:?}");
                seen.push(now);
            }
            let length = seen.len();
            let again = |step: fn(&Counter)| {
                let copy = Counter(AtomicU64::new(now.number()));
                step(&copy);
                copy
            };
            if begun < 3 {
                run(&again(Counter::enter), begun + 1, ended, bumps, seen);
                seen.truncate(length);
            }
            if ended < begun {
                run(&again(Counter::leave), begun, ended + 1, bumps, seen);
                seen.truncate(length);
            }
            if bumps < 1 {
                run(&again(Counter::bump), begun, ended, bumps + 1, seen);
                seen.truncate(length);
            }
        }
        run(&Counter::default(), 0, 0, 0, &mut Vec::new());
    }

    #[test]
    fn too_many_writers_stay_odd_instead_of_running_over() {
        let counter = Counter(AtomicU64::new(WRITERS - 1));
        counter.enter();
        counter.enter();
        assert_eq!((counter.now().writers(), counter.now().version()), (WRITERS, 0));
        for _ in 0..3 {
            counter.leave();
        }
        assert!(!counter.now().is_even());
    }

    #[test]
    fn the_version_wraps_without_touching_the_writers() {
        let counter = Counter(AtomicU64::new(u64::MAX - WRITERS));
        counter.enter();
        counter.leave();
        assert_eq!(counter.now(), Generation(0));
        counter.bump();
        assert_eq!(counter.now().version(), 1);
    }

    #[test]
    fn threads_that_write_at_once_lose_no_step() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        counter.enter();
                        assert!(!counter.now().is_even(), "a writer of its own is under way");
                        counter.leave();
                    }
                });
            }
        });
        assert_eq!((counter.now().writers(), counter.now().version()), (0, 40_000));
    }
}
