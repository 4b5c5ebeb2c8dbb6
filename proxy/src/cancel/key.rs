//! The process ids that clients are told: they say where a cancel request belongs.
//!
//! ```text
//! bit  31 │ 30 … 24 │ 23 … 21    │ 20 …           0
//!       0 │ peer    │ generation │ worker │ number
//! ```
//!
//! All of it is in the process id, because a client of protocol 3.0 has no more than that and four bytes of secret. The
//! sign stays clear for drivers that print it. How many bits a worker's number takes depends on how many workers there
//! are; only the process that gave the id has to know.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashSet;

/// Bits of the generation, and of all that stands to the right of it.
const GENERATION_BITS: u32 = 3;
const INNER_BITS: u32 = 21;

/// Processes of one peer that can live at a time.
pub const GENERATIONS: u32 = 1 << GENERATION_BITS;

/// How this process's ids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// This peer's number: 0 where there are no peers, else `peers.id` and one more.
    pub peer: u32,
    /// Which of the peer's processes on this machine this is.
    pub generation: u32,
    /// Bits of a worker's number.
    worker_bits: u32,
}

impl Layout {
    /// For this process, with so many workers.
    pub fn new(peer: u32, generation: u32, workers: usize) -> Self {
        let last = u32::try_from(workers.saturating_sub(1)).unwrap_or(u32::MAX);
        Self { peer, generation, worker_bits: (u32::BITS - last.leading_zeros()).min(INNER_BITS / 2) }
    }

    /// Which peer gave this id.
    pub fn peer_of(process: u32) -> u32 {
        process >> (INNER_BITS + GENERATION_BITS)
    }

    /// Which of its processes.
    pub fn generation_of(process: u32) -> u32 {
        process >> INNER_BITS & (GENERATIONS - 1)
    }

    /// Which worker of this process serves the client with this id.
    pub fn worker_of(self, process: u32) -> usize {
        (process >> self.number_bits() & ((1 << self.worker_bits) - 1)) as usize
    }

    fn number_bits(self) -> u32 {
        INNER_BITS - self.worker_bits
    }

    fn compose(self, worker: usize, number: u32) -> u32 {
        (self.peer << GENERATION_BITS | self.generation) << INNER_BITS
            | (worker as u32) << self.number_bits()
            | number & ((1 << self.number_bits()) - 1)
    }
}

/// The ids in use. One for each client, so that none is told an id that another client still has.
#[derive(Debug)]
pub struct ProcessIds {
    layout: Layout,
    /// What the sockets of this machine's processes are called, without the generation.
    pub(super) group: Box<str>,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    ids: FxHashSet<u32>,
    last: u32,
}

/// A client's process id; free again when dropped.
#[derive(Debug)]
pub struct ProcessId {
    number: u32,
    used: Arc<Mutex<Used>>,
}

impl ProcessIds {
    /// None in use. `group`: what distinguishes the processes that share this one's address from others.
    pub fn new(layout: Layout, group: &str) -> Self {
        Self { layout, group: group.into(), used: Arc::default() }
    }

    /// How ids are made.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// An id for a client of this worker.
    pub fn take(&self, worker: usize) -> ProcessId {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are numbers: more clients than that are beyond the largest `max_clients`.
        for _ in 0..=1u32 << self.layout.number_bits() {
            used.last = used.last.wrapping_add(1);
            let id = self.layout.compose(worker, used.last);
            // A zero would look like a server that cannot be cancelled.
            if id != 0 && used.ids.insert(id) {
                break;
            }
        }
        ProcessId { number: self.layout.compose(worker, used.last), used: self.used.clone() }
    }
}

impl ProcessId {
    /// As the client is told.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for ProcessId {
    fn drop(&mut self) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).ids.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_it_belongs_and_fits_a_signed_number() {
        for workers in [1, 2, 3, 4, 5, 16, 17, 256] {
            for (peer, generation) in [(0, 0), (1, 7), (127, 7), (127, 0)] {
                let layout = Layout::new(peer, generation, workers);
                for number in [1, 2, 1000, u32::MAX] {
                    for worker in [0, workers / 2, workers - 1] {
                        let id = layout.compose(worker, number);
                        assert!(id < 1 << 31);
                        let read = (Layout::peer_of(id), Layout::generation_of(id), layout.worker_of(id));
                        assert_eq!(read, (peer, generation, worker), "{layout:?} {number}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_clients_have_the_same_id_however_often_numbers_come_round() {
        // 256 workers leave 8,192 numbers for each.
        let ids = ProcessIds::new(Layout::new(0, 0, 256), "");
        let old: Vec<ProcessId> = (0..1000).map(|_| ids.take(3)).collect();
        for _ in 0..50_000 {
            let id = ids.take(3);
            assert_ne!(id.number(), 0);
            assert!(old.iter().all(|old| old.number() != id.number()));
        }
        drop(old);
        assert!(ids.used.lock().unwrap().ids.is_empty());
    }
}
