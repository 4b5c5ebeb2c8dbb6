//! `POST /api/v1/reload`: what SIGHUP does, with an answer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use config::{Change, Changes};
use serde_json::{Map, Value, json};

use super::api::{Answer, Context, MAX_LIMIT};
use super::problem::Problem;

/// `POST /api/v1/reload`.
pub(super) async fn reload(State(context): Context) -> Answer {
    let outcome = context.state.reload().await.ok_or_else(|| {
        let detail = "the configuration cannot be read again now: the proxy is ending, or others wait for the same";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    outcome.map(|changes| Json(shown(&changes))).map_err(|why| refused(&why))
}

/// At most [`MAX_LIMIT`] changes, those that need a restart first, and how many there are.
fn shown(changes: &Changes) -> Value {
    let restart = changes.restart.iter().map(|change| (change, true));
    let all = restart.chain(changes.at_once.iter().map(|change| (change, false)));
    let shown: Vec<Value> = all.take(MAX_LIMIT).map(|(change, needs_restart)| one(change, needs_restart)).collect();
    json!({"total": changes.restart.len() + changes.at_once.len(), "changes": shown})
}

fn one(change: &Change, needs_restart: bool) -> Value {
    let mut shown = Map::new();
    shown.insert("key".to_owned(), change.key.as_str().into());
    match &change.values {
        Some(values) => {
            shown.insert("old".to_owned(), values.old.clone().into());
            shown.insert("new".to_owned(), values.new.clone().into());
        }
        None => drop(shown.insert("hidden".to_owned(), true.into())),
    }
    shown.insert("needs_restart".to_owned(), needs_restart.into());
    if let Some(why) = Changes::why_restart(change).filter(|_| needs_restart) {
        shown.insert("why".to_owned(), why.into());
    }
    shown.into()
}

fn refused(why: &str) -> Problem {
    let lines: Vec<&str> = why.lines().collect();
    let detail = format!("nothing has changed: {}", lines.first().copied().unwrap_or(why));
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail).with_errors(lines)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use config::Values;

    use super::*;

    #[test]
    fn changes_are_told_with_their_values_where_they_have_some_to_show() {
        let values = Some(Values { old: Some("1".to_owned()), new: None });
        let changes = Changes {
            at_once: vec![Change { key: "admin.token".to_owned(), values: None }],
            restart: vec![Change { key: "workers".to_owned(), values }],
        };
        let expected = json!({"total": 2, "changes": [
            {"key": "workers", "old": "1", "new": null, "needs_restart": true},
            {"key": "admin.token", "hidden": true, "needs_restart": false},
        ]});
        assert_eq!(shown(&changes), expected);
        let rules = || Change { key: "cache.rule".to_owned(), values: None };
        let first = shown(&Changes { at_once: Vec::new(), restart: vec![rules()] });
        assert!(first["changes"][0]["why"].as_str().is_some_and(|why| why.contains("until a restart")), "{first}");
        let later = shown(&Changes { at_once: vec![rules()], restart: Vec::new() });
        assert_eq!(later["changes"][0].get("why"), None, "they hold at once where there were some before");
        let many = (0..1_500).map(|number| Change { key: number.to_string(), values: None }).collect();
        let page = shown(&Changes { at_once: many, restart: Vec::new() });
        assert_eq!((page["total"].as_u64(), page["changes"].as_array().map(Vec::len)), (Some(1_500), Some(MAX_LIMIT)));
    }

    #[test]
    fn a_refusal_is_a_problem_with_every_mistake() {
        let problem = refused("x.toml:1: a\nx.toml:2: b");
        assert_eq!(problem.clone().into_response().status(), 422);
        let same = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "nothing has changed: x.toml:1: a");
        assert_eq!(problem, same.with_errors(["x.toml:1: a", "x.toml:2: b"]));
    }
}
