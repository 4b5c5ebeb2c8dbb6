//! Findings under the names that the catalog has for their columns.

use std::borrow::Cow;
use std::collections::VecDeque;

use policy::finding::Finding;

use super::FindingsStore;
use crate::column_names::{ColumnNames, Place};

/// How long a line of the log waits for a name.
const PATIENCE_US: u64 = 2_000_000;
/// Lines that wait; further ones are written at once.
const MAX_WAITING: usize = 100;

/// Where the values of a finding come from.
pub(super) fn place(finding: &Finding) -> Option<Place> {
    let source = finding.source.as_ref()?;
    Some(Place { database: finding.database.clone(), table_oid: source.table_oid, attribute: source.attribute })
}

/// A finding that is told, under its column's name if that is known; otherwise that is asked for.
pub(super) fn named<'a>(finding: &'a Finding, names: &ColumnNames, now_us: u64) -> Cow<'a, Finding> {
    let name = place(finding).and_then(|place| names.find(&place, &finding.user, now_us));
    let Some(name) = name else { return Cow::Borrowed(finding) };
    let mut finding = finding.clone();
    finding.name_source(&name);
    Cow::Owned(finding)
}

/// Carries over what has been answered.
pub(super) fn take_names(names: &ColumnNames, findings: &FindingsStore) {
    for (place, name) in names.arrived() {
        let is_its = |finding: &Finding| self::place(finding).as_ref() == Some(&place);
        findings.change_each(is_its, |finding| finding.name_source(&name));
    }
}

/// Findings whose line in the log waits for a name, by their ids, with when they began to.
#[derive(Debug, Default)]
pub(super) struct Untold(VecDeque<(String, u64)>);

impl Untold {
    /// Adds those that are to be told, and gives back those whose line can be written now, in their order; all of them if
    /// this is the `last` time.
    pub(super) fn due(
        &mut self,
        more: impl Iterator<Item = Finding>,
        names: &ColumnNames,
        findings: &FindingsStore,
        now_us: u64,
        last: bool,
    ) -> Vec<String> {
        self.0.extend(more.map(|finding| (finding.id, now_us)));
        let over = self.0.len().saturating_sub(MAX_WAITING);
        let (mut due, mut wait) = (Vec::new(), VecDeque::new());
        for (number, (id, since_us)) in std::mem::take(&mut self.0).into_iter().enumerate() {
            let patient = !last && number >= over && now_us < since_us.saturating_add(PATIENCE_US);
            let kept = findings.find(&id).filter(|_| patient);
            let place = kept.and_then(|kept| place(&kept.finding));
            if place.is_some_and(|place| names.is_waited_for(&place)) {
                wait.push_back((id, since_us));
            } else {
                due.push(id);
            }
        }
        self.0 = wait;
        due
    }
}
