//! The findings that are kept for operators: bounded, newest first to stay.

use std::collections::HashMap;
use std::sync::Mutex;

use policy::finding::{Finding, Kind};

use crate::telemetry::lock;

/// Findings by their stable id. Written by the analyst, read by the admin port.
#[derive(Debug)]
pub struct FindingsStore {
    inner: Mutex<Inner>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Finding>,
    dropped: u64,
}

impl FindingsStore {
    /// An empty store for at most `capacity` findings.
    pub fn new(capacity: usize) -> Self {
        Self { inner: Mutex::default(), capacity }
    }

    /// Takes a finding; one of the same id is replaced, whose counters it carries on. When there is no room the one
    /// that was not seen for longest goes. Whether the id is new here.
    pub fn insert(&self, finding: Finding) -> bool {
        let mut inner = lock(&self.inner);
        if inner.by_id.len() >= self.capacity && !inner.by_id.contains_key(&finding.id) {
            let oldest = inner.by_id.values().min_by_key(|known| known.last_seen).map(|known| known.id.clone());
            inner.dropped += 1;
            match oldest {
                Some(id) => inner.by_id.remove(&id),
                None => return false,
            };
        }
        inner.by_id.insert(finding.id.clone(), finding).is_none()
    }

    /// Takes over the counters of findings that are in here, from those that have moved on. New ones are left to
    /// [`FindingsStore::insert`].
    pub fn refresh<'a>(&self, findings: impl Iterator<Item = &'a Finding>) {
        let mut inner = lock(&self.inner);
        for finding in findings {
            if let Some(known) = inner.by_id.get_mut(&finding.id)
                && known.last_seen < finding.last_seen
            {
                finding.clone_into(known);
            }
        }
    }

    /// The findings that `wanted` picks: the gravest first, of those the latest first.
    pub fn list(&self, wanted: impl Fn(&Finding) -> bool) -> Vec<Finding> {
        let mut list: Vec<_> = lock(&self.inner).by_id.values().filter(|finding| wanted(finding)).cloned().collect();
        list.sort_by(|a, b| (b.severity, b.last_seen, &a.id).cmp(&(a.severity, a.last_seen, &b.id)));
        list
    }

    /// Findings kept, by kind.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let inner = lock(&self.inner);
        let count = |kind: Kind| inner.by_id.values().filter(|finding| finding.kind == kind).count() as u64;
        Kind::ALL.into_iter().map(|kind| (kind.name(), count(kind))).collect()
    }

    /// Findings that went to make room for newer ones.
    pub fn dropped(&self) -> u64 {
        lock(&self.inner).dropped
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use policy::finding::{Severity, Side, Timestamp};

    use super::*;

    /// A finding to store.
    pub(crate) fn finding(id: &str, tenant: &str, last_seen: u64) -> Finding {
        let side = |text: &str, column: &str, parameter| Side {
            fingerprint: format!("{:016x}", text.len()),
            text: text.into(),
            column: Some(column.into()),
            parameter,
        };
        Finding {
            id: id.into(),
            kind: Kind::NPlusOne,
            severity: Severity::High,
            tenant: tenant.into(),
            database: "app".into(),
            user: "app".into(),
            application: "web".into(),
            client: "10.0.0.7".into(),
            route: None,
            traced: false,
            parent: Some(side("select id from events", "events.id", None)),
            child: side("select body from logs where event_id = $1", "logs.event_id", Some(1)),
            evidence: Some("events.id → logs.event_id = $1".into()),
            count: 97,
            parent_executions: 1,
            connections: 20,
            wasted_ms: 41.2,
            occurrences: 3,
            statements: 291,
            per_minute: 1,
            first_seen: Timestamp(1),
            last_seen: Timestamp(last_seen),
            rewrite: None,
            detail: None,
        }
    }

    #[test]
    fn an_id_is_kept_once_and_the_newest_wins() {
        let store = FindingsStore::new(10);
        assert!(store.insert(finding("a", "acme", 1)));
        assert!(!store.insert(finding("a", "acme", 2)));
        let list = store.list(|_| true);
        assert_eq!((list.len(), list[0].last_seen), (1, Timestamp(2)));
        assert_eq!(store.counts()[0], ("n_plus_one", 1));
    }

    #[test]
    fn the_one_unseen_for_longest_makes_room() {
        let store = FindingsStore::new(2);
        for (id, seen) in [("a", 5), ("b", 1), ("c", 9)] {
            store.insert(finding(id, "acme", seen));
        }
        let ids: Vec<_> = store.list(|_| true).into_iter().map(|finding| finding.id).collect();
        assert_eq!((ids, store.dropped()), (vec!["c".to_owned(), "a".to_owned()], 1));
    }
}
