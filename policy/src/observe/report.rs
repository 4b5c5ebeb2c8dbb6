//! From a judged burst to the row that an operator reads.

use xxhash_rust::xxh3::xxh3_64;

use super::burst::{Burst, Record};
use super::causality::Cause;
use super::event::{ColumnName, Directory, ScopeId, ShapeId};
use super::judge::{Verdict, median_us, source_names};
use super::names::bare;
use super::rewrite::{Keys, exported, rewrite};
use super::samples::Samples;
use super::text::Text;
use super::types::{self, name_of};
use super::value::{HashKey, Kind as CellKind};
use crate::finding::{Finding, Kind, Side, Source, Timestamp};

/// The finding of one burst; `None` for silence, or when a text is no longer known.
pub(super) fn report(
    scope: ScopeId,
    burst: &Burst,
    verdict: &Verdict,
    samples: &Samples,
    key: HashKey,
    directory: &dyn Directory,
) -> Option<Finding> {
    let (kind, cause) = match verdict {
        Verdict::Silent => return None,
        Verdict::Caused(kind, cause) => (*kind, Some(cause)),
        Verdict::Walk(cause) => (Kind::RecursiveWalk, Some(cause)),
        Verdict::Loop(kind) => (*kind, None),
    };
    let record = burst.records.last()?;
    let child_text = text_of(directory, record.shape, record.strict)?;
    let text = Text::new(child_text);
    let parent = match cause {
        Some(cause) => Some(parent_side(directory, scope, cause)?),
        None => None,
    };
    let parameter = cause.map(|cause| cause.parameter);
    let child = child_side(&text, record, parameter);
    let evidence = parent.as_ref().and_then(|parent| evidence(parent, &child, &text));
    let count = children(burst, cause);
    let names = directory.scope(scope).cloned().unwrap_or_default();
    let tenant = directory.tenant(burst.key.tenant).unwrap_or_default().to_owned();
    let identity = [
        kind.name(),
        &names.database,
        &names.user,
        &names.application,
        &names.client,
        &tenant,
        parent.as_ref().map_or("", |side| &side.fingerprint),
        parent.as_ref().and_then(|side| side.column.as_deref()).unwrap_or_default(),
        &format!("{:016x}", burst.key.family),
        &parameter.map(|parameter| parameter.to_string()).unwrap_or_default(),
    ]
    .join("\0");
    let source = Source {
        table_oid: cause.map_or(0, |cause| cause.column.table_oid),
        attribute: cause.map_or(0, |cause| cause.column.attribute),
        result_name: cause.map_or_else(Box::default, |cause| (*cause.column.name).into()),
        type_name: cause.and_then(|cause| key_type(cause, burst, record.strict, key)),
        joins: cause
            .is_none_or(|cause| types::compare(burst.type_of(record.strict, cause.parameter), cause.column.type_oid)),
        limit: limit(&text, burst, key),
        varying: varying(burst, record.strict, key),
    };
    let mut finding = Finding {
        id: format!("{:016x}", xxh3_64(identity.as_bytes())),
        kind,
        severity: kind.severity(),
        tenant,
        database: names.database,
        user: names.user,
        application: names.application,
        client: names.client,
        route: burst.route.and_then(|route| directory.route(route)).map(str::to_owned),
        traced: cause.is_some_and(|cause| cause.traced),
        rewrite: None,
        parent,
        child,
        evidence,
        count,
        parent_executions: executions(burst, cause, samples),
        connections: burst.connections(),
        wasted_ms: (count.saturating_sub(1) * median_us(&burst.records)) as f64 / 1_000.0,
        occurrences: 1,
        statements: count,
        per_minute: 1,
        first_seen: Timestamp(burst.first_us),
        last_seen: Timestamp(burst.last_end_us),
        detail: None,
        source: None,
    };
    finding.rewrite = source.rewrite(&finding, None);
    finding.source = (source.table_oid != 0).then_some(source);
    Some(finding)
}

impl Finding {
    /// Writes proof and rewrite anew under what the catalog calls the parent's column; whether that changes anything.
    pub fn name_source(&mut self, name: &ColumnName) -> bool {
        let Some(source) = self.source.take() else { return false };
        let shown = format!("{}.{}", name.table, name.column);
        let changed = self.parent.as_mut().is_some_and(|parent| {
            let known = parent.column.as_ref() == Some(&shown);
            parent.column = Some(shown);
            !known
        });
        if changed {
            let text = Text::new(&self.child.text);
            self.evidence = self.parent.as_ref().and_then(|parent| evidence(parent, &self.child, &text));
            self.rewrite = source.rewrite(self, Some(&name.column));
        }
        self.source = Some(source);
        changed
    }
}

impl Source {
    /// What to send in place of a finding's statements. `named`: what the catalog calls the parent's column.
    fn rewrite(&self, finding: &Finding, named: Option<&str>) -> Option<String> {
        let parent = finding.parent.as_ref().map(|side| side.text.as_str());
        let names = named.into_iter().chain([&*self.result_name]);
        let keys = Keys {
            kind: finding.kind,
            parameter: finding.child.parameter.and_then(|parameter| parameter.checked_sub(1)),
            count: finding.count,
            type_name: self.type_name,
            joins: self.joins,
            limit: self.limit,
            parent,
            parent_column: parent.and_then(|parent| exported(&Text::new(parent), names)),
            varying: self.varying.clone(),
        };
        rewrite(&Text::new(&finding.child.text), &keys)
    }
}

fn text_of(directory: &dyn Directory, shape: ShapeId, strict: u64) -> Option<&str> {
    directory.shape(shape).filter(|(found, _)| *found == strict).map(|(_, text)| text)
}

fn parent_side(directory: &dyn Directory, scope: ScopeId, cause: &Cause) -> Option<Side> {
    let text = text_of(directory, cause.shape, cause.strict)?;
    let (table, column) = source_names(directory, scope, (cause.shape, cause.strict), &cause.column);
    Some(Side {
        fingerprint: format!("{:016x}", cause.strict),
        text: text.to_owned(),
        column: Some(qualified(table.as_deref(), &column)),
        parameter: None,
    })
}

fn child_side(text: &Text<'_>, record: &Record, parameter: Option<usize>) -> Side {
    let placeholder = parameter.and_then(|parameter| text.placeholder(parameter));
    let column = placeholder.and_then(|placeholder| text.column_of(placeholder));
    Side {
        fingerprint: format!("{:016x}", record.strict),
        text: text.text.to_owned(),
        column: column.map(|(table, column)| qualified(table, &column)),
        parameter: parameter.map(|parameter| parameter + 1),
    }
}

/// `events.id → logs.event_id = $1`
fn evidence(parent: &Side, child: &Side, text: &Text<'_>) -> Option<String> {
    let parameter = child.parameter?;
    let shown = if parameter <= text.parameters { format!("${parameter}") } else { "?".to_owned() };
    let to = child.column.as_ref().map_or(shown.clone(), |column| format!("{column} = {shown}"));
    Some(format!("{} → {to}", parent.column.as_deref()?))
}

fn qualified(table: Option<&str>, column: &str) -> String {
    table.map_or_else(|| column.to_owned(), |table| format!("{}.{column}", bare(table)))
}

/// Executions of the child that the cause explains; beyond what is remembered, the same share of all.
fn children(burst: &Burst, cause: Option<&Cause>) -> u64 {
    match cause {
        Some(cause) if burst.records.len() as u64 >= burst.count || cause.coverage < 0.95 => {
            (cause.coverage * burst.count as f64).round() as u64
        }
        _ => burst.count,
    }
}

/// Executions of the parent that this burst came from.
fn executions(burst: &Burst, cause: Option<&Cause>, samples: &Samples) -> u64 {
    let Some(cause) = cause else { return 0 };
    let marked = samples.iter().filter(|sample| {
        sample.family == cause.family
            && sample.cause_of == Some(burst.key.family)
            && sample.tenant == burst.key.tenant
            && sample.end_us <= burst.last_end_us
            && sample.end_us.saturating_add(super::causality::PARENT_US) >= burst.first_us
    });
    (marked.count() as u64).max(cause.serials.len() as u64)
}

/// The keys' type for a cast: the parameter's own if that was told, else that of the column that they come from, else what they
/// look like. `None`: it is the database's own, or nobody knows.
fn key_type(cause: &Cause, burst: &Burst, strict: u64, key: HashKey) -> Option<&'static str> {
    let (parameter, column) = (burst.type_of(strict, cause.parameter), cause.column.type_oid);
    match (parameter, column) {
        (0, 0) => look_of(burst, cause.parameter, key),
        (0, column) => name_of(column),
        // Some drivers bind the smallest integer that a value fits in.
        (parameter, column) if column != 0 && types::compare(parameter, column) => name_of(column),
        (parameter, _) => name_of(parameter),
    }
}

/// The type that all values of a parameter look like. A text may be anything that is written as one.
fn look_of(burst: &Burst, parameter: usize, key: HashKey) -> Option<&'static str> {
    let cells = || burst.records.iter().map(|record| record.cell(parameter)).filter(|cell| cell.is_comparable());
    if cells().all(|cell| cell.kind == CellKind::Uuid) {
        Some("uuid")
    } else if cells().all(|cell| cell.integer(key).is_some()) {
        Some("int8")
    } else {
        None
    }
}

/// The number after LIMIT, if it is always the same.
fn limit(text: &Text<'_>, burst: &Burst, key: HashKey) -> Option<i64> {
    let placeholder =
        text.placeholders.iter().find(|placeholder| placeholder.context == super::text::Context::Limit)?;
    let mut limits = burst.records.iter().map(|record| record.cell(placeholder.index).integer(key));
    let first = limits.next()??;
    limits.all(|limit| limit == Some(first)).then_some(first)
}

/// The parameters that differ between executions, and a type for each where one is known.
fn varying(burst: &Burst, strict: u64, key: HashKey) -> Vec<(usize, Option<&'static str>)> {
    let most = burst.records.iter().map(|record| usize::from(record.parameters)).max().unwrap_or(0);
    let first = burst.records.first();
    let differs = |parameter: &usize| {
        burst.records.iter().any(|record| Some(record.cell(*parameter)) != first.map(|first| first.cell(*parameter)))
    };
    let type_of = |parameter: usize| match burst.type_of(strict, parameter) {
        0 => look_of(burst, parameter, key),
        known => name_of(known),
    };
    (0..most).filter(differs).map(|parameter| (parameter, type_of(parameter))).collect()
}
