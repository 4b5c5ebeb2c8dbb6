//! A span of time up to now: what each statement of each tenant did in each of its windows.

use super::window::{Point, Window};
use super::{Step, lock};
use crate::telemetry::{Telemetry, TenantId};

/// Spans up to this length are told by windows of 10 seconds.
const SHORT_US: u64 = 10 * 60 * 1_000_000;

/// Windows of a span of time. Reading them takes no lock.
#[derive(Debug)]
pub struct Span {
    /// How long its windows are.
    pub step: Step,
    /// Its begin, in µs since 1970.
    pub from_us: u64,
    /// Its end: that of the last window that is over.
    pub until_us: u64,
    /// From here on no window is missing.
    pub complete_from_us: u64,
    keys: Vec<(u64, TenantId)>,
    windows: Vec<Window>,
}

impl Span {
    /// Calls `each` with what a statement of a tenant did in a window that begins then, the oldest window first.
    pub fn each(&self, mut each: impl FnMut((u64, TenantId), u64, &Point)) {
        for window in &self.windows {
            for (number, point) in window.points() {
                if let Some(key) = self.keys.get(number as usize) {
                    each(*key, window.start_us, &point);
                }
            }
        }
    }

    /// How many buckets a series over the span has, and how long each is: a multiple of the windows' length, at most 60
    /// of them.
    pub fn buckets(&self) -> (usize, u64) {
        let (length, step) = (self.until_us.saturating_sub(self.from_us).max(1), self.step.length_us());
        let bucket = length.div_ceil(60).div_ceil(step).max(1) * step;
        (length.div_ceil(bucket) as usize, bucket)
    }

    /// Which of those buckets a window is in that begins then.
    pub fn bucket(&self, start_us: u64) -> usize {
        let (count, length) = self.buckets();
        let place = start_us.saturating_sub(self.from_us) / length;
        usize::try_from(place).unwrap_or(usize::MAX).min(count.saturating_sub(1))
    }
}

impl Telemetry {
    /// The span of this length that ended with the last window that is over.
    pub fn span(&self, length_us: u64) -> Span {
        let history = lock(&self.history);
        let (step, end_us) = match length_us {
            0..=SHORT_US => (Step::TenSeconds, history.looked_us),
            _ => (Step::Minute, history.minute_us),
        };
        let from_us = end_us.saturating_sub(length_us);
        let kept = &history.kept(step).statements;
        Span {
            step,
            from_us,
            until_us: end_us,
            complete_from_us: history.complete_from_us(step, from_us).max(kept.cut_us).max(self.clock.start_us()),
            keys: history.series.keys().to_vec(),
            // Only pointers are copied.
            windows: kept.windows.since(from_us).cloned().collect(),
        }
    }

    /// Statements that have run since the start, by fingerprint: also those that were reset since.
    pub fn texts(&self) -> super::Map<u64, std::sync::Arc<crate::telemetry::StatementText>> {
        let mut texts = super::Map::default();
        self.each_cell(|cell| {
            texts.entry(cell.statement.value.facts.strict).or_insert_with(|| cell.statement.value.clone());
        });
        texts
    }
}

#[cfg(test)]
mod tests {
    use policy::statement::Class;

    use super::*;
    use crate::telemetry::testing::{telemetry_with, tenants, unknown_facts};
    use crate::telemetry::{Bounds, Finished, StatementText};

    #[test]
    fn a_span_tells_what_was_called_in_it_and_not_before() {
        let telemetry = telemetry_with(Bounds::default(), tenants(4));
        let start_us = telemetry.clock.start_us();
        let worker = telemetry.worker("0");
        let text = || StatementText { class: Class::Select, facts: unknown_facts(7), text: "select".into() };
        let meter = worker.statement(7, TenantId(1), text);
        for (minute, calls) in [(0, 2), (1, 3), (30, 5)] {
            let at_us = start_us + minute * 60_000_000 + 1_000_000;
            for _ in 0..calls {
                meter.record(&Finished { start_us: at_us, end_us: at_us + 1_000, ..Finished::default() });
            }
            telemetry.look_at_history(start_us + (minute + 1) * 60_000_000);
        }
        let calls = |length_us| {
            let (span, mut calls) = (telemetry.span(length_us), Vec::new());
            span.each(|key, begin_us, point| {
                assert_eq!(key, (7, TenantId(1)));
                calls.push((span.bucket(begin_us), point.calls));
            });
            calls
        };
        assert_eq!(calls(3_600_000_000).iter().map(|(_, calls)| calls).sum::<u64>(), 10);
        assert_eq!(calls(60_000_000).iter().map(|(_, calls)| calls).sum::<u64>(), 5);
        let hour = telemetry.span(3_600_000_000);
        assert_eq!((hour.step, hour.buckets()), (Step::Minute, (60, 60_000_000)));
        assert_eq!(telemetry.span(600_000_000).buckets(), (60, 10_000_000));
        assert_eq!(telemetry.span(48 * 3_600_000_000).buckets(), (60, 48 * 60_000_000));
        assert_eq!(hour.until_us, start_us + 31 * 60_000_000);
        assert_eq!(telemetry.texts().len(), 1);
    }
}
