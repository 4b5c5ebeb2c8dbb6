//! The process ids that clients are told: they say where a cancel request belongs.
//!
//! ```text
//! bit  31 │ 30 … 24 │ 23 … 21    │ 20 …           0
//!       0 │ peer    │ generation │ worker │ number
//! ```
//!
//! All of it is in the process id, because a client of protocol 3.0 has no more than that and four bytes of secret. The
//! sign stays clear for drivers that print it. How many bits a worker's number takes depends on how many workers there
//! are; only the process that gave the id has to know. Generations begin at 2, so that every id lies above those that an
//! operating system gives to its processes ([`FIRST_OWN`]).
//!
//! A client in session mode is told the process id of its *server* instead, which has no room for any of this. Whose it
//! is stands in a table here, by process id and secret: servers on two hosts may have the same one. With peers, the
//! lowest seven bits of the secret's first byte name the peer ([`Layout::peer_of_key`]).

use std::sync::{Arc, Mutex, PoisonError};

use rand::Rng;
use rustc_hash::{FxHashMap, FxHashSet};
use subtle::ConstantTimeEq;

/// Bits of the generation, and of all that stands to the right of it.
const GENERATION_BITS: u32 = 3;
const INNER_BITS: u32 = 21;
/// Bits of the first byte of a secret that name a peer.
const PEER_BITS: u8 = 0x7f;

/// The first id that no operating system gives to a process: Linux stops below 2²² (`PID_MAX_LIMIT`), others earlier.
pub const FIRST_OWN: u32 = FIRST_GENERATION << INNER_BITS;
const FIRST_GENERATION: u32 = 2;

/// The generations that processes of one peer can have at a time.
pub const GENERATIONS: std::ops::Range<u32> = FIRST_GENERATION..1 << GENERATION_BITS;

/// How long a secret of a client of protocol 3.0 is, in bytes, and of later ones.
pub const SHORT_KEY: usize = 4;
/// See [`SHORT_KEY`].
pub const LONG_KEY: usize = 32;

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
        process >> INNER_BITS & (GENERATIONS.end - 1)
    }

    /// Whether this is an id of ours, and not the process id of a server.
    pub fn is_own(process: u32) -> bool {
        process >= FIRST_OWN
    }

    /// Which peer gave this secret to a client that was told its server's process id.
    pub fn peer_of_key(self, key: &[u8]) -> u32 {
        if self.peer == 0 { 0 } else { key.first().map_or(0, |first| u32::from(first & PEER_BITS)) }
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
    /// Clients that were told their server's process id, by that.
    servers: FxHashMap<u32, Vec<Told>>,
    last_place: u32,
}

/// A client that was told its server's process id.
#[derive(Debug)]
struct Told {
    place: u32,
    key: Box<[u8]>,
    to: Addressee,
}

/// Where a client is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addressee {
    /// Its worker.
    pub worker: usize,
    /// Its number.
    pub client: u64,
}

/// Who a client is to those who want to cancel what it runs: what BackendKeyData tells.
#[derive(Debug)]
pub struct Identity {
    /// Its process id.
    pub process: ProcessId,
    /// Its secret.
    pub key: Box<[u8]>,
}

/// A client's process id; free again when dropped.
#[derive(Debug)]
pub struct ProcessId {
    number: u32,
    /// Its entry under a server's process id; 0: the id is ours.
    place: u32,
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

    /// Who a client of this worker is, with a secret of so many bytes.
    pub fn introduce(&self, worker: usize, key: usize) -> Identity {
        Identity { process: self.take(worker), key: draw(key) }
    }

    /// Who a client is that has a server to itself, with this process id there: the same as on a direct connection. An
    /// id that no operating system gives (another pooler stands behind it) tells nobody anything: it gets one of ours.
    pub fn introduce_as(&self, server: i32, to: Addressee, key: usize) -> Identity {
        let number = match u32::try_from(server) {
            Ok(number) if number > 0 && !Layout::is_own(number) => number,
            _ => return self.introduce(to.worker, key),
        };
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.last_place = used.last_place.wrapping_add(1).max(1);
        let place = used.last_place;
        let namesakes = used.servers.entry(number).or_default();
        let mut secret = self.draw_marked(key);
        while namesakes.iter().any(|other| other.key == secret) {
            secret = self.draw_marked(key);
        }
        namesakes.push(Told { place, key: secret.clone(), to });
        Identity { process: ProcessId { number, place, used: self.used.clone() }, key: secret }
    }

    /// The client that was told this process id of its server, and this secret.
    pub fn find(&self, process: u32, key: &[u8]) -> Option<Addressee> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let namesakes = used.servers.get(&process)?.iter();
        namesakes.filter(|told| bool::from(told.key.ct_eq(key))).map(|told| told.to).next()
    }

    /// An id for a client of this worker.
    fn take(&self, worker: usize) -> ProcessId {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are numbers: more clients than that are beyond the largest `max_clients`.
        for _ in 0..=1u32 << self.layout.number_bits() {
            used.last = used.last.wrapping_add(1);
            let id = self.layout.compose(worker, used.last);
            if used.ids.insert(id) {
                break;
            }
        }
        ProcessId { number: self.layout.compose(worker, used.last), place: 0, used: self.used.clone() }
    }

    /// A secret that names this peer, if there are others.
    fn draw_marked(&self, length: usize) -> Box<[u8]> {
        let mut key = draw(length);
        if let Some(first) = key.first_mut().filter(|_| self.layout.peer != 0) {
            *first = *first & !PEER_BITS | (self.layout.peer as u8 & PEER_BITS);
        }
        key
    }
}

fn draw(length: usize) -> Box<[u8]> {
    let mut key = vec![0; length];
    rand::rng().fill_bytes(&mut key);
    key.into()
}

impl ProcessId {
    /// As the client is told.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for ProcessId {
    fn drop(&mut self) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if self.place == 0 {
            used.ids.remove(&self.number);
            return;
        }
        if let Some(namesakes) = used.servers.get_mut(&self.number) {
            namesakes.retain(|told| told.place != self.place);
            if namesakes.is_empty() {
                used.servers.remove(&self.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_it_belongs_and_fits_a_signed_number() {
        for workers in [1, 2, 3, 4, 5, 16, 17, 256] {
            for (peer, generation) in [(0, 2), (1, 7), (127, 7), (127, 2)] {
                let layout = Layout::new(peer, generation, workers);
                for number in [1, 2, 1000, u32::MAX] {
                    for worker in [0, workers / 2, workers - 1] {
                        let id = layout.compose(worker, number);
                        assert!(id < 1 << 31);
                        assert!(Layout::is_own(id), "no process of an operating system has it");
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
        let ids = ProcessIds::new(Layout::new(0, 2, 256), "");
        let old: Vec<ProcessId> = (0..1000).map(|_| ids.take(3)).collect();
        for _ in 0..50_000 {
            let id = ids.take(3);
            assert_ne!(id.number(), 0);
            assert!(old.iter().all(|old| old.number() != id.number()));
        }
        drop(old);
        assert!(ids.used.lock().unwrap().ids.is_empty());
    }

    #[test]
    fn servers_of_two_hosts_may_have_the_same_process_id() {
        let ids = ProcessIds::new(Layout::new(0, 2, 4), "");
        let to = |client| Addressee { worker: 1, client };
        let (one, other) = (ids.introduce_as(4711, to(1), SHORT_KEY), ids.introduce_as(4711, to(2), LONG_KEY));
        assert_eq!((one.process.number(), other.process.number()), (4711, 4711));
        assert_eq!((ids.find(4711, &one.key), ids.find(4711, &other.key)), (Some(to(1)), Some(to(2))));
        assert_eq!(ids.find(4711, &[]), None);
        assert_eq!(ids.find(4712, &one.key), None);
        let key = one.key.clone();
        drop(one);
        assert_eq!((ids.find(4711, &key), ids.find(4711, &other.key)), (None, Some(to(2))));
        drop(other);
        assert!(ids.used.lock().unwrap().servers.is_empty());
    }

    #[test]
    fn a_process_id_that_no_operating_system_gives_is_not_passed_on() {
        let ids = ProcessIds::new(Layout::new(0, 2, 4), "");
        for server in [0, -7, i32::MIN, 1 << 22, i32::MAX] {
            let told = ids.introduce_as(server, Addressee { worker: 3, client: 1 }, SHORT_KEY);
            assert!(Layout::is_own(told.process.number()), "{server}");
            assert_eq!(ids.layout().worker_of(told.process.number()), 3);
        }
    }

    #[test]
    fn a_secret_names_its_peer_and_is_random_otherwise() {
        let to = Addressee { worker: 0, client: 1 };
        let alone = ProcessIds::new(Layout::new(0, 2, 1), "");
        let peer = ProcessIds::new(Layout::new(5, 2, 1), "");
        let mut seen = [[0u8; 2]; SHORT_KEY];
        for _ in 0..200 {
            let key = peer.introduce_as(10, to, SHORT_KEY).key;
            assert_eq!(peer.layout().peer_of_key(&key), 5);
            assert_eq!(alone.layout().peer_of_key(&alone.introduce_as(10, to, SHORT_KEY).key), 0);
            for (byte, [ones, zeros]) in key.iter().zip(&mut seen) {
                (*ones, *zeros) = (*ones | byte, *zeros | !byte);
            }
        }
        let drawn: u32 = seen.iter().map(|[ones, zeros]| (ones & zeros).count_ones()).sum();
        assert_eq!(drawn, 25, "every bit but the peer's seven was seen both ways");
    }
}
