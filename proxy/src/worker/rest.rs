//! Process ids are not told twice in a row.
//!
//! A client in session mode is told the process id of its server. When it has left, somebody may still mean it by that
//! number: an operator's `pg_terminate_backend`, a pool that compares ids to find out whether it got a new connection.
//! PostgreSQL gives the number to nobody else for a while. So its server rests before another client gets it, as long as
//! the pool has room for another one: whoever finds none is given one that rests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Mail, Worker};
use crate::pool::{LocalPool, Pool};
use crate::upstream::Upstream;

/// For how long.
const REST: Duration = Duration::from_secs(1);

impl Worker {
    /// Takes back an upstream whose process id a client was told.
    pub fn rest(self: &Rc<Self>, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
        upstream.free(Instant::now());
        let needed = {
            let ledger = pool.shared.ledger();
            ledger.lacks_dials() || ledger.is_vacated() || ledger.is_paused()
        };
        if needed {
            return self.check_in(pool, upstream, Instant::now());
        }
        let id = upstream.id;
        self.resting.borrow_mut().push((pool.clone(), upstream));
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(REST).await;
            worker.wake_resting(|_, upstream| upstream.id == id);
        });
    }

    /// Clients wait, and no connection is being made for one of them: those that rest are needed.
    pub(super) fn wake_if_needed(self: &Rc<Self>, pool: &Arc<Pool>) {
        if !self.resting.borrow().is_empty() && pool.ledger().lacks_dials() {
            self.wake_resting(|other, _| other.shared.id == pool.id);
        }
    }

    /// None of this pool's rests any longer.
    pub(super) fn wake_all(self: &Rc<Self>, pool: &LocalPool) {
        self.wake_resting(|other, _| other.shared.id == pool.shared.id);
    }

    /// The same on all workers.
    pub(super) fn wake_everywhere(self: &Rc<Self>, pool: &Arc<Pool>) {
        if !pool.ledger().lacks_dials() {
            return;
        }
        self.wake_if_needed(pool);
        for worker in (0..self.shared.workers.len()).filter(|worker| *worker != self.index) {
            self.shared.send(worker, Mail::Share(pool.clone()));
        }
    }

    fn wake_resting(self: &Rc<Self>, meant: impl Fn(&LocalPool, &Upstream) -> bool) {
        let rested: Vec<_> =
            self.resting.borrow_mut().extract_if(.., |(pool, upstream)| meant(pool, upstream)).collect();
        for (pool, upstream) in rested {
            self.check_in(&pool, upstream, Instant::now());
        }
    }
}
