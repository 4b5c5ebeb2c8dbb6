//! The tenant with a statement timeout: ordinary statements, and every few seconds one that runs too long. What is
//! measured: the error that comes, how long it took to come, and whether both connections went on.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, SimpleQueryMessage};

use super::crew::Clock;
use super::session::Session;
use super::tally::{Overrun, Shape};

/// Waits longer than the limit without work.
const SLEEP: &str = "SELECT pg_sleep(1.5)";
/// Works longer than the limit.
const GRIND: &str = "SELECT max(md5(n::text)) FROM generate_series(1, 1500000) n";
const ORDINARY: &str = "SELECT state, count(*), min(tenant_id) FROM runs GROUP BY state";

/// One client's life. Every other one keeps its transaction open over the error with a savepoint, which shows whether
/// the server connection stayed the same.
pub async fn report(session: Session, number: usize, clock: Clock) {
    // Not all at once.
    clock.pause(Duration::from_millis(700 * number as u64)).await;
    while clock.runs() {
        if let Err(error) = session.own_rows(Shape::Report, ORDINARY, &[]).await {
            session.tally().failed("report", &error);
        }
        let sql = if number == 0 { GRIND } else { SLEEP };
        let overrun =
            if number.is_multiple_of(2) { in_transaction(&session, sql).await } else { alone(&session, sql).await };
        match overrun {
            Ok(overrun) => session.tally().count(|figures| figures.overruns.push(overrun)),
            Err(error) => session.tally().failed("statement beyond the limit", &error),
        }
        clock.pause(Duration::from_millis(3500)).await;
    }
}

async fn alone(session: &Session, sql: &str) -> Result<Overrun, Error> {
    let (waited, refused) = overrun(session, sql).await?;
    Ok(Overrun { waited, refused, server_pids: None, client_kept: server_pid(session).await.is_ok() })
}

async fn in_transaction(session: &Session, sql: &str) -> Result<Overrun, Error> {
    session.command("BEGIN").await?;
    let before = server_pid(session).await?;
    session.command("SAVEPOINT before").await?;
    let (waited, refused) = overrun(session, sql).await?;
    session.command("ROLLBACK TO SAVEPOINT before").await?;
    let after = server_pid(session).await?;
    session.command("COMMIT").await?;
    Ok(Overrun { waited, refused, server_pids: Some((before, after)), client_kept: true })
}

/// Runs a statement beyond the limit: how long the client waited, and SQLSTATE and DETAIL if it was refused. An error
/// without a SQLSTATE is a lost connection, and handed on.
async fn overrun(session: &Session, sql: &str) -> Result<(Duration, Option<(String, String)>), Error> {
    let start = Instant::now();
    let answer = session.command(sql).await;
    let waited = start.elapsed();
    let Err(error) = answer else { return Ok((waited, None)) };
    let Some(said) = error.as_db_error() else { return Err(error) };
    let detail = said.detail().unwrap_or_default().to_owned();
    Ok((waited, Some((said.code().code().to_owned(), detail))))
}

/// The process that serves this session now, by the simple protocol: nothing has to be prepared for it.
async fn server_pid(session: &Session) -> Result<i32, Error> {
    let answer = session.client().simple_query("SELECT pg_backend_pid()").await?;
    let pid = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    Ok(pid.unwrap_or_default())
}

/// Whether an error is the one that a statement beyond its limit gets.
pub fn is_timeout(code: &str) -> bool {
    code == SqlState::QUERY_CANCELED.code()
}
