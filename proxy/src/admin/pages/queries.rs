//! `/queries`: every statement with its figures, filtered by a form and sorted by links.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use maud::html;

use super::course::Period;
use super::layout::{Section, Sheet, page as framed};
use super::parts::{self, STATEMENT_ORDERS};
use super::show::form::{self, Action, Choice, Field};
use super::show::text::visible;
use super::show::{Fields as _, table};
use super::visit::{Pages, Said, Visit};

/// Rows on one page.
const ROWS: usize = 50;
/// What the address may ask for and the API knows.
const FILTERS: [&str; 7] = ["text", "tenant", "application", "database", "class", "sort", "cursor"];

/// Asks for statements with their courses, and without where the API does not know them.
pub(super) async fn with_series(visit: &Visit, query: impl Into<String>) -> Said {
    let query = query.into();
    match visit.get(format!("/api/v1/queries{query}&series=true")).await {
        Said::Refusal { status: StatusCode::BAD_REQUEST, .. } => visit.get(format!("/api/v1/queries{query}")).await,
        said => said,
    }
}

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let limit = ROWS.to_string();
    let period = visit.chosen_period();
    let mut more = vec![("limit", limit.as_str())];
    more.extend(period.as_ref().map(|period| ("period", period.name)));
    let picked = visit.asked.pick(&FILTERS, &more);
    let queries = with_series(&visit, picked.as_str()).await;
    let sort = visit.asked.get("sort").unwrap_or("total_time").to_owned();
    let link = |order: &str| {
        (format!("{}{}", visit.path, visit.asked.with_all(&[("sort", order), ("cursor", "")])), sort == order)
    };
    let orders: Vec<(&str, &str)> = STATEMENT_ORDERS.iter().map(|(title, order)| (*order, *title)).collect();
    let spans = parts::spans();
    let spans: Vec<(&str, &str)> = spans.iter().map(|(name, title)| (*name, title.as_str())).collect();
    let course = period.as_ref().map_or_else(|| "Last hour".to_owned(), Period::title_of_last);
    let empty = match period {
        Some(_) => "No statement matches. The window that is under way is counted when it is over.",
        None => "No statement matches.",
    };
    let mut fields = vec![Field::Text { name: "text", title: "Text holds" }];
    if visit.sees_all() {
        fields.push(Field::Text { name: "tenant", title: "Tenant" });
    }
    fields.push(Field::Text { name: "application", title: "Application" });
    fields.push(Field::Text { name: "database", title: "Database" });
    fields.push(parts::span_field(&spans));
    fields.push(Field::Choice(Choice { name: "sort", title: "Sorted by", values: &orders }));
    let content = html! {
        (form::filter(&visit, &fields, &[]))
        section #list data-live aria-label="Statements" {
            (queries.drawn(|queries| {
                let rows = queries.list("queries");
                let drawn: Vec<_> = rows.iter().map(|row| parts::statement_row(row, &visit)).collect();
                html! {
                    (table::draw("Statements; the share is of the time of all that are shown", &parts::statement_columns(Some(&link), &course), &drawn, empty))
                    @if !queries.text("numbers_of").is_empty() { p.note { "Figures are of " (visible(queries.text("numbers_of"))) "." } }
                    @if let Some(span) = queries.field("period") { p.note { "Sums " (parts::span(span)) "." } }
                    (parts::turn(&visit, queries, rows.len()))
                }
            }))
        }
        (form::action(&visit, &Action {
            name: "reset",
            title: "Count anew",
            warning: "All statements' figures begin at zero. Tenants, pools and metrics go on.",
            grave: true,
            ..Action::default()
        }))
    };
    let title = format!("Queries{}", parts::within(period));
    let sheet = Sheet::new(&title, Section::Queries)
        .twin(format!("/api/v1/queries{picked}"))
        .lead(html! { "One row for each statement and tenant, its constants taken out." });
    framed(&visit, &sheet, &content)
}
