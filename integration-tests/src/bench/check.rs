//! What was promised, held against what was measured.
//!
//! A figure has one value for each round: mostly pgweir's share of PgBouncer's, for both met the same machine in it. The
//! median of the rounds counts. It is missed when it is beyond its bound by more than the rounds differ among themselves.

use super::bulk::Flow;
use super::cache::figures::{self as cached, Cached};
use super::idle::{self, Held};
use super::logins::PACE;
use super::options::Part;
use super::pages::{Page, TIMES};
use super::scrapes::{STATEMENTS, TENANTS};
use super::{Load, Mode, own};

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
    /// Share of a processor that all idle clients together keep busy.
    Busy(Held),
    /// Bytes a second of a large flow.
    Throughput(Flow),
    /// Processor time per byte of a large flow.
    FlowCpu(Flow),
    /// Processor time per query that observing adds.
    Observing(Load),
    /// Queries a second with detection of N+1, beside those without.
    Detecting(Load),
    /// Processor time per query that rules and limits add.
    Policing(Load),
    /// Processor time per query with two workers, beside that with one.
    TwoWorkers(Load),
    /// 99th percentile of the latency while others log in, beside that without.
    P99AmongLogins,
    /// Workers' processor time per query while others log in, beside that without.
    WorkersAmongLogins,
    /// 99th percentile of the latency while others log in, beside that while they log in at another process.
    P99OfLogins,
    /// Workers' processor time per query, beside the same.
    WorkersOfLogins,
    /// Workers' processor time per query while the admin port is asked every second, beside that without.
    WorkersWatched,
    /// 99th percentile of the latency meanwhile, beside that without.
    P99Watched,
    /// Time of a scrape.
    Scrape,
    /// What the read cache brings or costs.
    Cache(Cached),
    /// Longest time of a page of the dashboard.
    Page(Page),
}

/// What the values of a figure count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Shares of the same figure of another, in the words for whose it is.
    ShareOf(&'static str),
    /// Percent of one processor.
    Percent,
    /// Microseconds.
    Micros,
    /// Milliseconds.
    Millis,
}

impl Unit {
    /// As it stands behind a number.
    pub fn name(self) -> String {
        match self {
            Self::ShareOf(whose) => format!("× {whose}"),
            Self::Percent => "%".to_owned(),
            Self::Micros => "µs".to_owned(),
            Self::Millis => "ms".to_owned(),
        }
    }
}

/// What is promised of a figure's value, in its unit.
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
    promises.push((Figure::Memory(Held::Tls), AtMost(0.6)));
    promises.extend(Held::ALL.map(|held| (Figure::Busy(held), AtMost(0.1))));
    promises.extend(Flow::ALL.map(|flow| (Figure::Throughput(flow), AtLeast(1.0))));
    promises.extend(Flow::ALL.map(|flow| (Figure::FlowCpu(flow), AtMost(1.0))));
    promises.extend(own::LOADS.map(|load| (Figure::Observing(load), AtMost(0.3))));
    promises.extend(own::LOADS.map(|load| (Figure::Detecting(load), AtLeast(0.99))));
    promises.extend(own::LOADS.map(|load| (Figure::Policing(load), AtMost(0.1))));
    promises.extend(own::LOADS.map(|load| (Figure::TwoWorkers(load), AtMost(1.05))));
    promises.push((Figure::P99AmongLogins, AtMost(1.1)));
    promises.push((Figure::WorkersAmongLogins, AtMost(1.05)));
    promises.push((Figure::P99OfLogins, AtMost(1.1)));
    promises.push((Figure::WorkersOfLogins, AtMost(1.05)));
    promises.push((Figure::WorkersWatched, AtMost(1.01)));
    promises.push((Figure::P99Watched, AtMost(1.1)));
    promises.push((Figure::Scrape, AtMost(20.0)));
    promises.extend(cached::promises().into_iter().map(|(figure, bound)| (Figure::Cache(figure), bound)));
    promises.extend(Page::ALL.map(|page| (Figure::Page(page), AtMost(100.0))));
    promises
}

/// How it stands with one promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The median of the rounds' values.
    pub value: f64,
    /// How far half of the rounds are from it.
    pub noise: f64,
    /// Whether the promise is kept, given the noise.
    pub kept: bool,
}

/// Judges the values of all rounds; `None`: there are none.
pub fn judge(values: &[f64], bound: Bound) -> Option<Outcome> {
    let value = super::middle(values.iter().copied())?;
    let noise = super::middle(values.iter().map(|other| (other - value).abs()))?;
    let kept = match bound {
        Bound::AtMost(most) => value - noise <= most,
        Bound::AtLeast(least) => value + noise >= least,
    };
    Some(Outcome { value, noise, kept })
}

impl Bound {
    /// As the table says it.
    pub fn name(self, unit: Unit) -> String {
        let unit = unit.name();
        match self {
            Self::AtMost(most) => format!("≤ {most:.2} {unit}"),
            Self::AtLeast(least) => format!("≥ {least:.2} {unit}"),
        }
    }
}

impl Figure {
    /// The part of the benchmark that measures it.
    pub fn part(self) -> Part {
        match self {
            Self::Cpu(_) | Self::Rate(_) | Self::Median(_) | Self::P99(_) => Part::Loads,
            Self::Memory(_) | Self::Busy(_) => Part::Idle,
            Self::Throughput(_) | Self::FlowCpu(_) => Part::Bulk,
            Self::Observing(_)
            | Self::Detecting(_)
            | Self::Policing(_)
            | Self::TwoWorkers(_)
            | Self::P99AmongLogins
            | Self::WorkersAmongLogins
            | Self::P99OfLogins
            | Self::WorkersOfLogins => Part::Own,
            Self::WorkersWatched | Self::P99Watched | Self::Scrape | Self::Page(_) => Part::Admin,
            Self::Cache(_) => Part::Cache,
        }
    }

    /// What its values count.
    pub fn unit(self) -> Unit {
        match self {
            Self::Cpu(_)
            | Self::Rate(_)
            | Self::Median(_)
            | Self::P99(_)
            | Self::Memory(_)
            | Self::Throughput(_)
            | Self::FlowCpu(_) => Unit::ShareOf("PgBouncer's"),
            Self::Busy(_) => Unit::Percent,
            Self::Observing(_) | Self::Policing(_) => Unit::Micros,
            Self::Detecting(_) => Unit::ShareOf("those without"),
            Self::TwoWorkers(_) => Unit::ShareOf("one worker's"),
            Self::P99AmongLogins | Self::WorkersAmongLogins => Unit::ShareOf("that without them"),
            Self::P99OfLogins | Self::WorkersOfLogins => Unit::ShareOf("that with them at another process"),
            Self::WorkersWatched | Self::P99Watched => Unit::ShareOf("that without"),
            Self::Scrape | Self::Page(_) => Unit::Millis,
            Self::Cache(figure) => figure.unit(),
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
            Self::Busy(held) => format!("processor kept busy by {} idle clients, {}", idle::CLIENTS, held.name()),
            Self::Throughput(flow) => format!("bytes a second, {}", flow.name()),
            Self::FlowCpu(flow) => format!("CPU per byte, {}", flow.name()),
            Self::Observing(load) => of("CPU per query that observing adds", load),
            Self::Detecting(load) => of("queries a second with detection of N+1", load),
            Self::Policing(load) => of("CPU per query that rules and limits add", load),
            Self::TwoWorkers(load) => of("CPU per query with two workers", load),
            Self::P99OfLogins => of(&format!("p99 latency, {PACE} logins a minute"), own::BESIDE_LOGINS),
            Self::WorkersOfLogins => of(&format!("workers' CPU per query, {PACE} logins a minute"), own::BESIDE_LOGINS),
            Self::P99AmongLogins => of(&format!("p99 latency among {PACE} logins a minute"), own::BESIDE_LOGINS),
            Self::WorkersAmongLogins => {
                of(&format!("workers' CPU per query among {PACE} logins a minute"), own::BESIDE_LOGINS)
            }
            Self::WorkersWatched => {
                of("workers' CPU per query while the admin port is asked every second", own::BESIDE_SCRAPES)
            }
            Self::P99Watched => of("p99 latency while the admin port is asked every second", own::BESIDE_SCRAPES),
            Self::Scrape => format!("a scrape of {STATEMENTS} statements of {TENANTS} tenants under load"),
            Self::Cache(figure) => figure.name(),
            Self::Page(page) => format!("the page `{}`, the worst of {TIMES}", page.path()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_is_missed_only_beyond_the_noise() {
        let kept = |values: &[f64], bound| judge(values, bound).unwrap().kept;
        assert!(kept(&[0.9, 0.95, 1.0], Bound::AtMost(0.95)));
        assert!(kept(&[0.9, 1.0, 1.1], Bound::AtMost(0.95)), "the rounds differ by 0.1");
        assert!(!kept(&[1.0, 1.01, 1.0], Bound::AtMost(0.95)));
        assert!(!kept(&[0.9, 0.91, 0.9], Bound::AtLeast(1.0)));
        assert!(kept(&[1.2, 1.1, 1.3], Bound::AtLeast(1.0)));
        assert_eq!(judge(&[], Bound::AtLeast(1.0)), None);
    }

    #[test]
    fn a_bound_is_shown_in_the_unit_of_its_figure() {
        let shown = |figure: Figure, bound: Bound| bound.name(figure.unit());
        let load = Load { clients: 16, mode: Mode::Simple };
        assert_eq!(shown(Figure::Cpu(load), Bound::AtMost(0.95)), "≤ 0.95 × PgBouncer's");
        assert_eq!(shown(Figure::Rate(load), Bound::AtLeast(1.0)), "≥ 1.00 × PgBouncer's");
        assert_eq!(shown(Figure::Busy(Held::Tls), Bound::AtMost(0.1)), "≤ 0.10 %");
        assert_eq!(shown(Figure::Observing(load), Bound::AtMost(0.3)), "≤ 0.30 µs");
        assert_eq!(shown(Figure::Policing(load), Bound::AtMost(0.1)), "≤ 0.10 µs");
        assert_eq!(shown(Figure::Detecting(load), Bound::AtLeast(0.99)), "≥ 0.99 × those without");
        assert_eq!(shown(Figure::TwoWorkers(load), Bound::AtMost(1.05)), "≤ 1.05 × one worker's");
    }

    #[test]
    fn every_promise_is_made_once() {
        let promises = promises();
        for (at, (figure, _)) in promises.iter().enumerate() {
            assert!(promises.iter().skip(at + 1).all(|(other, _)| other != figure), "{}", figure.name());
        }
    }
}
