//! What a read depends on, and whether its text may be cached at all.

use std::collections::BTreeSet;

use super::super::eligible::{Bypass, means_a_moment};
use super::super::text::{CAST, CLOSE, COMMA, DOT, OPEN, SEMICOLON, Text, may_be_a_construct};
use super::words::{CLOCKS, LOOKED_UP, NEVER, POLICY_FUNCTIONS, SYSTEM_COLUMNS, WHO};
use super::{Catalog, Function, Kind, Language, Name, Persistence, Relation, SYSTEM, Volatility};
use crate::clauses;
use crate::fingerprint::{Compat, normalise};
use crate::lexer::{Kind as Token, Word};

/// Tables that one entry may depend on: each is a load at every hit.
const MAX_TABLES: usize = 64;
/// Views in views, functions in policies.
const MAX_DEPTH: u8 = 16;

/// What the rows of a read depend on besides its text and its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Settings that policies read, in lower case: their values belong into the key, also those of settings that change no
    /// output otherwise.
    pub settings: BTreeSet<String>,
}

/// What a read depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The relations that its text names, views among them: what rules are about, and what the key holds.
    pub named: Vec<u32>,
    /// The relations whose writes end its answer, those named among them.
    pub tables: Vec<u32>,
    /// The tables of which those are parts: what is written through them may be theirs.
    pub through: Vec<u32>,
    /// Those of `tables` of which it reads its own rows alone, where row-level security separates them
    /// ([`Separation`](super::Separation)): named by itself, and reached by nothing else.
    pub apart: Vec<u32>,
    /// What else matters.
    pub inputs: Inputs,
}

/// What a rule lets a text do that is not let otherwise.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    /// Whether a function of this name depends on its arguments and on settings of the session alone.
    pub pure: &'a dyn Fn(&Name) -> bool,
    /// Whether materialised views may be read: every REFRESH passes here or is heard of.
    pub materialized: bool,
}

impl Allowed<'_> {
    /// Nothing.
    pub const NOTHING: Self = Self { pure: &|_| false, materialized: false };
}

impl Catalog {
    /// What `sql` depends on, or why it is not cached. Once for each shape, path and rule; plain strings in it have no
    /// escapes. `path`: the schemas that the session searches, in order, temporary ones left out.
    ///
    /// Whatever name in the text is a relation's counts, wherever it stands, so that none can be missed; each one that
    /// stands where a table does must be known.
    pub fn reads(&self, sql: &[u8], path: &[&str], allowed: Allowed<'_>) -> Result<Reads, Bypass> {
        let text = Text::new(sql);
        let mut judge = Judge::new(self, allowed, Asked::WhetherCached);
        judge.statement(&text)?;
        judge.judge(&text, Place::Client)?;
        judge.names(&text, Some(path))?;
        let named: BTreeSet<u32> = judge.named(sql, path)?;
        judge.found.extend(&named);
        if judge.found.is_empty() {
            return Err(Bypass::NoTable);
        }
        judge.expand()?;
        let Judge { mut reads, found, behind, own, .. } = judge;
        let apart = named.difference(&behind).filter(|oid| !own && self.separation(**oid).is_some());
        reads.apart = apart.copied().collect();
        let through: BTreeSet<u32> = found.iter().flat_map(|oid| self.ancestors(*oid)).collect();
        if found.len() + through.len() > MAX_TABLES {
            return Err(Bypass::TooManyTables);
        }
        reads.through = through.into_iter().collect();
        reads.named = named.into_iter().collect();
        reads.tables = found.into_iter().collect();
        Ok(reads)
    }

    /// Whether a SELECT leaves nothing behind that those behind it in its transaction would notice: no write, no lock, no
    /// setting but those of its own `set_config`, which whoever sends it has to follow. What its answer depends on does not
    /// matter. Names are looked up in every schema.
    pub(super) fn leaves_nothing(&self, text: &Text<'_>, allowed: Allowed<'_>) -> Result<(), Bypass> {
        let mut judge = Judge::new(self, allowed, Asked::WhetherLeft);
        judge.statement(text)?;
        judge.judge(text, Place::Client)?;
        judge.names(text, None)?;
        judge.expand()
    }
}

/// What a text is judged for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Whether it may be cached.
    WhetherCached,
    /// Whether something is left of it in its transaction.
    WhetherLeft,
}

/// Where a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// A client's.
    Client,
    /// A view's, whose words are judged alike.
    View,
    /// In a policy, or in a function that it calls: who asks may matter, since the key says it.
    Policy,
}

struct Judge<'a> {
    catalog: &'a Catalog,
    allowed: Allowed<'a>,
    asked: Asked,
    reads: Reads,
    found: BTreeSet<u32>,
    /// Those of them that something else leads to than the text: a view, a policy, a function.
    behind: BTreeSet<u32>,
    /// It calls something of somebody's own, which may read whatever it likes as whomever it likes.
    own: bool,
    depth: u8,
}

impl<'a> Judge<'a> {
    fn new(catalog: &'a Catalog, allowed: Allowed<'a>, asked: Asked) -> Self {
        let [found, behind] = [const { BTreeSet::new() }; 2];
        Self { catalog, allowed, asked, reads: Reads::default(), found, behind, own: false, depth: 0 }
    }

    /// Whether this speaks against the text: what changes its answer alone leaves nothing behind.
    fn mind(&self, bypass: Bypass) -> Result<(), Bypass> {
        let changes_the_answer_alone = matches!(
            bypass,
            Bypass::Time
                | Bypass::AsksWho
                | Bypass::TableSample
                | Bypass::SystemColumn
                | Bypass::Catalog
                | Bypass::UnloggedTable
                | Bypass::MaterializedView
                | Bypass::Sequence
        );
        if self.asked == Asked::WhetherLeft && changes_the_answer_alone { Ok(()) } else { Err(bypass) }
    }

    /// Its form as a whole.
    fn statement(&self, text: &Text<'_>) -> Result<(), Bypass> {
        if text.broken {
            return Err(Bypass::Unreadable);
        }
        let end = text.tokens.iter().rposition(|token| !token.is(SEMICOLON)).map_or(0, |last| last + 1);
        if text.tokens.iter().take(end).any(|token| token.is(SEMICOLON)) {
            return Err(Bypass::SeveralStatements);
        }
        let first = text.tokens.iter().find(|token| !token.is(OPEN)).map_or(Word::None, |token| token.word);
        if matches!(first, Word::Insert | Word::Update | Word::Delete | Word::Merge) {
            return Err(Bypass::Writes);
        }
        let reads = matches!(first, Word::Select | Word::With | Word::Table | Word::Values);
        if reads { Ok(()) } else { Err(Bypass::NotARead) }
    }

    /// Its words, one by one.
    fn judge(&mut self, text: &Text<'_>, place: Place) -> Result<(), Bypass> {
        for (at, token) in text.tokens.iter().enumerate() {
            match token.kind {
                Token::Word => self.word(text, at, place)?,
                Token::String if text.string(at).is_none_or(|value| means_a_moment(value.as_bytes())) => {
                    self.mind(Bypass::Time)?;
                }
                Token::Symbol if self.catalog.has_operators() => {
                    let operator = String::from_utf8_lossy(token.of(text.sql));
                    if self.catalog.doubts_operator(&operator) {
                        return Err(Bypass::UserOperator);
                    }
                    self.own |= !self.catalog.trusts_operators();
                }
                _ => {}
            }
            if let Some(name) = text.call(at) {
                self.call(text, at, &name, place)?;
            }
            if let Some(name) = text.name(at) {
                self.name(text, at, &name)?;
            }
        }
        Ok(())
    }

    fn word(&self, text: &Text<'_>, at: usize, place: Place) -> Result<(), Bypass> {
        let is_column = text.before(at, 1).is_some_and(|before| before.is(DOT));
        if !is_column {
            match text.word(at) {
                Word::Update if matches!(text.word_before(at, 1), Word::For | Word::Key) => {
                    return Err(Bypass::LocksRows);
                }
                Word::Insert | Word::Update | Word::Delete | Word::Merge => return Err(Bypass::Writes),
                Word::For if matches!(text.word(at + 1), Word::Update | Word::Share | Word::No | Word::Key) => {
                    return Err(Bypass::LocksRows);
                }
                Word::Into => return Err(Bypass::SelectInto),
                _ => {}
            }
            if text.says(at, "tablesample") {
                self.mind(Bypass::TableSample)?;
            }
            if text.says_one_of(at, CLOCKS) {
                self.mind(Bypass::Time)?;
            }
            if place != Place::Policy && text.says_one_of(at, WHO) && !text.is(at + 1, DOT) {
                self.mind(Bypass::AsksWho)?;
            }
        }
        if text.says_one_of(at, LOOKED_UP) { self.mind(Bypass::Catalog) } else { Ok(()) }
    }

    /// A name, quoted or not.
    fn name(&self, text: &Text<'_>, at: usize, name: &str) -> Result<(), Bypass> {
        if SYSTEM_COLUMNS.contains(&name) {
            self.mind(Bypass::SystemColumn)?;
        }
        if LOOKED_UP.contains(&name) || (name.starts_with("pg_") && name != SYSTEM && !text.is(at + 1, OPEN)) {
            self.mind(Bypass::Catalog)?;
        }
        // `pg_catalog.name (` is a call or a type, which are judged by themselves.
        if name == SYSTEM && !self.may_be_trusted_behind(text, at) {
            self.mind(Bypass::Catalog)?;
        }
        if self.catalog.doubts_column(name) {
            return Err(Bypass::UserFunction);
        }
        if self.catalog.doubts_type(name) {
            return Err(Bypass::UserType);
        }
        Ok(())
    }

    /// What stands in `pg_catalog` here: a function, a type or a collation, not a relation.
    fn may_be_trusted_behind(&self, text: &Text<'_>, at: usize) -> bool {
        let is_type = text.before(at, 1).is_some_and(|before| before.is(CAST));
        let is_collation = text.word_before(at, 1) == Word::Collate;
        text.is(at + 1, DOT) && (is_type || is_collation || text.is(at + 3, OPEN))
    }

    fn call(&mut self, text: &Text<'_>, at: usize, name: &Name, place: Place) -> Result<(), Bypass> {
        if may_be_a_construct(name) && self.catalog.volatility(name).is_none() {
            return Ok(());
        }
        let plain = name.name.as_str();
        if plain.starts_with("pg_advisory") || plain.starts_with("pg_try_advisory") {
            return Err(Bypass::AdvisoryLock);
        }
        if self.asked == Asked::WhetherLeft && place != Place::Policy {
            return self.leaving_call(name, place);
        }
        if NEVER.contains(&plain) {
            return Err(Bypass::VolatileFunction);
        }
        if place == Place::Policy {
            return self.policy_call(text, at, name);
        }
        let Some(volatility) = self.catalog.volatility(name) else { return Err(Bypass::UnknownFunction) };
        if (self.allowed.pure)(name) {
            self.own = true;
            return self.bodies(name);
        }
        let trusted = |function: &Function| {
            function.language == Language::C || (function.language == Language::Internal && *function.schema == *SYSTEM)
        };
        match volatility {
            Volatility::Volatile => Err(Bypass::VolatileFunction),
            Volatility::Stable => Err(Bypass::StableFunction),
            Volatility::Immutable if self.catalog.functions_named(name).all(trusted) => Ok(()),
            Volatility::Immutable => Err(Bypass::UserFunction),
        }
    }

    /// A call, where nothing matters but what it leaves: the server's own functions leave nothing unless they are volatile,
    /// run a text or read a table of any name. What is somebody's own may set settings, whatever it promises.
    fn leaving_call(&self, name: &Name, place: Place) -> Result<(), Bypass> {
        let functions = || self.catalog.functions_named(name);
        let plain = name.name.as_str();
        if functions().next().is_none() {
            return Err(Bypass::UnknownFunction);
        }
        if plain == "set_config" && place == Place::Client && functions().all(Function::is_the_servers_own) {
            return Ok(());
        }
        if (self.allowed.pure)(name) && !NEVER.contains(&plain) {
            return Ok(());
        }
        if plain.contains("_to_xml") || functions().any(|function| function.volatility == Volatility::Volatile) {
            return Err(Bypass::VolatileFunction);
        }
        let library = |function: &Function| function.language == Language::C;
        let trusted = functions().all(|function| function.is_the_servers_own() || library(function));
        if trusted { Ok(()) } else { Err(Bypass::UserFunction) }
    }

    /// A function that is declared pure: still, what it is seen to read is what its answer depends on.
    fn bodies(&mut self, name: &Name) -> Result<(), Bypass> {
        let catalog = self.catalog;
        for function in catalog.functions_named(name).filter(|function| function.language.is_readable()) {
            self.names_behind(&Text::new(function.source.as_bytes()))?;
        }
        Ok(())
    }

    /// A call in a policy: of a setting, which goes into the key; of what is immutable; of what can be read.
    fn policy_call(&mut self, text: &Text<'_>, at: usize, name: &Name) -> Result<(), Bypass> {
        if name.name == "current_setting" && name.schema.as_deref().is_none_or(|schema| schema == SYSTEM) {
            let setting = text.string(at + 2).ok_or(Bypass::Policy)?;
            // The whole argument has to be that constant, casts aside.
            let mut end = at + 3;
            while text.is(end, CAST) && text.is_name(end + 1) {
                end += 2;
            }
            if !text.is(end, CLOSE) && !text.is(end, COMMA) {
                return Err(Bypass::Policy);
            }
            self.reads.inputs.settings.insert(setting.to_ascii_lowercase());
            return Ok(());
        }
        if POLICY_FUNCTIONS.contains(&name.name.as_str()) {
            return Ok(());
        }
        let catalog = self.catalog;
        let mut known = false;
        for function in catalog.functions_named(name) {
            known = true;
            if function.language.is_readable() {
                self.deeper(|judge| judge.policy(&function.source))?;
            } else if function.volatility != Volatility::Immutable {
                return Err(Bypass::Policy);
            }
        }
        if known { Ok(()) } else { Err(Bypass::Policy) }
    }

    /// A policy's expressions, or the body of a function that one calls.
    fn policy(&mut self, source: &str) -> Result<(), Bypass> {
        let text = Text::new(source.as_bytes());
        // Of a text that is put together.
        if text.broken || text.tokens.iter().any(|token| token.word == Word::Execute) {
            return Err(Bypass::Policy);
        }
        self.judge(&text, Place::Policy).map_err(|_| Bypass::Policy)?;
        self.names_behind(&text)
    }

    /// The same of a text that is not the client's.
    fn names_behind(&mut self, text: &Text<'_>) -> Result<(), Bypass> {
        let before = std::mem::take(&mut self.found);
        let named = self.names(text, None);
        self.behind.extend(&self.found);
        self.found.extend(before);
        named
    }

    fn deeper(&mut self, what: impl FnOnce(&mut Self) -> Result<(), Bypass>) -> Result<(), Bypass> {
        if self.depth == MAX_DEPTH {
            return Err(Bypass::TooManyTables);
        }
        self.depth += 1;
        let result = what(self);
        self.depth -= 1;
        result
    }

    /// Every relation that any name of the text is, a column's or an alias' name included.
    fn names(&mut self, text: &Text<'_>, path: Option<&[&str]>) -> Result<(), Bypass> {
        for at in 0..text.tokens.len() {
            let Some(name) = text.name(at) else { continue };
            let behind_dot = text.before(at, 1).is_some_and(|before| before.is(DOT));
            let schema = if behind_dot { at.checked_sub(2).and_then(|at| text.name(at)) } else { None };
            // `schema.table`, or `table.column`: the table was the name before.
            if behind_dot && schema.is_none() {
                continue;
            }
            self.found.extend(self.catalog.candidates(&Name { schema, name }, path));
        }
        if self.found.len() > 4 * MAX_TABLES { Err(Bypass::TooManyTables) } else { Ok(()) }
    }

    /// The relations that stand where tables do. Each of them has to be known.
    fn named(&self, sql: &[u8], path: &[&str]) -> Result<BTreeSet<u32>, Bypass> {
        let listed = clauses::tables(&normalise(sql, Compat::V15)).ok_or(Bypass::NotARead)?;
        let mut named = BTreeSet::new();
        for shown in &listed {
            // A dot may be part of a quoted name: any reading that leads to a relation.
            let whole = Name { schema: None, name: shown.to_string() };
            let divided = shown.match_indices('.').map(|(dot, _)| {
                let (before, behind) = (shown.get(..dot), shown.get(dot + 1..));
                let schema = before.map(|before| before.rsplit('.').next().unwrap_or(before).to_owned());
                Name { schema, name: behind.unwrap_or_default().to_owned() }
            });
            let found: Vec<u32> = std::iter::once(whole)
                .chain(divided)
                .flat_map(|name| self.catalog.resolve(&name, Some(path)))
                .collect();
            if found.is_empty() {
                return Err(Bypass::UnknownTable);
            }
            named.extend(found);
        }
        Ok(named)
    }

    /// What stands behind what was found: tables of views, tables that policies read.
    fn expand(&mut self) -> Result<(), Bypass> {
        let mut queue: Vec<u32> = self.found.iter().copied().collect();
        let mut seen: BTreeSet<u32> = BTreeSet::new();
        while let Some(oid) = queue.pop() {
            if !seen.insert(oid) {
                continue;
            }
            if seen.len() > 4 * MAX_TABLES {
                return Err(Bypass::TooManyTables);
            }
            self.found.insert(oid);
            self.relation(oid)?;
            queue.extend(self.found.difference(&seen));
        }
        Ok(())
    }

    fn relation(&mut self, oid: u32) -> Result<(), Bypass> {
        let catalog = self.catalog;
        let relation = catalog.relation(oid).ok_or(Bypass::UnknownTable)?;
        self.kind(relation)?;
        // Its rows are also those of what is a part of it.
        for part in catalog.descendants(oid) {
            self.kind(catalog.relation(part).ok_or(Bypass::UnknownTable)?)?;
        }
        if relation.kind == Kind::View {
            self.view(oid)?;
        }
        if relation.row_security {
            for policy in Catalog::of(&catalog.policies, oid) {
                self.deeper(|judge| judge.policy(&policy.text))?;
            }
        }
        Ok(())
    }

    fn kind(&self, relation: &Relation) -> Result<(), Bypass> {
        match relation.persistence {
            Persistence::Permanent => {}
            Persistence::Unlogged => self.mind(Bypass::UnloggedTable)?,
            Persistence::Temporary => return Err(Bypass::TemporaryTable),
        }
        match relation.kind {
            _ if relation.own_types => Err(Bypass::UserType),
            Kind::Table | Kind::Partitioned | Kind::View => Ok(()),
            Kind::Materialized if self.allowed.materialized => Ok(()),
            Kind::Materialized => self.mind(Bypass::MaterializedView),
            Kind::Foreign => Err(Bypass::ForeignTable),
            Kind::Sequence => self.mind(Bypass::Sequence),
            Kind::Other => Err(Bypass::Catalog),
        }
    }

    fn view(&mut self, oid: u32) -> Result<(), Bypass> {
        let catalog = self.catalog;
        let mut known = false;
        for rule in Catalog::of(&catalog.rewrites, oid).iter().filter(|rule| rule.ops.is_none()) {
            known = true;
            let text = Text::new(rule.text.as_bytes());
            self.statement(&text)?;
            self.judge(&text, Place::View)?;
            self.found.extend(&rule.uses);
            self.behind.extend(&rule.uses);
        }
        if known { Ok(()) } else { Err(Bypass::UnknownTable) }
    }
}
