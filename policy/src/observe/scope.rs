//! One scope's memory: who is in a burst, and what has come back.

use super::burst::{Burst, BurstKey};
use super::event::ScopeId;
use super::samples::Samples;

/// Places in a scope's table of bursts: sets of four, and more of them where bursts are in each other's way: traces keep many
/// under way at once.
const WAYS: usize = 4;
const SETS: usize = 32;
const MAX_SETS: usize = 512;

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
        Self { id, last_us, table: places(SETS), samples: Samples::default(), flagged: Vec::new() }
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        let bursts: usize = self.table.iter().flatten().map(|burst| burst.bytes()).sum();
        let flagged = self.flagged.capacity() * size_of::<(u64, u64)>();
        size_of_val(self.table.as_slice()) + bursts + self.samples.bytes() + flagged
    }

    /// Makes twice as many sets; whether there may be so many. Each set becomes two, so that every burst finds a place.
    pub(super) fn widen(&mut self) -> bool {
        let sets = self.table.len() / WAYS * 2;
        if sets > MAX_SETS {
            return false;
        }
        let table = std::mem::replace(&mut self.table, places(sets));
        for burst in table.into_iter().flatten() {
            let slot = self.slot_for(&burst.key);
            if let Some(place) = self.table.get_mut(slot) {
                *place = Some(burst);
            }
        }
        true
    }

    /// Gives back what it was widened by, once nothing is under way.
    pub(super) fn narrow(&mut self) {
        if self.table.len() > SETS * WAYS && self.table.iter().all(Option::is_none) {
            self.table = places(SETS);
        }
    }

    /// The place of a burst, or the one to be given to it: a free one, else the one that was quiet for longest.
    pub(super) fn slot_for(&self, key: &BurstKey) -> usize {
        let set = self.set_of(key);
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
        let set = self.set_of(key);
        (set..set + WAYS).find(|slot| matches!(self.table.get(*slot), Some(Some(burst)) if burst.key == *key))
    }

    /// By the highest bits, so that twice as many sets divide each.
    fn set_of(&self, key: &BurstKey) -> usize {
        let sets = self.table.len() / WAYS;
        (key.hash() >> (u64::BITS - sets.trailing_zeros())) as usize % sets.max(1) * WAYS
    }
}

fn places(sets: usize) -> Vec<Option<Box<Burst>>> {
    std::iter::repeat_with(|| None).take(sets * WAYS).collect()
}
