//! The channels that a client listens to, as its transactions make and unmake them.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::upstream::savepoints::Savepoints;

/// A channel's name.
pub(super) type Channel = Arc<[u8]>;

/// What a statement changes when its transaction commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Listen(Channel),
    Unlisten(Channel),
    UnlistenAll,
}

/// A client's channels.
#[derive(Debug, Default)]
pub(super) struct Channels {
    committed: BTreeSet<Channel>,
    pending: Vec<Change>,
    /// How many changes were pending at each.
    savepoints: Savepoints<usize>,
}

impl Channels {
    /// Whether the client listens to a channel, by what has been committed.
    pub(super) fn has(&self, channel: &[u8]) -> bool {
        self.committed.contains(channel)
    }

    /// How many it listens to.
    pub(super) fn len(&self) -> usize {
        self.committed.len()
    }

    /// Whether it listens to nothing, and nothing is about to change that.
    pub(super) fn is_idle(&self) -> bool {
        self.committed.is_empty() && self.pending.is_empty()
    }

    /// Whether changes wait for the end of their transaction.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// A statement has succeeded.
    pub(super) fn change(&mut self, change: Change) {
        // Repeating oneself in a long transaction must not fill the memory.
        if self.pending.last() != Some(&change) {
            self.pending.push(change);
        }
    }

    /// Changes that wait; bounded by the caller, who refuses more.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// SAVEPOINT.
    pub(super) fn savepoint(&mut self, name: &[u8]) {
        self.savepoints.set(name, self.pending.len());
    }

    /// ROLLBACK TO. Where nobody knows what was there then, everything stays: to be told too much is better than to miss
    /// something.
    pub(super) fn rollback_to(&mut self, name: &[u8]) {
        if let Some(kept) = self.savepoints.return_to(name) {
            self.pending.truncate(kept);
        }
    }

    /// RELEASE.
    pub(super) fn release(&mut self, name: &[u8]) {
        self.savepoints.release(name);
    }

    /// The transaction was committed.
    pub(super) fn commit(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Listen(channel) => drop(self.committed.insert(channel)),
                Change::Unlisten(channel) => drop(self.committed.remove(&channel)),
                Change::UnlistenAll => self.committed.clear(),
            }
        }
        self.savepoints.clear();
    }

    /// The transaction was rolled back.
    pub(super) fn rollback(&mut self) {
        self.pending.clear();
        self.savepoints.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(name: &str) -> Channel {
        name.as_bytes().into()
    }

    fn names(channels: &Channels) -> Vec<&str> {
        channels.committed.iter().map(|name| std::str::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn changes_count_when_their_transaction_commits() {
        let mut channels = Channels::default();
        channels.change(Change::Listen(channel("a")));
        channels.change(Change::Listen(channel("b")));
        assert!(!channels.has(b"a") && !channels.is_idle());
        channels.commit();
        assert_eq!(names(&channels), ["a", "b"]);
        channels.change(Change::Unlisten(channel("a")));
        channels.change(Change::Listen(channel("c")));
        channels.rollback();
        assert_eq!(names(&channels), ["a", "b"]);
        channels.change(Change::UnlistenAll);
        channels.change(Change::Listen(channel("c")));
        channels.commit();
        assert_eq!(names(&channels), ["c"], "in the order of the statements");
    }

    #[test]
    fn a_savepoint_keeps_what_came_before_it() {
        let mut channels = Channels::default();
        channels.change(Change::Listen(channel("a")));
        channels.savepoint(b"s");
        channels.change(Change::Listen(channel("b")));
        channels.savepoint(b"t");
        channels.change(Change::UnlistenAll);
        channels.rollback_to(b"t");
        channels.release(b"t");
        channels.rollback_to(b"s");
        channels.change(Change::Listen(channel("c")));
        channels.commit();
        assert_eq!(names(&channels), ["a", "c"]);
    }

    #[test]
    fn what_came_before_a_savepoint_that_is_forgotten_is_kept() {
        let mut channels = Channels::default();
        channels.change(Change::Listen(channel("a")));
        (0..3000).for_each(|n| channels.savepoint(format!("s{n}").as_bytes()));
        channels.change(Change::Listen(channel("b")));
        channels.rollback_to(b"s0");
        channels.commit();
        assert_eq!(names(&channels), ["a", "b"], "to hear too much is better than to miss something");
        channels.savepoint(b"first");
        (0..3000).for_each(|n| channels.savepoint(format!("s{n}").as_bytes()));
        channels.change(Change::UnlistenAll);
        channels.rollback_to(b"first");
        channels.commit();
        assert_eq!(names(&channels), ["a", "b"]);
    }

    #[test]
    fn repeating_oneself_takes_no_room() {
        let mut channels = Channels::default();
        (0..1000).for_each(|_| channels.change(Change::Listen(channel("a"))));
        assert_eq!(channels.pending(), 1);
    }
}
