//! The values of a result, and how they look on the wire.

use std::borrow::Cow;

use super::table::Kind;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    Text(Cow<'static, str>),
    Number(u64),
}

/// One row, in the order of its columns.
pub(super) type Row = Vec<Value>;

/// Rows as they are made: nothing is kept but what they are made of.
pub(super) type Rows = Box<dyn Iterator<Item = Row>>;

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Number(flag.into())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A text that is another value's.
pub(super) fn text(text: impl AsRef<str>) -> Value {
    Value::Text(text.as_ref().to_owned().into())
}

impl Value {
    /// Its bytes in a column of this type; `None`: NULL. A number that the type cannot hold becomes its largest one: a
    /// view over dblink would fail with an error otherwise.
    pub(super) fn encoded(&self, kind: Kind, binary: bool) -> Option<Vec<u8>> {
        let number = match self {
            Self::Null => return None,
            // NUL ends a text in C, and no text of PostgreSQL has one.
            Self::Text(text) => return Some(text.replace('\0', " ").into_bytes()),
            Self::Number(number) => *number,
        };
        let number = match kind {
            Kind::Int4 => number.min(i32::MAX as u64),
            Kind::Int8 => number.min(i64::MAX as u64),
            Kind::Text | Kind::Numeric | Kind::Bytea => number,
        };
        Some(match (kind, binary) {
            (Kind::Int4, true) => (number as u32).to_be_bytes().to_vec(),
            (Kind::Int8, true) => number.to_be_bytes().to_vec(),
            (Kind::Numeric, true) => numeric(number),
            _ => number.to_string().into_bytes(),
        })
    }
}

/// PostgreSQL's binary form of a whole number: how many digits to the base 10,000, the weight of the first, sign, digits
/// behind the point; then the digits without zeros at their end.
fn numeric(mut number: u64) -> Vec<u8> {
    let mut digits: Vec<u16> = Vec::new();
    while number > 0 {
        digits.push((number % 10_000) as u16);
        number /= 10_000;
    }
    let weight = digits.len().saturating_sub(1) as u16;
    let low = digits.iter().take_while(|digit| **digit == 0).count();
    let kept = digits.get(low..).unwrap_or_default();
    let head = [kept.len() as u16, weight, 0, 0];
    head.iter().chain(kept.iter().rev()).flat_map(|word| word.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_text_and_in_binary() {
        let bytes = |number: u64, kind, binary| Value::Number(number).encoded(kind, binary).unwrap();
        assert_eq!(bytes(7, Kind::Int4, false), b"7");
        assert_eq!(bytes(7, Kind::Int4, true), [0, 0, 0, 7]);
        assert_eq!(bytes(7, Kind::Int8, true), [0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(bytes(u64::MAX, Kind::Int4, false), b"2147483647", "the largest that its reader can hold");
        assert_eq!(bytes(u64::MAX, Kind::Int8, false), b"9223372036854775807");
        assert_eq!(bytes(u64::MAX, Kind::Numeric, false), b"18446744073709551615");
        assert_eq!(Value::Null.encoded(Kind::Int4, true), None);
        assert_eq!(text("a\0b").encoded(Kind::Text, true).unwrap(), b"a b");
    }

    #[test]
    fn numeric_has_digits_of_ten_thousand() {
        let words = |number| -> Vec<u16> {
            numeric(number).chunks(2).map(|pair| u16::from_be_bytes(pair.try_into().unwrap())).collect()
        };
        assert_eq!(words(0), [0, 0, 0, 0]);
        assert_eq!(words(1), [1, 0, 0, 0, 1]);
        assert_eq!(words(10_000), [1, 1, 0, 0, 1]);
        assert_eq!(words(120_000_345), [3, 2, 0, 0, 1, 2000, 345]);
        assert_eq!(words(u64::MAX), [5, 4, 0, 0, 1844, 6744, 737, 955, 1615]);
    }
}
