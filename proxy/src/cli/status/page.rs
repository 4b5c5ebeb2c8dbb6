//! What was seen, as a page and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Seen;
use super::judge::{Notice, Verdict};
use crate::cli::ask::{figure, printable, span};
use crate::cli::top::model::Pool;

/// Pools that have a line of their own.
const POOLS: usize = 12;

/// The page: what is wrong comes first, and the first line is all that a monitoring system shows.
pub(super) fn text(seen: &Seen, verdict: Verdict, notices: &[Notice]) -> String {
    let mut text = format!("{}  {}\n", verdict.word(), headline(seen, notices));
    // Writing to a String cannot fail, here and below.
    for notice in notices {
        let mark = if notice.verdict == Verdict::Ok { "note" } else { notice.verdict.word() };
        _ = writeln!(text, "  {mark:<8}  {}", notice.text);
    }
    if let Some((statements, errors)) = seen.rates() {
        let p95 = seen.p95_ms().map_or_else(|| "–".to_owned(), |ms| format!("{} ms", figure(ms)));
        _ = writeln!(text, "\nstatements/s {}   errors/s {}   p95 {p95}", figure(statements), figure(errors));
    }
    if let Some(pools) = &seen.now.pools {
        text += &pool_table(seen, pools);
    }
    if !seen.findings.is_empty() {
        text += "\nfindings\n";
    }
    for finding in &seen.findings {
        let what = printable(finding.evidence.as_deref().unwrap_or(&finding.child.text));
        let what: String = what.chars().take(70).collect();
        let (severity, kind, tenant) = (&finding.severity, &finding.kind, printable(&finding.tenant));
        _ = writeln!(text, "  {severity:<7} {kind:<18} {tenant}  {what}  ({} bursts)", finding.occurrences);
    }
    text
}

fn headline(seen: &Seen, notices: &[Notice]) -> String {
    let mut line = "pgweir".to_owned();
    if let Some(version) = &seen.version {
        _ = write!(line, " {}", version.version);
    }
    _ = write!(line, " at {}", seen.address);
    line += if seen.not_ready.is_some() { ", not ready" } else { ", ready" };
    if let Some(version) = &seen.version {
        _ = write!(line, ", up {}, {} workers", span(version.uptime_seconds), version.workers);
    }
    if let Some(gravest) = notices.first().filter(|notice| notice.verdict > Verdict::Ok) {
        _ = write!(line, "; {}", gravest.text);
    }
    line
}

fn pool_table(seen: &Seen, pools: &[Pool]) -> String {
    let mut text = format!(
        "\n{:<28}{:>9}{:>8}{:>9}{:>7}{:>6}{:>6}{:>8}{:>10}{:>10}\n",
        "pool", "clients", "active", "waiting", "used", "idle", "size", "pinned", "calls/s", "wait p95"
    );
    let mut busiest: Vec<&Pool> = pools.iter().collect();
    busiest.sort_by(|one, other| {
        (other.clients.waiting, other.clients.total).cmp(&(one.clients.waiting, one.clients.total))
    });
    for pool in busiest.iter().take(POOLS) {
        let name: String = printable(&pool.id()).chars().take(27).collect();
        let size = pool.settings.map_or_else(|| "–".to_owned(), |settings| settings.size.to_string());
        let before = seen.before.pools.iter().flatten().find(|before| before.id() == pool.id());
        let calls = before.map_or(0, |before| pool.statements.saturating_sub(before.statements));
        _ = writeln!(
            text,
            "{name:<28}{:>9}{:>8}{:>9}{:>7}{:>6}{size:>6}{:>8}{:>10}{:>10}",
            pool.clients.total,
            pool.clients.active,
            pool.clients.waiting,
            pool.upstreams.active,
            pool.upstreams.idle,
            pool.upstreams.pinned,
            figure(calls as f64 / seen.elapsed.as_secs_f64().max(1e-3)),
            format!("{} ms", figure(pool.wait_ms.p95)),
        );
    }
    if let Some(more) = pools.len().checked_sub(POOLS).filter(|more| *more > 0) {
        _ = writeln!(text, "and {more} more");
    }
    text
}

/// The same for machines.
pub(super) fn json(seen: &Seen, verdict: Verdict, notices: &[Notice]) -> Value {
    let notices: Vec<Value> = notices
        .iter()
        .map(|notice| json!({"status": notice.verdict.word().to_lowercase(), "text": notice.text}))
        .collect();
    let pools = seen.now.pools.as_ref().map(|pools| {
        let pool = |own: &Pool| {
            json!({
                "database": own.database,
                "user": own.user,
                "paused": own.paused,
                "disabled": own.disabled,
                "clients": {"total": own.clients.total, "active": own.clients.active, "waiting": own.clients.waiting},
                "upstreams": {
                    "active": own.upstreams.active,
                    "idle": own.upstreams.idle,
                    "pinned": own.upstreams.pinned,
                    "size": own.settings.map(|settings| settings.size),
                    "reserve_size": own.settings.map(|settings| settings.reserve_size),
                },
                "wait_p95_ms": own.wait_ms.p95,
            })
        };
        pools.iter().map(pool).collect::<Vec<Value>>()
    });
    let findings: Vec<Value> = seen
        .findings
        .iter()
        .map(|own| {
            let what = own.evidence.as_deref().unwrap_or(&own.child.text);
            json!({"id": own.id, "kind": own.kind, "severity": own.severity, "tenant": own.tenant, "what": what})
        })
        .collect();
    json!({
        "status": verdict.word().to_lowercase(),
        "address": seen.address,
        "version": seen.version.as_ref().map(|version| version.version.clone()),
        "uptime_seconds": seen.version.as_ref().map(|version| version.uptime_seconds),
        "workers": seen.version.as_ref().map(|version| version.workers),
        "ready": seen.not_ready.is_none(),
        "notices": notices,
        "statements_per_second": seen.rates().map(|(statements, _)| statements),
        "errors_per_second": seen.rates().map(|(_, errors)| errors),
        "p95_ms": seen.p95_ms(),
        "pools": pools,
        "findings": findings,
    })
}
