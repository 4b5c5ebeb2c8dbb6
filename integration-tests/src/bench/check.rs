//! What was promised, held against what was measured.
//!
//! A figure is the ratio of pgweir's to PgBouncer's within one round, where both met the same machine; the median of the
//! rounds counts. It is missed when it is beyond its bound by more than the rounds differ among themselves.

use super::bulk::Flow;
use super::idle::Held;
use super::options::Part;
use super::{Load, Mode};

/// A figure of which there is a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Processor time of the pooler per query.
    Cpu(Load),
    /// Queries a second.
    Rate(Load),
    /// Median latency.
    Median(Load),
    /// 99th percentile of the latency.
    P99(Load),
    /// Memory per idle client.
    Memory(Held),
    /// Bytes a second of a large flow.
    Throughput(Flow),
    /// Processor time per byte of a large flow.
    FlowCpu(Flow),
}

/// What is promised of a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// It is at most this.
    AtMost(f64),
    /// It is at least this.
    AtLeast(f64),
}

/// Every promise, in the order in which it is shown.
pub fn promises() -> Vec<(Figure, Bound)> {
    use Bound::{AtLeast, AtMost};
    let load = |clients, mode| Load { clients, mode };
    let mut promises = vec![
        (Figure::Cpu(load(16, Mode::Simple)), AtMost(0.95)),
        (Figure::Cpu(load(16, Mode::Extended)), AtMost(0.95)),
        (Figure::Cpu(load(16, Mode::Prepared)), AtMost(0.75)),
        (Figure::Cpu(load(64, Mode::Simple)), AtMost(0.90)),
        (Figure::Cpu(load(64, Mode::Prepared)), AtMost(0.70)),
    ];
    promises.extend([16, 64].into_iter().flat_map(|clients| {
        Mode::ALL.into_iter().map(move |mode| (Figure::Rate(Load { clients, mode }), AtLeast(1.0)))
    }));
    promises.push((Figure::Median(load(1, Mode::Simple)), AtMost(1.0)));
    promises.push((Figure::P99(load(1, Mode::Simple)), AtMost(1.1)));
    promises.push((Figure::Memory(Held::Nothing), AtMost(1.0)));
    promises.push((Figure::Memory(Held::Statement), AtMost(0.7)));
    promises.extend(Flow::ALL.map(|flow| (Figure::Throughput(flow), AtLeast(1.0))));
    promises.extend(Flow::ALL.map(|flow| (Figure::FlowCpu(flow), AtMost(1.0))));
    promises
}

/// How it stands with one promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The median of the rounds' ratios.
    pub ratio: f64,
    /// How far half of the rounds are from it.
    pub noise: f64,
    /// Whether the promise is kept, given the noise.
    pub kept: bool,
}

/// Judges the ratios of all rounds; `None`: there are none.
pub fn judge(ratios: &[f64], bound: Bound) -> Option<Outcome> {
    let ratio = super::middle(ratios.iter().copied())?;
    let noise = super::middle(ratios.iter().map(|other| (other - ratio).abs()))?;
    let kept = match bound {
        Bound::AtMost(most) => ratio - noise <= most,
        Bound::AtLeast(least) => ratio + noise >= least,
    };
    Some(Outcome { ratio, noise, kept })
}

impl Figure {
    /// The part of the benchmark that measures it.
    pub fn part(self) -> Part {
        match self {
            Self::Cpu(_) | Self::Rate(_) | Self::Median(_) | Self::P99(_) => Part::Loads,
            Self::Memory(_) => Part::Idle,
            Self::Throughput(_) | Self::FlowCpu(_) => Part::Bulk,
        }
    }

    /// As people call it.
    pub fn name(self) -> String {
        let of = |what: &str, load: Load| format!("{what}, {} clients, {}", load.clients, load.mode.name());
        match self {
            Self::Cpu(load) => of("CPU per query", load),
            Self::Rate(load) => of("queries a second", load),
            Self::Median(load) => of("median latency", load),
            Self::P99(load) => of("p99 latency", load),
            Self::Memory(held) => format!("memory per idle client, {}", held.name()),
            Self::Throughput(flow) => format!("bytes a second, {}", flow.name()),
            Self::FlowCpu(flow) => format!("CPU per byte, {}", flow.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_missed_only_beyond_the_noise() {
        let kept = |ratios: &[f64], bound| judge(ratios, bound).unwrap().kept;
        assert!(kept(&[0.9, 0.95, 1.0], Bound::AtMost(0.95)));
        assert!(kept(&[0.9, 1.0, 1.1], Bound::AtMost(0.95)), "the rounds differ by 0.1");
        assert!(!kept(&[1.0, 1.01, 1.0], Bound::AtMost(0.95)));
        assert!(!kept(&[0.9, 0.91, 0.9], Bound::AtLeast(1.0)));
        assert!(kept(&[1.2, 1.1, 1.3], Bound::AtLeast(1.0)));
        assert_eq!(judge(&[], Bound::AtLeast(1.0)), None);
    }

    #[test]
    fn every_promise_is_made_once() {
        let promises = promises();
        for (at, (figure, _)) in promises.iter().enumerate() {
            assert!(promises.iter().skip(at + 1).all(|(other, _)| other != figure), "{}", figure.name());
        }
    }
}
