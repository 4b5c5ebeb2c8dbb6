//! One client connection of the engine, as its driver would hold it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Mutex;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Error, NoTls, Row, Statement};

use super::tally::{Shape, Tally};
use super::{PASSWORD, TENANTS, USER};

/// Parameters of a statement.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A server to connect to: pgweir, or PostgreSQL itself.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its port on loopback.
    pub port: u16,
    /// The database.
    pub database: String,
}

/// A logged-in client. Its statements are prepared at their first use and kept, as drivers with a statement cache do.
#[derive(Debug)]
pub struct Session {
    client: Client,
    prepared: Mutex<HashMap<&'static str, Statement>>,
    tally: Arc<Tally>,
    tenant: usize,
}

impl Session {
    /// Connects as a part of the engine (`web`, `worker`, …) that works for one tenant, by its number from 1.
    /// Row-level security knows the tenant by the setting `app.tenant_id`, pgweir by the application's name.
    pub async fn open(target: &Target, part: &str, tenant: usize, tally: Arc<Tally>) -> Result<Self, Error> {
        let slug = TENANTS.get(tenant - 1).copied().unwrap_or_default();
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(target.port)
            .user(USER)
            .password(PASSWORD)
            .dbname(&target.database)
            .application_name(format!("{part}:{slug}"))
            .options(format!("-c app.tenant_id={tenant}"))
            .connect(NoTls)
            .await?;
        // Its end is seen by the next statement; nothing is lost by not waiting for the task.
        drop(tokio::spawn(connection));
        Ok(Self { client, prepared: Mutex::default(), tally, tenant })
    }

    /// The driver's own client, for what has no shape of its own.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where this session counts.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Runs a prepared statement and counts it under its shape.
    pub async fn rows(&self, shape: Shape, sql: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql).await?;
        let start = Instant::now();
        let rows = self.client.query(&statement, parameters).await?;
        self.tally.answered(shape, start.elapsed());
        Ok(rows)
    }

    /// As [`Session::rows`], where the last column is the tenant of the row: counts those that are not this client's.
    /// (NULL: an aggregate over no rows.)
    pub async fn own_rows(
        &self,
        shape: Shape,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, Error> {
        let rows = self.rows(shape, sql, parameters).await?;
        let tenant = i32::try_from(self.tenant).unwrap_or_default();
        let foreign = |row: &&Row| row.get::<_, Option<i32>>(row.len() - 1).is_some_and(|owner| owner != tenant);
        let foreign = rows.iter().filter(foreign).count();
        self.tally.count(|figures| {
            figures.rows_checked += rows.len() as u64;
            figures.rows_foreign += foreign as u64;
        });
        Ok(rows)
    }

    /// Runs a statement that has no parameters and no rows, such as BEGIN, by the simple protocol.
    pub async fn command(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await?;
        self.tally.count(|figures| figures.statements += 1);
        Ok(())
    }

    async fn prepared(&self, sql: &'static str) -> Result<Statement, Error> {
        let mut prepared = self.prepared.lock().await;
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        prepared.insert(sql, statement.clone());
        Ok(statement)
    }
}
