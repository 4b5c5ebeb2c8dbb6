//! What answers take: as the cache accounts for them, and as the kernel sees its process grow.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::pgbench::Script;
use super::super::ways::{Bench, Setup, Way};
use super::super::{Load, Mode, Outcome};
use super::{CLIENTS, PATIENCE, RULE, cache_of};
use crate::{Child, http, within};

/// Bytes of an answer, about.
pub const SIZES: [usize; 3] = [200, 2_000, 20_000];
/// Filled up to here, in bytes as accounted.
const FILLED: u64 = 64 << 20;
/// How long filling may take.
const LONGEST: Duration = Duration::from_secs(60);
/// Memory that was given back is seen to be by the kernel within so long.
const SETTLED: Duration = Duration::from_secs(30);
/// It has settled when it is the same, but for so many KiB, …
const STEADY_KIB: u64 = 256;
/// … for so long: the allocator gives back what it does not need over ten seconds.
const REST: Duration = Duration::from_secs(11);

/// Off at first: what comes with clients and traffic, and not with answers, is there before it begins.
const SETTINGS: &str =
    "[cache]\nmode = 'off'\nsole_writer = true\nmin_cost = 0\ntenant_share = 1.0\nmax_bytes = '1GiB'\n";

/// What was seen of one size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Answers.
    pub entries: u64,
    /// What they take as accounted, in bytes.
    pub accounted: u64,
    /// By how much the resident memory of the process has grown, in bytes.
    pub growth: u64,
}

impl Held {
    /// By how much the account is off, in percent of the growth.
    pub fn error(&self) -> f64 {
        100.0 * (self.accounted as f64 / self.growth.max(1) as f64 - 1.0).abs()
    }
}

/// Fills a proxy of its own with answers of one size.
pub fn measure(binary: &Path, bench: &Bench, size: usize) -> Outcome<Held> {
    let setup = Setup { settings: format!("{SETTINGS}{RULE}"), ..Setup::default() };
    let way = Way::pgweir(binary, bench, &setup)?;
    let (admin, pooler) = (way.admin().ok_or("no admin port")?, way.pooler().ok_or("no process")?);
    let script = script(size);
    let load = Load { clients: CLIENTS, mode: Mode::Prepared };
    let run = |seconds| way.run_script(&bench.pgbench(), Script::Text(&script), load, seconds).map(drop);
    run(3)?;
    let before = settled(pooler);
    let answer = http::attempt(admin, "POST", "/api/v1/cache/mode", r#"{"mode": "on"}"#)?;
    if answer.status != 200 {
        return Err(format!("the cache cannot be switched on: {} {}", answer.status, answer.body).into());
    }
    let figure =
        |key: &str| Ok::<_, super::super::Failure>(cache_of(admin)?.get(key).and_then(Value::as_u64).unwrap_or(0));
    let began = Instant::now();
    while figure("bytes")? < FILLED {
        if began.elapsed() > LONGEST {
            return Err(format!("the cache is not filled after {LONGEST:?}: {}", cache_of(admin)?).into());
        }
        run(1)?;
    }
    let after = settled(pooler);
    Ok(Held { entries: figure("entries")?, accounted: figure("bytes")?, growth: 1024 * after.saturating_sub(before) })
}

/// Another account each time, and an answer of about `size` bytes whatever is asked for.
fn script(size: usize) -> String {
    // RowDescription, the heads of the others and CommandComplete take the rest.
    let text = size.saturating_sub(70);
    format!("\\set aid random(1, 1000000)\nSELECT repeat('x', {text}) FROM pgbench_accounts WHERE aid = :aid;\n")
}

/// Resident memory in KiB, once it does not change any more.
fn settled(pooler: &Child) -> u64 {
    let (mut known, mut since) = (pooler.resident_kib(), Instant::now());
    within(SETTLED.max(PATIENCE), || {
        let now = pooler.resident_kib();
        if now.abs_diff(known) > STEADY_KIB {
            (known, since) = (now, Instant::now());
        }
        since.elapsed() >= REST
    });
    pooler.resident_kib()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_off_in_both_directions() {
        let held = |accounted, growth| Held { entries: 1, accounted, growth };
        assert!((held(90, 100).error() - 10.0).abs() < 1e-9);
        assert!((held(110, 100).error() - 10.0).abs() < 1e-9);
        assert!(held(100, 0).error() > 1_000.0, "what has not grown is not right by that");
    }
}
