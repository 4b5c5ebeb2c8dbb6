//! Ends a server process that no cancel has brought back.
//!
//! Closing the connection does not: a process looks at its client when it has something to say, and a statement that
//! catches its cancels may never have. Each such one would be a server process besides all that are counted, and a client
//! could leave as many behind as it likes. So another connection of the same user has it terminated, and its place in the
//! pool is taken until it is gone, or cannot be told to go.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Upstream;
use crate::aside::Kind;
use crate::inspect::Session;
use crate::pool::LocalPool;
use crate::telemetry::CloseReason;
use crate::worker::Worker;

/// How long all of it may take, login included. Then the place is given back whatever has become of the process.
const PATIENCE: Duration = Duration::from_secs(3);
/// Connections for this at once.
const AT_ONCE: usize = 4;
/// Between looks whether there is room for one, and whether the process is gone.
const PAUSE: Duration = Duration::from_millis(50);

/// Has the process terminated in a task of its own, and closes the upstream then.
pub fn end(worker: &Rc<Worker>, pool: &Rc<LocalPool>, upstream: Box<Upstream>) {
    let (worker, pool) = (worker.clone(), pool.clone());
    tokio::task::spawn_local(async move {
        drop(tokio::time::timeout(PATIENCE, terminate(&worker, &pool, &upstream)).await);
        worker.close(&pool, upstream, CloseReason::Overdue);
    });
}

async fn terminate(worker: &Worker, pool: &LocalPool, upstream: &Upstream) {
    let (process, shared) = (upstream.cancel.process, &worker.shared);
    // Nobody else's: not of a process that has come to this number later.
    let age = Instant::now().saturating_duration_since(upstream.opened).saturating_sub(Duration::from_secs(1));
    let mut session = loop {
        if shared.aside.of(Kind::Termination) < AT_ONCE
            && let Some(session) = Session::open(shared, &pool.shared, Kind::Termination).await
        {
            break session;
        }
        tokio::time::sleep(PAUSE).await;
    };
    let place = |server: &super::server::Server| (server.host.clone(), server.address.clone());
    if place(session.server()) != place(&upstream.cancel.server) || session.prepare().await.is_err() {
        return;
    }
    let own = format!(
        "FROM pg_stat_activity WHERE pid = {process} AND backend_start <= clock_timestamp() - interval '{} s'",
        age.as_secs()
    );
    if session.rows(&format!("SELECT pg_terminate_backend(pid) {own}")).await.is_err() {
        return;
    }
    while session.rows(&format!("SELECT pid {own}")).await.is_ok_and(|rows| !rows.is_empty()) {
        tokio::time::sleep(PAUSE).await;
    }
}
