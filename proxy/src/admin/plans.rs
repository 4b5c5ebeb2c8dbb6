//! `/api/v1/plans` and `/api/v1/plans/{fingerprint}`: plans of slow statements.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use policy::observe::plans::{Row, Seen};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::AdminContext;
use super::openapi::parameters::Asked;
use super::page::{Place, page};
use super::problem::Problem;

/// Statements whose plans are kept, the last captured first; each plan in one line.
pub(super) async fn plans(State(context): State<Arc<AdminContext>>, asked: Asked) -> Result<Json<Value>, Problem> {
    super::server::aside(move || {
        let rows = context.telemetry.plans.rows(|row: &Row| asked.wants("tenant", &row.key.tenant));
        listed(&asked, rows, false)
    })
    .await?
}

/// All plans of one statement, node by node: a row for each tenant, database, user, role and search path.
pub(super) async fn plans_of(
    State(context): State<Arc<AdminContext>>,
    Path(fingerprint): Path<String>,
    asked: Asked,
) -> Result<Json<Value>, Problem> {
    let strict = super::queries::fingerprint(&fingerprint)?;
    super::server::aside(move || {
        let wanted = |row: &Row| row.key.strict == strict && asked.wants("tenant", &row.key.tenant);
        let rows = context.telemetry.plans.rows(wanted);
        if rows.is_empty() {
            return Err(Problem::new(StatusCode::NOT_FOUND, "no plan of this statement is kept"));
        }
        listed(&asked, rows, true)
    })
    .await?
}

/// A page of them.
fn listed(asked: &Asked, rows: Vec<Row>, whole: bool) -> Result<Json<Value>, Problem> {
    // A key may be longer than a cursor.
    let place = |row: &Row| {
        let rest = xxh3_64(format!("{:?}", row.key).as_bytes());
        Place::by_number(row.last_seen().0 as f64, format!("{:016x}{rest:016x}", row.key.strict))
    };
    let (total, rows, next) = page(asked, rows, place)?;
    let shown: Vec<_> = rows.iter().map(|row| shown(row, whole)).collect();
    Ok(Json(json!({"total": total, "plans": shown, "next": next})))
}

pub(super) fn shown(row: &Row, whole: bool) -> Value {
    json!({
        "fingerprint": format!("{:016x}", row.key.strict),
        "text": row.text,
        "tenant": row.key.tenant,
        "database": row.key.database,
        "user": row.key.user,
        "plans": row.plans.iter().map(|seen| plan(seen, whole)).collect::<Vec<_>>(),
    })
}

fn plan(seen: &Seen, whole: bool) -> Value {
    let mut shown = json!({
        "plan_hash": format!("{:016x}", seen.plan.hash),
        "summary": seen.plan.short(),
        "total_cost": seen.plan.total_cost,
        "duration_ms": seen.duration_us as f64 / 1e3,
        "captures": seen.captures,
        "first_seen": seen.first_seen,
        "last_seen": seen.last_seen,
    });
    if let (true, Some(object)) = (whole, shown.as_object_mut()) {
        object.insert("settings".into(), seen.plan.settings.clone());
        object.insert("plan".into(), seen.plan.nodes.clone());
    }
    shown
}

#[cfg(test)]
mod tests {
    use policy::observe::plans::{History, Key};
    use policy::plan::Plan;

    use super::*;

    #[test]
    fn a_list_has_plans_in_one_line_and_one_statement_has_them_whole() {
        let json = br#"[{"Plan": {"Node Type": "Seq Scan", "Relation Name": "t", "Total Cost": 2.5}}]"#;
        let mut history = History::default();
        let key = Key { strict: 7, database: "app".into(), user: "u".into(), tenant: "acme".into(), place: 0 };
        history.keep(key, "select", Plan::read(json).unwrap(), 1_500, 1_000_000);
        let row = &history.rows(|_| true)[0];
        let (short, whole) = (shown(row, false), shown(row, true));
        assert_eq!((&short["fingerprint"], &short["tenant"]), (&"0000000000000007".into(), &"acme".into()));
        let plan = &short["plans"][0];
        assert_eq!(
            (&plan["summary"], &plan["total_cost"], &plan["duration_ms"]),
            (&"Seq Scan on t".into(), &2.5.into(), &1.5.into())
        );
        assert!(plan.get("plan").is_none());
        assert_eq!(whole["plans"][0]["plan"]["Node Type"], "Seq Scan");
    }
}
