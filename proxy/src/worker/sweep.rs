//! What a worker looks after as time passes. No timer per query: one sweep for all sessions that have a deadline.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Worker;
use crate::control::Order;
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
        for (_, ctl) in worker.active.borrow().iter() {
            if !ctl.due.get() && ctl.deadline.get().is_some_and(|deadline| deadline <= now) {
                ctl.due.set(true);
                ctl.wake();
            }
        }
    }
}

/// Closes idle upstreams that are spent or dead and keeps the minimum open.
pub(super) async fn idle_upstreams(worker: Rc<Worker>) {
    loop {
        tokio::time::sleep(IDLE_EVERY).await;
        let now = Instant::now();
        let pools: Vec<_> = worker.pools.borrow().values().cloned().collect();
        for pool in pools {
            let open = pool.shared.ledger().open();
            let over = pool.shared.ledger().is_over();
            let spent = pool.take_out(|upstream| pool.is_spent(upstream, now, open) || over);
            for upstream in spent {
                let reason = if upstream.is_expired(now) { CloseReason::Lifetime } else { CloseReason::Idle };
                worker.close(&pool, upstream, reason);
            }
            for upstream in pool.take_out(|upstream| !upstream.is_alive()) {
                worker.close(&pool, upstream, CloseReason::ServerClosed);
            }
            let minimum = pool.settings().min_size;
            if pool.shared.ledger().dial_for_minimum(minimum, now) {
                worker.order(Order::Dial(pool.shared.clone(), worker.index));
            }
            if pool.shared.inspection.is_due(now, pool.shared.welcome().is_some()) {
                worker.order(Order::Inspect(pool.shared.clone()));
            }
            if pool.shared.has_waiters() {
                worker.dial_again(&pool, now);
            }
        }
    }
}
