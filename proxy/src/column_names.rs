//! What a database's catalog calls the columns that findings name.
//!
//! A result says of each column which table and which number it is, and calls it whatever its statement wants. A finding
//! names the table's own column, so its name is asked for when the finding is told, and never before:
//!
//! ```text
//! analyst ── a finding is told ─► find: known? ──► named at once
//!                                  └─► wanted ─► control thread: one look at pg_attribute ─► arrived ─► analyst: named now
//! ```
//!
//! Nobody waits for it: without a connection, or a place for one, a finding is told by the names in its statements.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use policy::observe::ColumnName;
use rustc_hash::FxBuildHasher;
use tokio::sync::Notify;

use crate::aside::Kind;
use crate::inspect::{Row, Session};
use crate::pool::Pool;
use crate::shared::Shared;
use crate::telemetry::lock;

/// How long a name is believed, and how long nobody asks again where none was found. A schema may be changed past the
/// proxy; a finding is told once a minute at most.
const LIFETIME_US: u64 = 60_000_000;
/// How long one look may take, login included.
const PATIENCE: Duration = Duration::from_secs(5);
/// Names that are kept; a full table is emptied.
const MAX_KNOWN: usize = 10_000;
/// Names that may be waited for; further findings do without.
const MAX_WANTED: usize = 1_000;
/// Names that one look asks for.
const MAX_AT_ONCE: usize = 100;
/// How often a look is repeated that a change of the schema has overtaken.
const MAX_TRIES: u8 = 3;

/// A column by the server's own numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The database as clients ask for it.
    pub database: String,
    /// The table's OID.
    pub table_oid: u32,
    /// The column's number in it.
    pub attribute: i16,
}

/// Names of columns, and those that are asked for. Asked by the analyst, answered by the control thread.
#[derive(Debug, Default)]
pub struct ColumnNames {
    inner: Mutex<Inner>,
    asked: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Place, Known, FxBuildHasher>,
    /// With the user whose connection may be used, and how often it was tried.
    wanted: BTreeMap<Place, (String, u8)>,
    under_way: BTreeSet<Place>,
    arrived: Vec<(Place, ColumnName)>,
    /// Grows with each change of a schema that was seen.
    changes: u64,
}

/// `None`: the catalog has no such column, or could not be read.
#[derive(Debug)]
struct Known {
    name: Option<ColumnName>,
    at_us: u64,
}

/// What one look asks for, all of one database.
#[derive(Debug)]
struct Question {
    places: BTreeMap<Place, (String, u8)>,
    changes: u64,
}

impl ColumnNames {
    /// The name of a column, if it is known. One that is not, or not any more, is asked for: as this user.
    pub fn find(&self, place: &Place, user: &str, now_us: u64) -> Option<ColumnName> {
        let mut inner = lock(&self.inner);
        let known = inner.known.get(place);
        let fresh = known.is_some_and(|known| now_us < known.at_us.saturating_add(LIFETIME_US));
        // The old name until there is a new one: most are what they were.
        let name = known.and_then(|known| known.name.clone());
        if !fresh && inner.wanted.len() < MAX_WANTED && !inner.is_waited_for(place) {
            inner.wanted.insert(place.clone(), (user.to_owned(), 0));
            self.asked.notify_one();
        }
        name
    }

    /// Whether an answer is still to come.
    pub fn is_waited_for(&self, place: &Place) -> bool {
        lock(&self.inner).is_waited_for(place)
    }

    /// What has been answered since this was last asked.
    pub fn arrived(&self) -> Vec<(Place, ColumnName)> {
        std::mem::take(&mut lock(&self.inner).arrived)
    }

    /// A statement may have changed the schema of this database.
    pub fn forget(&self, database: &str) {
        let mut inner = lock(&self.inner);
        inner.changes += 1;
        inner.known.retain(|place, _| place.database != database);
    }

    /// The next question, of the first database that something is wanted of.
    fn next(&self) -> Option<Question> {
        let mut inner = lock(&self.inner);
        let database = inner.wanted.keys().next()?.database.clone();
        let of_it = inner.wanted.keys().take_while(|place| place.database == database).take(MAX_AT_ONCE);
        let of_it: Vec<Place> = of_it.cloned().collect();
        let places: BTreeMap<_, _> = of_it.iter().filter_map(|place| inner.wanted.remove_entry(place)).collect();
        inner.under_way = of_it.into_iter().collect();
        Some(Question { places, changes: inner.changes })
    }

    /// Takes an answer; of what is not in it nothing is known. One that a change of the schema has overtaken is no answer:
    /// the question is put again, but not for ever.
    fn answer(&self, question: Question, mut names: HashMap<(u32, i16), ColumnName>, now_us: u64) {
        let mut inner = lock(&self.inner);
        inner.under_way.clear();
        let overtaken = inner.changes != question.changes;
        for (place, (user, tries)) in question.places {
            if overtaken && tries < MAX_TRIES {
                inner.wanted.insert(place, (user, tries + 1));
                continue;
            }
            let name = names.remove(&(place.table_oid, place.attribute));
            if let Some(name) = &name {
                inner.arrived.push((place.clone(), name.clone()));
            }
            if !overtaken {
                inner.keep(place, Known { name, at_us: now_us });
            }
        }
    }
}

impl Inner {
    fn is_waited_for(&self, place: &Place) -> bool {
        self.wanted.contains_key(place) || self.under_way.contains(place)
    }

    fn keep(&mut self, place: Place, known: Known) {
        if self.known.len() >= MAX_KNOWN && !self.known.contains_key(&place) {
            self.known.clear();
        }
        self.known.insert(place, known);
    }
}

/// Answers what is asked as long as the process lives.
pub async fn watch(shared: Arc<Shared>) {
    let names = &shared.telemetry.column_names;
    loop {
        names.asked.notified().await;
        while let Some(question) = names.next() {
            let read = tokio::time::timeout(PATIENCE, read(&shared, &question)).await;
            let found = read.ok().flatten().unwrap_or_default();
            let now_us = shared.telemetry.clock.micros(Instant::now());
            names.answer(question, found, now_us);
        }
    }
}

/// The names; `None`: nobody answers.
async fn read(shared: &Arc<Shared>, question: &Question) -> Option<HashMap<(u32, i16), ColumnName>> {
    let pool = pool(shared, question)?;
    let mut session = Session::open(shared, &pool, Kind::ColumnNames).await?;
    session.prepare().await.ok()?;
    let rows = session.rows(&question.sql()).await.ok()?;
    Some(rows.iter().filter_map(named).collect())
}

/// A pool of the database, that of the finding's own user if it is still there.
fn pool(shared: &Shared, question: &Question) -> Option<Arc<Pool>> {
    let (place, (user, _)) = question.places.first_key_value()?;
    if shared.pools.is_paused(&place.database) {
        return None;
    }
    let usable = |pool: &Arc<Pool>| {
        let gone = pool.removed.load(Ordering::Relaxed) || pool.replication.is_some();
        *pool.database == *place.database && !gone && pool.welcome().is_some()
    };
    shared.pools.all().into_iter().filter(usable).max_by_key(|pool| *pool.user == **user)
}

impl Question {
    fn sql(&self) -> String {
        let pairs: Vec<String> =
            self.places.keys().map(|place| format!("({},{})", place.table_oid, place.attribute)).collect();
        format!(
            "SELECT a.attrelid, a.attnum, c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE NOT a.attisdropped AND (a.attrelid, a.attnum) IN ({})",
            pairs.join(",")
        )
    }
}

fn named(row: &Row) -> Option<((u32, i16), ColumnName)> {
    let mut texts = row.iter().map(|value| value.as_deref().and_then(|value| std::str::from_utf8(value).ok()));
    let mut next = || texts.next().flatten();
    let numbers = (next()?.parse().ok()?, next()?.parse().ok()?);
    Some((numbers, ColumnName { table: next()?.to_owned(), column: next()?.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(database: &str, attribute: i16) -> Place {
        Place { database: database.into(), table_oid: 7, attribute }
    }

    fn name(column: &str) -> ColumnName {
        ColumnName { table: "runs".into(), column: column.into() }
    }

    fn answer(names: &ColumnNames, column: &str, now_us: u64) {
        let question = names.next().expect("something is asked");
        names.answer(question, HashMap::from([((7, 1), name(column))]), now_us);
    }

    #[test]
    fn a_name_is_asked_for_once_and_believed_for_a_minute() {
        let names = ColumnNames::default();
        assert_eq!((names.find(&place("a", 1), "u", 0), names.find(&place("a", 1), "u", 0)), (None, None));
        assert!(names.is_waited_for(&place("a", 1)));
        answer(&names, "id", 10);
        assert!(names.next().is_none() && !names.is_waited_for(&place("a", 1)));
        assert_eq!(names.arrived(), [(place("a", 1), name("id"))]);
        assert_eq!(names.find(&place("a", 1), "u", 9 + LIFETIME_US), Some(name("id")));
        assert!(names.next().is_none());
        assert_eq!(names.find(&place("a", 1), "u", 10 + LIFETIME_US), Some(name("id")), "until there is another");
        answer(&names, "number", 20 + LIFETIME_US);
        assert_eq!(names.arrived(), [(place("a", 1), name("number"))]);
    }

    #[test]
    fn what_nobody_can_say_is_not_asked_for_again_at_once() {
        let names = ColumnNames::default();
        assert_eq!(names.find(&place("a", 2), "u", 0), None);
        answer(&names, "another", 10);
        assert_eq!((names.find(&place("a", 2), "u", 11), names.arrived().len()), (None, 0));
        assert!(names.next().is_none());
        assert_eq!(names.find(&place("a", 2), "u", 10 + LIFETIME_US), None);
        assert!(names.next().is_some());
    }

    #[test]
    fn a_change_of_the_schema_overtakes_names_and_questions() {
        let names = ColumnNames::default();
        for database in ["a", "b"] {
            names.find(&place(database, 1), "u", 0);
            answer(&names, "id", 0);
        }
        names.forget("a");
        assert_eq!(names.find(&place("b", 1), "u", 1), Some(name("id")), "another database's");
        assert_eq!((names.find(&place("a", 1), "u", 1), names.arrived().len()), (None, 2));
        let question = names.next().unwrap();
        names.forget("a");
        names.answer(question, HashMap::from([((7, 1), name("id"))]), 1);
        assert!(names.arrived().is_empty(), "it may have been read before the change");
        answer(&names, "number", 2);
        assert_eq!(names.find(&place("a", 1), "u", 3), Some(name("number")));
        names.forget("a");
        names.find(&place("a", 1), "u", 4);
        let mut asked = 0;
        while let Some(question) = names.next() {
            asked += 1;
            names.forget("a");
            names.answer(question, HashMap::from([((7, 1), name("number"))]), 4);
        }
        assert_eq!(asked, 1 + usize::from(MAX_TRIES), "a schema that always changes is not asked for ever");
        assert_eq!(names.find(&place("a", 1), "u", 5), None, "nor is what was read believed");
    }

    #[test]
    fn tables_have_an_end_and_a_question_is_one_database_s() {
        let names = ColumnNames::default();
        for attribute in 1..=2 * MAX_WANTED as i16 {
            names.find(&place(if attribute % 2 == 0 { "a" } else { "b" }, attribute), "u", 0);
        }
        assert_eq!(lock(&names.inner).wanted.len(), MAX_WANTED);
        while let Some(question) = names.next() {
            assert!(question.places.len() <= MAX_AT_ONCE);
            let first = question.places.keys().next().unwrap().database.clone();
            assert!(question.places.keys().all(|place| place.database == first));
            names.answer(question, HashMap::new(), 0);
        }
        let mut inner = lock(&names.inner);
        for attribute in 1..=2 * MAX_KNOWN as i16 {
            inner.keep(place("c", attribute), Known { name: None, at_us: 0 });
        }
        assert!(inner.known.len() <= MAX_KNOWN);
    }
}
