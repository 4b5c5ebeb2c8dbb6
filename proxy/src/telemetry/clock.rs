//! Time as telemetry keeps it: µs since 1970 that never go back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic start and the wall-clock time that it stands for. What the wall clock does later is not followed: times
/// of one process compare.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    start_us: u64,
}

impl Clock {
    /// A clock that stands at `wall` at the moment `start`.
    pub fn new(start: Instant, wall: SystemTime) -> Self {
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start, start_us: since.as_micros() as u64 }
    }

    /// The start, in µs since 1970.
    pub fn start_us(&self) -> u64 {
        self.start_us
    }

    /// `at` in µs since 1970; moments before the start count as the start.
    #[inline]
    pub fn micros(&self, at: Instant) -> u64 {
        self.start_us + at.saturating_duration_since(self.start).as_micros() as u64
    }
}

/// A moment in µs since 1970 as RFC 3339 in UTC with milliseconds.
pub fn rfc3339_us(us: u64) -> String {
    rfc3339(UNIX_EPOCH + Duration::from_micros(us))
}

/// A moment as RFC 3339 in UTC with milliseconds: `2026-03-01T09:30:00.000Z`.
pub fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: eras of 400 years (146,097
/// days) that begin on 1 March, so that the leap day is an era-year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // 1970-01-01 counted from 0000-03-01
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> String {
        rfc3339(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn known_moments() {
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn the_clock_counts_from_its_start() {
        let start = Instant::now();
        let clock = Clock::new(start, UNIX_EPOCH + Duration::from_secs(86_400));
        assert_eq!(clock.micros(start + Duration::from_millis(5)), 86_400_005_000);
        assert_eq!(rfc3339_us(86_401_500_000), "1970-01-02T00:00:01.500Z");
    }
}
