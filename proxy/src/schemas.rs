//! How often the schemas of databases have changed, as far as that went through us.
//!
//! What was prepared before a table or a type changed is out of date on the servers that hold it. A client that prepares
//! the text anew must not be given that, as PostgreSQL would not: the epoch is part of what makes two prepared statements
//! the same. Changes that were made past us are noticed when a statement fails.

use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::xxh3_64;

/// Counters that databases share: one that is counted for its neighbour only prepares some statements once more.
const COUNTERS: usize = 64;

/// A count for each database.
#[derive(Debug)]
pub struct Schemas([AtomicU64; COUNTERS]);

impl Default for Schemas {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; COUNTERS])
    }
}

impl Schemas {
    /// The state of this database's schema: another number after each change.
    pub fn epoch(&self, database: &str) -> u64 {
        self.counter(database).map_or(0, |counter| counter.load(Ordering::Acquire))
    }

    /// A change was committed.
    pub fn changed(&self, database: &str) {
        if let Some(counter) = self.counter(database) {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn counter(&self, database: &str) -> Option<&AtomicU64> {
        self.0.get(xxh3_64(database.as_bytes()) as usize % COUNTERS)
    }
}

/// What names in a text are looked up in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The search path, hashed; 0: the server's default.
    pub path: u64,
    /// The state of the schema, as far as it was changed through us ([`Schemas`]).
    pub epoch: u64,
    /// The database and the user whose it is, hashed: the same words are about other tables elsewhere.
    pub names: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_whoever_asks_for_that_database() {
        let schemas = Schemas::default();
        let before = schemas.epoch("a");
        schemas.changed("a");
        assert_ne!(schemas.epoch("a"), before);
        let others = (0..200).filter(|n| schemas.epoch(&format!("other{n}")) != before).count();
        assert!(others < 20, "{others} of 200 databases took it for theirs");
    }
}
