//! The report at the end: what was measured, arranged to be read.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::cached::{BEFORE, Look, TIME};
use super::crew::CLIENTS;
use super::facts::{Evidence, Run, about_the_queue};
use super::style::{Style, WIDTH, cut, grouped, wrapped};
use super::tally::Shape;
use super::{LIMIT, LIMITED_TENANT};

/// The whole report.
pub fn render(evidence: &Evidence, style: Style) -> String {
    let mut page = String::new();
    for part in [connections, latencies, bursts, slowest, limit, queue, cache, promises] {
        part(&mut page, evidence, style);
    }
    page
}

/// One line of the page.
macro_rules! line {
    ($page:expr, $($text:tt)*) => {{
        $page.push_str(&format!($($text)*));
        $page.push('\n');
    }};
}

fn connections(page: &mut String, evidence: &Evidence, style: Style) {
    let (through, direct) = (&evidence.through, &evidence.direct);
    page.push_str(&style.heading("The same traffic through pgweir and directly"));
    let header = format!("  {:<38}{:>16}{:>16}", "", "through pgweir", "directly");
    line!(page, "{}", style.dim(&header));
    let mut row = |name: &str, left: String, right: String| line!(page, "  {name:<38}{left:>16}{right:>16}");
    row("client connections", CLIENTS.to_string(), CLIENTS.to_string());
    row(
        "server connections, at most",
        through.seen.most_connections.to_string(),
        direct.seen.most_connections.to_string(),
    );
    row("memory of their processes, at most", mib(through.seen.most_server_kib), mib(direct.seen.most_server_kib));
    row("memory of pgweir, at most", mib(through.seen.most_proxy_kib), "–".to_owned());
    row("processor time of pgweir", format!("{:.1} s", evidence.proxy_cpu.as_secs_f64()), "–".to_owned());
    row("connecting all clients", millis(Some(through.connecting)), millis(Some(direct.connecting)));
    row("statements answered", grouped(through.figures.statements), grouped(direct.figures.statements));
    row("statements per second", rate(through), rate(direct));
    row("errors", through.figures.errors.to_string(), direct.figures.errors.to_string());
    let how = format!(
        "  Connections: pg_stat_activity, {} and {} looks. Memory: proportional set size in /proc, every 2 s. {} s and {} s.",
        through.seen.looks,
        direct.seen.looks,
        through.time.as_secs(),
        direct.time.as_secs()
    );
    line!(page, "{}", style.dim(&how));
}

fn latencies(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("Latency as the clients saw it, in ms"));
    let header =
        format!("  {:<30}{:>8}{:>10}{:>10}{:>16}{:>10}", "", "count", "median", "p95", "direct: median", "p95");
    line!(page, "{}", style.dim(&header));
    for shape in Shape::ALL {
        let (through, direct) = (&evidence.through.figures, &evidence.direct.figures);
        let cell = |figures: &super::tally::Figures, percent| {
            figures
                .percentile(shape, percent)
                .map_or("–".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1e3))
        };
        line!(
            page,
            "  {:<30}{:>8}{:>10}{:>10}{:>16}{:>10}",
            shape.label(),
            grouped(through.count(shape) as u64),
            cell(through, 50.0),
            cell(through, 95.0),
            cell(direct, 50.0),
            cell(direct, 95.0)
        );
    }
    let figures = &evidence.through.figures;
    let exported = format!(
        "  Exports: {} rows, {} MiB. Both runs share this machine's cores with the clients and the server.",
        grouped(figures.rows_exported),
        figures.bytes_exported >> 20
    );
    line!(page, "{}", style.dim(&exported));
}

fn bursts(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("N+1 bursts found"));
    let mut shown = BTreeSet::new();
    for finding in &evidence.findings {
        let pair = (text(finding, "/parent/fingerprint"), text(finding, "/child/fingerprint"));
        if !shown.insert(pair.clone()) {
            continue;
        }
        let alike: Vec<&Value> = evidence
            .findings
            .iter()
            .filter(|other| (text(other, "/parent/fingerprint"), text(other, "/child/fingerprint")) == pair)
            .collect();
        burst(page, &alike, style);
    }
    if evidence.findings.is_empty() {
        line!(page, "  {}", style.bad("none"));
    }
    let pages = format!("  The dashboards served {} pages.", grouped(evidence.through.figures.pages));
    line!(page, "{}", style.dim(&pages));
}

/// One pair of parent and child, over all tenants that it was found for.
fn burst(page: &mut String, alike: &[&Value], style: Style) {
    let Some(finding) = alike.first() else { return };
    let tenants: BTreeSet<String> = alike.iter().map(|finding| text(finding, "/tenant")).collect();
    let sum = |key| alike.iter().map(|finding| number(finding, key)).sum::<u64>();
    let most = |key| alike.iter().map(|finding| number(finding, key)).max().unwrap_or(0);
    let wasted = alike.iter().filter_map(|finding| finding.get("wasted_ms")?.as_f64()).fold(0.0, f64::max);
    let head = format!("{} child queries in {} bursts", grouped(sum("statements")), grouped(sum("occurrences")));
    line!(page, "  {}  {}", style.strong(&head), style.dim(&tenants.into_iter().collect::<Vec<_>>().join(", ")));
    let room = WIDTH - 13;
    line!(page, "    parent   {}", style.code(&cut(&text(finding, "/parent/text"), room)));
    line!(page, "    child    {}", style.code(&cut(&text(finding, "/child/text"), room)));
    line!(page, "    proof    {}", style.strong(&text(finding, "/evidence")));
    line!(
        page,
        "    largest  {} children of {} parent over {} connections, {wasted:.0} ms lost",
        most("count"),
        number(finding, "parent_executions"),
        most("connections")
    );
    let rewrite = text(finding, "/rewrite");
    // The first way to write it; another one may follow behind a semicolon.
    let first = rewrite.split(";\n").next().unwrap_or_default();
    for (number, piece) in wrapped(first, room).iter().enumerate() {
        line!(page, "    {:<9}{}", if number == 0 { "rewrite" } else { "" }, style.good(piece));
    }
    page.push('\n');
}

fn slowest(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("Slowest statements"));
    let header = format!("  {:>9}{:>9}{:>9}{:>9}  statement", "calls", "mean ms", "max ms", "total s");
    line!(page, "{}", style.dim(&header));
    for statement in evidence.slowest().iter().take(6) {
        line!(
            page,
            "  {:>9}{:>9.1}{:>9.1}{:>9.2}  {}",
            grouped(statement.calls),
            statement.mean_ms(),
            statement.max_ms,
            statement.total_ms / 1e3,
            style.code(&cut(&statement.text, WIDTH - 42))
        );
    }
}

fn limit(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading(&format!("{LIMITED_TENANT}'s statement timeout of {LIMIT:?}")));
    let overruns = &evidence.through.figures.overruns;
    let mut waits: Vec<Duration> = overruns.iter().map(|overrun| overrun.waited).collect();
    waits.sort_unstable();
    line!(
        page,
        "  {} statements beyond it: ended after {} (median), {} at the latest",
        overruns.len(),
        millis(super::tally::nearest_rank(&waits, 50.0)),
        millis(waits.last().copied())
    );
    if let Some((code, detail)) = overruns.iter().find_map(|overrun| overrun.refused.as_ref()) {
        line!(page, "  {} {}", style.strong(code), style.code(&cut(detail, WIDTH - 8)));
    }
    for pids in overruns.iter().filter_map(|overrun| overrun.server_pids).take(1) {
        line!(page, "  server process in one transaction: {} before the error, {} after it", pids.0, pids.1);
    }
    let longest = evidence.direct.figures.overruns.iter().map(|overrun| overrun.waited).max();
    line!(
        page,
        "  {}",
        style.dim(&format!(
            "directly, without a limit, the same statements held their connection for up to {}",
            millis(longest)
        ))
    );
}

fn queue(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("Queue polling"));
    let figures = &evidence.through.figures;
    line!(
        page,
        "  {} polls, {} jobs done, {} findings that name the queue",
        style.strong(&grouped(figures.count(Shape::Poll) as u64)),
        grouped(figures.jobs_done),
        about_the_queue(&evidence.findings)
    );
}

fn cache(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("The dashboards with the read cache's preset"));
    let cached = &evidence.cached;
    let (without, with) = (&cached.without, &cached.with);
    let header = format!("  {:<38}{:>16}{:>16}", "", "mode off", "mode on");
    line!(page, "{}", style.dim(&header));
    let mut row = |name: &str, left: String, right: String| line!(page, "  {name:<38}{left:>16}{right:>16}");
    row("pages", grouped(without.figures.pages), grouped(with.figures.pages));
    row("statements", grouped(without.figures.statements), grouped(with.figures.statements));
    let ratio = format!("{:.1} %", 100.0 * cached.counted.hit_ratio());
    row("hits among what may be cached", "–".to_owned(), ratio);
    let worked = |look: &Look| format!("{:.2} s", look.worked.as_secs_f64());
    row("database time", worked(without), worked(with));
    let for_a_page = |look: &Look| format!("{:.1} ms", look.worked_for_a_page().as_secs_f64() * 1e3);
    row("database time of a page", for_a_page(without), for_a_page(with));
    for percent in [50.0, 95.0] {
        let of = |look: &Look| {
            let time = look.figures.percentile(Shape::Page, percent);
            time.map_or("–".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
        };
        row(&format!("a page's own query, {percent:.0} % within"), of(without), of(with));
    }
    let how = format!(
        "  preset = \"workflow-engine\", min_cost = 0, sole_writer; {} s each, behind {} s that do not count. Database time: pg_stat_database.active_time.",
        TIME.as_secs(),
        BEFORE.as_secs()
    );
    line!(page, "{}", style.dim(&how));
}

fn promises(page: &mut String, evidence: &Evidence, style: Style) {
    page.push_str(&style.heading("What was promised"));
    for fact in evidence.facts() {
        let mark = if fact.holds { style.good("✓") } else { style.bad("✗") };
        line!(page, "  {mark} {}", fact.claim);
        line!(page, "    {}", style.dim(&fact.measured));
    }
    for error in &evidence.through.figures.first_errors {
        line!(page, "    {}", style.bad(error));
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("–").to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn mib(kib: Option<u64>) -> String {
    kib.map_or("not readable".to_owned(), |kib| format!("{:.1} MiB", kib as f64 / 1024.0))
}

fn millis(time: Option<Duration>) -> String {
    time.map_or("–".to_owned(), |time| format!("{:.0} ms", time.as_secs_f64() * 1e3))
}

fn rate(run: &Run) -> String {
    grouped((run.figures.statements as f64 / run.time.as_secs_f64()) as u64)
}
