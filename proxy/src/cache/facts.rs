//! What a database's catalog says, read by a connection of our own.

mod paths;
mod queries;
mod separable;

use std::collections::{BTreeMap, BTreeSet};

use policy::cache::catalog::{
    Facts, ForeignKey, Function, Kind, Language, Ops, Persistence, Policy, Relation, Rewrite, Trigger, Volatility,
    rule_actions,
};
use policy::cache::{Bypass, Isolation};

pub use paths::{Paths, parse_path};

use crate::inspect::{Row, Session};

/// The oldest server whose catalog has all that is asked for.
const OLDEST: u32 = 150_000;

/// What one reading has brought.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) facts: Facts,
    pub(crate) paths: Paths,
    /// See [`View::published`](super::View::published).
    pub(crate) published: BTreeSet<u32>,
    /// See [`View::unfit`](super::View::unfit).
    pub(crate) unfit: Option<Bypass>,
    /// What it all looked like.
    pub(crate) fingerprint: Fingerprint,
    /// The settings that roles and databases begin with. Who has logged in before they changed has the old ones.
    pub(crate) defaults: Vec<Row>,
}

/// Another one whenever something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(Box<[u8]>);

/// Reads all of it in one snapshot. The session is one that [`Session::prepare`] has made.
///
/// # Errors
/// Why it cannot be read.
pub(crate) async fn read(session: &mut Session, publication: &str) -> Result<Read, String> {
    session.rows(queries::BEGIN).await?;
    let state = session.rows(queries::STATE).await?.pop().ok_or("it says nothing of itself")?;
    if number(&state, 4).is_none_or(|version| version < OLDEST) {
        return Err("PostgreSQL 15 or later is needed".to_owned());
    }
    let fingerprint = fingerprint(session).await?;
    let mut defaults = session.rows(queries::DEFAULTS).await?;
    defaults.retain(|row| {
        let setting = text(row, 3).unwrap_or_default();
        setting.split_once('=').is_none_or(|(name, _)| policy::cache::changes_output(name))
    });
    let paths = read_paths(session, &state, &defaults).await?;
    let facts = read_facts(session).await?;
    let listed = session.rows(&queries::published(publication)).await?;
    let listed: BTreeSet<u32> = listed.iter().filter_map(|row| number(row, 0)).collect();
    session.rows(queries::END).await?;
    let published = published(&facts, &listed);
    Ok(Read { published, unfit: unfit(&state, &defaults), facts, paths, fingerprint, defaults })
}

/// What the catalog looks like now, in one look.
///
/// # Errors
/// Why that cannot be told.
pub(crate) async fn fingerprint(session: &mut Session) -> Result<Fingerprint, String> {
    let said = session.rows(&queries::fingerprint()).await?.into_iter().flatten().flatten().next();
    said.map(Fingerprint).ok_or_else(|| "its catalog cannot be looked at".to_owned())
}

async fn read_paths(session: &mut Session, state: &Row, defaults: &[Row]) -> Result<Paths, String> {
    let rows = session.rows(queries::SCHEMAS).await?;
    let schemas: BTreeSet<Box<str>> = rows.iter().filter_map(|row| text(row, 0)).collect();
    let by_role = |server| Paths::new(schemas.clone(), defaults.iter().filter_map(default_path), server);
    // What we have begun with ourselves is the server's own, unless something of ours stands before it.
    let user = text(state, 3).unwrap_or_default();
    if !by_role(None).colours(&user) {
        return Ok(by_role(text(state, 2)));
    }
    if !is_true(state, 5) {
        return Ok(by_role(None));
    }
    let server = session.rows(queries::SERVER_PATH).await?;
    Ok(by_role(server.first().and_then(|row| text(row, 0))))
}

/// A row about `search_path`. A role without a name is one that was dropped meanwhile.
fn default_path(row: &Row) -> Option<(bool, Option<Box<str>>, Box<str>)> {
    let (role, setting) = (text(row, 1), text(row, 3)?);
    let (name, value) = setting.split_once('=')?;
    if !name.eq_ignore_ascii_case("search_path") || (is_true(row, 2) && role.is_none()) {
        return None;
    }
    Some((is_true(row, 0), role, value.into()))
}

fn unfit(state: &Row, defaults: &[Row]) -> Option<Bypass> {
    if is_true(state, 0) {
        return Some(Bypass::Standby);
    }
    let own = text(state, 1);
    let settings = defaults.iter().filter_map(|row| text(row, 3));
    let of_roles = settings.filter_map(|setting| {
        let (name, value) = setting.split_once('=')?;
        name.eq_ignore_ascii_case("default_transaction_isolation").then(|| value.into())
    });
    let is_other = |level: Box<str>| Isolation::named(&level) != Isolation::ReadCommitted;
    own.into_iter().chain(of_roles).any(is_other).then_some(Bypass::Isolation)
}

async fn read_facts(session: &mut Session) -> Result<Facts, String> {
    let mut facts = Facts {
        relations: all(session, queries::RELATIONS, relation).await?,
        inherits: all(session, queries::INHERITS, |row| Some((number(row, 0)?, number(row, 1)?))).await?,
        foreign_keys: all(session, queries::FOREIGN_KEYS, foreign_key).await?,
        triggers: all(session, queries::TRIGGERS, trigger).await?,
        functions: all(session, queries::FUNCTIONS, function).await?,
        rewrites: all(session, queries::REWRITES, rewrite).await?,
        policies: all(session, queries::POLICIES, policy).await?,
        operators: all(session, queries::OPERATORS, |row| Some((text(row, 0)?, number(row, 1)?))).await?,
        event_triggers: !session.rows(queries::EVENT_TRIGGERS).await?.is_empty(),
        ..Facts::default()
    };
    read_types(session, &mut facts).await?;
    separable::read(session, &mut facts).await?;
    Ok(facts)
}

/// What runs unseen where a column is of a type of somebody's own.
async fn read_types(session: &mut Session, facts: &mut Facts) -> Result<(), String> {
    let functions = all(session, queries::TYPE_FUNCTIONS, |row| Some((number(row, 0)?, number(row, 1)?))).await?;
    let doubted = session.rows(queries::DOUBTED_TYPES).await?;
    let any_type = doubted.iter().any(|row| number(row, 0).is_none());
    let doubted: BTreeSet<u32> = doubted.iter().filter_map(|row| number(row, 0)).collect();
    let types: BTreeSet<u32> = functions.iter().map(|(held, _)| *held).chain(doubted.iter().copied()).collect();
    if types.is_empty() {
        return Ok(());
    }
    let mut own_types = BTreeSet::new();
    for row in session.rows(&queries::holders(&types)).await? {
        let held = number(&row, 0).ok_or("its types are not as expected")?;
        match number(&row, 2) {
            None if doubted.contains(&held) => facts.types.extend(text(&row, 1)),
            None => {}
            Some(relation) => {
                let runs = functions.iter().filter(|(by, _)| *by == held);
                let trigger = |function| Trigger { relation, function, ops: Ops::INSERT | Ops::UPDATE };
                facts.triggers.extend(runs.map(|(_, function)| trigger(*function)));
                if doubted.contains(&held) {
                    own_types.insert(relation);
                }
            }
        }
    }
    for relation in &mut facts.relations {
        relation.own_types = any_type || own_types.contains(&relation.oid);
    }
    Ok(())
}

/// All rows, each of which has to be understood: one that is left out could be the one that matters.
async fn all<T>(session: &mut Session, sql: &str, read: impl Fn(&Row) -> Option<T>) -> Result<Vec<T>, String> {
    let rows = session.rows(sql).await?;
    rows.iter().map(read).collect::<Option<_>>().ok_or_else(|| "its catalog is not as expected".to_owned())
}

/// What is published as a whole: listed itself or, of a partitioned table, every leaf of it; and what is a part of it. A
/// view has no rows of its own. A materialised one is in no publication: whether it may be read is a rule's word, and that
/// it was refreshed shows in the fingerprint.
fn published(facts: &Facts, listed: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    facts.inherits.iter().for_each(|(child, parent)| children.entry(*parent).or_default().push(*child));
    let kinds: BTreeMap<u32, Kind> = facts.relations.iter().map(|relation| (relation.oid, relation.kind)).collect();
    let is_whole = |oid: u32| {
        let (mut queue, mut seen) = (vec![oid], BTreeSet::new());
        while let Some(next) = queue.pop() {
            if !seen.insert(next) {
                continue;
            }
            let is_partitioned = kinds.get(&next) == Some(&Kind::Partitioned);
            if !listed.contains(&next) && !is_partitioned {
                return false;
            }
            // The changes of all leaves are told as those of a partitioned table that is listed itself.
            if !(is_partitioned && listed.contains(&next)) {
                queue.extend(children.get(&next).into_iter().flatten());
            }
        }
        true
    };
    let is_published =
        |relation: &&Relation| matches!(relation.kind, Kind::View | Kind::Materialized) || is_whole(relation.oid);
    facts.relations.iter().filter(is_published).map(|relation| relation.oid).collect()
}

fn text(row: &Row, at: usize) -> Option<Box<str>> {
    let value = row.get(at)?.as_deref()?;
    std::str::from_utf8(value).ok().map(Box::from)
}

fn number(row: &Row, at: usize) -> Option<u32> {
    text(row, at)?.parse().ok()
}

fn byte(row: &Row, at: usize) -> Option<u8> {
    row.get(at)?.as_deref()?.first().copied()
}

fn is_true(row: &Row, at: usize) -> bool {
    byte(row, at) == Some(b't')
}

fn relation(row: &Row) -> Option<Relation> {
    Some(Relation {
        oid: number(row, 0)?,
        schema: text(row, 1)?,
        name: text(row, 2)?,
        kind: Kind::of(byte(row, 3)?),
        persistence: Persistence::of(byte(row, 4)?),
        row_security: is_true(row, 5),
        own_types: false,
    })
}

fn foreign_key(row: &Row) -> Option<ForeignKey> {
    Some(ForeignKey::of(number(row, 0)?, number(row, 1)?, byte(row, 2)?, byte(row, 3)?))
}

fn trigger(row: &Row) -> Option<Trigger> {
    let ops = Ops::of_trigger(text(row, 2)?.parse().ok()?);
    Some(Trigger { relation: number(row, 0)?, function: number(row, 1)?, ops })
}

fn function(row: &Row) -> Option<Function> {
    Some(Function {
        oid: number(row, 0)?,
        schema: text(row, 1)?,
        name: text(row, 2)?,
        volatility: Volatility::of(byte(row, 3)?),
        language: Language::of(&text(row, 4)?),
        source: text(row, 5)?,
        takes_row: is_true(row, 6),
    })
}

fn rewrite(row: &Row) -> Option<Rewrite> {
    let (ops, source) = (Ops::of_rule(byte(row, 1)?), text(row, 2)?);
    let uses = text(row, 3).unwrap_or_default();
    let uses: Option<Vec<u32>> = uses.split(',').filter(|oid| !oid.is_empty()).map(|oid| oid.parse().ok()).collect();
    let text = if ops.is_none() { source } else { rule_actions(&source).into() };
    Some(Rewrite { relation: number(row, 0)?, ops, text, uses: uses?.into() })
}

fn policy(row: &Row) -> Option<Policy> {
    Some(Policy { relation: number(row, 0)?, text: text(row, 1)? })
}
