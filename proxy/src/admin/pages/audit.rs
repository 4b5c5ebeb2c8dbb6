//! `/audit`: who has looked at what and done what over this port and on the console.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed};
use super::show::figure::{self, known};
use super::show::form::{self, Choice, Field};
use super::show::table::{self, Column};
use super::show::text::{beginning, name_or_none, visible, words};
use super::show::{Fields as _, moment};
use super::visit::{Pages, Said, Visit};

const KINDS: [(&str, &str); 4] = [("", "all"), ("view", "views"), ("action", "actions"), ("refused", "refusals")];

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let picked = visit.asked.pick(&["kind", "cursor"], &[("limit", "200")]);
    let audit = visit.get(format!("/api/v1/audit{picked}")).await;
    let holds = visit.asked.get("holds").unwrap_or_default();
    let content = html! {
        (form::filter(&visit, &[
            Field::Text { name: "holds", title: "Line holds" },
            Field::Choice(Choice { name: "kind", title: "Kind", values: &KINDS }),
        ], &[]))
        section #list data-live aria-label="Audit" { (audit.drawn(|audit| list(audit, holds, &visit))) }
    };
    // Who may not see it is told so, and is not sent to what is closed to it as well.
    if let Said::Refusal { status: StatusCode::FORBIDDEN, .. } = audit {
        let sheet = Sheet::new("Audit", Section::Audit).status(StatusCode::FORBIDDEN);
        return framed(&visit, &sheet, &audit.drawn(|_| html! {}));
    }
    let sheet = Sheet::new("Audit", Section::Audit).twin(format!("/api/v1/audit{picked}")).lead(html! {
        "Views and actions over the admin port, and commands on the console, the last ones first."
    });
    framed(&visit, &sheet, &content)
}

fn list(audit: &Value, holds: &str, visit: &Visit) -> Markup {
    let entries = audit.list("audit");
    let columns = [
        Column::text("When"),
        Column::text("Who"),
        Column::text("From"),
        Column::text("What"),
        Column::figures("Answer"),
        Column::figures("Took").minor(),
        Column::text("Request").minor(),
    ];
    let wanted = entries.iter().filter(|entry| holds.is_empty() || entry.to_string().contains(holds));
    let rows: Vec<_> = wanted.map(|entry| row(entry, visit)).collect();
    html! {
        (table::draw("The audit log's last lines", &columns, &rows, "Nothing has been looked at yet, or it is switched off."))
        (super::parts::turn(visit, audit, rows.len()))
    }
}

fn row(entry: &Value, visit: &Visit) -> Vec<Markup> {
    let last = if entry.text("last").is_empty() { entry.text("at") } else { entry.text("last") };
    let kind = match entry.text("kind") {
        "action" => "tag notice",
        "refused" => "tag critical",
        _ => "tag plain",
    };
    let times = entry.count("times");
    let refused = entry.count("status") >= 400.0;
    vec![
        html! { span.nowrap { (moment::ago(last, visit.now_us)) } @if times > 1.0 { p.under { (figure::grouped(times)) " times" } } },
        html! { (name_or_none(entry.text("who"))) @if !entry.text("role").is_empty() { p.under { (words(entry.text("role"))) } } },
        html! { span.nowrap { (name_or_none(entry.text("from"))) } },
        html! {
            span class=(kind) { (words(entry.text("kind"))) } " "
            (visible(entry.text("method"))) " " code { (visible(beginning(entry.text("path"), 200).0)) }
        },
        html! { span.bad[refused] { (known(entry.number("status"), |status| format!("{status:.0}"))) } },
        known(entry.number("ms"), figure::ms),
        html! { code { (visible(entry.text("request_id"))) } },
    ]
}
