//! The engine itself: webhooks that start runs, workers that poll the queue and write steps, live logs, searches and
//! exports. Each function is one client's life until the clock stops.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio_postgres::Error;

use super::crew::Clock;
use super::session::Session;
use super::tally::Shape;

/// Takes the next job that nobody else holds.
pub const POLL: &str = "UPDATE jobs SET state = 'running', locked_by = $1 WHERE id = (SELECT id FROM jobs \
     WHERE state = 'queued' AND run_at <= now() ORDER BY priority, id LIMIT 1 FOR UPDATE SKIP LOCKED) \
     RETURNING id, run_id, tenant_id";
/// The search that no index helps.
pub const SEARCH: &str =
    "SELECT id, run_id, message, tenant_id FROM logs WHERE message ILIKE $1 ORDER BY at DESC LIMIT 50";

const NEW_STEP: &str =
    "INSERT INTO steps (run_id, name, state, duration_ms) VALUES ($1, $2, 'succeeded', $3) RETURNING id, tenant_id";
const NEW_EVENT: &str = "INSERT INTO events (run_id, step_id, kind, payload) VALUES ($1, $2, $3, '{\"attempt\": 1}')";
const NEW_LOG: &str = "INSERT INTO logs (run_id, level, message) VALUES ($1, 'info', $2)";
const FINISH_RUN: &str = "UPDATE runs SET state = 'succeeded' WHERE id = $1";
const FINISH_JOB: &str = "DELETE FROM jobs WHERE id = $1";
const WEBHOOK: &str = "SELECT workflow_id, secret, tenant_id FROM webhooks WHERE id = $1";
const NEW_RUN: &str = "INSERT INTO runs (workflow_id, state, input) VALUES ($1, 'queued', '{\"source\": \"webhook\"}') \
     RETURNING id, tenant_id";
const NEW_JOB: &str = "INSERT INTO jobs (run_id, priority) VALUES ($1, $2)";
const NEWEST_RUN: &str = "SELECT id, tenant_id FROM runs ORDER BY created_at DESC LIMIT 1";
const NEW_LINES: &str =
    "SELECT id, level, message, tenant_id FROM logs WHERE run_id = $1 AND id > $2 ORDER BY id LIMIT 100";
const EXPORT: &str = "COPY (SELECT id, run_id, kind, payload, at FROM events ORDER BY id) TO STDOUT";

/// A worker: polls the queue, and does the job if there is one.
pub async fn work(session: Session, clock: Clock) {
    let name = format!("worker-{:08x}", rand::random::<u32>());
    while clock.runs() {
        match poll_once(&session, &name).await {
            Ok(true) => {}
            Ok(false) => clock.pause(Duration::from_millis(300)).await,
            Err(error) => {
                session.tally().failed("worker", &error);
                clock.pause(Duration::from_millis(300)).await;
            }
        }
    }
}

/// Whether there was a job.
async fn poll_once(session: &Session, name: &str) -> Result<bool, Error> {
    let job = session.own_rows(Shape::Poll, POLL, &[&name]).await?;
    let Some(job) = job.first() else { return Ok(false) };
    let (id, run): (i64, i32) = (job.get(0), job.get(1));
    write_step(session, run, "fetch").await?;
    // What a step does outside of the database.
    tokio::time::sleep(Duration::from_millis(20)).await;
    write_step(session, run, "store").await?;
    session.rows(Shape::Step, FINISH_JOB, &[&id]).await?;
    session.tally().count(|figures| figures.jobs_done += 1);
    Ok(true)
}

async fn write_step(session: &Session, run: i32, name: &str) -> Result<(), Error> {
    session.command("BEGIN").await?;
    let step = session.own_rows(Shape::Step, NEW_STEP, &[&run, &name, &12]).await?;
    let step: i32 = step.first().map_or(0, |step| step.get(0));
    for kind in ["started", "progress", "finished"] {
        session.rows(Shape::Step, NEW_EVENT, &[&run, &step, &kind]).await?;
    }
    session.rows(Shape::Step, NEW_LOG, &[&run, &format!("step {name} of the run took 12 ms")]).await?;
    session.rows(Shape::Step, FINISH_RUN, &[&run]).await?;
    session.command("COMMIT").await
}

/// A receiver of webhooks: each one becomes a run and a job.
pub async fn receive(session: Session, tenant: usize, clock: Clock) {
    let tenant = i32::try_from(tenant).unwrap_or_default();
    while clock.runs() {
        // Their numbers begin behind 1200 and belong to tenants modulo six.
        let webhook = 1200 + 6 * rand::random_range(1..40) + tenant - 1;
        if let Err(error) = start_run(&session, webhook).await {
            session.tally().failed("webhook", &error);
        }
        clock.pause(Duration::from_millis(700)).await;
    }
}

async fn start_run(session: &Session, webhook: i32) -> Result<(), Error> {
    let webhook = session.own_rows(Shape::Webhook, WEBHOOK, &[&webhook]).await?;
    let workflow: i32 = webhook.first().map_or(0, |webhook| webhook.get(0));
    session.command("BEGIN").await?;
    let run = session.own_rows(Shape::Webhook, NEW_RUN, &[&workflow]).await?;
    let run: i32 = run.first().map_or(0, |run| run.get(0));
    session.rows(Shape::Webhook, NEW_JOB, &[&run, &(run % 3)]).await?;
    session.command("COMMIT").await
}

/// A live log: looks for the newest run, then asks for its new lines again and again.
pub async fn follow(session: Session, clock: Clock) {
    while clock.runs() {
        if let Err(error) = follow_newest(&session, &clock).await {
            session.tally().failed("live log", &error);
            clock.pause(Duration::from_millis(500)).await;
        }
    }
}

async fn follow_newest(session: &Session, clock: &Clock) -> Result<(), Error> {
    let run = session.own_rows(Shape::Follow, NEWEST_RUN, &[]).await?;
    let run: i32 = run.first().map_or(0, |run| run.get(0));
    let mut last = 0_i64;
    for _ in 0..12 {
        let lines = session.own_rows(Shape::Follow, NEW_LINES, &[&run, &last]).await?;
        last = lines.last().map_or(last, |line| line.get(0));
        clock.pause(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Somebody who searches their logs now and then.
pub async fn search(session: Session, clock: Clock) {
    while clock.runs() {
        let pattern = format!("%wrote {} rows%", rand::random_range(0..1000));
        if let Err(error) = session.own_rows(Shape::Search, SEARCH, &[&pattern]).await {
            session.tally().failed("search", &error);
        }
        clock.pause(Duration::from_secs(4)).await;
    }
}

/// Somebody who exports all events of their tenant.
pub async fn export(session: Session, clock: Clock) {
    while clock.runs() {
        if let Err(error) = export_once(&session).await {
            session.tally().failed("export", &error);
        }
        clock.pause(Duration::from_secs(6)).await;
    }
}

async fn export_once(session: &Session) -> Result<(), Error> {
    let start = Instant::now();
    let mut stream = pin!(session.client().copy_out(EXPORT).await?);
    let (mut rows, mut bytes) = (0_u64, 0_u64);
    while let Some(chunk) = stream.next().await {
        // The server sends each row as a message of its own.
        rows += 1;
        bytes += chunk?.len() as u64;
    }
    session.tally().answered(Shape::Export, start.elapsed());
    session.tally().count(|figures| {
        figures.rows_exported += rows;
        figures.bytes_exported += bytes;
    });
    Ok(())
}
