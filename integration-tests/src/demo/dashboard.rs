//! The dashboard: pages whose first query is followed by one more query for each of its rows, spread over the
//! connections of the web server's pool, as `Promise.all` over a pooled driver does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Error;

use super::crew::Clock;
use super::session::Session;
use super::tally::Shape;

/// The newest runs; the page asks for the steps of each.
pub const RUNS: &str = "SELECT id, workflow_id, state, tenant_id FROM runs ORDER BY created_at DESC LIMIT 25";
/// The steps of one run: the child of [`RUNS`].
pub const STEPS_OF_RUN: &str =
    "SELECT id, name, state, duration_ms, tenant_id FROM steps WHERE run_id = $1 ORDER BY id";
/// The workflows; the page asks for the owner of each and counts its failed runs.
pub const WORKFLOWS: &str = "SELECT id, owner_id, name, tenant_id FROM workflows ORDER BY updated_at DESC LIMIT 20";
/// The owner of one workflow: a child of [`WORKFLOWS`].
pub const OWNER: &str = "SELECT name, email, tenant_id FROM users WHERE id = $1";
/// Failed runs of one workflow: the other child of [`WORKFLOWS`].
pub const FAILED_RUNS: &str = "SELECT count(*), min(tenant_id) FROM runs WHERE workflow_id = $1 AND state = 'failed'";

/// What happened, by kind: reads all events of the tenant.
pub const EVENTS: &str = "SELECT kind, count(*), min(tenant_id) FROM events GROUP BY kind ORDER BY kind";
/// How much was logged, by level: reads all of the tenant's logs.
pub const LEVELS: &str = "SELECT level, count(*), min(tenant_id) FROM logs GROUP BY level ORDER BY level";
/// The newest warnings.
pub const WARNINGS: &str = "SELECT id, message, tenant_id FROM logs WHERE level = 'warn' ORDER BY at DESC LIMIT 20";

/// Which pages there are to look at, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// Runs and workflows, each of which asks for more for each of its rows.
    Rows,
    /// These, and an overview of events and logs.
    All,
}

/// Serves one tenant's pages until the clock stops, each to be looked at for so long.
pub async fn serve(pool: Vec<Arc<Session>>, pages: Pages, pause: Duration, clock: Clock) {
    let Some(first) = pool.first().cloned() else { return };
    let kinds = if pages == Pages::All { 3 } else { 2 };
    let mut page = 0_usize;
    while clock.runs() {
        let served = match page % kinds {
            0 => runs_page(&first, &pool).await,
            1 => workflows_page(&first, &pool).await,
            _ => overview_page(&first).await,
        };
        match served {
            Ok(()) => first.tally().count(|figures| figures.pages += 1),
            Err(error) => first.tally().failed("dashboard", &error),
        }
        page += 1;
        clock.pause(pause).await;
    }
}

async fn runs_page(first: &Session, pool: &[Arc<Session>]) -> Result<(), Error> {
    let runs = first.own_rows(Shape::Page, RUNS, &[]).await?;
    spread(pool, STEPS_OF_RUN, runs.iter().map(|run| run.get(0)).collect()).await
}

async fn workflows_page(first: &Session, pool: &[Arc<Session>]) -> Result<(), Error> {
    let workflows = first.own_rows(Shape::Page, WORKFLOWS, &[]).await?;
    spread(pool, OWNER, workflows.iter().map(|workflow| workflow.get(1)).collect()).await?;
    spread(pool, FAILED_RUNS, workflows.iter().map(|workflow| workflow.get(0)).collect()).await
}

async fn overview_page(first: &Session) -> Result<(), Error> {
    for sql in [EVENTS, LEVELS, WARNINGS] {
        first.own_rows(Shape::Page, sql, &[]).await?;
    }
    Ok(())
}

/// Runs one statement for each id, on as many connections as the pool has: each takes the next id when it is free.
async fn spread(pool: &[Arc<Session>], sql: &'static str, ids: Vec<i32>) -> Result<(), Error> {
    let ids: Arc<[i32]> = ids.into();
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for session in pool {
        let (session, ids, next) = (Arc::clone(session), Arc::clone(&ids), Arc::clone(&next));
        lanes.spawn(async move {
            while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                session.own_rows(Shape::PageChild, sql, &[id]).await?;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        // Lanes are never cancelled: what ends one without a result is a panic, and that is not for a page to hide.
        lane.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))?;
    }
    Ok(())
}
