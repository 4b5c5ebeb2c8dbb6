//! What the clients saw.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The shapes of the engine's traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    /// A page's own query.
    Page,
    /// One of the queries that a page sends for each row of its first: the N+1.
    PageChild,
    /// A worker asks the queue for a job.
    Poll,
    /// A worker writes what a step did, in a transaction.
    Step,
    /// A webhook starts a run, in a transaction.
    Webhook,
    /// A live log asks for lines newer than the last one it has.
    Follow,
    /// A search without an index.
    Search,
    /// A tenant's export by COPY.
    Export,
    /// An ordinary statement of the tenant with a statement timeout.
    Report,
}

impl Shape {
    /// Every shape, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Page,
        Self::PageChild,
        Self::Poll,
        Self::Step,
        Self::Webhook,
        Self::Follow,
        Self::Search,
        Self::Export,
        Self::Report,
    ];

    /// Its name in the report.
    pub fn label(self) -> &'static str {
        match self {
            Self::Page => "dashboard page",
            Self::PageChild => "dashboard N+1 children",
            Self::Poll => "queue poll (SKIP LOCKED)",
            Self::Step => "step and event inserts",
            Self::Webhook => "webhook transactions",
            Self::Follow => "live log",
            Self::Search => "search without an index",
            Self::Export => "export by COPY",
            Self::Report => "the limited tenant's own",
        }
    }
}

/// One statement that went beyond the tenant's limit, and what was left afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overrun {
    /// How long the client waited.
    pub waited: Duration,
    /// SQLSTATE and DETAIL of the error; `None`: the statement was let through to its end.
    pub refused: Option<(String, String)>,
    /// The server connection before and after, for statements inside a transaction.
    pub server_pids: Option<(i32, i32)>,
    /// The same client connection answered the next statement.
    pub client_kept: bool,
}

/// Everything that was counted.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Microseconds that each statement took, by shape.
    pub latencies: BTreeMap<Shape, Vec<u32>>,
    /// Statements that were answered, those that open and close transactions included.
    pub statements: u64,
    /// Errors that nobody expected.
    pub errors: u64,
    /// The first few of them.
    pub first_errors: Vec<String>,
    /// Rows whose tenant was compared with the client's.
    pub rows_checked: u64,
    /// Rows of somebody else's: must be none.
    pub rows_foreign: u64,
    /// Pages of a dashboard, each with a burst of child queries.
    pub pages: u64,
    /// Jobs that workers finished.
    pub jobs_done: u64,
    /// Rows that exports received.
    pub rows_exported: u64,
    /// Bytes that exports received.
    pub bytes_exported: u64,
    /// Statements beyond the tenant's limit.
    pub overruns: Vec<Overrun>,
}

impl Figures {
    /// Statements of one shape that were answered.
    pub fn count(&self, shape: Shape) -> usize {
        self.latencies.get(&shape).map_or(0, Vec::len)
    }

    /// The latency that `percent` of a shape's statements did not exceed (nearest rank); `None` if there were none.
    pub fn percentile(&self, shape: Shape, percent: f64) -> Option<Duration> {
        let mut sorted = self.latencies.get(&shape)?.clone();
        sorted.sort_unstable();
        nearest_rank(&sorted, percent).map(|micros| Duration::from_micros(u64::from(micros)))
    }
}

/// The value at the nearest rank of a sorted list.
pub fn nearest_rank<T: Copy>(sorted: &[T], percent: f64) -> Option<T> {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(sorted.len().saturating_sub(1))).copied()
}

/// Where all clients of a run count together.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Figures>);

impl Tally {
    /// Changes the figures.
    pub fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// One answered statement.
    pub fn answered(&self, shape: Shape, took: Duration) {
        self.count(|figures| {
            figures.statements += 1;
            let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
            figures.latencies.entry(shape).or_default().push(micros);
        });
    }

    /// An error that nobody expected.
    pub fn failed(&self, doing: &str, error: &dyn std::error::Error) {
        self.count(|figures| {
            figures.errors += 1;
            if figures.first_errors.len() < 5 {
                let cause = error.source().map_or(String::new(), |cause| format!(": {cause}"));
                figures.first_errors.push(format!("{doing}: {error}{cause}"));
            }
        });
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Statements answered so far, without copying the rest.
    pub fn statements(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).statements
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let tally = Tally::default();
        for millis in [5, 1, 4, 2, 3] {
            tally.answered(Shape::Poll, Duration::from_millis(millis));
        }
        let figures = tally.figures();
        assert_eq!(figures.percentile(Shape::Poll, 50.0), Some(Duration::from_millis(3)));
        assert_eq!(figures.percentile(Shape::Poll, 99.0), Some(Duration::from_millis(5)));
        assert_eq!(figures.percentile(Shape::Poll, 0.0), Some(Duration::from_millis(1)));
        assert_eq!(figures.percentile(Shape::Page, 50.0), None);
        assert_eq!((figures.statements, figures.count(Shape::Poll)), (5, 5));
    }

    #[test]
    fn errors_are_all_counted_and_a_few_kept() {
        let tally = Tally::default();
        for _ in 0..9 {
            tally.failed("polling", &std::io::Error::other("gone"));
        }
        let figures = tally.figures();
        assert_eq!((figures.errors, figures.first_errors.len()), (9, 5));
        assert_eq!(figures.first_errors[0], "polling: gone");
    }
}
