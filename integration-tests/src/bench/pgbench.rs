//! One run of pgbench, and what it printed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{Load, Outcome};
use crate::Scratch;
use crate::child::cpu_time_of_ended;
use crate::demo::tally::nearest_rank;

/// A tenth of all queries is written to pgbench's log: enough for the 99th percentile, little work for pgbench.
const SAMPLED: &str = "0.1";

/// Threads of pgbench.
pub const JOBS: usize = 2;

/// What pgbench itself measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Queries answered.
    pub queries: u64,
    /// Queries a second, connecting not counted.
    pub tps: f64,
    /// Percentiles 50, 95 and 99 of the latency, in µs.
    pub latency_micros: [u32; 3],
    /// Processor time of pgbench itself.
    pub spent: Duration,
}

/// Where pgbench connects.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its port on loopback.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The user.
    pub user: &'static str,
    /// Its password, if one is asked for.
    pub password: &'static str,
}

/// Fills a database with pgbench's tables (10 × 100,000 accounts).
pub fn initialise(pgbench: &Path, server: &Server) -> Outcome<()> {
    call(connected(pgbench, server).args(["--initialize", "--scale=10", "--quiet"])).map(drop)
}

/// What pgbench sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script<'a> {
    /// Its own `SELECT` of one account, any of all.
    SelectOnly,
    /// This.
    Text(&'a str),
}

/// Runs one load for so many seconds.
pub fn run(pgbench: &Path, server: &Server, script: Script<'_>, load: Load, seconds: u64) -> Outcome<Measured> {
    // Whatever lies in the first one is read as a log.
    let (folder, scripts) = (Scratch::new(), Scratch::new());
    let mut command = connected(pgbench, server);
    command.current_dir(folder.path()).args(arguments(load, seconds));
    match script {
        Script::SelectOnly => command.arg("--select-only"),
        Script::Text(text) => command.arg("--file").arg(scripts.file("script.sql", text)),
    };
    let before = cpu_time_of_ended();
    let printed = call(&mut command)?;
    let spent = cpu_time_of_ended().saturating_sub(before);
    let latency_micros = percentiles(&folder)?;
    let tps = field(&printed, "tps = ").ok_or("pgbench printed no tps")?;
    let queries = field(&printed, "number of transactions actually processed: ").ok_or("pgbench printed no count")?;
    match field(&printed, "number of failed transactions: ") {
        None | Some(0.0) => Ok(Measured { queries: queries as u64, tps, latency_micros, spent }),
        Some(failed) => Err(format!("{failed} queries failed: {printed}").into()),
    }
}

/// The flags of every measured run, as they are documented with the table, but for what it sends.
pub fn arguments(load: Load, seconds: u64) -> Vec<String> {
    [
        "--no-vacuum".to_owned(),
        format!("--protocol={}", load.mode.name()),
        format!("--client={}", load.clients),
        format!("--jobs={JOBS}"),
        format!("--time={seconds}"),
        "--log".to_owned(),
        format!("--sampling-rate={SAMPLED}"),
    ]
    .into()
}

fn connected(pgbench: &Path, server: &Server) -> Command {
    let mut command = Command::new(pgbench);
    command.args(["--host=127.0.0.1", &format!("--port={}", server.port), &format!("--username={}", server.user)]);
    command.env("PGDATABASE", &server.database).env("PGPASSWORD", server.password);
    command.env("LC_ALL", "C").env("PGSSLMODE", "disable");
    command
}

fn call(command: &mut Command) -> Outcome<String> {
    let output = command.output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(printed);
    }
    Err(format!("{command:?} failed: {}{}", printed, String::from_utf8_lossy(&output.stderr)).into())
}

/// The number behind a label, up to the next blank.
fn field(printed: &str, label: &str) -> Option<f64> {
    let line = printed.lines().find_map(|line| line.strip_prefix(label))?;
    line.split([' ', '/']).next()?.parse().ok()
}

/// Reads the logs that pgbench's threads wrote: the third column is a query's time in µs.
fn percentiles(folder: &Scratch) -> Outcome<[u32; 3]> {
    let mut times = Vec::new();
    for entry in fs::read_dir(folder.path())? {
        let text = fs::read_to_string(entry?.path())?;
        times.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
    }
    times.sort_unstable();
    let at = |percent| nearest_rank(&times, percent).ok_or("pgbench logged no query");
    Ok([at(50.0)?, at(95.0)?, at(99.0)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "number of transactions actually processed: 40123\nnumber of failed transactions: 0 (0.000%)\n\
         latency average = 0.398 ms\ntps = 8024.512345 (without initial connection time)\n";

    #[test]
    fn figures_are_read_from_behind_their_labels() {
        assert_eq!(field(PRINTED, "tps = "), Some(8024.512345));
        assert_eq!(field(PRINTED, "number of transactions actually processed: "), Some(40123.0));
        assert_eq!(field(PRINTED, "number of failed transactions: "), Some(0.0));
        assert_eq!(field(PRINTED, "nothing: "), None);
    }

    #[test]
    fn percentiles_come_from_every_thread_of_pgbench() {
        let folder = Scratch::new();
        folder.file("pgbench_log.1", "0 1 100 0 1700000000 1\n0 2 300 0 1700000000 2\n");
        folder.file("pgbench_log.1.1", "1 1 200 0 1700000000 1\n");
        assert_eq!(percentiles(&folder).unwrap(), [200, 300, 300]);
    }
}
