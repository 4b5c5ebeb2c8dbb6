//! The rules, in order; the first that fits decides.

use super::burst::{Burst, Record};
use super::causality::{Cause, Sources, integer, name_fit, sources, varying};
use super::connections::Connections;
use super::event::{Class, Column, ColumnName, Directory, ScopeId};
use super::names::Fit;
use super::samples::{Sample, Samples};
use super::text::{Context, Text};
use super::thresholds::Thresholds;
use super::value::HashKey;
use crate::finding::Kind;

/// Longest usual pause between two statements of a loop.
const LOOP_GAP_US: u64 = 15_000;
/// Executions from which a loop without a parent is one.
const UNSOURCED: usize = 10;
/// A loop without a parent that goes on beyond these is a load, not a request: a benchmark, an import, a crawler.
const ENDLESS: u64 = 500;
const ENDLESS_US: u64 = 3_000_000;

/// What a burst is.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// Nothing to report, and no other rule is asked.
    Silent,
    /// Explained by another statement's rows.
    Caused(Kind, Cause),
    /// Explained by its own rows.
    Walk(Cause),
    /// A finding without a parent.
    Loop(Kind),
}

/// A burst with everything that is needed to judge it.
pub(super) struct Case<'a> {
    pub(super) burst: &'a Burst,
    /// The executions of the most frequent text, by start.
    pub(super) records: Vec<Record>,
    /// That text.
    pub(super) text: Text<'a>,
    /// The parameters that carry keys.
    pub(super) varying: Vec<usize>,
    pub(super) samples: &'a Samples,
    pub(super) connections: &'a Connections,
    /// Families whose bursts were found to be N+1: what they return may be a parent by the single row.
    pub(super) flagged: Vec<u64>,
    pub(super) thresholds: &'a Thresholds,
    pub(super) key: HashKey,
    pub(super) scope: ScopeId,
    pub(super) directory: &'a dyn Directory,
}

impl<'a> Case<'a> {
    /// Puts a case together; `None` when its text is no longer known.
    #[expect(clippy::too_many_arguments, reason = "one call, of the parts that the detector owns side by side")]
    pub(super) fn new(
        burst: &'a Burst,
        samples: &'a Samples,
        connections: &'a Connections,
        flagged: Vec<u64>,
        thresholds: &'a Thresholds,
        key: HashKey,
        scope: ScopeId,
        directory: &'a dyn Directory,
    ) -> Option<Self> {
        let records = most_frequent(burst);
        let first = records.first()?;
        let (strict, text) = directory.shape(first.shape)?;
        if strict != first.strict {
            return None;
        }
        let text = Text::new(text);
        let varying = varying(&records, &text);
        Some(Self { burst, records, text, varying, samples, connections, flagged, thresholds, key, scope, directory })
    }

    /// Judges it; `finished` when no execution is to come.
    pub(super) fn judge(&self, finished: bool) -> Option<Verdict> {
        if self.burst.facts.class == Class::Insert {
            return Some(self.insert_loop());
        }
        if self.records.iter().filter(|record| record.has_array()).count() * 2 > self.records.len() {
            return Some(Verdict::Silent);
        }
        if self.burst.distinct_sets() < Thresholds::DISTINCT {
            return Some(self.duplicate());
        }
        if self.is_polling_per_connection() || self.is_pagination() {
            return Some(Verdict::Silent);
        }
        let sources = sources(self);
        if let Some(verdict) = self.explained(&sources) {
            return Some(verdict);
        }
        (finished && !sources.seen && self.burst.verdict.is_none() && self.is_unsourced_loop())
            .then_some(Verdict::Loop(Kind::LoopUnsourced))
    }

    /// How well a column of a sample fits a parameter, by names.
    pub(super) fn fit(&self, sample: &Sample, column: &Column, parameter: usize) -> Fit {
        let names = self.source_names(sample, column);
        let placeholder = self.text.placeholder(parameter);
        let target = placeholder.and_then(|placeholder| self.text.column_of(placeholder));
        let target = target.as_ref().map(|(table, column)| (*table, column.as_str()));
        name_fit((names.0.as_deref(), &names.1), target)
    }

    /// The table and name of a result's column: looked up by OID, or read from the text when it has one table.
    fn source_names(&self, sample: &Sample, column: &Column) -> (Option<String>, String) {
        source_names(self.directory, self.scope, (sample.shape, sample.strict), column)
    }

    /// Rows of its own earlier results, or of another statement's. A reference by name outweighs the tree: in small
    /// databases the ids of children and of parents overlap.
    fn explained(&self, sources: &Sources) -> Option<Verdict> {
        let kind = if self.burst.facts.class == Class::Read { Kind::NPlusOne } else { Kind::NPlusOneWrite };
        match (&sources.walk, &sources.cause) {
            (Some(walk), Some(cause))
                if cause.fit > walk.fit || (cause.coverage >= walk.coverage && cause.fit == walk.fit) =>
            {
                Some(Verdict::Caused(kind, cause.clone()))
            }
            (Some(walk), None) if walk.fit == Fit::None && self.is_tiny(walk.parameter) => None,
            (Some(walk), _) => Some(Verdict::Walk(walk.clone())),
            (None, Some(cause)) => Some(Verdict::Caused(kind, cause.clone())),
            (None, None) => None,
        }
    }

    fn is_tiny(&self, parameter: usize) -> bool {
        self.records
            .iter()
            .all(|record| integer(record, parameter, self.key).is_some_and(|number| number.unsigned_abs() < 100))
    }

    /// At least five on one connection, at least half of all there, hardly a pause above 15 ms, and not one each in
    /// transactions that do other work as well.
    fn insert_loop(&self) -> Verdict {
        let (there, all) = self.busiest_connection();
        let enough = there.len() >= Thresholds::REPETITIONS && there.len() * 2 >= all;
        let distinct = self.burst.distinct_sets() >= Thresholds::DISTINCT;
        if enough && distinct && percentile(gaps(&there), 0.9) <= LOOP_GAP_US && !self.are_units_of_work(&there) {
            Verdict::Loop(Kind::InsertLoop)
        } else {
            Verdict::Silent
        }
    }

    /// Identical parameters. Evenly spaced they are polling, which nobody can do without.
    fn duplicate(&self) -> Verdict {
        let starts: Vec<u64> = self.records.windows(2).filter_map(step).collect();
        let (low, high) = (percentile(starts.clone(), 0.1), percentile(starts, 0.9));
        let polling = low > LOOP_GAP_US && high <= low + low / 4;
        if polling || !self.thresholds.duplicates { Verdict::Silent } else { Verdict::Loop(Kind::Duplicate) }
    }

    /// Every connection repeats its own parameters: heartbeats and pollers, not a loop over keys.
    fn is_polling_per_connection(&self) -> bool {
        let mut own: Vec<(u64, u64)> = self.records.iter().map(|record| (record.connection, record.digest())).collect();
        own.sort_unstable();
        let repeats = own.windows(2).filter(|pair| pair.first() == pair.last()).count();
        let connections = own.chunk_by(|a, b| a.0 == b.0).count();
        own.dedup();
        own.len() == connections && repeats * 2 >= connections && connections >= 2
    }

    /// Each new value stands in the last row of the page before, or OFFSET goes up.
    fn is_pagination(&self) -> bool {
        let by_offset =
            self.text.placeholders.iter().any(|placeholder| {
                placeholder.context == Context::Offset && self.goes_one_way(placeholder.index, false)
            });
        by_offset || self.varying.iter().any(|parameter| self.is_keyset(*parameter))
    }

    /// Whether the integers that a parameter is given go up; or all up or all down, where `either` will do.
    fn goes_one_way(&self, parameter: usize, either: bool) -> bool {
        let keys: Vec<i64> = self.records.iter().filter_map(|record| integer(record, parameter, self.key)).collect();
        if keys.len() != self.records.len() {
            return false;
        }
        let most = |steps: usize| steps * 5 >= keys.len().saturating_sub(1) * 4;
        let rising = keys.windows(2).filter(|pair| pair.first() < pair.last()).count();
        let falling = keys.windows(2).filter(|pair| pair.first() > pair.last()).count();
        most(rising) || (either && most(falling))
    }

    /// Pages of several rows, and nothing else differs between them that a row of another result could have decided: what a
    /// value of no order that we know, a uuid, is compared with is where the page before ended.
    fn reads_on(&self) -> bool {
        let looks_up = |parameter: &usize| {
            self.text.placeholder(*parameter).is_some_and(|placeholder| placeholder.context == Context::Equal)
        };
        let pages = self.records.iter().filter(|record| record.rows >= 2).count();
        !self.varying.iter().any(looks_up) && pages * 5 >= self.records.len() * 4
    }

    /// A page is a list: it has a LIMIT or compares by order. Of a long page the last row is not sampled: a value that only
    /// goes up or only goes down in such a comparison with a LIMIT is one all the same, and so is a list that is read on.
    fn is_keyset(&self, parameter: usize) -> bool {
        let compares =
            self.text.placeholder(parameter).is_some_and(|placeholder| placeholder.context == Context::Compare);
        if !compares && !self.burst.facts.has_limit {
            return false;
        }
        if compares && self.burst.facts.has_limit && (self.goes_one_way(parameter, true) || self.reads_on()) {
            return true;
        }
        let own: Vec<&Sample> = self.samples.iter().filter(|sample| sample.family == self.burst.key.family).collect();
        let follows = |record: &&Record| {
            let previous = own.iter().rev().find(|sample| sample.end_us <= record.start_us);
            let last = previous.and_then(|sample| self.samples.last_row(sample, self.key));
            last.is_some_and(|cells| cells.contains(&record.cell(parameter)))
        };
        let following = self.records.iter().skip(1).filter(follows).count();
        following >= 3 && following * 5 >= (self.records.len() - 1) * 4
    }

    /// Ten or more on one connection without a pause, no end in sight excepted, and not pieces of separate work.
    fn is_unsourced_loop(&self) -> bool {
        let (there, all) = self.busiest_connection();
        let run_us = self.burst.last_end_us.saturating_sub(self.burst.run_start_us);
        let endless = self.burst.unfinished || self.burst.run_count > ENDLESS || run_us > ENDLESS_US;
        self.thresholds.loops
            && !endless
            && there.len() >= UNSOURCED
            && there.len() * 2 >= all
            && percentile(gaps(&there), 0.5) <= LOOP_GAP_US
            && !self.are_units_of_work(&there)
    }

    /// The executions of the connection that has most of them, and how many there are in all.
    fn busiest_connection(&self) -> (Vec<Record>, usize) {
        let mut records = self.records.clone();
        records.sort_by_key(|record| (record.connection, record.start_us));
        let busiest = records.chunk_by(|a, b| a.connection == b.connection).max_by_key(|chunk| chunk.len());
        (busiest.map(<[Record]>::to_vec).unwrap_or_default(), records.len())
    }

    /// One execution per transaction, and most of those transactions write elsewhere too.
    fn are_units_of_work(&self, records: &[Record]) -> bool {
        let alone = records
            .windows(2)
            .filter(|pair| pair.first().map(|r| r.transaction) != pair.last().map(|r| r.transaction))
            .count();
        let known: Vec<bool> = records
            .iter()
            .filter_map(|record| self.connections.is_composite(record.connection, record.transaction))
            .collect();
        let composite = known.iter().filter(|composite| **composite).count();
        alone * 5 >= records.len().saturating_sub(1) * 4 && !known.is_empty() && composite * 5 >= known.len() * 4
    }
}

/// See [`Case::source_names`].
pub(super) fn source_names(
    directory: &dyn Directory,
    scope: ScopeId,
    (shape, strict): (super::event::ShapeId, u64),
    column: &Column,
) -> (Option<String>, String) {
    if column.table_oid != 0
        && let Some(ColumnName { table, column }) = directory.column(scope, column.table_oid, column.attribute)
    {
        return (Some(table), column);
    }
    let text = directory.shape(shape).filter(|(found, _)| *found == strict).map(|(_, text)| Text::new(text));
    (text.and_then(|text| text.table_of(None).map(str::to_owned)), column.name.to_string())
}

/// The executions of the text that most of a burst's have, by start: a family may hold several texts, whose
/// parameters count differently.
fn most_frequent(burst: &Burst) -> Vec<Record> {
    let mut records = burst.records.clone();
    records.sort_by_key(|record| (record.strict, record.start_us));
    let mut longest: Vec<Record> = records
        .chunk_by(|a, b| a.strict == b.strict)
        .max_by_key(|chunk| chunk.len())
        .map(<[Record]>::to_vec)
        .unwrap_or_default();
    longest.sort_by_key(|record| (record.start_us, record.end_us));
    longest
}

/// What a client needs between the end of one and the arrival of the next: a loop is told by how quickly it goes on, and
/// waits in the queues of a busy pool like everybody else.
fn gaps(records: &[Record]) -> Vec<u64> {
    let gap = |pair: &[Record]| {
        let [before, next] = pair else { return None };
        Some(next.start_us.saturating_sub(next.queued_us).saturating_sub(before.end_us))
    };
    records.windows(2).filter_map(gap).collect()
}

fn step(pair: &[Record]) -> Option<u64> {
    Some(pair.last()?.start_us.saturating_sub(pair.first()?.start_us))
}

/// The value that `part` of all are not above; 0 of nothing.
fn percentile(mut values: Vec<u64>, part: f64) -> u64 {
    values.sort_unstable();
    let rank = (part * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Median round trip of a burst's executions, in microseconds.
pub(super) fn median_us(records: &[Record]) -> u64 {
    percentile(records.iter().map(|record| record.end_us.saturating_sub(record.start_us)).collect(), 0.5)
}
