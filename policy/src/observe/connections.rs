//! What the transactions of recent connections contained.
//!
//! A loop inside one unit of work can be batched. The same statement once in each of many transactions, each with
//! writes of its own beside it, is not a loop: it is work that arrives piece by piece (steps of jobs, payments,
//! migrations, benchmarks).

use super::event::{Class, Event};

/// Connections remembered; two that share a slot forget each other.
const SLOTS: usize = 4096;
/// Transactions remembered per connection.
const HISTORY: u32 = 64;

/// One connection's transactions.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    connection: u64,
    /// Number of the current transaction, from 1.
    transaction: u32,
    open: bool,
    /// Family of the first write of the current transaction.
    first_write: u64,
    /// A bit per transaction by its number: it wrote by at least two families, or changed the schema.
    composite: u64,
    /// Until when statements count as retries after a serialization failure, a deadlock or a lost connection.
    retrying_until_us: u64,
}

/// A bounded table of connections.
#[derive(Debug)]
pub(super) struct Connections {
    slots: Box<[Track]>,
}

/// How long after a retryable error a repetition is taken for a retry.
const RETRY_US: u64 = 2_000_000;

impl Connections {
    pub(super) fn new() -> Self {
        Self { slots: vec![Track::default(); SLOTS].into_boxed_slice() }
    }

    /// Follows one statement; gives the number of the transaction it is in (statements outside of one share the number
    /// that the last one left) and whether it may be a retry.
    pub(super) fn follow(&mut self, event: &Event<'_>) -> (u32, bool) {
        let index = event.connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let Some(track) = self.slots.get_mut(index as usize) else { return (0, false) };
        if track.connection != event.connection {
            *track = Track { connection: event.connection, ..Track::default() };
        }
        if event.error.is_some_and(is_retryable) {
            track.retrying_until_us = event.end_us.saturating_add(RETRY_US);
        }
        track.step(event.facts.class, event.facts.family);
        (track.transaction, event.start_us < track.retrying_until_us)
    }

    /// Whether a transaction of a connection is known to have been a unit of work of its own: it wrote by more than one
    /// statement. `None`: too long ago.
    pub(super) fn is_composite(&self, connection: u64, transaction: u32) -> Option<bool> {
        let index = connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52;
        let track = self.slots.get(index as usize).filter(|track| track.connection == connection)?;
        let known = track.transaction.checked_sub(transaction)? < HISTORY;
        known.then_some(track.composite >> (transaction % HISTORY) & 1 == 1)
    }
}

impl Track {
    /// A schema change outside of a transaction divides the statements around it like one.
    fn step(&mut self, class: Class, family: u64) {
        match class {
            Class::Begin => self.begin(true),
            Class::End => self.begin(false),
            Class::Ddl if !self.open => {
                self.begin(false);
                self.composite |= 1 << (self.transaction % HISTORY);
            }
            Class::Ddl => self.composite |= 1 << (self.transaction % HISTORY),
            Class::Write | Class::Insert if self.open => {
                if self.first_write == 0 {
                    self.first_write = family;
                } else if self.first_write != family {
                    self.composite |= 1 << (self.transaction % HISTORY);
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, open: bool) {
        self.transaction = self.transaction.wrapping_add(1);
        self.open = open;
        self.first_write = 0;
        self.composite &= !(1 << (self.transaction % HISTORY));
    }
}

/// Errors after which clients send the same again: serialization failure, deadlock, lock not available, cancelled, and
/// lost connections.
fn is_retryable(state: [u8; 5]) -> bool {
    matches!(&state, b"40001" | b"40P01" | b"55P03" | b"57014") || state.starts_with(b"08")
}
