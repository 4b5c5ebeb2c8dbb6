//! How something ran over time, made ready to be drawn: the API leaves out windows in which nothing happened, and keeps more
//! of them than a picture has room for.

use serde_json::Value;

use super::show::Fields as _;
use super::show::chart::{Line, Unit};
use super::show::moment::micros;
use crate::telemetry::clock::rfc3339_us;

/// A period that can be looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Period {
    /// Its name in an address.
    pub(super) name: &'static str,
    /// Its title.
    pub(super) title: &'static str,
    /// The windows that it is read in.
    step: &'static str,
    /// Its length in seconds.
    seconds: u64,
    /// The length of what is drawn as one point, in seconds.
    slot: u64,
}

/// All periods; the second is what is shown where none is asked for.
pub(super) const PERIODS: [Period; 5] = [
    Period { name: "15m", title: "15 minutes", step: "10s", seconds: 900, slot: 10 },
    Period { name: "1h", title: "1 hour", step: "1m", seconds: 3_600, slot: 60 },
    Period { name: "6h", title: "6 hours", step: "1m", seconds: 21_600, slot: 300 },
    Period { name: "24h", title: "24 hours", step: "1m", seconds: 86_400, slot: 1_200 },
    Period { name: "48h", title: "48 hours", step: "1m", seconds: 172_800, slot: 2_400 },
];

/// Before that an hour would be drawn by a handful of points.
const YOUNG_US: u64 = 30 * 60 * 1_000_000;

impl Period {
    /// The one of this name; else an hour, or the shortest as long as the process is younger than that would need.
    pub(super) fn named(name: Option<&str>, uptime_us: u64) -> Self {
        let [shortest, hour, ..] = PERIODS;
        let usual = if uptime_us < YOUNG_US { shortest } else { hour };
        Self::known(name).unwrap_or(usual)
    }

    /// The one of this name, if there is one.
    pub(super) fn known(name: Option<&str>) -> Option<Self> {
        PERIODS.into_iter().find(|period| Some(period.name) == name)
    }

    /// What stands behind `the`: `1 hour` is the hour.
    pub(super) fn last(&self) -> String {
        format!("last {}", self.title.strip_prefix("1 ").unwrap_or(self.title))
    }

    /// The same as a title of its own.
    pub(super) fn title_of_last(&self) -> String {
        self.last().replacen('l', "L", 1)
    }

    /// What the API is asked for besides.
    pub(super) fn query(&self, now_us: u64) -> [(&'static str, String); 2] {
        [("step", self.step.to_owned()), ("from", (self.begin_us(now_us) / 1_000_000).to_string())]
    }

    fn slot_us(&self) -> u64 {
        self.slot * 1_000_000
    }

    fn begin_us(&self, now_us: u64) -> u64 {
        let from = now_us.saturating_sub(self.seconds * 1_000_000);
        from - from % self.slot_us()
    }
}

/// What ran within one slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    calls: f64,
    errors: f64,
    rows: f64,
    total_ms: f64,
    queue_ms: f64,
    max_ms: f64,
    p95_ms: Option<f64>,
}

/// A course without gaps.
#[derive(Debug)]
pub(super) struct Course {
    /// Where each slot begins.
    pub(super) times: Vec<String>,
    slots: Vec<Slot>,
    minutes: f64,
}

impl Course {
    /// Reads an answer of `…/history`. It begins with what is known whole, and with the process: one that has just begun does
    /// not look like one that has slept.
    pub(super) fn read(history: &Value, period: &Period, now_us: u64, begun_us: u64) -> Self {
        let slot_us = period.slot_us();
        let complete = micros(history.text("complete_from")).unwrap_or(0).max(begun_us);
        let from = period.begin_us(now_us).max(complete - complete % slot_us);
        // The slot that is under way would look like a fall.
        let count = (now_us.saturating_sub(from) / slot_us).min(period.seconds / period.slot + 1) as usize;
        let mut slots = vec![Slot::default(); count];
        for window in history.list("windows") {
            let Some(at) = micros(window.text("start")).and_then(|start| start.checked_sub(from)) else { continue };
            if let Some(slot) = slots.get_mut((at / slot_us) as usize) {
                slot.add(window);
            }
        }
        let times = (0..count as u64).map(|at| rfc3339_us(from + at * slot_us)).collect();
        Self { times, slots, minutes: period.slot as f64 / 60.0 }
    }

    fn of(&self, value: impl Fn(&Slot) -> Option<f64>) -> Vec<Option<f64>> {
        self.slots.iter().map(value).collect()
    }

    /// Calls a minute.
    pub(super) fn calls(&self) -> Vec<Option<f64>> {
        self.of(|slot| Some(slot.calls / self.minutes))
    }

    /// Errors a minute.
    pub(super) fn errors(&self) -> Vec<Option<f64>> {
        self.of(|slot| Some(slot.errors / self.minutes))
    }

    /// Rows a minute.
    pub(super) fn rows(&self) -> Vec<Option<f64>> {
        self.of(|slot| Some(slot.rows / self.minutes))
    }

    /// The 95th percentile: of several windows the highest.
    pub(super) fn p95(&self) -> Vec<Option<f64>> {
        self.of(|slot| slot.p95_ms)
    }

    /// The mean of all calls.
    pub(super) fn mean(&self) -> Vec<Option<f64>> {
        self.of(|slot| (slot.calls > 0.0).then_some(slot.total_ms / slot.calls))
    }

    /// The longest call.
    pub(super) fn longest(&self) -> Vec<Option<f64>> {
        self.of(|slot| (slot.calls > 0.0).then_some(slot.max_ms))
    }

    /// What a call waited for a server, on average.
    pub(super) fn queue(&self) -> Vec<Option<f64>> {
        self.of(|slot| (slot.calls > 0.0).then_some(slot.queue_ms / slot.calls))
    }

    /// Calls and errors as lines of a chart.
    pub(super) fn traffic_lines(&self) -> Vec<Line> {
        vec![
            Line { title: "calls/min", unit: Unit::Count, tone: "one", values: self.calls() },
            Line { title: "errors/min", unit: Unit::Count, tone: "bad", values: self.errors() },
        ]
    }

    /// Times as lines of a chart. p95 cannot be told where windows of several tenants were added up.
    pub(super) fn time_lines(&self) -> Vec<Line> {
        let mut lines = vec![Line { title: "mean", unit: Unit::Ms, tone: "one", values: self.mean() }];
        let p95 = self.p95();
        if p95.iter().any(Option::is_some) {
            lines.push(Line { title: "p95", unit: Unit::Ms, tone: "two", values: p95 });
        }
        lines.push(Line { title: "waiting for a server", unit: Unit::Ms, tone: "three", values: self.queue() });
        lines
    }
}

impl Slot {
    fn add(&mut self, window: &Value) {
        self.calls += window.count("calls");
        self.errors += window.count("errors");
        self.rows += window.count("rows");
        self.total_ms += window.count("total_ms");
        self.queue_ms += window.count("queue_ms");
        self.max_ms = self.max_ms.max(window.count("max_ms"));
        self.p95_ms = match (self.p95_ms, window.number("p95_ms")) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
}

/// The last value of a line that is known.
pub(super) fn latest(values: &[Option<f64>]) -> Option<f64> {
    values.iter().rev().copied().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn windows_without_calls_are_drawn_as_nothing_called() {
        let now_us = micros("2026-01-01T01:00:30.000Z").unwrap();
        let window = |start: &str, calls: u64| json!({"start": start, "calls": calls, "total_ms": 10.0, "p95_ms": 3.0});
        let history = json!({
            "complete_from": "2026-01-01T00:57:00.000Z",
            "windows": [window("2026-01-01T00:57:00.000Z", 20), window("2026-01-01T00:59:00.000Z", 5)],
        });
        let course = Course::read(&history, &Period::named(Some("1h"), 0), now_us, 0);
        assert_eq!(course.calls(), [Some(20.0), Some(0.0), Some(5.0)]);
        assert_eq!(course.p95(), [Some(3.0), None, Some(3.0)]);
        assert_eq!(course.times.first().unwrap(), "2026-01-01T00:57:00.000Z");
        assert_eq!(latest(&course.mean()), Some(2.0));
        let begun_us = now_us - 90_000_000;
        let young = Course::read(&history, &Period::named(Some("1h"), 0), now_us, begun_us);
        assert_eq!(young.calls(), [Some(5.0)], "nothing is told of the time before the process");
    }

    #[test]
    fn an_answer_of_any_shape_draws_something() {
        for odd in [json!(null), json!([]), json!({"windows": [1, null, {"start": "x"}], "complete_from": 3})] {
            let course = Course::read(&odd, &Period::named(None, u64::MAX), 10_000_000_000, 0);
            assert_eq!(course.times.len(), course.calls().len());
        }
        assert_eq!(Period::named(Some("nonsense"), u64::MAX).name, "1h");
        assert_eq!((Period::named(None, 0).name, Period::named(Some("6h"), 0).name), ("15m", "6h"));
        assert_eq!(Period::known(Some("1h")).map(|hour| hour.last()).as_deref(), Some("last hour"));
        assert!(Period::known(Some("7m")).is_none() && Period::known(None).is_none());
    }
}
