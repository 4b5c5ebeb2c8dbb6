//! The servers' own ids of statements, where the extension `pg_stat_statements` counts them.
//!
//! Whoever has a `queryid` from a server's statistics finds the fingerprint, and the other way round. The texts are read
//! once a minute, by one connection for each database besides the pools, and each is given the fingerprints that it may
//! have here ([`policy::stored`]). Runs on the control thread; nobody waits for it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::fingerprint::{Analyser, Compat};
use rustc_hash::FxBuildHasher;

use crate::aside::Kind;
use crate::inspect::{Row, Session};
use crate::pool::Pool;
use crate::shared::Shared;
use crate::telemetry::{Telemetry, lock};

/// How often it is looked whether a database is due.
const LOOK: Duration = Duration::from_secs(1);
/// From the first connection to a database to the first look: something has run by then.
const FIRST: Duration = Duration::from_secs(2);
/// Between two looks at one database.
const EVERY: Duration = Duration::from_secs(60);
/// The same where it could not be read: whoever installs the extension or grants the right is not in a hurry.
const AFTER_FAILURE: Duration = Duration::from_secs(3_600);
/// How long one look may take, login included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Databases that are looked at, and whose ids are kept.
const MAX_PLACES: usize = 100;
/// Rows of one database, those that take most time.
const MAX_ROWS: usize = 5_000;
/// Ids of one statement: one for each database, and each time that its tables were made anew.
const MAX_IDS: usize = 16;

/// Where the extension's view is. Extensions go into any schema.
const SCHEMA: &str = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
    WHERE e.extname = 'pg_stat_statements'";

/// Fingerprint → the servers' ids.
pub type Ids = HashMap<u64, Vec<i64>, FxBuildHasher>;

/// What is known of the servers' ids, by database. Written by the control thread, read by the admin port.
#[derive(Debug, Default)]
pub struct ServerIds(Mutex<BTreeMap<String, (Instant, Ids)>>);

impl ServerIds {
    /// Takes over what one database has said, in place of what it said before.
    pub(crate) fn keep(&self, place: &str, ids: Ids, now: Instant) {
        let mut places = lock(&self.0);
        if places.len() >= MAX_PLACES && !places.contains_key(place) {
            let oldest = places.iter().min_by_key(|(_, (read, _))| *read).map(|(place, _)| place.clone());
            if let Some(oldest) = oldest {
                places.remove(&oldest);
            }
        }
        places.insert(place.to_owned(), (now, ids));
    }

    fn clear(&self) {
        lock(&self.0).clear();
    }

    /// Those of all databases together.
    pub fn all(&self) -> Ids {
        let mut all = Ids::default();
        for (strict, ids) in lock(&self.0).values().flat_map(|(_, ids)| ids) {
            let known = all.entry(*strict).or_default();
            ids.iter().for_each(|id| add(known, *id));
        }
        all
    }
}

/// Looks at each database in its turn as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    let mut due = BTreeMap::<String, Instant>::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if !shared.settings().observe.pg_stat_statements {
            due.clear();
            shared.telemetry.server_ids.clear();
            continue;
        }
        let places = places(&shared);
        due.retain(|place, _| places.contains_key(place));
        for (place, pool) in places {
            let next = due.entry(place.clone()).or_insert_with(|| Instant::now() + FIRST);
            if *next <= Instant::now() {
                let pause = look(&shared, &pool, &place).await;
                *next = Instant::now() + pause;
            }
        }
    }
}

/// One pool for each database that there are connections to, or were.
fn places(shared: &Shared) -> BTreeMap<String, Arc<Pool>> {
    let mut places = BTreeMap::new();
    for pool in shared.pools.all() {
        let gone = pool.removed.load(Ordering::Relaxed) || pool.replication.is_some();
        if gone || pool.welcome().is_none() || shared.pools.is_paused(&pool.database) {
            continue;
        }
        let target = pool.target();
        let place = format!("{target}/{}", target.database);
        if places.len() < MAX_PLACES || places.contains_key(&place) {
            places.entry(place).or_insert(pool);
        }
    }
    places
}

/// One look; how long to wait for the next.
async fn look(shared: &Arc<Shared>, pool: &Arc<Pool>, place: &str) -> Duration {
    let read = tokio::time::timeout(PATIENCE, read(shared, pool)).await;
    let rows = match read.unwrap_or_else(|_| Err("it took too long".to_owned())) {
        Ok(Some(rows)) => rows,
        Ok(None) => return EVERY,
        Err(why) => {
            tracing::warn!(
                %place, user = %pool.user, %why, "pg_stat_statements cannot be read: no query_id beside fingerprints of this database; tried again in an hour"
            );
            return AFTER_FAILURE;
        }
    };
    let telemetry = shared.telemetry.clone();
    let compat = Compat::of_major(shared.settings().observe.compat).unwrap_or_default();
    // Thousands of texts take a while: logins must not wait for it.
    if let Ok(ids) = tokio::task::spawn_blocking(move || join(&telemetry, compat, &rows)).await {
        shared.telemetry.server_ids.keep(place, ids, Instant::now());
    }
    EVERY
}

/// Ids and texts; `None`: no server answers.
async fn read(shared: &Arc<Shared>, pool: &Arc<Pool>) -> Result<Option<Vec<Row>>, String> {
    let Some(mut session) = Session::open(shared, pool, Kind::Statements).await else { return Ok(None) };
    session.prepare().await?;
    let schema = session.rows(SCHEMA).await?.into_iter().flatten().flatten().next();
    let schema = schema.ok_or("the extension is not in this database: CREATE EXTENSION pg_stat_statements")?;
    let rows = session.rows(&question(&String::from_utf8_lossy(&schema))).await?;
    if !rows.is_empty() && rows.iter().all(|row| matches!(row.first(), Some(None))) {
        return Err("this user may not see any of them: grant it pg_read_all_stats".to_owned());
    }
    Ok(Some(rows))
}

/// `schema` is quoted. Statements whose user is another one are without id and text for those who may not see them.
fn question(schema: &str) -> String {
    format!(
        "SELECT queryid, query FROM {schema}.pg_stat_statements \
         WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         AND (queryid IS NULL OR octet_length(query) <= {}) \
         ORDER BY queryid IS NULL, total_exec_time DESC LIMIT {MAX_ROWS}",
        policy::stored::MAX_TEXT
    )
}

/// The ids of statements that are known here.
fn join(telemetry: &Telemetry, compat: Compat, rows: &[Row]) -> Ids {
    let known: HashSet<u64, FxBuildHasher> =
        telemetry.statements().iter().map(|row| row.text.facts.strict).filter(|strict| *strict != 0).collect();
    let mut analyser = Analyser::new(compat);
    let mut ids = Ids::default();
    for row in rows {
        let [Some(id), Some(text)] = row.as_slice() else { continue };
        let Some(id) = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()) else { continue };
        for strict in policy::stored::strict_ids(&mut analyser, text) {
            if known.contains(&strict) {
                add(ids.entry(strict).or_default(), id);
            }
        }
    }
    ids
}

fn add(ids: &mut Vec<i64>, id: i64) {
    if ids.len() < MAX_IDS && !ids.contains(&id) {
        ids.push(id);
    }
}

#[cfg(test)]
mod tests {
    use policy::statement::Class;

    use super::*;
    use crate::telemetry::testing::{telemetry_with, tenants, unknown_facts};
    use crate::telemetry::{Bounds, Finished, StatementText};

    #[test]
    fn ids_go_to_the_statements_that_are_known() {
        let telemetry = telemetry_with(Bounds::default(), tenants(10));
        let worker = telemetry.worker("0");
        let sent = Analyser::default().analyse(b"select v from t where a = 1").strict;
        let text = || StatementText { class: Class::Select, facts: unknown_facts(sent), text: "x".into() };
        worker.statement(sent, telemetry.tenants.id("acme").into(), text).record(&Finished::default());
        let row = |id: &str, text: &str| vec![Some(id.as_bytes().into()), Some(text.as_bytes().into())];
        let mut rows = vec![
            row("-17", "select v from t where a = $1"),
            row("18", "select v from elsewhere where a = $1"),
            row("x", "select v from t where a = $1"),
            vec![None, Some(b"select v from t where a = $1".as_slice().into())],
            vec![],
        ];
        let ids = join(&telemetry, Compat::default(), &rows);
        assert_eq!(ids.into_iter().collect::<Vec<_>>(), [(sent, vec![-17])]);
        rows.extend((0..50).map(|id| row(&id.to_string(), "select v from t where a = $1")));
        assert_eq!(join(&telemetry, Compat::default(), &rows)[&sent].len(), MAX_IDS);
    }

    #[test]
    fn databases_are_told_together_and_have_an_end() {
        let ids = |id: i64| Ids::from_iter([(1, vec![id, 7])]);
        let (all, now) = (ServerIds::default(), Instant::now());
        all.keep("a", ids(1), now);
        all.keep("b", ids(2), now);
        assert_eq!(all.all()[&1], [1, 7, 2]);
        all.keep("a", ids(3), now + EVERY);
        assert_eq!(all.all()[&1], [3, 7, 2]);
        for place in 0..2 * MAX_PLACES {
            all.keep(&place.to_string(), ids(place as i64 + 10), now + EVERY * 2);
        }
        assert_eq!(all.all()[&1].len(), MAX_IDS);
        assert_eq!(lock(&all.0).len(), MAX_PLACES);
        all.clear();
        assert!(all.all().is_empty());
    }
}
