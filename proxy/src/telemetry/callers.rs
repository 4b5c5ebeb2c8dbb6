//! Which applications were seen to run a statement, and in which databases.
//!
//! Counting statements by application on the path of a query would take a counter for each pair. The analyst hears of
//! statements anyway, with whom they come from: it notes the pairs here. What it does not hear of, because of
//! `observe.events_per_second` or because detection is off, is not in here: counts are of what was seen.

use std::collections::HashMap;
use std::sync::Mutex;

use super::snapshot::OTHERS;
use super::{TenantId, lock};

/// Statements by caller that are kept; further ones are counted as turned away.
const MAX_ROWS: usize = 50_000;
/// Names that are kept: they come from clients. Those beyond are one.
const MAX_NAMES: usize = 4_096;
/// The longest name that is kept, in bytes; of a longer one, its beginning.
const MAX_NAME: usize = 128;

/// What was seen to run a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Caller {
    /// An application, by its `application_name`.
    Application,
    /// Anybody in a database.
    Database,
}

/// Statements by caller. Written by the analyst, read by the admin port.
#[derive(Debug, Default)]
pub struct Callers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    names: HashMap<Box<str>, u32>,
    list: Vec<Box<str>>,
    rows: super::worker::Map<(u64, TenantId, Caller, u32), Seen>,
    turned_away: u64,
}

/// How often, and when last in µs since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Times seen.
    pub count: u64,
    /// Last time.
    pub last_us: u64,
}

impl Callers {
    /// A statement of a tenant was run by this application in this database.
    pub fn note(&self, strict: u64, tenant: TenantId, application: &str, database: &str, now_us: u64) {
        let mut inner = lock(&self.0);
        for (caller, name) in [(Caller::Application, application), (Caller::Database, database)] {
            let name = inner.name(beginning(name));
            let key = (strict, tenant, caller, name);
            if inner.rows.len() >= MAX_ROWS && !inner.rows.contains_key(&key) {
                inner.turned_away += 1;
                continue;
            }
            let seen = inner.rows.entry(key).or_default();
            seen.count += 1;
            seen.last_us = seen.last_us.max(now_us);
        }
    }

    /// Statements that a caller was seen to run, each with whose it was.
    pub fn statements_of(&self, caller: Caller, name: &str) -> super::worker::Map<(u64, TenantId), Seen> {
        let inner = lock(&self.0);
        let Some(wanted) = inner.names.get(beginning(name)) else { return super::worker::Map::default() };
        let rows = inner.rows.iter().filter(|((_, _, kind, known), _)| *kind == caller && known == wanted);
        rows.map(|((strict, tenant, ..), seen)| ((*strict, *tenant), *seen)).collect()
    }

    /// In which database each statement was seen most often, by a number that [`Callers::name`] knows.
    pub fn databases(&self) -> super::worker::Map<(u64, TenantId), u32> {
        let inner = lock(&self.0);
        let mut most = super::worker::Map::<(u64, TenantId), (u64, u32)>::default();
        for ((strict, tenant, caller, name), seen) in &inner.rows {
            if *caller == Caller::Database {
                let known = most.entry((*strict, *tenant)).or_default();
                *known = (*known).max((seen.count, *name));
            }
        }
        most.into_iter().map(|(key, (_, name))| (key, name)).collect()
    }

    /// The name behind a number; empty if there is none.
    pub fn name(&self, number: u32) -> String {
        lock(&self.0).list.get(number as usize).map_or_else(String::new, |name| name.to_string())
    }

    /// Who was seen to run a statement, a tenant's or all tenants'; the most often seen first.
    pub fn of_statement(&self, strict: u64, tenant: Option<TenantId>, caller: Caller) -> Vec<(String, Seen)> {
        let inner = lock(&self.0);
        let mut sums: HashMap<&str, Seen> = HashMap::new();
        for ((known, owner, kind, name), seen) in &inner.rows {
            if *known == strict && *kind == caller && tenant.is_none_or(|tenant| tenant == *owner) {
                let name = inner.list.get(*name as usize).map_or(OTHERS, |name| &**name);
                let sum = sums.entry(name).or_default();
                sum.count += seen.count;
                sum.last_us = sum.last_us.max(seen.last_us);
            }
        }
        let mut rows: Vec<_> = sums.into_iter().map(|(name, seen)| (name.to_owned(), seen)).collect();
        rows.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
        rows
    }

    /// Pairs kept, and times that one found no room.
    pub fn size(&self) -> (usize, u64) {
        let inner = lock(&self.0);
        (inner.rows.len(), inner.turned_away)
    }
}

impl Inner {
    fn name(&mut self, name: &str) -> u32 {
        if let Some(known) = self.names.get(name) {
            return *known;
        }
        if self.list.len() >= MAX_NAMES {
            return u32::MAX;
        }
        let number = self.list.len() as u32;
        self.list.push(name.into());
        self.names.insert(name.into(), number);
        number
    }
}

fn beginning(name: &str) -> &str {
    let end = (0..=MAX_NAME.min(name.len())).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_what_is_found_both_ways_and_told_apart_by_tenant() {
        let callers = Callers::default();
        let [acme, beta] = [TenantId(1), TenantId(2)];
        for (strict, tenant, application) in [(7, acme, "web"), (7, acme, "web"), (7, beta, "batch"), (8, acme, "web")]
        {
            callers.note(strict, tenant, application, "app", 5);
        }
        let of = |caller, name| callers.statements_of(caller, name);
        let keys = |found: super::super::worker::Map<_, Seen>| {
            let mut keys: Vec<_> = found.into_keys().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(of(Caller::Application, "web")), [(7, acme), (8, acme)]);
        assert_eq!(keys(of(Caller::Database, "app")).len(), 3);
        assert!(of(Caller::Application, "app").is_empty() && of(Caller::Application, "nobody").is_empty());
        let seen = |count| Seen { count, last_us: 5 };
        let all = callers.of_statement(7, None, Caller::Application);
        assert_eq!(all, [("web".to_owned(), seen(2)), ("batch".to_owned(), seen(1))]);
        assert_eq!(callers.of_statement(7, Some(beta), Caller::Application), [("batch".to_owned(), seen(1))]);
    }

    #[test]
    fn a_statement_is_of_the_database_that_it_is_seen_in_most() {
        let callers = Callers::default();
        for (strict, database, times) in [(7, "app", 3), (7, "copy", 2), (8, "copy", 1)] {
            (0..times).for_each(|_| callers.note(strict, TenantId(1), "web", database, 5));
        }
        let databases = callers.databases();
        let of = |strict| databases.get(&(strict, TenantId(1))).map(|number| callers.name(*number));
        assert_eq!((of(7).as_deref(), of(8).as_deref(), of(9)), (Some("app"), Some("copy"), None));
        assert_eq!(callers.name(u32::MAX), "");
    }

    #[test]
    fn what_clients_invent_takes_a_bounded_room() {
        let callers = Callers::default();
        for n in 0..MAX_ROWS as u64 {
            callers.note(n, TenantId(1), &format!("app {n}"), "app", n);
        }
        let (rows, turned_away) = callers.size();
        assert_eq!((rows, turned_away), (MAX_ROWS, MAX_ROWS as u64));
        let inner = lock(&callers.0);
        assert!(inner.list.len() == MAX_NAMES && inner.names.len() == MAX_NAMES);
    }
}
