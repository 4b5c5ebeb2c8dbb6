//! `/pools`: where clients meet server connections: who waits, who holds, who blocks whom.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed, statement_link, tenant_link};
use super::show::figure::{self, known};
use super::show::form::{self, Action};
use super::show::table::{self, Column};
use super::show::text::{name, name_or_none, none, visible, words};
use super::show::{Fields as _, moment, spark};
use super::visit::{Pages, Visit};

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let (pools, databases, blocking, listeners, sockets) = tokio::join!(
        visit.get("/api/v1/pools"),
        visit.get("/api/v1/databases?limit=200"),
        visit.get("/api/v1/blocking"),
        visit.get("/api/v1/listeners"),
        visit.get("/api/v1/sockets"),
    );
    let content = html! {
        section #list data-live aria-labelledby="list-title" {
            h2.unseen #list-title { "List" }
            (pools.drawn(|pools| cards(pools.list("pools"), &visit)))
        }
        section #databases data-live aria-labelledby="databases-title" {
            div.head { h2 #databases-title { "Databases" } a.twin href="/api/v1/databases" aria-label="Databases as JSON" { "JSON" } }
            (databases.drawn(|databases| super::databases::draw(databases.list("databases"), &visit)))
        }
        section #blocking data-live aria-labelledby="blocking-title" {
            h2 #blocking-title { "Who blocks whom" }
            (blocking.drawn(|blocking| blocked(blocking, &visit)))
        }
        section #listeners data-live aria-labelledby="listeners-title" {
            h2 #listeners-title { "Connections that listen" }
            (listeners.drawn(|listeners| listening(listeners.list("listeners"))))
        }
        section #sockets data-live aria-labelledby="sockets-title" {
            h2 #sockets-title { "Where clients connect" }
            (sockets.drawn(|sockets| listened(sockets.list("sockets"))))
        }
    };
    let sheet = Sheet::new("Pools", Section::Pools).twin("/api/v1/pools").lead(html! {
        "One for each database and user. " a href="/connections" { "Single connections" } " are on a page of their own."
    });
    framed(&visit, &sheet, &content)
}

/// What the overview shows of pools: who waits.
pub(super) fn summary(pools: &[Value]) -> Markup {
    let columns = [
        Column::text("Pool"),
        Column::text("Server connections"),
        Column::figures("Clients"),
        Column::figures("Waiting"),
        Column::figures("Wait p95"),
        Column::figures("Refused").minor(),
        Column::text("State").minor(),
    ];
    let rows: Vec<_> = pools
        .iter()
        .map(|pool| {
            vec![
                html! { (name(pool.text("database"))) span.beside { " / " (name(pool.text("user"))) } },
                usage(pool),
                known(pool.number("clients.total"), figure::count),
                waiting(pool),
                known(pool.number("wait_ms.p95"), figure::ms),
                known(Some(pool.count("queue_timeouts") + pool.count("queue_refusals")), figure::count),
                state(pool),
            ]
        })
        .collect();
    table::draw("Pools and who waits for them", &columns, &rows, "No client has come yet.")
}

fn waiting(pool: &Value) -> Markup {
    let waiting = pool.count("clients.waiting");
    html! { span.bad[waiting > 0.0] { (known(pool.number("clients.waiting"), figure::count)) } }
}

fn usage(pool: &Value) -> Markup {
    let (active, idle) = (pool.count("upstreams.active"), pool.count("upstreams.idle"));
    let size = pool.count("settings.size").max(active + idle);
    html! {
        (spark::parts(&[(active, "one"), (idle, "two"), ((size - active - idle).max(0.0), "rest")]))
        span.beside { (figure::grouped(active)) " busy, " (figure::grouped(idle)) " idle of " (figure::grouped(size)) }
    }
}

fn state(pool: &Value) -> Markup {
    html! {
        @if pool.is("paused") { span.tag.warning { "paused" } }
        @if pool.is("disabled") { span.tag.warning { "disabled" } }
        @if !pool.is("paused") && !pool.is("disabled") { span.tag.plain { (words(pool.text("settings.mode"))) } }
    }
}

fn cards(pools: &[Value], visit: &Visit) -> Markup {
    if pools.is_empty() {
        return html! { p.empty { "No client has come yet: a pool begins with its first." } };
    }
    html! { ul.cards.wide { @for pool in pools { li.card { (card(pool, visit)) } } } }
}

fn card(pool: &Value, visit: &Visit) -> Markup {
    let database = pool.text("database");
    let fields = [("database", database)];
    html! {
        h3 { (name(database)) span.beside { " / " (name(pool.text("user"))) } " " (state(pool)) }
        div.halves {
            div { p.name { "Server connections" } (usage(pool)) @if pool.count("upstreams.pinned") > 0.0 { p.note { (figure::grouped(pool.count("upstreams.pinned"))) " pinned: " (reasons(pool, "pins")) } } }
            div { p.name { "Clients" }
                (spark::parts(&[(pool.count("clients.active"), "one"), (pool.count("clients.waiting"), "bad"), (pool.count("clients.idle"), "rest")]))
                span.beside { (figure::grouped(pool.count("clients.active"))) " active, " span.bad[pool.count("clients.waiting") > 0.0] { (figure::grouped(pool.count("clients.waiting"))) " waiting" } ", " (figure::grouped(pool.count("clients.idle"))) " idle" }
            }
        }
        dl.inline {
            div { dt { "statements" } dd { (known(pool.number("statements"), figure::count)) } }
            div { dt { "p95" } dd { (known(pool.number("statement_ms.p95"), figure::ms)) } }
            div { dt { "wait p95" } dd { (known(pool.number("wait_ms.p95"), figure::ms)) } }
            div { dt { "waited too long" } dd { (known(pool.number("queue_timeouts"), figure::count)) } }
            div { dt { "turned away" } dd { (known(pool.number("queue_refusals"), figure::count)) } }
            div { dt { "errors" } dd { (known(pool.number("statement_errors"), figure::count)) } }
            div { dt { "dials" } dd { (known(pool.number("dials"), figure::count)) } }
            div { dt { "failed dials" } dd { (known(pool.number("dial_failures"), figure::count)) } }
            div { dt { "resets" } dd { (known(pool.number("resets"), figure::count)) } }
        }
        (queue(pool, visit))
        @if visit.who.may_act {
            div.actions {
                @if pool.is("paused") {
                    (form::action(visit, &Action { name: "resume", title: "Resume", fields: &fields, ..Action::default() }))
                } @else {
                    (form::action(visit, &Action { name: "pause", title: "Pause", fields: &fields, grave: true,
                        warning: "Server connections of the database are closed, each at its next boundary; its clients wait until it is resumed.", ..Action::default() }))
                }
                (form::action(visit, &Action { name: "reconnect", title: "Reconnect", fields: &fields,
                    warning: "Each server connection of the database is replaced at its next boundary. Clients notice nothing.", ..Action::default() }))
            }
        }
    }
}

/// The tenants in the queue.
fn queue(pool: &Value, visit: &Visit) -> Markup {
    let tenants = pool.list("tenants");
    if tenants.is_empty() {
        return html! {};
    }
    let columns = [
        Column::text("Tenant"),
        Column::figures("Waiting"),
        Column::figures("Holding"),
        Column::figures("Weight"),
        Column::figures("At most"),
    ];
    let rows: Vec<_> = tenants
        .iter()
        .map(|one| {
            vec![
                if visit.sees_all() { tenant_link(one.text("tenant")) } else { name(one.text("tenant")) },
                known(one.number("waiting"), figure::grouped),
                known(one.number("holding"), figure::grouped),
                known(one.number("weight"), figure::grouped),
                known(one.number("max_upstreams").filter(|most| *most > 0.0), figure::grouped),
            ]
        })
        .collect();
    table::draw("Tenants that wait here", &columns, &rows, "")
}

fn reasons(pool: &Value, field: &str) -> Markup {
    html! {
        @for (at, (reason, count)) in pool.entries(field).iter().enumerate() {
            @if at > 0 { ", " }
            (words(reason)) " " (figure::count(count.as_f64().unwrap_or(0.0)))
        }
    }
}

/// Who waits in each queue and who holds what they wait for; then who keeps a server connection beyond a transaction.
fn blocked(answer: &Value, visit: &Visit) -> Markup {
    let (pools, pinned) = (answer.list("pools"), answer.list("pinned"));
    html! {
        @if pools.is_empty() { p.empty { "Nobody waits for a server connection." } }
        @for pool in pools {
            div.card.queue {
                h3 { (name(pool.text("database"))) span.beside { " / " (name(pool.text("user"))) } }
                p.sum { strong.bad { (figure::grouped(pool.count("waiting"))) " waiting" }
                    @if pool.number("waiting_ms").is_some() { ", the first for " (figure::ms(pool.count("waiting_ms"))) }
                    @if pool.number("open").is_some() { "; " (figure::grouped(pool.count("open"))) " of " (figure::grouped(pool.count("size"))) " server connections open" }
                    @if !pool.text("failure").is_empty() { "; the server: " (visible(pool.text("failure"))) } }
                div.halves {
                    (waiters(pool.list("waiters"), visit))
                    (holders(pool.list("holders"), visit))
                }
            }
        }
        @if !pinned.is_empty() { (pins(pinned, visit)) }
    }
}

fn of_whom(one: &Value, visit: &Visit) -> Markup {
    let tenant = one.text("tenant");
    html! {
        (name_or_none(one.text("application")))
        p.under { "client " (figure::grouped(one.count("client"))) ", " @if visit.sees_all() { (tenant_link(tenant)) } @else { (name(tenant)) } }
    }
}

fn waiters(waiters: &[Value], visit: &Visit) -> Markup {
    let rows: Vec<_> =
        waiters.iter().map(|one| vec![of_whom(one, visit), known(one.number("waiting_ms"), figure::ms)]).collect();
    table::draw(
        "Clients that wait, the longest first",
        &[Column::text("Waits"), Column::figures("For")],
        &rows,
        "Its waiters have just been served.",
    )
}

fn holders(holders: &[Value], visit: &Visit) -> Markup {
    let columns = [Column::text("Holds"), Column::text("State"), Column::text("Statement"), Column::figures("For")];
    let rows: Vec<_> = holders
        .iter()
        .map(|one| {
            let fingerprint = one.text("fingerprint");
            vec![
                of_whom(one, visit),
                html! { (words(one.text("state"))) @if one.field("pinned").is_some() { " " span.tag.warning { (words(one.text("pinned"))) } } },
                if fingerprint.is_empty() { none() } else { statement_link(fingerprint, "", &html! { code { (visible(fingerprint)) } }) },
                known(one.number("held_ms"), figure::ms),
            ]
        })
        .collect();
    table::draw(
        "Clients that hold a server connection, the longest first",
        &columns,
        &rows,
        "Nobody holds one just now.",
    )
}

fn pins(pinned: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::text("Keeps a server connection"),
        Column::text("Why"),
        Column::text("By"),
        Column::text("State"),
        Column::text("For"),
    ];
    let rows: Vec<_> = pinned
        .iter()
        .map(|one| {
            vec![
                of_whom(one, visit),
                html! { (words(one.text("reason"))) },
                if one.text("by").is_empty() {
                    none()
                } else {
                    statement_link(one.text("by"), "", &html! { code { (visible(one.text("by"))) } })
                },
                html! { (words(one.text("state"))) },
                moment::lasting(one.text("state_since"), visit.now_us),
            ]
        })
        .collect();
    table::draw("Clients that are pinned", &columns, &rows, "")
}

fn listening(listeners: &[Value]) -> Markup {
    let columns = [
        Column::text("Database"),
        Column::text("Server"),
        Column::text("State"),
        Column::figures("Clients"),
        Column::figures("Channels"),
        Column::figures("Notifications"),
        Column::figures("Lost"),
    ];
    let rows: Vec<_> = listeners
        .iter()
        .map(|one| {
            vec![
                name(one.text("database")),
                name(one.text("address")),
                html! { (words(one.text("state"))) },
                known(one.number("clients"), figure::grouped),
                known(one.number("channels"), figure::grouped),
                known(one.number("notifications"), figure::count),
                known(one.number("losses"), figure::grouped),
            ]
        })
        .collect();
    table::draw("Connections that LISTEN for all clients of a database", &columns, &rows, "No client listens.")
}

fn listened(sockets: &[Value]) -> Markup {
    let columns = [
        Column::text("Address"),
        Column::text("Kind"),
        Column::text("Origin"),
        Column::figures("Accepted"),
        Column::figures("Failed"),
    ];
    let rows: Vec<_> = sockets
        .iter()
        .map(|one| {
            vec![
                if one.text("address").is_empty() {
                    none()
                } else {
                    html! { code { (visible(one.text("address"))) } }
                },
                html! { (words(one.text("kind"))) },
                html! { (words(one.text("origin"))) },
                known(one.number("accepted"), figure::count),
                known(one.number("failed"), figure::count),
            ]
        })
        .collect();
    table::draw("Sockets", &columns, &rows, "It listens nowhere.")
}
