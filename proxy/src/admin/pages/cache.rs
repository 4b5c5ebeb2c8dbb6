//! `/cache`: the read cache: whether it works, what it is good for, whose memory it takes, and why it does not more.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed, tenant_link};
use super::parts::{self, Tile};
use super::show::figure::{self, known};
use super::show::form::{self, Action};
use super::show::table::{self, Column};
use super::show::text::{name, none, visible, words};
use super::show::{Fields as _, spark};
use super::visit::{Pages, Visit};

/// Tenants that are listed, those that hold most.
const MAX_TENANTS: usize = 50;

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let cache = visit.get("/api/v1/cache").await;
    let content = html! {
        section #mode aria-labelledby="mode-title" {
            h2 #mode-title { "Mode" }
            (cache.drawn(|cache| mode(cache, &visit)))
        }
        section #figures data-live aria-label="Figures" { (cache.drawn(figures)) }
        section #databases data-live aria-labelledby="databases-title" {
            h2 #databases-title { "Databases" }
            (cache.drawn(|cache| databases(cache.list("databases"))))
        }
        section #reasons data-live aria-labelledby="reasons-title" {
            h2 #reasons-title { "Why it does not more" }
            (cache.drawn(reasons))
        }
        section #tenants data-live aria-labelledby="tenants-title" {
            h2 #tenants-title { "Memory by tenant" }
            (cache.drawn(tenants))
        }
        @if visit.who.may_act {
            section #ending aria-labelledby="ending-title" {
                h2 #ending-title { "End answers by hand" }
                (ending(&visit))
            }
        }
    };
    let sheet = Sheet::new("Cache", Section::Cache).twin("/api/v1/cache").lead(html! {
        "Answers to reads that are kept, as the rules of the configuration allow. Of a single statement its "
        a href="/queries" { "page" } " says why it is not cached."
    });
    framed(&visit, &sheet, &content)
}

/// What a mode does, in a sentence.
fn meaning(mode: &str) -> &'static str {
    match mode {
        "on" => "Answers are kept and given.",
        "observe" => "Answers are kept and compared with the server's, which alone are given.",
        _ => "Nothing is kept and nothing is given: every statement goes to the server.",
    }
}

fn tag(mode: &str) -> Markup {
    let tone = match mode {
        "on" => "good",
        "observe" => "notice",
        _ => "plain",
    };
    html! { span class={ "tag " (tone) } { (visible(mode)) } }
}

fn mode(cache: &Value, visit: &Visit) -> Markup {
    let now = cache.text("mode");
    let disagreed = cache.count("disagreed");
    html! {
        p { (tag(now)) " " (meaning(now)) }
        @if disagreed > 0.0 {
            div.verdict.critical {
                p.tags { (parts::severity("critical")) }
                h3 { (figure::grouped(disagreed)) " kept answers were not what the server said." }
                p.advice { strong { "What to do " } "Leave the cache off, and report it with the log's lines: it must never be." }
            }
        }
        @if cache.is("follows") {
            div.actions {
                @for (mode, title, warning, grave) in MODES.iter().filter(|(mode, ..)| *mode != now) {
                    (form::action(visit, &Action { name: "cache-mode", title, fields: &[("mode", mode)], warning, grave: *grave, ..Action::default() }))
                }
            }
        } @else {
            p.note { "It cannot be switched on: the process was started without a " code { "[[cache.rule]]" } ", so statements that write are not followed. Write a rule and restart." }
        }
    }
}

const MODES: [(&str, &str, &str, bool); 3] = [
    ("off", "Switch off", "What is kept is let go of; every statement goes to the server.", true),
    (
        "observe",
        "Observe",
        "Answers are kept and compared with what the server says. Clients notice nothing. Holds until the next reload.",
        false,
    ),
    ("on", "Switch on", "Reads that a rule allows are answered from memory. Holds until the next reload.", true),
];

fn figures(cache: &Value) -> Markup {
    let count = |field: &str| known(cache.number(field), figure::count);
    let sum = |field: &str| cache.entries(field).iter().filter_map(|(_, count)| count.as_f64()).sum::<f64>();
    let tile = |title, figure, beside, tone| Tile { title, figure, beside, course: Vec::new(), tone };
    let held = cache.count("bytes") / cache.count("max_bytes").max(1.0);
    let tiles = [
        tile(
            "Hit ratio",
            known(cache.number("hit_ratio"), figure::percent),
            html! { "of what may be cached, would-be hits of observe included" },
            "one",
        ),
        tile(
            "Hits",
            count("hits"),
            html! { (count("joined")) " waited for another one's answer, " (count("stale")) " were stale" },
            "one",
        ),
        tile(
            "Time saved",
            known(cache.number("saved_us").map(|us| us / 1e3), figure::ms),
            html! { "that the server did not work" },
            "two",
        ),
        tile(
            "Memory",
            known(cache.number("bytes"), figure::bytes),
            html! { (figure::percent(held)) " of " (figure::bytes(cache.count("max_bytes"))) ", " (count("entries")) " answers" },
            "two",
        ),
        tile("Kept", count("fills"), html! { (count("evictions")) " gave way to others" }, "plain"),
        tile(
            "Not cached",
            known(Some(sum("bypasses")), figure::count),
            html! { (figure::count(sum("misses"))) " missed, " (figure::count(sum("refused"))) " not kept" },
            "plain",
        ),
        tile(
            "Compared",
            count("agreed"),
            html! { "agreed, " span.bad[cache.count("disagreed") > 0.0] { (count("disagreed")) " did not" } "; "
            (count("observed_hits")) " would have been hits, and saved "
            (known(cache.number("observed_saved_us").map(|us| us / 1e3), figure::ms)) },
            if cache.count("disagreed") > 0.0 { "bad" } else { "plain" },
        ),
    ];
    parts::tiles(&tiles, None)
}

fn databases(databases: &[Value]) -> Markup {
    let columns = [
        Column::text("Database"),
        Column::text("State"),
        Column::text("Why not"),
        Column::text("Slot"),
        Column::figures("Lag"),
        Column::figures("Unresolved"),
        Column::figures("Lost"),
    ];
    let rows: Vec<_> = databases
        .iter()
        .map(|one| {
            let lost = one.count("dropped_writes");
            vec![
                name(one.text("name")),
                html! { @if one.is("ready") { span.tag.good { "ready" } } @else { span.tag.warning { "not cached" } } },
                if one.text("trouble").is_empty() {
                    none()
                } else {
                    html! { (visible(one.text("trouble"))) }
                },
                html! { (words(one.text("slot"))) },
                known(one.number("slot_lag_ms"), figure::ms),
                known(one.number("unresolved_writes"), figure::grouped),
                html! { span.bad[lost > 0.0] { (known(Some(lost), figure::grouped)) } },
            ]
        })
        .collect();
    table::draw(
        "Databases, the slot that tells of writes from outside, and writes of which it is not known how they ended",
        &columns,
        &rows,
        "Nobody has connected to a database that may be cached.",
    )
}

fn reasons(cache: &Value) -> Markup {
    let list = |field: &str, caption: &str, empty: &str| {
        let mut all = cache.entries(field);
        all.sort_by(|(_, a), (_, b)| b.as_f64().unwrap_or(0.0).total_cmp(&a.as_f64().unwrap_or(0.0)));
        let rows: Vec<_> = all
            .iter()
            .map(|(reason, count)| vec![html! { (words(reason)) }, known(count.as_f64(), figure::count)])
            .collect();
        table::draw(caption, &[Column::text("Reason"), Column::figures("Times")], &rows, empty)
    };
    html! {
        div.halves {
            div { h3 { "Not cached" } (list("bypasses", "Statements that may not be cached", "None yet; nothing is counted while the mode is off.")) }
            div { h3 { "Missed" } (list("misses", "Statements that may be cached and were not answered", "None was missed.")) }
        }
        div.halves {
            div { h3 { "Not kept" } (list("refused", "Replies that were not kept", "Every reply that might be was kept.")) }
            div { h3 { "Ended" } (list("invalidated", "What ended answers", "Nothing has ended an answer.")) }
        }
    }
}

fn tenants(cache: &Value) -> Markup {
    let mut all: Vec<(&str, f64)> = cache
        .entries("bytes_by_tenant")
        .iter()
        .map(|(tenant, bytes)| (*tenant, bytes.as_f64().unwrap_or(0.0)))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let (share, most) = (cache.count("max_bytes_of_tenant").max(1.0), all.len());
    let rows: Vec<_> = all
        .iter()
        .take(MAX_TENANTS)
        .map(|(tenant, bytes)| {
            vec![
                tenant_link(tenant),
                html! { (figure::bytes(*bytes)) },
                html! { (spark::bar(bytes / share)) span.beside { (figure::percent(bytes / share)) } },
            ]
        })
        .collect();
    let columns = [Column::text("Tenant"), Column::figures("Holds"), Column::text("Of its share")];
    html! {
        (table::draw("Tenants that hold most", &columns, &rows, "Nothing is held."))
        @if most > MAX_TENANTS { p.note { (figure::grouped(MAX_TENANTS as f64)) " of " (figure::grouped(most as f64)) } }
    }
}

/// One form: exactly one of the fields is filled in.
fn ending(visit: &Visit) -> Markup {
    let input = |field: &str, title: &str| {
        html! { label { span { (title) } input type="text" name=(field) autocomplete="off" spellcheck="false" maxlength="1024"; } }
    };
    let one = |field: &str, title: &str, button: &str, warning: &str| {
        let inputs = Some(html! { (input(field, title)) (input("database", "Database (empty: all)")) });
        form::action(visit, &Action { name: "cache-end", title: button, warning, inputs, ..Action::default() })
    };
    html! {
        div.actions {
            (one("table", "Table", "Of a table", "Answers that read this table are not given any more: schema.name, or a name in any schema."))
            (one("tag", "Tag", "By a tag", "Answers by rules with this tag are not given any more."))
            (one("tenant", "Tenant", "Of a tenant", "What is kept for this tenant is not given any more."))
            (form::action(visit, &Action { name: "cache-end", title: "All", fields: &[("all", "true")], grave: true,
                warning: "Nothing that is kept is given any more; the server has to answer everything once.", ..Action::default() }))
        }
    }
}

/// Of one statement: why it is not cached, or that it is. `fate`: as its detail has it.
pub(super) fn fate(fate: Option<&Value>) -> Markup {
    let Some(fate) = fate.filter(|fate| fate.is_object()) else {
        return html! { p.empty { "Nothing is known: it has not run since the cache was switched on, or the cache is off." } };
    };
    let (tone, said) = match fate.text("fate") {
        "hit" => ("good", "hit"),
        "observed" => ("good", "would be a hit"),
        "miss" => ("notice", "miss"),
        "refused" => ("warning", "not kept"),
        _ => ("plain", "not cached"),
    };
    html! {
        p { span class={ "tag " (tone) } { (said) } " " (visible(fate.text("words")))
            @if !fate.text("reason").is_empty() { " " code { (visible(fate.text("reason"))) } } }
        p.note { "That is what became of its last execution. " a href="/cache" { "The cache" } }
    }
}

/// The cache in a line, for the overview.
pub(super) fn summary(cache: &Value) -> Markup {
    let now = cache.text("mode");
    let not_ready = cache.list("databases").iter().filter(|one| !one.is("ready")).count();
    html! {
        p { (tag(now)) " " (meaning(now))
            @if let Some(ratio) = cache.number("hit_ratio") { " Hit ratio " (figure::percent(ratio)) ", " (figure::ms(cache.count("saved_us") / 1e3)) " saved." }
            @if now != "off" && not_ready > 0 { " " span.bad { (figure::grouped(not_ready as f64)) " databases are not cached." } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_summary_says_what_is_so() {
        let said = |cache: Value| summary(&cache).into_string();
        assert!(said(json!({"mode": "off"})).contains("Nothing is kept"));
        let on = json!({"mode": "on", "hit_ratio": 0.5, "saved_us": 2_000_000, "databases": [{"ready": false}, {"ready": true}]});
        let on = said(on);
        assert!(on.contains("50") && on.contains("1 databases are not cached"), "{on}");
    }

    #[test]
    fn a_statement_is_told_why() {
        let fate = |value: Value| fate(Some(&value)).into_string();
        let denied = fate(json!({"fate": "bypass", "reason": "denied", "words": "A cache rule denies it."}));
        assert!(denied.contains("A cache rule denies it.") && denied.contains("not cached"), "{denied}");
        assert!(fate(Value::Null).contains("Nothing is known"));
    }
}
