//! Reads whose replies may be kept, and the replies that are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::{Miss, Refused};
use super::database::{Database, Sources};
use super::freshness::{End, Freshness, Readiness};
use super::generation::{Counter, Generation};
use super::marks::Marks;
use super::parts::{Seen, Table};
use super::snapshot::{Snapshot, Unseen};

/// What a rule promises of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How fresh it has to be.
    pub freshness: Freshness,
    /// No answer gets older than this, whatever else is known.
    pub ttl: Duration,
    /// With [`Freshness::Ttl`] alone: how long beyond that an old answer may be served while a new one is fetched.
    pub stale_for: Duration,
}

/// What an answer depends on, as it was before its read was sent.
#[derive(Clone, Debug)]
pub struct Dependencies {
    database: Arc<Database>,
    catalog: Generation,
    everything: Generation,
    tables: Arc<[Arc<Table>]>,
    generations: Box<[Seen]>,
    marks: Marks,
    marked: Box<[Generation]>,
    /// When the read was sent: an answer is at least as old as that.
    since: Instant,
    terms: Terms,
}

/// How an answer may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// As it is.
    Fresh,
    /// As it is, and somebody has to fetch a new one meanwhile.
    Stale,
}

/// Why an answer is not served, or not yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotServed {
    /// Ask the server for the end of its log, and come again with it.
    Ask,
    /// Come again when the slot has passed this place, or go to the server.
    Wait(End),
    /// Go to the server.
    Miss(Miss),
}

impl Dependencies {
    /// Reads generations. Nothing may have been sent yet.
    fn read(database: &Arc<Database>, sources: &Sources, marks: &Marks, terms: Terms, now: Instant) -> Self {
        let tables = &sources.tables;
        let follows = terms.freshness.follows_writes();
        let part = |at: usize| sources.parts.iter().find(|(place, _)| *place == at).map(|(_, part)| *part);
        Self {
            catalog: database.catalog.now(),
            everything: database.everything.now(),
            generations: tables.iter().enumerate().map(|(at, table)| Seen::now(table, follows, part(at))).collect(),
            marked: marks.counters().map(Counter::now).collect(),
            marks: marks.clone(),
            database: Arc::clone(database),
            tables: Arc::clone(tables),
            since: now,
            terms,
        }
    }

    fn are_even(&self) -> bool {
        self.catalog.is_even()
            && (!self.terms.freshness.follows_writes()
                || self.everything.is_even() && self.generations.iter().all(Seen::is_even))
    }

    /// Whether all that it depends on is as it was, and nothing of it is being written. One load for each table, and two
    /// where it depends on a part of one alone; one for each tag of its rule, and three more.
    pub fn are_current(&self) -> bool {
        let follows = self.terms.freshness.follows_writes();
        self.database.catalog.now() == self.catalog
            && (!follows || self.database.everything.now() == self.everything)
            && self.tables.iter().zip(&self.generations).all(|(table, seen)| seen.holds(table, follows))
            && self.marks.counters().zip(&self.marked).all(|(mark, known)| mark.now() == *known)
    }

    /// Whether it may be served at `now`. `end`: the end of the server's log, asked for since the statement came; needed
    /// for [`Freshness::Strict`] alone.
    ///
    /// What was heard is looked at before generations are: so they are at least as new as it. Nobody is asked to wait for
    /// what has ended already.
    pub fn serve(&self, now: Instant, end: Option<End>) -> Result<Served, NotServed> {
        let age = now.saturating_duration_since(self.since);
        let stale = age >= self.terms.ttl;
        let grace = if self.terms.freshness == Freshness::Ttl { self.terms.stale_for } else { Duration::ZERO };
        if stale && age >= self.terms.ttl.saturating_add(grace) {
            return Err(NotServed::Miss(Miss::Expired));
        }
        match self.database.slot().readiness(self.terms.freshness, now, end) {
            Readiness::Ready => {}
            Readiness::Ask | Readiness::Wait(_) if !self.are_current() => return Err(NotServed::Miss(Miss::Changed)),
            Readiness::Ask => return Err(NotServed::Ask),
            Readiness::Wait(end) => return Err(NotServed::Wait(end)),
            Readiness::Lags => return Err(NotServed::Miss(Miss::SlotLags)),
            Readiness::Down => return Err(NotServed::Miss(Miss::SlotDown)),
        }
        if !self.are_current() {
            return Err(NotServed::Miss(Miss::Changed));
        }
        Ok(if stale { Served::Stale } else { Served::Fresh })
    }

    /// How old the answer is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// How many tables it names.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// What was promised of it.
    pub fn terms(&self) -> Terms {
        self.terms
    }
}

/// A read that is on its way to the server and whose reply may be kept.
///
/// It begins *before* the read is sent. Its generations stay what they were then: a write in between changes them, so that
/// the reply is neither admitted nor, had it been, served. They are read first, and then the transactions that were heard
/// of without being seen; who hears of one does it the other way round.
///
/// Who waits for the same key joins while [`Self::may_be_joined`]: what has not changed until the waiter came is as good
/// for the waiter as for who asked first.
#[derive(Debug)]
pub struct Reading {
    dependencies: Dependencies,
    unseen: Unseen,
}

impl Reading {
    /// Begins. `sources`: all that the statement reads, as [`Catalog::reads`](super::catalog::Catalog::reads) tells it.
    /// `marks`: what an operator may end the answer by.
    pub fn begin(
        database: &Arc<Database>,
        sources: &Sources,
        marks: &Marks,
        terms: Terms,
        now: Instant,
    ) -> Result<Self, Refused> {
        let dependencies = Dependencies::read(database, sources, marks, terms, now);
        let unseen = Self::unseen_of(&dependencies);
        if !dependencies.are_even() {
            return Err(Refused::WriteUnderWay);
        }
        if dependencies.catalog != sources.epoch() {
            return Err(Refused::CatalogChanged);
        }
        if terms.freshness.follows_writes() && database.has_older_writes() {
            return Err(Refused::OlderWrite);
        }
        if terms.freshness.follows_writes() && !database.slot().hears() {
            return Err(Refused::SlotDown);
        }
        Ok(Self { dependencies, unseen })
    }

    /// Behind the generations: see [`Heard`](super::snapshot::Heard).
    fn unseen_of(dependencies: &Dependencies) -> Unseen {
        let mut unseen = Unseen::default();
        if dependencies.terms.freshness.follows_writes() && dependencies.database.slot().is_needed() {
            dependencies.database.heard.copy(&mut unseen);
            dependencies.tables.iter().for_each(|table| table.heard.copy(&mut unseen));
        }
        unseen
    }

    /// Whether `pg_current_snapshot()` has to be asked for on the same connection, behind this and not behind the read: in
    /// its snapshot or in one before it. Rarely: only while something was heard of that nobody has seen yet.
    pub fn needs_snapshot(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Whether somebody who comes at `now` may have this reply too: whoever might be served an answer with these
    /// generations. `end`: as for [`Dependencies::serve`].
    ///
    /// Not while something was heard of without being seen: that this reply does not see it either shows only at its end,
    /// and to who asked first it need not matter.
    pub fn may_be_joined(&self, now: Instant, end: Option<End>) -> bool {
        let Dependencies { database, terms, .. } = &self.dependencies;
        self.unseen.is_empty()
            && database.slot().readiness(terms.freshness, now, end) == Readiness::Ready
            && self.dependencies.are_current()
    }

    /// The reply is complete: whether it may be kept. `snapshot`: where [`Self::needs_snapshot`] said so.
    ///
    /// That generations have not changed is looked at to keep nothing that could never be served: what makes it safe is
    /// that they are compared again at each hit.
    pub fn admit(self, snapshot: Option<&Snapshot>) -> Result<Dependencies, Refused> {
        self.sees(snapshot)?;
        if !self.dependencies.are_current() {
            return Err(Refused::Changed);
        }
        Ok(self.dependencies)
    }

    fn sees(&self, snapshot: Option<&Snapshot>) -> Result<(), Refused> {
        if let Some(snapshot) = snapshot {
            self.dependencies.database.heard.seen_by(snapshot);
            self.dependencies.tables.iter().for_each(|table| table.heard.seen_by(snapshot));
        }
        if self.needs_snapshot() && !snapshot.is_some_and(|snapshot| self.unseen.are_seen_by(snapshot)) {
            return Err(Refused::NotVisible);
        }
        Ok(())
    }
}

/// Ways around the guards, for the model that shows what each of them is for.
#[cfg(test)]
impl Reading {
    /// As [`Self::begin`], whatever is being written.
    pub(super) fn begin_unguarded(
        database: &Arc<Database>,
        sources: &Sources,
        marks: &Marks,
        terms: Terms,
        now: Instant,
    ) -> Self {
        let dependencies = Dependencies::read(database, sources, marks, terms, now);
        let unseen = Self::unseen_of(&dependencies);
        Self { dependencies, unseen }
    }

    /// As [`Self::admit`], whatever has changed.
    pub(super) fn admit_changed(self, snapshot: Option<&Snapshot>) -> Option<Dependencies> {
        self.sees(snapshot).ok().map(|()| self.dependencies)
    }

    /// What was heard of when the read began is forgotten for what is not seen at its end.
    pub(super) fn ask_again(&mut self) {
        self.unseen = Self::unseen_of(&self.dependencies);
    }

    /// As [`Self::may_be_joined`], whatever was heard of without being seen.
    pub(super) fn may_be_joined_unseen(&self, now: Instant, end: Option<End>) -> bool {
        let seen = Self { dependencies: self.dependencies.clone(), unseen: Unseen::default() };
        seen.may_be_joined(now, end)
    }

    /// What was heard of is forgotten.
    pub(super) fn ask_nothing(&mut self) {
        self.unseen = Unseen::default();
    }
}

#[cfg(test)]
impl Dependencies {
    /// As [`Self::serve`] without a look at generations.
    pub(super) fn serve_unguarded(&self, now: Instant, end: Option<End>) -> Result<Served, NotServed> {
        let mut unguarded = self.clone();
        unguarded.catalog = unguarded.database.catalog.now();
        unguarded.everything = unguarded.database.everything.now();
        let tables = unguarded.tables.iter().zip(&self.generations);
        unguarded.generations = tables.map(|(table, seen)| seen.again(table)).collect();
        unguarded.serve(now, end)
    }

    /// Whether each of the generations is what it was, and its parity now: all that its future depends on.
    pub(super) fn standing(&self) -> Vec<bool> {
        let own = [self.database.catalog.now() == self.catalog, self.database.everything.now() == self.everything];
        let tables = self.tables.iter().zip(&self.generations).map(|(table, seen)| seen.holds(table, true));
        own.into_iter().chain(tables).collect()
    }
}

#[cfg(test)]
impl Reading {
    /// As [`Dependencies::standing`], and what has to be seen.
    pub(super) fn standing(&self) -> (Vec<bool>, Unseen) {
        (self.dependencies.standing(), self.unseen.clone())
    }
}
