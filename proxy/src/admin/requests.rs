//! How often each path of the admin port was asked, and what it answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;

use crate::telemetry::lock;

/// The row of requests that no path has taken.
const NONE: &str = "(none)";

/// Counts of all paths. Bounded: a path is one of ours, not what somebody asked for.
#[derive(Debug, Default)]
pub(super) struct Requests(Mutex<BTreeMap<Box<str>, Counts>>);

#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<(&'static str, u16), u64>,
    time: Duration,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteRow {
    /// The path as it is registered.
    pub(super) route: String,
    /// Answers by method and status.
    pub(super) answers: Vec<((&'static str, u16), u64)>,
    /// What they took together.
    pub(super) time_us: u64,
}

impl Requests {
    fn count(&self, route: &str, method: &Method, status: u16, time: Duration) {
        let mut rows = lock(&self.0);
        if !rows.contains_key(route) {
            rows.insert(route.into(), Counts::default());
        }
        if let Some(counts) = rows.get_mut(route) {
            *counts.answers.entry((word(method), status)).or_default() += 1;
            counts.time = counts.time.saturating_add(time);
        }
    }

    /// All rows, by path.
    pub(super) fn rows(&self) -> Vec<RouteRow> {
        let rows = lock(&self.0);
        let rows = rows.iter().map(|(route, counts)| RouteRow {
            route: route.to_string(),
            answers: counts.answers.iter().map(|(answer, count)| (*answer, *count)).collect(),
            time_us: counts.time.as_micros() as u64,
        });
        rows.collect()
    }
}

/// A method, of a closed set: a client may make up any.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// Says on an answer which path has made it. To be put around routes.
pub(super) async fn mark(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(matched);
    }
    response
}

/// Counts an answer. To be put around everything.
pub(super) async fn count(State(requests): State<Arc<Requests>>, request: Request, next: Next) -> Response {
    let (method, began) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    let route = response.extensions().get::<MatchedPath>().map_or(NONE, MatchedPath::as_str);
    requests.count(route, &method, response.status().as_u16(), began.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_path_method_and_status() {
        let requests = Requests::default();
        let time = Duration::from_micros(3);
        requests.count("/metrics", &Method::GET, 200, time);
        requests.count("/metrics", &Method::GET, 200, time);
        requests.count("/metrics", &Method::from_bytes(b"BREW").unwrap(), 405, time);
        requests.count("/metrics", &Method::from_bytes(b"POUR").unwrap(), 405, time);
        let answers = vec![(("GET", 200), 2), (("other", 405), 2)];
        assert_eq!(requests.rows(), [RouteRow { route: "/metrics".to_owned(), answers, time_us: 12 }]);
    }
}
