//! What answers and bodies look like: the component schemas of the OpenAPI document.
//!
//! Fields may be added within `v1`, so no schema forbids others. Tests ask every route and fail for a field that is not
//! here.

use serde_json::{Map, Value, json};

/// The type of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    /// Text.
    Text,
    /// RFC 3339 in UTC.
    Moment,
    /// 16 hexadecimal digits.
    Hex,
    /// A whole number from 0.
    Count,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    /// It, or `null`.
    Null(&'static Type),
    /// A list of it.
    List(&'static Type),
    /// Any names, each with it.
    Map(&'static Type),
    /// Another schema.
    Is(&'static str),
    /// Anything.
    Any,
}

use Type::{Any, Count, Flag, Hex, Is, List, Moment, Null, Number, Text, Word};

/// One member.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    kind: Type,
    always: bool,
}

const fn f(name: &'static str, kind: Type) -> Field {
    Field { name, kind, always: true }
}

/// One that need not be there.
const fn o(name: &'static str, kind: Type) -> Field {
    Field { name, kind, always: false }
}

/// A schema's name and members.
type Schema = (&'static str, &'static [Field]);

/// Of the read cache.
const MODES: &[&str] = &["off", "observe", "on"];
const STATES: &[&str] = &["open", "acknowledged", "muted"];

#[rustfmt::skip]
const SCHEMAS: &[Schema] = &[
    ("Problem", &[f("type", Text), f("title", Text), f("status", Count), f("detail", Text), o("errors", List(&Text))]),
    ("Document", &[f("openapi", Text), f("info", Any), f("paths", Any), f("components", Any), o("security", Any), o("servers", Any)]),
    ("Live", &[f("status", Word(&["alive"]))]),
    ("Ready", &[f("status", Word(&["ready", "not_ready"])), f("reasons", List(&Text))]),
    ("Version", &[f("version", Text), f("started", Moment), f("uptime_seconds", Count), f("workers", Count)]),

    ("Overview", &[f("at", Moment), f("verdicts", List(&Is("Verdict"))), f("checked", List(&Text)), f("numbers", Is("Numbers")), f("series", Is("OverviewSeries"))]),
    ("Verdict", &[f("kind", Text), f("severity", Word(&["critical", "warning", "notice"])), f("what", Text), f("since", Null(&Moment)), f("whom", Is("Whom")), f("evidence", Text), f("numbers", Type::Map(&Number)), f("advice", Text), f("link", Text)]),
    ("Whom", &[f("tenant", Null(&Text)), f("database", Null(&Text)), f("user", Null(&Text)), f("fingerprint", Null(&Hex))]),
    ("Numbers", &[f("statements_per_second", Number), f("errors_per_second", Number), f("error_share", Number), f("p95_ms", Null(&Number)), f("clients", Count), f("clients_active", Null(&Count)), f("clients_waiting", Count), f("upstreams_active", Null(&Count)), f("upstreams_idle", Null(&Count)), f("findings_open", Count)]),
    ("OverviewSeries", &[f("step", Text), f("start", Null(&Moment)), f("complete_from", Moment), f("calls", List(&Count)), f("errors", List(&Count)), f("p95_ms", List(&Null(&Number)))]),

    ("Pools", &[f("pools", List(&Is("Pool")))]),
    ("Pool", &[f("database", Text), f("user", Text), f("paused", Flag), f("disabled", Flag), f("clients", Is("PoolClients")), f("upstreams", Is("PoolUpstreams")), o("settings", Is("PoolSettings")), f("checkouts", Count), f("queue_timeouts", Count), f("queue_refusals", Count), f("wait_ms", Is("Spread")), f("dials", Count), f("dial_failures", Count), f("dial_ms", Is("Spread")), f("closes", Type::Map(&Count)), f("resets", Count), f("pins", Type::Map(&Count)), f("pins_ended", Count), f("discards", Type::Map(&Count)), f("rejects", Type::Map(&Count)), f("cancels", Is("Cancels")), f("bytes_in", Count), f("bytes_out", Count), f("transactions", Count), f("transaction_ms", Number), f("statements", Count), f("statement_errors", Count), f("statement_ms", Is("Spread")), f("prepared", Is("Prepared")), f("settings_sent", Count), f("tenants", List(&Is("Standing")))]),
    ("PoolClients", &[f("total", Count), f("active", Count), f("waiting", Count), f("idle", Count)]),
    ("PoolUpstreams", &[f("active", Count), f("idle", Count), f("dialling", Count), f("pinned", Count)]),
    ("PoolSettings", &[f("mode", Word(&["session", "transaction", "statement"])), f("size", Count), f("min_size", Count), f("reserve_size", Count), f("queue_timeout_ms", Count)]),
    ("Spread", &[f("total", Number), f("p50", Number), f("p95", Number), f("p99", Number)]),
    ("Cancels", &[f("requested", Count), f("forwarded", Count), f("ignored", Count)]),
    ("Prepared", &[f("parses", Count), f("binds", Count), f("hits", Count), f("injected", Count), f("evictions", Count), f("retries", Count)]),
    ("Standing", &[f("tenant", Text), f("waiting", Count), f("holding", Count), f("weight", Count), f("min_upstreams", Count), f("max_upstreams", Count), f("max_waiting", Count)]),

    ("Blocking", &[f("pools", List(&Is("Queue"))), f("pinned", List(&Is("Pinned")))]),
    ("Queue", &[f("database", Text), f("user", Text), f("size", Null(&Count)), f("open", Null(&Count)), f("paused", Flag), f("waiting", Count), f("waiting_ms", Null(&Number)), f("failure", Null(&Text)), f("tenants", List(&Is("QueuedTenant"))), f("waiters", List(&Is("Waiter"))), f("holders", List(&Is("Holder")))]),
    ("QueuedTenant", &[f("tenant", Text), f("waiting", Count), f("holding", Count), f("max_upstreams", Null(&Count))]),
    ("Waiter", &[f("client", Count), f("tenant", Text), f("application", Text), f("waiting_ms", Number)]),
    ("Holder", &[f("client", Count), f("tenant", Text), f("application", Text), f("state", Text), f("upstream", Count), f("held_ms", Number), f("fingerprint", Null(&Hex)), f("pinned", Null(&Text)), f("pinned_by", Null(&Hex))]),
    ("Pinned", &[f("client", Count), f("tenant", Text), f("application", Text), f("database", Text), f("user", Text), f("state", Text), f("upstream", Null(&Count)), f("reason", Text), f("by", Null(&Hex)), f("state_since", Moment)]),

    ("Queries", &[f("total", Count), f("queries", List(&Is("Query"))), f("next", Null(&Text)), o("period", Is("Period")), o("numbers_of", Text)]),
    ("Period", &[f("from", Moment), f("until", Moment), f("complete_from", Moment), f("step", Text)]),
    ("Query", &[f("fingerprint", Hex), f("family", Hex), o("query_id", List(&Text)), f("class", Text), f("text", Text), f("tenant", Text), f("calls", Count), o("prepared_calls", Count), o("cached_calls", Count), f("calls_per_minute", Number), o("calls_last_minute", Count), f("errors", Count), o("errors_by_sqlstate", Type::Map(&Count)), f("rows", Count), o("bytes_in", Count), o("bytes_out", Count), f("total_ms", Number), f("time_share", Number), f("queue_ms", Number), f("server_ms", Number), o("back_pressure_ms", Number), f("mean_ms", Number), o("min_ms", Number), f("max_ms", Number), o("p50_ms", Number), f("p95_ms", Null(&Number)), o("p99_ms", Number), o("distribution_ms", Is("Distributions")), o("first_seen", Moment), o("last_seen", Moment), o("since", Moment), o("series", Is("Series"))]),
    ("Distributions", &[f("queue", Is("Distribution")), f("server", Is("Distribution")), f("back_pressure", Is("Distribution"))]),
    ("Distribution", &[f("p50", Number), f("p95", Number), f("p99", Number), f("max", Number)]),
    ("Series", &[f("step", Text), f("start", Moment), f("calls", List(&Count)), f("p95_ms", List(&Null(&Number)))]),
    ("QueryDetail", &[f("fingerprint", Hex), f("family", Hex), o("query_id", List(&Text)), f("class", Text), f("text", Text), f("calls", Count), f("calls_last_minute", Count), f("errors", Count), f("errors_by_sqlstate", Type::Map(&Count)), f("rows", Count), f("bytes_in", Count), f("bytes_out", Count), f("prepared_calls", Count), f("cached_calls", Count), f("total_ms", Number), f("queue_ms", Number), f("server_ms", Number), f("back_pressure_ms", Number), f("mean_ms", Number), f("min_ms", Number), f("max_ms", Number), f("p50_ms", Number), f("p95_ms", Number), f("p99_ms", Number), f("first_seen", Moment), f("last_seen", Moment), f("since", Moment), f("histogram", List(&Is("Bucket"))), f("tenants", List(&Is("Query"))), f("applications", List(&Is("Use"))), f("databases", List(&Is("Use"))), f("series", Is("DetailSeries")), f("period", Is("DetailPeriod")), f("plans", List(&Is("PlanRow"))), f("findings", List(&Is("Finding"))), f("cache", Null(&Is("Fate")))]),
    ("Bucket", &[f("from_ms", Number), f("calls", Count)]),
    ("Use", &[f("name", Text), f("seen", Count), f("last_seen", Moment)]),
    ("DetailSeries", &[f("step", Text), f("start", Moment), f("complete_from", Moment), f("calls", List(&Count)), f("errors", List(&Count)), f("mean_ms", List(&Null(&Number))), f("p95_ms", List(&Null(&Number)))]),
    ("DetailPeriod", &[f("from", Moment), f("until", Moment), f("complete_from", Moment), f("step", Text), f("calls", Count), f("calls_per_minute", Number), f("errors", Count), f("rows", Count), f("total_ms", Number), f("queue_ms", Number), f("server_ms", Number), f("mean_ms", Number), f("max_ms", Number), f("p95_ms", Number), f("tenants", List(&Is("PeriodTenant")))]),
    ("PeriodTenant", &[f("tenant", Text), f("calls", Count), f("calls_per_minute", Number), f("errors", Count), f("rows", Count), f("total_ms", Number), f("time_share", Number), f("queue_ms", Number), f("server_ms", Number), f("mean_ms", Number), f("max_ms", Number), f("p95_ms", Number)]),
    ("Reset", &[f("reset", Count), f("since", Moment)]),
    ("History", &[f("step", Text), f("complete_from", Moment), f("windows", List(&Is("Window"))), o("query_id", List(&Text))]),
    ("Window", &[f("start", Moment), f("seconds", Number), f("calls", Count), f("errors", Count), f("rows", Count), f("total_ms", Number), f("queue_ms", Number), f("server_ms", Number), f("max_ms", Number), f("p95_ms", Null(&Number))]),
    ("Samples", &[f("fingerprint", Hex), f("kept", Flag), f("samples", List(&Is("Sample")))]),
    ("Sample", &[f("tenant", Text), f("database", Text), f("user", Text), f("application", Text), f("started", Moment), f("duration_ms", Number), f("sqlstate", Null(&Text)), f("text", Text), f("parameters", List(&Null(&Text)))]),
    ("Applications", &[f("total", Count), f("applications", List(&Is("Usage")))]),
    ("Routes", &[f("total", Count), f("routes", List(&Is("Usage")))]),
    ("Databases", &[f("total", Count), f("databases", List(&Is("Database")))]),
    ("Database", &[f("name", Text), f("database", Text), f("host", Null(&Text)), f("port", Null(&Count)), f("dbname", Null(&Text)), f("force_user", Null(&Text)), f("pool_mode", Null(&Word(&["session", "transaction", "statement"]))), f("pool_size", Null(&Count)), f("min_pool_size", Null(&Count)), f("reserve_pool_size", Null(&Count)), f("server_lifetime_seconds", Null(&Count)), f("load_balance_hosts", Null(&Text)), f("max_connections", Null(&Count)), f("current_connections", Count), f("max_client_connections", Null(&Count)), f("current_client_connections", Count), f("paused", Flag), f("paused_since", Null(&Moment)), f("disabled", Flag), f("disabled_since", Null(&Moment)), f("suspended", Flag), f("suspended_since", Null(&Moment)), f("clients", Is("PoolClients")), f("upstreams", Is("PoolUpstreams")), f("waiting_ms", Null(&Number)), f("wait_ms", Is("Spread")), f("server_version", Null(&Text)), f("is_in_recovery", Null(&Flag)), f("cache", Null(&Is("CachedDatabase"))), f("period", Is("DatabasePeriod")), f("calls", Count), f("errors", Count), f("rows", Count), f("bytes_in", Count), f("bytes_out", Count), f("total_ms", Number), f("queue_ms", Number), f("server_ms", Number), f("back_pressure_ms", Number), f("mean_ms", Number), f("p50_ms", Number), f("p95_ms", Number), f("p99_ms", Number)]),
    ("DatabasePeriod", &[f("from", Moment), f("until", Moment), f("calls", Count), f("calls_per_second", Number), f("errors", Count)]),
    ("Usage", &[o("application", Text), o("route", Text), f("calls", Count), f("errors", Count), f("rows", Count), f("bytes_in", Count), f("bytes_out", Count), f("total_ms", Number), f("queue_ms", Number), f("server_ms", Number), f("back_pressure_ms", Number), f("mean_ms", Number), f("p50_ms", Number), f("p95_ms", Number), f("p99_ms", Number)]),

    ("Findings", &[f("total", Count), f("sequence", Count), f("started", Moment), f("now", Moment), f("judged_until", Null(&Moment)), f("events_skipped", Count), f("events_dropped", Count), f("detection_dropped", Count), f("findings", List(&Is("Finding"))), f("next", Null(&Text))]),
    ("Finding", &[f("id", Text), f("kind", Text), f("severity", Word(&["low", "medium", "high"])), f("tenant", Text), f("database", Text), f("user", Text), f("application", Text), f("client", Text), f("route", Null(&Text)), f("traced", Flag), f("parent", Null(&Is("Side"))), f("child", Is("Side")), f("evidence", Null(&Text)), f("count", Count), f("parent_executions", Count), f("connections", Count), f("wasted_ms", Number), f("occurrences", Count), f("statements", Count), f("per_minute", Count), f("first_seen", Moment), f("last_seen", Moment), f("rewrite", Null(&Text)), o("detail", Any), f("state", Word(STATES)), f("acknowledged", Null(&Is("Acknowledgement"))), f("mute", Null(&Text)), f("sequence", Count)]),
    ("Side", &[f("fingerprint", Text), f("text", Text), f("column", Null(&Text)), o("parameter", Count)]),
    ("Acknowledgement", &[f("by", Text), f("note", Null(&Text)), f("at", Moment), f("count", Count), o("worst_ms", Number), o("came_back", Moment)]),
    ("Fence", &[f("moment", Moment)]),
    ("Mutes", &[f("mutes", List(&Is("Mute")))]),
    ("Mute", &[f("id", Text), f("origin", Word(&["api", "config"])), f("fingerprint", Null(&Text)), f("kind", Null(&Text)), f("database", Null(&Text)), f("user", Null(&Text)), f("application", Null(&Text)), f("client", Null(&Text)), f("tenant", Null(&Text)), f("route", Null(&Text)), f("until", Null(&Moment)), f("note", Null(&Text)), f("created", Null(&Moment))]),
    ("Plans", &[f("total", Count), f("plans", List(&Is("PlanRow"))), f("next", Null(&Text))]),
    ("PlanRow", &[f("fingerprint", Hex), f("text", Text), f("tenant", Text), f("database", Text), f("user", Text), f("plans", List(&Is("Plan")))]),
    ("Plan", &[f("plan_hash", Hex), f("summary", Text), f("total_cost", Number), f("duration_ms", Number), f("captures", Count), f("first_seen", Any), f("last_seen", Any), o("settings", Any), o("plan", Any)]),

    ("Tenants", &[f("tenants", List(&Is("Tenant")))]),
    ("Tenant", &[f("tenant", Text), o("fingerprints", Count), o("statements", Count), o("errors", Count), o("statement_timeouts", Count), o("queue_timeouts", Count), o("refusals", Count), o("refusals_by_sqlstate", Type::Map(&Count)), o("pins", Count), o("discards", Count), o("rejects", Count), o("rows", Count), o("bytes_in", Count), o("bytes_out", Count), o("total_ms", Number), o("queue_ms", Number), o("server_ms", Number), o("back_pressure_ms", Number), o("max_ms", Number), o("last_seen", Null(&Moment)), o("share", Is("Share")), f("clients", Count), f("connections", Count), f("running", Count), f("limits", Type::Map(&Is("Limit"))), f("limits_reached", Type::Map(&Is("Reached"))), f("classes", Type::Map(&Is("Class")))]),
    ("Share", &[f("time", Number), f("server", Number)]),
    ("Class", &[o("statements", Count), o("errors", Count), o("rows", Count), o("bytes_in", Count), o("bytes_out", Count), o("total_ms", Number), o("queue_ms", Number), o("server_ms", Number), o("back_pressure_ms", Number), f("clients", Count), f("connections", Count), f("running", Count), f("limits", Type::Map(&Is("Limit"))), f("class_limits", Type::Map(&Is("Limit"))), f("limits_reached", Type::Map(&Is("Reached")))]),
    ("Limit", &[f("value", Any), f("from", Text), f("mode", Null(&Text))]),
    ("Reached", &[f("observed", Count), f("warned", Count), f("enforced", Count)]),
    ("Limits", &[f("total", Count), f("limits", List(&Is("Held"))), f("next", Null(&Text))]),
    ("Held", &[f("tenant", Text), f("class", Null(&Text)), f("clients", Count), f("running", Count), f("limits", Type::Map(&Is("Limit"))), f("class_limits", Type::Map(&Is("Limit"))), f("limits_reached", Type::Map(&Is("Reached")))]),
    ("Explained", &[f("tenant", Text), f("tenant_rule", Null(&Is("Rule"))), f("class", Null(&Text)), f("class_rule", Null(&Is("Rule"))), f("limits", Type::Map(&Is("Limit"))), f("class_limits", Type::Map(&Is("Limit"))), f("connection", Null(&Is("Connected"))), f("statement", Null(&Is("Judged")))]),
    ("Rule", &[f("number", Count), f("from", Text)]),
    ("Connected", &[f("tenant", Text), f("class", Null(&Text)), f("limits", Type::Map(&Is("Limit")))]),
    ("Judged", &[f("fingerprint", Hex), f("has_limits", Flag), f("limits", Type::Map(&Is("Limit"))), o("text", Text), o("refused_by", Null(&Text)), o("objections", List(&Is("Objection"))), o("row_limit", Null(&Is("RowLimit")))]),
    ("Objection", &[f("limit", Text), f("mode", Text), f("code", Text), f("message", Text), f("detail", Null(&Text)), f("hint", Null(&Text))]),
    ("RowLimit", &[f("limit", Count), f("mode", Text)]),

    ("Clients", &[f("total", Count), f("waiting", Count), f("pinned", Count), f("clients", List(&Is("Client"))), f("next", Null(&Text))]),
    ("Client", &[f("id", Count), f("worker", Count), f("database", Text), f("user", Text), f("tenant", Text), f("application", Text), f("address", Text), f("tls", Null(&Is("Tls"))), f("state", Text), f("upstream", Null(&Count)), f("pinned", Null(&Text)), f("pinned_by", Null(&Hex)), f("statement", Null(&Hex)), f("prepared_statements", Count), f("channels", Count), f("connected", Moment), f("state_since", Moment)]),
    ("Tls", &[f("version", Text), f("cipher", Text), f("server_name", Null(&Text))]),
    ("Killed", &[f("client", Count), f("killed", Flag)]),
    ("Cancelled", &[f("client", Count), f("was", Text), f("cancelled", Flag), f("complete", Flag)]),
    ("Upstreams", &[f("total", Count), f("upstreams", List(&Is("Upstream"))), f("next", Null(&Text))]),
    ("Upstream", &[f("id", Count), f("worker", Count), f("database", Text), f("user", Text), f("address", Text), f("tls", Flag), f("state", Text), f("client", Null(&Count)), f("backend_pid", Null(&Count)), f("prepared_statements", Count), f("connected", Moment), f("state_since", Moment)]),
    ("Listeners", &[f("listeners", List(&Is("Listener")))]),
    ("Listener", &[f("address", Text), f("database", Text), f("encoding", Text), f("state", Text), f("backend_pid", Null(&Count)), f("clients", Count), f("channels", Count), f("notifications", Count), f("losses", Count)]),
    ("Sockets", &[f("sockets", List(&Is("Socket")))]),
    ("Socket", &[f("address", Text), f("kind", Text), f("origin", Text), f("accepted", Count), f("failed", Count)]),
    ("UntrackedList", &[f("total", Count), f("untracked", List(&Is("Untracked")))]),
    ("Untracked", &[f("reason", Text), f("answer", Text), f("database", Text), f("user", Text), f("tenant", Text), f("application", Text), f("fingerprint", Null(&Hex)), f("count", Count), f("client", Count), f("first_seen", Moment), f("last_seen", Moment)]),
    ("CaptureState", &[f("directory", Null(&Text)), f("allow_values", Flag), f("capture", Null(&Is("Capture")))]),
    ("Capture", &[f("file", Text), f("values", Text), f("state", Text), f("started", Null(&Moment)), f("seconds", Count), f("max_bytes", Count), f("bytes", Count), f("events", Count), f("sessions", Count), f("dropped", Count), f("unknown", Count), f("reason", Null(&Text)), f("error", Null(&Text))]),

    ("Cache", &[f("mode", Word(MODES)), f("follows", Flag), f("bytes", Count), f("max_bytes", Count), f("max_entry", Count), f("max_bytes_of_tenant", Count), f("entries", Count), f("hit_ratio", Null(&Number)), f("hits", Count), f("stale", Count), f("joined", Count), f("fills", Count), f("evictions", Count), f("saved_us", Count), f("observed_hits", Count), f("observed_saved_us", Count), f("agreed", Count), f("disagreed", Count), f("misses", Type::Map(&Count)), f("bypasses", Type::Map(&Count)), f("refused", Type::Map(&Count)), f("invalidated", Type::Map(&Count)), f("bytes_by_tenant", Type::Map(&Count)), f("databases", List(&Is("CachedDatabase")))]),
    ("CachedDatabase", &[f("name", Text), f("ready", Flag), f("trouble", Null(&Text)), f("slot", Word(&["not_needed", "up", "down"])), f("slot_lag_ms", Null(&Number)), f("questions", Count), f("unresolved_writes", Count), f("dropped_writes", Count)]),
    ("CacheMode", &[f("mode", Word(MODES)), f("before", Word(MODES))]),
    ("Invalidated", &[f("databases", Count)]),
    ("Fate", &[f("fate", Word(&["hit", "observed", "miss", "bypass", "refused"])), f("reason", Null(&Text)), f("words", Text)]),

    ("AuditList", &[f("total", Count), f("audit", List(&Is("AuditEntry"))), f("next", Null(&Text))]),
    ("AuditEntry", &[f("id", Count), f("at", Moment), f("last", Moment), f("times", Count), f("kind", Word(&["view", "action", "refused"])), f("who", Null(&Text)), f("role", Null(&Text)), f("tenant", Null(&Text)), f("from", Null(&Text)), f("method", Text), f("path", Text), f("status", Count), f("ms", Number), f("request_id", Null(&Text)), f("why", Null(&Text))]),
    ("Session", &[f("name", Text), f("role", Word(&["tenant", "viewer", "operator"])), f("tenant", Null(&Text)), f("may_act", Flag), f("csrf", Null(&Text))]),
    ("LogLevel", &[f("filter", Text), f("configured", Text), f("until", Null(&Moment)), f("most", Text)]),

    ("Config", &[f("keys", List(&Is("Key"))), f("reload", Is("ReloadState")), f("tenant_table", Null(&Is("TenantTable")))]),
    ("TenantTable", &[f("database", Text), f("tenants", Count), f("last_read", Null(&Moment)), f("trouble", Null(&Text)), f("wrong_rows", Count), f("wrong", List(&Is("WrongRow")))]),
    ("WrongRow", &[f("tenant", Text), f("why", Text)]),
    ("Key", &[f("key", Text), o("value", Null(&Text)), o("hidden", Flag), f("from", Is("Origin")), f("needs_restart", Flag)]),
    ("Origin", &[f("kind", Word(&["file", "environment", "command_line", "table", "default", "program"])), o("file", Text), o("line", Count), o("name", Text), o("key", Text), o("variables", List(&Text))]),
    ("ReloadState", &[f("last", Null(&Moment)), f("last_done", Null(&Moment)), f("error", Null(&List(&Text))), f("needs_restart", List(&Text))]),
    ("Changes", &[f("total", Count), f("changes", List(&Is("Change")))]),
    ("Change", &[f("key", Text), o("old", Null(&Text)), o("new", Null(&Text)), o("hidden", Flag), f("needs_restart", Flag), o("why", Text)]),
    ("Paused", &[f("action", Text), f("database", Null(&Text)), f("complete", Flag)]),
    ("Done", &[f("action", Text), f("database", Null(&Text))]),
    ("Draining", &[f("draining", Flag)]),
];

impl Type {
    fn schema(self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Moment => json!({"type": "string", "format": "date-time"}),
            Self::Hex => json!({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
            Self::Count => json!({"type": "integer", "minimum": 0}),
            Self::Number => json!({"type": "number"}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Word(words) => json!({"type": "string", "enum": words}),
            Self::Null(inner) => json!({"anyOf": [inner.schema(), {"type": "null"}]}),
            Self::List(inner) => json!({"type": "array", "items": inner.schema()}),
            Self::Map(inner) => json!({"type": "object", "additionalProperties": inner.schema()}),
            Self::Is(name) => reference(name),
            Self::Any => json!({}),
        }
    }
}

/// A reference to a component.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Every component.
pub(super) fn components() -> Map<String, Value> {
    let answers = SCHEMAS.iter().map(|(name, fields)| {
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.name.to_owned(), field.kind.schema())).collect();
        let required: Vec<&str> = fields.iter().filter(|field| field.always).map(|field| field.name).collect();
        ((*name).to_owned(), json!({"type": "object", "required": required, "properties": properties}))
    });
    answers.chain(bodies()).collect()
}

/// What is sent. Other members than these are refused.
fn bodies() -> [(String, Value); 6] {
    let text = |most: usize| json!({"type": "string", "maxLength": most});
    // What may be left out may be `null`.
    let or_null = |schema: Value| json!({"anyOf": [schema, {"type": "null"}]});
    let maybe = |most: usize| or_null(text(most));
    let texts = json!({"type": "object", "additionalProperties": text(1024), "maxProperties": 64});
    let hex = or_null(json!({"type": "string", "pattern": "^[0-9a-fA-F]{16}$"}));
    let acknowledgement = json!({
        "type": "object",
        "required": ["by"],
        "properties": {"by": {"type": "string", "minLength": 1, "maxLength": 128}, "note": maybe(1024)},
        "additionalProperties": false,
    });
    let mute = json!({
        "type": "object",
        "description": "At least one of the members up to `route`; all of them have to hold. `until` or `for`, or neither: for ever.",
        "properties": {
            "fingerprint": hex,
            "kind": or_null(json!({"type": "string", "enum": config::Mute::KINDS})),
            "database": maybe(128),
            "user": maybe(128),
            "application": maybe(128),
            "tenant": maybe(128),
            "route": maybe(128),
            "until": or_null(json!({"type": "string", "format": "date-time"})),
            "for": or_null(json!({"type": "string", "pattern": "^[0-9]{1,6}(s|m|h|d)$"})),
            "note": maybe(1024),
        },
        "minProperties": 1,
        "additionalProperties": false,
    });
    let wish = json!({
        "type": "object",
        "required": ["user"],
        "properties": {
            "user": text(256),
            "database": maybe(256),
            "application": maybe(256),
            "options": texts,
            "settings": texts,
            "comments": texts,
            "sni": maybe(256),
            "certificate": maybe(256),
            "address": {"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}, {"type": "null"}]},
            "sql": {"type": ["string", "null"], "maxLength": 8192, "description": "Its constants are not shown. It wins over `fingerprint`."},
            "fingerprint": hex,
        },
        "additionalProperties": false,
    });
    let level = json!({
        "type": "object",
        "properties": {
            "filter": {"type": ["string", "null"], "maxLength": 1024, "description": "`error`, `warn`, `info` or `debug`, or several for parts of the program, as tracing's EnvFilter has it."},
            "for": {"type": ["string", "null"], "pattern": "^[1-9][0-9]{0,2}(s|m)$"},
        },
        "additionalProperties": false,
    });
    let [cache_mode, ending] = of_cache();
    [
        ("NewAcknowledgement", acknowledgement),
        ("NewMute", mute),
        ("Wish", wish),
        ("NewLogLevel", level),
        ("NewCacheMode", cache_mode),
        ("Ending", ending),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
}

/// What is sent to the read cache.
fn of_cache() -> [Value; 2] {
    let name =
        |meaning: &str| json!({"type": ["string", "null"], "minLength": 1, "maxLength": 1024, "description": meaning});
    let mode = json!({
        "type": "object",
        "required": ["mode"],
        "properties": {"mode": {"type": "string", "enum": MODES}},
        "additionalProperties": false,
    });
    // The others are left out, or null.
    let one = |wanted: &str, meaning: &str| {
        let member = |name: &str| match name {
            "all" if name == wanted => json!({"const": true, "description": meaning}),
            "all" => json!({"enum": [false, null]}),
            _ if name == wanted => json!({"type": "string", "minLength": 1, "maxLength": 1024, "description": meaning}),
            _ => json!({"type": "null"}),
        };
        json!({
            "type": "object",
            "title": wanted,
            "required": [wanted],
            "properties": {
                "database": name("This one alone: its name on its server, or as `/api/v1/cache` has it."),
                "tag": member("tag"),
                "table": member("table"),
                "tenant": member("tenant"),
                "all": member("all"),
            },
            "additionalProperties": false,
        })
    };
    let ending = json!({
        "description": "Exactly one of `tag`, `table`, `tenant` and `all`.",
        "oneOf": [
            one("tag", "Answers by rules with this tag."),
            one("table", "Answers about this table: `schema.name`, or `name` in any schema."),
            one("tenant", "Answers to this tenant."),
            one("all", "All answers."),
        ],
    });
    [mode, ending]
}
