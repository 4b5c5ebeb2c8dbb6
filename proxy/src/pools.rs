//! The table of pools: which there are, which of their databases an operator has switched off, and how many clients they
//! may have.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::Pool;
use crate::pool::tokens::Member;

/// Database, user, and the startup parameter `replication`: who asks for it shares nothing with ordinary clients.
type Key = (Box<str>, Box<str>, Option<&'static str>);

/// Every pool, by database and user.
#[derive(Debug, Default)]
pub struct Pools(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<Key, Arc<Pool>>,
    /// Pools made so far: the next one's number.
    made: usize,
    all_paused: bool,
    paused: HashSet<Box<str>>,
    disabled: HashSet<Box<str>>,
}

/// Somebody has come into a pool.
#[derive(Debug)]
pub struct Entered {
    /// The pool's new client; `None`: there is no such database.
    pub member: Option<Member>,
    /// The number of the pool that gave way to this one: to be forgotten by whoever knows it.
    pub gone: Option<usize>,
}

/// There are as many pools as there may be, and each of them is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Pools {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool of a database and user, if there is one.
    pub fn find(&self, database: &str, user: &str) -> Option<Arc<Pool>> {
        self.lock().by_name.get(&(Box::from(database), Box::from(user), None)).cloned()
    }

    /// The pool of a database and user (and for replication, its parameter), for one more client; made from `make`, which gets its number, if there is none. An
    /// empty one gives way if there are `most` already. `None` from `make`: no such database.
    pub fn enter(
        &self,
        (database, user, replication): (&str, &str, Option<&'static str>),
        most: usize,
        make: impl FnOnce(usize) -> Option<Pool>,
    ) -> Result<Entered, Full> {
        let mut table = self.lock();
        let name = (Box::from(database), Box::from(user), replication);
        if let Some(pool) = table.by_name.get(&name) {
            let member = (!pool.removed.load(Ordering::Relaxed)).then(|| Member::new(pool));
            return Ok(Entered { member, gone: None });
        }
        let Some(pool) = make(table.made) else { return Ok(Entered { member: None, gone: None }) };
        let gone = match table.by_name.len() >= most {
            true => Some(table.give_way().ok_or(Full)?),
            false => None,
        };
        let mut pooled = table.by_name.values().filter(|other| other.replication.is_none());
        if let Some(sibling) = pooled.find(|other| other.is_of_same_database(&pool)) {
            pool.inspection.inherit(&sibling.inspection);
        }
        let pool = Arc::new(pool);
        if table.is_paused(database) {
            pool.ledger().pause();
        }
        table.made += 1;
        table.by_name.insert(name, pool.clone());
        Ok(Entered { member: Some(Member::new(&pool)), gone })
    }

    /// Forgets a pool that no server has let anybody into, unless somebody else is trying: whoever can connect chooses the
    /// names, and must not fill the memory with them. The caller is one of its members. `false`: it stays.
    pub fn forget_unknown(&self, pool: &Arc<Pool>) -> bool {
        let mut table = self.lock();
        let unused = pool.welcome().is_none() && pool.members() <= 1 && pool.ledger().open() == 0;
        unused && table.remove(pool)
    }

    /// Forgets the pools that have been empty for so long, or whose database is gone. Returns their numbers.
    pub fn forget_empty(&self, now: Instant) -> Vec<usize> {
        let mut table = self.lock();
        let over: Vec<_> = table.by_name.values().filter(|pool| has_ended(pool, now)).cloned().collect();
        over.iter().filter(|pool| table.remove(pool)).map(|pool| pool.id).collect()
    }

    /// Every pool.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.lock().by_name.values().cloned().collect()
    }

    /// Those of one database, or all of them.
    pub fn of(&self, database: Option<&str>) -> Vec<Arc<Pool>> {
        let mut pools = self.all();
        pools.retain(|pool| database.is_none_or(|name| *pool.database == *name));
        pools
    }

    /// The pool with this number.
    pub fn by_id(&self, id: usize) -> Option<Arc<Pool>> {
        self.lock().by_name.values().find(|pool| pool.id == id).cloned()
    }

    /// Pauses a database, or all of them: pools that come later too.
    pub fn pause(&self, database: Option<&str>) {
        let mut table = self.lock();
        match database {
            Some(name) => drop(table.paused.insert(name.into())),
            None => table.all_paused = true,
        }
        table.apply_pauses();
    }

    /// Ends the pause of a database; or every pause, that of single databases too. `false`: there was none.
    pub fn resume(&self, database: Option<&str>) -> bool {
        let mut table = self.lock();
        let was = match database {
            Some(name) => table.paused.remove(name),
            None => std::mem::take(&mut table.all_paused) | !std::mem::take(&mut table.paused).is_empty(),
        };
        table.apply_pauses();
        was
    }

    /// Whether a database gives no upstream out.
    pub fn is_paused(&self, database: &str) -> bool {
        self.lock().is_paused(database)
    }

    /// Whether every database is paused, those that nobody has asked for yet too.
    pub fn are_all_paused(&self) -> bool {
        self.lock().all_paused
    }

    /// Whether a database is paused, or all of them are.
    pub fn is_any_paused(&self) -> bool {
        let table = self.lock();
        table.all_paused || !table.paused.is_empty()
    }

    /// Lets new clients into a database, or not.
    pub fn set_disabled(&self, database: &str, disabled: bool) {
        let mut table = self.lock();
        if disabled {
            table.disabled.insert(database.into());
        } else {
            table.disabled.remove(database);
        }
    }

    /// Whether a database takes no new clients.
    pub fn is_disabled(&self, database: &str) -> bool {
        self.lock().disabled.contains(database)
    }
}

impl Table {
    fn is_paused(&self, database: &str) -> bool {
        self.all_paused || self.paused.contains(database)
    }

    fn apply_pauses(&self) {
        for pool in self.by_name.values() {
            if self.is_paused(&pool.database) {
                pool.ledger().pause();
            } else {
                pool.ledger().resume(Instant::now());
            }
            pool.changed.notify_waiters();
        }
    }

    fn remove(&mut self, pool: &Pool) -> bool {
        self.by_name.remove(&(pool.database.clone(), pool.user.clone(), pool.replication)).is_some()
    }

    /// Makes room by forgetting the pool that has been empty for longest. Returns its number.
    fn give_way(&mut self) -> Option<usize> {
        let empty = self.by_name.values().filter(|pool| is_empty(pool));
        let seen = |pool: &Pool| *pool.empty_since.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose emptiness nobody has seen yet is the last to go.
        let oldest = empty.min_by_key(|pool| (seen(pool).is_none(), seen(pool))).cloned();
        oldest.filter(|pool| self.remove(pool)).map(|pool| pool.id)
    }
}

/// Nobody is in it, and it is connected to nothing.
fn is_empty(pool: &Pool) -> bool {
    pool.members() == 0 && pool.ledger().open() == 0
}

/// Whether a pool has been empty for as long as its settings say; notes since when it is.
fn has_ended(pool: &Pool, now: Instant) -> bool {
    let mut since = pool.empty_since.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_empty(pool) {
        *since = None;
        return false;
    }
    let since = *since.get_or_insert(now);
    let timeout = pool.settings().empty_timeout;
    let expired = timeout > Duration::ZERO && now.saturating_duration_since(since) >= timeout;
    expired || pool.removed.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::testing;
    use crate::pool::tokens::{Attempt, Want};

    fn make(id: usize, user: &str) -> Pool {
        let settings = config::Pool { empty_timeout: Duration::from_secs(10), ..testing::settings() };
        testing::pool(id, user, settings)
    }

    fn enter(pools: &Pools, user: &str, most: usize) -> Result<Member, Full> {
        pools.enter(("shop", user, None), most, |id| Some(make(id, user))).map(|entered| entered.member.unwrap())
    }

    #[test]
    fn a_pool_that_no_server_has_let_anybody_into_is_forgotten_once_nobody_tries() {
        let pools = Pools::default();
        let pool = enter(&pools, "anna", 9).unwrap();
        let another_login = enter(&pools, "anna", 9).unwrap();
        assert!(!pools.forget_unknown(&pool), "somebody else is still trying");
        drop(another_login);
        pool.set_welcome(Arc::default());
        assert!(!pools.forget_unknown(&pool), "its server lets this user in");
        let unknown = enter(&pools, "bob", 9).unwrap();
        assert!(pools.forget_unknown(&unknown));
        assert_eq!(pools.all().len(), 1);
    }

    #[test]
    fn an_empty_pool_is_forgotten_after_its_time_and_gives_way_to_a_new_one() {
        let (pools, now) = (Pools::default(), Instant::now());
        let anna = enter(&pools, "anna", 2).unwrap();
        drop(enter(&pools, "bob", 2).unwrap());
        assert!(pools.forget_empty(now).is_empty());
        assert!(enter(&pools, "carl", 2).is_ok(), "in place of bob's");
        assert_eq!(pools.by_id(1).map(|pool| pool.user.clone()), None);
        let carl = enter(&pools, "carl", 2).unwrap();
        assert_eq!(enter(&pools, "dora", 2).unwrap_err(), Full);
        drop((anna, carl));
        assert!(pools.forget_empty(now).is_empty());
        let mut gone = pools.forget_empty(now + Duration::from_secs(10));
        gone.sort_unstable();
        assert_eq!(gone, [0, 2]);
    }

    #[test]
    fn a_pool_with_an_attempt_under_way_is_not_empty() {
        let (pools, now) = (Pools::default(), Instant::now());
        let anna = enter(&pools, "anna", 1).unwrap();
        let attempt = Attempt::begin(&anna, Want::Minimum(1), now);
        drop(anna);
        assert!(enter(&pools, "bob", 1).is_err());
        drop(attempt);
        assert!(enter(&pools, "bob", 1).is_ok());
    }

    #[test]
    fn a_pause_holds_for_pools_that_come_later_until_it_is_ended() {
        let pools = Pools::default();
        pools.pause(Some("shop"));
        let anna = enter(&pools, "anna", 9).unwrap();
        assert!(anna.ledger().is_paused() && pools.is_paused("shop") && !pools.is_paused("other"));
        pools.pause(None);
        assert!(pools.resume(Some("shop")));
        assert!(anna.ledger().is_paused(), "all are paused still");
        assert!(pools.resume(None) && !anna.ledger().is_paused() && !pools.resume(None));
    }
}
