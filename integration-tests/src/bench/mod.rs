//! What a query costs: `pgbench -S` directly, through pgweir and through PgBouncer, alternating in one run.
//!
//! ```text
//!  for each round, for each load, for each way:   pgbench ──► way ──► PostgreSQL     medians over the rounds
//! ```
//! Rates and latencies are pgbench's own; processor time is what the kernel accounted to the pooler's process while
//! pgbench ran. Nothing is subtracted, scaled or left out.

pub mod bulk;
pub mod cache;
pub mod chart;
pub mod check;
pub mod idle;
pub mod logins;
pub mod machine;
pub mod options;
pub mod own;
pub mod pages;
pub mod papers;
pub mod peers;
pub mod pgbench;
pub mod report;
pub mod scrapes;
pub mod table;
pub mod ways;

pub use crate::demo::{Failure, Outcome};

/// How pgbench sends its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// One Query message.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync each time.
    Extended,
    /// Parsed once by name, then Bind, Execute, Sync.
    Prepared,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Simple, Self::Extended, Self::Prepared];

    /// Its name for `pgbench -M`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Extended => "extended",
            Self::Prepared => "prepared",
        }
    }
}

/// One row of the table before it knows its figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Client connections.
    pub clients: usize,
    /// How they send.
    pub mode: Mode,
}

/// Server connections that a pooler may open.
pub const UPSTREAMS: usize = 20;

/// Every load: one client for its latency, fewer clients than upstreams, and several times as many.
pub fn loads() -> Vec<Load> {
    let of = |clients| Mode::ALL.into_iter().map(move |mode| Load { clients, mode });
    std::iter::once(Load { clients: 1, mode: Mode::Simple }).chain(of(16)).chain(of(64)).collect()
}

/// What one run of pgbench gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Transactions (here: queries) a second, connecting not counted.
    pub tps: f64,
    /// Processor time of the pooler per query, in µs; zero for a direct run.
    pub cpu_micros: f64,
    /// Latency in µs that half, 95 % and 99 % of the sampled queries did not exceed.
    pub latency_micros: [u32; 3],
}

impl Sample {
    /// Each figure's own median.
    pub fn median(samples: &[Self]) -> Option<Self> {
        Some(Self {
            tps: middle(samples.iter().map(|sample| sample.tps))?,
            cpu_micros: middle(samples.iter().map(|sample| sample.cpu_micros))?,
            latency_micros: [
                middle(samples.iter().map(|sample| f64::from(sample.latency_micros[0])))? as u32,
                middle(samples.iter().map(|sample| f64::from(sample.latency_micros[1])))? as u32,
                middle(samples.iter().map(|sample| f64::from(sample.latency_micros[2])))? as u32,
            ],
        })
    }
}

/// The median: of an even number of values, the mean of the two in the middle.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_figure_by_figure() {
        let sample = |tps, cpu_micros| Sample { tps, cpu_micros, latency_micros: [1, 2, 3] };
        let median = Sample::median(&[sample(1.0, 30.0), sample(3.0, 10.0), sample(2.0, 20.0)]).unwrap();
        assert_eq!((median.tps, median.cpu_micros), (2.0, 20.0));
        assert_eq!(Sample::median(&[sample(1.0, 0.0), sample(2.0, 0.0)]).unwrap().tps, 1.5);
        assert_eq!(Sample::median(&[]), None);
    }
}
