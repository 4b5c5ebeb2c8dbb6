//! The client's name ↔ our id ↔ what each server holds.
//!
//! A client names its prepared statements as it likes; servers are shared, so on a server a statement goes by a name
//! made from an id that is never reused. [`ClientStatements`] is one client's map, [`ServerStatements`] what one server
//! connection holds. Both are changed when a message is *sent*, and put right when its reply shows that the server
//! skipped it.

mod names;

use std::collections::VecDeque;
use std::hash::BuildHasher;

use rustc_hash::{FxHashMap, FxHashSet};

use names::Names;

/// What all our statement names on servers begin with.
pub const PREFIX: &[u8] = b"pgweir_";

/// Writes the name that statement `id` has on every server.
#[inline]
pub fn write_server_name(id: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(PREFIX);
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = id;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// One client's named statements.
///
/// Every change is remembered until its message is answered: [`settle`](Self::settle) once per answered message,
/// [`revert`](Self::revert) for those that an error made the server skip. Both in the order of the changes.
#[derive(Debug)]
pub struct ClientStatements<T, S> {
    names: Names<Entry<T>, S>,
    unanswered: VecDeque<Change<T>>,
    /// The place of the statement that is named next.
    next: u64,
    /// What the statements weigh together.
    bytes: usize,
}

/// A name, and what it stood for before.
type Change<T> = (Box<[u8]>, Option<Entry<T>>);

#[derive(Debug)]
struct Entry<T> {
    statement: T,
    place: u64,
    bytes: usize,
}

impl<T, S> Default for ClientStatements<T, S> {
    fn default() -> Self {
        Self { names: Names::default(), unanswered: VecDeque::new(), next: 0, bytes: 0 }
    }
}

impl<T, S: BuildHasher + Default> ClientStatements<T, S> {
    /// The statement of this name.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&T> {
        self.names.get(name).map(|entry| &entry.statement)
    }

    /// Its place in the order in which the names were given; never used twice.
    pub fn place(&self, name: &[u8]) -> Option<u64> {
        self.names.get(name).map(|entry| entry.place)
    }

    /// All of them in the order in which they were named: name, place, statement.
    pub fn in_order(&self) -> Vec<(&[u8], u64, &T)> {
        let mut all: Vec<_> = self.names.iter().map(|(name, entry)| (name, entry.place, &entry.statement)).collect();
        all.sort_unstable_by_key(|(_, place, _)| *place);
        all
    }

    /// Statements known by name.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Bytes that they and their names take, as they were given.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no statement is known by name.
    pub fn is_empty(&self) -> bool {
        self.names.len() == 0
    }

    /// A Parse of `name` was sent (or kept back because the server knows it); the statement takes so many bytes.
    pub fn define(&mut self, name: &[u8], statement: T, bytes: usize) {
        let entry = Entry { statement, place: self.next, bytes: bytes + name.len() };
        self.next += 1;
        self.insert(name.into(), entry);
        self.unanswered.push_back((name.into(), None));
    }

    /// A Close of `name` was answered by us; closing what does not exist is no error.
    pub fn close(&mut self, name: &[u8]) {
        let was = self.remove(name);
        self.unanswered.push_back((name.into(), was));
    }

    /// Whether a change of `name` is still unanswered.
    pub fn is_unsettled(&self, name: &[u8]) -> bool {
        self.unanswered.iter().any(|(unanswered, _)| &**unanswered == name)
    }

    /// The oldest unanswered change has been answered.
    pub fn settle(&mut self) {
        self.unanswered.pop_front();
        self.forget_room();
    }

    /// Statements are named rarely, and their clients are many: nobody keeps room for the next change.
    fn forget_room(&mut self) {
        if self.unanswered.is_empty() {
            self.unanswered = VecDeque::new();
        }
    }

    /// The `count` oldest unanswered changes never happened.
    pub fn revert(&mut self, count: usize) {
        let count = count.min(self.unanswered.len());
        let undone: Vec<_> = self.unanswered.drain(..count).collect();
        for (name, was) in undone.into_iter().rev() {
            match was {
                Some(entry) => self.insert(name, entry),
                None => drop(self.remove(&name)),
            }
        }
        self.forget_room();
    }

    /// DEALLOCATE ALL or DISCARD ALL was answered: no name is left. Those sent behind it keep theirs.
    pub fn forget_all(&mut self) {
        let later: Vec<Box<[u8]>> = self.unanswered.iter().map(|(name, _)| name.clone()).collect();
        self.names.retain(|name| later.iter().any(|kept| **kept == *name));
        self.bytes = self.names.iter().map(|(_, entry)| entry.bytes).sum();
    }

    /// DEALLOCATE `name` was answered.
    pub fn forget(&mut self, name: &[u8]) -> Option<T> {
        if self.is_unsettled(name) { None } else { self.remove(name).map(|entry| entry.statement) }
    }

    fn insert(&mut self, name: Box<[u8]>, entry: Entry<T>) {
        self.bytes += entry.bytes;
        let replaced = self.names.insert(name, entry);
        self.bytes -= replaced.map_or(0, |entry| entry.bytes);
    }

    fn remove(&mut self, name: &[u8]) -> Option<Entry<T>> {
        let entry = self.names.remove(name)?;
        self.bytes -= entry.bytes;
        Some(entry)
    }
}

/// What one server connection holds, least recently used first to go.
#[derive(Debug)]
pub struct ServerStatements {
    held: FxHashMap<u64, u64>,
    /// Statements that must be closed before they are parsed again: what was parsed under their names is out of date.
    doubted: FxHashSet<u64>,
    limit: usize,
    clock: u64,
    /// Uses from here on belong to the current pipeline: they must stay.
    pinned_from: u64,
}

/// What a server needs before a statement can be bound on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing: it is there.
    Held,
    /// A Parse, and a Close of another one first if the server holds its limit.
    Missing {
        /// The statement to close.
        evict: Option<u64>,
    },
}

impl ServerStatements {
    /// A server that holds nothing and may hold `limit` statements.
    pub fn new(limit: usize) -> Self {
        Self {
            held: FxHashMap::default(),
            doubted: FxHashSet::default(),
            limit: limit.max(1),
            clock: 0,
            pinned_from: 0,
        }
    }

    /// Statements held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A new pipeline begins: what was used before may go.
    #[inline]
    pub fn begin_pipeline(&mut self) {
        self.pinned_from = self.clock;
    }

    /// Statement `id` is about to be used. If it is missing it counts as held from now on.
    /// The limit gives way where everything is in use by the current pipeline.
    #[inline]
    pub fn acquire(&mut self, id: u64) -> Presence {
        self.clock += 1;
        if let Some(used) = self.held.get_mut(&id) {
            *used = self.clock;
            return Presence::Held;
        }
        if self.doubted.contains(&id) {
            self.held.insert(id, self.clock);
            return Presence::Missing { evict: Some(id) };
        }
        let evict = if self.held.len() >= self.limit { self.least_recent() } else { None };
        if let Some(evicted) = evict {
            self.held.remove(&evicted);
        }
        self.held.insert(id, self.clock);
        Presence::Missing { evict }
    }

    /// Whether statement `id` is held; using it does not count.
    pub fn holds(&self, id: u64) -> bool {
        self.held.contains_key(&id)
    }

    /// The server does not hold `id` after all: its Parse failed or was skipped, or it was closed.
    pub fn remove(&mut self, id: u64) {
        self.held.remove(&id);
    }

    /// What the server holds as `id` is out of date, as tables and types have changed since: the next use closes it and
    /// parses it anew. It stays so named, because a Close that comes to nothing does no harm where a Parse of a name that
    /// is taken fails. `false`: too many are; the connection is better reset.
    pub fn doubt(&mut self, id: u64) -> bool {
        self.held.remove(&id);
        let room = self.doubted.len() < self.limit;
        if room {
            self.doubted.insert(id);
        }
        room
    }

    /// It cannot be told what the server holds: as if each of them were out of date.
    pub fn doubt_all(&mut self) {
        self.doubted.extend(self.held.drain().map(|(id, _)| id));
    }

    /// The server still holds `id`: its Close was skipped.
    pub fn restore(&mut self, id: u64) {
        self.held.insert(id, self.clock);
    }

    /// Everything that may be there, as it is about to be closed.
    pub fn take_all(&mut self) -> Vec<u64> {
        let doubted = self.doubted.iter().filter(|id| !self.held.contains_key(id));
        let ids = self.held.keys().chain(doubted).copied().collect();
        self.clear();
        ids
    }

    /// DEALLOCATE ALL or DISCARD ALL has run.
    pub fn clear(&mut self) {
        self.held.clear();
        self.doubted.clear();
    }

    fn least_recent(&self) -> Option<u64> {
        let (id, used) = self.held.iter().min_by_key(|(_, used)| **used)?;
        (*used <= self.pinned_from).then_some(*id)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    type Client = ClientStatements<u64, RandomState>;

    #[test]
    fn server_names_are_the_prefix_and_the_id() {
        for (id, name) in [(0, "pgweir_0"), (42, "pgweir_42"), (u64::MAX, "pgweir_18446744073709551615")] {
            let mut out = Vec::new();
            write_server_name(id, &mut out);
            assert_eq!(out, name.as_bytes());
        }
    }

    #[test]
    fn skipped_changes_are_undone_last_first() {
        let mut client = Client::default();
        client.define(b"a", 1, 10);
        client.settle();
        client.close(b"a");
        client.define(b"a", 2, 20);
        client.close(b"a");
        assert_eq!(client.bytes(), 0);
        client.revert(3);
        assert_eq!((client.find(b"a"), client.bytes()), (Some(&1), 11));
        client.define(b"b", 3, 30);
        client.revert(1);
        assert_eq!(client.find(b"b"), None);
        client.revert(9);
        assert_eq!((client.len(), client.bytes()), (1, 11));
    }

    #[test]
    fn a_name_defined_behind_deallocate_all_keeps_its_statement() {
        let mut client = Client::default();
        client.define(b"old", 1, 10);
        client.settle();
        client.define(b"new", 2, 20);
        client.forget_all();
        assert_eq!((client.find(b"old"), client.find(b"new"), client.bytes()), (None, Some(&2), 23));
    }

    #[test]
    fn names_stand_in_the_order_in_which_they_were_given_last() {
        let mut client = Client::default();
        for (name, statement) in [(b"c", 1), (b"a", 2), (b"b", 3)] {
            client.define(name, statement, 0);
        }
        client.close(b"c");
        client.define(b"c", 4, 0);
        let names: Vec<_> = client.in_order().into_iter().map(|(name, _, statement)| (name, *statement)).collect();
        assert_eq!(names, [(&b"a"[..], 2), (b"b", 3), (b"c", 4)]);
        assert_ne!(client.place(b"a"), client.place(b"c"));
    }

    #[test]
    fn the_least_recently_used_goes_first_and_never_one_of_the_current_pipeline() {
        let mut server = ServerStatements::new(2);
        assert_eq!(server.acquire(1), Presence::Missing { evict: None });
        assert_eq!(server.acquire(2), Presence::Missing { evict: None });
        assert_eq!(server.acquire(1), Presence::Held);
        server.begin_pipeline();
        assert_eq!(server.acquire(3), Presence::Missing { evict: Some(2) });
        assert_eq!(server.acquire(4), Presence::Missing { evict: Some(1) });
        assert_eq!(server.acquire(5), Presence::Missing { evict: None });
        assert_eq!(server.len(), 3);
        server.remove(5);
        server.restore(1);
        assert!(server.holds(1) && !server.holds(5));
    }

    #[test]
    fn what_is_doubted_is_closed_before_each_parse_until_one_has_come_through() {
        let mut server = ServerStatements::new(2);
        server.acquire(1);
        assert!(server.doubt(1));
        assert_eq!(server.acquire(1), Presence::Missing { evict: Some(1) });
        assert_eq!(server.acquire(1), Presence::Held);
        // An error in front took both with it: the Close first, then the Parse.
        server.restore(1);
        server.remove(1);
        assert_eq!(server.acquire(1), Presence::Missing { evict: Some(1) });
        assert!(server.doubt(2) && !server.doubt(3));
        let mut all = server.take_all();
        all.sort_unstable();
        assert_eq!((all.as_slice(), server.len()), (&[1, 2][..], 0));
        assert_eq!(server.acquire(1), Presence::Missing { evict: None });
        assert_eq!(server.acquire(2), Presence::Missing { evict: None });
        server.doubt_all();
        assert_eq!(server.acquire(2), Presence::Missing { evict: Some(2) });
        assert_eq!((server.holds(1), server.holds(2)), (false, true));
    }
}
