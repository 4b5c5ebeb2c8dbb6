//! Who holds which upstream of a pool, known to all threads without a lock.
//!
//! Each upstream has a mark. The worker that leases it writes whose it is there, and nobody is told: as long as nobody
//! waits, nothing is counted. When the first client begins to wait whom an upstream would help, the ledger reads all marks and
//! counts what runs. From then on each lease is counted as it is given. A client that waits for its own tenant's leases to
//! end, as it has as many as it may have, is none of these.
//!
//! | mark | written by | it becomes |
//! |---|---|---|
//! | free | | *held* when a worker leases it, on the way without the ledger · *counted* when the ledger grants it |
//! | held | its holder | *counted* when the ledger finds it · free when it is given back, and nobody is told |
//! | counted | the ledger, or its holder in its name | free when it is given back, and the ledger takes it off the count |
//!
//! Race window: the ledger counts a lease while its holder gives it back. Both change the same word in one step, so one of
//! them comes first: if the holder does, the ledger finds a free mark; if the ledger does, the holder finds a counted one
//! and takes the lock. A lease that is taken while the ledger reads may be missed: it is counted the next time, and until
//! then its tenant is charged too little. A tenant with a maximum is never counted that way: its leases are granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use policy::fair::Key;
use policy::tenant::TenantId;

/// Set where the ledger knows of the lease.
const COUNTED: u64 = 1 << 63;

/// Whose an upstream is, and since when.
#[derive(Debug, Default)]
pub struct Mark {
    /// 0: nobody's.
    who: AtomicU64,
    /// In µs since the pool was made.
    since_us: AtomicU64,
}

fn encode(key: Key) -> u64 {
    // Tenants have 32 bits.
    ((key.tenant.index() as u64) << 8 | u64::from(key.class)) + 1
}

fn decode(who: u64) -> Option<Key> {
    let who = (who & !COUNTED).checked_sub(1)?;
    Some(Key { tenant: TenantId::from_index((who >> 8) as u32), class: who as u8 })
}

impl Mark {
    /// A worker leases it, and the ledger is not told.
    #[inline]
    pub fn hold(&self, key: Key, since_us: u64) {
        self.since_us.store(since_us, Ordering::Relaxed);
        self.who.store(encode(key), Ordering::Release);
    }

    /// The ledger has granted it, and counts it.
    pub fn grant(&self, key: Key, since_us: u64) {
        self.since_us.store(since_us, Ordering::Relaxed);
        self.who.store(encode(key) | COUNTED, Ordering::Release);
    }

    /// Nobody holds it any more. Who did, and since when, if the ledger has to be told.
    #[inline]
    pub fn free(&self) -> Option<(Key, u64)> {
        let since_us = self.since_us.load(Ordering::Relaxed);
        let who = self.who.swap(0, Ordering::AcqRel);
        if who & COUNTED == 0 {
            return None;
        }
        decode(who).map(|key| (key, since_us))
    }

    /// The ledger looks: a lease that it does not count yet, and counts from now on.
    pub fn count(&self) -> Option<(Key, u64)> {
        let who = self.who.load(Ordering::Acquire);
        if who == 0 || who & COUNTED != 0 {
            return None;
        }
        let since_us = self.since_us.load(Ordering::Relaxed);
        self.who.compare_exchange(who, who | COUNTED, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        decode(who).map(|key| (key, since_us))
    }

    /// The lease goes on as another's. Whose it was, if the ledger has to be told.
    pub fn change(&self, to: Key) -> Option<Key> {
        let mut who = self.who.load(Ordering::Acquire);
        while who != 0 {
            match self.who.compare_exchange_weak(who, encode(to) | (who & COUNTED), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if who & COUNTED == 0 => return None,
                Ok(_) => return decode(who),
                Err(now) => who = now,
            }
        }
        None
    }

    /// Whose it is.
    pub fn holder(&self) -> Option<Key> {
        decode(self.who.load(Ordering::Acquire))
    }
}

/// The marks of a pool's upstreams.
#[derive(Debug, Default)]
pub struct Marks(Vec<Arc<Mark>>);

impl Marks {
    /// There is one more upstream.
    pub fn add(&mut self) -> Arc<Mark> {
        let mark = Arc::<Mark>::default();
        self.0.push(mark.clone());
        mark
    }

    /// An upstream is gone.
    pub fn remove(&mut self, mark: &Arc<Mark>) {
        if let Some(at) = self.0.iter().position(|other| Arc::ptr_eq(other, mark)) {
            self.0.swap_remove(at);
        }
    }

    /// The leases that were not counted yet, and are from now on: whose, and since when.
    pub fn count(&self) -> impl Iterator<Item = (Key, u64)> {
        self.0.iter().filter_map(|mark| mark.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: u32, class: u8) -> Key {
        Key { tenant: TenantId::from_index(tenant), class }
    }

    #[test]
    fn a_mark_names_every_tenant_and_class() {
        let mark = Mark::default();
        assert_eq!((mark.holder(), mark.count(), mark.free()), (None, None, None));
        for key in [key(0, 0), key(0, 255), key(7, 3), key(u32::MAX, 255)] {
            mark.hold(key, 5);
            assert_eq!((mark.holder(), mark.free()), (Some(key), None), "nobody is told");
            mark.hold(key, 6);
            assert_eq!((mark.count(), mark.count(), mark.free()), (Some((key, 6)), None, Some((key, 6))));
            mark.grant(key, 7);
            assert_eq!((mark.count(), mark.change(self::key(1, 1))), (None, Some(key)));
            assert_eq!((mark.free(), mark.holder()), (Some((self::key(1, 1), 7)), None));
            mark.hold(key, 8);
            assert_eq!((mark.change(self::key(1, 1)), mark.holder(), mark.free()), (None, Some(self::key(1, 1)), None));
        }
        assert_eq!((mark.change(key(1, 1)), mark.holder()), (None, None), "nobody holds it");
    }
}
