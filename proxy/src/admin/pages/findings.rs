//! `/findings`: what was found, the gravest first, and what is kept silent.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed};
use super::parts;
use super::show::form::{self, Action, Choice, Field};
use super::show::table::{self, Column};
use super::show::text::{name, none, visible, words};
use super::show::{Fields as _, moment};
use super::visit::{Pages, Said, Visit};

const KINDS: [(&str, &str); 12] = [
    ("", "all"),
    ("n_plus_one", "N+1"),
    ("n_plus_one_write", "N+1 of writes"),
    ("insert_loop", "inserts one by one"),
    ("recursive_walk", "recursive walk"),
    ("duplicate", "duplicate"),
    ("loop_unsourced", "loop"),
    ("plan_changed", "plan changed"),
    ("regression", "regression"),
    ("slowdown", "everything slower"),
    ("slow_transaction", "slow transaction"),
    ("idle_in_transaction", "idle in transaction"),
];
const STATES: [(&str, &str); 4] = [("", "all"), ("open", "open"), ("acknowledged", "acknowledged"), ("muted", "muted")];

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let picked =
        visit.asked.pick(&["kind", "state", "tenant", "application", "fingerprint", "cursor"], &[("limit", "200")]);
    let (findings, mutes) =
        tokio::join!(visit.get(format!("/api/v1/findings{picked}")), visit.get_if(visit.sees_all(), "/api/v1/mutes"));
    let mut fields = vec![
        Field::Text { name: "application", title: "Application" },
        Field::Choice(Choice { name: "kind", title: "Kind", values: &KINDS }),
        Field::Choice(Choice { name: "state", title: "State", values: &STATES }),
    ];
    if visit.sees_all() {
        fields.insert(1, Field::Text { name: "tenant", title: "Tenant" });
    }
    let content = html! {
        (form::filter(&visit, &fields, &["fingerprint"]))
        section #list data-live aria-labelledby="list-title" {
            h2.unseen #list-title { "List" }
            (findings.drawn(|findings| {
                let shown = findings.list("findings");
                html! {
                    (parts::finding_cards(shown, &visit, "Nothing was found. Repeated queries and statements that become slow would be here."))
                    (parts::turn(&visit, findings, shown.len()))
                }
            }))
        }
        @if let Some(mutes) = &mutes { (silent(mutes, &visit)) }
    };
    let sheet = Sheet::new("Findings", Section::Findings).twin(format!("/api/v1/findings{picked}")).lead(html! {
        "Queries that repeat for each row of another, with their proof, and statements that have become slow."
    });
    framed(&visit, &sheet, &content)
}

/// What nobody wants to be told of.
fn silent(mutes: &Said, visit: &Visit) -> Markup {
    let columns = [
        Column::text("Findings with"),
        Column::text("Note"),
        Column::text("Until"),
        Column::text("From").minor(),
        Column::text("Action"),
    ];
    html! {
        section #mutes aria-labelledby="mutes-title" {
            h2 #mutes-title { "Mutes" }
            (mutes.drawn(|mutes| {
                let rows: Vec<_> = mutes.list("mutes").iter().map(|mute| row(mute, visit)).collect();
                table::draw("Findings that are kept silent", &columns, &rows, "Nothing is muted.")
            }))
        }
    }
}

fn row(mute: &Value, visit: &Visit) -> Vec<Markup> {
    let conditions = ["fingerprint", "kind", "database", "user", "application", "client", "tenant", "route"];
    let id = mute.text("id");
    vec![
        html! {
            @for key in conditions {
                @if !mute.text(key).is_empty() { span.whom { span.key { (words(key)) } " " (name(mute.text(key))) } " " }
            }
        },
        html! { (visible(mute.text("note"))) },
        if mute.field("until").is_none() {
            html! { "for ever" }
        } else {
            html! { (visible(mute.text("until"))) }
        },
        html! { (visible(mute.text("origin"))) " " (moment::ago(mute.text("created"), visit.now_us)) },
        if mute.text("origin") == "api" {
            form::action(
                visit,
                &Action { name: "unmute", title: "Take away", fields: &[("id", id)], ..Action::default() },
            )
        } else {
            none()
        },
    ]
}
