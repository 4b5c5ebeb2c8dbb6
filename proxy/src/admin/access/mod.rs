//! Who may see what: the one place where a request is let in, and where one that sees a tenant alone is held to it.
//!
//! | request | sees |
//! |---|---|
//! | with an operator's token, or without any where none is set | everything, and may change it |
//! | with a viewer's token | everything |
//! | with a tenant's token | GET of what can be [held to one tenant](confine), with `tenant` set to its own |
//! | with the cookie of a [session](sessions) | what the token opens that it was begun with |
//! | anything else | 401; a browser that wants a page is led to `/login` |
//!
//! What changes something needs a proof besides, where a browser could have been led to it by a foreign page: see
//! [`browser`]. A route needs nothing of its own for all this, and one that is added later is closed to tenants.

mod browser;
mod confine;
mod login;
mod sessions;
mod viewer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use config::{AdminToken, LONG_TOKEN, TokenDigest};
use rand::RngExt;
use subtle::ConstantTimeEq as _;

use super::AdminContext;
use super::openapi::routes::only_looks;
use super::problem::Problem;
use super::server::{Carrier, Peer};
use crate::login::rate::{Allowance, Failures, Source};
pub(super) use login::{login, logout, page as login_form, session};
use sessions::{Sessions, hex};
pub(crate) use viewer::{Role, Viewer};

/// What a page of another site cannot add to a request without asking first (CORS), which is never granted here.
const INTENT: &str = "x-requested-with";

/// Wrong tokens that an address may send: so many at once, and then one as often as this says. Generous, for a program
/// with an outdated token comes back by itself, and tokens that cannot be guessed need no help.
const WRONG_TOKENS: Allowance = Allowance { failures: 20, period: Duration::from_secs(60) };

/// Longest form, in bytes, and how long it may take.
const MAX_FORM: usize = 16 * 1024;
const FORM_PATIENCE: Duration = Duration::from_secs(10);

/// What the port remembers of those who ask.
pub(super) struct Gate {
    pub(super) context: Arc<AdminContext>,
    sessions: Mutex<Sessions>,
    failures: Mutex<Failures>,
    /// What forms send back where there are no tokens, and so no sessions.
    csrf: Arc<str>,
}

/// Why a request is not let in: for the log. Stands in the extensions of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub(super) &'static str);

/// Why, where somebody known asks for what their token does not open.
pub(super) const NOT_FOR_THIS_ROLE: &str = "not for this role";

/// A request that is not let in.
#[derive(Debug)]
struct Denial {
    why: &'static str,
    problem: Problem,
    retry_after: Option<Duration>,
}

impl Denial {
    fn new(why: &'static str, status: StatusCode, detail: &str) -> Self {
        Self { why, problem: Problem::new(status, detail), retry_after: None }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        response.extensions_mut().insert(Refused(self.why));
        if let Some(wait) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

/// Rounded up: who waits so long is heard.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

impl Gate {
    pub(super) fn new(context: Arc<AdminContext>) -> Self {
        Self {
            context,
            sessions: Mutex::default(),
            failures: Mutex::default(),
            csrf: hex(&rand::rng().random::<[u8; 32]>()).into(),
        }
    }

    /// The tokens in force.
    fn tokens(&self) -> Vec<AdminToken> {
        self.context.state.settings().admin.as_ref().map(|admin| admin.tokens.clone()).unwrap_or_default()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose request it is.
    fn identify(&self, request: &Request, now: Instant) -> Result<Viewer, Denial> {
        let headers = request.headers();
        let tokens = self.tokens();
        if tokens.is_empty() {
            return self.local(request.method(), headers);
        }
        if headers.contains_key(header::AUTHORIZATION) {
            return match bearer(headers) {
                Some(given) => self.judge(given, &tokens, source_of(request), now).map(Viewer::of_token),
                None => Err(no_token("no bearer token")),
            };
        }
        let session = browser::session_of(headers, is_secure(request)).and_then(|id| {
            let is_valid = |known: &TokenDigest| tokens.iter().any(|token| token.digest == *known);
            self.sessions().find(&id, is_valid, now)
        });
        let Some(session) = session else { return Err(no_token("no token")) };
        if browser::is_foreign(request.method(), headers) {
            return Err(foreign());
        }
        let token = tokens.iter().find(|token| token.digest == session.token);
        let viewer = token.map(|token| Viewer::of_token(token).with_csrf(session.csrf));
        viewer.ok_or_else(|| no_token("no token"))
    }

    /// Somebody on this machine, where no token is set. A browser could be led here by a foreign page whose host name
    /// resolves to loopback: such a name is refused.
    fn local(&self, method: &Method, headers: &HeaderMap) -> Result<Viewer, Denial> {
        if !browser::names_this_machine(headers) {
            let detail = "without a token, ask for localhost or an address";
            return Err(Denial::new("foreign host name", StatusCode::MISDIRECTED_REQUEST, detail));
        }
        if browser::is_foreign(method, headers) {
            return Err(foreign());
        }
        Ok(Viewer::new("local", Role::Operator).with_csrf(self.csrf.clone()))
    }

    /// Whose token this is. It is compared with every token, which takes the same time for every wrong one.
    ///
    /// Guesses have a budget for each address. Beyond it a short token is not looked at: whoever guesses learns nothing more.
    /// A long one is, because guessing it is hopeless anyway; so nobody is locked out by others behind the same address
    /// who has one.
    fn judge<'a>(
        &self,
        given: &[u8],
        tokens: &'a [AdminToken],
        source: Option<Source>,
        now: Instant,
    ) -> Result<&'a AdminToken, Denial> {
        let wait = source.and_then(|source| self.failures().wait(source, WRONG_TOKENS, now));
        let too_many = |wait: Duration| Denial {
            retry_after: Some(wait),
            ..Denial::new(
                "too many wrong tokens",
                StatusCode::TOO_MANY_REQUESTS,
                "too many wrong tokens came from this address; wait as long as Retry-After says, and see who sends them",
            )
        };
        if let Some(wait) = wait.filter(|_| given.len() < LONG_TOKEN) {
            return Err(too_many(wait));
        }
        let digest = TokenDigest::of(given);
        let same: Vec<_> = tokens.iter().map(|token| token.digest.ct_eq(&digest)).collect();
        let found = tokens.iter().zip(same).find_map(|(token, same)| bool::from(same).then_some(token));
        found.ok_or_else(|| {
            if let Some(source) = source {
                self.failures().failed(source, WRONG_TOKENS, now);
            }
            wait.map_or_else(|| no_token("wrong token"), too_many)
        })
    }

    /// Whether a request that changes something was meant to: a browser sends cookies, and reaches loopback, for any page.
    async fn prove(&self, viewer: &Viewer, request: Request) -> Result<Request, Denial> {
        let Some(csrf) = viewer.csrf().filter(|_| may_change(request.method())) else { return Ok(request) };
        let local = viewer.shared_csrf().is_some_and(|own| Arc::ptr_eq(&self.csrf, &own));
        let meant = local && request.headers().contains_key(INTENT);
        if meant || browser::proves_by_header(request.headers(), csrf) {
            return Ok(request);
        }
        let detail = match local {
            true => {
                "without a token, a request that changes something needs the header `X-Requested-With`, with any value"
            }
            false => {
                "a request that changes something needs the session's proof: the field `csrf` of its form, or the header `X-CSRF-Token`"
            }
        };
        let denial = Denial::new("no proof against forgery", StatusCode::FORBIDDEN, detail);
        if !browser::is_form(request.headers()) {
            return Err(denial);
        }
        let (parts, body) = request.into_parts();
        let body = form_body(body).await?;
        match browser::form_of(&body).is_some_and(|form| browser::proves_by_field(&form, csrf)) {
            true => Ok(Request::from_parts(parts, Body::from(body))),
            false => Err(denial),
        }
    }
}

/// A whole form, or part of none.
async fn form_body(body: Body) -> Result<Bytes, Denial> {
    match tokio::time::timeout(FORM_PATIENCE, axum::body::to_bytes(body, MAX_FORM)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => {
            let detail = "a form is whole and at most 16 KiB long";
            Err(Denial::new("no whole form", StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        Err(_) => {
            let detail = "the form was not there within 10 seconds";
            Err(Denial::new("no whole form", StatusCode::REQUEST_TIMEOUT, detail))
        }
    }
}

fn no_token(why: &'static str) -> Denial {
    Denial::new(why, StatusCode::UNAUTHORIZED, "send a token of the admin port as `Authorization: Bearer …`")
}

fn foreign() -> Denial {
    Denial::new("sent by a page of another site", StatusCode::FORBIDDEN, "a page of another site has had this sent")
}

fn source_of(request: &Request) -> Option<Source> {
    request.extensions().get::<Peer>().map(|Peer(address)| Source::of(address.ip()))
}

/// Whether the browser has TLS up to us, or up to what stands in front of us.
fn is_secure(request: &Request) -> bool {
    request.extensions().get::<Carrier>().is_some_and(|carrier| carrier.is_tls)
}

/// Whether a request by this method is more than a look.
pub(super) fn may_change(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// The bearer token that a request carries, if it is the only one.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_first_chunk::<7>()?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Lets a request in, or answers it.
///
/// One that has its viewer already is of our own making, for a page that shows what it answers: it is held to the same
/// role, and nothing else is asked of it.
pub(super) async fn admit(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let page = browser::wants_page(request.method(), request.uri().path(), request.headers())
        .then(|| request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string));
    match admitted(&gate, request).await {
        Ok(mut request) => {
            let viewer = request.extensions().get::<Viewer>().cloned();
            request.extensions_mut().insert(gate);
            let mut response = next.run(request).await;
            note(&mut response, viewer);
            response
        }
        Err(turned_away) => {
            let (denial, viewer) = *turned_away;
            let login = page.filter(|_| denial.problem.status() == StatusCode::UNAUTHORIZED);
            let refused = Refused(denial.why);
            let mut response = match login {
                Some(next) => {
                    let next = confine::encoded(browser::next_of(Some(&next)));
                    Redirect::to(&format!("/login?next={next}")).into_response()
                }
                None => denial.into_response(),
            };
            response.extensions_mut().insert(refused);
            note(&mut response, viewer);
            response
        }
    }
}

/// What a viewer is told who asks for what only operators see.
pub(super) fn for_operators(detail: &str) -> Response {
    let mut response = Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    response.extensions_mut().insert(Refused(NOT_FOR_THIS_ROLE));
    response
}

/// Leaves word for the audit log of whom this answers.
fn note(response: &mut Response, viewer: Option<Viewer>) {
    if let Some(viewer) = viewer {
        response.extensions_mut().insert(viewer);
    }
}

async fn admitted(gate: &Gate, request: Request) -> Result<Request, Box<(Denial, Option<Viewer>)>> {
    let (viewer, mut request) = match request.extensions().get::<Viewer>().cloned() {
        Some(viewer) => (viewer, request),
        None => {
            let viewer = gate.identify(&request, Instant::now()).map_err(|denial| Box::new((denial, None)))?;
            let proven = gate.prove(&viewer, request).await;
            let request = proven.map_err(|denial| Box::new((denial, Some(viewer.clone()))))?;
            (viewer, request)
        }
    };
    let confined = match viewer.tenant() {
        Some(tenant) => confine::confine(&mut request, tenant),
        None if may_change(request.method()) && !viewer.may_act() && !only_looks(request.uri().path()) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "a viewer's token changes nothing; this takes an operator's"))
        }
        None => Ok(()),
    };
    if let Err(problem) = confined {
        return Err(Box::new((Denial { why: NOT_FOR_THIS_ROLE, problem, retry_after: None }, Some(viewer))));
    }
    request.extensions_mut().insert(viewer);
    Ok(request)
}

#[cfg(test)]
mod tests;
