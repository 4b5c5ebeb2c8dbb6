//! The table itself, in the order of the reference.

mod auth;

use super::{Kind, Reload, Row};

use Kind::{AddressOrOff, Addresses, Count, CountOrAuto, Flag, Secret, Text, Time, Url, Word};
use Reload::{AtOnce, Restart};
pub(crate) use auth::AUTH;

pub(super) const fn row(
    path: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    reload: Reload,
    meaning: &'static str,
) -> Row {
    Row { path, kind, default, reload, meaning }
}

/// Sections of the reference: the table's header and what it is for.
pub(crate) const SECTIONS: &[(&str, &str)] = &[
    ("", "Keys at the top of the file, before the first table."),
    ("admin", "The HTTP port for operators."),
    ("auth", "How clients prove who they are."),
    (
        "tls",
        "TLS towards clients. Files are read again on a reload: connections that begin later see the new certificate, and a file that cannot be used changes nothing.",
    ),
    (
        "upstream_tls",
        "TLS towards servers. A URL may say otherwise for its server, by libpq's parameters: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding`, `ssl_min_protocol_version`, `sslsni`.",
    ),
    ("users.<name>", "A user that clients may log in as. A userlist file adds to these; a name in both is a mistake."),
    (
        "pool",
        "Pools, one for each pair of database and user. `[databases.<name>]` takes each of these keys too, for its own pools.",
    ),
    (
        "databases.<name>",
        "A database that clients may ask for. The name `\"*\"` stands for every database that is not listed.",
    ),
    ("tenants", "Whose statement it is, and what it may do."),
    (
        "tenants.rule[]",
        "`[[tenants.rule]]`: one way to name the tenant. The first rule that yields a name wins; what stands behind a rule that always does (`user`, `database`) is never asked.",
    ),
    ("tenants.default_limits", "Limits of each tenant that has no table of its own."),
    ("tenants.limits.<tenant>", "Limits of one tenant. What is left out is taken from `[tenants.default_limits]`."),
    ("observe", "What is watched."),
    ("slow_log", "The slow statement log: JSON lines without literals."),
    (
        "peers",
        "Other instances behind the same address, as behind one load balancer: a cancel request that reaches the wrong one is passed on.",
    ),
    ("peers.<id>", "One of the others, by its number."),
    ("shutdown", "What happens on SIGTERM."),
    ("log", "How the proxy itself logs."),
];

/// Every key but those for logins and of `[pool]`.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    row("listen", Addresses, Some("127.0.0.1:6432"), AtOnce,
        "Where clients connect: one `address:port` or a list. Loopback, so that nothing is open to a network unless asked for; 6432 is the port that poolers use."),
    row("listen_reuse_port", Flag, Some("false"), Restart,
        "Lets another process listen on the same addresses (SO_REUSEPORT), clients' and the admin port's: a new pgweir is started beside the old one, which then drains without refusing anybody. Off, so that a second one started by mistake fails instead of taking a share of the clients."),
    row("workers", CountOrAuto(1, 256), Some("auto"), Restart,
        "Worker threads; `\"auto\"`: one for each core. All of them share one pool."),
    row("max_clients", Count(1, 1_000_000), Some("5000"), AtOnce,
        "Clients served at once; the next one is told 53300. An idle client costs about a kilobyte and a file descriptor, so the process's limit of open files should be higher."),
    row("admin.listen", AddressOrOff, Some("127.0.0.1:6433"), Restart,
        "Where operators connect, or `\"off\"`. An address other than loopback is refused without a token."),
    row("admin.token", Secret, None, AtOnce,
        "Bearer token that each request but `/livez` and `/readyz` must carry."),
    row("admin.token_file", Text, None, AtOnce,
        "File that holds the token; blanks at its end are dropped."),
    row("databases.<name>.upstream", Url, None, AtOnce,
        "The server: `postgres://user:password@host:port/database`. Required. Several hosts stand between commas, each with its port, and are tried in this order; `?target_session_attrs=` (`any`, `read-write`, `read-only`, `primary`, `standby`, `prefer-standby`) says which will do, `load_balance_hosts=random` tries them in random order: all as libpq does. Left out of it: `user`: the client's own; `password`: the client's own; `port`: 5432; `database`: the name that the client asked for. A Unix socket: `postgres://user@/db?host=/var/run/postgresql`."),
    row("tenants.default", Text, Some("default"), AtOnce,
        "The tenant of statements for which no rule yields a name."),
    row("tenants.max_tenants", Count(1, 1_000_000), Some("1000"), AtOnce,
        "Tenants counted on their own besides those with limits here; the rest share the row `other` and the default limits. Names come from clients, so their number has an end."),
    row("tenants.rule[].from", Word(&["user", "database", "application_name", "sni", "startup_option", "setting"]), None, AtOnce,
        "Where the name is: the login's user or database, a part of `application_name` or of the host name that the client asked for over TLS (server name indication), a startup option or parameter (`-c name=value`), or a setting that is followed through SET and `set_config`. Required."),
    row("tenants.rule[].pattern", Text, None, AtOnce,
        "With `application_name` and `sni`: the pattern, with one `{tenant}` and `*` for anything, as `worker-{tenant}-*` or `{tenant}.db.example.com`. Host names are compared in lower case."),
    row("tenants.rule[].name", Text, None, AtOnce,
        "With `startup_option` and `setting`: its name, as `app.tenant_id`."),
    row("tenants.default_limits.statement_timeout", Time { zero: true }, Some("0"), AtOnce,
        "Longest time that a statement may run; 0: no limit. The server enforces it, and the proxy cancels what still runs 250ms later."),
    row("tenants.default_limits.slow_threshold", Time { zero: false }, None, AtOnce,
        "A statement is slow from here on. Left out: `slow_log.threshold`."),
    row("tenants.limits.<tenant>.statement_timeout", Time { zero: true }, None, AtOnce,
        "As in `[tenants.default_limits]`; 0: no limit for this tenant."),
    row("tenants.limits.<tenant>.slow_threshold", Time { zero: false }, None, AtOnce,
        "As in `[tenants.default_limits]`."),
    row("observe.statements", Flag, Some("true"), AtOnce,
        "Fingerprints and statistics of every statement."),
    row("observe.n_plus_one", Flag, Some("true"), AtOnce,
        "Detection of N+1 queries. Needs `observe.statements`."),
    row("observe.profile", Word(&["production", "development"]), Some("production"), AtOnce,
        "Thresholds of the detector. `development` speaks up from a fan-out of 3 and reports loops whose parent it has not seen; `production` from 5, and keeps quiet about those."),
    row("observe.max_fingerprints", Count(100, 1_000_000), Some("5000"), Restart,
        "Fingerprints kept by each worker, about half a kilobyte each; the rest share one row."),
    row("observe.samples", Flag, Some("false"), AtOnce,
        "No effect so far: no literal is shown anywhere. Kept for examples in findings, which are your users' data."),
    row("slow_log.threshold", Time { zero: true }, Some("100ms"), AtOnce,
        "A statement is slow from here on; 0 switches the log off."),
    row("slow_log.per_minute", Count(1, 100_000), Some("10"), AtOnce,
        "Lines for one fingerprint in a minute; further ones are counted in the next line."),
    row("peers.id", Count(0, 126), None, Restart,
        "This instance's own number, different for each. It is a part of the keys that clients cancel by."),
    row("peers.<id>.address", Text, None, AtOnce,
        "Where this one, and no other, listens for clients: `host:port`."),
    row("shutdown.drain_timeout", Time { zero: true }, Some("30s"), AtOnce,
        "How long open transactions may take to end. The usual grace period of an orchestrator."),
    row("shutdown.grace", Time { zero: true }, Some("0"), AtOnce,
        "How long `/readyz` is red before the port closes. Behind a load balancer: a little more than the time between its probes."),
    row("log.level", Word(&["error", "warn", "info", "debug"]), Some("info"), AtOnce,
        "Least severe level that is written. `debug` is compiled out of release builds, which write what `info` does."),
    row("log.format", Word(&["text", "json"]), Some("text"), AtOnce,
        "Text for people, or JSON lines for machines."),
    row("log.file", Text, None, AtOnce,
        "File to append to instead of standard error. A reload opens it anew: after logrotate has moved it away, send SIGHUP."),
];

/// The keys of `[pool]`, which each database takes too.
#[rustfmt::skip]
pub(crate) const POOL: &[Row] = &[
    row("pool.mode", Word(&["transaction", "session", "statement"]), Some("transaction"), AtOnce,
        "When a server connection is given back: at the end of the transaction, when the client leaves, or after each statement (transaction blocks are refused then)."),
    row("pool.size", Count(1, 10_000), Some("20"), AtOnce,
        "Server connections at most. A database is busiest at two or three for each of its cores; more only queue inside it."),
    row("pool.min_size", Count(0, 10_000), Some("0"), AtOnce,
        "Server connections kept open even when idle; at most `size`."),
    row("pool.queue_timeout", Time { zero: false }, Some("10s"), AtOnce,
        "How long a request waits for a server connection before 53300: shorter than most clients' own patience, so that they learn why."),
    row("pool.connect_timeout", Time { zero: false }, Some("5s"), AtOnce,
        "How long one attempt to connect may take, login included; shorter than `queue_timeout`, so that a second attempt fits."),
    row("pool.connect_backoff", Time { zero: false }, Some("100ms"), AtOnce,
        "Pause after a failed attempt; doubles with each, with jitter, up to `connect_backoff_max`."),
    row("pool.connect_backoff_max", Time { zero: false }, Some("5s"), AtOnce,
        "Longest pause between attempts: how long a server that came back may go unnoticed."),
    row("pool.idle_timeout", Time { zero: true }, Some("10m"), AtOnce,
        "A server connection unused for so long is closed, down to `min_size`; 0: never."),
    row("pool.lifetime", Time { zero: true }, Some("1h"), AtOnce,
        "A server connection older than this, give or take a tenth, is closed when it is next free: memory of long-lived backends grows, and a failover moves on; 0: never."),
    row("pool.health_check_after", Time { zero: true }, Some("30s"), AtOnce,
        "A server connection idle for longer is asked for a sign of life, by an empty query, before it is used; 0: never."),
    row("pool.idle_in_transaction_timeout", Time { zero: true }, Some("0"), AtOnce,
        "A client that holds a transaction open in silence for so long gets 25P03; 0: never, as with PostgreSQL."),
    row("pool.max_prepared", Count(0, 100_000), Some("200"), AtOnce,
        "Prepared statements kept on each server connection; the least recently used goes first."),
    row("pool.listen", Word(&["shared", "pin"]), Some("shared"), AtOnce,
        "How LISTEN works where server connections are given back: `shared`: one connection for each database listens for all clients, and none of them keeps a server connection for it; `pin`: the client keeps its own until it leaves. Nothing to choose in session mode."),
    row("pool.listen_loss", Word(&["close", "notice"]), Some("close"), AtOnce,
        "What happens when the connection that listens for all is lost, and notifications with it: `close`: listening clients are closed with 08006, so that they connect again and look at what they missed; `notice`: they stay, and get a WARNING once they are listening again, which most drivers do not show to programs."),
];
