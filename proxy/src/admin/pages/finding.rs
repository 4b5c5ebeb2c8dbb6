//! `/findings/{id}`: one finding: the proof, whose it is, what to send instead, and what somebody has said about it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed, statement_link, tenant_link};
use super::parts::{kind, severity};
use super::show::figure;
use super::show::form::{self, Action};
use super::show::table;
use super::show::text::{encoded, name, name_or_none, visible, words};
use super::show::{Fields as _, moment, sql};
use super::visit::{Pages, Said, Visit};

pub(super) async fn page(State(_): State<Pages>, Path(id): Path<String>, visit: Visit) -> Response {
    let own = format!("/api/v1/findings/{}", encoded(&id));
    let (one, all) = tokio::join!(visit.get(own.as_str()), visit.get("/api/v1/findings?limit=1000"));
    let listed = all.answer().and_then(|all| all.list("findings").iter().find(|known| known.text("id") == id));
    let (found, twin) = match (one.answer(), listed) {
        (Some(one), _) => (Some(one), own),
        (None, listed) => (listed, "/api/v1/findings?limit=1000".to_owned()),
    };
    let Some(finding) = found else {
        let words = match &all {
            Said::Refusal { detail, .. } => detail.as_str(),
            Said::Answer(_) => {
                "There is no finding of this id: it was not seen since the process began, or made room for others."
            }
        };
        let sheet =
            Sheet::new("Finding", Section::Findings).above("/findings", "Findings").status(StatusCode::NOT_FOUND);
        return framed(&visit, &sheet, &html! { p.missing { (visible(words)) } });
    };
    let of_child = super::visit::query([("tenant", finding.text("tenant"))].into_iter());
    let of_child = format!("/api/v1/queries/{}/samples{of_child}", encoded(finding.text("child.fingerprint")));
    let samples = visit.get_if(visit.who.may_act, of_child).await;
    let content = html! {
        p.tags {
            (severity(finding.text("severity")))
            span.tag.plain { (words(finding.text("state"))) }
            span.when { "first seen " (moment::ago(finding.text("first_seen"), visit.now_us)) ", last " (moment::ago(finding.text("last_seen"), visit.now_us)) }
        }
        section #proof data-live aria-labelledby="proof-title" {
            h2 #proof-title { "Proof" }
            (proof(finding))
        }
        (instead(finding))
        (super::samples::section(samples.as_ref(), &visit))
        div.halves {
            section #owner data-live aria-labelledby="owner-title" { h2 #owner-title { "Whose it is" } (owner(finding, &visit)) }
            section #extent data-live aria-labelledby="extent-title" { h2 #extent-title { "How much" } (extent(finding)) }
        }
        section #said aria-labelledby="said-title" {
            h2 #said-title { "What to do with it" }
            (said(finding, &id, &visit))
        }
    };
    let title = kind(finding.text("kind")).to_owned();
    framed(&visit, &Sheet::new(&title, Section::Findings).above("/findings", "Findings").twin(twin), &content)
}

/// The statements and how one follows from the other.
fn proof(finding: &Value) -> Markup {
    let (parent, child) = (finding.field("parent"), finding.field("child"));
    let parameter = finding.number("child.parameter").map(figure::grouped);
    html! {
        @if !finding.text("evidence").is_empty() { p.evidence { code dir="ltr" { (visible(finding.text("evidence"))) } } }
        ol.proof {
            @if let Some(parent) = parent {
                li {
                    h3 { "This query returns rows" }
                    (statement_link(parent.text("fingerprint"), "", &html! { "Its figures" }))
                    (sql::block(parent.text("text")))
                    @if !parent.text("column").is_empty() { p { "Values of " code { (visible(parent.text("column"))) } " …" } }
                }
            }
            @if let Some(child) = child {
                li {
                    h3 { @if parent.is_some() { "… come back, one by one, in this one" } @else { "The statement" } }
                    (statement_link(child.text("fingerprint"), "", &html! { "Its figures" }))
                    (sql::block(child.text("text")))
                    @if let Some(parameter) = &parameter {
                        p { "… as its parameter " code { "$" (parameter) } @if !child.text("column").is_empty() { ", compared with " code { (visible(child.text("column"))) } } "." }
                    }
                }
            }
        }
        @if finding.number("count").is_some_and(|count| count > 1.0) {
            p.sum {
                strong { (figure::grouped(finding.count("count"))) } " executions for "
                strong { (figure::grouped(finding.count("parent_executions"))) } " of the first, over "
                strong { (figure::grouped(finding.count("connections"))) } " connections: "
                strong { (figure::ms(finding.count("wasted_ms"))) } " lost on the way in one burst."
            }
        }
        @if let Some(detail) = finding.field("detail") { (details(detail)) }
    }
}

/// What findings about time say besides.
fn details(detail: &Value) -> Markup {
    let shown = |key: &str, value: &Value| match value.as_f64() {
        Some(time) if key.ends_with("_ms") => figure::ms(time),
        Some(number) => figure::rate(number),
        None => super::show::fields::plain(value),
    };
    let fields: Vec<_> = detail.as_object().into_iter().flatten().collect();
    html! {
        dl.facts {
            @for (key, value) in fields { div { dt { (words(key.trim_end_matches("_ms"))) } dd { (visible(&shown(key, value))) } } }
        }
    }
}

/// What to send instead, ready to be copied.
fn instead(finding: &Value) -> Markup {
    let rewrite = finding.text("rewrite");
    html! {
        section #instead aria-labelledby="instead-title" {
            div.head {
                h2 #instead-title { "Send this instead" }
                @if !rewrite.is_empty() { button type="button" data-copy="rewrite" hidden { "Copy" } }
            }
            @if rewrite.is_empty() {
                p.empty { "No rewrite is known for this one." }
            } @else {
                div #rewrite { (sql::block(rewrite)) }
            }
        }
    }
}

fn owner(finding: &Value, visit: &Visit) -> Markup {
    let mut facts = Vec::new();
    if visit.sees_all() {
        facts.push(("Tenant", tenant_link(finding.text("tenant"))));
    }
    for (title, key) in [
        ("Application", "application"),
        ("Route", "route"),
        ("Database", "database"),
        ("User", "user"),
        ("Client", "client"),
    ] {
        facts.push((title, name_or_none(finding.text(key))));
    }
    let tied = if finding.is("traced") { "a trace id" } else { "time, for one application and client" };
    facts.push(("Tied together by", html! { (tied) }));
    table::facts(&facts)
}

fn extent(finding: &Value) -> Markup {
    let count = |key: &str| html! { (figure::count(finding.count(key))) };
    table::facts(&[
        ("Times seen", count("occurrences")),
        ("In the last minute", count("per_minute")),
        ("Statements in all of them", count("statements")),
        ("Largest burst", count("count")),
        ("Time lost by the largest", html! { (figure::ms(finding.count("wasted_ms"))) }),
    ])
}

/// Who knows of it, and the forms to say so.
fn said(finding: &Value, id: &str, visit: &Visit) -> Markup {
    let acknowledged = finding.field("acknowledged");
    let by = html! {
        label { "Your name" input name="by" required maxlength="128" value=(visit.who.name); }
        label { "Note" input name="note" maxlength="1024" placeholder="goes with #17"; }
    };
    let mute = html! {
        label { "For" select name="for" { option value="24h" { "a day" } option value="168h" { "a week" } option value="" { "ever" } } }
        label { "Note" input name="note" maxlength="1024"; }
    };
    let fields = [("fingerprint", finding.text("child.fingerprint")), ("kind", finding.text("kind"))];
    html! {
        @if let Some(known) = acknowledged {
            p { "Acknowledged by " (name(known.text("by"))) " " (moment::ago(known.text("at"), visit.now_us))
                @if !known.text("note").is_empty() { ": " q { (visible(known.text("note"))) } } }
        } @else if finding.text("state") == "muted" {
            p { "A mute keeps it silent; " a href="/findings#mutes" { "the list of mutes" } " has it." }
        } @else {
            p { "Nobody has said anything about it yet." }
        }
        div.actions {
            @if acknowledged.is_some() {
                (form::action(visit, &Action { name: "withdraw", title: "Withdraw", fields: &[("id", id)], ..Action::default() }))
            } @else {
                (form::action(visit, &Action { name: "acknowledge", title: "Acknowledge", fields: &[("id", id)], inputs: Some(by), ..Action::default() }))
            }
            (form::action(visit, &Action { name: "mute", title: "Mute", fields: &fields, inputs: Some(mute),
                warning: "Findings of this kind about this statement are kept, but neither logged nor counted.", ..Action::default() }))
        }
    }
}
