//! A task on the control thread that looks at the table of tenants now and then, over a connection of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::{Changes, Settings};
use tokio::sync::futures::Notified;

use super::read::{self, Fingerprint, Row};
use super::{MAX_TOLD, Taken};
use crate::inspect::Session;
use crate::run::reloads::tell;
use crate::shared::Shared;
use crate::upstream::dial::Target;

/// How long one look may take, login included.
const PATIENCE: Duration = Duration::from_secs(15);
/// From a failure to the next look, at first; never longer than the interval.
const AGAIN: Duration = Duration::from_secs(1);

/// Looks at the table as long as the process lives.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let mut keeper = Keeper { shared: shared.clone(), line: None, seen: None, again: AGAIN };
    loop {
        let changed = shared.tenant_table.changed.notified();
        tokio::pin!(changed);
        // From here on no reload is missed.
        changed.as_mut().enable();
        let pause = keeper.look(changed.as_mut()).await;
        let rest = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // What the configuration says now may stand beside a row, or no longer; the table may be another one.
            () = &mut changed => keeper.seen = None,
            () = shared.tenant_table.called.notified() => keeper.answer(),
            () = rest => {}
        }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    line: Option<Line>,
    /// What the table looked like when it was read last.
    seen: Option<Fingerprint>,
    again: Duration,
}

/// The connection.
struct Line {
    session: Session,
    target: Arc<Target>,
    /// Like those of a pool it has an end: servers change behind their names.
    expires: Option<Instant>,
}

impl Keeper {
    /// Does what commands ask for.
    fn answer(&mut self) {
        let asked = std::mem::take(&mut *self.shared.tenant_table.asked());
        if asked.iter().any(|asked| asked.ends) {
            self.line = None;
        }
        // They hear of it when the connection is closed.
        drop(asked);
    }

    /// One look, which ends early where something else is asked for. Returns when the next one is due; `None`: when there
    /// are other settings.
    async fn look(&mut self, changed: Pin<&mut Notified<'_>>) -> Option<Duration> {
        let settings = self.shared.own_settings();
        let Some(table) = &settings.tenants.table else {
            (self.line, self.seen) = (None, None);
            if self.shared.tenant_table.forget() {
                self.shared.forget_tenant_rows();
            }
            return None;
        };
        if self.shared.pools.is_paused(&table.database) || self.shared.pools.is_disabled(&table.database) {
            // Whoever pauses a database wants no connection to it; nor does who lets nobody in, to have it dropped.
            self.line = None;
            return Some(table.interval.min(AGAIN));
        }
        let shared = self.shared.clone();
        let read = tokio::select! {
            biased;
            () = changed => None,
            () = shared.tenant_table.called.notified() => None,
            read = tokio::time::timeout(PATIENCE, self.read(&settings, &table.database, &table.query)) => Some(read),
        };
        let Some(read) = read else {
            // The connection that was asked is closed by now.
            self.answer();
            return Some(Duration::ZERO);
        };
        match read.unwrap_or_else(|_| Err("its server does not answer".to_owned())) {
            Ok(None) => self.is_well(&table.database),
            Ok(Some((print, rows))) => {
                let own = settings.clone();
                // Thousands of rows take a while: logins must not wait for them.
                if tokio::task::spawn_blocking(move || take_over(&shared, &own, rows)).await.is_ok() {
                    self.seen = Some(print);
                    self.is_well(&table.database);
                }
            }
            Err(why) => {
                self.line = None;
                return Some(self.fail(&table.database, &why, table.interval));
            }
        }
        self.again = AGAIN;
        Some(table.interval)
    }

    fn is_well(&self, database: &str) {
        if self.shared.tenant_table.is_well(database, SystemTime::now()) {
            tracing::info!(database, "the table of tenants can be read again");
        }
    }

    fn fail(&mut self, database: &str, why: &str, interval: Duration) -> Duration {
        if self.shared.tenant_table.failed(database, why) {
            let tenants = self.shared.tenant_table.standing().map_or(0, |standing| standing.tenants);
            tracing::warn!(database, why, tenants, "the table of tenants cannot be read: what was known of it holds");
        }
        let pause = self.again.min(interval);
        self.again = self.again.saturating_mul(2);
        pause
    }

    /// The rows, if something has changed.
    async fn read(
        &mut self,
        settings: &Settings,
        database: &str,
        query: &str,
    ) -> Result<Option<(Fingerprint, Vec<Row>)>, String> {
        let (pool, target) = read::target(settings, database).ok_or(read::NOBODY)?;
        let now = Instant::now();
        let fits = |line: &Line| line.target == target && line.expires.is_none_or(|expires| expires > now);
        if let Some(mut line) = self.line.take().filter(fits) {
            // A connection that was left open may have been closed meanwhile: then once more on a new one.
            if let Ok(read) = self.ask(&mut line.session, query).await {
                self.line = Some(line);
                return Ok(read);
            }
        }
        let mut session = read::open(&self.shared, &pool, &target).await?;
        let read = self.ask(&mut session, query).await?;
        let expires = Shared::lifetime(&pool, 0.5).and_then(|lifetime| now.checked_add(lifetime));
        self.line = Some(Line { session, target, expires });
        Ok(read)
    }

    async fn ask(&self, session: &mut Session, query: &str) -> Result<Option<(Fingerprint, Vec<Row>)>, String> {
        // Both of one moment: what is put in force is what the fingerprint is of.
        read::begin(session).await?;
        let print = read::fingerprint(session, query).await?;
        let rows = match self.seen.as_ref() == Some(&print) {
            true => None,
            false => Some(read::rows(session, query).await?),
        };
        read::end(session).await?;
        Ok(rows.map(|rows| (print, rows)))
    }
}

/// Puts what the table says in force, and tells the log what has changed.
fn take_over(shared: &Shared, own: &Settings, read: Vec<Row>) {
    let Taken { rows, wrong } = shared.tenant_table.take(read, &own.tenants.limits);
    let tenants = rows.len();
    let (before, after) = shared.set_tenant_rows(rows);
    let changes = Changes::between(&before, &after);
    if !changes.is_empty() {
        tracing::info!(tenants, changes = changes.at_once.len(), "the table of tenants has been read");
        tell(&changes);
    }
    for (tenant, why) in wrong.iter().take(MAX_TOLD) {
        tracing::warn!(tenant, why, "a row of the table of tenants is wrong: its tenant keeps what it had");
    }
    let strangers = after.tenants.limits.keys().filter(|name| shared.directory.known(name).is_none()).count();
    if strangers > 0 {
        tracing::warn!(
            tenants = strangers,
            "too many names of tenants have come and gone: limits of the last ones do not hold"
        );
    }
    let more = wrong.len().saturating_sub(MAX_TOLD);
    if more > 0 {
        tracing::warn!(more, "further rows of the table of tenants are wrong");
    }
}
