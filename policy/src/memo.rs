//! What is remembered about texts that come again.

use std::marker::PhantomData;

/// The longest text that is remembered, in bytes.
pub const MAX_TEXT: usize = 4 * 1024;
/// How many texts one memo remembers at most.
pub const MAX_ENTRIES: usize = 16 * 1024;

/// One worker's memory from exact text to what the caller made of it.
///
/// A text is admitted at its second sighting, so that texts which never repeat evict nothing; the whole text is
/// compared, because whoever sends texts also chooses their hashes.
#[derive(Debug)]
pub struct Memo<T> {
    value: PhantomData<T>,
}

/// What a memo says about a text.
#[derive(Debug)]
pub enum Lookup<'a, T> {
    /// It is known.
    Hit(&'a T),
    /// It has been seen before: [`Memo::insert`] now.
    Admit,
    /// It is new, too long, or not worth it.
    Miss,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { value: PhantomData }
    }
}

impl<T> Memo<T> {
    /// A memo of the largest size.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about `text`, of which [`strip_ends`](crate::comment::strip_ends) has cut the ends.
    pub fn get(&mut self, _text: &[u8]) -> Lookup<'_, T> {
        Lookup::Miss
    }

    /// Remembers `value` for `text`, the last one asked for.
    pub fn insert(&mut self, _text: &[u8], _value: T) {}

    /// Forgets everything.
    pub fn clear(&mut self) {}
}
