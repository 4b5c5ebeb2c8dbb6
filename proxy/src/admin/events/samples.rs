//! What databases had done at each minute of the last hour: from two moments follows what ran between them, so that nothing
//! is counted for it while queries run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Time between two samples, in µs.
const EVERY_US: u64 = 60 * 1_000_000;
/// How many are kept: the ends of sixty minutes, and one for the minute that is under way.
const KEPT: usize = 62;

/// Statements and failed ones since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::admin) struct Done {
    pub(in crate::admin) calls: u64,
    pub(in crate::admin) errors: u64,
}

/// The same of every database.
pub(in crate::admin) type ByDatabase = BTreeMap<Box<str>, Done>;

/// The samples, the earliest first.
#[derive(Debug, Clone, Default)]
pub(in crate::admin) struct Samples(VecDeque<(u64, Arc<ByDatabase>)>);

impl Samples {
    /// Whether it is time for the next one.
    pub(super) fn is_due(&self, now_us: u64) -> bool {
        self.0.back().is_none_or(|(last_us, _)| now_us.saturating_sub(*last_us) >= EVERY_US)
    }

    /// Takes one in. Nothing had been done when the process began.
    pub(super) fn put(&mut self, now_us: u64, begun_us: u64, done: ByDatabase) {
        if self.0.is_empty() {
            self.0.push_back((begun_us, Arc::default()));
        }
        self.0.push_back((now_us, Arc::new(done)));
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// The latest sample that is so old, or the earliest that there is; when it was taken. `None`: there is none.
    pub(in crate::admin) fn before(&self, wanted_us: u64) -> Option<(u64, Arc<ByDatabase>)> {
        let old = self.0.iter().rev().find(|(at_us, _)| *at_us <= wanted_us);
        old.or(self.0.front()).map(|(at_us, done)| (*at_us, Arc::clone(done)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = EVERY_US;

    fn done(calls: u64) -> ByDatabase {
        [("app".into(), Done { calls, errors: 0 })].into()
    }

    #[test]
    fn an_hour_is_kept_and_what_is_looked_for_begins_with_the_process() {
        let mut samples = Samples::default();
        assert!(samples.is_due(7) && samples.before(7).is_none());
        let begun_us = 10 * MINUTE;
        for minute in 10..200 {
            let now_us = minute * MINUTE + 1;
            assert!(samples.is_due(now_us));
            samples.put(now_us, begun_us, done(minute));
            assert!(!samples.is_due(now_us + MINUTE - 1));
            if minute == 12 {
                let (at_us, then) = samples.before(0).unwrap();
                assert_eq!((at_us, then.len()), (begun_us, 0), "nothing had been done then");
            }
        }
        let now_us = 199 * MINUTE + 30_000_000;
        let calls = |wanted_us: u64| samples.before(wanted_us).map(|(at_us, then)| (at_us / MINUTE, then["app"].calls));
        assert_eq!(calls(now_us - 60 * MINUTE), Some((139, 139)), "a whole hour is known");
        assert_eq!(calls(now_us - MINUTE), Some((198, 198)));
        assert_eq!(calls(0), Some((138, 138)), "and not much more");
        assert_eq!(samples.0.len(), KEPT);
    }
}
