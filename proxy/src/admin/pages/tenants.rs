//! `/tenants`: who does how much of it all.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Section, Sheet, page as framed, tenant_link};
use super::show::figure::{self, known};
use super::show::form::{self, Choice, Field};
use super::show::table::{self, Column};
use super::show::{Fields as _, moment, spark};
use super::visit::{Pages, Visit};

/// Orders of the list: the parameter, the title, the field. The API gives tenants by name, all of them.
const ORDERS: [(&str, &str); 6] = [
    ("", "Name"),
    ("total_ms", "Time"),
    ("statements", "Statements"),
    ("errors", "Errors"),
    ("clients", "Clients"),
    ("refusals", "Refusals"),
];
/// Rows on one page.
const ROWS: usize = 200;

pub(super) async fn page(State(_): State<Pages>, visit: Visit) -> Response {
    let tenants = visit.get("/api/v1/tenants").await;
    let sort = visit.asked.get("sort").filter(|sort| ORDERS.iter().any(|(order, _)| order == sort)).unwrap_or_default();
    let holds = visit.asked.get("name").unwrap_or_default();
    let content = html! {
        (form::filter(&visit, &[
            Field::Text { name: "name", title: "Name holds" },
            Field::Choice(Choice { name: "sort", title: "Sorted by", values: &ORDERS }),
        ], &[]))
        section #list data-live aria-label="Tenants" {
            (tenants.drawn(|tenants| list(tenants.list("tenants"), sort, holds, &visit)))
        }
    };
    let sheet = Sheet::new("Tenants", Section::Tenants).twin("/api/v1/tenants").lead(html! {
        "Every tenant that is connected, or has run or been refused a statement."
    });
    framed(&visit, &sheet, &content)
}

fn list(all: &[Value], sort: &str, holds: &str, visit: &Visit) -> Markup {
    let mut tenants: Vec<&Value> = all.iter().filter(|tenant| tenant.text("tenant").contains(holds)).collect();
    if !sort.is_empty() {
        tenants.sort_by(|one, other| other.count(sort).total_cmp(&one.count(sort)));
    }
    let total = tenants.len();
    let from = visit.asked.get("offset").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    let order = |column: Column<'static>, key: &str| {
        column.sorted(format!("{}{}", visit.path, visit.asked.with("sort", key)), sort == key)
    };
    let columns = [
        Column::text("Tenant"),
        order(Column::figures("Time"), "total_ms"),
        order(Column::figures("Statements"), "statements"),
        order(Column::figures("Errors"), "errors"),
        order(Column::figures("Clients"), "clients"),
        order(Column::figures("Refusals"), "refusals"),
        Column::figures("Time-outs").minor(),
        Column::figures("Fingerprints").minor(),
        Column::text("Last seen").minor(),
    ];
    let rows: Vec<_> = tenants.iter().skip(from).take(ROWS).map(|tenant| row(tenant, visit)).collect();
    html! {
        (table::draw("Tenants and what they do", &columns, &rows, "No tenant has this name."))
        (super::parts::pager(visit, total as f64, from as f64, rows.len(), ROWS))
    }
}

fn row(tenant: &Value, visit: &Visit) -> Vec<Markup> {
    let share = tenant.number("share.time");
    vec![
        tenant_link(tenant.text("tenant")),
        html! {
            @if let Some(share) = share { (spark::bar(share)) span.beside { (figure::percent(share)) } }
            p.under { (known(tenant.number("total_ms"), figure::ms)) }
        },
        known(tenant.number("statements"), figure::count),
        html! { span.bad[tenant.count("errors") > 0.0] { (known(tenant.number("errors"), figure::count)) } },
        known(tenant.number("clients"), figure::count),
        html! { span.bad[tenant.count("refusals") > 0.0] { (known(tenant.number("refusals"), figure::count)) } },
        known(tenant.number("statement_timeouts"), figure::count),
        known(tenant.number("fingerprints"), figure::count),
        moment::ago(tenant.text("last_seen"), visit.now_us),
    ]
}
