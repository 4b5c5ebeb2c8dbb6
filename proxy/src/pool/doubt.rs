//! Whether a pool's servers still are what they were: when they are asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The pause behind a look that has found a server out: those that are left may follow it.
const SOON: Duration = Duration::from_secs(1);
/// The pause behind a look that has found nothing: a client may give the same hint with each statement.
const LATER: Duration = Duration::from_secs(5);

/// At most one look at a time, and a pause between two of them. A hint during a look or a pause is heard at its end. During
/// a failover each connection that is lost is a hint, and a look at a server that does not answer takes its time.
#[derive(Debug, Default)]
pub struct Doubt(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// There was a hint since the last look began.
    raised: bool,
    /// Somebody looks, or will when the pause is over.
    looked_after: bool,
    not_before: Option<Instant>,
}

impl Doubt {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a hint. `true`: whoever gave it has to order a look.
    pub fn raise(&self) -> bool {
        let mut inner = self.lock();
        inner.raised = true;
        !std::mem::replace(&mut inner.looked_after, true)
    }

    /// How long to wait before a look.
    pub fn rest(&self, now: Instant) -> Duration {
        self.lock().not_before.map_or(Duration::ZERO, |then| then.saturating_duration_since(now))
    }

    /// A look begins: hints from now on want another one.
    pub fn begin(&self) {
        self.lock().raised = false;
    }

    /// It has ended. `true`: whoever has looked has to look again.
    pub fn end(&self, now: Instant, found: bool) -> bool {
        let mut inner = self.lock();
        inner.not_before = now.checked_add(if found { SOON } else { LATER });
        inner.looked_after = inner.raised;
        inner.raised
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
        assert!(!doubt.raise(), "nobody else looks meanwhile, however long it takes");
        assert!(doubt.end(now, true), "what came while it was looked wants another look");
        assert_eq!(doubt.rest(now), SOON);
        assert!(!doubt.raise(), "that one has not begun");
        doubt.begin();
        assert!(!doubt.end(now, false));
        assert_eq!((doubt.rest(now), doubt.rest(now + LATER)), (LATER, Duration::ZERO));
        assert!(doubt.raise());
    }
}
