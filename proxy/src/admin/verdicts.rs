//! What is wrong now, said in sentences: since when, for whom, by which numbers, and what to do. Pure: facts in, verdicts
//! out, the worst first.
//!
//! | verdict | from where on |
//! |---|---|
//! | `server_down` | an attempt to connect has failed: a warning while connections are open, critical when none is |
//! | `pool_waiting`, `pool_exhausted` | a client has waited for 1 s: a warning; for half of `queue_timeout`, or 5 s: critical |
//! | `error_rate` | in 5 minutes 1 % of statements fail, 20 at least, and 3 times as many as in the hour before; 10 % and 100: critical |
//! | `findings` | an open finding; of high severity: a warning |
//! | `limit_reached` | a tenant was refused or warned in the last 5 minutes |
//! | `tenant_table` | it cannot be read, or a row is wrong |
//! | `memory`, `reload_failed`, `draining`, `suspended`, `paused`, `disabled`, `overflow` | it is so |

use std::collections::BTreeMap;

use config::units::show_duration;
use policy::finding::{Kept, Severity as Gravity};

use super::events::memory::{Episode, PoolSince, WAITS_US};
use super::pages::segment;
use super::source::PoolState;
use crate::tenant_table::Standing;

/// Waiting for so long is critical, whatever the pool's patience.
const LONG_WAIT_US: u64 = 5_000_000;
/// Errors: the share of statements, how many at least, and how many times the share of the hour before.
const ERRORS: (f64, u64, f64) = (0.01, 20, 3.0);
/// The same that is critical.
const MANY_ERRORS: (f64, u64) = (0.1, 100);
/// Verdicts of one kind that are told one by one.
const MAX_EACH: usize = 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Clients suffer.
    Critical,
    /// They soon will, or some do.
    Warning,
    /// Somebody should know.
    Notice,
}

impl Severity {
    /// Its name in JSON.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// Which of those above.
    pub(super) kind: &'static str,
    pub(super) severity: Severity,
    /// What is wrong, in a sentence.
    pub(super) what: String,
    /// Since when, in µs since 1970, where that is known.
    pub(super) since_us: Option<u64>,
    pub(super) tenant: Option<String>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) fingerprint: Option<String>,
    /// The numbers, in words.
    pub(super) evidence: String,
    /// The same numbers for programs.
    pub(super) numbers: Vec<(&'static str, f64)>,
    /// What to do.
    pub(super) advice: String,
    /// Where to look.
    pub(super) link: String,
}

/// What verdicts follow from.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Now, in µs since 1970.
    pub(super) now_us: u64,
    /// Pools; none where one tenant asks.
    pub(super) pools: Vec<(PoolState, PoolSince)>,
    /// Statements and failed ones of the last five minutes, and of the hour before.
    pub(super) recent: (u64, u64),
    pub(super) before: (u64, u64),
    /// Open findings, the gravest.
    pub(super) findings: Vec<Kept>,
    /// How many there are of each kind, where that is more.
    pub(super) open: BTreeMap<&'static str, u64>,
    /// Limits that tenants have reached.
    pub(super) limits: BTreeMap<(String, &'static str), Episode>,
    /// What was lost.
    pub(super) losses: BTreeMap<&'static str, Episode>,
    /// It ends, since then if that is known.
    pub(super) draining: Option<Option<u64>>,
    /// SUSPEND is in force, the same.
    pub(super) suspended: Option<Option<u64>>,
    /// Memory is short, the same.
    pub(super) short_of_memory: Option<Option<u64>>,
    /// The last reload has failed: when, and the first mistake.
    pub(super) reload: Option<(Option<u64>, String)>,
    /// How it stands with the table of tenants.
    pub(super) tenant_table: Option<Standing>,
    /// Whose verdicts alone.
    pub(super) tenant: Option<String>,
}

/// What is looked at, for whoever sees no verdict.
pub(super) fn checked(of_tenant: bool) -> &'static [&'static str] {
    const TENANT: &[&str] = &["statements that fail", "open findings", "limits that are reached"];
    const ALL: &[&str] = &[
        "servers that cannot be connected to",
        "clients that wait for a connection",
        "statements that fail",
        "open findings",
        "limits that tenants reach",
        "memory",
        "the last reload",
        "the table of tenants",
        "a drain under way",
        "databases that are paused, suspended or take no clients",
        "statistics and logs that overflow",
    ];
    if of_tenant { TENANT } else { ALL }
}

/// Everything that is wrong, the worst first, of equals what lasts longest.
pub(super) fn verdicts(facts: &Facts) -> Vec<Verdict> {
    let mut all: Vec<Verdict> = facts.pools.iter().flat_map(|(pool, since)| of_pool(facts, pool, since)).collect();
    all.extend(switches(facts));
    all.extend(errors(facts));
    all.extend(findings(facts));
    all.extend(limits(facts));
    all.extend(whole(facts));
    all.extend(losses(facts));
    all.sort_by(|a, b| {
        let since = |verdict: &Verdict| verdict.since_us.unwrap_or(u64::MAX);
        (a.severity, since(a), a.kind, &a.what).cmp(&(b.severity, since(b), b.kind, &b.what))
    });
    all
}

/// Nothing said of anybody yet.
fn verdict(kind: &'static str, severity: Severity, what: String, link: &str) -> Verdict {
    Verdict {
        kind,
        severity,
        what,
        since_us: None,
        tenant: None,
        database: None,
        user: None,
        fingerprint: None,
        evidence: String::new(),
        numbers: Vec::new(),
        advice: String::new(),
        link: link.to_owned(),
    }
}

fn of_pool(facts: &Facts, pool: &PoolState, since: &PoolSince) -> Vec<Verdict> {
    let own =
        |verdict: Verdict| Verdict { database: Some(pool.database.clone()), user: Some(pool.user.clone()), ..verdict };
    let mut all = Vec::new();
    if pool.failures > 0 {
        let severity = if pool.open == 0 { Severity::Critical } else { Severity::Warning };
        let what = format!("The server of database {} cannot be connected to", pool.database);
        let why = pool.failure.clone().unwrap_or_else(|| "it did not answer".to_owned());
        all.push(own(Verdict {
            since_us: since.down,
            evidence: format!(
                "{} attempts have failed in a row, {} connections are open: {why}",
                pool.failures, pool.open
            ),
            numbers: vec![("failures", pool.failures.into()), ("open", pool.open as f64)],
            advice: "See whether the server runs and takes the proxy's login; it is tried again by itself.".to_owned(),
            ..verdict("server_down", severity, what, "/pools")
        }));
    }
    let waited_us = pool.waiting_for.map_or(0, |time| time.as_micros() as u64);
    if waited_us >= WAITS_US && !pool.paused {
        let patience_us = (pool.queue_timeout.as_micros() as u64 / 2).clamp(WAITS_US, LONG_WAIT_US);
        let severity = if waited_us >= patience_us { Severity::Critical } else { Severity::Warning };
        let full = pool.open >= pool.size && pool.failures == 0;
        let (kind, advice) = match full {
            true => (
                "pool_exhausted",
                "Look at who holds connections for long, and at pins; or raise pool.size if the server has room.",
            ),
            false => ("pool_waiting", "Look at the pool's limits, its server and max_upstreams."),
        };
        let what = format!("Clients of database {} wait for a server connection", pool.database);
        let waited = show_duration(std::time::Duration::from_micros(waited_us / 1_000 * 1_000));
        all.push(own(Verdict {
            since_us: since.waiting.or(Some(facts.now_us.saturating_sub(waited_us))),
            evidence: format!(
                "{} wait, the first of them for {waited}; {} of {} connections",
                pool.waiting, pool.open, pool.size
            ),
            numbers: vec![
                ("waiting", pool.waiting as f64),
                ("waited_ms", waited_us as f64 / 1e3),
                ("open", pool.open as f64),
                ("size", pool.size as f64),
            ],
            advice: advice.to_owned(),
            ..verdict(kind, severity, what, "/connections")
        }));
    }
    all
}

/// Databases that an operator has switched off, once each.
fn switches(facts: &Facts) -> Vec<Verdict> {
    let mut paused: BTreeMap<&str, (Option<u64>, usize)> = BTreeMap::new();
    let mut disabled: BTreeMap<&str, Option<u64>> = BTreeMap::new();
    for (pool, since) in &facts.pools {
        if pool.paused {
            let known = paused.entry(&pool.database).or_insert((since.paused, 0));
            known.1 += pool.waiting;
        }
        if pool.disabled {
            disabled.entry(&pool.database).or_insert(since.disabled);
        }
    }
    let paused = paused.into_iter().map(|(name, (since_us, waiting))| Verdict {
        since_us,
        database: Some(name.to_owned()),
        evidence: format!("{waiting} clients wait"),
        numbers: vec![("waiting", waiting as f64)],
        advice: "Resume it when the work on its server is done.".to_owned(),
        ..verdict(
            "paused",
            if waiting > 0 { Severity::Warning } else { Severity::Notice },
            format!("Database {name} is paused"),
            "/pools",
        )
    });
    let disabled = disabled.into_iter().map(|(name, since_us)| Verdict {
        since_us,
        database: Some(name.to_owned()),
        advice: "Enable it to let new clients in.".to_owned(),
        ..verdict("disabled", Severity::Notice, format!("Database {name} takes no new clients"), "/pools")
    });
    paused.chain(disabled).take(2 * MAX_EACH).collect()
}

fn errors(facts: &Facts) -> Option<Verdict> {
    let share = |(calls, errors): (u64, u64)| errors as f64 / calls.max(1) as f64;
    let ((calls, errors), now, then) = (facts.recent, share(facts.recent), share(facts.before));
    let (least, many, times) = ERRORS;
    if errors < many || now < least || now < times * then {
        return None;
    }
    let critical = now >= MANY_ERRORS.0 && errors >= MANY_ERRORS.1;
    let severity = if critical { Severity::Critical } else { Severity::Warning };
    let percent = |share: f64| (share * 1_000.0).round() / 10.0;
    Some(Verdict {
        tenant: facts.tenant.clone(),
        evidence: format!(
            "{errors} of {calls} statements failed in the last 5 minutes ({} %), {} % in the hour before",
            percent(now),
            percent(then)
        ),
        numbers: vec![("errors", errors as f64), ("calls", calls as f64), ("share", now), ("share_before", then)],
        advice: "Sort statements by errors and look at their SQLSTATEs.".to_owned(),
        ..verdict("error_rate", severity, "More statements fail than usual".to_owned(), "/queries?sort=errors")
    })
}

/// One verdict for each kind of finding, with the worst of them.
fn findings(facts: &Facts) -> Vec<Verdict> {
    let mut kinds: BTreeMap<&'static str, Vec<&Kept>> = BTreeMap::new();
    for kept in &facts.findings {
        kinds.entry(kept.finding.kind.name()).or_default().push(kept);
    }
    let mut all = Vec::new();
    for (kind, kept) in kinds {
        let Some(worst) = kept.iter().max_by(|a, b| a.finding.wasted_ms.total_cmp(&b.finding.wasted_ms)) else {
            continue;
        };
        let finding = &worst.finding;
        let severity = if finding.severity == Gravity::High { Severity::Warning } else { Severity::Notice };
        let open = facts.open.get(kind).copied().unwrap_or(0).max(kept.len() as u64);
        let what = match open {
            1 => format!("One open finding of kind {kind}"),
            many => format!("{many} open findings of kind {kind}"),
        };
        let sums = |of: fn(&Kept) -> u64| kept.iter().map(|kept| of(kept)).fold(0, u64::saturating_add);
        let bursts = sums(|kept| kept.finding.occurrences);
        all.push(Verdict {
            since_us: kept.iter().map(|kept| kept.finding.first_seen.0).min(),
            tenant: Some(finding.tenant.clone()),
            database: Some(finding.database.clone()),
            fingerprint: Some(finding.child.fingerprint.clone()),
            evidence: format!("seen {bursts} times; the worst costs {} ms at once", finding.wasted_ms.round()),
            numbers: vec![("findings", open as f64), ("bursts", bursts as f64), ("wasted_ms", finding.wasted_ms)],
            advice: match &finding.rewrite {
                Some(_) => "Send the rewrite that the finding shows, or acknowledge it.".to_owned(),
                None => "Look at the finding, and acknowledge it if it may stay.".to_owned(),
            },
            ..verdict("findings", severity, what, &format!("/findings?kind={kind}"))
        });
    }
    all
}

fn limits(facts: &Facts) -> Vec<Verdict> {
    let mut reached: Vec<_> = facts
        .limits
        .iter()
        .filter(|((tenant, _), episode)| {
            !episode.is_over(facts.now_us) && facts.tenant.as_ref().is_none_or(|own| own == tenant)
        })
        .collect();
    reached.sort_by_key(|(key, episode)| (u64::MAX - episode.count, *key));
    // A tenant's viewer has its own page alone.
    let link = match facts.tenant.as_deref() {
        Some(own) => segment(own).map_or_else(|| "/".to_owned(), |own| format!("/tenants/{own}")),
        None => "/limits".to_owned(),
    };
    let told = reached.into_iter().take(MAX_EACH).map(|((tenant, key), episode)| Verdict {
        since_us: Some(episode.began_us),
        tenant: Some(tenant.clone()),
        evidence: format!("{} times since then, the last in these 5 minutes", episode.count),
        numbers: vec![("times", episode.count as f64)],
        advice: "See what it runs, and whether the limit fits it.".to_owned(),
        ..verdict("limit_reached", Severity::Warning, format!("Tenant {tenant} reaches its {key}"), &link)
    });
    told.collect()
}

/// What concerns the whole process.
fn whole(facts: &Facts) -> Vec<Verdict> {
    let mut all = Vec::new();
    if let Some(since_us) = facts.short_of_memory {
        all.push(Verdict {
            since_us,
            evidence: "resident memory is beyond max_memory".to_owned(),
            advice:
                "New clients are refused with 53300 until it is 5 % below: raise max_memory, or have fewer clients."
                    .to_owned(),
            ..verdict("memory", Severity::Critical, "Memory is short: new clients are refused".to_owned(), "/")
        });
    }
    if let Some((since_us, why)) = &facts.reload {
        all.push(Verdict {
            since_us: *since_us,
            evidence: why.clone(),
            advice: "Correct the configuration and reload it; the settings before it are in force.".to_owned(),
            ..verdict("reload_failed", Severity::Warning, "The last reload was refused".to_owned(), "/config")
        });
    }
    all.extend(facts.tenant_table.as_ref().and_then(of_table));
    if let Some(since_us) = facts.draining {
        all.push(Verdict {
            since_us,
            advice: "New clients go elsewhere; it ends when those that are here are done.".to_owned(),
            ..verdict("draining", Severity::Notice, "This process is ending".to_owned(), "/connections")
        });
    }
    if let Some(since_us) = facts.suspended {
        let waiting: usize = facts.pools.iter().map(|(pool, _)| pool.waiting).sum();
        all.push(Verdict {
            since_us,
            evidence: format!(
                "{waiting} clients wait for a server connection; what others have sent since is not read"
            ),
            numbers: vec![("waiting", waiting as f64)],
            advice: "RESUME lets all of them go on.".to_owned(),
            ..verdict("suspended", Severity::Warning, "All databases are suspended".to_owned(), "/pools")
        });
    }
    all
}

fn of_table(table: &Standing) -> Option<Verdict> {
    let numbers = vec![("tenants", table.tenants as f64), ("wrong_rows", table.wrong as f64)];
    let (what, evidence, advice) = match (&table.trouble, table.told.first()) {
        (Some(why), _) => (
            "The table of tenants cannot be read".to_owned(),
            format!("{}: {why}", table.database),
            "What was known of it holds, and it is tried again.",
        ),
        (None, Some((tenant, why))) => (
            format!("Rows of the table of tenants are wrong: {}", table.wrong),
            if tenant.is_empty() { why.clone() } else { format!("{tenant}: {why}") },
            "Correct them; their tenants keep what they had.",
        ),
        (None, None) => return None,
    };
    let database = Some(table.database.clone());
    let whole = verdict("tenant_table", Severity::Warning, what, "/config");
    Some(Verdict { database, evidence, numbers, advice: advice.to_owned(), ..whole })
}

fn losses(facts: &Facts) -> Vec<Verdict> {
    let lost = facts.losses.iter().filter(|(_, episode)| !episode.is_over(facts.now_us));
    lost.map(|(name, episode)| Verdict {
        since_us: Some(episode.began_us),
        evidence: format!("{} since then", episode.count),
        numbers: vec![("lost", episode.count as f64)],
        advice: "What is shown is not all that there is; traffic is not touched.".to_owned(),
        ..verdict("overflow", Severity::Notice, format!("There are too many {name} to keep all"), "/")
    })
    .collect()
}

#[cfg(test)]
mod tests;
