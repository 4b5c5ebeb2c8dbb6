//! Errors of the admin port, as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// What went wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    /// All that is wrong, where that is more than the detail can say.
    errors: Vec<String>,
}

impl Problem {
    /// A problem; `detail` says what to do and may be shown to anybody.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), errors: Vec::new() }
    }

    /// Its status code.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The same with everything that is wrong, one by one.
    pub(super) fn with_errors(self, errors: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { errors: errors.into_iter().map(Into::into).collect(), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut body =
            json!({"type": "about:blank", "title": title, "status": self.status.as_u16(), "detail": self.detail});
        if let Some(body) = body.as_object_mut().filter(|_| !self.errors.is_empty()) {
            body.insert("errors".to_owned(), self.errors.into());
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"pgweir\""));
        }
        response
    }
}
