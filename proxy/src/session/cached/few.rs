//! Short lists that live where they are made, and room that is used again: a hit allocates nothing.

use std::cell::RefCell;
use std::ops::Deref;

/// Parameters, types, formats and settings of nearly all statements.
const INLINE: usize = 16;

/// A list that needs no memory of its own while it is short.
#[derive(Debug)]
pub(super) struct Few<T> {
    first: [T; INLINE],
    len: usize,
    /// All of them, where there are more.
    many: Vec<T>,
}

/// What stands in the places that nothing was put into.
pub(super) trait Blank: Copy {
    /// It is never seen.
    const BLANK: Self;
}

impl Blank for u32 {
    const BLANK: Self = 0;
}

impl Blank for i16 {
    const BLANK: Self = 0;
}

impl Blank for (&str, Option<&str>) {
    const BLANK: Self = ("", None);
}

impl Blank for policy::cache::Parameter<'_> {
    const BLANK: Self = Self { format: 0, value: None };
}

impl<T: Blank> Default for Few<T> {
    fn default() -> Self {
        Self { first: [T::BLANK; INLINE], len: 0, many: Vec::new() }
    }
}

impl<T: Blank> Few<T> {
    /// Appends one.
    #[inline]
    pub(super) fn push(&mut self, item: T) {
        if let Some(place) = self.first.get_mut(self.len) {
            *place = item;
            self.len += 1;
            return;
        }
        if self.many.is_empty() {
            self.many.extend_from_slice(&self.first);
        }
        self.many.push(item);
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        if self.many.is_empty() { self.first.get(..self.len).unwrap_or_default() } else { &self.many }
    }
}

/// The most that is kept for the next one, in bytes.
const KEPT: usize = 16 * 1024;

/// Room that one after the other takes and puts back. Who takes it while somebody has it gets none, which is right too.
#[derive(Debug, Default)]
pub struct Room(RefCell<Vec<u8>>);

impl Room {
    /// Empty.
    #[inline]
    pub fn take(&self) -> Vec<u8> {
        let mut room = self.0.take();
        room.clear();
        room
    }

    /// For the next one.
    #[inline]
    pub fn put(&self, room: Vec<u8>) {
        if room.capacity() <= KEPT {
            self.0.replace(room);
        }
    }
}

/// Rooms that are kept for replies on their way.
const REPLIES: usize = 64;

/// Rooms of which several are taken at a time.
#[derive(Debug, Default)]
pub struct Spare(RefCell<Vec<Vec<u8>>>);

impl Spare {
    /// An empty one.
    #[inline]
    pub fn take(&self) -> Vec<u8> {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// For somebody else.
    #[inline]
    pub fn put(&self, mut room: Vec<u8>) {
        let mut spare = self.0.borrow_mut();
        if (1..=KEPT).contains(&room.capacity()) && spare.len() < REPLIES {
            room.clear();
            spare.push(room);
        }
    }
}

/// One worker's room for what the cache puts together.
#[derive(Debug, Default)]
pub struct Rooms {
    /// For keys.
    pub key: Room,
    /// For the constants of texts.
    pub literals: Room,
    /// For answers within a transaction.
    pub answer: Room,
    /// For routes that two tags name.
    pub route: Room,
    /// For replies that may be kept.
    pub replies: Spare,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_the_same_short_and_long() {
        for len in [0, 1, INLINE - 1, INLINE, INLINE + 1, 3 * INLINE] {
            let wanted: Vec<u32> = (1..=len as u32).collect();
            let mut few = Few::default();
            wanted.iter().for_each(|n| few.push(*n));
            assert_eq!(*few, *wanted);
            assert_eq!(few.many.capacity() == 0, len <= INLINE, "{len} need memory of their own");
        }
    }

    #[test]
    fn room_is_used_again_unless_it_is_large() {
        let room = Room::default();
        let mut taken = room.take();
        taken.extend_from_slice(b"what was");
        let place = taken.as_ptr();
        assert_eq!(room.take().capacity(), 0, "somebody has it");
        room.put(taken);
        let again = room.take();
        assert!(again.is_empty() && again.as_ptr() == place);
        room.put(Vec::with_capacity(KEPT + 1));
        assert_eq!(room.take().capacity(), 0);
    }

    #[test]
    fn spare_rooms_are_few_and_small() {
        let spare = Spare::default();
        (0..REPLIES + 10).for_each(|_| spare.put(vec![1; 100]));
        spare.put(Vec::new());
        assert_eq!(spare.0.borrow().len(), REPLIES);
        let room = spare.take();
        assert!(room.is_empty() && room.capacity() >= 100);
        spare.put(Vec::with_capacity(KEPT + 1));
        assert_eq!(spare.0.borrow().len(), REPLIES - 1, "a large one is not kept");
    }
}
