//! PostgreSQL's syntax for time settings whose unit is the millisecond, as `guc.c` reads it (parse_int and
//! convert_to_base_unit): a number, blanks, a unit.

use std::fmt;
use std::time::Duration;

/// Not a value that PostgreSQL accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadTime;

impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a time; PostgreSQL takes a number with an optional unit: us, ms, s, min, h, d")
    }
}

impl std::error::Error for BadTime {}

/// Units, largest first, in milliseconds.
const UNITS: [(&str, f64); 6] =
    [("d", 86_400_000.0), ("h", 3_600_000.0), ("min", 60_000.0), ("s", 1_000.0), ("ms", 1.0), ("us", 0.001)];

/// Reads the value of a setting such as `statement_timeout`: `500`, `5s`, ` 1 min `, `0.5h`, `0x10`. Zero is zero:
/// what it means is the setting's matter. Quotes are not part of a value: take them off before.
///
/// # Errors
/// [`BadTime`] for what the server would refuse too: other units, negative numbers, more than 2³¹ − 1 ms.
pub fn parse_guc_time(text: &str) -> Result<Duration, BadTime> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c');
    let text = text.trim_matches(blank);
    let (number, rest) = split_number(text).ok_or(BadTime)?;
    let unit = rest.trim_start_matches(blank);
    let millis = if unit.is_empty() { number } else { in_millis(number, unit)? };
    let millis = millis.round_ties_even();
    if !(0.0..=f64::from(i32::MAX)).contains(&millis) {
        return Err(BadTime);
    }
    // In range and whole: the conversion is exact.
    Ok(Duration::from_millis(millis as u64))
}

/// A fraction is rounded to whole multiples of the next smaller unit first: '1.009min' is 61 s.
fn in_millis(number: f64, unit: &str) -> Result<f64, BadTime> {
    let place = UNITS.iter().position(|(name, _)| *name == unit).ok_or(BadTime)?;
    let factor = UNITS.get(place).map(|(_, factor)| *factor).ok_or(BadTime)?;
    let millis = number * factor;
    Ok(match UNITS.get(place + 1) {
        Some((_, smaller)) => (millis / smaller).round_ties_even() * smaller,
        None => millis,
    })
}

/// The number at the start, as strtol with base 0 or strtod would read it, and what follows.
fn split_number(text: &str) -> Option<(f64, &str)> {
    let negative = text.starts_with('-');
    let body = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X")) {
        let (value, rest) = hexadecimal(hex)?;
        return signed(value, negative, rest);
    }
    let (whole, mut rest) = take_while(body, |c| c.is_ascii_digit());
    let mut number = whole.to_owned();
    if let Some(after) = rest.strip_prefix('.') {
        let (fraction, next) = take_while(after, |c| c.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        number = format!(
            "{}.{}",
            if whole.is_empty() { "0" } else { whole },
            if fraction.is_empty() { "0" } else { fraction }
        );
        rest = next;
    } else if let Some(octal) = whole.strip_prefix('0').filter(|octal| !octal.is_empty() && !has_exponent(rest)) {
        let octal = octal.split(['8', '9']).next().filter(|digits| digits.len() == octal.len())?;
        return signed(i64::from_str_radix(octal, 8).ok()? as f64, negative, rest);
    }
    if let Some((exponent, next)) = exponent(rest).filter(|_| !number.is_empty()) {
        number.push('e');
        number.push_str(exponent);
        rest = next;
    }
    signed(number.parse().ok()?, negative, rest)
}

/// `1F`, and strtod's `1F.8p3`: a client that knows it must not get past its limit with it.
fn hexadecimal(text: &str) -> Option<(f64, &str)> {
    let is_hex = |c: char| c.is_ascii_hexdigit();
    let (whole, rest) = take_while(text, is_hex);
    let value = i64::from_str_radix(whole, 16).ok()? as f64;
    let Some(after) = rest.strip_prefix('.') else { return Some((value, rest)) };
    let (fraction, mut rest) = take_while(after, is_hex);
    let mut place = 1.0;
    let mut tail = 0.0;
    for digit in fraction.chars().filter_map(|c| c.to_digit(16)).take(16) {
        place /= 16.0;
        tail += f64::from(digit) * place;
    }
    let mut power = 0;
    if let Some(after) = rest.strip_prefix(['p', 'P']) {
        let sign = usize::from(after.starts_with(['+', '-']));
        let (digits, _) = take_while(after.get(sign..)?, |c| c.is_ascii_digit());
        if !digits.is_empty() {
            let (exponent, next) = after.split_at(sign + digits.len());
            power = exponent.parse::<i32>().ok()?;
            rest = next;
        }
    }
    Some(((value + tail) * 2.0_f64.powi(power), rest))
}

fn signed(value: f64, negative: bool, rest: &str) -> Option<(f64, &str)> {
    Some((if negative { -value } else { value }, rest))
}

fn has_exponent(rest: &str) -> bool {
    exponent(rest).is_some()
}

/// `e5`, `E-3` at the start: its digits with sign, and what follows.
fn exponent(text: &str) -> Option<(&str, &str)> {
    let after = text.strip_prefix(['e', 'E'])?;
    let sign = usize::from(after.starts_with(['+', '-']));
    let (digits, _) = take_while(after.get(sign..)?, |c| c.is_ascii_digit());
    (!digits.is_empty()).then(|| after.split_at(sign + digits.len()))
}

fn take_while(text: &str, accept: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !accept(c)).unwrap_or(text.len()))
}
