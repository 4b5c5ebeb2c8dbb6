//! Looks the names of servers up anew while connections to them are open: what a name stands for changes when a server
//! fails over, and nothing else tells of it as long as the old server answers.
//!
//! A server whose address is no longer among those of its name is retired. A name that nobody can tell anything of, or that
//! has no address, retires nothing: a name server that is down must not take the database with it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pool::Pool;
use crate::shared::Shared;

/// How often it is looked whether it is time, at least: a reload may have changed how long names are believed.
const LOOK: Duration = Duration::from_secs(3);
/// How long one name may take to look up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks names up as long as the process lives.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut last = Instant::now();
    loop {
        let every = shared.settings().dns_max_ttl;
        let pause = if every.is_zero() { LOOK } else { every.saturating_sub(last.elapsed()).min(LOOK) };
        // Never a busy loop.
        tokio::time::sleep(pause.max(Duration::from_millis(1))).await;
        if !every.is_zero() && last.elapsed() >= every {
            last = Instant::now();
            look(&shared).await;
        }
    }
}

async fn look(shared: &Arc<Shared>) {
    let mut users: BTreeMap<String, Vec<Arc<Pool>>> = BTreeMap::new();
    for pool in shared.pools.all() {
        for server in pool.servers.in_use().iter().filter(|server| server.is_named()) {
            let pools = users.entry(server.host.name.clone()).or_default();
            if pools.last().is_none_or(|last| last.id != pool.id) {
                pools.push(pool.clone());
            }
        }
    }
    for server in shared.listeners.servers().iter().filter(|server| server.is_named()) {
        users.entry(server.host.name.clone()).or_default();
    }
    let names = users.into_iter().map(|(name, pools)| {
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            match tokio::time::timeout(PATIENCE, shared.names.look_up(&name)).await {
                Ok(Ok(found)) => {
                    pools.iter().for_each(|pool| leave(&shared, pool, &name, &found));
                    shared.listeners.leave(|server| server.has_left(&name, &found));
                }
                Ok(Err(error)) => tracing::warn!(host = name, %error, "a server's name cannot be looked up anew"),
                Err(_) => tracing::warn!(host = name, "looking a server's name up anew takes too long"),
            }
        })
    });
    for looked in names.collect::<Vec<_>>() {
        drop(looked.await);
    }
}

/// Has a pool leave those of its servers that the name no longer stands for.
fn leave(shared: &Shared, pool: &Arc<Pool>, name: &str, found: &[IpAddr]) {
    let left = pool.servers.retire(|server| server.has_left(name, found));
    if left > 0 {
        tracing::info!(
            host = name, database = %pool.database, user = %pool.user, servers = left,
            "the name stands for another address now: connections to the old one end at their next boundary"
        );
        shared.sweep(pool);
    }
}
