//! The dashboards once more, alone, with the read cache's preset: first switched off, then on, at run time. Several people
//! look at each tenant's pages, somebody edits a workflow now and then, and somebody else's run writes events and logs.
//!
//! What the server worked is its own word: `active_time` of `pg_stat_database`, which a server process reports at its end at
//! the latest. So server connections are closed before it is read.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::Error;

use super::crew::{Clock, open_all};
use super::dashboard::{self, Pages};
use super::session::{Session, Target};
use super::stage::{Database, Proxy};
use super::tally::{Figures, Shape, Tally};
use super::{Outcome, TENANTS};
use crate::{http, within};

/// How long each of the two runs takes.
pub const TIME: Duration = Duration::from_secs(15);
/// How long the same goes on before each, and is not counted. The cache is cold when it is switched on, which happens once and
/// not every quarter of a minute.
pub const BEFORE: Duration = Duration::from_secs(5);
/// People who look at each tenant's dashboard, and the connections that each page of theirs is spread over.
const PEOPLE: usize = 3;
const LANES: usize = 4;
/// How long each looks at a page.
const PAUSE: Duration = Duration::from_millis(800);
/// Between two edits of a tenant's workflows, and between two steps of the run that writes.
const EDIT_EVERY: Duration = Duration::from_secs(2);
const WRITE_EVERY: Duration = Duration::from_secs(3);
/// How long server connections may take to end, and the cache to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cache of the proxy in front of these dashboards. Nobody writes past it, and what costs little is kept too: on a
/// server next door nearly everything does.
pub const SETTINGS: &str =
    "\n[cache]\nmode = \"off\"\npreset = \"workflow-engine\"\nsole_writer = true\nmin_cost = 0\n";

const EDIT: &str = "UPDATE workflows SET name = $2, updated_at = now() WHERE id = $1";
const EDITED: &str = "SELECT name, tenant_id FROM workflows WHERE id = $1";
const NEW_EVENT: &str =
    "INSERT INTO events (run_id, step_id, kind, payload) VALUES (1, 1, 'started', '{\"attempt\": 1}')";
const NEW_LOG: &str = "INSERT INTO logs (run_id, level, message) VALUES (1, 'warn', 'a step of the run wrote 7 rows')";

/// One run.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// What clients saw.
    pub figures: Figures,
    /// What the server worked meanwhile, all connections together.
    pub worked: Duration,
    /// Edits that were made.
    pub edits: u64,
    /// Of these, those that whoever made them has read at once.
    pub edits_seen: u64,
}

impl Look {
    /// What the server worked for each page.
    pub fn worked_for_a_page(&self) -> Duration {
        self.worked.div_f64(self.figures.pages.max(1) as f64)
    }
}

/// What the cache has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Statements that were answered from it.
    pub hits: u64,
    /// Statements that may be, and were not.
    pub misses: u64,
    /// Statements that may not be.
    pub bypasses: u64,
}

impl Counted {
    /// As `/api/v1/cache` has it.
    pub fn read(cache: &Value) -> Self {
        let sum = |key: &str| {
            let counts = cache.get(key).and_then(Value::as_object).into_iter().flatten();
            counts.filter_map(|(_, count)| count.as_u64()).sum()
        };
        Self {
            hits: cache.get("hits").and_then(Value::as_u64).unwrap_or(0),
            misses: sum("misses"),
            bypasses: sum("bypasses"),
        }
    }

    /// What was counted since.
    pub fn since(self, before: Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            bypasses: self.bypasses.saturating_sub(before.bypasses),
        }
    }

    /// Hits among the statements that may be answered from it.
    pub fn hit_ratio(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}

/// Both runs.
#[derive(Debug, Clone, Default)]
pub struct Cached {
    /// With the cache switched off.
    pub without: Look,
    /// Switched on.
    pub with: Look,
    /// What it counted then.
    pub counted: Counted,
}

impl Cached {
    /// By how much less the server worked for a page, from 0 to 1; less than 0: more.
    pub fn saved(&self) -> f64 {
        let before = self.without.worked_for_a_page().as_secs_f64();
        if before > 0.0 { 1.0 - self.with.worked_for_a_page().as_secs_f64() / before } else { 0.0 }
    }
}

/// Runs the dashboards twice through a pgweir of their own.
pub async fn play(binary: &Path, database: &Database) -> Outcome<Cached> {
    let proxy = Proxy::start(binary, database, SETTINGS)?;
    let (without, _) = look(database, &proxy).await?;
    ask(proxy.admin(), "POST", "/api/v1/cache/mode", r#"{"mode": "on"}"#)?;
    let (with, counted) = look(database, &proxy).await?;
    Ok(Cached { without, with, counted })
}

/// One run, and what the cache has counted meanwhile.
async fn look(database: &Database, proxy: &Proxy) -> Outcome<(Look, Counted)> {
    let (tally, edits) = (Arc::<Tally>::default(), Arc::<Edits>::default());
    begin(proxy.target(), &tally, &edits, BEFORE).await?.join_all().await;
    let counted = || -> Outcome<Counted> {
        Ok(Counted::read(&serde_json::from_str(&ask(proxy.admin(), "GET", "/api/v1/cache", "")?)?))
    };
    let (before, counted_before) = (worked(database, proxy)?, counted()?);
    let (tally, edits) = (Arc::<Tally>::default(), Arc::<Edits>::default());
    begin(proxy.target(), &tally, &edits, TIME).await?.join_all().await;
    let counted = counted()?.since(counted_before);
    let worked = worked(database, proxy)?.saturating_sub(before);
    let (made, seen) = (edits.made.load(Relaxed), edits.seen.load(Relaxed));
    Ok((Look { figures: tally.figures(), worked, edits: made, edits_seen: seen }, counted))
}

/// Everybody connects, then all begin, and go on for so long.
async fn begin(target: &Target, tally: &Arc<Tally>, edits: &Arc<Edits>, time: Duration) -> Result<JoinSet<()>, Error> {
    let (mut viewers, mut editors) = (Vec::new(), Vec::new());
    for tenant in 1..TENANTS.len() {
        for _ in 0..PEOPLE {
            viewers.push(open_all(target, "web", tenant, LANES, tally).await?);
        }
        editors.push((tenant, Session::open(target, "web", tenant, Arc::clone(tally)).await?));
    }
    let writer = Session::open(target, "worker", 1, Arc::clone(tally)).await?;
    let clock = Clock::lasting(time);
    let mut everybody = JoinSet::new();
    for pool in viewers {
        let pool = pool.into_iter().map(Arc::new).collect();
        everybody.spawn(async move {
            // Not all at once.
            clock.pause(PAUSE.mul_f64(rand::random_range(0.0..1.0))).await;
            dashboard::serve(pool, Pages::All, PAUSE, clock).await;
        });
    }
    for (tenant, session) in editors {
        everybody.spawn(edit(session, tenant, Arc::clone(edits), clock));
    }
    everybody.spawn(write(writer, clock));
    Ok(everybody)
}

/// Edits, and how many were read by whoever made them.
#[derive(Debug, Default)]
struct Edits {
    made: AtomicU64,
    seen: AtomicU64,
}

/// Somebody who gives workflows other names, and looks at what has come of it.
async fn edit(session: Session, tenant: usize, edits: Arc<Edits>, clock: Clock) {
    // Workflows belong to tenants by their number modulo six.
    let mut workflow = i32::try_from(tenant).unwrap_or_default() + 5;
    while clock.runs() {
        clock.pause(EDIT_EVERY).await;
        match edit_once(&session, workflow).await {
            Ok(seen) => {
                edits.made.fetch_add(1, Relaxed);
                edits.seen.fetch_add(u64::from(seen), Relaxed);
            }
            Err(error) => session.tally().failed("edit", &error),
        }
        workflow = 6 + workflow % 234;
    }
}

/// Whether the new name is what is read next. It is read before too, so that there is an answer that could be stale.
async fn edit_once(session: &Session, workflow: i32) -> Result<bool, Error> {
    let name = format!("workflow {workflow}, edited {:08x}", rand::random::<u32>());
    session.own_rows(Shape::Page, EDITED, &[&workflow]).await?;
    session.rows(Shape::Step, EDIT, &[&workflow, &name]).await?;
    let read = session.own_rows(Shape::Page, EDITED, &[&workflow]).await?;
    Ok(read.first().is_some_and(|row| row.get::<_, String>(0) == name))
}

/// A run that goes on.
async fn write(session: Session, clock: Clock) {
    while clock.runs() {
        clock.pause(WRITE_EVERY).await;
        for sql in [NEW_EVENT, NEW_LOG] {
            if let Err(error) = session.rows(Shape::Step, sql, &[]).await {
                session.tally().failed("worker", &error);
            }
        }
    }
}

/// What the server has worked for this database so far.
fn worked(database: &Database, proxy: &Proxy) -> Outcome<Duration> {
    let name = &proxy.target().database;
    // Those of clients: what pgweir itself asks over connections of its own is next to nothing, and they stay.
    let open: Value = serde_json::from_str(&ask(proxy.admin(), "GET", "/api/v1/upstreams?limit=1000", "")?)?;
    let open = open.get("upstreams").and_then(Value::as_array).into_iter().flatten();
    let pids: Vec<_> = open.filter_map(|one| one.get("backend_pid")?.as_i64()).map(|pid| pid.to_string()).collect();
    ask(proxy.admin(), "POST", "/api/v1/reconnect", "")?;
    let left = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY ('{{{}}}')", pids.join(","));
    if !within(PATIENCE, || database.cluster().value("postgres", &left) == "0") {
        return Err(format!("server connections to {name} have not ended after {PATIENCE:?}").into());
    }
    let sql = format!("SELECT active_time FROM pg_stat_database WHERE datname = '{name}'");
    let millis: f64 = database.cluster().value("postgres", &sql).parse()?;
    Ok(Duration::from_secs_f64(millis / 1e3))
}

/// The admin port's answer, if it has done what it was asked.
fn ask(admin: SocketAddr, method: &str, path: &str, json: &str) -> Outcome<String> {
    let answer = http::attempt(admin, method, path, json)?;
    match answer.status {
        200..=299 => Ok(answer.body),
        status => Err(format!("{path} on the admin port answered {status}: {}", answer.body).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hits_are_counted_among_what_may_be_cached() {
        let cache = json!({ "hits": 90, "misses": { "absent": 6, "changed": 4 }, "bypasses": { "no_rule": 300 } });
        let counted = Counted::read(&cache);
        assert_eq!(counted, Counted { hits: 90, misses: 10, bypasses: 300 });
        assert!((counted.hit_ratio() - 0.9).abs() < 1e-9);
        assert_eq!(Counted::read(&json!({})).hit_ratio(), 0.0);
        let before = Counted { hits: 80, misses: 10, bypasses: 1 };
        assert_eq!(counted.since(before), Counted { hits: 10, misses: 0, bypasses: 299 });
    }

    #[test]
    fn what_is_saved_is_told_by_the_page() {
        let look = |pages, millis| Look {
            figures: Figures { pages, ..Figures::default() },
            worked: Duration::from_millis(millis),
            ..Look::default()
        };
        let of = |without, with| Cached { without, with, ..Cached::default() }.saved();
        assert!((of(look(10, 1_000), look(20, 400)) - 0.8).abs() < 1e-9);
        assert!(of(look(10, 1_000), look(10, 1_500)) < 0.0);
        assert_eq!(of(Look::default(), look(10, 1)), 0.0, "nothing is no proof");
    }
}
