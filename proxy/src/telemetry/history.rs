//! How statements ran over time: windows of 10 seconds for two hours, and of a minute for two days, in memory.
//!
//! ```text
//!   cells ── difference since the last look ──► 10 s: statements, tenants, all ──┬─► kept for 2 h
//!   (every 10 s, on the analyst's thread)                                        └─► added up to minutes, kept for 48 h
//! ```
//!
//! A window holds only what was called in it. What statements take is bounded by a budget of bytes, what tenants take by
//! another one (their names may come from clients), and the oldest goes first; what all together did is kept whole. It costs a query nothing: counters are compared with what they
//! were, by one thread that writes nothing that a worker reads.

mod series;
pub mod span;
mod window;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

use super::cell::Counter;
use super::histogram::{BUCKETS, lower_bound};
use super::room::{Looked, Offer};
use super::statement::StatementCell;
use super::worker::Map;
use super::{Telemetry, TenantId, lock};

use series::Series;
pub use window::Point;
use window::{Sum, Window, Windows};

/// The only key of the sum over all tenants.
const ALL: u32 = 0;

/// Lengths of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// 10 seconds, kept for two hours.
    TenSeconds,
    /// A minute, kept for two days.
    Minute,
}

impl Step {
    /// Its length in µs.
    pub fn length_us(self) -> u64 {
        match self {
            Self::TenSeconds => 10_000_000,
            Self::Minute => 60_000_000,
        }
    }

    /// How long its windows are kept, in µs.
    fn kept_us(self) -> u64 {
        match self {
            Self::TenSeconds => 2 * 3_600_000_000,
            Self::Minute => 48 * 3_600_000_000,
        }
    }
}

/// A window of a statement, a tenant or everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Its begin, in µs since 1970.
    pub start_us: u64,
    /// Its end. Longer than the step where nobody looked in time.
    pub end_us: u64,
    /// What was counted.
    pub point: Point,
}

/// What was counted when, and from when on that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// Windows in which something was called, the oldest first.
    pub stretches: Vec<Stretch>,
    /// From here on no window is missing, in µs since 1970.
    pub complete_from_us: u64,
}

/// The history of all statements and tenants. Written by one thread, read by the admin port.
#[derive(Debug)]
pub struct History {
    budget: usize,
    /// By their numbers, which are the windows' keys.
    series: Series,
    /// What each cell showed at the last look: by thread, in the order in which the thread registered them.
    marks: Vec<Vec<Mark>>,
    /// Rows that may make room, by thread: found in passing.
    offers: Vec<Map<TenantId, Vec<Offer>>>,
    /// When the last look's window ended, and when the current minute began.
    looked_us: u64,
    minute_us: u64,
    /// The minute under way.
    minute: Active,
    short: Kept,
    long: Kept,
    windows_cut: u64,
}

/// Windows of one length.
#[derive(Debug, Default)]
struct Kept {
    statements: Bounded,
    tenants: Bounded,
    all: Windows,
}

/// Windows that a budget cuts.
#[derive(Debug, Default)]
struct Bounded {
    windows: Windows,
    /// The end of the last one that was cut.
    cut_us: u64,
}

/// Sums of one window, by series, by tenant, and of everything.
#[derive(Debug, Default)]
struct Active {
    statements: BTreeMap<u32, Sum>,
    tenants: BTreeMap<u32, Sum>,
    all: BTreeMap<u32, Sum>,
}

impl Active {
    fn add(&mut self, series: u32, tenant: TenantId, sum: &Sum) {
        self.statements.entry(series).or_default().add(sum);
        self.tenants.entry(tenant.0).or_default().add(sum);
        self.all.entry(ALL).or_default().add(sum);
    }

    fn merge(&mut self, other: &Self) {
        for (sums, more) in [
            (&mut self.statements, &other.statements),
            (&mut self.tenants, &other.tenants),
            (&mut self.all, &other.all),
        ] {
            more.iter().for_each(|(key, sum)| sums.entry(*key).or_default().add(sum));
        }
    }
}

/// What a cell showed at the last look.
#[derive(Debug)]
struct Mark {
    series: u32,
    serial: u64,
    seen: Seen,
}

/// The numbers of a cell that are followed, of one moment.
#[derive(Debug, Clone)]
struct Seen {
    calls: u64,
    errors: u64,
    rows: u64,
    total_us: u64,
    queue_us: u64,
    server_us: u64,
    max_us: u64,
    buckets: Box<[u32; BUCKETS]>,
}

impl Default for Seen {
    fn default() -> Self {
        let buckets = Box::new([0; BUCKETS]);
        Self { calls: 0, errors: 0, rows: 0, total_us: 0, queue_us: 0, server_us: 0, max_us: 0, buckets }
    }
}

impl Seen {
    fn of(cell: &StatementCell) -> Self {
        cell.sequence.read(|| {
            let count = |counter: &Counter| counter.value();
            let mut buckets = Box::new([0; BUCKETS]);
            cell.durations.copy_to(&mut buckets);
            Self {
                calls: count(&cell.calls),
                errors: count(&cell.errors),
                rows: count(&cell.rows),
                total_us: count(&cell.total_us),
                queue_us: count(&cell.queue.sum_us),
                server_us: count(&cell.server.sum_us),
                max_us: cell.max_us.value(),
                buckets,
            }
        })
    }

    /// What was counted since `before`.
    fn since(&self, before: &Self) -> Sum {
        let mut sum = Sum::default();
        let mut highest = 0;
        for (place, (difference, (now, then))) in
            sum.buckets.iter_mut().zip(self.buckets.iter().zip(&*before.buckets)).enumerate()
        {
            // Below what it was: it has begun anew meanwhile.
            *difference = now.wrapping_sub(*then);
            if *difference > 0 {
                highest = place;
            }
        }
        // A longer run than ever was in this window; otherwise its bucket says how long it can have been.
        let bound = if highest + 1 < BUCKETS { lower_bound(highest + 1) } else { u64::MAX };
        let max_us = if self.max_us > before.max_us { self.max_us } else { self.max_us.min(bound) };
        sum.point = Point {
            calls: self.calls.wrapping_sub(before.calls),
            errors: self.errors.wrapping_sub(before.errors),
            rows: self.rows.wrapping_sub(before.rows),
            total_us: self.total_us.wrapping_sub(before.total_us),
            queue_us: self.queue_us.wrapping_sub(before.queue_us),
            server_us: self.server_us.wrapping_sub(before.server_us),
            max_us,
            p95_us: 0,
        };
        sum
    }
}

impl History {
    /// Empty, at `now_us`. `budget`: bytes that windows of statements may take, and those of tenants as many again.
    pub fn new(now_us: u64, budget: usize) -> Self {
        Self {
            budget,
            series: Series::default(),
            marks: Vec::new(),
            offers: Vec::new(),
            looked_us: now_us,
            minute_us: now_us,
            minute: Active::default(),
            short: Kept::default(),
            long: Kept::default(),
            windows_cut: 0,
        }
    }

    /// Whether a window has ended by `now_us`.
    fn is_due(&self, now_us: u64) -> bool {
        now_us / Step::TenSeconds.length_us() > self.looked_us / Step::TenSeconds.length_us()
    }

    /// Ends a window of 10 seconds at the last multiple of them, and a minute with the last of it. `threads`: the cells of
    /// each thread, always in the same order.
    fn look(&mut self, now_us: u64, threads: &[Vec<Arc<StatementCell>>]) {
        let end_us = now_us - now_us % Step::TenSeconds.length_us();
        let active = self.differences(threads);
        self.short.push(self.looked_us, end_us, &active);
        self.minute.merge(&active);
        self.looked_us = end_us;
        let minute = Step::Minute.length_us();
        if end_us / minute > self.minute_us / minute {
            self.long.push(self.minute_us, end_us, &self.minute);
            self.minute = Active::default();
            self.minute_us = end_us;
        }
        self.short.expire(end_us, Step::TenSeconds);
        self.long.expire(end_us, Step::Minute);
        self.cut();
        if self.series.is_long() {
            self.forget_series();
        }
    }

    fn differences(&mut self, threads: &[Vec<Arc<StatementCell>>]) -> Active {
        let mut active = Active::default();
        if self.marks.len() < threads.len() {
            self.marks.resize_with(threads.len(), Vec::new);
        }
        self.offers.resize_with(threads.len(), Map::default);
        for ((cells, marks), offers) in threads.iter().zip(&mut self.marks).zip(&mut self.offers) {
            let mut looked = Looked::default();
            for (place, cell) in cells.iter().enumerate() {
                let mut new = || Mark { series: self.series.number(cell), serial: cell.serial, seen: Seen::default() };
                if place == marks.len() {
                    marks.push(new());
                }
                let Some(mark) = marks.get_mut(place).filter(|_| !cell.is_rest) else { continue };
                // Another statement has taken the place of one that did nothing since the last look.
                if mark.serial != cell.serial {
                    *mark = new();
                }
                let calls = cell.calls.value();
                let moved = calls != mark.seen.calls;
                looked.note(cell, place, calls, moved);
                if moved {
                    let seen = Seen::of(cell);
                    active.add(mark.series, cell.tenant, &seen.since(&mark.seen));
                    mark.seen = seen;
                }
            }
            *offers = looked.offers();
        }
        active
    }

    /// Forgets the statements that have neither a row nor a window any more.
    fn forget_series(&mut self) {
        let mut used: HashSet<u32> = self.marks.iter().flatten().map(|mark| mark.series).collect();
        used.extend(self.minute.statements.keys());
        for kept in [&self.short, &self.long] {
            used.extend(kept.statements.windows.since(0).flat_map(Window::points).map(|(number, _)| number));
        }
        self.series.keep(&used);
    }

    /// Gives up the oldest windows of statements, and of tenants, until each of the two fits into the budget.
    fn cut(&mut self) {
        let Self { short, long, .. } = self;
        self.windows_cut += cut(&mut short.statements, &mut long.statements, self.budget)
            + cut(&mut short.tenants, &mut long.tenants, self.budget);
    }

    fn kept(&self, step: Step) -> &Kept {
        match step {
            Step::TenSeconds => &self.short,
            Step::Minute => &self.long,
        }
    }

    fn complete_from_us(&self, step: Step, from_us: u64) -> u64 {
        from_us.max(self.looked_us.saturating_sub(step.kept_us()))
    }
}

impl Kept {
    fn push(&mut self, start_us: u64, end_us: u64, active: &Active) {
        for (windows, sums) in [
            (&mut self.statements.windows, &active.statements),
            (&mut self.tenants.windows, &active.tenants),
            (&mut self.all, &active.all),
        ] {
            if !sums.is_empty() {
                windows.push(Window::pack(start_us, end_us, sums.iter().map(|(key, sum)| (*key, sum))));
            }
        }
    }

    fn expire(&mut self, now_us: u64, step: Step) {
        let oldest_us = now_us.saturating_sub(step.kept_us());
        for windows in [&mut self.statements.windows, &mut self.tenants.windows, &mut self.all] {
            while windows.oldest_end_us().is_some_and(|end_us| end_us <= oldest_us) {
                windows.drop_oldest();
            }
        }
    }
}

/// Drops the oldest windows of both lengths until they take no more than the budget. Returns how many.
fn cut(short: &mut Bounded, long: &mut Bounded, budget: usize) -> u64 {
    let mut dropped = 0;
    while short.windows.bytes() + long.windows.bytes() > budget {
        let [short_end, long_end] = [&*short, &*long].map(|kept| kept.windows.oldest_end_us());
        let kept = match (short_end, long_end) {
            (Some(short_end), Some(long_end)) if long_end <= short_end => &mut *long,
            (Some(_), _) => &mut *short,
            (None, Some(_)) => &mut *long,
            (None, None) => break,
        };
        kept.cut_us = kept.windows.oldest_end_us().unwrap_or(0);
        kept.windows.drop_oldest();
        dropped += 1;
    }
    dropped
}

/// The windows that hold any of the keys that `wanted` picks, their points added up.
fn stretches(windows: &[Window], wanted: impl Fn(u32) -> bool) -> Vec<Stretch> {
    let stretch = |window: &Window| {
        let mut sum = Point::default();
        window.points().filter(|(key, _)| wanted(*key)).for_each(|(_, point)| sum.add(&point));
        (sum.calls > 0).then_some(Stretch { start_us: window.start_us, end_us: window.end_us, point: sum })
    };
    windows.iter().filter_map(stretch).collect()
}

impl Telemetry {
    /// Ends the windows of the history that are over by `now_us`. For one thread, often: it looks at the counters only when
    /// a window has ended.
    pub fn look_at_history(&self, now_us: u64) {
        if !lock(&self.history).is_due(now_us) {
            return;
        }
        let workers = self.each_worker();
        let threads: Vec<_> = workers.iter().map(|worker| lock(&worker.statements).clone()).collect();
        let mut history = lock(&self.history);
        history.look(now_us, &threads);
        let offers = std::mem::take(&mut history.offers);
        drop(history);
        workers.iter().zip(offers).for_each(|(worker, offers)| worker.room.offer(offers));
    }

    /// Statements that the history tells apart.
    #[cfg(test)]
    pub(super) fn series(&self) -> usize {
        lock(&self.history).series.keys().len()
    }

    /// How a statement ran since `from_us`, by a tenant or by all together.
    pub fn course_of_statement(&self, strict: u64, tenant: Option<TenantId>, step: Step, from_us: u64) -> Course {
        let history = lock(&self.history);
        let keys: Vec<u32> = (0..)
            .zip(history.series.keys())
            .filter(|(_, (known, owner))| *known == strict && tenant.is_none_or(|tenant| tenant == *owner))
            .map(|(number, _)| number)
            .collect();
        let kept = &history.kept(step).statements;
        let complete_from_us = history.complete_from_us(step, from_us).max(kept.cut_us);
        // Unpacked without the lock: only pointers are copied.
        let windows: Vec<Window> = kept.windows.since(from_us).cloned().collect();
        drop(history);
        Course { stretches: stretches(&windows, |key| keys.binary_search(&key).is_ok()), complete_from_us }
    }

    /// How all statements of a tenant, or of all tenants, ran since `from_us`.
    pub fn course(&self, tenant: Option<TenantId>, step: Step, from_us: u64) -> Course {
        let history = lock(&self.history);
        let (kept, whole_from_us) = (history.kept(step), history.complete_from_us(step, from_us));
        let (windows, key, cut_us) = match tenant {
            Some(tenant) => (&kept.tenants.windows, tenant.0, kept.tenants.cut_us),
            None => (&kept.all, ALL, 0),
        };
        let windows: Vec<Window> = windows.since(from_us).cloned().collect();
        drop(history);
        let complete_from_us = whole_from_us.max(cut_us);
        Course { stretches: stretches(&windows, |known| known == key), complete_from_us }
    }

    /// The p95 in µs of each tenant's last window since `from_us` with calls in it.
    pub fn last_p95_of_tenants(&self, step: Step, from_us: u64) -> HashMap<TenantId, u64, FxBuildHasher> {
        let windows: Vec<Window> = {
            let history = lock(&self.history);
            history.kept(step).tenants.windows.since(from_us).cloned().collect()
        };
        let called = windows.iter().flat_map(Window::points).filter(|(_, point)| point.calls > 0);
        // From the oldest on, so that the last one stays.
        called.map(|(key, point)| (TenantId(key), point.p95_us)).collect()
    }

    /// Calls in the last minute that has been looked at, by statement and tenant.
    pub fn calls_of_last_minute(&self) -> HashMap<(u64, TenantId), u64, FxBuildHasher> {
        let history = lock(&self.history);
        let from_us = history.looked_us.saturating_sub(Step::Minute.length_us());
        let windows: Vec<Window> = history.short.statements.windows.since(from_us).cloned().collect();
        let mut calls = HashMap::default();
        for (key, point) in windows.iter().flat_map(Window::points) {
            if let Some(known) = history.series.keys().get(key as usize) {
                *calls.entry(*known).or_default() += point.calls;
            }
        }
        calls
    }

    /// Windows of statements kept, and how many the budgets have cut, those of tenants included.
    pub(super) fn history_size(&self) -> (usize, u64) {
        let history = lock(&self.history);
        (history.short.statements.windows.len() + history.long.statements.windows.len(), history.windows_cut)
    }
}

#[cfg(test)]
mod tests;
