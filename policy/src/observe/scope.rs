//! One scope's memory: who is in a burst, and what has come back.

use super::burst::{Burst, BurstKey};
use super::event::ScopeId;
use super::samples::Samples;

/// Places in a scope's table of bursts: sets of four.
const WAYS: usize = 4;
const SETS: usize = 32;

/// One scope's bursts and results.
#[derive(Debug)]
pub(super) struct ScopeState {
    pub(super) id: ScopeId,
    pub(super) last_us: u64,
    pub(super) table: Vec<Option<Box<Burst>>>,
    pub(super) samples: Samples,
    /// Families found to be children, and until when that counts.
    pub(super) flagged: Vec<(u64, u64)>,
}

impl ScopeState {
    /// An empty one.
    pub(super) fn new(id: ScopeId, last_us: u64) -> Self {
        let table = std::iter::repeat_with(|| None).take(SETS * WAYS).collect();
        Self { id, last_us, table, samples: Samples::default(), flagged: Vec::new() }
    }

    /// The place of a burst, or the one to be given to it: a free one, else the one that was quiet for longest.
    pub(super) fn slot_for(&self, key: &BurstKey) -> usize {
        let set = set_of(key);
        let mut best = (u64::MAX, set);
        for slot in set..set + WAYS {
            match self.table.get(slot) {
                Some(Some(burst)) if burst.key == *key => return slot,
                Some(Some(burst)) if burst.last_end_us < best.0 => best = (burst.last_end_us, slot),
                Some(Some(_)) => {}
                _ if best.0 > 0 => best = (0, slot),
                _ => {}
            }
        }
        best.1
    }

    pub(super) fn find(&self, key: &BurstKey) -> Option<usize> {
        let set = set_of(key);
        (set..set + WAYS).find(|slot| matches!(self.table.get(*slot), Some(Some(burst)) if burst.key == *key))
    }
}

fn set_of(key: &BurstKey) -> usize {
    (key.hash() >> 59) as usize % SETS * WAYS
}
