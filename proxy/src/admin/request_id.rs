//! Request ids: what an answer and the lines of the log have in common that belong to one request.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use rand::RngExt;

/// The header, both ways.
const HEADER: &str = "x-request-id";
/// Longest id that is taken over.
const MAX: usize = 64;

/// An id: the one that came with the request, if it is a plain word, else a fresh one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestId(Arc<str>);

impl RequestId {
    /// Of a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(HEADER).iter();
        let only = given.next().filter(|_| given.next().is_none());
        let sane = |text: &&str| {
            (1..=MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match only.and_then(|value| value.to_str().ok()).filter(sane) {
            Some(given) => Self(given.into()),
            None => Self(format!("{:016x}", rand::rng().random::<u64>()).into()),
        }
    }

    /// The id itself.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// What the lines of the log are written within. Of the highest level, so that it is there whatever is logged.
    pub(super) fn span(&self) -> tracing::Span {
        tracing::error_span!(target: "pgweir::admin", "request", id = self.as_str())
    }
}

/// Tells the id in the answer.
pub(super) fn tell(response: &mut Response, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(HEADER, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_is_taken_over_and_any_other_is_replaced() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            RequestId::of(&headers)
        };
        assert_eq!(of(&["9f.b-2_C"]).as_str(), "9f.b-2_C");
        let long = "x".repeat(65);
        for odd in [&[][..], &[""], &["a b"], &["a=b"], &["é"], &[&long], &["a", "a"]] {
            let made = of(odd);
            assert!(made.as_str().len() == 16 && made.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()), "{odd:?}");
        }
        assert_ne!(of(&[]), of(&[]));
    }
}
