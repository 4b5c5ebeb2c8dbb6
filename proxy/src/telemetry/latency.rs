//! How long statements took, by database and class of work.
//!
//! What a tenant's class came to has no database ([`usage`](super::usage)), and what a pool came to has no class: a slow
//! class that is slow in one of ten databases shows in neither. Databases are named by clients, so they are bounded.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::histogram::{Distribution, Histogram};
use super::snapshot::OTHERS;
use super::{Telemetry, WorkerTelemetry, lock};

/// Databases that are told apart; further ones share one row for each class.
pub const MAX_DATABASES: usize = 100;

/// The times of one class of work in one database on one thread.
#[derive(Debug)]
pub(super) struct LatencyCell {
    database: Box<str>,
    class: Box<str>,
    durations: Histogram,
}

/// The cells that a thread has registered for readers: a few dozen at most, as classes come from the configuration.
pub(super) type RegisteredLatencies = Mutex<Vec<Arc<LatencyCell>>>;

/// A thread's handle to those times. Cheap to clone; cannot leave its thread, because the cell has one writer.
#[derive(Debug, Clone)]
pub struct LatencyMeter {
    cell: Arc<LatencyCell>,
    one_thread: PhantomData<Rc<()>>,
}

impl LatencyMeter {
    /// Counts one finished statement. No allocation, no lock, no clock.
    #[inline]
    pub fn record(&self, total_us: u64) {
        self.cell.durations.record(total_us);
    }
}

impl WorkerTelemetry {
    /// This thread's times of a class of work in a database. Miss path: keep the meter.
    pub fn latency(&self, database: &str, class: &str) -> LatencyMeter {
        let known = self.telemetry().latency_databases.intern(database.into(), || database.into());
        let database = if known.id == 0 { OTHERS } else { database };
        let mut cells = lock(&self.shared.latencies);
        let same = |cell: &&Arc<LatencyCell>| *cell.database == *database && *cell.class == *class;
        let cell = cells.iter().find(same).cloned().unwrap_or_else(|| {
            let new = Arc::new(LatencyCell {
                database: database.into(),
                class: class.into(),
                durations: Histogram::default(),
            });
            cells.push(Arc::clone(&new));
            new
        });
        LatencyMeter { cell, one_thread: PhantomData }
    }
}

impl Telemetry {
    /// The times of each class of work in each database in which a statement of it has run, of all threads together.
    pub fn latencies(&self) -> BTreeMap<(String, String), Distribution> {
        let mut rows: BTreeMap<(String, String), Distribution> = BTreeMap::new();
        for worker in self.each_worker() {
            let cells = lock(&worker.latencies).clone();
            for cell in &cells {
                let row = rows.entry((cell.database.to_string(), cell.class.to_string())).or_default();
                cell.durations.merge_into(row);
            }
        }
        rows.retain(|_, durations| durations.count() > 0);
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::super::testing::{telemetry_with, tenants};
    use super::*;

    fn rows(telemetry: &Telemetry) -> Vec<(String, String, u64, u64)> {
        let rows = telemetry.latencies().into_iter();
        rows.map(|((database, class), times)| (database, class, times.count(), times.sum_us)).collect()
    }

    #[test]
    fn times_are_told_apart_by_database_and_class_and_added_up_over_threads() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        for name in ["0", "1"] {
            let worker = telemetry.worker(name);
            worker.latency("app", "web").record(100);
            worker.latency("app", "web").record(50);
            worker.latency("app", "batch").record(7);
            worker.latency("other", "web").record(1_000);
            worker.latency("unused", "web");
        }
        let row = |database: &str, class: &str, count, sum| (database.to_owned(), class.to_owned(), count, sum);
        let expected = [row("app", "batch", 2, 14), row("app", "web", 4, 300), row("other", "web", 2, 2_000)];
        assert_eq!(rows(&telemetry), expected);
    }

    #[test]
    fn databases_that_clients_invent_share_a_row() {
        let telemetry = telemetry_with(Bounds::default(), tenants(1));
        let worker = telemetry.worker("0");
        for n in 0..MAX_DATABASES + 50 {
            worker.latency(&format!("made up {n}"), "web").record(1);
        }
        let all = rows(&telemetry);
        assert_eq!(all.len(), MAX_DATABASES + 1);
        assert_eq!(all.iter().find(|row| row.0 == OTHERS).map(|row| row.2), Some(50));
        // A thread that asks again gets the same row.
        worker.latency("made up 0", "web").record(1);
        assert_eq!(rows(&telemetry).len(), MAX_DATABASES + 1);
        assert_eq!(lock(&worker.shared.latencies).len(), MAX_DATABASES + 1);
    }
}
