//! Statements for whoever looks at their durations again and again: without names, texts and the other counters.

use std::sync::Arc;

use super::histogram::Distribution;
use super::statement::{StatementCell, StatementText};
use super::{Telemetry, TenantId, lock};

/// One statement of one tenant, on all threads, since the process started: a reset of statistics does not touch it.
#[derive(Debug)]
pub struct Followed {
    cells: Box<[Arc<StatementCell>]>,
    /// Its strict fingerprint and its tenant.
    pub key: (u64, TenantId),
    /// Times run.
    pub calls: u64,
    /// When the last of them ended, in µs since 1970.
    pub last_seen_us: u64,
}

impl Followed {
    fn new(cells: &[Arc<StatementCell>]) -> Option<Self> {
        let key = key(cells.first()?);
        let calls = cells.iter().map(|cell| cell.calls.value()).sum();
        let last_seen_us = cells.iter().map(|cell| cell.last_seen_us.value()).max()?;
        Some(Self { cells: cells.into(), key, calls, last_seen_us })
    }

    /// How the server's part of its runs is distributed by now: without what they have waited for a server and for their
    /// clients, and without those that were answered by the cache.
    pub fn served(&self) -> Distribution {
        let mut all = Distribution::default();
        for cell in &self.cells {
            let of_thread = cell.sequence.read(|| {
                let mut served = Distribution::default();
                if let Some(spread) = cell.server.spread.get() {
                    spread.merge_into(&mut served);
                }
                served
            });
            all.merge(&of_thread);
        }
        all
    }

    /// What it is.
    pub fn statement(&self) -> Option<&StatementText> {
        self.cells.first().map(|cell| &*cell.statement.value)
    }

    /// When its first run began, in µs since 1970.
    pub fn first_seen_us(&self) -> u64 {
        self.cells.iter().filter_map(|cell| cell.first_seen_us.value()).min().unwrap_or(self.last_seen_us)
    }
}

impl Telemetry {
    /// Every statement of every tenant that there is, in no order, without the rows of all others.
    pub fn followed(&self) -> Vec<Followed> {
        let mut cells: Vec<Arc<StatementCell>> = Vec::new();
        for worker in self.each_worker() {
            cells.extend(lock(&worker.statements).iter().filter(|cell| key(cell).0 != 0).map(Arc::clone));
        }
        cells.sort_unstable_by_key(|cell| key(cell));
        cells.chunk_by(|a, b| key(a) == key(b)).filter_map(Followed::new).collect()
    }
}

fn key(cell: &StatementCell) -> (u64, TenantId) {
    (cell.statement.value.facts.strict, cell.tenant)
}

#[cfg(test)]
mod tests {
    use policy::statement::Class;

    use super::super::testing::{telemetry_with, tenants, unknown_facts};
    use super::super::{Bounds, Finished};
    use super::*;

    #[test]
    fn a_statement_is_followed_over_all_threads_and_resets() {
        let telemetry = telemetry_with(Bounds::default(), tenants(4));
        for (name, us) in [("0", 100), ("1", 9_000)] {
            let worker = telemetry.worker(name);
            for strict in [7, 0] {
                let text =
                    || StatementText { class: Class::Select, facts: unknown_facts(strict), text: "select".into() };
                worker.statement(strict, TenantId(1), text).record(&Finished {
                    start_us: us,
                    end_us: us + us,
                    // The one on the second thread was answered by the cache.
                    server_us: if us == 100 { 60 } else { 0 },
                    ..Finished::default()
                });
            }
        }
        telemetry.reset_statements(telemetry.clock.start_us());
        let followed = telemetry.followed();
        let [one] = followed.as_slice() else { panic!("{followed:?}") };
        assert_eq!((one.key, one.calls, one.last_seen_us), ((7, TenantId(1)), 2, 18_000));
        assert_eq!((one.served().count(), one.first_seen_us()), (1, 100));
        assert_eq!(one.served().filled().map(|(from_us, _)| from_us <= 60).collect::<Vec<_>>(), [true]);
        assert_eq!(one.statement().map(|statement| &*statement.text), Some("select"));
    }
}
