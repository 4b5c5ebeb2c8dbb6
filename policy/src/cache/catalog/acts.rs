//! What a text does to tables, as far as the text says it: of a statement, or of a function's body.
//!
//! No parser: every word that can begin a write is taken for one wherever it stands, and what cannot be told is everything.
//! A body is read as a whole, whichever of its branches are taken.

use std::collections::BTreeSet;
use std::ops::BitOr;

use super::super::text::{CLOSE, COMMA, DOT, OPEN, SEMICOLON, Text};
use super::{Language, Name};
use crate::lexer::{Kind, Word, symbol};

/// Ways to write to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ops(u8);

impl Ops {
    /// None.
    pub const NONE: Self = Self(0);
    /// INSERT, COPY FROM.
    pub const INSERT: Self = Self(1);
    /// UPDATE.
    pub const UPDATE: Self = Self(2);
    /// DELETE.
    pub const DELETE: Self = Self(4);
    /// TRUNCATE.
    pub const TRUNCATE: Self = Self(8);
    /// TRUNCATE … CASCADE.
    pub const TRUNCATE_CASCADE: Self = Self(16);
    /// REFRESH MATERIALIZED VIEW.
    pub const REFRESH: Self = Self(32);
    /// Each of them on its own.
    pub const EACH: [Self; 6] =
        [Self::INSERT, Self::UPDATE, Self::DELETE, Self::TRUNCATE, Self::TRUNCATE_CASCADE, Self::REFRESH];

    /// Whether it has any of these.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there are none.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// By `tgtype` of `pg_trigger`.
    pub fn of_trigger(tgtype: i16) -> Self {
        let bit = |from: i16, to: Self| if tgtype & from != 0 { to.0 } else { 0 };
        let truncate = Self(Self::TRUNCATE.0 | Self::TRUNCATE_CASCADE.0);
        Self(bit(4, Self::INSERT) | bit(8, Self::DELETE) | bit(16, Self::UPDATE) | bit(32, truncate))
    }

    /// By `ev_type` of `pg_rewrite`; `None`: SELECT.
    pub const fn of_rule(ev_type: u8) -> Option<Self> {
        match ev_type {
            b'1' => None,
            b'2' => Some(Self::UPDATE),
            b'3' => Some(Self::INSERT),
            _ => Some(Self::DELETE),
        }
    }
}

impl BitOr for Ops {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A table that is written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its name.
    pub name: Name,
    /// How.
    pub ops: Ops,
}

/// What a text does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// The tables that it writes to by name.
    pub targets: BTreeSet<Target>,
    /// The functions and procedures that it calls.
    pub calls: BTreeSet<Name>,
    /// Operators that are no punctuation: they may be somebody's own, and call functions too.
    pub operators: BTreeSet<Box<str>>,
    /// Statements that it executes by a name that PREPARE gave them: what those do belongs to it.
    pub executes: BTreeSet<String>,
    /// It changes the catalog.
    pub catalog: bool,
    /// It may do anything.
    pub anything: bool,
}

/// Statements that change the catalog, by their first words.
const SCHEMA: [Word; 10] = [
    Word::Create,
    Word::Alter,
    Word::Drop,
    Word::Grant,
    Word::Revoke,
    Word::Comment,
    Word::Security,
    Word::Import,
    Word::Reassign,
    Word::Load,
];
/// First words of statements that touch no table that could be read from a cache: what they leave behind is a session's,
/// a transaction's, or how rows are stored.
const HARMLESS: [Word; 30] = [
    Word::Begin,
    Word::Start,
    Word::Commit,
    Word::End,
    Word::Rollback,
    Word::Abort,
    Word::Savepoint,
    Word::Release,
    Word::Set,
    Word::Reset,
    Word::Show,
    Word::Deallocate,
    Word::Fetch,
    Word::Move,
    Word::Close,
    Word::Listen,
    Word::Unlisten,
    Word::Notify,
    Word::Discard,
    Word::Lock,
    Word::Vacuum,
    Word::Analyze,
    Word::Analyse,
    Word::Cluster,
    Word::Reindex,
    Word::Checkpoint,
    Word::Prepare,
    Word::Explain,
    Word::Declare,
    Word::Values,
];

impl Acts {
    /// What a statement does, or several. Plain strings in it have no escapes: where a session's
    /// `standard_conforming_strings` is off, the answer is [`Footprint::unknown`](crate::cache::Footprint::unknown).
    ///
    /// ```
    /// use policy::cache::catalog::{Acts, Ops};
    /// let acts = Acts::of(b"with gone as (delete from runs returning *) insert into log select * from gone");
    /// let names: Vec<_> = acts.targets.iter().map(|target| (target.name.name.as_str(), target.ops)).collect();
    /// assert_eq!(names, [("log", Ops::INSERT), ("runs", Ops::DELETE)]);
    /// ```
    pub fn of(sql: &[u8]) -> Self {
        let text = Text::new(sql);
        let mut acts = Self { anything: text.broken, ..Self::default() };
        let mut from = 0;
        // A semicolon inside of parentheses, or of a function's body in SQL, divides nothing; to divide there as well only
        // finds more beginnings of statements.
        for to in 0..=text.tokens.len() {
            if to == text.tokens.len() || text.is(to, SEMICOLON) {
                acts.statement(&text, from, to);
                from = to + 1;
            }
        }
        acts
    }

    /// What a function does that has this body.
    pub fn of_body(source: &str, language: Language) -> Self {
        let text = Text::new(source.as_bytes());
        let mut acts = Self { anything: text.broken || !language.is_readable(), ..Self::default() };
        for at in 0..text.tokens.len() {
            let begins = Self::begins_in_body(&text, at);
            acts.anything |= match text.word(at) {
                // Of a text that is put together.
                Word::Execute => true,
                // Not that of ON CONFLICT, nor that of a rule.
                Word::Do => !text.says_one_of(at + 1, &["nothing", "update", "instead", "also"]),
                Word::Copy => begins,
                _ => false,
            };
            // SELECT … INTO assigns in PL/pgSQL, and is not allowed in SQL.
            acts.catalog |= match text.word(at) {
                Word::Create | Word::Grant => true,
                word => begins && SCHEMA.contains(&word),
            };
            acts.word(&text, at, false);
        }
        acts
    }

    /// Whether a statement of a body may begin there.
    fn begins_in_body(text: &Text<'_>, at: usize) -> bool {
        let Some(before) = text.before(at, 1) else { return true };
        before.is(SEMICOLON)
            || before.is(symbol(">>"))
            || matches!(before.word, Word::Begin | Word::Atomic | Word::Then | Word::Else)
            || text.token_says(before, "loop")
    }

    fn statement(&mut self, text: &Text<'_>, from: usize, to: usize) {
        let first = (from..to).find(|at| !text.is(*at, OPEN)).unwrap_or(to);
        if first == to {
            return;
        }
        let word = text.word(first);
        // EXPLAIN without ANALYZE runs nothing. Wherever the word stands, and whether or not it is switched off.
        // In quotes an option may be any of them.
        let quoted = |at: usize| text.get(at).is_some_and(|token| token.kind == Kind::Quoted);
        let analyzes = |at: usize| matches!(text.word(at), Word::Analyze | Word::Analyse) || quoted(at);
        if word == Word::Explain && !(first..to).any(analyzes) {
            return;
        }
        match word {
            // What another session has begun, or another process before this one was there. Its rows are held until then
            // where that is known; here nobody knows. ROLLBACK PREPARED changes nothing.
            Word::Commit if text.says(first + 1, "prepared") => self.anything = true,
            Word::Do => self.block(text, first, to),
            Word::Execute => self.executes.extend(text.name(first + 1)),
            Word::Call => self.anything |= (first + 1..to.min(first + 8)).all(|at| text.call(at).is_none()),
            Word::Truncate => self.truncate(text, first, to),
            Word::Refresh => self.refresh(text, first),
            // What a prepared statement does it does when it is executed.
            Word::Prepare if text.word(first + 1) != Word::Transaction => return,
            _ if SCHEMA.contains(&word) => self.catalog = true,
            Word::Select
            | Word::With
            | Word::Insert
            | Word::Update
            | Word::Delete
            | Word::Merge
            | Word::Copy
            | Word::Table => {}
            _ if HARMLESS.contains(&word) => {}
            _ => self.anything = true,
        }
        for at in from..to {
            if text.word(at) == Word::Execute && at > first {
                self.executes.extend(text.name(at + 1));
            }
            // Also in a member of a WITH it would have to be told; CREATE TABLE AS in all but name.
            self.catalog |=
                text.word(at) == Word::Into && !matches!(text.word_before(at, 1), Word::Insert | Word::Merge);
            self.word(text, at, at == first);
        }
    }

    /// Writes and calls that begin at this token.
    fn word(&mut self, text: &Text<'_>, at: usize, is_first: bool) {
        let before = text.word_before(at, 1);
        // `t.update` is a column.
        if text.before(at, 1).is_some_and(|before| before.is(DOT)) {
            return self.calls.extend(text.call(at));
        }
        let only = |at: usize| if text.word(at) == Word::Only { at + 1 } else { at };
        match text.word(at) {
            Word::Insert if text.word(at + 1) == Word::Into => {
                // ON CONFLICT … DO UPDATE, of whichever INSERT of the text it is.
                let updates = text.holds_conflict();
                self.target(text, at + 2, if updates { Ops::INSERT | Ops::UPDATE } else { Ops::INSERT });
            }
            Word::Merge if text.word(at + 1) == Word::Into => {
                self.target(text, only(at + 2), Ops::INSERT | Ops::UPDATE | Ops::DELETE);
            }
            Word::Delete if text.word(at + 1) == Word::From => self.target(text, only(at + 2), Ops::DELETE),
            // FOR UPDATE, FOR NO KEY UPDATE, DO UPDATE SET, THEN UPDATE SET: of what is named elsewhere.
            // A table may be called `set`.
            Word::Update if matches!(before, Word::For | Word::Key | Word::On) => {}
            Word::Update
                if matches!(before, Word::Do | Word::Then)
                    && text.word(at + 1) == Word::Set
                    && text.word(at + 2) != Word::Set => {}
            Word::Update => self.target(text, only(at + 1), Ops::UPDATE),
            Word::Copy
                if is_first && !text.is(at + 1, OPEN) && text.tokens.iter().any(|token| token.word == Word::From) =>
            {
                self.target(text, at + 1, Ops::INSERT);
            }
            Word::Truncate if !is_first => self.truncate(text, at, text.tokens.len()),
            Word::Refresh if !is_first => self.refresh(text, at),
            _ => {}
        }
        self.calls.extend(text.call(at));
        let Some(token) = text.get(at).filter(|token| token.kind == Kind::Symbol) else { return };
        let plain = [OPEN, CLOSE, DOT, COMMA, SEMICOLON].contains(&token.key);
        if !plain && let Ok(operator) = std::str::from_utf8(token.of(text.sql)) {
            self.operators.insert(operator.into());
        }
    }

    fn target(&mut self, text: &Text<'_>, at: usize, ops: Ops) {
        // A name that may be a column's: `update` is no reserved word. What is no table then is nobody's.
        match text.qualified(at) {
            Some((name, _)) => drop(self.targets.insert(Target { name, ops })),
            None => self.anything = true,
        }
    }

    /// `TRUNCATE [TABLE] [ONLY] a [*], b … [RESTART IDENTITY] [CASCADE]`.
    fn truncate(&mut self, text: &Text<'_>, first: usize, to: usize) {
        let end = (first..to).find(|at| text.is(*at, SEMICOLON)).unwrap_or(to);
        let cascades = (first..end).any(|at| text.says(at, "cascade"));
        let ops = if cascades { Ops::TRUNCATE_CASCADE } else { Ops::TRUNCATE };
        let mut at = first + 1;
        loop {
            while matches!(text.word(at), Word::Table | Word::Only) {
                at += 1;
            }
            let Some((name, next)) = text.qualified(at) else { return self.anything = true };
            self.targets.insert(Target { name, ops });
            at = if text.is(next, symbol("*")) { next + 1 } else { next };
            if !text.is(at, COMMA) {
                return;
            }
            at += 1;
        }
    }

    fn refresh(&mut self, text: &Text<'_>, first: usize) {
        let named = (first + 1..=first + 4)
            .find(|at| !matches!(text.word(*at), Word::Materialized | Word::View | Word::Concurrently));
        self.target(text, named.unwrap_or(first), Ops::REFRESH);
    }

    /// `DO [LANGUAGE name] 'body'`.
    fn block(&mut self, text: &Text<'_>, first: usize, to: usize) {
        let language = (first..to).find(|at| text.says(*at, "language")).and_then(|at| text.name(at + 1));
        let body = (first..to).find_map(|at| text.string(at));
        match (body, language.as_deref().map_or(Language::Plpgsql, Language::of)) {
            (Some(body), language) if language.is_readable() => self.add(Self::of_body(&body, language)),
            _ => self.anything = true,
        }
    }

    /// This as well.
    pub fn add(&mut self, other: Self) {
        self.targets.extend(other.targets);
        self.calls.extend(other.calls);
        self.operators.extend(other.operators);
        self.executes.extend(other.executes);
        self.catalog |= other.catalog;
        self.anything |= other.anything;
    }
}
