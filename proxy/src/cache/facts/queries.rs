//! What is asked of a catalog, in SQL. `search_path` is `pg_catalog`, and all is read in one snapshot.
//!
//! Dependencies on what comes with the server do not stand in `pg_depend`; nothing of the server writes to a table of
//! somebody's. Schemas whose names begin with `pg_` are the server's own, or hold temporary objects of some session.

use std::collections::BTreeSet;

/// One snapshot for all that follows.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The end of it.
pub(super) const END: &str = "COMMIT";

/// What the server is, and how sessions begin. A session's own settings do not show in `reset_val`; those of its role do.
pub(super) const STATE: &str = "SELECT pg_is_in_recovery(), current_setting('default_transaction_isolation'), \
    (SELECT reset_val FROM pg_settings WHERE name = 'search_path'), session_user, \
    current_setting('server_version_num'), \
    has_function_privilege('pg_show_all_file_settings()', 'EXECUTE') \
      AND has_function_privilege('pg_read_file(text)', 'EXECUTE')";

/// The server's own `search_path`, where a role's stands before it and the files may be read: what the files say, or what it
/// is without a word of theirs, unless the command line says something.
pub(super) const SERVER_PATH: &str = "SELECT coalesce( \
    (SELECT setting FROM pg_file_settings WHERE name = 'search_path' AND applied AND error IS NULL \
      ORDER BY seqno DESC LIMIT 1), \
    (SELECT boot_val FROM pg_settings WHERE name = 'search_path' \
      AND NOT EXISTS (SELECT FROM pg_file_settings WHERE name = 'search_path'))) \
    WHERE pg_read_file('postmaster.opts') !~ 'search_path'";

/// What sessions begin with by role and database: whether by this database, the role (none: all), name and value. Of all
/// settings: those that change nothing are left out by who reads it.
pub(super) const DEFAULTS: &str = "SELECT s.setdatabase <> 0, r.rolname, s.setrole <> 0, c \
    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c \
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) ORDER BY 1, 2, 3, 4";

pub(super) const SCHEMAS: &str = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'";

pub(super) const RELATIONS: &str = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relrowsecurity \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";

/// Indexes have parents as well; what is temporary is a session's own, and so are its rows.
pub(super) const INHERITS: &str = "SELECT i.inhrelid, i.inhparent FROM pg_inherits i \
    JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'";

pub(super) const FOREIGN_KEYS: &str =
    "SELECT conrelid, confrelid, confdeltype, confupdtype FROM pg_constraint WHERE contype = 'f'";

/// Functions that run when a relation is written, with the bits of `tgtype`: 4 INSERT, 8 DELETE, 16 UPDATE, 32 TRUNCATE.
/// Those of foreign keys are the server's own. A view's run where it is written through. An operator is its function.
pub(super) const TRIGGERS: &str = "WITH depends AS ( \
    SELECT d.classid, d.objid, coalesce(o.oprcode::oid, d.refobjid) AS f FROM pg_depend d \
      LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid \
      WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.classid IN ('pg_trigger'::regclass, \
        'pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_class'::regclass, 'pg_policy'::regclass, \
        'pg_rewrite'::regclass)) \
    SELECT t.tgrelid, t.tgfoid, t.tgtype FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
      WHERE t.tgenabled <> 'D' AND (NOT t.tgisinternal OR p.pronamespace <> 'pg_catalog'::regnamespace) \
    UNION SELECT t.tgrelid, d.f, t.tgtype FROM depends d JOIN pg_trigger t ON t.oid = d.objid \
      WHERE d.classid = 'pg_trigger'::regclass AND t.tgenabled <> 'D' \
    UNION SELECT a.adrelid, d.f, 20 FROM depends d JOIN pg_attrdef a ON a.oid = d.objid \
      WHERE d.classid = 'pg_attrdef'::regclass \
    UNION SELECT c.conrelid, d.f, 20 FROM depends d JOIN pg_constraint c ON c.oid = d.objid AND c.conrelid <> 0 \
      WHERE d.classid = 'pg_constraint'::regclass \
    UNION SELECT coalesce(i.indrelid, d.objid), d.f, 20 FROM depends d LEFT JOIN pg_index i ON i.indexrelid = d.objid \
      WHERE d.classid = 'pg_class'::regclass \
    UNION SELECT p.polrelid, d.f, 28 FROM depends d JOIN pg_policy p ON p.oid = d.objid \
      WHERE d.classid = 'pg_policy'::regclass \
    UNION SELECT r.ev_class, d.f, CASE r.ev_type WHEN '2' THEN 16 WHEN '3' THEN 4 WHEN '4' THEN 8 ELSE 28 END \
      FROM depends d JOIN pg_rewrite r ON r.oid = d.objid WHERE d.classid = 'pg_rewrite'::regclass";

/// What runs when a value of a type is made or changed into one: checks and defaults of domains, casts that happen by
/// themselves. Libraries are trusted in what they promise.
pub(super) const TYPE_FUNCTIONS: &str = "WITH depends AS ( \
    SELECT d.classid, d.objid, coalesce(o.oprcode::oid, d.refobjid) AS f FROM pg_depend d \
      LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid \
      WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) \
        AND d.classid IN ('pg_constraint'::regclass, 'pg_type'::regclass)) \
    SELECT u.t, u.f FROM ( \
    SELECT c.contypid AS t, d.f FROM depends d JOIN pg_constraint c ON c.oid = d.objid AND c.contypid <> 0 \
      WHERE d.classid = 'pg_constraint'::regclass \
    UNION SELECT t.oid, d.f FROM depends d JOIN pg_type t ON t.oid = d.objid AND t.typtype = 'd' \
      WHERE d.classid = 'pg_type'::regclass \
    UNION SELECT casttarget, castfunc FROM pg_cast WHERE castfunc <> 0 AND castcontext <> 'e') u \
    JOIN pg_proc p ON p.oid = u.f JOIN pg_language l ON l.oid = p.prolang \
    WHERE p.pronamespace <> 'pg_catalog'::regnamespace \
      AND NOT (l.lanname IN ('c', 'internal') AND p.provolatile <> 'v')";

/// Longer texts are not looked at: an open quote stands for them, which nobody takes for anything that can be read. The
/// bound is `MAX_ANALYSED`.
macro_rules! source {
    ($text:literal) => {
        concat!("CASE WHEN octet_length(", $text, ") > 262144 THEN '''' ELSE ", $text, " END")
    };
}

/// A body in standard SQL has no source. `row.name` calls what can be called with one argument that is a row.
pub(super) const FUNCTIONS: &str = concat!(
    "SELECT f.oid, f.nspname, f.proname, f.provolatile, f.lanname, ",
    source!("f.source"),
    ", f.takes_row FROM (SELECT p.oid, n.nspname, p.proname, p.provolatile, l.lanname, \
    CASE WHEN l.lanname NOT IN ('sql', 'plpgsql') THEN '' \
      WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) ELSE p.prosrc END AS source, \
    n.nspname <> 'pg_catalog' AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1 AND coalesce(t.typtype = 'c' \
      OR t.typtype = 'd' AND b.typtype = 'c' OR t.typname IN ('record', 'any', 'anyelement', 'anynonarray', \
      'anycompatible', 'anycompatiblenonarray'), false) AS takes_row \
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
    LEFT JOIN pg_type t ON t.oid = p.proargtypes[0] LEFT JOIN pg_type b ON b.oid = t.typbasetype \
    WHERE n.nspname !~ '^pg_(toast_)?temp_') f"
);

/// Views, and rules of whatever else.
pub(super) const REWRITES: &str = concat!(
    "SELECT f.ev_class, f.ev_type, ",
    source!("f.source"),
    ", (SELECT string_agg(DISTINCT d.refobjid::text, ',') FROM pg_depend d WHERE d.classid = 'pg_rewrite'::regclass \
      AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> f.ev_class) \
    FROM (SELECT r.oid, r.ev_class, r.ev_type, CASE WHEN r.ev_type = '1' THEN pg_get_viewdef(r.ev_class) \
      ELSE pg_get_ruledef(r.oid) END AS source FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class \
      JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_') f"
);

pub(super) const POLICIES: &str = concat!(
    "SELECT f.polrelid, ",
    source!("f.source"),
    " FROM (SELECT polrelid, concat_ws(' AND ', pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)) \
    AS source FROM pg_policy) f"
);

pub(super) const OPERATORS: &str = "SELECT oprname, oprcode::oid FROM pg_operator \
    WHERE oprnamespace <> 'pg_catalog'::regnamespace AND oprcode <> 0";

/// Types whose functions cannot be trusted. A cast from or to a type of the server's that happens by itself, or under a
/// name that is not the type's own, shows nowhere: that is any type (no number).
///
/// The server's own functions may be less than immutable: what they depend on is settings, which stand in every key, and
/// the catalog. The binary forms of a library's types are labelled stable because they depend on `client_encoding`.
pub(super) const DOUBTED_TYPES: &str = "WITH functions AS MATERIALIZED ( \
    SELECT p.oid, p.provolatile, l.lanname IN ('c', 'internal') AS library, p.pronamespace = 'pg_catalog'::regnamespace \
      AS own FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang), \
    doubted AS MATERIALIZED (SELECT oid FROM functions WHERE NOT own AND NOT (library AND provolatile = 'i')), \
    volatile AS MATERIALIZED (SELECT oid FROM functions WHERE NOT own AND NOT (library AND provolatile <> 'v')), \
    casts AS (SELECT castsource, casttarget, castcontext FROM pg_cast WHERE castfunc = ANY (ARRAY(SELECT oid FROM doubted))), \
    checks AS (SELECT contypid, conbin::text AS tree FROM pg_constraint WHERE contypid <> 0 AND conbin IS NOT NULL) \
    SELECT t.oid FROM pg_type t WHERE t.typnamespace <> 'pg_catalog'::regnamespace AND t.typtype = 'b' \
      AND (t.typinput = ANY (ARRAY(SELECT oid FROM doubted)) OR t.typoutput = ANY (ARRAY(SELECT oid FROM doubted)) \
        OR t.typmodin = ANY (ARRAY(SELECT oid FROM doubted)) OR t.typmodout = ANY (ARRAY(SELECT oid FROM doubted)) \
        OR t.typreceive = ANY (ARRAY(SELECT oid FROM volatile)) OR t.typsend = ANY (ARRAY(SELECT oid FROM volatile))) \
    UNION SELECT rngtypid FROM pg_range WHERE rngcanonical = ANY (ARRAY(SELECT oid FROM doubted)) \
      OR rngsubdiff = ANY (ARRAY(SELECT oid FROM doubted)) \
    UNION SELECT contypid FROM checks WHERE tree ~ 'SQLVALUEFUNCTION|NEXTVALUE' \
    UNION SELECT c.contypid FROM checks c, regexp_matches(c.tree, ':(?:funcid|opfuncid) (\\d+)', 'g') m \
      JOIN functions f ON f.oid = m[1]::oid WHERE NOT (f.provolatile = 'i' AND f.library) \
    UNION SELECT castsource FROM casts UNION SELECT casttarget FROM casts \
    UNION SELECT o.amoplefttype FROM pg_amop o JOIN pg_operator p ON p.oid = o.amopopr JOIN pg_type t \
      ON t.oid = o.amoplefttype WHERE t.typnamespace <> 'pg_catalog'::regnamespace AND p.oprcode = ANY (ARRAY(SELECT oid FROM doubted)) \
    UNION SELECT o.amproclefttype FROM pg_amproc o JOIN pg_type t ON t.oid = o.amproclefttype \
      JOIN pg_opfamily y ON y.oid = o.amprocfamily JOIN pg_am m ON m.oid = y.opfmethod \
      WHERE t.typnamespace <> 'pg_catalog'::regnamespace AND m.amname IN ('btree', 'hash') \
        AND o.amproc = ANY (ARRAY(SELECT oid FROM doubted)) \
    UNION SELECT NULL FROM casts c JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget \
      WHERE c.castcontext = 'i' AND 'pg_catalog'::regnamespace IN (s.typnamespace, t.typnamespace) \
      OR t.typnamespace = 'pg_catalog'::regnamespace AND format_type(t.oid, NULL) <> t.typname";

/// By each of some types: the names of all types that hold one, itself among them, and the relations with such a column.
pub(super) fn holders(types: &BTreeSet<u32>) -> String {
    let types = types.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "WITH RECURSIVE holds AS MATERIALIZED ( \
         SELECT oid AS holder, typelem AS held FROM pg_type WHERE typelem <> 0 \
         UNION ALL SELECT oid, typbasetype FROM pg_type WHERE typbasetype <> 0 \
         UNION ALL SELECT rngtypid, rngsubtype FROM pg_range UNION ALL SELECT rngmultitypid, rngtypid FROM pg_range \
         UNION ALL SELECT c.reltype, a.atttypid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
           WHERE c.reltype <> 0 AND c.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped), \
         reached (root, t) AS (SELECT r, r FROM unnest('{{{types}}}'::oid[]) r \
         UNION SELECT r.root, h.holder FROM reached r JOIN holds h ON h.held = r.t) \
         SELECT r.root, t.typname, NULL FROM reached r JOIN pg_type t ON t.oid = r.t \
         UNION ALL SELECT DISTINCT r.root, NULL::name, a.attrelid FROM reached r JOIN pg_attribute a \
           ON a.atttypid = r.t JOIN pg_class c ON c.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped \
           AND c.relkind IN ('r', 'p', 'f', 'v', 'm')"
    )
}

pub(super) const EVENT_TRIGGERS: &str = "SELECT 1 FROM pg_event_trigger WHERE evtenabled <> 'D' LIMIT 1";

/// Who is in a publication that says every change. Of a partitioned table: its leaves, or itself where the publication tells
/// their changes as its own. A list of columns leaves no change out, a condition on rows does.
pub(super) fn published(publication: &str) -> String {
    let name = publication.replace('\'', "''");
    // A backslash is itself: the connection's strings are standard ones.
    format!(
        "SELECT t.relid FROM pg_publication p, pg_get_publication_tables(p.pubname::text) t WHERE p.pubname = '{name}' \
         AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND t.qual IS NULL"
    )
}

/// Another text whenever something has changed that [`Facts`](policy::cache::catalog::Facts) or the answers themselves
/// depend on. A row that is written has a higher `xmin` than the one that it replaces, so that their sum grows when their
/// number stays. VACUUM and ANALYZE write to `pg_class` in place; what else they or TRUNCATE change of it is left out, but
/// for materialised views, whose REFRESH shows there. What is temporary is left out.
pub(super) fn fingerprint() -> String {
    format!("{BEGINNING}, {} {END_OF_IT}", changed_settings())
}

/// What sessions begin with where nobody has said otherwise: a reload of the server's files changes it for all at once, those
/// that are there among them.
fn changed_settings() -> String {
    format!(
        "(SELECT sum(hashtextextended(concat_ws('=', name, reset_val), 0)) FROM pg_settings \
         WHERE context IN ('user', 'superuser') AND {}),",
        policy::cache::changes_output_sql()
    )
}

const BEGINNING: &str = "WITH \
    schemas AS MATERIALIZED (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_(toast|toast_temp_.*|temp_.*)$'), \
    relations AS MATERIALIZED (SELECT c.oid, c.relkind, c.xmin::text::bigint AS x, hash_record_extended(ROW(c.oid, \
      c.relname, c.relnamespace, c.relkind, c.relpersistence, c.relowner, c.relrowsecurity, c.relforcerowsecurity, \
      c.relnatts, c.relispartition, c.relacl, c.reloptions), 0) AS h FROM pg_class c \
      WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relnamespace IN (SELECT oid FROM schemas)) \
    SELECT concat_ws(' ', pg_is_in_recovery(), current_setting('default_transaction_isolation'), \
    (SELECT reset_val FROM pg_settings WHERE name = 'search_path')";

const END_OF_IT: &str = "(SELECT concat(count(*), ' ', sum(h), ' ', sum(x) FILTER (WHERE relkind = 'm')) FROM relations), \
    (SELECT concat(count(*), ' ', sum(a.xmin::text::bigint)) FROM pg_attribute a JOIN relations c ON c.oid = a.attrelid \
      WHERE a.attnum > 0 AND c.relkind <> 'i'), \
    (SELECT concat(count(*), ' ', sum(a.xmin::text::bigint)) FROM pg_attrdef a JOIN relations c ON c.oid = a.adrelid), \
    (SELECT concat(count(*), ' ', sum(t.xmin::text::bigint)) FROM pg_trigger t JOIN relations c ON c.oid = t.tgrelid), \
    (SELECT concat(count(*), ' ', sum(i.xmin::text::bigint)) FROM pg_inherits i JOIN relations c ON c.oid = i.inhrelid), \
    (SELECT concat(count(*), ' ', sum(r.xmin::text::bigint)) FROM pg_rewrite r JOIN relations c ON c.oid = r.ev_class), \
    (SELECT concat(count(*), ' ', sum(p.xmin::text::bigint)) FROM pg_policy p JOIN relations c ON c.oid = p.polrelid), \
    (SELECT concat(count(*), ' ', sum(c.xmin::text::bigint)) FROM pg_constraint c \
      WHERE c.connamespace IN (SELECT oid FROM schemas)), \
    (SELECT concat(count(*), ' ', sum(p.xmin::text::bigint)) FROM pg_proc p \
      WHERE p.pronamespace IN (SELECT oid FROM schemas)), \
    (SELECT concat(count(*), ' ', sum(t.xmin::text::bigint)) FROM pg_type t \
      WHERE t.oid >= 16384 AND t.typnamespace IN (SELECT oid FROM schemas)), \
    (SELECT concat(count(*), ' ', sum(n.xmin::text::bigint)) FROM pg_namespace n \
      WHERE n.oid IN (SELECT oid FROM schemas)), \
    (SELECT concat(count(*), ' ', sum(hash_record_extended(ROW(oid, rolname, rolsuper, rolinherit, rolbypassrls, \
      rolcanlogin), 0))) FROM pg_roles), \
    (SELECT string_agg(concat(k, ' ', n, ' ', x), ' ' ORDER BY k) FROM ( \
      SELECT 1 AS k, count(*) AS n, sum(xmin::text::bigint) AS x FROM pg_operator WHERE oid >= 16384 \
      UNION ALL SELECT 2, count(*), sum(xmin::text::bigint) FROM pg_cast \
      UNION ALL SELECT 3, count(*), sum(xmin::text::bigint) FROM pg_enum \
      UNION ALL SELECT 4, count(*), sum(xmin::text::bigint) FROM pg_auth_members \
      UNION ALL SELECT 5, count(*), sum(xmin::text::bigint) FROM pg_db_role_setting \
      UNION ALL SELECT 6, count(*), sum(xmin::text::bigint) FROM pg_event_trigger \
      UNION ALL SELECT 7, count(*), sum(xmin::text::bigint) FROM pg_default_acl \
      UNION ALL SELECT 8, count(*), sum(xmin::text::bigint) FROM pg_publication \
      UNION ALL SELECT 9, count(*), sum(xmin::text::bigint) FROM pg_publication_rel \
      UNION ALL SELECT 10, count(*), sum(xmin::text::bigint) FROM pg_publication_namespace \
      UNION ALL SELECT 11, count(*), sum(xmin::text::bigint) FROM pg_ts_config_map \
      UNION ALL SELECT 12, count(*), sum(xmin::text::bigint) FROM pg_ts_dict \
      UNION ALL SELECT 13, count(*), sum(xmin::text::bigint) FROM pg_amop WHERE oid >= 16384 \
      UNION ALL SELECT 14, count(*), sum(xmin::text::bigint) FROM pg_amproc WHERE oid >= 16384 \
      UNION ALL SELECT 15, count(*), sum(xmin::text::bigint) FROM pg_collation WHERE oid >= 16384) small))";
