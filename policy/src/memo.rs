//! What is remembered about texts that come again.

use xxhash_rust::xxh3::xxh3_64;

/// The longest text that is remembered, in bytes.
pub const MAX_TEXT: usize = 4 * 1024;
/// How many texts one memo remembers at most.
pub const MAX_ENTRIES: usize = 16 * 1024;
/// How many bytes of text one memo keeps at most, whatever the number of entries.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Places of one set: a text may stand in any of the four that its hash points to.
const WAYS: usize = 4;
const SETS: usize = MAX_ENTRIES / WAYS;
/// Marks of texts seen once, four bytes each.
const MARKS: usize = MAX_ENTRIES;

/// One worker's memory from exact text to what the caller made of it.
///
/// A text is admitted at its second sighting, so that texts which never repeat evict nothing; the whole text is
/// compared, because whoever sends texts also chooses their hashes. A hit and a refused miss allocate nothing.
///
/// ```
/// use policy::memo::{Lookup, Memo};
///
/// let mut memo = Memo::new();
/// assert!(matches!(memo.get(b"select 1"), Lookup::Miss));
/// assert!(matches!(memo.get(b"select 1"), Lookup::Admit));
/// memo.insert(b"select 1", 7);
/// assert!(matches!(memo.get(b"select 1"), Lookup::Hit(7)));
/// ```
#[derive(Debug)]
pub struct Memo<T> {
    sets: Box<[[Slot<T>; WAYS]]>,
    marks: Box<[u32]>,
    entries: usize,
    bytes: usize,
    /// The set from which the next one is freed when the bytes run out.
    hand: usize,
}

#[derive(Debug)]
struct Slot<T> {
    hash: u64,
    /// Asked for since the last time somebody looked for a victim here.
    recent: bool,
    entry: Option<(Box<[u8]>, T)>,
}

impl<T> Slot<T> {
    const EMPTY: Self = Self { hash: 0, recent: false, entry: None };

    #[inline]
    fn holds(&self, hash: u64, text: &[u8]) -> bool {
        self.hash == hash && self.entry.as_ref().is_some_and(|(known, _)| **known == *text)
    }
}

/// What a memo says about a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a, T> {
    /// It is known.
    Hit(&'a T),
    /// It has been seen before: [`Memo::insert`] now.
    Admit,
    /// It is new, too long, or empty.
    Miss,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Memo<T> {
    /// An empty memo. Its table takes about 0.7 MiB plus the size of the values.
    pub fn new() -> Self {
        Self {
            sets: std::iter::repeat_with(|| [const { Slot::EMPTY }; WAYS]).take(SETS).collect(),
            marks: vec![0; MARKS].into_boxed_slice(),
            entries: 0,
            bytes: 0,
            hand: 0,
        }
    }

    /// What is known about `text`, of which [`strip_ends`](crate::comment::strip_ends) has cut the ends.
    #[inline]
    pub fn get(&mut self, text: &[u8]) -> Lookup<'_, T> {
        if text.len() > MAX_TEXT || text.is_empty() {
            return Lookup::Miss;
        }
        let hash = xxh3_64(text);
        // Looked for by place first: a borrow that is handed out from a loop would outlive the other answers.
        let set = self.sets.get(set_of(hash));
        let way = set.and_then(|set| set.iter().position(|slot| slot.holds(hash, text)));
        match way {
            Some(way) => {
                let slot = self.sets.get_mut(set_of(hash)).and_then(|set| set.get_mut(way));
                match slot {
                    Some(Slot { recent, entry: Some((_, value)), .. }) => {
                        *recent = true;
                        Lookup::Hit(value)
                    }
                    _ => Lookup::Miss,
                }
            }
            None if sighted(&mut self.marks, hash) => Lookup::Admit,
            None => Lookup::Miss,
        }
    }

    /// Remembers `value` for `text`; what was known about it is replaced. Does nothing for a text that is too long.
    pub fn insert(&mut self, text: &[u8], value: T) {
        if text.len() > MAX_TEXT || text.is_empty() {
            return;
        }
        let hash = xxh3_64(text);
        let Some(way) = self.place(hash, text) else { return };
        self.free(set_of(hash), way);
        while self.bytes + text.len() > MAX_BYTES {
            self.hand = (self.hand + 1) % SETS;
            (0..WAYS).for_each(|way| self.free(self.hand, way));
        }
        if let Some(slot) = self.sets.get_mut(set_of(hash)).and_then(|set| set.get_mut(way)) {
            *slot = Slot { hash, recent: false, entry: Some((text.into(), value)) };
            self.entries += 1;
            self.bytes += text.len();
        }
    }

    /// Where in its set a text goes: over itself, into a free place, or over one that nobody asked for lately.
    fn place(&mut self, hash: u64, text: &[u8]) -> Option<usize> {
        let set = self.sets.get_mut(set_of(hash))?;
        if let Some(way) = set.iter().position(|slot| slot.holds(hash, text)) {
            return Some(way);
        }
        if let Some(way) = set.iter().position(|slot| slot.entry.is_none()) {
            return Some(way);
        }
        let victim = set.iter().position(|slot| !slot.recent);
        set.iter_mut().for_each(|slot| slot.recent &= victim.is_some());
        // All were asked for: the hash's own bits choose, so that no place is favoured.
        Some(victim.unwrap_or((hash >> 60) as usize % WAYS))
    }

    fn free(&mut self, set: usize, way: usize) {
        let slot = self.sets.get_mut(set).and_then(|set| set.get_mut(way));
        if let Some((text, _)) = slot.and_then(|slot| slot.entry.take()) {
            self.entries -= 1;
            self.bytes -= text.len();
        }
    }

    /// How many texts are remembered.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many bytes of text are kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

fn set_of(hash: u64) -> usize {
    hash as usize % SETS
}

/// Whether a text of this hash left its mark before; it does now. A mark may be another text's: then a text is
/// admitted at its first sighting, which is harmless.
fn sighted(marks: &mut [u32], hash: u64) -> bool {
    let tag = (hash >> 32) as u32 | 1;
    match marks.get_mut((hash >> 12) as usize % MARKS) {
        Some(mark) => std::mem::replace(mark, tag) == tag,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(memo: &mut Memo<u32>, text: &str, value: u32) {
        while !matches!(memo.get(text.as_bytes()), Lookup::Hit(_)) {
            if memo.get(text.as_bytes()) == Lookup::Admit {
                memo.insert(text.as_bytes(), value);
            }
        }
    }

    #[test]
    fn a_text_is_admitted_at_its_second_sighting() {
        let mut memo = Memo::new();
        assert_eq!(memo.get(b"select 1"), Lookup::Miss);
        assert_eq!(memo.get(b"select 1"), Lookup::Admit);
        memo.insert(b"select 1", 1);
        assert_eq!(memo.get(b"select 1"), Lookup::Hit(&1));
        assert_eq!(memo.get(b"select 2"), Lookup::Miss);
    }

    #[test]
    fn texts_that_never_repeat_evict_nothing() {
        let mut memo = Memo::new();
        learn(&mut memo, "select kept", 1);
        for n in 0..100_000 {
            if memo.get(format!("select {n}").as_bytes()) == Lookup::Admit {
                memo.insert(b"wrong", 2);
            }
        }
        assert_eq!(memo.get(b"select kept"), Lookup::Hit(&1));
        assert!(memo.len() <= 2);
    }

    #[test]
    fn long_texts_are_not_kept() {
        let mut memo = Memo::new();
        let text = vec![b'x'; MAX_TEXT + 1];
        for _ in 0..3 {
            assert_eq!(memo.get(&text), Lookup::Miss);
            memo.insert(&text, 1);
        }
        assert!(memo.is_empty());
    }

    #[test]
    fn entries_and_bytes_are_bounded_whatever_comes() {
        let mut memo = Memo::new();
        let filler = "y".repeat(MAX_TEXT - 8);
        for n in 0..3 * MAX_ENTRIES as u32 {
            let long = format!("{n:08}{filler}");
            memo.insert(if n % 4 == 0 { long.as_bytes() } else { &long.as_bytes()[..16] }, n);
            assert!(memo.len() <= MAX_ENTRIES && memo.bytes() <= MAX_BYTES);
        }
        assert!(!memo.is_empty());
        memo.clear();
        assert_eq!((memo.len(), memo.bytes()), (0, 0));
    }

    #[test]
    fn what_is_asked_for_outlives_what_is_not() {
        let mut memo = Memo::new();
        learn(&mut memo, "hot", 1);
        for n in 0..2 * MAX_ENTRIES as u32 {
            memo.insert(format!("cold {n}").as_bytes(), n);
            assert_eq!(memo.get(b"hot"), Lookup::Hit(&1), "after {n}");
        }
    }

    #[test]
    fn a_second_insert_replaces() {
        let mut memo = Memo::new();
        memo.insert(b"a", 1);
        memo.insert(b"a", 2);
        assert_eq!(memo.get(b"a"), Lookup::Hit(&2));
        assert_eq!((memo.len(), memo.bytes()), (1, 1));
    }
}
