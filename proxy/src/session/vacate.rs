//! Statements that need a database to themselves: DROP DATABASE and its like.
//!
//! PostgreSQL waits up to 5 s for everybody else to leave, and then refuses (55006). Idle upstreams would keep it from that
//! long after their clients have gone, so they are closed, once the statement has run for so long that it must be waiting:
//! whoever is not allowed to drop a database is told so at once, and closes nothing.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Session;
use super::script::Script;
use crate::pool::tokens::Vacancy;
use crate::upstream::Upstream;

/// How long such a statement has to run before anybody leaves for it.
const WAITS: Duration = Duration::from_millis(100);

impl Session {
    /// A statement is on its way that needs databases to itself.
    #[cold]
    pub(super) fn vacate(&self, upstream: &mut Upstream, script: &Script) {
        let (running, mut over) = oneshot::channel();
        upstream.work.vacating = Some(running);
        let (shared, databases) = (self.worker.shared.clone(), script.vacates.clone());
        tokio::task::spawn_local(async move {
            if tokio::time::timeout(WAITS, &mut over).await.is_ok() {
                return;
            }
            let meant = |name: &str| databases.iter().any(|database| **database == *name.as_bytes());
            let pools: Vec<_> = shared.pools.all().into_iter().filter(|pool| meant(&pool.target().database)).collect();
            let vacancies: Vec<Vacancy> = pools.iter().map(Vacancy::of).collect();
            pools.iter().for_each(|pool| shared.sweep(pool));
            // It ends when the request does, whatever ended that.
            let _: Result<(), _> = over.await;
            drop(vacancies);
        });
    }
}
