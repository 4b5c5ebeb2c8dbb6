//! What a database is asked.

use super::hearing::{Heard, Listed, Publication, Server, Wanted};
use crate::inspect::{Row, Session};

const SERVER: &str = "SELECT current_setting('server_version'), current_setting('wal_level'), \
    current_setting('max_replication_slots'), (SELECT count(*) FROM pg_replication_slots), \
    current_setting('max_wal_senders'), (SELECT count(*) FROM pg_stat_replication), \
    pg_is_in_recovery(), quote_ident(current_user), \
    (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user), \
    current_setting('default_transaction_isolation')";

/// What the server is.
pub(super) async fn server(session: &mut Session) -> Result<Server, String> {
    let rows = session.rows(SERVER).await?;
    let row = rows.first().ok_or("it says nothing of itself")?;
    let number = |column| text(row, column).parse().unwrap_or(0);
    Ok(Server {
        version: text(row, 0),
        wal_level: text(row, 1),
        max_slots: number(2),
        slots: number(3),
        max_senders: number(4),
        senders: number(5),
        standby: is_true(row, 6),
        user: text(row, 7),
        replicates: is_true(row, 8),
        isolation: text(row, 9),
    })
}

/// What of its tables can be heard of.
pub(super) async fn heard(session: &mut Session, publication: &str, wanted: &Wanted) -> Result<Heard, String> {
    let name = literal(publication);
    let known = format!(
        "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate, pubviaroot \
         FROM pg_publication WHERE pubname = {name}"
    );
    let known = session.rows(&known).await?;
    let quoted = session.rows(&format!("SELECT quote_ident({name})")).await?;
    let publication = Publication {
        quoted: quoted.first().map(|row| text(row, 0)).unwrap_or_default(),
        is_there: !known.is_empty(),
        all_tables: known.first().is_some_and(|row| is_true(row, 0)),
        all_changes: known.first().is_none_or(|row| is_true(row, 1)),
        by_root: known.first().is_some_and(|row| is_true(row, 2)),
    };
    let (mut tables, mut unmatched) = (Vec::new(), Vec::new());
    if !wanted.tables.is_empty() {
        let rows = session.rows(&tables_of(&name, wanted)).await?;
        tables.extend(rows.iter().map(listed));
        let found = session.rows(&matches_of(wanted)).await?;
        let is_matched = |place: &usize| found.iter().any(|row| text(row, 0) == place.to_string());
        let places = (0..wanted.tables.len()).filter(|place| !is_matched(place));
        unmatched.extend(places.filter_map(|place| wanted.tables.get(place).cloned()));
    }
    Ok(Heard { publication, tables, unmatched })
}

fn listed(row: &Row) -> Listed {
    Listed {
        name: text(row, 0),
        part: is_true(row, 1),
        published: is_true(row, 2),
        filtered: is_true(row, 3),
        identified: is_true(row, 4),
        index: Some(text(row, 5)).filter(|index| !index.is_empty()),
    }
}

/// Relations that a rule can be about.
const RELATIONS: &str = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence = 'p' \
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v')";

/// The tables that rules name, those that views read which they name, those that their policies read, and parts of all.
fn tables_of(publication: &str, wanted: &Wanted) -> String {
    let named: Vec<String> = wanted.tables.iter().map(|table| condition(table)).collect();
    format!(
        "WITH RECURSIVE reached AS ( \
           SELECT c.oid, false AS part FROM {RELATIONS} AND ({named}) \
           UNION \
           SELECT next.oid, next.part FROM reached r JOIN pg_class c ON c.oid = r.oid CROSS JOIN LATERAL ( \
             SELECT d.refobjid AS oid, false AS part FROM pg_rewrite w \
               JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
               WHERE c.relkind = 'v' AND w.ev_class = r.oid AND d.refclassid = 'pg_class'::regclass \
                 AND d.refobjid <> r.oid \
             UNION ALL \
             SELECT d.refobjid, false FROM pg_policy p \
               JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid \
               WHERE c.relrowsecurity AND p.polrelid = r.oid AND d.refclassid = 'pg_class'::regclass \
                 AND d.refobjid <> r.oid \
             UNION ALL \
             SELECT i.inhrelid, true FROM pg_inherits i WHERE i.inhparent = r.oid \
           ) next \
         ), published AS MATERIALIZED ( \
           SELECT c.oid, to_jsonb(p) ->> 'rowfilter' IS NOT NULL AS filtered FROM pg_publication_tables p \
           JOIN pg_namespace n ON n.nspname = p.schemaname \
           JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = p.tablename WHERE p.pubname = {publication} \
         ) \
         SELECT format('%I.%I', n.nspname, c.relname), t.part, \
           CASE WHEN c.relkind = 'r' OR c.oid IN (SELECT oid FROM published) THEN c.oid IN (SELECT oid FROM published) \
             ELSE COALESCE((SELECT bool_and(l.relid IN (SELECT oid FROM published)) \
               FROM pg_partition_tree(c.oid) l WHERE l.isleaf), false) END, \
           c.oid IN (SELECT oid FROM published WHERE filtered), \
           CASE WHEN c.relkind = 'p' OR c.relreplident = 'f' THEN true \
             WHEN c.relreplident = 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) \
             ELSE EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident) END, \
           (SELECT min(quote_ident(x.relname)) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid \
             WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate AND i.indisvalid \
               AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a \
                 WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey::int2[]) AND NOT a.attnotnull)) \
         FROM (SELECT oid, bool_and(part) AS part FROM reached GROUP BY oid) t \
         JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname !~ '^pg_' \
           AND n.nspname <> 'information_schema' \
         ORDER BY 1",
        named = named.join(" OR ")
    )
}

/// The places of those names that something is called by.
fn matches_of(wanted: &Wanted) -> String {
    let anything = RELATIONS.replace("('r', 'p', 'v')", "('r', 'p', 'v', 'm')");
    let one = |(place, table): (usize, &String)| {
        format!("SELECT {place} WHERE EXISTS (SELECT FROM {anything} AND {})", condition(table))
    };
    wanted.tables.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ")
}

/// What holds for a relation that a rule's table means. The configuration has checked how it is written.
fn condition(table: &str) -> String {
    let (schema, name) = table.split_once('.').map_or((None, table), |(schema, name)| (Some(schema), name));
    let schema = schema.map_or_else(String::new, |schema| format!("n.nspname = {} AND ", literal(schema)));
    let name = match name.strip_suffix('*') {
        Some(start) => format!("starts_with(c.relname, {})", literal(start)),
        None => format!("c.relname = {}", literal(name)),
    };
    format!("({schema}{name})")
}

/// As a constant, whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn text(row: &Row, column: usize) -> String {
    let value = row.get(column).and_then(Option::as_deref);
    value.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

fn is_true(row: &Row, column: usize) -> bool {
    text(row, column) == "t"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_quotes() {
        assert_eq!(condition("runs"), "(c.relname = E'runs')");
        assert_eq!(condition("audit.log_*"), "(n.nspname = E'audit' AND starts_with(c.relname, E'log_'))");
        assert_eq!(condition("*"), "(starts_with(c.relname, E''))");
        assert_eq!(literal(r"a'\' OR true --"), r"E'a''\\'' OR true --'");
    }
}
