//! What a worker looks after as time passes. No timer per query: one sweep for all sessions that have a deadline.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::control::Order;
use crate::pool::LocalPool;
use crate::telemetry::CloseReason;

/// How often deadlines are looked at while any session has one.
const DEADLINES_EVERY: Duration = Duration::from_millis(50);
/// How often idle upstreams are looked at.
const IDLE_EVERY: Duration = Duration::from_secs(1);

/// Wakes the sessions whose deadline has passed; sleeps while there is none.
pub(super) async fn deadlines(worker: Rc<Worker>) {
    loop {
        if worker.active.borrow().is_empty() {
            worker.sweep.notified().await;
        }
        tokio::time::sleep(DEADLINES_EVERY).await;
        let now = Instant::now();
        worker.active.borrow_mut().retain(|_, ctl| {
            let deadline = ctl.deadline.get();
            if !ctl.due.get() && deadline.is_some_and(|deadline| deadline <= now) {
                ctl.due.set(true);
                ctl.wake();
            }
            ctl.active.set(deadline.is_some());
            deadline.is_some()
        });
    }
}

/// Looks after idle upstreams.
pub(super) async fn idle_upstreams(worker: Rc<Worker>) {
    // Kept from one round to the next: a worker that only runs known statements takes nothing from the heap.
    let mut pools = Vec::with_capacity(16);
    loop {
        tokio::time::sleep(IDLE_EVERY).await;
        let now = Instant::now();
        open_transactions(&worker, now);
        pools.extend(worker.pools.borrow().values().cloned());
        for pool in pools.drain(..) {
            idle_of(&worker, &pool, now);
            if pool.shared.inspection.is_due(now, pool.shared.welcome().is_some()) {
                worker.order(Order::Inspect(pool.shared.clone()));
            }
            if pool.shared.needs_attention() {
                worker.dial_again(&pool, now);
            }
        }
    }
}

/// Wakes the sessions that may have something to tell about their transaction. They are walked only when one of them may
/// be due: what idle clients remember has left the processor's caches, and to fetch it for 5,000 of them once a second
/// cost 1.5 % of a core.
fn open_transactions(worker: &Worker, now: Instant) {
    let now_us = worker.micros(now);
    if now_us < worker.tell_us.get() {
        return;
    }
    let mut next = u64::MAX;
    for ctl in worker.sessions.borrow().values() {
        if ctl.tell_us.get() <= now_us {
            ctl.tell_us.set(u64::MAX);
            ctl.tells.set(true);
            ctl.wake();
        }
        next = next.min(ctl.tell_us.get());
    }
    worker.tell_us.set(next);
}

/// Closes what of a pool's idle upstreams here is spent, dead, or more than the pool may keep.
pub(super) fn idle_of(worker: &Worker, pool: &Rc<LocalPool>, now: Instant) {
    let mut open = pool.shared.ledger().open();
    let spent = pool.take_out(|upstream| {
        let spent = pool.is_spent(upstream, now, open);
        open = open.saturating_sub(usize::from(spent));
        spent
    });
    for upstream in spent {
        if upstream.is_expired(now) {
            worker.close_expired(pool, upstream);
        } else {
            worker.close(pool, upstream, CloseReason::Idle);
        }
    }
    for upstream in pool.take_out(|upstream| !upstream.is_alive()) {
        worker.close(pool, upstream, CloseReason::ServerClosed);
    }
    let leaving = pool.shared.ledger().leave(pool.idle());
    let mut left = leaving;
    let surplus = pool.take_out(|_| {
        let over = left > 0;
        left = left.saturating_sub(1);
        over
    });
    for upstream in surplus {
        worker.close(pool, upstream, CloseReason::Retired);
    }
    pool.shared.ledger().left(leaving);
}
