//! Tags of answers: who has read one already is told that it is still so, without its body.

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Longest answer that gets a tag: it is held in memory meanwhile.
const MAX_TAGGED: u64 = 4 << 20;

/// Tags what GET answers as JSON, and leaves its body out where the request names the tag.
pub(super) async fn tag(request: Request, next: Next) -> Response {
    let known = (request.method() == Method::GET).then(|| request.headers().clone());
    let response = next.run(request).await;
    match known {
        Some(known) if is_tagged(&response) => tagged(&known, response).await,
        _ => response,
    }
}

fn is_tagged(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    response.status() == StatusCode::OK
        && kind.is_some_and(|kind| kind == "application/json")
        && response.body().size_hint().upper().is_some_and(|size| size <= MAX_TAGGED)
}

async fn tagged(known: &HeaderMap, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, MAX_TAGGED as usize).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // Half of the hash: equal tags of different bodies would take 2^64 of them.
    let digest = Sha256::digest(&bytes);
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    let is_known = names(known, &tag);
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    if !is_known {
        return Response::from_parts(parts, Body::from(bytes));
    }
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}

/// Whether `If-None-Match` names this tag, or any. A weak one is as good here (RFC 9110, 13.1.2).
fn names(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list_of_them() {
        let named = |line: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(line));
            names(&headers, "\"ab\"")
        };
        for line in ["\"ab\"", "W/\"ab\"", "\"x\", \"ab\"", "*"] {
            assert!(named(line), "{line}");
        }
        for line in ["ab", "\"abc\"", "", "\"x\""] {
            assert!(!named(line), "{line}");
        }
    }
}
