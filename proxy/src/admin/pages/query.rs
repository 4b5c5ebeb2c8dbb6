//! `/queries/{fingerprint}`: one statement: its text, how it ran over time, where its time went, for whom, by which plan, and
//! what was found about it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::course::{Course, Period};
use super::layout::{Section, Sheet, page as framed, tenant_link};
use super::parts::{self, Tile};
use super::show::chart::{self, Chart};
use super::show::figure::{self, known};
use super::show::form::{self, Action};
use super::show::table::{self, Column};
use super::show::text::{encoded, name, name_or_none, visible};
use super::show::{Fields as _, moment, spark, sql};
use super::visit::{Pages, Said, Visit, query};

pub(super) async fn page(State(_): State<Pages>, Path(fingerprint): Path<String>, visit: Visit) -> Response {
    let (period, chosen) = (visit.period(), visit.chosen_period());
    let lately = period.query(visit.now_us);
    let tenant = visit.asked.get("tenant").map(|tenant| ("tenant", tenant));
    let path = encoded(&fingerprint);
    let own = query(tenant.into_iter());
    let of_period = query(tenant.into_iter().chain(chosen.as_ref().map(|chosen| ("period", chosen.name))));
    let history = query(tenant.into_iter().chain(lately.iter().map(|(name, value)| (*name, value.as_str()))));
    let more = |rest: &str| if own.is_empty() { format!("?{rest}") } else { format!("{own}&{rest}") };
    let (detail, history) = tokio::join!(
        visit.get(format!("/api/v1/queries/{path}{of_period}")),
        visit.get(format!("/api/v1/queries/{path}/history{history}")),
    );
    let (plans, findings, rows, samples) = tokio::join!(
        visit.get(format!("/api/v1/plans/{path}{own}")),
        visit.get(format!("/api/v1/findings{}", more(&format!("fingerprint={path}&limit=20")))),
        visit.get_if(detail.answer().is_none(), format!("/api/v1/queries{}", more("limit=1000"))),
        visit.get_if(visit.who.may_act, format!("/api/v1/queries/{path}/samples{own}")),
    );
    // What the answer has of a period, where the address names one.
    let lately = chosen.as_ref().and_then(|_| detail.answer()).and_then(|detail| detail.field("period"));
    // What is one row for each tenant stands in the list whatever else the detail has.
    let rows: Vec<&Value> = match detail.answer().map(|detail| detail.list("tenants")) {
        Some(tenants) if !tenants.is_empty() => tenants.iter().collect(),
        _ => rows.as_ref().and_then(Said::answer).map(|all| of(all.list("queries"), &fingerprint)).unwrap_or_default(),
    };
    let whole = detail.answer().map(whole).or(rows.first().copied());
    let Some(whole) = whole else { return unknown(&visit, &detail) };
    let course = history.answer().map(|history| Course::read(history, &period, visit.now_us, visit.begun_us));
    let since_start = if lately.is_some() { ", since the start" } else { "" };
    let content = html! {
        (period_form(&visit))
        section #statement aria-labelledby="statement-title" {
            h2.unseen #statement-title { "Statement" }
            (sql::block(whole.text("text")))
            (identity(whole, &fingerprint))
        }
        section #figures data-live aria-label="Figures" {
            (figures(lately.unwrap_or(whole), course.as_ref(), &period))
            @if let Some(lately) = lately { p.note { "Sums " (parts::span(lately)) ". Their p95 is that of the worst window." } }
        }
        section #course aria-labelledby="course-title" {
            h2 #course-title { "Over the " (period.last()) }
            (history.drawn(|_| charts(course.as_ref())))
        }
        section #found data-live aria-labelledby="found-title" {
            h2 #found-title { "Findings" }
            (findings.drawn(|findings| parts::finding_cards(findings.list("findings"), &visit, "Nothing was found about this statement.")))
        }
        div.halves {
            section #spread data-live aria-labelledby="spread-title" {
                h2 #spread-title { "How long calls took" (since_start) }
                (spread(detail.answer().unwrap_or(whole)))
            }
            section #wherefrom data-live aria-labelledby="parts-title" {
                h2 #parts-title { "Where the time went" }
                (shares(lately.unwrap_or(whole), lately.is_some()))
                (errors(whole, since_start))
            }
        }
        section #tenants data-live aria-labelledby="tenants-title" {
            h2 #tenants-title { @if visit.sees_all() { "Tenants" } @else { "Yours" } }
            @match lately {
                Some(lately) => (tenants(&lately.list("tenants").iter().collect::<Vec<_>>(), &visit, chosen)),
                None => (tenants(&rows, &visit, None)),
            }
        }
        (callers(detail.answer(), &visit))
        @if visit.sees_all() && tenant.is_none() {
            section #cache data-live aria-labelledby="cache-title" {
                h2 #cache-title { "Why is this not cached?" }
                (super::cache::fate(detail.answer().and_then(|detail| detail.field("cache"))))
            }
        }
        (super::samples::section(samples.as_ref(), &visit))
        section #plans aria-labelledby="plans-title" {
            h2 #plans-title { "Plans" }
            @match &plans {
                Said::Refusal { status: StatusCode::NOT_FOUND, .. } => p.empty { "No plan is kept: none of its calls was slow enough to be explained." },
                plans => (plans.drawn(|plans| super::plan::draw(plans, &visit))),
            }
        }
        (form::action(&visit, &Action {
            name: "reset",
            title: "Count this statement anew",
            fields: &[("fingerprint", &fingerprint)],
            warning: "Its figures begin at zero; its history stays.",
            grave: true,
            ..Action::default()
        }))
    };
    let twin = if detail.answer().is_some() {
        format!("/api/v1/queries/{path}{of_period}")
    } else {
        format!("/api/v1/queries{}", more("limit=1000"))
    };
    let title = format!("Query {fingerprint}{}", parts::within(chosen));
    // Back to the list of the same period.
    let above = format!("/queries{}", query(chosen.iter().map(|chosen| ("period", chosen.name))));
    let mut sheet = Sheet::new(&title, Section::Queries).above(&above, "Queries").twin(twin);
    if let Some((_, tenant)) = tenant.filter(|_| visit.sees_all()) {
        sheet = sheet.lead(html! { "Of tenant " (name(tenant)) " alone. " a href={ (visit.path) (visit.asked.with("tenant", "")) } { "Of all tenants" } });
    }
    framed(&visit, &sheet, &content)
}

/// What stands in the place of a statement that is not known.
fn unknown(visit: &Visit, detail: &Said) -> Response {
    let words = match detail {
        Said::Refusal { status, detail } if *status != StatusCode::NOT_FOUND => detail.as_str(),
        _ => "This statement has not run since the process began, or its figures made room for others.",
    };
    let sheet = Sheet::new("Query", Section::Queries).above("/queries", "Queries").status(StatusCode::NOT_FOUND);
    framed(visit, &sheet, &html! { p.missing { (visible(words)) } })
}

/// The statement's own figures within the detail: beside the lists, or in an object of its own.
fn whole(detail: &Value) -> &Value {
    ["query", "total"].into_iter().find_map(|key| detail.field(key).filter(|value| value.is_object())).unwrap_or(detail)
}

fn of<'a>(rows: &'a [Value], fingerprint: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row.text("fingerprint") == fingerprint).collect()
}

fn identity(whole: &Value, fingerprint: &str) -> Markup {
    let ids: Vec<String> = whole.list("query_id").iter().map(super::show::fields::plain).collect();
    html! {
        dl.inline {
            div { dt { "fingerprint" } dd { code { (visible(fingerprint)) } } }
            @if !whole.text("class").is_empty() { div { dt { "class" } dd { (visible(whole.text("class"))) } } }
            @if !ids.is_empty() { div { dt { "pg_stat_statements" } dd { @for id in &ids { code { (visible(id)) } " " } } } }
        }
    }
}

/// The choice of the time that figures are of; a tenant in the address is kept.
fn period_form(visit: &Visit) -> Markup {
    let spans = parts::spans();
    let spans: Vec<(&str, &str)> = spans.iter().map(|(name, title)| (*name, title.as_str())).collect();
    form::filter(visit, &[parts::span_field(&spans)], &["tenant"])
}

fn figures(whole: &Value, course: Option<&Course>, period: &Period) -> Markup {
    let line = |of: fn(&Course) -> Vec<Option<f64>>| course.map(of).unwrap_or_default();
    let tile = |title, figure, beside, course, tone| Tile { title, figure, beside, course, tone };
    let number = |field: &str, show: fn(f64) -> String| known(whole.number(field), show);
    // Of a period the API has no percentile but one.
    let all = whole.number("p50_ms").is_some();
    let tiles = [
        tile(
            "Calls",
            number("calls", figure::count),
            html! {
                @if all { (number("calls_last_minute", figure::count)) " in the last minute" }
                @else { (number("calls_per_minute", figure::rate)) " a minute" }
            },
            line(Course::calls),
            "one",
        ),
        tile(
            "p95",
            number("p95_ms", figure::ms),
            html! {
                @if all { "p50 " (number("p50_ms", figure::ms)) ", p99 " (number("p99_ms", figure::ms)) }
                @else { "in the worst window" }
            },
            line(Course::p95),
            "two",
        ),
        tile(
            "Mean",
            number("mean_ms", figure::ms),
            html! { "longest " (number("max_ms", figure::ms)) },
            line(Course::mean),
            "two",
        ),
        tile(
            "Time of all calls",
            number("total_ms", figure::ms),
            html! { (number("queue_ms", figure::ms)) " of it in the queue" },
            Vec::new(),
            "plain",
        ),
        tile(
            "Rows",
            number("rows", figure::count),
            html! { (figure::rate(whole.count("rows") / whole.count("calls").max(1.0))) " a call" },
            line(Course::rows),
            "plain",
        ),
        tile(
            "Errors",
            number("errors", figure::count),
            html! { (figure::percent(whole.count("errors") / whole.count("calls").max(1.0))) " of calls" },
            line(Course::errors),
            "bad",
        ),
    ];
    parts::tiles(&tiles, Some(period))
}

fn charts(course: Option<&Course>) -> Markup {
    let Some(course) = course else { return html! {} };
    let mut times = course.time_lines();
    times.push(chart::Line { title: "longest", unit: chart::Unit::Ms, tone: "bad", values: course.longest() });
    html! {
        div.charts {
            (chart::draw(&Chart { id: "calls", title: "Calls and errors a minute", times: &course.times, lines: &course.traffic_lines() }))
            (chart::draw(&Chart { id: "times", title: "Time of a call", times: &course.times, lines: &times }))
        }
    }
}

/// The histogram of all calls where the API has it, else what is known of it: its percentiles.
fn spread(detail: &Value) -> Markup {
    let buckets: Vec<(f64, f64)> = buckets(detail);
    if !buckets.is_empty() {
        return chart::histogram("Calls by the time that they took", &buckets);
    }
    let whole = whole(detail);
    let rows: Vec<_> =
        [("shortest", "min_ms"), ("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"), ("longest", "max_ms")]
            .iter()
            .map(|(title, field)| vec![html! { (title) }, known(whole.number(field), figure::ms)])
            .collect();
    table::draw("Percentiles of one call", &[Column::text("Of the calls"), Column::figures("took")], &rows, "")
}

/// Lower bounds in ms and counts, from pairs in µs or from objects; neighbours joined until there are few enough to look at.
fn buckets(detail: &Value) -> Vec<(f64, f64)> {
    let lists = ["histogram", "histogram.total", "histogram.buckets", "histograms.total"];
    let list = lists.into_iter().map(|path| detail.list(path)).find(|list| !list.is_empty()).unwrap_or_default();
    let read = |bucket: &Value| match bucket {
        Value::Array(pair) => Some((pair.first()?.as_f64()? / 1e3, pair.get(1)?.as_f64()?)),
        object => {
            let from = object
                .number("from_ms")
                .or_else(|| object.number("lower_ms"))
                .or_else(|| object.number("from_us").map(|us| us / 1e3));
            Some((from?, object.number("count").or_else(|| object.number("calls"))?))
        }
    };
    let mut buckets: Vec<(f64, f64)> = list.iter().filter_map(read).collect();
    while buckets.len() > 16 {
        buckets = buckets
            .chunks(2)
            .filter_map(|two| Some((two.first()?.0, two.iter().map(|(_, count)| count).sum())))
            .collect();
    }
    buckets
}

/// The parts of the time. Of a period it is not kept how much was the client's.
fn shares(whole: &Value, of_period: bool) -> Markup {
    let total = whole.count("total_ms");
    let mut known_parts = vec![("waiting for a server", "queue_ms", "three"), ("in the server", "server_ms", "one")];
    if !of_period {
        known_parts.push(("waiting for the client", "back_pressure_ms", "two"));
    }
    let rest_of = if of_period { "for the client, and on the way" } else { "on the way" };
    let rest = (total - known_parts.iter().map(|(_, field, _)| whole.count(field)).sum::<f64>()).max(0.0);
    let mut all: Vec<(&str, f64, &str)> =
        known_parts.iter().map(|(title, field, tone)| (*title, whole.count(field), *tone)).collect();
    all.push((rest_of, rest, "plain"));
    let bars: Vec<(f64, &str)> = all.iter().map(|(_, time, tone)| (*time, *tone)).collect();
    html! {
        (spark::parts(&bars))
        dl.shares {
            @for (title, time, tone) in all {
                div { dt { span class={ "key " (tone) } { (title) } } dd { (figure::ms(time)) " " span.beside { (figure::percent(if total > 0.0 { time / total } else { 0.0 })) } } }
            }
        }
    }
}

fn errors(whole: &Value, since_start: &str) -> Markup {
    let codes = whole.entries("errors_by_sqlstate");
    let rows: Vec<_> = codes
        .iter()
        .map(|(code, count)| vec![html! { code { (visible(code)) } }, known(count.as_f64(), figure::count)])
        .collect();
    html! {
        h3 { "Errors" (since_start) }
        (table::draw("Errors by SQLSTATE", &[Column::text("SQLSTATE"), Column::figures("Calls")], &rows, "No call has failed."))
    }
}

fn tenants(rows: &[&Value], visit: &Visit, period: Option<Period>) -> Markup {
    let mut columns = vec![
        Column::text("Tenant"),
        Column::figures("Calls"),
        Column::figures("Mean"),
        Column::figures("p95"),
        Column::figures("Max").minor(),
        Column::figures("Errors"),
        Column::figures("Rows").minor(),
    ];
    if period.is_none() {
        columns.push(Column::text("Last seen").minor());
    }
    let drawn: Vec<_> = rows
        .iter()
        .map(|row| {
            let tenant = row.text("tenant");
            vec![
                if visit.sees_all() { tenant_link(tenant) } else { name_or_none(tenant) },
                known(row.number("calls"), figure::count),
                known(row.number("mean_ms"), figure::ms),
                known(row.number("p95_ms"), figure::ms),
                known(row.number("max_ms"), figure::ms),
                known(row.number("errors"), figure::count),
                known(row.number("rows"), figure::count),
                moment::ago(row.text("last_seen"), visit.now_us),
            ]
        })
        .collect();
    let (caption, empty) = match period {
        Some(_) => (format!("This statement by tenant{}", parts::within(period)), "No tenant has run it in this time."),
        None => ("This statement by tenant".to_owned(), "No tenant has run it."),
    };
    table::draw(&caption, &columns, &drawn, empty)
}

/// Applications and databases that it was seen in; nothing where that is not known.
fn callers(detail: Option<&Value>, visit: &Visit) -> Markup {
    let Some(detail) = detail.filter(|detail| detail.field("applications").is_some()) else { return html! {} };
    let list = |key: &str, title: &'static str| {
        let rows: Vec<_> = detail
            .list(key)
            .iter()
            .map(|one| {
                vec![
                    name_or_none(one.text("name")),
                    known(one.number("seen"), figure::count),
                    moment::ago(one.text("last_seen"), visit.now_us),
                ]
            })
            .collect();
        let columns = [Column::text(title), Column::figures("Seen"), Column::text("Last")];
        table::draw(&format!("This statement by {}", title.to_lowercase()), &columns, &rows, "None was seen to run it.")
    };
    html! {
        div.halves {
            section #applications data-live aria-labelledby="applications-title" {
                h2 #applications-title { "Who sends it" }
                (list("applications", "Application"))
            }
            section #databases data-live aria-labelledby="databases-title" {
                h2 #databases-title { "Where" }
                (list("databases", "Database"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn histograms_of_any_shape_become_few_bars() {
        assert_eq!(buckets(&json!({"histogram": [[500, 3], [1000, 1]]})), [(0.5, 3.0), (1.0, 1.0)]);
        assert_eq!(buckets(&json!({"histogram": [{"from_ms": 1.0, "count": 2}]})), [(1.0, 2.0)]);
        assert!(buckets(&json!({"histogram": "none"})).is_empty());
        let many: Vec<_> = (0..64).map(|n| json!([n * 1000, 1])).collect();
        let few = buckets(&json!({"histogram": many}));
        assert_eq!((few.len(), few.iter().map(|(_, count)| count).sum::<f64>()), (16, 64.0));
    }
}
