//! `/api/v1/log-level`: how much is logged, and more of it for a while.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use config::units::{parse_duration, show_duration};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Answer, Context};
use super::body::Sent;
use super::problem::Problem;
use crate::log::level::Level;
use crate::telemetry::clock::rfc3339;

/// How long another level holds unless the request says otherwise, and at most.
const USUAL: Duration = Duration::from_secs(10 * 60);
const MOST: Duration = Duration::from_secs(24 * 3_600);

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    filter: Option<String>,
    #[serde(rename = "for")]
    time: Option<String>,
}

/// `GET /api/v1/log-level`.
pub(super) async fn show(State(context): Context) -> Answer {
    level(&context.state.log_level()).map(|level| Json(shown(&level)))
}

/// `PUT` or `POST /api/v1/log-level`. Without a filter, the configuration's level is back.
pub(super) async fn set(State(context): Context, Sent(wanted): Sent<Wanted>) -> Answer {
    let level = level(&context.state.log_level())?;
    // Judged also where it counts for nothing: who writes it wrong means something by it.
    let time = time(wanted.time.as_deref())?;
    let Some(filter) = wanted.filter else {
        level.restore();
        tracing::warn!(level = level.shown().configured, "the level of the log is the configuration's again");
        return Ok(Json(shown(&level)));
    };
    level.set(&filter, time, Instant::now(), SystemTime::now()).map_err(|why| {
        bad(format!("`filter` cannot be used: {why}; write a level, or such as info,pgweir::login=debug"))
    })?;
    tracing::warn!(filter, "for" = show_duration(time), "the level of the log was changed");
    let ends = level.clone();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        if ends.expire(Instant::now()) {
            tracing::warn!(level = ends.shown().configured, "the level of the log is the configuration's again");
        }
    });
    Ok(Json(shown(&level)))
}

fn level(level: &Option<Arc<Level>>) -> Result<Arc<Level>, Problem> {
    level.clone().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "this process does not log by itself, so there is no level")
    })
}

fn time(wanted: Option<&str>) -> Result<Duration, Problem> {
    let Some(text) = wanted else { return Ok(USUAL) };
    match parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= MOST => Ok(time),
        _ => Err(bad("`for` is how long, as \"10m\": more than nothing, and 24h at most".to_owned())),
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

fn shown(level: &Level) -> Value {
    let shown = level.shown();
    json!({
        "filter": shown.filter,
        "configured": shown.configured,
        "until": shown.until.map(rfc3339),
        "most": shown.most,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_level_has_an_end() {
        assert_eq!(time(None).unwrap(), USUAL);
        assert_eq!(time(Some("1h30m")).unwrap(), Duration::from_secs(5_400));
        for wrong in ["0", "25h", "for ever", ""] {
            assert_eq!(time(Some(wrong)).unwrap_err().status(), StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
