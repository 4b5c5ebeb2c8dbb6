//! `/tenants/{name}`: one tenant: what it does, what it is held to, what was found about it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::course::{Course, Period};
use super::layout::{Section, Sheet, page as framed};
use super::parts::{self, Tile};
use super::show::chart::{self, Chart};
use super::show::figure::{self, known};
use super::show::table::{self, Column};
use super::show::text::{encoded, name, visible, words};
use super::show::{Fields as _, moment};
use super::visit::{Pages, Said, Visit, query};

pub(super) async fn page(State(_): State<Pages>, Path(tenant): Path<String>, visit: Visit) -> Response {
    let period = visit.period();
    let lately = period.query(visit.now_us);
    let own = query([("tenant", tenant.as_str())].into_iter());
    let history = query(
        [("tenant", tenant.as_str())].into_iter().chain(lately.iter().map(|(name, value)| (*name, value.as_str()))),
    );
    let (tenants, history, queries, findings) = tokio::join!(
        visit.get(format!("/api/v1/tenants{own}")),
        visit.get(format!("/api/v1/history{history}")),
        super::queries::with_series(&visit, format!("{own}&sort=total_time&limit=10")),
        visit.get(format!("/api/v1/findings{own}&limit=5")),
    );
    let found = tenants
        .answer()
        .and_then(|tenants| tenants.list("tenants").iter().find(|known| known.text("tenant") == tenant));
    let Some(one) = found else {
        let (status, words) = match &tenants {
            Said::Refusal { status, detail } => (*status, detail.as_str()),
            Said::Answer(_) => (StatusCode::NOT_FOUND, "No tenant of this name is connected, or has run a statement."),
        };
        let sheet = Sheet::new("Tenant", Section::Tenants).status(status);
        let sheet = if visit.sees_all() { sheet.above("/tenants", "Tenants") } else { sheet };
        return framed(&visit, &sheet, &html! { p.missing { (visible(words)) } });
    };
    let course = history.answer().map(|history| Course::read(history, &period, visit.now_us, visit.begun_us));
    let content = html! {
        section #figures data-live aria-label="Figures" { (figures(one, course.as_ref(), &period)) }
        section #course aria-labelledby="course-title" {
            div.head { h2 #course-title { "Over time" } (parts::periods(&visit, period.name)) }
            (history.drawn(|_| charts(course.as_ref())))
        }
        section #top data-live aria-labelledby="top-title" {
            div.head { h2 #top-title { "Where its time goes" } a href={ "/queries?tenant=" (encoded(&tenant)) } { "All its queries" } }
            (queries.drawn(|queries| parts::statements("Its statements that took most time", queries.list("queries"), &visit)))
        }
        section #found data-live aria-labelledby="found-title" {
            div.head { h2 #found-title { "Findings" } a href={ "/findings?tenant=" (encoded(&tenant)) } { "All its findings" } }
            (findings.drawn(|findings| parts::finding_cards(findings.list("findings"), &visit, "Nothing was found about it.")))
        }
        div.halves {
            section #limits data-live aria-labelledby="limits-title" { h2 #limits-title { "Limits" } (limits(one)) }
            section #refusals data-live aria-labelledby="refusals-title" { h2 #refusals-title { "Refusals" } (refusals(one)) }
        }
        section #classes data-live aria-labelledby="classes-title" { h2 #classes-title { "Classes of work" } (classes(one)) }
    };
    let mut sheet = Sheet::new(&tenant, Section::Tenants).twin(format!("/api/v1/tenants{own}")).lead(html! {
        "Last seen " (moment::ago(one.text("last_seen"), visit.now_us)) ", "
        (figure::grouped(one.count("clients"))) " clients connected, " (figure::count(one.count("connections"))) " have come so far"
    });
    if visit.sees_all() {
        sheet = sheet.above("/tenants", "Tenants");
    }
    framed(&visit, &sheet, &content)
}

fn figures(one: &Value, course: Option<&Course>, period: &Period) -> Markup {
    let line = |of: fn(&Course) -> Vec<Option<f64>>| course.map(of).unwrap_or_default();
    let tile = |title, figure, beside, course, tone| Tile { title, figure, beside, course, tone };
    let number = |field: &str, show: fn(f64) -> String| known(one.number(field), show);
    let mut tiles = vec![
        tile(
            "Statements",
            number("statements", figure::count),
            html! { (number("fingerprints", figure::count)) " different ones" },
            line(Course::calls),
            "one",
        ),
        tile(
            "Errors",
            number("errors", figure::count),
            html! { (number("statement_timeouts", figure::count)) " timed out" },
            line(Course::errors),
            "bad",
        ),
        tile(
            "Time",
            number("total_ms", figure::ms),
            html! { (number("queue_ms", figure::ms)) " of it in the queue" },
            line(Course::mean),
            "two",
        ),
        tile("Longest", number("max_ms", figure::ms), html! {}, line(Course::longest), "two"),
    ];
    if one.field("share").is_some() {
        tiles.push(tile(
            "Share of all time",
            number("share.time", figure::percent),
            html! { (number("share.server", figure::percent)) " of the servers' time" },
            Vec::new(),
            "plain",
        ));
    }
    parts::tiles(&tiles, Some(period))
}

fn charts(course: Option<&Course>) -> Markup {
    let Some(course) = course else { return html! {} };
    html! {
        div.charts {
            (chart::draw(&Chart { id: "calls", title: "Calls and errors a minute", times: &course.times, lines: &course.traffic_lines() }))
            (chart::draw(&Chart { id: "times", title: "Time of a call", times: &course.times, lines: &course.time_lines() }))
        }
    }
}

/// What it is held to, by which table, and how often that was reached.
pub(super) fn limits(one: &Value) -> Markup {
    // What a class has of a pool stands beside what its tenant has.
    let all = ["limits", "class_limits"].map(|kind| one.entries(kind));
    let rows: Vec<_> = all
        .iter()
        .flatten()
        .map(|(key, limit)| {
            let base = key.trim_end_matches("_ms");
            let reached =
                one.field("limits_reached").and_then(|reached| reached.get(*key).or_else(|| reached.get(base)));
            let times =
                reached.map(|reached| reached.count("observed") + reached.count("warned") + reached.count("enforced"));
            vec![
                html! { (words(base)) },
                html! { (value(key, limit.get("value").unwrap_or(limit))) },
                html! { (visible(limit.text("mode"))) },
                html! { code { (visible(limit.text("from"))) } },
                known(times, figure::count),
            ]
        })
        .collect();
    let columns = [
        Column::text("Limit"),
        Column::figures("Value"),
        Column::text("Mode"),
        Column::text("Said by"),
        Column::figures("Reached"),
    ];
    table::draw("Limits in force", &columns, &rows, "It has no limit of its own.")
}

/// A limit's value: times as times, other numbers as numbers, the rest as it is.
pub(super) fn value(key: &str, value: &Value) -> String {
    match value {
        Value::Number(number) if key.ends_with("_ms") => figure::ms(number.as_f64().unwrap_or(0.0)),
        Value::Number(number) => figure::grouped(number.as_f64().unwrap_or(0.0)),
        other => visible(&super::show::fields::plain(other)).into_owned(),
    }
}

fn refusals(one: &Value) -> Markup {
    let rows: Vec<_> = one
        .entries("refusals_by_sqlstate")
        .iter()
        .map(|(code, count)| vec![html! { code { (visible(code)) } }, known(count.as_f64(), figure::count)])
        .collect();
    html! {
        (table::draw("Errors of the proxy's own", &[Column::text("SQLSTATE"), Column::figures("Times")], &rows, "Nothing was refused."))
        (table::facts(&[
            ("Waited too long for a server", known(one.number("queue_timeouts"), figure::count)),
            ("Kept a server connection", known(one.number("pins"), figure::count)),
            ("Had one reset", known(one.number("discards"), figure::count)),
        ]))
    }
}

fn classes(one: &Value) -> Markup {
    let columns = [
        Column::text("Class"),
        Column::figures("Statements"),
        Column::figures("Errors"),
        Column::figures("Time"),
        Column::figures("Clients"),
        Column::figures("Running"),
    ];
    let rows: Vec<_> = one
        .entries("classes")
        .iter()
        .map(|(class, of)| {
            vec![
                name(class),
                known(of.number("statements"), figure::count),
                known(of.number("errors"), figure::count),
                known(of.number("total_ms"), figure::ms),
                known(of.number("clients"), figure::count),
                known(of.number("running"), figure::count),
            ]
        })
        .collect();
    table::draw("Its sessions by class", &columns, &rows, "It has no classes.")
}
