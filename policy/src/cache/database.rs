//! What the cache knows of one database: its generations, its slot, and the writes of which nobody knows how they ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::catalog::Touched;
use super::freshness::{Lsn, Slot};
use super::generation::{Counter, Generation};
use super::snapshot::{Heard, Snapshot, Xid};
use super::write::{Cause, Write};

/// One table's generation, and the transactions that wrote to it without being seen yet.
#[derive(Debug, Default)]
pub struct Table {
    pub(super) counter: Counter,
    pub(super) heard: Heard,
}

impl Table {
    /// Its generation now.
    pub fn generation(&self) -> Generation {
        self.counter.now()
    }
}

/// What a write touches, looked up: kept beside a statement's shape, so that a write looks nothing up.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    pub(super) tables: Box<[Arc<Table>]>,
    pub(super) everything: bool,
    pub(super) catalog: bool,
}

impl Footprint {
    /// Whether no answer can depend on it.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && !self.everything && !self.catalog
    }

    pub(super) fn counters<'a>(&'a self, database: &'a Database) -> impl Iterator<Item = &'a Counter> {
        let whole = self.everything.then_some(&database.everything);
        let catalog = self.catalog.then_some(&database.catalog);
        self.tables.iter().map(|table| &table.counter).chain(whole).chain(catalog)
    }
}

/// Longest list of writes whose end is not known.
const MAX_HELD: usize = 4_096;

/// One database of one server. Shared by all workers.
///
/// The catalog's generation is the *epoch* of keys: it changes with DDL, grants, policies, roles, a fail-over, and whenever
/// writes may have gone unheard.
#[derive(Debug)]
pub struct Database {
    pub(super) catalog: Counter,
    pub(super) everything: Counter,
    pub(super) heard: Heard,
    tables: RwLock<BTreeMap<u32, Arc<Table>>>,
    slot: Slot,
    held: Mutex<Vec<(Cause, Write)>>,
    /// Writes that were dropped although nobody knows how they ended: their tables stay odd.
    pub(super) dropped: AtomicU64,
}

impl Database {
    /// A database of which nothing is cached yet.
    pub fn new(slot: Slot) -> Self {
        Self {
            catalog: Counter::default(),
            everything: Counter::default(),
            heard: Heard::default(),
            tables: RwLock::default(),
            slot,
            held: Mutex::default(),
            dropped: AtomicU64::new(0),
        }
    }

    /// What is known of writes from outside.
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The epoch now.
    pub fn epoch(&self) -> Generation {
        self.catalog.now()
    }

    /// The table of this number. It is made where it is new: a write that is under way before anybody has read its table
    /// must be seen by who reads it first. It is never taken away, since footprints keep it; the catalog is their bound.
    pub fn table(&self, oid: u32) -> Arc<Table> {
        if let Some(table) = self.tables.read().unwrap_or_else(PoisonError::into_inner).get(&oid) {
            return Arc::clone(table);
        }
        Arc::clone(self.tables.write().unwrap_or_else(PoisonError::into_inner).entry(oid).or_default())
    }

    /// The tables of these numbers.
    pub fn tables(&self, oids: impl IntoIterator<Item = u32>) -> Arc<[Arc<Table>]> {
        oids.into_iter().map(|oid| self.table(oid)).collect()
    }

    /// What a write of this reach touches.
    pub fn footprint(&self, touched: &Touched) -> Arc<Footprint> {
        Arc::new(Footprint {
            tables: touched.tables().iter().map(|oid| self.table(*oid)).collect(),
            everything: touched.is_everything(),
            catalog: touched.is_catalog(),
        })
    }

    /// A transaction from outside has committed: the slot says so, at `end` of the log. It may not be visible yet.
    ///
    /// The transaction is added before the generations change; see [`Reading`](super::Reading) for the other side.
    pub fn heard(&self, xid: Xid, footprint: &Footprint, end: Lsn) {
        self.note(xid, footprint);
        self.invalidate(footprint);
        self.slot.applied(end);
    }

    pub(super) fn note(&self, xid: Xid, footprint: &Footprint) {
        footprint.tables.iter().for_each(|table| table.heard.add(xid));
        if footprint.everything || footprint.catalog {
            self.heard.add(xid);
        }
    }

    /// What an operator asks for, or a catalog that is not what it was: whatever depends on this is not served again.
    pub fn invalidate(&self, footprint: &Footprint) {
        footprint.counters(self).for_each(Counter::bump);
    }

    /// Nothing that is kept of this database is served again: a new epoch. Fail-over, a flush, the mode `off`.
    pub fn flush(&self) {
        self.catalog.bump();
    }

    /// A slot is there, made at `made_at`, and says everything from `start` of the log on.
    ///
    /// `behind` is a snapshot that was taken once it was there. What was running in it may be in the log before the slot's
    /// beginning, so that it is never heard of, without being visible yet: whoever fills has to see it.
    pub fn slot_is_up(&self, made_at: Instant, start: Lsn, behind: &Snapshot) {
        behind.running().for_each(|xid| self.heard.add(xid));
        // Reads that began while nobody listened end in vain.
        self.catalog.bump();
        self.slot.set_up(made_at, start);
    }

    /// The slot is gone. What is written from here on is not heard of.
    pub fn slot_is_down(&self) {
        self.slot.set_down();
        self.catalog.bump();
    }

    /// Keeps a write of which nobody knows how it ended. Its tables stay odd until [`Self::is_resolved`] says of its cause
    /// that it is over.
    pub fn hold(&self, cause: Cause, write: Write) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() < MAX_HELD {
            held.push((cause, write));
        }
        // A write too many is dropped: its tables stay odd.
    }

    /// What has to be asked for: whether these backends are gone, whether these transactions are prepared still.
    pub fn unresolved(&self) -> Vec<Cause> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(cause, _)| cause.clone()).collect()
    }

    /// This backend is gone, or this prepared transaction is committed or rolled back, wherever that was done: its writes
    /// end, by one more change of their tables' generations. Answers how many there were.
    pub fn is_resolved(&self, cause: &Cause) -> usize {
        let mut over = Vec::new();
        self.held.lock().unwrap_or_else(PoisonError::into_inner).retain_mut(|(known, write)| {
            let ends = known == cause;
            if ends {
                over.push(write.take());
            }
            !ends
        });
        over.into_iter().map(Write::finish).count()
    }

    /// Writes that were dropped although nobody knew how they ended. Each is a fault of ours, and keeps its tables odd.
    pub fn dropped_writes(&self) -> u64 {
        self.dropped.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Arc<Database> {
        Arc::new(Database::new(Slot::not_needed(Instant::now())))
    }

    #[test]
    fn a_table_is_one_and_the_same_for_everybody() {
        let database = database();
        let tables = database.tables([7, 8, 7]);
        assert!(Arc::ptr_eq(&tables[0], &tables[2]) && !Arc::ptr_eq(&tables[0], &tables[1]));
        assert!(Arc::ptr_eq(&database.table(8), &tables[1]));
    }

    #[test]
    fn a_write_is_seen_by_who_reads_its_table_for_the_first_time() {
        let database = database();
        let write = Write::begin(&database, &[database.footprint(&Touched::of([5]))]);
        assert!(!database.table(5).generation().is_even());
        write.finish();
        assert!(database.table(5).generation().is_even());
    }

    #[test]
    fn a_footprint_changes_what_it_names_and_nothing_else() {
        let database = database();
        let read = |database: &Database| {
            [database.table(1).generation(), database.table(2).generation(), database.everything.now(), database.epoch()]
        };
        let changes = |touched: Touched| {
            let before = read(&database);
            database.invalidate(&database.footprint(&touched));
            let after = read(&database);
            [0, 1, 2, 3].map(|at| before[at] != after[at])
        };
        assert_eq!(changes(Touched::of([1])), [true, false, false, false]);
        assert_eq!(changes(Touched::everything()), [false, false, true, false]);
        assert_eq!(changes(Touched::catalog()), [false, false, false, true]);
        assert_eq!(changes(Touched::default()), [false; 4]);
        assert!(database.footprint(&Touched::default()).is_empty());
        assert!(!database.footprint(&Touched::everything()).is_empty());
    }

    #[test]
    fn what_cannot_be_told_is_held_until_it_can() {
        let database = database();
        let footprint = database.footprint(&Touched::of([1]));
        let backend = Cause::Backend { process: 17, started: 1 };
        let prepared = Cause::Prepared("gid".into());
        for cause in [&backend, &prepared, &backend] {
            database.hold(cause.clone(), Write::begin(&database, &[Arc::clone(&footprint)]));
        }
        assert_eq!(database.unresolved().len(), 3);
        assert_eq!(database.is_resolved(&Cause::Backend { process: 17, started: 2 }), 0, "its number was given again");
        assert_eq!(database.is_resolved(&backend), 2);
        assert!(!database.table(1).generation().is_even());
        assert_eq!(database.is_resolved(&prepared), 1);
        assert!(database.table(1).generation().is_even());
        assert_eq!((database.unresolved().len(), database.dropped_writes()), (0, 0));
    }

    #[test]
    fn more_than_can_be_held_stays_odd() {
        let database = database();
        let footprint = database.footprint(&Touched::of([1]));
        let cause = Cause::Prepared("gid".into());
        for _ in 0..=MAX_HELD {
            database.hold(cause.clone(), Write::begin(&database, &[Arc::clone(&footprint)]));
        }
        assert_eq!(database.is_resolved(&cause), MAX_HELD);
        assert_eq!((database.table(1).generation().writers(), database.dropped_writes()), (1, 1));
    }
}
