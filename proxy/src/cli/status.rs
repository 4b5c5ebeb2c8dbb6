//! `pgweir status`: a running pgweir on one screen, judged as a monitoring plugin judges.

mod judge;
mod metrics;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;

use super::ask::{self, Trouble};
use super::http::Admin;
use super::top::model::{self, Finding, Pool, Version, Window};
use judge::Verdict;
use metrics::Metrics;

/// Between the two looks that rates come from.
const PAUSE: Duration = Duration::from_secs(1);
/// Findings that are named.
const FINDINGS: usize = 3;

/// Which pgweir to ask.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The admin address of the running pgweir
    #[arg(long, value_name = "ADDRESS", env = "PGWEIR_ADMIN", default_value = "127.0.0.1:6433")]
    admin: String,
    /// Its bearer token, if it has one. Other users see flags: prefer the variable
    #[arg(long, value_name = "TOKEN", env = "PGWEIR_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// PEM file with the authority of its certificate, or with the certificate itself, where its address is https://…
    #[arg(long, value_name = "FILE", env = "PGWEIR_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One look. What a token does not open is `None`.
#[derive(Debug, Clone, Default)]
struct Look {
    pools: Option<Vec<Pool>>,
    metrics: Option<Metrics>,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    address: String,
    version: Option<Version>,
    not_ready: Option<Vec<String>>,
    before: Look,
    now: Look,
    /// Between the two.
    elapsed: Duration,
    findings: Vec<Finding>,
    /// The last window of 10 s that is over.
    window: Option<Window>,
    /// Seconds since 1970.
    clock: f64,
}

/// Asks, prints and judges.
pub(super) fn run(status: &Status) -> ExitCode {
    let seen = Admin::new(&status.admin, status.admin_token.clone())
        .and_then(|admin| admin.believing(status.admin_ca.as_deref()))
        .map_err(|mistake| (judge::UNKNOWN, mistake))
        .and_then(|admin| Seen::look(&admin).map_err(|trouble| (Verdict::Critical.code(), trouble.to_string())));
    match seen {
        Ok(seen) => {
            let notices = judge::judge(&seen);
            let verdict = judge::worst(&notices);
            let text = if status.json {
                format!("{:#}\n", page::json(&seen, verdict, &notices))
            } else {
                page::text(&seen, verdict, &notices)
            };
            // A reader that has what it wanted does not change how the proxy is.
            _ = super::print(&text);
            ExitCode::from(verdict.code())
        }
        Err((code, why)) => {
            let verdict = if code == judge::UNKNOWN { "UNKNOWN" } else { "CRITICAL" };
            let text = if status.json {
                format!("{:#}\n", serde_json::json!({"status": verdict.to_lowercase(), "notices": [why]}))
            } else {
                format!("{verdict}  {why}\n")
            };
            _ = super::print(&text);
            ExitCode::from(code)
        }
    }
}

impl Look {
    fn take(admin: &Admin) -> Result<Self, Trouble> {
        let metrics = ask::permitted(ask::text(admin, "/metrics"))?.map(|text| Metrics::new(&text));
        Ok(Self { pools: model::pools(admin)?, metrics })
    }
}

impl Seen {
    fn look(admin: &Admin) -> Result<Self, Trouble> {
        let began = Instant::now();
        let before = Look::take(admin)?;
        std::thread::sleep(PAUSE.saturating_sub(began.elapsed()));
        let now = Look::take(admin)?;
        let elapsed = began.elapsed();
        let windows = model::history(admin, None)?;
        Ok(Self {
            address: admin.address().to_owned(),
            version: model::version(admin)?,
            not_ready: model::not_ready(admin)?,
            before,
            now,
            elapsed,
            findings: model::findings(admin, FINDINGS)?,
            window: windows.last().cloned(),
            clock: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        })
    }

    /// Statements and errors per second between the two looks.
    fn rates(&self) -> Option<(f64, f64)> {
        let sums = |look: &Look| {
            let sum = |of: fn(&Pool) -> u64| look.pools.as_ref().map(|pools| pools.iter().map(of).sum::<u64>());
            Some((sum(|pool| pool.statements)?, sum(|pool| pool.statement_errors)?))
        };
        let (before, now) = (sums(&self.before)?, sums(&self.now)?);
        let seconds = self.elapsed.as_secs_f64().max(1e-3);
        let rate = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
        Some((rate(before.0, now.0), rate(before.1, now.1)))
    }

    /// The 95th percentile of the last window of 10 s that is over, in ms; `None` where nothing ran lately.
    fn p95_ms(&self) -> Option<f64> {
        let window = self.window.as_ref()?;
        let start = config::units::parse_moment(&window.start).ok()? as f64 / 1e6;
        (self.clock - start < 30.0).then_some(window.p95_ms).flatten()
    }
}

#[cfg(test)]
mod tests;
