//! Words that decide whether a text may be cached.

/// What no rule can declare pure: it changes from one moment or session to the next, or runs a text.
#[rustfmt::skip]
pub(super) const NEVER: &[&str] = &[
    "age", "clock_timestamp", "currval", "cursor_to_xml", "database_to_xml", "gen_random_uuid", "inet_client_addr",
    "inet_client_port", "lastval", "lo_get", "nextval", "now", "pg_backend_pid", "pg_current_snapshot",
    "pg_current_xact_id", "pg_notify", "pg_sleep", "query_to_xml", "random", "random_normal", "schema_to_xml",
    "set_config", "setval", "statement_timestamp", "table_to_xml", "timeofday", "transaction_timestamp",
    "ts_rewrite", "ts_stat", "txid_current", "txid_current_snapshot", "uuid_generate_v4",
];
/// Words that ask for the time, or for what depends on it.
pub(super) const CLOCKS: &[&str] =
    &["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];
/// Words that ask who asks, or for what is his.
pub(super) const WHO: &[&str] =
    &["current_user", "session_user", "current_role", "user", "system_user", "current_catalog", "current_schema"];
/// Columns that are nobody's.
pub(super) const SYSTEM_COLUMNS: &[&str] = &["ctid", "xmin", "xmax", "cmin", "cmax"];
/// Types whose values are looked up in the catalog.
pub(super) const LOOKED_UP: &[&str] = &[
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
    "information_schema",
];
/// Functions that a policy may ask, besides immutable ones: their answers stand in the key or change with the epoch.
pub(super) const POLICY_FUNCTIONS: &[&str] =
    &["pg_has_role", "row_security_active", "current_database", "has_table_privilege"];
