//! What an operator can have done to databases and clients while the proxy runs. Words and meanings are PgBouncer's.
//!
//! Each command may be given twice, and several at once: it is done when what it stands for is true. To give up waiting
//! for one (to drop its future) does not take it back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{error, fmt};

use tokio::sync::{mpsc, oneshot};

use crate::pool::Pool;
use crate::shared::Shared;
use crate::worker::{Mail, Whom};

/// How long SUSPEND waits for requests to end (PgBouncer's `suspend_timeout`).
const SUSPEND_PATIENCE: Duration = Duration::from_secs(10);

/// Gives commands to a running proxy.
#[derive(Debug, Clone)]
pub struct Commands {
    shared: Arc<Shared>,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// There is no such database, and no wildcard.
    UnknownDatabase(Box<str>),
    /// There is no client with this number.
    UnknownClient(u64),
    /// Somebody has ended the pause before it was complete.
    Resumed,
    /// Somebody has ended SUSPEND before every request had ended.
    WokenUp,
    /// Nothing can be paused now: SUSPEND is in force, and nobody could end their transactions.
    Suspended,
    /// SUSPEND waits for requests to end, and those of paused databases do not.
    Paused,
    /// Requests have not ended in time: SUSPEND has been taken back.
    StillBusy,
    /// The process is ending: whoever is not read cannot leave.
    Ending,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownDatabase(name) => write!(f, "no such database: {name}"),
            Self::UnknownClient(id) => write!(f, "no such client: {id}"),
            Self::Resumed => f.write_str("resumed before all server connections were closed"),
            Self::WokenUp => f.write_str("resumed before every request had ended"),
            Self::Suspended => f.write_str("already suspended"),
            // PgBouncer's words.
            Self::Paused => f.write_str("cannot suspend with paused databases"),
            Self::StillBusy => write!(f, "requests were still under way after {} s", SUSPEND_PATIENCE.as_secs()),
            Self::Ending => f.write_str("cannot suspend while the process is ending"),
        }
    }
}

impl error::Error for CommandError {}

impl Commands {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// PAUSE: closes the server connections of a database, or of all, each at its next boundary; returns when the last one
    /// is closed. Clients stay, new ones may come, and whoever wants a server waits: `queue_timeout` begins at RESUME.
    /// In session mode, and where a client is pinned, that boundary is the client's leaving.
    pub async fn pause(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database)?;
        if self.shared.suspended.load(Ordering::SeqCst) {
            return Err(CommandError::Suspended);
        }
        self.shared.pools.pause(database);
        self.closed(database).await
    }

    /// SUSPEND: what clients have begun goes on to its end, and their next requests wait, those in transactions too, until
    /// RESUME of everything. Server connections stay as they are. Returns when no request is under way and nothing that was
    /// read is unsent. What does not end in time may wait for somebody who is not read any more (a lock, a server
    /// connection): then all go on as before.
    pub async fn suspend(&self) -> Result<(), CommandError> {
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(CommandError::Ending);
        }
        if self.shared.pools.is_any_paused() {
            return Err(CommandError::Paused);
        }
        let (token, mut over) = mpsc::unbounded_channel();
        self.shared.suspend(true, Some(&token));
        drop(token);
        // Nothing is ever said: it is dropped when there is nothing more to wait for.
        if tokio::time::timeout(SUSPEND_PATIENCE, over.recv()).await.is_err() {
            self.shared.suspend(false, None);
            return Err(CommandError::StillBusy);
        }
        match self.shared.suspended.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err(CommandError::WokenUp),
        }
    }

    /// The connection that reads the table of tenants is one of its database's, although it is of no pool: what is asked of
    /// the database's connections is asked of it. `None`: it is another's.
    fn call_tenant_table(&self, database: Option<&str>, ends: bool) -> Option<oneshot::Receiver<()>> {
        let settings = self.shared.own_settings();
        let table = settings.tenants.table.as_ref()?;
        let its = database.is_none_or(|name| name == table.database);
        its.then(|| self.shared.tenant_table.call(ends))
    }

    /// RESUME: ends the pause of a database (made by PAUSE or KILL), or every pause, and SUSPEND with them.
    pub fn resume(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database)?;
        if database.is_none() && self.shared.suspended.load(Ordering::SeqCst) {
            self.shared.suspend(false, None);
        }
        self.shared.pools.resume(database);
        self.sweep(database);
        drop(self.call_tenant_table(database, false));
        Ok(())
    }

    /// RECONNECT: has each server connection of a database, or of all, closed at its next boundary. Returns at once;
    /// [`Commands::wait_close`] waits for the end.
    pub fn reconnect(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database)?;
        for pool in self.shared.pools.of(database) {
            pool.servers.retire_all();
        }
        self.sweep(database);
        drop(self.call_tenant_table(database, true));
        Ok(())
    }

    /// WAIT_CLOSE: returns when the server connections that are out of use, by RECONNECT, a reload or a fail-over, are
    /// closed.
    pub async fn wait_close(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database)?;
        for pool in self.shared.pools.of(database) {
            pool.until(|pool| pool.servers.retiring() == 0).await;
        }
        if let Some(answered) = self.call_tenant_table(database, false) {
            drop(answered.await);
        }
        Ok(())
    }

    /// KILL: ends all clients of a database, or of all, with 57P01, and closes its server connections; statements that run
    /// are cancelled. Returns when they are gone. The database is paused from then on: clients that come wait for RESUME.
    pub async fn kill(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.check(database)?;
        self.shared.pools.pause(database);
        self.end(&Whom::Database(database.map(Into::into))).await;
        self.closed(database).await
    }

    /// KILL_CLIENT: ends one client with 57P01; what it runs is cancelled. Returns when it is gone.
    pub async fn kill_client(&self, client: u64) -> Result<(), CommandError> {
        match self.end(&Whom::Client(client)).await {
            0 => Err(CommandError::UnknownClient(client)),
            _ => Ok(()),
        }
    }

    /// Cancels what a client runs or waits for; it keeps its connection. Returns what it was doing, and whether the cancel
    /// has had its effect within `patience`.
    pub async fn cancel_client(&self, client: u64, patience: Duration) -> Result<(&'static str, bool), CommandError> {
        let (found, mut finds) = mpsc::unbounded_channel();
        let mut over = Vec::new();
        for worker in 0..self.shared.workers.len() {
            let (done, ended) = oneshot::channel();
            self.shared.send(worker, Mail::CancelClient { client, done, found: found.clone() });
            over.push(ended);
        }
        drop(found);
        let was = finds.recv().await.ok_or(CommandError::UnknownClient(client))?;
        let all = async {
            for ended in over {
                // Nothing is ever said: it is dropped when there is nothing more to wait for.
                drop(ended.await);
            }
        };
        Ok((was, tokio::time::timeout(patience, all).await.is_ok()))
    }

    /// DISABLE: a database takes no new clients. Those that are there stay; the table of tenants, if it is there, is not
    /// read. Returns when the connection for that is closed.
    pub async fn disable(&self, database: &str) -> Result<(), CommandError> {
        self.check(Some(database))?;
        self.shared.pools.set_disabled(database, true);
        if let Some(answered) = self.call_tenant_table(Some(database), true) {
            drop(answered.await);
        }
        Ok(())
    }

    /// ENABLE: it takes them again.
    pub fn enable(&self, database: &str) -> Result<(), CommandError> {
        self.check(Some(database))?;
        self.shared.pools.set_disabled(database, false);
        drop(self.call_tenant_table(Some(database), false));
        Ok(())
    }

    fn check(&self, database: Option<&str>) -> Result<(), CommandError> {
        match database {
            Some(name) if self.shared.settings().database(name).is_none() && self.pools(name).is_empty() => {
                Err(CommandError::UnknownDatabase(name.into()))
            }
            _ => Ok(()),
        }
    }

    fn pools(&self, database: &str) -> Vec<Arc<Pool>> {
        self.shared.pools.of(Some(database))
    }

    fn sweep(&self, database: Option<&str>) {
        for pool in self.shared.pools.of(database) {
            self.shared.sweep(&pool);
        }
    }

    /// Returns when a pause is complete.
    async fn closed(&self, database: Option<&str>) -> Result<(), CommandError> {
        self.sweep(database);
        let table = self.call_tenant_table(database, true);
        for pool in self.shared.pools.of(database) {
            let mut resumed = false;
            pool.until(|pool| {
                let ledger = pool.ledger();
                resumed = !ledger.is_paused();
                resumed || ledger.open() == 0
            })
            .await;
            if resumed {
                return Err(CommandError::Resumed);
            }
        }
        if let Some(answered) = table {
            drop(answered.await);
        }
        Ok(())
    }

    /// Ends clients, and returns how many when they are gone.
    async fn end(&self, whom: &Whom) -> usize {
        let (token, mut ended) = mpsc::unbounded_channel();
        for worker in 0..self.shared.workers.len() {
            self.shared.send(worker, Mail::Kill(whom.clone(), token.clone()));
        }
        drop(token);
        let mut count = 0;
        while ended.recv().await.is_some() {
            count += 1;
        }
        count
    }
}
