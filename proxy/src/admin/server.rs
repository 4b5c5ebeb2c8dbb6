//! The HTTP server of the admin port: few connections, short patience, hardened answers.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::door::{self, Door, Manner};
use super::exposition::Format;
use super::metrics::{self, Facts};
use super::openapi::parameters;
use super::openapi::routes::is_route;
use super::problem::Problem;
use super::requests::{self, Requests};
use super::seats::Seats;
use super::{
    AdminContext, Readiness, access, actions, api, audit, body, breakdown, cache, capture, clients, databases, events,
    findings, history, limits, log_level, pages, queries,
};

/// A request's head must be there within this, a silent keep-alive included.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// No connection lives longer, however slowly its client reads; one that was asked for events lives as long as a stream.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// How long that is: a stream may begin with the last request of a connection's ordinary life.
const STREAMING_LIFETIME: Duration = Duration::from_secs(660);
/// How long a connection may take to end once told to.
const FAREWELL: Duration = Duration::from_secs(5);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after accept failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a page may load, and where its forms go: nothing but what is ours, and nothing within the page itself.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Serves the admin port until `stop` is ready; requests that run then are answered.
///
/// Needs a tokio runtime with I/O and time; spawns a task for each connection on it.
pub async fn serve(listener: TcpListener, context: Arc<AdminContext>, stop: impl Future<Output = ()>) {
    let mut door = Door::new(Arc::clone(&context));
    let events = Arc::clone(&context.events);
    let watch = tokio::spawn(events::watch::watch(Arc::clone(&context)));
    let router = router(context);
    let seats = Seats::default();
    let (stopping, stopped) = tokio::sync::watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Full, or not to be spoken to: dropping the stream closes it.
                if let Some(seat) = seats.take(peer.ip())
                    && let Some(manner) = door.manner(&stream)
                {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    tokio::spawn(async move {
                        converse(stream, manner, Peer(peer), router, stopped).await;
                        drop(seat);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    watch.abort();
    events.close();
    _ = stopping.send(true);
    // Every connection gives its place back when it ends.
    _ = tokio::time::timeout(FAREWELL, seats.emptied()).await;
}

/// Where a request comes from. Of who sends it nothing else is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What a request came by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Carrier {
    pub(super) is_tls: bool,
}

/// Lets a connection live for as long as a stream of events: said by whoever begins one.
#[derive(Debug, Clone, Default)]
pub(super) struct Lasting(Arc<AtomicBool>);

impl Lasting {
    pub(super) fn last(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns when the connection has to end.
    async fn ended(&self) {
        tokio::time::sleep(CONNECTION_LIFETIME).await;
        if self.0.load(Ordering::Relaxed) {
            tokio::time::sleep(STREAMING_LIFETIME - CONNECTION_LIFETIME).await;
        }
    }
}

/// Serves one connection.
async fn converse(
    stream: TcpStream,
    manner: Manner,
    peer: Peer,
    router: Router,
    mut stopped: tokio::sync::watch::Receiver<bool>,
) {
    // Who does not get so far has been told, or is no client of ours.
    let Ok(stream) = door::open(stream, &manner, HEAD_PATIENCE).await else { return };
    let carrier = Carrier { is_tls: matches!(manner, Manner::Tls(_)) };
    let router = TowerToHyperService::new(router);
    let lasting = Lasting::default();
    let own = lasting.clone();
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(carrier);
        request.extensions_mut().insert(own.clone());
        hyper::service::Service::call(&router, request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        // A client that breaks off or talks nonsense is its own problem: nothing to log.
        _ = connection.as_mut() => return,
        () = lasting.ended() => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    connection.as_mut().graceful_shutdown();
    _ = tokio::time::timeout(FAREWELL, connection).await;
}

/// Every path. Those in the first group are open to anybody who reaches the port.
fn router(context: Arc<AdminContext>) -> Router {
    let gate = Arc::new(access::Gate::new(Arc::clone(&context)));
    let requests = Arc::<Requests>::default();
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/openapi.json", get(super::openapi::document))
        .route("/api/v1/version", get(api::version))
        .route("/api/v1/overview", get(super::overview::overview))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/config", get(super::redacted::config))
        .route("/api/v1/reload", post(super::reload::reload))
        .route("/api/v1/pools", get(api::pools))
        .route("/api/v1/blocking", get(super::blocking::blocking))
        .route("/api/v1/queries", get(queries::queries))
        .route("/api/v1/queries/snapshot", get(queries::snapshot))
        .route("/api/v1/queries/{fingerprint}", get(queries::detail::query))
        .route("/api/v1/queries/{fingerprint}/history", get(history::of_query))
        .route("/api/v1/queries/{fingerprint}/samples", get(super::samples::samples))
        .route("/api/v1/applications", get(breakdown::applications))
        .route("/api/v1/routes", get(breakdown::routes))
        .route("/api/v1/databases", get(databases::databases))
        .route("/api/v1/history", get(history::all))
        .route("/api/v1/queries/reset", post(queries::reset))
        .route("/api/v1/plans", get(super::plans::plans))
        .route("/api/v1/plans/{fingerprint}", get(super::plans::plans_of))
        .route("/api/v1/findings", get(findings::list))
        .route("/api/v1/findings/fence", get(findings::fence))
        .route("/api/v1/findings/export", get(findings::exported))
        .route("/api/v1/findings/{id}", get(findings::one))
        .route("/api/v1/findings/{id}/acknowledge", post(findings::acknowledge).delete(findings::withdraw))
        .route("/api/v1/mutes", get(findings::mutes).post(findings::mute))
        .route("/api/v1/mutes/{id}", delete(findings::unmute))
        .route("/api/v1/tenants", get(super::tenants::tenants))
        .route("/api/v1/limits", get(limits::limits))
        .route("/api/v1/limits/explain", post(limits::explain))
        .route("/api/v1/clients", get(clients::clients))
        .route("/api/v1/clients/{id}", get(clients::client))
        .route("/api/v1/clients/{id}/kill", post(actions::kill))
        .route("/api/v1/clients/{id}/cancel", post(actions::cancel))
        .route("/api/v1/upstreams", get(clients::upstreams))
        .route("/api/v1/listeners", get(api::listeners))
        .route("/api/v1/sockets", get(api::sockets))
        .route("/api/v1/capture", get(capture::status).post(capture::start).delete(capture::stop))
        .route("/api/v1/cache", get(cache::cache))
        .route("/api/v1/cache/mode", post(cache::mode))
        .route("/api/v1/cache/invalidate", post(cache::invalidate))
        .route("/api/v1/untracked", get(super::untracked::untracked))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/session", get(access::session))
        .route("/api/v1/log-level", get(log_level::show).put(log_level::set).post(log_level::set))
        .route("/api/v1/pause", post(actions::pause_all))
        .route("/api/v1/resume", post(actions::resume_all))
        .route("/api/v1/reconnect", post(actions::reconnect_all))
        .route("/api/v1/databases/{name}/pause", post(actions::pause))
        .route("/api/v1/databases/{name}/resume", post(actions::resume))
        .route("/api/v1/databases/{name}/reconnect", post(actions::reconnect))
        .route("/api/v1/databases/{name}/disable", post(actions::disable))
        .route("/api/v1/databases/{name}/enable", post(actions::enable))
        .route("/api/v1/drain", post(actions::drain))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such path; docs/admin-api.md lists them"))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(parameters::check))
        .layer(middleware::from_fn(super::etag::tag))
        .layer(middleware::from_fn_with_state(Arc::clone(&gate), access::admit))
        .layer(Extension(Arc::clone(&requests)))
        .layer(middleware::from_fn(requests::mark));
    let login = Router::new()
        .route("/login", get(access::login_form).post(access::login))
        .route("/logout", post(access::logout))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn(requests::mark))
        .with_state(Arc::clone(&gate));
    // Pages stand behind the same door, and ask what is behind it once more, as the same viewer.
    let api = guarded.clone().with_state(Arc::clone(&context));
    let pages = pages::router()
        .with_state(pages::Pages { api, context: Arc::clone(&context) })
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&gate), access::admit))
        .layer(middleware::from_fn(requests::mark));
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(&context))
        .layer(middleware::from_fn(requests::mark))
        .merge(login)
        .merge(pages)
        .merge(pages::open().layer(middleware::from_fn(requests::mark)))
        .fallback_service(guarded.with_state(context))
        .layer(middleware::from_fn(pages::dressed))
        .layer(middleware::from_fn(harden))
        .layer(middleware::from_fn_with_state(gate, audit::watch))
        .layer(middleware::from_fn_with_state(requests, requests::count))
}

async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path takes the methods that the Allow header names")
}

/// Alive: this thread answers.
async fn livez() -> Json<serde_json::Value> {
    Json(json!({"status": "alive"}))
}

/// Ready: new clients are welcome.
async fn readyz(State(context): State<Arc<AdminContext>>) -> Response {
    match context.state.readiness() {
        Readiness::Ready => Json(json!({"status": "ready", "reasons": []})).into_response(),
        Readiness::NotReady(reasons) => {
            let body = Json(json!({"status": "not_ready", "reasons": reasons}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// `/metrics`, in the format that the reader prefers.
async fn metrics(
    State(context): State<Arc<AdminContext>>,
    Extension(requests): Extension<Arc<Requests>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let format = Format::accepted(accepts);
    let text = aside(move || metrics::render(&Facts::read(&context, &requests), format)).await?;
    let kind = HeaderValue::from_static(format.content_type());
    Ok(([(header::CONTENT_TYPE, kind), (header::VARY, HeaderValue::from_static("accept"))], text).into_response())
}

/// Does work on a thread of its own: adding up tens of thousands of statements must not hold up the thread that also
/// logs clients in and dials upstreams.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the proxy could not add its numbers up"))
}

/// Refuses bodies where none is taken, and gives every answer the headers that keep it out of caches and pages, those aside
/// that it brings itself.
async fn harden(request: Request, next: Next) -> Response {
    let taken = body::is_taken(request.method(), request.uri().path());
    // A method that a path of the API does not have is told so, whatever comes with it.
    let (method, path) = (request.method().as_str(), request.uri().path());
    let strange = method != "POST" && path.starts_with("/api/") && !is_route(method, path);
    let mut response = if taken || strange || request.body().is_end_stream() {
        next.run(request).await
    } else {
        let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "this request takes no body");
        let mut response = problem.into_response();
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    };
    let headers = response.headers_mut();
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let (policy, referrer) = match kind.starts_with(b"text/html") {
        // With no referrer at all a browser would say of a form that it comes from nowhere.
        true => (PAGE_POLICY, "same-origin"),
        false => ("default-src 'none'; frame-ancestors 'none'", "no-referrer"),
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, referrer),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    // Whoever answers may know better, as of a file whose name changes with what it holds. What has a tag may be kept by
    // whoever asked, who has to ask each time whether it is still so.
    let keep = if headers.contains_key(header::ETAG) { "no-cache, private" } else { "no-store" };
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(keep));
    response
}
