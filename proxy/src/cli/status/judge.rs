//! What is wrong, from what was seen. Pure.

use super::{Look, Seen};
use crate::cli::ask::{printable, span};
use crate::cli::top::model::Pool;

/// The exit code of who asked wrongly, as monitoring plugins have it.
pub(super) const UNKNOWN: u8 = 3;
/// A certificate that ends sooner is told of.
const CERTIFICATE_SECONDS: f64 = 14.0 * 86_400.0;
/// Of `max_clients`, what is nearly all.
const NEARLY: f64 = 0.9;

/// How it is, as monitoring plugins tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Good to know.
    Ok,
    /// Somebody should look at it.
    Warning,
    /// Clients are turned away, or would be.
    Critical,
}

impl Verdict {
    /// The exit code.
    pub(super) fn code(self) -> u8 {
        self as u8
    }

    /// As it stands in front.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
        }
    }
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) verdict: Verdict,
    pub(super) text: String,
}

/// The gravest of all.
pub(super) fn worst(notices: &[Notice]) -> Verdict {
    notices.iter().map(|notice| notice.verdict).max().unwrap_or(Verdict::Ok)
}

/// Everything that there is to tell, the gravest first.
pub(super) fn judge(seen: &Seen) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut tell = |verdict, text: String| notices.push(Notice { verdict, text: printable(&text) });
    if let Some(reasons) = &seen.not_ready {
        tell(Verdict::Critical, format!("not ready for new clients: {}", reasons.join(", ")));
    }
    for pool in seen.now.pools.iter().flatten() {
        judge_pool(pool, before(seen, pool), &mut tell);
    }
    if let Some(pools) = &seen.now.pools {
        let clients: u64 = pools.iter().map(|pool| pool.clients.total).sum();
        let most = value(&seen.now, "pgweir_max_clients").unwrap_or(0.0);
        if most > 0.0 && clients as f64 >= most * NEARLY {
            tell(Verdict::Warning, format!("{clients} clients of at most {most}"));
        }
    }
    judge_proxy(seen, &mut tell);
    notices.sort_by_key(|notice| std::cmp::Reverse(notice.verdict));
    notices
}

fn before<'a>(seen: &'a Seen, pool: &Pool) -> Option<&'a Pool> {
    seen.before.pools.iter().flatten().find(|before| before.id() == pool.id())
}

fn judge_pool(pool: &Pool, before: Option<&Pool>, tell: &mut impl FnMut(Verdict, String)) {
    let name = pool.id();
    let since = |of: fn(&Pool) -> u64| before.map_or(0, |before| of(pool).saturating_sub(of(before)));
    let waited_before = before.is_some_and(|before| before.clients.waiting > 0);
    let (failed, waiting) = (since(|pool| pool.dial_failures), pool.clients.waiting);
    let connected = pool.upstreams.active + pool.upstreams.idle;
    if failed > 0 && connected == 0 {
        tell(Verdict::Critical, format!("{name}: no connection to its server, and {}", who_wait(waiting)));
    } else if failed > 0 {
        tell(Verdict::Warning, format!("{name}: {failed} attempts to connect to its server failed just now"));
    } else if connected == 0 && pool.dials > 0 && pool.dials == pool.dial_failures {
        tell(Verdict::Warning, format!("{name}: no attempt to connect to its server has ever succeeded"));
    }
    if pool.paused {
        tell(Verdict::Warning, format!("{name}: paused by an operator"));
    } else if waiting > 0 && waited_before {
        let size = pool.settings.map_or_else(String::new, |settings| format!(" of {}", settings.size));
        tell(
            Verdict::Warning,
            format!("{name}: {} for a server connection; {} in use{size}", who_wait(waiting), pool.upstreams.active),
        );
    }
    if pool.disabled {
        tell(Verdict::Warning, format!("{name}: disabled by an operator"));
    }
    let refused = since(|pool| pool.queue_timeouts + pool.queue_refusals);
    if refused > 0 {
        tell(Verdict::Warning, format!("{name}: {refused} requests were refused just now, for none came free in time"));
    }
}

fn who_wait(clients: u64) -> String {
    if clients == 1 { "1 client waits".to_owned() } else { format!("{clients} clients wait") }
}

fn value(look: &Look, name: &str) -> Option<f64> {
    look.metrics.as_ref()?.sum(name)
}

fn judge_proxy(seen: &Seen, tell: &mut impl FnMut(Verdict, String)) {
    let now = |name: &str| value(&seen.now, name).unwrap_or(0.0);
    let since = |name: &str| now(name) - value(&seen.before, name).unwrap_or(0.0);
    if now("pgweir_memory_short") > 0.0 {
        tell(Verdict::Critical, "memory is short: no new clients are let in".to_owned());
    }
    if value(&seen.now, "pgweir_config_last_reload_successful") == Some(0.0) {
        tell(Verdict::Warning, "the last reload was refused: the file has a mistake (pgweir check)".to_owned());
    }
    if value(&seen.now, "pgweir_tenant_table_readable") == Some(0.0) {
        tell(Verdict::Warning, "the table of tenants cannot be read: what was known of it holds".to_owned());
    }
    let wrong = now("pgweir_tenant_table_wrong_rows");
    if wrong > 0.0 {
        tell(Verdict::Warning, format!("{wrong} rows of the table of tenants are wrong"));
    }
    let pending = now("pgweir_config_restart_pending_keys");
    if pending > 0.0 {
        tell(Verdict::Warning, format!("{pending} changed settings wait for a restart"));
    }
    let certificates = seen.now.metrics.iter();
    for (labels, end) in certificates.flat_map(|all| all.of("pgweir_tls_certificate_not_after_time_seconds")) {
        let file = labels.trim_start_matches("file=").trim_matches('"');
        let left = end - seen.clock;
        if left <= 0.0 {
            tell(Verdict::Critical, format!("the certificate in {file} has expired"));
        } else if left < CERTIFICATE_SECONDS {
            tell(Verdict::Warning, format!("the certificate in {file} expires in {}", span(left as u64)));
        }
    }
    for (name, what) in [
        ("pgweir_log_lines_lost_total", "lines of the log were lost"),
        ("pgweir_events_dropped_total", "events found no room on their way to the analyst"),
        ("pgweir_detection_dropped_total", "statements were left out by detection"),
        ("pgweir_findings_dropped_total", "findings found no room"),
        ("pgweir_table_overflows_total", "things found a table of telemetry full"),
    ] {
        // What happens now is to be looked at; what happened at some time is good to know.
        if since(name) > 0.0 {
            tell(Verdict::Warning, format!("{} {what} just now", since(name)));
        } else if now(name) > 0.0 {
            tell(Verdict::Ok, format!("{} {what} since the start", now(name)));
        }
    }
}
