//! What is looked after as time passes, whether clients come or not: the minimum of each pool, pools that have ended, room
//! for pools that wait for it; and, as this wakes every second anyway, memory and the limits that were reached.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{dial, limits, memory};
use crate::login::target_of;
use crate::pool::Pool;
use crate::pool::quota::Hungry;
use crate::pool::tokens::{Attempt, Want};
use crate::shared::Shared;
use crate::telemetry::WorkerTelemetry;
use crate::worker::Mail;

/// How often pools are looked at.
const POOLS_EVERY: Duration = Duration::from_secs(1);
/// How often those are looked at that wait for room, besides when there is some.
const HUNGRY_EVERY: Duration = Duration::from_millis(100);

/// Keeps pools at their minimum, and forgets those that have ended.
pub(super) async fn pools(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>) {
    let mut told = limits::Told::new(Instant::now());
    loop {
        let now = Instant::now();
        memory::look(&shared);
        limits::tell(&shared, &mut told, now);
        make_known(&shared);
        for pool in shared.pools.all() {
            if pool.removed.load(Ordering::Relaxed) {
                end(&shared, &pool);
                continue;
            }
            while let Some(attempt) = Attempt::begin(&pool, Want::Minimum(pool.settings().min_size), now) {
                begin(&shared, &telemetry, attempt);
            }
        }
        for gone in shared.pools.forget_empty(now) {
            shared.forget(gone);
        }
        tokio::time::sleep(POOLS_EVERY).await;
    }
}

/// Makes the pools that have a minimum and need no client to be logged in for.
fn make_known(shared: &Arc<Shared>) {
    let settings = shared.settings();
    let kept = settings.databases.iter().filter(|(_, database)| database.pool.min_size > 0);
    for (database, user) in kept.flat_map(|(name, _)| settings.users.keys().map(move |user| (name, user))) {
        let target = target_of(&settings, database, user, None);
        if target.is_some_and(|(pool, target)| pool.min_size > 0 && target.credential.is_known()) {
            // Too many pools: those of clients go first.
            drop(shared.enter_pool(database, user, None));
        }
    }
}

/// The database of this pool was taken out of the configuration. Its clients have been told; with the last one it ends.
fn end(shared: &Arc<Shared>, pool: &Arc<Pool>) {
    if pool.members() == 0 {
        pool.servers.retire_all();
        shared.sweep(pool);
    }
}

/// Gives room to those who wait for it, in their order, and has some made where there is none.
pub(super) async fn room(shared: Arc<Shared>, telemetry: Rc<WorkerTelemetry>) {
    loop {
        if shared.room.is_wanted() {
            drop(tokio::time::timeout(HUNGRY_EVERY, shared.room.changed.notified()).await);
        } else {
            shared.room.changed.notified().await;
        }
        for hungry in shared.room.hungry() {
            feed(&shared, &telemetry, &hungry, Instant::now());
        }
    }
}

fn feed(shared: &Arc<Shared>, telemetry: &Rc<WorkerTelemetry>, hungry: &Hungry, now: Instant) {
    let Some(pool) = shared.pools.by_id(hungry.claim.pool) else {
        return shared.room.content(hungry.claim.pool);
    };
    if !pool.ledger().wants_dial(now) {
        return shared.room.content(pool.id);
    }
    match Attempt::begin(&pool, Want::Waiting, now) {
        Some(attempt) => begin(shared, telemetry, attempt),
        None => make_room(shared, hungry),
    }
}

/// Has an idle upstream closed: of the pool that has most beyond its minimum.
fn make_room(shared: &Arc<Shared>, hungry: &Hungry) {
    let others = shared.pools.all().into_iter().filter(|pool| hungry.gains_from(pool.claim()));
    let spare = |pool: &Arc<Pool>| pool.ledger().open() as i64 - pool.settings().min_size as i64;
    let richest = others.filter_map(|pool| Some((pool.idle_anywhere()?, pool))).max_by_key(|(_, pool)| spare(pool));
    if let Some((worker, pool)) = richest
        && shared.room.may_yield()
    {
        shared.send(worker, Mail::MakeRoom(pool));
    }
}

fn begin(shared: &Arc<Shared>, telemetry: &Rc<WorkerTelemetry>, attempt: Attempt) {
    let (shared, telemetry) = (shared.clone(), telemetry.clone());
    tokio::task::spawn_local(async move {
        let worker = shared.least_loaded();
        drop(dial(&shared, &telemetry, attempt, worker).await);
    });
}
