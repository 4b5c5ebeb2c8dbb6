//! `/api/v1/plans` and `/api/v1/plans/{fingerprint}`: plans of slow statements.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use policy::observe::plans::{Row, Seen};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminContext;
use super::problem::Problem;

/// Statements unless the request says otherwise, and at most.
const LIMITS: (usize, usize) = (50, 1_000);

/// What may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant: Option<String>,
    limit: Option<usize>,
}

type Rejected = axum::extract::rejection::QueryRejection;

/// Statements whose plans are kept, the last captured first; each plan in one line.
pub(super) async fn plans(
    State(context): State<Arc<AdminContext>>,
    asked: Result<Query<Asked>, Rejected>,
) -> Result<Json<Value>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(asked) = asked.map_err(|rejection| bad(rejection.body_text()))?;
    let limit = asked.limit.unwrap_or(LIMITS.0);
    if limit == 0 || limit > LIMITS.1 {
        return Err(bad(format!("`limit` must be between 1 and {}, not {limit}", LIMITS.1)));
    }
    super::server::aside(move || {
        let wanted = |row: &Row| asked.tenant.as_deref().is_none_or(|tenant| *tenant == *row.key.tenant);
        let mut rows = context.telemetry.plans.rows(wanted);
        let total = rows.len();
        rows.truncate(limit);
        Json(json!({"total": total, "plans": rows.iter().map(|row| shown(row, false)).collect::<Vec<_>>()}))
    })
    .await
}

/// All plans of one statement, node by node: a row for each tenant, database, user, role and search path.
pub(super) async fn plans_of(
    State(context): State<Arc<AdminContext>>,
    Path(fingerprint): Path<String>,
) -> Result<Json<Value>, Problem> {
    let digits = fingerprint.len() == 16 && fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    let strict = u64::from_str_radix(&fingerprint, 16).ok().filter(|_| digits);
    let strict =
        strict.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "a fingerprint has 16 hexadecimal digits"))?;
    let rows = context.telemetry.plans.rows(|row| row.key.strict == strict);
    if rows.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "no plan of this statement is kept"));
    }
    let shown: Vec<_> = rows.iter().map(|row| shown(row, true)).collect();
    Ok(Json(json!({"total": shown.len(), "plans": shown})))
}

fn shown(row: &Row, whole: bool) -> Value {
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
