//! Who leaves what on server connections: the statements that cost a pinned or a reset connection, or were refused.

use std::collections::HashMap;
use std::sync::Mutex;

use serde::Serialize;

use super::lock;

/// Rows kept; the row that was seen longest ago goes.
const MAX_ROWS: usize = 1_000;

/// What happened, and to whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Untracked {
    /// What was left: a label of [`PinReason`](super::PinReason).
    pub reason: &'static str,
    /// `pin`, `discard` or `reject`.
    pub answer: &'static str,
    /// The client's database.
    pub database: Box<str>,
    /// The client's user.
    pub user: Box<str>,
    /// Its tenant.
    pub tenant: Box<str>,
    /// Its `application_name`.
    pub application: Box<str>,
    /// The strict fingerprint of the statement; 0: not known.
    #[serde(skip)]
    pub fingerprint: u64,
}

/// How often, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Times.
    pub count: u64,
    /// First time, in µs on the telemetry clock.
    pub first_us: u64,
    /// Last time, in µs on the telemetry clock.
    pub last_us: u64,
    /// The client that did it last.
    pub client: u64,
}

/// All that has happened. Written by sessions off the path of ordinary statements: each entry stands for a connection
/// that was kept or reset, which costs a thousand times as much as the lock.
#[derive(Debug, Default)]
pub struct UntrackedLog {
    rows: Mutex<HashMap<Untracked, Seen>>,
}

impl UntrackedLog {
    /// It has happened once more.
    pub fn note(&self, what: Untracked, client: u64, now_us: u64) {
        let mut rows = lock(&self.rows);
        if rows.len() >= MAX_ROWS && !rows.contains_key(&what) {
            let oldest = rows.iter().min_by_key(|(_, seen)| seen.last_us).map(|(row, _)| row.clone());
            oldest.map(|oldest| rows.remove(&oldest));
        }
        let seen = rows.entry(what).or_insert(Seen { count: 0, first_us: now_us, last_us: now_us, client });
        seen.count += 1;
        seen.last_us = now_us;
        seen.client = client;
    }

    /// Everything, the latest first.
    pub fn rows(&self) -> Vec<(Untracked, Seen)> {
        let mut rows: Vec<_> = lock(&self.rows).iter().map(|(row, seen)| (row.clone(), *seen)).collect();
        rows.sort_by_key(|(row, seen)| (std::cmp::Reverse(seen.last_us), row.fingerprint));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_counted_and_the_oldest_goes() {
        let log = UntrackedLog::default();
        let what = |fingerprint| Untracked {
            reason: "load",
            answer: "pin",
            database: "shop".into(),
            user: "anna".into(),
            tenant: "acme".into(),
            application: "worker".into(),
            fingerprint,
        };
        for n in 0..MAX_ROWS as u64 + 5 {
            log.note(what(n), 7, n);
        }
        log.note(what(900), 8, 5_000);
        let rows = log.rows();
        assert_eq!(rows.len(), MAX_ROWS);
        let (first, seen) = &rows[0];
        assert_eq!((first.fingerprint, *seen), (900, Seen { count: 2, first_us: 900, last_us: 5_000, client: 8 }));
        assert!(rows.iter().all(|(row, _)| row.fingerprint >= 5));
    }
}
