//! What becomes of values on their way into a file.

use policy::observe::{Canonical, Value};
use rand::RngExt;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Integers below this are in every table: detection treats them with suspicion, so that they stay below.
const TINY: usize = 100;
/// The same, with less of it.
const SMALL: usize = 1_000;
/// Larger ones become numbers of at most 18 digits, which every reader takes for integers.
const LARGE: u64 = 999_999_999_999_999_000;

/// What becomes of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// They are left out.
    Drop,
    /// Equal values become equal ones: enough to find an N+1, not to read the data.
    Hash,
    /// They stay.
    Keep,
}

impl Values {
    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "drop" => Some(Self::Drop),
            "hash" => Some(Self::Hash),
            "keep" => Some(Self::Keep),
            _ => None,
        }
    }
}

/// Replaces values behind a key that is drawn for one capture and never written anywhere.
///
/// Values that detection takes for equal (`100` as text and in four bytes) become one value; integers stay integers of
/// their magnitude (below 100, below 1,000, larger) and sign, and uuids stay uuids. Order is lost.
pub(crate) struct Hasher {
    key: [u8; 32],
    /// Where integers below [`SMALL`] go: a permutation of those below [`TINY`], and of the others.
    small: Vec<u16>,
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher(…)")
    }
}

/// A value in place of another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hashed {
    Null,
    Integer(i64),
    Uuid([u8; 16]),
    Bytes(u64),
    Array,
}

impl Hasher {
    /// One behind a key of its own.
    pub(crate) fn new() -> Self {
        let mut random = rand::rng();
        let mut small: Vec<u16> = (0..SMALL as u16).collect();
        let (tiny, others) = small.split_at_mut(TINY);
        for part in [tiny, others] {
            for place in (1..part.len()).rev() {
                part.swap(place, random.random_range(0..=place));
            }
        }
        Self { key: random.random(), small }
    }

    /// What stands for `value`.
    pub(crate) fn hash(&self, value: Value<'_>) -> Hashed {
        match value.canonical() {
            Canonical::Null => Hashed::Null,
            Canonical::Integer(number) => Hashed::Integer(self.integer(number)),
            Canonical::Uuid(uuid) => Hashed::Uuid(self.digest(b'u', &uuid)),
            Canonical::Bytes(bytes) => Hashed::Bytes(first(self.digest(b'b', bytes))),
            Canonical::Array => Hashed::Array,
        }
    }

    fn integer(&self, number: i64) -> i64 {
        let size = number.unsigned_abs();
        let small = usize::try_from(size).ok().and_then(|place| self.small.get(place));
        let hashed = match small {
            Some(small) => i64::from(*small),
            None => (SMALL as u64 + first(self.digest(b'i', &size.to_le_bytes())) % LARGE) as i64,
        };
        // `-0` is no integer: a negative one stays below 0.
        match (number < 0, hashed) {
            (true, 0) => -i64::from(TINY as u16),
            (true, hashed) => -hashed,
            (false, hashed) => hashed,
        }
    }

    fn digest(&self, kind: u8, bytes: &[u8]) -> [u8; 16] {
        let whole = Sha256::new().chain_update(self.key).chain_update([kind]).chain_update(bytes).finalize();
        whole.first_chunk().copied().unwrap_or_default()
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
        zeroize::Zeroize::zeroize(&mut self.small);
    }
}

fn first(digest: [u8; 16]) -> u64 {
    u64::from_le_bytes(digest.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Value<'_> {
        Value::Text { type_oid: 0, bytes }
    }

    #[test]
    fn equal_values_in_other_spellings_stay_equal_and_others_differ() {
        let hasher = Hasher::new();
        for (spelled, number) in [("7", 7_i32), ("0", 0), ("123456", 123_456), ("-5", -5), ("-777777", -777_777)] {
            let binary = number.to_be_bytes();
            let binary = hasher.hash(Value::Binary { type_oid: 23, bytes: &binary });
            assert_eq!(hasher.hash(text(spelled.as_bytes())), binary, "{spelled}");
        }
        let mut seen = std::collections::HashSet::new();
        for number in -5_000_i64..5_000 {
            let Hashed::Integer(hashed) = hasher.hash(text(number.to_string().as_bytes())) else { panic!("{number}") };
            assert!(seen.insert(hashed) || number < 0, "{number} became {hashed}, as another did");
            for bound in [100, 1_000] {
                assert_eq!(number < bound && number >= 0, hashed < bound && hashed >= 0, "{number} {hashed}");
            }
            assert!(hashed.unsigned_abs() < 1_000_000_000_000_000_000, "{hashed} is read as an integer");
        }
        assert_ne!(hasher.hash(text(b"a@b")), hasher.hash(text(b"a@c")));
        assert_ne!(hasher.hash(text(b"a@b")), Hasher::new().hash(text(b"a@b")), "each capture has its own key");
        let uuid = b"10111213-1415-1617-1819-1a1b1c1d1e1f";
        let bytes: Vec<u8> = (0x10..0x20).collect();
        assert_eq!(hasher.hash(text(uuid)), hasher.hash(Value::Binary { type_oid: 2950, bytes: &bytes }));
    }
}
