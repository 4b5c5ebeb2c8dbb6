//! How many there may be at once, of the whole proxy, of each database and of each user. Without a socket or a clock.
//!
//! [`Counts`] counts; [`Quota`] adds the pools that wait for room. Fairness: room goes to them in the order in which they
//! found none. A pool makes room for another one when it has nothing better to do with an upstream, when it has more
//! upstreams than the other one would have with it, or when the other one has none and has waited longer.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use policy::verdict::Limit;

/// How long a pool without any upstream waits before one of equals has to make room for it: moving one costs a login.
const PATIENCE: Duration = Duration::from_millis(250);

/// Most at once; 0: no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Of the whole proxy.
    pub proxy: usize,
    /// Of the database.
    pub database: usize,
    /// Of the user.
    pub user: usize,
}

/// Who is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The pool's number.
    pub pool: usize,
    /// Its database.
    pub database: Box<str>,
    /// Its user.
    pub user: Box<str>,
}

/// How many there are.
#[derive(Debug, Default)]
pub struct Counts {
    proxy: usize,
    databases: HashMap<Box<str>, usize>,
    users: HashMap<Box<str>, usize>,
}

impl Counts {
    /// Counts one more, unless a limit has been reached: that one is told.
    pub fn take(&mut self, claim: &Claim, limits: Limits) -> Result<(), Limit> {
        if let Some(reached) = self.reached(claim, limits) {
            return Err(reached);
        }
        self.proxy += 1;
        *self.databases.entry(claim.database.clone()).or_default() += 1;
        *self.users.entry(claim.user.clone()).or_default() += 1;
        Ok(())
    }

    /// Counts one less.
    pub fn give_back(&mut self, claim: &Claim) {
        self.proxy = self.proxy.saturating_sub(1);
        lower(&mut self.databases, &claim.database);
        lower(&mut self.users, &claim.user);
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.proxy
    }

    fn reached(&self, claim: &Claim, limits: Limits) -> Option<Limit> {
        let of = |counts: &HashMap<Box<str>, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
        let full = |count: usize, limit: usize| limit > 0 && count >= limit;
        match limits {
            Limits { user, .. } if full(of(&self.users, &claim.user), user) => Some(Limit::User(user)),
            Limits { database, .. } if full(of(&self.databases, &claim.database), database) => {
                Some(Limit::Database(database))
            }
            Limits { proxy, .. } if full(self.proxy, proxy) => Some(Limit::Proxy(proxy)),
            _ => None,
        }
    }
}

fn lower(counts: &mut HashMap<Box<str>, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

/// A pool that wants an upstream and may not have one yet.
#[derive(Debug, Clone)]
pub struct Hungry {
    /// Which one.
    pub claim: Claim,
    /// What keeps it from having one.
    pub limit: Limit,
    /// How many it had when it was last told so.
    pub open: usize,
    /// Since when.
    pub since: Instant,
}

impl Hungry {
    /// Whether an upstream of that pool, closed, would be room for this one.
    pub fn gains_from(&self, other: &Claim) -> bool {
        self.claim.pool != other.pool
            && match self.limit {
                Limit::Database(_) => self.claim.database == other.database,
                Limit::User(_) => self.claim.user == other.user,
                Limit::Proxy(_) => true,
                Limit::Pool(_) | Limit::Tenant(_) | Limit::Class(_) => false,
            }
    }
}

/// How many upstreams there are, and who waits for room.
#[derive(Debug, Default)]
pub struct Quota {
    counts: Counts,
    hungry: VecDeque<Hungry>,
}

impl Quota {
    /// Counts one more, for a pool that wants none urgently: it does not wait for room.
    pub fn take_spare(&mut self, claim: &Claim, limits: Limits) -> Result<(), Limit> {
        match self.hungry.iter().find(|hungry| hungry.gains_from(claim)) {
            Some(hungry) => Err(hungry.limit),
            None => self.counts.take(claim, limits),
        }
    }

    /// Counts one more for a pool that has `open`; if that may not be, the pool waits for room from now on. Nobody gets
    /// ahead of those who wait for the same room already.
    pub fn take(&mut self, claim: &Claim, limits: Limits, open: usize, now: Instant) -> Result<(), Limit> {
        let place = self.hungry.iter().position(|hungry| hungry.claim.pool == claim.pool);
        let ahead = self.hungry.iter().take(place.unwrap_or(usize::MAX)).find(|hungry| hungry.gains_from(claim));
        let taken = match ahead {
            Some(hungry) => Err(hungry.limit),
            None => self.counts.take(claim, limits),
        };
        match (taken, place.and_then(|place| self.hungry.get_mut(place))) {
            (Ok(()), _) => self.hungry.retain(|hungry| hungry.claim.pool != claim.pool),
            (Err(limit), Some(hungry)) => (hungry.limit, hungry.open) = (limit, open),
            (Err(limit), None) => self.hungry.push_back(Hungry { claim: claim.clone(), limit, open, since: now }),
        }
        taken
    }

    /// Counts one less.
    pub fn give_back(&mut self, claim: &Claim) {
        self.counts.give_back(claim);
    }

    /// A pool no longer wants an upstream.
    pub fn content(&mut self, pool: usize) {
        self.hungry.retain(|hungry| hungry.claim.pool != pool);
    }

    /// Whether anybody waits for room.
    pub fn is_wanted(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// Those who wait for room, in their order.
    pub fn hungry(&self) -> impl Iterator<Item = &Hungry> {
        self.hungry.iter()
    }

    /// Whether a pool with `open` upstreams, one of them free, should close that one for another pool. `since`: how long
    /// its own first client has been waiting for it; `None`: nobody does.
    pub fn should_yield(&self, claim: &Claim, open: usize, since: Option<Instant>, now: Instant) -> bool {
        self.hungry.iter().filter(|hungry| hungry.gains_from(claim)).any(|hungry| match since {
            None => true,
            Some(since) => {
                let longer = hungry.since < since && now.saturating_duration_since(hungry.since) >= PATIENCE;
                open > hungry.open + 1 || (hungry.open == 0 && longer)
            }
        })
    }

    /// How many upstreams there are in all.
    pub fn total(&self) -> usize {
        self.counts.total()
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn claim(pool: usize) -> Claim {
        // Four pools: two databases of two users each.
        Claim { pool, database: format!("d{}", pool / 2).into(), user: format!("u{}", pool % 2).into() }
    }

    #[test]
    fn the_limit_that_was_reached_is_told() {
        let mut counts = Counts::default();
        let limits = Limits { proxy: 3, database: 2, user: 1 };
        assert_eq!(counts.take(&claim(0), limits), Ok(()));
        assert_eq!(counts.take(&claim(0), limits), Err(Limit::User(1)));
        assert_eq!(counts.take(&claim(1), limits), Ok(()));
        assert_eq!(counts.take(&claim(1), Limits { user: 0, ..limits }), Err(Limit::Database(2)));
        assert_eq!(counts.take(&claim(2), Limits { user: 0, ..limits }), Ok(()));
        assert_eq!(counts.take(&claim(3), Limits { user: 0, ..limits }), Err(Limit::Proxy(3)));
        counts.give_back(&claim(0));
        assert_eq!(counts.take(&claim(3), Limits { user: 0, ..limits }), Ok(()));
        assert_eq!((counts.total(), counts.databases.len(), counts.users.len()), (3, 2, 2));
    }

    #[test]
    fn room_goes_to_those_who_wait_in_their_order() {
        let now = Instant::now();
        let mut quota = Quota::default();
        let limits = Limits { proxy: 1, ..Limits::default() };
        quota.take(&claim(0), limits, 0, now).unwrap();
        assert_eq!(quota.take(&claim(1), limits, 0, now), Err(Limit::Proxy(1)));
        assert_eq!(quota.take(&claim(2), limits, 0, now), Err(Limit::Proxy(1)));
        quota.give_back(&claim(0));
        assert_eq!(quota.take(&claim(2), limits, 0, now), Err(Limit::Proxy(1)), "the other one was first");
        assert_eq!(quota.take(&claim(0), limits, 0, now), Err(Limit::Proxy(1)));
        assert_eq!(quota.take(&claim(1), limits, 0, now), Ok(()));
        quota.content(2);
        assert_eq!(quota.hungry().map(|hungry| hungry.claim.pool).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_pool_makes_room_when_it_can_spare_one() {
        let now = Instant::now();
        let mut quota = Quota::default();
        let limits = Limits { proxy: 2, ..Limits::default() };
        quota.take(&claim(0), limits, 0, now).unwrap();
        quota.take(&claim(0), limits, 1, now).unwrap();
        assert!(!quota.should_yield(&claim(0), 2, None, now), "nobody wants it");
        assert!(quota.take(&claim(3), limits, 0, now).is_err());
        assert!(quota.should_yield(&claim(0), 1, None, now), "it does nothing with it");
        assert!(quota.should_yield(&claim(0), 2, Some(now), now), "it has more than its share");
        assert!(!quota.should_yield(&claim(0), 1, Some(now), now));
        let later = now + PATIENCE;
        assert!(quota.should_yield(&claim(0), 1, Some(later), later), "the other one has waited longer and has none");
        assert!(!quota.should_yield(&claim(3), 2, None, now), "not for itself");
    }

    #[test]
    fn room_in_one_database_is_made_by_its_own_pools_alone() {
        let now = Instant::now();
        let mut quota = Quota::default();
        let limits = Limits { database: 1, ..Limits::default() };
        quota.take(&claim(0), limits, 0, now).unwrap();
        assert_eq!(quota.take(&claim(1), limits, 0, now), Err(Limit::Database(1)));
        assert!(quota.should_yield(&claim(0), 1, None, now));
        assert!(!quota.should_yield(&claim(2), 1, None, now));
        assert_eq!(quota.take(&claim(2), limits, 0, now), Ok(()), "and is no matter to the others");
    }

    #[test]
    fn random_operations_keep_the_invariants() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut limit = || rng.random_range(0..4usize);
            let limits = Limits { proxy: limit() + limit(), database: limit(), user: limit() };
            let (mut quota, mut held, now) = (Quota::default(), [0usize; 4], Instant::now());
            for _ in 0..400 {
                let pool = rng.random_range(0..4);
                match rng.random_range(0..3) {
                    0 | 1 => {
                        if quota.take(&claim(pool), limits, held[pool], now).is_ok() {
                            held[pool] += 1;
                        }
                    }
                    _ if held[pool] > 0 => {
                        held[pool] -= 1;
                        quota.give_back(&claim(pool));
                    }
                    _ => quota.content(pool),
                }
                let within = |count: usize, limit: usize| limit == 0 || count <= limit;
                assert_eq!(quota.total(), held.iter().sum::<usize>(), "seed {seed}");
                assert!(within(quota.total(), limits.proxy), "seed {seed}");
                for (a, b) in [(0, 1), (2, 3)] {
                    assert!(within(held[a] + held[b], limits.database), "seed {seed}");
                }
                for (a, b) in [(0, 2), (1, 3)] {
                    assert!(within(held[a] + held[b], limits.user), "seed {seed}");
                }
                let mut waiting: Vec<_> = quota.hungry().map(|hungry| hungry.claim.pool).collect();
                waiting.sort_unstable();
                waiting.dedup();
                assert_eq!(waiting.len(), quota.hungry().count(), "seed {seed}: each waits once");
            }
        }
    }
}
