//! Writes under way.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::database::{Database, Footprint};
use super::generation::Counter;

/// Why nobody knows how a write ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The connection was lost after something was sent that commits. The server process may be at it still.
    Backend {
        /// Its process id.
        process: i32,
        /// When it was started, as the server says it: process ids are given again.
        started: i64,
    },
    /// PREPARE TRANSACTION under this name.
    Prepared(Box<str>),
}

/// A write that is under way: as long as it is there, nothing that it touches is served or admitted.
///
/// ```text
///   begin ──► forward ──► the server's ReadyForQuery ──► finish ──► tell the client
///                 └────── connection lost ─────────────► Database::hold ──► the backend is gone
///                 └────── PREPARE TRANSACTION is done ─► Database::hold ──► it is resolved
/// ```
/// It begins *before* the first byte of anything that can commit is sent: COMMIT, a statement outside of a transaction, a
/// Sync behind writes. It ends at the ReadyForQuery, not at a CommandComplete: in the extended protocol the server says
/// that a statement is complete before it commits it. To end late is safe and costs hits; to end early is not.
///
/// Whoever drops one instead keeps its tables odd for good: an unknown end is never taken for a good one.
#[derive(Debug)]
#[must_use = "what is dropped without an end keeps its tables odd for good"]
pub struct Write {
    database: Arc<Database>,
    footprint: Arc<Footprint>,
    /// The catalog is not what a footprint was told from: it may reach anything.
    wide: bool,
    open: bool,
}

impl Write {
    /// Everything in this footprint is odd from here on.
    #[inline]
    pub fn begin(database: &Arc<Database>, footprint: Arc<Footprint>) -> Self {
        // Counted first, and then a look at the catalog. Who reads by a newer one either finds this write counted, or has
        // made this look find the change.
        if let Some(epoch) = &footprint.epoch {
            epoch.under_way.fetch_add(1, SeqCst);
        }
        let wide = footprint.is_outdated(database);
        let write = Self { database: Arc::clone(database), footprint, wide, open: true };
        write.counters(Counter::enter);
        write
    }

    /// What it touches.
    pub fn footprint(&self) -> &Arc<Footprint> {
        &self.footprint
    }

    /// The server has answered, with success or with an error: even again, with a higher version.
    pub fn finish(mut self) {
        self.end(Counter::leave);
    }

    fn end(&mut self, step: fn(&Counter)) {
        self.counters(step);
        if let Some(epoch) = &self.footprint.epoch {
            epoch.under_way.fetch_sub(1, SeqCst);
        }
        self.open = false;
    }

    /// The same write in other hands; what stays behind is empty.
    pub(super) fn take(&mut self) -> Self {
        let open = std::mem::replace(&mut self.open, false);
        let (database, footprint) = (Arc::clone(&self.database), Arc::clone(&self.footprint));
        Self { database, footprint, wide: self.wide, open }
    }

    fn counters(&self, step: fn(&Counter)) {
        self.footprint.counters(&self.database).for_each(step);
        self.wide.then_some(&self.database.everything).into_iter().for_each(step);
    }

    /// What no code may do: see [`Counter::leave_without_a_trace`].
    #[cfg(test)]
    pub(super) fn finish_without_a_trace(mut self) {
        self.end(Counter::leave_without_a_trace);
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if self.open {
            self.database.dropped.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::catalog::Touched;
    use super::super::database::Epoch;
    use super::super::freshness::Slot;
    use super::*;

    fn database() -> (Arc<Database>, Arc<Epoch>) {
        let database = Arc::new(Database::new(Slot::not_needed(Instant::now())));
        let epoch = database.catalog_is_read(database.epoch()).unwrap();
        (database, epoch)
    }

    #[test]
    fn a_write_that_is_lost_stays_odd_and_is_counted() {
        let (database, epoch) = database();
        let table = database.table(1);
        drop(Write::begin(&database, database.footprint(&Touched::of([1]), &epoch)));
        assert!(!table.generation().is_even());
        assert_eq!(database.dropped_writes(), 1);
        Write::begin(&database, database.footprint(&Touched::of([1]), &epoch)).finish();
        assert!(!table.generation().is_even(), "another write does not make up for it");
        assert_eq!(database.dropped_writes(), 1);
    }

    #[test]
    fn a_transaction_of_several_statements_ends_as_one() {
        let (database, epoch) = database();
        let both = [vec![1], vec![1, 2]].map(|oids| database.footprint(&Touched::of(oids), &epoch));
        let writes = both.map(|footprint| Write::begin(&database, footprint));
        assert_eq!((database.table(1).generation().writers(), database.table(2).generation().writers()), (2, 1));
        writes.into_iter().for_each(Write::finish);
        assert!(database.table(1).generation().is_even() && database.table(2).generation().is_even());
    }
}
