//! Where a burst's values come from: the rule that proves instead of guessing.
//!
//! One pass over the recent rows finds every value that a child was given. Groups of hits (one family of statements,
//! one column, one parameter) are then weighed: enough of the children, enough of them for one execution, and a sign
//! that the program walked the rows.

use rustc_hash::FxHashMap;

use super::burst::Record;
use super::event::{Column, ShapeId};
use super::judge::Case;
use super::names::{Fit, Named, fit};
use super::samples::Sample;
use super::text::{Context, Text};
use super::thresholds::Thresholds;
use super::value::{Cell, HashKey};

/// A parent's last reply and a child's start may be stamped in either order within this: they are read in one go.
const SKEW_US: u64 = 200;
/// The first child of an execution must come within this, unless a trace ties them.
pub(super) const PARENT_US: u64 = 500_000;
/// A fan-out that begins within this of its parent's end is fresh.
const FRESH_US: u64 = 50_000;
/// Hits weighed for one burst; more are left out.
const MAX_HITS: usize = 16 * 1024;
/// Children that must be explained.
const COVERAGE: f64 = 0.8;
/// Integers below are in every table.
const TINY: u64 = 100;
/// Integers below need a name, or the very rows in their very order.
const SMALL: u64 = 1_000;

/// One value of a sample that a child was given.
#[derive(Debug, Clone, Copy)]
struct Hit {
    sample: usize,
    column: usize,
    row: usize,
    parameter: usize,
    record: usize,
}

/// An explanation of a burst.
#[derive(Debug, Clone)]
pub(super) struct Cause {
    pub(super) shape: ShapeId,
    pub(super) strict: u64,
    pub(super) family: u64,
    pub(super) column: Column,
    pub(super) parameter: usize,
    /// Records explained, of those looked at.
    pub(super) coverage: f64,
    /// The parent's executions that explain them, by serial.
    pub(super) serials: Vec<u64>,
    pub(super) fit: Fit,
    pub(super) traced: bool,
    children_per_execution: f64,
}

/// What one pass over the rows found.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// The best explanation by another statement's rows.
    pub(super) cause: Option<Cause>,
    /// The best explanation by the statement's own earlier rows.
    pub(super) walk: Option<Cause>,
    /// Some earlier result holds half of the values, though not in a way that makes it a cause.
    pub(super) seen: bool,
}

/// Looks for the values of the varying parameters in everything that came before.
pub(super) fn sources(case: &Case<'_>) -> Sources {
    let samples: Vec<&Sample> = case.samples.iter().filter(|sample| is_eligible(case, sample)).collect();
    let mut hits = find_hits(case, &samples);
    let group_of = |hit: &Hit| (samples.get(hit.sample).map(|sample| sample.family), hit.column, hit.parameter);
    // The latest execution first: it is the one that a child is counted for.
    hits.sort_by_key(|hit| (group_of(hit), hit.record, std::cmp::Reverse(hit.sample), hit.row));
    let mut found = Sources::default();
    for group in hits.chunk_by(|a, b| group_of(a) == group_of(b)) {
        let Some(sample) = group.first().and_then(|hit| samples.get(hit.sample)) else { continue };
        if sample.family == case.burst.key.family {
            found.walk = better(found.walk, weigh_walk(case, &samples, group));
            continue;
        }
        let group = Group::new(case, &samples, group);
        found.seen |= group.coverage() >= 0.5;
        found.cause = better(found.cause, group.weigh());
    }
    found
}

/// Same tenant, not of another trace, and there before the last child.
fn is_eligible(case: &Case<'_>, sample: &Sample) -> bool {
    let key = &case.burst.key;
    let same_trace = sample.trace == key.trace || sample.trace.is_none() || key.trace.is_none();
    let last = case.records.last().map_or(0, |record| record.start_us);
    same_trace && sample.tenant == key.tenant && sample.end_us <= last.saturating_add(SKEW_US)
}

fn find_hits(case: &Case<'_>, samples: &[&Sample]) -> Vec<Hit> {
    let mut wanted: FxHashMap<Cell, Vec<(usize, usize)>> = FxHashMap::default();
    for (index, record) in case.records.iter().enumerate() {
        for parameter in &case.varying {
            let cell = record.cell(*parameter);
            if cell.is_comparable() {
                wanted.entry(cell).or_default().push((*parameter, index));
            }
        }
    }
    let mut hits = Vec::new();
    for (sample_index, sample) in samples.iter().enumerate() {
        // Its own results must be complete before the next one starts; others may be stamped a little late.
        let skew = if sample.family == case.burst.key.family { 0 } else { SKEW_US };
        case.samples.visit_rows(sample, case.key, |row, column, cell| {
            for (parameter, record) in wanted.get(&cell).map(Vec::as_slice).unwrap_or_default() {
                let start = case.records.get(*record).map_or(0, |record| record.start_us);
                if sample.end_us <= start.saturating_add(skew) && hits.len() < MAX_HITS {
                    hits.push(Hit { sample: sample_index, column, row, parameter: *parameter, record: *record });
                }
            }
        });
    }
    hits
}

/// Its own earlier rows explain at least 0.7 of what they can (the first value comes from elsewhere), from another
/// column than the one asked by, and it is no page of a longer list.
fn weigh_walk(case: &Case<'_>, samples: &[&Sample], group: &[Hit]) -> Option<Cause> {
    let hit = group.first()?;
    let sample = samples.get(hit.sample)?;
    let column = sample.columns.get(hit.column)?;
    let placeholder = case.text.placeholder(hit.parameter);
    let asked = placeholder.and_then(|placeholder| case.text.column_of(placeholder));
    let same_column = asked.as_ref().is_some_and(|(_, name)| *name == *column.name);
    // What walks a tree in one statement is what would be suggested.
    let walks_itself = case.text.word(0) == "with" && case.text.word(1) == "recursive";
    if same_column || walks_itself || case.burst.facts.has_limit {
        return None;
    }
    let mut records: Vec<usize> = group.iter().map(|hit| hit.record).collect();
    records.dedup();
    let coverage = records.len() as f64 / case.records.len().saturating_sub(1).max(1) as f64;
    if coverage < 0.7 || records.len() < 3 {
        return None;
    }
    let mut serials: Vec<u64> =
        group.iter().filter_map(|hit| samples.get(hit.sample)).map(|sample| sample.serial).collect();
    serials.sort_unstable();
    serials.dedup();
    Some(Cause {
        shape: sample.shape,
        strict: sample.strict,
        family: sample.family,
        column: column.clone(),
        parameter: hit.parameter,
        coverage: records.len() as f64 / case.records.len() as f64,
        serials,
        fit: case.fit(sample, column, hit.parameter),
        traced: case.burst.key.trace.is_some(),
        children_per_execution: 1.0,
    })
}

/// The better of two explanations: by name, then fewer and larger fan-outs, then coverage; the earlier one on a tie.
fn better(a: Option<Cause>, b: Option<Cause>) -> Option<Cause> {
    let (Some(a), Some(b)) = (&a, &b) else { return a.or(b) };
    let rank =
        |cause: &Cause| (cause.fit, (cause.children_per_execution * 16.0) as u64, (cause.coverage * 64.0) as u64);
    let keep_first = (rank(a), b.strict) >= (rank(b), a.strict);
    Some(if keep_first { a.clone() } else { b.clone() })
}

/// The children that one execution explains, by start.
#[derive(Debug)]
struct Execution<'a> {
    sample: &'a Sample,
    /// Record and row, by record.
    children: Vec<(usize, usize)>,
}

/// Hits of one column of one family for one parameter.
struct Group<'a> {
    case: &'a Case<'a>,
    column: usize,
    parameter: usize,
    executions: Vec<Execution<'a>>,
    samples: &'a [&'a Sample],
}

impl<'a> Group<'a> {
    /// Gives every child to the latest execution that holds its value, and drops executions whose children came late.
    fn new(case: &'a Case<'a>, samples: &'a [&'a Sample], hits: &[Hit]) -> Self {
        let (column, parameter) = hits.first().map_or((0, 0), |hit| (hit.column, hit.parameter));
        let mut executions: Vec<Execution<'a>> = Vec::new();
        for of_record in hits.chunk_by(|a, b| a.record == b.record) {
            let Some(first) = of_record.first() else { continue };
            let Some(sample) = samples.get(first.sample) else { continue };
            let place = executions.iter().position(|execution| execution.sample.serial == sample.serial);
            let rows = of_record.iter().filter(|hit| hit.sample == first.sample).map(|hit| hit.row);
            match place.and_then(|place| executions.get_mut(place)) {
                Some(execution) => {
                    // A value in several rows stands for the first of them that keeps the order.
                    let reached = execution.children.last().map_or(0, |(_, row)| *row);
                    let row = rows.clone().find(|row| *row >= reached).or_else(|| rows.min()).unwrap_or(first.row);
                    execution.children.push((first.record, row));
                }
                None => executions.push(Execution { sample, children: vec![(first.record, first.row)] }),
            }
        }
        executions.retain(|execution| is_timely(case, execution));
        Self { case, column, parameter, executions, samples }
    }

    fn assigned(&self) -> usize {
        self.executions.iter().map(|execution| execution.children.len()).sum()
    }

    fn coverage(&self) -> f64 {
        self.assigned() as f64 / self.case.records.len().max(1) as f64
    }

    /// The rule itself.
    fn weigh(&self) -> Option<Cause> {
        let family = self.executions.first()?.sample.family;
        let nested = self.case.flagged.contains(&family);
        let multi_row = self.executions.iter().any(|execution| execution.sample.row_count >= 2);
        if !(multi_row || nested) || self.coverage() < self.needed_coverage() {
            return None;
        }
        // A child of flagged children needs no fan-out of its own: the outer loop is one.
        let minimum = if nested { 1 } else { self.case.thresholds.fan_out };
        let widest = self.executions.iter().map(|execution| execution.children.len()).max()?;
        let per_execution = self.assigned() as f64 / self.parent_executions(family).max(1) as f64;
        if widest < minimum
            || self.assigned() < (Thresholds::REPETITIONS - 1).min(self.case.thresholds.fan_out)
            || per_execution < 0.8 * minimum as f64
        {
            return None;
        }
        let sample = self.executions.first()?.sample;
        let column = sample.columns.get(self.column)?;
        let name = self.case.fit(sample, column, self.parameter);
        if !self.walked_the_rows(name) || self.is_coincidence(name) {
            return None;
        }
        Some(Cause {
            shape: sample.shape,
            strict: sample.strict,
            family,
            column: column.clone(),
            parameter: self.parameter,
            coverage: self.coverage(),
            serials: self.executions.iter().map(|execution| execution.sample.serial).collect(),
            fit: name,
            traced: self.case.burst.key.trace.is_some(),
            children_per_execution: per_execution,
        })
    }

    /// Of a parent larger than its sample only that part can be explained.
    fn needed_coverage(&self) -> f64 {
        let (mut sampled, mut rows) = (0.0, 0.0);
        for execution in &self.executions {
            sampled += self.column_values(execution.sample) as f64;
            rows += execution.sample.row_count as f64;
        }
        let part = if rows > sampled && sampled > 0.0 { sampled / rows } else { 1.0 };
        COVERAGE * if self.assigned() >= 8 { part } else { 1.0 }
    }

    /// Executions of the parent from the first that explains something to the last child, useful or not: one child
    /// each is a chain, or many users at once.
    fn parent_executions(&self, family: u64) -> usize {
        let first = self.executions.iter().map(|execution| execution.sample.serial).min().unwrap_or(0);
        self.samples.iter().filter(|sample| sample.family == family && sample.serial >= first).count()
    }

    /// A sign that the program went through the rows: their order, most of them, sorted keys, or a fresh fan-out by a
    /// foreign key.
    fn walked_the_rows(&self, name: Fit) -> bool {
        let fresh = name >= Fit::Weak
            && self
                .executions
                .iter()
                .all(|execution| first_start(self.case, execution) <= execution.sample.end_us + FRESH_US);
        fresh || self.in_row_order() || self.parent_covered() >= 0.5 || self.is_increasing()
    }

    /// At least 0.8 of neighbouring children stand in the order of the rows.
    fn in_row_order(&self) -> bool {
        let (mut pairs, mut ordered) = (0_usize, 0_usize);
        for execution in &self.executions {
            for pair in execution.children.windows(2) {
                let [(_, before), (_, after)] = pair else { continue };
                pairs += 1;
                ordered += usize::from(before <= after);
            }
        }
        pairs >= 2 && ordered as f64 >= 0.8 * pairs as f64
    }

    /// How much of the parents' rows was asked for.
    fn parent_covered(&self) -> f64 {
        let (mut asked, mut rows) = (0, 0);
        for execution in &self.executions {
            let mut values: Vec<Cell> = execution
                .children
                .iter()
                .filter_map(|(record, _)| self.case.records.get(*record))
                .map(|record| record.cell(self.parameter))
                .collect();
            values.sort_unstable();
            values.dedup();
            asked += values.len();
            rows += self.column_values(execution.sample);
        }
        asked as f64 / rows.max(1) as f64
    }

    /// At least eight keys in increasing order.
    fn is_increasing(&self) -> bool {
        let keys: Vec<i64> = self.integers().collect();
        let rising = keys.windows(2).filter(|pair| pair.first() < pair.last()).count();
        keys.len() >= 8 && rising as f64 >= 0.8 * (keys.len() - 1) as f64
    }

    /// Small integers are in every table: without a name that fits they prove nothing.
    fn is_coincidence(&self, name: Fit) -> bool {
        let largest = self.integers().map(i64::unsigned_abs).max();
        let all_integers = self.integers().count() == self.assigned();
        let the_very_rows = self.in_row_order() && self.parent_covered() >= 0.5;
        match largest {
            Some(largest) if all_integers && largest < TINY => {
                name < Fit::Strong && !(name == Fit::Weak && the_very_rows)
            }
            Some(largest) if all_integers && largest < SMALL => name == Fit::None && !the_very_rows,
            _ => false,
        }
    }

    fn integers(&self) -> impl Iterator<Item = i64> + '_ {
        let records = self.executions.iter().flat_map(|execution| &execution.children);
        records.filter_map(|(record, _)| self.case.records.get(*record)?.cell(self.parameter).integer(self.case.key))
    }

    /// Distinct values of the column in a sample.
    fn column_values(&self, sample: &Sample) -> usize {
        let mut values = Vec::new();
        self.case.samples.visit_rows(sample, self.case.key, |_, column, cell| {
            if column == self.column && cell.is_comparable() {
                values.push(cell);
            }
        });
        values.sort_unstable();
        values.dedup();
        values.len()
    }
}

fn first_start(case: &Case<'_>, execution: &Execution<'_>) -> u64 {
    execution
        .children
        .first()
        .and_then(|(record, _)| case.records.get(*record))
        .map_or(u64::MAX, |record| record.start_us)
}

/// Its first child came soon, the trace says so, or it was already found to be the cause.
fn is_timely(case: &Case<'_>, execution: &Execution<'_>) -> bool {
    let sample = execution.sample;
    let traced = sample.trace.is_some() && sample.trace == case.burst.key.trace;
    traced
        || sample.cause_of == Some(case.burst.key.family)
        || first_start(case, execution) <= sample.end_us.saturating_add(PARENT_US)
}

/// The parameters whose values change: at least three values, and not the size or start of a page, nor a value to be
/// stored.
pub(super) fn varying(records: &[Record], text: &Text<'_>) -> Vec<usize> {
    let parameters = records.iter().map(|record| usize::from(record.parameters)).max().unwrap_or(0);
    let changes = |parameter: &usize| {
        let mut values: Vec<Cell> = records.iter().map(|record| record.cell(*parameter)).collect();
        values.sort_unstable();
        values.dedup();
        values.len() >= 3
    };
    let is_key = |parameter: &usize| {
        !text.placeholder(*parameter).is_some_and(|placeholder| {
            matches!(placeholder.context, Context::Assign | Context::Limit | Context::Offset)
        })
    };
    (0..parameters).filter(is_key).filter(changes).collect()
}

/// How well the names fit, with the tables as the texts tell them.
pub(super) fn name_fit(source: (Option<&str>, &str), target: Option<(Option<&str>, &str)>) -> Fit {
    let Some((table, column)) = target else { return Fit::None };
    fit(Named { table: source.0, column: Some(source.1) }, Named { table, column: Some(column) })
}

/// For [`Case`]: reads an integer, if it is one.
pub(super) fn integer(record: &Record, parameter: usize, key: HashKey) -> Option<i64> {
    record.cell(parameter).integer(key)
}
