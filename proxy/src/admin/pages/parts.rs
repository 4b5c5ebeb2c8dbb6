//! What several pages show: statements, findings, headline figures.

use maud::{Markup, html};
use serde_json::Value;

use super::course::{PERIODS, Period};
use super::layout::{statement_link, statement_link_of, tenant_link};
use super::show::figure::{self, known};
use super::show::form::{Choice, Field};
use super::show::table::{self, Column};
use super::show::text::{name, name_or_none, segment, visible, words};
use super::show::{Fields as _, moment, spark, sql};
use super::visit::Visit;

/// A severity, told by its word and its colour. Findings and verdicts name them differently.
pub(super) fn severity(word: &str) -> Markup {
    let (class, said) = match word {
        "critical" => ("critical", "critical"),
        "high" => ("critical", "high"),
        "warning" => ("warning", "warning"),
        "medium" => ("warning", "medium"),
        "notice" => ("notice", "notice"),
        "low" => ("notice", "low"),
        _ => ("plain", word),
    };
    html! { span class={ "tag " (class) } { (words(said)) } }
}

/// A headline figure with how it went.
pub(super) struct Tile<'a> {
    pub(super) title: &'a str,
    pub(super) figure: Markup,
    pub(super) beside: Markup,
    pub(super) course: Vec<Option<f64>>,
    /// The class of its colour.
    pub(super) tone: &'a str,
}

/// Headline figures in a row; their lines, where they have some, are of this period.
pub(super) fn tiles(tiles: &[Tile<'_>], period: Option<&Period>) -> Markup {
    let over = period.map(|period| format!("over the {}", period.last())).unwrap_or_default();
    html! {
        ul.tiles {
            @for tile in tiles {
                li class={ "tile " (tile.tone) } {
                    p.name { (tile.title) }
                    p.figure { (tile.figure) }
                    p.beside { (tile.beside) }
                    @if !tile.course.is_empty() { (spark::line(&tile.course, &format!("{} {over}", tile.title))) }
                }
            }
        }
    }
}

/// A column of a table of statements: title, the API's name for its order, the field.
pub(super) const STATEMENT_ORDERS: [(&str, &str); 8] = [
    ("Time", "total_time"),
    ("Calls", "calls"),
    ("Mean", "mean_time"),
    ("p95", "p95_time"),
    ("Max", "max_time"),
    ("Queue", "queue_time"),
    ("Rows", "rows"),
    ("Errors", "errors"),
];

/// Where a click on a head leads, by the API's name for the order, and whether that is in force.
type Order<'a> = &'a dyn Fn(&str) -> (String, bool);

/// Heads of a table of statements; `link` says where a click on one leads, and whether it is in force; `course`, of which
/// time the small charts are.
pub(super) fn statement_columns<'a>(link: Option<Order<'_>>, course: &'a str) -> Vec<Column<'a>> {
    let order = |column: Column<'a>, order: &str| match link {
        Some(link) => {
            let (address, now) = link(order);
            column.sorted(address, now)
        }
        None => column,
    };
    vec![
        Column::text("Statement"),
        order(Column::figures("Time"), "total_time"),
        order(Column::figures("Calls"), "calls"),
        Column::figures("/min"),
        order(Column::figures("Mean"), "mean_time").minor(),
        order(Column::figures("p95"), "p95_time"),
        order(Column::figures("Max"), "max_time").minor(),
        order(Column::figures("Rows"), "rows").minor(),
        order(Column::figures("Errors"), "errors"),
        Column::text(course).minor(),
    ]
}

/// A row of a table of statements.
pub(super) fn statement_row(row: &Value, visit: &Visit) -> Vec<Markup> {
    let tenant = row.text("tenant");
    let share = row.count("time_share");
    let errors = row.count("errors");
    vec![
        html! {
            (statement_link_of(row.text("fingerprint"), tenant, visit.chosen_period(), &sql::line(row.text("text"))))
            // On a tenant's own page it is said already.
            @if visit.sees_all() && !visit.path.starts_with("/tenants/") { p.under { (tenant_link(tenant)) } }
        },
        html! { (spark::bar(share)) span.beside { (figure::percent(share)) } p.under { (figure::ms(row.count("total_ms"))) } },
        known(row.number("calls"), figure::count),
        known(row.number("calls_last_minute").or(row.number("calls_per_minute")), figure::rate),
        known(row.number("mean_ms"), figure::ms),
        known(row.number("p95_ms"), figure::ms),
        known(row.number("max_ms"), figure::ms),
        known(row.number("rows"), figure::count),
        html! { span.bad[errors > 0.0] { (known(row.number("errors"), figure::count)) } },
        trend(row, visit),
    ]
}

/// How often a statement was called lately, where the API was asked for it: step by step, since the process began.
fn trend(row: &Value, visit: &Visit) -> Markup {
    let calls = row.numbers("series.calls");
    let step = row.text("series.step");
    let step_us = config::units::parse_duration(step).map_or(0, |step| step.as_micros() as u64).max(1);
    let start_us = moment::micros(row.text("series.start")).unwrap_or(0);
    let before = (visit.begun_us.saturating_sub(start_us) / step_us) as usize;
    match calls.get(before..) {
        Some(lately) if lately.len() > 1 && step == "1m" => spark::line(lately, "calls a minute"),
        Some(lately) if lately.len() > 1 => spark::line(lately, &format!("calls in steps of {step}")),
        _ => super::show::text::none(),
    }
}

/// What a choice of the time that figures are of is made from: its values with their titles.
pub(super) fn spans() -> Vec<(&'static str, String)> {
    let periods = PERIODS.iter().map(|period| (period.name, period.last()));
    std::iter::once(("", "all, since the start".to_owned())).chain(periods).collect()
}

/// The choice among these.
pub(super) fn span_field<'a>(values: &'a [(&'a str, &'a str)]) -> Field<'a> {
    Field::Choice(Choice { name: "period", title: "Period", values })
}

/// ` in the last hour`, behind a title; nothing where all is shown.
pub(super) fn within(period: Option<Period>) -> String {
    period.map(|period| format!(" in the {}", period.last())).unwrap_or_default()
}

/// From when to when sums over a period are, as the API says it; and from when on they miss nothing.
pub(super) fn span(span: &Value) -> Markup {
    let (from, complete) = (span.text("from"), span.text("complete_from"));
    html! {
        "from " (moment::minute(from)) " to " (moment::minute(span.text("until"))) " UTC"
        @if complete > from { "; nothing is known of the time before " (moment::minute(complete)) }
    }
}

/// A table of statements that cannot be sorted.
pub(super) fn statements(caption: &str, rows: &[Value], visit: &Visit) -> Markup {
    let rows: Vec<_> = rows.iter().map(|row| statement_row(row, visit)).collect();
    table::draw(caption, &statement_columns(None, "Last hour"), &rows, "No statement has been seen yet.")
}

/// What a kind of finding is, in words.
pub(super) fn kind(word: &str) -> &str {
    match word {
        "n_plus_one" => "N+1: one query for each row of another",
        "n_plus_one_write" => "N+1: one write for each row of another",
        "insert_loop" => "Rows inserted one by one",
        "recursive_walk" => "A tree walked query by query",
        "duplicate" => "The same query again and again",
        "loop_unsourced" => "One query in a loop",
        "plan_changed" => "Its plan has changed and it is slow",
        "regression" => "Slower than it used to be",
        "slowdown" => "Most queries are slower than they used to be",
        "slow_transaction" => "A transaction stays open long",
        "idle_in_transaction" => "A transaction is open and silent",
        other => other,
    }
}

/// A finding in a list.
pub(super) fn finding_card(finding: &Value, visit: &Visit) -> Markup {
    let id = segment(finding.text("id")).unwrap_or_default();
    let link = format!("/findings/{id}");
    html! {
        li.card {
            p.tags {
                (severity(finding.text("severity")))
                @if finding.text("state") != "open" { span.tag.plain { (words(finding.text("state"))) } }
                span.when { "seen " (moment::ago(finding.text("last_seen"), visit.now_us)) }
            }
            h3 { a href=(link) { (visible(kind(finding.text("kind")))) } }
            p.evidence { code dir="ltr" { (visible(finding.text("evidence"))) } }
            (sql::line(finding.text("child.text")))
            dl.inline {
                @if finding.number("count").is_some_and(|count| count > 1.0) {
                    div { dt { "in one burst" } dd { (figure::grouped(finding.count("count"))) "×" } }
                }
                div { dt { "lost" } dd { (figure::ms(finding.count("wasted_ms"))) } }
                div { dt { "seen" } dd { (figure::count(finding.count("occurrences"))) "×" } }
                @if visit.sees_all() { div { dt { "tenant" } dd { (tenant_link(finding.text("tenant"))) } } }
                @if !finding.text("application").is_empty() { div { dt { "application" } dd { (name(finding.text("application"))) } } }
                @if !finding.text("route").is_empty() { div { dt { "route" } dd { (name(finding.text("route"))) } } }
            }
        }
    }
}

/// Findings one below the other.
pub(super) fn finding_cards(findings: &[Value], visit: &Visit, empty: &str) -> Markup {
    if findings.is_empty() {
        return html! { p.empty { (empty) } };
    }
    html! { ul.cards { @for finding in findings { (finding_card(finding, visit)) } } }
}

/// Whom something is about: a tenant, a database, a statement, whatever is known.
pub(super) fn whom(whom: &Value, visit: &Visit) -> Markup {
    let fields = whom.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    html! {
        @for (key, value) in fields {
            @let text = super::show::fields::plain(value);
            @if !text.is_empty() {
                span.whom { span.key { (words(key)) } " "
                    @match key {
                        "tenant" if visit.sees_all() => (tenant_link(&text)),
                        "fingerprint" => (statement_link(&text, "", &html! { code { (visible(&text)) } })),
                        _ => (name_or_none(&text)),
                    }
                } " "
            }
        }
    }
}

/// Links to the pages before and after this one of a list that is here as a whole.
pub(super) fn pager(visit: &Visit, total: f64, offset: f64, shown: usize, limit: usize) -> Markup {
    let (last, more) = (offset + shown as f64, offset + (shown as f64) < total);
    html! {
        nav.pager aria-label="Rows" {
            p { @if shown > 0 { (figure::grouped(offset + 1.0)) "–" (figure::grouped(last)) " of " } (figure::grouped(total)) }
            @if offset > 0.0 {
                a rel="prev" href={ (visit.path) (visit.asked.with("offset", &before(offset, limit))) } { "← Before" }
            }
            @if more { a rel="next" href={ (visit.path) (visit.asked.with("offset", &format!("{last:.0}"))) } { "Next →" } }
        }
    }
}

fn before(offset: f64, limit: usize) -> String {
    let before = offset - limit as f64;
    if before > 0.0 { format!("{before:.0}") } else { String::new() }
}

/// Where a list goes on, where the API says that it does: it names the place by a cursor.
pub(super) fn turn(visit: &Visit, list: &Value, shown: usize) -> Markup {
    let next = list.text("next");
    html! {
        nav.pager aria-label="Rows" {
            p { (figure::grouped(shown as f64)) " of " (figure::grouped(list.number("total").unwrap_or(shown as f64))) }
            @if visit.asked.get("cursor").is_some() { a href={ (visit.path) (visit.asked.with("cursor", "")) } { "← First" } }
            @if !next.is_empty() { a rel="next" href={ (visit.path) (visit.asked.with("cursor", next)) } { "Next →" } }
        }
    }
}

/// A choice of periods as links.
pub(super) fn periods(visit: &Visit, now: &str) -> Markup {
    html! {
        nav.periods aria-label="Period" {
            @for period in super::course::PERIODS {
                a href={ (visit.path) (visit.asked.with("period", period.name)) "#course" } aria-current=[(period.name == now).then_some("true")] { (period.title) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_beside_a_figure_says_of_which_time_it_is() {
        let tile = Tile {
            title: "Calls",
            figure: html! { "7" },
            beside: html! {},
            course: vec![Some(1.0), Some(2.0), Some(3.0)],
            tone: "one",
        };
        for (period, said) in [("1h", "Calls over the last hour"), ("15m", "Calls over the last 15 minutes")] {
            let period = Period::named(Some(period), 0);
            let drawn = tiles(std::slice::from_ref(&tile), Some(&period)).into_string();
            assert!(drawn.contains(said), "{drawn}");
        }
    }
}
