//! Values, made comparable without being kept.
//!
//! The same key reaches us in many spellings: `"100"` in text format, four bytes in binary format, a constant in the
//! text. A [`Cell`] is its canonical form behind a key: two cells of one process are equal when the values are.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One value as it came over the wire, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL; never equal to anything.
    Null,
    /// Text format.
    Text {
        /// The type's OID, 0 when unknown.
        type_oid: u32,
        /// The bytes, for a constant without its quotes.
        bytes: &'a [u8],
    },
    /// Binary format.
    Binary {
        /// The type's OID, 0 when unknown.
        type_oid: u32,
        /// The bytes in network order.
        bytes: &'a [u8],
    },
}

/// A value apart from its spelling: two are equal where detection takes them for equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Canonical<'a> {
    /// NULL; never equal to anything.
    Null,
    /// An integer of up to 64 bits.
    Integer(i64),
    /// A uuid.
    Uuid([u8; 16]),
    /// Anything else, as it came.
    Bytes(&'a [u8]),
    /// An array: many values at once, equal to nothing.
    Array,
}

/// The key that hides values: drawn once per process by the caller.
#[derive(Clone, Copy)]
pub struct HashKey(u64);

impl HashKey {
    /// Takes the process's random number.
    pub fn new(random: u64) -> Self {
        Self(random)
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// What a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub(super) enum Kind {
    /// NULL, or no value at all.
    #[default]
    Null,
    /// An integer of up to 64 bits, masked by the key.
    Integer,
    /// A uuid, hashed.
    Uuid,
    /// Anything else, hashed.
    Bytes,
    /// An array: many values at once, equal to nothing.
    Array,
}

/// A value's canonical form behind the key: `kind` and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    pub(super) number: u64,
}

impl Cell {
    /// The canonical form of `value` behind `key`.
    pub(super) fn of(value: Value<'_>, key: HashKey) -> Self {
        match value.canonical() {
            Canonical::Null => Self::default(),
            Canonical::Integer(number) => Self { kind: Kind::Integer, number: number as u64 ^ key.0 },
            Canonical::Uuid(uuid) => Self { kind: Kind::Uuid, number: xxh3_64_with_seed(&uuid, key.0) },
            Canonical::Bytes(bytes) => Self { kind: Kind::Bytes, number: xxh3_64_with_seed(bytes, key.0) },
            Canonical::Array => Self { kind: Kind::Array, number: 0 },
        }
    }

    /// Whether it can be equal to another.
    pub(super) fn is_comparable(self) -> bool {
        !matches!(self.kind, Kind::Null | Kind::Array)
    }

    /// The integer behind the key, if it is one: order and size are part of the rules.
    pub(super) fn integer(self, key: HashKey) -> Option<i64> {
        (self.kind == Kind::Integer).then_some((self.number ^ key.0) as i64)
    }

    /// One number for bitmaps and hashes of whole parameter sets.
    pub(super) fn digest(self) -> u64 {
        (self.number ^ (self.kind as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl<'a> Value<'a> {
    /// The value itself, whatever its spelling: what detection compares by.
    pub fn canonical(self) -> Canonical<'a> {
        match self {
            Value::Null => Canonical::Null,
            Value::Text { type_oid, bytes } => Canonical::of_text(type_oid, bytes),
            Value::Binary { type_oid, bytes } => Canonical::of_binary(type_oid, bytes),
        }
    }
}

impl<'a> Canonical<'a> {
    fn of_text(type_oid: u32, bytes: &'a [u8]) -> Self {
        if oid::is_array(type_oid) {
            return Self::Array;
        }
        if let Some(number) = integer_of_text(bytes) {
            return Self::Integer(number);
        }
        match uuid_of_text(bytes) {
            Some(uuid) => Self::Uuid(uuid),
            None => Self::Bytes(bytes),
        }
    }

    /// Unknown types are told apart by length: text that travels in binary format is printable, a number is not.
    fn of_binary(type_oid: u32, bytes: &'a [u8]) -> Self {
        let known = type_oid != 0;
        if oid::is_array(type_oid) {
            return Self::Array;
        }
        if oid::is_text(type_oid) || (!known && bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e))) {
            return Self::of_text(type_oid, bytes);
        }
        match *bytes {
            [a, b] if !known || type_oid == oid::INT2 => Self::Integer(i64::from(i16::from_be_bytes([a, b]))),
            [a, b, c, d] if type_oid == oid::OID => Self::Integer(i64::from(u32::from_be_bytes([a, b, c, d]))),
            [a, b, c, d] if !known || type_oid == oid::INT4 => {
                Self::Integer(i64::from(i32::from_be_bytes([a, b, c, d])))
            }
            [a, b, c, d, e, f, g, h] if !known || type_oid == oid::INT8 => {
                Self::Integer(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            _ => match <[u8; 16]>::try_from(bytes) {
                Ok(uuid) if !known || type_oid == oid::UUID => Self::Uuid(uuid),
                _ => Self::Bytes(bytes),
            },
        }
    }
}

/// The OIDs of `pg_type.dat` that values are told apart by.
pub(super) mod oid {
    pub(crate) const INT8: u32 = 20;
    pub(crate) const INT2: u32 = 21;
    pub(crate) const INT4: u32 = 23;
    pub(crate) const TEXT: u32 = 25;
    pub(crate) const OID: u32 = 26;
    pub(crate) const BPCHAR: u32 = 1042;
    pub(crate) const VARCHAR: u32 = 1043;
    pub(crate) const DATE: u32 = 1082;
    pub(crate) const TIMESTAMP: u32 = 1114;
    pub(crate) const TIMESTAMPTZ: u32 = 1184;
    pub(crate) const NUMERIC: u32 = 1700;
    pub(crate) const UUID: u32 = 2950;

    /// name, text, unknown, bpchar, varchar: the bytes are the text in either format.
    pub(crate) fn is_text(type_oid: u32) -> bool {
        matches!(type_oid, 19 | TEXT | 705 | BPCHAR | VARCHAR)
    }

    /// The arrays that drivers bind: bool, bytea, name, int2, int4, text, bpchar, varchar, int8, float4, float8, oid,
    /// timestamp, date, timestamptz, numeric, uuid, jsonb.
    pub(crate) fn is_array(type_oid: u32) -> bool {
        matches!(
            type_oid,
            1000 | 1001 | 1003 | 1005 | 1007 | 1009 | 1014
                ..=1016 | 1021 | 1022 | 1028 | 1115 | 1182 | 1185 | 1231 | 2951 | 3807
        )
    }
}

/// An integer spelled as the server spells it: no sign but `-`, no leading zero, at most 18 digits.
fn integer_of_text(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] if negative => return None,
        [b'0', _, ..] => return None,
        _ if digits.len() > 18 => return None,
        _ => {}
    }
    let mut number = 0_i64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(if negative { -number } else { number })
}

/// The sixteen bytes of `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, in either case.
fn uuid_of_text(bytes: &[u8]) -> Option<[u8; 16]> {
    if bytes.len() != 36 {
        return None;
    }
    let mut uuid = [0_u8; 16];
    let mut digits = 0_usize;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(*byte).to_digit(16)? as u8;
        let slot = uuid.get_mut(digits / 2)?;
        *slot = *slot << 4 | digit;
        digits += 1;
    }
    Some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> Cell {
        Cell::of(Value::Text { type_oid: 0, bytes }, HashKey::new(7))
    }

    fn binary(type_oid: u32, bytes: &[u8]) -> Cell {
        Cell::of(Value::Binary { type_oid, bytes }, HashKey::new(7))
    }

    #[test]
    fn one_value_in_every_spelling_is_equal() {
        for type_oid in [0, oid::INT4] {
            assert_eq!(text(b"100"), binary(type_oid, &[0, 0, 0, 100]));
            assert_eq!(text(b"-2"), binary(type_oid, &[255, 255, 255, 254]));
        }
        for type_oid in [0, oid::INT8] {
            assert_eq!(text(b"5000000000"), binary(type_oid, &5_000_000_000_i64.to_be_bytes()));
        }
        assert_eq!(text(b"7"), binary(oid::INT2, &[0, 7]));
        assert_eq!(text(b"4294967295"), binary(oid::OID, &[255; 4]));
        assert_eq!(text(b"abcd"), binary(oid::TEXT, b"abcd"));
        assert_eq!(text(b"abcd"), binary(0, b"abcd"));
        assert_eq!(text(b"100"), binary(oid::VARCHAR, b"100"));
        let uuid: Vec<u8> = (0x10..0x20).collect();
        for spelled in [&b"10111213-1415-1617-1819-1a1b1c1d1e1f"[..], b"10111213-1415-1617-1819-1A1B1C1D1E1F"] {
            assert_eq!(text(spelled), binary(0, &uuid));
            assert_eq!(text(spelled), binary(oid::UUID, &uuid));
        }
    }

    #[test]
    fn different_values_are_different() {
        let values: [&[u8]; 12] =
            [b"1", b"-1", b"01", b"+1", b"1 ", b"1.0", b"", b"0", b"-0", b"a", b"A", b"99999999999999999999"];
        for (i, a) in values.iter().enumerate() {
            for b in values.iter().skip(i + 1) {
                assert_ne!(text(a), text(b), "{a:?} {b:?}");
            }
        }
        assert_ne!(text(b"10111213-1415-1617-1819-1a1b1c1d1e1f"), text(b"10111213-1415-1617-1819-1a1b1c1d1e10"));
    }

    #[test]
    fn null_and_arrays_equal_nothing() {
        assert!(!Cell::of(Value::Null, HashKey::new(1)).is_comparable());
        assert!(!binary(1007, &[0; 20]).is_comparable());
        assert!(text(b"{\"a\":1}").is_comparable(), "JSON is no array");
    }

    #[test]
    fn the_key_hides_and_reveals_integers() {
        let key = HashKey::new(0xdead_beef);
        let cell = Cell::of(Value::Text { type_oid: 0, bytes: b"-42" }, key);
        assert_eq!(cell.integer(key), Some(-42));
        assert_ne!(cell.number as i64, -42);
        assert_eq!(text(b"x").integer(key), None);
    }
}
