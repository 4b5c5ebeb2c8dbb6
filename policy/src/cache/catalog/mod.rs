//! What the cache has to know of a database's catalog: what a write touches, and what a read depends on.
//!
//! Both come from the catalog and not from texts: a text names a table, and writes to its partitions, to what refers to it,
//! to what its triggers write. [`Facts`] are the rows as they were read; [`Catalog`] answers questions about them. It
//! belongs to one epoch: whatever changes the catalog changes the epoch, and a new one is read.
//!
//! A write to a leaf touches the leaf and its ancestors, a write to an ancestor all leaves: by two counters for each table,
//! its rows' own, and what is written *through* it. A read of a partitioned table depends on one number, however many leaves
//! it has, and a write to it touches two; a read of a leaf asks its ancestors besides.

mod acts;
mod apart;
mod closure;
mod quiet;
mod reads;
mod rule;
mod separation;
mod touched;
mod within;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use acts::{Acts, Ops, Target};
pub use quiet::NotQuiet;
pub use reads::{Allowed, Inputs, Reads};
pub use rule::rule_actions;
pub use separation::{ColumnOf, PolicyOf, Separable, Separation, ValueType, Who};
pub use touched::Touched;
pub use within::leaves_nothing;

/// A table, view or whatever else stands in `pg_class`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// `oid`.
    pub oid: u32,
    /// Its schema's name.
    pub schema: Box<str>,
    /// `relname`.
    pub name: Box<str>,
    /// `relkind`.
    pub kind: Kind,
    /// `relpersistence`.
    pub persistence: Persistence,
    /// `relrowsecurity`.
    pub row_security: bool,
    /// A column is of a type of somebody's own whose functions are not all immutable.
    pub own_types: bool,
}

/// What a relation is, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `r`.
    Table,
    /// `p`.
    Partitioned,
    /// `v`.
    View,
    /// `m`.
    Materialized,
    /// `f`.
    Foreign,
    /// `S`.
    Sequence,
    /// Anything else; nothing reads rows from it.
    Other,
}

impl Kind {
    /// By `relkind`.
    pub const fn of(relkind: u8) -> Self {
        match relkind {
            b'r' => Self::Table,
            b'p' => Self::Partitioned,
            b'v' => Self::View,
            b'm' => Self::Materialized,
            b'f' => Self::Foreign,
            b'S' => Self::Sequence,
            _ => Self::Other,
        }
    }
}

/// Whether a relation's rows are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// `p`.
    Permanent,
    /// `u`: not in the log, and gone after a crash.
    Unlogged,
    /// `t`: a session's own.
    Temporary,
}

impl Persistence {
    /// By `relpersistence`.
    pub const fn of(relpersistence: u8) -> Self {
        match relpersistence {
            b'p' => Self::Permanent,
            b'u' => Self::Unlogged,
            _ => Self::Temporary,
        }
    }
}

/// A foreign key of `pg_constraint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The table that refers (`conrelid`).
    pub from: u32,
    /// The one that it refers to (`confrelid`).
    pub to: u32,
    /// What a DELETE there does here: DELETE with CASCADE, UPDATE with SET NULL or SET DEFAULT, otherwise nothing.
    pub on_delete: Ops,
    /// What an UPDATE there does here.
    pub on_update: Ops,
}

impl ForeignKey {
    /// By `confdeltype` and `confupdtype`.
    pub const fn of(from: u32, to: u32, confdeltype: u8, confupdtype: u8) -> Self {
        let on_delete = match confdeltype {
            b'c' => Ops::DELETE,
            b'n' | b'd' => Ops::UPDATE,
            _ => Ops::NONE,
        };
        let on_update = if matches!(confupdtype, b'c' | b'n' | b'd') { Ops::UPDATE } else { Ops::NONE };
        Self { from, to, on_delete, on_update }
    }
}

/// A function that runs when a relation is written: a trigger that is not disabled, or what stands in a default, a
/// generated column, a check, an index or a policy (`pg_depend` knows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The relation.
    pub relation: u32,
    /// The function.
    pub function: u32,
    /// When.
    pub ops: Ops,
}

/// A function of `pg_proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// `oid`.
    pub oid: u32,
    /// Its schema's name.
    pub schema: Box<str>,
    /// `proname`.
    pub name: Box<str>,
    /// `provolatile`.
    pub volatility: Volatility,
    /// Its language, as far as that can be read.
    pub language: Language,
    /// `prosrc`, of the languages that can be read; `pg_get_function_sqlbody` of the others written in SQL.
    pub source: Box<str>,
    /// It takes a row of some table, so that `row.name` calls it.
    pub takes_row: bool,
}

/// Numbers below this one are the server's own (`FirstNormalObjectId`).
const FIRST_OF_SOMEBODY: u32 = 16_384;

impl Function {
    /// Whether it came with the server, however it is written.
    fn is_the_servers_own(&self) -> bool {
        let written_in_c = matches!(self.language, Language::Internal);
        *self.schema == *SYSTEM && (written_in_c || self.oid < FIRST_OF_SOMEBODY)
    }
}

/// What a function promises. Worse ones come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// `i`.
    Immutable,
    /// `s`.
    Stable,
    /// `v`.
    Volatile,
}

impl Volatility {
    /// By `provolatile`.
    pub const fn of(provolatile: u8) -> Self {
        match provolatile {
            b'i' => Self::Immutable,
            b's' => Self::Stable,
            _ => Self::Volatile,
        }
    }
}

/// What a function is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Part of the server. (An aggregate of one's own says so too: only those of `pg_catalog` are trusted.)
    Internal,
    /// A library: what it does cannot be read.
    C,
    /// SQL.
    Sql,
    /// PL/pgSQL.
    Plpgsql,
    /// Another one: cannot be read.
    Other,
}

impl Language {
    /// By `lanname`.
    pub fn of(lanname: &str) -> Self {
        match lanname {
            "internal" => Self::Internal,
            "c" => Self::C,
            "sql" => Self::Sql,
            "plpgsql" => Self::Plpgsql,
            _ => Self::Other,
        }
    }

    /// Whether its source says what it does.
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::Sql | Self::Plpgsql)
    }
}

/// A rule of `pg_rewrite`. That of a view or materialised view is the one for SELECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The relation that it belongs to.
    pub relation: u32,
    /// `None`: SELECT.
    pub ops: Option<Ops>,
    /// `pg_get_viewdef`, or what stands behind DO in `pg_get_ruledef`.
    pub text: Box<str>,
    /// The relations that it names, by `pg_depend`.
    pub uses: Box<[u32]>,
}

/// A policy of `pg_policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its table.
    pub relation: u32,
    /// `pg_get_expr` of both of its expressions.
    pub text: Box<str>,
}

/// The rows of the catalog that matter.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of all schemas but the system's own.
    pub relations: Vec<Relation>,
    /// `pg_inherits`: child and parent, of partitions too.
    pub inherits: Vec<(u32, u32)>,
    /// Those of partitions as well.
    pub foreign_keys: Vec<ForeignKey>,
    /// See [`Trigger`].
    pub triggers: Vec<Trigger>,
    /// Of all schemas.
    pub functions: Vec<Function>,
    /// See [`Rewrite`].
    pub rewrites: Vec<Rewrite>,
    /// See [`Policy`].
    pub policies: Vec<Policy>,
    /// Operators of schemas other than `pg_catalog`: their names and functions.
    pub operators: Vec<(Box<str>, u32)>,
    /// Types of somebody's own whose functions (for input, output, casts) are not all immutable.
    pub types: Vec<Box<str>>,
    /// Whether there is an event trigger: it may write when anything of the catalog changes.
    pub event_triggers: bool,
    /// Tables whose rows row-level security may separate.
    pub separable: Vec<Separable>,
    /// Whom row-level security holds for.
    pub who: Who,
}

/// A name in a text, folded and unquoted as the server does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// What stands before the last dot, if anything does.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

/// A database's catalog in one epoch. Immutable.
#[derive(Debug, Default)]
pub struct Catalog {
    relations: BTreeMap<u32, Relation>,
    by_name: BTreeMap<Box<str>, Vec<u32>>,
    parents: BTreeMap<u32, Vec<u32>>,
    children: BTreeMap<u32, Vec<u32>>,
    /// By the table referred to.
    foreign_keys: BTreeMap<u32, Vec<ForeignKey>>,
    triggers: BTreeMap<u32, Vec<Trigger>>,
    functions: BTreeMap<u32, Function>,
    functions_by_name: BTreeMap<Box<str>, Vec<u32>>,
    rewrites: BTreeMap<u32, Vec<Rewrite>>,
    policies: BTreeMap<u32, Vec<Policy>>,
    operators: BTreeMap<Box<str>, Vec<u32>>,
    types: BTreeSet<Box<str>>,
    event_triggers: bool,
    separations: BTreeMap<u32, Arc<Separation>>,
    trusts_operators: bool,
}

/// The schema of what belongs to the server.
const SYSTEM: &str = "pg_catalog";

fn group<K: Ord, V>(values: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, Vec<V>> {
    let mut map: BTreeMap<K, Vec<V>> = BTreeMap::new();
    values.into_iter().for_each(|(key, value)| map.entry(key).or_default().push(value));
    map
}

impl Catalog {
    /// Sorts the rows.
    pub fn new(mut facts: Facts) -> Self {
        let (separable, who) = (std::mem::take(&mut facts.separable), std::mem::take(&mut facts.who));
        let mut catalog = Self::sorted(facts);
        catalog.trusts_operators = catalog.operators.values().flatten().all(|oid| catalog.is_of_a_library(*oid));
        catalog.separations = catalog.separations_of(&separable, who);
        catalog
    }

    fn sorted(facts: Facts) -> Self {
        Self {
            by_name: group(facts.relations.iter().map(|relation| (relation.name.clone(), relation.oid))),
            relations: facts.relations.into_iter().map(|relation| (relation.oid, relation)).collect(),
            parents: group(facts.inherits.iter().copied()),
            children: group(facts.inherits.iter().map(|(child, parent)| (*parent, *child))),
            foreign_keys: group(facts.foreign_keys.into_iter().map(|key| (key.to, key))),
            triggers: group(facts.triggers.into_iter().map(|trigger| (trigger.relation, trigger))),
            functions_by_name: group(facts.functions.iter().map(|function| (function.name.clone(), function.oid))),
            functions: facts.functions.into_iter().map(|function| (function.oid, function)).collect(),
            rewrites: group(facts.rewrites.into_iter().map(|rewrite| (rewrite.relation, rewrite))),
            policies: group(facts.policies.into_iter().map(|policy| (policy.relation, policy))),
            operators: group(facts.operators),
            types: facts.types.into_iter().collect(),
            event_triggers: facts.event_triggers,
            separations: BTreeMap::new(),
            trusts_operators: false,
        }
    }

    /// A relation.
    pub fn relation(&self, oid: u32) -> Option<&Relation> {
        self.relations.get(&oid)
    }

    fn of<T>(map: &BTreeMap<u32, Vec<T>>, oid: u32) -> &[T] {
        map.get(&oid).map_or(&[], Vec::as_slice)
    }

    /// The relation that a name stands for. `path`: the schemas that are searched, in order; without one, all relations of
    /// that name are meant.
    pub fn resolve(&self, name: &Name, path: Option<&[&str]>) -> Vec<u32> {
        let all = self.by_name.get(name.name.as_str()).map_or(&[][..], Vec::as_slice);
        let within =
            |schema: &str| all.iter().copied().find(|oid| self.relation(*oid).is_some_and(|r| *r.schema == *schema));
        match (&name.schema, path) {
            (Some(schema), _) => within(schema).into_iter().collect(),
            (None, Some(path)) => path.iter().find_map(|schema| within(schema)).into_iter().collect(),
            (None, None) => all.to_vec(),
        }
    }

    /// All relations that a name may stand for: a schema of the path that its session's role may not use is passed over,
    /// which nobody here can tell.
    pub(super) fn candidates(&self, name: &Name, path: Option<&[&str]>) -> Vec<u32> {
        match (&name.schema, path) {
            (None, Some(path)) => path.iter().flat_map(|schema| self.resolve(name, Some(&[schema]))).collect(),
            _ => self.resolve(name, path),
        }
    }

    /// All functions that a call by this name may mean.
    pub fn functions_named<'a>(&'a self, name: &'a Name) -> impl Iterator<Item = &'a Function> {
        let all = self.functions_by_name.get(name.name.as_str()).map_or(&[][..], Vec::as_slice);
        let functions = all.iter().filter_map(|oid| self.functions.get(oid));
        functions.filter(move |function| name.schema.as_deref().is_none_or(|schema| *function.schema == *schema))
    }

    /// The worst that a call by this name may be; `None`: there is no such function.
    pub fn volatility(&self, name: &Name) -> Option<Volatility> {
        self.functions_named(name).map(|function| function.volatility).max()
    }

    /// Whether an operator of this name is not the server's own and not certainly immutable.
    pub(super) fn doubts_operator(&self, symbol: &str) -> bool {
        let functions = self.operators.get(symbol).map_or(&[][..], Vec::as_slice);
        functions.iter().any(|oid| self.functions.get(oid).is_none_or(|f| f.volatility != Volatility::Immutable))
    }

    /// Whether `row.name` may call a function that is not immutable.
    pub(super) fn doubts_column(&self, name: &str) -> bool {
        let functions = self.functions_by_name.get(name).map_or(&[][..], Vec::as_slice);
        let functions = functions.iter().filter_map(|oid| self.functions.get(oid));
        functions.into_iter().any(|function| function.takes_row && function.volatility != Volatility::Immutable)
    }

    /// Whether this is the name of a type whose functions are not all immutable.
    pub(super) fn doubts_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// Whether any operator has to be looked for.
    pub(super) fn has_operators(&self) -> bool {
        !self.operators.is_empty()
    }

    /// All that `oid` is a part of, and all that is a part of it, itself left out.
    fn kin(map: &BTreeMap<u32, Vec<u32>>, oid: u32) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut queue = vec![oid];
        while let Some(next) = queue.pop() {
            for kin in Self::of(map, next) {
                if *kin != oid && found.insert(*kin) {
                    queue.push(*kin);
                }
            }
        }
        found
    }

    /// Whether rows of this relation may be touched.
    pub fn reaches(&self, touched: &Touched, oid: u32) -> bool {
        touched.everything
            || touched.tables.contains(&oid)
            || self.ancestors(oid).iter().any(|above| touched.through.contains(above))
    }

    fn ancestors(&self, oid: u32) -> BTreeSet<u32> {
        Self::kin(&self.parents, oid)
    }

    /// Partitions and children of a relation, and theirs.
    pub fn descendants(&self, oid: u32) -> BTreeSet<u32> {
        Self::kin(&self.children, oid)
    }
}
