//! Room for upstreams within the limits of the proxy, of databases and of users: the [`Quota`], as all threads see it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use policy::verdict::Limit;
use tokio::sync::Notify;

use super::quota::{Claim, Hungry, Limits, Quota};

/// The limits' state. Its lock is taken when an upstream is made or closed, never for a query.
#[derive(Debug, Default)]
pub struct Room {
    quota: Mutex<Quota>,
    /// Some pool waits for room.
    wanted: AtomicBool,
    /// An upstream is being closed to make room: one at a time, or many would be closed for one that is wanted.
    yielding: AtomicBool,
    /// There is more room, or another pool wants some.
    pub changed: Notify,
}

impl Room {
    /// Takes room for one more upstream of a pool that has `open`, or has the pool wait for it.
    pub fn take(self: &Arc<Self>, claim: &Claim, limits: Limits, open: usize, now: Instant) -> Result<Slot, Limit> {
        let mut quota = self.lock();
        let before = quota.hungry().count();
        let taken = quota.take(claim, limits, open, now);
        let one_more = quota.hungry().count() > before;
        self.wanted.store(quota.is_wanted(), Ordering::Relaxed);
        drop(quota);
        // Not for one that waits already: whoever looks after them asks on their behalf, and would wake itself.
        if one_more {
            self.changed.notify_one();
        }
        taken.map(|()| Slot { room: self.clone(), claim: claim.clone() })
    }

    /// Takes room for one more upstream if there is some that nobody waits for.
    pub fn take_spare(self: &Arc<Self>, claim: &Claim, limits: Limits) -> Result<Slot, Limit> {
        self.lock().take_spare(claim, limits).map(|()| Slot { room: self.clone(), claim: claim.clone() })
    }

    /// Some pool waits for room.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// A pool no longer waits for room.
    pub fn content(&self, pool: usize) {
        let mut quota = self.lock();
        quota.content(pool);
        self.wanted.store(quota.is_wanted(), Ordering::Relaxed);
    }

    /// Those who wait for room, in their order.
    pub fn hungry(&self) -> Vec<Hungry> {
        self.lock().hungry().cloned().collect()
    }

    /// See [`Quota::should_yield`].
    pub fn should_yield(&self, claim: &Claim, open: usize, since: Option<Instant>, now: Instant) -> bool {
        self.lock().should_yield(claim, open, since, now)
    }

    /// Whoever is told `true` closes one upstream, or says [`Room::yielded`].
    pub fn may_yield(&self) -> bool {
        !self.yielding.swap(true, Ordering::Relaxed)
    }

    /// An upstream was closed to make room, or none could be.
    pub fn yielded(&self) {
        self.yielding.store(false, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// How many upstreams there are in all.
    pub fn total(&self) -> usize {
        self.lock().total()
    }

    fn lock(&self) -> MutexGuard<'_, Quota> {
        self.quota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one upstream. Given back when dropped.
#[derive(Debug)]
pub struct Slot {
    room: Arc<Room>,
    claim: Claim,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.room.lock().give_back(&self.claim);
        if self.room.is_wanted() {
            self.room.changed.notify_one();
        }
    }
}
