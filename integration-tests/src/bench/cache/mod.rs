//! What the read cache brings, and what it costs where it brings nothing.
//!
//! ```text
//!   hits        few keys, all kept            a rule            beside direct, PgBouncer, no cache
//!   slow        a statement of 5 ms           a rule            beside direct
//!   misses      ever new keys, little room    a rule            beside no cache
//!   unmatched   any key                       another's rule    beside no cache
//!   memory      64 MiB of answers             what is accounted beside what the process grows by
//! ```
//! Nobody writes, and nobody could but through pgweir: `sole_writer` holds, and the rules are coherent. What costs the server
//! less than `min_cost` is not kept by default; here it is 0, for a SELECT of pgbench's costs less.

pub mod figures;
pub mod memory;
pub mod results;
pub mod slow;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::pgbench::Script;
use super::ways::{Bench, Setup, Way};
use super::{Load, Mode, Outcome, Sample, peers};
use crate::{http, within};
use results::{Results, Seen};

/// How often the rows that are told apart by little take turns in each round.
const TURNS: usize = 3;
/// Clients of all loads.
pub const CLIENTS: usize = 16;
/// Of a hundred queries, so many have to have been what their row is about.
const PROOF: f64 = 0.99;
/// How long a proxy may take to know its catalog and to keep its first answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of the whole cache.
const ON: &str = "[cache]\nmode = 'on'\nsole_writer = true\nmin_cost = 0\ntenant_share = 1.0\n";
/// Room for about two thousand of pgbench's answers, of a million.
const LITTLE: &str = "max_bytes = '1MiB'\nmax_entry = '4KiB'\n";
/// About pgbench's accounts.
const RULE: &str = "[[cache.rule]]\ntables = ['pgbench_accounts', 'slow']\nttl = '1h'\n";
/// About what nobody asks for. (pgbench itself counts branches when it begins.)
const OTHER_RULE: &str = "[[cache.rule]]\ntables = ['pgbench_history']\nttl = '1h'\n";

/// pgbench's SELECT, of few accounts.
const FEW: &str = "\\set aid random(1, 100)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n";

/// What the part stands on, besides pgbench's tables.
#[derive(Debug)]
pub struct Ground {
    /// What the slow statement takes on the server alone.
    pub slow: Duration,
    /// Databases of the rows that are told to be the only ones who write: copies, for each believes it of one process alone.
    own: Vec<(Row, String)>,
}

impl Ground {
    /// Makes what is missing. Before any proxy is there: they take themselves for the only ones who write.
    pub fn make(bench: &Bench) -> Outcome<Self> {
        let slow = slow::make(bench)?;
        let rows = Row::ALL.into_iter().filter(|row| row.settings().is_some_and(|settings| !settings.is_empty()));
        Ok(Self { slow, own: rows.map(|row| (row, bench.copy())).collect() })
    }

    /// Where a row is measured.
    fn database(&self, row: Row) -> Option<String> {
        self.own.iter().find_map(|(other, name)| (*other == row).then(|| name.clone()))
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// `pgbench --select-only`, no pooler.
    Direct,
    /// The same through PgBouncer.
    PgBouncer,
    /// The same through pgweir without a cache.
    Uncached,
    /// With rules about other tables.
    Unmatched,
    /// With a rule and little room: every answer is kept, and pushes another one out.
    Missed,
    /// Few accounts, with a rule: all are hits.
    Hit,
    /// The slow statement, no pooler.
    SlowDirect,
    /// The slow statement, with a rule: all are hits.
    SlowHit,
}

impl Row {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::Direct,
        Self::PgBouncer,
        Self::Uncached,
        Self::Unmatched,
        Self::Missed,
        Self::Hit,
        Self::SlowDirect,
        Self::SlowHit,
    ];

    /// As the table says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Uncached => "pgweir, no cache",
            Self::Unmatched => "pgweir, rules about other tables",
            Self::Missed => "pgweir, a miss each time",
            Self::Hit => "pgweir, a hit each time",
            Self::SlowDirect => "a statement of 5 ms, direct",
            Self::SlowHit => "a statement of 5 ms, pgweir, a hit each time",
        }
    }

    /// Whether it takes turns with others: differences of a few per cent are told from noise by many pairs only.
    fn turns(self) -> usize {
        match self {
            Self::Uncached | Self::Unmatched | Self::Missed => TURNS,
            _ => 1,
        }
    }

    fn script(self) -> Script<'static> {
        match self {
            Self::Hit => Script::Text(FEW),
            Self::SlowDirect | Self::SlowHit => Script::Text(slow::SCRIPT),
            _ => Script::SelectOnly,
        }
    }

    /// pgweir as this row has it; `None`: it goes another way.
    fn settings(self) -> Option<String> {
        match self {
            Self::Direct | Self::PgBouncer | Self::SlowDirect => None,
            Self::Uncached => Some(String::new()),
            Self::Unmatched => Some(format!("{ON}{OTHER_RULE}")),
            Self::Missed => Some(format!("{ON}{LITTLE}{RULE}")),
            Self::Hit | Self::SlowHit => Some(format!("{ON}{RULE}")),
        }
    }

    /// Whether what the cache has counted meanwhile is what this row is about; `false`: its figures mean something else.
    fn is_proved_by(self, counted: Counted, queries: u64) -> bool {
        let share = |count: u64| count as f64 / queries.max(1) as f64;
        match self {
            Self::Hit | Self::SlowHit => share(counted.hits) > PROOF,
            Self::Missed => share(counted.misses) > PROOF && share(counted.fills) > PROOF,
            Self::Unmatched => counted == Counted::default(),
            Self::Direct | Self::PgBouncer | Self::Uncached | Self::SlowDirect => true,
        }
    }
}

/// What a cache has counted, or did in between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counted {
    hits: u64,
    misses: u64,
    fills: u64,
}

impl Counted {
    /// As `/api/v1/cache` has it.
    fn read(cache: &Value) -> Self {
        let of = |key: &str| cache.get(key).and_then(Value::as_u64).unwrap_or(0);
        let misses = cache.get("misses").and_then(Value::as_object).into_iter().flatten();
        Self { hits: of("hits"), misses: misses.filter_map(|(_, count)| count.as_u64()).sum(), fills: of("fills") }
    }

    fn since(self, before: Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            fills: self.fills.saturating_sub(before.fills),
        }
    }
}

/// `/api/v1/cache`.
fn cache_of(admin: SocketAddr) -> Outcome<Value> {
    let answer = http::request(admin, "/api/v1/cache", &[])?;
    if answer.status != 200 {
        return Err(format!("/api/v1/cache answered {}: {}", answer.status, answer.body).into());
    }
    Ok(serde_json::from_str(&answer.body)?)
}

/// Measures one round of everything.
pub fn measure(binary: &Path, bench: &Bench, ground: &Ground, seconds: u64, results: &mut Results) -> Outcome<()> {
    results.slow = ground.slow;
    let ways = ways(binary, bench, ground)?;
    for mode in figures::MODES {
        let mut rows: Vec<&(Row, Way)> = ways.iter().collect();
        for turn in 0..TURNS {
            for (row, way) in rows.iter().filter(|(row, _)| turn < row.turns()) {
                let Some(seen) = run(*row, way, bench, mode, seconds)? else { continue };
                say(*row, mode, &seen);
                results.add(*row, mode, seen);
            }
            // Nobody comes first each time.
            rows.reverse();
        }
    }
    drop(ways);
    for size in memory::SIZES {
        let held = memory::measure(binary, bench, size)?;
        println!(
            "answers of {size} bytes: {} take {:.1} MiB as accounted, and the process has grown by {:.1} MiB",
            held.entries,
            held.accounted as f64 / f64::from(1 << 20),
            held.growth as f64 / f64::from(1 << 20)
        );
        results.add_memory(size, held);
    }
    Ok(())
}

/// Each row with its way, ready to be measured.
fn ways(binary: &Path, bench: &Bench, ground: &Ground) -> Outcome<Vec<(Row, Way)>> {
    let mut ways = Vec::new();
    for row in Row::ALL {
        let way = match (row, row.settings()) {
            (_, Some(settings)) => {
                let database = ground.database(row);
                Way::pgweir(binary, bench, &Setup { settings, database, ..Setup::default() })?
            }
            (Row::PgBouncer, None) => {
                // Figures are promised beside a direct connection: it is left out where there is none.
                if peers::pgbouncer_name().is_ok() {
                    ways.extend(peers::pgbouncer(bench, None)?.into_iter().map(|way| (row, way)));
                }
                continue;
            }
            (_, None) => Way::direct(bench),
        };
        warm_up(row, &way, bench)?;
        ways.push((row, way));
    }
    Ok(ways)
}

/// Waits until what a row is about happens at all: the catalog has to be read first.
fn warm_up(row: Row, way: &Way, bench: &Bench) -> Outcome<()> {
    let Some(admin) = way.admin().filter(|_| matches!(row, Row::Hit | Row::SlowHit | Row::Missed)) else {
        return Ok(());
    };
    let load = Load { clients: CLIENTS, mode: Mode::Prepared };
    let (mut trouble, wanted) =
        (None, |counted: Counted| if row == Row::Missed { counted.fills } else { counted.hits });
    let warm = within(PATIENCE, || {
        let ran = way.run_script(&bench.pgbench(), row.script(), load, 1).and_then(|_| cache_of(admin));
        match ran {
            Ok(cache) => wanted(Counted::read(&cache)) > 0,
            Err(failure) => {
                trouble = Some(failure);
                true
            }
        }
    });
    match trouble {
        Some(failure) => Err(failure),
        None if warm => Ok(()),
        None => Err(format!("{}: the cache does nothing: {}", row.name(), cache_of(admin)?).into()),
    }
}

/// One run; `None`: this way cannot carry it, or it has turned out to be about something else.
fn run(row: Row, way: &Way, bench: &Bench, mode: Mode, seconds: u64) -> Outcome<Option<Seen>> {
    let load = Load { clients: CLIENTS, mode };
    if !way.carries(load) {
        return Ok(None);
    }
    let counted = || way.admin().map_or(Ok(Counted::default()), |admin| Ok(Counted::read(&cache_of(admin)?)));
    let before: Outcome<Counted> = counted();
    let before = before?;
    let run = way.run_script(&bench.pgbench(), row.script(), load, seconds)?;
    let meanwhile = counted()?.since(before);
    let sample: Sample = run.sample();
    if !row.is_proved_by(meanwhile, run.queries()) {
        println!("{}: refused, for of {} queries it was {meanwhile:?}", row.name(), run.queries());
        return Ok(None);
    }
    let hits = meanwhile.hits as f64 / run.queries().max(1) as f64;
    Ok(Some(Seen { sample, hits, client_micros: run.client_micros() }))
}

fn say(row: Row, mode: Mode, Seen { sample, hits, client_micros }: &Seen) {
    println!(
        "{:<46} {:<9} {:>7.0} queries/s  {:>6.2} µs CPU  {client_micros:>6.2} of pgbench  median {:>6.3} ms  {:>5.1} % hits",
        row.name(),
        mode.name(),
        sample.tps,
        sample.cpu_micros,
        f64::from(sample.latency_micros[0]) / 1e3,
        100.0 * hits
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_refused_that_are_about_something_else() {
        let counted = |hits, misses, fills| Counted { hits, misses, fills };
        assert!(Row::Hit.is_proved_by(counted(995, 5, 5), 1_000));
        assert!(!Row::Hit.is_proved_by(counted(980, 20, 20), 1_000));
        // A hit ratio without the queries that bypass the cache would be as good.
        assert!(!Row::SlowHit.is_proved_by(counted(100, 0, 0), 1_000));
        assert!(Row::Missed.is_proved_by(counted(3, 997, 997), 1_000));
        assert!(!Row::Missed.is_proved_by(counted(3, 997, 500), 1_000), "not kept");
        assert!(Row::Unmatched.is_proved_by(counted(0, 0, 0), 1_000));
        assert!(!Row::Unmatched.is_proved_by(counted(0, 1, 0), 1_000));
        assert!(!Row::Hit.is_proved_by(Counted::default(), 0), "nothing proves nothing");
    }

    #[test]
    fn what_was_counted_is_read_from_the_admin_port() {
        let cache = json!({ "hits": 7, "fills": 3, "misses": { "absent": 2, "expired": 4 }, "mode": "on" });
        let read = Counted::read(&cache);
        assert_eq!(read, Counted { hits: 7, misses: 6, fills: 3 });
        assert_eq!(read.since(Counted { hits: 5, misses: 6, fills: 1 }), Counted { hits: 2, misses: 0, fills: 2 });
        assert_eq!(Counted::read(&json!({})), Counted::default());
    }
}
