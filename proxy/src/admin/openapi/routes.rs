//! Every route of the admin port's API: what it is for, who may ask, what it takes and what it answers.
//!
//! The OpenAPI document is made of this table, requests are held to it ([`super::parameters`]), and tests hold the router
//! and `docs/admin-api.md` to it.

use policy::finding::Kind as Found;

use super::parameters::{Kind, PATIENCE, PERIOD as PERIOD_OF, Parameter, WITHIN_HOUR};

/// One method of one path.
#[derive(Debug)]
pub(crate) struct Route {
    /// `GET`, `POST`, `PUT` or `DELETE`.
    pub(crate) method: &'static str,
    /// As axum and OpenAPI spell it.
    pub(crate) path: &'static str,
    /// A name for programs, unique.
    pub(crate) id: &'static str,
    /// Half a sentence.
    pub(crate) summary: &'static str,
    /// Who may ask.
    pub(crate) who: Who,
    parameters: &'static [&'static [Parameter]],
    /// The schema of the body, where one is taken.
    pub(crate) body: Option<&'static str>,
    /// What a successful answer is.
    pub(crate) answer: Answer,
    /// Status codes of problems that it may answer beside those that any route may.
    pub(crate) problems: &'static [u16],
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Everybody who reaches the port.
    Anybody,
    /// Whoever sees a tenant; the answer is of that tenant alone.
    Tenant,
    /// Whoever sees everything.
    Viewer,
    /// Whoever may change something.
    Operator,
}

/// What a successful answer is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// JSON of this schema.
    Json(u16, &'static str),
    /// Something else, of these types.
    Other(&'static [&'static str]),
    /// Nothing.
    Nothing,
}

impl Route {
    /// What it takes, in path and query.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        self.parameters.iter().flat_map(|some| some.iter())
    }

    /// Whether it means nothing without a body: the log's level alone is the configuration's again without one.
    pub(crate) fn needs_body(&self) -> bool {
        self.body.is_some_and(|body| body != "NewLogLevel")
    }

    const fn takes(self, parameters: &'static [&'static [Parameter]]) -> Self {
        Self { parameters, ..self }
    }

    const fn sends(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self }
    }

    const fn fails(self, problems: &'static [u16]) -> Self {
        Self { problems, ..self }
    }
}

/// The route of a method and a path as it is in the table.
pub(crate) fn find(method: &str, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|route| route.method == method && route.path == path)
}

/// Whether a tenant's token opens this path for a look. What is not in the table it does not open, so that a path that is
/// added later shows nothing of others by mistake; nor one that only looks like another's with something in its place.
pub(crate) fn is_of_tenants(path: &str) -> bool {
    let known = |route: &&Route| route.method == "GET" && route.path == path;
    match ROUTES.iter().find(known) {
        Some(route) => route.who == Who::Tenant,
        None => {
            let is_static = ROUTES.iter().any(|route| route.path == path);
            !is_static && ROUTES.iter().any(|route| route.who == Who::Tenant && fits(route.path, path))
        }
    }
}

/// Whether a request that is no GET changes nothing all the same.
pub(crate) fn only_looks(path: &str) -> bool {
    ROUTES.iter().any(|route| route.method == "POST" && route.who == Who::Viewer && route.path == path)
}

/// Whether the API has this method of this path.
pub(crate) fn is_route(method: &str, path: &str) -> bool {
    // What answers GET answers HEAD.
    let method = if method == "HEAD" { "GET" } else { method };
    ROUTES.iter().any(|route| route.method == method && fits(route.path, path))
}

/// Whether a path is what a route's path stands for: `{…}` is one segment.
pub(crate) fn fits(pattern: &str, path: &str) -> bool {
    let (mut known, mut asked) = (pattern.split('/'), path.split('/'));
    loop {
        match (known.next(), asked.next()) {
            (None, None) => return true,
            (Some(known), Some(one)) if known.starts_with('{') && !one.is_empty() => {}
            (Some(known), Some(one)) if known == one => {}
            _ => return false,
        }
    }
}

const fn parameter(name: &'static str, kind: Kind, meaning: &'static str) -> Parameter {
    Parameter { name, in_path: false, kind, meaning }
}

const fn part(name: &'static str, kind: Kind, meaning: &'static str) -> Parameter {
    Parameter { name, in_path: true, kind, meaning }
}

const fn get(path: &'static str, id: &'static str, answer: &'static str, who: Who, summary: &'static str) -> Route {
    let answer = Answer::Json(200, answer);
    Route { method: "GET", path, id, summary, who, parameters: &[], body: None, answer, problems: &[] }
}

const fn post(path: &'static str, id: &'static str, answer: &'static str, summary: &'static str) -> Route {
    Route { method: "POST", ..get(path, id, answer, Who::Operator, summary) }
}

const fn delete(path: &'static str, id: &'static str, answer: Answer, summary: &'static str) -> Route {
    Route { method: "DELETE", answer, ..get(path, id, "", Who::Operator, summary) }
}

use Kind::{Count, Cursor, Fingerprint, Flag, Moment, Text, Time, Word};
use Who::{Anybody, Operator, Tenant, Viewer};

const TENANT: &[Parameter] = &[parameter("tenant", Text, "Only this tenant's.")];
const DATABASE: &[Parameter] = &[parameter("database", Text, "Only this database's.")];
const USER: &[Parameter] = &[parameter("user", Text, "Only this user's.")];
const LIMIT: &[Parameter] = &[parameter("limit", Count(1, 1_000), "Rows at most; 50 if it is left out.")];
const PAGE: &[Parameter] = &[
    parameter("limit", Count(1, 1_000), "Rows at most; 50 if it is left out."),
    parameter("cursor", Cursor, "What `next` of the page before said."),
];
const CLIENT: &[Parameter] = &[part("id", Count(0, 9_007_199_254_740_991), "The client's number.")];
const NAME: &[Parameter] = &[part("name", Text, "The database, as clients ask for it.")];
const STATEMENT: &[Parameter] = &[part("fingerprint", Fingerprint, "The statement's strict fingerprint.")];
const ID: &[Parameter] = &[part("id", Text, "Its id.")];
const WAIT: &[Parameter] = &[parameter("wait", Time(PATIENCE), "How long to wait for the end; 5s if it is left out.")];
const CLIENT_STATE: &[Parameter] =
    &[parameter("state", Word(&["idle", "waiting", "active", "in_transaction"]), "Only those in this state.")];
const CLIENTS: &[Parameter] = &[
    parameter("pinned", Flag, "Only those that keep their server connection beyond a transaction, or only the others."),
    parameter("text", Text, "Only those with this in their application, user, address or database."),
    parameter(
        "sort",
        Word(&["id", "urgency"]),
        "`urgency`: those first that wait, then those that keep a server connection, each the longest first; by number if it is left out.",
    ),
];
const UPSTREAM_STATE: &[Parameter] = &[parameter("state", Word(&["idle", "active"]), "Only those in this state.")];
const APPLICATION: &[Parameter] = &[parameter("application", Text, "Only this application's.")];

/// What a statement can be sorted by.
pub(crate) const SORTS: &[&str] = &[
    "total_time",
    "calls",
    "mean_time",
    "max_time",
    "p95_time",
    "p99_time",
    "server_time",
    "queue_time",
    "rows",
    "errors",
    "last_seen",
    "fingerprint",
];

const QUERIES: &[Parameter] = &[
    parameter("text", Text, "Only statements whose normalised text has this in it, in upper or lower case."),
    parameter("class", Text, "Only statements of this kind: `select`, `insert`, `begin`, …"),
    parameter("application", Text, "Only statements that this application was seen to run."),
    parameter("database", Text, "Only statements that were seen in this database."),
    parameter("sort", Word(SORTS), "By what, the largest first; `fingerprint` alone goes up."),
    parameter(
        "period",
        Time(PERIOD_OF),
        "Sums over the time up to now, of what the history keeps; otherwise since the start or a reset.",
    ),
    parameter(
        "series",
        Flag,
        "Calls and p95 of each listed row over the period; over the last hour where none is given.",
    ),
];
const PERIOD: &[Parameter] = &[parameter(
    "period",
    Time(PERIOD_OF),
    "The time up to now that `series` and `period` are of; 1h if it is left out.",
)];
const LATELY: &[Parameter] = &[parameter(
    "period",
    Time(WITHIN_HOUR),
    "The time up to now that each row's `period` is of, a minute longer at most; 1h if it is left out.",
)];
const HISTORY: &[Parameter] = &[
    parameter("step", Word(&["10s", "1m"]), "The length of a window; 1m if it is left out."),
    parameter("from", Moment, "Windows that end after this; all that is kept if it is left out."),
];
const RESET: &[Parameter] = &[
    parameter("fingerprint", Fingerprint, "This statement alone."),
    parameter("tenant", Text, "This tenant's alone."),
];
const FINDINGS: &[Parameter] = &[
    parameter("kind", Word(KINDS), "Only those of this kind."),
    parameter("state", Word(&["open", "acknowledged", "muted"]), "Only those in this state."),
    parameter("application", Text, "Only those of this application."),
    parameter("fingerprint", Text, "Only those with this fingerprint, of parent or child."),
    parameter(
        "since",
        Count(0, u64::MAX >> 1),
        "Only those that have changed since this `sequence`, the earliest change first.",
    ),
];
const FORMAT: &[Parameter] = &[parameter("format", Word(&["json", "ndjson", "markdown", "junit"]), "As what.")];
const CAPTURE: &[Parameter] = &[
    parameter("file", Text, "A new file's name in `capture.directory`: letters, digits, `.`, `_` and `-`."),
    parameter("values", Word(&["hash", "drop", "keep"]), "What becomes of values; `hash` if it is left out."),
    parameter("seconds", Count(1, 3_600), "How long; 60 if it is left out."),
    parameter("max_bytes", Count(4_096, 4_294_967_296), "How large the file may become."),
];
const AUDIT: &[Parameter] = &[parameter("kind", Word(&["view", "action", "refused"]), "Only entries of this kind.")];
const CONFIG: &[Parameter] = &[parameter("key", Text, "Of `keys`, only this key and what stands under it.")];

const KINDS: &[&str] = &{
    let mut names = [""; Found::ALL.len()];
    let mut place = 0;
    while place < names.len() {
        #[expect(clippy::indexing_slicing, reason = "at compile time, within its length")]
        {
            names[place] = Found::ALL[place].name();
        }
        place += 1;
    }
    names
};

/// All of them, in the order of docs/admin-api.md.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    get("/livez", "live", "Live", Anybody, "Whether the process answers"),
    get("/readyz", "ready", "Ready", Anybody, "Whether new clients are welcome").fails(&[503]),
    Route { answer: Answer::Other(&["text/plain"]), ..get("/metrics", "metrics", "", Viewer, "What is counted, for Prometheus") },
    Route { answer: Answer::Json(200, "Document"), ..get("/api/v1/openapi.json", "openapi", "", Viewer, "This document") },
    get("/api/v1/version", "version", "Version", Viewer, "Version and uptime"),
    get("/api/v1/overview", "overview", "Overview", Tenant, "What is wrong now, worst first, and the numbers that tell how it goes").takes(&[TENANT]),
    get("/api/v1/pools", "pools", "Pools", Viewer, "One object per database and user").takes(&[DATABASE, USER]),
    get("/api/v1/blocking", "blocking", "Blocking", Tenant, "Who waits for whom in the pools, who holds what, and why").takes(&[TENANT, DATABASE, USER]).fails(&[503]),
    get("/api/v1/queries", "queries", "Queries", Tenant, "Statements with their statistics").takes(&[TENANT, QUERIES, PAGE]).fails(&[404, 409]),
    Route { answer: Answer::Other(&["application/x-ndjson"]), ..get("/api/v1/queries/snapshot", "snapshot", "", Viewer, "All of them, one to a line") },
    post("/api/v1/queries/reset", "reset_queries", "Reset", "Counts statements anew").takes(&[RESET]),
    get("/api/v1/queries/{fingerprint}", "query", "QueryDetail", Tenant, "All that is known of one statement").takes(&[STATEMENT, TENANT, PERIOD]).fails(&[404]),
    get("/api/v1/queries/{fingerprint}/history", "query_history", "History", Tenant, "How a statement ran over time").takes(&[STATEMENT, TENANT, HISTORY]),
    get("/api/v1/queries/{fingerprint}/samples", "query_samples", "Samples", Operator, "A statement as clients have sent it, with its values").takes(&[STATEMENT, TENANT]),
    get("/api/v1/history", "history", "History", Tenant, "How all statements ran over time, or a tenant's").takes(&[TENANT, HISTORY]),
    get("/api/v1/applications", "applications", "Applications", Viewer, "Statements by `application_name`").takes(&[LIMIT]),
    get("/api/v1/routes", "routes", "Routes", Viewer, "Statements by the route that a comment names").takes(&[LIMIT]),
    get("/api/v1/databases", "databases", "Databases", Viewer, "One object per database: where it leads, how its pools stand, what ran").takes(&[LATELY, LIMIT]),
    get("/api/v1/findings", "findings", "Findings", Tenant, "N+1 and its kin, and what is slow").takes(&[TENANT, FINDINGS, PAGE]).fails(&[404]),
    get("/api/v1/findings/fence", "fence", "Fence", Viewer, "A moment by which workers have handed on what they had served").fails(&[503]),
    Route { answer: Answer::Other(&["application/json", "application/x-ndjson", "text/markdown", "application/xml"]), ..get("/api/v1/findings/export", "export_findings", "", Tenant, "All findings, in several formats") }.takes(&[TENANT, FINDINGS, LIMIT, FORMAT]),
    get("/api/v1/findings/{id}", "finding", "Finding", Tenant, "One finding").takes(&[ID, TENANT]).fails(&[404]),
    post("/api/v1/findings/{id}/acknowledge", "acknowledge", "Finding", "Notes that somebody knows of a finding").takes(&[ID]).sends("NewAcknowledgement").fails(&[404]),
    delete("/api/v1/findings/{id}/acknowledge", "withdraw", Answer::Json(200, "Finding"), "Takes that back").takes(&[ID]).fails(&[404]),
    get("/api/v1/mutes", "mutes", "Mutes", Viewer, "Findings that nobody wants to be told of"),
    Route { answer: Answer::Json(201, "Mute"), ..post("/api/v1/mutes", "mute", "", "Mutes findings") }.sends("NewMute").fails(&[409]),
    delete("/api/v1/mutes/{id}", "unmute", Answer::Nothing, "Takes a mute away").takes(&[ID]).fails(&[404, 409]),
    get("/api/v1/plans", "plans", "Plans", Tenant, "Plans of slow statements").takes(&[TENANT, PAGE]).fails(&[404]),
    get("/api/v1/plans/{fingerprint}", "plan", "Plans", Tenant, "Plans of one statement, node by node").takes(&[STATEMENT, TENANT, PAGE]).fails(&[404]),
    get("/api/v1/tenants", "tenants", "Tenants", Tenant, "One object per tenant").takes(&[TENANT]),
    get("/api/v1/limits", "limits", "Limits", Tenant, "What each tenant and class is held to, who says so, and what was reached").takes(&[TENANT, PAGE]).fails(&[404]),
    Route { who: Viewer, ..post("/api/v1/limits/explain", "explain_limits", "Explained", "Whose a login or a statement would be, and what holds for it") }.sends("Wish"),
    get("/api/v1/clients", "clients", "Clients", Tenant, "Connected clients").takes(&[TENANT, DATABASE, USER, APPLICATION, CLIENT_STATE, CLIENTS, PAGE]).fails(&[404, 503]),
    get("/api/v1/clients/{id}", "client", "Client", Tenant, "One client").takes(&[CLIENT, TENANT]).fails(&[404, 503]),
    post("/api/v1/clients/{id}/kill", "kill_client", "Killed", "Ends a client's connection").takes(&[CLIENT]).fails(&[404, 503]),
    post("/api/v1/clients/{id}/cancel", "cancel_client", "Cancelled", "Cancels what a client runs, and keeps its connection").takes(&[CLIENT]).fails(&[404, 409, 503]),
    get("/api/v1/upstreams", "upstreams", "Upstreams", Viewer, "Connections to servers").takes(&[DATABASE, USER, UPSTREAM_STATE, PAGE]).fails(&[404, 503]),
    get("/api/v1/listeners", "listeners", "Listeners", Viewer, "Connections that listen for many clients"),
    get("/api/v1/sockets", "sockets", "Sockets", Viewer, "Where clients connect"),
    get("/api/v1/untracked", "untracked", "UntrackedList", Tenant, "Who leaves what on server connections").takes(&[TENANT, LIMIT]),
    get("/api/v1/capture", "capture", "CaptureState", Viewer, "The latest capture"),
    post("/api/v1/capture", "begin_capture", "Capture", "Has events written to a file").takes(&[CAPTURE]).fails(&[409, 503]),
    delete("/api/v1/capture", "end_capture", Answer::Json(200, "Capture"), "Ends the capture").fails(&[409, 503]),
    get("/api/v1/cache", "cache", "Cache", Viewer, "What the read cache holds and does, and why it does not"),
    post("/api/v1/cache/mode", "cache_mode", "CacheMode", "Switches the read cache").sends("NewCacheMode").fails(&[409]),
    post("/api/v1/cache/invalidate", "invalidate", "Invalidated", "Ends answers of the read cache").sends("Ending").fails(&[404, 409]),
    get("/api/v1/audit", "audit", "AuditList", Operator, "Who has asked for what").takes(&[AUDIT, PAGE]).fails(&[404]),
    get("/api/v1/session", "session", "Session", Tenant, "Who is asking").takes(&[TENANT]),
    get("/api/v1/log-level", "log_level", "LogLevel", Viewer, "How much is logged").fails(&[409, 503]),
    Route { method: "PUT", ..post("/api/v1/log-level", "put_log_level", "LogLevel", "Changes for a while how much is logged") }.sends("NewLogLevel").fails(&[409, 503]),
    post("/api/v1/log-level", "set_log_level", "LogLevel", "The same").sends("NewLogLevel").fails(&[409, 503]),
    get("/api/v1/config", "config", "Config", Viewer, "The settings in force, without secrets, and who says each").takes(&[CONFIG]),
    post("/api/v1/reload", "reload", "Changes", "Reads the configuration again").fails(&[422, 503]),
    post("/api/v1/pause", "pause_all", "Paused", "Has all databases' clients wait, and closes their server connections").takes(&[WAIT]).fails(&[404, 409]),
    post("/api/v1/resume", "resume_all", "Done", "Ends every pause").fails(&[404, 409]),
    post("/api/v1/reconnect", "reconnect_all", "Done", "Has server connections made anew").fails(&[404, 409]),
    post("/api/v1/databases/{name}/pause", "pause", "Paused", "Has a database's clients wait, and closes its server connections").takes(&[NAME, WAIT]).fails(&[404, 409]),
    post("/api/v1/databases/{name}/resume", "resume", "Done", "Ends the pause of a database").takes(&[NAME]).fails(&[404, 409]),
    post("/api/v1/databases/{name}/reconnect", "reconnect", "Done", "Has a database's server connections made anew").takes(&[NAME]).fails(&[404, 409]),
    post("/api/v1/databases/{name}/disable", "disable", "Done", "Lets no new clients into a database").takes(&[NAME]).fails(&[404, 409]),
    post("/api/v1/databases/{name}/enable", "enable", "Done", "Lets them in again").takes(&[NAME]).fails(&[404, 409]),
    Route { answer: Answer::Json(202, "Draining"), ..post("/api/v1/drain", "drain", "", "Has the process end when its clients are done, as SIGTERM does") }.fails(&[409, 503]),
    Route { answer: Answer::Other(&["text/event-stream"]), ..get("/api/v1/events", "events", "", Tenant, "What happens, as it does") }.takes(&[TENANT]).fails(&[503]),
];
