//! Tables whose rows row-level security may separate, and whom it holds for.
//!
//! What can only be told from trees is asked of the server: that what runs when a row is written, besides the policies,
//! is the server's own and sets nothing. Identifiers in a tree have a backslash before whatever divides it, so that none is
//! taken for a node.

use std::collections::{BTreeMap, BTreeSet};

use policy::cache::catalog::{ColumnOf, Facts, PolicyOf, Separable, ValueType, Who};

use super::{all, byte, is_true, number, text};
use crate::inspect::{Row, Session};

/// Tables that may be separated; with as many, none is.
const MAX_TABLES: usize = 10_000;
/// Owners times roles: with more, nothing is separated.
const MAX_PAIRS: usize = 200_000;

/// Numbers below 16384 are the server's own. A domain's checks run where a value is made one, which a tree shows.
const TABLES: &str = "WITH candidates AS MATERIALIZED ( \
    SELECT c.oid, c.relowner, c.relforcerowsecurity FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND c.relrowsecurity AND NOT c.relispartition \
      AND c.reloftype = 0 AND c.relam = 2 AND (c.relowner = 10 OR c.relowner >= 16384) AND c.oid >= 16384 \
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
      AND NOT EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) \
      AND NOT EXISTS (SELECT FROM pg_rewrite r WHERE r.ev_class = c.oid) \
      AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) \
      AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid \
        AND a.attnum > 0 AND NOT a.attisdropped AND t.oid >= 16384 AND t.typtype <> 'e') \
      AND NOT EXISTS (SELECT FROM pg_index i, unnest(i.indclass::oid[]) k JOIN pg_opclass o ON o.oid = k \
        JOIN pg_amproc s ON s.amprocfamily = o.opcfamily JOIN pg_proc p ON p.oid = s.amproc \
        JOIN pg_language l ON l.oid = p.prolang WHERE i.indrelid = c.oid AND p.oid >= 16384 AND l.lanname <> 'c')), \
    trees AS MATERIALIZED (SELECT c.oid, a.adbin::text AS tree FROM candidates c JOIN pg_attrdef a ON a.adrelid = c.oid \
      UNION ALL SELECT c.oid, k.conbin::text FROM candidates c JOIN pg_constraint k ON k.conrelid = c.oid \
        WHERE k.conbin IS NOT NULL \
      UNION ALL SELECT c.oid, concat(i.indexprs::text, i.indpred::text) FROM candidates c \
        JOIN pg_index i ON i.indrelid = c.oid WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL), \
    doubted AS (SELECT t.oid FROM trees t WHERE t.tree ~ 'COERCETODOMAIN' \
      UNION ALL SELECT t.oid FROM trees t, regexp_matches(t.tree, ':(?:result|funcresult|opresult)type (\\d+)', 'g') m \
        WHERE m[1]::oid >= 16384 \
      UNION ALL SELECT t.oid FROM trees t, regexp_matches(t.tree, ':(?:funcid|opfuncid) (\\d+)', 'g') m \
        LEFT JOIN pg_proc p ON p.oid = m[1]::oid WHERE p.oid IS NULL OR p.oid >= 16384 \
        OR p.proname ~ '_to_xml' OR p.proname ~ '^pg_input_' OR p.provolatile = 'v' AND p.proname NOT IN ('nextval', \
          'random', 'gen_random_uuid', 'clock_timestamp', 'timeofday', 'uuidv4', 'uuidv7') \
      UNION ALL SELECT o.polrelid FROM pg_policy o, \
        regexp_matches(concat(o.polqual::text, o.polwithcheck::text), ':(?:funcid|opfuncid) (\\d+)', 'g') m \
        LEFT JOIN pg_proc p ON p.oid = m[1]::oid WHERE p.oid IS NULL OR p.oid >= 16384 OR p.proname NOT IN ( \
          'current_setting', 'int2eq', 'int4eq', 'int8eq', 'int24eq', 'int42eq', 'int28eq', 'int82eq', 'int48eq', \
          'int84eq', 'texteq', 'uuid_eq')) \
    SELECT oid, relowner, relforcerowsecurity FROM candidates \
      WHERE oid NOT IN (SELECT oid FROM doubted) ORDER BY oid LIMIT 10000";

/// Those that rows may be separated by.
fn columns(tables: &str) -> String {
    format!(
        "SELECT a.attrelid, a.attname, CASE a.atttypid WHEN 2950 THEN 'u' WHEN 25 THEN 't' WHEN 1043 THEN 't' ELSE 'i' END \
         FROM pg_attribute a LEFT JOIN pg_collation l ON l.oid = a.attcollation \
         WHERE a.attrelid = ANY ('{{{tables}}}'::oid[]) AND a.attnum > 0 AND NOT a.attisdropped \
         AND a.atttypid IN (20, 21, 23, 25, 1043, 2950) AND (a.atttypid <> 1043 OR a.atttypmod = -1) \
         AND (a.attcollation = 0 OR l.collisdeterministic)"
    )
}

fn policies(tables: &str) -> String {
    format!(
        "SELECT polrelid, polpermissive, pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid) \
         FROM pg_policy WHERE polrelid = ANY ('{{{tables}}}'::oid[])"
    )
}

/// A role that begins as another one is not whom its session says.
const SUBJECT: &str = "SELECT rolname FROM pg_roles WHERE NOT rolsuper AND NOT rolbypassrls \
    AND NOT EXISTS (SELECT FROM pg_db_role_setting s, unnest(s.setconfig) c \
      WHERE c ~* '^(role|session_authorization)=')";

fn owners(owners: &str) -> String {
    format!(
        "SELECT o, r.rolname FROM unnest('{{{owners}}}'::oid[]) o, pg_roles r \
         WHERE NOT r.rolsuper AND NOT r.rolbypassrls AND pg_has_role(r.oid, o, 'USAGE')"
    )
}

/// Settings with a dot that a library has made: anybody's own are not listed.
const KNOWN_SETTINGS: &str = "SELECT lower(name) FROM pg_settings WHERE name LIKE '%.%'";

fn list(oids: impl Iterator<Item = u32>) -> String {
    oids.map(|oid| oid.to_string()).collect::<Vec<_>>().join(",")
}

/// Adds them to what is known.
pub(super) async fn read(session: &mut Session, facts: &mut Facts) -> Result<(), String> {
    let mut tables = all(session, TABLES, table).await?;
    if tables.is_empty() || tables.len() >= MAX_TABLES {
        return Ok(());
    }
    let subject = all(session, SUBJECT, |row| text(row, 0)).await?;
    let owned: BTreeSet<u32> = tables.iter().map(|table| table.owner).collect();
    if subject.is_empty() || owned.len().saturating_mul(subject.len()) > MAX_PAIRS {
        return Ok(());
    }
    let oids = list(tables.iter().map(|table| table.relation));
    for (relation, column) in all(session, &columns(&oids), column).await? {
        let table = tables.binary_search_by_key(&relation, |table| table.relation).ok();
        table.and_then(|at| tables.get_mut(at)).into_iter().for_each(|table| table.columns.push(column.clone()));
    }
    for (relation, policy) in all(session, &policies(&oids), policy).await? {
        let table = tables.binary_search_by_key(&relation, |table| table.relation).ok();
        table.and_then(|at| tables.get_mut(at)).into_iter().for_each(|table| table.policies.push(policy.clone()));
    }
    let mut owners_of: BTreeMap<u32, BTreeSet<Box<str>>> = owned.iter().map(|oid| (*oid, BTreeSet::new())).collect();
    let pairs =
        all(session, &owners(&list(owned.iter().copied())), |row| Some((number(row, 0)?, text(row, 1)?))).await?;
    for (owner, role) in pairs {
        owners_of.entry(owner).or_default().insert(role);
    }
    let known_settings = all(session, KNOWN_SETTINGS, |row| text(row, 0)).await?.into_iter().collect();
    facts.separable = tables;
    facts.who = Who { subject: subject.into_iter().collect(), owners: owners_of, known_settings };
    Ok(())
}

fn table(row: &Row) -> Option<Separable> {
    let (columns, policies) = (Vec::new(), Vec::new());
    Some(Separable { relation: number(row, 0)?, owner: number(row, 1)?, forced: is_true(row, 2), columns, policies })
}

fn column(row: &Row) -> Option<(u32, ColumnOf)> {
    let values = match byte(row, 2)? {
        b'i' => ValueType::Integer,
        b'u' => ValueType::Uuid,
        b't' => ValueType::Text,
        _ => return None,
    };
    Some((number(row, 0)?, ColumnOf { name: text(row, 1)?, values }))
}

fn policy(row: &Row) -> Option<(u32, PolicyOf)> {
    Some((number(row, 0)?, PolicyOf { permissive: is_true(row, 1), using: text(row, 2), check: text(row, 3) }))
}
