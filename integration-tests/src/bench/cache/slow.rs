//! A statement that keeps the server busy for 5 ms, and that may be cached: no function in it waits, so the table it adds
//! up is made as large as this machine needs.

use std::time::{Duration, Instant};

use super::super::ways::{Bench, USER};
use super::super::{Outcome, middle};

/// What it shall take.
const WANTED: Duration = Duration::from_millis(5);
/// How far it may be from that, as a factor.
const NEAR: std::ops::Range<f64> = 0.85..1.2;
/// Sizes that are tried: a machine that is busy with other things changes under the measurement.
const ATTEMPTS: usize = 6;
/// Executions that one size is judged by.
const LOOKS: usize = 25;

/// For pgbench: seven statements, each of which reads the whole table.
pub const SCRIPT: &str = "\\set rest random(0, 6)\nSELECT count(*), sum(value) FROM slow WHERE value % 7 <> :rest;\n";

/// Makes the table; what the statement takes then.
pub fn make(bench: &Bench) -> Outcome<Duration> {
    let mut rows = 50_000;
    let mut took = Duration::ZERO;
    for _ in 0..ATTEMPTS {
        fill(bench, rows);
        took = look(bench)?;
        if NEAR.contains(&(took.as_secs_f64() / WANTED.as_secs_f64())) {
            break;
        }
        rows = next_size(rows, took);
    }
    println!("the slow statement adds up {rows} rows, which takes {:.1} ms", took.as_secs_f64() * 1e3);
    Ok(took)
}

fn fill(bench: &Bench, rows: u64) {
    let run = |sql: &str| drop(bench.cluster().run(bench.database(), sql));
    run("DROP TABLE IF EXISTS slow");
    // One process: others would take what pgbench and the poolers need.
    run("CREATE TABLE slow (id int PRIMARY KEY, value int NOT NULL) WITH (parallel_workers = 0)");
    run(&format!("INSERT INTO slow SELECT n, n * 31 % 1000 FROM generate_series(1, {rows}) n"));
    run(&format!("GRANT SELECT ON slow TO {USER}"));
    run("VACUUM ANALYZE slow");
}

fn look(bench: &Bench) -> Outcome<Duration> {
    let mut client = bench.cluster().connect(bench.database());
    let mut times = Vec::with_capacity(LOOKS);
    for rest in 0..LOOKS {
        let began = Instant::now();
        client.query(format!("SELECT count(*), sum(value) FROM slow WHERE value % 7 <> {}", rest % 7)).ok();
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(middle(times.into_iter()).ok_or("nothing was asked")?))
}

/// As many rows as would take what is wanted, if each takes as long as now.
fn next_size(rows: u64, took: Duration) -> u64 {
    let factor = WANTED.as_secs_f64() / took.as_secs_f64().max(1e-6);
    ((rows as f64 * factor) as u64).clamp(1_000, 5_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_grows_and_shrinks_to_the_time_wanted() {
        assert_eq!(next_size(50_000, Duration::from_millis(10)), 25_000);
        assert_eq!(next_size(50_000, Duration::from_millis(4)), 62_500);
        assert_eq!(next_size(50_000, Duration::ZERO), 5_000_000);
        assert_eq!(next_size(1_000, Duration::from_secs(60)), 1_000);
    }
}
