//! Tokens that count: each gives back what it stands for when it ceases to exist, whatever ended it. So no way of losing
//! an upstream, an attempt or a client can make a pool smaller or a limit lower. Their `Drop` does arithmetic and wakes
//! those who wait for its result, nothing else.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use policy::fair::{Claim, Key};

use super::Pool;
use super::ledger::{Grant, Ticket};
use super::marks::Mark;
use super::room::Slot;
use crate::upstream::server::Server;

/// Why another upstream is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Somebody waits.
    Waiting,
    /// Fewer than so many are open.
    Minimum(usize),
}

/// Nobody is to be connected to a pool's database without need, for as long as this exists.
#[derive(Debug)]
pub struct Vacancy(Arc<Pool>);

impl Vacancy {
    /// From now on.
    pub fn of(pool: &Arc<Pool>) -> Self {
        pool.ledger().vacate();
        Self(pool.clone())
    }
}

impl Drop for Vacancy {
    fn drop(&mut self) {
        self.0.ledger().occupy();
    }
}

/// An attempt to connect, which the pool's ledger counts.
#[derive(Debug)]
pub struct Attempt {
    pool: Arc<Pool>,
    /// `None`: it has ended, and is accounted for.
    slot: Option<Slot>,
    /// Of the pool's servers, when it began.
    generation: u64,
}

impl Attempt {
    /// Begins one if it is wanted, and if there is room within all limits.
    pub fn begin(pool: &Arc<Pool>, want: Want, now: Instant) -> Option<Self> {
        let generation = pool.servers.generation();
        let mut ledger = pool.ledger();
        let slot = match want {
            Want::Waiting if ledger.wants_dial(now) => pool.room.take(&pool.claim, pool.limits(), ledger.open(), now),
            Want::Minimum(minimum) if ledger.wants_minimum(minimum, now) => {
                pool.room.take_spare(&pool.claim, pool.limits())
            }
            _ => return None,
        };
        match slot {
            Ok(slot) => {
                ledger.begin_dial();
                Some(Self { pool: pool.clone(), slot: Some(slot), generation })
            }
            Err(limit) => {
                ledger.fall_short(limit);
                None
            }
        }
    }

    /// Whose it is.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// It reached this server. Returns the upstream's place, and the client that it goes to.
    pub fn succeed(mut self, server: Arc<Server>, now: Instant) -> (Option<Berth>, Option<Ticket>) {
        let server = self.pool.servers.adopt(server, self.generation);
        let (mark, grant) = {
            let mut ledger = self.pool.ledger();
            (ledger.moor(), ledger.dialled(now))
        };
        let slot = self.slot.take();
        self.pool.changed.notify_waiters();
        let berth = slot.map(|slot| Berth { pool: self.pool.clone(), server, mark, _slot: slot });
        if let (Some(berth), Some(grant)) = (&berth, grant) {
            berth.grant(grant, now);
        }
        (berth, grant.map(|grant| grant.ticket))
    }

    /// It failed. Returns the clients that have nothing left to wait for.
    pub fn fail(mut self, now: Instant, jitter: f64) -> Vec<Ticket> {
        let lost = self.pool.ledger().dial_failed(now, jitter);
        drop(self.slot.take());
        self.pool.changed.notify_waiters();
        lost
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.pool.ledger().dial_abandoned();
            self.pool.changed.notify_waiters();
        }
    }
}

/// The place in a pool's count that one upstream takes.
#[derive(Debug)]
pub struct Berth {
    pool: Arc<Pool>,
    server: Arc<Server>,
    mark: Arc<Mark>,
    _slot: Slot,
}

impl Berth {
    /// The server that the upstream is connected to.
    #[inline]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// It is leased, and nobody else is told: as long as nobody waits, and the tenant has no maximum.
    #[inline]
    pub fn hold(&self, key: Key, now: Instant) {
        self.mark.hold(key, self.pool.micros(now));
        if self.pool.needs_attention() {
            self.count(now);
        }
    }

    /// Somebody waits: what is leased counts.
    #[cold]
    fn count(&self, now: Instant) {
        self.pool.ledger().count_lease(&self.mark, now);
    }

    /// Its pool's ledger has given it to somebody, and counts it.
    pub fn grant(&self, grant: Grant, now: Instant) {
        self.mark.grant(grant.key, self.pool.micros(now));
    }

    /// It is leased, and was counted before ([`super::ledger::Ledger::take`]).
    pub fn take(&self, key: Key, now: Instant) {
        self.mark.grant(key, self.pool.micros(now));
    }

    /// The lease goes on as another's, or as one that has to be counted now. Its maximum does not stop what runs already.
    pub fn transfer(&self, claim: &Claim, now: Instant) {
        let from = self.mark.change(claim.key);
        let counts = from.is_some() || claim.is_counted();
        if !counts {
            return;
        }
        let mut ledger = self.pool.ledger();
        match from {
            Some(from) if from == claim.key => {}
            Some(from) => ledger.transfer(from, claim.key, now),
            None => ledger.count_leases(now),
        }
    }

    /// The lease has ended.
    #[inline]
    pub fn free(&self, now: Instant) {
        if let Some((key, since_us)) = self.mark.free() {
            self.pool.ledger().release(key, since_us, now);
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.pool.servers.left(&self.server);
        {
            let mut ledger = self.pool.ledger();
            ledger.unmoor(&self.mark, Instant::now());
            ledger.closed();
        }
        self.pool.changed.notify_waiters();
    }
}

/// A client of a pool, from its login on: the pool is not forgotten as long as it has any.
#[derive(Debug)]
pub struct Member(Arc<Pool>);

impl Member {
    /// To be made under the lock of the table of pools, which is where pools are forgotten.
    pub fn new(pool: &Arc<Pool>) -> Self {
        pool.members.fetch_add(1, Ordering::Relaxed);
        Self(pool.clone())
    }
}

impl Deref for Member {
    type Target = Arc<Pool>;

    fn deref(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.members.fetch_sub(1, Ordering::Relaxed);
    }
}
