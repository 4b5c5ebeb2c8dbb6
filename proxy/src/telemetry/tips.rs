//! What threads tell the analyst besides events: seldom, and in words.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use policy::observe::Notice;

use super::lock;

/// Notices that may wait for the analyst; further ones are dropped and counted.
const MAX_WAITING: usize = 1_024;

/// Notices on their way to the analyst, who looks for them with every look at the rings.
#[derive(Debug, Default)]
pub struct Tips {
    waiting: Mutex<Vec<Notice>>,
    dropped: AtomicU64,
}

impl Tips {
    /// Leaves a notice. Slow path: takes a lock that only others who do so and the analyst take.
    pub fn leave(&self, notice: Notice) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MAX_WAITING {
            waiting.push(notice);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all that wait.
    pub fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *lock(&self.waiting))
    }

    /// Notices that found too many waiting.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use policy::observe::What;

    use super::*;

    #[test]
    fn what_nobody_takes_is_bounded_and_counted() {
        let what = What::Idle { open_us: 2, idle_us: 1, threshold_us: 1, ended: false, again: false };
        let notice = Notice {
            scope: policy::observe::Scope::default(),
            tenant: "acme".into(),
            strict: 1,
            text: "select".into(),
            what,
            began_us: 0,
            now_us: 2,
        };
        let tips = Tips::default();
        for _ in 0..MAX_WAITING + 3 {
            tips.leave(notice.clone());
        }
        assert_eq!((tips.take().len(), tips.dropped(), tips.take().len()), (MAX_WAITING, 3, 0));
    }
}
