//! `/limits`: the policy in force, what was reached, and what would hold for a login or a statement.

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::layout::{Section, Sheet, page as framed, tenant_link};
use super::parts;
use super::show::figure::{self, known};
use super::show::form::{self, Field};
use super::show::table::{self, Column};
use super::show::text::{name, name_or_none, visible, words};
use super::show::{Fields as _, sql};
use super::tenant::value;
use super::visit::{Pages, Said, Visit};

/// What a login can be told by.
const WISHES: [(&str, &str); 4] =
    [("user", "User"), ("database", "Database"), ("application", "Application"), ("sql", "Statement")];

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let picked = visit.asked.pick(&["tenant", "cursor"], &[("limit", "200")]);
    let of_one = visit.asked.pick(&["tenant"], &[]);
    let (limits, tenants, explained) = tokio::join!(
        visit.get(format!("/api/v1/limits{picked}")),
        visit.get(format!("/api/v1/tenants{of_one}")),
        explain(&visit),
    );
    // A tenant's own row has its limits as well.
    let (held, list) = match (&limits, &tenants) {
        (Said::Answer(limits), _) => (limits, limits.list("limits")),
        (_, Said::Answer(tenants)) => (tenants, tenants.list("tenants")),
        (refused, _) => {
            let content = refused.drawn(|_| html! {});
            return framed(&visit, &Sheet::new("Limits", Section::Limits), &content);
        }
    };
    let content = html! {
        (form::filter(&visit, &[Field::Text { name: "tenant", title: "Tenant" }], &[]))
        section #policy data-live aria-labelledby="policy-title" {
            h2 #policy-title { "Limits in force" }
            (policy(list, &visit))
            (parts::turn(&visit, held, list.len()))
        }
        section #reached data-live aria-labelledby="reached-title" {
            h2 #reached-title { "Limits that were reached" }
            (reached(list, &visit))
        }
        section #explain aria-labelledby="explain-title" {
            h2 #explain-title { "Whose would it be, and what would hold?" }
            p.lead { "For a login, and a statement of it: the tenant, the class, and each limit with the table that says it. Nothing is run." }
            (form::filter(&visit, &WISHES.map(|(name, title)| Field::Text { name, title }), &[]))
            @if let Some(explained) = &explained { (explained.drawn(verdict)) }
        }
    };
    let sheet = Sheet::new("Limits", Section::Limits).twin(format!("/api/v1/limits{picked}")).lead(html! {
        "What tenants are held to: observed, warned of, or enforced."
    });
    framed(&visit, &sheet, &content)
}

/// Asks whose a login would be, where one is described. It changes nothing, though it is sent by POST.
async fn explain(visit: &Visit) -> Option<Said> {
    visit.asked.get("user")?;
    let wish = WISHES.iter().filter_map(|(name, _)| Some(((*name).to_owned(), json!(visit.asked.get(name)?))));
    let wish = Value::Object(wish.collect::<Map<_, _>>());
    Some(visit.send(Method::POST, "/api/v1/limits/explain", Some(&wish)).await)
}

/// What an explanation says.
fn verdict(explained: &Value) -> Markup {
    let by = |key: &str| match explained.text(key) {
        "" => html! { "by no rule" },
        from => {
            html! { "by rule " (figure::grouped(explained.count(&key.replace(".from", ".number")))) ": " code { (visible(from)) } }
        }
    };
    let statement = explained.field("statement");
    html! {
        (table::facts(&[
            ("Tenant", html! { (name_or_none(explained.text("tenant"))) " " span.beside { (by("tenant_rule.from")) } }),
            ("Class", html! { (name_or_none(explained.text("class"))) " " span.beside { (by("class_rule.from")) } }),
        ]))
        @if let Some(statement) = statement {
            (judged(statement))
            @if statement.get("has_limits") == Some(&Value::Bool(true)) {
                p.lead { "The statement has limits of its own, which stand beside those of the session below." }
                (super::tenant::limits(statement))
            }
        }
        @if let Some(connection) = explained.field("connection") {
            p.lead { "The comment is the statement's alone: the server has the limits of the connection's tenant " (name(connection.text("tenant"))) "." }
            (super::tenant::limits(connection))
        }
        (super::tenant::limits(explained))
    }
}

/// What speaks against a statement.
fn judged(statement: &Value) -> Markup {
    let objections = statement.list("objections");
    html! {
        (sql::block(statement.text("text")))
        @if objections.is_empty() {
            p.done { "Nothing speaks against this statement." }
        } @else {
            ul.verdicts {
                @for one in objections {
                    li.verdict.warning {
                        p.tags { span.tag.warning { (words(one.text("mode"))) } code { (visible(one.text("code"))) } span.when { (words(one.text("limit"))) } }
                        h3 { (visible(one.text("message"))) }
                        @if !one.text("detail").is_empty() { p { (visible(one.text("detail"))) } }
                        @if !one.text("hint").is_empty() { p.advice { strong { "What to do " } (visible(one.text("hint"))) } }
                    }
                }
            }
        }
    }
}

fn of_whom(row: &Value, visit: &Visit) -> Markup {
    let tenant = row.text("tenant");
    html! {
        @if visit.sees_all() { (tenant_link(tenant)) } @else { (name(tenant)) }
        @if !row.text("class").is_empty() { p.under { "class " (name(row.text("class"))) } }
    }
}

/// One row for each limit of a tenant, or of a class of its sessions.
fn policy(rows: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::text("For"),
        Column::text("Limit"),
        Column::figures("Value"),
        Column::text("Mode"),
        Column::text("Said by"),
    ];
    let drawn: Vec<_> = rows
        .iter()
        .flat_map(|row| ["limits", "class_limits"].map(|kind| (row, kind)))
        .flat_map(|(row, kind)| row.entries(kind).into_iter().map(move |(key, limit)| (row, key, limit)))
        .map(|(row, key, limit)| {
            vec![
                of_whom(row, visit),
                html! { (words(key.trim_end_matches("_ms"))) },
                html! { (value(key, limit.get("value").unwrap_or(limit))) },
                html! { (visible(limit.text("mode"))) },
                html! { code { (visible(limit.text("from"))) } },
            ]
        })
        .collect();
    table::draw(
        "Limits, and which table of the configuration says them",
        &columns,
        &drawn,
        "Nobody that is here is limited.",
    )
}

fn reached(rows: &[Value], visit: &Visit) -> Markup {
    let columns = [
        Column::text("For"),
        Column::text("Limit"),
        Column::figures("Observed"),
        Column::figures("Warned"),
        Column::figures("Enforced"),
    ];
    let drawn: Vec<_> = rows
        .iter()
        .flat_map(|row| row.entries("limits_reached").into_iter().map(move |(key, reached)| (row, key, reached)))
        .map(|(row, key, reached)| {
            vec![
                of_whom(row, visit),
                html! { (words(key)) },
                known(reached.number("observed"), figure::count),
                known(reached.number("warned"), figure::count),
                known(reached.number("enforced"), figure::count),
            ]
        })
        .collect();
    table::draw("How often, by what was done about it", &columns, &drawn, "No limit was reached.")
}
