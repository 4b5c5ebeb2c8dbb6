//! Writes that reach the rows of one value alone, of a table whose rows are separated.
//!
//! Row-level security sees to it, whatever rows the text asks for, as long as nothing else than the statement itself writes
//! the table and nothing changes the setting, or whose rights hold, while it runs. Read from the text: it is one plain INSERT,
//! UPDATE or DELETE, it names the table itself, leads nowhere else, and calls nothing but the server's own functions that
//! set nothing and run nothing.

use super::super::text::{SEMICOLON, Text, may_be_a_construct};
use super::{Acts, Catalog, FIRST_OF_SOMEBODY, Function, Kind, Language, Name, Ops, Persistence, SYSTEM, Volatility};
use crate::clauses;
use crate::fingerprint::{Compat, normalise};
use crate::lexer::{Word, symbol};

const EQUALS: u64 = symbol("=");

/// Volatile functions of the server that leave nothing but a number that was drawn.
const DRAWS: &[&str] =
    &["nextval", "random", "gen_random_uuid", "clock_timestamp", "timeofday", "uuidv4", "uuidv7", "currval"];
/// Functions of the server that take a type by its name, and run what that has of somebody's own.
const RUN_A_TYPE: &[&str] = &["pg_input_is_valid", "pg_input_error_info"];

impl Catalog {
    /// The separated table that a statement writes to, if its rows of one value are all that it reaches. Plain strings in it
    /// have no escapes. Who runs it, under which value, and whether that is certain, is another question.
    ///
    /// Names are looked up in every schema: a table that shares its name with another one has to be named with its own.
    pub fn written_apart(&self, sql: &[u8]) -> Option<u32> {
        if !self.separates() || !self.trusts_operators() {
            return None;
        }
        let text = Text::new(sql);
        if text.broken || !is_one_plain_write(&text) {
            return None;
        }
        let acts = Acts::of(sql);
        let whole = acts.catalog || acts.anything || !acts.executes.is_empty();
        let mut targets = acts.targets.iter();
        let target = targets.next().filter(|_| !whole && targets.next().is_none())?;
        let table = self.only(&target.name)?;
        self.separation(table)?;
        let leads_on = Self::of(&self.foreign_keys, table).iter().any(|key| {
            target.ops.has(Ops::DELETE) && !key.on_delete.is_none()
                || target.ops.has(Ops::UPDATE) && !key.on_update.is_none()
        });
        if leads_on || target.ops.has(Ops::TRUNCATE | Ops::TRUNCATE_CASCADE | Ops::REFRESH) {
            return None;
        }
        let plain = self.knows_all_tables(&text) && (0..text.tokens.len()).all(|at| self.leaves_all_alone(&text, at));
        plain.then_some(table)
    }

    /// The one relation of this name, in whichever schema.
    fn only(&self, name: &Name) -> Option<u32> {
        match *self.candidates(name, None).as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether each name that stands where a table does is a relation's: what is not may be a view of the session's own,
    /// which leads anywhere. (Its session is set apart for having made one; this does not rely on that alone.) In a list
    /// behind SET a column stands where a table may, with what it is set to behind it.
    fn knows_all_tables(&self, text: &Text<'_>) -> bool {
        let is_set = |name: &str| {
            (0..text.tokens.len()).any(|at| text.is(at + 1, EQUALS) && text.name(at).is_some_and(|own| own == name))
        };
        let known = |shown: &str| {
            let last = shown.rsplit('.').next().unwrap_or(shown);
            [shown, last].iter().any(|name| self.by_name.contains_key(*name)) || is_set(shown)
        };
        clauses::tables(&normalise(text.sql, Compat::V15)).is_some_and(|tables| tables.iter().all(|table| known(table)))
    }

    /// Whether a token names and calls nothing that may set, run or write anything of its own.
    fn leaves_all_alone(&self, text: &Text<'_>, at: usize) -> bool {
        if text.call(at).is_some_and(|call| !self.is_quiet_call(&call)) {
            return false;
        }
        let Some(name) = text.name(at) else { return true };
        // What is the server's own is called, or stands where nothing is read.
        if name.starts_with("pg_") && name != SYSTEM && text.call(at).is_none() {
            return false;
        }
        let called_by_column = self.functions_by_name.get(name.as_str()).into_iter().flatten();
        let runs = called_by_column.filter_map(|oid| self.functions.get(oid)).any(|function| function.takes_row);
        !runs
            && !self.doubts_type(&name)
            && self.by_name.get(name.as_str()).into_iter().flatten().all(|oid| self.is_quiet(*oid))
    }

    /// Whether reading a relation runs nothing of anybody's.
    fn is_quiet(&self, oid: u32) -> bool {
        let Some(relation) = self.relation(oid) else { return false };
        let rows = matches!(relation.kind, Kind::Table | Kind::Partitioned) && !relation.own_types;
        let secured = relation.row_security && self.separation(oid).is_none();
        // A partition's own policies do not count where it is read through its parent; here they are not asked for.
        let kept = relation.persistence != Persistence::Temporary;
        kept && !secured
            && (rows || relation.kind == Kind::Sequence)
            && self.descendants(oid).iter().all(|part| {
                self.relation(*part)
                    .is_some_and(|part| matches!(part.kind, Kind::Table | Kind::Partitioned) && !part.own_types)
            })
    }

    fn is_quiet_call(&self, name: &Name) -> bool {
        if may_be_a_construct(name) && self.volatility(name).is_none() {
            return true;
        }
        let plain = name.name.as_str();
        let mut known = false;
        let quiet = self.functions_named(name).all(|function: &Function| {
            known = true;
            *function.schema == *SYSTEM
                && function.oid < FIRST_OF_SOMEBODY
                && function.language != Language::C
                && (function.volatility != Volatility::Volatile || DRAWS.contains(&plain))
        });
        known && quiet && plain != "set_config" && !plain.contains("_to_xml") && !RUN_A_TYPE.contains(&plain)
    }
}

/// Whether a text is one INSERT, UPDATE or DELETE with no WITH and no cursor.
fn is_one_plain_write(text: &Text<'_>) -> bool {
    let end = text.tokens.iter().rposition(|token| !token.is(SEMICOLON)).map_or(0, |last| last + 1);
    let is_one = !text.tokens.iter().take(end).any(|token| token.is(SEMICOLON));
    let writes = matches!(text.word(0), Word::Insert | Word::Update | Word::Delete);
    let strange = |at: usize| text.word(at) == Word::With || text.says(at, "current") && text.says(at + 1, "of");
    is_one && writes && !(0..end).any(strange)
}
