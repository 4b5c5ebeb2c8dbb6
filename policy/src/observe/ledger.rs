//! One row per cause, however often it is seen.

use rustc_hash::FxHashMap;

use crate::finding::{Finding, Kind};

/// A finding is told again after this, if it was seen again.
const COOL_DOWN_US: u64 = 60_000_000;

/// The findings kept.
#[derive(Debug)]
pub(super) struct Ledger {
    rows: FxHashMap<String, Row>,
    capacity: usize,
}

#[derive(Debug)]
struct Row {
    finding: Finding,
    /// Seen since it was last told.
    news: bool,
    /// Seen since its counters were last asked for.
    changed: bool,
    /// When it was last told, in event time.
    told_us: Option<u64>,
    /// Children per parent execution as last told.
    told_ratio: u64,
}

impl Ledger {
    pub(super) fn new(capacity: usize) -> Self {
        Self { rows: FxHashMap::default(), capacity: capacity.max(1) }
    }

    /// Takes one finding in; the largest burst, or the worst time, gives the figures, all of them the counters. `goes_on`:
    /// it was recorded before, and this is how it went on.
    pub(super) fn record(&mut self, seen: Finding, goes_on: bool) {
        if let Some(row) = self.rows.get_mut(&seen.id) {
            row.merge(seen, goes_on);
            return;
        }
        if self.rows.len() >= self.capacity {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.finding.last_seen).map(|(id, _)| id.clone());
            oldest.map(|id| self.rows.remove(&id));
        }
        self.rows
            .insert(seen.id.clone(), Row { finding: seen, news: true, changed: true, told_us: None, told_ratio: 0 });
    }

    /// What is due to be told: what is new, and what was seen again a minute after it was told, or twice as large.
    pub(super) fn drain(&mut self, now_us: u64) -> impl Iterator<Item = Finding> + '_ {
        self.rows.values_mut().filter_map(move |row| {
            let ratio = row.finding.count / row.finding.parent_executions.max(1);
            let cool = row.told_us.is_none_or(|told| now_us >= told.saturating_add(COOL_DOWN_US));
            if !row.news || !(cool || ratio >= row.told_ratio.saturating_mul(2)) {
                return None;
            }
            (row.news, row.told_us, row.told_ratio) = (false, Some(now_us), ratio.max(1));
            Some(row.finding.clone())
        })
    }

    /// Those that were seen since this was last asked for.
    pub(super) fn changed(&mut self) -> impl Iterator<Item = &Finding> {
        self.rows.values_mut().filter(|row| row.changed).map(|row| {
            row.changed = false;
            &row.finding
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.rows.values().map(|row| &row.finding)
    }
}

impl Row {
    fn merge(&mut self, seen: Finding, goes_on: bool) {
        let kept = &mut self.finding;
        let same_minute = kept.last_seen.0 / COOL_DOWN_US == seen.last_seen.0 / COOL_DOWN_US;
        let once = u64::from(!goes_on);
        let (occurrences, statements) = (kept.occurrences + once, kept.statements + once * seen.count);
        let per_minute = if same_minute { kept.per_minute + once } else { 1 };
        let (first_seen, last_seen) = (kept.first_seen.min(seen.first_seen), kept.last_seen.max(seen.last_seen));
        let worse = match (seen.worst_ms(), kept.worst_ms()) {
            // Of a plan the latest change is what matters.
            (Some(now), Some(before)) => now >= before || kept.kind == Kind::PlanChanged,
            _ => seen.count > kept.count,
        };
        if worse {
            *kept = seen;
        }
        (kept.occurrences, kept.statements, kept.per_minute) = (occurrences, statements, per_minute);
        (kept.first_seen, kept.last_seen) = (first_seen, last_seen);
        self.news |= !goes_on;
        self.changed = true;
    }
}
