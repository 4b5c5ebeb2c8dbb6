//! What is known of a text that some rule may be about: whether it may be answered from the cache, and what its answer
//! depends on. Found once for each text, catalog, path and set of rules.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use policy::cache::{Bypass, Counter, Decision, Hint, Marks, Rules, Shape, Sources, Standing, Terms, hint_of};
use policy::comment::strip_ends;
use policy::memo::{Lookup, Memo};

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
    /// What operators end its answers by.
    pub tags: Arc<[Arc<Counter>]>,
    /// What it promises.
    pub terms: Terms,
}

/// By one rule: what a text reads, or why it may not.
type ByRule = Result<Readable, Bypass>;

/// A text.
#[derive(Debug)]
pub struct Plan {
    view: Local,
    /// Of the rules.
    version: u64,
    path: Option<Rc<[String]>>,
    /// The text without the comments at its ends.
    pub body: Box<[u8]>,
    hint: Option<Hint>,
    standing: Result<Standing, Bypass>,
    by_rule: RefCell<Vec<(u16, ByRule)>>,
}

impl Plan {
    /// Looks at a text whose plain strings have no escapes, with these schemas searched.
    pub fn new(
        sql: &[u8],
        here: &Here,
        view: Local,
        rules: &Rules,
        version: u64,
        path: &Rc<[String]>,
        strict: u64,
    ) -> Self {
        let (body, comments) = strip_ends(sql);
        let hint = hint_of(&comments);
        let schemas: Vec<&str> = path.iter().map(String::as_str).collect();
        let reads = rules.allowed_by_any(|allowed| view.catalog.reads(body, &schemas, allowed));
        let standing = reads.map(|reads| {
            let name =
                |oid: &u32| view.catalog.relation(*oid).map(|relation| (Some(&*relation.schema), &*relation.name));
            let named: Vec<_> = reads.named.iter().filter_map(name).collect();
            let reached: Vec<_> = reads.tables.iter().filter_map(name).collect();
            rules.standing(&Shape { fingerprint: strict, named: &named, reached: &reached })
        });
        let _ = here;
        Self { version, path: Some(path.clone()), body: body.into(), hint, standing, by_rule: RefCell::default(), view }
    }

    /// Whether it is true still.
    #[inline]
    pub fn is_of(&self, view: &Local, version: u64, path: &Rc<[String]>) -> bool {
        let same = |known: &Rc<[String]>| Rc::ptr_eq(known, path) || known == path;
        self.view.is(view) && self.version == version && self.path.as_ref().is_some_and(same)
    }

    /// Whether this execution may be answered from the cache.
    pub fn decide(&self, here: &Here, rules: &Rules, application: &str) -> ByRule {
        let standing = self.standing.as_ref().map_err(|bypass| *bypass)?;
        let (rule, terms) = match rules.decide(standing, application, self.hint) {
            Decision::Bypass(bypass) => return Err(bypass),
            Decision::Allow { rule, terms } => (rule, terms),
        };
        if let Some((_, known)) = self.by_rule.borrow().iter().find(|(number, _)| *number == rule) {
            return known.clone().map(|readable| Readable { terms, ..readable });
        }
        let found = self.read(here, rules, rule, terms);
        self.by_rule.borrow_mut().push((rule, found.clone()));
        found
    }

    fn read(&self, here: &Here, rules: &Rules, number: u16, terms: Terms) -> ByRule {
        let rule = rules.get(number).ok_or(Bypass::NoRule)?;
        let schemas: Vec<&str> = self.path.iter().flat_map(|path| path.iter()).map(String::as_str).collect();
        let reads = rule.allowed(|allowed| self.view.catalog.reads(&self.body, &schemas, allowed))?;
        let generations = &here.cached.generations;
        let heard = |oid: &u32| self.view.published.contains(oid);
        if terms.freshness.follows_writes() && generations.slot().is_needed() && !reads.tables.iter().all(heard) {
            return Err(Bypass::NotPublished);
        }
        Ok(Readable {
            sources: generations.sources(reads.tables, reads.through, &self.view.epoch),
            named: reads.named.into(),
            inputs: reads.inputs.settings.into_iter().collect(),
            tags: generations.tags(rule.tags.iter().map(String::as_str)),
            terms,
        })
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
    memo: Memo<Rc<Plan>>,
    unconcerned: Box<[Cell<u64>]>,
}

impl Default for Plans {
    fn default() -> Self {
        Self { memo: Memo::new(), unconcerned: vec![Cell::new(0); UNCONCERNED].into() }
    }
}

impl Plans {
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

    /// What is known of this text, made where it is not.
    pub fn of(&mut self, sql: &[u8], is: impl Fn(&Plan) -> bool, make: impl FnOnce() -> Plan) -> Rc<Plan> {
        match self.memo.get(sql) {
            Lookup::Hit(plan) if is(plan) => return plan.clone(),
            Lookup::Miss => return Rc::new(make()),
            Lookup::Hit(_) | Lookup::Admit => {}
        }
        let plan = Rc::new(make());
        self.memo.insert(sql, plan.clone());
        plan
    }
}
