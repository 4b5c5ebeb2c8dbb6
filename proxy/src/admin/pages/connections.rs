//! `/connections`: who is connected: clients by what they wait for, server connections by who holds them, and who leaves
//! behind what cannot be followed.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed, statement_link, tenant_link};
use super::parts;
use super::show::figure::{self, known};
use super::show::form::{self, Action, Choice, Field};
use super::show::table::{self, Column};
use super::show::text::{name, name_or_none, none, visible, words};
use super::show::{Fields as _, moment};
use super::visit::{Pages, Visit};

const STATES: [(&str, &str); 6] = [
    ("", "all"),
    ("waiting", "waiting"),
    ("active", "active"),
    ("in_transaction", "in transaction"),
    ("idle", "idle"),
    ("pinned", "pinned"),
];
/// Rows that are drawn of each list.
const ROWS: usize = 100;

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let picked = clients_asked(&visit);
    let (clients, upstreams, untracked) = tokio::join!(
        visit.get(format!("/api/v1/clients{picked}")),
        visit.get_if(visit.sees_all(), "/api/v1/upstreams?limit=200"),
        visit.get(format!("/api/v1/untracked{}", visit.asked.pick(&["tenant"], &[("limit", "50")]))),
    );
    let mut fields = vec![
        Field::Text { name: "holds", title: "Application, user or address holds" },
        Field::Choice(Choice { name: "state", title: "State", values: &STATES }),
    ];
    if visit.sees_all() {
        fields.insert(1, Field::Text { name: "tenant", title: "Tenant" });
    }
    let content = html! {
        (form::filter(&visit, &fields, &[]))
        section #clients data-live aria-labelledby="clients-title" {
            h2 #clients-title { "Clients" }
            (clients.drawn(|clients| list(clients, &visit)))
        }
        @if let Some(upstreams) = &upstreams {
            section #upstreams data-live aria-labelledby="upstreams-title" {
                h2 #upstreams-title { "Server connections" }
                (upstreams.drawn(|upstreams| held(upstreams.list("upstreams"), &visit)))
            }
        }
        section #untracked data-live aria-labelledby="untracked-title" {
            h2 #untracked-title { "Who pins, and why" }
            p.lead { "Statements that leave on a server connection what cannot be followed, and what it came to." }
            (untracked.drawn(|untracked| pins(untracked.list("untracked"), &visit)))
        }
    };
    let sheet = Sheet::new("Connections", Section::Connections).twin(format!("/api/v1/clients{picked}")).lead(html! {
        "Those who wait come first, then those who keep a server connection."
        @if visit.sees_all() { " Their sums are with the " a href="/pools#databases" { "databases" } " and " a href="/pools" { "pools" } "." }
    });
    framed(&visit, &sheet, &content)
}

/// What the API is asked for: it filters, sorts and counts, for it alone sees them all.
fn clients_asked(visit: &Visit) -> String {
    let rows = ROWS.to_string();
    let mut more = vec![("sort", "urgency"), ("limit", rows.as_str())];
    match visit.asked.get("state") {
        Some("pinned") => more.push(("pinned", "true")),
        Some(state) => more.push(("state", state)),
        None => {}
    }
    if let Some(text) = visit.asked.get("holds") {
        more.push(("text", text));
    }
    visit.asked.pick(&["tenant", "cursor"], &more)
}

fn list(answer: &Value, visit: &Visit) -> Markup {
    let clients = answer.list("clients");
    let waiting = answer.count("waiting");
    let mut columns = vec![
        Column::figures("Id"),
        Column::text("Application"),
        Column::text("Tenant"),
        Column::text("State"),
        Column::text("For"),
        Column::text("Keeps a server"),
        Column::text("Database / user").minor(),
        Column::text("From").minor(),
        Column::text("Connected").minor(),
    ];
    if visit.who.may_act {
        columns.push(Column::text("Actions"));
    }
    let rows: Vec<_> = clients.iter().map(|client| row(client, visit)).collect();
    html! {
        p.sum { (figure::grouped(answer.count("total"))) " in all; "
            span.bad[waiting > 0.0] { (figure::grouped(waiting)) " waiting" } ", "
            (figure::grouped(answer.count("pinned"))) " pinned" }
        (table::draw("Clients", &columns, &rows, "No client matches."))
        (parts::turn(visit, answer, clients.len()))
    }
}

fn row(client: &Value, visit: &Visit) -> Vec<Markup> {
    let id = client.number("id").map(|id| format!("{id:.0}")).unwrap_or_default();
    let mut cells = vec![
        html! { (id) },
        name_or_none(client.text("application")),
        if visit.sees_all() { tenant_link(client.text("tenant")) } else { name(client.text("tenant")) },
        state(client.text("state")),
        moment::lasting(client.text("state_since"), visit.now_us),
        html! {
            @if client.field("pinned").is_some() {
                span.tag.warning { (words(client.text("pinned"))) } " "
                @if client.field("pinned_by").is_some() { (statement_link(client.text("pinned_by"), "", &html! { "by this" })) }
            } @else { (known(client.number("upstream"), figure::grouped)) }
        },
        html! { (name(client.text("database"))) " / " (name(client.text("user"))) },
        html! { span.nowrap { (name(client.text("address"))) } @if client.field("tls").is_some() { " " span.tag.plain { (visible(client.text("tls.version"))) } } },
        moment::ago(client.text("connected"), visit.now_us),
    ];
    if visit.who.may_act {
        let fields = [("client", id.as_str())];
        cells.push(html! {
            div.actions {
                @if client.text("state") == "active" {
                    (form::action(visit, &Action { name: "cancel", title: "Cancel", fields: &fields, warning: "Cancels what it runs now; it stays connected.", ..Action::default() }))
                }
                (form::action(visit, &Action { name: "kill", title: "Kill", fields: &fields, grave: true, warning: "Ends the client's connection with 57P01; what it runs is cancelled.", ..Action::default() }))
            }
        });
    }
    cells
}

fn state(state: &str) -> Markup {
    let class = match state {
        "waiting" => "tag critical",
        "in_transaction" => "tag notice",
        "active" => "tag good",
        _ => "tag plain",
    };
    html! { span class=(class) { (words(state)) } }
}

fn held(upstreams: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::figures("Id"),
        Column::text("Database / user"),
        Column::text("State"),
        Column::text("For"),
        Column::figures("Client"),
        Column::figures("Server's process"),
        Column::text("Server").minor(),
        Column::figures("Prepared").minor(),
        Column::text("Connected").minor(),
    ];
    let rows: Vec<_> = upstreams
        .iter()
        .take(ROWS)
        .map(|one| {
            vec![
                known(one.number("id"), |id| format!("{id:.0}")),
                html! { (name(one.text("database"))) " / " (name(one.text("user"))) },
                state(one.text("state")),
                moment::lasting(one.text("state_since"), visit.now_us),
                known(one.number("client"), |id| format!("{id:.0}")),
                known(one.number("backend_pid"), |pid| format!("{pid:.0}")),
                name(one.text("address")),
                known(one.number("prepared_statements"), figure::grouped),
                moment::ago(one.text("connected"), visit.now_us),
            ]
        })
        .collect();
    table::draw("Server connections that are idle or held", &columns, &rows, "None is open.")
}

fn pins(untracked: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::text("Reason"),
        Column::text("Answer"),
        Column::text("Application"),
        Column::text("Tenant"),
        Column::text("Statement"),
        Column::figures("Times"),
        Column::text("Last"),
    ];
    let rows: Vec<_> = untracked
        .iter()
        .map(|one| {
            let fingerprint = one.text("fingerprint");
            vec![
                html! { (words(one.text("reason"))) },
                html! { (words(one.text("answer"))) },
                name_or_none(one.text("application")),
                if visit.sees_all() { tenant_link(one.text("tenant")) } else { name(one.text("tenant")) },
                if fingerprint.is_empty() {
                    none()
                } else {
                    statement_link(fingerprint, "", &html! { code { (visible(fingerprint)) } })
                },
                known(one.number("count"), figure::count),
                moment::ago(one.text("last_seen"), visit.now_us),
            ]
        })
        .collect();
    table::draw("What was left on server connections", &columns, &rows, "Nobody has left anything.")
}
