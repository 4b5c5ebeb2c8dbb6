//! What is known of a text that some rule may be about: whether it may be answered from the cache, and what its answer
//! depends on. Found once for each text, catalog, path and set of rules.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use policy::cache::catalog::Separation;
use policy::cache::{Bypass, Counter, Decision, Hint, Marks, Rules, Shape, Sources, Standing, Terms, hint_of};
use policy::comment::{Comments, strip_ends};
use policy::memo::{Lookup, Memo};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::cache::Serial;
use crate::cache::here::{Here, Local};

/// What one execution of a text may be answered by.
#[derive(Debug, Clone)]
pub struct Readable {
    /// What its answer depends on.
    pub sources: Sources,
    /// The relations that it names.
    pub named: Rc<[u32]>,
    /// The settings that policies read.
    pub inputs: Rc<[String]>,
    /// The tables, by their places among its sources, of which it sees its own rows alone where policies hold for who asks.
    pub apart: Rc<[(usize, Arc<Separation>)]>,
    /// What operators end its answers by.
    pub tags: Arc<[Arc<Counter>]>,
    /// What it promises.
    pub terms: Terms,
    /// The rule that allows it: the version of the rules, and its place among them.
    pub rule: (u32, u16),
    /// No answer that is as old as this is taken for this execution.
    pub youth: Option<Duration>,
}

/// By one rule: what a text reads, or why it may not.
type ByRule = Result<Readable, Bypass>;

/// A text as the cache takes it.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    /// Without the comments at its ends.
    pub body: &'a [u8],
    /// What those ask for.
    pub hint: Option<Hint>,
}

impl<'a> Words<'a> {
    /// From what was cut off.
    pub fn new(body: &'a [u8], comments: &Comments<'_>) -> Self {
        Self { body, hint: hint_of(comments) }
    }
}

/// The same of a text that is kept elsewhere.
#[derive(Debug)]
pub struct Ends {
    /// `None`: there is nothing at its ends.
    body: Option<Box<[u8]>>,
    hint: Option<Hint>,
}

impl Ends {
    /// Looks for them.
    pub fn of(sql: &[u8]) -> Self {
        let (body, comments) = strip_ends(sql);
        Self { body: (body.len() < sql.len()).then(|| body.into()), hint: hint_of(&comments) }
    }

    /// The words between them.
    pub fn around<'a>(&'a self, sql: &'a [u8]) -> Words<'a> {
        Words { body: self.body.as_deref().unwrap_or(sql), hint: self.hint }
    }
}

/// What one catalog, path and set of rules say of a text, or of all that differ from it in numbers alone.
#[derive(Debug)]
pub struct Plan {
    view: Serial,
    /// Of the rules.
    version: u64,
    path: Rc<[String]>,
    standing: Result<Standing, Bypass>,
    by_rule: RefCell<Vec<(u16, ByRule)>>,
}

/// What a plan is made by.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// One worker's part of the database.
    pub here: &'a Here,
    /// The catalog.
    pub view: &'a Local,
    /// The rules.
    pub rules: &'a Rules,
    /// Of the rules.
    pub version: u64,
    /// The schemas that are searched.
    pub path: &'a Rc<[String]>,
}

impl Plan {
    /// Looks at a text whose plain strings have no escapes.
    fn new(body: &[u8], strict: u64, ground: Ground<'_>) -> Self {
        let Ground { view, rules, version, path, .. } = ground;
        let schemas: Vec<&str> = path.iter().map(String::as_str).collect();
        let reads = rules.allowed_by_any(|allowed| view.catalog.reads(body, &schemas, allowed));
        let standing = reads.map(|reads| {
            let name =
                |oid: &u32| view.catalog.relation(*oid).map(|relation| (Some(&*relation.schema), &*relation.name));
            let named: Vec<_> = reads.named.iter().filter_map(name).collect();
            // Their rows are also those of what is a part of them.
            let parts = reads.tables.iter().flat_map(|oid| view.catalog.descendants(*oid));
            let all: BTreeSet<u32> = parts.chain(reads.tables.iter().copied()).collect();
            let reached: Vec<_> = all.iter().filter_map(name).collect();
            rules.standing(&Shape { fingerprint: strict, named: &named, reached: &reached })
        });
        Self { view: view.serial.clone(), version, path: path.clone(), standing, by_rule: RefCell::default() }
    }

    /// Whether it is true still, for whatever path.
    fn holds(&self, ground: Ground<'_>) -> bool {
        ground.view.is(&self.view) && self.version == ground.version
    }

    /// Whether it is about this path.
    fn is_of(&self, path: &Rc<[String]>) -> bool {
        Rc::ptr_eq(&self.path, path) || self.path == *path
    }

    /// Whether this execution may be answered from the cache.
    pub fn decide(&self, words: Words<'_>, application: &str, ground: Ground<'_>) -> ByRule {
        let standing = self.standing.as_ref().map_err(|bypass| *bypass)?;
        let (rule, terms, youth) = match ground.rules.decide(standing, application, words.hint) {
            Decision::Bypass(bypass) => return Err(bypass),
            Decision::Allow { rule, terms, youth } => (rule, terms, youth),
        };
        let now = |known: ByRule| known.map(|readable| Readable { youth, ..readable });
        if let Some((_, known)) = self.by_rule.borrow().iter().find(|(number, _)| *number == rule) {
            return now(known.clone());
        }
        let found = self.read(words.body, rule, terms, ground);
        self.by_rule.borrow_mut().push((rule, found.clone()));
        now(found)
    }

    fn read(&self, body: &[u8], number: u16, terms: Terms, ground: Ground<'_>) -> ByRule {
        let Ground { here, view, rules, path, .. } = ground;
        let rule = rules.get(number).ok_or(Bypass::NoRule)?;
        let schemas: Vec<&str> = path.iter().map(String::as_str).collect();
        let reads = rule.allowed(|allowed| view.catalog.reads(body, &schemas, allowed))?;
        let generations = &here.cached.generations;
        let heard = |oid: &u32| view.published.contains(oid);
        if terms.freshness.follows_writes() && generations.slot().is_needed() && !reads.tables.iter().all(heard) {
            return Err(Bypass::NotPublished);
        }
        let place = |oid: &u32| {
            let at = reads.tables.iter().position(|table| table == oid)?;
            Some((at, Arc::clone(view.catalog.separation(*oid)?)))
        };
        let apart = reads.apart.iter().filter_map(place).collect();
        Ok(Readable {
            apart,
            sources: generations.sources(reads.tables, reads.through, &view.epoch),
            named: reads.named.into(),
            inputs: reads.inputs.settings.into_iter().collect(),
            tags: generations.tags(rule.tags.iter().map(String::as_str)),
            terms,
            rule: (rules.version(), number),
            youth: None,
        })
    }
}

/// Paths that are remembered for one text: where each tenant has a schema of its own, they take turns. Few: whoever invents
/// texts and paths must not fill the memory of a worker with what is told of both.
const MAX_PATHS: usize = 4;

/// The plans of a text, one for each path. Kept wherever something else is remembered of the text.
#[derive(Debug, Default)]
pub struct Planned(RefCell<Vec<Rc<Plan>>>);

impl Planned {
    /// The plan of a text whose plain strings have no escapes.
    #[inline]
    pub fn of(&self, body: &[u8], strict: u64, ground: Ground<'_>) -> Rc<Plan> {
        let mut plans = self.0.borrow_mut();
        if let Some(plan) = plans.iter().find(|plan| plan.holds(ground) && plan.is_of(ground.path)) {
            return plan.clone();
        }
        plans.retain(|plan| plan.holds(ground));
        if plans.len() == MAX_PATHS {
            // The oldest one: with more paths than places in turn, none would ever be found, whichever goes.
            plans.remove(0);
        }
        let plan = Rc::new(Plan::new(body, strict, ground));
        plans.push(plan.clone());
        plan
    }
}

impl Readable {
    /// What operators end this answer by.
    pub fn marks(&self, tenant: &Arc<Counter>) -> Marks {
        Marks { tags: Arc::clone(&self.tags), tenant: Arc::clone(tenant) }
    }
}

/// Texts that no rule is about, by their hashes: one look spares all others. A text that is taken for another one is not
/// cached, which hurts nobody.
const UNCONCERNED: usize = 4_096;

/// What one worker knows of texts.
#[derive(Debug)]
pub struct Plans {
    memo: Memo<Planned>,
    unconcerned: Box<[Cell<u64>]>,
}

impl Default for Plans {
    fn default() -> Self {
        Self { memo: Memo::new(), unconcerned: vec![Cell::new(0); UNCONCERNED].into() }
    }
}

impl Plans {
    /// What a text is known by among those that no rule of this version is about.
    #[inline]
    pub fn hash(sql: &[u8], version: u64) -> u64 {
        // 0 stands for nothing.
        xxh3_64_with_seed(sql, version).max(1)
    }

    fn place(&self, hash: u64) -> Option<&Cell<u64>> {
        self.unconcerned.get(hash as usize % UNCONCERNED)
    }

    /// Whether no rule is known to be about the text with this hash, of the version of the rules too.
    #[inline]
    pub fn is_unconcerned(&self, hash: u64) -> bool {
        self.place(hash).is_some_and(|known| known.get() == hash)
    }

    /// No rule is about it.
    pub fn note_unconcerned(&self, hash: u64) {
        if let Some(known) = self.place(hash) {
            known.set(hash);
        }
    }

    /// The plan of a text that nothing else is remembered of.
    pub fn of(&mut self, body: &[u8], strict: u64, ground: Ground<'_>) -> Rc<Plan> {
        match self.memo.get(body) {
            Lookup::Hit(known) => return known.of(body, strict, ground),
            Lookup::Miss => return Rc::new(Plan::new(body, strict, ground)),
            Lookup::Admit => {}
        }
        let known = Planned::default();
        let plan = known.of(body, strict, ground);
        self.memo.insert(body, known);
        plan
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    /// All that is done for a text that no rule is known to be about.
    #[test]
    fn what_no_rule_is_about_costs_next_to_nothing() {
        let (plans, sql) = (Plans::default(), b"select id, amount from payments where account = 7");
        let is_unconcerned = |version| plans.is_unconcerned(Plans::hash(black_box(sql), version));
        assert!(!is_unconcerned(3));
        plans.note_unconcerned(Plans::hash(sql, 3));
        assert!(is_unconcerned(3) && !is_unconcerned(4), "other rules may be about it");
        let mut least = Duration::MAX;
        for _ in 0..50 {
            let start = Instant::now();
            for _ in 0..1_000 {
                assert!(is_unconcerned(black_box(3)));
            }
            least = least.min(start.elapsed());
        }
        // 20 ns each when optimised: a look at the text would be fifty times as much.
        let bound = if cfg!(debug_assertions) { 2_000 } else { 20 };
        assert!(least.as_nanos() / 1_000 <= bound, "{} ns", least.as_nanos() / 1_000);
    }
}
