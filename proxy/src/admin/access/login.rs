//! `/login` and `/logout`: sessions for browsers.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use rand::RngExt;
use serde_json::{Value, json};

use super::sessions::{SessionId, hex};
use super::{Denial, Gate, Refused, Viewer, browser, foreign, form_body, is_secure, note, source_of};
use crate::admin::pages::login_page;

/// `GET /login`: asks for a token. Where none is set, there is nothing to log in to.
pub(in super::super) async fn page(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let asked = Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|Query(asked)| asked);
    let asked = asked.unwrap_or_default();
    let next = browser::next_of(browser::field(&asked, "next"));
    if gate.tokens().is_empty() {
        return Redirect::to(next).into_response();
    }
    Html(login_page(None, next)).into_response()
}

/// `POST /login`: a token in a form, for the cookie of a session.
pub(in super::super) async fn login(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let now = Instant::now();
    if browser::is_foreign(request.method(), request.headers()) {
        return foreign().into_response();
    }
    let (source, headers, is_tls) = (source_of(&request), request.headers().clone(), is_secure(&request));
    let form = match form_body(request.into_body()).await {
        Ok(body) => browser::form_of(&body).filter(|_| browser::is_form(&headers)).unwrap_or_default(),
        Err(denial) => return denial.into_response(),
    };
    let next = browser::next_of(browser::field(&form, "next")).to_owned();
    let tokens = gate.tokens();
    if tokens.is_empty() {
        return Redirect::to(&next).into_response();
    }
    // Pasted, as a rule with what stands around it.
    let given = browser::field(&form, "token").unwrap_or_default().trim();
    let token = match gate.judge(given.as_bytes(), &tokens, source, now) {
        Ok(token) => token,
        Err(denial) => return refused(denial, &next),
    };
    let (id, csrf) = (SessionId::new(rand::rng().random()), hex(&rand::rng().random::<[u8; 32]>()));
    {
        let mut sessions = gate.sessions();
        if let Some(before) = browser::session_of(&headers, is_tls) {
            sessions.end(&before);
        }
        sessions.begin(&id, token.digest, csrf.into(), now);
    }
    let mut response = Redirect::to(&next).into_response();
    set_cookie(&mut response, &browser::cookie(Some(&id), secures(&headers, is_tls)));
    note(&mut response, Some(Viewer::of_token(token)));
    response
}

/// `GET /api/v1/session`: who is asking, and the proof that scripts send back.
pub(in super::super) async fn session(Extension(viewer): Extension<Viewer>) -> Json<Value> {
    Json(json!({
        "name": viewer.name(),
        "role": viewer.role().word(),
        "tenant": viewer.tenant(),
        "may_act": viewer.may_act(),
        "csrf": viewer.csrf(),
    }))
}

/// `POST /logout`: ends the session. Who has none is led to `/login` all the same.
pub(in super::super) async fn logout(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    // The cookie would be taken away by the answer alone, whether or not the session had come along.
    if browser::is_foreign(request.method(), request.headers()) {
        return foreign().into_response();
    }
    let (headers, is_tls) = (request.headers().clone(), is_secure(&request));
    let viewer = gate.identify(&request, Instant::now()).ok();
    if let Some(viewer) = &viewer {
        if let Err(denial) = gate.prove(viewer, request).await {
            let mut response = denial.into_response();
            note(&mut response, Some(viewer.clone()));
            return response;
        }
        if let Some(id) = browser::session_of(&headers, is_tls) {
            gate.sessions().end(&id);
        }
    }
    let mut response = Redirect::to("/login").into_response();
    set_cookie(&mut response, &browser::cookie(None, secures(&headers, is_tls)));
    note(&mut response, viewer);
    response
}

/// The form again, with what was wrong.
fn refused(denial: Denial, next: &str) -> Response {
    let message = match denial.problem.status() {
        StatusCode::TOO_MANY_REQUESTS => "Too many wrong tokens came from this address. Wait a minute, then try again.",
        _ => "This token is not known here. Ask whoever runs this proxy for one.",
    };
    let (status, why) = (denial.problem.status(), denial.why);
    let answer = denial.into_response();
    let mut response = (status, Html(login_page(Some(message), next))).into_response();
    if let Some(wait) = answer.headers().get(header::RETRY_AFTER) {
        response.headers_mut().insert(header::RETRY_AFTER, wait.clone());
    }
    response.extensions_mut().insert(Refused(why));
    response
}

/// Whether the cookie is for TLS alone.
fn secures(headers: &HeaderMap, is_tls: bool) -> bool {
    is_tls || browser::is_said_to_be_secure(headers)
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_request_says_becomes_part_of_the_page() {
        let page = login_page(Some("<b>"), "/\"><script>alert('x')</script>&");
        assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("value=\"/&quot;&gt;&lt;script&gt;alert('x')&lt;/script&gt;&amp;\""), "{page}");
        assert!(!page.contains("style=") && !page.contains("<style"), "the policy would not let it");
    }
}
