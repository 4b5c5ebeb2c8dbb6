//! What a write touches besides the table that it names.

use std::collections::BTreeSet;

use super::super::text::may_be_a_construct;
use super::{Acts, Catalog, Function, Kind, Language, Name, Ops, SYSTEM, Target, Touched, Volatility};

/// Writes after which a closure is everything, parts of tables not counted. A database with that many dependencies of one
/// table gains nothing from being told apart.
const MAX_WRITES: usize = 20_000;

/// Functions of the server that run a text, which may call anything.
const RUN_A_TEXT: &[&str] =
    &["query_to_xml", "query_to_xml_and_xmlschema", "query_to_xmlschema", "ts_rewrite", "ts_stat"];

/// Volatile functions of the server's own extensions (uuid-ossp, pgcrypto) that give something new each time, and do nothing.
const DRAW_LOTS: &[&str] =
    &["uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4", "gen_random_uuid", "gen_random_bytes", "gen_salt"];

impl Catalog {
    /// What a text touches. `path`: the schemas that the session searches, in order; without one, every table of a name is
    /// meant. `prepared`: what the statement does that the session has prepared under a name; `None`: nobody knows.
    ///
    /// ```
    /// use policy::cache::catalog::{Acts, Catalog, Facts};
    /// let nothing_known = Catalog::new(Facts::default());
    /// assert!(nothing_known.touched(&Acts::of(b"update runs set a = 1"), None, &|_| None).is_everything());
    /// assert!(nothing_known.touched(&Acts::of(b"begin"), None, &|_| None).is_nothing());
    /// ```
    pub fn touched(&self, acts: &Acts, path: Option<&[&str]>, prepared: &dyn Fn(&str) -> Option<Acts>) -> Touched {
        let mut closure = Closure::new(self);
        closure.acts(acts, path);
        for name in &acts.executes {
            match prepared(name) {
                // One that executes another one: only by PREPARE of a DO, which is everything.
                Some(acts) if acts.executes.is_empty() => closure.acts(&acts, path),
                _ => closure.anything(),
            }
        }
        closure.finish()
    }

    /// What a change of rows touches that the log tells of: the relation by its number. What it led to (by foreign keys,
    /// by triggers) stands in the log by itself.
    pub fn changed(&self, relation: u32) -> Touched {
        if !self.relations.contains_key(&relation) {
            // Made since the catalog was read.
            return Touched { everything: true, catalog: true, ..Touched::default() };
        }
        let mut touched = Touched::of(self.ancestors(relation));
        touched.tables.insert(relation);
        touched
    }

    /// What a write to one table in these ways touches.
    pub fn written(&self, relation: u32, ops: Ops) -> Touched {
        let mut closure = Closure::new(self);
        closure.write(relation, ops);
        closure.finish()
    }
}

/// Work that is done once for each table, way and function.
struct Closure<'a> {
    catalog: &'a Catalog,
    touched: Touched,
    /// What is to be done or done: whether by itself, or as a part of what is written.
    seen: BTreeSet<(u32, Ops, bool)>,
    writes: usize,
    functions: BTreeSet<u32>,
    queue: Vec<(u32, Ops, bool)>,
}

impl<'a> Closure<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            touched: Touched::default(),
            seen: BTreeSet::new(),
            writes: 0,
            functions: BTreeSet::new(),
            queue: Vec::new(),
        }
    }

    fn finish(mut self) -> Touched {
        while let Some((relation, op, itself)) = self.queue.pop() {
            if self.touched.everything && self.touched.catalog || self.writes > MAX_WRITES {
                self.anything();
                break;
            }
            self.step(relation, op, itself);
        }
        if self.touched.everything {
            // It includes them.
            self.touched.tables.clear();
            self.touched.through.clear();
        }
        self.touched
    }

    /// What cannot be told may also be DDL.
    fn anything(&mut self) {
        (self.touched.everything, self.touched.catalog) = (true, true);
    }

    fn write(&mut self, relation: u32, ops: Ops) {
        for op in Ops::EACH.into_iter().filter(|op| ops.has(*op)) {
            self.put(relation, op, true);
        }
    }

    fn put(&mut self, relation: u32, op: Ops, itself: bool) {
        if self.seen.insert((relation, op, itself)) {
            self.writes += usize::from(itself);
            self.queue.push((relation, op, itself));
        }
    }

    /// The table's rows are also those of all that it is a part of, and of its parts.
    fn touch(&mut self, oid: u32, op: Ops, ancestors: &BTreeSet<u32>) {
        self.touched.tables.insert(oid);
        self.touched.tables.extend(ancestors);
        let parts = self.catalog.descendants(oid);
        if parts.is_empty() {
            return;
        }
        self.touched.through.insert(oid);
        for part in &parts {
            // One that is a part of something else as well.
            let others = self.catalog.ancestors(*part);
            self.touched.tables.extend(others.difference(&parts));
            self.put(*part, op, false);
        }
    }

    fn step(&mut self, oid: u32, op: Ops, itself: bool) {
        let catalog = self.catalog;
        let Some(relation) = catalog.relation(oid) else { return self.anything() };
        let ancestors = catalog.ancestors(oid);
        if itself {
            self.touch(oid, op, &ancestors);
        }
        match relation.kind {
            // A row that no longer belongs where it is moves.
            Kind::Partitioned if op == Ops::UPDATE => self.moves(oid, itself),
            // It may lead back to a table of this database, past everything.
            Kind::Foreign => self.touched.everything = true,
            Kind::View => self.view(oid, op),
            _ => {}
        }
        for referred in ancestors.iter().chain([&oid]) {
            for key in Catalog::of(&catalog.foreign_keys, *referred) {
                match op {
                    Ops::DELETE => self.write(key.from, key.on_delete),
                    Ops::UPDATE => self.write(key.from, key.on_update),
                    Ops::TRUNCATE_CASCADE => self.write(key.from, op),
                    _ => {}
                }
            }
        }
        for trigger in Catalog::of(&catalog.triggers, oid).iter().filter(|trigger| trigger.ops.has(op)) {
            match catalog.functions.get(&trigger.function) {
                Some(function) => self.function(function),
                None => self.anything(),
            }
        }
        for rule in Catalog::of(&catalog.rewrites, oid) {
            if rule.ops.is_some_and(|ops| ops.has(op)) {
                self.acts(&Acts::of(rule.text.as_bytes()), None);
            }
        }
    }

    fn moves(&mut self, oid: u32, itself: bool) {
        if itself {
            return self.write(oid, Ops::INSERT | Ops::DELETE);
        }
        for part in self.catalog.descendants(oid).into_iter().chain([oid]) {
            self.put(part, Ops::INSERT, false);
            self.put(part, Ops::DELETE, false);
        }
    }

    /// Rows of a view are those of its tables.
    fn view(&mut self, oid: u32, op: Ops) {
        let rules = Catalog::of(&self.catalog.rewrites, oid);
        for used in rules.iter().filter(|rule| rule.ops.is_none()).flat_map(|rule| &rule.uses) {
            self.write(*used, op);
        }
    }

    fn acts(&mut self, acts: &Acts, path: Option<&[&str]>) {
        self.touched.catalog |= acts.catalog;
        if acts.anything || (acts.catalog && self.catalog.event_triggers) {
            self.anything();
        }
        for Target { name, ops } in &acts.targets {
            let relations = self.catalog.resolve(name, path);
            // Made since the catalog was read, or a session's own.
            self.touched.everything |= relations.is_empty();
            relations.into_iter().for_each(|relation| self.write(relation, *ops));
        }
        acts.calls.iter().for_each(|name| self.call(name));
        for operator in acts.operators.iter().filter(|_| self.catalog.has_operators()) {
            for oid in self.catalog.operators.get(operator).map_or(&[][..], Vec::as_slice) {
                match self.catalog.functions.get(oid) {
                    Some(function) => self.function(function),
                    None => self.anything(),
                }
            }
        }
    }

    /// Any function that may be meant: which one depends on the types of its arguments and on the path.
    fn call(&mut self, name: &Name) {
        let mut known = false;
        let catalog = self.catalog;
        if RUN_A_TEXT.contains(&name.name.as_str()) {
            self.anything();
        }
        for function in catalog.functions_named(name) {
            known = true;
            self.function(function);
        }
        if !known && !may_be_a_construct(name) {
            self.anything();
        }
    }

    fn function(&mut self, function: &Function) {
        if !self.functions.insert(function.oid) {
            return;
        }
        match function.language {
            // The server's own change no table of anybody's.
            Language::Internal if *function.schema == *SYSTEM => {}
            // Libraries are trusted in what they promise.
            Language::C if function.volatility != Volatility::Volatile => {}
            Language::C if DRAW_LOTS.contains(&&*function.name) => {}
            // A promise does not help here: what is stable may call what is not.
            language if language.is_readable() => {
                let acts = Acts::of_body(&function.source, language);
                if !acts.executes.is_empty() {
                    self.anything();
                }
                self.acts(&acts, None);
            }
            _ => self.anything(),
        }
    }
}
