//! What was measured of the read cache, in the forms in which it is shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::pgbench::JOBS;
use super::super::report::{by, pairs};
use super::super::{Mode, Sample, middle};
use super::figures::{Cached, MODES};
use super::memory::Held;
use super::{CLIENTS, Row};

/// What was seen of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// As of any way.
    pub sample: Sample,
    /// Share of the queries that the cache has answered.
    pub hits: f64,
    /// Processor time of pgbench per query, in µs.
    pub client_micros: f64,
}

/// All of it, round by round.
#[derive(Debug, Default)]
pub struct Results {
    /// What the slow statement takes on the server alone.
    pub slow: Duration,
    runs: BTreeMap<(Mode, Row), Vec<Seen>>,
    memory: BTreeMap<usize, Vec<Held>>,
}

impl Results {
    /// Adds a run.
    pub fn add(&mut self, row: Row, mode: Mode, seen: Seen) {
        self.runs.entry((mode, row)).or_default().push(seen);
    }

    /// Adds what answers of a size take.
    pub fn add_memory(&mut self, size: usize, held: Held) {
        self.memory.entry(size).or_default().push(held);
    }

    fn rounds(&self, row: Row, mode: Mode) -> &[Seen] {
        self.runs.get(&(mode, row)).map(Vec::as_slice).unwrap_or_default()
    }

    /// A figure's value in each round that has it.
    pub fn values(&self, figure: Cached) -> Vec<f64> {
        let rate = |ours, theirs, mode| by(self.rounds(ours, mode), self.rounds(theirs, mode), |seen| seen.sample.tps);
        let added = |ours, mode| {
            let both = pairs(self.rounds(ours, mode), self.rounds(Row::Uncached, mode));
            both.map(|(ours, without)| ours.sample.cpu_micros - without.sample.cpu_micros).collect()
        };
        match figure {
            Cached::HitRate(mode) => rate(Row::Hit, Row::Direct, mode),
            Cached::HitCpu(mode) => self.rounds(Row::Hit, mode).iter().map(|seen| seen.sample.cpu_micros).collect(),
            Cached::SlowRate(mode) => rate(Row::SlowHit, Row::SlowDirect, mode),
            Cached::Miss(mode) => added(Row::Missed, mode),
            Cached::Unmatched(mode) => added(Row::Unmatched, mode),
            Cached::Memory(size) => self.memory.get(&size).into_iter().flatten().map(Held::error).collect(),
        }
    }

    /// All tables in Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, here and below.
        if !self.runs.is_empty() {
            let _ = writeln!(
                text,
                "\nThe read cache, {CLIENTS} clients (`min_cost = 0`, `sole_writer`, coherent rules); the slow statement took \
                {:.1} ms:\n\n\
                | protocol | way | queries/s | CPU of the pooler, µs/query | of pgbench | hits, % | median ms | p95 ms | p99 ms |\n\
                |---|---|--:|--:|--:|--:|--:|--:|--:|",
                self.slow.as_secs_f64() * 1e3
            );
        }
        for ((mode, row), rounds) in &self.runs {
            let samples: Vec<Sample> = rounds.iter().map(|seen| seen.sample).collect();
            let Some(sample) = Sample::median(&samples) else { continue };
            let hits = 100.0 * middle(rounds.iter().map(|seen| seen.hits)).unwrap_or_default();
            let client = middle(rounds.iter().map(|seen| seen.client_micros)).unwrap_or_default();
            let cpu = if sample.cpu_micros > 0.0 { format!("{:.2}", sample.cpu_micros) } else { "–".to_owned() };
            let [p50, p95, p99] = sample.latency_micros.map(|micros| f64::from(micros) / 1e3);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {cpu} | {client:.2} | {hits:.1} | {p50:.3} | {p95:.3} | {p99:.3} |",
                mode.name(),
                row.name(),
                sample.tps
            );
        }
        text.push_str(&self.ceilings());
        if !self.memory.is_empty() {
            let _ = writeln!(
                text,
                "\nWhat answers take:\n\n\
                | bytes of an answer | answers | accounted, MiB | growth of the process, MiB |\n|--:|--:|--:|--:|"
            );
        }
        for (size, rounds) in &self.memory {
            let median = |of: fn(&Held) -> u64| middle(rounds.iter().map(|held| of(held) as f64)).unwrap_or_default();
            let mib = |of: fn(&Held) -> u64| median(of) / f64::from(1 << 20);
            let (accounted, growth) = (mib(|held| held.accounted), mib(|held| held.growth));
            let _ = writeln!(text, "| {size} | {:.0} | {accounted:.1} | {growth:.1} |", median(|held| held.entries));
        }
        text
    }

    /// What hits could be at most: as many as pgbench can ask for, where nobody else needs a processor.
    fn ceilings(&self) -> String {
        let of = |row, mode, what: fn(&Seen) -> f64| middle(self.rounds(row, mode).iter().map(what));
        let ceiling = |mode: Mode| {
            let asks = of(Row::Hit, mode, |seen| seen.client_micros).filter(|micros| *micros > 0.0)?;
            let direct = of(Row::Direct, mode, |seen| seen.sample.tps).filter(|rate| *rate > 0.0)?;
            let most = pgbench_threads() as f64 * 1e6 / asks / direct;
            Some(format!("{most:.2} × a direct connection's ({})", mode.name()))
        };
        let ceilings: Vec<_> = MODES.into_iter().filter_map(ceiling).collect();
        if ceilings.is_empty() {
            return String::new();
        }
        let all = ceilings.join(", ");
        format!(
            "\nIf hits took no processor time at all, pgbench alone could ask for {all}: that is all its threads find time for here.\n"
        )
    }

    /// Every sample, for programs.
    pub fn json(&self) -> Value {
        let runs = self.runs.iter().map(|((mode, row), rounds)| {
            let rounds = rounds.iter().map(|Seen { sample, hits, client_micros }| {
                json!({ "tps": sample.tps, "cpu_us": sample.cpu_micros, "p50_p95_p99_us": sample.latency_micros, "hits": hits,
                    "pgbench_cpu_us": client_micros })
            });
            json!({ "protocol": mode.name(), "way": row.name(), "rounds": rounds.collect::<Vec<_>>() })
        });
        let memory = self.memory.iter().map(|(size, rounds)| {
            let rounds = rounds.iter().map(|Held { entries, accounted, growth }| {
                json!({ "entries": entries, "accounted": accounted, "growth": growth })
            });
            json!({ "answer_bytes": size, "rounds": rounds.collect::<Vec<_>>() })
        });
        json!({
            "clients": CLIENTS,
            "slow_ms": self.slow.as_secs_f64() * 1e3,
            "runs": runs.collect::<Vec<_>>(),
            "memory": memory.collect::<Vec<_>>(),
        })
    }
}

/// How many processors pgbench can use: it runs with two threads.
fn pgbench_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(JOBS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(tps: f64, cpu_micros: f64) -> Seen {
        Seen { sample: Sample { tps, cpu_micros, latency_micros: [100, 200, 300] }, hits: 0.5, client_micros: 7.0 }
    }

    #[test]
    fn hits_are_shares_of_a_direct_connection_and_misses_are_differences() {
        let mut results = Results::default();
        let mode = Mode::Simple;
        for (direct, hit) in [(10.0, 25.0), (20.0, 44.0)] {
            results.add(Row::Direct, mode, seen(direct, 0.0));
            results.add(Row::Hit, mode, seen(hit, 6.0));
            results.add(Row::SlowDirect, mode, seen(direct / 10.0, 0.0));
            results.add(Row::SlowHit, mode, seen(hit, 6.0));
        }
        for (uncached, missed, unmatched) in [(10.0, 12.0, 10.25), (11.0, 12.5, 11.0), (10.0, 13.0, 9.75)] {
            results.add(Row::Uncached, mode, seen(5.0, uncached));
            results.add(Row::Missed, mode, seen(5.0, missed));
            results.add(Row::Unmatched, mode, seen(5.0, unmatched));
        }
        assert_eq!(results.values(Cached::HitRate(mode)), [2.5, 2.2]);
        assert_eq!(results.values(Cached::HitCpu(mode)), [6.0, 6.0]);
        assert_eq!(results.values(Cached::SlowRate(mode)), [25.0, 22.0]);
        assert_eq!(results.values(Cached::Miss(mode)), [2.0, 1.5, 3.0]);
        assert_eq!(results.values(Cached::Unmatched(mode)), [0.25, 0.0, -0.25]);
        assert!(results.values(Cached::HitRate(Mode::Prepared)).is_empty());
        let tables = results.tables();
        let most = pgbench_threads() as f64 * 1e6 / 7.0 / 15.0;
        assert!(tables.contains(&format!("ask for {most:.2} × a direct connection's (simple): ")), "{tables}");
        let row = "| simple | pgweir, a miss each time | 5 | 12.50 | 7.00 | 50.0 | 0.100 | 0.200 | 0.300 |";
        assert!(tables.contains(row), "{tables}");
        assert!(!tables.contains("What answers take"), "{tables}");
    }

    #[test]
    fn accounts_are_held_against_the_growth() {
        let mut results = Results::default();
        results.add_memory(200, Held { entries: 7, accounted: 95 << 20, growth: 100 << 20 });
        let [off] = results.values(Cached::Memory(200))[..] else { panic!("one round") };
        assert!((off - 5.0).abs() < 1e-9, "{off}");
        assert!(results.values(Cached::Memory(2_000)).is_empty());
        assert!(results.tables().contains("| 200 | 7 | 95.0 | 100.0 |"), "{}", results.tables());
        assert_eq!(results.json()["memory"][0]["answer_bytes"], json!(200));
    }
}
