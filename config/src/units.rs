//! Durations, sizes and moments as people write them: `500ms`, `1h30m`, `256KiB`, `2026-12-31`.

mod moment;

use std::fmt;
use std::time::Duration;

pub use moment::parse_moment;

/// Longest duration that is taken: a hundred years. Anything above is a slip, and could overflow a deadline.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

const DURATION_UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60 * 1_000_000),
    ("h", 3_600 * 1_000_000),
    ("d", 24 * 3_600 * 1_000_000),
];

const SIZE_UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("kB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

/// What is wrong with a duration or a size. Its `Display` is half a sentence that says what to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitError {
    /// Nothing, or something that is not number-unit pairs.
    NotADuration,
    /// A number without a unit, other than a bare 0.
    DurationWithoutUnit,
    /// Over a hundred years.
    TooLong,
    /// Nothing, or something that is not a number and a unit.
    NotASize,
    /// Over 2⁶³ bytes.
    TooLarge,
    /// Not a date, nor a date and a time with its offset.
    NotAMoment,
}

impl fmt::Display for UnitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotADuration => "is not a duration; write it as 500ms, 10s, 5m, 1h30m or 2d",
            Self::DurationWithoutUnit => "has no unit; write it as 500ms, 10s, 5m, 1h or 2d (only 0 may stand alone)",
            Self::TooLong => "is longer than 100 years; write 0 where it means \"never\"",
            Self::NotASize => "is not a size; write it as 4096, 256KiB or 1GiB (also kB, MB, MiB, GB)",
            Self::TooLarge => "is larger than any file; write a smaller size",
            Self::NotAMoment => "is not a moment; write it as 2026-12-31 or 2026-12-31T18:00:00Z",
        })
    }
}

impl std::error::Error for UnitError {}

/// Reads `500ms`, `1.5s`, `1h30m`, `0`. Units: us, ms, s, m, h, d; blanks around the whole are allowed.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return Err(UnitError::NotADuration);
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or(UnitError::NotADuration)?;
        let unit_length = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_length);
        if unit.is_empty() && next.is_empty() {
            return Err(UnitError::DurationWithoutUnit);
        }
        let micros = unit_of(&DURATION_UNITS, unit).ok_or(UnitError::NotADuration)?;
        let part = scaled(number, micros).ok_or(UnitError::TooLong)?;
        total =
            total.checked_add(Duration::from_micros(part)).filter(|sum| *sum <= LONGEST).ok_or(UnitError::TooLong)?;
        rest = next;
    }
    Ok(total)
}

/// Reads `4096`, `256KiB`, `1.5 GiB` into bytes. Without a unit: bytes.
///
/// # Errors
/// See [`UnitError`].
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text.trim()).ok_or(UnitError::NotASize)?;
    let unit = unit.trim_start();
    let bytes = if unit.is_empty() { 1 } else { unit_of(&SIZE_UNITS, unit).ok_or(UnitError::NotASize)? };
    scaled(number, bytes).ok_or(UnitError::TooLarge)
}

/// Writes a duration so that [`parse_duration`] reads the same one back (to the microsecond): `1h30m`, `250ms`, `0`.
pub fn show_duration(duration: Duration) -> String {
    let mut micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0".to_owned();
    }
    let mut text = String::new();
    for (unit, size) in DURATION_UNITS.iter().rev() {
        if micros >= *size {
            text.push_str(&format!("{}{unit}", micros / size));
            micros %= size;
        }
    }
    text
}

/// Writes a size in the largest binary unit that divides it: `256KiB`, `1GiB`, `1500B`.
pub fn show_size(bytes: u64) -> String {
    let fitting = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, size)| bytes != 0 && bytes.is_multiple_of(*size));
    match fitting {
        Some((unit, size)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

fn unit_of(units: &[(&str, u64)], name: &str) -> Option<u64> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, size)| *size)
}

/// The digits (with at most one point) that `text` begins with, and the rest.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let well_formed = number.starts_with(|c: char| c.is_ascii_digit())
        && number.ends_with(|c: char| c.is_ascii_digit())
        && number.matches('.').count() <= 1;
    well_formed.then_some((number, rest))
}

/// `number` × `unit`, exact for whole numbers; a fraction is cut after the whole unit. `None`: over 2⁶³.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut total = u128::from(whole.parse::<u64>().ok()?).checked_mul(u128::from(unit))?;
    let mut place = u128::from(unit);
    let mut tail = 0_u128;
    // Eighteen places are more than a microsecond of a day, and keep the sum inside 128 bits.
    for digit in fraction.bytes().take(18) {
        place *= 10;
        tail = tail * 10 + u128::from(digit - b'0');
    }
    let scale = place / u128::from(unit);
    total = total.checked_add(tail.checked_mul(u128::from(unit))? / scale)?;
    u64::try_from(total).ok().filter(|value| i64::try_from(*value).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, micros) in [
            ("0", 0),
            (" 0 ", 0),
            ("0s", 0),
            ("250us", 250),
            ("500ms", 500_000),
            ("1.5s", 1_500_000),
            ("10s", 10_000_000),
            ("5m", 300_000_000),
            ("1h30m", 5_400_000_000),
            ("1h1ms", 3_600_001_000),
            ("2d", 172_800_000_000),
            ("0.000001s", 1),
            ("0.0000001s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn wrong_durations_say_what_to_write() {
        for (text, error) in [
            ("", UnitError::NotADuration),
            (" ", UnitError::NotADuration),
            ("5", UnitError::DurationWithoutUnit),
            ("1m30", UnitError::DurationWithoutUnit),
            ("-5s", UnitError::NotADuration),
            ("5 s", UnitError::NotADuration),
            ("5min", UnitError::NotADuration),
            ("5S", UnitError::NotADuration),
            ("s", UnitError::NotADuration),
            (".5s", UnitError::NotADuration),
            ("5.s", UnitError::NotADuration),
            ("1.2.3s", UnitError::NotADuration),
            ("1e3s", UnitError::NotADuration),
            ("５s", UnitError::NotADuration),
            ("40000d", UnitError::TooLong),
            ("99999999999999999999s", UnitError::TooLong),
            ("18446744073709551615d", UnitError::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text:?}");
            assert!(error.to_string().contains("write"), "{error}");
        }
    }

    #[test]
    fn sizes_read_as_written() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("1kB", 1000),
            ("256KiB", 262_144),
            ("256 KiB", 262_144),
            ("1.5GiB", 1_610_612_736),
            ("2MB", 2_000_000),
            ("3MiB", 3_145_728),
            ("1GB", 1_000_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, error) in [
            ("", UnitError::NotASize),
            ("KiB", UnitError::NotASize),
            ("5 apples", UnitError::NotASize),
            ("-1", UnitError::NotASize),
            ("1K", UnitError::NotASize),
            ("9223372036854775808", UnitError::TooLarge),
            ("9999999999GiB", UnitError::TooLarge),
        ] {
            assert_eq!(parse_size(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for micros in [0, 1, 999, 1_000, 1_500_000, 59_999_999, 3_600_000_000, 90_061_001_001] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1500, 262_144, 1 << 30, 3 << 20] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_millis(90_250)), "1m30s250ms");
    }
}
