//! Tenants from a table in a database: a row is what a file of `tenant.directory` is.
//!
//! ```text
//!  keeper ──► fingerprint, another one than before? ──► rows ──► here: each read, unless it is the same
//!    ▲                       │ no                                      │ one that is wrong: what its tenant had
//!    └─────── interval ◄─────┴──────────── workers are told ◄── Rules ◄┘ all of them at once
//! ```
//!
//! Nobody waits for any of it: until the table has been read, and as long as it cannot be, what was known holds; at the
//! start that is what the configuration says. Whoever wants nobody to be served before needs limits in `[tenant.default]`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use config::{Limits, TenantRows};
use tokio::sync::{Notify, oneshot};

pub(crate) mod keeper;
pub(crate) mod read;

use read::Row;

/// Rows that are wrong of which the admin port and the log tell one by one.
pub(crate) const MAX_TOLD: usize = 20;

/// What is known of the table. Written by its keeper, read by the admin port.
#[derive(Debug, Default)]
pub struct TenantTable {
    known: Mutex<Known>,
    /// Other settings are in force.
    pub(crate) changed: Notify,
    /// Commands that its keeper has not answered yet.
    asked: Mutex<Vec<Asked>>,
    /// There are some.
    called: Notify,
}

/// What a command wants of the keeper: to look again, and whether on another connection.
#[derive(Debug)]
struct Asked {
    ends: bool,
    /// Nothing is ever said: it is dropped when there is nothing more to wait for.
    _done: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Known {
    rows: HashMap<Box<str>, Kept>,
    standing: Option<Standing>,
}

/// One tenant's row.
#[derive(Debug, Clone, Default)]
struct Kept {
    /// What it says; `None`: it stands there twice, and has to be read again whatever it says.
    text: Option<Box<str>>,
    /// What holds; `None`: nothing, since no row of it was ever right.
    limits: Option<Limits>,
    wrong: Option<Box<str>>,
    /// The configuration itself says something of the tenant.
    beside: bool,
}

/// How it stands with the table, for operators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The database that has it.
    pub database: String,
    /// Tenants whose limits come from it.
    pub tenants: usize,
    /// Rows that are wrong.
    pub wrong: usize,
    /// Some of those: whose they are, and what is wrong.
    pub told: Vec<(String, String)>,
    /// When it was last found to be as it is known; `None`: never.
    pub read: Option<SystemTime>,
    /// Why it cannot be read; `None`: it can.
    pub trouble: Option<String>,
}

/// What has come of reading it.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// What holds from now on.
    pub(crate) rows: TenantRows,
    /// Rows that are wrong, and were not so before or in another way.
    pub(crate) wrong: Vec<(String, String)>,
}

impl TenantTable {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the table looked at now, where it may be; `ends`: its connection is closed before. What is returned ends when
    /// that, and whatever was asked for before, is done.
    pub(crate) fn call(&self, ends: bool) -> oneshot::Receiver<()> {
        let (done, answered) = oneshot::channel();
        self.asked().push(Asked { ends, _done: done });
        self.called.notify_one();
        answered
    }

    /// How it stands; `None`: there is no table.
    pub fn standing(&self) -> Option<Standing> {
        self.known().standing.clone()
    }

    /// There is no table any more. `true`: there was one.
    fn forget(&self) -> bool {
        std::mem::take(&mut *self.known()).standing.is_some()
    }

    /// It could not be read. `true`: before it could, or nobody had tried.
    fn failed(&self, database: &str, why: &str) -> bool {
        let mut known = self.known();
        let standing = known.standing.get_or_insert_default();
        database.clone_into(&mut standing.database);
        standing.trouble.replace(why.to_owned()).is_none()
    }

    /// It has been looked at, and what is known is what it says. `true`: before it could not be read.
    fn is_well(&self, database: &str, now: SystemTime) -> bool {
        let mut known = self.known();
        let standing = known.standing.get_or_insert_default();
        database.clone_into(&mut standing.database);
        standing.read = Some(now);
        standing.trouble.take().is_some()
    }

    /// Takes over what it says. `own`: tenants of whom the configuration itself says something.
    pub(crate) fn take(&self, read: Vec<Row>, own: &BTreeMap<String, Limits>) -> Taken {
        let mut known = self.known();
        let before = std::mem::take(&mut known.rows);
        let mut rows: HashMap<Box<str>, Kept> = HashMap::with_capacity(read.len());
        let (mut taken, mut all_wrong, mut nameless) = (Taken::default(), Vec::new(), 0usize);
        for Row { tenant, limits } in read {
            let Some(tenant) = tenant else {
                nameless += 1;
                continue;
            };
            let last = before.get(&*tenant);
            let kept = if rows.contains_key(&*tenant) { twice(last) } else { kept(&tenant, limits, last) };
            rows.insert(tenant, kept);
        }
        for (tenant, kept) in &mut rows {
            kept.beside = own.contains_key(&**tenant);
            if let Some(why) = kept.why() {
                let last = before.get(tenant).and_then(Kept::why);
                if last != Some(why) {
                    taken.wrong.push((tenant.to_string(), why.to_owned()));
                }
                all_wrong.push((tenant.to_string(), why.to_owned()));
            }
            if let Some(limits) = &kept.limits {
                taken.rows.insert(tenant.to_string(), limits.clone());
            }
        }
        let standing = known.standing.get_or_insert_default();
        if nameless > 0 {
            let told = (String::new(), format!("{nameless} rows have no tenant (NULL); give each a name"));
            // It stands before all names.
            if standing.told.first() != Some(&told) {
                taken.wrong.push(told.clone());
            }
            all_wrong.push(told);
        }
        all_wrong.sort_unstable();
        taken.wrong.sort_unstable();
        standing.tenants = taken.rows.keys().filter(|name| !own.contains_key(*name)).count();
        standing.wrong = all_wrong.len();
        all_wrong.truncate(MAX_TOLD);
        standing.told = all_wrong;
        known.rows = rows;
        taken
    }
}

impl Kept {
    /// What is wrong with it.
    fn why(&self) -> Option<&str> {
        let beside = self.beside.then_some("stands in the configuration too, which counts; remove one of the two");
        self.wrong.as_deref().or(beside)
    }
}

/// A row that is the same as before says what it said.
fn kept(tenant: &str, limits: Option<Box<str>>, last: Option<&Kept>) -> Kept {
    let Some(text) = limits else {
        return Kept { limits: good(last), wrong: Some("is longer than 64 KiB; say less".into()), ..Kept::default() };
    };
    if let Some(last) = last.filter(|last| last.text.as_ref() == Some(&text)) {
        return last.clone();
    }
    match Limits::from_row(tenant, &text) {
        Ok(limits) => Kept { text: Some(text), limits: Some(limits), ..Kept::default() },
        Err(why) => Kept { text: Some(text), limits: good(last), wrong: Some(why.into()), beside: false },
    }
}

/// Nobody can tell which of two rows is meant.
fn twice(last: Option<&Kept>) -> Kept {
    Kept { limits: good(last), wrong: Some("stands in two rows; remove one of them".into()), ..Kept::default() }
}

/// What held.
fn good(last: Option<&Kept>) -> Option<Limits> {
    last.and_then(|last| last.limits.clone())
}

#[cfg(test)]
mod tests {
    use config::LimitKey;

    use super::*;

    fn rows(read: &[(&str, &str)]) -> Vec<Row> {
        read.iter().map(|(tenant, text)| Row { tenant: Some((*tenant).into()), limits: Some((*text).into()) }).collect()
    }

    /// Rows that each tenant may read, and whose rows are newly told to be wrong.
    fn taken(table: &TenantTable, read: Vec<Row>, own: &[&str]) -> (Vec<(String, u64)>, Vec<String>) {
        let own = own.iter().map(|name| ((*name).to_owned(), Limits::default())).collect();
        let Taken { rows, wrong } = table.take(read, &own);
        let most = rows.iter().map(|(name, limits)| (name.clone(), limits.count(LimitKey::MaxRows).unwrap_or(0)));
        (most.collect(), wrong.into_iter().map(|(name, _)| name).collect())
    }

    fn some(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    }

    #[test]
    fn a_row_that_is_wrong_leaves_its_tenant_what_it_had_and_is_told_once() {
        let table = TenantTable::default();
        let first = rows(&[("a", "max_rows = 1"), ("b", "max_rows = 2"), ("c", "")]);
        assert_eq!(taken(&table, first, &[]), (some(&[("a", 1), ("b", 2), ("c", 0)]), vec![]));
        let wrong = [("a", "max_rows = 3"), ("b", "max_row = 4"), ("d", "max_row = 5")];
        let held = some(&[("a", 3), ("b", 2)]);
        assert_eq!(taken(&table, rows(&wrong), &[]), (held.clone(), vec!["b".to_owned(), "d".to_owned()]));
        assert_eq!(taken(&table, rows(&wrong), &[]), (held.clone(), vec![]), "and not again");
        let other = [("a", "max_rows = 3"), ("b", "max_bites = 4"), ("d", "max_row = 5")];
        assert_eq!(taken(&table, rows(&other), &[]), (held, vec!["b".to_owned()]), "it is wrong in another way");
        let standing = table.standing().unwrap();
        assert_eq!((standing.tenants, standing.wrong, standing.told.len()), (2, 2, 2));
        assert!(standing.told[0].1.contains("max_bites"), "{standing:?}");
        assert_eq!(taken(&table, rows(&[("b", "max_rows = 6")]), &[]), (some(&[("b", 6)]), vec![]));
        assert_eq!(table.standing().unwrap().wrong, 0);
        assert_eq!(taken(&table, vec![], &[]), (vec![], vec![]), "what is gone holds no more");
    }

    #[test]
    fn two_rows_of_one_tenant_are_none() {
        let table = TenantTable::default();
        taken(&table, rows(&[("a", "max_rows = 1")]), &[]);
        let two = [("a", "max_rows = 2"), ("a", "max_rows = 3"), ("b", ""), ("b", "")];
        assert_eq!(taken(&table, rows(&two), &[]), (some(&[("a", 1)]), vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(taken(&table, rows(&two), &[]).1, Vec::<String>::new());
        assert_eq!(taken(&table, rows(&two[1..3]), &[]), (some(&[("a", 3), ("b", 0)]), vec![]));
    }

    #[test]
    fn rows_without_a_name_or_too_long_or_of_the_configuration_are_told() {
        let table = TenantTable::default();
        let mut read = rows(&[("own", "max_rows = 1")]);
        read.push(Row { tenant: None, limits: Some("".into()) });
        read.push(Row { tenant: Some("long".into()), limits: None });
        let (_, told) = taken(&table, read.clone(), &["own"]);
        assert_eq!(told, ["", "long", "own"]);
        assert_eq!(taken(&table, read, &["own"]).1, Vec::<String>::new(), "once");
        let standing = table.standing().unwrap();
        assert_eq!((standing.tenants, standing.wrong), (0, 3), "what the configuration says counts");
    }

    #[test]
    fn trouble_is_told_when_it_begins_and_when_it_ends() {
        let (table, now) = (TenantTable::default(), SystemTime::now());
        assert_eq!(table.standing(), None);
        assert!(table.failed("app", "refused") && !table.failed("app", "timed out"));
        assert_eq!(table.standing().unwrap().trouble.as_deref(), Some("timed out"));
        assert!(table.is_well("app", now) && !table.is_well("app", now));
        assert_eq!(table.standing().unwrap().read, Some(now));
        assert!(table.failed("app", "refused"));
        assert_eq!(table.standing().unwrap().read, Some(now), "it was read then");
        assert!(table.forget() && !table.forget());
    }
}
