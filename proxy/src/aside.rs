//! Connections to servers beside the pools: short ones of our own, and those that listen for many.
//!
//! They do not count towards `max_upstreams`. A proxy whose pools are full must still be able to look a secret up, or nobody
//! could log in to wait for his turn; and a pool that had to wait for one of these would wait for something that nobody
//! gives back on request. So they have a bound of their own, `max_side_connections`: who finds no place does without, and
//! tries again as if the server had not answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What such a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Looks secrets of users up.
    Secret,
    /// Tries a client's password.
    Trial,
    /// Looks at the functions of a database.
    Inspection,
    /// Asks a server what it is.
    Role,
    /// Listens for many clients.
    Listener,
    /// Asks for the plan of a slow statement.
    Plan,
    /// Reads `pg_stat_statements`.
    Statements,
    /// Reads the names of columns for findings.
    ColumnNames,
    /// Keeps what the read cache knows of a database's catalog.
    Cache,
    /// Hears of writes that pass another way, for the read cache.
    Slot,
    /// Reads the table of tenants.
    Tenants,
    /// Ends a server process that no cancel has brought back.
    Termination,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Secret,
        Self::Trial,
        Self::Inspection,
        Self::Role,
        Self::Listener,
        Self::Plan,
        Self::Statements,
        Self::ColumnNames,
        Self::Cache,
        Self::Slot,
        Self::Tenants,
        Self::Termination,
    ];

    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Secret => "auth_query",
            Self::Trial => "password_trial",
            Self::Inspection => "inspection",
            Self::Role => "role",
            Self::Listener => "listener",
            Self::Plan => "plan",
            Self::Statements => "pg_stat_statements",
            Self::ColumnNames => "column_names",
            Self::Cache => "cache",
            Self::Slot => "cache_slot",
            Self::Tenants => "tenant_table",
            Self::Termination => "termination",
        }
    }
}

/// All these connections.
#[derive(Debug, Clone, Default)]
pub struct Aside(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: AtomicUsize,
    by_kind: [AtomicUsize; Kind::ALL.len()],
}

/// The place of one, attempts to connect included. Given back when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    kind: Kind,
}

/// There are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Aside {
    /// Takes a place, of at most so many.
    ///
    /// # Errors
    /// All are taken.
    pub fn enter(&self, kind: Kind, most: usize) -> Result<Place, Full> {
        let counts = &self.0;
        let taken =
            counts.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |all| (all < most).then_some(all + 1));
        if taken.is_err() {
            return Err(Full);
        }
        if let Some(count) = counts.by_kind.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Place { counts: counts.clone(), kind })
    }

    /// How many there are in all.
    pub fn total(&self) -> usize {
        self.0.all.load(Ordering::Relaxed)
    }

    /// How many there are of a kind.
    pub fn of(&self, kind: Kind) -> usize {
        self.0.by_kind.get(kind as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = self.counts.by_kind.get(self.kind as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_end_and_come_back() {
        let aside = Aside::default();
        let places: Vec<_> =
            [Kind::Trial, Kind::Trial, Kind::Listener].map(|kind| aside.enter(kind, 3).unwrap()).into();
        assert_eq!(aside.enter(Kind::Secret, 3).unwrap_err(), Full);
        assert_eq!((aside.total(), aside.of(Kind::Trial), aside.of(Kind::Secret)), (3, 2, 0));
        drop(places);
        assert_eq!(Kind::ALL.map(|kind| aside.of(kind)), [0; Kind::ALL.len()]);
        assert!(aside.total() == 0 && aside.enter(Kind::Role, 1).is_ok());
    }
}
