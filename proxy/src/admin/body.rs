//! Bodies of requests: small JSON objects, and only where a path takes one.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Longest body, in bytes.
const MAX_BODY: usize = 16 * 1024;
/// A body must be there within this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a body is read there. Everywhere else a request with one is refused. Outside of the API what takes POST are
/// forms of pages.
pub(super) fn is_taken(method: &Method, path: &str) -> bool {
    let acknowledges = || path.starts_with("/api/v1/findings/") && path.ends_with("/acknowledge");
    let forms = || !path.starts_with("/api/") && !["/metrics", "/livez", "/readyz"].contains(&path);
    match *method {
        Method::POST => {
            let api = [
                "/api/v1/mutes",
                "/api/v1/limits/explain",
                "/api/v1/log-level",
                "/api/v1/cache/mode",
                "/api/v1/cache/invalidate",
            ];
            api.contains(&path) || acknowledges() || forms()
        }
        Method::PUT => path == "/api/v1/log-level",
        _ => false,
    }
}

/// What was sent as JSON. Nothing at all is an object without fields.
#[derive(Debug)]
pub(super) struct Sent<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let bytes = whole(request).await?;
        if bytes.is_empty() {
            return Self::read(b"{}");
        }
        if !json {
            let detail = "send JSON, with `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        Self::read(&bytes)
    }
}

impl<T: DeserializeOwned> Sent<T> {
    fn read(json: &[u8]) -> Result<Self, Problem> {
        // A list would be taken for the members' values in their order.
        if json.trim_ascii_start().first() != Some(&b'{') {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the body: send an object"));
        }
        let sent = serde_json::from_slice(json);
        sent.map(Self).map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body: {error}")))
    }
}

/// A request's whole body, as long as it is short and does not dawdle.
pub(super) async fn whole(request: Request) -> Result<Bytes, Problem> {
    let reading = axum::body::to_bytes(request.into_body(), MAX_BODY);
    match tokio::time::timeout(PATIENCE, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a body is whole and at most 16 KiB long")),
        Err(_) => Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body was not there within 10 seconds")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
