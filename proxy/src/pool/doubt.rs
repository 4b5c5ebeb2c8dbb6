//! Whether a pool's servers still are what they were: when they are asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The pause behind a look that has found a server out: those that are left may follow it.
const SOON: Duration = Duration::from_secs(1);
/// The pause behind a look that has found nothing: a client may give the same hint with each statement.
const LATER: Duration = Duration::from_secs(5);

/// At most one look at a time, and a pause between two of them. A hint during the pause is heard at its end.
#[derive(Debug, Default)]
pub struct Doubt {
    raised: AtomicBool,
    not_before: Mutex<Option<Instant>>,
}

impl Doubt {
    /// There is a hint. `true`: whoever gave it has to order a look.
    pub fn raise(&self) -> bool {
        !self.raised.swap(true, Ordering::Relaxed)
    }

    /// How long to wait before a look.
    pub fn rest(&self, now: Instant) -> Duration {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now))
    }

    /// A look begins: hints from now on want another one.
    pub fn begin(&self) {
        self.raised.store(false, Ordering::Relaxed);
    }

    /// It has ended.
    pub fn end(&self, now: Instant, found: bool) {
        let pause = if found { SOON } else { LATER };
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = now.checked_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hints_are_one_look_and_one_more_behind_it() {
        let (doubt, now) = (Doubt::default(), Instant::now());
        assert_eq!([doubt.raise(), doubt.raise()], [true, false]);
        assert_eq!(doubt.rest(now), Duration::ZERO, "the first look is at once");
        doubt.begin();
        assert!(doubt.raise(), "what comes while it is looked wants another look");
        doubt.end(now, true);
        assert_eq!(doubt.rest(now), SOON);
        doubt.begin();
        doubt.end(now, false);
        assert_eq!((doubt.rest(now), doubt.rest(now + LATER)), (LATER, Duration::ZERO));
    }
}
