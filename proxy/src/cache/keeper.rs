//! A task for each cached database, on the control thread: its catalog, and what became of writers that were lost.
//!
//! ```text
//!   rest ──► wanted, and there is a pool ──► connect ──► read ──► View ──► wait ──► another epoch: read
//!    ▲                                          ▲                            ├────► another fingerprint: flush, read
//!    │                                          └── flush, no view ◄── lost ◄┤
//!    └───────────────── flush, no view ◄── no longer wanted, paused ◄────────┘
//! ```
//!
//! A catalog is read once the epoch is even, and is a view of that epoch only if it is the same afterwards. What is done
//! past this process changes no epoch: its fingerprint is looked at from time to time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use policy::cache::catalog::Catalog;
use policy::cache::{Bypass, Cause, Invalidated};
use tokio::task::JoinSet;

use super::alone::Company;
use super::facts::{self, Fingerprint};
use super::writes::ANY_PREPARED;
use super::{Cached, Serial, View};
use crate::aside::Kind;
use crate::inspect::{Row, Session};
use crate::pool::Pool;
use crate::shared::Shared;

/// How long a login, or one reading of all, may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same of a short question: a server that is silent for longer is taken for lost.
const SHORT: Duration = Duration::from_secs(5);
/// Between two looks at whether something has to be done, of a database that is cached.
const LOOK: Duration = Duration::from_millis(50);
/// The same where nothing is.
const REST: Duration = Duration::from_millis(500);
/// From a change to a reading: a migration makes many in a row.
const QUIET: Duration = Duration::from_millis(20);
/// Pauses between attempts to connect, the first and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What is said of a database as long as there is nothing else to say.
pub(super) const UNREAD: &str = "its catalog has not been read yet";

/// Looks after every cached database as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    let (mut keepers, mut known) = (JoinSet::new(), BTreeSet::new());
    loop {
        let changed = shared.caches.changed.notified();
        tokio::pin!(changed);
        // From here on no change is missed.
        changed.as_mut().enable();
        for cached in shared.caches.all() {
            if known.insert(cached.name.clone()) {
                let said = UNREAD.to_owned();
                let (shared, seen, defaults) = (shared.clone(), BTreeMap::new(), (None, None));
                let keeper = Keeper { shared, cached, said, seen, defaults, settled: false };
                keepers.spawn_local(keeper.keep());
            }
        }
        changed.await;
    }
}

/// Who looks after one database.
struct Keeper {
    shared: Arc<Shared>,
    cached: Arc<Cached>,
    /// Its last words of trouble: those of others are left alone.
    said: String,
    /// What sessions began with by the last reading, and when that was another thing than before.
    defaults: (Option<Vec<Row>>, Option<Instant>),
    /// Processes that are asked after, and when they were started, as far as we may see that.
    seen: BTreeMap<i32, Option<i64>>,
    /// With `sole_writer`: what began before this process followed writes is over.
    settled: bool,
}

/// Why a connection is not used any more.
enum End {
    /// Nothing is wanted of it.
    Unwanted,
    /// It began with settings that are others now.
    Outdated,
    /// It is lost, or of no use.
    Failed(String),
}

impl End {
    /// What ends answers with it.
    fn source(&self) -> Option<Invalidated> {
        match self {
            Self::Unwanted => None,
            Self::Outdated => Some(Invalidated::Catalog),
            Self::Failed(_) => Some(Invalidated::Failover),
        }
    }
}

impl From<String> for End {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// What one connection has seen.
#[derive(Default)]
struct Seen {
    fingerprint: Option<(Fingerprint, Instant)>,
    defaults: Option<Vec<Row>>,
    read: Option<Instant>,
    /// No other reading begins so soon behind it.
    pause: Duration,
    alone: Company,
}

/// Readings take at most one part in so many of the time: an application that changes the catalog all the time, as with
/// temporary tables, would have its server read it all the time.
const SHARE: u32 = 4;
/// The longest pause that comes of it.
const LONGEST: Duration = Duration::from_secs(5);

impl Keeper {
    async fn keep(mut self) {
        let (mut pause, mut turn) = (AGAIN.0, 0usize);
        loop {
            let pools = self.pools();
            let Some(pool) = pools.get(turn % pools.len().max(1)).filter(|_| self.is_wanted()) else {
                self.rest().await;
                continue;
            };
            let began = Instant::now();
            let end = match self.connect(pool).await {
                Ok(session) => self.serve(session).await,
                Err(why) => End::Failed(why),
            };
            self.forget(end.source());
            match end {
                End::Unwanted => {
                    self.cached.set_trouble(Some(UNREAD.to_owned()));
                    self.said = UNREAD.to_owned();
                }
                End::Outdated => {}
                End::Failed(why) => {
                    self.complain(why);
                    // Perhaps another one may connect, or may read more.
                    turn = turn.wrapping_add(1);
                    pause = if began.elapsed() > AGAIN.1 { AGAIN.0 } else { AGAIN.1.min(pause * 2) };
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Pools of this database that a server has let in.
    fn pools(&self) -> Vec<Arc<Pool>> {
        let mut pools = self.shared.pools.all();
        pools.retain(|pool| {
            let target = pool.target();
            let gone = pool.removed.load(Ordering::Relaxed) || pool.replication.is_some();
            let here = !gone && pool.welcome().is_some() && !self.shared.pools.is_paused(&pool.database);
            here && *self.cached.name == format!("{target}/{}", target.database)
        });
        pools
    }

    fn reads(&self) -> bool {
        self.shared.caches.mode().keeps()
    }

    /// Writes that were lost have to be asked after whatever the mode is.
    fn is_wanted(&self) -> bool {
        self.reads() || !self.cached.generations.unresolved().is_empty()
    }

    async fn rest(&self) {
        let pause = if self.reads() { LOOK } else { REST };
        tokio::select! {
            () = self.shared.caches.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// What changes from here on may go unseen: nothing of what is known holds. `source`: why, where that is not that nothing
    /// is wanted.
    fn forget(&self, source: Option<Invalidated>) {
        if self.cached.view().is_some() {
            self.cached.set_view(None);
            self.cached.generations.flush();
            source.into_iter().for_each(|source| self.cached.ended.count(source));
        }
    }

    fn complain(&mut self, why: String) {
        if self.cached.set_trouble(Some(why.clone())) {
            tracing::warn!(place = %self.cached.name, %why, "nothing of this database is cached");
        }
        self.said = why;
    }

    fn is_well(&self) {
        if self.cached.trouble().is_some_and(|trouble| trouble == self.said) && self.cached.set_trouble(None) {
            tracing::info!(place = %self.cached.name, "the catalog of this database has been read for the cache");
        }
    }

    async fn connect(&self, pool: &Arc<Pool>) -> Result<Session, String> {
        let opened = tokio::time::timeout(PATIENCE, Session::open(&self.shared, pool, Kind::Cache)).await;
        let mut session =
            opened.ok().flatten().ok_or("no server of it lets us in, or max_side_connections has been reached")?;
        within(SHORT, session.prepare()).await?;
        // To compile what is asked of a catalog takes longer than to run it.
        let process = within(SHORT, session.rows("SET jit TO off; SELECT pg_backend_pid()")).await?;
        if number(process.first(), 0) != Some(session.process().into()) {
            // It would answer for processes that it has never told us of.
            return Err(
                "another pooler stands before its server: what becomes of lost connections cannot be told".into()
            );
        }
        Ok(session)
    }

    async fn serve(&mut self, mut session: Session) -> End {
        let mut seen = Seen::default();
        loop {
            if !self.is_wanted() || self.pools().is_empty() {
                return End::Unwanted;
            }
            if self.has_moved(&session) {
                return End::Failed("its connections lead to another server than they did".to_owned());
            }
            if let Err(end) = self.look(&mut session, &mut seen).await {
                return end;
            }
            tokio::select! {
                () = self.cached.stirred.notified() => {}
                () = self.shared.caches.changed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                // At once and not when it is used next: a server that comes back may have lost what was committed last.
                () = session.closed() => return End::Failed("the connection to its server has ended".to_owned()),
            }
        }
    }

    /// Whether there are connections of clients, and all to other servers than ours.
    fn has_moved(&self, session: &Session) -> bool {
        let pools = self.pools();
        let mut servers = pools.iter().flat_map(|pool| pool.servers.in_use()).peekable();
        let ours = session.server();
        servers.peek().is_some() && servers.all(|server| server.address != ours.address)
    }

    async fn look(&mut self, session: &mut Session, seen: &mut Seen) -> Result<(), End> {
        self.ask_after_lost(session).await?;
        if !self.reads() {
            self.forget(None);
            return Ok(());
        }
        let cached = Arc::clone(&self.cached);
        let generations = &cached.generations;
        let every = self.shared.settings().cache.catalog_poll;
        if !generations.slot().is_needed() {
            let asked = seen.alone.ask(session, every, &mut self.settled);
            if let Some(why) = within(SHORT, asked).await? {
                self.forget(Some(Invalidated::Catalog));
                self.complain(why);
                return Ok(());
            }
        }
        if self.is_current() {
            let Some((known, at)) = seen.fingerprint.as_mut().filter(|(_, at)| at.elapsed() >= every) else {
                return Ok(());
            };
            session.go_on();
            if within(SHORT, facts::fingerprint(session)).await? == *known {
                *at = Instant::now();
                return Ok(());
            }
            generations.flush();
            cached.ended.count(Invalidated::Catalog);
            // What was prepared before is another statement than what is prepared from here on: its clients may have been
            // told another result.
            self.pools().iter().for_each(|pool| self.shared.schemas.changed(&pool.database));
        }
        if seen.read.is_some_and(|last| last.elapsed() < seen.pause) {
            return Ok(());
        }
        self.wait_for_quiet(seen).await;
        let (before, began) = (generations.epoch(), Instant::now());
        if !before.is_even() {
            return Ok(());
        }
        session.go_on();
        let publication = self.shared.settings().cache.publication.clone();
        let read = within(PATIENCE, facts::read(session, &publication)).await?;
        seen.read = Some(Instant::now());
        seen.pause = (began.elapsed() * (SHARE - 1)).min(LONGEST);
        self.note_defaults(&read.defaults);
        if *seen.defaults.get_or_insert_with(|| read.defaults.clone()) != read.defaults {
            return Err(End::Outdated);
        }
        let facts = read.facts;
        // Thousands of functions take a while to sort: logins must not wait for it.
        let sort = move || {
            let catalog = Catalog::new(facts);
            (catalog.not_quiet(), catalog)
        };
        let (quiet, catalog) =
            tokio::task::spawn_blocking(sort).await.map_err(|error| End::Failed(error.to_string()))?;
        let Some(epoch) = generations.catalog_is_read(before) else { return Ok(()) };
        let mut paths = read.paths;
        paths.since = self.defaults.1;
        seen.fingerprint = Some((read.fingerprint, Instant::now()));
        let serial = Serial::default();
        let View { unfit, .. } =
            *self.publish(View { serial, quiet, catalog, epoch, paths, published: read.published, unfit: read.unfit });
        match unfit {
            None => self.is_well(),
            Some(Bypass::Standby) => self.complain("its server is a standby".to_owned()),
            Some(_) => self.complain("its sessions begin with another isolation than READ COMMITTED".to_owned()),
        }
        Ok(())
    }

    /// Connections of clients that are older than a change of these have begun with others.
    fn note_defaults(&mut self, read: &[Row]) {
        let (known, since) = &mut self.defaults;
        if known.as_deref().is_some_and(|known| known != read) {
            // Behind the reading: what was opened while it went on may be either.
            *since = Some(Instant::now());
        }
        *known = Some(read.to_vec());
    }

    fn publish(&self, view: View) -> Arc<View> {
        let view = Arc::new(view);
        self.cached.set_view(Some(Arc::clone(&view)));
        view
    }

    fn is_current(&self) -> bool {
        let view = self.cached.view();
        view.is_some_and(|view| view.epoch.generation() == self.cached.generations.epoch())
    }

    /// The first reading waits for nothing; the others until no change has come for a moment, or for as long as may be.
    async fn wait_for_quiet(&self, seen: &Seen) {
        let Some(last) = seen.read else { return };
        tokio::time::sleep(LOOK.saturating_sub(last.elapsed())).await;
        let until = Instant::now() + LOOK;
        loop {
            let before = self.cached.generations.epoch();
            tokio::time::sleep(QUIET).await;
            if self.cached.generations.epoch() == before || Instant::now() >= until {
                return;
            }
        }
    }

    /// Whether processes that writes were lost with are gone, and prepared transactions are over.
    async fn ask_after_lost(&mut self, session: &mut Session) -> Result<(), String> {
        let causes: BTreeSet<_> = self.cached.generations.unresolved().into_iter().map(Ordered::from).collect();
        if causes.is_empty() {
            self.seen.clear();
            return Ok(());
        }
        session.go_on();
        let processes: Vec<String> = causes.iter().filter_map(Ordered::process).map(|it| it.to_string()).collect();
        // A standby has yet to hear how the writes of its primary ended.
        let question = format!(
            "SELECT 0, 0 WHERE pg_is_in_recovery() UNION ALL \
             SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint FROM pg_stat_activity \
             WHERE pid = ANY ('{{{}}}'::int[])",
            processes.join(",")
        );
        let rows = within(SHORT, session.rows(&question)).await?;
        let there: BTreeMap<i64, Option<i64>> =
            rows.iter().filter_map(|row| Some((number(Some(row), 0)?, number(Some(row), 1)))).collect();
        if there.contains_key(&0) {
            return Ok(());
        }
        let rows = within(SHORT, session.rows("SELECT gid FROM pg_prepared_xacts")).await?;
        let prepared: BTreeSet<&[u8]> = rows.iter().filter_map(|row| row.first()?.as_deref()).collect();
        self.seen.retain(|process, _| causes.iter().any(|cause| cause.process() == Some(*process)));
        for cause in causes {
            let is_over = match &cause {
                Ordered::Backend(process, _) => match there.get(&i64::from(*process)) {
                    None => true,
                    // A process of that number that was started later is another one.
                    Some(started) => {
                        let first = *self.seen.entry(*process).or_insert(*started);
                        first.zip(*started).is_some_and(|(first, now)| first < now)
                    }
                },
                Ordered::Prepared(name) if **name == *ANY_PREPARED => prepared.is_empty(),
                Ordered::Prepared(name) => !prepared.contains(name.as_bytes()),
            };
            if is_over {
                let over = self.cached.generations.is_resolved(&cause.into());
                self.cached.ended.add(Invalidated::Resolved, over as u64);
            }
        }
        Ok(())
    }
}

/// A [`Cause`] in some order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Ordered {
    Backend(i32, i64),
    Prepared(Box<str>),
}

impl Ordered {
    fn process(&self) -> Option<i32> {
        match self {
            Self::Backend(process, _) => Some(*process),
            Self::Prepared(_) => None,
        }
    }
}

impl From<Cause> for Ordered {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Backend { process, started } => Self::Backend(process, started),
            Cause::Prepared(name) => Self::Prepared(name),
        }
    }
}

impl From<Ordered> for Cause {
    fn from(cause: Ordered) -> Self {
        match cause {
            Ordered::Backend(process, started) => Self::Backend { process, started },
            Ordered::Prepared(name) => Self::Prepared(name),
        }
    }
}

async fn within<T>(patience: Duration, what: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(patience, what).await.unwrap_or_else(|_| Err("its server does not answer".to_owned()))
}

fn number(row: Option<&Row>, at: usize) -> Option<i64> {
    std::str::from_utf8(row?.get(at)?.as_deref()?).ok()?.parse().ok()
}
