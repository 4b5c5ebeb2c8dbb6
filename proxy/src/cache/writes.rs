//! What is being written by an upstream, and what a text writes to.
//!
//! | moment | what is done |
//! |---|---|
//! | a statement that may write is about to be sent | [`Open::begin`] |
//! | ReadyForQuery, no transaction open, nothing owed | [`Open::finish`] |
//! | PREPARE TRANSACTION has succeeded | [`Open::is_prepared`] |
//! | the connection ends, however that comes about | [`Open`] is dropped: held until the backend is gone |
//!
//! A write begins with its statement and not with its COMMIT: there are many ways to commit, and only one to begin. Its
//! tables are odd for as long as its transaction is open, which costs others hits and nobody the truth.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use policy::cache::catalog::{Acts, Catalog, Separation};
use policy::cache::{Bypass, Cause, Database, Epoch, Footprint, Part, Write};
use policy::comment::strip_ends;

use super::here::{Here, Local};
use super::{Cached, Serial, View};

/// Stands for a prepared transaction whose name is not known: it is over when there are none. The server takes no empty name.
pub const ANY_PREPARED: &str = "";

/// Different footprints of one transaction; what it writes beyond them may be anything.
const MAX_FOOTPRINTS: usize = 64;

/// What a text writes to, as one catalog has it.
#[derive(Clone, Debug)]
pub struct Reach {
    /// The tables.
    pub footprint: Arc<Footprint>,
    /// It counts as a writer although it may touch nothing: what it calls could be another thing by the time that it runs.
    counts: bool,
    /// Nothing is known of the catalog, and it calls something: that may change it.
    blind: bool,
    /// It may be of one part of its table alone: who runs it, and under which setting, decides.
    pub apart: Option<Rc<Apart>>,
}

/// A write of a table whose rows are separated, that reaches those of one value alone if it is run by one for whom that
/// holds.
#[derive(Debug)]
pub struct Apart {
    table: u32,
    epoch: Arc<Epoch>,
    /// How they are.
    pub separation: Arc<Separation>,
    /// One for each part that was written, of which there are few.
    footprints: RefCell<Vec<(Part, Arc<Footprint>)>>,
}

impl Apart {
    fn of(body: &[u8], view: &View) -> Option<Rc<Self>> {
        let table = view.catalog.written_apart(body)?;
        let separation = Arc::clone(view.catalog.separation(table)?);
        Some(Rc::new(Self { table, epoch: Arc::clone(&view.epoch), separation, footprints: RefCell::default() }))
    }

    /// What it touches where it is of this part.
    pub fn footprint(&self, generations: &Database, part: Part) -> Arc<Footprint> {
        let mut known = self.footprints.borrow_mut();
        if let Some((_, footprint)) = known.iter().find(|(known, _)| *known == part) {
            return Arc::clone(footprint);
        }
        let footprint = generations.footprint_apart(self.table, part, &self.epoch);
        known.push((part, Arc::clone(&footprint)));
        footprint
    }
}

impl Reach {
    /// Whatever there is.
    pub fn unknown() -> Self {
        Self { footprint: Footprint::unknown(), counts: true, blind: false, apart: None }
    }

    /// The same where it touches this alone.
    pub fn narrowed(&self, footprint: Arc<Footprint>) -> Self {
        Self { footprint, apart: None, ..self.clone() }
    }

    /// Of a text whose plain strings have no escapes.
    fn of(sql: &[u8], here: &Here, view: Option<&View>) -> Self {
        let body = strip_ends(sql).0;
        let acts = Acts::of(body);
        let counts = !acts.calls.is_empty() || !acts.operators.is_empty();
        let Some(view) = view else {
            // Without a catalog, what names no table, calls nothing and is no DDL touches nothing. Other statements must
            // not make the catalog odd, or none could be read among steady writes.
            let touched = Catalog::default().touched(&acts, None, &|_| None);
            let footprint = match () {
                () if acts.catalog || acts.anything => return Self::unknown(),
                () if touched.is_nothing() && !counts => Arc::default(),
                () => Footprint::everything(),
            };
            return Self { footprint, counts, blind: counts || !acts.executes.is_empty(), apart: None };
        };
        if view.quiet.names_one(sql) {
            // A view whose function writes, for instance.
            return Self::unknown();
        }
        let touched = view.catalog.touched(&acts, None, &|_| None);
        let footprint = here.cached.generations.footprint(&touched, &view.epoch);
        Self { footprint, counts, blind: false, apart: Apart::of(body, view) }
    }

    /// Nothing needs to be noted.
    fn is_nothing(&self) -> bool {
        !self.counts && self.footprint.is_empty()
    }
}

/// What a remembered text writes to, beside it.
#[derive(Debug, Default)]
pub struct Reached {
    reach: RefCell<Option<(Serial, Reach)>>,
    left: RefCell<Option<(Serial, u64, Left)>>,
}

/// What a text leaves to those behind it in its transaction: nothing, or why they are not answered from the cache.
type Left = Result<(), Bypass>;

impl Reached {
    /// As the catalog has it that was read last.
    #[inline]
    pub fn of(&self, sql: &[u8], here: &Here) -> Reach {
        let Some(view) = here.view() else { return Reach::of(sql, here, None) };
        if let Some((known, reach)) = &*self.reach.borrow()
            && view.is(known)
        {
            return reach.clone();
        }
        let reach = Reach::of(sql, here, Some(&view));
        *self.reach.borrow_mut() = Some((view.serial.clone(), reach.clone()));
        reach
    }

    /// What it leaves in its transaction, as this catalog and the rules of this version have it.
    #[inline]
    pub fn leaves(&self, view: &Local, version: u64, look: impl FnOnce() -> Left) -> Left {
        if let Some((known, rules, left)) = &*self.left.borrow()
            && view.is(known)
            && *rules == version
        {
            return *left;
        }
        let left = look();
        *self.left.borrow_mut() = Some((view.serial.clone(), version, left));
        left
    }
}

/// The same of a text that nothing is remembered of.
pub fn reach_of(sql: &[u8], here: &Here) -> Reach {
    Reach::of(sql, here, here.view().as_deref())
}

/// What is written in the transaction that is open, or in requests under way. It takes no memory of its own for each of
/// them: its list is used again.
#[derive(Debug, Default)]
pub struct Open {
    /// Of the first of its writes. A reload may have led the pool elsewhere in the middle of a transaction: its writes go
    /// where they began.
    database: Option<Arc<Database>>,
    /// Where a view appears, if it began without one.
    blind: Option<Arc<Cached>>,
    process: i32,
    writes: Vec<Write>,
}

impl Open {
    /// A statement that may write is about to be sent to this server process.
    #[inline]
    pub fn begin(&mut self, here: &Here, process: i32, reach: &Reach) {
        if reach.is_nothing() {
            return;
        }
        let database = self.database.get_or_insert_with(|| Arc::clone(&here.cached.generations));
        self.process = process;
        if reach.blind && self.blind.is_none() {
            self.blind = Some(Arc::clone(&here.cached));
        }
        let known = self
            .writes
            .iter()
            .map(Write::footprint)
            .any(|known| Arc::ptr_eq(known, &reach.footprint) || known.is_the_part(&reach.footprint));
        if known || self.writes.len() > MAX_FOOTPRINTS {
            return;
        }
        let footprint = match self.writes.len() == MAX_FOOTPRINTS {
            true => Footprint::unknown(),
            false => Arc::clone(&reach.footprint),
        };
        self.writes.push(Write::begin(database, footprint));
    }

    /// Whether anything counts as being written.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.database.is_some()
    }

    /// Whether the transaction may have changed what its own reads see.
    pub fn wrote(&self) -> bool {
        self.writes.iter().any(|write| !write.footprint().is_empty())
    }

    /// The server has told how all of it ended.
    pub fn finish(&mut self) {
        // A catalog was read while this was under way, and what it called may have changed it: it is read again. Before the
        // tables are even: nothing is kept in between.
        if let Some(cached) = self.blind.take().filter(|cached| cached.view().is_some()) {
            cached.generations.flush();
            cached.stirred.notify_one();
        }
        self.writes.drain(..).for_each(Write::finish);
        self.database = None;
    }

    /// PREPARE TRANSACTION has succeeded, under this name.
    pub fn is_prepared(&mut self, name: &str) {
        self.hold(|| Cause::Prepared(name.into()));
    }

    /// Somebody else finds out how it ends.
    fn hold(&mut self, cause: impl Fn() -> Cause) {
        let (Some(database), blind) = (self.database.take(), self.blind.take()) else { return };
        if blind.is_some() {
            self.writes.push(Write::begin(&database, Footprint::unknown()));
        }
        for write in self.writes.drain(..) {
            database.hold(cause(), write);
        }
    }
}

impl Drop for Open {
    /// Nobody knows how it ended: the server process may be at it still. No wait and no message: a note for who asks.
    fn drop(&mut self) {
        let process = self.process;
        self.hold(|| Cause::Backend { process, started: 0 });
    }
}
