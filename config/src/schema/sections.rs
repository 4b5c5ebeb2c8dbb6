//! Sections of the reference: a table's header, what it is for, and how one looks.

/// One section.
#[derive(Debug)]
pub(crate) struct Section {
    /// The table's path as in [`Row::path`](super::Row::path); empty: the top level.
    pub(crate) path: &'static str,
    /// Markdown.
    pub(crate) purpose: &'static str,
    /// A short example in TOML. A test reads it.
    pub(crate) example: &'static str,
}

const fn section(path: &'static str, purpose: &'static str, example: &'static str) -> Section {
    Section { path, purpose, example }
}

/// All of them, in the order of the reference.
#[rustfmt::skip]
pub(crate) const SECTIONS: &[Section] = &[
    section("",
        "Keys at the top of the file, before the first table.",
        r#"listen = ["127.0.0.1:6432", "/run/pgweir:6432"]
workers = 4
max_clients = 2000
"#),
    section("admin",
        "The HTTP port for operators. Who may do what there: [security.md](security.md#the-admin-port).",
        r#"[admin]
listen = "0.0.0.0:6433"
token_file = "admin.token"
tls_cert_file = "admin.crt"
tls_key_file = "admin.key"
"#),
    section("admin.access.<name>",
        "One more token, and what it opens. The name is what the audit log calls whoever uses it: a person or a program each, so that one can be taken away without the others.",
        r#"[admin.access.grafana]
role = "viewer"
token_sha256 = "4a5f1d1c1f0f4b0e7a0f2f0b8f8d1a7e3c9d2b6a5e4f3c2d1b0a9f8e7d6c5b4a"

[admin.access.anna]
role = "operator"
token_file = "anna.token"

[admin.access.acme-support]
role = "tenant"
tenant = "acme"
token = "${ACME_TOKEN}"
"#),
    section("admin.tenant_token.<name>",
        "A token that sees one tenant alone: the statements, findings, clients, limits of its tenant, and nothing of any other; no configuration, no `/metrics`, no changes. The same as `[admin.access.<name>]` with `role = \"tenant\"`, by its older name. A token that sees all has to be set beside it. A tenant may have several.",
        r#"[admin]
token_file = "admin.token"

[admin.tenant_token.acme-dashboard]
tenant = "acme"
token = "a long text that nobody guesses"
"#),
    section("console",
        "Who may use the [console](console.md): the databases `pgbouncer` and `pgweir` on every address that clients connect to, with PgBouncer's commands.",
        r#"[console]
admin_users = ["ops"]
stats_users = ["monitoring"]
"#),
    section("auth",
        "How clients prove who they are.",
        r#"[auth]
method = "scram-sha-256"
userlist = "userlist.txt"
"#),
    section("tls",
        "TLS towards clients. Files are read again on a reload: connections that begin later see the new certificate, and a file that cannot be used changes nothing.",
        r#"[tls]
mode = "require"
cert_file = "server.crt"
key_file = "server.key"
"#),
    section("upstream_tls",
        "TLS towards servers. A URL may say otherwise for its server, by libpq's parameters: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding`, `ssl_min_protocol_version`, `sslsni`.",
        r#"[upstream_tls]
mode = "verify-full"
ca_file = "system"
"#),
    section("users.<name>",
        "A user that clients may log in as. A userlist file adds to these; a name in both is a mistake.",
        r#"[users.app]
password_file = "app.password"
max_clients = 500
"#),
    section("pool",
        "Pools, one for each pair of database and user. `[databases.<name>]` takes each of these keys too, for its own pools.",
        r#"[pool]
mode = "transaction"
size = 20
queue_timeout = "5s"
"#),
    section("databases.<name>",
        "A database that clients may ask for. The name `\"*\"` stands for every database that is not listed.",
        r#"[databases.app]
upstream = "postgres://db1.internal:5432,db2.internal:5432/app?target_session_attrs=primary"
size = 40
"#),
    section("tenant",
        "Whose statement it is, and what it may do.",
        r#"[tenant]
default_name = "nobody"
max_tenants = 5000
"#),
    section("tenant.table",
        "A table in a database with a row for each tenant, which is followed while pgweir runs: [limits.md](limits.md#tenants-in-a-table). Left out: there is none.",
        r#"[databases.app]
upstream = "postgres://db1.internal/app"

[tenant.table]
database = "app"
interval = "30s"
"#),
    section("tenant.rule[]",
        "`[[tenant.rule]]`: one way to name the tenant. The first rule that yields a name wins; what stands behind a rule that always does (`user`, `database`) is never asked. So what the connection says first, no SET and no comment can change.",
        r#"[[tenant.rule]]
from = "setting"
name = "request.jwt.claims"
path = "app_metadata.tenant_id"

[[tenant.rule]]
from = "application_name"
pattern = "worker-{tenant}-*"
"#),
    section("tenant.classify[]",
        "`[[tenant.classify]]`: one way to tell the class of work. The first that holds wins; without one a session is of no class.",
        r#"[[tenant.classify]]
class = "worker"
from = "application_name"
pattern = "^worker"
"#),
    section("tenant.default",
        "Limits of all. `[tenant.class.NAME]` takes the same keys for a class of work, `[tenant.limits.NAME]` for a tenant, `[tenant.fingerprint.HEX]` some of them for one statement. Each inherits what it does not say, in this order: default, class, tenant. What a class says of `weight`, `max_upstreams` and `max_waiting` is its part of what its tenant gets, and holds beside what the tenant or the default says of them. What a fingerprint says stands beside the tenant's limits: of the times the shorter is in force, rates and numbers are counted for both, `max_rows`, `max_bytes` and `row_limit` take the place of the tenant's; it inherits modes. In numbers and times 0 is: no limit.",
        r#"[tenant.default]
statement_timeout = "30s"
max_rows = 100000
modes.max_rows = "observe"

[tenant.class.worker]
statement_timeout = "5m"

[tenant.limits.acme]
max_upstreams = 4

[tenant.fingerprint.00d1e8a1b2c3d4e5]
blocked = true
"#),
    section("observe",
        "What is watched.",
        r#"[observe]
profile = "development"
compat = 18
"#),
    section("observe.mute[]",
        "`[[observe.mute]]`: findings that nobody wants to be told of. An entry holds for those for which everything holds that it names; it names at least one thing. They are kept and shown as muted, but not logged and not counted.",
        r#"[[observe.mute]]
kind = "n_plus_one"
route = "GET /report"
until = "2027-01-31"
"#),
    section("cache",
        "Answers that are kept, and served without asking the server. Off, and nothing is cached without a rule: [cache.md](cache.md) says how to begin, and what is promised. Whether there are rules at all is decided at the start: the first ones need a restart.",
        r#"[cache]
mode = "observe"
preset = "workflow-engine"
"#),
    section("cache.rule[]",
        "`[[cache.rule]]`: what may be cached, and on which terms. Its conditions (`tables`, `fingerprint`, `application`, `hinted`) hold together, and there is at least one; the first rule that holds counts, and a `deny` before all others. What can never be cached is not, whatever a rule says.",
        r#"[[cache.rule]]
tables = ["runs", "steps"]
ttl = "5m"
tags = ["runs"]

[[cache.rule]]
tables = ["countries"]
ttl = "1h"
freshness = "ttl"
stale_for = "10s"

[[cache.rule]]
effect = "deny"
application = "payroll*"
"#),
    section("capture",
        "Event streams in files, on request over the admin port. Off unless a folder is set.",
        r#"[capture]
directory = "/var/lib/pgweir"
"#),
    section("slow_log",
        "The slow statement log: JSON lines without literals.",
        r#"[slow_log]
threshold = "250ms"
plans = false
"#),
    section("peers",
        "Other instances behind the same address, as behind one load balancer: a cancel request that reaches the wrong one is passed on.",
        r#"[peers]
id = 0
"#),
    section("peers.<id>",
        "One of the others, by its number. This instance's own entry is passed over, so that one file can serve all.",
        r#"[peers]
id = 0

[peers.1]
address = "10.0.0.2:6432"
"#),
    section("shutdown",
        "What happens on SIGTERM.",
        r#"[shutdown]
grace = "10s"
drain_timeout = "1m"
"#),
    section("log",
        "How the proxy itself logs.",
        r#"[log]
format = "json"
file = "/var/log/pgweir.log"
"#),
];
