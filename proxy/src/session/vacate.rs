//! Statements that need a database to themselves: DROP DATABASE and its like.
//!
//! PostgreSQL waits up to 5 s for everybody else to leave, and then refuses (55006). Idle upstreams would keep it from that
//! long after their clients have gone, so they are closed, once the statement has run for so long that it must be waiting:
//! whoever is not allowed to drop a database is told so at once, and closes nothing.
//!
//! Only while the server is at that very statement: what a client sends before or behind it may take as long as it likes,
//! and has nobody leave. And only where it runs: a database of the same name on another server is another database.

use std::time::Duration;

use tokio::sync::oneshot;
use wire::pipeline::{Awaited, Fate};

use super::Session;
use crate::pool::tokens::Vacancy;
use crate::upstream::Upstream;

/// How long such a statement has to run before anybody leaves for it.
const WAITS: Duration = Duration::from_millis(100);
/// How long they stay away: for a little longer than PostgreSQL waits for them.
const AWAY: Duration = Duration::from_secs(6);

impl Session {
    /// Messages were sent, or replies have come: the server may have come to a statement that needs databases to itself.
    #[cold]
    pub(super) fn vacate(&self, upstream: &mut Upstream) {
        let databases = needed(upstream);
        if databases.is_empty() || upstream.work.vacating.is_some() {
            return;
        }
        let (running, mut over) = oneshot::channel();
        upstream.work.vacating = Some(running);
        let (shared, server) = (self.worker.shared.clone(), upstream.cancel.server.clone());
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(WAITS, &mut over).await.is_ok() {
                return;
            }
            let meant = |name: &str| databases.iter().any(|database| **database == *name.as_bytes());
            let mut pools = shared.pools.all();
            pools.retain(|pool| {
                let is_there = || pool.servers.in_use().iter().any(|used| used.address == server.address);
                meant(&pool.target().database) && is_there()
            });
            let vacancies: Vec<Vacancy> = pools.iter().map(Vacancy::of).collect();
            pools.iter().for_each(|pool| shared.sweep(pool));
            // It ends when the statement does, whatever ended that.
            drop(tokio::time::timeout(AWAY, over).await);
            drop(vacancies);
        });
    }
}

/// The databases that others have to leave for the statement that the server is at.
fn needed(upstream: &Upstream) -> Vec<Box<[u8]>> {
    let is_at_it = upstream
        .pipeline
        .head()
        .is_some_and(|owed| owed.fate == Fate::Forward && matches!(owed.awaited, Awaited::Query | Awaited::Execute));
    let Some(running) = upstream.work.running.front().filter(|running| is_at_it && running.error.is_none()) else {
        return Vec::new();
    };
    let all = running.known.script.iter().flat_map(|script| &script.vacates);
    all.filter(|(place, _)| *place == running.part).map(|(_, database)| database.clone()).collect()
}
