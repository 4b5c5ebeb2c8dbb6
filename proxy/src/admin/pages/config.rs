//! `/config`: the settings in force and where each came from, without a secret.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed};
use super::show::figure;
use super::show::form::{self, Action, Field};
use super::show::table::{self, Column};
use super::show::text::visible;
use super::show::{Fields as _, moment};
use super::visit::{Pages, Visit};

/// How deep settings are nested at most.
const DEEPEST: usize = 8;
/// Rows that are drawn.
const ROWS: usize = 2_000;

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let config = visit.get("/api/v1/config").await;
    let holds = visit.asked.get("key").unwrap_or_default();
    let content = html! {
        (form::filter(&visit, &[Field::Text { name: "key", title: "Key holds" }], &[]))
        section #reload aria-labelledby="reload-title" {
            h2 #reload-title { "Reload" }
            (config.drawn(|config| reload(config, &visit)))
        }
        @if visit.who.may_act {
            section #process aria-labelledby="process-title" {
                h2 #process-title { "Process" }
                (process(&visit))
            }
        }
        section #settings aria-labelledby="settings-title" {
            h2 #settings-title { "Settings in force" }
            (config.drawn(|config| settings(config, holds)))
        }
    };
    let sheet = Sheet::new("Config", Section::Config).twin("/api/v1/config").lead(html! {
        "What the proxy runs with. Of secrets it is only said whether there is one."
    });
    framed(&visit, &sheet, &content)
}

fn reload(config: &Value, visit: &Visit) -> Markup {
    let pending: Vec<String> = config.list("reload.needs_restart").iter().map(super::show::fields::plain).collect();
    let errors: Vec<String> = config.list("reload.error").iter().map(super::show::fields::plain).collect();
    html! {
        @if !errors.is_empty() {
            div.verdict.critical {
                p.tags { span.tag.critical { "refused" } }
                h3 { "The last reload was refused; the settings before it stay in force." }
                ul { @for error in &errors { li { (visible(error)) } } }
            }
        }
        (table::facts(&[
            ("Last asked for", moment::ago(config.text("reload.last"), visit.now_us)),
            ("Last taken", moment::ago(config.text("reload.last_done"), visit.now_us)),
            ("Waits for a restart", if pending.is_empty() { html! { "nothing" } } else { html! { @for key in &pending { code { (visible(key)) } " " } } }),
        ]))
        @if config.field("tenant_table.database").is_some() { (tenant_table(config, visit)) }
        (form::action(visit, &Action {
            name: "reload",
            title: "Reload",
            warning: "Reads the configuration again, as SIGHUP does: all of it or nothing is taken.",
            ..Action::default()
        }))
    }
}

/// How it stands with the table of tenants.
fn tenant_table(config: &Value, visit: &Visit) -> Markup {
    let trouble = config.text("tenant_table.trouble");
    html! {
        (table::facts(&[
            ("Tenants from the table in", html! { code { (visible(config.text("tenant_table.database"))) } }),
            ("There are", html! { (figure::grouped(config.count("tenant_table.tenants"))) }),
            ("Last read", moment::ago(config.text("tenant_table.last_read"), visit.now_us)),
            ("Trouble", if trouble.is_empty() { html! { "none" } } else { html! { (visible(trouble)) } }),
            ("Rows that are wrong", html! { (figure::grouped(config.count("tenant_table.wrong_rows"))) }),
        ]))
        @let wrong = config.list("tenant_table.wrong");
        @if !wrong.is_empty() {
            ul { @for row in wrong { li { code { (visible(row.text("tenant"))) } ": " (visible(row.text("why"))) } } }
        }
    }
}

/// What can be done to the process as a whole.
fn process(visit: &Visit) -> Markup {
    let level = html! {
        label { "Level" input name="filter" value="debug" maxlength="256" list="levels"; }
        datalist #levels { @for level in ["error", "warn", "info", "debug"] { option value=(level) {} } }
        label { "For" select name="for" { option value="10m" { "10 minutes" } option value="1h" { "an hour" } option value="24h" { "a day" } } }
    };
    html! {
        div.actions {
            (form::action(visit, &Action { name: "log-level", title: "Set log level", inputs: Some(level), ..Action::default() }))
            (form::action(visit, &Action { name: "drain", title: "Drain", grave: true,
                warning: "The process takes no new clients, lets those that are there finish, and ends, as by SIGTERM.", ..Action::default() }))
        }
    }
}

/// Every key with its value and who says it.
fn settings(config: &Value, holds: &str) -> Markup {
    let keys = config.list("keys").iter().filter(|key| key.text("key").contains(holds));
    let rows: Vec<_> = keys
        .take(ROWS)
        .map(|key| {
            vec![
                html! { code { (visible(key.text("key"))) } @if key.is("needs_restart") { " " span.tag.plain { "restart" } } },
                if key.is("hidden") { html! { span.none { "hidden" } } } else { value(key.text("value")) },
                origin(key),
            ]
        })
        .collect();
    if config.field("keys").is_none() {
        let mut flat_rows = Vec::new();
        flat(config, &mut String::new(), 0, &mut flat_rows);
        let shown = flat_rows.iter().filter(|(key, _)| !key.starts_with("reload.") && key.contains(holds)).take(ROWS);
        let rows: Vec<_> = shown.map(|(key, text)| vec![html! { code { (visible(key)) } }, value(text)]).collect();
        return table::draw("Settings by key", &[Column::text("Key"), Column::text("Value")], &rows, "No key matches.");
    }
    let columns = [Column::text("Key"), Column::text("Value"), Column::text("Came from")];
    table::draw("Settings by key, their values and where each came from", &columns, &rows, "No key matches.")
}

fn value(text: &str) -> Markup {
    if text.is_empty() {
        html! { span.none { "not set" } }
    } else {
        html! { (visible(text)) }
    }
}

/// Where a key's value came from: a file's line, a variable, a flag, a row of a table, or the default.
fn origin(key: &Value) -> Markup {
    let name = key.text("from.name");
    match key.text("from.kind") {
        "file" => html! {
            @if key.text("from.file").is_empty() { "the file" } @else { (visible(key.text("from.file"))) }
            ", line " (figure::grouped(key.count("from.line")))
            @if !key.text("from.key").is_empty() { ", as " code { (visible(key.text("from.key"))) } }
            @if !key.list("from.variables").is_empty() { " with "
                @for variable in key.list("from.variables") { code { (visible(variable.as_str().unwrap_or_default())) } " " } }
        },
        "environment" => html! { "variable " code { (visible(name)) } },
        "command_line" => html! { "flag " code { (visible(name)) } },
        "program" => html! { "the program" },
        "table" => html! { "the table of tenants in " code { (visible(name)) } },
        _ => html! { span.none { "default" } },
    }
}

/// Objects become keys with dots; lists of plain values stay values.
fn flat(value: &Value, key: &mut String, depth: usize, rows: &mut Vec<(String, String)>) {
    let length = key.len();
    match value {
        Value::Object(fields) if depth < DEEPEST => {
            for (name, field) in fields {
                if length > 0 {
                    key.push('.');
                }
                key.push_str(name);
                flat(field, key, depth + 1, rows);
                key.truncate(length);
            }
        }
        Value::Array(list) if depth < DEEPEST && list.iter().any(Value::is_object) => {
            for (at, field) in list.iter().enumerate() {
                key.push_str(&format!("[{at}]"));
                flat(field, key, depth + 1, rows);
                key.truncate(length);
            }
        }
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().map(super::show::fields::plain).collect();
            rows.push((key.clone(), texts.join(", ")));
        }
        value => rows.push((key.clone(), super::show::fields::plain(value))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_told_by_their_keys() {
        let mut rows = Vec::new();
        flat(&json!({"a": {"b": 1, "c": []}, "l": [{"n": "x"}]}), &mut String::new(), 0, &mut rows);
        let keys: Vec<_> = rows.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a.b", "a.c", "l[0].n"]);
    }
}
