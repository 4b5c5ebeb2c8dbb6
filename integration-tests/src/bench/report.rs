//! Everything that one run has measured, in the forms in which it is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::bulk::{Bulk, Flow};
use super::cache::results::Results as CacheResults;
use super::check::{Bound, Figure, Outcome, judge, promises};
use super::idle::{CLIENTS, Held, Idle};
use super::options::Part;
use super::own::{BESIDE_LOGINS, BESIDE_SCRAPES, Own, Side};
use super::pages::{Page, TIMES, Times};
use super::scrapes::{STATEMENTS, TENANTS};
use super::table::Results;
use super::{Load, Sample, middle};

/// The two that promises compare.
const OURS: &str = "pgweir";
const THEIRS: &str = "PgBouncer";

/// What was measured, round by round.
#[derive(Debug, Default)]
pub struct Report {
    /// Loads of pgbench.
    pub loads: Results,
    idle: BTreeMap<(Held, &'static str), Vec<Idle>>,
    bulk: BTreeMap<(Flow, &'static str), Vec<Bulk>>,
    own: BTreeMap<(Load, Side), Vec<Own>>,
    /// Of the read cache.
    pub cache: CacheResults,
    pages: BTreeMap<Page, Vec<Times>>,
}

impl Report {
    /// Adds what idle clients cost on a way.
    pub fn add_idle(&mut self, held: Held, way: &'static str, idle: Idle) {
        self.idle.entry((held, way)).or_default().push(idle);
    }

    /// Adds what a large flow cost on a way.
    pub fn add_bulk(&mut self, flow: Flow, way: &'static str, bulk: Bulk) {
        self.bulk.entry((flow, way)).or_default().push(bulk);
    }

    /// Adds what a load cost on one side of a comparison of pgweir with itself.
    pub fn add_own(&mut self, load: Load, side: Side, own: Own) {
        self.own.entry((load, side)).or_default().push(own);
    }

    /// Adds how long the pages of the dashboard took.
    pub fn add_pages(&mut self, all: &BTreeMap<Page, Times>) {
        for (page, times) in all {
            self.pages.entry(*page).or_default().push(*times);
        }
    }

    /// All tables in Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, here and below.
        if !self.loads.is_empty() {
            let _ = write!(text, "{}", self.loads.table());
        }
        if !self.idle.is_empty() {
            let _ = writeln!(
                text,
                "\n{CLIENTS} clients that say nothing:\n\n\
                | clients | way | memory each, bytes | processor, % |\n|---|---|--:|--:|"
            );
        }
        for ((held, way), rounds) in &self.idle {
            let median = |of: fn(&Idle) -> f64| middle(rounds.iter().map(of)).unwrap_or_default();
            let (bytes, busy) = (median(|idle| idle.bytes), median(|idle| idle.busy * 100.0));
            let _ = writeln!(text, "| {} | {way} | {bytes:.0} | {busy:.2} |", held.name());
        }
        if !self.bulk.is_empty() {
            let _ = writeln!(
                text,
                "\n1 GiB from the server to one client:\n\n\
                | flow | way | MiB/s | CPU of the pooler, µs/MiB | growth of peak memory, KiB |\n|---|---|--:|--:|--:|"
            );
        }
        for ((flow, way), rounds) in &self.bulk {
            let median = |of: fn(&Bulk) -> f64| middle(rounds.iter().map(of)).unwrap_or_default();
            let rate = median(|bulk| bulk.bytes_per_second / f64::from(1 << 20));
            let (cpu, growth) = (median(|bulk| bulk.cpu_micros), median(|bulk| bulk.growth as f64 / 1024.0));
            let cpu = if cpu > 0.0 { format!("{cpu:.0} | {growth:.0}") } else { "– | –".to_owned() };
            let _ = writeln!(text, "| {} | {way} | {rate:.0} | {cpu} |", flow.name());
        }
        text.push_str(&self.own_table());
        text.push_str(&self.cache.tables());
        text.push_str(&self.pages_table());
        let judged = self.judged();
        if !judged.is_empty() {
            let _ = writeln!(
                text,
                "\nWhat is promised of pgweir, and what came out, round by round:\n\n\
                | figure | promised | measured (median ± half the rounds' deviation) | |\n|---|--:|--:|---|"
            );
        }
        for (figure, bound, Outcome { value, noise, kept }) in judged {
            let promised = bound.name(figure.unit());
            let kept = if kept { "kept" } else { "**missed**" };
            let _ = writeln!(text, "| {} | {promised} | {value:.2} ± {noise:.2} | {kept} |", figure.name());
        }
        text
    }

    fn own_table(&self) -> String {
        let mut text = String::new();
        if !self.own.is_empty() {
            let _ = writeln!(
                text,
                "\npgweir against itself:\n\n\
                | clients | protocol | pgweir | queries/s | CPU, µs/query | of it workers | median ms | p95 ms | p99 ms \
                | logins a minute |\n|--:|---|---|--:|--:|--:|--:|--:|--:|--:|"
            );
        }
        for ((load, side), rounds) in &self.own {
            let samples: Vec<Sample> = rounds.iter().map(|own| own.sample).collect();
            let Some(sample) = Sample::median(&samples) else { continue };
            let median = |of: fn(&Own) -> f64| middle(rounds.iter().map(of)).unwrap_or_default();
            let (workers, logins) = (median(|own| own.worker_micros), median(|own| own.logins));
            let [p50, p95, p99] = sample.latency_micros.map(|micros| f64::from(micros) / 1e3);
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.0} | {:.2} | {workers:.2} | {p50:.2} | {p95:.2} | {p99:.2} | {logins:.0} |",
                load.clients,
                load.mode.name(),
                side.name(),
                sample.tps,
                sample.cpu_micros,
            );
        }
        text
    }

    fn pages_table(&self) -> String {
        let mut text = String::new();
        if !self.pages.is_empty() {
            let _ = writeln!(
                text,
                "\nPages of the dashboard with {STATEMENTS} statements of {TENANTS} tenants, {TIMES} times in each round:\n\n\
                | page | median ms | worst ms |\n|---|--:|--:|"
            );
        }
        for (page, rounds) in &self.pages {
            let median = |of: fn(&Times) -> f64| middle(rounds.iter().map(of)).unwrap_or_default();
            let (usual, worst) = (median(|times| times.median), median(|times| times.worst));
            let _ = writeln!(text, "| `{}` | {usual:.1} | {worst:.1} |", page.path());
        }
        text
    }

    /// Promises that were measured, and how it stands with them.
    pub fn judged(&self) -> Vec<(Figure, Bound, Outcome)> {
        let judged = |(figure, bound)| Some((figure, bound, judge(&self.values(figure), bound)?));
        promises().into_iter().filter_map(judged).collect()
    }

    /// Promises about `parts` that nothing was measured for: a PgBouncer that cannot carry a load, say.
    pub fn unknown(&self, parts: &[Part]) -> Vec<String> {
        let figures = promises().into_iter().map(|(figure, _)| figure);
        let unknown = figures.filter(|figure| parts.contains(&figure.part()) && self.values(*figure).is_empty());
        unknown.map(Figure::name).collect()
    }

    /// A figure's value in each round that has it: for a share, in each that has both.
    fn values(&self, figure: Figure) -> Vec<f64> {
        let loads =
            |load: Load, of: fn(&Sample) -> f64| by(self.loads.rounds(load, OURS), self.loads.rounds(load, THEIRS), of);
        let own = |load: Load, side: Side| rounds(&self.own, (load, side));
        let beside = |other: Side, of: fn(&Own) -> f64| {
            let (among, other) = (own(BESIDE_LOGINS, Side::AmongLogins), own(BESIDE_LOGINS, other));
            // Fewer logins than were promised about prove nothing, on either side.
            let enough = |other: &Own| other.is_among_logins() || other.logins == 0.0;
            shares(pairs(among, other).filter(|(among, other)| among.is_among_logins() && enough(other)), of)
        };
        let among_logins = |of| beside(Side::Quiet, of);
        let of_logins = |of| beside(Side::LoginsElsewhere, of);
        let watched = || own(BESIDE_SCRAPES, Side::Watched);
        let beside_scrapes = |of: fn(&Own) -> f64| by(watched(), own(BESIDE_SCRAPES, Side::Unwatched), of);
        match figure {
            Figure::Cpu(load) => loads(load, |sample| sample.cpu_micros),
            Figure::Rate(load) => loads(load, |sample| sample.tps),
            Figure::Median(load) => loads(load, |sample| f64::from(sample.latency_micros[0])),
            Figure::P99(load) => loads(load, |sample| f64::from(sample.latency_micros[2])),
            Figure::Memory(held) => {
                by(rounds(&self.idle, (held, OURS)), rounds(&self.idle, (held, THEIRS)), |idle| idle.bytes)
            }
            Figure::Busy(held) => rounds(&self.idle, (held, OURS)).iter().map(|idle| idle.busy * 100.0).collect(),
            Figure::Throughput(flow) => {
                by(rounds(&self.bulk, (flow, OURS)), rounds(&self.bulk, (flow, THEIRS)), |bulk| bulk.bytes_per_second)
            }
            Figure::FlowCpu(flow) => {
                by(rounds(&self.bulk, (flow, OURS)), rounds(&self.bulk, (flow, THEIRS)), |bulk| bulk.cpu_micros)
            }
            Figure::Observing(load) => added(own(load, Side::Usual), own(load, Side::Unobserved)),
            Figure::Detecting(load) => by(own(load, Side::Usual), own(load, Side::Undetected), |own| own.sample.tps),
            Figure::Policing(load) => added(own(load, Side::Policed), own(load, Side::Usual)),
            Figure::TwoWorkers(load) => {
                by(own(load, Side::TwoWorkers), own(load, Side::Usual), |own| own.sample.cpu_micros)
            }
            Figure::P99AmongLogins => among_logins(|own| f64::from(own.sample.latency_micros[2])),
            Figure::WorkersAmongLogins => among_logins(|own| own.worker_micros),
            Figure::P99OfLogins => of_logins(|own| f64::from(own.sample.latency_micros[2])),
            Figure::WorkersOfLogins => of_logins(|own| own.worker_micros),
            Figure::WorkersWatched => beside_scrapes(|own| own.worker_micros),
            Figure::P99Watched => beside_scrapes(|own| f64::from(own.sample.latency_micros[2])),
            Figure::Scrape => watched().iter().map(|own| own.scrape_millis).collect(),
            Figure::Cache(figure) => self.cache.values(figure),
            Figure::Page(page) => rounds(&self.pages, page).iter().map(|times| times.worst).collect(),
        }
    }

    /// Every sample, for programs.
    pub fn json(&self, conditions: &str) -> Value {
        let loads = self.loads.medians().into_iter().map(|(load, way, _)| {
            let rounds = self.loads.rounds(load, way).iter().map(|sample| {
                json!({ "tps": sample.tps, "cpu_us": sample.cpu_micros, "p50_p95_p99_us": sample.latency_micros })
            });
            json!({ "clients": load.clients, "protocol": load.mode.name(), "way": way, "rounds": rounds.collect::<Vec<_>>() })
        });
        let idle = self.idle.iter().map(|((held, way), rounds)| {
            let rounds = rounds.iter().map(|idle| json!({ "bytes": idle.bytes, "busy": idle.busy }));
            json!({ "clients": held.name(), "way": way, "rounds": rounds.collect::<Vec<_>>() })
        });
        let bulk = self.bulk.iter().map(|((flow, way), rounds)| {
            let rounds = rounds.iter().map(|bulk| {
                json!({ "bytes_per_second": bulk.bytes_per_second, "cpu_us_per_mib": bulk.cpu_micros, "growth": bulk.growth })
            });
            json!({ "flow": flow.name(), "way": way, "rounds": rounds.collect::<Vec<_>>() })
        });
        let own = self.own.iter().map(|((load, side), rounds)| {
            let rounds = rounds.iter().map(|Own { sample, worker_micros, logins, scrape_millis }| {
                json!({ "tps": sample.tps, "cpu_us": sample.cpu_micros, "workers_cpu_us": worker_micros,
                    "p50_p95_p99_us": sample.latency_micros, "logins_a_minute": logins,
                    "scrape_ms": scrape_millis })
            });
            let rounds = rounds.collect::<Vec<_>>();
            json!({ "clients": load.clients, "protocol": load.mode.name(), "pgweir": side.name(), "rounds": rounds })
        });
        let pages = self.pages.iter().map(|(page, rounds)| {
            let rounds = rounds.iter().map(|times| json!({ "median_ms": times.median, "worst_ms": times.worst }));
            json!({ "page": page.path(), "rounds": rounds.collect::<Vec<_>>() })
        });
        let promises = self.judged().into_iter().map(|(figure, bound, outcome)| {
            let (at_most, at_least) = match bound {
                Bound::AtMost(most) => (Some(most), None),
                Bound::AtLeast(least) => (None, Some(least)),
            };
            json!({ "figure": figure.name(), "unit": figure.unit().name(), "at_most": at_most, "at_least": at_least,
                "value": outcome.value, "noise": outcome.noise, "kept": outcome.kept })
        });
        json!({
            "conditions": conditions,
            "loads": loads.collect::<Vec<_>>(),
            "idle": idle.collect::<Vec<_>>(),
            "bulk": bulk.collect::<Vec<_>>(),
            "own": own.collect::<Vec<_>>(),
            "cache": self.cache.json(),
            "pages": pages.collect::<Vec<_>>(),
            "promises": promises.collect::<Vec<_>>(),
        })
    }
}

/// What was measured round by round; nothing if it was not.
fn rounds<K: Ord, T>(map: &BTreeMap<K, Vec<T>>, key: K) -> &[T] {
    map.get(&key).map(Vec::as_slice).unwrap_or_default()
}

/// Each round that both were measured in.
pub(super) fn pairs<'a, T>(ours: &'a [T], theirs: &'a [T]) -> impl Iterator<Item = (&'a T, &'a T)> {
    ours.iter().zip(theirs)
}

/// Ours by theirs, where theirs is anything at all.
fn shares<'a, T: 'a>(pairs: impl Iterator<Item = (&'a T, &'a T)>, of: impl Fn(&T) -> f64) -> Vec<f64> {
    let figures = pairs.map(|(ours, theirs)| (of(ours), of(theirs)));
    figures.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect()
}

/// Ours by theirs in each round.
pub(super) fn by<T>(ours: &[T], theirs: &[T], of: impl Fn(&T) -> f64) -> Vec<f64> {
    shares(pairs(ours, theirs), of)
}

/// The processor time per query that one side takes beyond the other, in each round.
fn added(with: &[Own], without: &[Own]) -> Vec<f64> {
    pairs(with, without).map(|(with, without)| with.sample.cpu_micros - without.sample.cpu_micros).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut report = Report::default();
        let load = Load { clients: 16, mode: Mode::Simple };
        for (ours, theirs) in [(10.0, 20.0), (30.0, 40.0), (9.0, 10.0)] {
            report.loads.add(load, OURS, Sample { tps: 1.0, cpu_micros: ours, latency_micros: [1, 1, 1] });
            report.loads.add(load, THEIRS, Sample { tps: 1.0, cpu_micros: theirs, latency_micros: [1, 1, 1] });
        }
        assert_eq!(report.values(Figure::Cpu(load)), [0.5, 0.75, 0.9]);
        let judged = report.judged();
        let (_, _, outcome) = judged.iter().find(|(figure, ..)| *figure == Figure::Cpu(load)).unwrap();
        assert!(outcome.kept && outcome.value == 0.75, "{outcome:?}");
        assert!(
            report
                .tables()
                .contains("| CPU per query, 16 clients, simple | ≤ 0.95 × PgBouncer's | 0.75 ± 0.15 | kept |")
        );
        // What the other cannot do is not kept by silence.
        assert!(report.unknown(&[Part::Loads]).contains(&"CPU per query, 16 clients, prepared".to_owned()));
        assert!(report.unknown(&[]).is_empty());
        let json = report.json("here");
        assert_eq!(json["loads"][0]["rounds"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn some_promises_are_about_pgweir_alone() {
        let mut report = Report::default();
        for busy in [0.0005, 0.0007, 0.0030] {
            report.add_idle(Held::Tls, OURS, Idle { bytes: 9000.0, busy });
        }
        let tables = report.tables();
        let row = "| processor kept busy by 5000 idle clients, with TLS | ≤ 0.10 % | 0.07 ± 0.02 | kept |";
        assert!(tables.contains(row) && !tables.contains("queries/s"), "{tables}");
        // Memory needs both.
        assert!(report.unknown(&[Part::Idle]).contains(&"memory per idle client, with TLS".to_owned()));
        assert!(
            !report.unknown(&[Part::Idle]).iter().any(|figure| figure.contains("busy by 5000 idle clients, with TLS"))
        );
        let json = report.json("here");
        assert_eq!((&json["promises"][0]["unit"], &json["promises"][0]["at_most"]), (&json!("%"), &json!(0.1)));
    }

    /// With this processor time per query, all but 1 µs of it the workers'.
    fn own(cpu_micros: f64, logins: f64) -> Own {
        let sample = Sample { tps: 1000.0, cpu_micros, latency_micros: [200, 400, 100 * cpu_micros as u32] };
        Own { sample, worker_micros: cpu_micros - 1.0, logins, scrape_millis: 0.0 }
    }

    #[test]
    fn what_is_added_is_a_difference_and_two_workers_are_a_share() {
        let mut report = Report::default();
        let load = super::super::own::LOADS[0];
        for (usual, unobserved, two) in [(12.0, 11.75, 12.0), (13.0, 12.5, 13.0), (11.0, 10.75, 22.0)] {
            report.add_own(load, Side::Policed, own(usual + 0.5, 0.0));
            let faster = own(usual, 0.0);
            report.add_own(load, Side::Undetected, Own { sample: Sample { tps: 1250.0, ..faster.sample }, ..faster });
            report.add_own(load, Side::Usual, own(usual, 0.0));
            report.add_own(load, Side::Unobserved, own(unobserved, 0.0));
            report.add_own(load, Side::TwoWorkers, own(two, 0.0));
        }
        assert_eq!(report.values(Figure::Observing(load)), [0.25, 0.5, 0.25]);
        assert_eq!(report.values(Figure::TwoWorkers(load)), [1.0, 1.0, 2.0]);
        assert_eq!(report.values(Figure::Policing(load)), [0.5; 3]);
        assert_eq!(report.values(Figure::Detecting(load)), [0.8; 3]);
        let tables = report.tables();
        for row in [
            "| 16 | simple | nothing observed | 1000 | 11.75 | 10.75 | 0.20 | 0.40 | 1.10 | 0 |",
            "| CPU per query that observing adds, 16 clients, simple | ≤ 0.30 µs | 0.25 ± 0.00 | kept |",
            "| CPU per query that rules and limits add, 16 clients, simple | ≤ 0.10 µs | 0.50 ± 0.00 | **missed** |",
            "| CPU per query with two workers, 16 clients, simple | ≤ 1.05 × one worker's | 1.00 ± 0.00 | kept |",
        ] {
            assert!(tables.contains(row), "{tables}");
        }
        let unknown = report.unknown(&[Part::Own]);
        assert!(unknown.contains(&"CPU per query that observing adds, 16 clients, prepared".to_owned()), "{unknown:?}");
        assert_eq!(unknown.len(), 8, "{unknown:?}");
    }

    #[test]
    fn being_asked_is_a_share_and_a_time() {
        let mut report = Report::default();
        for (cpu, scrape_millis) in [(11.0, 4.0), (11.05, 5.0), (11.2, 30.0)] {
            report.add_own(BESIDE_SCRAPES, Side::Unwatched, own(11.0, 0.0));
            report.add_own(BESIDE_SCRAPES, Side::Watched, Own { scrape_millis, ..own(cpu, 0.0) });
        }
        assert_eq!(report.values(Figure::WorkersWatched).len(), 3);
        let tables = report.tables();
        let row = "| a scrape of 5000 statements of 500 tenants under load | ≤ 20.00 ms | 5.00 ± 1.00 | kept |";
        assert!(tables.contains(row), "{tables}");
        let unknown = report.unknown(&[Part::Admin]);
        assert_eq!(unknown.len(), Page::ALL.len(), "no page was measured: {unknown:?}");
        for worst in [50.0, 120.0, 110.0] {
            report.add_pages(&Page::ALL.map(|page| (page, Times { median: 9.0, worst })).into());
        }
        assert!(report.unknown(&[Part::Admin]).is_empty());
        let tables = report.tables();
        for row in [
            "| `/tenants/{name}` | 9.0 | 110.0 |",
            "| the page `/queries`, the worst of 20 | ≤ 100.00 ms | 110.00 ± 10.00 | kept |",
        ] {
            assert!(tables.contains(row), "{tables}");
        }
        assert_eq!(report.json("here")["pages"][0]["rounds"][1]["worst_ms"], json!(120.0));
    }

    #[test]
    fn too_few_logins_prove_nothing() {
        let mut report = Report::default();
        for (cpu, logins) in [(12.0, 10_000.0), (40.0, 3_000.0), (11.0, 9_900.0)] {
            report.add_own(BESIDE_LOGINS, Side::Quiet, own(10.0, 0.0));
            report.add_own(BESIDE_LOGINS, Side::AmongLogins, own(cpu, logins));
        }
        assert_eq!(report.values(Figure::P99AmongLogins), [1.2, 1.1]);
        assert_eq!(report.values(Figure::WorkersAmongLogins).len(), 2);
        for (cpu, logins) in [(10.0, 10_000.0), (10.0, 10_000.0), (10.0, 3_000.0)] {
            report.add_own(BESIDE_LOGINS, Side::LoginsElsewhere, own(cpu, logins));
        }
        assert_eq!(report.values(Figure::P99OfLogins), [1.2], "the third is no like with like");
        let json = report.json("here");
        assert_eq!(json["own"][1]["rounds"][1]["logins_a_minute"], json!(3_000.0));
    }
}
