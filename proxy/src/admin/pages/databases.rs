//! Databases on the page of pools: where each leads, how it stands, what ran lately.

use maud::{Markup, html};
use serde_json::Value;

use super::show::figure::{self, known};
use super::show::table::{self, Column};
use super::show::text::{name, none, visible, words};
use super::show::{Fields as _, moment};
use super::visit::Visit;

/// One row for each.
pub(super) fn draw(rows: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::text("Database"),
        Column::text("Server"),
        Column::figures("Connections"),
        Column::figures("Clients"),
        Column::figures("Waiting"),
        Column::figures("Wait p99").minor(),
        Column::figures("Statements"),
        Column::figures("Errors"),
        Column::text("Cache").minor(),
        Column::text("State"),
    ];
    let drawn: Vec<_> = rows.iter().map(|row| cells(row, visit)).collect();
    table::draw("Databases; statements and errors of the last hour", &columns, &drawn, "No database is configured.")
}

fn cells(row: &Value, visit: &Visit) -> Vec<Markup> {
    let (waiting, errors) = (row.count("clients.waiting"), row.count("period.errors"));
    vec![
        html! { (name(row.text("name"))) @if row.field("pool_mode").is_some() { p.under { (words(row.text("pool_mode"))) } } },
        server(row),
        html! {
            (known(row.number("current_connections"), figure::grouped))
            p.under { (limit(row, &["max_connections", "pool_size"])) }
        },
        html! {
            (known(row.number("current_client_connections"), figure::grouped))
            p.under { (limit(row, &["max_client_connections"])) }
        },
        html! { span.bad[waiting > 0.0] { (known(row.number("clients.waiting"), figure::grouped)) }
        @if row.field("waiting_ms").is_some() { p.under { "for " (figure::ms(row.count("waiting_ms"))) } } },
        known(row.number("wait_ms.p99"), figure::ms),
        html! { (known(row.number("period.calls"), figure::count)) p.under { (known(row.number("period.calls_per_second"), figure::rate)) "/s" } },
        html! { span.bad[errors > 0.0] { (known(row.number("period.errors"), figure::count)) } },
        cache(row),
        state(row, visit),
    ]
}

fn server(row: &Value) -> Markup {
    if row.field("host").is_none() {
        return html! { span.none { "not configured" } };
    }
    let (host, port) = (row.text("host"), row.count("port"));
    html! {
        code { (visible(host)) ":" (format!("{port:.0}")) "/" (visible(row.text("dbname"))) }
        @if row.field("server_version").is_some() {
            p.under { "PostgreSQL " (visible(row.text("server_version"))) @if row.is("is_in_recovery") { ", a standby" } }
        }
    }
}

/// The first of these limits that is set: a pool's is of each user.
fn limit(row: &Value, fields: &[&str]) -> Markup {
    let found = fields.iter().find_map(|field| Some((*field, row.number(field).filter(|most| *most > 0.0)?)));
    html! {
        @match found {
            Some(("pool_size", most)) => { "of " (figure::grouped(most)) " a user" },
            Some((_, most)) => { "of " (figure::grouped(most)) },
            None => {},
        }
    }
}

fn cache(row: &Value) -> Markup {
    match (row.field("cache"), row.text("cache.trouble")) {
        (None, _) => none(),
        (Some(_), _) if row.is("cache.ready") => html! { "ready" },
        (Some(_), "") => html! { "not ready" },
        (Some(_), why) => html! { (visible(why)) },
    }
}

fn state(row: &Value, visit: &Visit) -> Markup {
    let all = ["paused", "disabled", "suspended"]
        .map(|word| (word, row.is(word), row.text(&format!("{word}_since")).to_owned()));
    html! {
        @for (word, _, since) in all.iter().filter(|(_, is_so, _)| *is_so) {
            span.tag.warning { (word) } " "
            @if !since.is_empty() { p.under { "since " (moment::ago(since, visit.now_us)) } }
        }
        @if all.iter().all(|(_, is_so, _)| !is_so) { span.tag.plain { "open" } }
    }
}
