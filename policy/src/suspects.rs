//! Which functions of a server change the session that calls them, and through which tables they are called.
//!
//! Rows of the server's catalogue in ([`Catalogue`]), a set of names out ([`Suspects`]): what a statement does behind its
//! text is told by whether it mentions one of them. Nothing here asks a server; the caller brings the rows.
//!
//! ```
//! use policy::suspects::{Catalogue, Function};
//!
//! let login = Function { oid: 1, name: "login".into(), language: "plpgsql".into(),
//!     source: "begin perform set_config('app.tenant', who, false); end".into() };
//! let suspects = Catalogue { functions: vec![login], ..Catalogue::default() }.suspects();
//! assert!(suspects.concern(b"select login('acme')", true, true));
//! assert!(!suspects.concern(b"select login from people", true, true));
//! ```

mod source;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use crate::lexer::decode::Arena;
use crate::lexer::{self, Kind, Token, symbol};
use crate::statement::MAX_ANALYSED;

/// A function, procedure or aggregate of the server's that is not one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `pg_proc.oid`.
    pub oid: u32,
    /// `pg_proc.proname`.
    pub name: Box<str>,
    /// `pg_language.lanname`.
    pub language: Box<str>,
    /// Its source; of one with an SQL-standard body its whole definition.
    pub source: Box<str>,
}

/// Something that runs a function, or leads to something that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A function, by `pg_proc.oid`.
    Function(u32),
    /// A table, view or the like, by `pg_class.oid`: whoever reads or writes it.
    Relation(u32),
    /// The same: whoever writes it.
    Written(u32),
    /// An event trigger: whoever changes a schema.
    Definitions,
    /// An operator, a cast, a type: nobody can tell which statements use it.
    Anything,
}

/// What is known of a database, as its catalogue tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Functions.
    pub functions: Vec<Function>,
    /// Names of the relations that [`Self::uses`] speaks of.
    pub relations: Vec<(u32, Box<str>)>,
    /// The first is run by the second.
    pub uses: Vec<(Object, Object)>,
}

/// The names that a statement must not mention if it is to leave nothing behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    version: u64,
    functions: HashSet<Box<[u8]>>,
    /// `true`: only writing matters.
    relations: HashMap<Box<[u8]>, bool>,
    definitions: bool,
    anything: bool,
}

/// A set that nobody has looked up yet: see [`Suspects::unknown`].
const UNKNOWN: u64 = u64::MAX;

impl Suspects {
    /// Nothing is known yet: every statement has to be distrusted.
    pub fn unknown() -> Self {
        Self { version: UNKNOWN, anything: true, ..Self::default() }
    }

    /// Whether this is [`Self::unknown`].
    pub fn is_unknown(&self) -> bool {
        self.version == UNKNOWN
    }

    /// The same for equal sets; 0: the set is empty, and no statement need be looked at.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many functions and relations are in it.
    pub fn len(&self) -> usize {
        self.functions.len() + self.relations.len()
    }

    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The functions' names, in order, for operators.
    pub fn functions(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.functions.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Whether a text may run one of them. `standard_strings`: how it reads backslashes; `reads`: by its text it changes
    /// no row and no schema.
    pub fn concern(&self, sql: &[u8], standard_strings: bool, reads: bool) -> bool {
        if self.version == 0 || self.anything {
            return self.anything;
        }
        if self.definitions && !reads {
            return true;
        }
        if sql.len() > MAX_ANALYSED {
            // What it mentions behind that is not known.
            return true;
        }
        let (mut tokens, mut bytes) = (Vec::new(), Vec::new());
        lexer::scan(sql, standard_strings, &mut tokens);
        let is = |at: Option<usize>, key| at.and_then(|at| tokens.get(at)).is_some_and(|token: &Token| token.is(key));
        tokens.iter().enumerate().any(|(at, token)| {
            if !matches!(token.kind, Kind::Word | Kind::Quoted) {
                return false;
            }
            bytes.clear();
            let mut arena = Arena(&mut bytes);
            let name = arena.name(sql, *token);
            let name = arena.bytes(name);
            // A call, also as `row.function`.
            let called = is(Some(at + 1), symbol("(")) || is(at.checked_sub(1), symbol("."));
            (called && self.functions.contains(name))
                || self.relations.get(name).is_some_and(|written| !(*written && reads))
        })
    }
}

impl Catalogue {
    /// The functions that change a session by what their source says, those that mention them, and all through which they
    /// are run.
    pub fn suspects(&self) -> Suspects {
        let mut found: BTreeSet<Object> = BTreeSet::new();
        for function in &self.functions {
            if source::changes_the_session(function) {
                found.insert(Object::Function(function.oid));
            }
        }
        if found.is_empty() {
            return Suspects::default();
        }
        let mentions: Vec<HashSet<Box<[u8]>>> = self.functions.iter().map(source::names).collect();
        let names: BTreeMap<u32, &str> = self.relations.iter().map(|(oid, name)| (*oid, &**name)).collect();
        // Each round adds at least one of finitely many; a call chain is rarely deeper than a few.
        loop {
            let before = found.len();
            for (run, by) in &self.uses {
                if found.contains(run) {
                    found.insert(*by);
                }
                // A view of a table whose triggers are suspect: writing through it runs them.
                if let (Object::Relation(table), Object::Relation(view)) = (run, by)
                    && found.contains(&Object::Written(*table))
                {
                    found.insert(Object::Written(*view));
                }
            }
            let known = self.named(&found, &names);
            for (function, mentioned) in self.functions.iter().zip(&mentions) {
                if mentioned.iter().any(|name| known.contains(&**name)) {
                    found.insert(Object::Function(function.oid));
                }
            }
            if found.len() == before {
                break;
            }
        }
        self.collect(&found, &names)
    }

    /// The names of what was found.
    fn named<'a>(&'a self, found: &BTreeSet<Object>, relations: &BTreeMap<u32, &'a str>) -> HashSet<&'a [u8]> {
        let functions = self.functions.iter().filter(|function| found.contains(&Object::Function(function.oid)));
        let functions = functions.map(|function| function.name.as_bytes());
        let relations = found.iter().filter_map(|object| match object {
            Object::Relation(oid) | Object::Written(oid) => relations.get(oid).map(|name| name.as_bytes()),
            _ => None,
        });
        functions.chain(relations).collect()
    }

    fn collect(&self, found: &BTreeSet<Object>, names: &BTreeMap<u32, &str>) -> Suspects {
        let mut suspects = Suspects::default();
        for function in self.functions.iter().filter(|function| found.contains(&Object::Function(function.oid))) {
            suspects.functions.insert(function.name.as_bytes().into());
        }
        for object in found {
            match object {
                Object::Function(_) => {}
                Object::Relation(oid) | Object::Written(oid) => {
                    let written = matches!(object, Object::Written(_));
                    if let Some(name) = names.get(oid) {
                        let only = suspects.relations.entry(name.as_bytes().into()).or_insert(written);
                        *only &= written;
                    }
                }
                Object::Definitions => suspects.definitions = true,
                Object::Anything => suspects.anything = true,
            }
        }
        suspects.version = suspects.digest();
        suspects
    }
}

impl Suspects {
    /// Equal for equal sets, whatever their order; neither 0 nor [`UNKNOWN`].
    fn digest(&self) -> u64 {
        let mut lines: Vec<Vec<u8>> = self.functions.iter().map(|name| [b"f", &**name].concat()).collect();
        let relations = self.relations.iter().map(|(name, written)| [&[u8::from(*written)], &**name].concat());
        lines.extend(relations);
        lines.sort_unstable();
        lines.push(vec![u8::from(self.definitions), u8::from(self.anything)]);
        xxh3_64(&lines.join(&0)).clamp(1, UNKNOWN - 1)
    }
}

#[cfg(test)]
mod tests;
