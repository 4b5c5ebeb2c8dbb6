//! Reading what a database's catalogue says about its functions.

use std::sync::Arc;

use policy::suspects::{Catalogue, Function, Object};

use super::session::{Row, Session};
use crate::aside::Kind;
use crate::pool::Pool;
use crate::shared::Shared;

/// Changes with every change of what the other two texts read.
const DIGEST: &str = "SELECT pg_catalog.concat_ws(' ', \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_proc WHERE oid >= 16384), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_trigger WHERE NOT tgisinternal), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_rewrite WHERE oid >= 16384), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_attrdef), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_constraint WHERE oid >= 16384), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_policy), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_inherits), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_index WHERE indexrelid >= 16384), \
    (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_event_trigger))";

/// Everything that does not come with the server. A body in standard SQL has no source: its whole definition is taken.
const FUNCTIONS: &str = "SELECT p.oid, p.proname, l.lanname, \
    CASE WHEN p.prosrc = '' AND l.lanname = 'sql' THEN left(pg_get_functiondef(p.oid), 65536) \
    ELSE left(p.prosrc, 65536) END \
    FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid >= 16384 ORDER BY p.oid LIMIT 20001";
const MAX_FUNCTIONS: usize = 20_000;

/// What runs what: function (f), whoever uses a relation (r) or writes to it (w), whoever changes a schema (e), whatever
/// cannot be told by name (x).
///
/// `pg_depend` is silent about the server's own functions. A view that calls set_config by itself is found by the numbers in
/// its tree; such a use is one of the function 0, which is [`OWN`].
const USES: &str = "WITH own AS (SELECT ' :(funcid|opfuncid) (' || string_agg(oid::text, '|') || ') ' AS called FROM pg_proc \
      WHERE pronamespace = 'pg_catalog'::regnamespace AND (proname IN ('set_config', 'setseed', 'query_to_xml', \
      'query_to_xml_and_xmlschema', 'query_to_xmlschema', 'ts_rewrite', 'ts_stat') \
      OR proname ~ '^pg_(try_)?advisory_lock')) SELECT u.a, u.b, u.c, u.d, k.relname FROM ( \
    SELECT 'f' AS a, d.refobjid AS b, 'w' AS c, t.tgrelid AS d FROM pg_depend d JOIN pg_trigger t ON t.oid = d.objid \
      WHERE d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, 'r', r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid \
      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'r', d.refobjid, 'r', r.ev_class FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid \
      WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> r.ev_class \
      AND d.refobjid >= 16384 \
    UNION ALL SELECT 'f', d.refobjid, 'w', a.adrelid FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid \
      WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, CASE WHEN c.conrelid = 0 THEN 'x' ELSE 'w' END, c.conrelid \
      FROM pg_depend d JOIN pg_constraint c ON c.oid = d.objid \
      WHERE d.classid = 'pg_constraint'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, 'r', p.polrelid FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid \
      WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, 'w', i.indrelid FROM pg_depend d JOIN pg_index i ON i.indexrelid = d.objid \
      WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, 'f', d.objid FROM pg_depend d \
      WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_proc'::regclass \
    UNION ALL SELECT 'f', d.refobjid, 'x', 0 FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass \
      AND d.classid IN ('pg_operator'::regclass, 'pg_cast'::regclass, 'pg_type'::regclass) \
    UNION ALL SELECT 'f', evtfoid, 'e', 0 FROM pg_event_trigger WHERE evtenabled <> 'D' \
    UNION ALL SELECT 'f', 0, 'r', r.ev_class FROM pg_rewrite r, own WHERE r.oid >= 16384 AND r.ev_action::text ~ own.called \
    UNION ALL SELECT 'f', 0, 'w', a.adrelid FROM pg_attrdef a, own WHERE a.adbin::text ~ own.called \
    UNION ALL SELECT 'f', 0, CASE WHEN c.conrelid = 0 THEN 'x' ELSE 'w' END, c.conrelid FROM pg_constraint c, own \
      WHERE c.conbin::text ~ own.called \
    UNION ALL SELECT 'f', 0, 'r', p.polrelid FROM pg_policy p, own \
      WHERE p.polqual::text ~ own.called OR p.polwithcheck::text ~ own.called \
    UNION ALL SELECT 'f', 0, 'w', t.tgrelid FROM pg_trigger t, own WHERE NOT t.tgisinternal AND t.tgqual::text ~ own.called \
    UNION ALL SELECT 'w', inhrelid, 'w', inhparent FROM pg_inherits \
    UNION ALL SELECT 'w', conrelid, 'w', confrelid FROM pg_constraint WHERE contype = 'f' \
    ) u LEFT JOIN pg_class k ON k.oid = u.d AND u.c IN ('r', 'w') LIMIT 200001";
const MAX_USES: usize = 200_000;

/// Stands for all of the server's own functions that change a session.
const OWN: u32 = 0;

/// What a look came to.
#[derive(Debug)]
pub(super) enum Look {
    /// No server answers.
    Absent,
    /// Nothing has changed.
    Same,
    /// Here it is.
    Read(Box<Read>),
    /// The server does not tell, or too much.
    Unreadable(String),
}

/// A catalogue, and what it is recognised by.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) digest: Box<[u8]>,
    pub(super) catalogue: Catalogue,
}

/// Connects, and reads the catalogue unless its digest is the known one.
pub(super) async fn look(shared: &Arc<Shared>, pool: &Arc<Pool>, known: Option<&[u8]>) -> Look {
    let Some(mut session) = Session::open(shared, pool, Kind::Inspection).await else { return Look::Absent };
    match read(&mut session, known).await {
        Ok(Some(read)) => Look::Read(Box::new(read)),
        Ok(None) => Look::Same,
        Err(why) => Look::Unreadable(why),
    }
}

async fn read(session: &mut Session, known: Option<&[u8]>) -> Result<Option<Read>, String> {
    session.prepare().await?;
    let digest = session.rows(DIGEST).await?.into_iter().flatten().flatten().next().unwrap_or_default();
    if known == Some(&*digest) {
        return Ok(None);
    }
    let mut functions: Vec<Function> = session.rows(FUNCTIONS).await?.iter().filter_map(function).collect();
    let rows = session.rows(USES).await?;
    if functions.len() > MAX_FUNCTIONS || rows.len() > MAX_USES {
        return Err(format!("it has more than {MAX_FUNCTIONS} functions, or {MAX_USES} uses of them"));
    }
    let uses: Vec<(Object, Object)> = rows.iter().filter_map(used).collect();
    if uses.iter().any(|(used, _)| *used == Object::Function(OWN)) {
        // No statement can name it: only what leads to it matters.
        let source = "select set_config('', '', false)".into();
        functions.push(Function { oid: OWN, name: "".into(), language: "sql".into(), source });
    }
    let relations = rows.iter().filter_map(|row| Some((number(row, 3)?, text(row, 4)?))).collect();
    Ok(Some(Read { digest, catalogue: Catalogue { functions, relations, uses } }))
}

fn text(row: &Row, at: usize) -> Option<Box<str>> {
    let value = row.get(at)?.as_deref()?;
    Some(String::from_utf8_lossy(value).into())
}

fn number(row: &Row, at: usize) -> Option<u32> {
    text(row, at)?.parse().ok()
}

fn function(row: &Row) -> Option<Function> {
    Some(Function {
        oid: number(row, 0)?,
        name: text(row, 1)?,
        language: text(row, 2)?,
        source: text(row, 3).unwrap_or_default(),
    })
}

fn used(row: &Row) -> Option<(Object, Object)> {
    let object = |kind: &str, oid| match kind {
        "f" => Some(Object::Function(oid)),
        "r" => Some(Object::Relation(oid)),
        "w" => Some(Object::Written(oid)),
        "e" => Some(Object::Definitions),
        "x" => Some(Object::Anything),
        _ => None,
    };
    Some((object(&text(row, 0)?, number(row, 1)?)?, object(&text(row, 2)?, number(row, 3)?)?))
}
