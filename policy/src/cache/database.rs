//! What the cache knows of one database: its generations, its slot, and the writes of which nobody knows how they ended.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::catalog::Touched;
use super::freshness::{Lsn, Slot};
use super::generation::{Counter, Generation};
use super::marks::{Ending, Marked};
use super::parts::{Part, Table};
use super::snapshot::{Heard, Snapshot, Xid};
use super::write::{Cause, Write};

/// The catalog as it was read once: what was told from it is true of this epoch and of no other one.
#[derive(Debug)]
pub struct Epoch {
    generation: Generation,
    /// Writes that go by it.
    pub(super) under_way: AtomicU64,
}

impl Epoch {
    /// The catalog's generation, for keys.
    pub fn generation(&self) -> Generation {
        self.generation
    }
}

/// What a read depends on, looked up: kept beside a statement's shape and path.
#[derive(Clone, Debug)]
pub struct Sources {
    pub(super) tables: Arc<[Arc<Table>]>,
    /// Of which of them, by their place, it reads one part alone. Nearly always of none.
    pub(super) parts: Vec<(usize, Part)>,
    pub(super) epoch: Arc<Epoch>,
}

impl Sources {
    /// The same of a reader who sees a part alone of some of its tables: by their places, as
    /// [`Reads::apart`](super::catalog::Reads) allows it.
    #[must_use]
    pub fn apart(&self, parts: Vec<(usize, Part)>) -> Self {
        Self { parts, ..self.clone() }
    }

    /// The epoch that they were told in.
    pub fn epoch(&self) -> Generation {
        self.epoch.generation
    }
}

/// What a write touches, looked up: kept beside a statement's shape and path, so that a write looks nothing up.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    pub(super) tables: Box<[Arc<Table>]>,
    /// The table of which it touches one part alone.
    pub(super) apart: Option<(Arc<Table>, Part)>,
    pub(super) everything: bool,
    pub(super) catalog: bool,
    /// `None`: it is true of any.
    pub(super) epoch: Option<Arc<Epoch>>,
}

impl Footprint {
    /// That of a write of which nothing is known, not even the catalog.
    pub fn unknown() -> Arc<Self> {
        Arc::new(Self { everything: true, catalog: true, ..Self::default() })
    }

    /// That of a write to tables of which nobody knows which, and to nothing else.
    pub fn everything() -> Arc<Self> {
        Arc::new(Self { everything: true, ..Self::default() })
    }

    /// Whether the catalog is not what it was told from, or is being changed.
    pub(super) fn is_outdated(&self, database: &Database) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| database.catalog.now() != epoch.generation)
    }

    /// Whether no answer can depend on it.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.apart.is_none() && !self.everything && !self.catalog
    }

    /// Whether it is the same part of the same table, told in the same epoch.
    pub fn is_the_part(&self, other: &Self) -> bool {
        let same = |(table, part): &(Arc<Table>, Part), (other, its): &(Arc<Table>, Part)| {
            Arc::ptr_eq(table, other) && part == its
        };
        let parts = self.apart.as_ref().zip(other.apart.as_ref());
        let epochs = self.epoch.as_ref().zip(other.epoch.as_ref());
        parts.is_some_and(|(own, its)| same(own, its)) && epochs.is_some_and(|(own, its)| Arc::ptr_eq(own, its))
    }

    pub(super) fn counters<'a>(&'a self, database: &'a Database) -> impl Iterator<Item = &'a Counter> {
        let whole = self.everything.then_some(&database.everything);
        let catalog = self.catalog.then_some(&database.catalog);
        let tables = self.tables.iter().flat_map(|table| table.counters(None));
        let apart = self.apart.iter().flat_map(|(table, part)| table.counters(Some(*part)));
        tables.chain(apart).chain(whole).chain(catalog)
    }
}

/// Longest list of writes whose end is not known.
const MAX_HELD: usize = 4_096;

#[derive(Debug, Default)]
struct Epochs {
    current: Option<Arc<Epoch>>,
    older: Vec<Arc<Epoch>>,
}

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
    /// The other counters of those that have parts: see [`Touched::through`].
    through: RwLock<BTreeMap<u32, Arc<Table>>>,
    marked: Mutex<Marked>,
    slot: Slot,
    /// The catalog that was read last, and those before it by which somebody may still write.
    epochs: Mutex<Epochs>,
    /// Whether there are any of the latter: what almost always spares the lock.
    older: AtomicBool,
    held: Mutex<Vec<(Cause, Write)>>,
    /// Writes that were dropped although nobody knows how they ended: their tables stay odd.
    pub(super) dropped: AtomicU64,
    /// Which values meet in one part of a table: nobody can choose his to end another's answers.
    hash: RandomState,
}

impl Database {
    /// A database of which nothing is cached yet.
    pub fn new(slot: Slot) -> Self {
        Self {
            catalog: Counter::default(),
            everything: Counter::default(),
            heard: Heard::default(),
            tables: RwLock::default(),
            through: RwLock::default(),
            marked: Mutex::default(),
            slot,
            epochs: Mutex::default(),
            older: AtomicBool::new(false),
            held: Mutex::default(),
            dropped: AtomicU64::new(0),
            hash: RandomState::new(),
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
        Self::counter_in(&self.tables, oid)
    }

    fn counter_in(map: &RwLock<BTreeMap<u32, Arc<Table>>>, oid: u32) -> Arc<Table> {
        if let Some(table) = map.read().unwrap_or_else(PoisonError::into_inner).get(&oid) {
            return Arc::clone(table);
        }
        Arc::clone(map.write().unwrap_or_else(PoisonError::into_inner).entry(oid).or_default())
    }

    fn counters<T: FromIterator<Arc<Table>>>(
        &self,
        tables: impl IntoIterator<Item = u32>,
        through: impl IntoIterator<Item = u32>,
    ) -> T {
        let tables = tables.into_iter().map(|oid| self.table(oid));
        tables.chain(through.into_iter().map(|oid| Self::counter_in(&self.through, oid))).collect()
    }

    /// A catalog was read, all of it since [`Self::epoch`] was `before`. `None`: it has changed meanwhile; read it again.
    pub fn catalog_is_read(&self, before: Generation) -> Option<Arc<Epoch>> {
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        if !before.is_even() || self.catalog.now() != before {
            return None;
        }
        if let Some(current) = epochs.current.as_ref().filter(|current| current.generation == before) {
            return Some(Arc::clone(current));
        }
        let new = Arc::new(Epoch { generation: before, under_way: AtomicU64::new(0) });
        if let Some(last) = epochs.current.replace(Arc::clone(&new)) {
            epochs.older.push(last);
            self.older.store(true, SeqCst);
        }
        Some(new)
    }

    /// Whether somebody writes by what a catalog said that is out of date. A trigger or a foreign key that was made since
    /// may lead such a write to tables that it does not keep odd.
    pub(super) fn has_older_writes(&self) -> bool {
        if !self.older.load(SeqCst) {
            return false;
        }
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        // None of them can begin any more: who writes by one looks at the catalog once he is counted.
        epochs.older.retain(|epoch| epoch.under_way.load(SeqCst) > 0);
        self.older.store(!epochs.older.is_empty(), SeqCst);
        !epochs.older.is_empty()
    }

    /// What a read depends on, as a catalog of this epoch told it: [`Reads::tables`](super::catalog::Reads) and
    /// [`Reads::through`](super::catalog::Reads).
    pub fn sources(
        &self,
        tables: impl IntoIterator<Item = u32>,
        through: impl IntoIterator<Item = u32>,
        epoch: &Arc<Epoch>,
    ) -> Sources {
        Sources { tables: self.counters(tables, through), parts: Vec::new(), epoch: Arc::clone(epoch) }
    }

    /// What a write of this reach touches, as a catalog of this epoch told it.
    pub fn footprint(&self, touched: &Touched, epoch: &Arc<Epoch>) -> Arc<Footprint> {
        Arc::new(Footprint {
            tables: self.counters(touched.tables().iter().copied(), touched.through().iter().copied()),
            apart: None,
            everything: touched.is_everything(),
            catalog: touched.is_catalog(),
            epoch: Some(Arc::clone(epoch)),
        })
    }

    /// The part of a table that is of this value, in the one form that it has.
    pub fn part(&self, value: &str) -> Part {
        Part::of(self.hash.hash_one(value))
    }

    /// What a write to one part of this table touches, as a catalog of this epoch told it.
    pub fn footprint_apart(&self, table: u32, part: Part, epoch: &Arc<Epoch>) -> Arc<Footprint> {
        let apart = Some((self.table(table), part));
        Arc::new(Footprint { apart, epoch: Some(Arc::clone(epoch)), ..Footprint::default() })
    }

    /// What answers by a rule with these tags are ended by. Once for each rule.
    pub fn tags<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Arc<[Arc<Counter>]> {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        names.into_iter().map(|name| Arc::clone(marked.tag(name))).collect()
    }

    /// What answers to this tenant are ended by. Once for each session and tenant.
    pub fn tenant(&self, name: &str) -> Arc<Counter> {
        Arc::clone(self.marked.lock().unwrap_or_else(PoisonError::into_inner).tenant(name))
    }

    /// Ends answers because an operator asks for it, also those that follow no writes. Replies that are on their way are
    /// not kept either.
    pub fn end(&self, what: Ending<'_>) {
        let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Ending::Tag(name) => marked.tag(name).bump(),
            Ending::Tenant(name) => marked.tenant(name).bump(),
            Ending::Table(oid) => self.table(oid).end_by_hand(),
            Ending::All => self.flush(),
        }
    }

    /// A transaction from outside has committed: the slot says so, at `end` of the log. It may not be visible yet.
    ///
    /// The transaction is added before the generations change; see [`Reading`](super::Reading) for the other side.
    pub fn heard(&self, xid: Xid, footprint: &Footprint, end: Lsn) {
        self.note(xid, footprint);
        self.invalidate(footprint);
        self.slot.is_applied_to(end);
    }

    pub(super) fn note(&self, xid: Xid, footprint: &Footprint) {
        let apart = footprint.apart.iter().map(|(table, _)| table);
        footprint.tables.iter().chain(apart).for_each(|table| table.heard.add(xid));
        if footprint.everything || footprint.catalog || footprint.is_outdated(self) {
            self.heard.add(xid);
        }
    }

    /// Whatever follows writes and depends on this is not served again.
    pub fn invalidate(&self, footprint: &Footprint) {
        let outdated = footprint.is_outdated(self);
        footprint.counters(self).for_each(Counter::bump);
        if outdated {
            self.everything.bump();
        }
    }

    /// Nothing that is kept of this database is served again: a new epoch. Fail-over, a flush, the mode `off`.
    pub fn flush(&self) {
        self.catalog.bump();
    }

    /// A snapshot was taken on the server by somebody who does not read: what it sees need not be proved by those who
    /// begin to read from here on, whose own snapshots are later ones.
    pub fn is_seen_by(&self, snapshot: &Snapshot) {
        self.heard.seen_by(snapshot);
        for map in [&self.tables, &self.through] {
            let tables = map.read().unwrap_or_else(PoisonError::into_inner);
            tables.values().for_each(|table| table.heard.seen_by(snapshot));
        }
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

    fn database() -> (Arc<Database>, Arc<Epoch>) {
        let database = Arc::new(Database::new(Slot::not_needed(Instant::now())));
        let epoch = database.catalog_is_read(database.epoch()).unwrap();
        (database, epoch)
    }

    #[test]
    fn a_table_is_one_and_the_same_for_everybody() {
        let (database, epoch) = database();
        let tables = database.sources([7, 8, 7], [], &epoch).tables;
        assert!(Arc::ptr_eq(&tables[0], &tables[2]) && !Arc::ptr_eq(&tables[0], &tables[1]));
        assert!(Arc::ptr_eq(&database.table(8), &tables[1]));
    }

    #[test]
    fn a_write_is_seen_by_who_reads_its_table_for_the_first_time() {
        let (database, epoch) = database();
        let write = Write::begin(&database, database.footprint(&Touched::of([5]), &epoch));
        assert!(!database.table(5).generation().is_even());
        write.finish();
        assert!(database.table(5).generation().is_even());
    }

    #[test]
    fn a_footprint_changes_what_it_names_and_nothing_else() {
        let (database, _) = database();
        let read = |database: &Database| {
            [
                database.table(1).generation(),
                database.table(2).generation(),
                database.everything.now(),
                database.epoch(),
            ]
        };
        let changes = |touched: Touched| {
            let before = read(&database);
            let epoch = database.catalog_is_read(database.epoch()).unwrap();
            database.invalidate(&database.footprint(&touched, &epoch));
            let after = read(&database);
            [0, 1, 2, 3].map(|at| before[at] != after[at])
        };
        assert_eq!(changes(Touched::of([1])), [true, false, false, false]);
        assert_eq!(changes(Touched::everything()), [false, false, true, false]);
        assert_eq!(changes(Touched::catalog()), [false, false, false, true]);
        assert_eq!(changes(Touched::default()), [false; 4]);
        let epoch = database.catalog_is_read(database.epoch()).unwrap();
        assert!(database.footprint(&Touched::default(), &epoch).is_empty());
        assert!(!database.footprint(&Touched::everything(), &epoch).is_empty());
        assert!(!Footprint::unknown().is_empty());
    }

    #[test]
    fn what_an_old_catalog_tells_is_everything() {
        let (database, old) = database();
        let footprint = database.footprint(&Touched::of([1]), &old);
        database.flush();
        let write = Write::begin(&database, Arc::clone(&footprint));
        assert!(!database.everything.now().is_even());
        write.finish();
        let before = database.everything.now();
        assert!(before.is_even());
        database.heard(Xid(7), &footprint, Lsn(1));
        assert_ne!(database.everything.now(), before);
        let mut unseen = Default::default();
        database.heard.copy(&mut unseen);
        assert!(!unseen.is_empty());
    }

    #[test]
    fn a_catalog_that_changes_while_it_is_read_is_read_again() {
        let (database, first) = database();
        let before = database.epoch();
        assert!(Arc::ptr_eq(&first, &database.catalog_is_read(before).unwrap()));
        let ddl = Write::begin(&database, database.footprint(&Touched::catalog(), &first));
        assert!(database.catalog_is_read(before).is_none() && database.catalog_is_read(database.epoch()).is_none());
        ddl.finish();
        assert!(database.catalog_is_read(before).is_none());
        let second = database.catalog_is_read(database.epoch()).unwrap();
        assert_ne!(first.generation(), second.generation());
    }

    #[test]
    fn who_writes_by_an_old_catalog_is_waited_for() {
        let (database, old) = database();
        let footprint = database.footprint(&Touched::of([1]), &old);
        let write = Write::begin(&database, footprint);
        assert!(!database.has_older_writes(), "it is the current one");
        database.flush();
        database.catalog_is_read(database.epoch()).unwrap();
        assert!(database.has_older_writes());
        write.finish();
        assert!(!database.has_older_writes() && !database.older.load(SeqCst));
    }

    #[test]
    fn what_cannot_be_told_is_held_until_it_can() {
        let (database, epoch) = database();
        let footprint = database.footprint(&Touched::of([1]), &epoch);
        let backend = Cause::Backend { process: 17, started: 1 };
        let prepared = Cause::Prepared("gid".into());
        for cause in [&backend, &prepared, &backend] {
            database.hold(cause.clone(), Write::begin(&database, Arc::clone(&footprint)));
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
        let (database, epoch) = database();
        let footprint = database.footprint(&Touched::of([1]), &epoch);
        let cause = Cause::Prepared("gid".into());
        for _ in 0..=MAX_HELD {
            database.hold(cause.clone(), Write::begin(&database, Arc::clone(&footprint)));
        }
        assert_eq!(database.is_resolved(&cause), MAX_HELD);
        assert_eq!((database.table(1).generation().writers(), database.dropped_writes()), (1, 1));
    }
}
