//! Refusals for people: where a browser asks for a page and is refused, it gets a page that says so instead of JSON.

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

use super::assets::links;
use super::layout::{document, head, mark};
use super::show::Fields as _;
use super::show::text::visible;

/// Longest refusal that is read, in bytes.
const LONGEST: usize = 64 << 10;

/// Dresses a problem for whoever asks for HTML.
pub(in super::super) async fn dressed(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let wants_page = wants_page(&request);
    let response = next.run(request).await;
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"));
    if !wants_page || !is_problem || path.starts_with("/api/") {
        return response;
    }
    let status = response.status();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, LONGEST).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut page = document(status, refusal(status, problem.text("detail")));
    for name in [header::ALLOW, header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = parts.headers.get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    // What is noted there for the audit log stays.
    *page.extensions_mut() = parts.extensions;
    page
}

/// Browsers name HTML first; clients of the API do not name it at all.
fn wants_page(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

/// A page that says why there is no other.
pub(super) fn refusal(status: StatusCode, detail: &str) -> Markup {
    let title = status.canonical_reason().unwrap_or("Refused");
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&links(), title)) }
            body.alone {
                main #content {
                    p.brand { (mark()) "pgweir" }
                    h1 { (status.as_u16()) " " (title) }
                    p { (visible(detail)) }
                    p { a href="/" { "To the overview" } }
                }
            }
        }
    }
}
