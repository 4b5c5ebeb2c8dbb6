//! Moments, as RFC 3339 writes them.

use super::UnitError;

/// Reads `2026-12-31` (its beginning, in UTC), `2026-12-31T18:00:00Z` or `2026-12-31T20:00:00.5+02:00`, from 1970 to
/// 9999, into µs since 1970.
///
/// # Errors
/// [`UnitError::NotAMoment`].
pub fn parse_moment(text: &str) -> Result<u64, UnitError> {
    read(text.trim()).ok_or(UnitError::NotAMoment)
}

fn read(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = number(parts.next()?, 2).filter(|day| (1..=days_in(year, month)).contains(day))?;
    if parts.next().is_some() || year < 1970 {
        return None;
    }
    let midnight = i64::try_from(days_since_1970(year, month, day) * 86_400_000_000).ok()?;
    let of_day = time.map_or(Some(0), time_of_day)?;
    u64::try_from(midnight.checked_add(of_day)?).ok()
}

/// µs since midnight in UTC: less than 0 or more than a day where the offset says so.
fn time_of_day(text: &str) -> Option<i64> {
    let (clock, offset_minutes) = match text.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => {
            let (clock, offset) = text.split_at_checked(text.rfind(['+', '-'])?)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let minutes = hours_and_minutes(hours, minutes)?;
            (clock, if offset.starts_with('-') { -minutes } else { minutes })
        }
    };
    let mut parts = clock.splitn(3, ':');
    let minutes = hours_and_minutes(parts.next()?, parts.next()?)?;
    let (seconds, fraction) = parts.next().map(|part| part.split_once('.').unwrap_or((part, "0")))?;
    // RFC 3339 has a leap second: it is the next minute's first.
    let seconds = number(seconds, 2).filter(|seconds| *seconds <= 60)?;
    let whole = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let micros = format!("{fraction:0<6}").get(..6).and_then(|digits| digits.parse::<i64>().ok()).filter(|_| whole)?;
    Some(((minutes - offset_minutes) * 60 + i64::try_from(seconds).ok()?) * 1_000_000 + micros)
}

fn hours_and_minutes(hours: &str, minutes: &str) -> Option<i64> {
    let hours = number(hours, 2).filter(|hours| *hours < 24)?;
    let minutes = number(minutes, 2).filter(|minutes| *minutes < 60)?;
    i64::try_from(hours * 60 + minutes).ok()
}

/// A number of exactly so many digits.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 on in the Gregorian calendar. Years begin in March, so that the leap day is a year's last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 719,468 days from 0000-03-01 to 1970-01-01.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_written() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:34:56Z", 951_827_696),
            (" 2026-12-31 ", 1_798_675_200),
            ("2026-12-31T20:00:00+02:00", 1_798_740_000),
            ("2026-12-31t13:30:00-04:30", 1_798_740_000),
            ("2026-12-31 18:00:00z", 1_798_740_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
            ("2100-03-01", 4_107_542_400),
        ] {
            assert_eq!(parse_moment(text), Ok(seconds * 1_000_000), "{text}");
        }
        assert_eq!(parse_moment("1970-01-01T00:00:01.5Z"), Ok(1_500_000));
        assert_eq!(parse_moment("1970-01-01T00:00:00.1234567Z"), Ok(123_456));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "now",
            "2026",
            "2026-1-1",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-32",
            "1969-12-31",
            "2026-01-01T",
            "2026-01-01T12:00",
            "2026-01-01T12:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T12:60:00Z",
            "2026-01-01T12:00:61Z",
            "2026-01-01T12:00:00.Z",
            "2026-01-01T12:00:00.xZ",
            "2026-01-01T12:00:00+2:00",
            "2026-01-01T12:00:00+0200",
            "1970-01-01T00:00:00+00:01",
            "2026-01-01-01",
            "+026-01-01",
            "2026-01-01T12:00:00ä",
        ] {
            assert_eq!(parse_moment(text), Err(UnitError::NotAMoment), "{text}");
        }
    }
}
