//! A table's counters: of all writes to it, and, where row-level security separates its rows, of those of a part of them.
//!
//! | a write | enters and leaves |
//! |---|---|
//! | of rows of one value alone | `counter`, and the part of that value |
//! | any other one, whatever it is | `counter`, and `unseparated` |
//!
//! | an answer | compares |
//! |---|---|
//! | of rows of one value alone | `unseparated`, and the part of that value |
//! | any other one | `counter` |
//!
//! So whatever may change a row that an answer holds changes a counter that the answer compares, at the same moments as
//! where there are no parts. Parts are fewer than values: two values that meet in one end each other's answers, never too
//! few.

use std::sync::OnceLock;

use super::generation::{Counter, Generation};
use super::snapshot::Heard;

/// Parts of a table. More of them take more memory for each table, however few values it has.
const PARTS: u8 = 64;

/// Which part of a table: that of some values of the setting that separates its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Part(u8);

impl Part {
    /// By the hash of a value.
    pub(super) const fn of(hash: u64) -> Self {
        Self((hash % PARTS as u64) as u8)
    }
}

/// One table's generations, and the transactions that wrote to it without being seen yet.
#[derive(Debug, Default)]
pub struct Table {
    /// All writes.
    pub(super) counter: Counter,
    /// Those that are not of one part alone.
    pub(super) unseparated: Counter,
    /// Made when they are first needed.
    parts: OnceLock<Box<[Counter]>>,
    /// What an operator has ended: also answers that follow no writes.
    by_hand: Counter,
    pub(super) heard: Heard,
}

impl Table {
    /// Its generation now.
    pub fn generation(&self) -> Generation {
        self.counter.now()
    }

    /// What a write enters, of one part or of all.
    pub(super) fn counters(&self, part: Option<Part>) -> [&Counter; 2] {
        [&self.counter, part.map_or(&self.unseparated, |part| self.part(part))]
    }

    fn part(&self, Part(part): Part) -> &Counter {
        let parts = self.parts.get_or_init(|| (0..PARTS).map(|_| Counter::default()).collect());
        // There is one for each: whoever writes would else be taken to write all of them.
        parts.get(usize::from(part)).unwrap_or(&self.unseparated)
    }

    /// How many writes are under way: of all, of no one part, of each of the first parts.
    #[cfg(test)]
    pub(super) fn writers(&self) -> [u64; 5] {
        let parts = [0, 1, 2].map(|part| self.part(Part(part)).now().writers());
        [self.counter.now().writers(), self.unseparated.now().writers(), parts[0], parts[1], parts[2]]
    }

    /// An operator ends what depends on it.
    pub(super) fn end_by_hand(&self) {
        [&self.counter, &self.unseparated, &self.by_hand].into_iter().for_each(Counter::bump);
    }
}

/// What an answer has seen of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    part: Option<Part>,
    /// Of all writes, or of those that are of no one part.
    generation: Generation,
    /// Of its part.
    own: Generation,
}

impl Seen {
    /// As it is now. `follows`: whether writes end the answer, or operators alone.
    pub(super) fn now(table: &Table, follows: bool, part: Option<Part>) -> Self {
        let none = Generation::default();
        let (generation, own) = match part {
            _ if !follows => (table.by_hand.now(), none),
            None => (table.counter.now(), none),
            Some(part) => (table.unseparated.now(), table.part(part).now()),
        };
        Self { part, generation, own }
    }

    /// Whether it is so still.
    pub(super) fn holds(&self, table: &Table, follows: bool) -> bool {
        Self::now(table, follows, self.part) == *self
    }

    /// The same, of now.
    #[cfg(test)]
    pub(super) fn again(&self, table: &Table) -> Self {
        Self::now(table, true, self.part)
    }

    /// Whether nothing of it is being written.
    pub(super) fn is_even(&self) -> bool {
        self.generation.is_even() && self.own.is_even()
    }
}
