//! The savepoints of a transaction, and what a ROLLBACK to each returns to.

use std::collections::VecDeque;

/// Savepoints remembered. A transaction that never releases any may have millions, most often of one name, of which the
/// newest counts.
const MAX: usize = 1024;

/// Savepoints, each with what held when it was made. Beyond `MAX` the oldest are forgotten, but not what held at them as
/// long as that was the same at all of them.
#[derive(Debug)]
pub struct Savepoints<T> {
    kept: VecDeque<(Box<[u8]>, T)>,
    older: Older<T>,
    /// What held at those that were made before anybody looked; `None`: there are none.
    unseen: Option<T>,
}

/// What held at those that are older than all that are kept.
#[derive(Debug)]
enum Older<T> {
    None,
    At(T),
    Various,
}

impl<T: Clone + PartialEq> Savepoints<T> {
    /// All are told of from the beginning of the transaction on.
    pub fn all() -> Self {
        Self { kept: VecDeque::new(), older: Older::None, unseen: None }
    }

    /// They are told of from some moment on. Before it this held.
    pub fn since(then: T) -> Self {
        Self { kept: VecDeque::new(), older: Older::At(then.clone()), unseen: Some(then) }
    }

    /// SAVEPOINT. `false`: an older one was forgotten for it.
    pub fn set(&mut self, name: &[u8], now: T) -> bool {
        let oldest = if self.kept.len() >= MAX { self.kept.pop_front() } else { None };
        let has_room = oldest.is_none();
        if let Some((_, then)) = oldest {
            self.older = match std::mem::replace(&mut self.older, Older::Various) {
                Older::None => Older::At(then),
                Older::At(earlier) if earlier == then => Older::At(earlier),
                _ => Older::Various,
            };
        }
        self.kept.push_back((name.into(), now));
        has_room
    }

    /// ROLLBACK TO: those behind it are gone, and it stays. `None`: nobody knows what held then.
    pub fn return_to(&mut self, name: &[u8]) -> Option<T> {
        let found = self.find(name);
        self.kept.truncate(found.map_or(0, |at| at + 1));
        self.last().cloned()
    }

    /// RELEASE: it is gone, and those behind it.
    pub fn release(&mut self, name: &[u8]) {
        self.kept.truncate(self.find(name).unwrap_or(0));
    }

    /// What held at the newest; `None`: there is none, or nobody knows.
    pub fn last(&self) -> Option<&T> {
        match (self.kept.back(), &self.older) {
            (Some((_, then)), _) | (None, Older::At(then)) => Some(then),
            _ => None,
        }
    }

    /// The transaction has ended.
    #[inline]
    pub fn clear(&mut self) {
        self.kept.clear();
        self.older = self.unseen.clone().map_or(Older::None, Older::At);
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.kept.iter().rposition(|(other, _)| &**other == name)
    }
}

impl Default for Savepoints<usize> {
    /// Of things that are counted from the first one on.
    fn default() -> Self {
        Self::since(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_forgotten_are_returned_to_as_long_as_they_are_alike() {
        let mut savepoints = Savepoints::all();
        assert_eq!(savepoints.return_to(b"unseen"), None);
        savepoints.set(b"first", 1);
        (0..MAX).for_each(|n| _ = savepoints.set(format!("s{n}").as_bytes(), 1));
        assert_eq!(savepoints.return_to(b"s7"), Some(1));
        assert_eq!(savepoints.return_to(b"first"), Some(1));
        (0..=MAX).for_each(|n| _ = savepoints.set(b"s", n));
        assert_eq!(savepoints.return_to(b"s"), Some(MAX), "the newest of its name");
        assert_eq!(savepoints.return_to(b"first"), None, "there is one with 0 as well");
        savepoints.clear();
        savepoints.set(b"first", 2);
        assert_eq!(savepoints.return_to(b"first"), Some(2));
    }

    #[test]
    fn one_that_was_made_before_anybody_looked_is_not_taken_for_a_forgotten_one() {
        let mut savepoints = Savepoints::default();
        savepoints.set(b"seen", 3);
        assert_eq!(savepoints.return_to(b"unseen"), Some(0));
        (0..=MAX).for_each(|n| _ = savepoints.set(format!("s{n}").as_bytes(), 3));
        assert_eq!(savepoints.return_to(b"s0"), None, "or is it an unseen one?");
        savepoints.clear();
        assert_eq!(savepoints.return_to(b"unseen"), Some(0));
    }

    #[test]
    fn what_stands_behind_one_that_is_released_is_released_too() {
        let mut savepoints = Savepoints::all();
        for (name, now) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
            savepoints.set(name, now);
        }
        savepoints.release(b"b");
        assert_eq!(savepoints.last(), Some(&1));
        savepoints.set(b"d", 4);
        savepoints.release(b"older than these");
        assert_eq!(savepoints.last(), None);
    }
}
