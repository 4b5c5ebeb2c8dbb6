//! Figures for people: as many digits as mean something, and a unit that keeps them short.

use maud::{Markup, html};

use super::text::none;

/// A thin space: it keeps a figure and its unit together.
const THIN: char = '\u{202f}';

/// A count: whole up to 9,999, with three digits and a letter beyond.
pub(in super::super) fn count(value: f64) -> String {
    let size = value.abs();
    let (scaled, letter) = match size {
        _ if !value.is_finite() => return "–".to_owned(),
        _ if size < 9_999.5 => return grouped(value.round()),
        _ if size < 999_500.0 => (value / 1e3, "k"),
        _ if size < 999_500_000.0 => (value / 1e6, "M"),
        _ if size < 999_500_000_000.0 => (value / 1e9, "G"),
        _ => (value / 1e12, "T"),
    };
    format!("{}{THIN}{letter}", three_digits(scaled))
}

/// A whole number with a comma between thousands.
pub(in super::super) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0.0 && digits != "0" {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate or another number that need not be whole.
pub(in super::super) fn rate(value: f64) -> String {
    if value != 0.0 && value.abs() < 99.95 { three_digits(value) } else { count(value) }
}

/// A time that is given in milliseconds.
pub(in super::super) fn ms(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => format!("0{THIN}ms"),
        _ if size < 0.9995 => format!("{}{THIN}µs", three_digits(value * 1e3)),
        _ if size < 999.5 => format!("{}{THIN}ms", three_digits(value)),
        _ if size < 59_950.0 => format!("{}{THIN}s", three_digits(value / 1e3)),
        _ => long(value / 1e3),
    }
}

/// A time of a minute or more, in its two largest units.
pub(in super::super) fn long(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let two = |one: u64, unit: &str, other: u64, smaller: &str| match other {
        0 => format!("{one}{THIN}{unit}"),
        _ => format!("{one}{THIN}{unit} {other}{THIN}{smaller}"),
    };
    match whole {
        0..60 => format!("{whole}{THIN}s"),
        60..3_600 => two(whole / 60, "min", whole % 60, "s"),
        3_600..86_400 => two(whole / 3_600, "h", whole % 3_600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3_600, "h"),
    }
}

/// A number of bytes.
pub(in super::super) fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut scaled, mut unit) = (value, 0);
    while scaled.abs() >= 1_023.5 && unit + 1 < units.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    let digits = if unit == 0 { format!("{scaled:.0}") } else { three_digits(scaled) };
    format!("{digits}{THIN}{}", units.get(unit).unwrap_or(&"B"))
}

/// A share of 0 to 1 as per cent.
pub(in super::super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value {
        _ if value <= 0.0 || !value.is_finite() => format!("0{THIN}%"),
        _ if value < 0.1 => format!("<{THIN}0.1{THIN}%"),
        _ if value < 9.95 => format!("{value:.1}{THIN}%"),
        _ => format!("{value:.0}{THIN}%"),
    }
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// A figure, or `–` where it is not known; one that is 0 stands back.
pub(in super::super) fn known(value: Option<f64>, show: fn(f64) -> String) -> Markup {
    match value {
        None => none(),
        Some(0.0) => html! { span.zero { (show(0.0)) } },
        Some(value) => html! { (show(value)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_true() {
        for (value, text) in
            [(0.0, "0"), (999.0, "999"), (9_999.0, "9,999"), (12_345.0, "12.3\u{202f}k"), (4.5e6, "4.50\u{202f}M")]
        {
            assert_eq!(count(value), text);
        }
        assert_eq!((grouped(1_234_567.0), grouped(-1_000.0)), ("1,234,567".to_owned(), "-1,000".to_owned()));
        for (value, text) in [
            (0.0, "0\u{202f}ms"),
            (0.0423, "42.3\u{202f}µs"),
            (0.9996, "1.00\u{202f}ms"),
            (52.933, "52.9\u{202f}ms"),
            (1_500.0, "1.50\u{202f}s"),
            (90_000.0, "1\u{202f}min 30\u{202f}s"),
            (7_200_000.0, "2\u{202f}h"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(ms(value), text);
        }
        assert_eq!((bytes(1_023.0), bytes(1_536.0)), ("1023\u{202f}B".to_owned(), "1.50\u{202f}KiB".to_owned()));
        assert_eq!((percent(0.0004), percent(0.923)), ("<\u{202f}0.1\u{202f}%".to_owned(), "92\u{202f}%".to_owned()));
        assert_eq!((rate(0.5), rate(0.0), rate(250.0)), ("0.50".to_owned(), "0".to_owned(), "250".to_owned()));
    }
}
